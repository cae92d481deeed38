"""The same trees, grown in the open on pooled bins: the plain reference that the private protocol is held to.

Written without the protocol's shortcuts: every node's sums come from its own rows (no subtraction), every split is
tried in turn.  It has the same tie-break, the same rule for opening nodes, and takes the same sample of rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from atoll.crypto.random import Rng
from atoll.learn.vertical.trees.binning import BinnedTable, right_bits
from atoll.learn.vertical.trees.grow import Choice, Sample, draw_sample
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


def grow_tree(tables: Sequence[BinnedTable], sample: Sample, params: TreeParams) -> PlainTree:
    """Grow one tree, level by level, on pooled bins."""
    taken = int(np.count_nonzero(sample.rows))
    level: list[tuple[int, I64, bool]] = [(0, np.arange(sample.rows.size), taken >= params.smallest_node)]
    splits: list[Choice] = []
    added, nodes = np.zeros(sample.rows.size), 1
    for depth in range(params.max_depth + 1):
        children: list[tuple[int, I64, bool]] = []
        for node, rows, opened in level:
            choice = _best(tables, sample, rows, opened, node, params) if depth < params.max_depth else None
            if choice is None:
                added[rows] = _weight(sample, rows, params)
                continue
            splits.append(choice)
            bits = right_bits(tables[choice.site], choice.feature, choice.bin, choice.default_left)[rows]
            sides = [rows[bits == 0], rows[bits == 1]]
            opens = opened and min(int(sample.rows[s].sum()) for s in sides) >= params.smallest_node
            children += [(nodes + i, side, opens) for i, side in enumerate(sides)]
            nodes += 2
        level = children
    return PlainTree(tuple(splits), added)


def _weight(sample: Sample, rows: I64, params: TreeParams) -> float:
    g, h = float(sample.g[rows].sum()), float(sample.h[rows].sum())
    if h < params.min_child_weight or h <= 0:
        return 0.0
    return -params.learning_rate * g / (h + params.reg_lambda)


def _gain(g: float, h: float, params: TreeParams) -> float | None:
    return None if h < params.min_child_weight or h <= 0 else g * g / (h + params.reg_lambda)


def _best(
    tables: Sequence[BinnedTable], sample: Sample, rows: I64, opened: bool, node: int, params: TreeParams
) -> Choice | None:
    g, h = sample.g[rows], sample.h[rows]
    total = (float(g.sum()), float(h.sum()))
    parent = _gain(*total, params) or 0.0
    best: Choice | None = None
    for site, table in enumerate(tables):
        for feature in range(table.layout.features):
            if (site and not opened) or not sample.features[site][feature]:
                continue
            for bin_, default_left, left in _candidates(table, feature, table.codes[feature][rows], g, h, total):
                low, high = _gain(*left, params), _gain(total[0] - left[0], total[1] - left[1], params)
                gain = -np.inf if low is None or high is None else low + high - parent
                if gain > MIN_GAIN and gain >= params.gamma and (best is None or gain > best.gain):
                    best = Choice(node, site, feature, bin_, default_left, gain)
    return best


def _candidates(
    table: BinnedTable, feature: int, codes: NDArray[np.integer], g: F64, h: F64, total: tuple[float, float]
) -> list[tuple[int, bool, tuple[float, float]]]:
    """List (bin, missing goes left, sums on the left) of every split of a feature, in the order of the tie-break."""
    bins, width = int(table.layout.bins[feature]), int(table.layout.bins[feature]) + 1
    cells = list(
        zip(
            np.bincount(codes, g, minlength=width).tolist(),
            np.bincount(codes, h, minlength=width).tolist(),
            strict=True,
        )
    )
    has_missing = bool(table.layout.missing[feature])
    lost = cells[bins] if has_missing else (0.0, 0.0)
    if table.layout.categorical[feature]:
        firsts = range(bins) if bins > 1 or has_missing else range(0)
        seconds = range(bins) if bins > 1 and has_missing else range(0)
        out = [(b, True, (total[0] - cells[b][0], total[1] - cells[b][1])) for b in firsts]
        return out + [(b, False, (total[0] - cells[b][0] - lost[0], total[1] - cells[b][1] - lost[1])) for b in seconds]
    below = [(sum(c[0] for c in cells[: b + 1]), sum(c[1] for c in cells[: b + 1])) for b in range(bins)]
    out = [(b, False, below[b]) for b in range(bins if has_missing else bins - 1)]
    if has_missing:
        out += [(b, True, (below[b][0] + lost[0], below[b][1] + lost[1])) for b in reversed(range(bins - 1))]
    return out
