"""Running the loop at simulated sites."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from atoll.learn.horizontal.networks import ExactAverages, Fitted, Plan, fit, simulate
from atoll.learn.horizontal.networks.algorithms import State
from atoll.learn.horizontal.networks.combine import Combine, Combined, Turn
from atoll.learn.horizontal.networks.trainer import Trainer
from atoll.protocols.secure_sum.totals import Totals


def fit_all(trainers: Sequence[Trainer], plan: Plan, **options: Any) -> list[Fitted]:
    """Fit at as many sites as there are trainers; a list of options has one for each site."""

    async def site(totals: Totals) -> Fitted:
        at = totals.sites.index(totals.site)
        mine = {name: value[at] if isinstance(value, list) else value for name, value in options.items()}
        return await fit(trainers[at], totals, plan, **mine)

    return simulate(len(trainers), site)


def combined(
    combine: Combine,
    updates: np.ndarray,
    weights: Sequence[float],
    states: Sequence[State] | None = None,
    *,
    seed: int = 0,
    beside: bool = True,
) -> list[Combined]:
    """One round of a rule at as many sites as there are rows; beside its update each averages its own number."""
    kept = [State() for _ in updates] if states is None else states

    async def site(totals: Totals) -> Combined:
        k = totals.sites.index(totals.site)
        number = np.array([k] * beside, np.float32)
        turn = Turn(totals, ExactAverages(totals), updates[k].astype(np.float32), number, weights[k], b"%d" % seed)
        return await combine(turn, kept[k])

    return simulate(len(updates), site)
