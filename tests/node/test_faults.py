"""Faults over real processes: what every site sees and ends with, as the table in the troubleshooting page has it."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from atoll.core.errors import ConnectionLost, ContractError, InputError, PeerFailed, ProtocolError
from atoll.node import contract
from atoll.node.kept import load_model
from atoll.node.steps.compare import _whole
from tests.node.branches import HIT, Branches, document, label, pooled, small
from tests.node.sites import Ended, finish, until

LOGISTIC = {"step": "fit", "model": {"kind": "logistic"}, "columns": ["amount", "housing"]}
STEPS = ({"step": "describe", "columns": ["housing"]}, LOGISTIC)
SITES = ("north", "south", "west")
"""The first one aggregates."""


def job_of(**compare: Any) -> dict[str, Any]:
    """A job of the three branches, which learns soon that a link is lost."""
    job = document(*STEPS, timeouts={"join": 20, "message": 20, "lost": 1})
    job["steps"][0] |= compare
    return job


def codes(ended: dict[str, Ended]) -> dict[str, int]:
    """The exit codes; nobody shows a traceback. Lines that were broken for a terminal are put together."""
    for end in ended.values():
        end.text = " ".join(end.text.split())
    assert not [end for end in ended.values() if "Traceback" in end.text], ended
    return {name: end.code for name, end in ended.items()}


def check_model(branches: Branches, parts: dict[str, dict[str, Any]]) -> None:
    """All sites have the model of the pooled rows."""
    stores = [branches.home(name).result("branches") for name in SITES]
    assert len({store.path("model.json").read_bytes() for store in stores}) == 1
    own = {name: {**part, "checking": ["same"] * 60} for name, part in parts.items()}
    X, y = pooled(own, ("amount",)), label(own)
    model = LogisticRegression(C=np.inf, solver="newton-cholesky", tol=1e-12, max_iter=100).fit(X, y)
    found = [line.estimate for line in load_model(stores[0].path("model.json")).coefficients]
    np.testing.assert_allclose(found, [*model.intercept_, *model.coef_[0]], rtol=1e-6)


def differing(branches: Branches) -> None:
    branches.put("south", small("south", housing=["Own", "rent", "free"] * 20), units={"amount": "DM"})
    branches.put("west", small("west", checking=[str(at) for at in range(60)]), units={"amount": "EUR"})


def coded(branches: Branches) -> None:
    branches.put("south", small("south", bad=["1", "2"] * 30))


def emptied(branches: Branches) -> None:
    path = branches.folder / "south.csv"
    path.write_text(path.read_text().splitlines()[0] + "\n")


def renamed(branches: Branches) -> None:
    path = branches.folder / "south.csv"
    path.write_text(path.read_text().replace("amount", "amounts", 1))


BAD: dict[str, tuple[Callable[[Branches], None], str, tuple[str, ...]]] = {
    "columns differ": (
        differing,
        "north",
        (
            "'amount', unit: not said at north; DM at south; EUR at west",
            "'checking', kind: categorical at north; categorical at south; numeric at west",
            "'Own' and 'own': one value?",
            "say `recode: {housing: {Own: own}}` at site south",
        ),
    ),
    "label coded otherwise": (
        coded,
        "south",
        ("30 values other than 0 and 1", "Code the event as 1 and the rest as 0"),
    ),
    "no rows": (emptied, "south", ("has no rows",)),
    "column gone": (renamed, "south", ("no column 'amount'",)),
}


@pytest.mark.processes
@pytest.mark.parametrize("fault", BAD)
def test_bad_input_ends_the_job_at_all_sites_with_one_cause(branches: Branches, fault: str) -> None:
    change, guilty, words = BAD[fault]
    change(branches)
    ended = branches.run_all(job_of())
    assert codes(ended) == {name: 2 if name == guilty else PeerFailed.exit_code for name in SITES}, ended
    for end in ended.values():
        assert all(word in end.text for word in words), end.text
        assert guilty in end.text


@pytest.mark.processes
def test_one_class_at_a_site_and_categories_that_others_lack_are_no_mistake(branches: Branches) -> None:
    parts = {name: small(name) for name in SITES}
    parts["south"]["bad"] = [0.0] * 60
    parts["west"]["housing"] = ["palace"] * 30 + parts["west"]["housing"][30:]
    for name in ("south", "west"):
        branches.put(name, parts[name])
    ended = branches.run_all(job_of())
    assert set(codes(ended).values()) == {0}, ended
    assert "other sites have values that do not occur here: housing 'palace'" in ended["north"].text
    check_model(branches, parts)


LIE = """
from atoll.protocols.secure_sum.sums import Sums
real = Sums.total
async def lying(self, values, *, what):
    return await real(self, values * {} if what == "rows" else values, what=what)
