"""One tree over sites, level by level: histograms are added up, every site finds the same splits and moves its rows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import msgspec
import numpy as np
from numpy.typing import NDArray

from atoll.core.offload import offload
from atoll.learn.horizontal.rows import F64, I64, Bool
from atoll.learn.horizontal.trees.bins import node_total
from atoll.learn.horizontal.trees.params import STEP
from atoll.learn.vertical.trees.binning import BinnedTable, Layout
from atoll.learn.vertical.trees.kernels import advance, histogram
from atoll.learn.vertical.trees.params import TreeParams
from atoll.learn.vertical.trees.split import best_splits, leaf_weight
from atoll.protocols.secure_sum.totals import Totals

I32 = NDArray[np.int32]
Allowed = Callable[[I64], Bool]


class Tree(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A tree; node 0 is the root, and every list has one entry for each node.

    Args:
        left: the left child, the right one is the next node; -1 for a leaf.
        feature: column that splits the node.
        bin: larger bins go right; of a categorical column this bin goes right.
        default_left: whether missing values go left.
        gain: what the split gains.
        weight: what a leaf adds; 0 for a node that is split.
    """

    left: tuple[int, ...]
    feature: tuple[int, ...]
    bin: tuple[int, ...]
    default_left: tuple[bool, ...]
    gain: tuple[float, ...]
    weight: tuple[float, ...]


@dataclass
class Nodes:
    """The nodes of a tree while it grows."""

    left: list[int] = field(default_factory=lambda: [-1])
    feature: list[int] = field(default_factory=lambda: [0])
    bin: list[int] = field(default_factory=lambda: [0])
    default_left: list[bool] = field(default_factory=lambda: [False])
    gain: list[float] = field(default_factory=lambda: [0.0])
    weight: list[float] = field(default_factory=lambda: [0.0])

    def split(self, node: int, feature: int, bin_: int, default_left: bool, gain: float) -> None:
        """Split a node, and add its children as leaves."""
        self.left[node], self.feature[node], self.bin[node] = len(self.left), feature, bin_
        self.default_left[node], self.gain[node] = default_left, gain
        for values, empty in zip(self.__dict__.values(), (-1, 0, 0, False, 0.0, 0.0), strict=True):
            values += [empty, empty]

    def frozen(self) -> Tree:
        """Return the tree as it is by now."""
        return Tree(*(tuple(values) for values in self.__dict__.values()))


async def grow(
    totals: Totals, table: BinnedTable, g: F64, h: F64, params: TreeParams, allowed: Allowed
) -> tuple[Tree, I32]:
    """Grow one tree on the rows of all sites.

    Reveals: sums of g and h by bin of every column, for every node above the last level; sums of g and h of leaves.

    Args:
        totals: the sum over the sites.
        table: this site's columns in the shared bins, n rows.
        g: (n,) first derivatives, on a grid on which all sums are exact; 0 for rows that do not take part.
        h: (n,) second derivatives, likewise.
        params: depth, penalties and learning rate.
        allowed: for (S,) nodes, which of F columns each may be split on, (S, F), the same at every site.

    Returns:
        The tree, and (n,) the leaf of every row.
    """
    nodes, at = Nodes(), np.zeros(table.rows, np.int32)
    level = np.zeros(1, np.int64)
    sums = await _add(totals, table, at, level, 1, g, h)
    whole = node_total(sums, table.layout)
    nodes.weight[0] = float(leaf_weight(whole, params)[0])
    for depth in range(params.max_depth):
        best = best_splits(sums, table.layout, whole, allowed(level), params)
        split = np.flatnonzero(np.isfinite(best.gain))
        if not split.size:
            break
        for s in split.tolist():
            nodes.split(
                int(level[s]), int(best.feature[s]), int(best.bin[s]), bool(best.default_left[s]), float(best.gain[s])
            )
        tree = nodes.frozen()
        await offload(move, tree, table, at, level[split])
        lefts = np.array([tree.left[node] for node in level[split].tolist()], np.int64)
        if depth + 1 < params.max_depth:
            one = await _add(totals, table, at, lefts, len(tree.left), g, h)
            sums = np.stack([one, sums[split] - one], axis=1).reshape(-1, *one.shape[1:])
            whole = node_total(sums, table.layout)
        else:  # of leaves nothing but their own sums is needed
            flat = np.stack([np.bincount(at, d, len(tree.left))[lefts] for d in (g, h)], axis=1).astype(np.float64)
            one = (await totals.total(flat.ravel(), what=f"{STEP}: sums of leaves")).reshape(-1, 2)
            whole = np.stack([one, whole[split] - one], axis=1).reshape(-1, 2)
        level = np.stack([lefts, lefts + 1], axis=1).ravel()
        for node, weight in zip(level.tolist(), leaf_weight(whole, params).tolist(), strict=True):
            nodes.weight[node] = weight
    weights = [w if left < 0 else 0.0 for w, left in zip(nodes.weight, nodes.left, strict=True)]
    return msgspec.structs.replace(nodes.frozen(), weight=tuple(weights)), at


async def _add(totals: Totals, table: BinnedTable, at: I32, level: I64, size: int, g: F64, h: F64) -> F64:
    """Add up histograms of some nodes over all sites, (S, k, 2)."""
    slot = np.full(size, -1, np.int64)
    slot[level] = np.arange(level.size)
    mine = await offload(histogram, table.codes, table.layout.offsets, at, slot, g, h, level.size)
    return (await totals.total(mine.ravel(), what=f"{STEP}: sums by node, column and bin")).reshape(mine.shape)


def move(tree: Tree, table: BinnedTable, at: I32, level: I64 | None = None) -> None:
    """Move every row of nodes that are split one level down, in place.

    Args:
        tree: the tree.
        table: the columns in bins, n rows.
        at: (n,) node of every row.
        level: the nodes to look at; all if left out.
    """
    left, feature = np.array(tree.left, np.int64), np.array(tree.feature, np.int64)
    if level is not None:
        kept = np.full(left.size, -1, np.int64)
        kept[level] = left[level]
        left = kept
    layout: Layout = table.layout
    rule = layout.categorical[feature] + 2 * ~np.array(tree.default_left, np.bool_)
    missing = np.where(layout.missing[feature], layout.bins[feature], -1)
    none = np.zeros(0, np.uint8)  # no row's side is decided elsewhere
    advance(table.codes, at, left, feature, np.array(tree.bin, np.int64), rule.astype(np.int64), missing, none)


def leaves(tree: Tree, table: BinnedTable, depth: int) -> I32:
    """Return the leaf of every row, (n,), in a tree of at most `depth` levels."""
    at = np.zeros(table.rows, np.int32)
    for _ in range(depth):
        move(tree, table, at)
    return at
