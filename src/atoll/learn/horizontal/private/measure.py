"""How good a model is, by totals that hold noise."""

from __future__ import annotations

import numpy as np

from atoll.learn.horizontal.private.scaled import to_unit
from atoll.learn.horizontal.rows import F64
from atoll.protocols.secure_sum.noisy import PlannedTotals, Release

EDGES = np.linspace(-4.2, 4.2, 15)
"""Borders between groups of like scores, log-odds; few, since every group has noise of its own."""


def auc_plan(rho: float) -> Release:
    """Plan an AUC: one row is in one group, with the event or without."""
    return Release(what="rows by event and group of like scores", numbers=2 * (EDGES.size + 1), length=1.0, rho=rho)


async def auc(totals: PlannedTotals, release: Release, score: F64, y: F64) -> dict[str, float]:
    """Find how often an event scores above a row without, from noisy counts in groups of like scores.

    Args:
        totals: noisy totals of the plan.
        release: of `auc_plan`.
        score: (n,) this site's probabilities, none missing.
        y: (n,) 0 or 1.

    Returns:
        `AUC`, between 0 and 1, and the standard deviation that noise gives it; nothing if there are too few rows.
    """
    with np.errstate(divide="ignore"):
        at = np.searchsorted(EDGES, np.log(score) - np.log1p(-score), side="right")
    size = EDGES.size + 1
    mine = np.bincount(at + size * y.astype(np.int64), minlength=2 * size).astype(np.float64)
    without, event = (await totals.total(mine, release)).reshape(2, size)
    sums = float(without.sum()), float(event.sum())
    if min(sums) < 1:
        return {}
    below = (np.cumsum(without) - without / 2) / sums[0]
    above = (sums[1] - np.cumsum(event) + event / 2) / sums[1]
    found = float(event @ below / sums[1])
    slopes = np.concatenate([(below - found) / sums[1], (above - found) / sums[0]])
    off = totals.sd(release) * float(np.linalg.norm(slopes))
    return {"AUC": min(max(found, 0.0), 1.0), "noise of the AUC": off}


def r_squared_plan(rho: float) -> Release:
    """Plan an R²: rows, labels, their squares, and squares of what predictions are off by."""
    return Release(what="squares of the label and of what predictions are off by", numbers=4, length=2.0, rho=rho)


async def r_squared(
    totals: PlannedTotals, release: Release, score: F64, y: F64, bounds: tuple[float, float]
) -> dict[str, float]:
    """Find the share of the label's variation that predictions explain; arguments as `auc`, and the label's bounds."""
    label, off = to_unit(y, bounds), to_unit(y, bounds) - to_unit(score, bounds)
    mine = [float(len(y)), float(label.sum()), float((label**2).sum()), float((off**2).sum()) / 4]
    rows, first, second, rest = await totals.total(np.array(mine), release)
    spread = second - first**2 / max(rows, 1.0)
    return {"R²": float(1 - 4 * rest / spread)} if spread > 0 and rows >= 1 else {}
