"""A sum over the sites of a star, whose hub sees masked vectors and their sum only; every site is needed.

Member i                                                   Hub
once:
(1) `pairwise-keys`: k_ij with every other member j        passes the keys on
(2) the first member draws a secret, seals it for each     passes it on
for each sum, in pieces:
(3) y_i = x_i + Σ_{j > i} PRG(k_ij) − Σ_{j < i} PRG(k_ij)
                                                           (4) Σ_i y_i = Σ_i x_i, plus its own numbers if it has any

PRG is AES in counter mode under a key derived for this sum alone.  In a checked sum a member also sends two masked tags
⟨α, x_i⟩, α derived from the secret, and every member compares ⟨α, Σ x_i⟩ with the sum of the tags.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from atoll.core.channel import Channel
from atoll.core.errors import ProtocolError
from atoll.core.group import Group
from atoll.core.message import U64, AtMost, Message
from atoll.core.offload import offload
from atoll.core.protocol import Card, Protocol
from atoll.crypto import sum_tags
from atoll.crypto.random import Rng
from atoll.crypto.word_ring import Masks, WordRing
from atoll.protocols import pairwise_keys
from atoll.protocols.pairwise_keys import Seal
from atoll.protocols.secure_sum import ties
from atoll.protocols.secure_sum.agreement import agreed, changed, ended
from atoll.protocols.secure_sum.question import PIECE, Question
from atoll.protocols.secure_sum.ties import Box, Sealed, Ties, derived
from atoll.protocols.together import together

LARGEST = 1 << 28
"""Most bytes of one vector that a hub takes."""

Words = NDArray[np.uint64]

_WIDE = WordRing(192)


class Masked(Message, frozen=True):
    """(3) member → hub: what is added up, and one piece of the masked vector; no words and no text: it adds no more."""

    what: str
    bits: int
    n: int
    model: bytes
    bound: bytes
    words: U64
    tags: U64


class Total(Message, frozen=True):
    """(4) hub → member: one piece of the sum, and with the last piece the sum of the tags."""

    words: U64
    tags: U64


@dataclass
class Member:
    """A site that adds through a hub.

    Attributes:
        hub: Channel to the hub.
        ties: What this site shares with the other members.
        sites: All sites whose numbers are in a sum, in alphabetical order.
        checked: Whether tags show a sum that is not the members' own.
        context: What the job is, bound into every mask.
        rng: Secret randomness.
        number: How many sums there were.
    """

    hub: Channel
    ties: Ties
    sites: tuple[str, ...]
    checked: bool
    context: Sequence[str]
    rng: Rng
    number: int = 0

    @property
    def site(self) -> str:
        """This site's name."""
        return self.ties.me

    async def add(self, question: Question, x: Words) -> Words:
        """Return the sum of all sites' vectors.

        Args:
            question: What is added up.
            x: This site's vector, (question.words,) uint64.

        Raises:
            ProtocolError: As the card says.
        """
        self.number += 1
        bound = question.bound(self.context, self.sites, self.number)
        _, received = await together(self._send(question, bound, x), self._receive(question))
        total: Words = received[0]
        if self.checked:
            found = await offload(sum_tags.evaluate, total, question.bits, question.n, self._alpha(bound))
            if found != sum_tags.opened(received[1]):
                raise changed(self.hub.peer, question.what)
        return total

    async def finish(self) -> None:
        """Let a hub without numbers of its own go."""
        if self.hub.peer not in self.sites:
            nothing = np.empty(0, np.uint64)
            await self.hub.send(Masked("", 0, 0, b"", b"", nothing, nothing))

    def _alpha(self, bound: bytes) -> bytes:
        return derived(self.ties.common, "alpha", bound)

    async def _send(self, question: Question, bound: bytes, x: Words) -> None:
        masks, tags = self.ties.masks(bound, "numbers"), np.empty(0, np.uint64)
        for number, piece in enumerate(question.pieces, 1):
            if self.checked and number == len(question.pieces):
                tags = await offload(self._tags, question, bound, x)
            y = await offload(covered, question.ring, x[piece], masks)  # (3)
            about = (question.what, question.bits, question.n, question.model, bound)
            await self.hub.send(Masked(*about, y, tags))

    def _tags(self, question: Question, bound: bytes, x: Words) -> Words:
        tags = sum_tags.evaluate(x, question.bits, question.n, self._alpha(bound))
        return covered(_WIDE, sum_tags.hidden(tags, self.rng), self.ties.masks(bound, "tags"))

    async def _receive(self, question: Question) -> tuple[Words, Words]:
        total = np.empty(question.words, np.uint64)
        for number, piece in enumerate(question.pieces, 1):
            tags = sum_tags.WORDS if self.checked and number == len(question.pieces) else 0
            part = await self.hub.recv(Total, words=(piece.stop - piece.start,), tags=(tags,))  # (4)
            total[piece] = part.words
        return total, part.tags


