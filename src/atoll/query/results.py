"""Write what a lookup found: CSV, or Parquet with types."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import BinaryIO

from atoll.core.errors import InputError
from atoll.data.scan import literal, quoted
from atoll.query import files
from atoll.query.records import Field, Row, Value

SQL = {"int": "BIGINT", "float": "DOUBLE", "bool": "BOOLEAN", "text": "VARCHAR"}


def check_target(path: Path) -> None:
    """Refuse a file that could not be written, before anything is asked.

    Raises:
        InputError: It is neither .csv nor .parquet, or its folder is not there.
    """
    if path.suffix.lower() not in (".csv", ".parquet"):
        raise InputError(f"{path.name} is neither .csv nor .parquet", cure="Name a file that ends in one of them.")
    if not path.parent.is_dir():
        raise InputError(f"the folder of {path.name} does not exist", detail=f"It is {path.parent}.", cure="Make it.")


def write_table(path: Path, fields: Sequence[Field], rows: Iterable[Row]) -> None:
    """Write rows whole or not at all; by the file's ending as CSV or Parquet.

    Args:
        path: The file.
        fields: Its columns.
        rows: The rows, each with a value or None for every column.

    Raises:
        InputError: The file cannot be written.
    """
    if path.suffix.lower() == ".csv":
        files.write(path, lambda file: _csv(file, fields, rows))
        return
    import duckdb

    with tempfile.TemporaryDirectory() as folder:
        text, target = Path(folder) / "rows.csv", Path(folder) / "rows.parquet"
        with text.open("wb") as file:
            _csv(file, fields, rows)
        types = ", ".join(f"{literal(field.name)}: '{SQL[field.type]}'" for field in fields)
        names = ", ".join(quoted(field.name) for field in fields)
        with duckdb.connect() as connection:
            connection.execute(
                f"COPY (SELECT {names} FROM read_csv({literal(str(text))}, header = true, auto_detect = false,"  # noqa: S608
                f" delim = ',', quote = '\"', escape = '\"', nullstr = '', allow_quoted_nulls = false,"
                f" columns = {{{types}}})) TO {literal(str(target))} (FORMAT parquet)"
            )
        data = target.read_bytes()
    files.write(path, lambda file: file.write(data))


def _csv(file: BinaryIO, fields: Sequence[Field], rows: Iterable[Row]) -> None:
    """A missing value is empty; an empty text is a pair of quotes."""
    file.write((",".join(_cell(field.name) for field in fields) + "\n").encode())
    for row in rows:
        file.write((",".join(_cell(value) for value in row) + "\n").encode())


def _cell(value: Value) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    text = str(value)
    if not text or any(mark in text for mark in ',"\r\n') or text != text.strip():
        return '"' + text.replace('"', '""') + '"'
    return text
