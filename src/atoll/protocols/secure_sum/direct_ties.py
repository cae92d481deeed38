"""Keys of pairs of sites that have a channel to each other, which nobody else can read: one of the two draws it.

One of two sites, the first in the alphabet                The other
(1) draws a key for the pair                               takes it
(2) the first of all draws a secret for all                takes it
"""

from __future__ import annotations

from collections.abc import Mapping

from atoll.core.channel import Channel
from atoll.core.errors import ProtocolError
from atoll.core.message import U64, Message
from atoll.crypto.random import Rng
from atoll.protocols.secure_sum.agreement import differ, elsewhere
from atoll.protocols.secure_sum.question import Question, question_of
from atoll.protocols.secure_sum.ties import COMMON, Ties
from atoll.protocols.together import together

PAIR = 16
"""Bytes of a pair's key."""


class PairKey(Message, frozen=True):
    """(1) one of two sites → the other: their key, and the secret of all if it comes from the first of all."""

    key: bytes
    common: bytes


class Part(Message, frozen=True):
    """Between two sites: what is added up, and a part of a masked vector or of a sum of masked ones."""

    what: str
    bits: int
    n: int
    model: bytes
    bound: bytes
    words: U64


async def tie_directly(peers: Mapping[str, Channel], *, rng: Rng) -> Ties:
    """Come to a key with every peer, and to a secret of all.

    Args:
        peers: Channels to all other sites by name; each runs the same.
        rng: Secret randomness.

    Raises:
        ProtocolError: A key has a wrong size.
    """
    me = next(iter(peers.values())).gate.site
    names = tuple(sorted([me, *peers]))
    common, keys = rng.bytes(COMMON), dict[str, bytes]()

    async def agree(name: str, peer: Channel) -> None:
        nonlocal common
        if me < name:
            keys[name] = rng.bytes(PAIR)
            await peer.send(PairKey(keys[name], common if me == names[0] else b""))  # (1) (2)
            return
        sent = await peer.recv(PairKey)
        if len(sent.key) != PAIR or len(sent.common) != (COMMON if name == names[0] else 0):
            raise ProtocolError(f"{name} sent a key of {len(sent.key)} and a secret of {len(sent.common)} bytes")
        keys[name], common = sent.key, sent.common or common

    await together(*(agree(name, peer) for name, peer in peers.items()))
    return Ties(me, names, keys, common)


def part(question: Question, bound: bytes, words: U64) -> Part:
    """Return a part as a message."""
    return Part(question.what, question.bits, question.n, question.model, bound, words)


async def receive(peer: Channel, me: str, question: Question, bound: bytes, words: int) -> Part:
    """Receive a part from a peer that adds the same.

    Raises:
        ProtocolError: It adds something else, or its part has another size.
    """
    got = await peer.recv(Part, words=(words,))
    asked = question_of(peer.peer, got.what, got.bits, got.n, got.model, 8 * question.words)
    if asked != question:
        raise differ(peer.peer, asked, me, question)
    if got.bound != bound:
        raise elsewhere(peer.peer, me)
    return got


def shares_of(words: int, sites: int) -> list[slice]:
    """Cut a vector into one part for each site, in whole numbers of 192 bits."""
    size = -(-words // (3 * sites)) * 3
    return [slice(min(i * size, words), min((i + 1) * size, words)) for i in range(sites)]
