"""Every kind of model in one job: kept under its name, and predicting as the same model of pooled rows does."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, get_args

import numpy as np
import pytest
import xgboost
from sklearn.decomposition import PCA
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.ensemble import RandomForestRegressor
from sklearn.linear_model import GammaRegressor, LinearRegression, LogisticRegression, PoissonRegressor
from sklearn.naive_bayes import GaussianNB
from sklearn.svm import LinearSVC
from sklearn.tree import DecisionTreeRegressor
from statsmodels.duration.api import PHReg

import atoll
from atoll.core.errors import InputError
from atoll.node.kept import Kept, load_model
from atoll.node.models import AnyModel, Kind
from tests.node.branches import NUMBERS, SPLITS, document, frames, label

FEATURES = ("instalment_rate", "housing")
TREE_FEATURES = ("months", "instalment_rate")
BOOSTED = {"kind": "boosted-trees", "n_estimators": 3, "max_depth": 2, "min_child_weight": 2, "max_bin": 2000}
FOREST = {"kind": "forest", "max_depth": 3, "features": "all", "max_bin": 2000}
COX = {"kind": "cox", "event": "bad", "unit": 36}

MODELS: dict[str, dict[str, Any]] = {
    "linear": {"model": {"kind": "linear"}, "label": "amount"},
    "logistic": {"model": {"kind": "logistic"}},
    "poisson": {"model": {"kind": "poisson"}, "label": "months"},
    "gamma": {"model": {"kind": "gamma"}, "label": "amount"},
    "multinomial": {"model": {"kind": "multinomial"}},
    "svm": {"model": {"kind": "svm"}, "columns": ("instalment_rate", "checking")},
    "discriminant": {"model": {"kind": "discriminant"}, "label": "checking"},
    "bayes": {"model": {"kind": "naive-bayes"}, "columns": TREE_FEATURES, "label": "checking"},
    "kmeans": {"model": {"kind": "kmeans", "clusters": 3}},
    "pca": {"model": {"kind": "pca", "components": 2}},
    "cox": {"model": COX, "label": "months"},
    "strata": {"model": {**COX, "strata": "half"}, "label": "months"},
    "sites": {"model": {**COX, "unit": 1, "by_site": True, "ties": "breslow"}, "label": "months"},
    "event": {"model": BOOSTED, "columns": TREE_FEATURES},
    "number": {"model": {**BOOSTED, "objective": "squared"}, "columns": TREE_FEATURES, "label": "amount"},
    "tree": {
        "model": {**FOREST, "n_estimators": 1, "bootstrap": False}, "columns": TREE_FEATURES, "label": "amount",
    },
    "network": {"model": {"kind": "network", "hidden": (4,), "rounds": 2}},  # compared in test_network_jobs.py
    "forest": {"model": {**FOREST, "n_estimators": 40}, "columns": TREE_FEATURES, "label": "amount"},
}  # fmt: skip


def rows() -> dict[str, dict[str, Any]]:
    """The branches' loans, with a column of strata."""
    parts = frames()
    for part in parts.values():
        part["half"] = ["odd" if amount % 2 else "even" for amount in part["amount"]]
    return parts


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Any:
    steps = [{"step": "fit", "name": name, "columns": FEATURES, **model} for name, model in MODELS.items()]
    job = document(*steps)
    for part in job["sites"].values():
        part["columns"] = [*NUMBERS, "housing", "checking", "half"]
    return atoll.simulate(rows(), job, out=tmp_path_factory.mktemp("models"))


def kept(run: Any, name: str) -> Kept:
    return load_model(run.stores["south"].path(f"model-{name}.json"))


def numbers(name: str) -> Any:
    return label(frames(), name)


def matrix(name: str = "housing", *, baseline: bool = True) -> Any:
    """What models see: the number, and 0 and 1 for categories."""
    text = np.concatenate([part[name] for part in frames().values()])
    levels = np.unique(text)[int(baseline) :]
    return np.column_stack([numbers("instalment_rate"), *((text == level).astype(float) for level in levels)])


def trees() -> Any:
    return np.column_stack([numbers(name) for name in TREE_FEATURES])


def checking() -> Any:
    return np.concatenate([part["checking"] for part in frames().values()])


def cox(unit: int, **options: Any) -> Any:
    months = np.ceil(numbers("months") / unit) * unit
    fit = PHReg(months, matrix(), status=numbers("bad"), **options).fit(disp=False, tol=1e-12, maxiter=100)
    return matrix() @ fit.params


def boosted(objective: str, y: Any) -> Any:
    booster = xgboost.XGBRegressor if objective == "reg:squarederror" else xgboost.XGBClassifier
    options = {"n_estimators": 3, "max_depth": 2, "min_child_weight": 2, "learning_rate": 0.3, "tree_method": "exact"}
    fit = booster(objective=objective, base_score=float(y.mean()), **options).fit(trees(), y)
    return fit.predict(trees()) if objective == "reg:squarederror" else fit.predict_proba(trees())[:, 1]


def classes(fit: Any, X: Any, y: Any) -> Any:
    return fit.fit(X, y).predict_proba(X)


SITES = np.repeat([0, 1, 2], [450, 350, 200])
LOGISTIC = {"C": np.inf, "solver": "newton-cholesky", "tol": 1e-12}

