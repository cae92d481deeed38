"""Where the records of a lookup database stand, and how each is closed to all who have not asked for its key.

Everything follows from F = F_k(key), 64 bytes of the OPRF: bytes 0 … 7 say the column, 8 … 23 the name under which a
record that found its column full stands in the overflow, 32 … 63 are the key of its encryption.  A column has a fixed
number of slots; who retrieves a column opens the one slot that its F fits, if there is one.

Slots are encrypted by AES-SIV, which is deterministic: a record that has not changed leaves its slot as it is.

Source: RFC 5297 (AES-SIV).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESSIV
from numpy.typing import NDArray

from atoll.crypto.pir import LARGEST_COLUMNS, N, check_columns

U8 = NDArray[np.uint8]

TAG_BYTES = 16
NAME_BYTES = 16
LONGEST_RECORD = 1 << 16
MOST_SLOTS = 1 << 16


@dataclass(frozen=True)
class Layout:
    """The shape of a lookup database.

    Attributes:
        columns: m, a power of two.
        slots: Slots in a column.
        record: Bytes of a record, padding included.
    """

    columns: int
    slots: int
    record: int

    def __post_init__(self) -> None:
        """Refuse what no database has.

        Raises:
            ValueError: A size is out of range.
        """
        check_columns(self.columns)
        if not (1 <= self.record <= LONGEST_RECORD and 1 <= self.slots <= MOST_SLOTS):
            raise ValueError(f"no lookup table has {self.slots:,} slots of {self.record:,} bytes")

    @property
    def width(self) -> int:
        """Bytes of a slot: the encrypted record and its tag."""
        return self.record + TAG_BYTES

    @property
    def rows(self) -> int:
        """L, rows of the matrix."""
        return self.slots * self.width

    @property
    def hint_bytes(self) -> int:
        """Bytes of the hint."""
        return 4 * N * self.rows

    @property
    def row_bytes(self) -> int:
        """Bytes of a row of the overflow: name and slot."""
        return NAME_BYTES + self.width


def layout_for(count: int, record: int) -> Layout:
    """Choose a shape for so many records.

    The matrix is about four times as wide as it is high: its height costs 4,096 bytes a row of hint, its width 4 bytes
    a column of query.  A column has room for its mean and 0.8 standard deviations more.  That leaves 2 % of a million
    records to the overflow, which clients download with the hint.

    Args:
        count: Records.
        record: Bytes of each, padding included.

    Raises:
        ValueError: Records are longer than 65,536 bytes.
    """
    wanted = 2 * math.sqrt(max(count, 1) * (record + TAG_BYTES))
    columns = min(1 << round(math.log2(wanted)), 1 << max(4 * count, 1).bit_length() - 1, LARGEST_COLUMNS)
    mean = count / columns
    return Layout(columns, max(1, math.ceil(mean + 0.8 * math.sqrt(mean))), record)


def columns_of(outputs: U8, columns: int) -> NDArray[np.int64]:
    """Return the column of each F, (n,) int64.

    Args:
        outputs: F (n, 64) uint8.
        columns: m, a power of two.
    """
    words = np.ascontiguousarray(outputs[:, :8]).view("<u8").reshape(-1)
    return (words & np.uint64(columns - 1)).astype(np.int64)


def names_of(outputs: U8) -> U8:
    """Return the name of each F in the overflow, (n, 16) uint8."""
    return np.ascontiguousarray(outputs[:, 8 : 8 + NAME_BYTES])


def seal(outputs: U8, records: Sequence[bytes], record: int, identity: bytes) -> U8:
    """Encrypt records, each under its own F.

    Args:
        outputs: F (n, 64) uint8.
        records: n byte strings, each at most two bytes shorter than `record`.
        record: Bytes of a padded record.
        identity: The database's identity, which is bound to the slot.

    Returns:
        Slots, (n, record + 16) uint8.
    """
    keys, out = np.ascontiguousarray(outputs[:, 32:]).tobytes(), []
    for at, text in enumerate(records):
        padded = len(text).to_bytes(2, "big") + text + bytes(record - 2 - len(text))
        out.append(AESSIV(keys[32 * at : 32 * at + 32]).encrypt(padded, [identity]))
    return np.frombuffer(b"".join(out), np.uint8).reshape(-1, record + TAG_BYTES)


def unseal(output: U8, slots: U8, identity: bytes) -> bytes | None:
    """Open the slot that an F fits.

    Args:
        output: F (64,) uint8.
        slots: (s, record + 16) uint8; all are tried.
        identity: As given to `seal`.

    Returns:
        The record, or None if none of the slots is this key's.
    """
    cipher, found = AESSIV(output[32:].tobytes()), None
    for slot in slots:
        try:
            padded = cipher.decrypt(slot.tobytes(), [identity])
        except InvalidTag:
            continue
        size = int.from_bytes(padded[:2], "big")
        found = padded[2 : 2 + size]
    return found


def longest(record: int) -> int:
    """Return how many bytes of a padded record its content may have: two say its length."""
    return min(record - 2, (1 << 16) - 1)
