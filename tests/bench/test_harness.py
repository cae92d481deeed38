"""The benchmark harness: rows, ratios, child processes, the page."""

import importlib
import inspect
import json
from pathlib import Path

import pytest

from bench import NAMES
from bench.harness import BenchError, Report, Row, repeated, run_processes
from bench.render import table, write_page


def test_less_is_better_for_seconds_and_more_for_rates() -> None:
    assert Row("x", 2.0, limit=0.5, goal=3.0).ratios == {"limit": 4.0}
    assert Row("x", 2.0, goal=3.0).reached is True
    assert Row("x", 2.0, unit="GB/s", goal=3.0).reached is False
    assert Row("x", 2.0).reached is None


def test_a_row_is_kept_with_its_circumstances(tmp_path: Path) -> None:
    report = Report("trees", "small", folder=tmp_path)
    report.row(what="20 rows", ours=1.5, limit=0.5, limit_name="pooled", bytes=1_234_567, peak_mb=50.0)
    line = json.loads((tmp_path / "trees.jsonl").read_text())
    assert line["ratios"] == {"limit": 3.0}
    assert {"name", "size", "ours", "peer", "limit", "unit", "bytes", "peak_mb", "versions", "commit", "time"} <= set(
        line
    )


def test_the_page_shows_the_newest_run_only(tmp_path: Path) -> None:
    for seconds in (9.0, 1.5):
        Report("ecdh", "small", folder=tmp_path).row(what="20 ids", ours=seconds)
    text = write_page(tmp_path, tmp_path / "page.md").read_text()
    assert "1.5 s" in text
    assert "9 s" not in text


def test_columns_without_figures_are_left_out() -> None:
    text = table([Row("x", 1.0, unit="ms"), Row("y", 22.0, unit="ms", peak_mb=7.0)])
    assert text.splitlines()[0].split() == ["task", "ours", "peak", "memory"]


def test_repeats_are_counted() -> None:
    calls: list[int] = []
    assert repeated(lambda: calls.append(1) or len(calls), repeat=3, warm=2).value == 5


@pytest.mark.processes
def test_processes_return_their_last_line() -> None:
    code = "import json, sys; print('hello'); print(json.dumps({'site': sys.argv[1]}))"
    done = run_processes({"a": ["-c", code, "a"], "b": ["-c", code, "b"]})
    assert [done[name].value for name in "ab"] == [{"site": "a"}, {"site": "b"}]


@pytest.mark.processes
def test_a_failing_process_stops_the_others() -> None:
    with pytest.raises(BenchError, match=r"bad ended with exit code 1:(.|\n)*ZeroDivisionError"):
        run_processes({"bad": ["-c", "1/0"], "good": ["-c", "import time; time.sleep(60)"]})


@pytest.mark.parametrize("name", NAMES)
def test_every_benchmark_can_be_called(name: str) -> None:
    module = importlib.import_module(f"bench.{name}")
    assert list(inspect.signature(module.run).parameters) == ["size", "report"]
    assert "small" in module.SIZES
    assert module.TITLE
