"""Totals by group over rows that two sites have in common and neither sees; the asker learns those of large groups.

Grouping site, ids X, groups g, values v                   Other site, ids Y, values w
(1) both tell what goes with the totals; the grouping site tells the number of groups
(2), (3) `hidden-rows`: for every bin shares of the bit m whether it holds a common id, of m·v and of m·w
(4) `masked-values`: for each group, its bits over the bins times the other site's shares; both add up
    the partner may add noise to its shares
(5) `garbled-circuit`: opens each group's totals to the asker where enough rows have been counted, and zeros elsewhere
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from atoll.core.channel import Channel
from atoll.core.errors import ProtocolError
from atoll.core.message import Message
from atoll.core.offload import offload
from atoll.core.protocol import Card, Protocol
from atoll.crypto import circuit_words
from atoll.crypto.boolean_circuit import Builder, Circuit
from atoll.crypto.random import Rng
from atoll.protocols import garbled_circuit, hidden_rows, masked_values

MOST_GROUPS = 256
AT_ONCE = 1 << 21
"""Pairs of a group and a bin that are worked together; memory grows with it, and not with the number of groups."""

I64 = NDArray[np.int64]
Words = NDArray[np.uint64]
Key = tuple[str | float | bool | None, ...]
Noise = Callable[[int], I64]
"""The number of groups k to (k, 1 + v + w) int64, in the order of the totals."""


class Outline(Message, frozen=True):
    """(1) both: number of own groups, their keys if they are the partner's, and what its values were multiplied by."""

    groups: int
    keys: list[list[str | float | bool | None]]
    bits: list[int]


@dataclass(frozen=True)
class Side:
    """What a site brings: n rows.

    Attributes:
        ids: n canonical ids without duplicates.
        keep: (n,) bool, rows that may count; the others take part as ids that nobody has.
        group: (n,) int64, the group of each row, at the grouping site; ignored at the other.
        values: (n, v) int64, what each row adds; no sum may leave 64 bits.
        keys: at the grouping site the key of each group, in order.
        bits: binary places by which values were moved, (v,); told to the asker.
    """

    ids: Sequence[bytes]
    keep: NDArray[np.bool_]
    group: I64
    values: I64
    keys: tuple[Key, ...] = ()
    bits: tuple[int, ...] = ()


@dataclass(frozen=True)
class Question:
    """What both sites agree on.

    Attributes:
        groups_at: `asker` or `partner`, who makes the groups; the asker where there are none.
        words: numbers of values at the asker and at the partner.
        guards: for each total, in the order rows, grouping site's values, other site's values, which total must reach
            the minimum, beside the rows, for it to be opened.
        minimum: fewest rows.
    """

    groups_at: str
    words: tuple[int, int]
    guards: tuple[int, ...]
    minimum: int


@dataclass(frozen=True)
class Opened:
    """What the asker gets.

    Attributes:
        keys: the groups' keys.
        totals: (k, 1 + v + w) int64: rows, the grouping site's values, the other's; zero where not shown.
        shown: the same shape, bool.
        bits: binary places of the partner's values.
    """

    keys: tuple[Key, ...]
    totals: I64
    shown: NDArray[np.bool_]
    bits: tuple[int, ...]


@dataclass(frozen=True, repr=False)
class Joined:
    """A join that nobody sees: this site's shares of its rows, and the tools that made it, for whatever comes next."""

    tools: hidden_rows.ReceiverTools | hidden_rows.SenderTools
    rows: hidden_rows.Rows


async def join(
    peer: Channel, side: Side, question: Question, here: str, *, rng: Rng, context: Sequence[str] = ()
) -> Joined:
    """Join the rows of both sites; the grouping site is the receiver of `hidden-rows`.

    Args:
        peer: Channel to the other site.
        side: What this site brings.
        question: What both agree on.
        here: `asker` or `partner`, this site.
        rng: Secret randomness.
        context: Job and columns.

    Raises:
        InputError: An id stands twice, or there are too many.
        ProtocolError: As `hidden-rows`.
    """
    theirs = question.words[1] if here == "asker" else question.words[0]
    ids = hidden_ids(side.ids, side.keep, rng)
    if question.groups_at == here:
        taking = await hidden_rows.receiver_tools(peer, rng=rng.spawn())
        rows = await hidden_rows.receiver(
            peer, ids, side.values, others=theirs, tools=taking, rng=rng, context=context
        )  # (2), (3)
        return Joined(taking, rows)
    giving = await hidden_rows.sender_tools(peer, rng=rng.spawn())
    rows = await hidden_rows.sender(
        peer, ids, side.values, others=theirs, tools=giving, rng=rng, context=context
    )  # (2), (3)
    return Joined(giving, rows)


