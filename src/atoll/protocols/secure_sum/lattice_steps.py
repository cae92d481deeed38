"""Messages of a sum under a key that nobody holds, the rules that all its sites agree on, and its tags; see `lattice`.

A tag of residues is ⟨α, residues⟩ plus a pad, modulo 2^61 − 1.  Both come of a secret of the members; the pad also of
who sends what and when.  Tags add up as residues do, and only the sum that was asked for fits.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from atoll.core.message import U8, U32, U64, Message
from atoll.crypto import sum_tags
from atoll.protocols.intersection_result import context_hash
from atoll.protocols.secure_sum.ties import derived

TAGS = sum_tags.TAGS
"""Tags of one array."""

LARGEST = 1 << 25
"""Most bytes of one vector that a hub takes; a ciphertext is seven times as long."""

ATTEMPTS = 64
"""Most turns of one sum."""


class Nonce(Message, frozen=True):
    """(1) member → hub: its part of what the common polynomial a comes from."""

    nonce: bytes


class Nonces(Message, frozen=True):
    """(1) hub → member: everybody's, by name."""

    lines: list[tuple[str, bytes]]


class Commitment(Message, frozen=True):
    """(2) member → hub: hash of its b_i, and its signature on the hash and on all nonces; empty if unsigned."""

    digest: bytes
    signature: bytes


class Commitments(Message, frozen=True):
    """(2) hub → member: everybody's name, hash and signature."""

    lines: list[tuple[str, bytes, bytes]]


class PublicPart(Message, frozen=True):
    """(3) member → hub → all others, in alphabetical order: b_i."""

    b: U8


class KeyShare(Message, frozen=True):
    """(4) member → hub → another member: a share of s_i, sealed."""

    box: U8


class Ask(Message, frozen=True):
    """(5) member → hub: what is added up; no bits and no text: it adds no more."""

    what: str
    bits: int
    n: int
    model: bytes
    bound: bytes


class Ciphertext(Message, frozen=True):
    """(5) member → hub: one piece of its encrypted vector, or of zeros, and its tags."""

    c1: U8
    c0: U8
    tags: U64


class Turn(Message, frozen=True):
    """(6) hub → member: whose vectors are counted, who opens their sum, and whose encryptions of zero are added first.

    Nobody opens: those named send encryptions of zero.  Nobody is named at all: the sum is open.
    """

    counted: list[str]
    openers: list[str]
    zeros: list[str]


class Aggregate(Message, frozen=True):
    """(6) hub → opener: one piece of the sum of all c₁, and of its tags."""

    c1: U32
    tags: U64


class Partial(Message, frozen=True):
    """(7) opener → hub: its part of the opening of one piece, and tags."""

    h: U8
    tags: U64


class Phase(Message, frozen=True):
    """(8) hub → member: one piece of the sum of all c₀ and parts of the opening, and of their tags."""

    phase: U32
    tags: U64


@dataclass(frozen=True)
class Rules:
    """What all sites of a job must agree on.

    Attributes:
        members: All sites but the hub, in alphabetical order.
        hub: The hub.
        adds: Whether the hub has numbers of its own.
        least: How many members open a sum, and fewest members in one.
        context: What the job is.
    """

    members: tuple[str, ...]
    hub: str
    adds: bool
    least: int
    context: tuple[str, ...]

    @property
    def whole(self) -> tuple[str, ...]:
        """All of it, for hashes."""
        return ("lattice", self.hub, str(self.adds), str(self.least), *self.members, *self.context)

    def sites(self, members: Sequence[str]) -> tuple[str, ...]:
        """Return all sites whose numbers are in a sum over these members."""
        return tuple(sorted([*members, self.hub] if self.adds else members))

    def openers(self, roster: Sequence[str]) -> int:
        """Return how many members with parts of a key open a sum."""
        return min(self.least, len(roster))

    def shared(self, roster: Sequence[str]) -> bool:
        """Whether parts of the key are shared, so that fewer than all can open."""
        return self.least < len(roster)


def keys_bound(rules: Rules, name: str, lines: Sequence[tuple[str, bytes]]) -> bytes:
    """Return what a key is for: the set of parameters, the job, and everybody's nonces."""
    parts = [part for member, nonce in lines for part in (member, nonce.hex())]
    return context_hash(("atoll/sum-lattice/v1/keys", name, str(len(lines)), *parts, *rules.whole))


def turn_bound(bound: bytes, number: int, turn: Turn) -> bytes:
    """Return what one turn of one sum is."""
    names = (f"{len(turn.counted)} {len(turn.openers)}", *turn.counted, *turn.openers, *turn.zeros)
    return context_hash(("atoll/sum-lattice/v1/turn", bound.hex(), str(number), *names))


def signed(bound: bytes, name: str, digest: bytes) -> bytes:
    """Return what a member signs of its b_i."""
    return context_hash(("atoll/sum-lattice/v1/commitment", bound.hex(), name, digest.hex()))


@dataclass(frozen=True, repr=False)
class Tagger:
    """Makes and checks tags of one piece of one sum.

    Attributes:
        common: The members' secret.
        bound: What the sum is.
        piece: Number of the piece.
    """

    common: bytes
    bound: bytes
    piece: int

    def tags(self, kind: str, residues: NDArray[np.uint32], sender: str, where: bytes) -> NDArray[np.uint64]:
        """Return a sender's tags, (2,), each below 2^61 − 1.

        Args:
            kind: Whose α: "c1" or "phase".
            residues: What is tagged.
            sender: Who sends it.
            where: What it is and in which try; no sender tags two things in one place.
        """
        found = zip(self._values(kind, residues), self._pad(sender, where), strict=True)
        return np.array([(value + pad) % sum_tags.P for value, pad in found], np.uint64)

    def fit(
        self, kind: str, residues: NDArray[np.uint32], tags: NDArray[np.uint64], places: Sequence[tuple[str, bytes]]
    ) -> bool:
        """Whether a sum of residues is that of what was sent from these places, (sender, where) each."""
        left = [int(tag) for tag in tags]
        for sender, where in places:
            left = [tag - pad for tag, pad in zip(left, self._pad(sender, where), strict=True)]
        return [tag % sum_tags.P for tag in left] == self._values(kind, residues)

    def _values(self, kind: str, residues: NDArray[np.uint32]) -> list[int]:
        flat = residues.reshape(-1)
        if flat.size % 2:
            flat = np.append(flat, np.uint32(0))
        alpha = derived(self.common, f"lattice/alpha/{kind}/{self.piece}", self.bound)
        return sum_tags.evaluate(np.ascontiguousarray(flat).view(np.uint64), 32, flat.size, alpha)

    def _pad(self, sender: str, where: bytes) -> list[int]:
        pad = derived(self.common, f"lattice/pad/{self.piece}/{sender}", self.bound + where, 16 * TAGS)
        return [int.from_bytes(pad[at : at + 16], "little") for at in range(0, 16 * TAGS, 16)]


def add_tags(total: NDArray[np.uint64], tags: NDArray[np.uint64]) -> None:
    """Add tags to a sum of tags, modulo 2^61 − 1, whatever they are."""
    p = np.uint64(sum_tags.P)
    total += tags % p
    total %= p