Sums.total = lying
"""


@pytest.mark.processes
def test_a_site_that_lies_about_its_rows_gains_no_more_than_the_job_allows(branches: Branches) -> None:
    ended = branches.run_all(job_of(most_rows=100), west=LIE.format(1e4))
    assert set(codes(ended).values()) <= {ProtocolError.exit_code, PeerFailed.exit_code}, ended
    assert ended["north"].code == ProtocolError.exit_code
    for end in ended.values():
        assert "600,120 rows together, and 3 sites have 300 at most" in end.text
        assert "one has told a wrong number" in end.text


def test_counts_that_are_no_whole_numbers_are_a_lie() -> None:
    assert _whole(np.array([3.0, 0.0]), "rows") == [3, 0]
    with pytest.raises(ProtocolError, match="one has told a wrong number"):
        _whole(np.array([3.0, 0.5]), "rows")


def test_a_site_with_more_rows_than_the_job_allows_refuses(branches: Branches) -> None:
    ended = branches.run_here(job_of(most_rows=59))
    assert all("60 rows, and the job allows a site 59" in str(end) for end in ended.values()), ended


KILLED_AFTER = """
import os, signal
from atoll.node import checkpoint
save = checkpoint.save
def dying(work, data, **rest):
    save(work, data, **rest)
    if [*rest["done"]][-1] == {!r}:
        os.kill(os.getpid(), signal.SIGKILL)
checkpoint.save = dying
"""


@pytest.mark.processes
@pytest.mark.parametrize(
    ("at", "topology"),
    [("compare", "star"), ("describe", "dropouts"), ("fit", "star"), ("in the fit", "star"), ("in the fit", "ring")],
)
def test_an_aggregator_that_is_killed_ends_the_members_and_the_job_goes_on_when_all_start_again(
    branches: Branches, at: str, topology: str
) -> None:
    job = job_of(topology=topology, patience=5)
    killing = HIT.format("SIGKILL") if at == "in the fit" else KILLED_AFTER.format(at)
    ended = branches.run_all(job, north=killing)
    assert codes(ended) == {"north": -9, "south": ConnectionLost.exit_code, "west": ConnectionLost.exit_code}, ended
    for name in ("south", "west"):
        assert "north" in ended[name].text
        assert "start the job again everywhere" in ended[name].text
    again = branches.run_all(job)
    assert set(codes(again).values()) == {0}, again
    last = "describe" if at == "in the fit" else at
    if last != "compare":  # a member may have ended before it wrote the border that the aggregator has
        for end in again.values():
            assert any(f"going on after step {step}" in end.text for step in _before(last)), end.text
    check_model(branches, {name: small(name) for name in SITES})


def _before(step: str) -> list[str]:
    order = ["compare", "describe", "fit"]
    return order[order.index(step) - 1 : order.index(step) + 1]


@pytest.mark.processes
def test_a_member_that_restarts_in_the_middle_or_is_stopped_and_any_site_may_start_first(branches: Branches) -> None:
    job = job_of()
    job["timeouts"]["lost"] = 15
    children = {
        name: branches.start(name, job, before=HIT.format("SIGKILL") if name == "west" else "") for name in SITES
    }
    assert finish(children.pop("west")).code == -9
    children["west"] = branches.start("west", job)
    ended = {name: finish(child) for name, child in children.items()}
    assert codes(ended)["north"] == codes(ended)["west"] == ConnectionLost.exit_code, ended
    assert "restarted in the middle of job" in ended["north"].text
    assert "north refuses to go on" in ended["west"].text
    assert "west" in ended["south"].text
    children = {"west": branches.start("west", job, before=HIT.format("SIGINT"))}  # a member starts first
    until(lambda: "waiting for north" in children["west"].text)
    children["south"] = branches.start("south", job)
    until(lambda: "waiting for north" in children["south"].text)
    children["north"] = branches.start("north", job)
    ended = {name: finish(child) for name, child in children.items()}
    assert codes(ended) == {"north": PeerFailed.exit_code, "south": PeerFailed.exit_code, "west": 130}, ended
    for name in ("north", "south"):
        assert "going on after step describe" in ended[name].text
        assert "stopped by its operator" in ended[name].text


CLOCK = """
import datetime, time
class Off(datetime.datetime):
    @classmethod
    def now(cls, tz=None):
        return datetime.datetime.now(tz) + datetime.timedelta(hours={0})
