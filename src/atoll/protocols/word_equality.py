"""Two sites hold n words each, and get shares of one bit for each pair: whether the words are equal.

Leader                                                     Follower
(1) base transfers in both directions
for every level of a tree of ANDs over the 64 bits of ¬(u ⊕ w), from 64 shared bits of a word to one:
(2) chooses by its bits y                                  (3) offers its bits x
(4) offers its bits x                                      chooses by its bits y
"""

from __future__ import annotations

import typing
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from atoll.core.channel import Channel
from atoll.core.message import U8, Message
from atoll.core.offload import offload
from atoll.core.protocol import Card, Protocol
from atoll.crypto import tmmo
from atoll.crypto.random import Rng
from atoll.protocols import oblivious_transfer
from atoll.protocols.oblivious_transfer import CorrelatedBlocks, ReceivedBlocks

CHUNK = 1 << 15
"""Words at a time: 2^20 transfers on the first level, which bounds the memory."""

BITS = 64

Bits = NDArray[np.uint8]
Words = NDArray[np.uint64]


class Offered(Message, frozen=True):
    """(3) and (4): what turns pads of chosen bits into shares of products, packed."""

    bits: U8


class Chooser(typing.Protocol):
    """A side of set-up transfers that chooses, such as `oblivious_transfer.OtReceiver`."""

    async def extend(self, peer: Channel, choices: Bits, /) -> ReceivedBlocks:
        """Choose in as many transfers as there are choices."""


class Offerer(typing.Protocol):
    """A side of set-up transfers that offers, such as `oblivious_transfer.OtSender`."""

    async def extend(self, peer: Channel, n: int, /) -> CorrelatedBlocks:
        """Take part in n transfers."""


@dataclass(frozen=True)
class Transfers:
    """Transfers in both directions, set up once for a run.

    Attributes:
        leads: Whether this site chooses first.
        chooser: Transfers in which this site chooses.
        offerer: Transfers in which it offers.
    """

    leads: bool
    chooser: Chooser
    offerer: Offerer


async def lead(peer: Channel, *, rng: Rng) -> Transfers:
    """Set up transfers as the leader; the peer runs `follow`."""
    offerer = await oblivious_transfer.setup_sender(peer, rng=rng.spawn())
    return Transfers(True, await oblivious_transfer.setup_receiver(peer, rng=rng.spawn()), offerer)


async def follow(peer: Channel, *, rng: Rng) -> Transfers:
    """Set up transfers as the follower; the peer runs `lead`."""
    chooser = await oblivious_transfer.setup_receiver(peer, rng=rng.spawn())
    return Transfers(False, chooser, await oblivious_transfer.setup_sender(peer, rng=rng.spawn()))


async def equal(peer: Channel, words: Words, *, transfers: Transfers) -> Bits:
    """Get shares of equality.

    Args:
        peer: The other site, which calls this with as many words.
        words: (n,) uint64.
        transfers: From `lead` here and `follow` there, or the other way round.

    Returns:
        (n,) uint8: XORed with the peer's, 1 where the words are equal and 0 elsewhere.

    Raises:
        ProtocolError: As the card says.
    """
    out = np.empty(len(words), np.uint8)
    for lo in range(0, len(words), CHUNK):
        part = np.ascontiguousarray(words[lo : lo + CHUNK])
        bits = np.unpackbits(part.view(np.uint8), bitorder="little").reshape(-1, BITS).T  # (64, n)
        level = bits ^ np.uint8(transfers.leads)  # shares of ¬(u ⊕ w)
        while len(level) > 1:
            half = len(level) // 2
            x, y = (np.ascontiguousarray(level[part]).reshape(-1) for part in (slice(half), slice(half, None)))
            level = (await conjunction(peer, x, y, transfers=transfers)).reshape(half, -1)
        out[lo : lo + CHUNK] = level[0]
    return out


async def conjunction(peer: Channel, x: Bits, y: Bits, *, transfers: Transfers) -> Bits:
    """Return shares of x AND y.

    Args:
        peer: The other site.
        x: Shares of n bits, (n,) uint8 of 0 and 1.
        y: As x.
        transfers: As of `equal`.
    """
    if transfers.leads:
        mine = await _choose(peer, y, transfers.chooser)  # (2), (3)
        theirs = await _offer(peer, x, transfers.offerer)  # (4)
    else:
        theirs = await _offer(peer, x, transfers.offerer)  # (3)
        mine = await _choose(peer, y, transfers.chooser)  # (4)
    return (x & y) ^ mine ^ theirs


async def _choose(peer: Channel, y: Bits, ot: Chooser) -> Bits:
    """Get a share of (their x)·(own y)."""
    blocks = await ot.extend(peer, y)
    offered = (await peer.recv(Offered, bits=(-(-len(y) // 8),))).bits
    return await offload(_opened, blocks, y, offered)


async def _offer(peer: Channel, x: Bits, ot: Offerer) -> Bits:
    """Get the other share of (own x)·(their y)."""
    share, offered = await offload(_hidden, await ot.extend(peer, len(x)), x)
    await peer.send(Offered(offered))
    return share


def _opened(blocks: ReceivedBlocks, y: Bits, offered: Bits) -> Bits:
    pads = _low_bits(tmmo.hash_blocks(blocks.t, blocks.first))
    return pads ^ (y & np.unpackbits(offered, count=len(y)))


def _hidden(blocks: CorrelatedBlocks, x: Bits) -> tuple[Bits, Bits]:
    zero, one = (_low_bits(tmmo.hash_blocks(q, blocks.first)) for q in (blocks.q, blocks.q ^ blocks.delta))
    return zero, np.packbits(zero ^ one ^ x)


def _low_bits(blocks: Words) -> Bits:
    return (blocks[:, 0] & np.uint64(1)).astype(np.uint8)


PROTOCOL = Protocol(
    name="word-equality",
    version=1,
    title="Shares of whether two words are equal",
    card=Card(
        source="Goldreich, Micali and Wigderson, STOC 1987, for shared bits; products by correlated transfers: "
        "Asharov, Lindell, Schneider and Zohner, ACM CCS 2013.",
        security="Semi-honest, 2 parties, as `oblivious-transfer`; fixed-key AES as an ideal cipher for the pads.",
        inputs="leader and follower: n words of 64 bits each.",
        reveals={
            "leader": ("A random share of one bit for each pair of words, and nothing else.",),
            "follower": ("A random share of one bit for each pair of words, and nothing else.",),
        },
        cost="126 transfers for each pair of words, so about 2 kB; 24 messages for each 32,768 pairs.",
        fails="ProtocolError as `oblivious-transfer`, or when a message has another size.",
        assurance="tested",
        notes=("Almost all bytes are the transfers'; `Transfers` takes any kind that gives the same strings.",),
    ),
    roles={"leader": lead, "follower": follow},
    messages=(Offered,),
    uses=(oblivious_transfer.PROTOCOL,),
)
