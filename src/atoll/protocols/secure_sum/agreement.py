"""Whether all sites add the same thing, and how it is said that they do not."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

from atoll.core.errors import ProtocolError
from atoll.protocols.secure_sum.question import Question, question_of


class Asking(Protocol):
    """A message that says what a site adds; no bits and no text: it adds no more."""

    @property
    def what(self) -> str:
        """See `Question`, as for the next three."""

    @property
    def bits(self) -> int:
        """Width of the numbers."""

    @property
    def n(self) -> int:
        """How many."""

    @property
    def model(self) -> bytes:
        """Hash of the model."""

    @property
    def bound(self) -> bytes:
        """What stands for the sum, see `Question.bound`."""


def agreed(
    asks: Mapping[str, Asking], own: Question | None, me: str, bound: Callable[[Question], bytes], *, largest: int
) -> Question | None:
    """Return what all sites ask, or None if all have ended.

    Args:
        asks: What each member asks, by name.
        own: What the hub asks; None if it has no numbers.
        me: The hub.
        bound: What stands for a question in this job, among these sites.
        largest: Most bytes of one vector.

    Raises:
        ProtocolError: Two ask different things, or one does so in another job.
    """
    first, question = "", own
    for name in sorted(asks):
        ask = asks[name]
        ended = not ask.what and not ask.bits
        asked = None if ended else question_of(name, ask.what, ask.bits, ask.n, ask.model, largest)
        if question is None and not first:
            first, question = name, asked
        if asked != question:
            raise differ(name, asked, first or me, question)
        if asked and ask.bound != bound(asked):
            raise elsewhere(name, me)
    return question


def differ(name: str, asked: Question | None, other: str, question: Question | None) -> ProtocolError:
    """Say that two sites add different things; None is nothing."""

    def told(asked: Question | None) -> str:
        return f"{asked.n:,} numbers of {asked.bits} bits for {asked.what!r}" if asked else "nothing more"

    return ProtocolError(
        f"{name} adds {told(asked)}, and {other} adds {told(question)}",
        cure="All sites must run the same steps on the same columns, from the same model.",
    )


def elsewhere(name: str, me: str) -> ProtocolError:
    """Say that a site adds the same, and not here."""
    return ProtocolError(
        f"{name} adds in another job, among other sites, or with other options than {me}",
        cure="All sites must run the same job document.",
    )


def ended() -> ProtocolError:
    """Say that this site adds on where the others have ended."""
    return ProtocolError("the other sites add no more", cure="All sites must run the same job document.")


def changed(hub: str, what: str) -> ProtocolError:
    """Say that the tags of a checked sum do not fit."""
    return ProtocolError(
        f"{hub} passed on a sum that is not that of the sites: {what!r}",
        cure="The aggregator changed the sum, or a site sent tags that do not fit; do not use the result.",
    )
