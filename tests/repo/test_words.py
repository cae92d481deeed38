"""What must not be written in the product: code from elsewhere, weak randomness, checks that -O removes."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.repo.source import SRC, name, python_files, tree

# Modules that run what they read, or that pretend to be random.
FORBIDDEN_MODULES = {"pickle", "cPickle", "cloudpickle", "dill", "marshal", "shelve", "jsonpickle"}
FORBIDDEN_CALLS = {"eval", "exec", "compile", "__import__"}
# Here every random number is a secret, or may become one.
SECRET_FOLDERS = ("crypto", "core", "protocols", "learn")


def imports(module: ast.Module) -> Iterator[tuple[int, str]]:
    """Line and dotted name of everything imported, at any depth."""
    for node in ast.walk(module):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.lineno, node.module
            yield from ((node.lineno, f"{node.module}.{alias.name}") for alias in node.names)


def forbidden(module: ast.Module) -> Iterator[str]:
    """Lines that break a rule for all of the product, with the reason."""
    for line, imported in imports(module):
        if imported.split(".")[0] in FORBIDDEN_MODULES:
            yield f"line {line}: imports {imported}, which runs code that it reads"
    for node in ast.walk(module):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in FORBIDDEN_CALLS:
            yield f"line {node.lineno}: calls {node.func.id}"
        if (
            isinstance(node, ast.keyword)
            and node.arg == "allow_pickle"
            and getattr(node.value, "value", 0) is not False
        ):
            yield f"line {node.value.lineno}: allow_pickle"
        if isinstance(node, ast.Assert):
            yield f"line {node.lineno}: assert is gone under -O; raise an error of atoll.core.errors"


def weak_randomness(module: ast.Module) -> Iterator[str]:
    """Lines that draw numbers that can be guessed."""
    for line, imported in imports(module):
        if imported == "random" or imported.startswith(("random.", "numpy.random")):
            yield f"line {line}: imports {imported}; secrets come from atoll.crypto.random"
    for node in ast.walk(module):
        if isinstance(node, ast.Attribute) and ast.unparse(node) in ("np.random", "numpy.random"):
            yield f"line {node.lineno}: numpy.random; secrets come from atoll.crypto.random"


def findings(files: list[Path], rule: object) -> dict[str, list[str]]:
    found = {name(file): list(rule(tree(file))) for file in files}  # type: ignore[operator]
    return {file: lines for file, lines in found.items() if lines}


def test_the_product_holds_no_forbidden_words() -> None:
    assert findings(python_files("src"), forbidden) == {}


def test_secrets_come_from_the_strong_generator() -> None:
    files = [file for file in python_files("src") if file.relative_to(SRC).parts[0] in SECRET_FOLDERS]
    assert findings(files, weak_randomness) == {}


@pytest.mark.parametrize(
    "line",
    [
        "import pickle",
        "from pickle import loads",
        "import cloudpickle as c",
        "import marshal",
        "eval(x)",
        "exec(x)",
        "assert x",
        "np.load(f, allow_pickle=True)",
    ],
)
def test_each_forbidden_word_is_noticed(line: str) -> None:
    assert list(forbidden(ast.parse(line)))


@pytest.mark.parametrize(
    "line",
    ["import random", "from numpy.random import default_rng", "np.random.default_rng()", "from numpy import random"],
)
def test_each_weak_generator_is_noticed(line: str) -> None:
    assert list(weak_randomness(ast.parse(line)))


def test_innocent_lines_pass() -> None:
    module = ast.parse(
        "import re\nre.compile('x')\nnp.load(f, allow_pickle=False)\nfrom atoll.crypto.random import Rng"
    )
    assert list(forbidden(module)) == []
    assert list(weak_randomness(module)) == []
