"""Order on shares: largest and smallest, sorting, quantiles.  Which values were exchanged stays hidden.

Sorting is Batcher's odd-even merge network: about n·(log2 n)²/4 comparisons in (log2 n)·(log2 n + 1)/2 layers, each
layer one comparison and one choice, whatever its width.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from atoll.protocols.shares import logic
from atoll.protocols.shares.party import Party
from atoll.protocols.shares.values import Arithmetic, joined

Places = NDArray[np.intp]


async def largest(p: Party, x: Arithmetic) -> tuple[Arithmetic, Arithmetic]:
    """Return the largest value of each row and its place, both shared; ties go to the earlier place.

    Args:
        p: This party.
        x: (…, n), n at least 1.

    Returns:
        Values (…,) with x's fraction, and places (…,) with fraction 0, by a tournament of ceil(log2 n) rounds.
    """
    n = x.shape[-1]
    if not n:
        raise ValueError("no values have no largest one")
    places = np.broadcast_to(np.arange(n), x.shape)
    both = np.stack((x.half, p.constant(places, 0).half))  # (2, …, n)
    while n > 1:
        half = n // 2
        left, right = both[..., 0 : 2 * half : 2], both[..., 1 : 2 * half : 2]
        better = await logic.less(p, Arithmetic(left[0]), Arithmetic(right[0]))
        won = await logic.select(p, better, Arithmetic(right), Arithmetic(left))
        both = np.concatenate((won.half, both[..., 2 * half :]), axis=-1)
        n = both.shape[-1]
    return Arithmetic(both[0, ..., 0], x.fraction), Arithmetic(both[1, ..., 0])


async def smallest(p: Party, x: Arithmetic) -> tuple[Arithmetic, Arithmetic]:
    """Return the smallest value of each row and its place; as `largest`."""
    value, place = await largest(p, -x)
    return -value, place


async def sort(p: Party, keys: Arithmetic, *columns: Arithmetic) -> tuple[Arithmetic, ...]:
    """Sort by keys, upwards, and put further columns into the same order; equal keys come in any order.

    Args:
        p: This party.
        keys: (n,).
        *columns: Each (n,).

    Returns:
        The keys and the columns, sorted.
    """
    rows = joined([Arithmetic(column.half.reshape(1, -1)) for column in (keys, *columns)]).half.copy()
    for low, high in layers(rows.shape[1]):
        first, second = Arithmetic(rows[:, low]), Arithmetic(rows[:, high])
        swapped = (await logic.choose(p, await logic.less(p, second[0], first[0]), second - first)).half
        rows[:, low] += swapped
        rows[:, high] -= swapped
    return tuple(Arithmetic(row, column.fraction) for row, column in zip(rows, (keys, *columns), strict=True))


async def quantiles(p: Party, x: Arithmetic, levels: Sequence[float]) -> Arithmetic:
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
    return Arithmetic(rising[low].half + between.half, x.fraction)


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
