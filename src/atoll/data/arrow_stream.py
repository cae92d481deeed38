"""Read columns of text out of an Arrow C stream, batch by batch, without an object for each value.

DuckDB hands out its results in this form without any further package.

Source: Apache Arrow, "The Arrow C data interface" and "The Arrow C stream interface".
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from typing import Any, ClassVar

import numpy as np

from atoll.crypto.item_hash import Texts


class _Array(ctypes.Structure):
    pass


_Array._fields_ = [
    ("length", ctypes.c_int64),
    ("null_count", ctypes.c_int64),
    ("offset", ctypes.c_int64),
    ("n_buffers", ctypes.c_int64),
    ("n_children", ctypes.c_int64),
    ("buffers", ctypes.POINTER(ctypes.c_void_p)),
    ("children", ctypes.POINTER(ctypes.POINTER(_Array))),
    ("dictionary", ctypes.c_void_p),
    ("release", ctypes.CFUNCTYPE(None, ctypes.POINTER(_Array))),
    ("private_data", ctypes.c_void_p),
]


class _Schema(ctypes.Structure):
    pass


_Schema._fields_ = [
    ("format", ctypes.c_char_p),
    ("name", ctypes.c_char_p),
    ("metadata", ctypes.c_void_p),
    ("flags", ctypes.c_int64),
    ("n_children", ctypes.c_int64),
    ("children", ctypes.POINTER(ctypes.POINTER(_Schema))),
    ("dictionary", ctypes.c_void_p),
    ("release", ctypes.CFUNCTYPE(None, ctypes.POINTER(_Schema))),
    ("private_data", ctypes.c_void_p),
]


class _Stream(ctypes.Structure):
    _fields_: ClassVar[Any] = [
        ("get_schema", ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.POINTER(_Schema))),
        ("get_next", ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.POINTER(_Array))),
        ("get_last_error", ctypes.CFUNCTYPE(ctypes.c_char_p, ctypes.c_void_p)),
        ("release", ctypes.c_void_p),
        ("private_data", ctypes.c_void_p),
    ]


class StreamBroken(Exception):
    """The producer of a stream could not go on; the text is its own."""


def text_batches(source: Any) -> Iterator[tuple[Texts, ...]]:
    """Yield the columns of a stream, one batch of rows at a time, as copies.

    Args:
        source: An object with `__arrow_c_stream__` whose columns are all texts without missing values.

    Raises:
        StreamBroken: The producer failed.
        TypeError: A column holds something else.
    """
    capsule = source.__arrow_c_stream__()
    pointer = ctypes.pythonapi.PyCapsule_GetPointer
    pointer.restype, pointer.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]
    at = pointer(capsule, b"arrow_array_stream")
    stream = _Stream.from_address(at)
    offsets = _offsets(stream, at)
    while True:
        batch = _Array()
        _succeed(stream, at, stream.get_next(at, ctypes.byref(batch)))
        if not batch.release:
            return
        try:
            columns = tuple(
                _column(batch.children[i].contents, kind, batch.offset, batch.length) for i, kind in enumerate(offsets)
            )
        finally:
            batch.release(ctypes.byref(batch))
        yield columns


def _offsets(stream: _Stream, at: int) -> list[type[Any]]:
    """Return the type of the offsets of each column."""
    schema, kinds = _Schema(), {b"u": ctypes.c_int32, b"U": ctypes.c_int64}
    _succeed(stream, at, stream.get_schema(at, ctypes.byref(schema)))
    try:
        formats = [bytes(schema.children[i].contents.format) for i in range(schema.n_children)]
    finally:
        schema.release(ctypes.byref(schema))
    if not formats or any(kind not in kinds for kind in formats):
        raise TypeError(f"the stream's columns have the formats {formats}, and only texts can be read")
    return [kinds[kind] for kind in formats]


def _column(array: Any, kind: type[Any], offset: int, length: int) -> Texts:
    if array.null_count > 0:
        raise TypeError("a column of texts has missing values")
    if not length:
        return Texts(np.zeros(16, np.uint8), np.zeros(1, np.int64))
    first = array.offset + offset
    starts = np.ctypeslib.as_array(ctypes.cast(array.buffers[1], ctypes.POINTER(kind)), (first + length + 1,))[first:]
    lo, hi = int(starts[0]), int(starts[-1])
    text = np.zeros((hi - lo) // 8 * 8 + 16, np.uint8)
    if hi > lo:
        text[: hi - lo] = np.ctypeslib.as_array(ctypes.cast(array.buffers[2], ctypes.POINTER(ctypes.c_uint8)), (hi,))[
            lo:
        ]
    return Texts(text, starts.astype(np.int64) - lo)


def _succeed(stream: _Stream, at: int, code: int) -> None:
    if code:
        raise StreamBroken((stream.get_last_error(at) or b"").decode(errors="replace"))
