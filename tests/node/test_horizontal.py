"""Sites with the same columns: one job, the same statistics and model at every site, equal to those of pooled rows."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.linear_model import LinearRegression, LogisticRegression, PoissonRegressor
from sklearn.metrics import roc_auc_score

import atoll
from atoll.node.kept import load_model
from tests.node.branches import NUMBERS, SPLITS, Branches, document, frames, label, pooled

LOGISTIC = {"step": "fit", "model": {"kind": "logistic"}}


@pytest.fixture
def branches(tmp_path: Path) -> Iterator[Branches]:
    made = Branches.of(tmp_path, frames())
    yield made
    made.close()


@pytest.mark.processes
def test_three_processes_end_with_the_model_of_all_rows_in_one_place(branches: Branches) -> None:
    ended = branches.run_all(document({"step": "describe", "extremes": True}, LOGISTIC))
    assert {end.code for end in ended.values()} == {0}, ended
    stores = {name: branches.home(name).result("branches") for name in SPLITS}
    for name in ("schema.json", "statistics.json", "statistics.csv", "model.json"):
        assert len({store.path(name).read_bytes() for store in stores.values()}) == 1, name
    model = load_model(stores["west"].path("model.json"))
    X, y = pooled(frames()), label(frames())
    theirs = LogisticRegression(C=np.inf, solver="newton-cholesky", tol=1e-12, max_iter=100).fit(X, y)
    mine = np.array([line.estimate for line in model.coefficients])
    np.testing.assert_allclose(mine, [*theirs.intercept_, *theirs.coef_[0]], rtol=1e-6)
    p = theirs.predict_proba(X)[:, 1]
    Z = np.column_stack([np.ones(len(X)), X])
    errors = np.sqrt(np.diagonal(np.linalg.inv(Z.T @ (Z * (p * (1 - p))[:, None]))))
    np.testing.assert_allclose([line.error or 0 for line in model.coefficients], errors, rtol=1e-6)
    assert abs(model.figures["AUC"] - roc_auc_score(y, p)) <= model.figures["AUC, at most off by"] < 0.01
    np.testing.assert_allclose(model.predict(frames()["west"]), p[SPLITS["west"]], rtol=1e-6)
    _check_statistics(json.loads(stores["north"].path("statistics.json").read_text()))
    _check_what_left(stores["south"].path("audit.jsonl").read_text())
    page = stores["south"].path("report.html").read_text()
    for words in (
        "Logistic regression of bad over 1,000 rows of 3 sites",
        "checking=below 0",
        "Every total that was told",
    ):
        assert words in page


def _check_statistics(lines: list[dict[str, Any]]) -> None:
    found = {line["name"]: line for line in lines}
    for name in NUMBERS:
        values = label(frames(), name)
        line = found[name]
        assert (line["count"], line["missing"]) == (1000, 0)
        assert line["mean"] == pytest.approx(values.mean(), rel=1e-12)
        assert line["sd"] == pytest.approx(values.std(ddof=1), rel=1e-12)
        five = [line[key] for key in ("least", "q1", "median", "q3", "largest")]
        assert five == np.quantile(values, [0, 0.25, 0.5, 0.75, 1]).tolist()
    texts = np.concatenate([part["housing"] for part in frames().values()])
    assert found["housing"]["categories"] == {name: int((texts == name).sum()) for name in ("free", "own", "rent")}


def _check_what_left(audit: str) -> None:
    """A member sends its schema once, keys, and masked words; nothing else but the contract."""
    sent = {line["kind"] for line in map(json.loads, audit.splitlines()) if line["direction"] == "sent"}
    assert {kind.split(".")[-1] for kind in sent} <= {
        "Statement", "Reached", "Held", "PublicKey", "Sealed", "Masked", "Notice",
    }  # fmt: skip


def test_an_aggregator_without_data_gets_the_same_model(tmp_path: Path) -> None:
    job = document(
        {"step": "fit", "model": {"kind": "linear"}, "columns": [*NUMBERS[1:], "checking", "housing"]}, label="amount"
    )
    for part in job["sites"].values():
        part["columns"] = [*NUMBERS[1:], "checking", "housing"]
    job["sites"] = {
        "centre": {"role": "aggregator"},
        **job["sites"],
    }
    job["sites"]["north"]["role"] = "member"
    run = atoll.simulate(frames(), job, out=tmp_path)
    models = {name: store.path("model.json").read_bytes() for name, store in run.stores.items()}
    assert len(models) == 4
    assert len(set(models.values())) == 1
    X, y = pooled(frames(), NUMBERS[1:]), label(frames(), "amount")
    model = load_model(run.stores["centre"].path("model.json"))
    theirs = LinearRegression().fit(X, y)
    np.testing.assert_allclose(
        [line.estimate for line in model.coefficients], [theirs.intercept_, *theirs.coef_], rtol=1e-9
    )
    assert model.figures["R²"] == pytest.approx(theirs.score(X, y), rel=1e-9)
    assert model.sites == ("north", "south", "west")
