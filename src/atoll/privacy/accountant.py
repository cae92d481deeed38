"""What answers with noise have told about any one person, added up, and when a limit is reached.

A loss is stated as pure differential privacy, ε, where it can be, and as zero-concentrated differential privacy, ρ.
Two filters add losses up; as long as one of them holds, everything that was answered is (ε*, δ*)-private together, even
though each question was chosen after the answers to the earlier ones:

    pure     every loss has an ε, and their sum is at most ε*; this alone needs no δ
    Rényi    the sum of the losses at one order α is at most what (ε*, δ*) allows at α; α is fixed by the limit alone

Both at once are sound: of all ways in which the answers may come out, those that end under the first filter have a
probability that one person changes by a factor of e^ε* at most, those that end under the second by this factor and δ*;
together by this factor and 0 + δ*.

Sources: Dwork, McSherry, Nissim, Smith, TCC 2006 (pure ε and its sum); Bun, Steinke, TCC 2016 (ρ, and ε²/2 for pure ε);
Mironov, CSF 2017 (losses at an order); Kairouz, Oh, Viswanath, ICML 2015 (randomised response is the worst of an ε);
Rogers, Roth, Ullman, Vadhan, NeurIPS 2016, and Feldman, Zrnic, NeurIPS 2021 (sums as filters when losses are chosen as
one goes); Canonne, Kamath, Steinke, NeurIPS 2020, proposition 12 (an order's loss to ε at δ); Mironov, Talwar, Zhang,
arXiv:1908.10530, section 3.3 (people drawn at random for each round).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from fractions import Fraction
from typing import Annotated

import msgspec

from atoll.core.errors import InputError

LARGEST_ORDER = 256
"""Orders from here on count rounds over people drawn at random as rounds with everybody, which is never too little."""

Share = Annotated[float, msgspec.Meta(ge=0, lt=1)]


class Drawn(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Rounds of Gaussian noise over people who are drawn for each at random, every one by himself (Poisson).

    Attributes:
        multiplier: scale of the noise in a round, in lengths of one person's change.
        rate: probability with which a person takes part in a round.
        rounds: how many.
    """

    multiplier: Annotated[float, msgspec.Meta(gt=0)]
    rate: Annotated[float, msgspec.Meta(gt=0, le=1)]
    rounds: Annotated[int, msgspec.Meta(ge=1)]

    @property
    def rho(self) -> float:
        """ρ of the same rounds with everybody."""
        return self.rounds / (2 * self.multiplier**2)

    def at(self, alpha: float) -> float:
        """Return the Rényi loss at an order α > 1: exact at whole orders, and not above it between them.

        (α - 1) times the loss is convex in α, so that a line between two orders lies above it.
        """
        low = math.floor(alpha)
        if low >= LARGEST_ORDER:
            return alpha * self.rho
        ends = [self._moment(order) for order in (low, low + 1)]
        moment = ends[0] + (alpha - low) * (ends[1] - ends[0])
        return min(self.rounds * moment / (alpha - 1), alpha * self.rho)

    def _moment(self, order: int) -> float:
        """Return the logarithm of the moment of a whole order: (α - 1) times one round's loss."""
        if self.rate == 1:
            return order * (order - 1) / (2 * self.multiplier**2)
        terms = [
            math.lgamma(order + 1) - math.lgamma(k + 1) - math.lgamma(order - k + 1)
            + (order - k) * math.log1p(-self.rate) + k * math.log(self.rate)
            + k * (k - 1) / (2 * self.multiplier**2)
            for k in range(order + 1)
        ]  # fmt: skip
        top = max(terms)
        return max(0.0, top + math.log(math.fsum(math.exp(term - top) for term in terms)))


