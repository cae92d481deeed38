"""A job over dropouts or ring goes on without members that fail: the others end with the model of their own rows."""

from __future__ import annotations

import asyncio
import json
import signal
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from atoll.core.channel import Channel
from atoll.core.errors import AtollError, ConnectionLost, ContractError, InputError, PeerFailed, ProtocolError
from atoll.learn.horizontal import glm
from atoll.node import departures
from atoll.node.job import Job, _check_departures, check
from atoll.node.kept import Kept, load_model
from atoll.node.steps import build
from atoll.node.steps.totals import Steady
from atoll.testing import check_card, run_pair
from atoll.transport.memory import memory_pair
from tests.node.branches import HIT, TEXTS, Branches, document, frames, label, pooled
from tests.node.sites import finish, until
from tests.nursery import Nursery

SITES = ("north", "south", "west", "east", "far")
"""The first aggregates, the third is the one that fails first."""

STEPS: tuple[dict[str, Any], ...] = (
    {"step": "describe", "columns": ["instalment_rate", "housing"]},
    {"step": "fit", "model": {"kind": "logistic"}, "columns": ["amount", "months", "housing"]},
)


def parts() -> dict[str, dict[str, Any]]:
    """Sixty loans of each site; a category that only the third one has."""
    whole = frames()
    joined = {key: [value for part in whole.values() for value in part[key]] for key in whole["north"]}
    found = {name: {k: c[60 * at : 60 * at + 60] for k, c in joined.items()} for at, name in enumerate(SITES)}
    found["west"]["housing"] = [*["palace"] * 15, *found["west"]["housing"][15:]]
    return found


def job_of(topology: str, sites: Sequence[str] = SITES, **compare: Any) -> dict[str, Any]:
    """A job of these sites that goes on without some."""
    job = document(*STEPS)
    part = job["sites"]["south"]
    job["sites"] = {name: {**part, "role": "member" if at else "aggregator"} for at, name in enumerate(sites)}
    job["steps"][0] |= {"topology": topology, "patience": 8, **compare}
    return job


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory, nursery: Nursery) -> Branches:
    made = Branches.of(tmp_path_factory.mktemp("branches"), parts())
    made.nursery = nursery
    return made


def check_model(kept: Kept, left: Sequence[str]) -> None:
    """The model is that of the pooled rows of the sites that are left, and knows no category but theirs."""
    assert kept.sites == tuple(sorted(left))
    assert kept.rows == 60 * len(left)
    own = {
        name: {**part, **{text: ["same"] * 60 for text in TEXTS if text != "housing"}} for name, part in parts().items()
    }
    theirs = {name: own[name] for name in SITES if name in left}
    X, y = pooled(theirs, ("amount", "months")), label(theirs)
    model = LogisticRegression(C=np.inf, solver="newton-cholesky", tol=1e-12, max_iter=100).fit(X, y)
    found = [line.estimate for line in kept.coefficients]
    np.testing.assert_allclose(found, [*model.intercept_, *model.coef_[0]], rtol=1e-6)
    assert ("housing=palace" in kept.terms) == ("west" in left)


def check_left(branches: Branches, left: Sequence[str], gone: Mapping[str, str]) -> None:
    """Every site that is left has the same model, and says who left, in which step and why."""
    stores = {name: branches.home(name).result("branches") for name in left}
    assert len({store.path("model.json").read_bytes() for store in stores.values()}) == 1
    check_model(load_model(stores["south"].path("model.json")), left)
    for store in stores.values():
        report = json.loads(store.path("result.json").read_text())["report"]["left"]
        assert {line["site"]: line["step"] for line in report} == gone, report
        logged = [json.loads(line) for line in store.path("log.jsonl").read_text().splitlines()]
        assert [{key: line[key] for key in report[0]} for line in logged if line["event"] == "left"] == report
        page = store.path("report.html").read_text()
        for line in report:
            assert f"{line['site']} left in step {line['step']} at {line['time']}: {line['why'][:20]}" in page
        kinds = {line["kind"] for line in map(json.loads, store.path("audit.jsonl").read_text().splitlines())}
        assert any(kind.endswith("departures.Left") for kind in kinds)


WEIGHTED = f"{glm.STEP}: weighted products and deviance"
"""What sites add in every step of Newton's method."""

HELD = """
import asyncio, pathlib
from atoll.node.steps.compare import CompareStep
real = CompareStep.run
async def held(step, session, work):
    while "left" in work.report and not pathlib.Path({!r}).exists():
        await asyncio.sleep(0.02)
    return await real(step, session, work)
CompareStep.run = held
"""
"""An aggregator that, once it has said who left, waits for a file before it goes on."""


@pytest.mark.processes
@pytest.mark.parametrize("topology", ["dropouts", "ring"])
def test_processes_go_on_without_one_that_is_killed_while_a_model_is_fitted(branches: Branches, topology: str) -> None:
    job = job_of(topology, SITES[:4])
    ended = branches.run_all(job, west=HIT.format("SIGKILL"))
    assert {name: end.code for name, end in ended.items()} == {"north": 0, "south": 0, "west": -9, "east": 0}, ended
    check_left(branches, ("north", "south", "east"), {"west": "fit"})
    for name in ("north", "south", "east"):
        assert "west left in step fit" in ended[name].text
        assert "going on with east, north, south" in ended[name].text
    (line, _) = json.loads(branches.home("east").result("branches").path("statistics.json").read_text())
    assert line["count"] == 240  # a step that was done before stays as it is


