"""Kendall's tau-b over sites, from tables of how often values stand together.

Whether two rows are in the same order in both columns is no sum over sites if they lie at different sites; with a table
of the pooled values it is counted exactly.

Source:
    Kendall, Rank Correlation Methods, 4th edition, chapters 3 (ties), 4 (variance) and 5 (small samples).
"""

from __future__ import annotations

import math

import numpy as np

from atoll.core.errors import InputError, ProtocolError
from atoll.learn.horizontal.order import distinct_each
from atoll.learn.horizontal.rows import F64, I64
from atoll.learn.horizontal.tails import normal_two_sided
from atoll.protocols.secure_sum.totals import Totals

_EXACT_ROWS = 33
"""Up to so many rows, none of them tied, the p value is exact, as SciPy's is."""


async def tau_b(totals: Totals, values: F64, *, most: int, cells: int, step: str) -> tuple[F64, F64]:
    """Correlate the ranks of all pairs of columns.

    Reveals: the distinct values of every column with their counts, and for every pair of columns how many rows have
    each two of them: that is all there is to know of two columns alone.

    Args:
        totals: the sum over the sites.
        values: (n, p) this site's finite values.
        most: how many distinct values of all columns are too many to open.
        cells: how many numbers the tables of all pairs may have.
        step: the model's name.

    Returns:
        (p, p) tau-b and two-sided p values; NaN for constant columns.

    Raises:
        InputError: there are too many distinct values.
        ProtocolError: a site sent counts that are none.
    """
    p = values.shape[1]
    each = await distinct_each(totals, list(values.T), most=most, what=f"{step}: values for ranks")
    codes = [np.searchsorted(found, column) for (found, _), column in zip(each, values.T, strict=True)]
    sizes = [len(found) for found, _ in each]
    pairs = [(i, j) for i in range(p) for j in range(i + 1, p)]
    if (needed := sum(sizes[i] * sizes[j] for i, j in pairs)) > cells:
        raise InputError(
            f"the tables of all pairs of values have {needed:,} cells, more than {cells:,}",
            step=step,
            cure="Round the values, leave columns out, or take Spearman's correlation.",
        )
    mine = [np.bincount(codes[i] * sizes[j] + codes[j], minlength=sizes[i] * sizes[j]) for i, j in pairs]
    flat = np.concatenate([np.zeros(0), *mine])
    flat = await totals.total(flat, what=f"{step}: rows by two values, for all pairs of columns")
    tau, p_values = np.full((2, p, p), math.nan)
    ends = np.cumsum([len(table) for table in mine])[:-1]
    for (i, j), part in zip(pairs, np.split(flat, ends) if pairs else (), strict=True):
        table = part.reshape(sizes[i], sizes[j])
        margins = (table.sum(axis=1) == each[i][1]).all() and (table.sum(axis=0) == each[j][1]).all()
        if not margins or (table < 0).any() or (table != np.rint(table)).any():
            raise ProtocolError(f"a site sent counts that are none for: {step}")
        found = of_table(table.astype(np.int64))
        tau[i, j], p_values[i, j] = tau[j, i], p_values[j, i] = found
    varies = np.array([size > 1 for size in sizes])
    np.fill_diagonal(tau, np.where(varies, 1.0, math.nan))
    np.fill_diagonal(p_values, np.where(varies, 0.0, math.nan))
    return tau, p_values


def of_table(table: I64) -> tuple[float, float]:
    """Return tau-b and its two-sided p value from a table of counts.

    Args:
        table: (K, L) rows by two values, both ascending; no value is without rows.

    Returns:
        NaN twice if a column has one value. The p value is exact without ties up to 33 rows, else of the normal
        distribution with the variance for ties.
    """
    n = int(table.sum())
    pairs, a, b = n * (n - 1) // 2, table.sum(axis=1).tolist(), table.sum(axis=0).tolist()
    tied_a, tied_b = (sum(t * (t - 1) // 2 for t in ties) for ties in (a, b))
    if pairs in (tied_a, tied_b):
        return math.nan, math.nan
    above = np.zeros_like(table)
    above[:-1] = np.cumsum(table[::-1], axis=0)[::-1][1:]  # rows with a larger first value, by second value
    right = np.cumsum(above[:, ::-1], axis=1)[:, ::-1]
    concordant = int((table[:, :-1] * right[:, 1:]).sum())
    together = int((table * (table - 1) // 2).sum())
    discordant = pairs - concordant - tied_a - tied_b + together
    tau = (concordant - discordant) / math.sqrt((pairs - tied_a) * (pairs - tied_b))
    fewer = min(concordant, discordant)
    if not tied_a and not tied_b and (n <= _EXACT_ROWS or fewer <= 1):
        return tau, _exact(n, fewer)
    return tau, _normal(n, a, b, concordant - discordant)


def _normal(n: int, a: list[int], b: list[int], score: int) -> float:
    pairs, twice, thrice, large = n * (n - 1), [0, 0], [0, 0], [0, 0]
    for at, ties in enumerate((a, b)):
        twice[at] = sum(t * (t - 1) for t in ties)
        thrice[at] = sum(t * (t - 1) * (t - 2) for t in ties)
        large[at] = sum(t * (t - 1) * (2 * t + 5) for t in ties)
    variance = (pairs * (2 * n + 5) - sum(large)) / 18 + twice[0] * twice[1] / (2 * pairs)
    if n > 2:
        variance += thrice[0] * thrice[1] / (9 * pairs * (n - 2))
    return float(normal_two_sided(np.array(score / math.sqrt(variance)))) if variance > 0 else 1.0


def _exact(n: int, fewer: int) -> float:
    """Return twice the share of all orders of n rows with at most so many pairs that are discordant, at most 1."""
    ways = [1] + [0] * fewer  # orders by discordant pairs; row k stands before 0 to k - 1 of the earlier ones
    for k in range(2, n + 1):
        sums = np.cumsum(np.array(ways, object))
        ways = [int(sums[at] - (sums[at - k] if at >= k else 0)) for at in range(fewer + 1)]
    return min(1.0, 2 * sum(ways) / math.factorial(n))
