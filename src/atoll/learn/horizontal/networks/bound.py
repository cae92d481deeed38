"""Sums that belong to one network: sites that were led to different networks add up noise.

Who carries sums could tell one site another total than the rest, and so lead it to another network: one in which all
others have nothing to say, so that the next total is that site's update (Pasquini et al., ACM CCS 2022, "Eluding secure
aggregation").  What is added up is in the key of every mask, so that here the hash of the network goes into it.  Masks
of sites with different networks do not cancel out.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from atoll.learn.horizontal.networks.averages import F32, Averages
from atoll.protocols.secure_sum.totals import Totals


def name_of(model: F32) -> str:
    """Return what a network is called in sums: the SHA-256 of its numbers."""
    return f"network {hashlib.sha256(model.tobytes()).hexdigest()}"


@dataclass(frozen=True)
class BoundTotals:
    """Totals that all sites must ask for from the same network.

    Attributes:
        totals: what adds up.
        network: its name, see `name_of`.
    """

    totals: Totals
    network: str

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
        return await self.totals.total(values, what=f"{self.network}: {what}")  # first, since long texts are cut off


@dataclass(frozen=True)
class BoundAverages:
    """Averages likewise.

    Attributes:
        averages: what averages.
        network: its name, see `name_of`.
    """

    averages: Averages
    network: str

    async def average(self, vector: F32, weight: float, *, what: str) -> tuple[F32, float]:
        """Return the average over all sites; see `Averages`."""
        return await self.averages.average(vector, weight, what=f"{self.network}: {what}")
