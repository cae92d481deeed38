"""Live progress for a person at a terminal; plain lines elsewhere; JSON lines for machines."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from types import TracebackType
from typing import Any

from atoll.core.errors import AtollError
from atoll.node.progress import JsonLines, Lines, Rate, size, speed, waiting_for


class Watched:
    """A watch that can be entered; leaving it puts the terminal in order.

    Args:
        watch: what speaks.
    """

    def __init__(self, watch: Lines | JsonLines) -> None:
        self.watch = watch

    def __enter__(self) -> Watched:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return

    def __getattr__(self, name: str) -> Any:
        return getattr(self.watch, name)


class Terminal(Lines):
    """One line a finished step, and below them one line that moves: what runs, how far, how fast, how long still."""

    def __init__(self, site: str) -> None:
        super().__init__(site)
        from rich.console import Console

        self.console = Console(stderr=True, highlight=False)
        self.status: Any = None
        self.title = ""

    def __enter__(self) -> Terminal:
        self.status = self.console.status("starting")
        self.status.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.status.stop()

    def say(self, text: str) -> None:
        """Print above the moving line."""
        self.console.print(text, markup=False, soft_wrap=True)

    def move(self, text: str) -> None:
        """Change the moving line."""
        if self.status is not None:
            from rich.text import Text

            self.status.update(Text(text))

    def waiting(self, peers: Sequence[tuple[str, str]], left: float) -> None:
        """Move."""
        self.move(f"{waiting_for(peers)}, {left:.0f} s left")

    def started(self, step: str, title: str, number: int, total: int) -> None:
        """Move."""
        self.title, self.rate = f"[{number}/{total}] {title}", Rate()
        self.move(self.title)

    def progress(self, what: str, done: int, total: int) -> None:
        """Move."""
        rate, left = self.rate.update(what, done, total)
        bar = "━" * round(24 * done / max(total, 1))
        self.move(f"{self.title}  {bar:╌<24} {done:,} of {total:,} {what}{speed(rate, left)}")

    def ended(self, step: str, line: str, seconds: float, sent: int, received: int) -> None:
        """Say what came of a step."""
        traffic = f", ↑ {size(sent)} ↓ {size(received)}" if sent + received else ""
        self.say(f"✓ {step:9} {line}  ({seconds:.1f} s{traffic})")

    def failed(self, error: AtollError) -> None:
        """Leave the error to the command."""

    def finished(self, lines: dict[str, str]) -> None:
        """Say what lies where."""
        for name, value in lines.items():
            self.say(f"  {name:9} {value}")


def watch_for(site: str, json: bool) -> Any:
    """Return who is told of a job: a machine, a person at a terminal, or a file of lines."""
    if json:
        return Watched(JsonLines(site))
    return Terminal(site) if sys.stderr.isatty() else Watched(Lines(site))
