"""Totals with noise, of which each site draws a share: nobody ever sees a total without.

An algorithm whose totals change by bounded amounts with one person runs on these as on any other totals.  Values go
over to whole numbers, fine enough for the bounds, and every site adds a discrete Gaussian share to its own before it
hands them to whatever adds up.  Shares are sized for the sites whose noise is certainly in the sum and unknown to the
others: those that neither drop out nor tell.  Counting on more would silently weaken the guarantee.

Source: Kairouz, Liu, Steinke, "The distributed discrete Gaussian mechanism for federated learning with secure
aggregation", ICML 2021; without its rotation, for the grid here is fine enough to need none.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Annotated

import msgspec
import numpy as np
from numpy.typing import NDArray

from atoll.core.errors import InputError
from atoll.core.offload import offload
from atoll.privacy.accountant import Loss, together
from atoll.privacy.mechanism import Mechanism, loss_of_shares, share_of
from atoll.privacy.noise import draw
from atoll.protocols.secure_sum.totals import Totals

GRAIN = 14
"""Binary digits that one person's largest change has in whole numbers, where numbers are few."""

ROUNDING = 2
"""Whole numbers by which a person can change a site's sum beyond its bound, through the rounding of the sum."""

SMALLEST = 2.0**-60
"""Smallest change that has a grid among the multiples of 2^-96 that totals add."""

F64 = NDArray[np.float64]


@dataclass
class NoisyTotals:
    """Totals of vectors of one length, each with noise; the same arguments at every site.

    Args:
        totals: what adds up.
        clip: for each of the n numbers by how much one person can change it, at whichever site; 0 for numbers that do
            not depend on persons, which get no noise. The caller sees to it that values keep to this.
        rho: ρ of all rounds together.
        honest: sites whose noise is certainly in every total and unknown to the others.
        rounds: how often `total` may be called.
        length: length of one person's change of all numbers, every number counted in its `clip`; all of them by all
            of their clip if left out.
        rate: probability with which each person takes part in a round, drawn anew for each.
        spend: called once, before the first value with noise leaves: makes the reserved part of a budget final.

    Raises:
        InputError: A bound is negative, or numbers would not fit; the noise is too small to be drawn in shares.
    """

    totals: Totals
    clip: Sequence[float]
    rho: float
    honest: int
    rounds: int = 1
    length: float | None = None
    rate: float = 1.0
    spend: Callable[[], None] = lambda: None
    _done: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        """Fix the grid and the noise, from the arguments alone."""
        if not 1 <= self.honest <= len(self.totals.sites):
            raise InputError(f"noise cannot count on {self.honest} of {len(self.totals.sites)} sites")
        if not all(clip == 0 or SMALLEST <= clip <= 1 / SMALLEST for clip in self.clip):
            raise InputError(
                "one person's change of a number is negative, tiny or huge", cure="Give 0, or use other units."
            )
        grain = GRAIN if self.length is None else _grain(len(self.clip))
        self._bits = np.array([grain - math.frexp(clip)[1] if clip else 0 for clip in self.clip])
        whole = tuple(
            math.ceil(math.ldexp(clip, int(bits))) + ROUNDING if clip else 0
            for clip, bits in zip(self.clip, self._bits, strict=True)
        )
        length = self.length
        if length is not None:  # every number can change by its rounding beside its part of the length
            length += ROUNDING * math.sqrt(len(whole)) / min((one for one in whole if one), default=1)
        self.mechanism = Mechanism(
            noise="gaussian",
            clip=whole,
            loss=Loss(None, self.rho),
            rounds=self.rounds,
            rate=self.rate,
            length=length,
        )
        self._scales = share_of(self.mechanism, self.honest)

    @property
    def site(self) -> str:
        """This site's name."""
        return self.totals.site

    @property
    def sites(self) -> tuple[str, ...]:
        """All sites that take part."""
        return self.totals.sites

    def loss(self) -> Loss:
        """Return what all rounds together can tell about one person, not counting on `rate`."""
        return loss_of_shares(self.mechanism, self.honest)

    async def total(self, values: F64, *, what: str) -> F64:
        """Return the sum of all sites' values with the noise of all.

        Args:
            values: (n,) float64, finite.
            what: what is added up, for the record.

        Raises:
            InputError: All rounds are done; values are of another number, not finite, or beyond 2^52 in the grid.
            ProtocolError: A site did something else.
        """
        return await self.totals.total(await offload(self.noised, values, what), what=what)

    def noised(self, values: F64, what: str) -> F64:
        """Return this site's values with its share of the noise, as they go into one sum; see `total`."""
        if self._done == self.rounds:
            raise InputError(f"{what}: the noise was made for {self.rounds} totals", cure="Plan more rounds.")
        noisy = self._whole(values, what)
        if not self._done:
            self.spend()
        self._done += 1
        noisy += draw("gaussian", self._scales, 1)[0]
        moved = np.ldexp(noisy.astype(np.float64), -self._bits)
        return np.where(np.array(self.clip) == 0, values, moved)

    def _whole(self, values: F64, what: str) -> NDArray[np.int64]:
        """Return the values in whole numbers of the grid."""
        if values.shape != self._bits.shape or not np.isfinite(values).all():
            raise InputError(f"{what}: {self._bits.size} finite numbers are agreed", cure="Look for missing values.")
        moved = np.ldexp(values, self._bits)
        if (np.abs(moved) >= 2.0**52).any():
            raise InputError(f"{what}: a value is too large beside one person's change", cure="Widen the bounds.")
        whole: NDArray[np.int64] = np.rint(moved).astype(np.int64)
        return whole


