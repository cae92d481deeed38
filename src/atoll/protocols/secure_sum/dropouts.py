"""A sum over a star that goes on without sites that drop out, at whatever step; the hub sees their sum only.

Member u                                                   Hub
(1) c_u, s_u: fresh key pairs, signed                      passes on those of U0, the members that sent some
(2) b_u: a seed; shares of b_u and of s_u, one of each     passes on those of U1
    sealed for every neighbour
(3) y_u = x_u + PRG(b_u) + Σ_{v ∈ U1, v > u} PRG(s_uv)
               − Σ_{v ∈ U1, v < u} PRG(s_uv)               U2: the members whose y_u is whole
(4) signs U2                                               passes the signatures on
(5) share of b_v for v in U2, of s_v for v in U1 \\ U2      Σ_{U2} x_u = Σ_{U2} (y_u − PRG(b_u)) ∓ Σ PRG(s_vu), v ∉ U2
                                                           (6) tells it

All are neighbours up to 64 members; above, the graph is drawn from a hash of all keys.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from atoll.core.channel import Channel
from atoll.core.errors import ProtocolError
from atoll.core.message import AtMost
from atoll.core.offload import offload
from atoll.core.protocol import Protocol
from atoll.crypto import secret_shares, sum_tags
from atoll.crypto.random import Rng
from atoll.crypto.word_ring import Masks, WordRing
from atoll.protocols import pairwise_keys
from atoll.protocols.pairwise_keys import Seal
from atoll.protocols.secure_sum import round_keys, ties
from atoll.protocols.secure_sum.agreement import changed, ended
from atoll.protocols.secure_sum.attendance import Attendance
from atoll.protocols.secure_sum.dropout_card import CARD
from atoll.protocols.secure_sum.dropout_steps import (
    Agreement,
    Agreements,
    Keys,
    Members,
    Passed,
    Reveal,
    Rules,
    Shares,
    Survivors,
    purposes,
    revealed,
    signed,
    statement,
)
from atoll.protocols.secure_sum.opening import Opening, Summed
from atoll.protocols.secure_sum.question import PIECE, Question, question_of
from atoll.protocols.secure_sum.round_keys import BOX, KEY, Roster, RoundKeys
from atoll.protocols.secure_sum.star import LARGEST, Masked, Total, covered
from atoll.protocols.secure_sum.ties import Ties, derived
from atoll.protocols.secure_sum.totals import SitesLeft

T = TypeVar("T")
Words = NDArray[np.uint64]
Bytes = NDArray[np.uint8]

_WIDE = WordRing(192)


@dataclass
class Member:
    """A site that adds through a hub, and survives others that drop out.

    Attributes:
        hub: Channel to the hub.
        rules: What all sites agree on.
        rng: Secret randomness.
        seal: Signs and checks keys and survivors; None where the hub is trusted not to tell different things.
        ties: What all members share, for tags; None where sums are not checked.
        alive: The members of the last sum.
        number: How many sums there were.
    """

    hub: Channel
    rules: Rules
    rng: Rng
    seal: Seal | None
    ties: Ties | None
    alive: tuple[str, ...]
    number: int = 0

    @property
    def site(self) -> str:
        """This site's name."""
        return self.hub.gate.site

    @property
    def sites(self) -> tuple[str, ...]:
        """All sites whose numbers are in the last sum, or may be in the first."""
        return self.rules.sites(self.alive)

    async def finish(self) -> None:
        """Let a hub without numbers of its own go."""
        if not self.rules.adds:
            await self.hub.send(Keys(b"", b"", b""))

    async def add(self, question: Question, x: Words) -> Words:
        """Return the sum of the vectors of all sites that are left; see `star.Member.add`.

        Raises:
            SitesLeft: Some have left, and the sums are to be steady.
            ProtocolError: As the card says.
        """
        self.number += 1
        keys = RoundKeys(self.site, self.rng)
        roster = await self._roster(keys)  # (1)
        near, t = self.rules.near(self.site, roster), self.rules.shape(len(roster.names)).t
        held = await self._exchange(keys, roster, near, t)  # (2)
        await self._send(question, x, keys, roster, sorted(held.keys() - {self.site}))  # (3)
        survivors = await self._survivors(roster, near, held, t)  # (4)
        await self.hub.send(Reveal(revealed(held, survivors)))  # (5)
        self.alive = survivors
        return await self._total(question, roster)  # (6)

    async def _roster(self, keys: RoundKeys) -> Roster:
        bound, public = self.rules.bound(self.number), keys.public
        await self.hub.send(Keys(*public, self.seal.sign(signed(bound, self.site, *public)) if self.seal else b""))
        lines = (await self.hub.recv(Members)).lines
        roster = Roster.of(lines, bound)
        if self.site not in roster.lines or roster.lines[self.site][1:3] != public:
            raise ProtocolError(f"{self.hub.peer} changed this site's keys, or left them out")
        if not set(roster.names) <= set(self.alive):
            raise ProtocolError(f"{self.hub.peer} passed on keys of sites that do not take part")
        for name, box, mask, signature in lines:
            if self.seal and name != self.site:
                self.seal.verify(name, signed(bound, name, box, mask), signature)
        self._enough(roster.names, "before keys were exchanged")
        return roster

    async def _exchange(self, keys: RoundKeys, roster: Roster, near: Sequence[str], t: int) -> dict[str, Bytes]:
        """Send shares to all neighbours; return theirs by name, (64,), and the own one."""
        both = np.concatenate([keys.seed, keys.secret])
        holders = self.rules.holders(self.site, roster)
        shares = await offload(secret_shares.share, both, t, len(holders), self.rng)
        mine = dict(zip(holders, shares, strict=True))
        boxes = [keys.seal(mine[name], name, roster) for name in near]
        await self.hub.send(Shares(np.stack(boxes) if boxes else np.empty((0, BOX), np.uint8)))
        passed = await self.hub.recv(Passed, boxes=(AtMost(len(near)), BOX))
        senders = passed.senders
        if senders != sorted(set(senders)) or not set(senders) <= set(near) or len(senders) != len(passed.boxes):
            raise ProtocolError(
                f"{self.hub.peer} passed on shares of sites that are not this one's neighbours, or twice"
            )
        if len(senders) + 1 < t:
            raise ProtocolError(f"{self.hub.peer} passed on {len(senders)} shares where {t - 1} are needed")
        held = {name: keys.open(box, name, roster) for name, box in zip(senders, passed.boxes, strict=True)}
        return held | {self.site: mine[self.site]}

    async def _send(self, question: Question, x: Words, keys: RoundKeys, roster: Roster, others: Sequence[str]) -> None:
        bound = question.bound(self.rules.whole, self.rules.members, self.number)
        about = (question.what, question.bits, question.n, question.model, bound)
        pairs, tag_pairs = round_keys.pair_masks(keys.secret, self.site, others, roster, purposes(bound))
        own, tag_own = (round_keys.own_masks([keys.seed], roster, purpose) for purpose in purposes(bound))
        tags = np.empty(0, np.uint64)
        for number, piece in enumerate(question.pieces, 1):
            if self.ties and number == len(question.pieces):
                found = await offload(sum_tags.evaluate, x, question.bits, question.n, self._alpha(roster))
                tags = covered(_WIDE, covered(_WIDE, sum_tags.hidden(found, self.rng), tag_pairs), tag_own)
            y = await offload(_twice_covered, question.ring, x[piece], pairs, own)
            await self.hub.send(Masked(*about, y, tags))

    def _alpha(self, roster: Roster) -> bytes:
        return derived(self.ties.common, "alpha", roster.bound) if self.ties else b""

    async def _survivors(
        self, roster: Roster, near: Sequence[str], held: Mapping[str, Bytes], t: int
    ) -> tuple[str, ...]:
        names = (await self.hub.recv(Survivors)).names
        if names != sorted(set(names)) or not set(names) <= set(roster.names) or self.site not in names:
            raise ProtocolError(f"{self.hub.peer} told survivors that are not members of this round, or not this site")
        if set(names) & set(near) - held.keys():
            raise ProtocolError(f"{self.hub.peer} told a survivor whose shares it did not pass on")
        self._enough(names, "before the sum")
        if self.rules.steady and tuple(names) != self.alive:
            self.alive = tuple(names)
            raise SitesLeft  # before anything is revealed that would open the sum
        agreed = statement(roster, names)
        await self.hub.send(Agreement(self.seal.sign(agreed) if self.seal else b""))
        lines = (await self.hub.recv(Agreements)).lines
        agreeing = [name for name, _ in lines]
        if agreeing != sorted(set(agreeing)) or not set(agreeing) <= set(near) & set(names) or len(lines) + 1 < t:
            raise ProtocolError(f"{self.hub.peer} showed {len(lines)} neighbours that agree where {t - 1} are needed")
        for name, signature in lines:
            if self.seal and len(signature) <= round_keys.SIGNATURE_LIMIT:
                self.seal.verify(name, agreed, signature)
            elif self.seal:
                raise ProtocolError(f"{name} sent a signature of {len(signature)} bytes")
        return tuple(names)

    async def _total(self, question: Question, roster: Roster) -> Words:
        total = np.empty(question.words, np.uint64)
        for number, piece in enumerate(question.pieces, 1):
            size = sum_tags.WORDS if self.ties and number == len(question.pieces) else 0
            part = await self.hub.recv(Total, words=(piece.stop - piece.start,), tags=(size,))
            total[piece] = part.words
        if self.ties:
            found = await offload(sum_tags.evaluate, total, question.bits, question.n, self._alpha(roster))
            if found != sum_tags.opened(part.tags):
                raise changed(self.hub.peer, question.what)
        return total

    def _enough(self, names: Sequence[str], when: str) -> None:
        if len(names) < self.rules.least:
            raise ProtocolError(
                f"only {len(names)} of {len(self.rules.members)} members were left {when}, not {self.rules.least}",
                cure="Ask the missing sites whether they still run, and start the job again.",
            )


