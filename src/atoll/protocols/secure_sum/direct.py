"""A sum without a centre: every site talks to every other, and adds one part of the vector for all.

Site i                                                     Site j
once:
(1) a key k_ij, drawn by the first of the two              takes it
for each sum:
(2) y_i = x_i + Σ_{j > i} PRG(k_ij) − Σ_{j < i} PRG(k_ij)
    sends part j of y_i                                    (3) adds part j over all sites, sends it to all

The masks are shares of zero that nobody has to send: part j of y_i is what additive sharing would leave to j.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from atoll.core.channel import Channel
from atoll.core.message import U64, Message
from atoll.core.offload import offload
from atoll.core.protocol import Card, Protocol
from atoll.crypto.random import Rng
from atoll.protocols.secure_sum.direct_ties import PairKey, Part, part, receive, shares_of, tie_directly, together
from atoll.protocols.secure_sum.question import Question
from atoll.protocols.secure_sum.star import covered
from atoll.protocols.secure_sum.ties import Ties

Words = NDArray[np.uint64]


class Added(Message, frozen=True):
    """(3) site → site: one part of the sum."""

    words: U64


@dataclass
class Site:
    """A site that adds with all others directly.

    Attributes:
        peers: Channels to all other sites by name.
        ties: What this site shares with them.
        context: What the job is, bound into every mask.
        number: How many sums there were.
    """

    peers: Mapping[str, Channel]
    ties: Ties
    context: Sequence[str]
    number: int = 0

    @property
    def site(self) -> str:
        """This site's name."""
        return self.ties.me

    @property
    def sites(self) -> tuple[str, ...]:
        """All sites, in alphabetical order."""
        return self.ties.members

    async def finish(self) -> None:
        """Do nothing: all sites know when it is over."""

    async def add(self, question: Question, x: Words) -> Words:
        """Return the sum of all sites' vectors; see `star.Member.add`."""
        self.number += 1
        bound = question.bound(self.context, self.sites, self.number)
        places = dict(zip(self.sites, shares_of(question.words, len(self.sites)), strict=True))
        mine = places[self.site]
        y = await offload(covered, question.ring, x, self.ties.masks(bound, "numbers"))
        total = np.empty_like(y)
        own = y[mine].copy()

        async def exchange(name: str, peer: Channel) -> None:
            sending = asyncio.ensure_future(peer.send(part(question, bound, y[places[name]])))  # (2)
            try:
                got = await receive(peer, self.site, question, bound, mine.stop - mine.start)
                await sending
            finally:
                sending.cancel()
            question.ring.add(own, got.words)  # (3)

        async def tell(name: str, peer: Channel) -> None:
            sending = asyncio.ensure_future(peer.send(Added(own)))
            try:
                total[places[name]] = (await peer.recv(Added, words=(places[name].stop - places[name].start,))).words
                await sending
            finally:
                sending.cancel()

        await together(exchange(name, peer) for name, peer in self.peers.items())
        total[mine] = own
        await together(tell(name, peer) for name, peer in self.peers.items())
        return total


async def site(peers: Mapping[str, Channel], *, rng: Rng, context: Sequence[str] = ()) -> Site:
    """Set up a site that adds with all others directly.

    Args:
        peers: Channels to all other sites by name; each runs the same, and nobody else can read them.
        rng: Secret randomness.
        context: What the job is; what all sites must agree on.

    Raises:
        ProtocolError: As the card says.
        ValueError: There is no other site.
    """
    if not peers:
        raise ValueError("a sum needs two sites with numbers: that of one site is its own numbers")
    return Site(peers, await tie_directly(peers, rng=rng), ("direct", *context))


PROTOCOL = Protocol(
    name="sum-direct",
    version=1,
    title="A sum over sites that all talk to each other, without a centre",
    card=Card(
        source="Additive sharing with shares of zero from pairwise keys: Cramer, Damgård and Ishai, TCC 2005; "
        "the parts are added as in a reduce-scatter and told as in an all-gather.",
        security="Semi-honest, computational 128 bits: any sites together learn the sum of the others' vectors and no "
        "more. Channels between any two sites that nobody else can read, as links with mutual TLS are. Keys are bound "
        "to the sum, the model and the sites.",
        inputs="Each site a vector of n numbers of 16, 32 or 192 bits; n and what it is are the same at all. A sum "
        "that exceeds the width wraps around: callers leave room for all sites.",
        reveals={"site": ("The sum over all sites, what it is, and n.", "The names of the other sites.")},
        cost="Once 1 small message for each pair. For each sum 2 messages to each of the s - 1 other sites: "
        "2 n · bits / 8 · (s - 1) / s bytes out of each site and as many in, in two steps.",
        fails="ProtocolError when sites differ in job, members, or in what they add, or a message has another size; "
        "any site that drops out ends it at all sites.",
        assurance="tested",
        notes=(
            "With two sites in all, each learns the other's numbers: the sum shows them.",
            "A site can add what it likes, and change the part that it adds for the others, which has the same effect; "
            "sites that want one site outside of the job to add, and to notice it if it cheats, use `sum-star`.",
            "Sums of the same numbers over different sites show the difference: keep the members of a job fixed.",
        ),
    ),
    roles={"site": site},
    messages=(PairKey, Part, Added),
)
