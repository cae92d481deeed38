"""Run and time the checks, one line each: `python tools/check.py all|static`.

`static` is everything but the tests themselves; two stages run at a time. `all` compiles the kernels, too, and then
runs the tests, the rules among them, whose closing line comes last when everything is well. The exit code is 0 only if
every stage passed.
"""

import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

# Name, what it keeps, commands that must all end with 0. The longest first, so that two cores are well used.
STAGES: tuple[tuple[str, str, tuple[tuple[str, ...], ...]], ...] = (
    ("types", "mypy --strict", (("mypy",),)),
    ("rules", "sizes, words, cards, pages", (("pytest", "-q", "tests/repo", "-p", "no:cacheprovider"),)),
    ("docs", "built, warnings are errors", (("mkdocs", "build", "--strict"),)),
    ("layers", "imports point down", (("lint-imports",),)),
    ("format", "ruff format", (("ruff", "format", "--check", "--output-format=concise"),)),
    ("lint", "ruff check", (("ruff", "check", "--quiet", "--output-format=concise"),)),
)
# Two processes run tests: each would compile what the other does, and a test's time-out would count it.
KERNELS = ("kernels", "compiled once for all tests", (("python", "tools/warm.py"),))
TESTS = ("pytest", "-n", "2", "--dist", "worksteal", "--durations=5", "--durations-min=2")


@dataclass(frozen=True)
class Verdict:
    """How one stage ended."""

    name: str
    keeps: str
    passed: bool
    seconds: float
    output: str

    def line(self) -> str:
        return f"{'ok  ' if self.passed else 'FAIL'}  {self.name:<7} {self.seconds:5.1f} s  {self.keeps}"


def main(what: str) -> int:
    os.chdir(ROOT)
    os.environ["NO_MKDOCS_2_WARNING"] = "1"  # an advertisement of the theme
    start = time.perf_counter()
    with ThreadPoolExecutor(2) as pool:
        verdicts = []
        stages = (KERNELS, *(row for row in STAGES if row[0] != "rules")) if what == "all" else STAGES
        for waiting in [pool.submit(stage, *row) for row in stages]:
            verdicts.append(waiting.result())
            print(verdicts[-1].line(), flush=True)
    failed = [verdict for verdict in verdicts if not verdict.passed]
    for verdict in failed:
        print(f"\n──── {verdict.name}: {verdict.keeps}\n{verdict.output.strip()}", flush=True)
    names = [verdict.name for verdict in failed]
    if what == "all":
        print(f"\n──── tests (checks took {time.perf_counter() - start:.0f} s)", flush=True)
        if subprocess.run(command(*TESTS)).returncode:
            names.append("tests")
    if names:
        print(f"failed: {', '.join(names)}", flush=True)
    return 1 if names else 0


def stage(name: str, keeps: str, commands: tuple[tuple[str, ...], ...]) -> Verdict:
    """Run a stage's commands until one fails."""
    start, output, passed = time.perf_counter(), "", True
    for words in commands:
        done = subprocess.run(command(*words), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        output, passed = output + done.stdout, passed and done.returncode == 0
        if not passed:
            break
    return Verdict(name, keeps, passed, time.perf_counter() - start, output)


def command(tool: str, *arguments: str) -> list[str]:
    """A tool of the same virtual environment."""
    return [str(Path(sys.executable).parent / tool), *arguments]


if __name__ == "__main__":
    if sys.argv[1:] not in (["all"], ["static"]):
        sys.exit("usage: python tools/check.py all|static")
    sys.exit(main(sys.argv[1]))
