"""Descriptive statistics over sites: counts, moments, extremes, quantiles, histograms.

What is revealed: for every column the number of values and of missing ones, and what is asked for: sums of powers about
the mean, and for quantiles and extremes what `order` says.  Least and largest values are those of single people.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import msgspec
import numpy as np

from atoll.core.errors import InputError
from atoll.learn.horizontal.order import extremes, quantiles
from atoll.learn.horizontal.rows import F64, I64, Bool, Rows, agree, blocks, check_sizes, same
from atoll.learn.horizontal.scale import scale
from atoll.protocols.secure_sum.totals import Totals

STEP = "describe"


class DescribeParams(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is described.

    Args:
        quantiles: levels between 0 and 1; least and largest values are levels 0 and 1.
        shape: whether skewness and kurtosis are found.
    """

    quantiles: tuple[float, ...] = (0.0, 0.25, 0.5, 0.75, 1.0)
    shape: bool = True

    def __post_init__(self) -> None:
        if not all(0 <= level <= 1 for level in self.quantiles):
            raise InputError("a quantile's level lies outside 0 to 1", step=STEP, cure="Change `quantiles`.")


@dataclass(frozen=True)
class Description:
    """Columns of all sites in figures, (p,) each; missing values are left out column by column.

    Args:
        names: the columns.
        count: values that are there.
        missing: values that are not.
        mean: arithmetic mean.
        variance: with divisor n - 1; NaN for fewer than two values.
        skewness: m3 / m2^(3/2), biased as SciPy's default; NaN if not asked for, and for constant columns.
        kurtosis: m4 / m2² - 3, likewise.
        quantiles: (p, q) at the levels asked for, linear between neighbours.
    """

    names: tuple[str, ...]
    count: I64
    missing: I64
    mean: F64
    variance: F64
    skewness: F64
    kurtosis: F64
    quantiles: F64


async def fit(totals: Totals, X: Rows, params: DescribeParams) -> Description:
    """Describe the columns of all sites.

    Raises:
        InputError: a value is infinite, or no site has a row.
    """
    for name, column in zip(X.names, X.values.T, strict=True):
        check_sizes(name, column, step=STEP)
    totals, rows = await agree(totals, params, X.names, len(X.values), step=STEP)
    there = ~np.isnan(X.values)
    count = await totals.total(there.sum(axis=0).astype(np.float64), what=f"{STEP}: values that are there")
    frame = await scale(totals, X.values, np.maximum(count, 1.0), step=STEP)
    empty = count == 0
    mean = np.where(empty, np.nan, frame.mean)
    variance = np.where(count > 1, frame.spread**2 * count / np.maximum(count - 1, 1), np.nan)
    third, fourth = np.full((2, len(X.names)), np.nan)
    if params.shape:
        third, fourth = await _shape(totals, (X.values - frame.mean) / frame.unit, count, frame.spread == 0)
    columns = [column[known] for column, known in zip(X.values.T, there.T, strict=True)]
    levels = np.zeros((len(columns), 0))
    if params.quantiles and columns:
        levels = await quantiles(totals, columns, params.quantiles, what=f"{STEP}: quantiles")
    mean, variance, third, fourth = await same(totals, mean, variance, third, fourth, step=STEP)
    whole = count.astype(np.int64)
    return Description(X.names, whole, rows - whole, mean, variance, third, fourth, levels)


async def _shape(totals: Totals, z: F64, count: F64, flat: Bool) -> tuple[F64, F64]:
    powers = np.zeros((3, z.shape[1]))
    for block in blocks(len(z)):
        known = np.nan_to_num(z[block])
        powers += np.stack([(known**k).sum(axis=0) for k in (2, 3, 4)])
    powers = (await totals.total(powers.ravel(), what=f"{STEP}: third and fourth powers")).reshape(powers.shape)
    m2, m3, m4 = np.where(flat, np.nan, powers / np.maximum(count, 1.0))
    return m3 / m2**1.5, m4 / m2**2 - 3


async def histogram(
    totals: Totals, values: F64, *, bins: int = 10, edges: Sequence[float] | None = None
) -> tuple[I64, F64]:
    """Count values by interval, as `numpy.histogram` does.

    Reveals: the counts; without edges also the least and the largest value (see `order.extremes`).

    Args:
        totals: the sum over the sites.
        values: (n,) this site's values; NaN is left out.
        bins: number of equally wide intervals, at least 1; used without edges.
        edges: ascending edges of the intervals; values outside are not counted.

    Returns:
        (k,) counts and (k + 1,) edges.

    Raises:
        InputError: there are no bins or edges, edges fall, or no site has a value.
    """
    known = values[~np.isnan(values)]
    cuts = np.asarray(edges if edges is not None else (), np.float64)
    if (edges is None and bins < 1) or (edges is not None and (cuts.size < 2 or (np.diff(cuts) < 0).any())):
        raise InputError("a histogram needs a bin, or ascending edges", step=STEP, cure="Change `bins` or `edges`.")
    if edges is None:
        low, high = await extremes(totals, [known], what=f"{STEP}: ends of the histogram")
        if np.isnan(low[0]):
            raise InputError("no site has a value", step=STEP, cure="Look at the filters.")
        cuts = np.histogram_bin_edges(np.array([low[0], high[0]]), bins)
    counts = np.histogram(known, cuts)[0].astype(np.float64)
    return (await totals.total(counts, what=f"{STEP}: histogram")).astype(np.int64), cuts
