"""Read a site's table: ids exactly as written, and typed columns.

Kinds are inferred once, when a data set is added, and kept: a column is numeric when every value that is there
is a number or a date, and categorical otherwise. Codes with leading zeros are categorical. A declared kind wins.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from atoll.core.errors import InputError
from atoll.data.columns import Column, Columns, Kind
from atoll.data.scan import MISSING, ROW, Scan, literal, opened, quoted

NUMBERS = ("TINYINT", "SMALLINT", "INTEGER", "BIGINT", "HUGEINT", "UTINYINT", "USMALLINT", "UINTEGER", "UBIGINT",
           "FLOAT", "DOUBLE", "BOOLEAN", "DECIMAL")  # fmt: skip
MOSTLY = 0.9
"""A column with at least this share of numbers, and not all, is a mistake to be mended rather than categories."""


class Source(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Where a table lies and how its columns are meant.

    Attributes:
        path: the file.
        id: the columns that together name a person or thing; matched with the other sites.
        kinds: the kind of every other column that may be used.
        missing: texts that stand for a missing value.
    """

    path: str
    id: tuple[str, ...]
    kinds: dict[str, Kind] = {}
    missing: tuple[str, ...] = MISSING


@dataclass(frozen=True)
class Table:
    """A table in memory.

    Args:
        ids: for each id column (n,) texts exactly as written; a missing id is an empty text.
        columns: the typed columns.
    """

    ids: tuple[NDArray[Any], ...]
    columns: Columns

    @property
    def rows(self) -> int:
        """How many rows there are."""
        return self.columns.rows


def infer(path: Path, id: Sequence[str], declared: Mapping[str, Kind], missing: Sequence[str] = MISSING) -> Source:
    """Settle the kind of each column of a file.

    Args:
        path: the file.
        id: its id columns.
        declared: kinds that the owner gave; they are not questioned here.
        missing: texts that stand for a missing value.

    Raises:
        InputError: the file cannot be read, an id column is not there, or a column is neither one nor the other.
    """
    if not id:
        raise InputError("no id column is named", cure="Name it with --id; several make a composite key.")
    with opened(path, id) as scan:
        scan.demand(list(declared))
        names = [name for name in scan.names if name not in id]
        counts = _counts(scan, [name for name in names if name not in declared], missing)
        kinds = {name: declared.get(name) or _kind(scan, name, missing, counts[name]) for name in names}
    return Source(path=str(path.resolve()), id=tuple(id), kinds=kinds, missing=tuple(missing))


def read(source: Source, columns: Sequence[str] | None = None) -> Table:
    """Read the ids and columns of a source.

    Args:
        source: the source.
        columns: which columns, in which order; None means all but the ids.

    Raises:
        InputError: the file or a column is not there, there are no rows, a numeric column holds other text or
            infinity.
    """
    names = list(source.kinds) if columns is None else list(columns)
    with opened(Path(source.path), source.id, names or source.id) as scan:
        counts = _counts(scan, [name for name in names if name not in source.kinds], source.missing)
        kinds = {name: source.kinds.get(name) or _kind(scan, name, source.missing, counts[name]) for name in names}
        categories = {name: _categories(scan, name, source) for name in names if kinds[name] == "categorical"}
        parts = [f"coalesce(CAST({quoted(name)} AS VARCHAR), '') AS id{at}" for at, name in enumerate(source.id)]
        for at, name in enumerate(names):
            value = value_of(scan, name, kinds[name], source.missing)
            if kinds[name] == "numeric":
                parts.append(f"coalesce({value}, 'nan'::DOUBLE) AS c{at}")
                parts.append(f"({text_of(name, source.missing)}) IS NOT NULL AND ({value}) IS NULL AS b{at}")
            elif categories[name]:
                members = ", ".join(literal(text) for text in categories[name])
                scan.connection.execute(f"CREATE TEMP TYPE t{at} AS ENUM ({members})")
                parts.append(f"coalesce(enum_code(({value})::t{at})::INTEGER, -1) AS c{at}")
            else:
                parts.append(f"(-1)::INTEGER AS c{at}")
        found = scan.in_order(", ".join(parts))
        for at, name in enumerate(names):
            if kinds[name] == "numeric" and (found[f"b{at}"].any() or np.isinf(found[f"c{at}"]).any()):
                _refuse_unusable(scan, name, source.missing)
    ids = tuple(found[f"id{at}"] for at in range(len(source.id)))
    if not len(ids[0]):
        raise InputError(f"{Path(source.path).name} has no rows", cure="Export the table again.")
    read_columns = tuple(_column(name, kinds[name], found[f"c{at}"], categories) for at, name in enumerate(names))
    return Table(ids, Columns(read_columns, len(ids[0])))