ORACLES: dict[str, tuple[float, Callable[[], Any]]] = {
    "linear": (1e-9, lambda: LinearRegression().fit(matrix(), numbers("amount")).predict(matrix())),
    "logistic": (1e-6, lambda: classes(LogisticRegression(**LOGISTIC), matrix(), numbers("bad"))[:, 1]),
    "poisson": (1e-6, lambda: _glm(PoissonRegressor, "months")),
    "gamma": (1e-6, lambda: _glm(GammaRegressor, "amount")),
    "multinomial": (1e-6, lambda: classes(LogisticRegression(**LOGISTIC), matrix(), numbers("bad"))),
    "svm": (0, lambda: _svm().predict(matrix("checking"))),
    "discriminant": (1e-8, lambda: classes(LinearDiscriminantAnalysis(solver="lsqr"), matrix(), checking())),
    "bayes": (1e-8, lambda: classes(GaussianNB(), trees(), checking())),
    "cox": (1e-6, lambda: cox(36, ties="efron")),
    "strata": (1e-6, lambda: cox(36, ties="efron", strata=numbers("amount") % 2)),
    "sites": (1e-6, lambda: cox(1, ties="breslow", strata=SITES)),
    "event": (1e-5, lambda: boosted("binary:logistic", numbers("bad"))),
    "number": (1e-5, lambda: boosted("reg:squarederror", numbers("amount"))),
    "tree": (1e-6, lambda: _tree().predict(trees())),
}
"""By model the relative tolerance, and what a well-known library predicts for all rows."""


def _glm(kind: Any, name: str) -> Any:
    return kind(alpha=0, solver="newton-cholesky", tol=1e-12).fit(matrix(), numbers(name)).predict(matrix())


def _svm() -> Any:
    return LinearSVC(dual=False, tol=1e-12).fit(matrix("checking"), numbers("bad"))


def _tree() -> Any:
    return DecisionTreeRegressor(max_depth=3, min_samples_leaf=10).fit(trees(), numbers("amount"))


@pytest.mark.parametrize("name", ORACLES)
def test_a_model_predicts_as_that_of_pooled_rows(run: Any, name: str) -> None:
    tolerance, oracle = ORACLES[name]
    found = kept(run, name).predict(frames()["west"])
    theirs = oracle()[SPLITS["west"]]
    assert len(np.unique(theirs)) > 1
    np.testing.assert_allclose(found, theirs, rtol=tolerance, atol=tolerance * np.abs(theirs).max())


def test_support_vectors_have_the_weights_of_pooled_rows(run: Any) -> None:
    model, theirs = kept(run, "svm"), _svm()
    at = [model.terms.index(term) for term in ("instalment_rate", *(t for t in model.terms if "=" in t))]
    np.testing.assert_allclose(np.array(model.values["weights"])[0][at], theirs.coef_[0], rtol=1e-4)


def test_shapes_are_those_of_pooled_rows(run: Any) -> None:
    model = kept(run, "pca")
    theirs = PCA(2).fit_transform(matrix(baseline=model.model.baseline))[SPLITS["west"]]
    np.testing.assert_allclose(np.abs(model.predict(frames()["west"])), np.abs(theirs), rtol=1e-6, atol=1e-9)
    model = kept(run, "kmeans")
    X = matrix(baseline=model.model.baseline)
    at = [model.terms.index(term) for term in ("instalment_rate", *(t for t in model.terms if "=" in t))]
    centres = np.array(model.values["centres"])[:, at]
    nearest = ((X[:, None] - centres) ** 2).sum(axis=2).argmin(axis=1)
    assert model.predict(frames()["west"]).tolist() == nearest[SPLITS["west"]].tolist()
    assert model.values["counts"] == np.bincount(nearest, minlength=3).tolist()
    np.testing.assert_allclose(centres, [X[nearest == k].mean(axis=0) for k in range(3)], rtol=1e-9, atol=1e-12)


def test_a_forest_of_drawn_rows_predicts_about_what_another_does(run: Any) -> None:
    theirs = RandomForestRegressor(200, max_depth=3, min_samples_leaf=10, random_state=1).fit(
        trees(), numbers("amount")
    )
    found, wanted = kept(run, "forest").predict(frames()["west"]), theirs.predict(trees())[SPLITS["west"]]
    assert np.corrcoef(found, wanted)[0, 1] > 0.98
    assert abs(found.mean() / wanted.mean() - 1) < 0.03


def test_every_kind_is_kept_under_its_name_and_refuses_other_columns(run: Any) -> None:
    found = {name: kept(run, name) for name in MODELS}
    assert {type(model.model) for model in found.values()} == set(get_args(AnyModel))
    titles = [table.title for table in run.report.tables]
    for name, model in found.items():
        assert model.rows == 1000
        assert any(
            title.startswith(model.model.title[0].upper() + model.model.title[1:] + f" {name!r}") for title in titles
        )
        if "housing" not in [column.name for column in model.columns]:
            continue
        with pytest.raises(InputError, match="no column 'housing'"):
            model.predict({"instalment_rate": [1.0]})
        strange = model.predict({"instalment_rate": [1.0], "housing": ["castle"]})
        assert np.isnan(strange).all() or name == "svm"
    assert run.report.headline.startswith(f"{len(MODELS)} models over 3 sites")
    said = json.loads(run.stores["west"].path("result.json").read_text())["report"]
    assert {f"fit {name}" for name in MODELS} <= set(said)
    assert found["strata"].values["strata"] == ["even", "odd"]


def test_a_kind_that_lacks_a_method_cannot_be_made() -> None:
    class Half(Kind, frozen=True, tag="half"):
        async def fit(self, totals: Any, here: Any) -> Any:
            return None

    with pytest.raises(TypeError, match="abstract method 'predict'"):
        Half()
    assert not any(kind.__abstractmethods__ for kind in get_args(AnyModel))
