"""What a protocol is: its card, its roles, and the kinds of message it may send."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from atoll.core.message import Message


@dataclass(frozen=True)
class Card:
    """What a reviewer reads before approving a protocol; no field may be empty but `notes` and `weak`.

    Attributes:
        source, security: Paper or standard with section; model and assumptions, per output mode where they differ.
        inputs: What each role brings, with shapes, dtypes and scales.
        reveals: For every role, what it learns; one sentence an entry.
        cost, fails: Messages, rounds and bytes as formulas of the inputs; how it fails, what each side then sees.
        assurance: `sketch`, `tested` or `reviewed (date, by whom)`.
        notes: Known limits, attacks and comparisons, one sentence each.
        weak: Why no site should run it unasked, in one sentence; a site that has not allowed it refuses it.
    """

    source: str
    security: str
    inputs: str
    reveals: Mapping[str, tuple[str, ...]]
    cost: str
    fails: str
    assurance: str
    notes: tuple[str, ...] = ()
    weak: str = ""


@dataclass(frozen=True)
class Protocol:
    """A small multi-party protocol: role coroutines, message kinds, and the card that describes them.

    Attributes:
        name: Short name in kebab-case, unique.
        version: Raised when messages or their meaning change.
        title: One line for people.
        card: The card.
        roles: Role name to coroutine function, side by side in one file.
        messages: The kinds that the roles send, in step order.
        uses: Protocols that run inside this one.
    """

    name: str
    version: int
    title: str
    card: Card
    roles: Mapping[str, Callable[..., Any]]
    messages: tuple[type[Message], ...]
    uses: tuple[Protocol, ...] = ()

    @property
    def kinds(self) -> frozenset[type[Message]]:
        """All kinds that may cross a border while this protocol runs."""
        return frozenset(self.messages).union(*(inner.kinds for inner in self.uses))
