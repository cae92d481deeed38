"""Naive Bayes over sites: Gaussian, Bernoulli and multinomial; equal to scikit-learn's on pooled rows.

What is revealed: the classes and how many rows have each; by class and column counts and sums, for Gaussian also sums
of squares and the size of values.  A class with one row shows that row: leave rare classes out before.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import msgspec
import numpy as np

from atoll.core.errors import InputError
from atoll.learn.horizontal.classes import classes, moments, one_hot, shares_of
from atoll.learn.horizontal.rows import F64, Missing, Rows, agree, blocks, same, settle
from atoll.learn.horizontal.scale import scale
from atoll.protocols.secure_sum.totals import Totals

STEP = "naive Bayes"


class BayesParams(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Parameters of naive Bayes.

    Args:
        kind: gaussian; bernoulli (a value above 0 counts as 1); or multinomial (values are counts, 0 or more).
        alpha: pseudo-counts added to bernoulli and multinomial, above 0.
        smoothing: gaussian: share of the largest variance of a column that is added to all variances, 0 or more.
        missing: `refuse` missing values, or `drop` their rows.
    """

    kind: Literal["gaussian", "bernoulli", "multinomial"] = "gaussian"
    alpha: float = 1.0
    smoothing: float = 1e-9
    missing: Missing = "refuse"

    def __post_init__(self) -> None:
        if not (math.isfinite(self.alpha) and self.alpha > 0 and self.smoothing >= 0):
            cure = "Change them."
            raise InputError("alpha must be above 0 and smoothing at least 0", step=STEP, cure=cure)


@dataclass(frozen=True)
class BayesModel:
    """A fitted naive Bayes classifier.

    Args:
        kind: as in the parameters.
        classes: (K,) ascending.
        count: (K,) rows of every class.
        first: (K, p) means (gaussian), or logarithms of probabilities.
        second: (K, p) variances (gaussian), logarithms of one less the probability (bernoulli), or zeros.
    """

    kind: str
    classes: F64
    count: F64
    first: F64
    second: F64

    def joint(self, values: F64) -> F64:
        """Return (n, K) logarithms of joint probabilities, up to a constant of each row, for (n, p) values."""
        prior: F64 = np.log(self.count / self.count.sum())
        if self.kind == "multinomial":
            return np.asarray(prior + values @ self.first.T)
        if self.kind == "bernoulli":
            there = (values > 0).astype(np.float64)
            return np.asarray(prior + there @ self.first.T + (1 - there) @ self.second.T)
        away = ((values[:, None] - self.first) ** 2 / self.second).sum(axis=2)
        return np.asarray(prior - (away + np.log(2 * np.pi * self.second).sum(axis=1)) / 2)

    def predict(self, values: F64) -> F64:
        """Return (n, K) probabilities for (n, p) values."""
        return shares_of(self.joint(values))


async def fit(totals: Totals, X: Rows, y: F64, params: BayesParams) -> BayesModel:
    """Fit naive Bayes on the rows of all sites.

    Args:
        totals: the sum over the sites.
        X: this site's columns.
        y: (n,) this site's classes as numbers.
        params: the parameters, the same at every site.

    Raises:
        InputError: values are missing, infinite, or negative in multinomial; or there is one class.
    """
    X, y = settle(X, y, params.missing, step=STEP)
    if params.kind == "multinomial":
        for name, column in zip(X.names, X.values.T, strict=True):
            if column.min(initial=0.0) < 0:
                cure = "Take counts, or gaussian."
                raise InputError("multinomial values must be 0 or more", step=STEP, column=name, cure=cure)
    totals, rows = await agree(totals, params, X.names, len(y), step=STEP)
    found, codes = await classes(totals, y, step=STEP)
    if params.kind == "gaussian":
        by_class = await moments(totals, X.values, codes, found.size, rows, step=STEP)
        spread = (await scale(totals, X.values, rows, step=STEP)).spread
        variance = by_class.variance + params.smoothing * float((spread**2).max(initial=0.0))
        for name, least in zip(X.names, variance.min(axis=0), strict=True):
            if not least > 0:
                cure = "Leave it out, or raise `smoothing`."
                raise InputError("it is constant within a class", step=STEP, column=name, cure=cure)
        mean, variance = await same(totals, by_class.mean, variance, step=STEP)
        return BayesModel(params.kind, found, by_class.count, mean, variance)
    values = (X.values > 0).astype(np.float64) if params.kind == "bernoulli" else X.values
    count, sums = await _sums(totals, values, one_hot(codes, found.size))
    if params.kind == "bernoulli":
        size = np.log(count + 2 * params.alpha)[:, None]
        first, second = np.log(sums + params.alpha) - size, np.log((count[:, None] - sums) + params.alpha) - size
    else:
        smooth = sums + params.alpha
        first, second = np.log(smooth) - np.log(smooth.sum(axis=1, keepdims=True)), np.zeros_like(sums)
    first, second = await same(totals, first, second, step=STEP)
    return BayesModel(params.kind, found, count, first, second)


async def _sums(totals: Totals, values: F64, groups: F64) -> tuple[F64, F64]:
    """Rows by class (K,), and sums by class and column (K, p)."""
    k, p = groups.shape[1], values.shape[1]
    sums = np.zeros((k, p))
    for block in blocks(len(values)):
        sums += groups[block].T @ values[block]
    flat = await totals.total(np.concatenate([groups.sum(axis=0), sums.ravel()]), what=f"{STEP}: sums by class")
    return flat[:k], flat[k:].reshape(k, p)
