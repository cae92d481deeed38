"""What the report of a job over sites with the same columns shows: figures, a model's table, and every total."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from atoll.node.steps.totals import REVEALED, Revealed
from atoll.report.model import History, Series, Table

if TYPE_CHECKING:
    from atoll.node.kept import Kept
    from atoll.node.steps import Work
    from atoll.node.steps.describe import Statistics

MOST_ROWS = 400
"""Rows of one table of the report; the files hold all."""

_MINUS = "\u2212"


def tables(work: Work) -> tuple[Table, ...]:
    """Return the tables of this site's report; none for other jobs."""
    found: list[Table] = []
    if statistics := work.state.get("statistics"):
        found += _statistics(statistics)
    if fitted := work.state.get("fitted"):
        found += _model(fitted)
    if revealed := work.report.get(REVEALED):
        found.append(_revealed(msgspec.convert(revealed, dict[str, tuple[Revealed, ...]])))
    return tuple(found)


def headline(work: Work) -> str:
    """One sentence on what the sites learnt together; empty for other jobs."""
    if not work.job.horizontal:
        return ""
    sites = sum(bool(part.data) for part in work.job.sites.values())
    fitted: Kept | None = work.state.get("fitted")
    rows = fitted.rows if fitted else work.report.get("rows", {}).get("all sites", 0)
    over = f"{rows:,} rows of {sites} sites; no row left its site"
    if fitted is None:
        return f"Statistics over {over}."
    title = fitted.model.title
    return f"{title[0].upper()}{title[1:]}{f' of {fitted.label}' if fitted.label else ''} over {over}."


def curves(work: Work) -> History | None:
    """How the loss fell from round to round; None for models without rounds."""
    fitted: Kept | None = work.state.get("fitted")
    if fitted is None or not fitted.curves:
        return None
    series = tuple(Series(name=name, values=values) for name, values in fitted.curves.items())
    return History(metric="loss", series=series, round="round")


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
        found.append(_table("Numbers, over all sites", ("Column", *(name for name, _ in heads)), rows, 1))
    if text := [one for one in lines if one.kind == "categorical"]:
        rows = [
            (one.name if at == 0 else "", category, shown(count), share(count, one.count + one.missing))
            for one in text
            for at, (category, count) in enumerate([*one.categories.items(), ("missing", one.missing)])
            if count != 0
        ]
        found.append(_table("Categories, over all sites", ("Column", "Category", "Rows", "Share"), rows, 2))
    return found


def _model(kept: Kept) -> list[Table]:
    title = f"{kept.model.title[0].upper()}{kept.model.title[1:]}"
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
        found.append(_table(title, heads, rows, 1, note=note.replace("`", "")))
    for grid in kept.grids:
        rows = [(term, *(shown(number) for number in numbers)) for term, numbers in grid.rows.items()]
        found.append(_table(f"{title}: {grid.title[0].lower()}{grid.title[1:]}", ("Term", *grid.heads), rows, 1))
    if kept.figures:
        rows = [(name, shown(value)) for name, value in kept.figures.items()]
        where = "On the rows that it was fitted to, unless a line says otherwise."
        found.append(
            _table("How well the model fits", ("Figure", "Value"), [("rows", shown(kept.rows)), *rows], 1, note=where)
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
    return _table(
        "Every total that was told",
        ("Step", "What was added up", "Times", "Numbers", "Sites"),
        rows,
        2,
        lead="All sites learnt these sums; of each other's rows nothing else, but which categories there are.",
    )


def _table(
    title: str, columns: tuple[str, ...], rows: Sequence[tuple[str, ...]], text: int, *, lead: str = "", note: str = ""
) -> Table:
    """A table whose first `text` columns are words and whose other columns are numbers."""
    if len(rows) > MOST_ROWS:
        note = f"{note} The first {MOST_ROWS} of {len(rows):,} lines; the files beside this page hold all.".strip()
    return Table(
        title=title,
        lead=lead,
        columns=columns,
        rows=tuple(rows[:MOST_ROWS]),
        numeric=tuple(at >= text for at in range(len(columns))),
        note=note,
    )


def named(name: str, unit: str) -> str:
    """A column with its unit."""
    return f"{name} ({unit})" if unit else name


def shown(value: float | int | None, digits: int = 5) -> str:
    """A number as people read it; a dash for none."""
    if value is None:
        return "–"
    text = f"{value:,}" if isinstance(value, int) else f"{value:,.{digits}g}"
    return _MINUS + text[1:] if text[0] == "-" else text


def share(count: int | None, rows: int) -> str:
    """A part of the rows in percent."""
    return "–" if count is None else f"{100 * count / max(rows, 1):.1f}%"


def probability(p: float | None) -> str:
    """A p value: four digits, and no false zero."""
    if p is None:
        return "–"
    return "< 0.0001" if p < 0.0001 else f"{p:.4f}"
