"""From id columns as written to canonical keys: normalised, tagged by kind, length-prefixed, each once.

What is done here must be the same at all sites, so it depends on nothing but the text and the kind that the job names;
put `kinds` into the context of the intersection, so that sites that differ end with an error and not with nothing in
common.
"""

import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from atoll.core.errors import InputError

I64 = NDArray[np.int64]

_INVISIBLE = "\ufeff\u200b\u200c\u200d\u2060"  # marks and joiners that editors and spreadsheets leave at ends


def _text(value: str) -> str:
    if value.isascii():
        return value.strip()
    while True:  # trimming an invisible mark may bare a space, and the other way round
        trimmed = unicodedata.normalize("NFKC", value).strip().strip(_INVISIBLE)
        if trimmed == value:
            return value
        value = trimmed


def _caseless(value: str) -> str:
    return _text(_text(value).casefold())


def _email(value: str) -> str:
    """Both parts of an address without regard to case; dots and what follows a plus sign count."""
    address = _caseless(value)
    local, at, domain = address.partition("@")
    if not (local and at and domain) or "@" in domain or any(c.isspace() for c in address):
        raise ValueError("is not an e-mail address")
    return address


def _phone(value: str) -> str:
    """E.164 without the plus: country code and number, 7 to 15 digits."""
    digits = "".join(c for c in _text(value) if c not in " -./()\u2010\u2011\u2012\u2013")
    digits = digits.removeprefix("+") if digits.startswith("+") else digits.removeprefix("00")
    if not (digits.isascii() and digits.isdigit() and 7 <= len(digits) <= 15):
        raise ValueError("is not a phone number with country code")
    return digits


_RESIDENT_WEIGHTS = (7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2)


def _resident(value: str) -> str:
    """Chinese resident identity number, GB 11643: 17 digits and a check character."""
    number = _text(value).upper()
    if len(number) != 18 or not (number[:17].isascii() and number[:17].isdigit()):
        raise ValueError("is not an 18-character resident identity number")
    total = sum(w * int(d) for w, d in zip(_RESIDENT_WEIGHTS, number, strict=False))
    if number[17] != "10X98765432"[total % 11]:
        raise ValueError("is a resident identity number with a wrong check character")
    return number


KINDS: Mapping[str, Callable[[str], str]] = {
    "text": _text,
    "caseless": _caseless,
    "email": _email,
    "phone": _phone,
    "resident": _resident,
}
"""How an id column is written: any text; text in which case does not count; e-mail address; phone number; Chinese
resident number."""


def canonical(value: str, kind: str = "text") -> str:
    """Return the canonical form of one id: NFKC, trimmed, and what its kind adds.

    Args:
        value: The id as written.
        kind: One of `KINDS`.

    Raises:
        InputError: Unknown kind, or a value that does not fit it; the text says why and does not show the id.
    """
    form = _form(kind)
    try:
        return form(value)
    except ValueError as cause:
        raise InputError(f"an id {cause}") from None


def pack_keys(
    columns: Sequence[Sequence[str] | NDArray[np.object_]], kinds: Sequence[str] = (), *, missing: bool = False
) -> list[bytes]:
    """Return one key a row: for each column its kind, the length of the canonical id, and the id itself.

    Args:
        columns: Id columns, (n,) texts each; several make a composite key.
        kinds: The kind of each column; `text` for all when none is given.
        missing: Whether ids may be missing; a row that lacks one has an empty key.

    Returns:
        Keys, n of them; rows with the same ids have the same key and no others do.

    Raises:
        InputError: Columns of different lengths, unknown kinds, ids that are missing or do not fit; with count and row.
    """
    kinds = tuple(kinds) or ("text",) * len(columns)
    if not columns or len(kinds) != len(columns) or len({len(column) for column in columns}) > 1:
        raise InputError("id columns must be at least one, equally long, and each have a kind")
    parts = [
        _column_keys(column, kind, at, missing) for at, (column, kind) in enumerate(zip(columns, kinds, strict=True))
    ]
    return parts[0] if len(parts) == 1 else [b"".join(row) if all(row) else b"" for row in zip(*parts, strict=True)]


def _column_keys(column: Sequence[str] | NDArray[np.object_], kind: str, at: int, missing: bool) -> list[bytes]:
    form, tag, out, bad = _form(kind), kind.encode() + b":", [], []
    for row, value in enumerate(column.tolist() if isinstance(column, np.ndarray) else column):
        try:
            if missing and not (isinstance(value, str) and _text(value)):
                out.append(b"")
                continue
            data = form(value).encode() if isinstance(value, str) else b""
            if not data:
                raise ValueError("is missing")
            out.append(tag + len(data).to_bytes(4, "big") + data)
        except ValueError as cause:
            bad.append((row, "is not valid Unicode" if isinstance(cause, UnicodeError) else str(cause)))
    if bad:
        row, why = bad[0]
        raise InputError(
            f"{len(bad):,} of {len(column):,} ids cannot be used",
            detail=f"In id column {at + 1} the id of row {row + 1:,} {why}.",
            cure="Mend these ids or leave their rows out.",
        )
    return out


def _form(kind: str) -> Callable[[str], str]:
    if kind not in KINDS:
        raise InputError(f"unknown kind of id {kind!r}", cure=f"Known kinds are {', '.join(KINDS)}.")
    return KINDS[kind]


@dataclass(frozen=True)
class Ids:
    """Keys, each once, and the rows that hold each of them.

    Attributes:
        keys: The distinct keys in order of first appearance.
        starts: (len(keys) + 1,) int64: the rows of key i are rows[starts[i] : starts[i + 1]].
        rows: (n,) int64, ascending within a key.
    """

    keys: list[bytes]
    starts: I64
    rows: I64

    @property
    def repeated(self) -> int:
        """How many rows repeat an earlier key."""
        return len(self.rows) - len(self.keys)

    def first(self, at: I64) -> I64:
        """Return the first row of each of these keys, (m,)."""
        return self.rows[self.starts[at]]


def unique_ids(keys: Sequence[bytes]) -> Ids:
    """Keep each key once, and remember its rows.

    Args:
        keys: One for each row, from `pack_keys`.
    """
    place: dict[bytes, int] = {}
    owner = np.fromiter((place.setdefault(key, len(place)) for key in keys), np.int64, len(keys))
    starts = np.concatenate((np.zeros(1, np.int64), np.cumsum(np.bincount(owner, minlength=len(place)))))
    return Ids(list(place), starts.astype(np.int64), np.argsort(owner, kind="stable").astype(np.int64))
