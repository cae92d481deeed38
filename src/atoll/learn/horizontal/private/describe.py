"""Counts, means, deviations, quantiles and tables of counts, with noise.

Quantiles are found by bisection of the bounds: in every round each column is cut where the search for each quantile
stands, and the rows between cuts are counted with noise.  One row is in one cell of a column, whatever the number of
quantiles.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from atoll.core.errors import InputError
from atoll.learn.horizontal.private.scaled import Scaled
from atoll.learn.horizontal.rows import F64, I64
from atoll.protocols.secure_sum.noisy import PlannedTotals, Release

ROUNDS = 10
"""Rounds of bisection: a quantile is known to a thousandth of the bounds, if noise lets it."""


@dataclass(frozen=True)
class DescribePlan:
    """What is opened of some columns.

    Args:
        levels: of the quantiles, between 0 and 1.
        moments: values that are there, their sums and sums of squares.
        halves: rows between the cuts of every column, in every round; None without quantiles.
    """

    levels: tuple[float, ...]
    moments: Release
    halves: Release | None

    @property
    def releases(self) -> tuple[Release, ...]:
        """All that is opened."""
        return (self.moments,) if self.halves is None else (self.moments, self.halves)


def plan(columns: int, rho: float, levels: tuple[float, ...] = (0.25, 0.5, 0.75)) -> DescribePlan:
    """Plan for a number of columns, at least 1; half of ρ is for quantiles if there are levels."""
    if not all(0 < level < 1 for level in levels):
        raise InputError("least and largest values are those of single rows", cure="Take levels between 0 and 1.")
    moments = Release(
        what="values, sums and squares of columns",
        numbers=3 * columns,
        length=math.sqrt(3 * columns),
        rho=rho / 2 if levels else rho,
    )
    if not levels:
        return DescribePlan((), moments, None)
    cells = columns * (len(levels) + 1)
    halves = Release(
        what="rows between cuts of columns", numbers=cells, length=math.sqrt(columns), rho=rho / 2, rounds=ROUNDS
    )
    return DescribePlan(tuple(sorted(levels)), moments, halves)


@dataclass(frozen=True)
class Described:
    """Columns of all sites, with noise, in their own units.

    Args:
        count: (p,) values that are there; may be below 0.
        mean: (p,) within the bounds; NaN where the count is below 1.
        sd: (p,) standard deviation; NaN where the count is below 2 or noise makes it impossible.
        quantiles: (p, q) ascending.
        rounding: (p,) by how much a mean is wrong for want of more rows: standard deviation of its noise.
    """

    count: F64
    mean: F64
    sd: F64
    quantiles: F64
    rounding: F64


async def describe(totals: PlannedTotals, planned: DescribePlan, X: F64, scale: Scaled) -> Described:
    """Describe numeric columns of all sites.

    Args:
        totals: noisy totals of the plan.
        planned: what is opened.
        X: (n, p) this site's values, NaN where one is missing.
        scale: of the columns.

    Raises:
        InputError: the plan is for other columns.
    """
    Z = scale.apply(X)
    there = ~np.isnan(Z)
    known = np.where(there, Z, 0.0)
    sums = np.stack([there.sum(axis=0), known.sum(axis=0), (known * known).sum(axis=0)]).astype(np.float64)
    count, first, second = (await totals.total(sums, planned.moments)).reshape(3, -1)
    rows = np.maximum(count, 1.0)
    mean = np.clip(first / rows, -1.0, 1.0)
    variance = (second / rows - mean**2) * rows / np.maximum(rows - 1, 1.0)
    quantiles = await _bisect(totals, planned, Z, count)
    middle, half = scale.middle, scale.half
    return Described(
        count,
        np.where(count >= 1, middle + half * mean, np.nan),
        np.where((count >= 2) & (variance > 0), half * np.sqrt(np.maximum(variance, 0.0)), np.nan),
        middle[:, None] + half[:, None] * quantiles,
        half * totals.sd(planned.moments) / rows,
    )


async def _bisect(totals: PlannedTotals, planned: DescribePlan, Z: F64, count: F64) -> F64:
    """Return quantiles on the scale of -1 … 1, (p, q)."""
    levels, p = np.array(planned.levels), Z.shape[1]
    if planned.halves is None:
        return np.zeros((p, 0))
    low, high = np.full((p, levels.size), -1.0), np.full((p, levels.size), 1.0)
    wanted = levels * np.maximum(count, 0.0)[:, None]
    columns = [np.sort(z[~np.isnan(z)]) for z in Z.T]
    for _ in range(planned.halves.rounds):
        cuts = np.sort((low + high) / 2, axis=1)
        below = [np.searchsorted(z, cut, side="left") for z, cut in zip(columns, cuts, strict=True)]
        ends = [np.diff([0, *one, z.size]) for one, z in zip(below, columns, strict=True)]
        cells = (await totals.total(np.array(ends, np.float64), planned.halves)).reshape(p, -1)
        right = np.cumsum(cells, axis=1)[:, :-1] <= wanted
        low, high = np.where(right, cuts, low), np.where(right, high, cuts)
    return np.sort((low + high) / 2, axis=1)


def table_plan(cells: int, rho: float) -> Release:
    """Plan a table of counts of so many cells; one row is in one of them."""
    return Release(what="rows in the cells of a table", numbers=cells, length=1.0, rho=rho)


async def table(totals: PlannedTotals, release: Release, codes: tuple[I64, ...], sizes: tuple[int, ...]) -> F64:
    """Count the rows in every cell of a table over columns of categories (contingency table).

    Args:
        totals: noisy totals of the plan.
        release: for the product of `sizes` cells.
        codes: for each column (n,) this site's categories, 0 … size - 1, or -1: such rows are in no cell.
        sizes: categories of each column.

    Returns:
        Counts with noise in the shape of `sizes`; they may be below 0.
    """
    keep = np.logical_and.reduce([one >= 0 for one in codes])
    at = np.ravel_multi_index(tuple(one[keep] for one in codes), sizes)
    counts = np.bincount(at, minlength=math.prod(sizes)).astype(np.float64)
    return (await totals.total(counts, release)).reshape(sizes)
