"""Linear discriminant analysis over sites; equal to scikit-learn's (`solver="lsqr"`) on pooled rows.

What is revealed: the classes, how many rows have each, and the means of their columns; sums and products of pairs of
columns about the class means; the size of values.
"""

from __future__ import annotations

from dataclasses import dataclass

import msgspec
import numpy as np

from atoll.core.errors import InputError
from atoll.learn.horizontal.classes import classes, moments, shares_of
from atoll.learn.horizontal.rows import F64, Missing, Rows, agree, blocks, same, settle
from atoll.learn.horizontal.solve import pack, system, unpack
from atoll.protocols.secure_sum.totals import Totals

STEP = "discriminant analysis"


class DiscriminantParams(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Parameters of linear discriminant analysis.

    Args:
        missing: `refuse` missing values, or `drop` their rows.
    """

    missing: Missing = "refuse"


@dataclass(frozen=True)
class DiscriminantModel:
    """A fitted linear discriminant analysis.

    Args:
        classes: (K,) ascending.
        priors: (K,) shares of the rows.
        means: (K, p).
        covariance: (p, p) within classes, with divisor n.
        weights: (K, p) of the linear scores.
        intercepts: (K,).
    """

    classes: F64
    priors: F64
    means: F64
    covariance: F64
    weights: F64
    intercepts: F64

    def predict(self, values: F64) -> F64:
        """Return (n, K) probabilities for (n, p) values."""
        return shares_of(values @ self.weights.T + self.intercepts)


async def fit(totals: Totals, X: Rows, y: F64, params: DiscriminantParams) -> DiscriminantModel:
    """Fit linear discriminant analysis on the rows of all sites.

    Args:
        totals: the sum over the sites.
        X: this site's columns.
        y: (n,) this site's classes as numbers.
        params: the parameters, the same at every site.

    Raises:
        InputError: values are missing or infinite, columns overlap, there is one class, or there are too few rows.
    """
    X, y = settle(X, y, params.missing, step=STEP)
    totals, rows = await agree(totals, params, X.names, len(y), step=STEP)
    found, codes = await classes(totals, y, step=STEP)
    if rows <= len(X.names) + found.size:
        raise InputError(f"{rows:,} rows are too few", step=STEP, cure="Leave columns out.")
    by_class = await moments(totals, X.values, codes, found.size, rows, step=STEP)
    within = np.sqrt(by_class.count @ by_class.variance / rows)
    unit = np.where(within > 0, within, 1.0)
    p = len(X.names)
    sums = np.zeros((p, p))
    for block in blocks(len(y)):
        d = (X.values[block] - by_class.mean[codes[block]]) / unit
        sums += d.T @ d
    sums = unpack(await totals.total(pack(sums), what=f"{STEP}: products within classes"), p) / rows
    solver, priors = system(sums, X.names, step=STEP), by_class.count / rows
    means = by_class.mean / unit  # the scores are found about their centre, where they lose no digits
    centre = priors @ means
    scaled = np.array([solver.solve(mean - centre) for mean in means])
    constant = np.log(priors) - np.einsum("kp,kp->k", scaled, means + centre) / 2
    covariance, weights = sums * np.outer(unit, unit), scaled / unit
    return DiscriminantModel(found, priors, *await _agreed(totals, by_class.mean, covariance, weights, constant))


async def _agreed(totals: Totals, *arrays: F64) -> tuple[F64, F64, F64, F64]:
    mean, covariance, weights, constant = await same(totals, *arrays, step=STEP)
    return mean, covariance, weights, constant
