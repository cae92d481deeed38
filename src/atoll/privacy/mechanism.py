"""Noise for whole numbers, described once: what draws the noise and what adds up the losses read the same object.

A mechanism adds discrete Laplace or discrete Gaussian noise to K whole numbers that one person can change by known
amounts.  Its loss is a sum over the K numbers and the rounds, of Δ/b for Laplace noise and of Δ²/2σ² for Gaussian.
Where one person cannot change all K by their whole amounts at once, such as the cells of a histogram, Gaussian noise
needs to hide no more than the length of the change.

Sources: Ghosh, Roughgarden, Sundararajan, STOC 2009 (discrete Laplace); Canonne, Kamath, Steinke, NeurIPS 2020,
theorems 4 and 14 (discrete Gaussian, several numbers at different scales); Kairouz, Liu, Steinke, ICML 2021, theorem 1
(its sum over several sites).
"""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Annotated, Literal

import msgspec

from atoll.core.errors import InputError
from atoll.privacy.accountant import Drawn, Loss, exact, pure, rho_of

LARGEST = 2.0**50
"""Largest scale: noise beyond 2^60 then has a probability below e^-1000, and totals stay in 64 bits."""

SMALLEST_SHARE = 4.0
"""Smallest σ of one site's share: sums of such shares are a discrete Gaussian up to 10^-60."""


class Mechanism(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Sampler, clipping and noise of one release.

    Attributes:
        noise: `laplace` or `gaussian`, both on the whole numbers.
        clip: by how much one person can change each of the K numbers, once values have been clipped.
        loss: of all rounds together.
        rounds: how often it is used.
        rate: probability with which each person takes part in a round, drawn anew for each (Poisson); 1 is everybody.
            The loss does not count on it, `tight_epsilon` and `drawn_loss` do.
        length: Euclidean length of what one person can change, every number counted in its `clip`, rounding included;
            √K if left out, which is all numbers by all of their clip. For Gaussian noise.
    """

    noise: Literal["laplace", "gaussian"]
    clip: tuple[Annotated[int, msgspec.Meta(ge=0)], ...]
    loss: Loss
    rounds: Annotated[int, msgspec.Meta(ge=1)] = 1
    rate: Annotated[float, msgspec.Meta(gt=0, le=1)] = 1.0
    length: Annotated[float, msgspec.Meta(gt=0)] | None = None

    def __post_init__(self) -> None:
        if self.length is not None and (self.noise != "gaussian" or not self.length > 0):
            raise InputError("only Gaussian noise is sized by a length, which is above 0")

    @property
    def reach(self) -> float:
        """Length of one person's change in clips."""
        return math.sqrt(len([clip for clip in self.clip if clip])) if self.length is None else self.length

    @property
    def multiplier(self) -> float:
        """Scale of Gaussian noise in one round, in lengths of one person's change."""
        return self.ratio / self.reach

    def drawn_loss(self) -> Loss:
        """Return the loss of all rounds, counting on people being drawn at random for each."""
        if self.rate == 1 or self.noise != "gaussian":
            return self.loss
        return Loss(None, 0.0, (Drawn(self.multiplier, self.rate, self.rounds),))

    @property
    def ratio(self) -> float:
        """Scale of the noise of a number that one person can change by 1; the others in proportion."""
        parts = len([clip for clip in self.clip if clip]) * self.rounds
        if not parts:
            return 0.0
        if self.noise == "gaussian":
            return self.reach * math.sqrt(self.rounds / (2 * self.loss.rho)) * (1 + 2.0**-50)
        return _up(parts / exact(self.loss.epsilon or 0.0))

    @property
    def scales(self) -> tuple[float, ...]:
        """Scale of the noise of each number, rounded up: b of Laplace noise, σ of Gaussian; 0 where nothing changes.

        Raises:
            InputError: one is too large for 64 bits.
        """
        ratio = Fraction(self.ratio)
        scales = tuple(_up(clip * ratio) for clip in self.clip)
        if max(scales, default=0.0) > LARGEST:
            raise InputError(
                "the noise would be larger than 64 bits hold", cure="Choose a larger epsilon or narrower bounds."
            )
        return scales

    def within(self) -> tuple[int, ...]:
        """Return for each number x such that its noise lies in [−x, x] with a probability of 95 % or more."""
        if self.noise == "gaussian":
            return tuple(math.ceil(1.96 * scale) for scale in self.scales)
        # P(|noise| > x) = 2 e^(−(x+1)/b) / (1 + e^(−1/b))
        return tuple(
            max(0, math.ceil(scale * (math.log(40) - math.log1p(math.exp(-1 / scale))) - 1)) if scale else 0
            for scale in self.scales
        )


def laplace(clip: tuple[int, ...], epsilon: float, *, rounds: int = 1) -> Mechanism:
    """Return the Laplace mechanism of pure ε > 0, an equal part of it for each number."""
    return Mechanism(noise="laplace", clip=clip, loss=pure(epsilon), rounds=rounds)


def gaussian(clip: tuple[int, ...], epsilon: float, delta: float, *, rounds: int = 1, rate: float = 1.0) -> Mechanism:
    """Return the Gaussian mechanism that is (ε, δ)-private, 0 < δ < 1, an equal part of ρ for each number."""
    loss = Loss(None, rho_of(epsilon, delta))
    return Mechanism(noise="gaussian", clip=clip, loss=loss, rounds=rounds, rate=rate)


def share_of(mechanism: Mechanism, honest: int) -> tuple[float, ...]:
    """Return the scale at which each site draws, so that the noise of so many sites together suffices.

    Args:
        mechanism: the whole noise, Gaussian.
        honest: sites whose noise certainly is in the sum and unknown to whom it must protect from: those that neither
            drop out nor tell.

    Raises:
        InputError: the noise is not Gaussian, or a share would be so small that sums are no discrete Gaussian.
    """
    if mechanism.noise != "gaussian" or honest < 1:
        raise InputError("only Gaussian noise is drawn in shares, by one honest site or more")
    scales = tuple(scale / math.sqrt(honest) * (1 + 2.0**-50) for scale in mechanism.scales)
    least = min((scale for scale in scales if scale), default=SMALLEST_SHARE)
    if least < SMALLEST_SHARE:
        raise InputError(
            f"noise of scale {least:.2g} at each of {honest} sites is too small to add up",
            cure="Count in smaller units, so that one person changes the total by a larger whole number.",
        )
    return scales


def loss_of_shares(mechanism: Mechanism, honest: int) -> Loss:
    """Return the loss of a sum to which `honest` sites added their `share_of` the noise.

    It is the mechanism's, but for the τ of the source: what a sum of discrete Gaussians lacks to be one.
    """
    scales = [scale for scale in share_of(mechanism, honest) if scale]
    parts = len(scales) * mechanism.rounds
    sigma = min(scales, default=math.inf)
    tau = 10 * math.fsum(math.exp(-2 * math.pi**2 * sigma**2 * k / (k + 1)) for k in range(1, honest))
    distance = math.sqrt(2 * mechanism.loss.rho)
    least = min(math.sqrt(distance**2 + tau * parts / 2), distance + tau * math.sqrt(parts))
    return Loss(None, max(mechanism.loss.rho, least**2 / 2))


def _up(number: Fraction) -> float:
    """Return the smallest float that is not below a number."""
    found = float(number)
    return math.nextafter(found, math.inf) if Fraction(found) < number else found
