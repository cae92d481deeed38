"""Imports point down, and what is heavy is imported only where it is used."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.repo.source import ROOT

HEAVY = ("duckdb", "grpc", "numba", "plotly", "scipy", "sklearn")


@pytest.mark.processes
def test_imports_point_down() -> None:
    lint = Path(sys.executable).parent / "lint-imports"
    done = subprocess.run([lint, "--no-cache"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-3000:]


@pytest.mark.processes
@pytest.mark.parametrize("module", ["atoll", "atoll.core.session", "atoll.cli"])
def test_importing_is_light(module: str) -> None:
    code = f"import sys, {module}; print(*sorted({set(HEAVY)} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
