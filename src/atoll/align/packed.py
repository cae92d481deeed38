"""Canonical keys of many rows at once: what `pack_keys` makes of each row, without an object for each.

Ids that are plain already (ASCII, trimmed, and of their kind's form) are copied by a kernel; a batch that holds any
other goes through `pack_keys`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from atoll.align.ids import pack_keys
from atoll.core.errors import InputError
from atoll.crypto.item_hash import Texts
from atoll.crypto.jit import njit, read_only

U8 = NDArray[np.uint8]
I64 = NDArray[np.int64]
Flags = NDArray[np.bool_]

_CODES = {"text": 0, "caseless": 1, "phone": 2, "resident": 3}
_RESIDENT_WEIGHTS = np.array((7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2), np.int64)
_RESIDENT_CHECKS = np.frombuffer(b"10X98765432", np.uint8)


def packed_keys(
    batches: Iterable[tuple[Texts, ...]], kinds: Sequence[str] = (), *, missing: bool = False
) -> Iterator[Texts]:
    """Yield the keys of batches of rows.

    Args:
        batches: For each batch its id columns, as `atoll.data.id_stream.stream_ids` yields them.
        kinds: The kind of each column; `text` for all when none is given.
        missing: As of `pack_batch`.

    Raises:
        InputError: As of `pack_keys`.
    """
    first = 0
    for columns in batches:
        try:
            yield pack_batch(columns, kinds, missing=missing)
        except InputError as error:
            if first:
                error.detail = f"In the rows after the first {first:,}: {error.detail}"
            raise
        first += len(columns[0])


def pack_batch(columns: Sequence[Texts], kinds: Sequence[str] = (), *, missing: bool = False) -> Texts:
    """Return one key a row, the same as `pack_keys` returns.

    Args:
        columns: Id columns, equally long.
        kinds: The kind of each column; `text` for all when none is given.
        missing: Whether ids may be missing; a row that lacks one has an empty key.

    Raises:
        InputError: As of `pack_keys`.
    """
    kinds = tuple(kinds) or ("text",) * len(columns)
    if (
        not columns
        or len(kinds) != len(columns)
        or len({len(column) for column in columns}) > 1
        or any(kind not in _CODES for kind in kinds)
        or not all(_plain_column(column, kind, missing) for column, kind in zip(columns, kinds, strict=True))
    ):
        texts = [[item.decode(errors="surrogateescape") for item in column.items()] for column in columns]
        return Texts.of(pack_keys(texts, kinds, missing=missing))
    n, whole = len(columns[0]), np.logical_and.reduce([np.diff(column.starts) > 0 for column in columns])
    tags = [np.frombuffer(kind.encode() + b":", np.uint8) for kind in kinds]
    starts = np.zeros(n + 1, np.int64)
    starts[1:] = whole * (sum(np.diff(column.starts) for column in columns) + sum(len(tag) + 4 for tag in tags))
    np.cumsum(starts, out=starts)
    out, at = np.zeros(int(starts[-1]) // 8 * 8 + 16, np.uint8), starts[:-1].copy()
    for column, kind, tag in zip(columns, kinds, tags, strict=True):
        _pack(read_only(column.text), read_only(column.starts), read_only(tag), whole, kind == "caseless", at, out)
    return Texts(out, starts)


def _plain_column(column: Texts, kind: str, missing: bool) -> bool:
    code = _CODES[kind]
    text, starts = read_only(column.text), read_only(column.starts)
    return bool(_plain(text, starts, code, missing, read_only(_RESIDENT_WEIGHTS), read_only(_RESIDENT_CHECKS)))


@njit
def _plain(text: U8, starts: I64, code: int, missing: bool, weights: I64, checks: U8) -> bool:
    """Say whether every id, or every id that is there, is its own canonical form but for upper case."""
    for i in range(starts.size - 1):
        lo, hi = starts[i], starts[i + 1]
        if lo == hi:
            if missing:
                continue
            return False
        for end in (text[lo], text[hi - 1]):
            if end == 32 or 9 <= end <= 13 or 28 <= end <= 31:
                return False
        for k in range(lo, hi):
            if text[k] >= 128:
                return False
        if code >= 2:
            if code == 2 and (hi - lo < 7 or hi - lo > 15 or (text[lo] == 48 and text[lo + 1] == 48)):
                return False
            if code == 3 and hi - lo != 18:
                return False
            total = 0
            for k in range(lo, hi if code == 2 else hi - 1):
                if text[k] < 48 or text[k] > 57:
                    return False
                if code == 3:
                    total += weights[k - lo] * (np.int64(text[k]) - 48)
            if code == 3 and text[hi - 1] != checks[total % 11]:
                return False
    return True


@njit
def _pack(text: U8, starts: I64, tag: U8, whole: Flags, lower: bool, at: I64, out: U8) -> None:
    """Write one column's part of every key that is whole, and move on to the next part's place."""
    for i in range(starts.size - 1):
        if not whole[i]:
            continue
        lo, hi, to = starts[i], starts[i + 1], at[i]
        for k in range(tag.size):
            out[to + k] = tag[k]
        to += tag.size
        size = hi - lo
        for k in range(4):
            out[to + k] = np.uint8((size >> (24 - 8 * k)) & 255)
        to += 4
        for k in range(size):
            c = text[lo + k]
            out[to + k] = c + 32 if lower and 65 <= c <= 90 else c
        at[i] = to + size


def warm() -> None:
    """Compile this module's kernels."""
    pack_batch([Texts.of([b"1234567"])], ("caseless",))
