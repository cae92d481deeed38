"""Matrix products modulo 2^64, the ring of additive shares.

Large ones are put together from products of signed digits of 22 bits, which BLAS adds up exactly in double precision
for 512 terms at a time: six products of matrices, as digits whose weights reach 2^64 do not count.
"""

import numpy as np
from numpy.typing import NDArray

from atoll.crypto.jit import njit
from atoll.crypto.one_thread import one_thread

F64 = NDArray[np.float64]
U64 = NDArray[np.uint64]

_COLUMNS = 512  # a tile of B of 128 rows stays in the second-level cache
_ROWS = 128
_LARGE = 1 << 18  # terms m·k·n from which BLAS is faster
_TERMS = 512  # three products of digits each: below 512 · (2^42 + 2^41 + 2^41), less than 2^53


def product(a: U64, b: U64) -> U64:
    """Return A·B modulo 2^64.

    Args:
        a: (m, k) uint64.
        b: (k, n) uint64.

    Returns:
        (m, n) uint64.
    """
    out = np.zeros((a.shape[0], b.shape[1]), np.uint64)
    if out.size * a.shape[1] >= _LARGE:
        one_thread()
        for at in range(0, a.shape[1], _TERMS):
            _add_large(np.ascontiguousarray(a[:, at : at + _TERMS]), np.ascontiguousarray(b[at : at + _TERMS]), out)
    elif out.size and a.shape[1]:
        _add_product(np.ascontiguousarray(a).view(), np.ascontiguousarray(b).view(), out)
    return out


def _add_product(a: U64, b: U64, out: U64) -> None:
    """Add A·B to `out`; zero rows and terms fill the last group of four."""
    m, k = a.shape
    padded = np.zeros((-(-m // 4) * 4, -(-k // 4) * 4), np.uint64)
    padded[:m, :k] = a
    terms = np.zeros((padded.shape[1], b.shape[1]), np.uint64)
    terms[:k] = b
    whole = np.zeros((padded.shape[0], b.shape[1]), np.uint64)
    _tiles(padded, terms, whole)
    out += whole[:m]


def _add_large(a: U64, b: U64, out: U64) -> None:
    """Add A·B for up to 512 terms; the digits of A stand side by side, those of B one below the other."""
    (m, k), n = a.shape, b.shape[1]
    left, right = np.empty((m, 3 * k)), np.empty((3 * k, n))
    _digits(a.view(), left[:, :k], left[:, k : 2 * k], left[:, 2 * k :])
    _digits(b.view(), right[2 * k :], right[k : 2 * k], right[:k])
    # weight 2^(22·(d − 1)): the first d digits of A by the first d ones of B, in the opposite order
    for d in range(1, 4):
        _add_shifted(left[:, : d * k] @ right[(3 - d) * k :], np.uint64(22 * (d - 1)), out)


@njit
def _digits(words: U64, low: F64, middle: F64, high: F64) -> None:
    for i in range(words.shape[0]):
        for j in range(words.shape[1]):
            word = np.int64(words[i, j])
            first = (word << 42) >> 42
            word = (word >> 22) + np.int64(first < 0)  # what the digit borrowed
            second = (word << 42) >> 42
            low[i, j], middle[i, j] = np.float64(first), np.float64(second)
            high[i, j] = np.float64((word >> 22) + np.int64(second < 0))


@njit
def _add_shifted(x: F64, shift: np.uint64, out: U64) -> None:
    for i in range(out.shape[0]):
        for j in range(out.shape[1]):
            out[i, j] += np.uint64(np.int64(x[i, j])) << shift


@njit
def _tiles(a: U64, b: U64, out: U64) -> None:
    m, k, n = a.shape[0], a.shape[1], b.shape[1]
    for j in range(0, n, _COLUMNS):
        last = min(j + _COLUMNS, n)
        for t in range(0, k, _ROWS):
            for i in range(0, m, 4):
                for s in range(t, min(t + _ROWS, k), 4):
                    _four(a[i : i + 4, s : s + 4], b[s : s + 4, j:last], out[i : i + 4, j:last])


@njit
def _four(a: U64, b: U64, out: U64) -> None:
    """Add four terms to four rows: every word of B that is read serves four products."""
    b0, b1, b2, b3 = b[0], b[1], b[2], b[3]
    for i in range(4):
        row, w, x, y, z = out[i], a[i, 0], a[i, 1], a[i, 2], a[i, 3]
        for j in range(row.size):
            row[j] += w * b0[j] + x * b1[j] + y * b2[j] + z * b3[j]


def warm() -> None:
    """Compile this module's kernels."""
    for side in (1, 64):
        product(np.ones((side, side), np.uint64), np.ones((side, side), np.uint64))
