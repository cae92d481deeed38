"""How a running job tells what it does: one line a step for people, or JSON lines for machines."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any, Protocol, TextIO

from atoll.core.errors import AtollError


class Watch(Protocol):
    """Who is told what happens in a job at this site."""

    def waiting(self, peers: Sequence[tuple[str, str]], left: float) -> None:
        """These peers (name, address) have not joined; `left` seconds remain."""

    def started(self, step: str, title: str, number: int, total: int) -> None:
        """A step begins."""

    def progress(self, what: str, done: int, total: int) -> None:
        """Long work within a step has come to `done` of `total`."""

    def ended(self, step: str, line: str, seconds: float, sent: int, received: int) -> None:
        """A step is done; `line` says what came of it."""

    def note(self, line: str) -> None:
        """Something else worth a line."""

    def failed(self, error: AtollError) -> None:
        """The job has failed at this site."""

    def finished(self, lines: dict[str, str]) -> None:
        """The job is done at every site; `lines` names what lies where."""


class Rate:
    """Speed and remaining time of a piece of work, from its first report on."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.clock, self.what, self.begun, self.first = clock, "", 0.0, 0

    def update(self, what: str, done: int, total: int) -> tuple[float, float]:
        """Return (units per second, seconds left); zeros while unknown."""
        now = self.clock()
        if what != self.what or done < self.first:
            self.what, self.begun, self.first = what, now, done
        gone, passed = now - self.begun, done - self.first
        if passed <= 0 or gone <= 0:
            return 0.0, 0.0
        rate = passed / gone
        return rate, (total - done) / rate


class Lines:
    """Plain lines on a stream: one when a step starts to wait or ends, and one a few seconds for long work.

    Args:
        site: this site's name, in front of each line.
        stream: where to write; standard error if left out.
        every: seconds between lines of one piece of work.
    """

    def __init__(self, site: str, stream: TextIO | None = None, every: float = 5.0) -> None:
        self.site, self.stream, self.every = site, stream or sys.stderr, every
        self.rate, self.spoken = Rate(), time.monotonic()

    def say(self, text: str) -> None:
        """Write one line with the time and the site."""
        print(f"{time.strftime('%H:%M:%S')} {self.site}: {text}", file=self.stream, flush=True)

    def waiting(self, peers: Sequence[tuple[str, str]], left: float) -> None:
        """Say whom the site waits for."""
        self.say(f"{waiting_for(peers)}, {left:.0f} s left")

    def started(self, step: str, title: str, number: int, total: int) -> None:
        """Start the clock for lines of long work."""
        self.spoken = time.monotonic()

    def progress(self, what: str, done: int, total: int) -> None:
        """Say how far long work has come, every few seconds."""
        rate, left = self.rate.update(what, done, total)
        if time.monotonic() - self.spoken >= self.every:
            self.spoken = time.monotonic()
            self.say(f"{what} {done:,} of {total:,}{speed(rate, left)}")

    def ended(self, step: str, line: str, seconds: float, sent: int, received: int) -> None:
        """Say what came of a step."""
        traffic = f", {size(sent)} sent, {size(received)} received" if sent + received else ""
        self.say(f"{step:9} {line}  ({seconds:.1f} s{traffic})")

    def note(self, line: str) -> None:
        """Say it."""
        self.say(line)

    def failed(self, error: AtollError) -> None:
        """Leave the error to the command, which prints it as a block."""

    def finished(self, lines: dict[str, str]) -> None:
        """Say what lies where."""
        for name, value in lines.items():
            self.say(f"{name:9} {value}")


class JsonLines:
    """One JSON object a line on standard output."""

    def __init__(self, site: str, stream: TextIO | None = None) -> None:
        self.site, self.stream, self.rate = site, stream or sys.stdout, Rate()

    def emit(self, event: str, **fields: Any) -> None:
        """Write one event."""
        line = {"time": round(time.time(), 3), "site": self.site, "event": event, **fields}
        print(json.dumps(line), file=self.stream, flush=True)

    def waiting(self, peers: Sequence[tuple[str, str]], left: float) -> None:
        """Write an event."""
        self.emit("waiting", peers=[{"site": name, "address": address} for name, address in peers], left=round(left, 1))

    def started(self, step: str, title: str, number: int, total: int) -> None:
        """Write an event."""
        self.emit("step", step=step, title=title, number=number, total=total)

    def progress(self, what: str, done: int, total: int) -> None:
        """Write an event."""
        rate, left = self.rate.update(what, done, total)
        self.emit("progress", what=what, done=done, total=total, rate=round(rate, 2), left=round(left, 1))

    def ended(self, step: str, line: str, seconds: float, sent: int, received: int) -> None:
        """Write an event."""
        self.emit("done", step=step, text=line, seconds=round(seconds, 3), sent=sent, received=received)

    def note(self, line: str) -> None:
        """Write an event."""
        self.emit("note", text=line)

    def failed(self, error: AtollError) -> None:
        """Write an event."""
        self.emit("failed", exit_code=error.exit_code, detail=error.detail, **_unsited(error))

    def finished(self, lines: dict[str, str]) -> None:
        """Write an event."""
        self.emit("finished", **{name.replace(" ", "_"): value for name, value in lines.items()})


class Silent:
    """Nobody watches."""

    def waiting(self, peers: Sequence[tuple[str, str]], left: float) -> None:
        """Say nothing."""

    def started(self, step: str, title: str, number: int, total: int) -> None:
        """Say nothing."""

    def progress(self, what: str, done: int, total: int) -> None:
        """Say nothing."""

    def ended(self, step: str, line: str, seconds: float, sent: int, received: int) -> None:
        """Say nothing."""

    def note(self, line: str) -> None:
        """Say nothing."""

    def failed(self, error: AtollError) -> None:
        """Say nothing."""

    def finished(self, lines: dict[str, str]) -> None:
        """Say nothing."""


def waiting_for(peers: Sequence[tuple[str, str]]) -> str:
    """Say whom a site waits for, and where they should be."""
    return "waiting for " + ", ".join(f"{name} at {address}" if address else name for name, address in peers)


def speed(rate: float, left: float) -> str:
    """Say rate and remaining time; nothing while unknown."""
    return f", {rate:,.3g} a second, {left:,.0f} s left" if rate else ""


def size(count: int) -> str:
    """Say a number of bytes."""
    value, units = float(count), ["B", "kB", "MB", "GB", "TB"]
    while value >= 1000 and len(units) > 1:
        value, units = value / 1000, units[1:]
    return f"{value:.3g} {units[0]}"


def _unsited(error: AtollError) -> dict[str, str]:
    parts = error.to_dict()
    parts["at"] = parts.pop("site")
    return parts
