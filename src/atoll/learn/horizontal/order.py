"""Order statistics of pooled values through counts: exact, without any site's values in one place.

A float64 becomes a 64-bit key in the same order; the keys are searched four bits a round.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from atoll.core.errors import InputError, ProtocolError
from atoll.learn.horizontal.rows import F64, I64
from atoll.protocols.secure_sum.totals import Totals

U64 = NDArray[np.uint64]

_DIGITS = 16  # of four bits, in a key
_TOP = np.uint64(1 << 63)


def keys_of(values: F64) -> U64:
    """Map finite values to integers in the same order; both zeros are one, and no key is 0."""
    bits = (np.asarray(values, np.float64) + 0.0).view(np.uint64)
    return np.where(bits >> np.uint64(63) == 1, ~bits, bits | _TOP)


def values_of(keys: U64) -> F64:
    """Undo `keys_of`."""
    return np.where(keys >= _TOP, keys ^ _TOP, ~keys).view(np.float64)


async def largest(totals: Totals, keys: U64, *, digits: int = _DIGITS, what: str) -> U64:
    """Find the largest of all sites' keys.

    Reveals: for 15 thresholds in each of `digits` rounds, at how many sites the key reaches it.

    Args:
        totals: the sum over the sites.
        keys: (m,) this site's keys, below 16^digits; 0 where it has none.
        digits: rounds.
        what: for the record.

    Returns:
        (m,) the largest keys; 0 where no site has one.
    """
    found = np.zeros(keys.size, np.uint64)
    steps = np.arange(1, 16, dtype=np.uint64)
    for place in reversed(range(digits)):
        shift = np.uint64(4 * place)
        alike = (keys >> shift) >> np.uint64(4) == found
        marks = alike[:, None] & (((keys >> shift) & np.uint64(15))[:, None] >= steps)
        reached = await totals.total(marks.ravel().astype(np.float64), what=what)
        found = found << np.uint64(4) | np.count_nonzero(reached.reshape(-1, 15), axis=1).astype(np.uint64)
    return found


async def extremes(totals: Totals, columns: Sequence[F64], *, what: str) -> tuple[F64, F64]:
    """Find least and largest values of every column, (m,) each; NaN where no site has a value.

    Reveals: as `largest`.
    """
    keys = [keys_of(column) for column in columns]
    high = [np.uint64(k.max(initial=0)) for k in keys]
    low = [np.uint64((~k).max(initial=0)) for k in keys]
    found = await largest(totals, np.array(low + high, np.uint64), what=what)
    ends = np.where(found == 0, np.nan, values_of(np.concatenate([~found[: len(keys)], found[len(keys) :]])))
    return ends[: len(keys)], ends[len(keys) :]


async def order_statistics(totals: Totals, columns: Sequence[F64], at: I64, ranks: I64, *, what: str) -> F64:
    """Find pooled order statistics, all in 16 rounds.

    Reveals: for 15 pivots a round and statistic, how many pooled values lie below the pivot; the pivots close in on it.

    Args:
        totals: the sum over the sites.
        columns: this site's values of every column, (n_j,) each, finite.
        at: (m,) the column of every statistic.
        ranks: (m,) its rank among the pooled values, from 0; below their number.
        what: for the record.

    Returns:
        (m,) values, bit for bit those of the pooled and sorted column.
    """
    keys = [np.sort(keys_of(column)) for column in columns]
    prefix = np.zeros(at.size, np.uint64)
    steps = np.arange(1, 16, dtype=np.uint64)
    for place in reversed(range(_DIGITS)):
        pivots = (prefix[:, None] << np.uint64(4) | steps) << np.uint64(4 * place)  # (m, 15)
        below = _below(keys, at, pivots)
        counts = (await totals.total(below.ravel(), what=what)).reshape(below.shape)
        digit = np.count_nonzero(counts <= ranks[:, None], axis=1).astype(np.uint64)
        prefix = prefix << np.uint64(4) | digit
    return values_of(prefix)


async def quantiles(totals: Totals, columns: Sequence[F64], levels: Sequence[float], *, what: str) -> F64:
    """Find quantiles of every column as `numpy.quantile` does (linear between neighbours), bit for bit.

    Reveals: the number of values of every column, and as `order_statistics`.

    Returns:
        (columns, levels); NaN where a column has no value at any site.
    """
    counts = await totals.total(np.array([len(column) for column in columns], np.float64), what=f"{what}: values")
    place = (counts[:, None] - 1) * np.asarray(levels)  # (c, q)
    known = np.broadcast_to(counts[:, None] > 0, place.shape)
    low = np.floor(place[known]).astype(np.int64)
    at = np.broadcast_to(np.arange(len(columns))[:, None], place.shape)[known]
    high = np.minimum(low + 1, counts[at].astype(np.int64) - 1)
    pair = await order_statistics(totals, columns, np.tile(at, 2), np.concatenate([low, high]), what=what)
    a, b = pair[: low.size], pair[low.size :]
    t = place[known] - low
    out = np.full(place.shape, np.nan)
    out[known] = np.where(t < 0.5, a + (b - a) * t, b - (b - a) * (1 - t))
    return out


async def distinct(totals: Totals, values: F64, *, most: int, what: str) -> tuple[F64, I64]:
    """Find the distinct pooled values of one column; see `distinct_each`."""
    return (await distinct_each(totals, [values], most=most, what=what))[0]


async def distinct_each(totals: Totals, columns: Sequence[F64], *, most: int, what: str) -> list[tuple[F64, I64]]:
    """Find all distinct pooled values of every column with their counts.

    Interval by interval the values are counted, and only intervals that hold some are cut into 16 parts; an interval
    that holds one value opens it at once.

    Reveals: the pooled values of every column with their counts, which is the result, and nothing else.

    Args:
        totals: the sum over the sites.
        columns: this site's values of every column, (n_j,) each, finite.
        most: how many distinct values are too many in all.
        what: for the record.

    Returns:
        For every column (k,) ascending values and (k,) counts.

    Raises:
        InputError: there are more than `most`.
        ProtocolError: a site sent counts that are none.
    """
    keys = [np.sort(keys_of(column)) for column in columns]
    sizes = await totals.total(np.array([k.size for k in keys], np.float64), what=f"{what}: values")
    at = np.flatnonzero(sizes)
    starts, counts = np.zeros(at.size, np.uint64), sizes[at]
    found: list[tuple[I64, U64, F64]] = []
    for width in range(64, 0, -4):  # every interval holds 2^width keys
        alone = counts == 1
        if alone.any():
            opened = await _open(totals, keys, at[alone], starts[alone], width, what=what)
            found.append((at[alone], opened, counts[alone]))
        at, starts, counts = at[~alone], starts[~alone], counts[~alone]
        if not starts.size:
            break
        parts = starts[:, None] | np.arange(16, dtype=np.uint64) << np.uint64(width - 4)
        mine = np.diff(_below(keys, at, parts), axis=1)
        known = (await totals.total(mine.ravel(), what=what)).reshape(-1, 15)
        counts = np.column_stack([known, counts - known.sum(axis=1)]).ravel()
        if (counts < 0).any() or (counts != np.rint(counts)).any():
            raise ProtocolError(f"a site sent counts that are none for: {what}")
        at, starts, counts = np.repeat(at, 16)[counts > 0], parts.ravel()[counts > 0], counts[counts > 0]
        if starts.size + sum(len(k) for _, k, _ in found) > most:
            cure = "Round the values, put them into bins, or allow more."
            raise InputError(f"there are more than {most:,} distinct values in: {what}", cure=cure)
    found.append((at, starts, counts))
    owner, every, times = (np.concatenate(parts) for parts in zip(*found, strict=True))
    out = []
    for column in range(len(keys)):
        own = np.flatnonzero(owner == column)
        order = own[np.argsort(every[own])]
        out.append((values_of(every[order]), times[order].astype(np.int64)))
    return out


def _below(keys: Sequence[U64], at: I64, pivots: U64) -> F64:
    """Count for every row of pivots, (m, k), the keys of its column that lie below each."""
    below = np.empty(pivots.shape)
    for column, known in enumerate(keys):
        below[at == column] = np.searchsorted(known, pivots[at == column])
    return below


async def _open(totals: Totals, keys: Sequence[U64], at: I64, starts: U64, width: int, *, what: str) -> U64:
    """Open the only key of every interval of 2^width keys: its owner sends it, everyone else zero."""
    first = _below(keys, at, starts[:, None])[:, 0].astype(np.int64)
    last = starts + np.uint64((1 << width) - 1)
    mine = np.zeros(starts.size, np.uint64)
    for column, known in enumerate(keys):
        here = np.flatnonzero((at == column) & (first < known.size))
        key = known[first[here]]
        mine[here] = np.where(key <= last[here], key, np.uint64(0))
    halves = np.concatenate([mine >> np.uint64(32), mine & np.uint64(0xFFFFFFFF)]).astype(np.float64)
    high, low = (await totals.total(halves, what=what)).reshape(2, -1).astype(np.uint64)
    return high << np.uint64(32) | low
