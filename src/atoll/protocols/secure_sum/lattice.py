"""A sum through a hub that sees ciphertexts under a key that nobody holds; all members, or any t of them, open it.

Member i                                                   Hub
once:
    `lattice_keys`: b, under which all encrypt, and a part of s
for each sum, in pieces:
(5) (c₁, c₀) = (a·u + t·e₁, b·u + t·e₀ + x_i)              U: those whose pieces are all there
                                                           (6) names U and who opens; C₁ = Σ_U c₁ to those
(7) checks that C₁ is that sum; h_i = C₁·σ_i + t·f_i
                                                           (8) Σ_U c₀ + Σ h_i = Σ_U x_i + t·noise modulo q

When somebody fails between (6) and (7), others take its place.  They open another ciphertext of the same sum, with
encryptions of zero added: openings of one ciphertext add up, and show more of the noise behind it than one.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np
from numpy.typing import NDArray

from atoll.core.channel import Channel
from atoll.core.errors import InputError, ProtocolError
from atoll.core.message import U32
from atoll.core.offload import offload
from atoll.core.protocol import Protocol
from atoll.crypto import lattice_sum
from atoll.crypto.lattice_sum import Lattice
from atoll.crypto.random import Rng
from atoll.protocols import pairwise_keys
from atoll.protocols.pairwise_keys import Seal
from atoll.protocols.secure_sum import lattice_keys, ties
from atoll.protocols.secure_sum.agreement import agreed, changed, ended
from atoll.protocols.secure_sum.attendance import Attendance
from atoll.protocols.secure_sum.lattice_card import CARD
from atoll.protocols.secure_sum.lattice_keys import Keys
from atoll.protocols.secure_sum.lattice_steps import (
    ATTEMPTS,
    LARGEST,
    TAGS,
    Aggregate,
    Ask,
    Ciphertext,
    Commitment,
    Commitments,
    KeyShare,
    Nonce,
    Nonces,
    Partial,
    Phase,
    PublicPart,
    Rules,
    Tagger,
    Turn,
    turn_bound,
)
from atoll.protocols.secure_sum.lattice_total import Encrypted
from atoll.protocols.secure_sum.question import Question
from atoll.protocols.secure_sum.star import Total
from atoll.protocols.secure_sum.ties import Ties
from atoll.protocols.together import together

Words = NDArray[np.uint64]
Place = tuple[str, bytes]
"""Who sent something, and where it stands: what it is, and in which turn."""

FIRST = b"first"
"""Where ciphertexts of vectors stand; encryptions of zero stand in their turn."""


@dataclass
class Member:
    """A site that adds under a key of which it has a part.

    Attributes:
        hub: Channel to the hub.
        rules: What all sites agree on.
        ties: What this site shares with the other members.
        rng: Secret randomness.
        seal: Signs and checks parts of keys; None where the hub is trusted not to swap them.
        alive: The members of the last sum.
        keys: This site's side of each key, by the name of its parameters.
        given: Hashes of all sums of ciphertexts that this site has helped to open.
        number: How many sums there were.
    """

    hub: Channel
    rules: Rules
    ties: Ties
    rng: Rng
    seal: Seal | None
    alive: tuple[str, ...]
    keys: dict[str, Keys] = field(default_factory=dict)
    given: set[bytes] = field(default_factory=set)
    number: int = 0

    @property
    def site(self) -> str:
        """This site's name."""
        return self.ties.me

    @property
    def sites(self) -> tuple[str, ...]:
        """All sites whose numbers are in the last sum, or may be in the first."""
        return self.rules.sites(self.alive)

    async def finish(self) -> None:
        """Let a hub without numbers of its own go."""
        if not self.rules.adds:
            await self.hub.send(Ask("", 0, 0, b"", b""))

    async def add(self, question: Question, x: Words) -> Words:
        """Return the sum of the vectors of all sites that are left; see `star.Member.add`."""
        self.number += 1
        bound = question.bound(self.rules.whole, self.rules.members, self.number)
        await self.hub.send(Ask(question.what, question.bits, question.n, question.model, bound))
        lattice = lattice_sum.lattice_of(question.bits)
        if lattice.name not in self.keys:
            about = (self.hub, lattice, self.rules, self.ties, self.alive, self.rng, self.seal)
            self.keys[lattice.name] = await lattice_keys.make(*about)
        keys = self.keys[lattice.name]
        limbs = lattice_sum.limbs_of(question.bits, x)
        await self._send(keys, limbs, bound, FIRST)  # (5)
        counted, opened = await self._help(keys, limbs, bound)  # (6) (7)
        total = await self._total(keys, question, bound, counted, opened)  # (8)
        self.alive = tuple(counted)
        return total

    async def _send(self, keys: Keys, limbs: NDArray[np.uint16], bound: bytes, where: bytes) -> None:
        for number, piece in enumerate(keys.lattice.pieces(len(limbs))):
            c1, c0 = await offload(lattice_sum.encrypted, keys.public, limbs[piece], self.rng)
            tags = await offload(self._tags, Tagger(self.ties.common, bound, number), c1, c0, where)
            await self.hub.send(Ciphertext(c1, c0, tags))

    def _tags(self, tagger: Tagger, c1: NDArray[np.uint8], c0: NDArray[np.uint8], where: bytes) -> Words:
        tags = tagger.tags("c1", lattice_sum.widened(c1), self.site, b"c1" + where)
        if self.rules.adds:
            return tags
        return np.concatenate([tags, tagger.tags("phase", lattice_sum.widened(c0), self.site, b"c0" + where)])

    async def _help(self, keys: Keys, limbs: NDArray[np.uint16], bound: bytes) -> tuple[list[str], list[Place]]:
        """Help to open until it is done; return who was counted, and where what opened it was sent from."""
        counted: list[str] = []
        fresh, opened = list[Place](), list[Place]()  # zeros that may be added; what has come after the vectors
        for number in range(ATTEMPTS):
            turn = await self.hub.recv(Turn)
            self._possible(keys, turn, counted, opened, [name for name, _ in fresh])
            counted, where = turn.counted, turn_bound(bound, number, turn)
            if turn.openers:
                zeros = [place for place in fresh if place[0] in turn.zeros]
                opened = [*((name, b"h" + where) for name in turn.openers), *_kind(b"c0", zeros)]
                if self.site in turn.openers:
                    await self._open(keys, len(limbs), bound, turn, zeros, where)
                fresh = []
            elif turn.zeros:
                fresh = [(name, where) for name in turn.zeros]
                if self.site in turn.zeros:
                    await self._send(keys, np.zeros_like(limbs), bound, where)
            else:
                return counted, opened
        raise ProtocolError(f"{self.hub.peer} takes more than {ATTEMPTS} turns for one sum")

    def _possible(
        self, keys: Keys, turn: Turn, before: Sequence[str], opened: Sequence[Place], fresh: Sequence[str]
    ) -> None:
        """Refuse a turn that the rules do not allow, after these members were counted, and these zeros made."""
        counted, openers, zeros = turn.counted, turn.openers, turn.zeros
        if self.site not in counted and set(counted) <= set(self.alive):
            raise ProtocolError(
                "this site's vector was too late, and the others went on without it",
                cure="Give sites more time for a step, or start the job again.",
            )
        sets = all(names == sorted(set(names)) for names in (counted, openers, zeros))
        if not sets or not set(counted) <= set(keys.roster) & set(self.alive) or len(counted) < self.rules.least:
            raise ProtocolError(f"{self.hub.peer} counts members in a sum that cannot be")
        if before and counted != before:
            raise ProtocolError(f"{self.hub.peer} counts other members than before in the same sum")
        if not openers and (not opened or not set(zeros) <= set(counted)):
            raise ProtocolError(f"{self.hub.peer} calls a sum open that nobody has opened")
        many = self.rules.openers(keys.roster)
        if openers and (len(openers) != many or not set(openers) <= set(counted)):
            raise ProtocolError(f"{self.hub.peer} asks {len(openers)} members to open a sum where {many} must")
        if openers and opened and not (set(openers) <= set(zeros) <= set(fresh)):
            raise ProtocolError(f"{self.hub.peer} asks to open one ciphertext twice")
        if openers and not opened and zeros:
            raise ProtocolError(f"{self.hub.peer} adds zeros that nobody has made")

    async def _open(
        self, keys: Keys, count: int, bound: bytes, turn: Turn, zeros: Sequence[Place], where: bytes
    ) -> None:
        lattice = keys.lattice
        sigma = keys.part(self.site, turn.openers)
        places = _kind(b"c1", [*((name, FIRST) for name in turn.counted), *zeros])
        for number, piece in enumerate(lattice.pieces(count)):
            size, tagger = piece.stop - piece.start, Tagger(self.ties.common, bound, number)
            shape = (lattice.primes, lattice.polynomials(size), lattice.chain.N)
            got = await self.hub.recv(Aggregate, c1=shape, tags=(TAGS,))
            if not await offload(tagger.fit, "c1", got.c1, got.tags, places):
                raise ProtocolError(
                    f"{self.hub.peer} asks to open something else than the sum of {len(turn.counted)} vectors",
                    cure="The aggregator changed a ciphertext, or counts others than it says; do not go on with it.",
                )
            self._never_twice(lattice, got.c1)
            h = await offload(lattice_sum.partial, lattice, sigma, got.c1, size, self.rng)
            tags = np.empty(0, np.uint64)
            if not self.rules.adds:
                tags = await offload(tagger.tags, "phase", lattice_sum.widened(h), self.site, b"h" + where)
            await self.hub.send(Partial(h, tags))  # (7)

    def _never_twice(self, lattice: Lattice, c1: U32) -> None:
        digest = hashlib.sha256(lattice.name.encode() + c1.tobytes()).digest()
        if digest in self.given:
            raise ProtocolError(f"{self.hub.peer} asks to open one ciphertext twice")
        self.given.add(digest)

    async def _total(
        self, keys: Keys, question: Question, bound: bytes, counted: Sequence[str], opened: Sequence[Place]
    ) -> Words:
        if self.rules.adds:
            total = np.empty(question.words, np.uint64)
            for piece in question.pieces:
                total[piece] = (await self.hub.recv(Total, words=(piece.stop - piece.start,), tags=(0,))).words
            return total
        lattice, count = keys.lattice, lattice_sum.numbers_in(question.bits, question.words)
        places = [*_kind(b"c0", [(name, FIRST) for name in counted]), *opened]
        limbs = np.empty((count, lattice.bits // 32), np.uint32)
        for number, piece in enumerate(lattice.pieces(count)):
            shape = (lattice.chain.kept, piece.stop - piece.start)
            got = await self.hub.recv(Phase, phase=shape, tags=(TAGS,))
            tagger = Tagger(self.ties.common, bound, number)
            if not await offload(tagger.fit, "phase", got.phase, got.tags, places):
                raise changed(self.hub.peer, question.what)
            limbs[piece] = await offload(lattice_sum.opened, lattice, got.phase)
        return lattice_sum.words_of(question.bits, limbs)


def _kind(kind: bytes, places: Sequence[Place]) -> list[Place]:
    return [(name, kind + where) for name, where in places]


@dataclass
class Hub:
    """The site through which members add; it may have numbers of its own.

    Attributes:
        attendance: The members that are still there.
        rules: What all sites agree on.
        alive: The members of the last sum.
        rosters: Who has a part of each key, by the name of its parameters.
        number: How many sums there were.
    """

    attendance: Attendance
    rules: Rules
    alive: tuple[str, ...]
    rosters: dict[str, tuple[str, ...]] = field(default_factory=dict)
    number: int = 0

    @property
    def site(self) -> str:
        """This site's name."""
        return self.rules.hub

    @property
    def sites(self) -> tuple[str, ...]:
        """All sites whose numbers are in the last sum, or may be in the first."""
        return self.rules.sites(self.alive)

    @property
    def dropped(self) -> Mapping[str, str]:
        """Which members were left out, and why."""
        return self.attendance.dropped

    async def finish(self) -> None:
        """Do nothing: the members know when it is over."""

    async def add(self, question: Question, x: Words) -> Words:
        """Return the sum of the vectors of all sites that are left; see `star.Member.add`."""
        total = await self._round(question, x)
        if total is None:
            raise ended()
        return total

    async def serve(self, record: Callable[[Question, tuple[str, ...]], None] = lambda question, sites: None) -> None:
        """Add for the members until they say that it is over; this site has no numbers.

        Args:
            record: Called with every sum that was told, and whose numbers are in it.

        Raises:
            ProtocolError: As the card says.
        """
        while await self._round(None, None, record) is not None:
            pass

    async def _round(
        self,
        own: Question | None,
        x: Words | None,
        record: Callable[[Question, tuple[str, ...]], None] = lambda question, sites: None,
    ) -> Words | None:
        self.number += 1
        peers, attendance, when = self.attendance.peers, self.attendance, f"in sum {self.number}"
        before = attendance.reachable
        asks = await attendance.collect(before, lambda name: peers[name].recv(Ask), when)
        bound = partial(Question.bound, context=self.rules.whole, sites=self.rules.members, number=self.number)
        question = agreed(asks, own, self.site, bound, largest=LARGEST)
        if question is None:
            return None
        lattice = lattice_sum.lattice_of(question.bits)
        if lattice.name not in self.rosters:
            self.rosters[lattice.name] = await lattice_keys.relay(attendance, lattice, self.rules)
        count = lattice_sum.numbers_in(question.bits, question.words)
        roster = self.rosters[lattice.name]
        found = await attendance.collect(roster, lambda name: self._ciphertext(name, lattice, count), when)  # (5)
        self.alive = tuple(sorted(found))
        for name in set(before) - found.keys():
            await attendance.farewell(name, Turn(list(self.alive), [], []))
        encrypted = await offload(Encrypted.nothing(lattice, count).plus, list(found.values()))
        found.clear()
        encrypted, partials = await self._have_opened(encrypted, when)  # (6) (7)
        total = await offload(encrypted.opened, question.bits, partials)
        await self._turn([], [])
        await self._tell(question, encrypted, total, x)  # (8)
        record(question, self.sites)
        return total

    async def _ciphertext(self, name: str, lattice: Lattice, count: int) -> list[Ciphertext]:
        tags, pieces = TAGS if self.rules.adds else 2 * TAGS, []
        for piece in lattice.pieces(count):
            size = piece.stop - piece.start
            c1, c0 = (lattice.primes, lattice.polynomials(size), lattice.chain.N, 3), (lattice.chain.kept, size, 3)
            pieces.append(await self.attendance.peers[name].recv(Ciphertext, c1=c1, c0=c0, tags=(tags,)))
        return pieces

    async def _have_opened(self, first: Encrypted, when: str) -> tuple[Encrypted, list[list[Partial]]]:
        """Let members open a sum; when one of them fails others do, and open another ciphertext of it."""
        many = self.rules.openers(self.rosters[first.lattice.name])
        encrypted, able = first, self._left(when)
        while True:
            openers = sorted((able[self.number % len(able) :] + able)[:many])
            zeros = able if encrypted is not first else []
            await self._turn(openers, zeros)
            partials = await self._ask(encrypted, openers, when)
            if len(partials) == many:
                return encrypted, list(partials.values())
            able = []
            while len(able) < many:
                left = self._left(when)
                await self._turn([], left)
                found = await self.attendance.collect(
                    left, lambda name: self._ciphertext(name, first.lattice, first.count), when
                )
                able = sorted(found)
            encrypted = await offload(first.plus, list(found.values()))

    def _left(self, when: str) -> list[str]:
        left = [name for name in self.alive if name in self.attendance.reachable]
        self.attendance.enough(left, when)
        return left

    async def _turn(self, openers: Sequence[str], zeros: Sequence[str]) -> None:
        turn = Turn(list(self.alive), list(openers), list(zeros))
        await self.attendance.tell(self.alive, dict.fromkeys(self.alive, turn).__getitem__)

    async def _ask(self, encrypted: Encrypted, openers: Sequence[str], when: str) -> dict[str, list[Partial]]:
        """Send the sum of ciphertexts to those that open it, and take what they answer; some may fail."""
        attendance, lattice = self.attendance, encrypted.lattice

        async def tell() -> None:
            for c1, (tags, _) in zip(encrypted.c1, encrypted.tags, strict=True):
                await attendance.tell(openers, dict.fromkeys(openers, Aggregate(c1, tags)).__getitem__)

        async def answer(name: str) -> list[Partial]:
            tags = 0 if self.rules.adds else TAGS
            shapes = [(lattice.chain.kept, phase.shape[1], 3) for phase in encrypted.phase]
            return [await attendance.peers[name].recv(Partial, h=shape, tags=(tags,)) for shape in shapes]

        _, partials = await together(tell(), attendance.collect(openers, answer, when))
        return {name: parts for name, parts in partials.items() if name in attendance.reachable}

    async def _tell(self, question: Question, encrypted: Encrypted, total: Words, x: Words | None) -> None:
        tell, names = self.attendance.tell, self.alive
        if not self.rules.adds:
            for phase, (_, tags) in zip(encrypted.phase, encrypted.tags, strict=True):
                await tell(names, dict.fromkeys(names, Phase(phase, tags)).__getitem__)
            return
        if x is not None:
            question.ring.add(total, x)
        nothing = np.empty(0, np.uint64)
        for piece in question.pieces:
            await tell(names, dict.fromkeys(names, Total(total[piece], nothing)).__getitem__)


async def hub(
    peers: Mapping[str, Channel],
    *,
    adds: bool = True,
    least: int = 0,
    patience: float = 60.0,
    context: Sequence[str] = (),
) -> Hub:
    """Set up the hub of a sum under a key that nobody holds.

    Args:
        peers: Channels to the members by name; each runs `member` with the same options.
        adds: Whether this site has numbers of its own; if not it may run `Hub.serve`, and members check the sum.
        least: How many members open a sum, above a half of them, so that the others may drop out; all without it.
        patience: Seconds that a member has for each step of a sum, where some may drop out.
        context: What the job is; what all sites must agree on.

    Raises:
        ProtocolError: As the card says.
        InputError: There are too many members.
        ValueError: These options cannot be.
    """
    me, names = next(iter(peers.values())).gate.site, tuple(sorted(peers))
    rules = _rules(names, me, adds, least, context)
    await ties.relay(peers)
    return Hub(Attendance(peers, rules.least, patience, all_needed=rules.least >= len(peers)), rules, names)


async def member(
    hub: Channel,
    members: Sequence[str],
    *,
    rng: Rng,
    seal: Seal | None = None,
    adds: bool = True,
    least: int = 0,
    context: Sequence[str] = (),
) -> Member:
    """Set up a member of a sum under a key that nobody holds.

    Args:
        hub: Channel to the hub.
        members: Names of all sites but the hub, this one among them, as the job says.
        rng: Secret randomness.
        seal: How keys are signed and checked; see `pairwise_keys`.
        adds: Whether the hub has numbers of its own; the rest as of `hub`.

    Raises:
        ProtocolError, InputError, ValueError: As of `hub`.
        IdentityError: A key is not signed by its member.
    """
    names = tuple(sorted(members))
    rules = _rules(names, hub.peer, adds, least, context)
    tied = await ties.tie(hub, names, rng=rng, seal=seal, context=rules.whole)
    return Member(hub, rules, tied, rng, seal, names)


def _rules(members: tuple[str, ...], hub: str, adds: bool, least: int, context: Sequence[str]) -> Rules:
    if len(members) > lattice_sum.MEMBERS:
        raise InputError(
            f"a sum under a shared key serves {lattice_sum.MEMBERS} members, and the job has {len(members)}",
            cure="Add over a star, with or without drop-outs.",
        )
    least = least or len(members)
    if len(members) < (1 if adds else 2) or not len(members) < 2 * least <= 2 * len(members):
        raise ValueError(
            f"a sum that {least} of {len(members)} members open cannot be: more than a half of them, up to all, "
            "and two sites with numbers"
        )
    return Rules(members, hub, adds, least, tuple(context))


PROTOCOL = Protocol(
    name="sum-lattice",
    version=1,
    title="A sum through a hub that sees ciphertexts only, under a key that nobody holds",
    card=CARD,
    roles={"hub": hub, "member": member},
    messages=(
        *(Nonce, Nonces, Commitment, Commitments, PublicPart, KeyShare),
        *(Ask, Ciphertext, Turn, Aggregate, Partial, Phase, Total, ties.Sealed, ties.Box),
    ),
    uses=(pairwise_keys.PROTOCOL,),
)
