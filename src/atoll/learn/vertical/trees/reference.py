"""The same trees, grown in the open on pooled bins: the plain reference that the private protocol is held to.

Written without the protocol's shortcuts: all sums come from rows (no subtraction), every split is tried in turn.  It
has the same tie-break, the same rule for the groups of rows that are opened, and takes the same sample of rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

import numpy as np
from numpy.typing import NDArray

from atoll.crypto.random import Rng
from atoll.learn.vertical.trees.binning import BinnedTable, right_bits
from atoll.learn.vertical.trees.grow import SPARE, Choice, Sample, draw_sample, without
from atoll.learn.vertical.trees.kernels import F64, I64, U8
from atoll.learn.vertical.trees.objective import base_margin, derivatives
from atoll.learn.vertical.trees.params import TreeParams
from atoll.learn.vertical.trees.split import MIN_GAIN


@dataclass(frozen=True)
class PlainTree:
    """A tree grown in the open: splits in level order, and the margin it adds to every row (n,)."""

    splits: tuple[Choice, ...]
    added: F64


def grow_forest(
    tables: Sequence[BinnedTable], label: U8, train: NDArray[np.bool_], params: TreeParams, rng: Rng
) -> list[PlainTree]:
    """Grow all trees on pooled bins.

    Args:
        tables: Bins of every site, the label holder's first.
        label: (n,) 0 or 1.
        train: (n,) which rows are trained on.
        params: The parameters; early stopping is not looked at.
        rng: For the samples of rows and features.
    """
    margin = np.full(label.size, base_margin(label[train], params))
    trees = []
    for _ in range(params.n_estimators):
        g, h = derivatives(margin, label, params)
        sample = draw_sample(g, h, train, [t.layout.features for t in tables], params, rng)
        trees.append(grow_tree(tables, sample, params))
        margin = margin + trees[-1].added
    return trees


@dataclass(frozen=True)
class _Node:
    number: int
    rows: I64
    group: I64 | None  # the rows whose foreign sums are opened for it, if any


def grow_tree(tables: Sequence[BinnedTable], sample: Sample, params: TreeParams) -> PlainTree:
    """Grow one tree, level by level, on pooled bins."""
    everybody = np.arange(sample.rows.size)
    level = [_Node(0, everybody, everybody if _taking(sample, everybody) >= params.smallest_node else None)]
    splits: list[Choice] = []
    added, nodes = np.zeros(sample.rows.size), 1
    for depth in range(params.max_depth + 1):
        children: list[_Node] = []
        for node in level:
            choice = _best(tables, sample, node, params) if depth < params.max_depth else None
            if choice is None:
                added[node.rows] = _weight(sample, node.rows, params)
                continue
            splits.append(choice)
            bits = right_bits(tables[choice.site], choice.feature, choice.bin, choice.default_left)[node.rows]
            sides = [node.rows[bits == 0], node.rows[bits == 1]]
            groups = _groups(sample, sides, node.group, params)
            children += [_Node(nodes + i, sides[i], groups[i]) for i in range(2)]
            nodes += 2
        level = children
    return PlainTree(tuple(splits), added)


def _groups(sample: Sample, sides: list[I64], group: I64 | None, params: TreeParams) -> list[I64 | None]:
    """Return the groups of both children: small ones have none, and no difference of groups is small."""
    counts = [_taking(sample, side) for side in sides]
    small = int(counts[0] > counts[1])
    out: list[I64 | None] = [None, None]
    if group is None or counts[1 - small] < params.smallest_node:
        return out
    if counts[small] >= params.smallest_node:
        out[small], group = sides[small], np.setdiff1d(group, sides[small])
    if SPARE * (_taking(sample, group) - counts[1 - small]) <= counts[1 - small]:
        out[1 - small] = group
    return out


def _taking(sample: Sample, rows: I64) -> int:
    return int(np.count_nonzero(sample.rows[rows]))


def _weight(sample: Sample, rows: I64, params: TreeParams) -> float:
    g, h = float(sample.g[rows].sum()), float(sample.h[rows].sum())
    if h < params.min_child_weight or h <= 0:
        return 0.0
    return -params.learning_rate * g / (h + params.reg_lambda)


def _gain(total: F64, params: TreeParams) -> float | None:
    g, h = total.tolist()
    return None if h < params.min_child_weight or h <= 0 else g * g / (h + params.reg_lambda)


def _best(tables: Sequence[BinnedTable], sample: Sample, node: _Node, params: TreeParams) -> Choice | None:
    total = _total(sample, node.rows)
    parent = _gain(total, params) or 0.0
    best: Choice | None = None
    for site, table in enumerate(tables):
        rows = node.group if site else node.rows
        for feature in range(table.layout.features):
            if rows is None or not sample.features[site][feature]:
                continue
            whole = _total(sample, rows)
            cells = without(_cells(table, feature, sample, rows), whole, whole - total)
            for bin_, default_left, left in _candidates(table, feature, cells, total):
                low, high = _gain(left, params), _gain(total - left, params)
                gain = -np.inf if low is None or high is None else low + high - parent
                if gain > MIN_GAIN and gain >= params.gamma and (best is None or gain > best.gain):
                    best = Choice(node.number, site, feature, bin_, default_left, gain)
    return best


def _total(sample: Sample, rows: I64) -> F64:
    return np.array([sample.g[rows].sum(), sample.h[rows].sum()])


def _cells(table: BinnedTable, feature: int, sample: Sample, rows: I64) -> F64:
    """Sums of g and h by bin, (bins + 1, 2), the missing bin last."""
    codes, width = table.codes[feature][rows], int(table.layout.bins[feature]) + 1
    return np.stack([np.bincount(codes, d[rows], minlength=width) for d in (sample.g, sample.h)], axis=1)


def _candidates(table: BinnedTable, feature: int, cells: F64, total: F64) -> list[tuple[int, bool, F64]]:
    """List (bin, missing goes left, sums on the left) of every split of a feature, in the order of the tie-break."""
    bins, has_missing = int(table.layout.bins[feature]), bool(table.layout.missing[feature])
    lost = cells[bins]
    if table.layout.categorical[feature]:
        firsts = range(bins) if bins > 1 or has_missing else range(0)
        seconds = range(bins) if bins > 1 and has_missing else range(0)
        out = [(b, True, total - cells[b]) for b in firsts]
        return out + [(b, False, total - cells[b] - lost) for b in seconds]
    below = list(accumulate(cells[:bins]))
    out = [(b, False, below[b]) for b in range(bins if has_missing else bins - 1)]
    if has_missing:
        out += [(b, True, below[b] + lost) for b in reversed(range(bins - 1))]
    return out
