"""Comparing means between groups over sites: t-tests (Student's and Welch's) and analysis of variance.

What is revealed: the groups that enough rows have (see `categories`), and for each of them the number of rows, mean and
variance; the size of the values.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import msgspec
import numpy as np

from atoll.core.errors import InputError
from atoll.data.columns import Column
from atoll.learn.horizontal import tails
from atoll.learn.horizontal.categories import categories, codes
from atoll.learn.horizontal.classes import moments
from atoll.learn.horizontal.rows import F64, Missing, Rows, agree, same, settle
from atoll.protocols.secure_sum.totals import Totals

STEP = "comparison of means"


class MeansParams(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Parameters of a comparison of means.

    Args:
        smallest: fewest rows of a group, at least 2; rows of a smaller one are left out.
        missing: `refuse` missing values, or `drop` their rows; rows without a group are always left out.
    """

    smallest: int = 2
    missing: Missing = "refuse"

    def __post_init__(self) -> None:
        if self.smallest < 2:
            raise InputError("parameter smallest must be 2 or more", step=STEP, cure="Change it.")


class Comparison(NamedTuple):
    """A statistic with its degrees of freedom and p value."""

    statistic: float
    df: tuple[float, ...]
    p_value: float


@dataclass(frozen=True)
class GroupMeans:
    """Groups of rows by number, mean and variance.

    Args:
        groups: (K,) their names.
        count: (K,) rows.
        mean: (K,).
        variance: (K,) with divisor n - 1.
    """

    groups: tuple[str, ...]
    count: F64
    mean: F64
    variance: F64

    def t_test(self, *, equal_variances: bool = False) -> Comparison:
        """Compare two groups, by Welch's test, or by Student's if variances are held to be equal.

        Raises:
            InputError: there are not exactly two groups.
        """
        if len(self.groups) != 2:
            raise InputError(
                f"a t-test compares two groups, there are {len(self.groups)}", step=STEP, cure="Use anova."
            )
        error, df = self._error(equal_variances)
        if error == 0:
            return Comparison(math.nan, (df,), math.nan)
        t = float(self.mean[0] - self.mean[1]) / error
        return Comparison(t, (df,), float(tails.t_two_sided(np.array(t), df)))

    def difference(self, *, equal_variances: bool = False, level: float = 0.95) -> tuple[float, float, float]:
        """Return the first of two means less the second, and the ends of its interval by the same t-test."""
        error, df = self._error(equal_variances)
        off = float(self.mean[0] - self.mean[1])
        away = error * tails.t_quantile(level, df) if error else math.nan
        return off, off - away, off + away

    def _error(self, equal_variances: bool) -> tuple[float, float]:
        """Standard error of the difference of two means, and its degrees of freedom."""
        n, v = self.count, self.variance
        parts = v / n
        if equal_variances:
            df = float(n.sum() - 2)
            return math.sqrt(float(((n - 1) @ v) / df * (1 / n).sum())), df
        error = float(parts.sum())
        return math.sqrt(error), error**2 / float((parts**2 / (n - 1)).sum()) if error else math.nan

    def anova(self) -> Comparison:
        """Compare all groups by one-way analysis of variance.

        Raises:
            InputError: there is one group, or none.
        """
        k, n = len(self.groups), float(self.count.sum())
        if k < 2:
            raise InputError(
                "there are fewer than two groups", step=STEP, cure="Look at `smallest` and at the filters."
            )
        grand = self.mean[0] + float(self.count @ (self.mean - self.mean[0])) / n
        between = float(self.count @ (self.mean - grand) ** 2) / (k - 1)
        within = float((self.count - 1) @ self.variance) / (n - k)
        f = between / within if within else math.nan
        return Comparison(f, (k - 1.0, n - k), tails.f_tail(f, k - 1, n - k))


async def fit(
    totals: Totals, values: F64, group: Column, params: MeansParams, *, known: Sequence[str] | None = None
) -> GroupMeans:
    """Find number, mean and variance of every group over all sites.

    Args:
        totals: the sum over the sites.
        values: (n,) this site's values.
        group: this site's groups, a categorical column of n rows.
        params: the parameters, the same at every site.
        known: all groups, where all sites know them; they are not looked for then.

    Raises:
        InputError: values are missing or infinite, or columns differ in length.
    """
    if len(group.values) != len(values):
        raise InputError(f"{len(values):,} values have {len(group.values):,} groups", step=STEP, column=group.name)
    grouped = np.flatnonzero(group.values >= 0)
    X, code = settle(
        Rows(("values",), values[grouped, None]), group.values[grouped].astype(np.float64), params.missing, step=STEP
    )
    column = Column(group.name, group.kind, code.astype(np.int32), group.categories)
    totals, _ = await agree(totals, params, (group.name,), len(code), step=STEP)
    names, _ = await categories(totals, column, smallest=params.smallest, known=known, step=STEP)
    if not names:
        raise InputError("no group has enough rows", step=STEP, column=group.name, cure="Lower `smallest`.")
    at = codes(column, names)
    kept = X.values[at >= 0]
    rows = int((await totals.total(np.array([float(len(kept))]), what=f"{STEP}: rows with a group"))[0])
    found = await moments(totals, kept, at[at >= 0], len(names), rows, step=STEP)
    variance = found.variance[:, 0] * found.count / (found.count - 1)
    mean, variance = await same(totals, found.mean[:, 0], variance, step=STEP)
    return GroupMeans(names, found.count, mean, variance)
