"""Where the owner of values puts them for `hidden_quantiles`: sorted, in blocks of 64 that belong to one group each."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

BLOCK = 64
"""Rows of a block, and parts that a rank is looked for in."""

I64 = NDArray[np.int64]
Words = NDArray[np.uint64]


def one_hot(group: I64, words: int) -> I64:
    """Return for each row a string whose bit at the row's group is set, (n, words)."""
    out = np.zeros((len(group), words), np.uint64)
    if words:
        out[np.arange(len(group)), group // 64] = np.uint64(1) << (group % 64).astype(np.uint64)
    return out.view(np.int64)


def laid_out(
    rows: I64, keep: NDArray[np.bool_], segment: I64, values: NDArray[np.float64], parts: int, blocks: int
) -> tuple[I64, I64, Words]:
    """Give every bin a place: segment after segment, each sorted and in blocks of its own, then whatever has no value.

    Args:
        rows: (m,) the row in each bin, or −1.
        keep: (n,) which rows may count.
        segment: (n,) 0 … parts − 1.
        values: (n,) NaN where a value is missing.
        parts: Segments.
        blocks: Blocks of 64; they have room for m bins and 63 more for each segment.

    Returns:
        Which bin comes to each place, (64·blocks,), where numbers from m on are bins that are empty; the segment of
        each block or −1; and the bits of the values at the places, (1, blocks, 64).
    """
    there = keep & ~np.isnan(values)
    bins = np.flatnonzero((rows >= 0) & np.append(there, False)[rows])
    own = rows[bins]
    by_value = np.lexsort((values[own], segment[own]))
    bins, own = bins[by_value], own[by_value]
    sizes = np.bincount(segment[own], minlength=parts)
    used = -(-sizes // BLOCK)
    starts = BLOCK * (np.cumsum(used) - used) - (np.cumsum(sizes) - sizes)
    at = starts[segment[own]] + np.arange(len(own))
    order, placed = np.full(BLOCK * blocks, -1), np.zeros(BLOCK * blocks, np.float64)
    order[at], placed[at] = bins, values[own]
    left = np.ones(BLOCK * blocks, np.bool_)
    left[bins] = False
    order[order < 0] = np.flatnonzero(left)[::-1]  # the empty ones first: they fill the segments' last blocks
    of_block = np.full(blocks, -1)
    of_block[: used.sum()] = np.repeat(np.arange(parts), used)
    return order, of_block, (placed + 0.0).view(np.uint64).reshape(1, blocks, BLOCK)


def part_size(blocks: int) -> int:
    """Return the largest power of 64 below a number of blocks: what one part holds."""
    size = 1
    while size * BLOCK < blocks:
        size *= BLOCK
    return size


def padded(array: Words) -> Words:
    """Add blocks of zeros, so that all parts are of one size."""
    blocks = array.shape[1]
    more = -blocks % part_size(blocks)
    return np.pad(array, [(0, 0), (0, more), *[(0, 0)] * (array.ndim - 2)])
