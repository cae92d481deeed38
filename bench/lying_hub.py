"""A hub of a star that lies: it leads one site to a network of its choice, and all others to one that says nothing.

The next total is then the update of that one site (Pasquini et al., ACM CCS 2022), unless masks are bound to networks.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from atoll.core.channel import Channel, Gate
from atoll.core.errors import AtollError
from atoll.core.group import Group
from atoll.core.message import AtMost
from atoll.crypto import fixed_point
from atoll.crypto.random import Rng
from atoll.crypto.word_ring import WordRing
from atoll.learn.horizontal.networks import Plan, fit
from atoll.learn.horizontal.networks.averages import F32
from atoll.protocols.secure_sum import star, ties
from atoll.protocols.secure_sum.question import PIECE
from atoll.protocols.secure_sum.star import Masked, Total
from atoll.protocols.secure_sum.sums import Sums
from atoll.transport.memory import memory_links
from bench.onlookers import ONE_STEP
from bench.perceptron import F64

HUB = "hub"
NO_TAGS = np.empty(0, np.uint64)


async def lie(peers: Mapping[str, Channel], networks: Mapping[str, F32]) -> F64:
    """Add up as a hub does, but tell each site another network to begin with; return the sum of the updates.

    Args:
        peers: channels to the members.
        networks: what each is told.
    """
    await ties.relay(peers)
    found = np.zeros(0)
    while True:
        try:
            pieces = await Group(peers).gather(Masked, words=(AtMost(PIECE),), tags=(0,))
        except AtollError:
            return found  # a site has noticed
        first = next(iter(pieces.values()))
        if not first.what:
            return found
        total = np.zeros(first.words.size, np.uint64)
        for piece in pieces.values():
            WordRing(first.bits).add(total, piece.words)
        if "updates" in first.what:
            found = fixed_point.decode(total)[:-1]
        for name, peer in peers.items():
            begins = "to begin with" in first.what
            told = fixed_point.encode(np.append(networks[name].astype(np.float64), 1.0)) if begins else total
            await peer.send(Total(told, NO_TAGS))


async def member(channel: Channel, names: Sequence[str], trainer: Any, plan: Plan) -> None:
    """Train as every honest site does."""
    rng = Rng.system()
    sums = Sums(await star.member(channel, names, rng=rng, adds=False), rng)
    await fit(trainer, sums, plan)
    await sums.finish()


def isolated(sites: Sequence[Any], network: F32, dead: F32, *, plan: Plan = ONE_STEP) -> F64:
    """Let a hub go for the first of several sites; return what it takes for this site's update.

    Args:
        sites: their trainers.
        network: what the first site is led to.
        dead: what the others are led to.
        plan: of one round.
    """
    names = [f"site-{k:04d}" for k in range(len(sites))]
    links = {name: memory_links(HUB, name) for name in names}
    gate = Gate(HUB, "bench", star.PROTOCOL.kinds, timeout=20.0)
    peers = {name: Channel(pair[0], gate) for name, pair in links.items()}
    networks = {name: dead if k else network for k, name in enumerate(names)}

    async def honest(name: str, trainer: Any) -> None:
        channel = Channel(links[name][1], Gate(name, "bench", star.PROTOCOL.kinds, timeout=20.0))
        try:
            await member(channel, names, trainer, plan)
        except AtollError:
            await channel.link.close()  # as a session does

    async def everyone() -> F64:
        others = [honest(name, trainer) for name, trainer in zip(names, sites, strict=True)]
        return (await asyncio.gather(lie(peers, networks), *others))[0]

    return asyncio.run(everyone())
