"""A lookup database on disk: built once in full, brought up to date slot by slot, served from a memory map.

FOLDER/database.json     what it is, and its version
FOLDER/key-IDENTITY      k of the OPRF, for its owner only
FOLDER/{matrix,hint,overflow,index}-VERSION.npy
FOLDER/changes-VERSION.npz   what has changed since the version before
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from atoll import whole_files
from atoll.crypto import lookup_table, oprf, pir, ristretto
from atoll.crypto.aes import expand
from atoll.crypto.lookup_table import Layout, layout_for
from atoll.crypto.random import Rng
from atoll.protocols.keyword_lookup.protocol import LARGEST_CHANGE
from atoll.protocols.keyword_lookup.table import Change, Served, digest_of
from atoll.query import files

META = "database.json"
INDEX = np.dtype([("key", "<u8", 2), ("record", "<u8", 2), ("place", "<i8")])
"""What the owner remembers of each record: hashes of key and record under k, and its place (−1 − row: overflow)."""

CHUNK = 1 << 14
Progress = Callable[[str, int, int], None]


class Meta(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What `database.json` says."""

    format: str = "atoll-lookup-1"
    parameters: str = pir.NAME
    identity: str
    version: int
    count: int
    columns: int
    slots: int
    record: int
    overflow: int
    most_overflow: int
    about: str
    digest: str

    @property
    def layout(self) -> Layout:
        """The database's shape."""
        return Layout(self.columns, self.slots, self.record)


def exists(folder: Path) -> bool:
    """Whether there is a database in a folder."""
    return (folder / META).is_file()


def read_meta(folder: Path) -> Meta:
    """Return what a database is.

    Raises:
        InputError: There is none, or its record is damaged.
    """
    meta = files.read_json(folder / META, Meta)
    try:
        good = meta.parameters == pir.NAME and len(bytes.fromhex(meta.identity)) == 16 and bool(meta.layout)
    except ValueError:
        good = False
    if not good:
        raise files.damaged(folder / META, ValueError("its numbers cannot be"))
    return meta


def read_key(folder: Path, meta: Meta) -> bytes:
    """Return k.

    Raises:
        InputError: It is absent or damaged.
    """
    path = folder / f"key-{meta.identity}"
    try:
        key = path.read_bytes()
    except OSError as cause:
        raise files.damaged(path, cause) from None
    if len(key) != 32:
        raise files.damaged(path, ValueError("it has not 32 bytes"))
    return key


