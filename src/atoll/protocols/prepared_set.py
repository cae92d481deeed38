"""A server's set, prepared once: a key that stays, and a filter that every client may have.

The filter is a key-value store in which F(y) of every id y leads to a check of 64 bits, and to its label under a pad of
F(y).  To whoever does not know F(y) it is noise, and so is the number of ids below the capacity.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from functools import cached_property
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from atoll import whole_files
from atoll.core.errors import InputError, ProtocolError
from atoll.crypto import filled_store, okvs, oprf, ristretto
from atoll.crypto.filled_store import Store
from atoll.crypto.random import Rng
from atoll.crypto.stretch import pads, stretch

WIDEST = 1024
"""Most bytes of a label."""

LONGEST_ID = (1 << 16) - 1

LIFETIME = 1 << 24
"""Ids that may be looked for in one filter: a false match among all of them has a probability of 2^-40."""

CHECKS, LABELS = b"prepared-set/checks", b"prepared-set/labels"

Bytes = NDArray[np.uint8]
Words = NDArray[np.uint64]
Progress = Callable[[int, int], None]

_CHUNK = 1 << 15
_FILTER, _WORDS, _KEY = "filter.json", "filter.npy", "key"


class Description(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a filter is, but for its words.

    Attributes:
        version: Counts up with each preparation.
        capacity: Most ids it may hold.
        label_bytes: Bytes of each id's label; 0 without labels.
        seed: Of the store, 16 bytes.
    """

    version: int
    capacity: int
    label_bytes: int
    seed: bytes

    @property
    def shape(self) -> okvs.Shape:
        """Sizes of the store."""
        return okvs.Shape(self.capacity)

    @property
    def columns(self) -> int:
        """Words that an id leads to."""
        return 1 + -(-self.label_bytes // 8)


@dataclass(frozen=True)
class Filter:
    """What a client holds.

    Attributes:
        about: Sizes and version.
        words: (m, w) uint64.
    """

    about: Description
    words: Words

    @cached_property
    def digest(self) -> bytes:
        """SHA-256 of the description and the words: what both sites name this filter by."""
        sha = hashlib.sha256(b"atoll/prepared-set/v1/" + msgspec.msgpack.encode(self.about))
        sha.update(np.ascontiguousarray(self.words).view(np.uint8).data)
        return sha.digest()

    def look_up(self, values: Bytes) -> tuple[NDArray[np.bool_], Bytes]:
        """Say which ids the server has, and their labels.

        Args:
            values: F of n ids, (n, 64) uint8.

        Returns:
            found (n,), and labels (n, label_bytes), which mean something only where an id was found.
        """
        secret, keys = _split(values)
        got = filled_store.decode(Store(self.about.seed, self.words), keys, self.about.shape)
        found = got[:, 0] == stretch(secret, CHECKS, 1)[:, 0, 0]
        hidden = np.ascontiguousarray(got[:, 1:]).view(np.uint8)[:, : self.about.label_bytes]
        return found, hidden ^ pads(secret, LABELS, self.about.label_bytes)


@dataclass(frozen=True, repr=False)
class Prepared:
    """What the server holds: the key, which never leaves it, and the filter."""

    key: bytes
    filter: Filter


def prepare(
    ids: Sequence[bytes],
    labels: Bytes | None = None,
    *,
    rng: Rng,
    version: int,
    capacity: int = 0,
    progress: Progress = lambda done, total: None,
) -> Prepared:
    """Prepare a set under a fresh key; about 27,000 ids a second on a core.

    Args:
        ids: n canonical ids without duplicates.
        labels: (n, width) uint8, one label of fixed width for each id; None without labels.
        rng: Secret randomness.
        version: Greater than that of the set it replaces.
        capacity: How many ids clients see at most; n if smaller. A round number hides how the set grows.
        progress: Called with ids done and ids in all.

    Raises:
        InputError: An id stands twice or is too long, or labels are missing, empty or too wide.
    """
    repeated = len(ids) - len(set(ids))
    if repeated or max(map(len, ids), default=0) > LONGEST_ID:
        raise InputError(f"{repeated:,} of {len(ids):,} ids are duplicates, or one has more than {LONGEST_ID:,} bytes")
    labels = np.empty((len(ids), 0), np.uint8) if labels is None else _checked(labels, len(ids))
    key, values = ristretto.random_scalar(rng), np.empty((len(ids), oprf.OUTPUT_BYTES), np.uint8)
    for lo in range(0, len(ids), _CHUNK):
        values[lo : lo + _CHUNK] = oprf.evaluate(ids[lo : lo + _CHUNK], key)
        progress(min(lo + _CHUNK, len(ids)), len(ids))
    secret, keys = _split(values)
    about = Description(version, max(capacity, len(ids), 1), labels.shape[1], b"")
    rows = np.zeros((len(ids), about.columns), np.uint64)
    rows[:, 0] = stretch(secret, CHECKS, 1)[:, 0, 0]
    rows[:, 1:] = _as_words(labels ^ pads(secret, LABELS, labels.shape[1]))
    store = filled_store.encode(keys, rows, about.shape, rng)
    return Prepared(key, Filter(msgspec.structs.replace(about, seed=store.seed), store.words))


def save_filter(folder: Path, filter_: Filter) -> None:
    """Keep a filter in a folder, in place of an older one."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    with whole_files.filling(folder / _WORDS) as file:
        np.save(file, filter_.words, allow_pickle=False)
    text = msgspec.json.encode({"about": filter_.about, "digest": filter_.digest.hex()})
    whole_files.write(folder / _FILTER, text)


def load_filter(folder: Path) -> Filter:
    """Load a filter, and check its digest.

    Raises:
        InputError: It is not there, or was changed.
    """
    try:
        kept = msgspec.json.decode((folder / _FILTER).read_bytes(), type=_Kept)
        words = np.load(folder / _WORDS, allow_pickle=False)
    except (OSError, ValueError, EOFError) as cause:
        raise InputError("the prepared set cannot be read", detail=f"{folder}: {cause}", cure="Get it again.") from None
    found = Filter(kept.about, words)
    if words.dtype != np.uint64 or words.ndim != 2 or found.digest.hex() != kept.digest:
        raise InputError("the prepared set was changed since it was stored", detail=str(folder), cure="Get it again.")
    return found


def save(folder: Path, prepared: Prepared) -> None:
    """Keep a server's set in a folder that only this user may read; other sites get nothing but the filter."""
    save_filter(folder, prepared.filter)
    whole_files.write(folder / _KEY, prepared.key)


def load(folder: Path) -> Prepared:
    """Load a server's set.

    Raises:
        InputError: It is not there, was changed, or its key has another size.
    """
    filter_ = load_filter(folder)
    try:
        key = (folder / _KEY).read_bytes()
    except OSError as cause:
        raise InputError("the key of the prepared set cannot be read", detail=f"{folder}: {cause.strerror}") from None
    if len(key) != 32:
        raise InputError("the key of the prepared set is damaged", detail=str(folder), cure="Prepare the set again.")
    return Prepared(key, filter_)


class Allowance:
    """How many ids each client may ask for: on one day, and in one prepared set.

    Args:
        per_day: Ids a client may ask for on one day (UTC).
        path: Where the counts are kept, so that a restart forgets nothing; None keeps them in memory.
        in_all: Ids a client may ask for in one set, at most `LIFETIME`.

    Raises:
        InputError: The file is damaged, or `in_all` is too large.
    """

    def __init__(self, per_day: int, path: Path | None = None, *, in_all: int = LIFETIME) -> None:
        if not 0 <= in_all <= LIFETIME:
            raise InputError(f"one prepared set serves at most {LIFETIME:,} ids, not {in_all:,}")
        self.per_day, self.in_all, self.path = per_day, in_all, path
        self._counts: dict[str, _Count] = {}
        if path is not None and path.exists():
            try:
                self._counts = msgspec.json.decode(path.read_bytes(), type=dict[str, _Count])
            except msgspec.MsgspecError:
                raise InputError("the record of queries is damaged", detail=str(path), cure="Restore it.") from None

    def take(self, client: str, digest: bytes, n: int, today: date | None = None) -> None:
        """Count n ids of a client, before they are answered.

        Raises:
            ProtocolError: The client asks for more than it may; nothing is counted.
        """
        day = (today or datetime.now(UTC).date()).isoformat()
        known = self._counts.get(client, _Count("", "", 0, 0))
        before = known.today if known.day == day else 0
        earlier = known.in_all if known.digest == digest.hex() else 0
        if before + n > self.per_day or earlier + n > self.in_all:
            limit, when = (self.per_day, "a day") if before + n > self.per_day else (self.in_all, "in one set")
            raise ProtocolError(
                f"{client} asks for {n:,} ids more; {limit:,} {when} are allowed",
                cure="Wait, or agree on another limit.",
            )
        self._counts[client] = _Count(day, digest.hex(), before + n, earlier + n)
        if self.path is not None:
            whole_files.write(self.path, msgspec.json.encode(self._counts))


class _Count(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    day: str
    digest: str
    today: int
    in_all: int


class _Kept(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    about: Description
    digest: str


def _checked(labels: Bytes, n: int) -> Bytes:
    if labels.dtype != np.uint8 or labels.ndim != 2 or len(labels) != n or not 1 <= labels.shape[1] <= WIDEST:
        raise InputError(
            f"the labels are {labels.dtype} of shape {labels.shape}",
            cure=f"Give one label of the same number of bytes, 1 to {WIDEST:,}, for each of {n:,} ids.",
        )
    return labels


def _split(values: Bytes) -> tuple[Words, Words]:
    """Return two independent parts of F, (n, 2) each: a secret to stretch, and a key for the store."""
    words = np.ascontiguousarray(values).view(np.uint64)  # (n, 8)
    return np.ascontiguousarray(words[:, :2]), np.ascontiguousarray(words[:, 2:4])


def _as_words(labels: Bytes) -> Words:
    columns = -(-labels.shape[1] // 8)
    padded = np.zeros((len(labels), 8 * columns), np.uint8)
    padded[:, : labels.shape[1]] = labels
    return padded.view(np.uint64).reshape(len(labels), columns)
