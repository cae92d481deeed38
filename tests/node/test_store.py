"""The job's folder: files whole or absent, one rename at the end, leftovers of dead processes cleared."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import numpy as np
import pytest

from atoll.core.channel import AuditLine
from atoll.core.errors import InputError
from atoll.node.home import Home
from atoll.node.log import JobLog
from atoll.node.store import Store, room
from atoll.whole_files import TORN


def test_a_job_takes_its_name_at_the_end_and_replaces_its_earlier_run(tmp_path: Path) -> None:
    for run in ("first", "second"):
        store = Store.begin(tmp_path, "job-1")
        store.write("note", run.encode())
        assert not (tmp_path / "job-1" / "note").exists() or run == "second"
        store.commit(tmp_path, "job-1")
    assert (tmp_path / "job-1" / "note").read_text() == "second"
    assert [path.name for path in tmp_path.iterdir()] == ["job-1"]


def test_folders_of_dead_processes_count_as_failed_and_those_of_live_ones_are_left(tmp_path: Path) -> None:
    for name in ("a.running-999999999", "b.running-1", "c.running-x", f"d.running-{os.getpid()}"):
        (tmp_path / name).mkdir()
    Store.begin(tmp_path, "job").keep_failed(tmp_path, "job")
    assert {path.name for path in tmp_path.iterdir()} == {
        "a.failed",
        "b.running-1",
        "c.failed",
        "d.failed",
        "job.failed",
    }


def test_a_failed_try_is_taken_up_without_its_torn_files(tmp_path: Path) -> None:
    first = Store.begin(tmp_path, "job")
    first.write("resume/whole", b"1")
    (first.folder / "resume" / f"{TORN}x").write_bytes(b"half")
    (tmp_path / "other.failed").mkdir()
    first.keep_failed(tmp_path, "job")
    second = Store.begin(tmp_path, "job")
    assert [path.name for path in second.path("resume").iterdir()] == ["whole"]
    assert {path.name for path in tmp_path.iterdir()} == {second.folder.name, "other.failed"}


def test_a_write_that_fails_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(tmp_path)
    store.write("part", b"old")

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(InputError, match="the disk is full"):
        store.write("part", b"new")
    assert store.path("part").read_bytes() == b"old"
    assert [path.name for path in tmp_path.iterdir()] == ["part"]


def test_only_a_full_disk_is_a_full_disk(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="disk is full"), room(tmp_path):
        raise OSError(errno.EDQUOT, "quota")
    with pytest.raises(ConnectionResetError), room(tmp_path):
        raise ConnectionResetError


def test_arrays_and_json_come_back_or_say_that_they_are_damaged(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.write_array("rows.npy", np.arange(3))
    assert store.read_array("rows.npy").tolist() == [0, 1, 2]
    store.write_json("x.json", {"a": 1})
    assert store.read_json("x.json", dict[str, int]) == {"a": 1}
    store.write("rows.npy", b"\x80\x04 pickle")
    for read in (lambda: store.read_array("rows.npy"), lambda: store.read_json("none.json", dict)):
        with pytest.raises(InputError, match="absent or damaged"):
            read()


def test_the_audit_file_counts_its_lines(tmp_path: Path) -> None:
    log = JobLog(Store(tmp_path))
    for size in (3, 4):
        log.audit(AuditLine(0.0, "job", "align", "shop", "sent", "x.Masked", size, f"d{size}"))
    digest = log.flush()
    log.event("done", text="well")
    log.close()
    assert len(digest) == 64
    assert log.summary == {("align", "x.Masked", "sent", "shop"): [2, 7, "d3"]}
    assert len((tmp_path / "audit.jsonl").read_text().splitlines()) == log.lines == 2


def test_a_try_that_was_cut_off_is_continued_in_the_same_files(tmp_path: Path) -> None:
    line = AuditLine(0.0, "job", "align", "shop", "sent", "x.Masked", 3, "d")
    first = JobLog(Store(tmp_path))
    first.event("began")
    first.audit(line)
    first.close()
    with open(tmp_path / "audit.jsonl", "ab") as file:
        file.write(b'{"time":0.0,"job":"jo')  # killed while it wrote
    second = JobLog(Store(tmp_path))
    second.audit(line)
    second.close()
    assert second.tries == 2
    assert second.traffic() == {("align", "shop", "sent"): 6}
    assert len((tmp_path / "audit.jsonl").read_text().splitlines()) == second.lines == 2


def test_a_damaged_audit_file_is_not_continued(tmp_path: Path) -> None:
    (tmp_path / "audit.jsonl").write_bytes(b"\0\0\0\n")
    with pytest.raises(InputError, match="damaged"):
        JobLog(Store(tmp_path))


def test_results_are_found_by_id_or_by_the_newest_of_a_name(tmp_path: Path) -> None:
    home = Home(tmp_path)
    for at, name in enumerate(("loans-aa", "loans-bb", "other-cc")):
        Store(tmp_path / "jobs" / name).write("result.json", b"{}")
        os.utime(tmp_path / "jobs" / name / "result.json", (at, at))
    assert home.result("loans").folder.name == "loans-bb"
    assert home.result("loans-aa").folder.name == "loans-aa"
    with pytest.raises(InputError, match="Did you mean"):
        home.result("loan-aa")
