"""A question to two sites, as a job: the answer is DuckDB's on the pooled tables, and small groups stay closed."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from atoll.cli import app
from atoll.core.errors import ContractError, InputError
from atoll.node.job import Job, check
from atoll.node.steps import build
from atoll.notebook.simulation import simulate
from tests.node.sites import Sites, document, tables

SQL = (
    "select s.region, count(*) as n, avg(b.age) as age, sum(s.visits) as visits, stddev(b.income) as spread, "
    "median(b.income) as middle, max(s.visits) as most "
    "from bank b join shop s using (id) where b.age > 25 group by s.region order by n desc"
)


def question(sql: str = SQL, **changes: Any) -> dict[str, Any]:
    """A job that asks."""
    return {
        "name": "regions",
        "purpose": "learn how customers differ between regions",
        "expires": "2099-12-31",
        "profile": "hidden-intersection",
        "sites": {
            "bank": {"role": "asker", "data": "people", "id": "id"},
            "shop": {"role": "data-holder", "data": "people", "id": "id"},
        },
        "timeouts": {"join": 20, "message": 40, "lost": 3},
        "steps": [{"step": "ask", "sql": sql, "minimum": 20}],
        **changes,
    }


def pooled(folder: Path, sql: str, minimum: int) -> list[tuple[Any, ...]]:
    """DuckDB's answer, without groups below the minimum."""
    import duckdb

    with duckdb.connect() as connection:
        for name in ("bank", "shop"):
            connection.execute(f"CREATE TABLE {name} AS SELECT * FROM '{folder / name}.csv'")  # noqa: S608
        rows = connection.execute(sql.replace(" order by", f" having count(*) >= {minimum} order by")).fetchall()
    return [tuple(row) for row in rows]


def same(mine: list[list[str]], theirs: list[tuple[Any, ...]]) -> None:
    """Numbers to nine digits, text exactly."""
    assert len(mine) == len(theirs)
    for row, other in zip(mine, theirs, strict=True):
        for got, want in zip(row, other, strict=True):
            if isinstance(want, str):
                assert got == want
            else:
                assert float(got) == pytest.approx(float(want), rel=1e-9)


@pytest.mark.processes
def test_two_processes_answer_what_duckdb_answers_on_the_pooled_tables(tmp_path: Path) -> None:
    sites = Sites.make(tmp_path)
    ended = sites.both(question(), question())
    assert {end.code for end in ended.values()} == {0}, ended
    (job,) = sites.home("bank").finished()
    written = list(csv.reader(sites.home("bank").result(job).path("answer.csv").read_text().splitlines()))
    assert written[0] == ["region", "n", "age", "visits", "spread", "middle", "most"]
    same(written[1:], pooled(tmp_path, SQL, 20))
    report = sites.home("bank").result(job).path("report.html").read_text()
    assert "The question and its answer" in report
    assert "bank does not learn which rows join." in report
    assert "both values of income next to 0.5 of the way" in report
    assert "the values at the ranks, bit by bit" in report
    helper = sites.home("shop").result(job)
    assert not helper.path("answer.csv").exists()
    assert "no total was seen here" in ended["shop"].text


def frames() -> dict[str, Any]:
    found = {}
    for name, lines in tables().items():
        header, *rows = [line.split(",") for line in lines]
        columns = dict(zip(header, map(list, zip(*rows, strict=True)), strict=True))
        found[name] = {
            key: values if key in ("id", "region") else [float(value) for value in values]
            for key, values in columns.items()
        }
    return found


def test_in_a_notebook_small_groups_and_small_joins_stay_closed(tmp_path: Path) -> None:
    few = question(
        "select count(*) as n, sum(s.visits) from bank b join shop s using (id) where b.age < 20 and s.visits < 5"
    )
    ran = simulate(frames(), few, out=tmp_path)
    answer = ran.report.answer
    assert answer.columns == ("n", "SUM(s.visits)")
    assert answer.rows == ()
    assert ran.report_of("shop").answer.columns == ()


def test_a_question_is_joined_by_one_key(tmp_path: Path) -> None:
    job = question()
    for part in job["sites"].values():
        part["id"] = [["id"], ["id"]]
    with pytest.raises(InputError, match="compares by one key only"):
        simulate(frames(), job, out=tmp_path)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"steps": [{"step": "ask", "sql": "select count(*) from bank join other using (id)"}]}, "the job's sites are"),
        (
            {"profile": "secure", "steps": [{"step": "align"}, {"step": "ask", "sql": SQL}]},
            "has other steps, too",
        ),
        (
            {
                "sites": {
                    "bank": {"role": "label-holder", "data": "people", "id": "id"},
                    "shop": {"role": "feature-holder", "data": "people", "id": "id"},
                }
            },
            "0 askers among 2 sites",
        ),
        ({"profile": "secure", "steps": [{"step": "align"}]}, "0 label holders"),
    ],
)
def test_jobs_that_ask_wrongly_are_refused(change: dict[str, Any], words: str) -> None:
    job = Job.of(question(**change))
    with pytest.raises(InputError, match=words):
        read_by_a_person(job)


def test_the_profile_rules_out_steps_that_show_who_is_in_common() -> None:
    job = Job.of(document(profile="hidden-intersection"))
    with pytest.raises(ContractError, match="step align shows which rows are in common"):
        check(job)


def test_a_question_becomes_a_job_at_the_command_line(tmp_path: Path) -> None:
    out = tmp_path / "question.yaml"
    words = ["ask", SQL, "--data", "bank=people:id", "--data", "shop=people:id", "--asker", "bank"]
    done = CliRunner().invoke(app, [*words, "--purpose", "learn about regions", "--out", str(out)])
    assert done.exit_code == 0, done.output
    assert "bank does not learn which rows join." in done.output
    assert "shop computes on its own rows" in done.output
    job = Job.load(out)
    check(job)
    assert (job.profile, job.hub, job.sites["shop"].role) == ("hidden-intersection", "bank", "data-holder")
    for wrong, said in (
        (["--data", "bank=people:id", "--asker", "shop"], "brings no data"),
        (["--data", "bank", "--asker", "bank"], "is not SITE=DATASET:ID"),
    ):
        done = CliRunner().invoke(app, ["ask", SQL, *wrong, "--purpose", "learn about regions", "--out", str(out)])
        assert said in str(done.exception)


def read_by_a_person(job: Job) -> list[str]:
    check(job)
    return [line for step in build(job) for line in step.says(job)]
