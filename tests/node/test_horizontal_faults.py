"""Bad input and faults in jobs of sites with the same columns: one clear cause at every site, and nothing hangs."""

from __future__ import annotations

import signal
from collections.abc import Callable
from typing import Any

import pytest

from atoll.core.errors import AtollError, InputError, PeerFailed
from atoll.node import checkpoint
from atoll.node.job import Job, check
from atoll.node.steps import build
from tests.node.branches import HIT, NUMBERS, SPLITS, Branches, document, small

LOGISTIC = {"step": "fit", "model": {"kind": "logistic"}, "columns": ["amount", "housing"]}
LINEAR = {"step": "fit", "model": {"kind": "linear"}, "columns": ["amount", "months"]}


BAD: dict[str, tuple[dict[str, Any], str]] = {
    "a missing value": ({"amount": [""] + ["5"] * 59}, "1 values are missing"),
    "a missing label": ({"bad": [""] + ["0", "1", "1"] * 19 + ["0", "0"]}, "1 values are missing"),
    "a label in words": ({"bad": ["yes", "no"] * 30}, "the label is text"),
}


@pytest.mark.parametrize("what", BAD)
def test_a_bad_table_ends_the_job_at_all_sites_with_one_cause(branches: Branches, what: str) -> None:
    changes, words = BAD[what]
    branches.put("south", small("south", **changes))
    ended = branches.run_here(document(LOGISTIC))
    guilty = ended["south"]
    assert isinstance(guilty, InputError), guilty
    assert words in guilty.what
    assert guilty.cure
    for name in ("north", "west"):
        assert isinstance(ended[name], PeerFailed)
        assert (ended[name].site, ended[name].what, ended[name].column) == ("south", guilty.what, guilty.column)


def test_a_file_that_changed_since_it_was_added(branches: Branches) -> None:
    (branches.folder / "south.csv").write_text("loan,amount,months\n1,1,inf\n")
    job = document(LINEAR)
    for part in job["sites"].values():
        part.update(columns=["amount", "months"], label="")
    job["steps"] = [{"step": "compare"}, {"step": "describe"}]
    ended = branches.run_here(job)
    assert "infinite" in str(ended["south"])
    assert {ended[name].site for name in ("north", "west")} == {"south"}


def test_columns_that_overlap_are_named_at_every_site(branches: Branches) -> None:
    for name in SPLITS:
        part = small(name)
        branches.put(name, {**part, "months": [2 * value for value in part["amount"]]})
    ended = branches.run_here(document(LINEAR, label="instalment_rate", sites=_without("instalment_rate")))
    for error in ended.values():
        assert isinstance(error, AtollError)
        assert (error.step, error.column) == ("fit", "months")
        assert "a combination of" in error.what


def _without(label: str) -> dict[str, Any]:
    job = document(label=label)
    for part in job["sites"].values():
        part["columns"] = [name for name in NUMBERS if name != label]
    return dict(job["sites"])


def test_a_measure_is_not_opened_as_classes(branches: Branches) -> None:
    for name in SPLITS:
        branches.put(name, small(name, amount=[value + 0.5 for value in small(name)["amount"]]))
    ended = branches.run_here(
        document({"step": "fit", "model": {"kind": "svm"}}, label="amount", sites=_without("amount"))
    )
    for error in ended.values():
        assert isinstance(error, AtollError)
        assert "is a measure and no class" in error.what


def test_all_rows_of_one_class_are_noticed_by_all(branches: Branches) -> None:
    for name in SPLITS:
        branches.put(name, small(name, bad=["0"] * 60))
    for error in branches.run_here(document(LOGISTIC)).values():
        assert isinstance(error, AtollError)
        assert error.what == "all rows of all sites have one class"
        assert error.column == "bad"


@pytest.mark.processes
def test_a_member_that_is_killed_while_a_model_is_fitted_ends_the_job_everywhere(branches: Branches) -> None:
    ended = branches.run_all(document(LOGISTIC), west=HIT.format("SIGKILL"))
    assert ended["west"].code == -signal.SIGKILL
    assert ended["north"].code == 7
    assert "west" in ended["north"].text
    assert ended["south"].code == 5
    assert "west" in ended["south"].text
    again = branches.run_here(document(LOGISTIC))
    assert not [end for end in again.values() if isinstance(end, BaseException)], again
    assert '"after":"compare"' in again["west"].path("log.jsonl").read_text().replace(" ", "")


class Cut(Exception):
    """The process was killed here."""


@pytest.mark.parametrize(("site", "step", "before"), [("north", "describe", True), ("west", "fit", False)])
def test_a_job_goes_on_at_the_last_border_that_all_sites_reached(
    branches: Branches, monkeypatch: pytest.MonkeyPatch, site: str, step: str, before: bool
) -> None:
    save, job = checkpoint.save, document({"step": "describe"}, LOGISTIC)

    def dying(work: Any, data: str, **rest: Any) -> None:
        hit = work.site == site and [*rest["done"]][-1] == step
        if not (hit and before):
            save(work, data, **rest)
        if hit:
            raise Cut

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "save", dying)
        ended = branches.run_here(job)
    assert isinstance(ended[site], Cut)
    ended = branches.run_here(job)
    assert not [end for end in ended.values() if isinstance(end, BaseException)], ended
    for store in ended.values():
        page = store.path("report.html").read_text()
        for words in ("2 tries", "rows of each category", "describe: quantiles", "weighted products"):
            assert words in page


def read_by_a_person(document: dict[str, Any]) -> list[str]:
    job = Job.of(document)
    check(job)
    return [line for step in build(job) for line in step.says(job)]


WRONG: list[tuple[Callable[[dict[str, Any]], Any], str]] = [
    (lambda job: job["sites"]["west"].update(role="aggregator"), "2 aggregators among 3 sites"),
    (lambda job: job["sites"]["west"].update(role="feature-holder", id="loan"), "no use for the roles feature-holder"),
    (lambda job: job["sites"]["west"].pop("data"), "lacks the key 'data'"),
    (lambda job: job["sites"]["west"].update(label="worse"), "different labels"),
    (lambda job: job["sites"]["west"].update(columns=["amount"]), "not all sites name the same columns"),
    (lambda job: [job["sites"].pop("west"), job["sites"]["north"].pop("data")], "one site alone brings data"),
    (
        lambda job: [job["steps"][0].update(topology="direct"), job["sites"]["north"].pop("data")],
        "nobody is in the middle",
    ),
    (lambda job: job["steps"].append({"step": "train"}), "different kinds of job"),
    (lambda job: job["steps"].pop(0), "needs step compare before it"),
    (lambda job: job["steps"][1].update(model={"kind": "logist"}), "Did you mean 'logistic'"),
    (lambda job: job["steps"][1].update(model={"kind": "logistic", "rigde": 1}), "Did you mean 'ridge'"),
    (lambda job: job["steps"][1].update(model={"kind": "logistic", "ridge": -1}), ">= 0"),
    (lambda job: job["steps"][1].update(model="logistic"), "has no `kind:`"),
    (lambda job: [part.pop("label") for part in job["sites"].values()], "needs a label"),
]


@pytest.mark.parametrize(("change", "words"), WRONG, ids=[words for _, words in WRONG])
def test_documents_that_no_site_should_run(change: Callable[[dict[str, Any]], Any], words: str) -> None:
    job = document(LOGISTIC)
    change(job)
    with pytest.raises(InputError) as caught:
        read_by_a_person(job)
    assert words in str(caught.value)
