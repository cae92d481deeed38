"""Silent vector oblivious linear evaluation: long random A and B at the receiver, K and Δ at the sender, K = B + Δ·A.

Receiver                                                   Sender
(1) chooses one position and one value in each of t blocks: correlated transfers (the sender's Δ) on the positions'
    paths and on the values' bits
                                                           (2) grows t trees, sends their level sums under the
                                                               transfers' pads, and each tree's sum plus Δ·value
both fold the sparse vectors, A's values and the trees' leaves, by the same linear code into vectors that look random
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from atoll.core.channel import Channel
from atoll.core.message import U64, Message
from atoll.core.offload import offload
from atoll.core.protocol import Card, Protocol
from atoll.crypto import gf128, punctured_trees, tmmo
from atoll.crypto.expand_convolute import NOISE, Code
from atoll.crypto.random import Rng
from atoll.protocols import oblivious_transfer
from atoll.protocols.oblivious_transfer import CorrelatedBlocks, OtReceiver, OtSender, ReceivedBlocks

Words = NDArray[np.uint64]


class Trees(Message, frozen=True):
    """(2) sender → receiver: masked sums of left and right children, (t, depth, 2, 2); sums of leaves, (t, 2)."""

    sums: U64
    leaves: U64


@dataclass(frozen=True, repr=False)
class Received:
    """What the receiver has: A (m, w) uint64 with w = 1 or 2 words, and B (m, 2)."""

    a: Words
    b: Words


@dataclass(frozen=True, repr=False)
class Sent:
    """What the sender has: K (m, 2) uint64, and Δ (2,)."""

    k: Words
    delta: Words


async def receiver(peer: Channel, length: int, *, words: int, ot: OtReceiver, rng: Rng) -> Received:
    """Get A and B.

    Args:
        peer: Channel to the sender.
        length: m, at least 1.
        words: Words of an element of A: 1 for elements of degree below 64, or 2.
        ot: Transfers set up for this one vector; its Δ must serve no other.
        rng: Secret randomness.

    Raises:
        ProtocolError: The sender sent another size.
    """
    code = Code(length)
    missing = rng.uniform_u64(code.block, NOISE).astype(np.int64)
    values = rng.u64(NOISE, words)
    sides = punctured_trees.sides(missing, code.block)
    bits = np.unpackbits(values.view(np.uint8), axis=1, bitorder="little")
    blocks = await ot.extend(peer, np.concatenate((sides.reshape(-1), bits.reshape(-1))))  # (1)
    trees = await peer.recv(Trees, sums=(*sides.shape, 2, 2), leaves=(NOISE, 2))  # (2)
    return await offload(_fold, code, missing, values, sides, blocks, trees)


async def sender(peer: Channel, length: int, *, words: int, ot: OtSender, rng: Rng) -> Sent:
    """Get K and Δ; arguments as of `receiver`."""
    code = Code(length)
    levels = punctured_trees.depth(code.block)
    grown = await offload(punctured_trees.grow, rng.u64(NOISE, 2), code.block)
    blocks = await ot.extend(peer, NOISE * (levels + 64 * words))  # (1)
    trees, leaves = await offload(_mask, *grown, blocks)
    await peer.send(trees)  # (2)
    (k,) = await offload(code.compress, leaves)
    return Sent(k, blocks.delta)


def _mask(leaves: Words, sums: Words, blocks: CorrelatedBlocks) -> tuple[Trees, Words]:
    """Hide the level sums, and correct each tree's sum by the share of Δ times its value."""
    on_paths = sums.shape[0] * sums.shape[1]
    paths, bits = blocks.q[:on_paths], blocks.q[on_paths:]
    pads = [tmmo.hash_blocks(np.ascontiguousarray(x), blocks.first) for x in (paths, paths ^ blocks.delta)]
    masked = sums ^ np.stack(pads, axis=1).reshape(sums.shape)
    shares = np.empty((len(leaves), 2), np.uint64)
    gf128.inner_with_powers(bits.reshape(len(leaves), -1, 2), shares)
    return Trees(masked, np.bitwise_xor.reduce(leaves, axis=1) ^ shares), leaves.reshape(-1, 2)


def _fold(
    code: Code,
    missing: NDArray[np.int64],
    values: Words,
    sides: NDArray[np.uint8],
    blocks: ReceivedBlocks,
    trees: Trees,
) -> Received:
    """Open the sums, grow the trees around their missing leaves, fill those in, and fold both sparse vectors."""
    t, words = values.shape
    paths, bits = blocks.t[: sides.size], blocks.t[sides.size :]
    pads = tmmo.hash_blocks(np.ascontiguousarray(paths), blocks.first).reshape(*sides.shape, 2)
    chosen = sides[:, :, np.newaxis, np.newaxis].astype(np.int64)
    sums = np.take_along_axis(trees.sums, chosen, axis=2)[:, :, 0] ^ pads
    b = punctured_trees.grow_punctured(missing, code.block, sums)
    shares = np.empty((t, 2), np.uint64)
    gf128.inner_with_powers(bits.reshape(t, -1, 2), shares)
    each = np.arange(t)
    b[each, missing] = trees.leaves ^ np.bitwise_xor.reduce(b, axis=1) ^ shares
    a = np.zeros((t, code.block, words), np.uint64)
    a[each, missing] = values
    return Received(*code.compress(a.reshape(-1, words), b.reshape(-1, 2)))


PROTOCOL = Protocol(
    name="silent-vole",
    version=1,
    title="Silent vector oblivious linear evaluation: long correlated vectors from a few transfers",
    card=Card(
        source="Boyle, Couteau, Gilboa, Ishai, ACM CCS 2018 and with Kohl, Rindal, Scholl, CCS 2019 (puncturable "
        "trees, dual LPN); code: Raghuraman, Rindal, Tanguy, CRYPTO 2023 (expand-convolute, weight 7, 24 taps, rate "
        "1/2); subfield form: Couteau, Rindal, Raghuraman, CRYPTO 2021.",
        security="Semi-honest, computational, 128 bits: dual LPN over GF(2) with regular noise of weight 128 for the "
        "code above at a relative distance of 0.25, which is estimated, not proven; fixed-key AES in punctured trees; "
        "correlated transfers of `oblivious-transfer`.",
        inputs="receiver and sender: the length m; each a side of transfers that were set up for this vector alone.",
        reveals={
            "receiver": ("Nothing but its A and B, which look random.",),
            "sender": ("Nothing but its K and delta, which look random.",),
        },
        cost="128 (ceil(log2(m / 64)) + 64 w) transfers of 16 bytes, and 4 kB for each level of the trees; for each "
        "element about 4 blocks of AES, 100 XORs and 7 random reads. w = 1 or 2 words in an element of A.",
        fails="ProtocolError on another size; whatever fails in the transfers.",
        assurance="tested",
        notes=(
            "Delta is that of the transfers, and serves one vector only: after it the transfers are not used again.",
            "The code's public numbers come from a fixed seed.  The broken Silver codes are not used.",
        ),
    ),
    roles={"receiver": receiver, "sender": sender},
    messages=(Trees,),
    uses=(oblivious_transfer.PROTOCOL,),
)
