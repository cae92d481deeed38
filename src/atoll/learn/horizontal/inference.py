"""Coefficients with their standard errors: what every regression returns."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from atoll.learn.horizontal import tails
from atoll.learn.horizontal.rows import F64
from atoll.learn.horizontal.scale import Scale

INTERCEPT = "(intercept)"


@dataclass(frozen=True)
class Coefficients:
    """Estimates of one regression.

    Args:
        names: (k,) what they stand for; the intercept comes first if there is one.
        values: (k,) estimates, in the columns' units.
        covariance: (k, k) of the estimates; NaN where a penalty leaves it without meaning.
        df: degrees of freedom of the t distribution; infinite where the normal one is meant.
    """

    names: tuple[str, ...]
    values: F64
    covariance: F64
    df: float = float("inf")

    @property
    def standard_errors(self) -> F64:
        """(k,) standard errors."""
        return np.sqrt(np.diagonal(self.covariance))

    @property
    def statistics(self) -> F64:
        """(k,) estimates divided by their standard errors: t, or z."""
        return self.values / self.standard_errors

    @property
    def p_values(self) -> F64:
        """(k,) two-sided."""
        if np.isinf(self.df):
            return tails.normal_two_sided(self.statistics)
        return tails.t_two_sided(self.statistics, self.df)

    def intervals(self, level: float = 0.95) -> F64:
        """(k, 2) confidence intervals at a level in (0, 1)."""
        width = tails.normal_quantile(level) if np.isinf(self.df) else tails.t_quantile(level, self.df)
        half = width * self.standard_errors
        return np.stack([self.values - half, self.values + half], axis=1)

    @property
    def intercept(self) -> float:
        """The intercept; 0 if there is none."""
        return float(self.values[0]) if self.names[:1] == (INTERCEPT,) else 0.0

    @property
    def slopes(self) -> F64:
        """All but the intercept."""
        return self.values[1:] if self.names[:1] == (INTERCEPT,) else self.values


def design(values: F64, scale: Scale, intercept: bool) -> F64:
    """Return scaled columns behind a column of ones, (n, k); without the ones if there is no intercept."""
    Z = scale.apply(values)
    return np.concatenate([np.ones((len(Z), 1)), Z], axis=1) if intercept else Z


def back(scale: Scale, intercept: bool) -> F64:
    """Return the matrix T, (k, k), that brings coefficients of scaled columns into the columns' units: β = T γ."""
    T = np.diag(1 / scale.unit)
    if not intercept:
        return T
    out = np.zeros((len(T) + 1, len(T) + 1))
    out[0, 0], out[0, 1:], out[1:, 1:] = 1.0, -scale.centre / scale.unit, T
    return out
