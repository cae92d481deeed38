"""A job that was cut off at any border goes on there at all sites, or begins anew at all of them."""

from __future__ import annotations

import asyncio
import json
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from atoll.node import checkpoint
from atoll.node.job import Job
from atoll.node.progress import Silent
from atoll.node.reporting import Result
from atoll.node.runner import Run
from atoll.report import read_data
from tests.node.sites import Sites, document, finish, tables, until
from tests.nursery import Nursery

STEPS = ("align", "split", "bin", "train")


class Cut(Exception):
    """The process was killed here."""


class Notes(Silent):
    """Keeps what people are told, and the steps that ran."""

    def __init__(self) -> None:
        self.notes: list[str] = []
        self.steps: list[str] = []

    def note(self, line: str) -> None:
        self.notes.append(line)

    def started(self, step: str, title: str, number: int, total: int) -> None:
        self.steps.append(step)


@pytest.fixture
def sites(tmp_path: Path, nursery: Nursery) -> Iterator[Sites]:
    made = Sites.make(tmp_path, nursery=nursery)
    yield made
    made.close()


def attempt(sites: Sites, *, fresh: bool = False, **changes: Any) -> tuple[dict[str, Any], dict[str, Notes]]:
    """One try of both sites over real links; returns how each ended and what it told."""
    job, told = Job.of(document(**changes)), {name: Notes() for name in ("bank", "shop")}

    async def go() -> list[Any]:
        runs = [Run(sites.home(name), sites.home(name).site(), job, told[name], fresh=fresh) for name in told]
        return await asyncio.gather(*(run.go() for run in runs), return_exceptions=True)

    return dict(zip(told, asyncio.run(go()), strict=True)), told


def cut_off(sites: Sites, monkeypatch: pytest.MonkeyPatch, site: str, step: str, *, before: bool) -> None:
    """A try in which one site dies just before or after it keeps a step's border."""
    save = checkpoint.save

    def dying(work: Any, data: str, **rest: Any) -> None:
        hit = work.site == site and [*rest["done"]][-1] == step
        if not (hit and before):
            save(work, data, **rest)
        if hit:
            raise Cut

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "save", dying)
        ended, _ = attempt(sites)
    assert isinstance(ended[site], Cut)
    assert all(isinstance(end, BaseException) for end in ended.values())


