"""Questions answered with noise between two sites: the budget is spent once, never passed, and kept through a kill."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from typer.testing import CliRunner

from atoll.cli import app
from atoll.core.errors import ContractError, InputError
from atoll.node.budgets import Budgets, reserve_for
from atoll.node.job import Job, check
from atoll.node.steps import ask, build
from atoll.notebook.simulation import simulate
from atoll.privacy.accountant import NOTHING, Limit, pure
from tests.node.sites import Sites, document, tables
from tests.node.test_ask import frames, pooled
from tests.node.test_ask import question as exact_question
from tests.node.test_bad_input import both_in_process

SQL = (
    "select s.region as r, count(*) as n, sum(s.visits) as v from bank b join shop s using (id) "
    "where b.age > 25 group by s.region order by r"
)
PRIVACY = {"epsilon": 2.0, "bounds": {"s.visits": [0, 15]}, "groups": [["N"], ["E"], ["S"], ["W"], ["Mars"]]}


def question(privacy: dict[str, Any] | None = None, sql: str = SQL, **changes: Any) -> dict[str, Any]:
    step = {"step": "ask", "sql": sql, "minimum": 20, "privacy": PRIVACY if privacy is None else privacy}
    return exact_question(profile="secure+dp", steps=[step], **changes)


@pytest.fixture
def sites(tmp_path: Path) -> Iterator[Sites]:
    made = Sites.make(tmp_path)
    yield made
    made.close()


@pytest.mark.processes
def test_a_killed_site_spends_its_budget_once_and_the_answer_holds_noise(sites: Sites) -> None:
    budgets = sites.home("shop").budgets
    budgets.set("people", Limit(2.5))
    killed = "import os, atoll.node.steps.ask as ask; ask.AskStep.run = lambda *_: os.kill(os.getpid(), 9)"
    job = question(timeouts={"join": 20, "message": 40, "lost": 1})
    ended = sites.both(job, before=killed)
    assert (ended["shop"].code, ended["bank"].code) == (-9, 7)
    assert states(sites) == ["reserve"]

    ended = sites.both(job)
    assert {end.code for end in ended.values()} == {0}, ended
    account = budgets.accounts()["people"]
    assert states(sites) == ["release", "spend"]
    assert (account.parts[1].loss, account.parts[1].to) == (pure(2.0), "bank")
    (done,) = sites.home("bank").finished()
    (_, *rows) = csv.reader(sites.home("bank").result(done).path("answer.csv").read_text().splitlines())
    true = {row[0]: row for row in pooled(sites.folder, SQL.replace("s.visits)", "least(15, s.visits))"), 1)}
    assert [row[0] for row in rows] == ["E", "N", "S", "W"]  # Mars has nobody: 20 more by chance of e^-20
    for region, n, visits in rows:  # noise of scale 1 and 15: 45 times that by chance of e^-45
        assert abs(int(n) - true[region][1]) <= 45
        assert abs(float(visits) - true[region][2]) <= 700
    assert (
        "This job took ε = 2 from the privacy budget" in sites.home("shop").result(done).path("report.html").read_text()
    )
    assert "The numbers hold noise" in sites.home("bank").result(done).path("report.html").read_text()


def states(sites: Sites) -> list[str]:
    return [part.state for part in sites.home("shop").budgets.accounts()["people"].parts]


def test_a_spent_budget_refuses_at_both_sites_and_a_job_that_fails_early_spends_nothing(sites: Sites) -> None:
    ended = both_in_process(sites, question())
    assert all(isinstance(end, ContractError) for end in ended.values()), ended
    assert "data set people has no privacy budget" in str(ended["bank"])

    sites.home("shop").budgets.set("people", Limit(2.5))
    sites.write("bank", ["id,age,income,left", "C0000,30"])  # a damaged table: the asker ends the job
    assert any(end is not None for end in both_in_process(sites, question()).values())
    assert states(sites) == ["release"]

    sites.home("shop").budgets.reserve("people", pure(2.0), job="other", to="bank").spend()
    sites.write("bank", tables()["bank"])
    ended = both_in_process(sites, question())
    assert all(isinstance(end, ContractError) for end in ended.values()), ended
    assert "does not allow this answer any more" in str(ended["bank"])
    assert "80.0% is spent" in str(ended["shop"])
    assert "80.0%" not in str(ended["bank"])  # it is no business of the asker's who else asked
    assert states(sites) == ["release", "spend"]


def test_a_data_set_with_a_budget_takes_no_part_in_jobs_without_noise(tmp_path: Path) -> None:
    budgets = Budgets(tmp_path, "shop")
    exact, trees, private = (Job.of(one) for one in (exact_question(), document(), question()))
    assert reserve_for(budgets, exact, "shop", build(exact)) is None
    assert reserve_for(budgets, trees, "shop", build(trees)) is None
    with pytest.raises(ContractError, match="has no privacy budget") as caught:
        reserve_for(budgets, private, "shop", build(private))
    assert caught.value.step == "ask"
    budgets.set("people", Limit(2.0))
    for job, step in ((exact, "ask"), (trees, "align")):
        with pytest.raises(ContractError, match=f"step {step} adds no noise, and data set people has a") as caught:
            reserve_for(budgets, job, "shop", build(job))
        assert (caught.value.step, caught.value.site) == (step, "shop")
    for job in (exact, private):
        assert reserve_for(budgets, job, "bank", build(job)) is None  # the asker tells nothing of its rows
    reserved = reserve_for(budgets, private, "shop", build(private))
    assert reserved is not None
    assert "took ε = 2 from" in reserved.sentence()


def test_the_spend_is_on_the_disk_before_noise_is_drawn_and_without_it_none_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    budgets, job, seen = Budgets(tmp_path, "shop"), Job.of(question()), []
    budgets.set("people", Limit(4.0))
    (step,) = build(job)

    def drawn(mechanism: Any, groups: int) -> None:
        seen.append([part.state for part in budgets.accounts()["people"].parts])

    monkeypatch.setattr(ask, "noise", drawn)
    step._noise(SimpleNamespace(job=job, budget=reserve_for(budgets, job, "shop", [step])))(5)
    assert seen == [["spend"]]
    taken_back = SimpleNamespace(job=job, budget=reserve_for(budgets, job, "shop", [step]))
    budgets.release("people")
    with pytest.raises(ContractError, match="no longer reserved"):
        step._noise(taken_back)(5)
    assert len(seen) == 1


def test_the_profile_demands_noise_of_every_step_at_every_site() -> None:
    check(Job.of(question()))
    for wrong, step in ((exact_question(profile="secure+dp"), "ask"), (document(profile="secure+dp"), "align")):
        with pytest.raises(ContractError, match=f"step {step} adds no noise to what it tells about") as caught:
            check(Job.of(wrong))
        assert caught.value.cure
    step = build(Job.of(question()))[0]
    assert step.loss(Job.of(question()), "bank") == NOTHING
    assert step.loss(Job.of(question()), "shop") == pure(2.0)


@pytest.mark.parametrize(
    ("privacy", "words"),
    [
        ({"epsilon": 0}, "epsilon"),
        ({"epsilon": 1, "delta": 1}, "delta"),
        ({"epsilon": 1, "bounds": {"s.visits": [0]}}, "bounds"),
        ({"epsilon": 1, "groups": ["N"]}, "groups"),
        ({"epsilon": 1, "noise": "laplace"}, "noise"),
    ],
)
def test_a_document_that_does_not_fit_is_refused(privacy: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        Job.of(question(privacy))


def test_in_a_notebook_the_answer_holds_noise_and_says_so(tmp_path: Path) -> None:
    sql = "select count(*) as n, avg(s.visits) as v from bank b join shop s using (id)"
    job = question({"epsilon": 100.0, "delta": 1e-9, "bounds": {"shop.visits": [0, 20]}}, sql)
    ran = simulate(frames(), job, out=tmp_path)
    ((n, mean),) = ran.report.answer.rows
    (true,) = by_hand()
    assert abs(int(n) - true[0]) <= 20
    assert abs(float(mean) - true[1]) < 2
    assert ran.report.answer.noisy
    assert any("shop adds noise to every total" in line for line in ran.report.answer.plan)


def by_hand() -> list[tuple[int, float]]:
    bank, shop = ({line.split(",")[0]: line.split(",") for line in lines[1:]} for lines in tables().values())
    both = [float(shop[key][1]) for key in bank.keys() & shop.keys()]
    return [(len(both), sum(both) / len(both))]


def test_the_command_line_makes_a_job_with_noise(tmp_path: Path) -> None:
    out = tmp_path / "question.yaml"
    words = ["ask", SQL, "--data", "bank=people:id", "--data", "shop=people:id", "--asker", "bank"]
    words += ["--purpose", "learn about regions", "--out", str(out), "--epsilon", "0.5"]
    groups = [word for region in "NESW" for word in ("--group", region)]
    done = CliRunner().invoke(app, [*words, "--bounds", "s.visits=0:20", *groups])
    assert done.exit_code == 0, done.output
    assert "shop adds noise to every total before anything is opened (Laplace noise, ε = 0.5)" in done.output
    job = Job.load(out)
    check(job)
    assert job.profile == "secure+dp"
    for wrong, said in (
        (["--bounds", "s.visits=0"], "is not SITE.COLUMN=LOW:HIGH"),
        ([], "needs bounds for shop.visits"),
        (["--bounds", "s.visits=0:20"], "needs a list of the groups of region"),
    ):
        assert said in str(CliRunner().invoke(app, [*words, *wrong]).exception)
