"""Scores from stored model parts: every site keeps its own, and the sides of rows are fetched obliviously.

(1) both tell the model's id and their number of rows; (2) they set up oblivious transfer.
For every chunk of rows and every level:
(3) for each row and tree the label holder chooses one of the site's splits of that level, or none, and learns its bit.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from atoll.core.channel import Channel
from atoll.core.errors import InputError
from atoll.core.message import U8, Message
from atoll.core.offload import offload
from atoll.core.protocol import Protocol
from atoll.crypto.random import Rng
from atoll.data.columns import Columns
from atoll.learn.vertical.trees import card, ties
from atoll.learn.vertical.trees.binning import rule_bits
from atoll.learn.vertical.trees.kernels import F64
from atoll.learn.vertical.trees.model import FeaturePart, LabelPart, TreeNode, check_columns
from atoll.learn.vertical.trees.objective import probability
from atoll.protocols import oblivious_choice, oblivious_transfer

CHUNK = 1 << 20
"""Most (row, tree) pairs at a time: memory stays bounded for any number of rows."""

I64 = NDArray[np.int64]
Bits = NDArray[np.uint8]


class Scoring(Message, frozen=True):
    """(1) both ways: the model's id, and the number of rows."""

    model: U8
    rows: int


async def predict_label_holder(
    peers: Mapping[str, Channel],
    part: LabelPart,
    table: Columns,
    *,
    rng: Rng,
    connect: Callable[..., Coroutine[Any, Any, ties.Choosing]] = ties.choosing,
) -> F64:
    """Score rows as the site that knows the trees.

    Args:
        peers: Channels to the feature holders, by the names they had in training.
        part: This site's part of the model.
        table: Own columns, n rows.
        rng: Secret randomness.
        connect: Makes the label holder's end of the choice.

    Returns:
        (n,) probability of label 1.

    Raises:
        InputError: A site is absent, a column or category is unknown, or rows or models differ.
        ProtocolError: A feature holder broke the protocol.
    """
    check_columns(table, part.columns)
    absent = [site for site in part.asked if site not in peers]
    if absent:
        raise InputError(
            f"the model has splits at {', '.join(absent)}, which this job does not name", cure="Name the same sites."
        )
    sites = {site: peers[site] for site in part.asked}
    draws = [rng.spawn() for _ in sites]
    greetings = (_greet(peer, part.model, table.rows) for peer in sites.values())
    await ties.every(greetings)  # (1)
    made = await ties.every(connect(peer, rng=r) for peer, r in zip(sites.values(), draws, strict=True))  # (2)
    ends = dict(zip(sites, made, strict=True))
    scores = [np.zeros(0)]
    for rows in _chunks(table, len(part.trees)):
        scores.append(await _score(part, rows, ends))
    return probability(np.concatenate(scores))


async def predict_feature_holder(
    peer: Channel,
    part: FeaturePart,
    table: Columns,
    *,
    rng: Rng,
    connect: Callable[..., Coroutine[Any, Any, ties.Offering]] = ties.offering,
) -> None:
    """Help to score rows as a site that knows what its splits mean; arguments and errors as `predict_label_holder`."""
    check_columns(table, part.columns)
    await _greet(peer, part.model, table.rows)  # (1)
    end = await connect(peer, rng=rng)  # (2)
    for rows in _chunks(table, len(part.splits)):
        for level in range(len(part.splits[0]) if part.splits else 0):
            bits = await offload(_offered, part, rows, level)
            if bits.size:
                await end.bits(bits)  # (3)


async def _score(part: LabelPart, table: Columns, ends: Mapping[str, ties.Choosing]) -> F64:
    """Walk all rows down all trees, level by level, and return the log-odds, (n,)."""
    at = np.zeros((len(part.trees), table.rows), np.int64)
    for level in range(part.depth):
        own = offload(_own_sides, part, table, at)
        asked = (_asked_sides(part, site, end, at, level) for site, end in ends.items())
        sides = await ties.every([own, *asked])
        await offload(_descend, part, at, np.bitwise_or.reduce(sides))
    total = np.full(table.rows, part.base_margin)
    for nodes, places in zip(part.trees[: part.used], at, strict=False):
        total += np.array([node.weight for node in nodes])[places]
    return total


