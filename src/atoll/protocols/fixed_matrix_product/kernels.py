"""Arrays in, arrays out: words of q on the wire, and the product of a matrix with masked vectors."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from atoll.crypto.jit import njit

U64 = NDArray[np.uint64]
Bins = NDArray[Any]  # uint8 or uint16
_ROWS = 512  # rows of four vectors at a time: 16 kB, half the first-level cache


class Planes(NamedTuple):
    """T vectors of words below q, cut as they travel: the planes that q does not need are empty.

    Attributes:
        low: (T, n) uint32, bits 0 to 31.
        middle: (T, n or 0) uint8, bits 32 to 39, where q = 2^40.
        high: (T, n or 0) uint32, bits 32 to 63, where q = 2^64.
    """

    low: NDArray[np.uint32]
    middle: NDArray[np.uint8]
    high: NDArray[np.uint32]

    def part(self, first: int, end: int) -> Planes:
        """Return some of the vectors."""
        return Planes(self.low[first:end], self.middle[first:end], self.high[first:end])


def plane_shapes(q_bits: int, count: int, n: int) -> dict[str, tuple[int, int]]:
    """Return the shapes of the planes of `count` vectors of n words."""
    return {
        "low": (count, n),
        "middle": (count, n if 32 < q_bits <= 40 else 0),
        "high": (count, n if q_bits > 40 else 0),
    }


def empty_planes(q_bits: int, count: int, n: int) -> Planes:
    """Return room for `count` vectors of n words."""
    shapes = plane_shapes(q_bits, count, n)
    return Planes(
        np.empty(shapes["low"], np.uint32), np.empty(shapes["middle"], np.uint8), np.empty(shapes["high"], np.uint32)
    )


def cut(words: U64, q_bits: int) -> Planes:
    """Cut words below q, (T, n), into planes."""
    planes = empty_planes(q_bits, *words.shape)
    for words_of, low, middle, high in zip(words, *planes, strict=True):
        _cut(words_of, low, middle, high)
    return planes


def join(planes: Planes) -> U64:
    """Put planes together again, (T, n) uint64."""
    out = planes.low.astype(np.uint64)
    for part in (planes.middle, planes.high):
        if part.size:
            out |= part.astype(np.uint64) << np.uint64(32)
    return out


def bin_sums(bins: Bins, offsets: NDArray[np.int64], k: int, words: Planes) -> U64:
    """Return for each vector the sum of its words in every bin of every column, modulo 2^64.

    Args:
        bins: (F, n).
        offsets: (F,) number of the first bin of every column.
        k: Number of bins of all columns.
        words: T vectors.

    Returns:
        (T, k) uint64.
    """
    count = len(words.low)
    out = np.empty((count, k), np.uint64)
    for at in range(0, count, 4):
        sums = np.zeros((k, 4), np.uint64)
        four = words.part(at, at + 4)
        _bin_sums(bins, offsets, four.low, four.middle, four.high, sums)
        out[at : at + 4] = sums[:, : count - at].T
    return out


def row_sums(entries: NDArray[np.int64], words: Planes) -> U64:
    """Return M·c modulo 2^64 for each vector c, (T, k); entries (k, n) int64."""
    out = np.zeros((len(words.low), len(entries)), np.uint64)
    for at in range(0, len(words.low), 4):
        four = words.part(at, at + 4)
        _row_sums(entries, four.low, four.middle, four.high, out[at : at + 4])
    return out


@njit
def _cut(words: U64, low: NDArray[np.uint32], middle: NDArray[np.uint8], high: NDArray[np.uint32]) -> None:
    for i in range(low.size):
        low[i] = np.uint32(words[i] & np.uint64(0xFFFFFFFF))
    for i in range(middle.size):
        middle[i] = np.uint8((words[i] >> np.uint64(32)) & np.uint64(0xFF))
    for i in range(high.size):
        high[i] = np.uint32(words[i] >> np.uint64(32))


@njit
def mask(
    product: U64,
    noise: NDArray[np.int64],
    scaled: NDArray[np.int64],
    q_mask: np.uint64,
    low: NDArray[np.uint32],
    middle: NDArray[np.uint8],
    high: NDArray[np.uint32],
) -> None:
    """Write product + noise + scaled modulo q into the planes of one vector."""
    for i in range(low.size):
        product[i] = (product[i] + np.uint64(noise[i]) + np.uint64(scaled[i])) & q_mask
        low[i] = np.uint32(product[i] & np.uint64(0xFFFFFFFF))
    for i in range(middle.size):
        middle[i] = np.uint8(product[i] >> np.uint64(32))
    for i in range(high.size):
        high[i] = np.uint32(product[i] >> np.uint64(32))


@njit
def _load(
    at: int,
    rows: int,
    low: NDArray[np.uint32],
    middle: NDArray[np.uint8],
    high: NDArray[np.uint32],
    out: U64,
) -> None:
    """Interleave four vectors, so that one bin number serves all of them."""
    for t in range(low.shape[0]):
        for i in range(rows):
            out[i, t] = np.uint64(low[t, at + i])
        if middle.shape[1] > 0:
            for i in range(rows):
                out[i, t] |= np.uint64(middle[t, at + i]) << np.uint64(32)
        if high.shape[1] > 0:
            for i in range(rows):
                out[i, t] |= np.uint64(high[t, at + i]) << np.uint64(32)


@njit
def _bin_sums(
    bins: Bins,
    offsets: NDArray[np.int64],
    low: NDArray[np.uint32],
    middle: NDArray[np.uint8],
    high: NDArray[np.uint32],
    sums: U64,
) -> None:
    words = np.zeros((_ROWS, 4), np.uint64)
    n = low.shape[1]
    for at in range(0, n, _ROWS):
        rows = min(_ROWS, n - at)
        _load(at, rows, low, middle, high, words)
        for f in range(bins.shape[0]):
            column, into = bins[f, at : at + rows], sums[offsets[f] :]
            for i in range(rows):
                b = np.uint64(column[i])  # an unsigned index spares the check for negative ones
                s0, s1, s2, s3 = into[b, 0], into[b, 1], into[b, 2], into[b, 3]
                into[b, 0] = s0 + words[i, 0]
                into[b, 1] = s1 + words[i, 1]
                into[b, 2] = s2 + words[i, 2]
                into[b, 3] = s3 + words[i, 3]


@njit
def _row_sums(
    entries: NDArray[np.int64],
    low: NDArray[np.uint32],
    middle: NDArray[np.uint8],
    high: NDArray[np.uint32],
    sums: U64,
) -> None:
    words = np.zeros((4, _ROWS), np.uint64)
    n = low.shape[1]
    for at in range(0, n, _ROWS):
        rows = min(_ROWS, n - at)
        _load(at, rows, low, middle, high, words.T)
        for r in range(entries.shape[0]):
            for t in range(low.shape[0]):
                total = np.uint64(0)
                for i in range(rows):
                    total += np.uint64(entries[r, at + i]) * words[t, i]
                sums[t, r] += total


def warm() -> None:
    """Compile this module's kernels, for arrays as they arrive: received ones are read-only, which is another type."""
    one = np.ones(4, np.int64)
    for q_bits in (32, 40, 64):
        planes = cut(np.ones((1, 4), np.uint64), q_bits)
        mask(np.ones(4, np.uint64), one, one, np.uint64(1), planes.low[0], planes.middle[0], planes.high[0])
        for plane in planes:
            plane.flags.writeable = False
        for dtype in (np.uint8, np.uint16):
            bin_sums(np.zeros((1, 4), dtype), np.zeros(1, np.int64), 1, planes)
        row_sums(np.ones((1, 4), np.int64), planes)
