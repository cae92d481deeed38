"""A sum that two or three of the sites add up for all, of which none alone sees anything.

Site i                                                     Aggregators 1 … k
(1) draws seeds r_1 … r_{k−1}, sends r_a to aggregator a,
    and x_i − Σ_a PRG(r_a) to the last of them
                                                           (2) tell each other whose shares have come: U in all
                                                           (3) S_a = Σ_{i ∈ U} its shares; tell them to each other
                                                           (4) each tells its part of the sites Σ_a S_a = Σ_{i ∈ U} x_i

An aggregator has numbers of its own and shares them in the same way, and keeps one share.  Which aggregator is the
last, and so takes whole vectors, goes round with the sites.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from atoll.core.channel import Channel
from atoll.core.errors import InputError, ProtocolError
from atoll.core.message import U64, AtMost, Message
from atoll.core.offload import offload
from atoll.core.protocol import Card, Protocol
from atoll.crypto.random import Rng
from atoll.crypto.word_ring import Masks
from atoll.protocols.secure_sum.agreement import differ, elsewhere
from atoll.protocols.secure_sum.attendance import Attendance
from atoll.protocols.secure_sum.question import PIECE, Question, question_of
from atoll.protocols.secure_sum.star import LARGEST, covered
from atoll.protocols.secure_sum.ties import derived
from atoll.protocols.together import together

SEED = 16
"""Bytes of a share that is expanded."""

Words = NDArray[np.uint64]


class Share(Message, frozen=True):
    """(1) site → aggregator: what is added up, and its share: a seed, or one piece of a vector."""

    what: str
    bits: int
    n: int
    model: bytes
    bound: bytes
    seed: bytes
    words: U64


class Arrived(Message, frozen=True):
    """(2) aggregator → aggregator: whose shares have come."""

    names: list[str]


class ShareOfSum(Message, frozen=True):
    """(3) aggregator → aggregator: one piece of the sum of its shares."""

    words: U64


class Result(Message, frozen=True):
    """(4) aggregator → site: whose numbers are in the sum, and one piece of it."""

    names: list[str]
    words: U64


@dataclass
class Site:
    """A site whose numbers are added up by two or three of the sites.

    Attributes:
        site: This site's name.
        peers: Channels to the aggregators and, at an aggregator, to all.
        members: All sites that the job names, in alphabetical order.
        aggregators: Who adds, in alphabetical order.
        attendance: At an aggregator: which other sites are still there.
        least: Fewest sites in a sum.
        context: What the job is, bound into every share.
        rng: Secret randomness.
        sites: All sites whose numbers are in the last sum, or may be in the first.
        number: How many sums there were.
    """

    site: str
    peers: Mapping[str, Channel]
    members: tuple[str, ...]
    aggregators: tuple[str, ...]
    attendance: Attendance
    least: int
    context: Sequence[str]
    rng: Rng
    sites: tuple[str, ...]
    number: int = 0

    @property
    def dropped(self) -> Mapping[str, str]:
        """At an aggregator: which sites were left out, and why."""
        return self.attendance.dropped

    async def finish(self) -> None:
        """Do nothing: all sites know when it is over."""

    async def add(self, question: Question, x: Words) -> Words:
        """Return the sum of the vectors of all sites that are left; see `star.Member.add`."""
        self.number += 1
        bound = question.bound(self.context, self.members, self.number)
        seeds = {name: self.rng.bytes(SEED) for name in self.aggregators if name != self._last(self.site)}
        rest = await offload(covered, question.ring, x, _streams(list(seeds.values()), bound, negative=True))
        sending = [
            self._send(question, bound, name, seeds.get(name, b""), rest)
            for name in self.aggregators
            if name != self.site
        ]
        if self.site not in self.aggregators:
            await together(*sending)
            return await self._receive(question)
        mine = (seeds.get(self.site, b""), rest)
        *_, shares = await together(*sending, self._collect(question, bound))
        return await self._aggregate(question, bound, {**shares, self.site: mine})

    def _last(self, name: str) -> str:
        """Return the aggregator that takes a site's whole vector; an aggregator keeps that share of its own."""
        if name in self.aggregators:
            return name
        return self.aggregators[self.members.index(name) % len(self.aggregators)]

    async def _send(self, question: Question, bound: bytes, name: str, seed: bytes, rest: Words) -> None:
        about = (question.what, question.bits, question.n, question.model, bound)
        if seed:
            await self.peers[name].send(Share(*about, seed, rest[:0]))  # (1)
            return
        for piece in question.pieces:
            await self.peers[name].send(Share(*about, b"", rest[piece]))  # (1)

    async def _receive(self, question: Question) -> Words:
        total, names = np.empty(question.words, np.uint64), None
        peer = self.peers[self._last(self.site)]
        for piece in question.pieces:
            told = await peer.recv(Result, words=(AtMost(piece.stop - piece.start),))  # (4)
            if self.site not in told.names:
                raise ProtocolError(
                    f"this site's shares were too late for {question.what!r}, and the others went on without it",
                    cure="Give sites more time for a step, or start the job again.",
                )
            self._possible(peer.peer, told.names)
            if told.names != (names or told.names) or told.words.size != piece.stop - piece.start:
                raise ProtocolError(f"{peer.peer} told a sum that does not hang together")
            names, total[piece] = told.names, told.words
        self.sites = tuple(names or self.members)
        return total

    def _possible(self, peer: str, names: Sequence[str]) -> None:
        if list(names) != sorted(set(names)) or not set(names) <= set(self.sites) or len(names) < self.least:
            raise ProtocolError(f"{peer} names sites in a sum that cannot be")

    async def _collect(self, question: Question, bound: bytes) -> dict[str, tuple[bytes, Words]]:
        """Receive the share of every other site; each is a seed or a vector."""
        trouble: list[ProtocolError] = []

        async def share(name: str) -> tuple[bytes, Words]:
            last = self._last(name) == self.site
            words = np.empty(question.words if last else 0, np.uint64)
            for piece in question.pieces if last else [slice(0, 0)]:
                got = await self.peers[name].recv(Share, words=(AtMost(PIECE),))
                asked = question_of(name, got.what, got.bits, got.n, got.model, LARGEST)
                if asked != question:
                    trouble.append(differ(name, asked, self.site, question))
                elif got.bound != bound:
                    trouble.append(elsewhere(name, self.site))
                if trouble:
                    raise trouble[0]
                if len(got.seed) != (0 if last else SEED) or got.words.size != piece.stop - piece.start:
                    raise ProtocolError(f"{name} sent a share of another size")
                words[piece] = got.words
            return got.seed, words

        found = await self.attendance.collect(self.attendance.reachable, share, f"in sum {self.number}")
        if trouble:
            raise trouble[0]  # honest sites that run something else are not merely late
        return found

    async def _aggregate(self, question: Question, bound: bytes, shares: Mapping[str, tuple[bytes, Words]]) -> Words:
        others = {name: self.peers[name].sub("aggregators") for name in self.aggregators if name != self.site}
        arrived = Arrived(sorted(shares))
        told = await together(
            *(peer.send(arrived) for peer in others.values()), *(peer.recv(Arrived) for peer in others.values())
        )
        counted = set(shares)
        for name, message in zip(others, told[len(others) :], strict=True):
            self._possible(name, message.names)
            counted &= set(message.names)  # (2)
        if not set(self.aggregators) <= counted:
            raise ProtocolError("an aggregator's own shares are missing")
        names = sorted(counted)
        for name in set(self.attendance.reachable) - counted:
            self.attendance.drop(name, f"another aggregator lacks its share in sum {self.number}")
        total = await offload(_added, question, bound, [shares[name] for name in names])
        late = [name for name in self.sites if name not in counted]
        self.sites = tuple(names)
        if len(names) < self.least:
            self.attendance.enough(self.attendance.reachable, f"in sum {self.number}")
            raise ProtocolError(f"only {len(names)} sites are in the sum; {self.least} are needed")
        own = [total[piece].copy() for piece in question.pieces]
        await together(*(self._swap(question, peer, own, total) for peer in others.values()))  # (3)
        await self._tell(question, names, late, total)  # (4)
        return total

    async def _swap(self, question: Question, peer: Channel, own: Sequence[Words], total: Words) -> None:
        for piece, mine in zip(question.pieces, own, strict=True):
            _, got = await together(peer.send(ShareOfSum(mine)), peer.recv(ShareOfSum, words=(mine.size,)))
            question.ring.add(total[piece], got.words)

    async def _tell(self, question: Question, names: list[str], late: Sequence[str], total: Words) -> None:
        mine = [name for name in names if name not in self.aggregators and self._last(name) == self.site]
        for piece in question.pieces:
            await self.attendance.tell(mine, dict.fromkeys(mine, Result(names, total[piece])).__getitem__)
        for name in late:
            if self._last(name) == self.site:
                await self.attendance.farewell(name, Result(names, total[:0]))


