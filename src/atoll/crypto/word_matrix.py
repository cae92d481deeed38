"""Matrix products modulo 2^64, the ring of additive shares."""

import numpy as np
from numpy.typing import NDArray

from atoll.crypto.jit import njit

U64 = NDArray[np.uint64]

_COLUMNS = 512  # a tile of B of 128 rows stays in the second-level cache
_ROWS = 128


def product(a: U64, b: U64) -> U64:
    """Return A·B modulo 2^64.

    Args:
        a: (m, k) uint64.
        b: (k, n) uint64.

    Returns:
        (m, n) uint64.
    """
    out = np.zeros((a.shape[0], b.shape[1]), np.uint64)
    if out.size and a.shape[1]:
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
    product(np.ones((1, 1), np.uint64), np.ones((1, 1), np.uint64))
