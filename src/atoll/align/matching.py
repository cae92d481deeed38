"""Match rows by the first candidate key on which the sites agree: one comparison for each candidate, in order.

What a site has matched it brings no more, and brings ids that nobody has instead; so later comparisons show nothing of
these rows, and every site learns which of its rows are matched and by which candidate, no more.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from atoll.align.row_keys import Offer, RowKeys
from atoll.core.errors import ProtocolError
from atoll.crypto.random import Rng

I64 = NDArray[np.int64]

Compare = Callable[[int, Offer, int], Awaitable[I64]]
"""Compares by one candidate: its number, what this site brings, and how many pairs there are already; returns this
site's rows of the new pairs, in the order common to the sites."""


@dataclass(frozen=True)
class Matched:
    """What one site knows of the pairs.

    Attributes:
        rows: (m,) int64 own row of each pair, candidate by candidate, in an order common to the sites.
        pair: (n,) int64 the pair of each own row, -1 for none; several rows may share one.
        counts: How many pairs came of each candidate.
    """

    rows: I64
    pair: I64
    counts: tuple[int, ...]

    def candidate(self, pair: I64) -> I64:
        """Return by which candidate pairs were found, counted from 1; 0 for a pair of -1."""
        return np.where(pair < 0, 0, np.searchsorted(np.cumsum(self.counts), pair, "right") + 1)


async def match(
    candidates: Sequence[RowKeys], compare: Compare, *, rng: Rng, multiple: int = 1, again: bool = False
) -> Matched:
    """Compare by one candidate after the other.

    Args:
        candidates: This site's keys, one of n rows each, in the job's order.
        compare: One comparison; the other sites run theirs.
        rng: Secret randomness.
        multiple: The number of ids that is told is rounded up to a multiple of this.
        again: Whether rows that are matched already are brought again: the other site may have further rows for them.

    Returns:
        The pairs.  Rows that share a key belong to one pair.

    Raises:
        ProtocolError: The other site names a row that was not brought.
    """
    n = len(candidates[0])
    found, pair, total = [np.empty(0, np.int64)], np.full(n, -1, np.int64), 0
    for number, keys in enumerate(candidates):
        open_rows = np.ones(n, np.bool_) if again else pair < 0
        offer = Offer(keys, keys.brought(open_rows), -(-n // multiple) * multiple, rng.spawn())
        rows = await compare(number, offer, total)
        if rows.size and (rows.max() >= n or not offer.rows[rows].all()):
            raise ProtocolError("the result names a row that was not brought")
        at = keys.sharing(rows, open_rows)
        pair = np.where(at >= 0, total + at, pair)
        found.append(rows)
        total += len(rows)
    return Matched(np.concatenate(found), pair, tuple(len(rows) for rows in found[1:]))