def _added(question: Question, bound: bytes, shares: Sequence[tuple[bytes, Words]]) -> Words:
    """Add shares up: vectors as they are, seeds expanded."""
    total = np.zeros(question.words, np.uint64)
    for seed, words in shares:
        if not seed:
            question.ring.add(total, words)
    question.ring.mask(total, _streams([seed for seed, _ in shares if seed], bound))
    return total


def _streams(seeds: Sequence[bytes], bound: bytes, *, negative: bool = False) -> Masks:
    keys = [derived(seed, "share", bound) for seed in seeds]
    return Masks(keys, [negative] * len(keys))


async def site(
    peers: Mapping[str, Channel],
    sites: Sequence[str],
    aggregators: Sequence[str],
    *,
    rng: Rng,
    least: int = 0,
    patience: float = 60.0,
    context: Sequence[str] = (),
) -> Site:
    """Set up a site whose numbers are added up by two or three of the sites.

    Args:
        peers: Channels to the aggregators and, at an aggregator, to all; nobody else can read them.
        sites: All sites whose numbers are added, as the job says.
        aggregators: Two or three of them.
        rng: Secret randomness.
        least: Fewest sites in a sum; all of them without it.
        patience: Seconds that a site has for its shares, where sums go on without late ones.
        context: What the job is; what all sites must agree on.

    Raises:
        InputError: The aggregators are not two or three of the sites.
        ValueError: A sum over so few sites shows their numbers, or there are no links to the aggregators.
    """
    names, adding = tuple(sorted(set(sites))), tuple(sorted(set(aggregators)))
    least = least or len(names)
    if not 2 <= len(adding) <= 3 or len(adding) < len(aggregators) or not set(adding) <= set(names):
        raise InputError(
            f"aggregators must be two or three of the sites, got {', '.join(aggregators) or 'none'}",
            cure=f"Choose among {', '.join(names)}.",
        )
    me = next(iter(peers.values())).gate.site
    if not 2 <= least <= len(names) or not set(names if me in adding else adding) <= {me, *peers}:
        raise ValueError(
            f"a sum over {least} of {len(names)} sites with these links cannot be: two and more, up to all"
        )
    others = {name: peers[name] for name in names if name != me and name in peers}
    whole = ("aggregators", *adding, str(least), *context)
    return Site(
        me,
        others,
        names,
        adding,
        Attendance(others, least - 1, patience, least > len(others)),
        least,
        whole,
        rng,
        names,
    )


