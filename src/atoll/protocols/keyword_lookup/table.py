"""What the sides of a lookup hold, the server its table, the client its hint; and how the hint is kept up to date."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Protocol

import numpy as np
from numpy.typing import NDArray

from atoll.core.errors import ProtocolError
from atoll.core.message import I64, U8, Message, Wire
from atoll.crypto import lookup_table, pir
from atoll.crypto.lookup_table import Layout

I16 = Annotated[NDArray[np.int16], Wire("<i2")]

IDENTITY_BYTES = 16


class Change(Message, frozen=True):
    """Step 3, server, one for each version the client lacks: what has changed in slots and overflow, encrypted.

    Attributes:
        places: (t,) slot · columns + column of each changed slot.
        changes: (t, width) new less old bytes, as signed numbers.
        spots: (v,) changed rows of the overflow.
        rows: (v, 16 + width) their new bytes.
        overflow: Rows of the overflow from now on.
    """

    places: I64
    changes: I16
    spots: I64
    rows: U8
    overflow: int


class Meter(Protocol):
    """Counts a client's queries and refuses those above its limit."""

    def left(self) -> int:
        """Return how many queries the client may still make; −1 where there is no limit."""

    def spend(self, count: int) -> None:
        """Count queries before they are answered, or raise `ContractError`."""


@dataclass(frozen=True, repr=False)
class Served:
    """A database as its owner serves it.

    Attributes:
        identity: 16 bytes of this full set-up; A follows from them.
        version: 1 after a full set-up, and one more with each update.
        layout: Its shape.
        count: Records in it.
        matrix: D, (rows, columns) uint8.
        hint: D·A, (rows, 1024) uint32.
        overflow: (s, 16 + width) uint8: name and slot.
        key: k of the OPRF, in verifiable mode.
        point: k·G, by which clients know k.
        about: What the columns of a record mean, as text for the client.
        digest: Of `digest_of`.
        changes: Returns what has changed since a version, one `Change` a version, or None if that is not known any
            more, or more than the hint.
    """

    identity: bytes
    version: int
    layout: Layout
    count: int
    matrix: NDArray[np.uint8]
    hint: NDArray[np.uint32]
    overflow: NDArray[np.uint8]
    key: bytes
    point: bytes
    about: str
    digest: bytes
    changes: Callable[[int], Sequence[Change] | None] = lambda version: None

    def __post_init__(self) -> None:
        """Refuse parts that do not fit together (a mistake in our own code, or a damaged file).

        Raises:
            ValueError: They do not.
        """
        shape = (self.layout.rows, self.layout.columns)
        if self.matrix.shape != shape or self.hint.shape != (shape[0], pir.N) or self.overflow.ndim != 2:
            raise ValueError("matrix, hint and overflow are not of the layout")


@dataclass(frozen=True, repr=False)
class Cached:
    """What a client keeps of a database: it is asked for once, and serves until the version changes.

    Attributes:
        identity, version, layout, point, digest: As of `Served`.
        hint: (rows, 1024) uint32.
        overflow: (s, 16 + width) uint8.
    """

    identity: bytes
    version: int
    layout: Layout
    point: bytes
    digest: bytes
    hint: NDArray[np.uint32]
    overflow: NDArray[np.uint8]

    @property
    def public(self) -> pir.PublicMatrix:
        """A."""
        return pir.PublicMatrix(self.identity, self.layout.columns)

    def intact(self) -> bool:
        """Whether hint and overflow are still what the digest says."""
        parts = (self.identity, self.version, self.layout, self.point, self.hint, self.overflow)
        return digest_of(*parts) == self.digest

    def changed(self, change: Change) -> Cached:
        """Return the next version; its digest is still the old one.

        Raises:
            ProtocolError: The change names slots or rows that there are not, or names one twice.
        """
        layout, before = self.layout, len(self.overflow)
        if not (before <= change.overflow <= before + len(change.spots)):
            raise ProtocolError("the overflow shrinks, or grows by more rows than are sent")
        _check_places(change.places, layout.slots * layout.columns, "slot")
        _check_places(change.spots, change.overflow, "row of the overflow")
        if np.count_nonzero(change.spots >= before) != change.overflow - before:
            raise ProtocolError("a new row of the overflow is not sent")
        overflow = np.zeros((change.overflow, layout.row_bytes), np.uint8)
        overflow[:before] = self.overflow
        overflow[change.spots] = change.rows
        hint = np.array(self.hint)
        rows, columns = change.places // layout.columns * layout.width, change.places % layout.columns
        pir.change_hint(hint, self.public, rows, columns, change.changes)
        return replace(self, version=self.version + 1, hint=hint, overflow=overflow)


class Opener:
    """Finds and opens the record of a key in the column that was retrieved for it, or in the overflow.

    Args:
        cached: Whose overflow it is.
    """

    def __init__(self, cached: Cached) -> None:
        self.layout, self.identity, self.overflow = cached.layout, cached.identity, cached.overflow
        names = np.ascontiguousarray(cached.overflow[:, : lookup_table.NAME_BYTES]).tobytes()
        step = lookup_table.NAME_BYTES
        self.rows = {names[step * at : step * at + step]: at for at in range(len(cached.overflow))}

    def open(self, output: NDArray[np.uint8], column: NDArray[np.uint8]) -> bytes | None:
        """Return the record of a key, or None if the database has none; with the same work whatever is found.

        Args:
            output: F (64,).
            column: The retrieved column, (rows,) uint8.
        """
        found = lookup_table.unseal(output, column.reshape(self.layout.slots, self.layout.width), self.identity)
        row = self.rows.get(lookup_table.names_of(output[None])[0].tobytes(), 0)
        late = lookup_table.unseal(output, self.overflow[row : row + 1, lookup_table.NAME_BYTES :], self.identity)
        return late if found is None else found


def digest_of(
    identity: bytes,
    version: int,
    layout: Layout,
    point: bytes,
    hint: NDArray[np.uint32],
    overflow: NDArray[np.uint8],
) -> bytes:
    """Return the SHA-256 that binds a client's hint to a version of a database, 32 bytes."""
    numbers = [version, layout.columns, layout.slots, layout.record, len(overflow)]
    sha = hashlib.sha256(b"atoll/lookup/v1" + identity + point + np.array(numbers, "<u8").tobytes())
    sha.update(np.ascontiguousarray(hint).data)
    sha.update(np.ascontiguousarray(overflow).data)
    return sha.digest()


def _check_places(places: NDArray[np.int64], below: int, what: str) -> None:
    if places.size and not 0 <= places.min() <= places.max() < below:
        raise ProtocolError(f"a change names a {what} that there is not")
    if len(np.unique(places)) != len(places):
        raise ProtocolError(f"a change names a {what} twice")