def categories_of(source: Source, names: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Return the sorted categories of the categorical columns among `names`."""
    wanted = [name for name in names if source.kinds[name] == "categorical"]
    with opened(Path(source.path), source.id, wanted or source.id) as scan:
        return {name: _categories(scan, name, source) for name in wanted}


def _column(name: str, kind: Kind, values: NDArray[Any], categories: Mapping[str, tuple[str, ...]]) -> Column:
    if kind == "numeric":
        return Column(name, kind, np.asarray(values, np.float64))
    return Column(name, kind, np.asarray(values, np.int32), categories[name])


def text_of(name: str, missing: Sequence[str]) -> str:
    """Return SQL for a value as trimmed text, or NULL when it is missing."""
    text = f"trim(CAST({quoted(name)} AS VARCHAR))"
    absent = " OR ".join(f"{text} = {literal(mark)}" for mark in missing) or "false"  # a long IN becomes a join
    return f"CASE WHEN {absent} THEN NULL ELSE {text} END"


def value_of(scan: Scan, name: str, kind: Kind, missing: Sequence[str]) -> str:
    if kind == "categorical":
        return text_of(name, missing)
    if scan.types[name].split("(")[0] in NUMBERS:
        return f"CAST({quoted(name)} AS DOUBLE)"
    text = text_of(name, missing)
    return f"coalesce(TRY_CAST({text} AS DOUBLE), epoch(TRY_CAST({text} AS TIMESTAMP)) / 86400.0)"


def _counts(scan: Scan, names: Sequence[str], missing: Sequence[str]) -> dict[str, tuple[int, int, int]]:
    """Count for each column, in one pass, its values, the numbers among them, and those with leading zeros."""
    parts = []
    for name in names:
        text, value = text_of(name, missing), value_of(scan, name, "numeric", missing)
        parts += [f"count({text})", f"count({value})", f"count(*) FILTER (regexp_matches({text}, '^0[0-9]+$'))"]
    found = scan.row(f"SELECT {', '.join(parts)} FROM source") if parts else ()  # noqa: S608
    return {name: (found[3 * at], found[3 * at + 1], found[3 * at + 2]) for at, name in enumerate(names)}


def _kind(scan: Scan, name: str, missing: Sequence[str], counts: tuple[int, int, int]) -> Kind:
    declared = scan.types[name].split("(")[0]
    if declared in NUMBERS or declared.startswith(("DATE", "TIMESTAMP")):
        return "numeric"
    there, numbers, zeros = counts
    if zeros:
        return "categorical"
    if there and numbers == there:
        return "numeric"
    if there and numbers >= MOSTLY * there:
        _refuse_unusable(scan, name, missing)
    return "categorical"


def _categories(scan: Scan, name: str, source: Source) -> tuple[str, ...]:
    text = text_of(name, source.missing)
    rows = scan.connection.execute(
        f"SELECT DISTINCT {text} AS v FROM source WHERE ({text}) IS NOT NULL ORDER BY v"  # noqa: S608
    ).fetchall()
    return tuple(row[0] for row in rows)


def _refuse_unusable(scan: Scan, name: str, missing: Sequence[str]) -> None:
    """Refuse text and infinity in a numeric column; the values themselves stay on this site."""
    text, value = text_of(name, missing), value_of(scan, name, "numeric", missing)
    bad, infinite = f"({text}) IS NOT NULL AND ({value}) IS NULL", f"isinf({value})"
    for condition, what, cure in (
        (
            bad,
            "value(s) that are not numbers",
            f"Mend them, name the mark with --missing, or add --categorical {name}.",
        ),
        (infinite, "infinite value(s)", "Replace them by an empty value or by a number with a meaning."),
    ):
        count = scan.row(f"SELECT count(*) FROM source WHERE {condition}")[0]  # noqa: S608
        if not count:
            continue
        at = quoted(ROW)
        examples = scan.connection.execute(
            f"SELECT {at}, {quoted(name)}::VARCHAR FROM source WHERE {condition} ORDER BY {at} LIMIT 3"  # noqa: S608
        ).fetchall()
        shown = ", ".join(f"{value!r} at {scan.place(at)}" for at, value in examples)
        raise InputError(
            f"numeric column {name!r} of {scan.path.name} has {count:,} {what}",
            column=name,
            detail=f"For example {shown}.",
            cure=cure,
        )
