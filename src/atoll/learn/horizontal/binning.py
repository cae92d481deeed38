"""Bins of numeric columns over sites, by quantiles or of equal width, with weight of evidence and information value.

What is revealed: the cuts, and on the way what `order` says of quantiles or extremes; for weight of evidence the number
of rows of each label in every bin.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import msgspec
import numpy as np

from atoll.core.errors import InputError
from atoll.learn.horizontal.order import extremes, quantiles
from atoll.learn.horizontal.rows import F64, I64, Rows, agree, check_sizes
from atoll.protocols.secure_sum.totals import Totals

STEP = "binning"


class BinningParams(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Parameters of binning.

    Args:
        method: quantile, or width for bins of equal width.
        bins: how many at most, at least 2.
        pseudo: rows added to both labels of every bin that lacks one of them, above 0, so that its weight is finite.
    """

    method: Literal["quantile", "width"] = "quantile"
    bins: int = 10
    pseudo: float = 0.5

    def __post_init__(self) -> None:
        if self.bins < 2 or not self.pseudo > 0:
            raise InputError("bins must be 2 or more, and pseudo above 0", step=STEP, cure="Change them.")


@dataclass(frozen=True)
class ColumnCuts:
    """Bins of one column.

    Args:
        name: the column's name.
        cuts: (b - 1,) ascending; a value equal to a cut lies right of it.
    """

    name: str
    cuts: F64

    @property
    def bins(self) -> int:
        """Bins of values that are there; missing ones have one more."""
        return self.cuts.size + 1

    def code(self, values: F64) -> I64:
        """Return the bin of every value, (n,): 0 to b - 1, and b where it is missing."""
        return np.where(np.isnan(values), self.bins, np.searchsorted(self.cuts, values, side="right"))


async def fit(totals: Totals, X: Rows, params: BinningParams) -> tuple[ColumnCuts, ...]:
    """Find bins of every column over all sites; missing values are left out.

    Args:
        totals: the sum over the sites.
        X: this site's columns.
        params: the parameters, the same at every site.

    Returns:
        Cuts of every column: with `quantile` the distinct quantiles at even levels (linear between neighbours), with
        `width` even steps; none where a column has one value or none.

    Raises:
        InputError: a value is infinite, or no site has a row.
    """
    for name, column in zip(X.names, X.values.T, strict=True):
        check_sizes(name, column, step=STEP)
    totals, _ = await agree(totals, params, X.names, len(X.values), step=STEP)
    known = [column[~np.isnan(column)] for column in X.values.T]
    ends = np.stack(await extremes(totals, known, what=f"{STEP}: ends"), axis=1)
    levels = np.arange(1, params.bins) / params.bins
    if params.method == "quantile":
        inner = await quantiles(totals, known, levels.tolist(), what=f"{STEP}: quantiles")
    else:
        inner = ends[:, :1] + (ends[:, 1:] - ends[:, :1]) * levels
    found = []
    for name, cuts, (low, high) in zip(X.names, inner, ends, strict=True):
        kept = np.unique(cuts[(cuts > low) & (cuts <= high)])  # every bin begins above the least value
        found.append(ColumnCuts(name, kept))
    return tuple(found)


@dataclass(frozen=True)
class Evidence:
    """How bins of one column part two labels.

    Args:
        positive: (b,) rows with label 1.
        negative: (b,) rows with label 0.
        weight: (b,) ln of the bin's share of label 1 over its share of label 0; 0 in a bin without rows.
    """

    positive: I64
    negative: I64
    weight: F64

    @property
    def information(self) -> float:
        """Information value: the weights, averaged over the difference of both shares."""
        share = self.positive / self.positive.sum() - self.negative / self.negative.sum()
        return float(share @ self.weight)


async def evidence(totals: Totals, codes: I64, bins: int, y: F64, params: BinningParams, *, column: str) -> Evidence:
    """Find weight of evidence and information value of bins or categories over all sites.

    Reveals: the number of rows of each label in every bin.

    Args:
        totals: the sum over the sites.
        codes: (n,) this site's bins, 0 to bins - 1.
        bins: number of bins, with the one of missing values if it counts.
        y: (n,) this site's label, 0 or 1.
        params: the parameters, the same at every site.
        column: the column's name.

    Raises:
        InputError: a label is neither 0 nor 1, a bin is out of range, or there is one label only.
    """
    if not np.isin(y, (0, 1)).all() or (codes < 0).any() or (codes >= bins).any():
        cure = "Code labels as 0 and 1, and use the fitted bins."
        raise InputError("a label is neither 0 nor 1, or a bin is out of range", step=STEP, column=column, cure=cure)
    counts = np.bincount(codes + bins * y.astype(np.int64), minlength=2 * bins).astype(np.float64)
    negative, positive = (await totals.total(counts, what=f"{STEP}: labels by bin of {column}")).reshape(2, bins)
    if not (positive.any() and negative.any()):
        raise InputError("all rows of all sites have one label", step=STEP, column=column, cure="Look at the label.")
    lone = ((positive == 0) | (negative == 0)) * params.pseudo
    share = (positive + lone) / positive.sum(), (negative + lone) / negative.sum()
    weight = np.where(positive + negative > 0, np.log(share[0] / share[1]), 0.0)
    return Evidence(positive.astype(np.int64), negative.astype(np.int64), weight)
