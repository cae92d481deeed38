"""Generalised linear models over sites, by Newton's method from a first weighted least-squares step; as pooled ones.

What is revealed: the number of rows; sums, squares and the size of every column; the mean of the label; in each of
about six rounds X'WX, X'W times the working residual, the deviance and Pearson's χ², for coefficients that all sites
know; at the end the expected X'WX, the log-likelihood, and the deviance of the mean.  With p columns and at most p rows
these would show the rows, so that is refused.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import msgspec
import numpy as np

from atoll.core.errors import InputError
from atoll.core.offload import offload
from atoll.learn.horizontal.families import FAMILIES, LINKS, Family, Link
from atoll.learn.horizontal.inference import INTERCEPT, Coefficients, back, design
from atoll.learn.horizontal.newton import Point, descend
from atoll.learn.horizontal.rows import F64, LARGEST, Missing, Rows, agree, blocks, same, settle
from atoll.learn.horizontal.scale import Scale, scale
from atoll.learn.horizontal.solve import pack, system, unpack
from atoll.protocols.secure_sum.totals import Totals

STEP = "generalised linear model"


class GlmParams(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Parameters of a generalised linear model.

    Args:
        family: gaussian, binomial, poisson or gamma.
        link: logit, probit or cloglog (binomial); log, identity or inverse; the family's usual one if left out.
        intercept: whether there is one.
        ridge: penalty α ≥ 0: α/2 times the squared coefficients (not the intercept) is taken from the log-likelihood
            at scale 1; 1 / C of scikit-learn's `LogisticRegression`.
        most: steps before giving up, at least 1.
        missing: `refuse` missing values, or `drop` their rows.
    """

    family: Literal["gaussian", "binomial", "poisson", "gamma"] = "binomial"
    link: Literal["", "identity", "log", "inverse", "logit", "probit", "cloglog"] = ""
    intercept: bool = True
    ridge: float = 0.0
    most: int = 30
    missing: Missing = "refuse"

    def __post_init__(self) -> None:
        known = FAMILIES[self.family].links
        if self.link and self.link not in known:
            raise InputError(f"{self.family} has no link {self.link!r}", step=STEP, cure=f"Take {' or '.join(known)}.")
        if not (math.isfinite(self.ridge) and self.ridge >= 0):
            raise InputError(f"parameter ridge is {self.ridge!r}, but must be 0 or more", step=STEP, cure="Change it.")
        if self.most < 1:
            raise InputError(f"parameter most is {self.most!r}, but must be 1 or more", step=STEP, cure="Change it.")

    @property
    def parts(self) -> tuple[Family, Link]:
        """The family's and the link's functions."""
        family = FAMILIES[self.family]
        return family, LINKS[self.link or family.links[0]]


@dataclass(frozen=True)
class GlmModel:
    """A fitted generalised linear model; all figures are those of the pooled rows.

    Args:
        params: what was asked for.
        coefficients: in the columns' units, with z statistics; without standard errors if there is a ridge penalty.
        rows: rows of all sites.
        df: rows less coefficients.
        deviance: twice the log-likelihood that is missing to a perfect fit, at scale 1.
        null_deviance: that of the mean alone; NaN with offsets.
        pearson: Pearson's χ².
        scale: dispersion, 1 for binomial and poisson; Pearson's χ² / df for the others.
        log_likelihood: at that scale; for gaussian at the maximum-likelihood variance.
    """

    params: GlmParams
    coefficients: Coefficients
    rows: int
    df: int
    deviance: float
    null_deviance: float
    pearson: float
    scale: float
    log_likelihood: float

    @property
    def aic(self) -> float:
        """Akaike's criterion; as in statsmodels, the scale is not counted as a parameter."""
        return 2 * (self.rows - self.df) - 2 * self.log_likelihood

    def predict(self, values: F64, offset: F64 | None = None) -> F64:
        """Return (n,) means for (n, p) values and (n,) offsets."""
        eta = values @ self.coefficients.slopes + self.coefficients.intercept
        return self.params.parts[1].inverse(eta if offset is None else eta + offset)


@dataclass(frozen=True)
class _Data:
    """One site's rows in the model's form: values, label, offset, weight, and how values are scaled."""

    values: F64
    y: F64
    offset: F64
    weight: F64
    frame: Scale
    rows: int
    params: GlmParams

    def columns(self, block: slice) -> F64:
        return design(self.values[block], self.frame, self.params.intercept)


