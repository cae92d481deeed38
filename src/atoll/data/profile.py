"""What a person wants to know of a table before it takes part in a job."""

from __future__ import annotations

from pathlib import Path

import msgspec

from atoll.core.errors import InputError
from atoll.data.columns import Kind
from atoll.data.scan import opened, quoted
from atoll.data.sources import Source, text_of, value_of


class ColumnProfile(msgspec.Struct, frozen=True):
    """One column: its kind, how many values are missing, how many differ, and its range when numeric."""

    name: str
    kind: Kind
    missing: int
    distinct: int
    low: float | None = None
    high: float | None = None


class Profile(msgspec.Struct, frozen=True):
    """One table: rows, rows whose id is missing or stands twice, and its columns."""

    rows: int
    empty_ids: int
    duplicate_ids: int
    columns: tuple[ColumnProfile, ...]


def profile(source: Source) -> Profile:
    """Count what is in a source.

    Raises:
        InputError: the file or a column is not there, or it has no rows.
    """
    with opened(Path(source.path), source.id, list(source.kinds)) as scan:
        key = ", ".join(f"coalesce({quoted(name)}::VARCHAR, '')" for name in source.id)
        empty = " OR ".join(f"coalesce({quoted(name)}::VARCHAR, '') = ''" for name in source.id)
        rows, empties, distinct = scan.row(
            f"SELECT count(*), count(*) FILTER ({empty}), count(DISTINCT ({key})) FROM source"  # noqa: S608
        )
        if not rows:
            raise InputError(f"{Path(source.path).name} has no rows", cure="Export the table again.")
        columns = []
        for name, kind in source.kinds.items():
            text, value = text_of(name, source.missing), value_of(scan, name, kind, source.missing)
            ends = f"min({value}), max({value})" if kind == "numeric" else "NULL, NULL"
            there, differ, low, high = scan.row(f"SELECT count({text}), count(DISTINCT {text}), {ends} FROM source")  # noqa: S608
            columns.append(ColumnProfile(name, kind, rows - there, differ, low, high))
    return Profile(rows, empties, rows - distinct, tuple(columns))
