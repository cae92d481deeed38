"""Distributions and links of generalised linear models, as tables of functions.

Source:
    McCullagh and Nelder, Generalized Linear Models, 2nd edition, chapter 2.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np

from atoll.learn.horizontal.rows import F64, Bool

_EPS = float(np.finfo(np.float64).eps)

_erfc: Callable[[F64], F64] = np.vectorize(math.erfc, otypes=[np.float64])
_lgamma: Callable[[F64], F64] = np.vectorize(math.lgamma, otypes=[np.float64])


class Link(NamedTuple):
    """η = g(μ): a starting η for a μ, the inverse μ(η), its slope dμ/dη, and its curve d²μ/dη²."""

    start: Callable[[F64], F64]
    inverse: Callable[[F64], F64]
    slope: Callable[[F64], F64]
    curve: Callable[[F64], F64]


class Family(NamedTuple):
    """A distribution: what stands in a table of McCullagh and Nelder.

    Args:
        links: links that it can have, the first by default.
        valid: where labels are allowed, and in words.
        variance: V(μ).
        steepness: dV/dμ.
        possible: which μ exist.
        deviance: unit deviance d(y, μ).
        start: first μ for y and the pooled mean of y.
        dispersed: whether the scale is estimated.
        log_likelihood: of y with μ, weight and scale, each (n,) but the scale.
    """

    links: tuple[str, ...]
    valid: tuple[Callable[[F64], Bool], str]
    variance: Callable[[F64], F64]
    steepness: Callable[[F64], F64]
    possible: Callable[[F64], Bool]
    deviance: Callable[[F64, F64], F64]
    start: Callable[[F64, float], F64]
    dispersed: bool
    log_likelihood: Callable[[F64, F64, F64, float], F64]


def _clip(mu: F64) -> F64:
    return np.clip(mu, _EPS, 1 - _EPS)


def logistic(eta: F64) -> F64:
    """Return 1 / (1 + exp(-η)) without overflow."""
    small = np.exp(-np.abs(eta))
    return np.where(eta >= 0, 1.0, small) / (1.0 + small)


def _logit_slope(eta: F64) -> F64:
    small = np.exp(-np.abs(eta))
    return np.maximum(small / (1.0 + small) ** 2, _EPS * (1 - _EPS))


def _normal_density(eta: F64) -> F64:
    return np.asarray(np.maximum(np.exp(-eta * eta / 2) / math.sqrt(2 * math.pi), 1e-150))


def _cloglog_slope(eta: F64) -> F64:
    return np.asarray(np.maximum(np.exp(np.minimum(eta - np.exp(np.minimum(eta, 700.0)), 700.0)), 1e-150))


def _x_log_ratio(x: F64, to: F64) -> F64:
    """x ln(x / to), and 0 at x = 0."""
    return x * np.log(np.where(x > 0, x, to) / to)


LINKS: Mapping[str, Link] = {
    "identity": Link(lambda mu: mu, lambda eta: eta, np.ones_like, np.zeros_like),
    "log": Link(np.log, np.exp, np.exp, np.exp),
    "inverse": Link(lambda mu: 1 / mu, lambda eta: 1 / eta, lambda eta: -1 / eta**2, lambda eta: 2 / eta**3),
    "logit": Link(
        lambda mu: np.log(mu / (1 - mu)),
        lambda eta: _clip(logistic(eta)),
        _logit_slope,
        lambda eta: _logit_slope(eta) * (1 - 2 * logistic(eta)),
    ),
    "probit": Link(
        lambda mu: np.log(mu / (1 - mu)) / 1.7,  # near enough to start from
        lambda eta: _clip(_erfc(-eta / math.sqrt(2)) / 2),
        _normal_density,
        lambda eta: -eta * _normal_density(eta),
    ),
    "cloglog": Link(
        lambda mu: np.log(-np.log1p(-mu)),
        lambda eta: _clip(-np.expm1(-np.exp(np.minimum(eta, 700.0)))),
        _cloglog_slope,
        lambda eta: _cloglog_slope(eta) * (1 - np.exp(np.minimum(eta, 700.0))),
    ),
}


def _everywhere(mu: F64) -> Bool:
    return np.isfinite(mu)


def _above_zero(mu: F64) -> Bool:
    return np.isfinite(mu) & (mu > 0)


def _gaussian_log_likelihood(y: F64, mu: F64, w: F64, scale: float) -> F64:
    return -(w * (y - mu) ** 2 / scale + np.log(2 * np.pi * scale / w)) / 2


def _gamma_log_likelihood(y: F64, mu: F64, w: F64, scale: float) -> F64:
    a = w / scale
    return a * np.log(a * y / mu) - a * y / mu - _lgamma(a) - np.log(y)


FAMILIES: Mapping[str, Family] = {
    "gaussian": Family(
        ("identity",),
        (np.isfinite, "finite"),
        np.ones_like,
        np.zeros_like,
        _everywhere,
        lambda y, mu: (y - mu) ** 2,
        lambda y, mean: (y + mean) / 2,
        True,
        _gaussian_log_likelihood,
    ),
    "binomial": Family(
        ("logit", "probit", "cloglog"),
        (lambda y: (y >= 0) & (y <= 1), "between 0 and 1"),
        lambda mu: mu * (1 - mu),
        lambda mu: 1 - 2 * mu,
        _everywhere,
        lambda y, mu: 2 * (_x_log_ratio(y, mu) + _x_log_ratio(1 - y, 1 - mu)),
        lambda y, mean: (y + 0.5) / 2,
        False,
        lambda y, mu, w, scale: w * (y * np.log(mu) + (1 - y) * np.log1p(-mu)),
    ),
    "poisson": Family(
        ("log", "identity"),
        (lambda y: y >= 0, "0 or more"),
        lambda mu: mu,
        np.ones_like,
        _above_zero,
        lambda y, mu: 2 * (_x_log_ratio(y, mu) - (y - mu)),
        lambda y, mean: (y + mean) / 2,
        False,
        lambda y, mu, w, scale: w * (y * np.log(mu) - mu - _lgamma(y + 1)),
    ),
    "gamma": Family(
        ("inverse", "log"),
        (lambda y: y > 0, "above 0"),
        lambda mu: mu * mu,
        lambda mu: 2 * mu,
        _above_zero,
        lambda y, mu: 2 * ((y - mu) / mu - np.log(y / mu)),
        lambda y, mean: (y + mean) / 2,
        True,
        _gamma_log_likelihood,
    ),
}
