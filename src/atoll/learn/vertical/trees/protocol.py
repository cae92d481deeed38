"""Vertical boosted trees: one label holder, one or more feature holders, a yes/no label.

(1) both tell their number of rows; the feature holder tells the shape of its bins.
(2) both set up the fixed-matrix product and oblivious transfer.
For every tree and level:
(3) the label holder tells how many nodes it opens; (4) the product gives it their sums over the foreign bins.
(5) it sends the winning splits to their owners; (6) the choice gives it one direction bit for each member.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from atoll.core.channel import Channel
from atoll.core.errors import ContractError, InputError, ProtocolError
from atoll.core.message import U8, U32, AtMost, Message
from atoll.core.offload import offload
from atoll.core.protocol import Protocol
from atoll.crypto.random import Rng
from atoll.data.columns import Columns
from atoll.learn.vertical.trees import card, ties
from atoll.learn.vertical.trees.binning import BinnedTable, Layout, bin_table, right_bits
from atoll.learn.vertical.trees.forest import Forest, checked_label
from atoll.learn.vertical.trees.grow import Choice, Growth
from atoll.learn.vertical.trees.kept import Held, Keeper
from atoll.learn.vertical.trees.kernels import F64
from atoll.learn.vertical.trees.model import FeaturePart, HeldSplit, History, LabelPart, used_columns
from atoll.learn.vertical.trees.params import TreeParams
from atoll.privacy.leakage import LeakageMeter
from atoll.protocols import oblivious_choice, oblivious_transfer
from atoll.protocols.fixed_matrix_product import protocol as product

MOST_FEATURES, MOST_VECTORS = 1 << 16, 1 << 40

Progress = Callable[[str, int, int], None]
Bits = NDArray[np.uint8]


class Opening(Message, frozen=True):
    """(1) label holder → feature holder: the model's random id, and its number of rows."""

    model: U8
    rows: int


class Features(Message, frozen=True):
    """(1) feature holder → label holder: rows, and of each feature its ordinary bins and 1·categorical + 2·missing.

    After a try that was cut off also the trees that it has kept, and the vectors that were spent.
    """

    rows: int
    bins: U32
    kinds: U8
    trees: int = 0
    spent: int = 0


class Round(Message, frozen=True):
    """(3) label holder → feature holder: nodes that are opened at this level; `last` ends the job instead."""

    tree: int
    level: int
    nodes: int
    last: bool


class Splits(Message, frozen=True):
    """(5) label holder → feature holder: its splits of this level, shuffled: ids, and (feature, bin, missing left)."""

    ids: U8
    places: U32


