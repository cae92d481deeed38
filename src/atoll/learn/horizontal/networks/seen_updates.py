"""Updates combined by one site that sees them all: for rules that cannot be computed from sums.

(1) site → aggregator   Update    its update, or none this round
(2) aggregator → site   Outcome   what the rule made of all updates
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from atoll.core import protocol
from atoll.core.channel import Channel
from atoll.core.errors import ProtocolError
from atoll.core.message import U32, AtMost, Message
from atoll.learn.horizontal.networks.averages import F32
from atoll.learn.horizontal.networks.rules import Rule


class Update(Message, frozen=True):
    """A site's update, the bits of its float32 numbers; empty if the site takes no part in the round."""

    values: U32


class Outcome(Message, frozen=True):
    """What the rule made of the updates, likewise, and of how many."""

    values: U32
    count: int


class Aggregator(Protocol):
    """What combines updates by a rule; every site sees the outcome."""

    async def combine(self, update: F32 | None, rule: Rule, size: int) -> tuple[F32, int]:
        """Return the outcome, the same at all sites, and how many updates it is made of.

        Args:
            update: (size,) float32, or None if this site takes no part.
            rule: the rule, the same at all sites.
            size: length of an update.

        Raises:
            ProtocolError: a site sent something else, or no site took part.
        """


async def site(aggregator: Channel, update: F32 | None, size: int) -> tuple[F32, int]:
    """Send the own update, receive the outcome; see `Aggregator.combine`."""
    mine = np.zeros(0, np.float32) if update is None else update
    await aggregator.send(Update(np.ascontiguousarray(mine).view(np.uint32)))  # (1)
    outcome = await aggregator.recv(Outcome, values=(size,))  # (2)
    values: F32 = outcome.values.view(np.float32).copy()
    if not (np.isfinite(values).all() and outcome.count > 0):
        raise ProtocolError(f"{aggregator.peer} combined updates to something that is no update")
    return values, outcome.count


async def aggregator(peers: Mapping[str, Channel], update: F32 | None, rule: Rule, size: int) -> tuple[F32, int]:
    """Receive all updates, combine them with the own one, send the outcome; see `Aggregator.combine`.

    An update with a number that is not finite is left out: a wrong site must not end the training of the others.
    """
    received = await asyncio.gather(*(peer.recv(Update, values=(AtMost(size),)) for peer in peers.values()))  # (1)
    updates = [] if update is None else [update]
    for name, message in zip(peers, received, strict=True):
        values = message.values.view(np.float32)
        if values.size not in (0, size):
            raise ProtocolError(f"{name} sent {values.size:,} numbers of an update of {size:,}")
        if values.size and np.isfinite(values).all():
            updates.append(values)
    if not updates:
        raise ProtocolError("no site has an update to combine")
    outcome = await asyncio.to_thread(rule, np.stack(updates))
    answer = Outcome(outcome.view(np.uint32), len(updates))
    await asyncio.gather(*(peer.send(answer) for peer in peers.values()))  # (2)
    return outcome, len(updates)


@dataclass(frozen=True)
class AtSite:
    """The aggregator as a site sees it."""

    channel: Channel

    async def combine(self, update: F32 | None, rule: Rule, size: int) -> tuple[F32, int]:
        """See `Aggregator`."""
        return await site(self.channel, update, size)


@dataclass(frozen=True)
class AtAggregator:
    """The aggregator at its own site; `peers` are the channels to all others, by name."""

    peers: Mapping[str, Channel]

    async def combine(self, update: F32 | None, rule: Rule, size: int) -> tuple[F32, int]:
        """See `Aggregator`."""
        return await aggregator(self.peers, update, rule, size)


PROTOCOL = protocol.Protocol(
    name="seen-updates",
    version=1,
    title="Updates of networks combined by one site that sees them all",
    card=protocol.Card(
        source="Yin et al., ICML 2018 (median, trimmed mean); Blanchard et al., NeurIPS 2017 (multi-Krum).",
        security="None against the aggregator, which is trusted to see every update and to compute the rule. Against "
        "the other sites as much as the rule bears: any update of fewer sites than it allows for.",
        inputs="Each site its update, (d,) float32, or none; all the same rule.",
        reveals={
            "site": ("The outcome of the rule.", "How many sites took part."),
            "aggregator": ("Every site's update.", "The outcome of the rule."),
        },
        cost="2 messages for each site but the aggregator; 8 d bytes of arrays.",
        fails="ProtocolError on an update or an outcome of another length, on an outcome that is not finite, or when "
        "no site took part. An update that is not finite is left out.",
        assurance="tested",
        notes=(
            "Single updates give away rows (gradient inversion) and who is in them (membership inference).",
            "Robust rules that need sums alone: geometric median, centred clipping, norm bounds.",
        ),
        weak="The aggregator sees every site's update, from which rows can be worked out.",
    ),
    roles={"site": site, "aggregator": aggregator},
    messages=(Update, Outcome),
)
