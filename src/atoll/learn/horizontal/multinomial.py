"""Multinomial logistic regression over sites, by Newton's method; equal to the pooled fit.

What is revealed: the classes and how many rows have each; sums, squares and the size of every column; in each of about
eight rounds the log-likelihood with its gradient and second derivatives, for coefficients that all sites know.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import msgspec
import numpy as np

from atoll.core.errors import InputError
from atoll.core.offload import offload
from atoll.learn.horizontal.classes import classes, one_hot, shares_of
from atoll.learn.horizontal.inference import INTERCEPT, Coefficients, back, design
from atoll.learn.horizontal.newton import Point, descend
from atoll.learn.horizontal.rows import F64, I64, Missing, Rows, agree, blocks, same, settle
from atoll.learn.horizontal.scale import Scale, scale
from atoll.learn.horizontal.solve import pack, system, unpack
from atoll.protocols.secure_sum.totals import Totals

STEP = "multinomial regression"


class MultinomialParams(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Parameters of a multinomial regression.

    Args:
        intercept: whether there is one for every class.
        most: steps before giving up, at least 1.
        missing: `refuse` missing values, or `drop` their rows.
    """

    intercept: bool = True
    most: int = 30
    missing: Missing = "refuse"


@dataclass(frozen=True)
class MultinomialModel:
    """A fitted multinomial regression; log-odds of every class against the first.

    Args:
        classes: (K,) ascending.
        coefficients: class by class from the second on, in the columns' units; names are `CLASS: COLUMN`.
        intercept: whether every class has one.
        rows: rows of all sites.
        log_likelihood: at the coefficients.
    """

    classes: F64
    coefficients: Coefficients
    intercept: bool
    rows: int
    log_likelihood: float

    @property
    def table(self) -> F64:
        """(K - 1, k) coefficients, a class a row, the intercept first if there is one."""
        return self.coefficients.values.reshape(self.classes.size - 1, -1)

    @property
    def aic(self) -> float:
        """Akaike's criterion."""
        return 2 * self.coefficients.values.size - 2 * self.log_likelihood

    def predict(self, values: F64) -> F64:
        """Return (n, K) probabilities for (n, p) values."""
        ones = np.ones((len(values), int(self.intercept)))
        return _probabilities(np.concatenate([ones, values], axis=1), self.table)


async def fit(totals: Totals, X: Rows, y: F64, params: MultinomialParams) -> MultinomialModel:
    """Fit a multinomial regression on the rows of all sites.

    Args:
        totals: the sum over the sites.
        X: this site's columns.
        y: (n,) this site's classes as numbers.
        params: the parameters, the same at every site.

    Raises:
        InputError: values are missing or infinite, columns overlap, there is one class, there are no more rows than
            coefficients, or columns tell the classes exactly.
    """
    X, y = settle(X, y, params.missing, step=STEP)
    totals, rows = await agree(totals, params, X.names, len(y), step=STEP)
    found, codes = await classes(totals, y, step=STEP)
    names = (INTERCEPT, *X.names) if params.intercept else X.names
    k, free = len(names), found.size - 1
    if rows <= k * free:
        raise InputError(f"{rows:,} rows are too few for {k * free} coefficients", step=STEP, cure="Leave columns out.")
    frame = await scale(totals, X.values, rows, centred=params.intercept, step=STEP)
    every = tuple(f"{c:g}: {name}" for c in found[1:] for name in names)

    async def evaluate(g: F64) -> Point:
        sums = await offload(_sums, X.values, codes, frame, params.intercept, g.reshape(free, k))
        flat = await totals.total(sums, what=f"{STEP}: log-likelihood and derivatives")
        return Point(float(flat[0]), flat[1 : 1 + k * free], unpack(flat[1 + k * free :], k * free), np.zeros(0))

    g, point = await descend(evaluate, np.zeros(k * free), every, most=params.most, step=STEP)
    T = np.kron(np.eye(free), back(frame, params.intercept))
    covariance = T @ system(point.hessian, every, step=STEP).inverse() @ T.T
    values, covariance = await same(totals, T @ g, covariance, step=STEP)
    return MultinomialModel(found, Coefficients(every, values, covariance), params.intercept, rows, -point.value)


def _probabilities(Z: F64, table: F64) -> F64:
    """Softmax of 0 and Z table', (n, K)."""
    return shares_of(np.concatenate([np.zeros((len(Z), 1)), Z @ table.T], axis=1))


def _sums(values: F64, codes: I64, frame: Scale, intercept: bool, table: F64) -> F64:
    """Minus log-likelihood, its downhill gradient, and second derivatives, flat."""
    free, k = table.shape
    loss, gradient, hessian = 0.0, np.zeros((free, k)), np.zeros((free, k, free, k))
    for block in blocks(len(values)):
        Z = design(values[block], frame, intercept)
        P = _probabilities(Z, table)
        loss -= float(np.log(np.maximum(P[np.arange(len(Z)), codes[block]], math.ulp(0.0))).sum())
        gradient += (one_hot(codes[block], free + 1) - P)[:, 1:].T @ Z
        for a in range(free):
            for b in range(a + 1):
                w = P[:, a + 1] * ((a == b) - P[:, b + 1])
                hessian[a, :, b] += (Z * w[:, None]).T @ Z
                if a != b:
                    hessian[b, :, a] = hessian[a, :, b]
    return np.concatenate([[loss], gradient.ravel(), pack(hessian.reshape(free * k, free * k))])