def build(
    folder: Path,
    keys: Sequence[bytes],
    records: Sequence[bytes],
    *,
    record: int,
    about: str,
    rng: Rng,
    progress: Progress = lambda what, done, total: None,
    threads: int = 0,
) -> Meta:
    """Set a database up in full: a new k, a new A, the hint.  It replaces what the folder held.

    Args:
        folder: Where; made if missing.
        keys: n canonical keys, each once.
        records: The record of each, at most `lookup_table.longest(record)` bytes.
        record: Padded length.
        about: What the columns of a record mean, for clients.
        rng: Secret randomness.
        progress: Called with what is done, how much of it, and how much in all.
        threads: How many; 0 takes all cores.

    Raises:
        InputError: The folder cannot be written.
    """
    files.folder_for(folder)
    key, identity, layout = ristretto.random_scalar(rng), rng.bytes(16), layout_for(len(keys), record)
    columns, names, slots = _sealed(keys, records, key, layout.columns, record, identity, progress, threads)
    order = np.argsort(columns, kind="stable")
    loads = np.bincount(columns, minlength=layout.columns)
    rank = np.empty(len(keys), np.int64)
    rank[order] = np.arange(len(keys)) - np.repeat(np.cumsum(loads) - loads, loads)
    late = np.flatnonzero(rank >= layout.slots)
    place = rank * layout.columns + columns
    place[late] = -1 - np.arange(len(late))
    version = read_meta(folder).version + 1 if exists(folder) else 1
    target = folder / f"matrix-{version}.npy"
    matrix = _matrix(target, layout, slots, rank, columns, rng)
    overflow = np.concatenate((names[late], slots[late]), axis=1)
    public = pir.PublicMatrix(identity, layout.columns)
    hint = pir.hint(matrix, public, threads=threads, progress=lambda done, total: progress("hint", done, total))
    index = _indexed(keys, records, place, key)
    most = max(64, 2 * len(late), len(keys) // 20)
    meta = Meta(
        identity=identity.hex(), version=version, count=len(keys), columns=layout.columns, slots=layout.slots,
        record=record, overflow=len(overflow), most_overflow=most, about=about,
        digest=digest_of(identity, version, layout, point_of(key), hint, overflow).hex(),
    )  # fmt: skip
    files.write(folder / f"key-{meta.identity}", lambda file: file.write(key))  # readable by its owner only
    commit(folder, meta, hint, overflow, index)
    for path in folder.glob("changes-*.npz"):
        path.unlink(missing_ok=True)
    return meta


def open_database(folder: Path) -> Served:
    """Open a database for serving; its files are mapped into memory.

    Raises:
        InputError: There is none, or a file is absent or damaged.
    """
    meta = read_meta(folder)
    layout, version, key = meta.layout, meta.version, read_key(folder, meta)
    return Served(
        identity=bytes.fromhex(meta.identity),
        version=version,
        layout=layout,
        count=meta.count,
        matrix=files.read_array(folder / f"matrix-{version}.npy", "|u1", (layout.rows, layout.columns)),
        hint=files.read_array(folder / f"hint-{version}.npy", "<u4", (layout.rows, pir.N)),
        overflow=files.read_array(folder / f"overflow-{version}.npy", "|u1", (meta.overflow, layout.row_bytes)),
        key=key,
        point=point_of(key),
        about=meta.about,
        digest=bytes.fromhex(meta.digest),
        changes=lambda since: read_changes(folder, meta, since),
    )


def find(served: Served, keys: Sequence[bytes]) -> list[bytes | None]:
    """Return records at their owner's own site, for the owner and for `decoy-lookup`."""
    outputs, layout = oprf.evaluate(keys, served.key, verifiable=True), served.layout
    names = served.overflow[:, : lookup_table.NAME_BYTES]
    out = []
    for output, column in zip(outputs, lookup_table.columns_of(outputs, layout.columns).tolist(), strict=True):
        slots = np.ascontiguousarray(served.matrix[:, column]).reshape(layout.slots, layout.width)
        found = lookup_table.unseal(output, slots, served.identity)
        if found is None and len(names):
            at = np.flatnonzero((names == lookup_table.names_of(output[None])[0]).all(1))
            found = lookup_table.unseal(output, served.overflow[at, lookup_table.NAME_BYTES :], served.identity)
        out.append(found)
    return out


def commit(
    folder: Path, meta: Meta, hint: NDArray[np.uint32], overflow: NDArray[np.uint8], index: NDArray[np.void]
) -> None:
    """Write the other parts of a version whose matrix is there, make it the valid one, and clear away older ones."""
    for name, array in (("hint", hint), ("overflow", overflow), ("index", index)):
        files.write_array(folder / f"{name}-{meta.version}.npy", array)
    files.write_json(folder / META, meta)
    for path in folder.glob("*-*.npy"):
        if path.stem != f"{path.stem.rpartition('-')[0]}-{meta.version}":
            path.unlink(missing_ok=True)
    for path in folder.glob("key-*"):
        if path.name != f"key-{meta.identity}":
            path.unlink(missing_ok=True)


def read_changes(folder: Path, meta: Meta, since: int) -> list[Change] | None:
    """Return what has changed since a version, one `Change` a version; None if not known, or more than the hint."""
    layout, found, size = meta.layout, list[Change](), 0
    for version in range(since + 1, meta.version + 1):
        try:
            with np.load(folder / f"changes-{version}.npz", allow_pickle=False) as parts:
                change = Change(
                    places=parts["places"],
                    changes=parts["changes"],
                    spots=parts["spots"],
                    rows=parts["rows"],
                    overflow=int(parts["overflow"]),
                )
        except (OSError, ValueError, KeyError):
            return None
        both = (change.changes.nbytes, change.rows.nbytes)
        size += sum(both)
        if max(both) > LARGEST_CHANGE or size > layout.hint_bytes + meta.overflow * layout.row_bytes:
            return None
        found.append(change)
    return found


def point_of(key: bytes) -> bytes:
    """Return k·G, by which clients know k."""
    return ristretto.multiply_base(key).tobytes()


def fingerprints(texts: Sequence[bytes], key: bytes) -> NDArray[np.uint64]:
    """Return hashes under k of byte strings, (n, 2) uint64."""
    joined = b"".join(hashlib.blake2b(text, key=key, digest_size=16).digest() for text in texts)
    return np.frombuffer(joined, np.uint64).reshape(-1, 2)


def _indexed(keys: Sequence[bytes], records: Sequence[bytes], place: NDArray[np.int64], key: bytes) -> NDArray[np.void]:
    index = np.empty(len(keys), INDEX)
    index["key"], index["record"], index["place"] = fingerprints(keys, key), fingerprints(records, key), place
    return index


def _sealed(
    keys: Sequence[bytes], records: Sequence[bytes], key: bytes, columns: int, record: int, identity: bytes,
    progress: Progress, threads: int,
) -> tuple[NDArray[np.int64], NDArray[np.uint8], NDArray[np.uint8]]:  # fmt: skip
    """Return the column, the name and the encrypted slot of every record."""
    width = record + lookup_table.TAG_BYTES
    at_columns, names = np.empty(len(keys), np.int64), np.empty((len(keys), lookup_table.NAME_BYTES), np.uint8)
    slots = np.empty((len(keys), width), np.uint8)
    for lo in range(0, len(keys), CHUNK):
        part = slice(lo, min(lo + CHUNK, len(keys)))
        outputs = oprf.evaluate(keys[part], key, threads=threads, verifiable=True)
        at_columns[part], names[part] = lookup_table.columns_of(outputs, columns), lookup_table.names_of(outputs)
        slots[part] = lookup_table.seal(outputs, records[part], record, identity)
        progress("records", part.stop, len(keys))
    return at_columns, names, slots


def _matrix(
    target: Path,
    layout: Layout,
    slots: NDArray[np.uint8],
    rank: NDArray[np.int64],
    columns: NDArray[np.int64],
    rng: Rng,
) -> NDArray[np.uint8]:
    """Write the matrix; empty slots hold random bytes, so that nobody sees which they are."""
    with files.writing(target.parent), whole_files.making(target) as temporary:
        matrix = np.lib.format.open_memmap(temporary, "w+", np.uint8, (layout.rows, layout.columns))
        order = np.argsort(rank, kind="stable")
        ends = np.searchsorted(rank[order], np.arange(layout.slots + 1))
        for slot in range(layout.slots):
            here = order[ends[slot] : ends[slot + 1]]
            block = expand(rng.bytes(16), layout.columns * layout.width).reshape(layout.columns, layout.width)
            block[columns[here]] = slots[here]
            matrix[slot * layout.width : (slot + 1) * layout.width] = block.T
        matrix.flush()
    return np.asarray(matrix)
