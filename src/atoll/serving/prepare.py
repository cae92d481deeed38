"""From a site's table to its lookup database: canonical keys, one record a key, a full set-up or an update."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from atoll.align.ids import canonical, pack_keys, unique_ids
from atoll.core.errors import InputError
from atoll.crypto import lookup_table
from atoll.crypto.oprf import LONGEST_INPUT
from atoll.crypto.random import Rng
from atoll.query import database
from atoll.query.records import MOST_FIELDS, About, encode, padded_length
from atoll.query.tables import Rows
from atoll.query.update import compare, update

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Prepared:
    """What became of a database.

    Attributes:
        meta: What it is now.
        how: `built`, `updated` or `unchanged`.
        changed: Records that were added, changed or removed.
    """

    meta: database.Meta
    how: str
    changed: int


def prepare(
    folder: Path,
    rows: Rows,
    about: About,
    *,
    rng: Rng,
    record: int = 0,
    fresh: bool = False,
    progress: Progress = lambda what, done, total: None,
) -> Prepared:
    """Bring the database in a folder to what a table holds; set it up in full where an update cannot do it.

    Args:
        folder: The database's folder.
        rows: The table.
        about: Its key columns, their kinds, its columns, and most rows of a key.
        rng: Secret randomness.
        record: Padded length that the owner wants; 0 takes the least one.
        fresh: Set up in full in any case, with a new key of the OPRF.
        progress: Called with what is done, how much of it, and how much in all.

    Raises:
        InputError: Keys are missing, unfit, or repeat; a record is too long; the folder cannot be written.
    """
    if len(rows.fields) > MOST_FIELDS:
        raise InputError(
            f"a record has at most {MOST_FIELDS} columns, not {len(rows.fields)}", cure="Name some with --columns."
        )
    keys, records, places = grouped(rows, about)
    if not fresh and database.exists(folder):
        meta = database.read_meta(folder)
        room = record in (0, meta.record) and max(map(len, records), default=0) <= lookup_table.longest(meta.record)
        if room and meta.about == about.text():
            found = compare(folder, keys, records)
            made = update(folder, keys, records, rng=rng, difference=found)
            if made is not None:
                return Prepared(made, "updated" if found.count else "unchanged", found.count)
    length = padded_length(records, places, record)
    made = database.build(folder, keys, records, record=length, about=about.text(), rng=rng, progress=progress)
    return Prepared(made, "built", len(keys))


def grouped(rows: Rows, about: About) -> tuple[list[bytes], list[bytes], list[str]]:
    """Return the canonical keys, each once, the record of each, and where its first row stands.

    Raises:
        InputError: A key is missing or unfit, or has more rows than `about` allows; with the places of some.
    """
    keys = key_texts(rows.keys, about.kinds, rows.places)
    ids = unique_ids(keys)
    starts, order = ids.starts.tolist(), ids.rows.tolist()
    mine = [order[starts[at] : starts[at + 1]] for at in range(len(ids.keys))]
    over = [group for group in mine if len(group) > about.rows]
    if over:
        shown = "; ".join(", ".join(rows.places[row] for row in group[:3]) for group in over[:3])
        raise InputError(
            f"{len(over):,} keys have more rows than the {about.rows:,} that are kept",
            detail=f"For example {shown}.",
            cure="Aggregate the table first, or keep them all with --rows-per-key.",
        )
    records = [encode([rows.values[row] for row in group]) for group in mine]
    return ids.keys, records, [rows.places[group[0]] for group in mine]


def key_texts(columns: Sequence[Sequence[str]], kinds: Sequence[str], places: Sequence[str]) -> list[bytes]:
    """Return one canonical key a row.

    Raises:
        InputError: Keys are missing or do not fit their kind; names the places of some, and not the keys.
    """
    try:
        keys = pack_keys(columns, kinds)
        long = [place for place, key in zip(places, keys, strict=True) if len(key) > LONGEST_INPUT]
        if long:
            raise InputError(
                f"{len(long):,} keys are longer than {LONGEST_INPUT:,} bytes",
                detail=f"For example {', '.join(long[:3])}.",
                cure="Choose another key column.",
            )
        return keys
    except InputError as cause:
        bad = []
        for place, *texts in zip(places, *columns, strict=True):
            try:
                for text, kind in zip(texts, kinds, strict=True):
                    if not canonical(text, kind):
                        raise InputError("an id is missing")
            except InputError as why:
                bad.append(f"{place} ({why.what.removeprefix('an id ')})")
        if not bad:
            raise
        raise InputError(
            f"{len(bad):,} of {len(places):,} keys cannot be used",
            detail=f"{', '.join(bad[:5])}{' and more' if len(bad) > 5 else ''}.",
            cure="Mend these keys or leave their rows out.",
        ) from cause
