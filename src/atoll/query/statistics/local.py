"""One site's part of a question: which of its rows count, the group of each, and what each adds to the totals."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from atoll.core.errors import InputError
from atoll.data.columns import Columns
from atoll.data.scan import nearest
from atoll.query.statistics.plan import Measure, Plan
from atoll.query.statistics.private import Grid, Private, numbered

MOST_GROUPS = 256
FRACTION_BITS = 44
"""Most fractional bits of a measure; fewer where its sums are large."""

ROOM = 61
"""The values of a measure, scaled, add up to less than 2^ROOM: words of 64 bits hold any sum of them."""

I64 = NDArray[np.int64]


@dataclass(frozen=True)
class Contribution:
    """What one site brings to the totals; n rows.

    Attributes:
        keep: (n,) bool: the site's own conditions hold, and the group is one that can be shown.
        group: (n,) int64, 0 … len(labels) − 1; zeros at a site that makes no groups.
        labels: the groups' keys, one tuple each; empty at a site that makes no groups.
        values: (n, V) int64: what each row adds to the site's measures, in the plan's order, scaled.
        bits: (V,) fractional bits of each measure: how many binary places its values were moved.
        ordered: (n, E) float64: the values of the expressions of `Plan.ordered`, NaN where there is none.
    """

    keep: NDArray[np.bool_]
    group: I64
    labels: tuple[tuple[Any, ...], ...]
    values: I64
    bits: tuple[int, ...]
    ordered: NDArray[np.float64]


def contribution(
    plan: Plan, site: str, columns: Columns, threshold: int, private: Private | None = None
) -> Contribution:
    """Compute one site's part.

    Args:
        plan: the plan.
        site: this site.
        columns: its columns, n rows.
        threshold: fewest rows of a group that is shown; a group with fewer here can never reach it.
        private: what is agreed where the answer gets noise; nothing but the values then depends on the columns.

    Raises:
        InputError: a column is not there, an expression cannot be computed, its values are not finite or too large, or
            there are too many groups.
    """
    conditions = [sql for owner, sql in plan.filters if owner == site]
    grouped = plan.groups if plan.group_site == site else ()
    measures = plan.of(site)
    rows = _Rows(site, columns)
    keep = np.ones(columns.rows, np.bool_)
    for sql in conditions:
        keep &= rows.numbers(f"CASE WHEN {sql} THEN 1 ELSE 0 END", sql) == 1
    labels: tuple[tuple[Any, ...], ...] = ()
    group = np.zeros(columns.rows, np.int64)
    if grouped and private and private.groups:
        labels, group = private.groups, numbered(rows.keys(grouped), private.groups)
    elif grouped:
        labels, group = _groups(rows.keys(grouped), keep, threshold)
    keep &= group >= 0
    group[~keep] = 0
    values, bits = np.zeros((columns.rows, len(measures)), np.int64), []
    for at, measure in enumerate(measures):
        grid = private.grids.get(measure) if private else None
        values[:, at], fraction = (
            _bounded(rows, measure, keep, grid) if grid else _scaled(_values(rows, measure), keep, measure)
        )
        bits.append(fraction)
    ordered = [_in_order(rows, sql) for sql in plan.ordered(site)]
    columned = np.stack(ordered, axis=1) if ordered else np.empty((columns.rows, 0))
    return Contribution(keep, group, labels, values, tuple(bits), columned)


def _groups(keys: list[tuple[Any, ...]], keep: NDArray[np.bool_], threshold: int) -> tuple[tuple[Any, ...], I64]:
    """Number the groups that have enough kept rows, in sorted order; the others get −1."""
    counts: dict[tuple[Any, ...], int] = {}
    for key, kept in zip(keys, keep.tolist(), strict=True):
        if kept:
            counts[key] = counts.get(key, 0) + 1
    labels = sorted((key for key, n in counts.items() if n >= threshold), key=lambda key: [(v is None, v) for v in key])
    if len(labels) > MOST_GROUPS:
        raise InputError(
            f"the question makes {len(labels):,} groups, at most {MOST_GROUPS} are supported",
            cure="Group by fewer or coarser columns, for instance with CASE or FLOOR.",
        )
    number = {key: at for at, key in enumerate(labels)}
    return tuple(labels), np.fromiter((number.get(key, -1) for key in keys), np.int64, len(keys))


def _in_order(rows: _Rows, sql: str) -> NDArray[np.float64]:
    """Return what is put in order, NaN where there is none."""
    if (kind := rows.kind(sql)) in ("VARCHAR", "BOOLEAN"):
        raise InputError(
            f"{sql} is {'text' if kind == 'VARCHAR' else 'true or false'} at {rows.site}; minima, maxima and quantiles "
            "are of numbers",
            cure="Turn it into a number by CASE, or count instead.",
        )
    return _numbers(rows, sql, np.nan)


def _numbers(rows: _Rows, sql: str, missing: float) -> NDArray[np.float64]:
    """Return the numbers of an expression."""
    there = rows.numbers(f"CASE WHEN ({sql}) IS NULL THEN 0 ELSE 1 END", sql) == 1
    values = np.where(there, rows.numbers(f"CAST(({sql}) AS DOUBLE)", sql), missing)
    if not np.isfinite(values[there]).all():
        raise InputError(f"{sql} is not finite in some row of {rows.site}", cure="Exclude such rows by WHERE.")
    return values


def _values(rows: _Rows, measure: Measure) -> NDArray[np.float64]:
    """Return what each row adds, unscaled."""
    there = rows.numbers(f"CASE WHEN ({measure.sql}) IS NULL THEN 0 ELSE 1 END", measure.sql)
    if measure.total == "count":
        return there
    values = _numbers(rows, measure.sql, 0.0)
    if measure.total == "sum":
        return values
    offset = np.where(there == 1, values - _centre(values[there == 1]), 0.0)
    return offset if measure.total == "offset" else offset * offset


def _bounded(rows: _Rows, measure: Measure, keep: NDArray[np.bool_], grid: Grid) -> tuple[I64, int]:
    """Return what each row adds where values have bounds; no value of a row can end the job or change the scale."""
    if len(keep) * grid.clip >= 2**ROOM:
        raise InputError(f"the bounds of {measure.sql} are too wide for {len(keep):,} rows", cure="Narrow them.")
    there = rows.numbers(f"CASE WHEN ({measure.sql}) IS NULL THEN 0 ELSE 1 END", measure.sql) == 1
    values = rows.numbers(f"TRY_CAST(({measure.sql}) AS DOUBLE)", measure.sql)
    return np.where(keep & there, grid.whole(values, measure), 0), grid.bits


def _centre(values: NDArray[np.float64]) -> float:
    """Return a round number near the mean, to within one deviation: sums of squares around it lose no digits."""
    if not len(values):
        return 0.0
    mean, deviation = float(values.mean()), float(values.std())
    if deviation == 0.0:
        return mean
    step = 2.0 ** math.floor(math.log2(deviation))
    return round(mean / step) * step


def _scaled(values: NDArray[np.float64], keep: NDArray[np.bool_], measure: Measure) -> tuple[I64, int]:
    values = np.where(keep, values, 0.0)
    size = float(np.abs(values).sum())
    if size >= 2.0**ROOM:
        raise InputError(f"the values of {measure.sql} are too large to add up", cure="Divide them by a power of ten.")
    whole = bool((values == np.rint(values)).all())
    bits = 0 if whole else min(FRACTION_BITS, ROOM - max(0, math.ceil(math.log2(max(size, 1.0)))) - 1)
    return np.rint(values * 2.0**bits).astype(np.int64), bits


class _Rows:
    """Evaluates a plan's expressions over the rows of one site; they are made of `plan`'s harmless parts only."""

    def __init__(self, site: str, columns: Columns) -> None:
        import duckdb

        self.site, self.columns, self.names = site, columns, columns.names
        self.connection = duckdb.connect(config={"enable_external_access": "false"})
        table: dict[str, Any] = {"row number": np.arange(columns.rows)}
        for column in columns:
            if column.kind == "numeric":
                table[column.name] = np.asarray(column.values, np.float64)
            else:
                texts = np.array([*column.categories, None], object)
                table[column.name] = texts[column.values]
        self.connection.register("rows", table)

    def numbers(self, sql: str, shown: str) -> NDArray[np.float64]:
        """Return a number for every row, NaN where there is none."""
        found = self._run(f'SELECT {sql} AS v FROM rows ORDER BY "row number"', shown).fetchnumpy()["v"]  # noqa: S608
        return np.asarray(np.ma.filled(np.ma.asarray(found, np.float64), np.nan), np.float64)

    def kind(self, sql: str) -> str:
        """Return the type of an expression."""
        return str(self._run(f"SELECT {sql} AS v FROM rows LIMIT 0", sql).description[0][1])  # noqa: S608

    def keys(self, expressions: tuple[str, ...]) -> list[tuple[Any, ...]]:
        """Return the values of several expressions for every row."""
        sql = f'SELECT {", ".join(expressions)} FROM rows ORDER BY "row number"'  # noqa: S608
        rows: list[tuple[Any, ...]] = self._run(sql, ", ".join(expressions)).fetchall()
        return rows

    def _run(self, sql: str, shown: str) -> Any:
        import duckdb

        try:
            return self.connection.execute(sql)
        except duckdb.BinderException as cause:
            missing = next((part for part in shown.split('"')[1::2] if part not in self.names), "")
            if missing:
                close = nearest(missing, self.names)
                raise InputError(
                    f"{self.site} has no column {missing!r}",
                    column=missing,
                    cure=f"Did you mean {close!r}?" if close else "Write SITE.COLUMN in the question.",
                ) from None
            raise self._unusable(shown, cause) from None
        except duckdb.Error as cause:
            raise self._unusable(shown, cause) from None

    def _unusable(self, shown: str, cause: Exception) -> InputError:
        text = str(cause).split("\n")[0]
        return InputError(f"{shown} cannot be computed at {self.site}", detail=text, cure="Correct the question.")
