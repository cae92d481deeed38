"""What the fixed-matrix product computes, in the plain."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from atoll.protocols.fixed_matrix_product.matrices import Dense, Indicator


def product(matrix: Indicator | Dense, V: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return M·v for every row v of V, (T, k) float64."""
    if isinstance(matrix, Dense):
        return V @ matrix.entries.T.astype(np.float64)
    columns = list(zip(matrix.bins, matrix.sizes.tolist(), strict=True))
    sums = [np.concatenate([np.bincount(b, weights=v, minlength=m) for b, m in columns]) for v in V]
    return np.stack(sums)[:, matrix.rows]


def entries(matrix: Indicator | Dense) -> NDArray[np.int64]:
    """Return M written out, (k, n) int64."""
    if isinstance(matrix, Dense):
        return matrix.entries
    columns = zip(matrix.bins, matrix.sizes.tolist(), strict=True)
    whole = np.concatenate([(b == np.arange(m)[:, np.newaxis]).astype(np.int64) for b, m in columns])
    return np.take(whole, matrix.rows, axis=0)