async def label_holder(
    peers: Mapping[str, Channel],
    table: Columns,
    label: NDArray[np.generic],
    validation: NDArray[np.bool_],
    params: TreeParams,
    *,
    rng: Rng,
    reveals_rows: bool = False,
    progress: Progress = lambda what, done, total: None,
    meter: LeakageMeter | None = None,
    connect: Callable[..., Coroutine[Any, Any, ties.Asking]] = ties.asking,
    keeper: Keeper | None = None,
) -> tuple[LabelPart, History]:
    """Train as the site that knows the label.

    Args:
        peers: Channels to the feature holders, by site; without any, the trees are the label holder's own.
        table: Own columns, n rows; there may be none.
        label: (n,) of 0 and 1.
        validation: (n,) rows that are not trained on, but measured.
        params: The parameters that the contract names.
        rng: Secret randomness.
        reveals_rows: The contract says `reveals: rows of M`, which lifts T ≤ n/100.
        progress: Told of every finished tree.
        meter: Notes the vectors that are asked, to say at the end what they give away.
        connect: Makes the label holder's end of the sub-protocols.
        keeper: Keeps this side at the trees' borders, and has what an earlier try kept.

    Returns:
        This site's part of the model, and how training went.

    Raises:
        InputError: The label or a column cannot be used, or a site has another number of rows.
        ContractError: The trees need more vectors than the rows allow; nothing was sent.
        ProtocolError: A feature holder broke the protocol.
    """
    answers = checked_label(label, validation, table.rows, params)
    if peers:
        ties.check_limit(params, table.rows, reveals_rows)
    own = await offload(bin_table, table, params.max_bin, params.min_bin)
    kept = keeper.forest() if keeper is not None else None
    model = rng.bytes(16) if keeper is None else keeper.model
    opening, tie = Opening(np.frombuffer(model, np.uint8), table.rows), partial(connect, reveals_rows=reveals_rows)
    draws = [(rng.spawn(), rng.spawn()) for _ in peers]
    sites = await ties.every(
        _join(name, peer, opening, params, pair, tie) for (name, peer), pair in zip(peers.items(), draws, strict=True)
    )
    forest = Forest(own, [site.layout for site in sites], answers, params, rng.spawn())
    if kept is not None and all(site.trees >= len(kept.trees) for site in sites):
        forest.restore(kept, meter)
    forest.vectors = max((site.spent for site in sites), default=0)
    async with ties.ended(site.tie for site in sites):
        while forest.wants_more and (not sites or ties.room_for(params, table.rows, reveals_rows, forest.vectors)):
            started = time.perf_counter()
            growth = await offload(forest.sprout)
            for level in range(params.max_depth):
                await _grow_level(growth, sites, len(forest.trees), level, meter)
            asked = {site.name: site.asked_in_tree() for site in sites}
            await forest.add(growth, asked, [site.name for site in sites], time.perf_counter() - started)
            if keeper is not None and keeper.due:
                keeper.keep(await forest.kept(model, meter))
            progress("trees", len(forest.trees), params.n_estimators)
    if not forest.trees:
        raise ContractError(
            f"tries that were cut off have spent {forest.vectors:,} vectors, {table.rows:,} rows allow no more trees",
            step="trees",
            cure="Agree on a new job with fewer trees.",
        )
    await ties.every(site.peer.send(Round(len(forest.trees), 0, 0, True)) for site in sites)
    return forest.part(model.hex()), await forest.history([site.name for site in sites])


async def feature_holder(
    peer: Channel,
    table: Columns,
    params: TreeParams,
    *,
    rng: Rng,
    reveals_rows: bool = False,
    progress: Progress = lambda what, done, total: None,
    connect: Callable[..., Coroutine[Any, Any, ties.Answering]] = ties.answering,
    keeper: Keeper | None = None,
) -> FeaturePart:
    """Train as a site that brings columns.

    Args:
        peer: Channel to the label holder.
        table: Own columns, n rows, in the common order.
        params: The parameters that the contract names.
        rng: Secret randomness.
        reveals_rows: The contract says `reveals: rows of M`, which lifts T ≤ n/100.
        progress: Told of every finished tree.
        connect: Makes the feature holder's end of the sub-protocols.
        keeper: Keeps this side at the trees' borders, and has what an earlier try kept.

    Returns:
        This site's part of the model.

    Raises:
        InputError: A column cannot be used, or the label holder has another number of rows.
        ContractError: The trees need more vectors than the rows allow; nothing was sent.
        ProtocolError: The label holder broke the protocol.
    """
    _check_table(table)
    ties.check_limit(params, table.rows, reveals_rows)
    held = Held.of(keeper, rng.permutation(len(table)).tolist(), params)
    own = await offload(bin_table, table, params.max_bin, params.min_bin, held.order)
    layout = own.layout
    kinds = (layout.categorical + 2 * layout.missing).astype(np.uint8)
    opening = await peer.recv(Opening, model=(16,))  # (1)
    await peer.send(Features(table.rows, layout.bins.astype(np.uint32), kinds, len(held.trees), held.spent))  # (1)
    _check_rows(table.rows, opening.rows, peer.peer)
    held.check_model(opening.model.tobytes(), peer.peer)
    tie = await connect(peer, own, params=params, reveals_rows=reveals_rows, rng=rng.spawn(), spent=held.spent)  # (2)
    async with ties.ended([tie]):
        while not (await _expect_round(peer, tie, held, 0, params)).last:
            for level in range(params.max_depth):
                if level:
                    await _expect_round(peer, tie, held, level, params)
                await _take_splits(peer, tie, own, level, held)
            progress("trees", len(held.trees), params.n_estimators)
    rules = [split.rule for tree in held.trees for level in tree for split in level]
    return FeaturePart(opening.model.tobytes().hex(), tuple(held.trees), used_columns(own, rules))


