"""Correlation over sites: Pearson's, Spearman's with exact mid-ranks of the pooled values, and Kendall's tau-b.

What is revealed: for Pearson's, the number of rows, and sums, squares and products of all pairs of columns.  For
Spearman's in addition all distinct values of each column with their counts, though not which stand in one row: the rank
of a value among values that nobody may see is no sum.  For Kendall's the distinct values, and for every pair of columns
how many rows have each two values together; of continuous columns that is every row's two values, though not whose they
are, where the row is, or what stands in its other columns.  Round continuous columns first if that is too much.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import msgspec
import numpy as np

from atoll.core.errors import InputError
from atoll.learn.horizontal.kendall import tau_b
from atoll.learn.horizontal.order import distinct_each
from atoll.learn.horizontal.rows import F64, Missing, Rows, agree, blocks, same, settle
from atoll.learn.horizontal.scale import scale
from atoll.learn.horizontal.solve import pack, unpack
from atoll.learn.horizontal.tails import t_two_sided
from atoll.protocols.secure_sum.totals import Totals

STEP = "correlation"


class CorrelationParams(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Parameters of a correlation.

    Args:
        method: pearson, spearman or kendall.
        most: how many distinct values of all columns are too many to open for Spearman's and Kendall's.
        cells: how many cells the tables of all pairs of columns may have for Kendall's.
        missing: `refuse` missing values, or `drop` their rows.
    """

    method: Literal["pearson", "spearman", "kendall"] = "pearson"
    most: int = 100_000
    cells: int = 1_000_000
    missing: Missing = "refuse"


@dataclass(frozen=True)
class Correlation:
    """Correlations of all pairs of columns.

    Args:
        names: (p,) the columns.
        rows: rows of all sites.
        values: (p, p); NaN for constant columns.
        p_values: (p, p) two-sided, by Student's t with n - 2 degrees of freedom, NaN with fewer than three rows; for
            Kendall's as in `kendall.of_table`.
        inflation: (p,) variance inflation factors; infinite for a column that is a combination of others; NaN for
            Kendall's.
    """

    names: tuple[str, ...]
    rows: int
    values: F64
    p_values: F64
    inflation: F64


async def fit(totals: Totals, X: Rows, params: CorrelationParams) -> Correlation:
    """Correlate the columns of all sites.

    Raises:
        InputError: a value is infinite, or missing and must not be; no site has a row; too many distinct values.
    """
    X, _ = settle(X, None, params.missing, step=STEP)
    totals, rows = await agree(totals, params, X.names, len(X.values), step=STEP)
    if rows < 2:
        raise InputError("all sites together have one row", step=STEP, cure="Look at the filters and at `missing`.")
    values = X.values
    if params.method == "kendall":
        tau, p_values = await tau_b(totals, values, most=params.most, cells=params.cells, step=STEP)
        tau, p_values = await same(totals, tau, p_values, step=STEP)
        return Correlation(X.names, rows, tau, p_values, np.full(len(X.names), np.nan))
    if params.method == "spearman":
        values = await ranks(totals, values, most=params.most)
    frame = await scale(totals, values, rows, step=STEP)
    p = len(X.names)
    sums, off = np.zeros((p, p)), np.zeros(p)
    for block in blocks(len(values)):
        Z = frame.apply(values[block])
        sums, off = sums + Z.T @ Z, off + Z.sum(axis=0)
    flat = await totals.total(np.concatenate([pack(sums), off]), what=f"{STEP}: products")
    sums, off = unpack(flat[:-p], p), flat[-p:]
    sums -= np.outer(off, off) / rows
    size = np.sqrt(np.maximum(np.diagonal(sums), 0.0))
    size = np.where(frame.spread > 0, size, np.nan)
    r = np.clip(sums / np.outer(size, size), -1.0, 1.0)
    np.fill_diagonal(r, np.where(np.isnan(size), np.nan, 1.0))
    agreed = await same(totals, r, step=STEP)
    return Correlation(X.names, rows, agreed[0], _p_values(agreed[0], rows), _inflation(agreed[0]))


async def ranks(totals: Totals, values: F64, *, most: int) -> F64:
    """Return the mid-rank of each of this site's values among those of its column at all sites, (n, p), from 1.

    Reveals: all distinct values of every column with their counts.
    """
    out = np.empty_like(values)
    each = await distinct_each(totals, list(values.T), most=most, what=f"{STEP}: values for ranks")
    for j, (found, counts) in enumerate(each):
        middle = np.cumsum(counts) - (counts - 1) / 2
        out[:, j] = middle[np.searchsorted(found, values[:, j])]
    return out


def _p_values(r: F64, rows: int) -> F64:
    if rows < 3:
        return np.full_like(r, np.nan)
    with np.errstate(divide="ignore"):
        t = r * np.sqrt((rows - 2) / ((1 - r) * (1 + r)))
    return t_two_sided(t, rows - 2)


def _inflation(r: F64) -> F64:
    """The diagonal of the inverse; found column by column, so that a combination shows as such."""
    out = np.full(len(r), np.nan)
    known = np.flatnonzero(~np.isnan(np.diagonal(r)))
    for j in known:
        rest = known[known != j]
        weights, *_ = np.linalg.lstsq(r[np.ix_(rest, rest)], r[rest, j], rcond=1e-12)
        left = 1 - weights @ r[rest, j]
        out[j] = 1 / left if left > 1e-11 else np.inf
    return out
