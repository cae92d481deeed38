"""One tree while it grows at the label holder: which nodes to query, which splits win, where rows go.  No messages.

Sites are numbered: 0 is the label holder, 1 and up are the feature holders.
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
    opened: bool  # whether its sums over foreign bins are known
    split: Choice | None = None
    left: int = -1


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
        at: (n,) node of every row, also of those that do not take part.
        frontier: Nodes of the level that is growing.
        sums: For every site the (S, k, 2) sums of the frontier's nodes.
        asked: Vectors sent to each feature holder so far.
    """

    table: BinnedTable
    foreign: Sequence[Layout]
    sample: Sample
    params: TreeParams
    nodes: list[Node] = field(default_factory=list)
    frontier: list[int] = field(default_factory=lambda: [0])
    sums: list[F64] = field(default_factory=list)
    asked: int = 0

    def __post_init__(self) -> None:
        total = np.array([self.sample.g.sum(), self.sample.h.sum()])
        rows = int(np.count_nonzero(self.sample.rows))
        self.at = np.zeros(self.table.rows, np.int32)
        self.nodes.append(Node(0, total, rows, self._large(rows)))

    @property
    def layouts(self) -> list[Layout]:
        """Layout of every site, the label holder's first."""
        return [self.table.layout, *self.foreign]

    def queried(self) -> list[int]:
        """Nodes whose own sums are computed at this level: the root, then the smaller child of every split."""
        if self.frontier == [0]:
            return [0]
        return [self._smaller(left) for left in self.frontier[::2]]

    def opened(self) -> list[int]:
        """Those of them that other sites are asked for; their siblings follow by subtraction."""
        return [node for node in self.queried() if self.nodes[node].opened]

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
        """Take the sums of the queried nodes and derive their siblings'.

        Args:
            own: From `own_sums`.
            answers: From every feature holder (S, k, 2) for the opened nodes.
        """
        before, self.sums = self.sums, []
        for site, (layout, fresh) in enumerate(zip(self.layouts, [own, *answers], strict=True)):
            known = dict(zip(self.opened() if site else self.queried(), fresh, strict=True))
            sums = np.zeros((len(self.frontier), int(layout.offsets[-1]), 2))
            for place, node in enumerate(self.frontier):
                if node in known:
                    sums[place] = known[node]
                elif self.nodes[node].opened or not site:
                    sibling = self.frontier[place ^ 1]
                    sums[place] = before[site][self._parents[place // 2]] - known[sibling]
            self.sums.append(sums)

    def choose(self) -> list[Choice]:
        """Return the winning split of every node of the frontier that is worth one; ties go to the lower site."""
        totals = np.array([self.nodes[node].total for node in self.frontier]).reshape(-1, 2)
        opened = np.array([self.nodes[node].opened for node in self.frontier], np.bool_)
        everywhere = np.ones_like(opened)
        found = [
            best_splits(sums, layout, totals, (opened if site else everywhere)[:, None] & drawn, self.params)
            for site, (sums, layout, drawn) in enumerate(
                zip(self.sums, self.layouts, self.sample.features, strict=True)
            )
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
        self._parents = [places[choice.node] for choice in choices]
        self.frontier = []
        for choice in choices:
            parent = self.nodes[choice.node]
            parent.split, parent.left = choice, len(self.nodes)
            self.frontier += [parent.left, parent.left + 1]
            self.nodes += [Node(parent.depth + 1, parent.total, 0, False) for _ in range(2)]
        self._move(choices, bits)
        self._count()
        for choice in choices:
            left, right = self.nodes[self.nodes[choice.node].left :][:2]
            # a node and its sibling are opened together: each follows from the other
            left.opened = right.opened = self.nodes[choice.node].opened and self._large(min(left.rows, right.rows))

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

    def _large(self, rows: int) -> bool:
        return rows >= self.params.smallest_node
