"""One tree while it grows at the label holder: which nodes to query, which splits win, where rows go.  No messages.

Sites are numbered: 0 is the label holder, 1 and up are the feature holders.

Sums over foreign bins are opened for groups of rows of at least `min_node` rows, and no difference of groups is
smaller.  When both children of a node are large, the smaller one becomes a group (it is queried) and the larger one
keeps the rest of its parent's.  When one child is small, the other keeps the parent's group as it is, so that the
small one's sums follow from nothing; the few rows too many are taken off in proportion to every bin.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from atoll.crypto.random import Rng
from atoll.learn.vertical.trees.binning import BinnedTable, Layout
from atoll.learn.vertical.trees.kernels import F64, I64, U8, Codes, advance, histogram, masked_vectors
from atoll.learn.vertical.trees.params import TreeParams
from atoll.learn.vertical.trees.split import best_splits, leaf_weight

CLOSED = -1
"""Group of a node whose foreign sums are not known."""

SPARE = 4
"""A group serves a node if at most one in so many of the node's rows is one too many."""


@dataclass(frozen=True)
class Choice:
    """The split that won at a node.

    Args:
        node: The node's number in its tree.
        site: Whose feature it is, 0 for the label holder's own.
        feature: The feature's number at its site.
        bin: Threshold bin.
        default_left: Whether missing values go left.
        gain: What the split gains.
    """

    node: int
    site: int
    feature: int
    bin: int
    default_left: bool
    gain: float


@dataclass
class Node:
    """A node of a tree under growth; a leaf until it is split."""

    depth: int
    total: F64  # (2,) sums of g and h
    rows: int  # rows that take part
    group: int = CLOSED  # the group whose foreign sums serve it
    split: Choice | None = None
    left: int = -1


@dataclass
class Group:
    """Rows whose sums over foreign bins are known."""

    total: F64  # (2,) sums of g and h
    rows: int
    sums: list[F64] = field(default_factory=list)  # of every feature holder (k, 2)


@dataclass(frozen=True)
class Sample:
    """What one tree is grown on.

    Args:
        g: (n,) first derivatives, 0 for rows that do not take part.
        h: (n,) second derivatives, likewise.
        rows: (n,) which rows take part.
        features: For every site (F,), which features take part.
    """

    g: F64
    h: F64
    rows: NDArray[np.bool_]
    features: tuple[NDArray[np.bool_], ...]


def draw_sample(
    g: F64, h: F64, train: NDArray[np.bool_], counts: Sequence[int], params: TreeParams, rng: Rng
) -> Sample:
    """Draw a tree's rows and features.

    Args:
        g: (n,) first derivatives of all rows.
        h: (n,) second derivatives.
        train: (n,) which rows may take part.
        counts: Number of features of every site.
        params: For `subsample` and `colsample_bytree`.
        rng: Draws nothing where a share is 1.
    """
    rows = train
    if params.subsample < 1:
        rows = train & (rng.u32(train.size) < np.uint64(params.subsample * 2.0**32))
    drawn = np.ones(sum(counts), np.bool_)
    if params.colsample_bytree < 1:
        keep = max(1, int(params.colsample_bytree * drawn.size))
        drawn[:] = False
        drawn[rng.permutation(drawn.size)[:keep]] = True
    return Sample(np.where(rows, g, 0.0), np.where(rows, h, 0.0), rows, tuple(np.split(drawn, np.cumsum(counts)[:-1])))


