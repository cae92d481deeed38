"""A budget is never passed and no spend is ever lost: crashes at every byte, kills, races, edits, full disks."""

from __future__ import annotations

import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from typer.testing import CliRunner

from atoll.cli import app
from atoll.core.errors import ContractError, InputError
from atoll.data.catalogue import Catalogue
from atoll.node import budgets as module
from atoll.node.budgets import FILE, HEAD, Budgets
from atoll.privacy.accountant import Limit, Loss, pure, rho_of
from atoll.transport.site import init_site
from tests.node.sites import until


@pytest.fixture
def budgets(tmp_path: Path) -> Budgets:
    found = Budgets(tmp_path, "shop")
    found.set("people", Limit(1.0))
    return found


def reserve(budgets: Budgets, epsilon: float, job: str = "job-1"):
    return budgets.reserve("people", pure(epsilon), job=job, to="bank")


def states(budgets: Budgets) -> list[str]:
    return [part.state for part in budgets.accounts()["people"].parts]


def test_what_is_reserved_counts_as_spent_until_it_is_released(budgets: Budgets) -> None:
    first = reserve(budgets, 0.6)
    with pytest.raises(ContractError) as caught:
        reserve(budgets, 0.5, "job-2")
    error = caught.value
    assert (error.site, error.exit_code) == ("shop", 3)
    assert "data set people" in error.what
    assert "Of ε = 1, 60.0% is spent or reserved and 40.0% is left." in error.detail
    assert "left" not in error.to_dict()["what"] + error.to_dict()["cure"]  # not for the other site
    assert "atoll site budget show people" in error.cure
    first.release()
    second = reserve(budgets, 0.5, "job-2")
    second.spend()
    second.spend()
    second.release()  # too late: it was opened
    assert states(budgets) == ["release", "spend"]
    reserve(budgets, 0.5, "job-3")
    assert budgets.accounts()["people"].spent() == 1.0


def test_without_a_budget_nothing_is_answered_and_no_file_is_made(tmp_path: Path) -> None:
    found = Budgets(tmp_path, "shop")
    assert found.accounts() == {}
    assert not (tmp_path / FILE).exists()
    with pytest.raises(ContractError, match="people has no privacy budget") as caught:
        reserve(found, 0.1)
    assert "atoll site budget set people" in caught.value.cure


def test_another_try_of_the_same_job_takes_the_place_of_the_one_that_was_killed(budgets: Budgets) -> None:
    killed = reserve(budgets, 1.0)
    again = reserve(budgets, 1.0)
    assert states(budgets) == ["release", "reserve"]
    with pytest.raises(ContractError, match="no longer reserved"):
        killed.spend()  # it was not dead after all: it must not open
    again.spend()
    with pytest.raises(ContractError, match="does not allow"):
        reserve(budgets, 1.0)  # what was opened stays spent, also for the same job


def test_the_operator_releases_what_is_left_over(budgets: Budgets) -> None:
    stuck, done = reserve(budgets, 0.5), reserve(budgets, 0.5, "job-2")
    done.spend()
    assert budgets.release("people") == 1
    assert budgets.release("people") == 0
    assert budgets.release("others") == 0
    with pytest.raises(ContractError, match="no longer reserved"):
        stuck.spend()
    assert states(budgets) == ["release", "spend"]


def test_a_smaller_limit_holds_at_once_and_gaussian_losses_add_up(tmp_path: Path) -> None:
    found = Budgets(tmp_path, "shop")
    found.set("people", Limit(1.0, 1e-6))
    half = Loss(None, rho_of(1.0, 1e-6) / 2)
    for job in ("a", "b"):
        found.reserve("people", half, job=job, to="bank").spend()
    with pytest.raises(ContractError):
        found.reserve("people", half, job="c", to="bank")
    found.set("people", Limit(2.0, 1e-6))
    found.reserve("people", half, job="c", to="bank").spend()
    found.set("people", Limit(0.1, 1e-6))
    assert "and 0.0% is left" in found.accounts()["people"].sentence()
    with pytest.raises(ContractError):
        found.reserve("people", pure(0.001), job="d", to="bank")


