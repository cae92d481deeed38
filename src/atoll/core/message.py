"""Messages: everything that may cross a site's border is one of these, and nothing else is.

A message is a frozen record. Small fields travel as MessagePack in a header; arrays travel after it as raw
little-endian bytes, described in the header by dtype and shape. Nothing is ever unpickled, unknown fields are
errors, and an array is accepted only with the dtype the message declares and the shape its reader expects.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from math import prod
from typing import Annotated, Any, TypeVar, get_type_hints

import msgspec
import numpy as np
from numpy.typing import NDArray

from atoll.core.errors import ProtocolError

HEADER_LIMIT = 1 << 20
"""Largest header in bytes: names, counts and short lists, never data."""


@dataclass(frozen=True)
class Wire:
    """The dtype an array field has on the wire."""

    dtype: str


U8 = Annotated[NDArray[np.uint8], Wire("|u1")]
U32 = Annotated[NDArray[np.uint32], Wire("<u4")]
U64 = Annotated[NDArray[np.uint64], Wire("<u8")]
I64 = Annotated[NDArray[np.int64], Wire("<i8")]
F64 = Annotated[NDArray[np.float64], Wire("<f8")]


class AtMost(int):
    """A dimension that the reader bounds from above instead of knowing it."""


class Message(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Base of everything that may cross a site's border."""


M = TypeVar("M", bound=Message)


class Header(msgspec.Struct, frozen=True, forbid_unknown_fields=True, array_like=True):
    """What travels before the arrays of a message: its kind, their shapes, the small fields, and its place."""

    kind: str
    shapes: list[list[int]]
    fields: msgspec.Raw
    place: bytes = b""


@cache
def kind_of(message: type[Message]) -> str:
    """Name a kind by the place where it is defined, such as `protocols.ecdh_intersection.Blinded`."""
    return f"{message.__module__.removeprefix('atoll.')}.{message.__qualname__}"


@cache
def array_fields(kind: type[Message]) -> Mapping[str, np.dtype[Any]]:
    """Return the array fields of a kind and their dtypes, in the order in which they travel.

    Wide items come first, so that every array stays aligned inside one payload.
    """
    found = {}
    for name, hint in get_type_hints(kind, include_extras=True).items():
        wires = [mark for mark in getattr(hint, "__metadata__", ()) if isinstance(mark, Wire)]
        if wires:
            found[name] = np.dtype(wires[0].dtype)
    return dict(sorted(found.items(), key=lambda field: -field[1].itemsize))


def encode(message: Message, place: bytes = b"") -> tuple[bytes, list[memoryview]]:
    """Turn a message into a header and the bytes of its arrays, without copying contiguous arrays.

    Args:
        message: The message.
        place: Where in the job it belongs; it is accepted nowhere else.

    Returns:
        The header, and one flat view of bytes for each array field in order. The arrays must not change until
        the message has been delivered.

    Raises:
        TypeError: A field that is declared as an array holds another dtype (a mistake in our own code).
    """
    shapes: list[list[int]] = []
    parts: list[memoryview] = []
    arrays = array_fields(type(message))
    fields = {name: getattr(message, name) for name in message.__struct_fields__ if name not in arrays}
    for name, dtype in arrays.items():
        value = getattr(message, name)
        if not isinstance(value, np.ndarray) or value.dtype != dtype:
            raise TypeError(f"{kind_of(type(message))}.{name} must be an array of {dtype}")
        shapes.append(list(value.shape))
        flat = np.ascontiguousarray(value).reshape(-1)
        parts.append(flat.view(np.uint8).data)
    header = msgspec.msgpack.encode(
        Header(kind_of(type(message)), shapes, msgspec.Raw(msgspec.msgpack.encode(fields)), place)
    )
    if len(header) > HEADER_LIMIT:
        raise TypeError(f"{kind_of(type(message))} has {len(header):,} bytes outside its arrays; use an array field")
    return header, parts