@dataclass
class _Site:
    """One feature holder as the label holder knows it."""

    name: str
    peer: Channel
    layout: Layout
    tie: ties.Asking
    rng: Rng
    trees: int
    spent: int
    levels: list[dict[int, str]] = field(default_factory=list)

    def asked_in_tree(self) -> tuple[dict[int, str], ...]:
        """Return what was asked level by level, node → id (fakes under negative numbers), and begin a new tree."""
        levels, self.levels = tuple(self.levels), []
        return levels


async def _join(
    name: str,
    peer: Channel,
    opening: Opening,
    params: TreeParams,
    rngs: tuple[Rng, Rng],
    connect: Callable[..., Coroutine[Any, Any, ties.Asking]],
) -> _Site:
    """Open with one feature holder: rows must be equal, and its bins such as the parameters allow."""
    await peer.send(opening)  # (1)
    most = AtMost(MOST_FEATURES)
    features = await peer.recv(Features, bins=(most,), kinds=(most,))  # (1)
    _check_rows(opening.rows, features.rows, name)
    bins, kinds = features.bins.astype(np.int64), features.kinds
    if bins.shape != kinds.shape or not bins.size or bins.min() < 1 or bins.max() > params.max_bin or kinds.max() > 3:
        raise ProtocolError(f"{name} describes features that the parameters do not allow")
    if not (0 <= features.trees <= params.n_estimators and 0 <= features.spent < MOST_VECTORS):
        raise ProtocolError(
            f"{name} has kept {features.trees} trees and spent {features.spent} vectors, which cannot be"
        )
    layout = Layout(bins, (kinds & 1).astype(np.bool_), (kinds & 2).astype(np.bool_))
    tie = await connect(peer, layout, opening.rows, params=params, rng=rngs[0], spent=features.spent)  # (2)
    return _Site(name, peer, layout, tie, rngs[1], features.trees, features.spent)


async def _grow_level(
    growth: Growth, sites: Sequence[_Site], tree: int, level: int, meter: LeakageMeter | None
) -> None:
    """Open nodes, choose splits, and move the rows."""
    opened, padded = len(growth.opened()), growth.params.pad_shape
    count = (1 << max(level - 1, 0)) if padded else opened
    vectors = await offload(growth.vectors, count) if count and sites else None
    own, *answers = await ties.every(
        [
            offload(growth.own_sums),
            *(_sums(site, Round(tree, level, count, False), vectors, opened) for site in sites),
        ]
    )
    if vectors is not None and meter is not None:
        meter.observe(vectors, await offload(sites[0].tie.deviations, vectors))
    del vectors
    growth.absorb(own, answers)
    choices = await offload(growth.choose)
    found = await ties.every(
        _directions(site, growth, [c for c in choices if c.site == number], 1 << level if padded else 0)
        for number, site in enumerate(sites, 1)
    )
    bits = found[0] if len(found) == 1 else np.bitwise_or.reduce(found) if found else np.zeros_like(growth.at, np.uint8)
    await offload(growth.apply, choices, bits)


