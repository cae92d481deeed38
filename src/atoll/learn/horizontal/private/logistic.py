"""Logistic regression from gradients that hold noise, every step as long as a noisy bound on the curvature allows.

The curvature of the log-likelihood is nowhere above a quarter of the products of the columns, so that these, opened
once with noise, do for all steps (Böhning and Lindsay 1988).  Every row's gradient is shorter than its columns are, so
that nothing needs to be cut off.  The last steps are averaged, which takes off part of their noise.

Source: Böhning, Lindsay, Annals of the Institute of Statistical Mathematics 1988 (the bound); Bassily, Smith, Thakurta,
FOCS 2014 (gradients with noise); Polyak, Juditsky 1992 (the average).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from atoll.learn.horizontal.families import logistic
from atoll.learn.horizontal.private.linear import PrivateRegression, penalty_for
from atoll.learn.horizontal.private.scaled import Scaled, gram, gram_length
from atoll.learn.horizontal.rows import F64, same
from atoll.learn.horizontal.solve import pack, unpack
from atoll.protocols.secure_sum.noisy import PlannedTotals, Release

STEP = "logistic regression with noise"
STEPS = 12
"""Steps; each costs the same part of ρ, and the bound brings the last ones close to the best coefficients."""

CURVATURE = 0.25
"""Part of ρ for the curvature."""

FINE = 2.0**16
"""Grid of residuals, so that gradients are added without error."""


@dataclass(frozen=True)
class LogisticPlan:
    """What is opened.

    Args:
        products: of all pairs of columns.
        gradients: of the log-likelihood, in every step.
    """

    products: Release
    gradients: Release

    @property
    def releases(self) -> tuple[Release, ...]:
        """All that is opened."""
        return (self.products, self.gradients)


def plan(scale: Scaled, rho: float, *, intercept: bool = True, steps: int = STEPS) -> LogisticPlan:
    """Plan for columns of a scale."""
    k, columns = len(scale.names) + intercept, scale.columns + intercept
    products = Release(
        what="products of all pairs of columns",
        numbers=k * (k + 1) // 2,
        length=gram_length(columns),
        rho=CURVATURE * rho,
    )
    gradients = Release(
        what="products of the columns with the residuals",
        numbers=k,
        length=math.sqrt(columns),
        rho=(1 - CURVATURE) * rho,
        rounds=steps,
    )
    return LogisticPlan(products, gradients)


async def fit(
    totals: PlannedTotals,
    planned: LogisticPlan,
    X: F64,
    y: F64,
    scale: Scaled,
    *,
    intercept: bool = True,
    ridge: float = 0.0,
) -> PrivateRegression:
    """Fit on the rows of all sites.

    Args:
        totals: noisy totals of the plan.
        planned: of `plan`.
        X: (n, p) this site's values, none missing.
        y: (n,) this site's label, 0 or 1.
        scale: of the columns.
        intercept: whether there is one.
        ridge: half of it times the squared coefficients, in the columns' units, is taken from the log-likelihood.
    """
    Z = np.column_stack([*([np.ones(len(X))] if intercept else []), scale.apply(X)])
    A = unpack(await totals.total(pack(gram(Z)), planned.products), Z.shape[1])
    extra = penalty_for(A, totals.sd(planned.products)) / 4
    extra = max(extra, totals.sd(planned.gradients) / math.sqrt(planned.gradients.rounds))
    own = np.full(len(A), extra)
    own[int(intercept) :] += ridge / scale.half**2
    H = np.linalg.inv(A / 4 + np.diag(own + extra))
    w, kept = np.zeros(len(A)), []
    for _ in range(planned.gradients.rounds):
        r = np.rint((logistic(Z @ w) - y) * FINE) / FINE
        w = w - H @ (await totals.total(Z.T @ r, planned.gradients) + own * w)
        kept.append(w)
    (g,) = await same(totals.totals, np.mean(kept[len(kept) // 2 :], axis=0), step=STEP)
    slopes = g[int(intercept) :] / scale.half
    rows = float(A[0, 0]) if intercept else float("nan")
    constant = float(g[0] - slopes @ scale.middle) if intercept else 0.0
    return PrivateRegression(constant, slopes, rows, extra)