@dataclass
class Hub:
    """The site through which members add; sites that fail or are late are left out from then on.

    Attributes:
        peers: Channels to the members by name.
        rules: What all sites agree on.
        attendance: Which members are still there.
        alive: The members of the last sum.
        number: How many sums there were.
    """

    peers: Mapping[str, Channel]
    rules: Rules
    attendance: Attendance
    alive: tuple[str, ...]
    number: int = 0

    @property
    def dropped(self) -> Mapping[str, str]:
        """Which members were left out, and why."""
        return self.attendance.dropped

    @property
    def site(self) -> str:
        """This site's name."""
        return self.rules.hub

    @property
    def sites(self) -> tuple[str, ...]:
        """All sites whose numbers are in the last sum, or may be in the first."""
        return self.rules.sites(self.alive)

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
        asked = True
        while asked:
            with suppress(SitesLeft):  # the members know what to begin again
                asked = await self._round(None, None, record) is not None

    async def _round(
        self,
        own: Question | None,
        x: Words | None,
        record: Callable[[Question, tuple[str, ...]], None] = lambda question, sites: None,
    ) -> Words | None:
        self.number += 1
        offers = await self._collect(self.attendance.reachable, self._keys, "before keys")
        if not any(offer.box for offer in offers.values()):
            return None
        lines = [(name, offer.box, offer.mask, offer.signature) for name, offer in sorted(offers.items())]
        roster = Roster.of(lines, self.rules.bound(self.number))
        await self.attendance.tell(roster.names, lambda name: Members(lines))  # (1)
        taking_part = await self._pass_shares(roster)  # (2)
        summed = Summed(self.rules, self.number, own, x)
        vectors = await self._collect(taking_part, lambda name: self._vector(name, summed), "before its vector")  # (3)
        if summed.trouble or summed.question is None:
            raise summed.trouble or ProtocolError("no vector arrived")
        survivors, before = tuple(sorted(vectors)), self.alive
        self.alive = survivors
        await self.attendance.tell(survivors, lambda name: Survivors(list(survivors)))  # (4)
        if self.rules.steady and survivors != before:
            raise SitesLeft
        shares = await self._agree_and_reveal(roster, taking_part, survivors)  # (4) (5)
        opening = Opening(self.rules, roster, frozenset(taking_part), survivors, shares)
        await offload(opening.apply, summed)
        await self._tell_total(summed)  # (6)
        record(summed.question, self.sites)
        return summed.total

    async def _collect(self, names: Sequence[str], ask: Callable[[str], Awaitable[T]], when: str) -> dict[str, T]:
        return await self.attendance.collect(names, ask, f"{when} (sum {self.number})")

    async def _keys(self, name: str) -> Keys:
        keys = await self.peers[name].recv(Keys)
        sizes = {len(keys.box), len(keys.mask)}
        if sizes not in ({KEY}, {0}) or len(keys.signature) > round_keys.SIGNATURE_LIMIT:
            raise ProtocolError(f"{name} sent keys or a signature of another size")
        return keys

    async def _pass_shares(self, roster: Roster) -> tuple[str, ...]:
        near = {name: self.rules.near(name, roster) for name in roster.names}
        sent = await self._collect(
            roster.names, lambda name: self.peers[name].recv(Shares, boxes=(len(near[name]), BOX)), "before its shares"
        )

        def passed(name: str) -> Passed:
            senders = [other for other in near[name] if other in sent]
            boxes = [sent[other].boxes[near[other].index(name)] for other in senders]
            return Passed(senders, np.stack(boxes) if boxes else np.empty((0, BOX), np.uint8))

        await self.attendance.tell(tuple(sorted(sent)), passed)
        return tuple(sorted(sent))

    async def _vector(self, name: str, summed: Summed) -> None:
        """Receive one member's vector, and add it once it is whole."""
        peer, pieces, question = self.peers[name], list[Masked](), summed.question
        while question is None or len(pieces) < len(question.pieces):
            piece = await peer.recv(Masked, words=(AtMost(PIECE),), tags=(AtMost(sum_tags.WORDS),))
            question = question_of(name, piece.what, piece.bits, piece.n, piece.model, LARGEST)
            pieces.append(piece)
            if not summed.fits(name, question, piece):
                return
        summed.take(name, question, pieces)

    async def _agree_and_reveal(
        self, roster: Roster, taking_part: Sequence[str], survivors: Sequence[str]
    ) -> dict[str, Bytes]:
        """Let the survivors agree who they are; return what each reveals, a row for each whose shares it holds."""
        agreeing = await self._collect(survivors, lambda name: self.peers[name].recv(Agreement), "before it agreed")

        def agreements(name: str) -> Agreements:
            near = [other for other in self.rules.near(name, roster) if other in agreeing]
            return Agreements([(other, agreeing[other].signature) for other in near])

        await self.attendance.tell(tuple(agreeing), agreements)
        holds = {name: len(set(self.rules.holders(name, roster)) & set(taking_part)) for name in agreeing}
        told = await self._collect(
            tuple(agreeing),
            lambda name: self.peers[name].recv(Reveal, shares=(holds[name], KEY)),  # (5)
            "before its shares were opened",
        )
        return {name: reveal.shares for name, reveal in told.items()}

    async def _tell_total(self, summed: Summed) -> None:
        question, members = summed.question, self.attendance.reachable
        for number, piece in enumerate(question.pieces if question else (), 1):
            last = question is not None and number == len(question.pieces)
            message = Total(summed.total[piece], summed.tags if last else summed.tags[:0])
            await self.attendance.tell(members, dict.fromkeys(members, message).__getitem__)


