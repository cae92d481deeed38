"""Linear regression over sites: least squares and ridge, equal to the pooled ones.

What is revealed: the number of rows; sums, squares and products of all pairs of columns and the label; that is, means,
variances and correlations.  With p columns and at most p rows these would show the rows, so that is refused.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import msgspec
import numpy as np

from atoll.core.errors import InputError
from atoll.core.offload import offload
from atoll.learn.horizontal.inference import INTERCEPT, Coefficients, back, design
from atoll.learn.horizontal.rows import F64, Missing, Rows, agree, blocks, same, settle
from atoll.learn.horizontal.scale import Scale, scale
from atoll.learn.horizontal.solve import pack, system, unpack
from atoll.learn.horizontal.tails import f_tail
from atoll.protocols.secure_sum.totals import Totals

STEP = "linear regression"
REFINE = 2
"""How often residuals are added up to win back the digits that X'X lost."""


class LinearParams(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Parameters of a linear regression.

    Args:
        intercept: whether there is one.
        ridge: penalty α ≥ 0 on the squared coefficients (not on the intercept), as in scikit-learn's `Ridge`.
        missing: `refuse` missing values, or `drop` their rows.
    """

    intercept: bool = True
    ridge: float = 0.0
    missing: Missing = "refuse"

    def __post_init__(self) -> None:
        if not (math.isfinite(self.ridge) and self.ridge >= 0):
            raise InputError(f"parameter ridge is {self.ridge!r}, but must be 0 or more", step=STEP, cure="Change it.")


@dataclass(frozen=True)
class LinearModel:
    """A fitted linear regression; all figures are those of the pooled rows.

    Args:
        coefficients: in the columns' units; without standard errors if there is a ridge penalty.
        rows: rows of all sites.
        df: rows less coefficients.
        rss: sum of squared residuals.
        tss: sum of squares of the label, about its mean if there is an intercept.
    """

    coefficients: Coefficients
    rows: int
    df: int
    rss: float
    tss: float

    @property
    def r_squared(self) -> float:
        """Share of the label's variation that is explained."""
        return 1 - self.rss / self.tss if self.tss else math.nan

    @property
    def sigma(self) -> float:
        """Standard deviation of the residuals."""
        return math.sqrt(self.rss / self.df)

    @property
    def log_likelihood(self) -> float:
        """Log-likelihood at the maximum-likelihood variance; infinite without residuals."""
        if not self.rss:
            return math.inf
        return -self.rows / 2 * (math.log(2 * math.pi * self.rss / self.rows) + 1)

    @property
    def aic(self) -> float:
        """Akaike's criterion, the variance not counted as a parameter (as statsmodels does)."""
        return 2 * (self.rows - self.df) - 2 * self.log_likelihood

    @property
    def f_test(self) -> tuple[float, float]:
        """F and its p value of the hypothesis that all slopes are 0; NaN without residuals."""
        p = len(self.coefficients.slopes)
        if not self.rss:
            return math.nan, math.nan
        f = (self.tss - self.rss) / p / (self.rss / self.df)
        return f, f_tail(f, p, self.df)

    def predict(self, values: F64) -> F64:
        """Return (n,) predictions for (n, p) values."""
        return values @ self.coefficients.slopes + self.coefficients.intercept


async def fit(totals: Totals, X: Rows, y: F64, params: LinearParams) -> LinearModel:
    """Fit a linear regression on the rows of all sites.

    Args:
        totals: the sum over the sites.
        X: this site's columns.
        y: (n,) this site's label.
        params: the parameters, the same at every site.

    Raises:
        InputError: values are missing or infinite, columns overlap, or there are no more rows than coefficients.
    """
    X, y = settle(X, y, params.missing, step=STEP)
    totals, rows = await agree(totals, params, X.names, len(y), step=STEP)
    names = (INTERCEPT, *X.names) if params.intercept else X.names
    k = len(names)
    if rows <= k and not params.ridge:
        raise InputError(f"{rows:,} rows are too few for {k} coefficients", step=STEP, cure="Leave columns out.")
    both = np.column_stack([X.values, y])
    frame = await scale(totals, both, rows, centred=params.intercept, step=STEP)
    A, b = await _products(totals, both, frame, params.intercept)
    penalty = np.zeros(k)
    penalty[k - len(X.names) :] = params.ridge / frame.part(slice(0, -1)).unit ** 2
    solver = system(A + np.diag(penalty), names, step=STEP)
    g = solver.solve(b)
    rss = 0.0
    for _ in range(REFINE):
        pulls, squares = await _residuals(totals, both, frame, params.intercept, g)
        move = solver.solve(pulls - penalty * g)
        rss = squares - 2 * float(move @ pulls) + float(move @ A @ move)
        g = g + move
    return await _model(totals, frame, names, g, max(rss, 0.0), solver.inverse(), rows, params)


async def _products(totals: Totals, both: F64, frame: Scale, intercept: bool) -> tuple[F64, F64]:
    """Add up Z'Z and Z'y of scaled columns."""

    def mine() -> F64:
        k = both.shape[1] + intercept
        sums = np.zeros((k, k))
        for block in blocks(len(both)):
            Z = design(both[block], frame, intercept)
            sums += Z.T @ Z
        return pack(sums)

    flat = await totals.total(await offload(mine), what=f"{STEP}: products")
    sums = unpack(flat, both.shape[1] + intercept)
    return sums[:-1, :-1], sums[:-1, -1]


async def _residuals(totals: Totals, both: F64, frame: Scale, intercept: bool, g: F64) -> tuple[F64, float]:
    """Add up Z'r and r'r of the residuals r = y − Z g."""

    def mine() -> F64:
        sums = np.zeros(g.size + 1)
        for block in blocks(len(both)):
            Z = design(both[block], frame, intercept)
            r = Z[:, -1] - Z[:, :-1] @ g
            sums += np.append(Z[:, :-1].T @ r, r @ r)
        return sums

    sums = await totals.total(await offload(mine), what=f"{STEP}: residuals")
    return sums[:-1], float(sums[-1])


async def _model(
    totals: Totals,
    frame: Scale,
    names: tuple[str, ...],
    g: F64,
    rss: float,
    inverse: F64,
    rows: int,
    params: LinearParams,
) -> LinearModel:
    """Bring the result back into the columns' units."""
    label, df = frame.part(-1 + frame.mean.size), rows - len(names)
    unit = float(label.unit[0])
    T = back(frame.part(slice(0, -1)), params.intercept)
    values = unit * (T @ g)
    if params.intercept:
        values[0] += label.centre[0]
    meaning = math.nan if params.ridge or df <= 0 else rss / max(df, 1)
    covariance = unit * unit * meaning * (T @ inverse @ T.T)
    values, covariance, rest = await same(totals, values, covariance, np.array([rss * unit * unit]), step=STEP)
    tss = rows * float(label.spread[0]) ** 2
    return LinearModel(Coefficients(names, values, covariance, df), rows, df, float(rest[0]), tss)
