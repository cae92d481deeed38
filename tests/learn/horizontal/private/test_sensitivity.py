"""One row moves a release no further than its plan says, whatever the row and whatever was opened before."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

from atoll.data.columns import Column, Columns
from atoll.learn.horizontal.private import describe, linear, logistic, measure, trees
from atoll.learn.horizontal.private.scaled import scaled
from atoll.learn.horizontal.trees.params import BoostParams
from atoll.protocols.secure_sum.noisy import Release

BOUNDS = {"a": (0.0, 10.0), "b": (-3.0, 3.0), "y": (-5.0, 20.0)}
COLUMNS = (("a", ()), ("b", ()), ("c", ("x", "y", "z")))
SCALE = scaled(COLUMNS, BOUNDS)
LABEL = scaled([("y", ())], BOUNDS)
UGLY = (0.0, 10.0, -3.0, 1e300, -1e300, np.inf, -np.inf, 5e-324)


@dataclass
class Watched:
    """Totals of one site that keep what it hands in, and answer as an earlier run was answered."""

    answers: Sequence[Any] = ()
    given: list[tuple[Release, Any]] = field(default_factory=list)
    site: str = "a"
    sites: tuple[str, ...] = ("a",)

    @property
    def totals(self) -> Watched:
        return self

    def sd(self, release: Release) -> float:
        return release.sd()

    async def total(self, values: Any, release: Release | None = None, *, what: str = "") -> Any:
        if release is None:  # what all know already, made alike
            return values
        flat = np.ravel(values).astype(np.float64)
        self.given.append((release, flat))
        at = len(self.given) - 1
        return self.answers[at] if self.answers else self.answer(at, flat)

    def answer(self, at: int, values: Any) -> Any:
        return values + np.random.default_rng(at).normal(0, 2.0, values.size)


def rows(seed: int, n: int) -> tuple[Any, Any, Any]:
    """Numbers with ugly ones among them, the codes of a category, and labels."""
    random = np.random.default_rng(seed)
    X = random.normal(2, 4, (n, 2))
    X[random.random((n, 2)) < 0.3] = random.choice(UGLY)
    X[-1] = random.choice(UGLY, 2)  # the row that comes and goes
    y = random.normal(3, 9, n)
    y[-1] = random.choice([np.inf, -np.inf, 20.0, 1.0])
    return X, random.integers(0, 3, n), y


def table(X: Any, codes: Any) -> Columns:
    numeric = [Column(name, "numeric", np.ascontiguousarray(X[:, at])) for at, name in enumerate("ab")]
    return Columns((*numeric, Column("c", "categorical", codes.astype(np.int32), ("x", "y", "z"))), len(X))


def matrix(X: Any, codes: Any) -> Any:
    return np.column_stack([X, codes == 1, codes == 2])


def event(y: Any) -> Any:
    return (y > 3).astype(float)


RHO = 0.5
NUMBERS = describe.plan(2, RHO)
PRODUCTS = linear.plan(SCALE, RHO)
STEPS = logistic.plan(SCALE, RHO, steps=4)
BINS = trees.even_bins(COLUMNS, BOUNDS, 5)
KEYS = {"n_estimators": 3, "max_depth": 2, "min_child_weight": 0.5}
LOGISTIC = trees.plan(BINS, BoostParams(**KEYS, colsample_bytree=0.7), RHO)
SQUARED = trees.plan(BINS, BoostParams(**KEYS, objective="squared"), RHO)
AUC, R2, CELLS = measure.auc_plan(RHO), measure.r_squared_plan(RHO), describe.table_plan(9, RHO)

Run = Callable[[Any, Any, Any, Any], Awaitable[Any]]
ALGORITHMS: dict[str, Run] = {
    "describe": lambda t, X, c, y: describe.describe(t, NUMBERS, X, scaled(COLUMNS[:2], BOUNDS)),
    "table": lambda t, X, c, y: describe.table(t, CELLS, (c, np.arange(len(c)) % 4 - 1), (3, 3)),
    "linear": lambda t, X, c, y: linear.fit(t, PRODUCTS, matrix(X, c), y, SCALE, LABEL),
    "logistic": lambda t, X, c, y: logistic.fit(t, STEPS, matrix(X, c), event(y), SCALE),
    "trees": lambda t, X, c, y: trees.boost(t, LOGISTIC, table(X, c), event(y), {}),
    "trees of numbers": lambda t, X, c, y: trees.boost(t, SQUARED, table(X, c), y, {"y": BOUNDS["y"]}),
    "auc": lambda t, X, c, y: measure.auc(t, AUC, np.arange(len(y)) % 17 / 16, event(y)),
    "r squared": lambda t, X, c, y: measure.r_squared(t, R2, X[:, 0], y, BOUNDS["y"]),
}


@pytest.mark.parametrize("name", ALGORITHMS)
@pytest.mark.parametrize("n", [1, 2, 40])
def test_one_row_moves_a_release_no_further_than_planned(name: str, n: int) -> None:
    furthest: dict[Release, float] = {}
    for seed in range(12):
        X, codes, y = rows(100 * n + seed, n)
        run = ALGORITHMS[name]
        whole = Watched()
        asyncio.run(run(whole, X, codes, y))
        less = Watched([whole.answer(at, given) for at, (_, given) in enumerate(whole.given)])
        asyncio.run(run(less, X[:-1], codes[:-1], y[:-1]))
        assert [release for release, _ in whole.given] == [release for release, _ in less.given]  # the same shape
        for (release, one), (_, other) in zip(whole.given, less.given, strict=True):
            assert one.size == release.numbers
            moved = one - other
            assert np.abs(moved).max() <= 1
            assert np.linalg.norm(moved) <= release.length * (1 + 1e-12)
            furthest[release] = max(furthest.get(release, 0), float(np.linalg.norm(moved)) / release.length)
    if n == 40:  # and the bounds are not far too wide
        assert max(furthest.values()) > 0.6


def test_a_plan_costs_what_the_algorithm_was_given() -> None:
    plans = [NUMBERS.releases, (PRODUCTS,), STEPS.releases, LOGISTIC.releases, SQUARED.releases, (AUC,), (R2,)]
    for releases in plans:
        assert sum(release.rho for release in releases) == pytest.approx(RHO, rel=1e-12)
