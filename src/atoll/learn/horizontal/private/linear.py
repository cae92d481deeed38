"""Linear and ridge regression from sums of products that hold noise (sufficient statistics perturbation).

One total of the products of all pairs of columns, label and ones is opened; everything else follows from it.  A ridge
penalty as large as the noise could push the smallest eigenvalue keeps directions in which there is little but noise
from being blown up.  The source measures that eigenvalue with noise of its own; here nobody holds the exact products,
and it is read from the noisy ones.

Source: Wang, "Revisiting differentially private linear regression", UAI 2018, algorithm 2 (AdaSSP).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from atoll.learn.horizontal.private.scaled import Scaled, gram, gram_length
from atoll.learn.horizontal.rows import F64, same
from atoll.learn.horizontal.solve import pack, unpack
from atoll.protocols.secure_sum.noisy import PlannedTotals, Release

STEP = "linear regression with noise"
CHANCE = 0.05
"""Of the smallest eigenvalue being moved further by noise than the penalty allows for."""


@dataclass(frozen=True)
class PrivateRegression:
    """A regression in the columns' units.

    Args:
        intercept: 0 if there is none.
        slopes: (p,).
        rows: of all sites, with noise.
        penalty: the ridge penalty that the noise made necessary, on the scale of -1 … 1.
    """

    intercept: float
    slopes: F64
    rows: float
    penalty: float


def plan(scale: Scaled, rho: float, *, intercept: bool = True) -> Release:
    """Plan the only total."""
    k = len(scale.names) + 1 + intercept
    return Release(
        what="products of all pairs of columns and label",
        numbers=k * (k + 1) // 2,
        length=gram_length(scale.columns + 1 + intercept),
        rho=rho,
    )


async def fit(
    totals: PlannedTotals,
    release: Release,
    X: F64,
    y: F64,
    scale: Scaled,
    label: Scaled,
    *,
    intercept: bool = True,
    ridge: float = 0.0,
) -> PrivateRegression:
    """Fit on the rows of all sites.

    Args:
        totals: noisy totals of the plan.
        release: of `plan`.
        X: (n, p) this site's values, none missing.
        y: (n,) this site's label, none missing.
        scale: of the columns.
        label: of the label, one numeric column.
        intercept: whether there is one.
        ridge: penalty on squared coefficients in the columns' units, as in scikit-learn's `Ridge`.
    """
    V = np.column_stack([*([np.ones(len(X))] if intercept else []), scale.apply(X), label.apply(y[:, None])])
    sums = unpack(await totals.total(pack(gram(V)), release), V.shape[1])
    A, b = sums[:-1, :-1], sums[:-1, -1]
    extra = penalty_for(A, totals.sd(release))
    own = np.zeros(len(A))
    own[int(intercept) :] = ridge / scale.half**2
    solved: F64 = np.linalg.solve(A + np.diag(own + extra), b).astype(np.float64)
    (g,) = await same(totals.totals, solved, step=STEP)
    slopes = float(label.half[0]) * g[int(intercept) :] / scale.half
    constant = float(label.middle[0] + label.half[0] * g[0] - slopes @ scale.middle) if intercept else 0.0
    return PrivateRegression(constant, slopes, float(sums[0, 0]) if intercept else float("nan"), extra)


def penalty_for(A: F64, sd: float) -> float:
    """Return the least addition to the diagonal of a noisy (k, k) matrix that keeps it safely positive."""
    k = len(A)
    reach = sd * float(np.sqrt(k * np.log(2 * k * k / CHANCE)))
    return max(0.0, reach - float(np.linalg.eigvalsh(A)[0]))
