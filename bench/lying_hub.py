"""A hub of a star that lies: it tells one site another total than all others, so that these have nothing to say later.

It may lead them to a dead network, or to a grid on which their numbers round to nothing.  A later total is then the
update of that one site (Pasquini et al., ACM CCS 2022), unless masks are bound to what was told.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from atoll.core.channel import Channel, Gate
from atoll.core.errors import AtollError
from atoll.core.group import Group
from atoll.core.message import AtMost
from atoll.crypto import fixed_point
from atoll.crypto.random import Rng
from atoll.crypto.word_ring import WordRing
from atoll.learn.horizontal.networks import Average, Plan, fit
from atoll.learn.horizontal.networks.averages import F32
from atoll.learn.horizontal.networks.combine import Combine
from atoll.protocols.secure_sum import star, ties
from atoll.protocols.secure_sum.question import PIECE
from atoll.protocols.secure_sum.star import Masked, Total
from atoll.protocols.secure_sum.sums import Sums
from atoll.transport.memory import memory_links
from bench.onlookers import ONE_STEP
from bench.perceptron import F64

HUB = "hub"
NO_TAGS = np.empty(0, np.uint64)

Tell = Callable[[str, str, F64], F64]


async def lie(peers: Mapping[str, Channel], tell: Tell) -> list[F64]:
    """Add up as a hub does, but tell sites what one likes; return all true sums.

    Args:
        peers: channels to the members.
        tell: gives the sum that a site is told, of its name, of what was added up, and of the true sum.
    """
    await ties.relay(peers)
    sums: list[F64] = []
    while True:
        try:
            pieces = await Group(peers).gather(Masked, words=(AtMost(PIECE),), tags=(0,))
        except AtollError:
            return sums  # a site has noticed
        first = next(iter(pieces.values()))
        if not first.what:
            return sums
        words = np.zeros(first.words.size, np.uint64)
        for piece in pieces.values():
            WordRing(first.bits).add(words, piece.words)
        sums.append(fixed_point.decode(words))
        for name, peer in peers.items():
            told = tell(name, first.what, sums[-1])
            await peer.send(Total(words if told is sums[-1] else fixed_point.encode(told), NO_TAGS))


async def member(channel: Channel, names: Sequence[str], trainer: Any, plan: Plan, combine: Combine) -> None:
    """Train as every honest site does."""
    rng = Rng.system()
    sums = Sums(await star.member(channel, names, rng=rng, adds=False), rng)
    await fit(trainer, sums, plan, combine=combine)
    await sums.finish()


def lied_to(
    sites: Sequence[Any], tell: Tell, *, plan: Plan = ONE_STEP, combine: Combine | None = None
) -> tuple[list[F64], list[AtollError]]:
    """Let sites train through a lying hub; return all sums that it saw, and the errors in which sites ended."""
    names = [f"site-{k:04d}" for k in range(len(sites))]
    links = {name: memory_links(HUB, name) for name in names}
    gate = Gate(HUB, "bench", star.PROTOCOL.kinds, timeout=20.0)
    peers = {name: Channel(pair[0], gate) for name, pair in links.items()}
    errors: list[AtollError] = []

    async def honest(name: str, trainer: Any) -> None:
        channel = Channel(links[name][1], Gate(name, "bench", star.PROTOCOL.kinds, timeout=20.0))
        try:
            await member(channel, names, trainer, plan, combine or Average())
        except AtollError as error:
            errors.append(error)
            await channel.link.close()  # as a session does

    async def everyone() -> list[F64]:
        others = [honest(name, trainer) for name, trainer in zip(names, sites, strict=True)]
        found, *_ = await asyncio.gather(lie(peers, tell), *others)
        return list(found)

    return asyncio.run(everyone()), errors


def isolated(sites: Sequence[Any], network: F32, dead: F32) -> F64:
    """Go for the first of several sites; return what the hub takes for this site's update.

    Args:
        sites: their trainers.
        network: what the first site is led to.
        dead: what the others are led to.
    """

    def tell(name: str, what: str, found: F64) -> F64:
        if "to begin with" not in what:
            return found
        return np.append(network if name == "site-0000" else dead, 1.0).astype(np.float64)

    sums, _ = lied_to(sites, tell)
    return sums[-1][:-1]
