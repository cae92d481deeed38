"""A small set against a large one that was prepared once: the client learns which of its ids the server has.

Server, set Y with key k                                   Client, ids X
once: a filter of F_k(y), see `prepared_set`
(1) is asked for the filter                                tells the one it has
(2) (3) describes and sends it, if the client has another
each time:
                                                           (4) r_x·H(x), r_x random for every id
(5) k·(r_x·H(x)), as long as the client's allowance lasts  takes r_x off: F_k(x), and looks it up
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from atoll.core.channel import Channel
from atoll.core.errors import InputError, ProtocolError
from atoll.core.message import U8, U64, AtMost, Message
from atoll.core.offload import offload
from atoll.core.protocol import Card, Protocol
from atoll.crypto import oprf
from atoll.crypto.random import Rng
from atoll.protocols.prepared_set import LIFETIME, LONGEST_ID, WIDEST, Allowance, Description, Filter, Prepared

LARGEST = 1 << 26
"""Most ids that a client accepts a filter of."""

LARGEST_QUERY = 1 << 16
"""Most ids of one query."""

PART = 1 << 18
"""Words of a filter's column in one message."""


class Have(Message, frozen=True):
    """(1) client → server: the digest of the filter that it has; empty if it has none."""

    digest: bytes


class Offer(Message, frozen=True):
    """(2) server → client: the description and the digest of its filter."""

    version: int
    capacity: int
    label_bytes: int
    seed: bytes
    digest: bytes


class Part(Message, frozen=True):
    """(3) server → client: the next words of the filter."""

    words: U64


class Query(Message, frozen=True):
    """(4) client → server: its ids as blinded points, and the filter in which it will look them up."""

    digest: bytes
    points: U8


class Answer(Message, frozen=True):
    """(5) server → client: the points, times its key."""

    points: U8


@dataclass(frozen=True)
class Found:
    """What a query gives.

    Attributes:
        rows: (m,) int64, own indices of the ids that the server has, ascending.
        labels: (m, label_bytes) uint8, their labels in the same order.
    """

    rows: NDArray[np.int64]
    labels: NDArray[np.uint8]


async def publish(peer: Channel, filter_: Filter) -> None:
    """Be the server, once for each client and set: send the filter to a client that has another or none.

    Args:
        peer: Channel to the client, which runs `download`.
        filter_: The filter.

    Raises:
        ProtocolError: As the card says.
    """
    have = (await peer.recv(Have)).digest  # (1)
    about, digest = filter_.about, await offload(lambda: filter_.digest)
    await peer.send(Offer(about.version, about.capacity, about.label_bytes, about.seed, digest))  # (2)
    if have == digest:
        return
    for lo in range(0, about.shape.words, PART):
        await peer.send(Part(filter_.words[lo : lo + PART]))  # (3)


async def download(
    peer: Channel, have: Filter | None = None, *, largest: int = LARGEST, widest: int = WIDEST
) -> Filter:
    """Be the client, once for each set: get the server's filter, unless it is the one at hand.

    Args:
        peer: Channel to the server, which runs `publish`.
        have: The filter from before, or None.
        largest: Most ids that a filter may be for: what bounds the bytes that are accepted.
        widest: Most bytes of a label.

    Returns:
        The filter; `have` itself if the server still uses it.

    Raises:
        ProtocolError: As the card says.
    """
    await peer.send(Have(have.digest if have else b""))  # (1)
    offer = await peer.recv(Offer)  # (2)
    about = Description(offer.version, offer.capacity, offer.label_bytes, offer.seed)
    if not 1 <= about.capacity <= largest or not 0 <= about.label_bytes <= widest:
        raise ProtocolError(
            f"{peer.peer} offers a set of {about.capacity:,} ids with labels of {about.label_bytes:,} bytes; "
            f"{largest:,} and {widest:,} are allowed"
        )
    if len(about.seed) != 16 or len(offer.digest) != 32:
        raise ProtocolError(f"{peer.peer} offers a set with a seed of {len(about.seed)} bytes")
    if have and offer.digest == have.digest:
        return have
    if have and about.version <= have.about.version:
        raise ProtocolError(f"{peer.peer} offers version {about.version} of its set; {have.about.version} is here")
    words = np.empty((about.shape.words, about.columns), np.uint64)
    for lo in range(0, len(words), PART):
        size = min(PART, len(words) - lo)
        words[lo : lo + size] = (await peer.recv(Part, words=(size, about.columns))).words  # (3)
    got = Filter(about, words)
    if await offload(lambda: got.digest) != offer.digest:
        raise ProtocolError(f"{peer.peer} sent another set than it offered")
    return got