@dataclass
class Hub:
    """The site through which the members add; it may have numbers of its own.

    Attributes:
        peers: Channels to the members by name.
        site: This site's name.
        sites: All sites whose numbers are in a sum, in alphabetical order.
        checked: Whether members send tags.
        context: What the job is.
        number: How many sums there were.
    """

    peers: Mapping[str, Channel]
    site: str
    sites: tuple[str, ...]
    checked: bool
    context: Sequence[str]
    number: int = 0

    async def add(self, question: Question, x: Words) -> Words:
        """Return the sum of all sites' vectors, this one's among them; see `Member.add`."""
        total = await self._collect(question, x)
        if total is None:
            raise ended()
        return total

    async def finish(self) -> None:
        """Do nothing: the members know when it is over."""

    async def serve(self, record: Callable[[Question], None] = lambda question: None) -> None:
        """Add for the members until they say that it is over; this site has no numbers.

        Args:
            record: Called with every sum that was told.

        Raises:
            ProtocolError: As the card says.
        """
        asked: Question | None = None

        def keep(question: Question) -> None:
            nonlocal asked
            asked = question

        while await self._collect(None, None, keep) is not None:
            if asked:
                record(asked)

    async def _collect(
        self, own: Question | None, x: Words | None, keep: Callable[[Question], None] = lambda question: None
    ) -> Words | None:
        """Gather, add and tell piece by piece; return the sum, or None if the members have ended."""
        self.number += 1
        pieces = await self._gather()
        question = self._agreed(pieces, own)
        if question is None:
            return None
        keep(question)
        total = np.zeros(question.words, np.uint64) if x is None else x.copy()
        for number, place in enumerate(question.pieces, 1):
            last = number == len(question.pieces)
            tags = np.zeros(sum_tags.WORDS if self.checked and last else 0, np.uint64)
            _same_sizes(pieces, place.stop - place.start, tags.size)
            await offload(_add, question.ring, total[place], tags, list(pieces.values()))  # (4)
            telling = Group(self.peers).broadcast(Total(total[place], tags))
            if last:
                await telling
            else:
                _, pieces = await together(telling, self._gather())
                self._agreed(pieces, question)
        return total

    async def _gather(self) -> dict[str, Masked]:
        return await Group(self.peers).gather(Masked, words=(AtMost(PIECE),), tags=(AtMost(sum_tags.WORDS),))

    def _agreed(self, pieces: Mapping[str, Masked], own: Question | None) -> Question | None:
        """Return what all sites ask, or None if all have ended."""
        bound = partial(Question.bound, context=self.context, sites=self.sites, number=self.number)
        return agreed(pieces, own, self.site, bound, largest=LARGEST)


def _same_sizes(pieces: Mapping[str, Masked], words: int, tags: int) -> None:
    for name, piece in pieces.items():
        if piece.words.size != words or piece.tags.size != tags:
            raise ProtocolError(
                f"{name} sent {piece.words.size} words and {piece.tags.size} of tags for {words}, {tags}"
            )


def _add(ring: WordRing, total: Words, tags: Words, pieces: Sequence[Masked]) -> None:
    for piece in pieces:
        ring.add(total, piece.words)
        _WIDE.add(tags, piece.tags)


def covered(ring: WordRing, x: Words, masks: Masks) -> Words:
    """Return a masked copy of a vector."""
    y = x.copy()
    ring.mask(y, masks)
    return y


async def hub(
    peers: Mapping[str, Channel], *, adds: bool = True, checked: bool = False, context: Sequence[str] = ()
) -> Hub:
    """Set up the hub of a star.

    Args:
        peers: Channels to the members by name; each runs `member` with the same options.
        adds: Whether this site has numbers of its own; if not it runs `Hub.serve`.
        checked: Whether members notice a sum that is not their own; for a hub without numbers.
        context: What the job is; what all sites must agree on.

    Raises:
        ProtocolError: As the card says.
        ValueError: There is no member, one alone whose numbers the hub would see, or a hub with numbers is checked.
    """
    _possible(len(peers), adds, checked)
    me = next(iter(peers.values())).gate.site
    await ties.relay(peers)  # (1) (2)
    sites = tuple(sorted([*peers, me] if adds else peers))
    return Hub(peers, me, sites, checked, _whole(context, me, checked))


