"""Kernels of boosted trees: arrays in, arrays out, one pass over the rows each.

Gradients lie on a grid on which every sum is exact in float64, so no result depends on the order of additions.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from atoll.crypto.jit import njit

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]
I32 = NDArray[np.int32]
U8 = NDArray[np.uint8]
U16 = NDArray[np.uint16]
Codes = NDArray[Any]  # uint8 or uint16

_BLOCK = 4096  # rows whose gradients stay in the first-level cache while all features pass over them


@njit
def numeric_codes(values: F64, cuts: F64, missing: int, out: U16) -> None:
    """Write the bin of every value: the number of cuts that are not above it; NaN goes to bin `missing`.

    Args:
        values: (n,) with NaN for a missing value.
        cuts: (b - 1,) ascending; a value equal to a cut lies right of it.
        missing: The bin of missing values.
        out: (n,) bins.
    """
    for i in range(values.size):
        x = values[i]
        if np.isnan(x):
            out[i] = missing
            continue
        low, size = 0, cuts.size
        while size > 0:
            half = size >> 1
            if cuts[low + half] <= x:
                low += half + 1
                size -= half + 1
            else:
                size = half
        out[i] = low


@njit
def histogram(codes: Codes, offsets: I64, at: I32, slot: I64, g: F64, h: F64, slots: int) -> F64:
    """Sum g and h by node, feature and bin.

    Args:
        codes: (F, n) bins.
        offsets: (F + 1,) first row of every feature in the result.
        at: (n,) node of every row.
        slot: (nodes,) place of a node in the result, or -1 to leave it out.
        g: (n,) first derivatives.
        h: (n,) second derivatives.
        slots: Number of places S.

    Returns:
        (S, k, 2) sums.
    """
    k = offsets[-1]
    out = np.zeros(2 * k * slots)
    n = at.size
    rows, place = np.empty(_BLOCK, np.int64), np.empty(_BLOCK, np.int64)
    block_g, block_h = np.empty(_BLOCK), np.empty(_BLOCK)
    for start in range(0, n, _BLOCK):
        m = 0
        for i in range(start, min(start + _BLOCK, n)):
            s = slot[at[i]]
            rows[m], place[m], block_g[m], block_h[m] = i, 2 * k * s, g[i], h[i]
            m += s >= 0  # the next row overwrites one that is left out
        for f in range(codes.shape[0]):
            column, first = codes[f], 2 * offsets[f]
            for j in range(m):
                cell = place[j] + first + 2 * np.int64(column[rows[j]])
                out[cell] += block_g[j]
                out[cell + 1] += block_h[j]
    return out.reshape(slots, k, 2)


@njit
def masked_vectors(at: I32, slot: I64, g: F64, h: F64, count: int) -> F64:
    """Return g and h of `count` nodes, each as a full-length vector that is zero outside its node.

    Args:
        at: (n,) node of every row.
        slot: (nodes,) place of a node, or -1.
        g: (n,) first derivatives, zero for rows that do not take part.
        h: (n,) second derivatives, likewise.
        count: Number of places.

    Returns:
        (2 × count, n): g of place 0, h of place 0, g of place 1, …
    """
    out = np.zeros((2 * count, at.size))
    for i in range(at.size):
        s = slot[at[i]]
        if s >= 0:
            out[2 * s, i] = g[i]
            out[2 * s + 1, i] = h[i]
    return out


@njit
def advance(codes: Codes, at: I32, left: I64, feature: I64, bin_: I64, rule: I64, missing: I64, bits: U8) -> None:
    """Move every row of a split node to the left child, or to the right one beside it.

    Args:
        codes: (F, n) own bins.
        at: (n,) node of every row; changed in place.
        left: (nodes,) left child, or -1 where a node is not split; the right child is the next node.
        feature: (nodes,) own feature of the split, or -1 where another site's bits decide.
        bin_: (nodes,) threshold: larger bins go right; or, with a category, the bin that goes right.
        rule: (nodes,) bit 0: categorical; bit 1: missing values go right.
        missing: (nodes,) the missing bin of the feature, or -1.
        bits: (n,) direction of rows whose node is split elsewhere, 1 = right.
    """
    for i in range(at.size):
        node = at[i]
        child = left[node]
        if child < 0:
            continue
        f = feature[node]
        if f < 0:
            right = np.int64(bits[i])
        else:
            code = np.int64(codes[f, i])
            if code == missing[node]:
                right = np.int64((rule[node] >> 1) & 1)
            elif rule[node] & 1:
                right = np.int64(code == bin_[node])
            else:
                right = np.int64(code > bin_[node])
        at[i] = np.int32(child + right)


@njit
def pairs_won(positive: F64, negative: F64) -> int:
    """Count twice the pairs in which a positive value lies above a negative one; ties count once.

    Args:
        positive: (p,) ascending.
        negative: (q,) ascending.
    """
    below = upto = won = 0
    for x in positive:
        while below < negative.size and negative[below] < x:
            below += 1
        upto = max(upto, below)
        while upto < negative.size and negative[upto] == x:
            upto += 1
        won += below + upto
    return won


def warm() -> None:
    """Compile this module's kernels for both widths of bins."""
    g, at, one = np.zeros(2), np.zeros(2, np.int32), np.zeros(1, np.int64)
    numeric_codes(g, g[:1], 1, np.zeros(2, np.uint16))
    masked_vectors(at, one, g, g, 1)
    pairs_won(g, g)
    for dtype in (np.uint8, np.uint16):
        codes = np.zeros((1, 2), dtype)
        histogram(codes, np.array([0, 1]), at, one, g, g, 1)
        advance(codes, at, one - 1, one, one, one, one, np.zeros(2, np.uint8))