async def fit(
    totals: Totals, X: Rows, y: F64, params: GlmParams, *, offset: F64 | None = None, weights: F64 | None = None
) -> GlmModel:
    """Fit a generalised linear model on the rows of all sites.

    Args:
        totals: the sum over the sites.
        X: this site's columns.
        y: (n,) this site's label: 0 and 1 or shares (binomial), counts (poisson), or values above 0 (gamma).
        params: the parameters, the same at every site.
        offset: (n,) what is added to every row's linear predictor; at all sites or at none.
        weights: (n,) above 0, by which every row's variance is divided (shares: their number of trials).

    Raises:
        InputError: values are missing, infinite or not of the family; columns overlap; there are no more rows than
            coefficients; or a column separates the classes, so that no best coefficients exist.
    """
    n = len(X.values)
    extra = [np.zeros(n) if offset is None else offset, np.ones(n) if weights is None else weights]
    both, y = settle(_beside(X, extra), y, params.missing, step=STEP)
    X, extra = Rows(X.names, both.values[:, :-2]), [both.values[:, -2], both.values[:, -1]]
    _check_label(params, y, extra[1])
    totals, rows = await agree(totals, params, X.names, len(y), step=STEP)
    names = (INTERCEPT, *X.names) if params.intercept else X.names
    if rows <= len(names) and not params.ridge:
        cure = "Leave columns out."
        raise InputError(f"{rows:,} rows are too few for {len(names)} coefficients", step=STEP, cure=cure)
    frame = await scale(totals, X.values, rows, centred=params.intercept, step=STEP)
    data = _Data(X.values, y, extra[0], extra[1], frame, rows, params)
    mean = await _mean(totals, data)
    start = await _first(totals, data, mean, names)
    g, point = await descend(lambda g: _evaluate(totals, data, g), start, names, most=params.most, step=STEP)
    return await _model(totals, data, names, g, point, mean, with_offset=offset is not None)


def _beside(X: Rows, extra: list[F64]) -> Rows:
    return Rows((*X.names, "(offset)", "(weight)"), np.column_stack([X.values, *extra]))


def _check_label(params: GlmParams, y: F64, weight: F64) -> None:
    allowed, words = params.parts[0].valid
    if not allowed(y).all():
        cure = "Take another family, or code the label anew."
        raise InputError(f"a {params.family} label must be {words}", step=STEP, column="label", cure=cure)
    if not (weight > 0).all():
        cure = "Leave rows of weight 0 out."
        raise InputError("every weight must be above 0", step=STEP, column="(weight)", cure=cure)
    size = np.abs(y).max(initial=1.0)
    if size > 2.0**40 or (params.family == "gamma" and y.min(initial=1.0) < 2.0**-30):
        cure = "Take another unit for it."
        raise InputError("the label is too large or too small", step=STEP, column="label", cure=cure)


async def _mean(totals: Totals, data: _Data) -> float:
    """The weighted mean of the label."""
    sums = np.array([data.weight @ data.y, data.weight.sum()])
    total, weight = (await totals.total(sums, what=f"{STEP}: mean of the label")).tolist()
    return float(total / weight)


Sums = Callable[[slice, F64], tuple[F64, F64, F64]]


async def _add(totals: Totals, data: _Data, k: int, per_block: Sums) -> Point:
    """Add up Z'WZ, Z'u and further sums, out of per-row weights W, pulls u, and sums of each block of rows."""
    mine = await offload(_local, data, k, per_block)
    flat = await totals.total(mine, what=f"{STEP}: weighted products and deviance")
    A, b = unpack(flat[: -3 - k], k), flat[-3 - k : -3]
    return Point(math.inf if flat[-1] else float(flat[-3]), b, A, flat[-3:-1])


def _local(data: _Data, k: int, per_block: Sums) -> F64:
    """This site's part of `_add`, flat; zeros and a one at the end where it cannot be computed."""
    A, b, rest, bad = np.zeros((k, k)), np.zeros(k), np.zeros(2), False
    for block in blocks(len(data.y)):
        Z = data.columns(block)
        w, u, more = per_block(block, Z)
        bad = bad or not (np.isfinite(w).all() and np.isfinite(u).all() and np.isfinite(more).all())
        with np.errstate(all="ignore"):
            A, b, rest = A + (Z * w[:, None]).T @ Z, b + Z.T @ u, rest + more
    flat = np.concatenate([pack(A), b, rest])
    bad = bad or not np.isfinite(flat).all() or bool(np.abs(flat).max() >= LARGEST)
    return np.append(np.zeros_like(flat) if bad else flat, float(bad))


