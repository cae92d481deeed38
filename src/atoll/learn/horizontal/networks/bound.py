"""Sums of a round that belong together: sites that were told different things before add up noise.

Who carries sums could tell one site another total than the rest: another network, in which all others have nothing to
say; another seed, by which they are not drawn; another grid, on which their numbers round to nothing.  The next total
is then that site's update (Pasquini et al., ACM CCS 2022, "Eluding secure aggregation").  What is added up is in the
key of every mask; so a hash goes into it, of all that sites have in common when the round begins and of every sum that
was told since.  Masks of sites with different hashes do not cancel out.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from atoll.core.offload import offload
from atoll.learn.horizontal.networks.averages import F32, Averages
from atoll.learn.horizontal.networks.kept import Progress
from atoll.protocols.secure_sum.question import bound_to
from atoll.protocols.secure_sum.totals import Totals

AT_ONCE = 1 << 16
"""Arrays above this many bytes are hashed in a worker thread."""


class Bond:
    """What all sites were told alike in a round: a running SHA-256."""

    def __init__(self) -> None:
        self._hash = hashlib.sha256()

    async def told(self, values: NDArray[Any]) -> None:
        """Take in what was told."""
        data = np.ascontiguousarray(values).view(np.uint8).data
        if data.nbytes > AT_ONCE:
            await offload(self._hash.update, data)
        else:
            self._hash.update(data)

    def label(self, what: str) -> str:
        """Return what is added up, bound to all that was told."""
        return bound_to(self._hash.hexdigest(), what)


@dataclass(frozen=True)
class BoundTotals:
    """Totals whose parts only fit each other where all sites were told the same before.

    Attributes:
        totals: what adds up.
        bond: of the round.
    """

    totals: Totals
    bond: Bond

    @property
    def site(self) -> str:
        """This site's name."""
        return self.totals.site

    @property
    def sites(self) -> tuple[str, ...]:
        """All sites that take part."""
        return self.totals.sites

    async def total(self, values: NDArray[np.float64], *, what: str) -> NDArray[np.float64]:
        """Return the sum over all sites; see `Totals`."""
        found = await self.totals.total(values, what=self.bond.label(what))
        await self.bond.told(found)
        return found


@dataclass(frozen=True)
class BoundAverages:
    """Averages likewise; arguments as those of `BoundTotals`."""

    averages: Averages
    bond: Bond

    async def average(self, vector: F32, weight: float, *, what: str) -> tuple[F32, float]:
        """Return the average over all sites; see `Averages`."""
        mean, total = await self.averages.average(vector, weight, what=self.bond.label(what))
        await self.bond.told(mean)
        await self.bond.told(np.array([total]))
        return mean, total


async def bind(totals: Totals, averages: Averages, progress: Progress) -> tuple[BoundTotals, BoundAverages]:
    """Return sums and averages of one round, bound to what all sites have in common as it begins."""
    bond, state = Bond(), progress.state.shared
    begun = np.frombuffer(progress.run + progress.seed + len(progress.rounds).to_bytes(8, "little"), np.uint8)
    common: list[NDArray[Any]] = [begun, progress.model, *(state[name] for name in sorted(state))]
    for values in common:
        await bond.told(values)
    return BoundTotals(totals, bond), BoundAverages(averages, bond)
