"""Messages of a sum that survives drop-outs, and the rules that all its sites agree on; see `dropouts`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from atoll.core.message import U8, Message
from atoll.crypto import neighbours
from atoll.crypto.neighbours import Shape
from atoll.protocols.intersection_result import context_hash
from atoll.protocols.secure_sum.round_keys import KEY, Line, Roster

Bytes = NDArray[np.uint8]


class Keys(Message, frozen=True):
    """(1) member → hub: its public keys of this round, and its signature on them; empty if unsigned."""

    box: bytes
    mask: bytes
    signature: bytes


class Members(Message, frozen=True):
    """(1) hub → member: names, keys and signatures of all who take part in this round."""

    lines: list[Line]


class Shares(Message, frozen=True):
    """(2) member → hub: two shares for each neighbour in alphabetical order, sealed."""

    boxes: U8


class Passed(Message, frozen=True):
    """(2) hub → member: which neighbours sent shares, and theirs for this member."""

    senders: list[str]
    boxes: U8


class Survivors(Message, frozen=True):
    """(4) hub → member: whose vectors are in the sum."""

    names: list[str]


class Agreement(Message, frozen=True):
    """(4) member → hub: its signature on the survivors; empty if unsigned."""

    signature: bytes


class Agreements(Message, frozen=True):
    """(4) hub → member: names and signatures of those of its neighbours that agree."""

    lines: list[tuple[str, bytes]]


class Reveal(Message, frozen=True):
    """(5) member → hub: of each neighbour and itself one share, of its seed or of its key, never of both."""

    shares: U8


@dataclass(frozen=True)
class Rules:
    """What all sites of a job must agree on.

    Attributes:
        members: All sites but the hub, in alphabetical order.
        hub: The hub.
        adds: Whether the hub has numbers of its own.
        checked: Whether tags show a sum that is not the survivors' own.
        malicious: Whether thresholds hold against a hub that tells members different things.
        least: Fewest members in a sum.
        steady: Whether a sum over fewer members than the one before is not opened.
        context: What the job is.
    """

    members: tuple[str, ...]
    hub: str
    adds: bool
    checked: bool
    malicious: bool
    least: int
    steady: bool
    context: tuple[str, ...]

    @property
    def whole(self) -> tuple[str, ...]:
        """All of it, for hashes."""
        options = (self.hub, str(self.adds), str(self.checked), str(self.malicious), str(self.least))
        return ("dropouts", *options, *(["steady"] if self.steady else []), *self.context)

    def bound(self, number: int) -> bytes:
        """Return what the keys of a round are for."""
        return context_hash(("atoll/sum-dropouts/v1/round", str(number), *self.members, *self.whole))

    def shape(self, members: int) -> Shape:
        """Return the graph of a round."""
        return neighbours.shape(members, malicious=self.malicious)

    def sites(self, members: Sequence[str]) -> tuple[str, ...]:
        """Return all sites whose numbers are in a sum over these members."""
        return tuple(sorted([*members, self.hub] if self.adds else members))

    def near(self, name: str, roster: Roster) -> tuple[str, ...]:
        """Return a member's neighbours."""
        return neighbours.near(name, roster.names, roster.bound, self.shape(len(roster.names)).k)

    def holders(self, name: str, roster: Roster) -> tuple[str, ...]:
        """Return who holds shares of a member's secrets, itself among them; the point of a share is its place + 1."""
        return tuple(sorted((*self.near(name, roster), name)))


def revealed(held: Mapping[str, Bytes], survivors: Sequence[str]) -> Bytes:
    """Return what opens the sum over the survivors: a share of a seed or of a key for each holder, (n, 32)."""
    alive = set(survivors)
    return np.stack([held[name][:KEY] if name in alive else held[name][KEY:] for name in sorted(held)])


def purposes(bound: bytes) -> tuple[str, str]:
    """Name the vectors of a sum that have masks of their own: numbers and tags."""
    return f"numbers/{bound.hex()}", f"tags/{bound.hex()}"


def signed(bound: bytes, name: str, box: bytes, mask: bytes) -> bytes:
    """Return what a member signs of its keys."""
    return context_hash(("atoll/sum-dropouts/v1/keys", bound.hex(), name, box.hex(), mask.hex()))


def statement(roster: Roster, names: Sequence[str]) -> bytes:
    """Return what members sign of the survivors."""
    return context_hash(("atoll/sum-dropouts/v1/survivors", roster.bound.hex(), *names))