def expect(
    header: bytes, kind: type[Message], shapes: Mapping[str, Sequence[int]], place: bytes = b""
) -> tuple[Header, int]:
    """Check a header against the kind and the shapes that the reader expects, before anything is allocated.

    Args:
        header: What arrived.
        kind: The kind this side waits for.
        shapes: For every array field of `kind` its shape; a dimension may be `AtMost(limit)`.
        place: The place in the job that this side has reached.

    Returns:
        The header, read, and the number of payload bytes that its shapes need.

    Raises:
        ProtocolError: Another kind, a wrong number of arrays, or a shape outside the expectation.
        TypeError: The caller forgot to state the shape of an array field.
    """
    arrays = array_fields(kind)
    if shapes.keys() != arrays.keys():
        raise TypeError(f"state the expected shape of {sorted(arrays)} of {kind_of(kind)}, not of {sorted(shapes)}")
    head = _parse(header)
    if head.kind != kind_of(kind):
        raise ProtocolError(f"expected {kind_of(kind)}, received {_clip(head.kind)}")
    if head.place != place:
        raise ProtocolError(f"{head.kind} is out of place: lost, repeated, reordered, or from another job")
    if len(head.shapes) != len(arrays):
        raise ProtocolError(f"{head.kind} came with {len(head.shapes)} arrays instead of {len(arrays)}")
    for name, got in zip(arrays, head.shapes, strict=True):
        want = shapes[name]
        if len(got) != len(want) or not all(_fits(g, w) for g, w in zip(got, want, strict=True)):
            raise ProtocolError(f"{head.kind}.{name} has shape {_clip(str(got))}, expected {_show(want)}")
    sizes = [prod(got) * dtype.itemsize for got, dtype in zip(head.shapes, arrays.values(), strict=True)]
    return head, sum(sizes)


def decode(head: Header, payload: NDArray[np.uint8], kind: type[M]) -> M:
    """Build the message from a checked header and its payload; the arrays are read-only views of the payload.

    Args:
        head: A header that `expect` has accepted for this kind.
        payload: All array bytes, exactly as many as `expect` returned.
        kind: The kind to build.

    Raises:
        ProtocolError: The small fields do not fit the kind, or a float is not finite.
    """
    arrays, at = {}, 0
    payload.flags.writeable = False
    for (name, dtype), shape in zip(array_fields(kind).items(), head.shapes, strict=True):
        size = prod(shape) * dtype.itemsize
        view = payload[at : at + size].view(dtype).reshape(shape)
        if dtype.kind == "f" and not np.isfinite(view).all():
            raise ProtocolError(f"{kind_of(kind)}.{name} holds a value that is not finite")
        arrays[name], at = view, at + size
    try:
        small = _small_fields(kind).decode(head.fields)
    except msgspec.MsgspecError as cause:
        raise ProtocolError(f"{kind_of(kind)} has fields that do not fit: {cause}") from None
    values = {name: getattr(small, name) for name in small.__struct_fields__}
    return kind(**values, **arrays)


@cache
def _small_fields(kind: type[Message]) -> msgspec.msgpack.Decoder[msgspec.Struct]:
    hints = get_type_hints(kind, include_extras=True)
    fields = [(name, hints[name]) for name in kind.__struct_fields__ if name not in array_fields(kind)]
    small = msgspec.defstruct(kind.__name__, fields, frozen=True, forbid_unknown_fields=True)
    return msgspec.msgpack.Decoder(small)


@cache
def _headers() -> msgspec.msgpack.Decoder[Header]:
    return msgspec.msgpack.Decoder(Header)


def _parse(header: bytes) -> Header:
    try:
        return _headers().decode(header)
    except msgspec.MsgspecError as cause:
        raise ProtocolError(f"a message header could not be read: {cause}") from None


def _fits(got: int, want: int) -> bool:
    return 0 <= got <= want if isinstance(want, AtMost) else got == want


def _show(shape: Sequence[int]) -> str:
    return "(" + ", ".join(f"at most {int(d)}" if isinstance(d, AtMost) else str(d) for d in shape) + ")"


def _clip(text: str) -> str:
    return text if len(text) <= 120 else text[:117] + "..."
