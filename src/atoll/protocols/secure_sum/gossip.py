"""An approximate mean without a centre or a sum over all: sites average in small groups, drawn anew each round.

Site i
once:
(1) commits to a share of a seed, towards every other site
(2) opens it; the seed is a hash of all shares
for each round:
(3) all sites are dealt into groups of three and more; `sum-direct` within its own: x_i becomes the group's mean

After the first round nobody holds numbers of a single site any more, so all that a site can learn in later ones are
means over the groups of the first.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil, log

import numpy as np
from numpy.typing import NDArray

from atoll.core.channel import Channel
from atoll.core.errors import InputError, ProtocolError
from atoll.core.message import Message
from atoll.core.protocol import Card, Protocol
from atoll.crypto.random import Rng
from atoll.protocols.secure_sum import direct
from atoll.protocols.secure_sum.sums import Sums
from atoll.protocols.together import together

F64 = NDArray[np.float64]

SMALLEST = 3
"""Fewest sites in a group: with two each would see the other's numbers."""

SHARE = 16


class Commitment(Message, frozen=True):
    """(1) site → site: hash of its share of the seed."""

    digest: bytes


class Opening(Message, frozen=True):
    """(2) site → site: the share, with the nonce that shows that it is the one committed to."""

    share: bytes
    nonce: bytes


@dataclass(frozen=True)
class Mixed:
    """What a site has after some rounds.

    Attributes:
        values: Near the mean over all sites, (n,).
        rounds: How many rounds there were.
        error: Root of the expected squared distance to the mean, over all sites and draws of groups, as a part of what
            it was at the start: see `contraction`.
    """

    values: F64
    rounds: int
    error: float