async def asker(
    peer: Channel,
    side: Side,
    question: Question,
    *,
    rng: Rng,
    context: Sequence[str] = (),
    joined: Joined | None = None,
) -> Opened:
    """Learn the totals.

    Args:
        peer: Channel to the partner.
        side: What this site brings.
        question: What both agree on.
        rng: Secret randomness.
        context: Job and columns.
        joined: What `join` has given to this site, where the join serves for more than totals; otherwise it is made.

    Returns:
        The totals of groups that are large enough.

    Raises:
        InputError: An id stands twice, or there are too many.
        ProtocolError: As the card says.
    """
    here, circuit = question.groups_at == "asker", await offload(_opening, question.guards, question.minimum)
    await peer.send(Outline(len(side.keys) if here else 0, [], []))  # (1)
    outline = await peer.recv(Outline)  # (1)
    keys = side.keys if here else _keys(outline, peer.peer)
    if len(outline.bits) != question.words[1] or not all(0 <= bit < 64 for bit in outline.bits):
        raise ProtocolError(f"{peer.peer} describes {len(outline.bits)} values, {question.words[1]} are agreed")
    joined = joined or await join(peer, side, question, "asker", rng=rng, context=context)  # (2), (3)
    shares = await (_grouping if here else _other)(peer, side, joined, max(len(keys), 1), rng)
    evaluator = await garbled_circuit.start_evaluator(peer, rng=rng.spawn())
    words = await evaluator.run(circuit, shares, "evaluator")  # (5)
    if words is None:
        raise ProtocolError("the totals went elsewhere")
    width = shares.shape[1]
    flags = np.unpackbits(np.ascontiguousarray(words[:, width:]).view(np.uint8), axis=1, bitorder="little")
    shown = flags[:, :width].astype(np.bool_)
    return Opened(keys if keys else ((),), words[:, :width].view(np.int64), shown, tuple(outline.bits))


async def partner(
    peer: Channel,
    side: Side,
    question: Question,
    *,
    rng: Rng,
    context: Sequence[str] = (),
    joined: Joined | None = None,
    noise: Noise | None = None,
) -> None:
    """Let the asker learn the totals, or totals with noise.

    Args:
        peer: Channel to the asker.
        side: What this site brings.
        question: What both agree on.
        rng: Secret randomness.
        context: Job and columns.
        joined: As of `asker`.
        noise: Called once, just before anything is opened, with the number of groups: what to add to the totals.

    Raises:
        InputError, ProtocolError: As `asker`.
    """
    here, circuit = question.groups_at == "partner", await offload(_opening, question.guards, question.minimum)
    keys = [list(key) for key in side.keys] if here else []
    outline = await peer.recv(Outline)  # (1)
    await peer.send(Outline(len(keys), keys, list(side.bits)))  # (1)
    if not 0 <= outline.groups <= MOST_GROUPS or (here and outline.groups):
        raise ProtocolError(f"{peer.peer} announces {outline.groups:,} groups, at most {MOST_GROUPS} are allowed")
    joined = joined or await join(peer, side, question, "partner", rng=rng, context=context)  # (2), (3)
    work, count = (_grouping, len(keys)) if here else (_other, outline.groups)
    shares = await work(peer, side, joined, max(count, 1), rng)
    if noise is not None:
        shares = shares + (await offload(noise, len(shares))).view(np.uint64)
    garbler = await garbled_circuit.start_garbler(peer, rng=rng.spawn())
    await garbler.run(circuit, shares, "evaluator")  # (5)


async def _grouping(peer: Channel, side: Side, joined: Joined, groups: int, rng: Rng) -> Words:
    """Share the totals as the grouping site, (groups, 1 + v + w)."""
    rows, ot = joined.rows, joined.tools.receiving
    mine = _side_by_side(rows)
    if groups == 1 or rows.own is None:
        return _added(mine, 1)
    group = np.full(len(mine), -1, np.int64)
    group[rows.own >= 0] = side.group[rows.own[rows.own >= 0]]
    totals = np.empty((groups, mine.shape[1]), np.uint64)
    for part in _groups_at_once(groups, len(mine)):
        inside = group == np.arange(part.start, part.stop)[:, np.newaxis]
        bits = inside.astype(np.uint8).reshape(-1)
        routed = await masked_values.partner(peer, bits, mine.shape[1], ot=ot, rng=rng)  # (4)
        totals[part] = await offload(_added, routed, len(inside)) + inside.astype(np.uint64) @ mine
    return totals


async def _other(peer: Channel, side: Side, joined: Joined, groups: int, rng: Rng) -> Words:
    """Share the totals as the other site."""
    mine, ot = _side_by_side(joined.rows), joined.tools.sending
    if groups == 1:
        return _added(mine, 1)
    totals = np.empty((groups, mine.shape[1]), np.uint64)
    for part in _groups_at_once(groups, len(mine)):
        count = part.stop - part.start
        none = np.zeros(count * len(mine), np.uint8)
        routed = await masked_values.holder(peer, none, np.tile(mine, (count, 1)), ot=ot, rng=rng)  # (4)
        totals[part] = await offload(_added, routed, count)
    return totals


