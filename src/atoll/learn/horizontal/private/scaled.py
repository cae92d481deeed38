"""Columns between bounds that are known beforehand, as numbers whose size one row cannot pass.

A numeric column goes to -1 … 1, and to a grid on which sums of products are exact, so that one row changes a sum by
just its own part.  A column of categories is one number for each of them, of which a row has at most one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from atoll.core.errors import InputError
from atoll.learn.horizontal.rows import F64, blocks

FINE = 2.0**12
"""Steps of a numeric column from the middle of its bounds to their ends; far below any noise."""

Bounds = Mapping[str, tuple[float, float]]


@dataclass(frozen=True)
class Scaled:
    """How columns become such numbers; the same at every site.

    Args:
        names: of the numbers; a column, or `column=category`.
        middle: (p,) of the bounds; 0 for a category.
        half: (p,) half their distance, above 0; 1 for a category.
        columns: how many columns there are; a row has one number of size 1 at most in each.
    """

    names: tuple[str, ...]
    middle: F64
    half: F64
    columns: int

    def apply(self, X: F64) -> F64:
        """Bring (n, p) values between their bounds and to -1 … 1; NaN stays."""
        Z = np.clip((X - self.middle) / self.half, -1.0, 1.0)
        return np.asarray(np.rint(Z * FINE) / FINE)


def scaled(columns: Sequence[tuple[str, tuple[str, ...]]], bounds: Bounds, *, baseline: bool = True) -> Scaled:
    """Return the scale of columns.

    Args:
        columns: names, and the categories of those that have some.
        bounds: of the numeric columns.
        baseline: whether the first category of every column has no number.

    Raises:
        InputError: a numeric column has no bounds, or they are not apart.
    """
    names: list[str] = []
    middle: list[float] = []
    half: list[float] = []
    for name, categories in columns:
        if categories:
            kept = categories[int(baseline) :]
            names += [f"{name}={value}" for value in kept]
            middle += [0.0] * len(kept)
            half += [1.0] * len(kept)
            continue
        low, high = bounds_of(name, bounds)
        names.append(name)
        middle.append((low + high) / 2)
        half.append((high - low) / 2)
    return Scaled(tuple(names), np.array(middle), np.array(half), len(columns))


def bounds_of(name: str, bounds: Bounds) -> tuple[float, float]:
    """Return the bounds of a column.

    Raises:
        InputError: there are none, or they are not apart.
    """
    low, high = bounds.get(name, (0.0, 0.0))
    if name not in bounds or not (np.isfinite([low, high]).all() and high - low > 0):
        raise InputError(
            "noise needs the smallest and the largest value of a numeric column, and they must differ",
            column=name,
            cure=f"Say under `bounds:` what you know without looking at the data: `{name}: [0, 100]`.",
        )
    return low, high


def to_unit(values: F64, bounds: tuple[float, float]) -> F64:
    """Bring (n,) values of one column to -1 … 1 as `Scaled.apply` does."""
    low, high = bounds
    one = Scaled(("",), np.array([(low + high) / 2]), np.array([(high - low) / 2]), 1)
    return one.apply(values[:, None])[:, 0]


def gram(V: F64) -> F64:
    """Return V'V of (n, k) numbers on the grid, exactly, whatever the order in which rows are added."""
    sums = np.zeros((V.shape[1], V.shape[1]))
    for block in blocks(len(V)):
        sums += V[block].T @ V[block]
    return sums


def gram_length(columns: int) -> float:
    """Return how far one row moves the upper triangle of V'V, when it has `columns` numbers of size 1 at most.

    Squares of all v_i v_j with i ≤ j are half of (Σ v²)² + Σ v⁴.
    """
    return float(np.sqrt((columns**2 + columns) / 2))