class Release(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Totals that an algorithm will open, fixed before it sees any: what it runs on and what is charged for it.

    Attributes:
        what: what is added up, in a few words.
        numbers: how many numbers, of which one person changes each by at most 1.
        length: Euclidean length of what one person changes in all of them.
        rho: ρ of all rounds together.
        rounds: how often it is opened.
    """

    what: str
    numbers: Annotated[int, msgspec.Meta(ge=1)]
    length: Annotated[float, msgspec.Meta(gt=0)]
    rho: Annotated[float, msgspec.Meta(gt=0)]
    rounds: Annotated[int, msgspec.Meta(ge=1)] = 1

    def sd(self, sites: int = 1, honest: int = 1) -> float:
        """Return the standard deviation of the noise in each number, when so many sites draw and so many count."""
        return self.length * math.sqrt(self.rounds / (2 * self.rho) * sites / honest)


@dataclass
class PlannedTotals:
    """Totals with noise of several kinds, all of them planned; the plan is at once what is charged.

    Args:
        totals: what adds up.
        plan: all that may be opened.
        honest: as for `NoisyTotals`.
        spend: as for `NoisyTotals`.

    Raises:
        InputError: The noise is too small to be drawn in shares.
    """

    totals: Totals
    plan: Sequence[Release]
    honest: int
    spend: Callable[[], None] = lambda: None

    def __post_init__(self) -> None:
        """Make the noise of every release."""
        self._noisy = {release: self._of(release) for release in self.plan}
        if len(self._noisy) < len(self.plan):
            raise InputError("two releases of a plan are the same", cure="Plan one with more rounds.")

    def _of(self, release: Release) -> NoisyTotals:
        # a little more noise than asked for pays for what sums of discrete Gaussians lack
        rho = release.rho * (1 - 2.0**-20)
        found = NoisyTotals(
            self.totals, (1.0,) * release.numbers, rho, self.honest, release.rounds, release.length, spend=self.spend
        )
        if found.loss().rho > release.rho:
            raise InputError(f"{release.what}: the noise is too small to be drawn in shares", cure="Lower epsilon.")
        return found

    @property
    def site(self) -> str:
        """This site's name."""
        return self.totals.site

    @property
    def sites(self) -> tuple[str, ...]:
        """All sites that take part."""
        return self.totals.sites

    def sd(self, release: Release) -> float:
        """Return the standard deviation of the noise in each number of a release."""
        return release.sd(len(self.sites), self.honest)

    async def total(self, values: F64, release: Release) -> F64:
        """Return the noisy sum of all sites' values for a release of the plan.

        Args:
            values: (numbers,) float64, finite.
            release: of the plan.

        Raises:
            InputError: It is not planned, or was opened as often as planned; values do not fit.
            ProtocolError: A site did something else.
        """
        if release not in self._noisy:
            raise InputError(f"{release.what}: it is not planned", cure="Put it into the plan.")
        return await self._noisy[release].total(np.ravel(values), what=f"{release.what}, with noise")


def loss_of(plan: Sequence[Release]) -> Loss:
    """Return what a plan can tell about one person."""
    return together(Loss(None, release.rho) for release in plan)


def _grain(numbers: int) -> int:
    """Digits that keep the rounding of many numbers short beside one person's change."""
    return GRAIN + max(0, math.ceil(math.log2(max(numbers, 1)) / 2) - 4)