@dataclass
class Growth:
    """A tree level by level: `vectors` and `own_sums`, then `absorb`, `choose`, and `apply` with direction bits.

    Args:
        table: The label holder's own bins, n rows.
        foreign: Layout of every feature holder.
        sample: Derivatives, rows and features of this tree.
        params: The parameters.

    Attributes:
        nodes: All nodes so far; the children of a node stand side by side.
        groups: Groups of rows by the node that was queried for them.
        at: (n,) node of every row, also of those that do not take part.
        frontier: Nodes of the level that is growing.
        own: (S, k, 2) sums of the frontier's nodes over own bins.
        asked: Vectors sent to each feature holder so far.
    """

    table: BinnedTable
    foreign: Sequence[Layout]
    sample: Sample
    params: TreeParams
    nodes: list[Node] = field(default_factory=list)
    groups: dict[int, Group] = field(default_factory=dict)
    frontier: list[int] = field(default_factory=lambda: [0])
    asked: int = 0

    def __post_init__(self) -> None:
        total = np.array([self.sample.g.sum(), self.sample.h.sum()])
        rows = int(np.count_nonzero(self.sample.rows))
        self.at = np.zeros(self.table.rows, np.int32)
        self.own = np.zeros((0, int(self.table.layout.offsets[-1]), 2))
        self.nodes.append(Node(0, total, rows))
        self._parents = np.zeros(0, np.int64)
        self._fresh: list[int] = []
        self._rest: dict[int, int] = {}
        if rows >= self.params.smallest_node:
            self._open(0, 0)

    def queried(self) -> list[int]:
        """Nodes whose own sums are computed at this level: the root, then the smaller child of every split."""
        return [0] if self.frontier == [0] else [self._smaller(left) for left in self.frontier[::2]]

    def opened(self) -> list[int]:
        """Nodes that other sites are asked for at this level."""
        return self._fresh

    def vectors(self, count: int) -> F64:
        """Return g and h of every opened node, zero outside it, padded with zeros to `count` nodes: (2 count, n)."""
        self.asked += 2 * count
        return masked_vectors(self.at, self._slots(self.opened()), self.sample.g, self.sample.h, count)

    def own_sums(self) -> F64:
        """Return the (S, k, 2) sums of the queried nodes over the label holder's own bins."""
        nodes, layout = self.queried(), self.table.layout
        sample = self.sample
        return histogram(self.table.codes, layout.offsets, self.at, self._slots(nodes), sample.g, sample.h, len(nodes))

    def absorb(self, own: F64, answers: Sequence[F64]) -> None:
        """Take the sums of the queried nodes and derive the others'.

        Args:
            own: From `own_sums`.
            answers: From every feature holder (S, k, 2) for the opened nodes.
        """
        known = dict(zip(self.queried(), own, strict=True))
        before, self.own = self.own, np.empty((len(self.frontier), *own.shape[1:]))
        for place, node in enumerate(self.frontier):
            if node in known:
                self.own[place] = known[node]
            else:
                self.own[place] = before[self._parents[place // 2]] - known[self.frontier[place ^ 1]]
        for place, node in enumerate(self._fresh):
            fresh = [answer[place] for answer in answers]
            self.groups[node].sums = fresh
            if node:
                rest = self.groups[self._rest[node]]
                rest.sums = [kept - gone for kept, gone in zip(rest.sums, fresh, strict=True)]

    def choose(self) -> list[Choice]:
        """Return the winning split of every node of the frontier that is worth one; ties go to the lower site."""
        totals = np.array([self.nodes[node].total for node in self.frontier]).reshape(-1, 2)
        opened = np.array([self.nodes[node].group != CLOSED for node in self.frontier], np.bool_)
        sums = [self.own, *(self._foreign_sums(site) for site in range(len(self.foreign)))]
        layouts = [self.table.layout, *self.foreign]
        found = [
            best_splits(mine, layout, totals, (opened | (site == 0))[:, None] & drawn, self.params)
            for site, (mine, layout, drawn) in enumerate(zip(sums, layouts, self.sample.features, strict=True))
        ]
        choices = []
        for place, node in enumerate(self.frontier):
            site = max(range(len(found)), key=lambda s: (found[s].gain[place], -s))
            best = found[site]
            if best.gain[place] > -np.inf:
                side, gain = bool(best.default_left[place]), float(best.gain[place])
                choices.append(Choice(node, site, int(best.feature[place]), int(best.bin[place]), side, gain))
        return choices

    def apply(self, choices: Sequence[Choice], bits: U8) -> None:
        """Split the chosen nodes, move the rows, and make the children the new frontier.

        Args:
            choices: From `choose`.
            bits: (n,) direction of every row whose node is split on a foreign feature, 1 = right.
        """
        places = {node: place for place, node in enumerate(self.frontier)}
        self._parents = np.array([places[choice.node] for choice in choices], np.int64)
        self.frontier, self._fresh, self._rest = [], [], {}
        for choice in choices:
            parent = self.nodes[choice.node]
            parent.split, parent.left = choice, len(self.nodes)
            self.frontier += [parent.left, parent.left + 1]
            self.nodes += [Node(parent.depth + 1, parent.total, 0) for _ in range(2)]
        self._move(choices, bits)
        self._count()
        for choice in choices:
            self._share(self.nodes[choice.node])

    def weights(self) -> F64:
        """Return the weight of every node as a leaf, and 0 for those that are split, (nodes,)."""
        totals = np.array([node.total for node in self.nodes])
        inner = np.array([node.split is not None for node in self.nodes])
        return np.where(inner, 0.0, leaf_weight(totals, self.params))

    def _move(self, choices: Sequence[Choice], bits: U8) -> None:
        left, feature, bin_, rule, missing = np.full((5, len(self.nodes)), -1, np.int64)
        layout = self.table.layout
        for choice in choices:
            node = choice.node
            left[node] = self.nodes[node].left
            if choice.site == 0:
                f = choice.feature
                feature[node], bin_[node] = f, choice.bin
                rule[node] = int(layout.categorical[f]) + 2 * (not choice.default_left)
                missing[node] = layout.bins[f] if layout.missing[f] else -1
        codes: Codes = self.table.codes
        advance(codes, self.at, left, feature, bin_, rule, missing, bits)

    def _count(self) -> None:
        size, sample = len(self.nodes), self.sample
        rows = np.bincount(self.at, weights=sample.rows, minlength=size)
        g = np.bincount(self.at, weights=sample.g, minlength=size)
        h = np.bincount(self.at, weights=sample.h, minlength=size)
        for node in self.frontier:
            self.nodes[node].rows, self.nodes[node].total = int(rows[node]), np.array([g[node], h[node]])

    def _slots(self, nodes: Sequence[int]) -> I64:
        slots = np.full(len(self.nodes), -1, np.int64)
        slots[list(nodes)] = np.arange(len(nodes))
        return slots

    def _smaller(self, left: int) -> int:
        return left if self.nodes[left].rows <= self.nodes[left + 1].rows else left + 1

    def _share(self, parent: Node) -> None:
        """Hand the group of a split node on to its children."""
        small, least = self._smaller(parent.left), self.params.smallest_node
        large = parent.left + (small == parent.left)
        if parent.group == CLOSED or self.nodes[large].rows < least:
            return
        group = self.groups[parent.group]
        if self.nodes[small].rows >= least:
            self._open(small, small)
            self._rest[small] = parent.group
            group.rows, group.total = group.rows - self.nodes[small].rows, group.total - self.nodes[small].total
        if SPARE * (group.rows - self.nodes[large].rows) <= self.nodes[large].rows:
            self.nodes[large].group = parent.group

    def _open(self, node: int, group: int) -> None:
        """Make a node's rows a group, to be queried."""
        self.nodes[node].group = group
        self.groups[group] = Group(self.nodes[node].total, self.nodes[node].rows)
        self._fresh.append(node)

    def _foreign_sums(self, site: int) -> F64:
        """Return the (S, k, 2) sums of the frontier's nodes over one feature holder's bins; 0 where not known."""
        out = np.zeros((len(self.frontier), int(self.foreign[site].offsets[-1]), 2))
        for place, number in enumerate(self.frontier):
            node = self.nodes[number]
            if node.group != CLOSED:
                group = self.groups[node.group]
                out[place] = without(group.sums[site], group.total, group.total - node.total)
        return out


def without(sums: F64, total: F64, surplus: F64) -> F64:
    """Take rows off sums by bin, whose own sums by bin are not known: from every bin in proportion to its h.

    Args:
        sums: (k, 2) sums of g and h by bin.
        total: (2,) sums over one feature's bins.
        surplus: (2,) sums of the rows to take off.
    """
    if not surplus.any() or total[1] <= 0:
        return sums
    rest: F64 = sums - surplus * (sums[:, 1:] / total[1])
    return rest