class Loss(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """What one release, or several, can tell about one person.

    Attributes:
        epsilon: pure ε; None where there is none, as for Gaussian noise.
        rho: ρ of zero-concentrated differential privacy, of all but `drawn`.
        drawn: rounds over people drawn at random.
    """

    epsilon: Annotated[float, msgspec.Meta(ge=0)] | None
    rho: Annotated[float, msgspec.Meta(ge=0)]
    drawn: tuple[Drawn, ...] = ()

    def __post_init__(self) -> None:
        if self.drawn and self.epsilon is not None:
            raise InputError("rounds of Gaussian noise have no pure epsilon")

    def __str__(self) -> str:
        if self.epsilon is not None:
            return f"ε = {self.epsilon:g}"
        rounds = [f"{one.rounds:,} rounds of noise {one.multiplier:.3g} at rate {one.rate:.3g}" for one in self.drawn]
        return " and ".join([*([f"ρ = {self.rho:.3g}"] if self.rho or not rounds else []), *rounds])

    def at(self, alpha: float) -> float:
        """Return the Rényi loss at an order α > 1."""
        if self.epsilon is None:
            return alpha * self.rho + math.fsum(one.at(alpha) for one in self.drawn)
        up, down = alpha * self.epsilon, (1 - alpha) * self.epsilon
        worst = (up + math.log1p(math.exp(down - up)) - self.epsilon - math.log1p(math.exp(-self.epsilon))) / (
            alpha - 1
        )
        return min(alpha * self.rho, worst)


NOTHING = Loss(0.0, 0.0)
"""The loss of a release that does not depend on the data set."""


class Limit(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How much may be told about one person over all releases.

    Attributes:
        epsilon: ε*.
        delta: δ*; 0 allows pure ε only.
    """

    epsilon: Annotated[float, msgspec.Meta(gt=0, le=1e6)]
    delta: Share = 0.0


def pure(epsilon: float) -> Loss:
    """Return the loss of a release of pure ε."""
    return Loss(epsilon, epsilon * epsilon / 2)


def together(losses: Iterable[Loss]) -> Loss:
    """Return the loss of several releases as one; decimals are added as they are written: ten times 0.1 is 1."""
    found = list(losses)
    sums = [exact(loss.epsilon) for loss in found if loss.epsilon is not None]
    whole = float(sum(sums, Fraction(0))) if len(sums) == len(found) else None
    drawn = tuple(one for loss in found for one in loss.drawn)
    return Loss(whole, math.fsum(loss.rho for loss in found), drawn)


def spent(losses: Iterable[Loss], limit: Limit) -> float:
    """Return which share of a limit is spent, by the filter that sees less; at most 1 is private as the limit says."""
    found = list(losses)
    whole = together(found).epsilon
    shares = [math.inf if whole is None else whole / limit.epsilon]
    if limit.delta > 0:
        alpha, allowed = _order(limit.epsilon, limit.delta)
        shares.append(math.fsum(loss.at(alpha) for loss in found) / allowed if allowed > 0 else math.inf)
    return 0.0 if not found else min(shares)


def epsilon_of(rho: float, delta: float) -> float:
    """Return an ε for which every ρ-concentrated release is (ε, δ)-private; infinite at δ = 0, unless ρ is 0."""
    return epsilon_at(Loss(None, rho), delta)


def epsilon_at(loss: Loss, delta: float) -> float:
    """Return an ε for which releases of a loss are (ε, δ)-private; infinite at δ = 0, unless it has a pure ε."""
    if loss in (NOTHING, Loss(None, 0.0)):
        return 0.0
    if delta <= 0:
        return math.inf if loss.epsilon is None else loss.epsilon
    alpha = _peak(lambda alpha: -loss.at(alpha) - _extra(alpha, delta))
    found = max(0.0, loss.at(alpha) + _extra(alpha, delta))
    return found if loss.epsilon is None else min(found, loss.epsilon)


def rho_of(epsilon: float, delta: float) -> float:
    """Return the largest ρ (but for the last digits) whose releases are (ε, δ)-private; 0 if there is none."""
    if delta <= 0:
        return 0.0
    alpha, allowed = _order(epsilon, delta)
    return max(0.0, allowed / alpha * (1 - 1e-12))


def exact(number: float) -> Fraction:
    """Return the shortest decimal number that a float stands for, exactly."""
    return Fraction(repr(float(number)))


def _order(epsilon: float, delta: float) -> tuple[float, float]:
    """Return the order α at which most Gaussian answers fit under (ε, δ), and the loss that it allows."""
    alpha = _peak(lambda alpha: (epsilon - _extra(alpha, delta)) / alpha)
    return alpha, epsilon - _extra(alpha, delta)


def _extra(alpha: float, delta: float) -> float:
    """What ε is above the loss at an order α > 1; every α gives a valid ε."""
    return math.log1p(-1 / alpha) - math.log(alpha * delta) / (alpha - 1)


def _peak(value: Callable[[float], float]) -> float:
    """Return the α in 1 + [10^-6, 10^8] where a value with one peak is largest, to seven digits."""
    low, high = math.log(1e-6), math.log(1e8)
    for _ in range(50):
        left, right = low + (high - low) / 3, high - (high - low) / 3
        low, high = (low, right) if value(1 + math.exp(left)) > value(1 + math.exp(right)) else (left, high)
    return 1 + math.exp(low)
