"""What the report of a job over sites with the same columns shows: figures, a model's table, and every total."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from atoll.node import figures
from atoll.node.figures import named, probability, shown, table
from atoll.node.steps.totals import REVEALED, Revealed
from atoll.report.model import Table

if TYPE_CHECKING:
    from atoll.node.kept import Kept
    from atoll.node.steps import Work
    from atoll.node.steps.describe import Statistics


def tables(work: Work) -> tuple[Table, ...]:
    """Return the tables of this site's report; none for other jobs."""
    found: list[Table] = []
    if statistics := work.state.get("statistics"):
        found += _statistics(statistics)
    for name, (group, tests) in work.state.get("tests", {}).items():
        found += figures.tests(name, group, tests)
    for name, correlations in work.state.get("correlations", {}).items():
        found += figures.correlations(name, correlations)
    for name, survival in work.state.get("survival", {}).items():
        found += figures.survival(name, survival)
    for name, kept in work.state.get("fitted", {}).items():
        found += _model(kept, name.removeprefix("fit").strip())
    if revealed := work.report.get(REVEALED):
        found.append(_revealed(msgspec.convert(revealed, dict[str, tuple[Revealed, ...]])))
    return tuple(found)


def headline(work: Work) -> str:
    """One sentence on what the sites learnt together; empty for other jobs."""
    if not work.job.horizontal:
        return ""
    sites = sum(bool(part.data) for part in work.job.sites.values())
    fitted: list[Kept] = list(work.state.get("fitted", {}).values())
    rows = fitted[0].rows if fitted else work.report.get("rows", {}).get("all sites", 0)
    over = f"{rows:,} rows of {sites} sites; no row left its site"
    if len(fitted) > 1:
        return f"{len(fitted)} models over {sites} sites; no row left its site."
    if not fitted:
        return f"Statistics over {over}."
    title, label = fitted[0].model.title, fitted[0].label
    return f"{title[0].upper()}{title[1:]}{f' of {label}' if label else ''} over {over}."


def _statistics(lines: Sequence[Statistics]) -> list[Table]:
    found = []
    if numeric := [one for one in lines if one.kind == "numeric"]:
        heads: list[tuple[str, Callable[[Statistics], Any]]] = [
            ("Values", lambda one: one.count),
            ("Missing", lambda one: one.missing),
            ("Mean", lambda one: one.mean),
            ("Standard deviation", lambda one: one.sd),
            ("Least", lambda one: one.least),
            ("Lower quartile", lambda one: one.q1),
            ("Median", lambda one: one.median),
            ("Upper quartile", lambda one: one.q3),
            ("Largest", lambda one: one.largest),
        ]
        if not any(one.least is not None for one in numeric):
            heads = [head for head in heads if head[0] not in ("Least", "Largest")]
        rows = [(named(one.name, one.unit), *(shown(of(one)) for _, of in heads)) for one in numeric]
        found.append(table("Numbers, over all sites", ("Column", *(name for name, _ in heads)), rows, 1))
    if text := [one for one in lines if one.kind == "categorical"]:
        rows = [
            (one.name if at == 0 else "", category, shown(count), share(count, one.count + one.missing))
            for one in text
            for at, (category, count) in enumerate([*one.categories.items(), ("missing", one.missing)])
            if count != 0
        ]
        found.append(table("Categories, over all sites", ("Column", "Category", "Rows", "Share"), rows, 2))
    return found


def _model(kept: Kept, name: str) -> list[Table]:
    title = f"{kept.model.title[0].upper()}{kept.model.title[1:]}{f' {name!r}' if name else ''}"
    found = []
    if kept.coefficients:
        sure = any(line.error is not None for line in kept.coefficients)
        heads = ("Term", "Estimate", *(("Standard error", "Statistic", "p", "95 % from", "to") if sure else ()))
        rows = []
        for line in kept.coefficients:
            rest = (shown(line.error), shown(line.statistic, 3), probability(line.p), shown(line.low), shown(line.high))
            rows.append((line.term, shown(line.estimate), *(rest if sure else ())))
        note = (
            "Estimates are in the columns' units. A term `column=category` compares the category with "
            f"{_baseline(kept)}."
            if any(column.kind == "categorical" for column in kept.columns) and kept.model.baseline
            else "Estimates are in the columns' units."
        )
        found.append(table(title, heads, rows, 1, note=note.replace("`", "")))
    for grid in kept.grids:
        rows = [(term, *(shown(number) for number in numbers)) for term, numbers in grid.rows.items()]
        found.append(table(f"{title}: {grid.title[0].lower()}{grid.title[1:]}", ("Term", *grid.heads), rows, 1))
    if kept.figures:
        rows = [(name, shown(value)) for name, value in kept.figures.items()]
        where = "On the rows that it was fitted to, unless a line says otherwise."
        found.append(
            table(
                f"How well the model{f' {name!r}' if name else ''} fits",
                ("Figure", "Value"),
                [("rows", shown(kept.rows)), *rows],
                1,
                note=where,
            )
        )
    return found


def _baseline(kept: Kept) -> str:
    firsts = [f"{column.name} {column.categories[0]}" for column in kept.columns if column.categories]
    return ", ".join(firsts[:6]) + (" and so on" if len(firsts) > 6 else "")


def _revealed(steps: dict[str, tuple[Revealed, ...]]) -> Table:
    rows = [
        (step if at == 0 else "", one.what, shown(one.times), shown(one.numbers), shown(one.sites))
        for step, told in steps.items()
        for at, one in enumerate(told)
    ]
    return table(
        "Every total that was told",
        ("Step", "What was added up", "Times", "Numbers", "Sites"),
        rows,
        2,
        lead="All sites learnt these sums; of each other's rows nothing else, but which categories there are.",
    )


def share(count: int | None, rows: int) -> str:
    """A part of the rows in percent."""
    return "–" if count is None else f"{100 * count / max(rows, 1):.1f}%"