def _side_by_side(rows: hidden_rows.Rows) -> Words:
    """Return the shares of members and of both sites' values, (m, 1 + v + w)."""
    return np.concatenate((rows.members[:, np.newaxis], rows.receiver, rows.sender), axis=1)


def _added(routed: Words, groups: int) -> Words:
    """Add up the bins of each group."""
    sums: Words = routed.reshape(groups, -1, routed.shape[1]).sum(axis=1)
    return sums


def _groups_at_once(groups: int, bins: int) -> list[slice]:
    step = max(1, AT_ONCE // bins)
    return [slice(lo, min(lo + step, groups)) for lo in range(0, groups, step)]


def hidden_ids(ids: Sequence[bytes], keep: NDArray[np.bool_], rng: Rng) -> list[bytes]:
    """Put an id that nobody has in the place of each row that does not count, so that their number stays hidden."""
    return [key if kept else b"none:" + rng.bytes(16) for key, kept in zip(ids, keep.tolist(), strict=True)]


def _keys(outline: Outline, peer: str) -> tuple[Key, ...]:
    """Check the partner's groups."""
    if outline.groups != len(outline.keys) or len(outline.keys) > MOST_GROUPS:
        raise ProtocolError(f"{peer} announces {outline.groups:,} groups and names {len(outline.keys):,}")
    return tuple(tuple(key) for key in outline.keys)


@lru_cache(4)
def _opening(guards: tuple[int, ...], minimum: int) -> Circuit:
    """Return the circuit that adds two sites' shares of totals and shows those whose guards reach the minimum.

    Output: the totals or zeros, 64 bits each, then for each total whether it is shown.
    """
    builder = Builder()
    left = [builder.garbler(64) for _ in guards]
    right = [builder.evaluator(64) for _ in guards]
    totals = [circuit_words.add(builder, x, y) for x, y in zip(left, right, strict=True)]
    enough = {guard: circuit_words.threshold(builder, totals[guard], minimum, signed=True) for guard in {0, *guards}}
    shown = [builder.conjunction(enough[0], enough[guard]) for guard in guards]
    bits = [builder.conjunction(show, bit) for show, total in zip(shown, totals, strict=True) for bit in total]
    return builder.build([*bits, *shown])


PROTOCOL = Protocol(
    name="hidden-totals",
    version=1,
    title="Totals by group over a join that nobody sees",
    card=Card(
        source="Composition of `hidden-rows`, products with bits by transfers (Gilboa, CRYPTO 1999), and a garbled "
        "circuit for the threshold.",
        security="Semi-honest, 2 parties, computational 128 bits, as the protocols that it uses.",
        inputs="Both: n ids without duplicates, which rows may count, and v values of 64 bits for each row. The "
        "grouping site: the group of each row, at most 256 groups.",
        reveals={
            "asker": (
                "The number of the partner's ids, its kept-out rows included.",
                "For each group whose joined rows reach the minimum: their number and the agreed totals; a total of "
                "values that are sometimes missing only if enough of them are there.",
                "The names of the partner's groups that have enough rows in the partner's own table, if it makes the "
                "groups.",
                "By how many binary places the partner's values were moved: the size of their sum to a power of two.",
                "Not: which rows join, totals of groups that are too small, the values that a total is made of.",
            ),
            "partner": (
                "The number of the asker's ids, its kept-out rows included, and the number of its groups.",
                "Not: which rows join, how many, any total.",
            ),
        },
        cost="With m = 1.27 n bins, W = 1 + v + w totals, k groups: `hidden-rows`, from two "
        "groups on 8 W k bytes a bin; 9 kB for each group and total at the end.",
        fails="ProtocolError when sites differ in job, columns, sizes or circuit, and as the protocols that it uses; "
        "InputError on own duplicates or too many ids.",
        assurance="tested",
        notes=(
            "Several questions can be subtracted from each other: two groups that differ by one person give that "
            "person's values. The minimum bounds groups, not differences; keep a log of questions, or add noise.",
            "Where the partner adds noise, everything that is opened holds it, and which totals are shown depends on "
            "counts with noise; its scale is right only if the asker keeps to the agreed bounds and groups.",
            "A site can bring rows that it made up; nothing checks them.",
        ),
    ),
    roles={"asker": asker, "partner": partner},
    messages=(Outline,),
    uses=(hidden_rows.PROTOCOL, masked_values.PROTOCOL, garbled_circuit.PROTOCOL),
)
