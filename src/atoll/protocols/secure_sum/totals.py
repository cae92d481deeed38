"""What a horizontal algorithm needs of the sites: a sum, the same at all of them."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray


class SitesLeft(Exception):
    """A total would be over other sites than the one before: what holds earlier totals must begin again."""


class Totals(Protocol):
    """Adds vectors up over the sites of a job.

    Every site calls it in the same order with vectors of the same length, and gets the same total, bit for bit,
    whatever carries it.  An algorithm that learns through totals alone shows nobody more than the totals.
    """

    @property
    def site(self) -> str:
        """This site's name."""

    @property
    def sites(self) -> tuple[str, ...]:
        """All sites that take part, in alphabetical order; the same at each of them."""

    async def total(self, values: NDArray[np.float64], *, what: str) -> NDArray[np.float64]:
        """Return the sum of all sites' values.

        Values are added as multiples of 2^-96 below 2^95 in size, without error; the sum is rounded once, to float64.

        Args:
            values: (n,) float64, finite, the same n at every site.
            what: what is added up, in a few words, for the record of what was revealed.

        Raises:
            InputError: a value is not finite or too large.
            ProtocolError: a site did something else.
        """