async def server(peer: Channel, prepared: Prepared, *, allowance: Allowance, largest: int = LARGEST_QUERY) -> int:
    """Answer one query.

    Args:
        peer: Channel to the client.
        prepared: Key and filter.
        allowance: Counts the client's ids, and refuses what is too much.
        largest: Most ids of one query.

    Returns:
        How many ids were asked for.

    Raises:
        ProtocolError: As the card says.
    """
    query = await peer.recv(Query, points=(AtMost(largest), 32))  # (4)
    if query.digest != prepared.filter.digest:
        raise ProtocolError(
            f"{peer.peer} has another set than version {prepared.filter.about.version}",
            cure="Get the set again, then ask.",
        )
    n = len(query.points)
    allowance.take(peer.peer, query.digest, n)
    await peer.send(Answer(await offload(oprf.evaluate_blinded, query.points, prepared.key)))  # (5)
    return n


async def client(
    peer: Channel, ids: Sequence[bytes], filter_: Filter, *, rng: Rng, largest: int = LARGEST_QUERY
) -> Found:
    """Learn which ids the server has, and their labels.

    Args:
        peer: Channel to the server.
        ids: n canonical ids; one that stands twice is asked for twice.
        filter_: The server's filter, from `download`.
        rng: Secret randomness.
        largest: Most ids of one query, as the server has it.

    Returns:
        The ids that were found, and their labels.

    Raises:
        InputError: More ids than a query may have, or one that is too long.
        ProtocolError: As the card says.
    """
    if len(ids) > largest or max(map(len, ids), default=0) > LONGEST_ID:
        raise InputError(f"{len(ids):,} ids; at most {largest:,} of {LONGEST_ID:,} bytes fit into a query")
    scalars, points = await offload(oprf.blind, ids, rng)
    await peer.send(Query(filter_.digest, points))  # (4)
    evaluated = (await peer.recv(Answer, points=(len(ids), 32))).points  # (5)
    return await offload(_looked_up, ids, scalars, evaluated, filter_)


def _looked_up(
    ids: Sequence[bytes], scalars: NDArray[np.uint8], evaluated: NDArray[np.uint8], filter_: Filter
) -> Found:
    found, labels = filter_.look_up(oprf.finalize(ids, scalars, evaluated))
    rows = np.flatnonzero(found)
    return Found(rows, labels[rows])


PROTOCOL = Protocol(
    name="prepared-intersection",
    version=1,
    title="A small set against a large one that was prepared once",
    card=Card(
        source="RFC 9497, mode OPRF, ristretto255-SHA512. Preparation: Kiss, Liu, Schneider, Asokan and Pinkas, PoPETs "
        "2017; the filter is a store of Garimella et al., CRYPTO 2021, instead of a Bloom filter.",
        security="Semi-honest: one-more gap Diffie-Hellman on ristretto255, SHA-512 as a random oracle, about 126 "
        "bits. What hides the client's ids is perfect: every id has a random factor of its own. Checks have 64 bits: "
        f"over {LIFETIME:,} ids that are looked for in one set a false match has a probability of 2^-40.",
        inputs="server: a set that `prepared_set.prepare` has made, with labels or without. client: n ids, at most "
        f"{LARGEST_QUERY:,} at a time.",
        reveals={
            "server": ("How many ids the client asks for, and when; nothing of the ids, nor how many it has.",),
            "client": (
                "Which of its own ids the server has, and their labels.",
                "The capacity of the set, which may be more than it holds, the width of labels, and when it changes.",
            ),
        },
        cost="Once: about 11 bytes for each id of the capacity, and as much for each 8 bytes of label. A query: 64 n "
        "bytes and 300; 2 multiplications for each id at the client, 1 at the server.",
        fails="ProtocolError when the client has another set, asks for more than its allowance, the set is too large, "
        "older than the one at hand or not the one that was offered, a message has another size, or a point is not "
        "canonical or the identity; InputError on too many or too long ids.",
        assurance="tested",
        notes=(
            "A client can ask for any id it likes: the allowance, by day and by set, is what keeps it from trying all "
            "telephone numbers. Counts are by site name, and survive a restart where they are stored.",
            "Every preparation has a fresh key, so two versions cannot be compared; queries need the new filter.",
            "Whoever gets the server's key can try ids in the filter without asking.",
            "A malicious server can answer with another key; then nothing is found, and nobody notices.",
        ),
    ),
    roles={"server": server, "client": client},
    messages=(Have, Offer, Part, Query, Answer),
)
