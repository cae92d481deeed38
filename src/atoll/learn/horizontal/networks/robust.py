"""Robust ways to combine updates: some by sums alone, the others by one site that sees every update.

The first need nothing but averages, so that nobody sees a single update.  They bear sites whose *data or updates* are
wrong but which run this code.  A site that runs other code can still put any vector into a sum; against that, use an
aggregator that sees single updates, or a secure sum that checks their length.

All sites count alike, for a wrong site would lie about its rows.
"""

from __future__ import annotations

import numpy as np

from atoll.core.errors import InputError
from atoll.learn.horizontal.networks.algorithms import State
from atoll.learn.horizontal.networks.averages import F32
from atoll.learn.horizontal.networks.combine import Combine, Combined, Turn
from atoll.learn.horizontal.networks.rules import Rule


class NormBound(Combine, frozen=True, kw_only=True):
    """Updates longer than a radius are shortened to it (Sun et al. 2019), so that no site moves the average far.

    Args:
        radius: above 0.
    """

    radius: float

    def __post_init__(self) -> None:
        _positive("radius", self.radius)

    async def __call__(self, turn: Turn, state: State) -> Combined:
        """Average shortened updates."""
        weight = _alike(turn)
        mean, total = await turn.averages.average(clipped(turn.update, self.radius), weight, what="bounded updates")
        return Combined(mean, turn.beside, total)


class GeometricMedian(Combine, frozen=True, kw_only=True):
    """The point nearest to all updates: their geometric median, by Weiszfeld steps (RFA, Pillutla et al. 2022).

    Each step is one average, in which a site weighs 1 / max(ν, its distance to the last point).  Bears fewer than half
    of the sites.  All learn the average of every step, not of the last one alone.

    Args:
        steps: at least 1, after the plain mean.  With a fifth of the sites far away each leaves a quarter of the pull.
        smoothing: ν, above 0.
    """

    steps: int = 6
    smoothing: float = 1e-6

    def __post_init__(self) -> None:
        _positive("steps", self.steps)
        _positive("smoothing", self.smoothing)

    async def __call__(self, turn: Turn, state: State) -> Combined:
        """z ← Σ βᵢ uᵢ / Σ βᵢ, beginning with the mean."""
        weight = _alike(turn)
        point, total = await turn.averages.average(turn.update, weight, what="updates")
        for _ in range(self.steps):
            beta = weight / max(self.smoothing, _length(turn.update - point))
            point, _ = await turn.averages.average(turn.update, beta, what="updates, weighed by nearness")
        return Combined(point, turn.beside, total)


class CentredClipping(Combine, frozen=True, kw_only=True):
    """Updates with momentum, clipped around the last average (Karimireddy et al. 2021, algorithm 2).

    Args:
        radius: τ, above 0: how far from the last average an update may pull.
        steps: at least 1.
        momentum: β of each site's own average over rounds, in [0, 1).
    """

    radius: float
    steps: int = 1
    momentum: float = 0.9

    def __post_init__(self) -> None:
        _positive("radius", self.radius)
        _positive("steps", self.steps)
        if not 0 <= self.momentum < 1:
            raise InputError("momentum must be in [0, 1)", step="networks", cure="Change momentum.")

    async def __call__(self, turn: Turn, state: State) -> Combined:
        """m ← β m + (1 − β) u at each site; v ← v + mean of clip(m − v)."""
        weight, n, total = _alike(turn), turn.update.size, 0.0
        moved = turn.update
        if weight > 0:
            before = state.own.get("momentum")
            beta = np.float32(self.momentum)
            moved = turn.update if before is None else beta * before + (1 - beta) * turn.update
            state.own["momentum"] = moved
        centre = state.common("centre", n)
        for _ in range(self.steps):
            pulls = clipped(moved - centre, self.radius)
            pull, total = await turn.averages.average(pulls, weight, what="clipped updates")
            centre = centre + pull
        state.shared["centre"] = centre
        return Combined(centre, turn.beside, total)


class Seen(Combine, frozen=True, kw_only=True):
    """A rule over single updates, at an aggregator that all sites trust to see them.

    Args:
        rule: the rule.
    """

    rule: Rule

    async def __call__(self, turn: Turn, state: State) -> Combined:
        """Hand over the update, take the outcome."""
        takes_part = _alike(turn) > 0
        if turn.aggregator is None:
            raise InputError(
                f"{type(self.rule).__name__} needs a site that sees every update",
                site=turn.totals.site,
                step="networks",
                cure="Give `fit` an aggregator, or take GeometricMedian, CentredClipping or NormBound.",
            )
        mean, count = await turn.aggregator.combine(turn.update if takes_part else None, self.rule, turn.update.size)
        return Combined(mean, turn.beside, float(count))


def clipped(vector: F32, radius: float) -> F32:
    """Shorten a vector to a radius if it is longer."""
    shorter: F32 = vector * np.float32(min(1.0, radius / max(_length(vector), 1e-30)))
    return shorter


def _length(vector: F32) -> float:
    return float(np.linalg.norm(vector.astype(np.float64)))


def _alike(turn: Turn) -> float:
    """1 if the site takes part, else 0.

    Raises:
        InputError: the algorithm averages more than updates, which no rule here protects.
    """
    if turn.beside.size:
        raise InputError(
            "a robust rule protects updates alone, but more is averaged here",
            site=turn.totals.site,
            step="networks",
            cure="Take FedAvg, FedProx, FedAdam or FedYogi, and keep batch norm local.",
        )
    return float(turn.weight > 0)


def _positive(name: str, value: float) -> None:
    if not value > 0:
        raise InputError(f"{name} is {value!r}, but must be above 0", step="networks", cure=f"Change {name}.")