def _own_sides(part: LabelPart, table: Columns, at: I64) -> Bits:
    """Return the side of every row in every tree where the label holder's own column decides, (trees, n)."""
    sides = np.zeros(at.shape, np.uint8)
    for tree, nodes in enumerate(part.trees):
        for number in np.flatnonzero(np.bincount(at[tree])):
            rule = nodes[number].rule
            if rule:
                np.copyto(sides[tree], rule_bits(rule, table), where=at[tree] == number)
    return sides


async def _asked_sides(part: LabelPart, site: str, end: ties.Choosing, at: I64, level: int) -> Bits:
    """Fetch the sides that one feature holder decides, (trees, n); rows elsewhere choose nothing."""
    asked = [tree[level] for tree in part.asked[site]]
    taking = [tree for tree, ids in enumerate(asked) if ids]
    sides = np.zeros(at.shape, np.uint8)
    if not taking or not at.shape[1]:
        return sides
    options = max(len(asked[tree]) for tree in taking)
    choice = np.stack([_choices(part.trees[t], asked[t], site, options)[at[t]] for t in taking])
    bits = await end.bits(choice.reshape(-1), options)  # (3)
    sides[taking] = bits.reshape(choice.shape)
    return sides


def _choices(nodes: tuple[TreeNode, ...], ids: tuple[str, ...], site: str, none: int) -> I64:
    """For every node of a tree the number of its split among those asked at a level, or `none`."""
    numbers = {found: number for number, found in enumerate(ids)}
    return np.array([numbers.get(node.split, none) if node.site == site else none for node in nodes], np.int64)


def _descend(part: LabelPart, at: I64, sides: Bits) -> None:
    for nodes, places, side in zip(part.trees, at, sides, strict=True):
        left = np.array([node.left for node in nodes], np.int64)[places]
        np.copyto(places, left + side, where=left >= 0)


def _offered(part: FeaturePart, table: Columns, level: int) -> Bits:
    """Return the direction bits of all splits of a level, (m, trees × n), trees with fewer splits filled with 0."""
    taking = [tree[level] for tree in part.splits if tree[level]]
    options = max(map(len, taking), default=0)
    bits = np.zeros((options, len(taking), table.rows), np.uint8)
    for number, splits in enumerate(taking):
        for option, split in enumerate(splits):
            bits[option, number] = rule_bits(split.rule, table)
    return bits.reshape(options, len(taking) * table.rows)


def _chunks(table: Columns, trees: int) -> Iterator[Columns]:
    size = max(1, CHUNK // max(1, trees))
    for start in range(0, table.rows, size):
        stop = min(start + size, table.rows)
        yield Columns(tuple(replace(c, values=c.values[start:stop]) for c in table.columns), stop - start)


async def _greet(peer: Channel, model: str, rows: int) -> None:
    """Tell and check the model's id and the number of rows."""
    await peer.send(Scoring(np.frombuffer(bytes.fromhex(model), np.uint8), rows))  # (1)
    theirs = await peer.recv(Scoring, model=(16,))  # (1)
    if theirs.model.tobytes().hex() != model:
        raise InputError(
            f"this site's part and that of {peer.peer} belong to different models",
            cure="Use the parts that one training job wrote.",
        )
    if theirs.rows != rows:
        raise InputError(
            f"this site has {rows:,} rows to score and {peer.peer} has {theirs.rows:,}",
            cure="Align the sites' rows before scoring.",
        )


PROTOCOL = Protocol(
    name="vertical-boosted-trees-prediction",
    version=1,
    title="Scores from boosted trees whose parts stay at their sites",
    card=card.PREDICTION,
    roles={"label_holder": predict_label_holder, "feature_holder": predict_feature_holder},
    messages=(Scoring,),
    uses=(oblivious_choice.PROTOCOL, oblivious_transfer.PROTOCOL),
)
