"""Numbers, sizes, dates and foreign text as people read them."""

from __future__ import annotations

import unicodedata
from datetime import UTC, datetime

_THIN = "\u202f"  # narrow no-break space between number and unit
_MINUS = "\u2212"
_MONTHS = (
    *("January", "February", "March", "April", "May", "June"),
    *("July", "August", "September", "October", "November", "December"),
)
_BIDI = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


def clean(text: str, limit: int = 2000) -> str:
    """Return text from users and peers without control characters and direction overrides, and not endless."""
    kept = (" " if letter in "\t\r\n" else letter for letter in text if letter not in _BIDI)
    shown = "".join("\ufffd" if unicodedata.category(letter) in {"Cc", "Cs"} else letter for letter in kept)
    return shown if len(shown) <= limit else shown[: limit - 1] + "…"


def number(value: float, digits: int = 0) -> str:
    """1234567.8 → 1,234,568; negative numbers get a real minus sign."""
    text = f"{value:,.{digits}f}"
    return text.replace("-", _MINUS) if float(text.replace(",", "")) != 0 else text.lstrip("-")


def percent(value: float, digits: int = 1, *, sign: bool = False) -> str:
    """0.341 → 34.1%; with `sign` +34.1%."""
    text = number(100 * value, digits)
    plus = "+" if sign and text[0] != _MINUS and any(digit in "123456789" for digit in text) else ""
    return f"{plus}{text}%"


def signed(value: float, digits: int = 3) -> str:
    """0.0431 → +0.043."""
    text = number(value, digits)
    return text if text[0] == _MINUS or all(digit in "0.," for digit in text) else f"+{text}"


def size(count: float) -> str:
    """1234567 → 1.2 MB (decimal units)."""
    value, unit = float(count), "B"
    for larger in ("kB", "MB", "GB", "TB", "PB"):
        if value < 999.5:
            break
        value, unit = value / 1000, larger
    digits = 1 if unit != "B" and value < 99.95 else 0
    return f"{number(value, digits)}{_THIN}{unit}"


def duration(seconds: float) -> str:
    """0.085 → 85 ms, 4.21 → 4.2 s, 72 → 1 min 12 s, 4000 → 1 h 7 min."""
    if seconds < 0.9995:
        return f"{seconds * 1000:.0f}{_THIN}ms"
    if seconds < 59.95:
        return f"{seconds:.1f}{_THIN}s"
    whole = round(seconds)
    minutes, rest = divmod(whole, 60)
    if minutes < 60:
        return f"{minutes}{_THIN}min {rest}{_THIN}s"
    return f"{minutes // 60}{_THIN}h {minutes % 60}{_THIN}min"


def moment(text: str, *, time: bool = True) -> str:
    """2026-03-01T09:05:00+00:00 → 1 March 2026, 09:05 UTC; anything else as it stands."""
    try:
        when = datetime.fromisoformat(text)
    except ValueError:
        return clean(text)
    moved = when if when.tzinfo is None else when.astimezone(UTC)
    day = f"{moved.day} {_MONTHS[moved.month - 1]} {moved.year}"
    if not time or len(text) <= 10:
        return day
    return f"{day}, {moved:%H:%M}" + ("" if when.tzinfo is None else " UTC")


def listing(names: list[str]) -> str:
    """[a, b, c] → a, b and c."""
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}" if names else ""


def short(digest: str, keep: int = 12) -> str:
    """The first letters of a long digest."""
    return digest if len(digest) <= keep + 1 else digest[:keep] + "…"