@pytest.mark.processes
def test_a_process_that_stops_answering_or_comes_back_is_told_that_the_job_went_on(branches: Branches) -> None:
    job = job_of("dropouts", at_least=3, patience=8)
    before = {
        "west": HIT.format("SIGSTOP"),
        "far": HIT.format("SIGKILL"),
        "north": HELD.format(str(branches.folder / "go")),
    }
    children = {name: branches.start(name, job, before=before.get(name, "")) for name in SITES}
    until(lambda: "west left" in children["south"].text, 30)
    children["west"].send_signal(signal.SIGCONT)
    again = finish(branches.start("far", job))
    stopped = finish(children["west"])
    (branches.folder / "go").touch()
    ended = {name: finish(children[name]) for name in ("north", "south", "east", "far")}
    assert (stopped.code, again.code) == (PeerFailed.exit_code, ConnectionLost.exit_code), (stopped, again)
    assert "the job goes on without west: no answer within 8 s" in stopped.text
    assert "the job goes on without far: the connection to far" in again.text
    assert {name: end.code for name, end in ended.items()} == {"north": 0, "south": 0, "east": 0, "far": -9}, ended
    check_left(branches, ("north", "south", "east"), {"west": "fit", "far": "fit"})


def failing(monkeypatch: pytest.MonkeyPatch, when: Mapping[str, tuple[str, int]]) -> None:
    """Let sites fail before their n-th total of a kind, counted from 1; as sites do whose disk is full."""
    real, asked = Steady.total, Counter[tuple[str, str]]()

    async def total(self: Any, values: Any, *, what: str) -> Any:
        site = self.session.site
        asked[site, what] += 1
        if when.get(site) == (what, asked[site, what]):
            raise InputError("the disk is full", site=site)
        return await real(self, values, what=what)

    monkeypatch.setattr(Steady, "total", total)


@pytest.mark.parametrize(
    ("topology", "what", "step"),
    [
        ("dropouts", "rows", "compare"),
        ("dropouts", "values that are there", "describe"),
        ("dropouts", WEIGHTED, "fit"),
        ("ring", WEIGHTED, "fit"),
    ],
)
def test_a_member_may_fail_at_any_total(
    branches: Branches, monkeypatch: pytest.MonkeyPatch, topology: str, what: str, step: str
) -> None:
    failing(monkeypatch, {"west": (what, 3 if step == "fit" else 1)})
    ended = branches.run_here(job_of(topology, SITES[:4]))
    assert isinstance(ended["west"], InputError)
    assert not [end for name, end in ended.items() if isinstance(end, BaseException) and name != "west"], ended
    check_left(branches, ("north", "south", "east"), {"west": step})
    report = json.loads(ended["east"].path("result.json").read_text())["report"]
    assert "the disk is full" in report["left"][0]["why"]
    opened = {(line["what"], line["sites"]) for line in report["revealed"][step]}
    assert (what, 3) in opened
    assert ((what, 4) in opened) == (step == "fit")


@pytest.mark.parametrize("topology", ["dropouts", "ring"])
def test_one_member_after_another_may_fail_and_an_aggregator_without_rows_goes_on(
    branches: Branches, monkeypatch: pytest.MonkeyPatch, topology: str
) -> None:
    job = job_of(topology, at_least=2 if topology == "dropouts" else 3)
    left = ("north", "south", "far")
    if topology == "dropouts":
        for key in ("data", "label", "columns"):
            job["sites"]["north"].pop(key)
        left = ("south", "far")
    failing(monkeypatch, {"west": ("values that are there", 1), "east": (WEIGHTED, 2)})
    ended = branches.run_here(job)
    for name in ("north", *left):
        assert not isinstance(ended[name], BaseException), ended
    kept = load_model(ended["north"].path("model.json"))
    check_model(kept, left)
    gone = json.loads(ended["far"].path("result.json").read_text())["report"]["left"]
    assert [line["site"] for line in gone] == ["west", "east"]


def test_too_few_that_are_left_end_the_job_everywhere(branches: Branches, monkeypatch: pytest.MonkeyPatch) -> None:
    failing(monkeypatch, {"west": ("values that are there", 1)})
    ended = branches.run_here(job_of("dropouts", SITES[:4], at_least=4))
    assert isinstance(ended["north"], ProtocolError)
    assert "only 2 of 3 sites are left" in ended["north"].what
    for name in ("south", "east"):
        assert isinstance(ended[name], PeerFailed)
        assert ended[name].what == ended["north"].what
        assert "Ask west" in ended[name].cure


