"""Boosted trees from histograms that hold noise, level by level, with noise in the leaves, too.

Bins are cut evenly between the bounds of a column, without a look at the data.  At every level one row is in one node,
and in one bin of every column that the tree looks at; so all nodes of a level are opened at once, at the cost of one.
Trees have the same shape for the noise whatever they split.  Leaves have a total of their own.

Source: Chen, Guestrin, KDD 2016 (the trees); Maddock, Cormode, Wang, Maple, Jha, "Federated boosted decision trees with
differential privacy", CCS 2022 (Gaussian noise on histograms by level, in sums over sites).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import msgspec
import numpy as np

from atoll.core.errors import InputError
from atoll.core.offload import offload
from atoll.data.columns import Column, Columns
from atoll.learn.horizontal.private.scaled import Bounds, bounds_of, to_unit
from atoll.learn.horizontal.rows import F64, Bool
from atoll.learn.horizontal.trees.bins import code_table
from atoll.learn.horizontal.trees.forest import ForestModel, draw_features, public_draws
from atoll.learn.horizontal.trees.grow import Nodes, Tree, leaves, move
from atoll.learn.horizontal.trees.params import STEP, BoostParams
from atoll.learn.vertical.trees.binning import BinnedTable, ColumnBins, Layout
from atoll.learn.vertical.trees.kernels import I32, histogram
from atoll.learn.vertical.trees.objective import probability
from atoll.learn.vertical.trees.params import TreeParams
from atoll.learn.vertical.trees.split import best_splits, leaf_weight
from atoll.protocols.secure_sum.noisy import PlannedTotals, Release

LEAVES = 0.4
"""Part of ρ for the leaves."""

FINE = 2.0**20
"""Grid of derivatives, so that they are added without error."""

LOGISTIC = 1.29
"""Largest (p - y)² + (4 p (1 - p))²: one row's part of a bin, both derivatives brought to size 1."""

SURE = 3.0
"""Both sides of a split hold at least so many deviations of their noise."""


@dataclass(frozen=True)
class TreesPlan:
    """What is opened.

    Args:
        params: of the trees.
        columns: the bins of every column.
        levels: histograms of every level, by tree.
        leaves: sums of leaves, by tree.
    """

    params: BoostParams
    columns: tuple[ColumnBins, ...]
    levels: tuple[Release, ...]
    leaves: Release

    @property
    def releases(self) -> tuple[Release, ...]:
        """All that is opened."""
        return (*self.levels, self.leaves)

    @property
    def layout(self) -> Layout:
        """Shape of the bins; every column has one for missing values."""
        return Layout(
            np.array([one.ordinary for one in self.columns], np.int64),
            np.array([one.kind == "categorical" for one in self.columns], np.bool_),
            np.ones(len(self.columns), np.bool_),
        )

    @property
    def drawn(self) -> int:
        """Columns that a tree looks at."""
        return max(1, int(self.params.colsample_bytree * len(self.columns)))


def even_bins(columns: tuple[tuple[str, tuple[str, ...]], ...], bounds: Bounds, bins: int) -> tuple[ColumnBins, ...]:
    """Return bins that depend on bounds and declared categories alone.

    Args:
        columns: names, and the categories of those that have some.
        bounds: of the numeric columns.
        bins: of a numeric column.

    Raises:
        InputError: a numeric column has no bounds.
    """
    found = []
    for name, categories in columns:
        if categories:
            found.append(ColumnBins(name, "categorical", categories=categories, kept=categories, missing=True))
        else:
            low, high = bounds_of(name, bounds)
            cuts = np.linspace(low, high, bins + 1)[1:-1]
            found.append(ColumnBins(name, "numeric", cuts=tuple(cuts.tolist()), missing=True))
    return tuple(found)


def plan(columns: tuple[ColumnBins, ...], params: BoostParams, rho: float) -> TreesPlan:
    """Plan all trees, each with the same part of ρ.

    Raises:
        InputError: trees look at a share of the rows only, which noise does not count on.
    """
    if params.subsample < 1:
        raise InputError("trees with noise look at all rows", step=STEP, cure="Remove `subsample:`.")
    base = TreesPlan(params, columns, (), Release(what="", numbers=1, length=1, rho=1))
    row = LOGISTIC if params.objective == "logistic" else 2.0
    cells = int(base.layout.offsets[-1])
    levels = tuple(
        Release(
            what=f"derivatives by node, column and bin, level {depth + 1}",
            numbers=2**depth * cells * 2,
            length=math.sqrt(row * base.drawn),
            rho=(1 - LEAVES) * rho / params.max_depth,
            rounds=params.n_estimators,
        )
        for depth in range(params.max_depth)
    )
    at_leaves = Release(
        what="derivatives of leaves",
        numbers=2**params.max_depth * 2,
        length=math.sqrt(row),
        rho=LEAVES * rho,
        rounds=params.n_estimators,
    )
    return TreesPlan(params, columns, levels, at_leaves)


