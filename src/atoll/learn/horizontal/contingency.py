"""Two-way tables over sites, with the χ² test of independence, Fisher's exact test, and odds ratios.

What is revealed: the categories that enough rows have (see `categories`) and the table of counts; cells may be small.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import msgspec
import numpy as np

from atoll.core.errors import InputError, ProtocolError
from atoll.data.columns import Column
from atoll.learn.horizontal import exact, tails
from atoll.learn.horizontal.categories import categories, codes
from atoll.learn.horizontal.rows import F64, I64, agree
from atoll.protocols.secure_sum.totals import Totals

STEP = "contingency table"


class ContingencyParams(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Parameters of a two-way table.

    Args:
        smallest: fewest rows of a category; rows of a rarer one are left out.
        yates: whether χ² of a 2 × 2 table is corrected for continuity.
    """

    smallest: int = 3
    yates: bool = True

    def __post_init__(self) -> None:
        if self.smallest < 1:
            raise InputError("parameter smallest must be 1 or more", step=STEP, cure="Change it.")


@dataclass(frozen=True)
class Contingency:
    """A two-way table; rows with a missing or a rare category are left out.

    Args:
        rows: (R,) categories of the first column.
        columns: (C,) categories of the second.
        counts: (R, C).
        left_out: rows of all sites that are not in the table.
        yates: whether χ² is corrected for continuity if R = C = 2.
    """

    rows: tuple[str, ...]
    columns: tuple[str, ...]
    counts: I64
    left_out: int
    yates: bool

    @property
    def expected(self) -> F64:
        """(R, C) counts if both columns were independent."""
        expected: F64 = np.outer(self.counts.sum(axis=1), self.counts.sum(axis=0)) / max(self.counts.sum(), 1)
        return expected

    @property
    def df(self) -> int:
        """Degrees of freedom."""
        return (len(self.rows) - 1) * (len(self.columns) - 1)

    @property
    def chi2(self) -> float:
        """Pearson's χ²; 0 without degrees of freedom."""
        away = np.abs(self.counts - self.expected)
        if self.df == 1 and self.yates:
            away = away - np.minimum(0.5, away)
        return float((away**2 / self.expected).sum()) if self.df else 0.0

    @property
    def p_value(self) -> float:
        """Probability of so large a χ² if both columns were independent."""
        return tails.chi2_tail(self.chi2, self.df) if self.df else 1.0

    @property
    def cramers_v(self) -> float:
        """Strength of association, 0 to 1, from the uncorrected χ²."""
        plain = replace(self, yates=False).chi2
        return float(np.sqrt(plain / self.counts.sum() / (min(self.counts.shape) - 1))) if self.df else 0.0

    @property
    def odds_ratio(self) -> float:
        """Odds of the first column among the first row's, over those of the second row; NaN unless 2 × 2."""
        if self.counts.shape != (2, 2):
            return math.nan
        a, b, c, d = self.counts.ravel().tolist()
        if 0 in (b * c, a * d):
            return math.nan if b * c == a * d else (math.inf if a * d else 0.0)
        return float(a * d / (b * c))

    def odds_interval(self, level: float = 0.95) -> tuple[float, float]:
        """Return the interval of the odds ratio, normal on its logarithm (Woolf 1955); NaN where a cell is empty."""
        if self.counts.shape != (2, 2) or not self.counts.all():
            return math.nan, math.nan
        away = tails.normal_quantile(level) * math.sqrt(float((1 / self.counts).sum()))
        return self.odds_ratio * math.exp(-away), self.odds_ratio * math.exp(away)

    def fisher(self) -> float:
        """Return the two-sided p value of Fisher's exact test.

        Raises:
            InputError: the table is too large for it; see `exact`.
        """
        return exact.fisher(self.counts)


async def fit(
    totals: Totals,
    first: Column,
    second: Column,
    params: ContingencyParams,
    *,
    known: tuple[Sequence[str] | None, Sequence[str] | None] = (None, None),
) -> Contingency:
    """Count rows of all sites by two categorical columns.

    Args:
        totals: the sum over the sites.
        first: this site's first column.
        second: this site's second column, row by row beside it.
        params: the parameters, the same at every site.
        known: all categories of either column, where all sites know them; they are not looked for then.

    Raises:
        InputError: the columns differ in length or are not categorical.
        ProtocolError: a site sent counts that are none.
    """
    if len(first.values) != len(second.values):
        raise InputError("it has another number of rows than the first column", step=STEP, column=second.name)
    totals, n = await agree(totals, params, (first.name, second.name), len(first.values), step=STEP)
    both = (first.values >= 0) & (second.values >= 0)
    kept = [column.take(np.flatnonzero(both)) for column in (first, second)]
    names = [
        (await categories(totals, column, smallest=params.smallest, known=every, step=STEP))[0]
        for column, every in zip(kept, known, strict=True)
    ]
    a, b = (codes(column, every) for column, every in zip(kept, names, strict=True))
    shape = (len(names[0]), len(names[1]))
    inside = (a >= 0) & (b >= 0)
    counts = np.bincount(a[inside] * shape[1] + b[inside], minlength=shape[0] * shape[1])
    total = await totals.total(counts.astype(np.float64), what=f"{STEP}: counts")
    if (total < 0).any() or (total != np.rint(total)).any():
        raise ProtocolError(f"a site sent counts that are none for: {STEP}")
    return _without_empty(names[0], names[1], total.astype(np.int64).reshape(shape), n, params.yates)


def _without_empty(rows: tuple[str, ...], columns: tuple[str, ...], counts: I64, n: int, yates: bool) -> Contingency:
    """Leave out categories whose rows were all of a rare category in the other column."""
    keep = [np.flatnonzero(counts.sum(axis=1)), np.flatnonzero(counts.sum(axis=0))]
    names = [tuple(known[i] for i in at) for known, at in zip((rows, columns), keep, strict=True)]
    return Contingency(names[0], names[1], counts[np.ix_(*keep)], n - int(counts.sum()), yates)
