"""Values at given ranks, by group, among the rows that two sites have in common and neither sees; the asker gets them.

Owner of values, ids X, values                             Other site, ids Y
(1) the asker tells the number of groups
(2) `circuit-intersection`: shares of the bit whether a bin holds a common id; if the other site makes the groups,
    `masked-values` turns the bit and the payload into one bit for each group
for every column of values
(3) `hidden-permutation`: the bits in the order of the owner's values, a group after the other, in blocks of 64
(4) `masked-values`: bits to numbers; both add up: for every block the number of rows, and a word with their places
(5) `masked-values`: for each group the numbers of those blocks that the owner has given to it
for every group and rank, all at once, from 64^d blocks at a time down to one row
(6) `garbled-circuit`: shares of whether the rows up to the end of each part reach the rank; the first that does is it
(7) `masked-values`: the numbers, words and values of that part, as shares, and the rank inside it
(8) `garbled-circuit`: opens the value to the asker where the group has enough rows with a value, and nothing elsewhere
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from atoll.core.channel import Channel
from atoll.core.errors import InputError, ProtocolError
from atoll.core.message import Message
from atoll.core.offload import offload
from atoll.core.protocol import Card, Protocol
from atoll.crypto import circuit_words
from atoll.crypto.boolean_circuit import Builder, Circuit
from atoll.crypto.random import Rng
from atoll.protocols import (
    circuit_intersection,
    garbled_circuit,
    garbled_logic,
    hidden_permutation,
    hidden_rows,
    masked_values,
    value_blocks,
)
from atoll.protocols.garbled_logic import Party
from atoll.protocols.hidden_totals import MOST_GROUPS, Joined, hidden_ids
from atoll.protocols.oblivious_transfer import OtReceiver, OtSender
from atoll.protocols.value_blocks import BLOCK

AT_ONCE = 1 << 23
"""Words that are picked from together; memory grows with it, and not with the number of groups."""

_BITS_AT_ONCE = 1 << 21

I64 = NDArray[np.int64]
Bits = NDArray[np.uint8]
Words = NDArray[np.uint64]


class Outline(Message, frozen=True):
    """(1) asker → partner: the number of groups."""

    groups: int


@dataclass(frozen=True)
class Side:
    """What a site brings: n rows.

    Attributes:
        ids: n canonical ids without duplicates.
        keep: (n,) bool, rows that may count; the others take part as ids that nobody has.
        group: (n,) int64, the group of each row, at the grouping site; ignored at the other.
        values: (n, e) float64 at the owner of values, NaN where a value is missing; ignored at the other.
        groups: at the grouping site the number of groups.
    """

    ids: Sequence[bytes]
    keep: NDArray[np.bool_]
    group: I64
    values: NDArray[np.float64]
    groups: int = 1


@dataclass(frozen=True)
class Question:
    """What both sites agree on.

    Attributes:
        values_at: `asker` or `partner`, who has the values.
        groups_at: `asker` or `partner`, who makes the groups; the asker where there are none.
        ranks: for each column of values the number of ranks.
        minimum: fewest common rows of a group with a value.
    """

    values_at: str
    groups_at: str
    ranks: tuple[int, ...]
    minimum: int


@dataclass(frozen=True)
class Opened:
    """What the asker gets for one column of values.

    Attributes:
        values: (k, r) float64, as the owner has them, bit by bit; zero where not shown.
        shown: (k, r) bool.
    """

    values: NDArray[np.float64]
    shown: NDArray[np.bool_]


async def asker(
    peer: Channel,
    side: Side,
    question: Question,
    ranks: Sequence[I64],
    *,
    rng: Rng,
    context: Sequence[str] = (),
    joined: Joined | None = None,
) -> list[Opened]:
    """Learn the values.

    Args:
        peer: Channel to the partner.
        side: What this site brings.
        question: What both agree on.
        ranks: For each column (k, r) int64: for each of k groups the ranks, 1 for the smallest, among the group's
            common rows that have a value; a rank that nothing has gives zero. What stands at groups that are too small
            does not matter.
        rng: Secret randomness.
        context: Job and columns.
        joined: A join of the same rows that `hidden-totals` has made; the owner of values was the receiver, and makes
            the groups if there are any. Otherwise the join is made here.

    Returns:
        The values, column by column.

    Raises:
        InputError: An id stands twice, there are too many, or ranks have another shape.
        ProtocolError: As the card says.
    """
    groups = len(ranks[0]) if ranks else 0
    if [column.shape for column in ranks] != [(groups, count) for count in question.ranks]:
        raise InputError("ranks are not one row for each group", cure="Give (groups, ranks) for each column.")
    await peer.send(Outline(groups))  # (1)
    work = await _Work.begin(peer, question, "asker", groups, rng, joined)
    strings = await work.members(side, joined, context)  # (2)
    found = []
    for column, wanted in enumerate(ranks):
        shares = await work.looked_up(side, column, strings, wanted.astype(np.uint64).reshape(-1))  # (3) to (7)
        words = await work.party.run(_opening(question.minimum), shares, "evaluator")  # (8)
        if words is None:
            raise ProtocolError("the values went elsewhere")
        shape = (groups, question.ranks[column])
        shown = words[:, 1].astype(np.bool_).reshape(shape)
        found.append(Opened(np.ascontiguousarray(words[:, 0]).view(np.float64).reshape(shape), shown))
    return found


async def partner(
    peer: Channel,
    side: Side,
    question: Question,
    *,
    rng: Rng,
    context: Sequence[str] = (),
    joined: Joined | None = None,
) -> None:
    """Let the asker learn the values; arguments and errors as `asker`."""
    groups = (await peer.recv(Outline)).groups  # (1)
    known = max(side.groups, 1) if question.groups_at == "partner" else groups
    if not 1 <= groups <= MOST_GROUPS or groups != known:
        raise ProtocolError(f"{peer.peer} asks for {groups:,} groups; they are {known:,}, at most {MOST_GROUPS}")
    work = await _Work.begin(peer, question, "partner", groups, rng, joined)
    strings = await work.members(side, joined, context)  # (2)
    for column, count in enumerate(question.ranks):
        nothing = np.zeros(groups * count, np.uint64)
        shares = await work.looked_up(side, column, strings, nothing)  # (3) to (7)
        await work.party.run(_opening(question.minimum), shares, "evaluator")  # (8)


@dataclass(frozen=True)
class _Work:
    """One site's tools, and what both know.

    Attributes:
        peer: channel to the other site.
        owns: whether this site has the values.
        groups: how many.
        split: whether the site without the values makes the groups, so that bins have a bit for each.
        tools: transfers in both directions.
        party: this site's end of garbled circuits.
        rng: secret randomness.
    """

    peer: Channel
    owns: bool
    groups: int
    split: bool
    tools: hidden_rows.ReceiverTools | hidden_rows.SenderTools
    party: Party
    rng: Rng

    @classmethod
    async def begin(
        cls, peer: Channel, question: Question, here: str, groups: int, rng: Rng, joined: Joined | None
    ) -> _Work:
        owns, split = question.values_at == here, groups > 1 and question.groups_at != question.values_at
        tools: hidden_rows.ReceiverTools | hidden_rows.SenderTools
        if joined is not None:
            tools = joined.tools
            if split or isinstance(tools, hidden_rows.ReceiverTools) != owns:
                raise ValueError("the join was made for values or groups of the other site")
        elif owns:
            tools = await hidden_rows.receiver_tools(peer, rng=rng.spawn())
        else:
            tools = await hidden_rows.sender_tools(peer, rng=rng.spawn())
        party: Party = (
            await garbled_circuit.start_evaluator(peer, rng=rng.spawn())
            if here == "asker"
            else await garbled_circuit.start_garbler(peer, rng=rng.spawn())
        )
        return cls(peer, owns, groups, split, tools, party, rng)

    @property
    def sending(self) -> OtSender:
        return self.tools.sending

    @property
    def receiving(self) -> OtReceiver:
        return self.tools.receiving

    async def members(self, side: Side, joined: Joined | None, context: Sequence[str]) -> _Strings:
        """Share for every bin whether it holds a common id, or in which group that is: bits packed in octets (2)."""
        if joined is not None:
            return _Strings(joined.rows.bits[:, np.newaxis], joined.rows.own)
        ids = hidden_ids(side.ids, side.keep, self.rng)
        terms, words = (*context, "hidden-quantiles"), -(-self.groups // 64) if self.split else 0
        held: circuit_intersection.Shares
        if isinstance(self.tools, hidden_rows.ReceiverTools):
            held = await circuit_intersection.receiver(
                self.peer, ids, words=words, rng=self.rng, stock=self.tools.tables, context=terms
            )
        else:
            held = await circuit_intersection.sender(
                self.peer,
                ids,
                value_blocks.one_hot(side.group, words),
                rng=self.rng,
                exclusive=True,
                stock=self.tools.tables,
                context=terms,
            )
        rows = held.rows if isinstance(held, circuit_intersection.Binned) else None
        if not self.split:
            return _Strings(held.bits[:, np.newaxis], rows)
        both = await self._both_ways(held.bits, held.payload, words, exclusive=True)
        octets = np.bitwise_xor(*both).view(np.uint8).reshape(len(held.bits), -1)
        return _Strings(np.ascontiguousarray(octets[:, : -(-self.groups // 8)]), rows)

    async def looked_up(self, side: Side, column: int, strings: _Strings, ranks: Words) -> Words:
        """Share for every group and rank the rows of the group that have a value, and the value, (k·r, 2)."""
        parts = self.groups if not self.split else 1
        blocks = -(-(len(strings.octets) + (BLOCK - 1) * parts) // BLOCK)
        padded = np.zeros((BLOCK * blocks, strings.octets.shape[1]), np.uint8)
        padded[: len(strings.octets)] = strings.octets
        of_block, values = np.full(blocks, -1), np.empty((0, blocks, BLOCK), np.uint64)
        if strings.rows is not None:
            segment = np.zeros_like(side.group) if self.split or self.groups == 1 else side.group
            order, of_block, values = await offload(
                value_blocks.laid_out, strings.rows, side.keep, segment, side.values[:, column], parts, blocks
            )
            ot, rng = self.receiving, self.rng.spawn()
            octets = await hidden_permutation.orderer(self.peer, order, padded, ot=ot, rng=rng)  # (3)
        else:
            octets = await hidden_permutation.holder(self.peer, padded, ot=self.sending, rng=self.rng.spawn())  # (3)
        bits = np.unpackbits(octets, axis=1, count=self.groups if self.split else 1, bitorder="little")
        numbers, places = await self._added(np.ascontiguousarray(bits.T), blocks)  # (4)
        numbers = await self._of_groups(numbers, of_block)  # (5)
        each = len(ranks) // self.groups
        rows = np.repeat(numbers.sum(axis=1), each)
        words = np.repeat(places, each if self.split else len(ranks), axis=0)
        found = await self._search(np.repeat(numbers, each, axis=0), words, values, ranks)
        return np.stack((rows, found), axis=1)

    async def _added(self, bits: Bits, blocks: int) -> tuple[Words, Words]:
        """Turn bits, (c, rows), into the number of each block's rows and the word of their places, (c, blocks) (4)."""
        numbers, places = np.empty((2, len(bits), blocks), np.uint64)
        power = np.uint64(1) << np.arange(BLOCK, dtype=np.uint64)
        step = max(1, _BITS_AT_ONCE // bits.shape[1])
        for lo in range(0, len(bits), step):
            one = await self._as_numbers(bits[lo : lo + step].reshape(-1))
            rows = one.reshape(-1, blocks, BLOCK)
            numbers[lo : lo + step] = rows.sum(axis=2)
            places[lo : lo + step] = rows @ power
        return numbers, places

    async def _as_numbers(self, bits: Bits) -> Words:
        """Turn hidden bits into shares modulo 2^64."""
        if self.owns:
            ones = np.ones((len(bits), 1), np.uint64)
            return (await masked_values.holder(self.peer, bits, ones, ot=self.sending, rng=self.rng))[:, 0]
        return (await masked_values.partner(self.peer, bits, 1, ot=self.receiving, rng=self.rng))[:, 0]

    async def _of_groups(self, numbers: Words, of_block: I64) -> Words:
        """Share for each group the numbers of its blocks, and zeros for all others, (k, blocks) (5)."""
        tall = np.broadcast_to(numbers, (self.groups, numbers.shape[1]))
        if not self.owns:
            nothing, values = np.zeros(tall.size, np.uint8), np.ascontiguousarray(tall).reshape(-1, 1)
            routed = await masked_values.holder(self.peer, nothing, values, ot=self.sending, rng=self.rng)
            return np.asarray(routed.reshape(tall.shape), np.uint64)
        group = np.zeros((self.groups, 1), np.int64) if self.split else np.arange(self.groups)[:, np.newaxis]
        inside = of_block == group
        bits = inside.astype(np.uint8).reshape(-1)
        routed = await masked_values.partner(self.peer, bits, 1, ot=self.receiving, rng=self.rng)
        return np.asarray(routed.reshape(tall.shape) + inside * tall, np.uint64)

    async def _search(self, numbers: Words, places: Words, values: Words, ranks: Words) -> Words:
        """Share the value at each rank.

        Args:
            numbers: (T, blocks), rows of each block, for each of T ranks.
            places: (T, blocks), their places.
            values: (1, blocks, 64) at the owner of values, (0, blocks, 64) elsewhere.
            ranks: (T,) shares of the ranks.

        Returns:
            (T,) shares of the values' bits.
        """
        width, alike = (BLOCK * numbers.shape[1]).bit_length() + 1, not self.owns
        while numbers.shape[1] > 1:
            numbers, places, values = (value_blocks.padded(array) for array in (numbers, places, values))
            inside = value_blocks.part_size(numbers.shape[1])
            cut = numbers.shape[1] // inside
            table = [array.reshape(len(array), cut, size) for array, size in (
                (numbers, inside), (places, inside), (values, inside * BLOCK)
            )]  # fmt: skip
            chosen, before = await self._first_reached(table[0].sum(axis=2), ranks, width)  # (6)
            known = 1 + 2 * inside
            picked = await self._pick(chosen, [before[:, :, np.newaxis], *table], known, BLOCK * inside, alike)  # (7)
            ranks = ranks - picked[:, 0]
            numbers, places = picked[:, 1 : 1 + inside], picked[:, 1 + inside : known]
            values = picked[:, known:].reshape(-1, inside, BLOCK)
            alike = True
        bits = await self.party.run(_sum(), np.ascontiguousarray(places), "shares")  # (6)
        if bits is None:
            raise ProtocolError("the shares went elsewhere")
        octets = np.ascontiguousarray(bits).view(np.uint8)
        rows = await self._as_numbers(np.unpackbits(octets, axis=1, bitorder="little").reshape(-1))
        chosen, _ = await self._first_reached(rows.reshape(-1, BLOCK), ranks, width)  # (6)
        table = [values.reshape(len(values), BLOCK, 1)]
        return (await self._pick(chosen, table, 0, 1, alike))[:, 0]  # (7)

    async def _first_reached(self, numbers: Words, ranks: Words, width: int) -> tuple[Bits, Words]:
        """Share which part is the first up to whose end there are as many rows as the rank says (6).

        Args:
            numbers: (T, c) shares, rows of each part.
            ranks: (T,) shares.
            width: Bits of the difference of a number and a rank, with its sign.

        Returns:
            (T, c) bits, one of which is 1, or none where the rank is below 1 or there are not so many rows: what is
            picked then is zero, and never a row that is not common; and shares of the rows before each part.
        """
        upto = np.zeros((len(numbers), numbers.shape[1] + 1), np.uint64)
        np.cumsum(numbers, axis=1, out=upto[:, 1:])
        ahead = (upto - ranks[:, np.newaxis]).reshape(-1)
        reached = await garbled_logic.at_least(self.party, ahead, 0, to="shares", width=width)
        if reached is None:
            raise ProtocolError("the shares went elsewhere")
        steps = reached.reshape(upto.shape)
        return steps[:, 1:] ^ steps[:, :-1], upto[:, :-1]

    async def _pick(self, chosen: Bits, table: list[Words], known: int, last: int, alike: bool) -> Words:
        """Share the chosen part's entries (7).

        Args:
            chosen: (T, c) shares of bits.
            table: Arrays (T or 1 or 0, c, …) of entries of the parts, side by side; the last, of values, is empty at
                the site that has no share of them.
            known: Entries of which both have shares from the beginning.
            last: Entries after those, of values.
            alike: Whether the other site has entries of values, too.

        Returns:
            (T, known + last) shares.
        """
        count, parts = chosen.shape
        out = np.zeros((count, known + last), np.uint64)
        mine = [array for array in table if len(array)]
        theirs = known + last if alike else known
        step = max(1, AT_ONCE // (parts * (known + last)))
        for lo in range(0, count, step):
            here = slice(lo, min(lo + step, count))
            size = here.stop - lo
            entries = [np.broadcast_to(a, (count, *a.shape[1:]))[here] for a in mine]
            flat = np.concatenate((np.empty((size, parts, 0), np.uint64), *entries), axis=2).reshape(size * parts, -1)
            for got in await self._both_ways(chosen[here].reshape(-1), flat, theirs):
                out[here, : got.shape[1]] += got.reshape(size, parts, -1).sum(axis=1)
        return out

    async def _both_ways(self, bits: Bits, mine: Words, theirs: int, exclusive: bool = False) -> tuple[Words, Words]:
        """Share hidden bits times own values, and times `theirs` values of the other site."""

        async def own() -> Words:
            rng, ot = self.rng, self.sending
            return await masked_values.holder(self.peer, bits, mine, ot=ot, rng=rng, exclusive=exclusive)

        async def others() -> Words:
            rng, ot = self.rng, self.receiving
            return await masked_values.partner(self.peer, bits, theirs, ot=ot, rng=rng, exclusive=exclusive)

        if self.owns:
            return await own(), await others()
        return await others(), await own()


@dataclass(frozen=True, repr=False)
class _Strings:
    """Shares of the bits of every bin, (m, octets), and at the owner of values which row is in each, or −1."""

    octets: NDArray[np.uint8]
    rows: I64 | None


@lru_cache(1)
def _sum() -> Circuit:
    """Return the circuit that adds two words."""
    builder = Builder()
    return builder.build(circuit_words.add(builder, builder.garbler(64), builder.evaluator(64)))


@lru_cache(4)
def _opening(minimum: int) -> Circuit:
    """Return the circuit that shows a value where there are enough rows.

    Input of both sites: shares of the number of rows and of the value. Output: the value or 0, and whether it is shown.
    """
    builder = Builder()
    left = [builder.garbler(64) for _ in range(2)]
    right = [builder.evaluator(64) for _ in range(2)]
    rows, value = (circuit_words.add(builder, x, y) for x, y in zip(left, right, strict=True))
    enough = circuit_words.threshold(builder, rows, minimum)
    return builder.build([*(builder.conjunction(enough, bit) for bit in value), enough])


PROTOCOL = Protocol(
    name="hidden-quantiles",
    version=1,
    title="Minima, maxima and quantiles by group over a join that nobody sees",
    card=Card(
        source="Atoll: a search whose path is shared, over counts in the order of the owner's values, which "
        "`hidden-permutation` makes; products with bits by transfers (Gilboa, CRYPTO 1999); garbled circuits for "
        "comparisons and the threshold.",
        security="Semi-honest, 2 parties, computational 128 bits, as the protocols that it uses.",
        inputs="Both: n ids without duplicates, and which rows may count. One site: columns of 64-bit floating-point "
        "values, which may be missing. The grouping site: the group of each row, at most 256. The asker: for each "
        "group and column some ranks among the joined rows that have a value.",
        reveals={
            "asker": (
                "The number of the partner's ids, its kept-out rows included.",
                "For each group with enough joined rows that have a value: the values at the ranks, bit by bit.",
                "Not: whose they are, which rows join, anything of groups that are too small.",
            ),
            "partner": (
                "The number of the asker's ids, its kept-out rows included, and the number of groups.",
                "Not: which rows join, how many, ranks, any value.",
            ),
        },
        cost="With m = 1.27 n bins at the owner of values, k groups, r ranks for each: `circuit-intersection`; for a "
        "column m log2 m switches of `hidden-permutation`; 8 m bytes, or 8 k m if the other site makes the groups, for "
        "numbers; about 9 k r m for the search; in about 6 rounds for each factor of 64 in m.",
        fails="ProtocolError when sites differ in job, columns, groups, sizes or circuit, and as the protocols that it "
        "uses; InputError on own duplicates, too many ids, or ranks of another shape.",
        assurance="tested",
        notes=(
            "A quantile is one person's value, and a minimum the most unusual one's. The minimum number of rows hides "
            "whose it is, as well as a group of that size does.",
            "An asker that leaves the protocol can put in other ranks than the question has, and so learn values of "
            "other common rows in groups that are large enough; never of rows that are not common.",
            "Several questions can be subtracted from each other; keep a log of questions.",
        ),
    ),
    roles={"asker": asker, "partner": partner},
    messages=(Outline,),
    uses=(
        circuit_intersection.PROTOCOL,
        hidden_permutation.PROTOCOL,
        masked_values.PROTOCOL,
        garbled_circuit.PROTOCOL,
        hidden_rows.PROTOCOL,
    ),
)