async def boost(totals: PlannedTotals, planned: TreesPlan, table: Columns, y: F64, label: Bounds) -> ForestModel:
    """Fit boosted trees on the rows of all sites.

    Args:
        totals: noisy totals of the plan.
        planned: of `plan`.
        table: this site's columns; missing values may stand in them.
        y: (n,) this site's label: 0 and 1 (logistic), or numbers (squared).
        label: bounds of a label of numbers, under its name; for 0 and 1 nothing.
    """
    params, logistic = planned.params, planned.params.objective == "logistic"
    middle, half = 0.0, 1.0
    if not logistic:
        ((low, high),) = label.values()
        middle, half = (low + high) / 2, (high - low) / 2
        y = to_unit(y, (low, high))
    binned, public = code_table(_bounded(table, planned.columns), planned.columns), public_draws(params.seed)
    margin, trees = np.zeros(y.size), []
    for _ in range(params.n_estimators):
        if logistic:
            p = probability(margin)
            g, h = _fine(p - y), _fine(p * (1 - p))
        else:
            g, h = _fine(np.clip(np.clip(margin, -1, 1) - y, -1, 1)), np.ones(y.size)
        features = draw_features(public, 1, len(planned.columns), planned.drawn)[0]
        tree = await _grow(totals, planned, binned, g, h, features)
        margin = margin + np.array(tree.weight)[leaves(tree, binned, params.max_depth)]
        trees.append(tree)
    return ForestModel(params.objective, planned.columns, tuple(trees), params.max_depth, middle, half)


def _bounded(table: Columns, columns: tuple[ColumnBins, ...]) -> Columns:
    """Put values beyond the bounds, infinite ones among them, on the outermost cuts."""
    found = []
    for bins in columns:
        column = table[bins.name]
        if column.kind == "numeric" and bins.cuts:
            values = np.clip(column.values, np.nextafter(bins.cuts[0], -np.inf), bins.cuts[-1])
            column = Column(column.name, column.kind, values, column.categories)
        found.append(column)
    return Columns(tuple(found), table.rows)


async def _grow(totals: PlannedTotals, planned: TreesPlan, table: BinnedTable, g: F64, h: F64, features: Bool) -> Tree:
    """Grow one tree; node `place` p of a level has children 2p and 2p + 1, whether or not it is split."""
    params, layout = planned.params, planned.layout
    unit = np.array([1.0, 0.25 if params.objective == "logistic" else 1.0])
    nodes, at = Nodes(), np.zeros(table.rows, np.int32)
    level, places = np.zeros(1, np.int64), np.zeros(1, np.int64)
    ends: dict[int, int] = {0: 0}  # place of every leaf so far in the last level
    wide = np.repeat(features, layout.bins + layout.missing)
    for depth, release in enumerate(planned.levels):
        slot = np.full(len(nodes.left), -1, np.int64)
        slot[level] = places
        mine = await offload(histogram, table.codes, layout.offsets, at, slot, g, h, 2**depth)
        mine *= wide[:, None] / unit
        noisy = (await totals.total(mine, release)).reshape(mine.shape) * unit
        sums, sd = noisy[places], totals.sd(release) * unit[1]
        whole = _whole(sums, layout, features)
        sure = _sure(params, SURE * sd * math.sqrt(float(layout.bins.max()) / 2))
        best = best_splits(sums, layout, whole, np.repeat(features[None], level.size, axis=0), sure)
        split = np.flatnonzero(np.isfinite(best.gain))
        if split.size:
            for s in split.tolist():
                nodes.split(
                    int(level[s]), int(best.feature[s]), int(best.bin[s]), bool(best.default_left[s]),
                    float(best.gain[s]),
                )  # fmt: skip
                del ends[int(level[s])]
            tree = nodes.frozen()
            await offload(move, tree, table, at, level[split])
            lefts = np.array([tree.left[node] for node in level[split].tolist()], np.int64)
            level = np.stack([lefts, lefts + 1], axis=1).ravel()
            places = np.stack([2 * places[split], 2 * places[split] + 1], axis=1).ravel()
            rest = params.max_depth - depth - 1
            ends |= {node: place << rest for node, place in zip(level.tolist(), places.tolist(), strict=True)}
        else:
            level, places = level[:0], places[:0]
    await _weigh(totals, planned, nodes, at, ends, g, h, unit)
    return nodes.frozen()


async def _weigh(
    totals: PlannedTotals, planned: TreesPlan, nodes: Nodes, at: I32, ends: dict[int, int], g: F64, h: F64, unit: F64
) -> None:
    """Give every leaf its weight."""
    count = 2**planned.params.max_depth
    place = np.zeros(len(nodes.left), np.int64)
    place[list(ends)] = list(ends.values())
    mine = np.stack([np.bincount(place[at], d, count) for d in (g, h)], axis=1) / unit
    sums = (await totals.total(mine, planned.leaves)).reshape(-1, 2) * unit
    weights = leaf_weight(sums, _sure(planned.params, SURE * totals.sd(planned.leaves) * unit[1]))
    for node, where in ends.items():
        nodes.weight[node] = float(weights[where])


def _whole(sums: F64, layout: Layout, features: Bool) -> F64:
    """Return the sums of nodes, (S, 2): every column gives them, the less noisy the fewer bins it has."""
    parts = np.add.reduceat(sums, layout.offsets[:-1], axis=1)
    weight = features / (layout.bins + layout.missing)
    return np.asarray(np.einsum("f,sfd->sd", weight / weight.sum(), parts))


def _sure(params: BoostParams, least: float) -> TreeParams:
    """Return what the search for splits takes, with sides that stand out of the noise."""
    return msgspec.structs.replace(params.splits, min_child_weight=max(params.min_child_weight, least))


def _fine(values: F64) -> F64:
    return np.asarray(np.rint(values * FINE) / FINE)
