"""Code blocks of the documentation, and how the tests run them.

Blocks of a page run in its order, in one empty folder. ```` ```yaml title="job.yaml" ```` (any language with a title)
is written to that file; `bash` runs with atoll on the PATH; all `python` blocks of a page run as one script. A comment
`<!-- not run: why -->` above a block keeps it from being run.
"""

import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from tests.repo.source import ROOT

PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
GENERATED = (ROOT / "docs" / "protocols", ROOT / "docs" / "reference")
SECONDS = 140.0


@dataclass(frozen=True)
class Block:
    """One fenced block."""

    line: int
    language: str
    title: str
    code: str
    skipped: bool

    @property
    def runs(self) -> bool:
        return not self.skipped and (bool(self.title) or self.language in ("bash", "python"))


def blocks(page: Path) -> list[Block]:
    """The fenced blocks of a page."""
    found, before, start = [], "", None
    lines = page.read_text(encoding="utf-8").splitlines()
    language = title = ""
    code: list[str] = []
    for number, line in enumerate(lines, 1):
        fence = re.match(r"\s*```(\w*)(.*)$", line)
        if start is not None and line.strip() == "```":
            found.append(Block(start, language, title, "\n".join(code) + "\n", before.startswith("<!-- not run:")))
            start, before = None, ""
        elif start is not None:
            code.append(line)
        elif fence:
            start, language, code = number, fence[1], []
            named = re.search(r'title="([^"]+)"', fence[2])
            title = named[1] if named else ""
        elif line.strip():
            before = line.strip()
    return found


def pages_that_run() -> list[Path]:
    pages = [page for page in PAGES if not any(page.is_relative_to(folder) for folder in GENERATED)]
    return [page for page in pages if any(block.runs and not block.title for block in blocks(page))]


def run_page(page: Path, folder: Path) -> None:
    """Run a page's blocks in an empty folder.

    Raises:
        AssertionError: A block failed; with its line and its output.
    """
    running = [block for block in blocks(page) if block.runs]
    python = [block for block in running if block.language == "python" and not block.title]
    for block in running:
        if block.title:
            (folder / block.title).write_text(block.code, encoding="utf-8")
        elif block.language == "bash":
            _run(["bash", "-euo", "pipefail", "-c", block.code], folder, f"{page.name}:{block.line}")
        elif block is python[-1]:
            script = folder / "page.py"
            script.write_text("\n\n".join(one.code for one in python), encoding="utf-8")
            _run([sys.executable, script.name], folder, f"{page.name}: its python blocks")


def _run(command: list[str], folder: Path, where: str) -> None:
    tools = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    env = {key: value for key, value in os.environ.items() if not key.startswith(("ATOLL", "PYTEST"))}
    env |= {"PATH": tools, "COLUMNS": "100", "NO_COLOR": "1", "PYTHONPATH": str(ROOT / "src")}
    env["OMP_NUM_THREADS"] = "1"  # pages run beside other tests, and small networks gain nothing by more
    done = subprocess.run(
        command, cwd=folder, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        text=True, timeout=SECONDS,
    )  # fmt: skip
    if done.returncode:
        raise AssertionError(f"{where} ended with exit code {done.returncode}:\n{done.stdout[-4000:]}")
