"""A sum along a ring: each site passes parts to the next one; when a site dies the others close the ring without it.

Site i of s, in alphabetical order                         Site i + 1
once:
(1) a key k_ij with every other site                       takes it
for each sum:
(2) y_i = x_i + Σ_{j > i} PRG(k_ij) − Σ_{j < i} PRG(k_ij) + PRG(b_i), b_i a fresh seed
(3) s − 1 times: passes a part on                          adds its own to it
(4) s − 1 times: passes a part of Σ y_i on                 keeps it
(5) tells all others that it holds Σ y_i whole
(6) once all hold it, tells all others b_i                 Σ x_i = Σ y_i − Σ PRG(b_i)
when a site is missed:
(7) tells all others the seeds that it was told            if they have those of the missing, all do (6)
                                                           else: (2) again, with fresh seeds, without the missing
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from atoll.core.channel import Channel
from atoll.core.errors import AtollError, ConnectionLost, ProtocolError
from atoll.core.message import Message
from atoll.core.offload import offload
from atoll.core.protocol import Card, Protocol
from atoll.crypto.random import Rng
from atoll.crypto.word_ring import Masks
from atoll.protocols.secure_sum.direct_ties import PairKey, Part, part, receive, shares_of, tie_directly
from atoll.protocols.secure_sum.question import Question
from atoll.protocols.secure_sum.star import covered
from atoll.protocols.secure_sum.ties import Ties, derived
from atoll.protocols.together import together

SEED = 32
"""Bytes of a seed."""

ALARMS = 3
"""How many times a sum is tried again though nobody is missing."""

Words = NDArray[np.uint64]
R = TypeVar("R")


class Holds(Message, frozen=True):
    """(5) site → site: it has the whole masked sum."""


class Seed(Message, frozen=True):
    """(6) site → site: what its vector was masked with beside the pairwise masks."""

    seed: bytes


class Missed(Message, frozen=True):
    """(7) site → site: some site is missed; whether this one has told its seed, and names and seeds it was told."""

    open: bool
    seeds: list[tuple[str, bytes]]


class Bye(Message, frozen=True):
    """After the last sum, site → site: nothing will be asked any more."""


@dataclass
class Site:
    """A site of a ring.

    Attributes:
        peers: Channels to all other sites by name.
        ties: What this site shares with them.
        context: What the job is, bound into every mask.
        rng: Secret randomness.
        patience: Seconds that a site may be silent before the others go on without it.
        least: Fewest sites in a sum.
        alive: The sites that are left.
        sites: Whose numbers are in the last sum, or may be in the first.
        dropped: Which sites were left out, and when.
        number: How many sums there were.
    """

    peers: Mapping[str, Channel]
    ties: Ties
    context: Sequence[str]
    rng: Rng
    patience: float
    least: int
    alive: tuple[str, ...]
    sites: tuple[str, ...]
    dropped: dict[str, str] = field(default_factory=dict)
    number: int = 0

    def __post_init__(self) -> None:
        """Nothing was added yet."""
        self._last: Turn | None = None

    @property
    def site(self) -> str:
        """This site's name."""
        return self.ties.me

    async def add(self, question: Question, x: Words) -> Words:
        """Return the sum of the vectors of all sites that are left; see `star.Member.add`."""
        self.number += 1
        alarms = 0
        while alarms < ALARMS:
            turn, total = Turn(self, question, x, self.alive, alarms), None
            try:
                total = await turn.run(self._last)
            finally:
                if total is None:
                    turn.close()
            if total is not None:
                if self._last:
                    self._last.close()
                self._last, self.sites = turn, turn.sites
                turn.stand_by()
                return total
            alarms = alarms + 1 if turn.sites == self.alive else 0
        raise ProtocolError(
            f"sites were missed {ALARMS} times that were there, within {self.patience:g} s each",
            cure="Give sites more time for a step.",
        )

    async def finish(self) -> None:
        """Wait until no other site needs this one any more."""
        others = [name for name in self.alive if name != self.site]
        byes = [asyncio.ensure_future(self._bye(self.peers[name].sub("bye"))) for name in others]
        await asyncio.wait(byes, timeout=self.patience)
        for bye in byes:
            bye.cancel()
        if self._last:
            self._last.close()

    async def _bye(self, peer: Channel) -> None:
        try:
            await peer.send(Bye())
            await peer.recv(Bye)
        except AtollError:
            return  # it is gone already, and needs nothing

    def lost(self, names: Sequence[str]) -> None:
        """Go on without some sites.

        Raises:
            ProtocolError: Too few are left.
        """
        for name in names:
            self.dropped.setdefault(name, f"silent or gone (sum {self.number})")
        self.alive = tuple(name for name in self.alive if name not in names)
        if len(self.alive) < self.least:
            raise ProtocolError(
                f"only {len(self.alive)} of {len(self.ties.members)} sites are left; {self.least} are needed",
                cure=f"Ask {', '.join(sorted(self.dropped))} whether they still run, and start the job again.",
            )