async def _sums(site: _Site, round_: Round, vectors: F64 | None, opened: int) -> F64:
    """Learn the sums of the opened nodes over one site's bins, (S, k, 2)."""
    await site.peer.send(round_)  # (3)
    if vectors is None:
        return np.zeros((0, int(site.layout.offsets[-1]), 2))
    sums = await site.tie.sums(vectors)  # (4)
    return sums.reshape(len(vectors) // 2, 2, -1).transpose(0, 2, 1)[:opened]


async def _directions(site: _Site, growth: Growth, choices: list[Choice], padded: int) -> Bits:
    """Tell a site which of its splits won, and learn the direction bits of the members of their nodes, (n,)."""
    places = [(c.node, c.feature, c.bin, int(c.default_left)) for c in choices]
    places += [(-1 - fake, *_fake(site)) for fake in range(padded - len(choices))]
    order = site.rng.permutation(len(places))
    ids = site.rng.u8(len(places), 16)
    shuffled = [places[i] for i in order]
    site.levels.append({place[0]: row.tobytes().hex() for place, row in zip(shuffled, ids, strict=True)})
    numbers = np.array([place[1:] for place in shuffled], np.uint32).reshape(-1, 3)
    await site.peer.send(Splits(ids, numbers))  # (5)
    if not places:
        return np.zeros(growth.at.size, np.uint8)
    chosen = np.full(len(growth.nodes), len(places), np.int64)
    for number, place in enumerate(shuffled):
        if place[0] >= 0:
            chosen[place[0]] = number
    return await site.tie.bits(chosen[growth.at], len(places))  # (6)


def _fake(site: _Site) -> tuple[int, int, int]:
    """Draw a split that nobody chooses."""
    feature = site.rng.below(site.layout.features)
    return feature, site.rng.below(int(site.layout.bins[feature])), site.rng.below(2)


async def _expect_round(peer: Channel, tie: ties.Answering, held: Held, level: int, params: TreeParams) -> Round:
    """Take the label holder's next round and answer its vectors."""
    round_ = await peer.recv(Round)  # (3)
    await offload(held.begin, round_.tree)
    tree = len(held.trees)
    over = tree == params.n_estimators
    most = 1 << max(level - 1, 0)
    if (round_.tree, round_.level) != (tree, level) or not 0 <= round_.nodes <= most or (over and not round_.last):
        raise ProtocolError(f"{peer.peer} opened {round_.nodes} nodes at a level or tree where it may not")
    if round_.last and (level or round_.nodes):
        raise ProtocolError(f"{peer.peer} ended the trees in the middle of one")
    if round_.nodes:
        held.spent += 2 * round_.nodes  # before anything can go wrong with them
        await tie.sums(2 * round_.nodes)  # (4)
    return round_


async def _take_splits(peer: Channel, tie: ties.Answering, own: BinnedTable, level: int, held: Held) -> None:
    """Take the splits that won here, keep them, and offer their direction bits."""
    most = AtMost(1 << level)
    splits = await peer.recv(Splits, ids=(most, 16), places=(most, 3))  # (5)
    places, layout = splits.places.astype(np.int64), own.layout
    known = (places[:, 0] < layout.features).all() and (places[:, 2] < 2).all()
    if len(splits.ids) != len(places) or not known or (places[:, 1] >= layout.bins[places[:, 0]]).any():
        raise ProtocolError(f"{peer.peer} chose a split that this site does not have")
    found = tuple(
        HeldSplit(row.tobytes().hex(), own.columns[feature].rule(int(bin_), bool(default)))
        for row, (feature, bin_, default) in zip(splits.ids, places, strict=True)
    )
    await offload(held.take, found)  # before the label holder can: a tree that it has kept is kept here, too
    if len(places):
        await tie.bits(await offload(_bits, own, places))  # (6)


def _bits(own: BinnedTable, places: NDArray[np.int64]) -> Bits:
    return np.stack([right_bits(own, int(f), int(b), bool(d)) for f, b, d in places])


def _check_table(table: Columns) -> None:
    if not len(table):
        raise InputError("this site brings no columns", step="trees", cure="Name at least one column in its data.")


def _check_rows(own: int, theirs: int, peer: str) -> None:
    if own != theirs:
        raise InputError(
            f"this site has {own:,} rows and {peer} has {theirs:,}",
            step="trees",
            cure="Align the sites' rows before training.",
        )


PROTOCOL = Protocol(
    name="vertical-boosted-trees",
    version=1,
    title="Boosted trees on columns of several sites, label at one",
    card=card.TRAINING,
    roles={"label_holder": label_holder, "feature_holder": feature_holder},
    messages=(Opening, Features, Round, Splits),
    uses=(product.PROTOCOL, oblivious_choice.PROTOCOL, oblivious_transfer.PROTOCOL),
)
