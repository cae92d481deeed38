"""The tools that the Makefile calls."""

import subprocess
import sys

import pytest

from tests.repo.source import ROOT
from tools import check, install


@pytest.mark.processes
def test_a_stage_stops_at_its_first_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(check, "command", lambda *words: [sys.executable, "-c", *words])
    verdict = check.stage("x", "y", (("print('one')",), ("print('two'); raise SystemExit(3)",), ("print('three')",)))
    assert not verdict.passed
    assert verdict.output.split() == ["one", "two"]
    assert verdict.line().startswith("FAIL  x")


def test_this_python_is_suitable() -> None:
    assert install.suitable() == sys.executable


def test_an_old_python_looks_for_another(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(install.sys, "version_info", (3, 9, 0, "final", 0))
    monkeypatch.setattr(install.shutil, "which", {"python3.12": "/opt/python3.12"}.get)
    monkeypatch.setattr(install, "works", lambda python: True)
    assert install.suitable() == "/opt/python3.12"
    monkeypatch.setattr(install, "works", lambda python: False)
    assert install.suitable() is None


@pytest.mark.processes
def test_make_tells_its_targets() -> None:
    told = subprocess.run(["make", "--no-print-directory"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert [line.split()[1] for line in told.splitlines()] == [
        "demo",
        "test",
        "check",
        "docs",
        "bench",
        "format",
        "clean",
    ]
