"""How good a model is, found by sums over the sites."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from atoll.node.models import Label
from atoll.node.steps.totals import enough

if TYPE_CHECKING:
    from atoll.protocols.secure_sum.totals import Totals

F64 = NDArray[np.float64]
EDGES = np.linspace(-8, 8, 321)
"""Borders between groups of like scores, in which events are counted for the AUC; log-odds."""


async def quality(sums: Totals, label: Label, score: F64, y: F64, minimum: int) -> dict[str, float]:
    """Measure predictions against labels.

    Args:
        sums: the sum over the sites.
        label: what the label is.
        score: what the model predicts, (n,), or (n, K) probabilities of classes; NaN where a value is missing.
        y: (n,) the label, NaN where it is missing.
        minimum: fewest rows over which a total is opened.

    Returns:
        Figures by name: `AUC` of an event, `R²` of a number, `right` for the share of rows whose class is right.

    Raises:
        InputError: there are too few rows.
    """
    known = ~(np.isnan(score if score.ndim == 1 else score.sum(axis=1)) | np.isnan(y))
    score, y = score[known], y[known]
    rows = float((await sums.total(np.array([float(len(y))]), what="rows with a prediction"))[0])
    enough(rows, minimum, "rows with a prediction")
    if label == "event":
        return await auc(sums, score, y, minimum)
    if label == "class":
        found = score if score.ndim == 1 else score.argmax(axis=1)
        hits = float((await sums.total(np.array([float((found == y).sum())]), what="rows whose class is right"))[0])
        return {"right": hits / rows}
    mean = float((await sums.total(np.array([float(y.sum())]), what="sum of the label"))[0]) / rows
    squares = np.array([((y - score) ** 2).sum(), ((y - mean) ** 2).sum()])
    off, spread = (await sums.total(squares, what="squares of the label about predictions and mean")).tolist()
    return {"R²": 1 - off / spread} if spread else {}


async def auc(sums: Totals, score: F64, y: F64, minimum: int) -> dict[str, float]:
    """Find how often an event scores above a row without, from counts in groups of like scores.

    The groups are a twentieth wide on the scale of log-odds, from -8 to 8; neighbours with too few rows are put
    together before events are counted.

    Args:
        sums: the sum over the sites.
        score: (n,) this site's probabilities.
        y: (n,) 0 or 1.
        minimum: fewest rows of a group.

    Returns:
        `AUC`, and `largest error of the AUC`: half the pairs that share a group. Nothing if all
        rows are of one class.
    """
    with np.errstate(divide="ignore"):
        at = np.searchsorted(EDGES, np.log(score) - np.log1p(-score), side="right")
    here = np.bincount(at, minlength=len(EDGES) + 1).astype(np.float64)
    every = await sums.total(here, what="rows by group of like scores")
    group = _groups(every, minimum)
    events = np.bincount(group[at], y, minlength=int(group[-1]) + 1).astype(np.float64)
    positive = await sums.total(events, what="rows with the event by group of like scores")
    negative = np.bincount(group, every) - positive
    pairs = positive.sum() * negative.sum()
    if not pairs:
        return {}
    below = np.cumsum(negative) - negative
    off = float(positive @ negative / pairs) / 2
    return {"AUC": float(positive @ below / pairs) + off, "largest error of the AUC": off}


def _groups(rows: F64, minimum: int) -> NDArray[np.int64]:
    """Number neighbours so that each number has enough rows, if all together have."""
    group, number, held = np.zeros(len(rows), np.int64), 0, 0.0
    for at, count in enumerate(rows.tolist()):
        if held >= minimum and rows[at:].sum() >= minimum:
            number, held = number + 1, 0.0
        group[at], held = number, held + count
    return group
