"""The linear part of compact oblivious-transfer extension: 2^k streams of bits become k columns and a mask."""

import numpy as np
from numpy.typing import NDArray

from atoll.crypto.jit import njit, read_only

U64 = NDArray[np.uint64]


@njit
def fold(streams: U64, columns: U64) -> None:
    """Write column i = ⊕ of the streams whose number has bit i, and the sum of all streams into the first one.

    Args:
        streams: (2^k, w) uint64; overwritten.
        columns: Room for the columns, (k, w).
    """
    half, bit = streams.shape[0] // 2, columns.shape[0] - 1
    columns[:] = np.uint64(0)
    while half > 0:
        column = columns[bit]
        for x in range(half):
            low, high = streams[x], streams[x + half]
            for w in range(column.size):
                column[w] ^= high[w]
                low[w] ^= high[w]
        half //= 2
        bit -= 1


@njit
def correct(columns: U64, received: U64, chosen: U64) -> None:
    """Add the received mask to the columns i where chosen[i] is all ones (it is zero elsewhere)."""
    for i in range(columns.shape[0]):
        for w in range(columns.shape[1]):
            columns[i, w] ^= received[w] & chosen[i]


def warm() -> None:
    """Compile this module's kernels."""
    columns = np.zeros((1, 1), np.uint64)
    fold(np.zeros((2, 1), np.uint64), columns)
    correct(columns, read_only(columns[0].copy()), columns[0].copy())
