"""Read the rows that a lookup database is made of: keys as written, values with their own types."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from atoll.data.scan import MISSING, ROW, Scan, opened, quoted
from atoll.data.sources import NUMBERS, text_of
from atoll.query.records import Field, FieldType, Row

WHOLE = ("TINYINT", "SMALLINT", "INTEGER", "BIGINT", "UTINYINT", "USMALLINT", "UINTEGER")
SQL = {"int": "BIGINT", "float": "DOUBLE", "bool": "BOOLEAN", "text": "VARCHAR"}


@dataclass(frozen=True)
class Rows:
    """A table as it was read.

    Attributes:
        keys: For each key column (n,) texts as written; a missing key is an empty text.
        fields: The columns of the values.
        values: (n,) rows.
        places: Where each row stands in the file, in words.
    """

    keys: tuple[list[str], ...]
    fields: tuple[Field, ...]
    values: list[Row]
    places: list[str]


def read_rows(
    path: Path,
    key: Sequence[str],
    columns: Sequence[str] | None = None,
    *,
    categorical: Sequence[str] = (),
    missing: Sequence[str] = MISSING,
) -> Rows:
    """Read keys and values of a file.

    Columns of Parquet and the like keep their types.  A column of a CSV file holds whole numbers, or numbers, if all
    its values are such, and text otherwise; dates are text, as written.

    Args:
        path: CSV, Parquet, or what else DuckDB reads.
        key: Its key columns.
        columns: Columns of the values, in order; None means all others.
        categorical: Columns that are text whatever they look like.
        missing: Texts that stand for a missing value.

    Raises:
        InputError: The file or a column is not there, or cannot be read.
    """
    with opened(path, key) as scan:
        names = [name for name in scan.names if name not in key] if columns is None else list(columns)
        scan.demand(names)
        types = _types(scan, names, set(categorical), missing)
        parts = [f"coalesce(CAST({quoted(name)} AS VARCHAR), '')" for name in key]
        for name in names:
            text = text_of(name, missing)
            parts.append(f"TRY_CAST({text} AS {SQL[types[name]]})" if types[name] != "text" else text)
        rows = scan.connection.execute(
            f"SELECT {', '.join(parts)}, {quoted(ROW)} FROM source ORDER BY {quoted(ROW)}"  # noqa: S608
        ).fetchall()
        places = [scan.place(row[-1]) for row in rows]
    width = len(key)
    keys = tuple([row[at] for row in rows] for at in range(width))
    fields = tuple(Field(name, types[name]) for name in names)
    return Rows(keys, fields, [_finite(row[width:-1]) for row in rows], places)


def _finite(values: Sequence[Any]) -> Row:
    return tuple(None if isinstance(value, float) and not abs(value) < float("inf") else value for value in values)


def _types(scan: Scan, names: Sequence[str], categorical: set[str], missing: Sequence[str]) -> Mapping[str, FieldType]:
    found: dict[str, FieldType] = {}
    unknown = []
    for name in names:
        declared = scan.types[name].split("(")[0]
        if name in categorical:
            found[name] = "text"
        elif declared == "BOOLEAN":
            found[name] = "bool"
        elif declared in WHOLE:
            found[name] = "int"
        elif declared in NUMBERS:
            found[name] = "float"
        elif declared == "VARCHAR":
            unknown.append(name)
        else:
            found[name] = "text"
    parts = []
    for name in unknown:
        text = text_of(name, missing)
        parts += [f"count({text})", f"count(TRY_CAST({text} AS DOUBLE))"]
        whole = f"regexp_full_match({text}, '-?(0|[1-9][0-9]{{0,17}})')"
        parts += [f"count(*) FILTER ({whole})", f"count(*) FILTER (regexp_matches({text}, '^[+-]?0[0-9]'))"]
    counts = scan.row(f"SELECT {', '.join(parts)} FROM source") if parts else ()  # noqa: S608
    for at, name in enumerate(unknown):
        there, numbers, wholes, zeros = counts[4 * at : 4 * at + 4]
        if not there or zeros or numbers < there:
            found[name] = "text"
        else:
            found[name] = "int" if wholes == there else "float"
    return found
