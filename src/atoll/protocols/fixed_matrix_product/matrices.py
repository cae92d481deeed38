"""The owner's matrix, and what both sides may know of it beforehand."""

from __future__ import annotations

import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from atoll.core.errors import InputError
from atoll.crypto.ring import Ring, hint_of_bins, hint_of_rows
from atoll.protocols.fixed_matrix_product import kernels

U64 = NDArray[np.uint64]
_GRAM = 256  # up to so many rows the largest singular value is computed and not only bounded
_PIECE = 1 << 16  # columns at a time


@dataclass(frozen=True)
class Facts:
    """Public bounds on a matrix, part of the agreed terms; the owner refuses to start with a matrix outside them.

    Attributes:
        largest: Bound on |entry|.
        row_norm: Bound on the Euclidean norm of a row.
        row_sum: Bound on the sum of |entries| of a row.
        spectral: S, a bound on the largest singular value: it scales the noise of what is opened.
    """

    largest: float
    row_norm: float
    row_sum: float
    spectral: float

    @classmethod
    def binary(cls, k: int, n: int) -> Facts:
        """Bounds that hold for every matrix of zeros and ones."""
        return cls(1.0, math.sqrt(n), float(n), math.sqrt(k * n))

    @classmethod
    def indicator(cls, features: int, n: int, largest_bin: int | None = None) -> Facts:
        """Bounds for the bins of some columns: S² = features · largest bin."""
        rows = n if largest_bin is None else largest_bin
        return cls(1.0, math.sqrt(rows), float(rows), math.sqrt(features * rows))

    @classmethod
    def standardised(cls, k: int, n: int, fraction_bits: int, clip: float) -> Facts:
        """Bounds for clipped rows of mean square at most one with f fractional bits: S² = n·k·2^(2f)."""
        one = 2.0**fraction_bits
        # rounding to the grid may lengthen a row of n entries by √n/2
        norm = math.sqrt(n) * (one + 0.5)
        return cls(clip * one, norm, math.sqrt(n) * norm, math.sqrt(k) * norm)

    @classmethod
    def bounded(cls, k: int, n: int, largest: int) -> Facts:
        """Bounds for anything else: S² = (largest column sum) · (largest row sum)."""
        return cls(float(largest), math.sqrt(n) * largest, float(n) * largest, math.sqrt(k * n) * largest)


class Matrix(Protocol):
    """M (k, n): integers that stay the same for the whole job."""

    @property
    def k(self) -> int: ...
    @property
    def n(self) -> int: ...
    def facts(self) -> Facts:
        """Return the tightest bounds on this very matrix; they are the owner's secret."""

    def hint(self, ring: Ring, a: U64) -> U64:
        """Return M·A, (k, N) below q."""

    def times(self, words: kernels.Planes) -> U64:
        """Return M·c modulo 2^64 for each vector c, (T, k)."""


class Indicator:
    """The indicator matrix of binned columns, one row a bin, never written out.

    Args:
        bins: (F, n) uint8 or uint16: bin of every row in every column.
        sizes: Number of bins of every column, (F,); the largest bin of each column plus one if left out.
        without: Rows of the matrix that are left out, by their numbers among all bins.

    Raises:
        InputError: A bin is outside its column's number of bins, or the dtype is another.
    """

    def __init__(
        self, bins: kernels.Bins, sizes: Sequence[int] | None = None, *, without: NDArray[np.int64] | None = None
    ) -> None:
        if bins.ndim != 2 or bins.dtype not in (np.uint8, np.uint16):
            raise InputError("bins must be an array (columns, rows) of uint8 or uint16")
        self.bins: kernels.Bins = np.ascontiguousarray(bins)
        top = bins.max(axis=1, initial=0).astype(np.int64) + 1
        self.sizes = top if sizes is None else np.asarray(sizes, np.int64)
        if self.sizes.shape != top.shape or (self.sizes < top).any():
            raise InputError(f"{len(bins)} columns need as many numbers of bins, none smaller than the bins that occur")
        self.offsets = np.concatenate(([0], np.cumsum(self.sizes)[:-1])).astype(np.int64)
        self.rows = np.delete(np.arange(self.sizes.sum()), [] if without is None else without)

    @property
    def k(self) -> int:
        return len(self.rows)

    @property
    def n(self) -> int:
        return int(self.bins.shape[1])

    def facts(self) -> Facts:
        largest = max((int(np.bincount(column).max()) for column in self.bins), default=0) if self.n else 0
        return Facts.indicator(min(len(self.bins), self.k), self.n, largest)  # columns left out whole do not count

    def hint(self, ring: Ring, a: U64) -> U64:
        half = len(self.bins) // 2  # two threads: the asker's core has nothing to do but wait for this
        parts = [(self.bins[:half], self.sizes[:half]), (self.bins[half:], self.sizes[half:])]
        with ThreadPoolExecutor(2) as pool:
            hint = np.concatenate(list(pool.map(lambda part: hint_of_bins(ring, a, *part), parts)))
        return np.take(hint, self.rows, axis=0)

    def times(self, words: kernels.Planes) -> U64:
        return kernels.bin_sums(self.bins, self.offsets, int(self.sizes.sum()), words)[:, self.rows]


class Dense:
    """A matrix of small integers, written out.

    Args:
        entries: (k, n) int64.

    Raises:
        InputError: Another shape or dtype, or entries of 2^31 and more.
    """

    def __init__(self, entries: NDArray[np.int64]) -> None:
        if entries.ndim != 2 or entries.dtype != np.int64 or (entries.size and int(np.abs(entries).max()) >= 1 << 31):
            raise InputError("a dense matrix is an array (k, n) of int64 below 2^31")
        self.entries = np.ascontiguousarray(entries)

    @property
    def k(self) -> int:
        return int(self.entries.shape[0])

    @property
    def n(self) -> int:
        return int(self.entries.shape[1])

    def facts(self) -> Facts:
        rows, squares = np.zeros(self.k), np.zeros(self.k)
        gram = np.zeros((self.k, self.k)) if self.k <= _GRAM else None
        largest = column = 0.0
        for at in range(0, self.n, _PIECE):
            piece = self.entries[:, at : at + _PIECE].astype(np.float64)
            size = np.abs(piece)
            rows, squares = rows + size.sum(axis=1), squares + (size**2).sum(axis=1)
            largest, column = max(largest, float(size.max(initial=0.0))), max(column, float(size.sum(axis=0).max()))
            if gram is not None:
                gram += piece @ piece.T
        row = float(rows.max(initial=0.0))
        spectral = math.sqrt(row * column)
        if gram is not None and self.k:
            spectral = min(spectral, math.sqrt(max(float(np.linalg.eigvalsh(gram)[-1]), 0.0)))
        return Facts(largest, math.sqrt(float(squares.max(initial=0.0))), row, spectral)

    def hint(self, ring: Ring, a: U64) -> U64:
        return hint_of_rows(ring, a, self.entries)

    def times(self, words: kernels.Planes) -> U64:
        return kernels.row_sums(self.entries, words)