def _twice_covered(ring: WordRing, x: Words, pairs: Masks, own: Masks) -> Words:
    y = covered(ring, x, pairs)
    ring.mask(y, own)
    return y


async def hub(
    peers: Mapping[str, Channel],
    *,
    adds: bool = True,
    checked: bool = False,
    malicious: bool = False,
    least: int = 0,
    steady: bool = False,
    patience: float = 60.0,
    context: Sequence[str] = (),
) -> Hub:
    """Set up the hub of a star that survives drop-outs.

    Args:
        peers: Channels to the members by name; each runs `member` with the same options.
        adds: Whether this site has numbers of its own; if not it runs `Hub.serve`.
        checked: Whether members notice a sum that is not their own; for a hub without numbers.
        malicious: Whether thresholds hold against a hub that tells members different things: above two thirds instead
            of a half of the members must stay.
        least: Fewest members in a sum; more than a half of them without it.
        steady: Whether a sum over fewer members than the one before is not opened: all sites raise `SitesLeft`, and
            can begin again what holds sums over more.
        patience: Seconds that a member has for each step of a sum.
        context: What the job is; what all sites must agree on.

    Raises:
        ProtocolError: As the card says.
        ValueError: These options cannot be.
    """
    me, names = next(iter(peers.values())).gate.site, tuple(sorted(peers))
    rules = _rules(names, me, adds, checked, malicious, least, context, steady)
    if checked:
        await ties.relay(peers)
    return Hub(peers, rules, Attendance(peers, rules.least, patience), names)