def test_totals_that_would_show_the_few_rows_of_a_site_are_not_opened(
    branches: Branches, monkeypatch: pytest.MonkeyPatch
) -> None:
    branches.put("west", {key: column[:8] for key, column in parts()["west"].items()})
    failing(monkeypatch, {"west": (WEIGHTED, 1)})
    ended = branches.run_here(job_of("dropouts", SITES[:4]))
    for name in ("north", "south", "east"):
        assert isinstance(ended[name], AtollError), ended
        assert "a site left that had 8 rows, fewer than the minimum of 10" in ended[name].what
        (failed,) = (branches.folder / name / "jobs").glob("*.failed")
        kinds = [json.loads(line)["kind"].split(".")[-1] for line in (failed / "audit.jsonl").read_text().splitlines()]
        since = kinds[kinds.index("Left") :]
        assert since.count("Total") == (1 if name != "north" else 2)  # the number of rows, and nothing else


def test_steps_without_a_model_look_at_the_rows_of_a_site_that_left_too(
    branches: Branches, monkeypatch: pytest.MonkeyPatch
) -> None:
    west = parts()["west"]
    branches.put("west", {**west, "months": [*west["months"][:8], *[None] * 52]})
    job = job_of("dropouts", SITES[:4])
    job["steps"][1:] = [{"step": "correlate", "columns": ["amount", "months"], "missing": "drop"}]
    failing(monkeypatch, {"west": ("correlation: products", 1)})
    ended = branches.run_here(job)
    for name in ("north", "south", "east"):
        assert "a site left that had 8 rows without missing values" in str(ended[name]), ended


def test_a_job_that_went_on_and_was_then_cut_off_begins_anew_at_all_sites(
    branches: Branches, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Cut(Exception):
        pass

    def dying(*args: Any) -> None:
        raise Cut

    job = job_of("dropouts", SITES[:4])
    with monkeypatch.context() as patch:
        failing(patch, {"west": ("values that are there", 1)})
        patch.setattr("atoll.node.steps.fit.FitStep._kept", dying)
        ended = branches.run_here(job)
    assert isinstance(ended["north"], Cut), ended
    ended = branches.run_here(job)
    check_model(load_model(ended["west"].path("model.json")), SITES[:4])
    assert "left" not in json.loads(ended["west"].path("result.json").read_text())["report"]


WRONG = (
    ("star", {"at_least": 3}, {}, "every site is needed"),
    ("dropouts", {"at_least": 2}, {}, "2 of 5 sites with data cannot be"),
    ("ring", {"at_least": 6}, {}, "6 of 5 sites with data cannot be"),
    ("ring", {"patience": 11}, {}, "waits 30 s for a message"),
)


@pytest.mark.parametrize(("topology", "compare", "changes", "words"), WRONG, ids=[words for *_, words in WRONG])
def test_documents_that_no_site_should_run(topology: str, compare: Any, changes: Any, words: str) -> None:
    with pytest.raises(InputError, match=words):
        check(Job.of({**job_of(topology, **compare), **changes}))


def test_a_step_that_would_spend_a_budget_twice_is_refused() -> None:
    with pytest.raises(ContractError, match="spend its privacy budget once more"):
        _check_departures(Job.of({**job_of("ring"), "profile": "secure+dp"}), 5)


def test_people_read_before_they_approve_what_a_departure_shows() -> None:
    lines = "\n".join(
        line for step in build(Job.of(job_of("dropouts"))) for line in step.says(Job.of(job_of("dropouts")))
    )
    assert "late by 8 s" in lines
    assert "3 sites must be left" in lines
    assert "show the totals of that site alone" in lines


def told(lines: Any, gone: Sequence[str]) -> Any:
    """What a member makes of what the aggregator says."""
    a, b = memory_pair("north", "south", timeout=1.0)

    async def aggregator(peer: Channel) -> None:
        await peer.send(departures.Left(lines))

    return run_pair(aggregator(a), departures.learn(b, gone))[1]


def test_a_member_believes_reasons_and_not_names() -> None:
    check_card(departures.PROTOCOL)
    a, b = memory_pair("north", "south", timeout=1.0)
    mine, theirs = run_pair(
        departures.tell({"south": a}, ["west", "east"], {"west": "gone\n\x07"}, "fit"),
        departures.learn(b, ["east", "west"]),
    )
    assert mine == theirs
    assert [(one.site, one.step, one.why) for one in mine] == [
        ("east", "fit", "it was missed"),
        ("west", "fit", "gone"),
    ]
    for lines in ([], [("east", "fit", "now", "why")], [("west", "fit", "now", "x" * 501)]):
        with pytest.raises(ProtocolError):
            told(lines, ["west"])


def test_nobody_is_told_twice() -> None:
    assert asyncio.run(_parted()) == ["west"]


async def _parted() -> list[str]:
    class Session:
        def __init__(self) -> None:
            self.site, self.hub = "south", "north"
            self.peers, self.lost, self.left = {"west": 1, "east": 1}, {"west": ConnectionLost("no line")}, list[str]()

        async def leave(self, site: str, error: AtollError) -> None:
            del self.peers[site]  # type: ignore[arg-type]
            self.left.append(site)

    session, dropped = Session(), {"west": "silent"}
    for _ in range(2):
        await departures.part(session, dropped)  # type: ignore[arg-type]
    assert dropped == {"west": "no line, silent"}
    return session.left
