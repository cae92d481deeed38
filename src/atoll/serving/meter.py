"""How often each partner may ask: a line for every batch, written before it is answered, counted at a restart."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

import msgspec

from atoll.core.errors import ContractError, InputError
from atoll.query.files import writing

Per = Literal["session", "hour", "day"]
LENGTH = {"hour": 13, "day": 10}
"""How much of 2026-01-31T12:00 names the hour, and the day."""

TAIL = 1 << 22
"""Bytes at the end of the file that are read at a restart first; more only if the day began before them."""


class Line(msgspec.Struct, frozen=True):
    """What the metering file says of one batch.

    Attributes:
        time: When, seconds since 1970.
        service: The service's name.
        partner: Who asked.
        session: The session's id.
        method: `private` or `decoys`.
        count: How many queries.
        version: Of the database.
    """

    time: float
    service: str
    partner: str
    session: str
    method: str
    count: int
    version: int


@dataclass(frozen=True)
class Limit:
    """Most queries of a partner in a session, an hour or a day (UTC); −1: without limit."""

    count: int = -1
    per: Per = "day"

    @classmethod
    def parse(cls, text: str) -> Limit:
        """Read `1000/day`, `50/hour`, `20/session`, `1000` (a day) or `none`.

        Raises:
            InputError: It is none of these.
        """
        if text == "none":
            return cls()
        match = re.fullmatch(r"(\d{1,9})(?:/(session|hour|day))?", text)
        if not match:
            raise InputError(f"{text!r} is no limit", cure="Write 1000/day, 50/hour, 20/session or none.")
        return cls(int(match[1]), match[2] or "day")  # type: ignore[arg-type]

    def __str__(self) -> str:
        each = "an hour" if self.per == "hour" else f"a {self.per}"
        return "without limit" if self.count < 0 else f"{self.count:,} queries {each}"


class MeterBook:
    """The metering file of a service.

    Args:
        path: The file, `meter.jsonl`; made if missing.
        limit: The limit of every partner.
        clock: Seconds since 1970.
        alone: Refuse when another process has the file open in this way.

    Raises:
        InputError: The file cannot be written, or another process counts in it.
    """

    def __init__(
        self, path: Path, limit: Limit, clock: Callable[[], float] = time.time, *, alone: bool = False
    ) -> None:
        self.path, self.limit, self.clock = path, limit, clock
        with writing(path.parent):
            self._file = open(path, "ab", buffering=0)  # noqa: SIM115
        if alone and not _locked(self._file.fileno()):
            self._file.close()
            raise InputError(
                f"the service {path.parent.name} is running already",
                cure="Stop the other process first; two of them would each count for themselves.",
            )
        self._window = self._name()
        self._spent = self._read_back()

    def spent(self, partner: str) -> int:
        """Return how many queries a partner has made in the present hour or day."""
        if self._name() != self._window:
            self._window, self._spent = self._name(), {}
        return self._spent.get(partner, 0)

    def add(self, line: Line) -> None:
        """Write a line, and count it."""
        with writing(self.path.parent):
            self._file.write(msgspec.json.encode(line) + b"\n")
        self._spent[line.partner] = self.spent(line.partner) + line.count

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _name(self) -> str:
        return "" if self.limit.per == "session" else self._window_of(self.clock())

    def _window_of(self, moment: float) -> str:
        return datetime.fromtimestamp(moment, UTC).isoformat()[: LENGTH[self.limit.per]]

    def _read_back(self) -> dict[str, int]:
        found: dict[str, int] = {}
        if self.limit.per == "session" or not self.path.exists():
            return found
        data, size = b"", self.path.stat().st_size
        with self.path.open("rb") as file:
            for tail in (TAIL, size):
                file.seek(max(0, size - tail))
                data = file.read()
                lines = data.splitlines()[1 if size > tail else 0 :]
                first = _line(lines[0]) if lines else None
                if first is not None and self._window_of(first.time) < self._window:
                    break
        for text in lines:
            line = _line(text)
            if line is not None and self._window_of(line.time) == self._window:
                found[line.partner] = found.get(line.partner, 0) + line.count
        return found


def _locked(file: int) -> bool:
    """Lock a file for this process as long as it is open; return whether nobody else has."""
    try:
        import fcntl
    except ImportError:  # no such locks on this system
        return True
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _line(text: bytes) -> Line | None:
    """Read a line; one that was cut off when the machine stopped counts nothing."""
    try:
        return msgspec.json.decode(text, type=Line)
    except msgspec.MsgspecError:
        return None


class SessionMeter:
    """The meter of one session, as the protocols want it.

    Args:
        book: The service's file.
        partner: Who asks.
        session: The session's id.
        method: `private` or `decoys`.
        version: Of the database.
    """

    def __init__(self, book: MeterBook, partner: str, session: str, method: str, version: int) -> None:
        self.book, self.partner, self.session, self.method, self.version = book, partner, session, method, version
        self.count = 0

    def left(self) -> int:
        """How many queries are left; −1 without limit."""
        limit = self.book.limit
        if limit.count < 0:
            return -1
        return max(0, limit.count - (self.count if limit.per == "session" else self.book.spent(self.partner)))

    def spend(self, count: int) -> None:
        """Count queries before they are answered.

        Raises:
            ContractError: They are more than are left.
        """
        if 0 <= self.left() < count:
            raise ContractError(
                f"the limit is spent: {self.book.limit}, {self.left():,} left, {count:,} asked for",
                cure="Wait until the limit is renewed, or agree on a higher one.",
            )
        names = (self.partner, self.session, self.method)
        self.book.add(Line(self.book.clock(), self.book.path.parent.name, *names, count, self.version))
        self.count += count
