"""The command line: what a person types first, and how it answers when something is wrong."""

from __future__ import annotations

import io
import json
import subprocess
import sys
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner

from atoll.cli import app
from atoll.cli.live import Terminal
from atoll.cli.output import error_block, show_error, table
from atoll.cli.stage import Ending, cause
from atoll.cli.story import Story
from atoll.core.errors import IdentityError, InputError, PeerFailed
from atoll.node.job import Job
from tests.node.sites import Sites, document, finish

RUN = CliRunner()


def atoll(*words: object) -> str:
    """Run a command that must succeed."""
    done = RUN.invoke(app, [str(word) for word in words], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.output


def test_a_site_its_card_and_its_data(tmp_path: Path) -> None:
    bank, shop, csv = tmp_path / "bank", tmp_path / "shop", tmp_path / "loans.csv"
    csv.write_text("id,amount,state\n1,5,NY\n1,,CA\n,7,CA\n")
    for name, home in (("bank", bank), ("shop", shop)):
        assert "fingerprint" in atoll("site", "init", name, "--address", "127.0.0.1:7443", "--home", home)
    card = tmp_path / "shop.card"
    card.write_text(atoll("site", "card", "--home", shop))
    assert "bank trusts shop" in atoll("site", "trust", card, "--home", bank)
    assert "trusted" in atoll("site", "show", "--home", bank)
    assert "no data sets yet" in atoll("data", "list", "--home", bank)
    said = atoll("data", "add", "loans", csv, "--id", "id", "--categorical", "amount", "--home", bank)
    assert "3 rows" in said
    assert "1 rows repeat an id" in said
    assert "1 rows have no id" in said
    assert "loans" in atoll("data", "list", "--home", bank)
    assert "categorical" in atoll("data", "show", "loans", "--home", bank)
    assert "no job has finished" in atoll("job", "list", "--home", bank)


def test_a_job_is_checked_without_sending_anything(tmp_path: Path) -> None:
    sites = Sites.make(tmp_path)
    path = tmp_path / "job.yaml"
    path.write_text(Job.of(document()).to_yaml())
    said = atoll("job", "check", path, "--as", "shop", "--home", tmp_path / "shop")
    assert "shop can take part" in said
    assert "bucketed-intersection" in said
    assert "no side was checked" in atoll("job", "check", path, "--home", tmp_path / "none")
    assert "align → split" in atoll("job", "show", path)
    sites.write("shop", ["id,visits,region"])
    with pytest.raises(InputError, match="has no rows"):
        atoll("job", "check", path, "--home", tmp_path / "shop")
    with pytest.raises(InputError, match="is shop, not bank"):
        atoll("job", "check", path, "--as", "bank", "--home", tmp_path / "shop")


def test_protocols_are_listed_and_shown() -> None:
    assert "ecdh-intersection" in atoll("protocol", "list")
    said = atoll("protocol", "show", "job-contract")
    assert "Reveals" in said
    assert "node.contract.Statement" in said
    with pytest.raises(InputError, match="Did you mean 'job-contract'"):
        atoll("protocol", "show", "job-contrct")


def test_errors_are_one_block_with_an_exit_code(capsys: pytest.CaptureFixture[str]) -> None:
    error = InputError("a file is empty", site="bank", column="id", cure="Fill it.", detail="It is /tmp/x.")
    block = error_block(error)
    for words in ("✗ a file is empty.", "where:   site bank, column id", "details: It is /tmp/x.", "cure:    Fill it."):
        assert words in block
    assert show_error(error) == 2
    assert show_error(error, as_json=True) == 2
    assert json.loads(capsys.readouterr().out)["what"] == "a file is empty"
    assert "shop ended the job: it broke" in error_block(PeerFailed("it broke", site="shop"))
    assert show_error(ZeroDivisionError("x")) == 1
    assert "Traceback" not in capsys.readouterr().err
    assert table(("a", "b"), [(1, "x")], right=(0,)).splitlines()[0] == "a  b"


@pytest.mark.processes
def test_the_process_ends_with_the_documented_code(tmp_path: Path) -> None:
    def run(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([sys.executable, "-m", "atoll.cli", *words], capture_output=True, text=True, cwd=tmp_path)

    begun = time.perf_counter()
    assert "Sites compute together" in run("--help").stdout
    assert time.perf_counter() - begun < 3.0
    nobody = run("site", "show")
    assert nobody.returncode == IdentityError.exit_code
    assert nobody.stderr.startswith("✗ there is no site")
    unknown = run("job", "rum")
    assert unknown.returncode == 2
    assert "Traceback" not in unknown.stderr


@pytest.mark.processes
def test_two_processes_train_and_later_score(tmp_path: Path) -> None:
    sites = Sites.make(tmp_path)
    try:
        ended = sites.both(document(), json=True)
        assert [end.code for end in ended.values()] == [0, 0], ended
        events = [json.loads(line) for line in ended["shop"].text.splitlines()]
        assert events[-1]["event"] == "finished"
        assert "leavers" in atoll("job", "list", "--home", tmp_path / "bank")
        assert "Partnership" in atoll("job", "show", "leavers", "--home", tmp_path / "bank")
        score = document(name="scores", steps=[{"step": "align"}, {"step": "predict", "model": "leavers"}])
        score["sites"]["bank"]["label"] = ""
        ended = {name: finish(child) for name, child in [(n, sites.start(n, score)) for n in ("shop", "bank")]}
        assert [end.code for end in ended.values()] == [0, 0], ended
        lines = sites.home("bank").result("scores").path("scores.csv").read_text().splitlines()
        assert lines[0] == "id,score"
        assert all(0 < float(line.split(",")[1]) < 1 for line in lines[1:])
        assert len(lines) > 300
    finally:
        sites.close()


def test_the_story_of_a_demonstration(capsys: pytest.CaptureFixture[str]) -> None:
    story = Story("Two sites", ["bank", "shop"], "job.yaml")
    story.opening([("bank", 10, ("a", "b", "c", "d", "e"), "y"), ("shop", 9, ("f",), "")], "loans")
    with story:
        for site in ("shop", "bank"):
            story.heard({"event": "done", "site": site, "step": "train", "text": "2 trees", "seconds": 1, "sent": 5})
        story.heard({"event": "note", "site": "shop", "text": "a note"})
    figures = {"alone": {"auc": 0.6, "ks": 0.2}, "partnership": {"auc": 0.7, "ks": 0.3}, "vectors": [4, 900]}
    story.ending({**figures, "limit": "one for 100 rows", "seconds": 3.0, "bytes": 10}, {"bank": Path("r.html")})
    said = capsys.readouterr().out
    for words in ("y (the label), a, b, c, d and 1 more", "shop: 2 trees", "raises KS by 50%", "r.html"):
        assert words in said


def test_the_cause_of_a_failed_demonstration_is_the_first_site_s() -> None:
    failed = {"event": "failed", "what": "no rows", "at": "shop", "cure": "Add some.", "step": "prepare"}
    endings = {"bank": Ending(5, [failed]), "shop": Ending(2, [failed]), "town": Ending()}
    error = cause(endings)
    assert error is not None
    assert (error.what, error.site) == ("no rows", "shop")
    assert cause({"bank": Ending()}) is None
    crashed = cause({"bank": Ending(-9, [], "Killed")})
    assert crashed is not None
    assert "code -9" in crashed.what


def test_a_person_at_a_terminal_sees_steps_and_one_moving_line() -> None:
    from rich.console import Console

    screen = io.StringIO()
    watch = Terminal("bank")
    watch.console = Console(file=screen, force_terminal=True, width=120, highlight=False)
    with watch:
        watch.waiting([("shop", "host:1")], 9.0)
        watch.started("train", "Train boosted trees", 4, 5)
        watch.progress("trees", 3, 10)
        watch.ended("train", "10 trees", 2.5, 10, 20)
    watch.finished({"report": "r.html"})
    said = screen.getvalue()
    for words in (
        "[4/5] Train boosted trees",
        "3 of 10 trees",
        "✓ train",
        "r.html",
    ):
        assert words in said
