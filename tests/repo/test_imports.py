"""Imports point down, and what is heavy is imported only where it is used."""

import ast
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests.repo.source import ROOT, name, python_files, tree

# Import name -> distribution that brings it, where the two differ.
DISTRIBUTIONS = {
    "grpc": "grpcio",
    "llvmlite": "numba",
    "markupsafe": "jinja2",
    "sklearn": "scikit-learn",
    "yaml": "pyyaml",
}
# Accepted from users who have them, extras, or needed by the test suites only.
OPTIONAL = {"dp_accounting", "flwr", "hypothesis", "opacus", "opendp", "pandas", "polars", "pytest", "torch", "uvloop"}
HEAVY = ("dp_accounting", "duckdb", "grpc", "numba", "opacus", "opendp", "plotly", "scipy", "sklearn", "torch")


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


def test_everything_imported_is_a_dependency() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    declared = {re.split(r"[^\w-]", text)[0].lower() for text in project["dependencies"]}
    used: dict[str, str] = {}
    for file in python_files("src"):
        for node in ast.walk(tree(file)):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and node.module and not node.level:
                names = [node.module]
            for top in {dotted.split(".")[0] for dotted in names} - {"atoll"} - sys.stdlib_module_names:
                used[DISTRIBUTIONS.get(top, top)] = name(file)
    assert {where: used[where] for where in used.keys() - declared - OPTIONAL} == {}, "not in pyproject's dependencies"
    assert declared - used.keys() == set(), "declared in pyproject.toml and never imported"