from atoll.node import contract, job, reporting, runner
for module in (contract, job, reporting, runner):
    module.datetime = Off
real = time.time
time.time = lambda: real() + 3600 * {0}
"""


@pytest.mark.processes
def test_clocks_that_are_hours_apart_are_told_and_do_no_harm(branches: Branches) -> None:
    ended = branches.run_all(job_of(), west=CLOCK.format(5))
    assert set(codes(ended).values()) == {0}, ended
    for name in ("north", "south"):
        assert "the clock of west is 5.0 hours ahead of this site's" in ended[name].text
        assert "The clock of west is" in branches.home(name).result("branches").path("report.html").read_text()
    assert "the clock of north is 5.0 hours behind" in ended["west"].text
    check_model(branches, {name: small(name) for name in SITES})


def test_a_card_from_a_clock_that_is_ahead_connects_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Ahead(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> datetime:  # type: ignore[override]
            return datetime.now(tz) + timedelta(hours=12)

    with monkeypatch.context() as patch:
        patch.setattr("atoll.transport.site.datetime", Ahead)
        made = Branches.of(tmp_path, {name: small(name) for name in SITES})
    ended = made.run_here(document())
    assert not [end for end in ended.values() if isinstance(end, BaseException)], ended


@pytest.mark.processes
def test_a_job_that_has_expired_by_one_site_s_clock_is_refused_by_all(branches: Branches) -> None:
    job = job_of() | {"expires": (datetime.now(UTC) + timedelta(days=1)).date().isoformat()}
    ended = branches.run_all(job, west=CLOCK.format(72))
    assert set(codes(ended).values()) == {ContractError.exit_code}, ended
    for end in ended.values():
        assert "the job expired on" in end.text
        assert "west" in end.text
        assert "set this machine's clock" in end.text


def test_times_that_are_none_are_left_alone() -> None:
    signed = [contract.Signature(name, time, "", "") for name, time in (("a", "soon"), ("b", "2026-01-01T00:00:00"))]
    found = contract.Contract(json.loads("null"), "", tuple(signed))
    assert contract.clocks(found, datetime.now(UTC), 60) == []


def test_every_fault_stands_in_the_table() -> None:
    page = (Path(__file__).parents[2] / "docs" / "how-to" / "troubleshooting.md").read_text()
    table = page[page.index("## Which fault ends how") :]
    assert [fault for fault in BAD if f"| {fault}" not in table] == []
    found = {line.split("|")[1].strip(): line.split("|")[3:5] for line in table.splitlines() if line.startswith("| ")}
    assert found["no rows"] == [f" {InputError.exit_code} ", f" {PeerFailed.exit_code} "]
    assert found["a job that has expired, by one site's clock"] == [f" {ContractError.exit_code} "] * 2