class Turn:
    """One try at one sum, among the sites that are thought to be there.

    Args:
        ring: This site.
        question: What is added up.
        x: This site's vector.
        sites: Who takes part, in the order of the ring.
        alarms: How many tries among the same sites there were before.
    """

    def __init__(self, ring: Site, question: Question, x: Words, sites: tuple[str, ...], alarms: int) -> None:
        self.ring, self.question, self.x, self.sites = ring, question, x, sites
        self.bound = question.bound((*ring.context, f"try {alarms}"), sites, ring.number)
        self.seed, self.seeds, self.open = ring.rng.bytes(SEED), dict[str, bytes](), False
        self.whole: Words | None = None
        # Late messages of one try are never taken for those of another.
        stream = f"ring/{ring.number}/{len(sites)}/{alarms}"
        self.channels = {name: ring.peers[name].sub(stream) for name in sites if name != ring.site}
        # Read all the time, so that nothing that has arrived is overlooked when a site is missed.
        self.calls = {name: _listening(peer.sub("missed").recv(Missed)) for name, peer in self.channels.items()}
        self.told = {name: _listening(peer.sub("seed").recv(Seed)) for name, peer in self.channels.items()}
        self.answering = False
        self.waiting: asyncio.Task[None] | None = None

    async def run(self, before: Turn | None) -> Words | None:
        """Return the sum, or None if it must be tried again among `Site.alive`."""
        work, called = _listening(self._work()), asyncio.ensure_future(self._called())
        earlier = before.waiting if before and before.waiting and not before.waiting.done() else None
        waiting = {work, called} if earlier is None else {work, called, earlier}
        try:
            while True:
                done, _ = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
                if work in done and not isinstance(work.exception(), ConnectionLost | TimeoutError):
                    return work.result()
                if {work, called} & done or self.sites != self.ring.alive:
                    break
                waiting -= done  # somebody has missed a site in an earlier sum, which was there
        finally:
            work.cancel()
            called.cancel()
        return await self._again(before)

    def stand_by(self) -> None:
        """Answer those that miss a site in this sum, while the next one goes on."""
        self.waiting = _listening(self._answer())

    def close(self) -> None:
        """Answer nobody any more."""
        for task in (*self.calls.values(), *self.told.values(), *([self.waiting] if self.waiting else ())):
            task.cancel()

    async def _work(self) -> Words:
        ring, question = self.ring, self.question
        pairs = _among(ring.ties, self.sites, self.bound)
        own = Masks([derived(self.seed, "self", self.bound)], [False])
        y = await offload(covered, question.ring, self.x, pairs)
        await offload(question.ring.mask, y, own)  # (2)
        await self._around(y)
        self.whole = y
        await self._each(lambda name, peer: self._hold(peer), self.channels)  # (5)
        return await self._tell_seeds(self.channels)  # (6)

    async def _around(self, y: Words) -> None:
        """Turn y, this site's masked vector, into the sum of all."""
        s, at, question = len(self.sites), self.sites.index(self.ring.site), self.question
        places = shares_of(question.words, s)
        after, before = (self.channels.get(self.sites[(at + step) % s]) for step in (1, -1))
        if after is None or before is None:
            return
        for step in range(2 * (s - 1)):
            out, into = places[(at - step) % s], places[(at - step - 1) % s]
            receiving = receive(before, self.ring.site, question, self.bound, into.stop - into.start)
            async with asyncio.timeout(self.ring.patience):
                _, got = await together(after.send(part(question, self.bound, y[out].copy())), receiving)
            if step < s - 1:
                question.ring.add(y[into], got.words)  # (3)
            else:
                y[into] = got.words  # (4)

    async def _hold(self, peer: Channel) -> None:
        await peer.send(Holds())
        await peer.recv(Holds)

    async def _tell_seeds(self, channels: Mapping[str, Channel]) -> Words:
        """Tell this site's seed to others that have the whole sum, take theirs, and open the sum."""
        self.open = True

        async def exchange(name: str, peer: Channel) -> None:
            await _quietly(peer.sub("seed").send(Seed(self.seed)))
            self._learn(name, [(name, (await asyncio.shield(self.told[name])).seed)])

        await self._each(exchange, channels)
        return await offload(self._opened)

    async def _each(
        self, work: Callable[[str, Channel], Coroutine[Any, Any, None]], channels: Mapping[str, Channel]
    ) -> None:
        tasks = [_listening(work(name, peer)) for name, peer in channels.items()]
        try:
            async with asyncio.timeout(self.ring.patience):
                ends = await asyncio.gather(*tasks, return_exceptions=True)
        finally:
            for task in tasks:
                task.cancel()
        for end in ends:
            if isinstance(end, BaseException):
                raise end

    def _opened(self) -> Words:
        seeds = {**self.seeds, self.ring.site: self.seed}
        if self.whole is None or set(seeds) != set(self.sites):
            raise ProtocolError("a site told its seed before all held the sum")
        total = self.whole.copy()
        keys = [derived(seeds[name], "self", self.bound) for name in self.sites]
        self.question.ring.mask(total, Masks(keys, [True] * len(keys)))
        return total

    async def _called(self) -> None:
        """Return when a site says that it misses another."""
        pending = set(self.calls.values())
        while pending:
            done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
            if any(not call.cancelled() and not call.exception() for call in done):
                return
        await asyncio.Event().wait()

    async def _again(self, before: Turn | None) -> Words | None:
        """Find out who is missing, and whether the sum can be had all the same."""
        if self.sites != self.ring.alive:
            return None  # an earlier sum ended without a site that was counted on here
        sharing = _listening(self._share())
        earlier = before.waiting if before and before.waiting and not before.waiting.done() else None
        try:
            await asyncio.wait({sharing, earlier} if earlier else {sharing}, return_when=asyncio.FIRST_COMPLETED)
            if earlier and before and before.answering:
                await earlier
            if self.sites != self.ring.alive:
                return None  # the same, meanwhile
            missing, some_open = await sharing
        finally:
            sharing.cancel()
        self.ring.lost(missing)
        if some_open and set(missing) <= self.seeds.keys():
            return await self._closed({name: peer for name, peer in self.channels.items() if name not in missing})
        return None

    async def _closed(self, channels: Mapping[str, Channel]) -> Words:
        """Open the sum with those that are left, after a site has died that had told its seed."""
        try:
            return await self._tell_seeds(channels)
        except (ConnectionLost, TimeoutError):
            raise ProtocolError(
                "a further site was missed while the ring closed around another one", cure="Start the job again."
            ) from None

    async def _answer(self) -> None:
        await self._called()
        self.answering = True
        missing, _ = await self._share()
        self.ring.lost([name for name in missing if name in self.ring.alive])

    async def _share(self) -> tuple[list[str], bool]:
        """(7): tell what this site knows, learn what others know; return who is missing, and if a seed was told."""
        for name, seed in self.told.items():
            if seed.done() and not seed.cancelled() and not seed.exception():
                self._learn(name, [(name, seed.result().seed)])
        known = Missed(self.open, sorted(self.seeds.items()))
        await asyncio.gather(*(_quietly(peer.sub("missed").send(known)) for peer in self.channels.values()))
        if self.calls:
            await asyncio.wait(self.calls.values(), timeout=self.ring.patience)
        missing, some_open = [], self.open
        for name, call in self.calls.items():
            if call.done() and not call.cancelled() and not call.exception():
                some_open |= call.result().open
                self._learn(name, call.result().seeds)
            else:
                missing.append(name)
        return missing, some_open

    def _learn(self, name: str, told: Sequence[tuple[str, bytes]]) -> None:
        for site, seed in told:
            if site not in self.sites or len(seed) != SEED or self.seeds.get(site, seed) != seed:
                raise ProtocolError(f"{name} told a seed of {site[:80]!r} that cannot be")
            self.seeds[site] = seed


