"""Logistic loss: starting score, derivatives on an exact grid, and the measures shown while training."""

from __future__ import annotations

import math

import numpy as np

from atoll.learn.vertical.trees.kernels import F64, U8, pairs_won
from atoll.learn.vertical.trees.params import TreeParams


def grid_bits(rows: int, scale_pos_weight: float) -> int:
    """Return the number of fractional bits with which every sum over `rows` derivatives is exact in float64."""
    return min(30, 52 - math.ceil(math.log2(max(rows, 2) * max(1.0, scale_pos_weight))))


def probability(margin: F64) -> F64:
    """Return 1 / (1 + exp(-margin)) without overflow, (…)."""
    small = np.exp(-np.abs(margin))
    return np.where(margin >= 0, 1.0, small) / (1.0 + small)


def derivatives(margin: F64, label: U8, params: TreeParams) -> tuple[F64, F64]:
    """Return first and second derivatives of the weighted logistic loss, rounded to the exact grid.

    Args:
        margin: (n,) log-odds.
        label: (n,) 0 or 1.
        params: For `scale_pos_weight`.

    Returns:
        g = (p - y) w and h = p (1 - p) w, (n,) each.
    """
    p = probability(margin)
    weight = np.where(label == 1, params.scale_pos_weight, 1.0)
    grid = 2.0 ** grid_bits(label.size, params.scale_pos_weight)
    g = np.rint((p - label) * weight * grid) / grid
    h = np.rint(p * (1.0 - p) * weight * grid) / grid
    return g, h


def base_margin(label: U8, params: TreeParams) -> float:
    """Return the log-odds before the first tree.

    They are those of `base_score`; or of the rate among the labels (n,); or, as XGBoost has it where positive rows have
    a weight of their own, one Newton step from even odds.
    """
    rate = params.base_score if params.base_score is not None else float(label.mean())
    if params.base_score is None and params.scale_pos_weight != 1.0:
        positive = rate * params.scale_pos_weight
        return 4.0 * positive / (positive + 1.0 - rate) - 2.0
    return math.log(rate / (1.0 - rate))


def log_loss(margin: F64, label: U8) -> float:
    """Return the mean logistic loss of log-odds (n,) for labels (n,) of 0 and 1."""
    return float(np.mean(np.logaddexp(0.0, margin) - label * margin))


def auc(score: F64, label: U8) -> float:
    """Return the area under the ROC curve of scores (n,) for labels (n,) of 0 and 1; ties count half."""
    positive, negative = np.sort(score[label == 1]), np.sort(score[label == 0])
    return pairs_won(positive, negative) / 2 / (positive.size * negative.size)
