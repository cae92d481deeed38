"""Sites with the same columns: one job, the same statistics and model at every site, equal to those of pooled rows."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from msgspec.structs import replace
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.metrics import roc_auc_score
from typer.testing import CliRunner

import atoll
from atoll.cli import app
from atoll.core.errors import InputError
from atoll.data.frames import table_of
from atoll.learn.horizontal.trees.forest import boost
from atoll.learn.horizontal.trees.params import BoostParams
from atoll.node.job import Job, check
from atoll.node.kept import load_model
from atoll.node.steps.describe import Statistics
from atoll.node.steps.split import TEST, Split, draw
from atoll.testing import seeded_rng
from tests.learn.horizontal.together import together
from tests.node.branches import NUMBERS, SPLITS, Branches, document, frames, label, pooled
from tests.nursery import Nursery

LOGISTIC = {"step": "fit", "model": {"kind": "logistic"}}


@pytest.fixture
def branches(tmp_path: Path, nursery: Nursery) -> Iterator[Branches]:
    made = Branches.of(tmp_path, frames())
    made.nursery = nursery
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
    assert abs(model.figures["AUC"] - roc_auc_score(y, p)) <= model.figures["largest error of the AUC"] < 0.01
    np.testing.assert_allclose(model.predict(frames()["west"]), p[SPLITS["west"]], rtol=1e-6)
    _check_statistics(json.loads(stores["north"].path("statistics.json").read_text()))
    _check_what_left(stores["south"].path("audit.jsonl").read_text())
    said = CliRunner().invoke(app, ["job", "show", "branches", "--home", str(branches.folder / "south")]).output
    assert "Upper quartile" in said
    assert "checking=below 0" in said
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


@pytest.mark.parametrize("topology", ["direct", "leader"])
def test_without_a_centre_the_model_is_the_same_to_the_last_bit(branches: Branches, topology: str) -> None:
    step = {"step": "fit", "model": {"kind": "logistic"}, "columns": ["amount", "housing"]}
    star, other = document(step), document(step, name="meshed")
    other["steps"][0]["topology"] = topology
    models = []
    for job in (star, other):
        ended = branches.run_here(job)
        assert not [end for end in ended.values() if isinstance(end, BaseException)], ended
        models += [load_model(store.path("model.json")) for store in ended.values()]
    assert len({msgspec.json.encode(replace(model, job="")) for model in models}) == 1
    audit = ended["west"].path("audit.jsonl").read_text()
    assert {line["peer"] for line in map(json.loads, audit.splitlines()) if line["step"] == "fit"} >= (
        {"north", "south"} if topology == "direct" else set()
    )
    assert "sum over all sites" in ended["west"].path("report.html").read_text()


def fitted(tmp_path: Path, parts: dict[str, Any], job: dict[str, Any]) -> Any:
    """The model of a simulated job, the same at every site."""
    run = atoll.simulate(parts, job, out=tmp_path)
    assert len({store.path("model.json").read_bytes() for store in run.stores.values()}) == 1
    return load_model(run.stores[run.job.partners[-1]].path("model.json"))


def test_rows_with_missing_values_are_dropped_where_the_job_says_so(tmp_path: Path) -> None:
    parts, numbers = frames(), ("months", "instalment_rate")
    parts["south"]["months"][::7] = [None] * len(parts["south"]["months"][::7])
    parts["west"]["housing"][::9] = [None] * len(parts["west"]["housing"][::9])
    parts["north"]["amount"][:3] = [None] * 3
    job = document({"step": "fit", "model": {"kind": "linear"}, "missing": "drop"}, label="amount")
    for part in job["sites"].values():
        part["columns"] = [*numbers, "checking", "housing"]
    model = fitted(tmp_path, parts, job)
    X, y = pooled(frames(), numbers), label(frames(), "amount")
    keep = np.ones(1000, bool)
    keep[450:800:7], keep[800::9], keep[:3] = False, False, False
    theirs = LinearRegression().fit(X[keep], y[keep])
    assert model.rows == keep.sum()
    np.testing.assert_allclose([line.estimate for line in model.coefficients][1:], theirs.coef_, rtol=1e-9)


def test_trees_take_missing_values_and_do_not_depend_on_who_holds_which_rows(tmp_path: Path) -> None:
    parts = frames()
    for part in parts.values():
        part["months"][::5] = [None] * len(part["months"][::5])
    job = document({"step": "fit", "model": {"kind": "boosted-trees", "n_estimators": 4, "max_depth": 3}, "test": 0.25})
    for part in job["sites"].values():
        part["columns"] = [*NUMBERS]
    one = fitted(tmp_path / "one", parts, job)
    names = list(parts)
    order = np.random.default_rng(5).permutation(1000)
    pool = {
        key: np.concatenate([np.array(part[key], object) for part in parts.values()])[order] for key in parts["west"]
    }
    dealt = {name: {key: column[at::3].tolist() for key, column in pool.items()} for at, name in enumerate(names)}
    two = fitted(tmp_path / "two", dealt, {**job, "steps": [job["steps"][0], {**job["steps"][1], "test": 0.0}]})
    again = fitted(tmp_path / "three", parts, {**job, "steps": [job["steps"][0], {**job["steps"][1], "test": 0.0}]})
    assert two.values == again.values
    assert 0.6 < one.figures["AUC on rows kept out"] < 0.8
    table = table_of(parts["west"], (), NUMBERS).columns
    np.testing.assert_array_equal(again.predict(parts["west"]), _pooled_boost(parts, NUMBERS).predict(table))


def _pooled_boost(parts: dict[str, Any], names: tuple[str, ...]) -> Any:
    """The same trees of one site that has all rows."""
    pool = {key: np.concatenate([np.array(part[key], object) for part in parts.values()]) for key in names}
    params = BoostParams(n_estimators=4, max_depth=3, min_child_weight=2.5, smallest=10)

    async def alone(totals: Any) -> Any:
        return await boost(totals, table_of(pool).columns, label(parts), params, rng=seeded_rng(1))

    return together(alone, [()])[0]


def test_a_text_label_and_a_site_with_one_class_only(tmp_path: Path) -> None:
    parts = frames()
    order = np.argsort(label(parts)[800:], kind="stable")[:140]  # the good ones of west, and no others
    parts["west"] = {name: [column[at] for at in order] for name, column in parts["west"].items()}
    y = label(parts)
    assert not y[800:].any()
    for part in parts.values():
        part["bad"] = ["yes" if value else "no" for value in part["bad"]]
    step = {"step": "fit", "model": {"kind": "logistic", "ridge": 2.0}, "positive": "yes"}
    model = fitted(tmp_path, parts, document(step))
    X = pooled(parts)
    scale = X.std(axis=0)
    theirs = LogisticRegression(C=0.5, solver="newton-cholesky", tol=1e-12, max_iter=500).fit(X, y)
    assert scale.min() > 0
    np.testing.assert_allclose([line.estimate for line in model.coefficients][1:], theirs.coef_[0], rtol=1e-5)
    assert all(line.error is None for line in model.coefficients)


@pytest.mark.parametrize(("kind", "name"), [("logistic", "bad"), ("linear", "amount"), ("multinomial", "bad")])
def test_a_model_is_measured_on_rows_that_it_was_not_fitted_to(tmp_path: Path, kind: str, name: str) -> None:
    numbers = ("months", "instalment_rate")
    job = document({"step": "fit", "model": {"kind": kind}, "test": 0.3, "seed": 7}, label=name)
    for part in job["sites"].values():
        part["columns"] = [*numbers, "checking", "housing"]
    model = fitted(tmp_path, frames(), job)
    ids = np.concatenate([[str(row) for row in range(len(part["bad"]))] for part in frames().values()])
    out = draw([ids], Split(test=0.3, seed=7)) == TEST
    X, y = pooled(frames(), numbers), label(frames(), name)
    assert model.rows == (~out).sum()
    if kind == "linear":
        theirs = LinearRegression().fit(X[~out], y[~out])
        assert model.figures["R² on rows kept out"] == pytest.approx(theirs.score(X[out], y[out]), rel=1e-8)
        return
    theirs = LogisticRegression(C=np.inf, solver="newton-cholesky", tol=1e-12).fit(X[~out], y[~out])
    if kind == "multinomial":
        assert model.figures["right on rows kept out"] == pytest.approx(theirs.score(X[out], y[out]))
        return
    area = roc_auc_score(y[out], theirs.predict_proba(X[out])[:, 1])
    off = model.figures["largest error of the AUC on rows kept out"]
    assert abs(model.figures["AUC on rows kept out"] - area) <= off < 0.03


def test_rare_categories_become_one_and_few_rows_open_nothing(tmp_path: Path) -> None:
    parts = frames()
    for at, part in enumerate(parts.values()):
        part["housing"][:2] = ["castle", "tent"] if at else ["boat", "castle"]
    job = document({"step": "describe", "columns": ["housing"]}, steps=[{"step": "compare"}, {"step": "describe"}])
    run = atoll.simulate(parts, job, out=tmp_path)
    lines = json.loads(run.stores["west"].path("statistics.json").read_text())
    housing = next(line for line in lines if line["name"] == "housing")["categories"]
    assert list(housing) == ["own", "rent", "(other)"]  # boat, castle and tent have 6 rows, and free is the next rarest
    assert sum(housing.values()) == 1000
    assert any("put together as (other)" in note for note in run.report.notes)
    few = {name: {key: column[:3] for key, column in part.items()} for name, part in frames().items()}
    with pytest.raises(InputError, match="have 9 rows, fewer than the minimum of 10"):
        atoll.simulate(few, document(LOGISTIC), out=tmp_path)


def test_classes_in_words_keep_their_names_and_rare_ones_are_not_shown(tmp_path: Path) -> None:
    parts = frames()
    parts["west"]["housing"][:1] = ["castle"]
    job = document({"step": "describe"}, {"step": "fit", "model": {"kind": "multinomial"}}, label="housing")
    for part in job["sites"].values():
        part["columns"] = [*NUMBERS]
    run = atoll.simulate(parts, {**job, "steps": job["steps"][:2]}, out=tmp_path)
    housing = run.stores["north"].read_json("statistics.json", list[Statistics])[-1]
    assert housing.categories["castle"] is None
    assert housing.categories["own"] == sum(part["housing"].count("own") for part in parts.values())
    model = fitted(tmp_path, frames(), job)
    assert model.classes == ("free", "own", "rent")
    assert [line.term for line in model.coefficients][:2] == ["own: (intercept)", "own: amount"]


def test_who_holds_which_rows_changes_nothing_that_the_aggregator_sees(tmp_path: Path) -> None:
    one = frames()
    south, west = one["south"], one["west"]
    two = {
        "north": one["north"],
        "south": {key: [*west[key], *south[key][:150]] for key in south},
        "west": {key: south[key][150:] for key in south},
    }
    seen, models = [], []
    for at, parts in enumerate((one, two)):
        run = atoll.simulate(parts, document({"step": "describe"}, LOGISTIC), out=tmp_path / str(at))
        lines = map(json.loads, run.stores["north"].path("audit.jsonl").read_text().splitlines())
        seen.append([(line["step"], line["kind"], line["bytes"]) for line in lines if line["step"] != "contract"])
        models.append(load_model(run.stores["north"].path("model.json")))
    assert sorted(seen[0]) == sorted(seen[1])
    mine, theirs = ([line.estimate for line in model.coefficients] for model in models)
    np.testing.assert_allclose(mine, theirs, rtol=1e-9)


def test_the_example_is_a_job_that_sites_would_sign() -> None:
    job = Job.load(Path(__file__).parents[2] / "examples" / "three_branches" / "job.yaml")
    check(job)
    assert job.hub == "north"