def _listening(work: Coroutine[Any, Any, R]) -> asyncio.Task[R]:
    task = asyncio.ensure_future(work)
    task.add_done_callback(lambda done: None if done.cancelled() else done.exception())  # nobody may ever ask
    return task


async def _quietly(work: Awaitable[None]) -> None:
    try:
        await work
    except ConnectionLost:
        return  # it is missing, which the answers show


def _among(ties: Ties, sites: tuple[str, ...], bound: bytes) -> Masks:
    """Return this site's masks with those that are left."""
    return Ties(ties.me, sites, {name: ties.keys[name] for name in sites if name != ties.me}, ties.common).masks(
        bound, "numbers"
    )


async def site(
    peers: Mapping[str, Channel],
    *,
    rng: Rng,
    least: int = 0,
    patience: float = 60.0,
    context: Sequence[str] = (),
) -> Site:
    """Set up a site of a ring.

    Args:
        peers: Channels to all other sites by name; each runs the same, and nobody else can read them.
        rng: Secret randomness.
        least: Fewest sites in a sum; more than a half without it.
        patience: Seconds that a site may be silent before the others go on without it.
        context: What the job is; what all sites must agree on.

    Raises:
        ProtocolError: As the card says.
        ValueError: There is no other site, or a sum over so few sites shows their numbers.
    """
    least = least or max(2, (len(peers) + 1) // 2 + 1)
    if not 2 <= least <= len(peers) + 1:
        raise ValueError(f"a sum over {least} of {len(peers) + 1} sites cannot be: two and more, up to all of them")
    tied = await tie_directly(peers, rng=rng)
    whole = ("ring", str(least), *context)
    return Site(peers, tied, whole, rng, patience, least, tied.members, tied.members)


PROTOCOL = Protocol(
    name="sum-ring",
    version=1,
    title="A sum along a ring of sites, which closes again when a site dies",
    card=Card(
        source="Masks from pairwise keys: Bonawitz et al., ACM CCS 2017 (eprint 2017/281); the ring: Patarasuk "
        "and Yuan, J. Parallel Distrib. Comput. 69, 2009. How it closes again is Atoll's.",
        security="Semi-honest sites that may stop for good, computational 128 bits: any sites together learn the sum "
        "of the others' vectors and no more. Channels between any two sites that nobody else can read, as links with "
        "mutual TLS are. Keys are bound to the sum, the model and the sites. Seeds are told only when all sites hold "
        "the masked sum. A site that is given up after that, lives on, and only then tells its seed, shows its numbers "
        "to those who still listen: they are in one sum and not in the next.",
        inputs="Each site a vector of n numbers of 16, 32 or 192 bits; n and what it is are the same at all. A sum "
        "that exceeds the width wraps around: callers leave room for all sites.",
        reveals={"site": ("The sum over the sites that are left, what it is, and n.", "Which sites dropped out.")},
        cost="Once 1 small message for each pair. For each sum 2 (s - 1) steps, 2 n · bits / 8 · (s - 1) / s bytes out "
        "of each site, and 2 small messages to each other one; for each site that dies as much again.",
        fails="A site that is gone or silent is left out from then on, and the record says when. ProtocolError when "
        "fewer than the least number are left, sites differ in job, members, or in what they add, or a message has "
        "another size; also when a further site dies while the ring closes.",
        assurance="tested",
        notes=(
            "With two sites in all, each learns the other's numbers: the sum shows them.",
            "A site can add what it likes, and change what it passes on, which has the same effect.",
            "2 (s - 1) steps one after the other: between far sites `sum-direct` takes two.",
        ),
    ),
    roles={"site": site},
    messages=(PairKey, Part, Holds, Seed, Missed, Bye),
)
