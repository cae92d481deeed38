"""Split finding as XGBoost's `hist` does it, for all nodes, features and bins at once."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from atoll.learn.vertical.trees.binning import Layout
from atoll.learn.vertical.trees.kernels import F64, I64
from atoll.learn.vertical.trees.params import TreeParams

MIN_GAIN = 1e-6
"""Gains up to this count as none (XGBoost's kRtEps)."""


@dataclass(frozen=True)
class Best:
    """The best split of every node within one site's features.

    Args:
        gain: (S,) gain, -inf where no split is allowed.
        feature: (S,) feature.
        bin: (S,) threshold bin: larger ones go right; with a category, the bin that goes right.
        default_left: (S,) whether missing values go left.
    """

    gain: F64
    feature: I64
    bin: I64
    default_left: NDArray[np.bool_]


def score(total: F64, params: TreeParams) -> F64:
    """Return G² / (H + λ) of sums (…, 2), and 0 where H is below `min_child_weight` or not positive."""
    g, h = total[..., 0], total[..., 1]
    open_ = (h >= params.min_child_weight) & (h > 0)
    return np.where(open_, g * g / np.where(open_, h + params.reg_lambda, 1.0), 0.0)


def best_splits(sums: F64, layout: Layout, totals: F64, allowed: NDArray[np.bool_], params: TreeParams) -> Best:
    """Find the best split of every node: both default sides for missing values, thresholds or one bin against the rest.

    Ties go to the lower feature; within a feature, numeric ones try missing right first, from the lowest bin up, then
    missing left, from the highest bin down; categories try missing left first, from the first bin on.

    Args:
        sums: (S, k, 2) sums of g and h by bin.
        layout: Shape of the k bins; F features.
        totals: (S, 2) sums of g and h of every node.
        allowed: (S, F) whether a node may be split on a feature.
        params: λ, γ and `min_child_weight`.

    Returns:
        The best of every node; a gain that is not above `MIN_GAIN`, or is below γ, counts as no split.

    Source:
        Chen and Guestrin, XGBoost, KDD 2016, equation 7 (without the factor ½, as XGBoost itself) and algorithm 3.
    """
    nodes, most = len(sums), int(layout.bins.max(initial=0))
    if not layout.features or not nodes:
        none = np.zeros(nodes, np.int64)
        return Best(np.full(nodes, -np.inf), none, none, none.astype(np.bool_))
    numbers = np.arange(most)
    end = layout.offsets[-1]  # points at an added row of zeros
    places = np.where(numbers < layout.bins[:, None], layout.offsets[:-1, None] + numbers, end)
    lost = np.where(layout.missing, layout.offsets[:-1] + layout.bins, end)
    padded = np.concatenate([sums, np.zeros((nodes, 1, 2))], axis=1)
    cells = padded[:, places]  # (S, F, B, 2)
    missing = padded[:, lost][:, :, None]  # (S, F, 1, 2)
    named = layout.categorical[:, None, None]
    whole = totals[:, None, None]
    below = np.cumsum(cells, axis=2)
    first = np.where(named, whole - cells, below)  # left side, missing right (numeric) or left (category)
    second = np.where(named, whole - cells - missing, (below + missing)[:, :, ::-1])
    left = np.stack([first, second], axis=2)  # (S, F, 2, B, 2)
    right = whole[:, :, None] - left
    valid = allowed[:, :, None, None] & _candidates(layout, most) & _heavy(left, params) & _heavy(right, params)
    parent = score(totals, params)[:, None, None, None]
    gain = np.where(valid, score(left, params) + score(right, params) - parent, -np.inf).reshape(nodes, -1)
    at = gain.argmax(axis=1)
    top = gain[np.arange(nodes), at]
    feature, side, number = np.unravel_index(at, (layout.features, 2, most))
    category = layout.categorical[feature]
    bin_ = np.where((side == 1) & ~category, most - 1 - number, number)
    top = np.where((top > MIN_GAIN) & (top >= params.gamma), top, -np.inf)
    return Best(top, feature.astype(np.int64), bin_.astype(np.int64), (side == 1) ^ category)


def _candidates(layout: Layout, most: int) -> NDArray[np.bool_]:
    """(F, 2, B) which (default side, bin) are splits at all."""
    numbers, bins, named = np.arange(most), layout.bins[:, None], layout.categorical[:, None]
    missing = layout.missing[:, None]
    # a threshold at the last bin parts known from missing values; a single category parts nothing but missing values
    first = np.where(named, (numbers < bins) & ((bins > 1) | missing), numbers < bins - 1 + missing)
    second = np.where(named, (numbers < bins) & (bins > 1), numbers[::-1] < bins - 1) & missing
    return np.stack([first, second], axis=1)


def _heavy(side: F64, params: TreeParams) -> NDArray[np.bool_]:
    return (side[..., 1] >= params.min_child_weight) & (side[..., 1] > 0)


def leaf_weight(total: F64, params: TreeParams) -> F64:
    """Return the weight -η G / (H + λ) of leaves with sums (…, 2), and 0 where H is below `min_child_weight`."""
    open_ = (total[..., 1] >= params.min_child_weight) & (total[..., 1] > 0)
    return np.where(
        open_, -params.learning_rate * total[..., 0] / np.where(open_, total[..., 1] + params.reg_lambda, 1.0), 0.0
    )
