"""Tail probabilities of the normal, t, χ² and F distributions, and quantiles of normal and t, without SciPy.

Source:
    Press et al., Numerical Recipes, 3rd edition, sections 6.2 and 6.4 (series and continued fractions); logarithms of
    gamma functions by Stirling's series where their difference would lose digits (DiDonato and Morris 1992).
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from atoll.learn.horizontal.rows import F64

_TINY = 1e-300
_STIRLING = (1 / 12, -1 / 360, 1 / 1260, -1 / 1680, 1 / 1188, -691 / 360360)


def normal_two_sided(z: F64) -> F64:
    """Return P(|Z| ≥ |z|) for every z, (…)."""
    tail: F64 = np.vectorize(lambda one: math.erfc(abs(one) / math.sqrt(2)), otypes=[np.float64])(z)
    return tail


def t_two_sided(t: F64, df: float) -> F64:
    """Return P(|T| ≥ |t|) for every t, (…), with df > 0 degrees of freedom."""

    def one(x: float) -> float:
        return math.nan if math.isnan(x) else beta_tail(df / 2, 0.5, df, x * x)

    tail: F64 = np.vectorize(one, otypes=[np.float64])(t)
    return tail


def f_tail(f: float, df1: float, df2: float) -> float:
    """Return P(F ≥ f) with df1 and df2 degrees of freedom, both above 0."""
    return math.nan if math.isnan(f) else beta_tail(df2 / 2, df1 / 2, df2, df1 * f)


def chi2_tail(x: float, df: float) -> float:
    """Return P(χ² ≥ x) with df > 0 degrees of freedom."""
    a, x = df / 2, x / 2
    if math.isnan(x) or x <= 0:
        return math.nan if math.isnan(x) else 1.0
    if math.isinf(x):
        return 0.0
    if x < a + 1:
        term = total = 1 / a
        k = a
        while term > total * 1e-17:
            k += 1
            term *= x / k
            total += term
        return 1.0 - total * _gamma_front(a, x)
    b = x + 1 - a
    c, d = 1 / _TINY, 1 / b
    h, k = d, 0
    while True:
        k += 1
        b += 2
        c, d = b - k * (k - a) / c, 1 / (b - k * (k - a) * d)
        h *= c * d
        if abs(c * d - 1) < 3e-16 or k > 1_000_000:
            return h * _gamma_front(a, x)


def _gamma_front(a: float, x: float) -> float:
    """x^a e^-x / Γ(a)."""
    if a < 20:
        return math.exp(a * math.log(x) - x - math.lgamma(a))
    mu = (x - a) / a
    drop = math.log1p(mu) - mu if abs(mu) < 0.5 else math.log(x / a) - mu
    return math.exp(a * drop - _stirling(a)) * math.sqrt(a / (2 * math.pi))


def _stirling(z: float) -> float:
    """ln Γ(z) − (z − ½) ln z + z − ½ ln 2π, for z of at least 10."""
    return sum(c / z ** (2 * k + 1) for k, c in enumerate(_STIRLING))


def _log_beta(a: float, b: float) -> float:
    """ln B(a, b) without cancellation when one of them is large."""
    a, b = min(a, b), max(a, b)
    if b < 10:
        return math.lgamma(a) + math.lgamma(b) - math.lgamma(a + b)
    ratio = _stirling(b) - _stirling(a + b) - (b - 0.5) * math.log1p(a / b)  # ln Γ(b) − ln Γ(a + b), less two terms
    if a < 10:
        return math.lgamma(a) + ratio - a * math.log(a + b) + a
    half = _stirling(a) + 0.5 * math.log(2 * math.pi) - 0.5 * math.log(a)
    return half + ratio + a * math.log(a / (a + b))


def beta_tail(a: float, b: float, p: float, q: float) -> float:
    """Return the regularised incomplete beta function I_x(a, b) at x = p / (p + q), for p > 0 and q ≥ 0."""
    if q <= 0:
        return 1.0
    if math.isinf(q):
        return 0.0
    front = math.exp(-a * math.log1p(q / p) - b * math.log1p(p / q) - _log_beta(a, b))
    if p / (p + q) < (a + 1) / (a + b + 2):
        return front * _beta_fraction(a, b, p / (p + q)) / a
    return 1.0 - front * _beta_fraction(b, a, q / (p + q)) / b


def _beta_fraction(a: float, b: float, x: float) -> float:
    c, d = 1.0, 1 / _away(1 - (a + b) * x / (a + 1))
    h, m = d, 0
    while True:
        m += 1
        even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        for part in (even, odd):
            d, c = 1 / _away(1 + part * d), _away(1 + part / c)
            h *= c * d
        if abs(c * d - 1) < 3e-16 or m > 1_000_000:
            return h


def _away(x: float) -> float:
    return x if abs(x) > _TINY else _TINY


def normal_quantile(p: float) -> float:
    """Return z with P(|Z| ≤ z) = p, for p in (0, 1)."""
    return _solve(lambda z: math.erfc(z / math.sqrt(2)), 1 - p)


def t_quantile(p: float, df: float) -> float:
    """Return t with P(|T| ≤ t) = p, for p in (0, 1) and df > 0 degrees of freedom."""
    return _solve(lambda t: beta_tail(df / 2, 0.5, df, t * t), 1 - p)


def _solve(tail: Callable[[float], float], wanted: float) -> float:
    """Bisect a falling function on [0, ∞) until neighbouring floats are left."""
    low, high = 0.0, 1.0
    while tail(high) > wanted:
        high *= 2
    while (middle := (low + high) / 2) not in (low, high):
        low, high = (middle, high) if tail(middle) > wanted else (low, middle)
    return high
