"""Order on shares: largest and smallest, sorting, quantiles.  Which values were exchanged stays hidden.

Sorting is Batcher's odd-even merge network: about n·(log2 n)²/4 comparisons in (log2 n)·(log2 n + 1)/2 layers, each
layer one comparison and one choice, whatever its width.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from atoll.protocols.shares.operations import Engine, choose, joined, less, select

Places = NDArray[np.intp]


async def largest(p: Engine, x: Any) -> tuple[Any, Any]:
    """Return the largest value of each row and its place, both shared; ties go to the earlier place.

    Args:
        p: This party, of two or of three.
        x: (…, n), n at least 1.

    Returns:
        Values (…,) with x's fraction, and places (…,) with fraction 0, by a tournament of ceil(log2 n) rounds.
    """
    n = x.shape[-1]
    if not n:
        raise ValueError("no values have no largest one")
    places = p.constant(np.broadcast_to(np.arange(n), x.shape), 0)
    both = joined([values.reshape(1, *x.shape) for values in (x.taken(0), places)])
    while n > 1:
        left, right = both[..., 0 : n // 2 * 2 : 2], both[..., 1 : n // 2 * 2 : 2]
        better = await less(p, left[0], right[0])
        won = await select(p, better, right, left)
        both = joined([won, both[..., n // 2 * 2 :]], axis=-1)
        n = both.shape[-1]
    return both[0, ..., 0].taken(x.fraction), both[1, ..., 0]


async def smallest(p: Engine, x: Any) -> tuple[Any, Any]:
    """Return the smallest value of each row and its place; as `largest`."""
    value, place = await largest(p, -x)
    return -value, place


async def sort(p: Engine, keys: Any, *columns: Any) -> tuple[Any, ...]:
    """Sort by keys, upwards, and put further columns into the same order; equal keys come in any order.

    Args:
        p: This party.
        keys: (n,).
        *columns: Each (n,).

    Returns:
        The keys and the columns, sorted.
    """
    rows = joined([column.taken(0).reshape(1, -1) for column in (keys, *columns)])
    for low, high in layers(rows.shape[1]):
        first, second = rows[:, low], rows[:, high]
        swapped = await choose(p, await less(p, second[0], first[0]), second - first)
        every = slice(None)
        rows = rows.added((every, low), swapped).added((every, high), -swapped)
    return tuple(rows[i].taken(column.fraction) for i, column in enumerate((keys, *columns)))


async def quantiles(p: Any, x: Any, levels: Sequence[float]) -> Any:
    """Return quantiles with linear interpolation, as `numpy.quantile`, of the values (n,) as shares, (levels,).

    Raises:
        ValueError: A level is outside [0, 1], or there are no values.
    """
    n = x.size
    if not x.fraction:
        raise ValueError("quantiles of integers: share them with fractional bits")
    if not n or not all(0 <= level <= 1 for level in levels):
        raise ValueError("quantiles need values, and levels between 0 and 1")
    (rising,) = await sort(p, x.reshape(-1))
    at = np.asarray(levels, np.float64) * (n - 1)
    low = np.floor(at).astype(np.intp)
    high = np.minimum(low + 1, n - 1)
    between = await p.mul(p.constant(at - low), rising[high] - rising[low])
    return rising[low] + between.taken(x.fraction)


def layers(n: int) -> list[tuple[Places, Places]]:
    """Return the pairs of places that each layer of the network compares, lower places first.

    Source:
        Batcher, AFIPS Spring Joint Computer Conference 1968; Knuth, volume 3, section 5.2.2, algorithm M.
    """
    found: list[tuple[Places, Places]] = []
    top = 1 << max(0, (n - 1).bit_length() - 1)
    size = top
    while size:
        distance, reach, rest = size, top, 0
        while True:
            places = np.arange(max(0, n - distance))
            low = places[places & size == rest].astype(np.intp)
            if low.size:
                found.append((low, low + distance))
            if reach == size:
                break
            distance, reach, rest = reach - size, reach >> 1, size
        size >>= 1
    return found