def test_a_crash_at_every_byte_leaves_what_was_on_the_disk(budgets: Budgets, tmp_path: Path) -> None:
    reserve(budgets, 0.3).spend()
    reserve(budgets, 0.3, "job-2").release()
    reserve(budgets, 0.3, "job-3")
    whole = (budgets.folder / FILE).read_bytes()
    ends = [at + 1 for at, byte in enumerate(whole) if byte == 10]
    torn = Budgets(tmp_path / "torn", "shop")
    torn.folder.mkdir()
    for cut in range(0, len(whole), 7):
        (torn.folder / FILE).write_bytes(whole[:cut])
        behind = cut % 2 if cut > ends[0] else 0  # the crash came before the last line's head, or after
        _put_head(torn.folder, whole[:cut].splitlines(keepends=True), behind)
        accounts = torn.accounts()
        kept = max((end for end in ends if end <= cut), default=0)
        assert (torn.folder / FILE).read_bytes() == whole[:kept]
        spends = sum(b'"what":"spend"' in line for line in whole[:kept].splitlines())
        assert sum(part.state == "spend" for one in accounts.values() for part in one.parts) == spends
        torn.set("people", Limit(1.0))  # and goes on


def _put_head(folder: Path, lines: list[bytes], behind: int) -> None:
    """Write the head that knows of all whole lines, or of all but so many."""
    kept = [line for line in lines if line.endswith(b"\n")]
    kept = kept[: len(kept) - behind]
    digest = hashlib.sha256(kept[-1][:-1]).hexdigest() if kept else module.START
    (folder / HEAD).write_text(json.dumps({"lines": len(kept), "digest": digest}))


CUTS = ("one line", "two lines", "half a line more", "all", "file", "old copy", "head", "bad head")


@pytest.mark.parametrize("cut", CUTS)
def test_an_end_that_was_cut_off_is_noticed(budgets: Budgets, cut: str) -> None:
    reserve(budgets, 0.4).spend()
    path, head = budgets.folder / FILE, budgets.folder / HEAD
    lines, known = path.read_bytes().splitlines(keepends=True), head.read_bytes()
    assert json.loads(known)["lines"] == len(lines) == 3
    if cut == "file":
        path.unlink()
    elif cut in ("head", "bad head"):
        head.unlink() if cut == "head" else head.write_bytes(known[:-3])
    elif cut == "old copy":  # as long as it was, with another end
        path.write_bytes(b"".join(lines[:2]))
        _put_head(budgets.folder, lines, 1)
        budgets.release("people")
        head.write_bytes(known)
    else:
        kept = {
            "one line": lines[:2],
            "two lines": lines[:1],
            "half a line more": [*lines[:2], lines[2][:9]],
            "all": [],
        }
        path.write_bytes(b"".join(kept[cut]))
    before = path.read_bytes() if path.exists() else b""
    for use in (budgets.accounts, lambda: reserve(budgets, 0.1, "x"), lambda: budgets.set("people", Limit(9.0))):
        with pytest.raises(InputError, match=r"cut off|belongs to|knows of|damaged") as caught:
            use()
        assert "whole copy" in caught.value.cure
    assert path.read_bytes() == before
    path.write_bytes(b"".join(lines))
    head.write_bytes(known)
    assert states(budgets) == ["spend"]


@pytest.mark.parametrize("change", ["edit", "drop", "swap", "noise", "unknown part"])
def test_an_edited_file_is_refused_until_a_whole_one_is_back(budgets: Budgets, change: str) -> None:
    reserve(budgets, 0.9).spend()
    path = budgets.folder / FILE
    lines = path.read_bytes().splitlines(keepends=True)
    if change == "edit":
        lines[1] = lines[1].replace(b"0.9", b"0.1")
    elif change == "drop":
        del lines[1]
    elif change == "swap":
        lines[1:3] = lines[2], lines[1]
    elif change == "noise":
        lines[0] = b"{}\n"
    else:
        entry = json.loads(lines[2])
        lines[2] = json.dumps({**entry, "part": 7}).encode() + b"\n"
    path.write_bytes(b"".join(lines))
    for use in (budgets.accounts, lambda: reserve(budgets, 0.1, "x"), lambda: budgets.set("people", Limit(9.0))):
        with pytest.raises(InputError, match="damaged or changed at line") as caught:
            use()
        assert "whole copy" in caught.value.cure


def test_a_full_disk_reserves_nothing(budgets: Budgets, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module.os, "fsync", full)
    with pytest.raises(InputError, match="the disk is full"):
        reserve(budgets, 0.5)


