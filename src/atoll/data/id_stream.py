"""Stream the id columns of a file, in the file's order, without loading it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from atoll.crypto.item_hash import Texts
from atoll.data.arrow_stream import StreamBroken, text_batches
from atoll.data.scan import opened, quoted, readable


def stream_ids(path: Path, id: Sequence[str]) -> Iterator[tuple[Texts, ...]]:
    """Yield the id columns, some hundred thousand rows at a time, exactly as written; a missing id is an empty text.

    Args:
        path: A CSV or Parquet file, or what else DuckDB reads by its name.
        id: The id columns.

    Raises:
        InputError: The file is absent, unreadable, empty or malformed, or a column is not in it.
    """
    with opened(path, id, load=False) as scan:
        columns = ", ".join(f"coalesce(CAST({quoted(name)} AS VARCHAR), '') AS c{at}" for at, name in enumerate(id))
        relation = scan.connection.sql(f"SELECT {columns} FROM {scan.relation}")  # noqa: S608
        try:
            yield from text_batches(relation)
        except StreamBroken as cause:
            raise readable(path, cause) from None
