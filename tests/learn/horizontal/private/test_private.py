"""With hardly any noise the results are those of pooled rows; with real noise they stay as near as planned."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from sklearn.linear_model import LinearRegression, LogisticRegression, Ridge
from sklearn.metrics import r2_score, roc_auc_score
from statsmodels.datasets import fair

from atoll.core.errors import InputError
from atoll.data.columns import Column, Columns
from atoll.learn.horizontal.private import describe, linear, logistic, measure, trees
from atoll.learn.horizontal.private.scaled import scaled
from atoll.learn.horizontal.trees.params import BoostParams
from atoll.privacy.accountant import rho_of
from atoll.protocols.secure_sum.noisy import PlannedTotals, Release
from tests.learn.horizontal.together import together

BOUNDS = {"rate_marriage": (1, 5), "age": (15, 45), "yrs_married": (0, 25), "children": (0, 6), "religious": (1, 4)}
NAMES = tuple(BOUNDS)
SCALE = scaled([(name, ()) for name in NAMES], BOUNDS)
HARDLY, REAL = 1e5, rho_of(3.0, 1e-6)


def women() -> tuple[Any, Any]:
    """6,366 women of a real survey: five answers, and whether they had an affair."""
    data = fair.load_pandas().data
    return data[list(NAMES)].to_numpy(float), (data.affairs > 0).to_numpy(float)


def everywhere(run: Any, releases: Sequence[Release], *arrays: Any) -> Any:
    """Run at three sites with noise of two counted on; all get the same."""
    parts = list(zip(*(np.array_split(array, [500, 2600]) for array in arrays), strict=True))

    async def site(totals: Any, *mine: Any) -> Any:
        return await run(PlannedTotals(totals, releases, 2), *mine)

    found = together(site, parts)
    assert all(repr(one) == repr(found[0]) for one in found)
    return found[0]


@pytest.mark.parametrize(("rho", "off"), [(HARDLY, 0.003), (REAL, 0.02)])
def test_figures_of_columns_are_those_of_all_rows(rho: float, off: float) -> None:
    X, _ = women()
    X[::11, 1] = np.nan
    planned = describe.plan(len(NAMES), rho)
    found = everywhere(lambda t, x: describe.describe(t, planned, x, SCALE), planned.releases, X)
    known = [column[~np.isnan(column)] for column in X.T]
    assert np.abs(found.count - [len(one) for one in known]).max() <= (120 if rho < 10 else 0.1)
    for at, column in enumerate(known):
        width = 2 * SCALE.half[at]
        assert found.mean[at] == pytest.approx(column.mean(), abs=off * width)
        assert found.sd[at] == pytest.approx(column.std(ddof=1), abs=2 * off * width)
        for level, value in zip(planned.levels, found.quantiles[at], strict=True):  # a value that splits the rows so
            below, upto = (column < value - off * width).mean(), (column <= value + off * width).mean()
            assert below - 0.01 <= level <= upto + 0.01
    assert (found.rounding <= 0.01 * 2 * SCALE.half).all()


def test_a_table_counts_rows_of_known_categories() -> None:
    X, y = women()
    codes = X[:, 3].astype(int)
    codes[::7] = -1
    release = describe.table_plan(14, REAL)
    kids = [0, 1, 2, 3, 4, 5, 5.5]
    at = np.array([kids.index(min(kids, key=lambda k, v=v: abs(k - v))) for v in X[:, 3]])
    at[::7] = -1
    found = everywhere(lambda t, a, b: describe.table(t, release, (a, b), (7, 2)), (release,), at, y.astype(int))
    true = np.array([[((at == k) & (y == e)).sum() for e in (0, 1)] for k in range(7)])
    assert np.abs(found - true).max() < 7 * release.sd(3, 2)
    assert (found != true).any()


def test_linear_and_ridge_regressions_are_those_of_all_rows_but_for_noise() -> None:
    X, _ = women()
    use, y = [0, 1, 3, 4], X[:, 2]
    scale, label = scaled([(NAMES[j], ()) for j in use], BOUNDS), scaled([("yrs_married", ())], BOUNDS)
    for ridge, intercept in ((0.0, True), (300.0, True), (0.0, False)):
        release = linear.plan(scale, HARDLY, intercept=intercept)
        keys = {"intercept": intercept, "ridge": ridge}
        found = everywhere(
            lambda t, x, v, r=release, k=keys: linear.fit(t, r, x, v, scale, label, **k), (release,), X[:, use], y
        )
        if intercept:
            theirs: Any = Ridge(ridge).fit(X[:, use], y) if ridge else LinearRegression().fit(X[:, use], y)
            np.testing.assert_allclose(found.slopes, theirs.coef_, rtol=5e-3, atol=2e-3)
            assert found.intercept == pytest.approx(theirs.intercept_, abs=0.05)
            assert found.penalty == 0
    release = linear.plan(scale, REAL)
    found = everywhere(lambda t, x, v: linear.fit(t, release, x, v, scale, label), (release,), X[:, use], y)
    exact = LinearRegression().fit(X[:, use], y).score(X[:, use], y)
    assert exact - r2_score(y, X[:, use] @ found.slopes + found.intercept) < 0.03
    assert abs(found.rows - len(y)) < 200


def test_logistic_regression_is_that_of_all_rows_but_for_noise() -> None:
    X, y = women()
    planned = logistic.plan(SCALE, HARDLY, steps=60)
    found = everywhere(lambda t, x, v: logistic.fit(t, planned, x, v, SCALE), planned.releases, X, y)
    theirs = LogisticRegression(C=np.inf, solver="newton-cholesky", tol=1e-10).fit(X, y)
    np.testing.assert_allclose(found.slopes, theirs.coef_[0], rtol=0.02, atol=5e-3)
    planned = logistic.plan(SCALE, REAL)
    found = everywhere(lambda t, x, v: logistic.fit(t, planned, x, v, SCALE), planned.releases, X, y)
    assert roc_auc_score(y, theirs.decision_function(X)) - roc_auc_score(y, X @ found.slopes) < 0.02


def columns(X: Any) -> Columns:
    return Columns(
        tuple(Column(name, "numeric", np.ascontiguousarray(X[:, j])) for j, name in enumerate(NAMES)), len(X)
    )


def test_trees_order_rows_nearly_as_well_as_without_noise() -> None:
    X, y = women()
    keys: dict[str, Any] = {"n_estimators": 8, "max_depth": 2, "colsample_bytree": 0.5}
    scores = []
    for rho in (HARDLY, REAL):
        planned = trees.plan(trees.even_bins(tuple((n, ()) for n in NAMES), BOUNDS, 12), BoostParams(**keys), rho)
        model = everywhere(lambda t, x, v, p=planned: trees.boost(t, p, columns(x), v, {}), planned.releases, X, y)
        scores.append(roc_auc_score(y, model.predict(columns(X))))
    assert scores[0] > 0.74
    assert scores[0] - scores[1] < 0.03
    planned = trees.plan(
        trees.even_bins(tuple((n, ()) for n in NAMES), BOUNDS, 12), BoostParams(**keys, objective="squared"), HARDLY
    )
    label = {"age": (15.0, 45.0)}
    model = everywhere(lambda t, x, v: trees.boost(t, planned, columns(x), v, label), planned.releases, X, X[:, 1])
    assert r2_score(X[:, 1], model.predict(columns(X))) > 0.7


def test_how_good_a_model_is_comes_out_within_its_noise() -> None:
    X, y = women()
    theirs = LogisticRegression(max_iter=500).fit(X, y)
    score = theirs.predict_proba(X)[:, 1]
    release = measure.auc_plan(REAL / 5)
    found = everywhere(lambda t, s, v: measure.auc(t, release, s, v), (release,), score, y)
    assert abs(found["AUC"] - roc_auc_score(y, score)) < 6 * found["noise of the AUC"] + 0.01
    assert 0 < found["noise of the AUC"] < 0.02
    line = LinearRegression().fit(X[:, :2], X[:, 2]).predict(X[:, :2])
    squares = measure.r_squared_plan(REAL / 5)
    out = everywhere(lambda t, s, v: measure.r_squared(t, squares, s, v, (0, 25)), (squares,), line, X[:, 2])
    assert out["R²"] == pytest.approx(r2_score(X[:, 2], line), abs=0.05)


def test_few_rows_end_in_a_result_and_not_in_an_error() -> None:
    """An error that depends on rows would tell about them without noise."""
    for n in (0, 1, 3):
        X, y = women()[0][:n], women()[1][:n]
        planned, steps = describe.plan(len(NAMES), REAL), logistic.plan(SCALE, REAL)
        everywhere(lambda t, x, p=planned: describe.describe(t, p, x, SCALE), planned.releases, X)
        everywhere(lambda t, x, v, p=steps: logistic.fit(t, p, x, v, SCALE), steps.releases, X, y)
        grown = trees.plan(
            trees.even_bins(tuple((n, ()) for n in NAMES), BOUNDS, 4), BoostParams(n_estimators=2, max_depth=2), REAL
        )
        everywhere(lambda t, x, v, p=grown: trees.boost(t, p, columns(x), v, {}), grown.releases, X, y)
        release = measure.auc_plan(REAL)
        everywhere(lambda t, s, v, r=release: measure.auc(t, r, s, v), (release,), X[:, 0] / 9, y)


def test_what_is_not_planned_is_not_opened() -> None:
    release, other = describe.table_plan(4, REAL), describe.table_plan(5, REAL)

    async def twice(totals: PlannedTotals, values: Any) -> None:
        await totals.total(np.zeros(4), release)
        await totals.total(np.zeros(4), release)

    with pytest.raises(InputError, match="made for 1 totals"):
        everywhere(twice, (release,), np.zeros(3000))
    with pytest.raises(InputError, match="not planned"):
        everywhere(lambda t, v: t.total(np.zeros(5), other), (release,), np.zeros(3000))
    with pytest.raises(InputError, match="two releases of a plan are the same"):
        everywhere(lambda t, v: t.total(np.zeros(4), release), (release, release), np.zeros(3000))
    for wrong in ({"a": (1.0, 1.0)}, {}, {"a": (0.0, float("inf"))}):
        with pytest.raises(InputError, match="smallest and the largest value"):
            scaled([("a", ())], wrong)
    with pytest.raises(InputError, match="look at all rows"):
        trees.plan((), BoostParams(subsample=0.5), REAL)
    with pytest.raises(InputError, match="single rows"):
        describe.plan(1, REAL, (0.0, 0.5))
