"""What a record holds: the typed values of one or several rows, as MessagePack."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import msgspec

from atoll.core.errors import InputError, ProtocolError
from atoll.crypto import lookup_table

FieldType = Literal["int", "float", "bool", "text"]
Value = int | float | bool | str | None
Row = tuple[Value, ...]

STEP = 16
"""Padded lengths are multiples of this."""

MOST_FIELDS = 256


class Field(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A column that can be looked up."""

    name: str
    type: FieldType


class About(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What a client must know to ask and to read the answer.

    Attributes:
        key: The key columns at the server.
        kinds: How each is written; a kind of `atoll.align.ids`.
        fields: The columns of a row.
        rows: Most rows of one key.
    """

    key: tuple[str, ...]
    kinds: tuple[str, ...]
    fields: tuple[Field, ...]
    rows: int = 1

    def text(self) -> str:
        """Return it as JSON."""
        return msgspec.json.encode(self).decode()


def read_about(text: str, server: str) -> About:
    """Read what a server says of its database.

    Raises:
        ProtocolError: It does not fit.
    """
    try:
        about = msgspec.json.decode(text.encode(), type=About)
        names = [field.name for field in about.fields]
        good = len(about.key) == len(about.kinds) > 0 and about.rows >= 1 and len(set(names)) == len(names)
        if not good or len(names) > MOST_FIELDS or not all(names):
            raise ValueError("the columns are not named right")
    except (ValueError, msgspec.MsgspecError) as cause:
        raise ProtocolError(f"what {server} says of its records cannot be read: {cause}") from None
    return about


def encode(rows: Sequence[Row]) -> bytes:
    """Return the rows of one key as bytes."""
    return msgspec.msgpack.encode(rows)


def decode(record: bytes, about: About, server: str) -> list[Row]:
    """Return the rows of one key.

    Raises:
        ProtocolError: They are not what `about` promises.
    """
    try:
        rows = msgspec.msgpack.decode(record, type=list[tuple[Value, ...]])
    except msgspec.MsgspecError as cause:
        raise ProtocolError(f"a record of {server} cannot be read: {cause}") from None
    kinds = {"int": (int,), "float": (float, int), "bool": (bool,), "text": (str,)}
    for row in rows:
        fits = len(row) == len(about.fields) and all(
            value is None
            or (isinstance(value, kinds[field.type]) and (field.type == "bool") == isinstance(value, bool))
            for value, field in zip(row, about.fields, strict=True)
        )
        if not fits or len(rows) > about.rows:
            raise ProtocolError(f"a record of {server} has other columns than it says")
    return rows


def padded_length(records: Sequence[bytes], places: Sequence[str], limit: int = 0) -> int:
    """Return the padded length for these records.

    Args:
        records: The encoded records.
        places: Where each comes from, for errors.
        limit: The padded length that the owner wants; 0 takes the least one.

    Raises:
        InputError: A record is longer than the limit, or than any record may be; names the first such rows.
    """
    most = limit or lookup_table.LONGEST_RECORD
    allowed = lookup_table.longest(most)
    long = [at for at, record in enumerate(records) if len(record) > allowed]
    if long:
        shown = ", ".join(f"{places[at]} ({len(records[at]):,} bytes)" for at in long[:3])
        raise InputError(
            f"{len(long):,} records are longer than the {allowed:,} bytes that fit",
            detail=f"For example {shown}.",
            cure="Raise --record-bytes, or leave out long columns.",
        )
    if limit:
        return limit
    return -(-(max(map(len, records), default=0) + 2) // STEP) * STEP
