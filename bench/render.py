"""Tables of benchmark figures: for the terminal, and docs/benchmarks.md out of bench/results/."""

import importlib
import importlib.util
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench import NAMES
from bench.harness import RESULTS, ROOT, Row

PAGE = ROOT / "docs" / "benchmarks.md"
HEADINGS = ("task", "ours", "peer", "limit", "ours / peer", "ours / limit", "goal", "sent", "peak memory", "note")

HEAD = """# Benchmarks

Every figure on this page is printed by a command, `python -m bench NAME --size SIZE`, which runs ours and what it is
compared with one after the other on the same machine. *Peer* is the same task in another system; where its name says
*recorded*, it was measured before, on a machine of the same class, since it cannot be installed beside ours. *Limit* is
what the task costs without protection (pooled data, plain text, a bare library). A ratio is ours divided by theirs: for
seconds less is better, for rates (GB/s, rows/s) more is. `make bench` runs the small sizes and writes this page anew.
"""


def table(rows: Sequence[Row]) -> str:
    """A plain table, columns without any figure left out."""
    return _columns([HEADINGS, *(cells(row) for row in rows)])


def cells(row: Row) -> tuple[str, ...]:
    """One row as text, in the order of HEADINGS."""
    return (
        row.what,
        _figure(row.ours, row.unit),
        _named(row.peer, row.unit, row.peer_name),
        _named(row.limit, row.unit, row.limit_name),
        _ratio(row.ratios.get("peer")),
        _ratio(row.ratios.get("limit")),
        "" if row.goal is None else f"{_figure(row.goal, row.unit)} {'reached' if row.reached else 'MISSED'}",
        "" if row.bytes is None else _bytes(row.bytes),
        "" if row.peak_mb is None else f"{row.peak_mb:,.0f} MB",
        row.note,
    )


def write_page(results: Path = RESULTS, page: Path = PAGE) -> Path:
    """Render the newest run of every benchmark and size. Returns the page's path."""
    parts = [HEAD]
    for name in NAMES:
        runs = newest(results / f"{name}.jsonl")
        if not runs:
            continue
        parts.append(f"## {name}\n\n{_title(name)}\n")
        for size, lines in runs.items():
            rows = [Row(**{key: line[key] for key in Row.__dataclass_fields__ if key in line}) for line in lines]
            parts.append(f"### {name}, {size}\n\n{_markdown(rows)}\n\n{_circumstances(lines[-1])}\n")
    if len(parts) == 1:
        parts.append("No figures yet: run `make bench`.\n")
    page.write_text("\n".join(parts), encoding="utf-8")
    return page


def newest(file: Path) -> dict[str, list[dict[str, Any]]]:
    """Size → the newest line of every task, in the order of the file."""
    if not file.exists():
        return {}
    last: dict[tuple[str, str], dict[str, Any]] = {}
    for text in file.read_text(encoding="utf-8").splitlines():
        line = json.loads(text)
        last.pop((line["size"], line["what"]), None)
        last[line["size"], line["what"]] = line
    runs: dict[str, list[dict[str, Any]]] = {}
    for line in last.values():
        # Only what was measured at that size's newest commit: tasks that no longer exist fall away.
        runs.setdefault(line["size"], []).append(line)
    return {size: [line for line in lines if line["commit"] == lines[-1]["commit"]] for size, lines in runs.items()}


def _title(name: str) -> str:
    if importlib.util.find_spec(f"bench.{name}") is None:
        return ""
    return str(getattr(importlib.import_module(f"bench.{name}"), "TITLE", ""))


def _markdown(rows: Sequence[Row]) -> str:
    lines = _kept([HEADINGS, *(cells(row) for row in rows)])
    lines.insert(1, tuple("---" if name in ("task", "note") else "--:" for name in lines[0]))
    return "\n".join(f"| {' | '.join(text.replace('|', '/') for text in line)} |" for line in lines)


def _columns(lines: Sequence[Sequence[str]]) -> str:
    kept = _kept(lines)
    widths = [max(map(len, column)) for column in zip(*kept, strict=True)]
    return "\n".join(
        "  ".join(
            text.ljust(w) if at == 0 else text.rjust(w) for at, (text, w) in enumerate(zip(line, widths, strict=True))
        )
        for line in kept
    )


def _kept(lines: Sequence[Sequence[str]]) -> list[tuple[str, ...]]:
    columns = [column for column in zip(*lines, strict=True) if any(column[1:])]
    return list(zip(*columns, strict=True))


def _circumstances(line: dict[str, Any]) -> str:
    machine, versions = line["machine"], line["versions"]
    names = ", ".join(f"{name} {version}" for name, version in versions.items())
    return (
        f"Measured {line['time'][:10]} at commit {line['commit'] or 'unknown'}, {machine['cores']} cores, "
        f"{machine['memory_gb']} GB, {machine['arch']}; {names}."
    )


def _named(value: float | None, unit: str, name: str) -> str:
    if value is None:
        return ""
    return f"{_figure(value, unit)} ({name})" if name else _figure(value, unit)


def _figure(value: float, unit: str) -> str:
    digits = f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
    return f"{digits} {unit}"


def _ratio(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:,.0f}" if value >= 100 else f"{value:.2g}"


def _bytes(count: int) -> str:
    value = float(count)
    for unit in ("B", "kB", "MB"):
        if value < 1000:
            return f"{value:.3g} {unit}"
        value /= 1000
    return f"{value:.3g} GB"