async def member(
    hub: Channel,
    members: Sequence[str],
    *,
    rng: Rng,
    seal: Seal | None = None,
    adds: bool = True,
    checked: bool = False,
    malicious: bool = False,
    least: int = 0,
    steady: bool = False,
    context: Sequence[str] = (),
) -> Member:
    """Set up a member of a star that survives drop-outs.

    Args:
        hub: Channel to the hub.
        members: Names of all sites but the hub, this one among them, as the job says.
        rng: Secret randomness.
        seal: How keys and survivors are signed and checked; see `pairwise_keys`.
        adds: Whether the hub has numbers of its own; the rest as of `hub`.

    Raises:
        ProtocolError, ValueError: As of `hub`.
        IdentityError: A key is not signed by its member.
    """
    names = tuple(sorted(members))
    rules = _rules(names, hub.peer, adds, checked, malicious, least, context, steady)
    tied = await ties.tie(hub, names, rng=rng, seal=seal, context=rules.whole) if checked else None
    return Member(hub, rules, rng, seal, tied, names)


def _rules(
    members: tuple[str, ...],
    hub: str,
    adds: bool,
    checked: bool,
    malicious: bool,
    least: int,
    context: Sequence[str],
    steady: bool = False,
) -> Rules:
    least = least or max(2, len(members) // 2 + 1)
    if not 2 <= least <= len(members):
        raise ValueError(f"a sum over {least} of {len(members)} members cannot be: two and more, up to all of them")
    if adds and checked:
        raise ValueError("a hub that adds numbers of its own can change the sum by changing them: tags show nothing")
    return Rules(members, hub, adds, checked, malicious, least, steady, tuple(context))


PROTOCOL = Protocol(
    name="sum-dropouts",
    version=1,
    title="A sum over a star that goes on without sites that drop out; the hub sees the sum only",
    card=CARD,
    roles={"hub": hub, "member": member},
    messages=(
        *(Keys, Members, Shares, Passed, Masked, Survivors, Agreement, Agreements, Reveal, Total),
        *(ties.Sealed, ties.Box),
    ),
    uses=(pairwise_keys.PROTOCOL,),
)
