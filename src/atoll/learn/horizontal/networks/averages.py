"""A weighted average of networks over all sites, with every site's weight inside the sum."""

from __future__ import annotations

import hashlib
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from atoll.core.errors import InputError, ProtocolError
from atoll.protocols.secure_sum.question import said
from atoll.protocols.secure_sum.sums import Sums
from atoll.protocols.secure_sum.totals import Totals

F32 = NDArray[np.float32]


LARGEST_SUM = 2.0**80
"""No sum of updates is as large; masks that do not cancel out leave numbers up to 2^95."""


def spoilt(what: str) -> ProtocolError:
    """Say that a total cannot be that of the sites' numbers."""
    return ProtocolError(
        f"the total of {said(what)} is none that sites can come to",
        cure="Sites were told different totals before, or one added something else. Do not use the network.",
    )


class Averages(Protocol):
    """Averages float32 vectors over the sites of a job; what carries it may round, the same at every site."""

    async def average(self, vector: F32, weight: float, *, what: str) -> tuple[F32, float]:
        """Return Σ wᵢ vᵢ / Σ wᵢ and Σ wᵢ, the same at all sites, bit for bit.

        Args:
            vector: (n,) float32, finite, the same n at every site.
            weight: this site's weight, at least 0; a site of weight 0 leaves no trace in the average.
            what: what is averaged, in a few words, for the record of what was revealed.

        Raises:
            InputError: a value is not finite or too large.
            ProtocolError: a site did something else, or no site has a weight.
        """


class ExactAverages:
    """Averages over exact sums: each site adds its weighted vector and, behind it, its weight.

    Products wᵢ vᵢ are exact for whole weights below 2^29, so that the average is the true one rounded to float64 and
    then to float32.

    Args:
        totals: the sums.
    """

    def __init__(self, totals: Totals) -> None:
        self.totals = totals

    async def average(self, vector: F32, weight: float, *, what: str) -> tuple[F32, float]:
        """Return the average and the sum of the weights; see `Averages`."""
        sums = await self.totals.total(np.append(vector.astype(np.float64) * weight, weight), what=what)
        if not np.abs(sums).max() < LARGEST_SUM:
            raise spoilt(what)
        if not sums[-1] > 0:
            raise ProtocolError(f"no site has anything to average ({what})")
        return (sums[:-1] / sums[-1]).astype(np.float32), float(sums[-1])


class MaskedAverages:
    """Averages over masked means of 32-bit words: a sixth of the bytes of exact sums.

    Numbers are off by about clip · s^1.5 / 2^31 with s sites.  The weights are added exactly before, in a round of
    their own, so that a site can give its share.

    Args:
        sums: secure sums.
        clip: larger than every number that is averaged, the same at all sites.
    """

    def __init__(self, sums: Sums, clip: float = 1.0) -> None:
        self.sums, self.clip = sums, clip

    async def average(self, vector: F32, weight: float, *, what: str) -> tuple[F32, float]:
        """Return the average and the sum of the weights; see `Averages`.

        Raises:
            InputError: A number is as large as `clip`.
        """
        if weight > 0 and not np.abs(vector).max(initial=0) < self.clip:
            raise InputError(
                f"a number of {what} is larger than {self.clip:g}",
                site=self.sums.site,
                step="networks",
                cure="Give all sites a larger `clip`, or a lower learning rate.",
            )
        total = float((await self.sums.total(np.array([weight]), what="sum of weights"))[0])
        if not total > 0:
            raise ProtocolError(f"no site has anything to average ({what})")
        mine = vector.astype(np.float64) if weight > 0 else np.zeros(vector.size)
        # Who was told another sum of weights, and took another share, must add noise: this hash is in the masks' keys.
        told = hashlib.sha256(np.float64(total).tobytes()).digest()
        mean = await self.sums.mean(mine, weight=weight / total, clip=self.clip, what=what, model=told)
        return mean.astype(np.float32), total
