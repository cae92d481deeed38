"""Jobs of sites with the same columns and `privacy:`: every total holds noise, and every site's budget pays for it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from typer.testing import CliRunner

import atoll
from atoll.cli import app
from atoll.core.errors import AtollError, ContractError, InputError
from atoll.node.budgets import reserve_for
from atoll.node.job import Job, check
from atoll.node.kept import load_model
from atoll.node.steps import build
from atoll.privacy.accountant import NOTHING, Limit, epsilon_of, spent
from tests.node.branches import NUMBERS, Branches, document, frames, label, pooled

PRIVACY: dict[str, Any] = {
    "epsilon": 4.0,
    "delta": 1e-6,
    "bounds": {"amount": [0, 20_000], "months": [0, 72], "instalment_rate": [1, 4], "bad": [0, 1]},
    "categories": {
        "checking": ["none", "below 0", "0 to 200", "200 and more"],
        "housing": ["own", "rent", "free", "tent"],
    },
}
DESCRIBE = {"step": "describe"}
FIT: dict[str, Any] = {"step": "fit", "model": {"kind": "logistic"}, "missing": "drop"}


def private(*steps: dict[str, Any], privacy: dict[str, Any] | None = None, **changes: Any) -> dict[str, Any]:
    declared = {**deepcopy(PRIVACY), **(privacy or {})}
    more = changes.pop("compare", {})
    job = document(*steps, **{"profile": "secure+dp", "privacy": declared, **changes})
    job["steps"][0] |= more
    return job


@pytest.fixture
def branches(tmp_path: Path) -> Iterator[Branches]:
    made = Branches.of(tmp_path, frames())
    yield made
    made.close()


def states(branches: Branches, name: str) -> list[str]:
    return [part.state for part in branches.home(name).budgets.accounts()["loans"].parts]


@pytest.mark.processes
def test_a_killed_site_spends_once_and_a_spent_budget_refuses_everywhere(branches: Branches) -> None:
    job = private(DESCRIBE, FIT, timeouts={"join": 30, "message": 60, "lost": 1})
    del job["sites"]["west"]
    for name in job["sites"]:
        branches.home(name).budgets.set("loans", Limit(4.0, 1e-6))
    killed = (
        "import os, atoll.node.steps.compare as step\n"
        "step.CompareStep._count_with_noise = lambda *_: os.kill(os.getpid(), 9)"
    )
    ended = branches.run_all(job, south=killed)
    assert (ended["south"].code, ended["north"].code != 0) == (-9, True), ended
    assert states(branches, "south") == ["reserve"]  # not opened, and nobody else may use it
    assert states(branches, "north") in (["spend"], ["release"])  # its noise may have left before the other was gone
    if states(branches, "north") == ["spend"]:
        branches.home("north").budgets.set("loans", Limit(8.0, 1e-6))

    ended = branches.run_all(job)
    assert {end.code for end in ended.values()} == {0}, ended
    assert states(branches, "south") == ["release", "spend"]
    account = branches.home("south").budgets.accounts()["loans"]
    assert 0.999 < account.spent() <= 1
    assert epsilon_of(account.parts[1].loss.rho, 1e-6) == pytest.approx(4.0, rel=0.02)
    stores = {name: branches.home(name).result("branches") for name in job["sites"]}
    for name in ("schema.json", "statistics.json", "model.json"):
        assert len({store.path(name).read_bytes() for store in stores.values()}) == 1, name
    page = stores["south"].path("report.html").read_text()
    assert "This job took ρ = " in page
    assert "ε = 4 at δ = 1e-06 private for one row of any site, if the noise of 1 of 2 sites" in page
    assert "with noise" in page

    ended_here = branches.run_here({**job, "name": "again"})
    assert all(isinstance(end, ContractError) for end in ended_here.values()), ended_here
    assert "does not allow this answer any more" in str(ended_here["south"])


@pytest.mark.parametrize("topology", ["star", "direct"])
def test_figures_and_model_lie_near_those_of_all_rows_and_are_alike(tmp_path: Path, topology: str) -> None:
    job = private(DESCRIBE, {**FIT, "test": 0.3}, privacy={"epsilon": 60.0})
    job["steps"][0]["topology"] = topology
    parts = frames()
    parts["west"]["amount"][0] = None  # dropped without a word
    parts["south"]["amount"][:2] = [1e12, -1e300]
    parts["north"]["housing"][3] = "a houseboat"
    run = atoll.simulate(parts, job, out=tmp_path)
    for name in ("statistics.json", "model.json", "schema.json"):
        assert len({store.path(name).read_bytes() for store in run.stores.values()}) == 1
    lines = {line["name"]: line for line in json.loads(run.stores["west"].path("statistics.json").read_text())}
    for name in NUMBERS:
        low, high = PRIVACY["bounds"][name]
        values = np.clip(label(frames(), name), low, high)
        assert abs(lines[name]["count"] - 1000) < 25
        assert lines[name]["mean"] == pytest.approx(values.mean(), abs=0.03 * (high - low))
        assert lines[name]["sd"] == pytest.approx(values.std(), abs=0.05 * (high - low))
        assert lines[name]["median"] == pytest.approx(np.median(values), abs=0.08 * (high - low))
    assert set(lines["housing"]["categories"]) == {"own", "rent", "free", "tent"}
    model = load_model(run.stores["west"].path("model.json"))
    X, y = pooled(frames()), label(frames())
    theirs = roc_auc_score(y, LogisticRegression(C=np.inf, solver="newton-cholesky").fit(X, y).predict_proba(X)[:, 1])
    p = np.concatenate([model.predict(part) for part in frames().values()])
    assert theirs - roc_auc_score(y, p) < 0.05
    assert model.figures["noise of the AUC on rows kept out"] > 0
    said = run.stores["west"].path("schema.json").read_text() + run.stores["north"].path("audit.jsonl").read_text()
    assert "houseboat" not in said
    assert "private for one row of any site" in " ".join(run.report.notes)


@pytest.mark.parametrize(
    ("model", "label_", "figure"),
    [
        ({"kind": "linear", "ridge": 1.0}, "months", "R²"),
        ({"kind": "boosted-trees", "n_estimators": 4, "max_depth": 2}, "bad", "AUC"),
        ({"kind": "boosted-trees", "objective": "squared", "n_estimators": 6, "max_depth": 2}, "months", "R²"),
    ],
)
def test_other_models_are_fitted_with_noise_by_an_aggregator_without_rows(
    tmp_path: Path, model: dict[str, Any], label_: str, figure: str
) -> None:
    job = private({**FIT, "model": model, "test": 0.4}, privacy={"epsilon": 100.0}, label=label_)
    columns = [name for name in (*NUMBERS, "checking", "housing") if name != label_]
    for part in job["sites"].values():
        part["columns"] = columns
        part["role"] = "member"
    if label_ != "bad":
        del job["privacy"]["bounds"]["bad"]
    job["sites"] = {"centre": {"role": "aggregator"}, **job["sites"]}
    check(Job.of(job))
    run = atoll.simulate(frames(), job, out=tmp_path)
    found = {name: load_model(store.path("model.json")) for name, store in run.stores.items()}
    assert len({repr(one) for one in found.values()}) == 1
    assert found["centre"].figures[f"{figure} on rows kept out"] > (0.6 if figure == "AUC" else 0.2)
    assert not any(line.error for line in found["centre"].coefficients)
    for step in build(Job.of(job)):
        assert step.loss(Job.of(job), "centre") == NOTHING


def test_a_text_label_counts_its_two_declared_values_and_no_others(tmp_path: Path) -> None:
    declared = {"checking": PRIVACY["categories"]["checking"], "housing": ["own", "rent"]}  # and nobody else
    fit = {**FIT, "positive": "own", "columns": ["amount", "checking"]}
    job = private(fit, label="housing", privacy={"epsilon": 100.0, "categories": declared})
    del job["privacy"]["bounds"]["bad"]
    for part in job["sites"].values():
        part["columns"] = [*NUMBERS, "checking"]
    run = atoll.simulate(frames(), job, out=tmp_path)
    model = load_model(run.stores["south"].path("model.json"))
    true = sum(value in declared["housing"] for part in frames().values() for value in part["housing"])
    assert abs(model.rows - true) < 20
    assert (model.label, model.positive) == ("housing", "own")
    share = np.mean([model.predict(part).mean() for part in frames().values()])
    assert 0.6 < share < 0.95


def test_the_parts_of_a_job_fill_its_budget_and_no_more() -> None:
    named = [{**FIT, "name": "one"}, {**FIT, "name": "two", "model": {"kind": "linear"}}]
    for steps in ([], [DESCRIBE], [FIT], [DESCRIBE, FIT], [DESCRIBE, *named]):
        job = Job.of(private(*steps, privacy={"parts": {"describe": 2.0, "compare": 0.5}}))
        losses = [step.loss(job, "south") for step in build(job)]
        assert 0.999 < spent([loss for loss in losses if loss], Limit(4.0, 1e-6)) <= 1
        for step, loss in zip(build(job), losses, strict=True):
            assert loss
            planned = sum(release.rho for release in step.plan_noise(job))
            assert planned == pytest.approx(loss.rho, rel=1e-12)
            assert planned <= loss.rho * (1 + 1e-15)
    first, second, *_ = (step.loss(Job.of(private(DESCRIBE)), "south") for step in build(Job.of(private(DESCRIBE))))
    assert first
    assert second
    assert second.rho == pytest.approx(9 * first.rho)


def test_the_profile_admits_exactly_jobs_whose_every_total_holds_noise(branches: Branches) -> None:
    check(Job.of(private(DESCRIBE, FIT)))
    exact = document(DESCRIBE, profile="secure+dp")
    with pytest.raises(ContractError, match="step compare adds no noise"):
        check(Job.of(exact))
    budgets = branches.home("south").budgets
    budgets.set("loans", Limit(4.0, 1e-6))
    with pytest.raises(ContractError, match="step compare adds no noise, and data set loans has a privacy budget"):
        reserve_for(budgets, Job.of(document(DESCRIBE)), "south", build(Job.of(document(DESCRIBE))))


def refused(job: dict[str, Any]) -> AtollError:
    with pytest.raises(AtollError) as caught:
        check(Job.of(job))
    assert caught.value.cure
    return caught.value


@pytest.mark.parametrize(
    ("job", "words"),
    [
        (private(profile="secure"), "has `privacy:` and the profile 'secure'"),
        (private(privacy={"bounds": {"amount": [0, 1]}}), "needs to know what its values may be"),
        (private(privacy={"bounds": {**PRIVACY["bounds"], "amount": [5, 5]}}), "smallest and the largest value"),
        (private(privacy={"bounds": {**PRIVACY["bounds"], "age": [0, 99]}}), "it is declared and takes no part"),
        (private(privacy={"bounds": {**PRIVACY["bounds"], "housing": [0, 1]}}), "it has bounds and categories"),
        (
            private(privacy={"categories": {**PRIVACY["categories"], "housing": ["(other)"]}}),
            "categories cannot be used",
        ),
        (private(privacy={"categories": {**PRIVACY["categories"], "housing": []}}), "categories cannot be used"),
        (private(compare={"topology": "dropouts"}), "would spend its privacy budget once more"),
        (private(privacy={"honest": 4}), "4 honest sites are counted on, and 3 bring data"),
        (private({"step": "describe", "extremes": True}), "those of single people, which no noise hides"),
        (private({**FIT, "missing": "refuse"}), "tells that there is one"),
        (private({**FIT, "model": {"kind": "poisson"}}), "Poisson regression has no form with noise"),
        (private({**FIT, "model": {"kind": "logistic", "link": "probit"}}), "no form with noise"),
        (private({**FIT, "model": {"kind": "linear"}}, label="housing"), "not declared as linear regression needs it"),
        (private(FIT, label="months"), "not declared as logistic regression needs it"),
        (private({**FIT, "positive": "yes"}), "not declared as logistic regression needs it"),
        (private({**FIT, "columns": ["ammount"]}), "names a column that the sites' data have not"),
    ],
)
def test_a_job_that_does_not_fit_its_privacy_is_refused_before_anybody_looks_at_data(
    job: dict[str, Any], words: str
) -> None:
    labels = job["sites"]["north"]["label"]
    for part in job["sites"].values():
        part["columns"] = [name for name in part["columns"] if name != labels]
    if labels != "bad":
        job["privacy"]["bounds"].pop("bad", None)
    assert words in str(refused(job))


def test_without_named_columns_nothing_can_be_planned_and_two_parts_of_rows_need_no_privacy() -> None:
    job = private(DESCRIBE)
    for part in job["sites"].values():
        del part["columns"]
    assert "before anybody looks at data" in str(refused(job))
    with pytest.raises(InputError, match="epsilon"):
        Job.of(private(privacy={"epsilon": 0}))
    with pytest.raises(InputError, match="delta"):
        Job.of(private(privacy={"delta": 0}))


def test_a_column_of_another_kind_than_declared_is_refused(tmp_path: Path) -> None:
    parts = frames()
    parts["south"]["months"] = ["many"] * len(parts["south"]["months"])
    with pytest.raises(InputError, match="categorical here, and declared as numeric"):
        atoll.simulate(parts, private(DESCRIBE), out=tmp_path)


def test_the_command_line_says_what_will_be_told_and_how_large_the_noise_is(tmp_path: Path) -> None:
    path = tmp_path / "job.yaml"
    path.write_text(Job.of(private(DESCRIBE, FIT)).to_yaml())
    done = CliRunner().invoke(app, ["job", "check", str(path), "--home", str(tmp_path)])
    assert done.exit_code == 0, done.output
    for words in ("ε = 4 at δ = 1e-06", "rows, and rows of each category: 9 numbers, each ±", "12 times: "):
        assert words in done.output
    Job.load(path)


def test_what_leaves_a_site_has_the_same_shape_whatever_its_rows_are(tmp_path: Path) -> None:
    """Two worlds that differ in rows, missing values, classes and categories: the same messages of the same size."""
    trees = {"kind": "boosted-trees", "n_estimators": 2, "max_depth": 2}
    job = private(DESCRIBE, {**FIT, "model": trees})
    other = frames()
    for values in other["south"].values():
        del values[30:]  # hardly anybody left
    other["south"]["bad"] = [1.0] * 30
    other["south"]["housing"] = ["a houseboat"] * 30
    other["south"]["amount"][3:9] = [None] * 6
    worlds = []
    for name, parts in (("one", frames()), ("other", other)):
        run = atoll.simulate(parts, job, out=tmp_path / name)
        lines = [json.loads(line) for line in run.stores["south"].path("audit.jsonl").read_text().splitlines()]
        lines = [line for line in lines if line["step"] != "contract"]  # signatures differ in length
        worlds.append(sorted((line["step"], line["kind"], line["direction"], line["bytes"]) for line in lines))
    assert worlds[0] == worlds[1]
    assert len(worlds[0]) > 20