PROTOCOL = Protocol(
    name="sum-aggregators",
    version=1,
    title="A sum that two or three of the sites add up for all, none of which sees anything alone",
    card=Card(
        source="Additive sharing among few servers: Corrigan-Gibbs and Boneh, Prio, NSDI 2017, without its proofs; a "
        "share that is a seed: Boyle, Gilboa and Ishai, EUROCRYPT 2015, section 1.",
        security="Semi-honest, computational 128 bits: without one of the aggregators, any sites together learn the "
        "sum of the others' vectors and no more. All aggregators together see everything. Channels that nobody else "
        "can read, as links with mutual TLS are.",
        inputs="Each site a vector of n numbers of 16, 32 or 192 bits; n and what it is are the same at all. A sum "
        "that exceeds the width wraps around: callers leave room for all sites.",
        reveals={"site": ("The sum over all sites that are left, what it is, and n.", "Which sites are in it.")},
        cost="For each sum and site n · bits / 8 bytes to one aggregator and about 200 to the others, and n · bits / 8 "
        "back; between any two aggregators n · bits / 8 each way. No set-up.",
        fails="A site that is gone or late is left out from then on, where fewer than all are enough; shares of one "
        "that only some aggregators have are not counted. ProtocolError when too few are left, sites differ in job or "
        "in what they add, or a message has another size; an aggregator that fails ends it at all sites.",
        assurance="tested",
        notes=(
            "With two sites in all, each learns the other's numbers: the sum shows them.",
            "Choose aggregators that have no reason to pool what they see.",
            "A site can add what it likes, and an aggregator can change the sum; nobody notices.",
            "Sums of the same numbers over different sites show the difference: an aggregator can bring it about by "
            "saying that a site was late.",
        ),
    ),
    roles={"site": site},
    messages=(Share, Arrived, ShareOfSum, Result),
)