async def member(
    hub: Channel,
    members: Sequence[str],
    *,
    rng: Rng,
    seal: Seal | None = None,
    adds: bool = True,
    checked: bool = False,
    context: Sequence[str] = (),
) -> Member:
    """Set up a member of a star.

    Args:
        hub: Channel to the hub.
        members: Names of all sites but the hub, this one among them, as the job says.
        rng: Secret randomness.
        seal: How keys between members are signed and checked; see `pairwise_keys`.
        adds: Whether the hub has numbers of its own; the rest as of `hub`.

    Raises:
        ProtocolError, ValueError: As of `hub`.
        IdentityError: A member's key is not signed by that member.
    """
    _possible(len(members), adds, checked)
    names = tuple(sorted(members))
    whole = _whole(context, hub.peer, checked)
    tied = await ties.tie(hub, names, rng=rng, seal=seal, context=whole)  # (1) (2)
    sites = tuple(sorted([*names, hub.peer] if adds else names))
    return Member(hub, tied, sites, checked, whole, rng)


def _whole(context: Sequence[str], hub: str, checked: bool) -> tuple[str, ...]:
    return ("star", hub, "checked" if checked else "not checked", *context)


def _possible(members: int, adds: bool, checked: bool) -> None:
    if members < (1 if adds else 2):
        raise ValueError("a sum needs two sites with numbers: that of one site is its own numbers")
    if adds and checked:
        raise ValueError("a hub that adds numbers of its own can change the sum by changing them: tags show nothing")


PROTOCOL = Protocol(
    name="sum-star",
    version=1,
    title="A sum over all sites of a star, of which the hub sees masked vectors only",
    card=Card(
        source="Bonawitz et al., ACM CCS 2017 (eprint 2017/281), the pairwise masks; above 64 members on "
        "the graph of Bell et al., ACM CCS 2020 (eprint 2020/704). Masks bound to sum, model and members against "
        "Pasquini et al., ACM CCS 2022. Tags: Damgård et al., CRYPTO 2012, with a key that members share.",
        security="Semi-honest, computational 128 bits: the hub and any members together learn the sum of the others' "
        "vectors and no more. With signed keys (`pairwise-keys`) also against a hub that swaps keys. A hub that tells "
        "members different models, sums or member sets gets noise, for all of these are in the keys. In a checked sum "
        "a hub that changes the total goes unnoticed with probability 2^-120, if no member helps it. Above 64 members "
        "with probability 2^-40 a tenth of them who help the hub see more than the sum of all others.",
        inputs="Each site a vector of n numbers of 16, 32 or 192 bits; n and what it is are the same at all. hub: a "
        "vector as well, or none. A sum that exceeds the width wraps around: callers leave room for all sites.",
        reveals={
            "hub": (
                "The sum over all sites, what it is, and n.",
                "With numbers of its own: therefore the sum over the members.",
            ),
            "member": ("The sum over all sites.", "The names of the other sites."),
        },
        cost="Once, for m members: 4 messages each, about 110 (1 + m) bytes and 48 m in all. For each sum 1 message up "
        "and 1 down for every 768 kB: n · bits / 8 bytes each way and about 200 more; 96 for tags.",
        fails="ProtocolError when sites differ in job, members, options, or in what they add, a message has another "
        "size, the members' secret was changed, or in a checked sum the total is not the members'; IdentityError on a "
        "key that is not signed by its member; any site that drops out ends it at all sites.",
        assurance="tested",
        notes=(
            "With two sites in all, each learns the other's numbers: the sum shows them.",
            "A hub that works together with all members but one learns the numbers of that one; so do all other sites.",
            "A site can add what it likes: poisoned numbers are not noticed.",
            "Sums of the same numbers over different sites show the difference: keep the members of a job fixed.",
        ),
    ),
    roles={"hub": hub, "member": member},
    messages=(Sealed, Box, Masked, Total),
    uses=(pairwise_keys.PROTOCOL,),
)