def groups(seed: bytes, number: int, sites: Sequence[str], size: int = SMALLEST) -> list[list[str]]:
    """Deal sites into groups, the same at all of them.

    Args:
        seed: 16 bytes that all have.
        number: Of the round.
        sites: All sites, in alphabetical order.
        size: Fewest sites in a group; what is over goes to the first groups, one each.
    """
    key = hashlib.sha256(b"atoll/gossip/v1/round" + number.to_bytes(8, "little") + seed).digest()[:16]
    order = Rng(key).permutation(len(sites))
    parts = np.array_split(order, max(len(sites) // size, 1))
    return [sorted(sites[i] for i in part) for part in parts]


def contraction(sites: int, size: int = SMALLEST) -> float:
    """Return by what the expected squared distance to the mean shrinks in each round: (G − 1) / (s − 1) for G groups.

    The mean of g of s numbers drawn without replacement has the variance σ²/g · (s − g)/(s − 1); over all sites, in
    groups of whatever sizes, that is σ² · Σ_groups (s − g) / (s (s − 1)).  Draws are independent, so k rounds shrink it
    by the k-th power; by Markov's inequality it is above 1/δ times that with probability δ at most.
    """
    return (max(sites // size, 1) - 1) / max(sites - 1, 1)


def rounds_for(sites: int, error: float, size: int = SMALLEST) -> int:
    """Return how many rounds bring the expected root mean square distance down to a part of what it was.

    Args:
        sites: How many sites.
        error: The part, above 0 and below 1.
        size: Fewest sites in a group.
    """
    rho = contraction(sites, size)
    return max(ceil(2 * log(error) / log(rho)), 1) if rho else 1


async def mix(
    peers: Mapping[str, Channel],
    values: F64,
    *,
    rounds: int,
    what: str,
    rng: Rng,
    clip: float = 0.0,
    bits: int = 32,
    size: int = SMALLEST,
    context: Sequence[str] = (),
) -> Mixed:
    """Bring this site's numbers near the mean over all sites.

    Args:
        peers: Channels to all other sites by name; each runs the same, and nobody else can read them.
        values: (n,) float64, finite, the same n at every site.
        rounds: How many, the same at every site; see `rounds_for`.
        what: What is averaged, in a few words.
        rng: Secret randomness.
        clip: Largest size of a value; larger ones are cut off, and numbers travel with `bits`.  Without it sums are
            exact, of 192 bits.
        bits: 32 or 16; each round adds an error of up to clip · g / 2^(bits − 1) in a group of g, right on average.
        size: Fewest sites in a group.
        context: What the job is; what all sites must agree on.

    Raises:
        InputError: Groups would be too small, or a value is not finite.
        ProtocolError: As the card says.
    """
    me = next(iter(peers.values())).gate.site if peers else ""
    names = tuple(sorted([me, *peers]))
    if size < SMALLEST or len(names) < size:
        raise InputError(
            f"groups of {size} among {len(names)} sites show a site's numbers, or cannot be made",
            cure=f"Take groups of at least {SMALLEST}, and as many sites; with two sites a mean shows everything.",
        )
    seed = await _seed(peers, names, me, rng)  # (1) (2)
    whole = ("gossip", str(rounds), str(size), str(clip), *context)
    for number in range(rounds):
        group = next(group for group in groups(seed, number, names, size) if me in group)
        own = {name: peers[name].sub(f"gossip/{number}") for name in group if name != me}
        carrier = await direct.site(own, rng=rng.spawn(), context=(*whole, f"round {number}"))
        sums = Sums(carrier, rng)  # (3)
        if clip:
            values = await sums.mean(values, weight=1.0, clip=clip, what=what, bits=bits)
        else:
            values = await sums.total(values, what=what) / len(group)
    return Mixed(values, rounds, contraction(len(names), size) ** (rounds / 2))


async def _seed(peers: Mapping[str, Channel], names: Sequence[str], me: str, rng: Rng) -> bytes:
    """Draw a seed that no site could choose; each pair makes sure that all others got the same."""
    share, nonce = rng.bytes(SHARE), rng.bytes(32)
    mine = Commitment(_digest(me, share, nonce))

    async def commit(peer: Channel) -> bytes:
        _, got = await together(peer.send(mine), peer.recv(Commitment))
        return bytes(got.digest)

    digests = dict(zip(peers, await together(*(commit(peer) for peer in peers.values())), strict=True))

    async def open_(name: str, peer: Channel) -> bytes:
        _, got = await together(peer.send(Opening(share, nonce)), peer.recv(Opening))
        if len(got.share) != SHARE or _digest(name, got.share, got.nonce) != digests[name]:
            raise ProtocolError(f"{name} opened another share of the seed than it had committed to")
        return bytes(got.share)

    opened = dict(zip(peers, await together(*(open_(name, peer) for name, peer in peers.items())), strict=True))
    shares = opened | {me: share}
    return hashlib.sha256(b"atoll/gossip/v1/seed" + b"".join(shares[name] for name in names)).digest()[:16]


def _digest(name: str, share: bytes, nonce: bytes) -> bytes:
    text = name.encode()
    return hashlib.sha256(b"atoll/gossip/v1/share" + len(text).to_bytes(2, "little") + text + share + nonce).digest()


PROTOCOL = Protocol(
    name="sum-gossip",
    version=1,
    title="An approximate mean by averages in small groups that are drawn anew each round",
    card=Card(
        source="Gossip by random groups: Boyd, Ghosh, Prabhakar and Shah, IEEE Trans. Inf. Theory 52(6), 2006; with "
        "masked sums in the groups as in Moshpit, Ryabinin et al., NeurIPS 2021, which has none. The coin: Blum 1981.",
        security="Semi-honest, computational 128 bits, as `sum-direct` within each group. Groups come from a seed that "
        "no site could choose. Sites that tell each other what they see learn the numbers of one that was in a first "
        "group with them alone, which for c of s sites who tell happens to a site with probability about (c / s)^2.",
        inputs="Each site a vector of n numbers; n, the rounds and what it is are the same at all. Three sites and "
        "more.",
        reveals={
            "site": (
                "Its group's mean in every round: of the numbers of the others in its first group their sum, and "
                "otherwise means over first groups.",
                "The names of the other sites, and who was in which group.",
            )
        },
        cost="Once 2 small messages to each other site. For each round as `sum-direct` among about three sites: 4 n · "
        "bits / 8 / 3 bytes out of each site and as many in, however many sites there are.",
        fails="ProtocolError when sites differ in job or in what they add, a share of the seed is not the one "
        "committed to, or a message has another size; any site that drops out ends it at all sites.",
        assurance="tested",
        notes=(
            "The result differs from site to site. After k rounds its expected squared distance to the mean is that of "
            "the start times ((G - 1) / (s - 1))^k, for s sites in G groups: about 3^-k.",
            "A site can add what it likes: poisoned numbers are not noticed, and spread.",
            "A site that tells others different shares of the seed leads them to different groups, and to an error.",
        ),
    ),
    roles={"site": mix},
    messages=(Commitment, Opening),
    uses=(direct.PROTOCOL,),
)
