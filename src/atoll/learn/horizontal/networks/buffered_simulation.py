"""Sites of different speed in one process, on a clock that only counts.  Nothing is hidden from anybody here."""

from __future__ import annotations

import asyncio
import hashlib
import heapq
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from atoll.core.errors import InputError
from atoll.learn.horizontal.networks.averages import F32
from atoll.learn.horizontal.networks.buffered import Brought, Outcome, metrics_of, mix, order_of, trained
from atoll.learn.horizontal.networks.buffers import Buffering, Desk, Mixed
from atoll.learn.horizontal.networks.fit import Plan
from atoll.learn.horizontal.networks.local import Local
from atoll.learn.horizontal.networks.simulate import SimulatedTotals, Simulation
from atoll.learn.horizontal.networks.trainer import Trainer

NOBODY = np.empty(0, np.uint8)
"""Vouches for networks here: one process makes and hands out all of them."""


def simulate_buffered(
    trainers: Mapping[str, Trainer],
    plan: Plan,
    rules: Buffering,
    *,
    seconds: Mapping[str, float],
    on_buffer: Callable[[float, Mixed, F32], object] = lambda at, mixed, model: None,
) -> Outcome:
    """Run `buffered` training with simulated sites; their sums are exact ones.

    Args:
        trainers: by site; all begin from the network of the first one by name.
        plan: as of real sites; it needs a seed.
        rules: as of real sites.
        seconds: how long a site takes for one local training, above 0; messages take none.
        on_buffer: called after every buffer with the time, what became known, and the new network.

    Raises:
        InputError: the plan has no seed, or there are too few sites or no seconds for one.
        AtollError: as real sites.
    """
    if plan.seed is None or len(trainers) < rules.size or not all(seconds.get(name, 0) > 0 for name in trainers):
        raise InputError(
            f"a simulation needs a seed, at least {rules.size} sites, and seconds above 0 for each",
            step="networks",
            cure="Give them.",
        )

    async def run() -> Outcome:
        with ThreadPoolExecutor(1) as one_by_one:  # random numbers of a library come out the same each time
            asyncio.get_running_loop().set_default_executor(one_by_one)
            return await _simulated(trainers, plan, rules, seconds, on_buffer)

    return asyncio.run(run())


@dataclass
class _Working:
    """A site, and the network from which it trains or has trained."""

    local: Local
    own: F32
    model: F32


async def _simulated(
    trainers: Mapping[str, Trainer],
    plan: Plan,
    rules: Buffering,
    seconds: Mapping[str, float],
    on_buffer: Callable[[float, Mixed, F32], object],
) -> Outcome:
    names = sorted(trainers)
    locals_ = {name: Local(trainers[name], name) for name in names}
    vectors = {name: trainers[name].parameters() for name in names}
    model = locals_[names[0]].shared(vectors[names[0]])
    sites = {name: _Working(one, vectors[name][one.own], model) for name, one in locals_.items()}
    metrics = await metrics_of(locals_[names[0]], model, sites[names[0]].own, plan)
    seed = hashlib.sha256(str(plan.seed).encode()).digest()[:16]
    desk, brought, buffers = Desk(rules, dict.fromkeys(names, 0)), dict[str, Brought](), list[Mixed]()
    clock = [(seconds[name], name) for name in names]
    heapq.heapify(clock)
    while desk.version < plan.rounds:
        at, name = heapq.heappop(clock)
        site = sites[name]
        brought[name], site.own = await trained(site.local, site.model, site.own, desk.given[name], plan, rules, seed)
        desk.waiting.append(name)
        again = desk.refused()
        while desk.version < plan.rounds and (full := desk.full()):
            order, meeting = order_of(desk, model, NOBODY, full), Simulation(full)
            told = await asyncio.gather(
                *(mix(SimulatedTotals(meeting, one), order, metrics, plan, rules, brought[one]) for one in full)
            )
            mixed, mean = told[0]
            model = rules.moved(model, mean)
            desk.mixed(full)
            buffers.append(mixed)
            on_buffer(at, mixed, model)
            again += [*full, *desk.refused()]
        for one in again:
            sites[one].model = model
            heapq.heappush(clock, (at + seconds[one], one))
    for site in sites.values():
        site.local.install(model, site.own)
    return Outcome(model, tuple(buffers))
