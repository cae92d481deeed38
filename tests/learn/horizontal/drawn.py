"""Drawn tables for tests of horizontal models, dealt to one to five sites."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from atoll.learn.horizontal.rows import Rows
from tests.learn.horizontal.together import split

F64 = NDArray[np.float64]


@dataclass(frozen=True)
class Task:
    """Pooled columns, and which rows are at which site."""

    X: F64
    rows: list[NDArray[np.int64]]
    rng: np.random.Generator

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(f"列{j}" for j in range(self.X.shape[1]))

    def parts(self, y: F64, *rest: object) -> list[tuple[object, ...]]:
        """What each site gives to a model: its rows, its labels, and the same parameters."""
        return [(Rows(self.names, self.X[at]), y[at], *rest) for at in self.rows]

    def tables(self, *rest: object) -> list[tuple[object, ...]]:
        """As `parts`, without a label."""
        return [(Rows(self.names, self.X[at]), *rest) for at in self.rows]


def draw(seed: int, n: int = 0, p: int = 0, *, ugly: bool = True) -> Task:
    """Draw a table: columns of all sizes, off centre, some of them correlated or with few values."""
    rng = np.random.default_rng(seed)
    n, p, sites = n or int(rng.integers(30, 200)), p or int(rng.integers(1, 5)), 1 + seed % 5
    X = rng.standard_normal((n, p))
    X[:, 1:] += 0.7 * X[:, :-1]
    if ugly:
        X[:, 0] = np.round(X[:, 0])
        X = (X + 10.0 ** rng.integers(-3, 4, p)) * 10.0 ** rng.integers(-9, 9, p)
    return Task(X, split(n, sites, rng), rng)


def difference(ours: object, theirs: object) -> float:
    """The largest difference, relative to the larger of each pair's size and 10^-3 of the largest."""
    a, b = np.asarray(ours, np.float64).ravel(), np.asarray(theirs, np.float64).ravel()
    assert a.shape == b.shape
    assert (np.isnan(a) == np.isnan(b)).all()
    known = ~np.isnan(a) & (a != b)
    if not known.any():
        return 0.0
    size = np.maximum(np.abs(b), 1e-3 * np.abs(b[np.isfinite(b)]).max(initial=0.0))
    return float((np.abs(a - b)[known] / size[known]).max())