def events(sites: Sites, site: str) -> list[dict[str, Any]]:
    """The audit lines of the finished job."""
    (folder,) = (sites.folder / site / "jobs").glob("leavers-*")
    assert not folder.name.endswith(".failed")
    assert not (folder / "resume").exists()
    return [json.loads(line) for line in (folder / "audit.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize(("site", "before"), [("bank", True), ("shop", False)])
def test_a_job_goes_on_at_the_last_border_that_all_sites_reached(
    sites: Sites, monkeypatch: pytest.MonkeyPatch, site: str, step: str, before: bool
) -> None:
    cut_off(sites, monkeypatch, site, step, before=before)
    listed = {name: sites.home(name).cut_off() for name in ("bank", "shop")}
    assert step != "train" or before or listed[site] == {Job.of(document()).id: "train"}
    ended, told = attempt(sites)
    assert not [end for end in ended.values() if isinstance(end, BaseException)]
    assert not any(sites.home(name).cut_off() for name in ("bank", "shop"))
    left = told["bank"].steps
    assert left == told["shop"].steps
    assert len(left) >= 2 or (step == "train" and not before)
    first = STEPS.index(step) + (0 if before else 1)
    assert left[0] in ((*STEPS, "evaluate")[: first + 1])  # the other site may have been a border behind
    assert left[-1] == "evaluate"
    if left[0] != "align":
        after = STEPS[STEPS.index(left[0]) - 1] if left[0] in STEPS else "train"
        assert any(f"going on after step {after}" in note for note in told["shop"].notes)
    for name in ("bank", "shop"):
        store = ended[name]
        result = store.read_json("result.json", Result)
        assert set(result.steps) == {*STEPS, "evaluate"}
        report = read_data(store.path("report.json"))
        lines = events(sites, name)[: report.audit.lines]
        assert result.sent == sum(line["bytes"] for line in lines if line["direction"] == "sent")
        assert any("2 tries" in note for note in report.notes) == (left[0] != "align")
    assert report_auc(sites) > 0.6


def report_auc(sites: Sites) -> float:
    (folder,) = (sites.folder / "bank" / "jobs").glob("leavers-*")
    performance = read_data(folder / "report.json").performances[-1]
    return float(performance.auc)


def test_changed_data_begin_anew_at_every_site(sites: Sites, monkeypatch: pytest.MonkeyPatch) -> None:
    cut_off(sites, monkeypatch, "shop", "train", before=True)
    sites.write("shop", tables()["shop"][:-20])
    _, told = attempt(sites)
    assert told["bank"].steps == told["shop"].steps == [*STEPS, "evaluate"]
    assert any("this site's data has changed" in note for note in told["shop"].notes)
    assert any("another site" in note for note in told["bank"].notes)


@pytest.mark.parametrize("damage", ["part.npy", checkpoint.NAME, "gone"])
def test_a_damaged_checkpoint_begins_anew(sites: Sites, monkeypatch: pytest.MonkeyPatch, damage: str) -> None:
    cut_off(sites, monkeypatch, "shop", "train", before=True)
    (failed,) = (sites.folder / "bank" / "jobs").glob("*.failed")
    if damage == "gone":
        (failed / "part.npy").unlink()
    else:
        (failed / damage).write_bytes(b"junk")
    ended, told = attempt(sites)
    assert told["bank"].steps == told["shop"].steps == [*STEPS, "evaluate"]
    assert any("beginning anew" in note for note in told["bank"].notes)
    assert not [end for end in ended.values() if isinstance(end, BaseException)]


def test_fresh_begins_anew_without_a_word(sites: Sites, monkeypatch: pytest.MonkeyPatch) -> None:
    cut_off(sites, monkeypatch, "shop", "bin", before=False)
    _, told = attempt(sites, fresh=True)
    assert told["bank"].steps == told["shop"].steps == [*STEPS, "evaluate"]


def test_another_job_does_not_take_it_up(sites: Sites, monkeypatch: pytest.MonkeyPatch) -> None:
    cut_off(sites, monkeypatch, "shop", "bin", before=False)
    _, told = attempt(sites, purpose="another purpose")
    assert told["bank"].steps == [*STEPS, "evaluate"]


@pytest.mark.processes
@pytest.mark.parametrize("victim", ["bank", "shop"])
def test_trees_go_on_after_kill_9(sites: Sites, victim: str) -> None:
    slow = document()
    slow["steps"][3] |= {"n_estimators": 60}
    children = {"shop": sites.start("shop", slow), "bank": sites.start("bank", slow)}
    until(lambda: bool(list((sites.folder / "bank" / "jobs").glob("*.running-*/resume/trees.bin"))))
    children[victim].send_signal(signal.SIGKILL)
    codes = {name: finish(child).code for name, child in children.items()}
    assert codes[victim] == -9
    assert 7 in codes.values()
    ended = sites.both(slow)
    for end in ended.values():
        assert end.code == 0, end.text
        assert "going on after step bin (3 of 5)" in end.text
    (bank,) = (sites.folder / "bank" / "jobs").glob("leavers-*")
    (shop,) = (sites.folder / "shop" / "jobs").glob("leavers-*")
    model, part = (json.loads((folder / "model.json").read_bytes()) for folder in (bank, shop))
    assert len(model["trees"]) == len(part["splits"]) == 60
    assert [a for tree in model["asked"]["shop"] for level in tree for a in level] == [
        held["id"] for tree in part["splits"] for level in tree for held in level
    ]
    rounds = [json.loads(line) for line in (shop / "audit.jsonl").read_text().splitlines()]
    hashes = [line["sha256"] for line in rounds if "Masked" in line["kind"] or "Corrections" in line["kind"]]
    assert len(hashes) == len(set(hashes)), "something that hides was sent twice"
