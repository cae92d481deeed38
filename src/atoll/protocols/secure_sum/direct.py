"""A sum without a centre: every site talks to every other, and adds one part of the vector for all.

Site i                                                     Site j
once:
(1) a key k_ij, drawn by the first of the two              takes it
for each sum:
(2) y_i = x_i + Σ_{j > i} PRG(k_ij) − Σ_{j < i} PRG(k_ij)
    sends part j of y_i                                    (3) adds part j over all sites, sends it to all

The masks are shares of zero that nobody has to send: part j of y_i is what additive sharing would leave to j.  With a
leader, one site that is drawn anew for each sum adds the whole vector.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from atoll.core.channel import Channel
from atoll.core.message import U64, Message
from atoll.core.offload import offload
from atoll.core.protocol import Card, Protocol
from atoll.crypto.random import Rng
from atoll.protocols.secure_sum.direct_ties import PairKey, Part, part, receive, shares_of, tie_directly
from atoll.protocols.secure_sum.question import Question
from atoll.protocols.secure_sum.star import covered
from atoll.protocols.secure_sum.ties import Ties, derived
from atoll.protocols.together import together

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
        leader: Whether one site, drawn anew for each sum, adds the whole vector.
        number: How many sums there were.
    """

    peers: Mapping[str, Channel]
    ties: Ties
    context: Sequence[str]
    leader: bool
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
        places = self._places(question, bound)
        mine = places[self.site]
        y = await offload(covered, question.ring, x, self.ties.masks(bound, "numbers"))
        total = np.empty_like(y)
        own = y[mine].copy()

        async def exchange(name: str, peer: Channel) -> None:
            receiving = receive(peer, self.site, question, bound, mine.stop - mine.start)
            _, got = await together(peer.send(part(question, bound, y[places[name]])), receiving)  # (2)
            question.ring.add(own, got.words)  # (3)

        async def tell(name: str, peer: Channel) -> None:
            _, got = await together(peer.send(Added(own)), peer.recv(Added, words=(total[places[name]].size,)))
            total[places[name]] = got.words

        await together(*(exchange(name, peer) for name, peer in self._involved(places).items()))
        total[mine] = own
        await together(*(tell(name, peer) for name, peer in self._involved(places).items()))
        return total

    def _places(self, question: Question, bound: bytes) -> dict[str, slice]:
        """Return which part each site adds for all."""
        if not self.leader:
            return dict(zip(self.sites, shares_of(question.words, len(self.sites)), strict=True))
        draw = int.from_bytes(derived(self.ties.common, "leader", bound), "little")
        chosen = self.sites[draw % len(self.sites)]
        return {name: slice(0, question.words if name == chosen else 0) for name in self.sites}

    def _involved(self, places: Mapping[str, slice]) -> Mapping[str, Channel]:
        """Return the peers that have something to say to this site, or to hear of it."""
        if not self.leader or places[self.site].stop:
            return self.peers
        return {name: peer for name, peer in self.peers.items() if places[name].stop}


async def site(peers: Mapping[str, Channel], *, rng: Rng, leader: bool = False, context: Sequence[str] = ()) -> Site:
    """Set up a site that adds with all others directly.

    Args:
        peers: Channels to all other sites by name; each runs the same, and nobody else can read them.
        rng: Secret randomness.
        leader: Whether one site, drawn anew for each sum, adds the whole vector.
        context: What the job is; what all sites must agree on.

    Raises:
        ProtocolError: As the card says.
        ValueError: There is no other site.
    """
    if not peers:
        raise ValueError("a sum needs two sites with numbers: that of one site is its own numbers")
    return Site(peers, await tie_directly(peers, rng=rng), ("direct", f"leader {leader}", *context), leader)


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
        "2 n · bits / 8 · (s - 1) / s bytes out of each site and as many in, in two steps. With a leader 1 message of "
        "n · bits / 8 bytes to it and 1 back.",
        fails="ProtocolError when sites differ in job, members, or in what they add, or a message has another size; "
        "any site that drops out ends it at all sites.",
        assurance="tested",
        notes=(
            "With two sites in all, each learns the other's numbers: the sum shows them.",
            "A site can add what it likes, and change the part that it adds for the others, which has the same effect; "
            "sites that want one site outside of the job to add, and to notice it if it cheats, use `sum-star`.",
            "A leader is drawn from a secret that the first site has chosen and all know; it sees masked vectors, as "
            "any other site would in its place.",
            "Sums of the same numbers over different sites show the difference: keep the members of a job fixed.",
        ),
    ),
    roles={"site": site},
    messages=(PairKey, Part, Added),
)