async def _first(totals: Totals, data: _Data, mean: float, names: tuple[str, ...]) -> F64:
    """One weighted least-squares step from means near the labels themselves."""
    family, link = data.params.parts

    def per_block(block: slice, Z: F64) -> tuple[F64, F64, F64]:
        with np.errstate(all="ignore"):  # labels without a mean are noticed, and refused
            eta = link.start(family.start(data.y[block], mean))
            mu, slope = link.inverse(eta), link.slope(eta)
            w = data.weight[block] * slope * slope / family.variance(mu)
            return w, w * (eta - data.offset[block] + (data.y[block] - mu) / slope), np.zeros(2)

    point = await _add(totals, data, len(names), per_block)
    if not math.isfinite(point.value):
        raise InputError("the labels give no means to start from", step=STEP, column="label", cure="Take another link.")
    penalised = point.hessian + np.diag(_penalty(data, len(names)))
    return system(penalised, names, step=STEP).solve(point.gradient)


def _penalty(data: _Data, k: int) -> F64:
    out = np.zeros(k)
    out[k - data.frame.unit.size :] = data.params.ridge / data.frame.unit**2
    return out


async def _evaluate(totals: Totals, data: _Data, g: F64) -> Point:
    """Add up deviance, gradient, observed information and Pearson's χ² at coefficients g of the scaled columns."""
    family, link = data.params.parts

    def per_block(block: slice, Z: F64) -> tuple[F64, F64, F64]:
        y, prior = data.y[block], data.weight[block]
        with np.errstate(all="ignore"):  # impossible means are noticed, and the step is halved
            eta = Z @ g + data.offset[block]
            mu, slope = link.inverse(eta), link.slope(eta)
            v = family.variance(mu)
            sums = np.array([prior @ family.deviance(y, mu), prior @ ((y - mu) ** 2 / v)])
            if not family.possible(mu).all():
                sums[:] = math.nan
            bend = link.curve(eta) / v - slope * slope * family.steepness(mu) / (v * v)
            observed = np.maximum(slope * slope / v - (y - mu) * bend, 0.0)
            return prior * observed, prior * slope / v * (y - mu), sums

    point = await _add(totals, data, g.size, per_block)
    penalty = _penalty(data, g.size)
    value = point.value + float(penalty @ (g * g))
    return Point(value, point.gradient - penalty * g, point.hessian + np.diag(penalty), point.rest)


async def _model(
    totals: Totals, data: _Data, names: tuple[str, ...], g: F64, point: Point, mean: float, *, with_offset: bool
) -> GlmModel:
    family, link = data.params.parts
    deviance, pearson = point.rest.tolist()
    rows, df = data.rows, data.rows - len(names)
    dispersion = pearson / df if family.dispersed else 1.0
    at = deviance / rows if data.params.family == "gaussian" else dispersion

    def per_block(block: slice, Z: F64) -> tuple[F64, F64, F64]:
        y, prior = data.y[block], data.weight[block]
        eta = Z @ g + data.offset[block]
        mu = link.inverse(eta)
        sums = [family.log_likelihood(y, mu, prior, at).sum(), prior @ family.deviance(y, np.full(y.size, mean))]
        return prior * link.slope(eta) ** 2 / family.variance(mu), np.zeros(y.size), np.array(sums)

    last = await _add(totals, data, g.size, per_block)
    log_likelihood, null = last.rest.tolist()
    T = back(data.frame, data.params.intercept)
    expected = last.hessian + np.diag(_penalty(data, g.size))
    covariance = dispersion * (T @ system(expected, names, step=STEP).inverse() @ T.T)
    if data.params.ridge:
        covariance = np.full_like(covariance, math.nan)
    values, covariance = await same(totals, T @ g, covariance, step=STEP)
    null = math.nan if with_offset else null
    coefficients = Coefficients(names, values, covariance)
    return GlmModel(data.params, coefficients, rows, df, deviance, null, pearson, dispersion, log_likelihood)
