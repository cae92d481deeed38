"""Load a file through DuckDB; values of a text file stay the text they are."""

from __future__ import annotations

import csv
import gzip
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from atoll.core.errors import InputError

DELIMITERS = (",", ";", "\t", "|")
TEXT_SUFFIXES = (".csv", ".tsv", ".txt", ".csv.gz", ".tsv.gz", ".txt.gz")
ROW = "row number in the file"
"""Column of `source` that holds 1 for the first row; a query keeps the file's order only if it is asked to."""

SNIFF = 1 << 20
MISSING = ("", "NA", "N/A", "NaN", "nan", "NULL", "null")


def quoted(name: str) -> str:
    """Return a column name as an SQL identifier."""
    return '"' + name.replace('"', '""') + '"'


def literal(text: str) -> str:
    """Return a text as an SQL string."""
    return "'" + text.replace("'", "''") + "'"


def nearest(name: str, names: Sequence[str]) -> str:
    """Return the name most like this one, or an empty string when none is."""
    folded = {other.casefold().strip(): other for other in names}
    found = get_close_matches(name.casefold().strip(), list(folded), 1, cutoff=0.5)
    return folded[found[0]] if found else ""


def is_text(path: Path) -> bool:
    """Whether the file is delimited text rather than a typed format such as Parquet."""
    return path.name.lower().endswith(TEXT_SUFFIXES)


@contextmanager
def opened(path: Path, id: Sequence[str] = (), only: Sequence[str] = (), load: bool = True) -> Iterator[Scan]:
    """Open a file and give a `Scan` of it.

    Args:
        path: a CSV file (also .tsv, .txt, .gz), a Parquet file, or anything else that DuckDB reads by its name.
        id: the id columns that must be there.
        only: the only other columns to load, which must be there; empty means all of the file.
        load: whether to load the rows.

    Raises:
        InputError: the file is absent, unreadable, empty or malformed, or a named column is not in it.
    """
    import duckdb

    if not path.is_file():
        raise InputError(
            f"the file {path.name} does not exist", detail=f"Looked for {path}.", cure="Check the path of the data set."
        )
    with duckdb.connect() as connection:
        try:
            yield Scan(path, connection, id, only, load)
        except duckdb.Error as cause:
            raise readable(path, cause) from None


class Scan:
    """An open file: its column names and their types, and its rows in order in the table `source`.

    Args:
        path: the file.
        connection: a DuckDB connection of its own.
        id: the id columns, which must be there.
        only: the other columns to load; empty means all of the file.
        load: whether to load the rows into the table `source`; without it `relation` is read from the file.
    """

    def __init__(
        self, path: Path, connection: Any, id: Sequence[str] = (), only: Sequence[str] = (), load: bool = True
    ) -> None:
        self.path, self.connection = path, connection
        connection.execute("SET preserve_insertion_order = true")
        if is_text(path):
            self.types = dict.fromkeys(self._header(), "VARCHAR")
            self.relation = self._read_csv()
        else:
            self.relation = literal(str(path))
            described = connection.execute(f"DESCRIBE SELECT * FROM {self.relation}").fetchall()  # noqa: S608
            self.types = {str(row[0]): str(row[1]) for row in described}
        self.demand(id, "id column")
        self.demand(only)
        if not load:
            return
        chosen = ", ".join(quoted(name) for name in dict.fromkeys([*id, *only])) if only else "*"
        number = f"row_number() OVER () AS {quoted(ROW)}"
        connection.execute(f"CREATE TEMP TABLE source AS SELECT {number}, {chosen} FROM {self.relation}")  # noqa: S608

    @property
    def names(self) -> tuple[str, ...]:
        """The column names, in the file's order."""
        return tuple(self.types)

    def demand(self, names: Sequence[str], what: str = "column") -> None:
        """Refuse when a named column is not in the file.

        Raises:
            InputError: naming the column and the nearest name that is there.
        """
        for name in names:
            if name not in self.types:
                close = nearest(name, self.names)
                raise InputError(
                    f"{self.path.name} has no {what} {name!r}",
                    column=name,
                    detail=(f"Did you mean {close!r}? " if close else "") + f"It has {', '.join(self.names)}.",
                    cure="Correct the name, or the file.",
                )

    def row(self, sql: str) -> tuple[Any, ...]:
        """Return the one row that a query over `source` gives."""
        return tuple(self.connection.execute(sql).fetchone())

    def in_order(self, expressions: str) -> dict[str, Any]:
        """Return expressions over all rows as arrays in the file's order; none of them may be NULL."""
        sql = f"SELECT {quoted(ROW)} AS at, {expressions} FROM source"  # noqa: S608
        found: dict[str, Any] = self.connection.execute(sql).fetchnumpy()
        arrays = {name: getattr(values, "filled", lambda v=values: v)() for name, values in found.items()}
        at = arrays.pop("at")
        if (at[1:] > at[:-1]).all():
            return arrays
        order = at.argsort()  # several threads may have delivered their parts in another order
        return {name: values[order] for name, values in arrays.items()}

    def place(self, number: int) -> str:
        """Say where row `number` (from 1) is, in words."""
        return f"line {number + 1}" if is_text(self.path) else f"row {number}"

    def _header(self) -> list[str]:
        opener = gzip.open if self.path.name.lower().endswith(".gz") else open
        try:
            with opener(self.path, "rt", encoding="utf-8-sig", newline="") as file:
                head = file.read(SNIFF)
        except UnicodeDecodeError:
            raise InputError(f"{self.path.name} is not UTF-8 text", cure="Save it as CSV in UTF-8.") from None
        if not head.strip():
            raise InputError(f"{self.path.name} is empty", cure="Export the table again, with a header line.")
        first = head.splitlines()[0]
        self.delimiter = max(DELIMITERS, key=lambda mark: (len(next(csv.reader([first], delimiter=mark))), mark == ","))
        names = next(csv.reader(head.splitlines(keepends=True), delimiter=self.delimiter))
        names = [name.strip() for name in names]
        for at, name in enumerate(names):
            if not name:
                raise InputError(f"column {at + 1} of {self.path.name} has no name", cure="Name it in the header line.")
            if name in names[:at]:
                raise InputError(f"{self.path.name} has two columns {name!r}", column=name, cure="Rename one of them.")
        return names

    def _read_csv(self) -> str:
        columns = ", ".join(f"{literal(name)}: 'VARCHAR'" for name in self.types)
        return (
            f"read_csv({literal(str(self.path))}, delim = {literal(self.delimiter)}, header = true,"
            f" auto_detect = false, quote = '\"', escape = '\"', nullstr = '', columns = {{{columns}}})"
        )


def readable(path: Path, cause: Exception) -> InputError:
    """Turn DuckDB's text into one sentence with the line, and keep the data it quotes on this site."""
    text = str(cause)
    line = re.search(r"Line: (\d+)", text)
    where = f" at line {line[1]}" if line else ""
    counts = re.search(r"Expected Number of Columns: (\d+) Found: (\d+)", text)
    if counts:
        return InputError(
            f"{path.name} has {counts[2]} values{where}, its header has {counts[1]}",
            cure="Put quotes around values that hold the delimiter, or repair the line.",
        )
    if "utf-8" in text:
        return InputError(f"{path.name} is not UTF-8 text{where}", cure="Save it as CSV in UTF-8.")
    return InputError(
        f"{path.name} cannot be read{where}",
        detail=text.split("\n")[0].strip(),
        cure="Atoll reads CSV with a header line, Parquet, and other files that DuckDB knows by their name.",
    )
