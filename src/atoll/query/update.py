"""Bring a lookup database up to date without a full set-up: only what has changed is encrypted and multiplied again."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from atoll import whole_files
from atoll.crypto import lookup_table, oprf, pir
from atoll.crypto.random import Rng
from atoll.protocols.keyword_lookup.table import digest_of
from atoll.query import files
from atoll.query.database import INDEX, Meta, commit, fingerprints, point_of, read_key, read_meta

MOST_VERSIONS = 64
"""Versions back from which a client may still be brought up to date by changes."""


@dataclass(frozen=True)
class Difference:
    """How a table differs from the database: places in the table, and rows of the old index.

    Attributes:
        added: Places of keys that are new.
        changed: Places of keys whose record has changed.
        where: For each of these, the row of the old index.
        kept: Rows of the old index whose key is still there.
        removed: Rows of the old index whose key is gone.
    """

    added: list[int]
    changed: list[int]
    where: list[int]
    kept: list[int]
    removed: list[int]

    @property
    def count(self) -> int:
        """How many records differ."""
        return len(self.added) + len(self.changed) + len(self.removed)


@dataclass
class Pending:
    """New content of slots and overflow rows, by place and by row."""

    slots: dict[int, NDArray[np.uint8]] = field(default_factory=dict)
    rows: dict[int, NDArray[np.uint8]] = field(default_factory=dict)


def compare(folder: Path, keys: Sequence[bytes], records: Sequence[bytes]) -> Difference:
    """Compare a table with the database, by the owner's index.

    Args:
        folder: The database.
        keys: Canonical keys, each once.
        records: The encoded record of each.
    """
    meta = read_meta(folder)
    key = read_key(folder, meta)
    index = _index(folder, meta)
    before = {name: at for at, name in enumerate(_texts(index["key"]))}
    old, found = _texts(index["record"]), Difference([], [], [], [], [])
    new = zip(_texts(fingerprints(keys, key)), _texts(fingerprints(records, key)), strict=True)
    for at, (name, record) in enumerate(new):
        row = before.pop(name, None)
        if row is None:
            found.added.append(at)
            continue
        found.kept.append(row)
        if old[row] != record:
            found.changed.append(at)
            found.where.append(row)
    found.removed.extend(before.values())
    return found


def update(
    folder: Path, keys: Sequence[bytes], records: Sequence[bytes], *, rng: Rng, difference: Difference | None = None
) -> Meta | None:
    """Make the next version, which holds exactly these records; nothing is written if it is the present one.

    Args:
        folder: The database.
        keys: Canonical keys, each once.
        records: The record of each, no longer than the database's records may be.
        rng: Secret randomness.
        difference: What `compare` returned, if it has been called already.

    Returns:
        The next version; None if the database has outgrown its shape and must be set up anew.

    Raises:
        InputError: A file is damaged, or cannot be written.
    """
    meta = read_meta(folder)
    key = read_key(folder, meta)
    found = difference or compare(folder, keys, records)
    if not found.count:
        return meta
    layout, identity, index = meta.layout, bytes.fromhex(meta.identity), _index(folder, meta)
    pending, rows, freed = Pending(), meta.overflow, list[int]()
    for place in index["place"][found.removed].tolist():
        if place >= 0:
            pending.slots[place] = rng.u8(layout.width)
        else:
            pending.rows[-1 - place] = rng.u8(layout.row_bytes)
            freed.append(-1 - place)
    touched = found.added + found.changed
    outputs = oprf.evaluate([keys[at] for at in touched], key, verifiable=True)
    sealed = lookup_table.seal(outputs, [records[at] for at in touched], layout.record, identity)
    names, columns = lookup_table.names_of(outputs), lookup_table.columns_of(outputs, layout.columns)
    used = _used(index["place"][found.kept], columns[: len(found.added)], layout.columns)
    places = np.empty(len(touched), np.int64)
    for at in range(len(touched)):
        if at < len(found.added):
            column = int(columns[at])
            free = (slot * layout.columns + column for slot in range(layout.slots))
            place = next((one for one in free if one not in used), None)
            if place is None:
                row = freed.pop() if freed else rows
                rows, place = max(rows, row + 1), -1 - row
            used.add(place)
        else:
            place = int(index["place"][found.where[at - len(found.added)]])
        places[at] = place
        if place >= 0:
            pending.slots[place] = sealed[at]
        else:
            pending.rows[-1 - place] = np.concatenate((names[at], sealed[at]))
    if rows > meta.most_overflow:
        return None
    new_index = np.empty(len(found.kept) + len(found.added), INDEX)
    changed_rows = np.array(found.where, np.int64)
    index = np.array(index)
    index["record"][changed_rows] = fingerprints([records[at] for at in found.changed], key)
    new_index[: len(found.kept)] = index[found.kept]
    fresh = new_index[len(found.kept) :]
    fresh["key"] = fingerprints([keys[at] for at in found.added], key)
    fresh["record"] = fingerprints([records[at] for at in found.added], key)
    fresh["place"] = places[: len(found.added)]
    return _write(folder, meta, pending, rows, new_index)


def _write(folder: Path, meta: Meta, pending: Pending, rows: int, index: NDArray[np.void]) -> Meta:
    """Write the next version: a copy of the matrix with other slots, the hint with what they add to it."""
    layout, identity, version = meta.layout, bytes.fromhex(meta.identity), meta.version + 1
    target = folder / f"matrix-{version}.npy"
    places = np.array(sorted(pending.slots), np.int64)
    first, columns = places // layout.columns * layout.width, places % layout.columns
    changes = np.empty((len(places), layout.width), np.int16)
    with files.writing(folder), whole_files.making(target) as temporary:
        shutil.copyfile(folder / f"matrix-{meta.version}.npy", temporary)
        matrix = np.load(temporary, mmap_mode="r+", allow_pickle=False)
        for at, place in enumerate(places.tolist()):
            part = slice(int(first[at]), int(first[at]) + layout.width)
            changes[at] = pir.signed_change(pending.slots[place], np.ascontiguousarray(matrix[part, columns[at]]))
            matrix[part, columns[at]] = pending.slots[place]
        matrix.flush()
    hint = np.array(files.read_array(folder / f"hint-{meta.version}.npy", "<u4", (layout.rows, pir.N)))
    pir.change_hint(hint, pir.PublicMatrix(identity, layout.columns), first, columns, changes)
    overflow = np.zeros((rows, layout.row_bytes), np.uint8)
    old = files.read_array(folder / f"overflow-{meta.version}.npy", "|u1", (meta.overflow, layout.row_bytes))
    overflow[: meta.overflow] = old
    spots = np.array(sorted(pending.rows), np.int64)
    overflow[spots] = np.array([pending.rows[at] for at in spots.tolist()], np.uint8).reshape(-1, layout.row_bytes)
    parts = {"places": places, "changes": changes, "spots": spots, "rows": overflow[spots]}
    files.write(folder / f"changes-{version}.npz", lambda file: np.savez(file, **parts, overflow=np.array(rows)))  # type: ignore[arg-type]
    point = point_of(read_key(folder, meta))
    digest = digest_of(identity, version, layout, point, hint, overflow).hex()
    made = msgspec.structs.replace(meta, version=version, count=len(index), overflow=rows, digest=digest)
    commit(folder, made, hint, overflow, index)
    (folder / f"changes-{version - MOST_VERSIONS}.npz").unlink(missing_ok=True)
    return made


def _texts(hashes: NDArray[np.uint64]) -> list[bytes]:
    """Return hashes as byte strings of 16."""
    data = np.ascontiguousarray(hashes).tobytes()
    return [data[at : at + 16] for at in range(0, len(data), 16)]


def _index(folder: Path, meta: Meta) -> NDArray[np.void]:
    return files.read_array(folder / f"index-{meta.version}.npy", INDEX, (meta.count,))  # type: ignore[arg-type]


def _used(places: NDArray[np.int64], wanted: NDArray[np.int64], columns: int) -> set[int]:
    """Return the places that are taken in the columns that new records want."""
    return set(places[(places >= 0) & np.isin(places % columns, wanted)].tolist())
