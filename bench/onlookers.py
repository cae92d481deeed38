"""What somebody sees of a round of training, under each protection.

The onlooker is a site that brings no rows.  Its name comes first, so that training begins with its network: one that it
chose to attack, if it is malicious.  All that it uses afterwards is what its own side of the protocol has received.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from atoll.core.channel import Channel, Gate
from atoll.core.message import kind_of
from atoll.learn.horizontal.networks import (
    AtAggregator,
    AtSite,
    Average,
    ExactAverages,
    Plan,
    Seen,
    Trained,
    TrimmedMean,
    Work,
    fit,
    simulate,
)
from atoll.learn.horizontal.networks.averages import F32
from atoll.learn.horizontal.networks.combine import Combine
from atoll.learn.horizontal.networks.seen_updates import PROTOCOL, Update
from atoll.privacy.accountant import rho_of
from atoll.protocols.secure_sum.noisy import NoisyTotals
from atoll.protocols.secure_sum.totals import Totals
from atoll.testing import FaultyLink, Frame
from atoll.transport.memory import memory_links

ONE_STEP = Plan(rounds=1, epochs=1, batch=0, lr=1.0, weights="equal", evaluate=0, seed=1)
"""One step over all rows of a site: the update is the gradient, the other way round."""


@dataclass(frozen=True)
class Noise:
    """Noise of all sites together.

    Attributes:
        clip: by how much one person, or one site, can change each number.
        epsilon: ε of all rounds together.
        delta: δ.
    """

    clip: float
    epsilon: float
    delta: float = 1e-5

    def over(self, totals: Totals, plan: Plan, size: int, honest: int) -> NoisyTotals:
        """Return totals with noise of a vector of `size` numbers, and of the sum of weights, which needs none."""
        clip = [self.clip * 1.001] * size + [0.0]  # updates are differences of float32, which round
        return NoisyTotals(totals, clip, rho_of(self.epsilon, self.delta), honest, rounds=plan.rounds)


@dataclass
class Clipped:
    """A trainer of which no number of the update is larger than `clip`."""

    inner: Any
    clip: float
    pulls = False

    def parameters(self) -> F32:
        """As a trainer."""
        return self.inner.parameters()  # type: ignore[no-any-return]

    def load(self, vector: F32) -> None:
        """As a trainer."""
        self.inner.load(vector)

    def layout(self) -> Any:
        """As a trainer."""
        return self.inner.layout()

    def evaluate(self) -> Any:
        """As a trainer."""
        return self.inner.evaluate()

    def train(self, work: Work) -> Trained:
        """Train, and cut the update off."""
        before = self.parameters()
        done: Trained = self.inner.train(work)
        self.load(before + np.clip(self.parameters() - before, -self.clip, self.clip))
        return done


def in_sum(
    onlooker: Any,
    sites: Sequence[Any],
    *,
    plan: Plan = ONE_STEP,
    combine: Combine | None = None,
    noise: Noise | None = None,
) -> tuple[F32, float]:
    """Return the total of all updates, as any site of a secure sum learns it, and the ρ that its noise accounts for.

    Args:
        onlooker: a trainer without rows; its network is where all begin.
        sites: trainers of the others.
        plan: one round, or more: then the total is over all rounds.
        combine: how updates become one; their plain average if left out.
        noise: added by every site but the onlooker; none if left out.
    """
    trainers, start, spent = [onlooker, *sites], onlooker.parameters(), [np.inf]

    async def site(totals: Totals) -> F32:
        k = totals.sites.index(totals.site)
        adds: Totals = totals
        if noise and k:
            noisy = noise.over(totals, plan, start.size, len(sites))
            spent[0], adds = noisy.loss().rho, noisy
        return (await fit(trainers[k], totals, plan, combine=combine or Average(), averages=ExactAverages(adds))).model

    moved = simulate(len(trainers), site)[0] - start
    onlooker.load(start)
    return moved * np.float32(len(sites)), spent[0]


def at_aggregator(onlooker: Any, sites: Sequence[Any], *, plan: Plan = ONE_STEP) -> list[F32]:
    """Return every site's update of the last round, read from the messages that reach an aggregator."""
    trainers, start, links, frames = [onlooker, *sites], onlooker.parameters(), {}, dict[str, list[Frame]]()

    async def site(totals: Totals) -> None:
        centre, *others = totals.sites
        if not links:
            links.update({name: memory_links(name, centre) for name in others})
            frames.update({name: [] for name in others})
        here = totals.site == centre
        ends = {
            name: Channel(FaultyLink(links[name][here], totals.site, frames[name]), _gate(totals.site))
            for name in (others if here else [totals.site])
        }
        seen = AtAggregator(ends) if here else AtSite(ends[totals.site])
        mine = trainers[totals.sites.index(totals.site)]
        await fit(mine, totals, plan, combine=Seen(rule=TrimmedMean(trim=0.0)), aggregator=seen)

    simulate(len(trainers), site)
    onlooker.load(start)
    return [updates_in(frames[name])[-1] for name in sorted(frames)]


def updates_in(frames: Sequence[Frame]) -> list[F32]:
    """Return the updates that crossed a link towards an aggregator."""
    return [np.frombuffer(frame.payload, "<f4") for frame in frames if frame.kind == kind_of(Update)]


def _gate(site: str) -> Gate:
    return Gate(site, "bench", PROTOCOL.kinds)
