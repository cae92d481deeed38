"""Tests, correlations and survival curves as the tables of a report, and how numbers are shown there."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from atoll.report.model import SurvivalCurve, SurvivalCurves, Table

if TYPE_CHECKING:
    from atoll.node.steps.correlate import Correlations
    from atoll.node.steps.survival import Found
    from atoll.node.steps.test import Tested

MOST_ROWS = 400
"""Rows of one table of the report; the files hold all."""

_MINUS = "\u2212"


def tests(name: str, group: str, found: Sequence[Tested]) -> list[Table]:
    """Tables of a step `test`: numbers, categories, and the tests."""
    of = _called(name, "test")
    made, groups = [], list(dict.fromkeys(one.name for tested in found for one in tested.groups))
    rows = []
    for tested in (one for one in found if one.kind == "numeric"):
        by_name = {one.name: one for one in tested.groups}
        cells = [_spread(by_name[one].mean, by_name[one].sd) if one in by_name else "–" for one in groups]
        rows.append((tested.column, *cells))
    if rows:
        made.append(table(f"Means by {group}{of}", ("Column", *groups), rows, 1, note="Mean ± standard deviation."))
    rows = []
    for tested in (one for one in found if one.kind == "categorical"):
        by_name = {one.name: one for one in tested.groups}
        for at, category in enumerate(next(iter(by_name.values())).categories if by_name else ()):
            cells = [
                _part(by_name[one].categories[category], by_name[one].count) if one in by_name else "–"
                for one in groups
            ]
            rows.append((tested.column if at == 0 else "", category, *cells))
    if rows:
        made.append(table(f"Categories by {group}{of}", ("Column", "Category", *groups), rows, 2))
    rows = [
        (
            one.column, one.test, shown(one.statistic, 4), ", ".join(shown(df, 4) for df in one.df) or "–",
            probability(one.p), shown(one.difference if one.odds_ratio is None else one.odds_ratio, 4),
            shown(one.low, 4), shown(one.high, 4), shown(one.left_out),
        )
        for one in found
    ]  # fmt: skip
    heads = ("Column", "Test", "Statistic", "Degrees of freedom", "p", "Effect", "95 % from", "to", "Rows left out")
    note = "The effect is the difference of two means, or the odds ratio of a table of two by two. p values are not "
    note += "corrected for the number of tests."
    return [*made, table(f"Tests between groups of {group}{of}", heads, rows, 2, note=note)]


def correlations(name: str, found: Correlations) -> list[Table]:
    """Tables of a step `correlate`: coefficients, and their p values."""
    title = f"{found.method.capitalize()} correlation{_called(name, 'correlate')}"
    heads = ("Column", *found.names)
    lines = zip(found.names, found.values, strict=True)
    rows = [(one, *(shown(value, 3) for value in values)) for one, values in lines]
    pairs = enumerate(zip(found.names, found.p_values, strict=True))
    p_values = [(one, *("" if i == j else probability(p) for j, p in enumerate(values))) for i, (one, values) in pairs]
    return [
        table(title, heads, rows, 1, note=f"Over {found.rows:,} rows without missing values."),
        table(f"{title}: p values", heads, p_values, 1),
    ]


def curves(name: str, found: Found) -> SurvivalCurves:
    """The chart of a step `survival`."""
    lines = tuple(
        SurvivalCurve(
            group=one.group, times=one.times, survival=one.survival,
            low=tuple(map(_zero, one.low)), high=tuple(map(_zero, one.high)),
        )
        for one in found.curves
    )  # fmt: skip
    title = f"Survival{f' by {found.group}' if found.group else ''}{_called(name, 'survival')}"
    return SurvivalCurves(title=title, time=named(found.time, found.unit), curves=lines)


def _zero(value: float | None) -> float:
    """Where nobody is left, there is no interval: the curve is at 0."""
    return 0.0 if value is None else value


def named(name: str, unit: str) -> str:
    """A column with its unit."""
    return f"{name} ({unit})" if unit else name


def survival(name: str, found: Found) -> list[Table]:
    """The table beside a chart of survival curves."""
    rows = [(one.group or "all", shown(one.people), shown(one.events), shown(one.median)) for one in found.curves]
    of, note = _called(name, "survival"), f"{found.left_out:,} rows were left out. " if found.left_out else ""
    if found.p is not None:
        note += (
            f"Log-rank test: χ² {shown(found.chi2, 4)} with {found.df} degrees of freedom, p {probability(found.p)}."
        )
    heads = (
        found.group or "Group",
        "People",
        "Events",
        f"Median of {named(found.time, found.unit)}",
    )
    return [table(f"Survival{of}", heads, rows, 1, note=note.strip())]


def _called(name: str, kind: str) -> str:
    own = name.removeprefix(kind).strip()
    return f" {own!r}" if own else ""


def _spread(mean: float | None, sd: float | None) -> str:
    return f"{shown(mean, 4)} ± {shown(sd, 4)}"


def _part(count: int, whole: int) -> str:
    return f"{shown(count)} ({100 * count / max(whole, 1):.1f}%)"


def table(
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


def shown(value: float | int | None, digits: int = 5) -> str:
    """A number as people read it; a dash for none."""
    if value is None:
        return "–"
    text = f"{value:,}" if isinstance(value, int) else f"{value:,.{digits}g}"
    return _MINUS + text[1:] if text[0] == "-" else text


def probability(p: float | None) -> str:
    """A p value: four digits, and no false zero."""
    if p is None:
        return "–"
    return "< 0.0001" if p < 0.0001 else f"{p:.4f}"