def test_a_process_that_holds_the_file_is_waited_for_and_not_for_ever(
    budgets: Budgets, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "WAIT", 0.02)
    with budgets._book(), pytest.raises(InputError, match="another process has held"):
        reserve(budgets, 0.1)
    reserve(budgets, 0.1)


def test_jobs_at_the_same_moment_never_pass_the_limit_together(budgets: Budgets) -> None:
    granted: list[int] = []

    def many(name: int) -> None:
        for turn in range(8):
            try:
                part = reserve(budgets, 0.1, f"{name}-{turn}")
            except ContractError:
                continue
            part.spend()
            granted.append(part.number)

    threads = [threading.Thread(target=many, args=(name,)) for name in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(granted) == list(range(1, 11))  # ten tenths
    assert budgets.accounts()["people"].spent() == 1.0


CHILD = """
import os, sys
from pathlib import Path
from atoll.node.budgets import Budgets
from atoll.privacy.accountant import pure
budgets = Budgets(Path(sys.argv[1]), "shop")
opened = os.open(sys.argv[2], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
turn = 0
while True:
    part = budgets.reserve("people", pure(0.001), job=f"{os.getpid()}-{turn}", to="bank")
    if turn % 3 == 2:
        part.release()
    else:
        part.spend()
        os.write(opened, f"{part.number}\\n".encode())
    turn += 1
"""


@pytest.mark.processes
def test_kills_at_any_moment_lose_no_spend(budgets: Budgets, tmp_path: Path) -> None:
    """Two processes at a time, killed by signal 9 while they write; every answer that was opened is in the file."""
    budgets.set("people", Limit(1000.0))
    opened, draw = tmp_path / "opened", random.Random(5)
    for _ in range(3):
        before = opened.stat().st_size if opened.exists() else 0
        children = [subprocess.Popen([sys.executable, "-c", CHILD, str(tmp_path), str(opened)]) for _ in range(2)]
        wanted = before + draw.randint(20, 120)
        until(lambda wanted=wanted: opened.exists() and opened.stat().st_size > wanted)
        for child in children:
            os.kill(child.pid, signal.SIGKILL)
            child.wait()
        parts = {part.number: part.state for part in budgets.accounts()["people"].parts}
        told = [int(line) for line in opened.read_text().splitlines()]
        assert len(told) == len(set(told))
        assert all(parts[number] == "spend" for number in told)
        assert sum(state == "spend" for state in parts.values()) <= len(told) + 6  # spent, killed before it opened


def test_the_command_line_sets_shows_lists_and_releases(tmp_path: Path) -> None:
    home = tmp_path / "shop"
    init_site(home, "shop", "127.0.0.1:1")
    (tmp_path / "people.csv").write_text("id,x\na,1\nb,2\n")
    Catalogue(home / "data").add("people", tmp_path / "people.csv", ["id"])

    def run(*words: str):
        done = CliRunner().invoke(app, ["site", "budget", *words, "--home", str(home)])
        return done.output if done.exception is None else done.exception

    assert run("list") == "no data set has a privacy budget\n"
    assert "no privacy budget" in str(run("show", "people"))
    assert "Did you mean 'people'?" in str(run("set", "peopel", "--epsilon", "1"))
    for wrong in (["--epsilon", "0"], ["--epsilon", "nan"], ["--epsilon", "inf"], ["--epsilon", "1", "--delta", "1"]):
        assert isinstance(run("set", "people", *wrong), InputError), wrong
    said = run("set", "people", "--epsilon", "2", "--delta", "1e-6")
    assert said == "people at shop: Of ε = 2 at δ = 1e-06, 0.0% is spent or reserved and 100.0% is left.\n"
    budgets = Budgets(home, "shop")
    reserve(budgets, 0.5, "regions-0123456789").spend()
    budgets.reserve("people", Loss(None, 0.01), job="gaps-0123456789", to="bank")
    shown = run("show", "people")
    assert "regions-0123456789  bank       ε = 0.5   spent" in shown
    assert "gaps-0123456789     bank       ρ = 0.01  reserved" in shown
    assert "they would come to ε = 1.06." in run("show", "people", "--tight")
    assert run("release", "people") == "1 reserved part of the budget of people released\n"
    assert "people    2  1e-06  25.0%  1" in run("list")
