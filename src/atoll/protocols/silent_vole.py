"""Silent vector oblivious linear evaluation: long random A and B at the receiver, K and Δ at the sender, K = B + Δ·A.

Receiver                                                   Sender
(1) chooses one position and one value in each of t blocks: correlated transfers (the sender's Δ) on the positions'
    paths and on the values' bits
                                                           (2) grows t trees, sends their level sums under the
                                                               transfers' pads, and each tree's sum plus Δ·value
(3) only where the sender may be malicious: a point χ, and x = X ⊕ x₀, where X = Σ χ^i · (value at i) and x₀ is one
    more value that serves as a mask                       (4) hash of V = Σ χ^i · (leaf i) ⊕ (its share of Δ·x₀) ⊕ Δ·x
checks that V is Σ χ^i · (its leaf i) ⊕ (its share of Δ·x₀)
both fold the sparse vectors, A's values and the trees' leaves, by the same linear code into vectors that look random
"""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from atoll.core.channel import Channel
from atoll.core.errors import ProtocolError
from atoll.core.message import U8, U64, Message
from atoll.core.offload import offload
from atoll.core.protocol import Card, Protocol
from atoll.crypto import gf128, punctured_trees
from atoll.crypto.expand_convolute import Code
from atoll.crypto.random import Rng
from atoll.protocols import noise_trees, oblivious_transfer, transfer_check
from atoll.protocols.noise_trees import Trees
from atoll.protocols.oblivious_transfer import CorrelatedBlocks, OtReceiver, OtSender, ReceivedBlocks

MASK = 128
"""Transfers that carry the bits of x₀."""

Words = NDArray[np.uint64]


class Challenge(Message, frozen=True):
    """(3) receiver → sender: the point χ, (2,), and x, (2,)."""

    point: U64
    masked: U64


class Answer(Message, frozen=True):
    """(4) sender → receiver: hash of V, (32,)."""

    digest: U8


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


async def receiver(
    peer: Channel, length: int, *, words: int, ot: OtReceiver, rng: Rng, checked: bool = False
) -> Received:
    """Get A and B.

    Args:
        peer: Channel to the sender.
        length: m, at least 1.
        words: Words of an element of A: 1 for elements of degree below 64, or 2.
        ot: Transfers set up for this one vector; its Δ must serve no other.
        rng: Secret randomness.
        checked: Whether each side checks the other, which may be malicious; the same at both.

    Raises:
        ProtocolError: The sender sent another size, or, where it is checked, wrong trees.
    """
    code = Code(length)
    missing = rng.uniform_u64(code.block, code.blocks).astype(np.int64)
    values = rng.u64(code.blocks, words)
    sides = punctured_trees.sides(missing, code.block)
    bits = np.unpackbits(values.view(np.uint8), axis=1, bitorder="little")
    choices = np.concatenate((sides.reshape(-1), bits.reshape(-1)))
    mask = rng.u64(2) if checked else np.zeros(2, np.uint64)
    if checked:
        mask_bits = np.unpackbits(mask.view(np.uint8), bitorder="little")
        choices = np.concatenate((choices, mask_bits, rng.bits(transfer_check.USED_UP)))
    blocks = await ot.extend(peer, choices)  # (1)
    if checked:
        await transfer_check.receiver(peer, choices, blocks)
    trees = await peer.recv(Trees, sums=(*sides.shape, 2, 2), leaves=(code.blocks, 2))  # (2)
    b = await offload(noise_trees.regrow, trees, missing, sides, blocks, code.block, 64 * words)
    if checked:
        await _check_trees(peer, b, missing, values, mask, blocks, rng)  # (3), (4)
    return await offload(_fold, code, missing, values, b)


async def sender(peer: Channel, length: int, *, words: int, ot: OtSender, rng: Rng, checked: bool = False) -> Sent:
    """Get K and Δ; arguments as of `receiver`.

    Raises:
        ProtocolError: The receiver sent another size, or, where it is checked, inconsistent choices.
    """
    code = Code(length)
    levels = punctured_trees.depth(code.block)
    leaves, sums = await offload(punctured_trees.grow, rng.u64(code.blocks, 2), code.block)
    used = code.blocks * (levels + 64 * words)
    blocks = await ot.extend(peer, used + (MASK + transfer_check.USED_UP if checked else 0))  # (1)
    if checked:
        await transfer_check.sender(peer, blocks, rng=rng)
    await peer.send(await offload(noise_trees.masked, leaves, sums, blocks, 64 * words))  # (2)
    leaves = leaves.reshape(-1, 2)
    if checked:
        challenge = await peer.recv(Challenge, point=(2,), masked=(2,))  # (3)
        await peer.send(Answer(await offload(_answer, leaves, blocks, used, challenge)))  # (4)
    (k,) = await offload(code.compress, leaves)
    return Sent(k, blocks.delta)


def _fold(code: Code, missing: NDArray[np.int64], values: Words, b: Words) -> Received:
    """Fold both sparse vectors."""
    t, words = values.shape
    a = np.zeros((t, code.block, words), np.uint64)
    a[np.arange(t), missing] = values
    return Received(*code.compress(a.reshape(-1, words), b.reshape(-1, 2)))


async def _check_trees(
    peer: Channel,
    b: Words,
    missing: NDArray[np.int64],
    values: Words,
    mask: Words,
    blocks: ReceivedBlocks,
    rng: Rng,
) -> None:
    """Hold the sender to the relation of the sparse vectors, at a point that it could not know."""
    t, block, _ = b.shape
    point, full = rng.u64(2), np.zeros((t, 2), np.uint64)
    full[:, : values.shape[1]] = values
    x = gf128.evaluate_sparse(point, t * block, np.arange(t) * block + missing, full)
    await peer.send(Challenge(point, x ^ mask))  # (3)
    v = await offload(gf128.evaluate, point, b.reshape(-1, 2))
    at = len(blocks.t) - MASK - transfer_check.USED_UP
    want = _digest(v ^ _mask_share(blocks.t, at))
    answer = await peer.recv(Answer, digest=(32,))  # (4)
    if not hmac.compare_digest(answer.digest.tobytes(), want):
        raise ProtocolError(
            f"{peer.peer} sent trees that do not fit together",
            cure="It runs another program, or is dishonest: ask its operator.",
        )


def _answer(leaves: Words, blocks: CorrelatedBlocks, used: int, challenge: Challenge) -> NDArray[np.uint8]:
    v = gf128.evaluate(challenge.point, leaves) ^ _mask_share(blocks.q, used)
    digest = _digest(v ^ gf128.multiply(blocks.delta, challenge.masked))
    return np.frombuffer(digest, np.uint8)


def _mask_share(strings: Words, at: int) -> Words:
    """Return this side's share of Δ·x₀, (2,)."""
    return noise_trees.joined(strings[at : at + MASK], MASK).reshape(2)


def _digest(v: Words) -> bytes:
    return hashlib.sha256(b"atoll/silent-vole/v1/check/" + v.tobytes()).digest()


PROTOCOL = Protocol(
    name="silent-vole",
    version=1,
    title="Silent vector oblivious linear evaluation: long correlated vectors from a few transfers",
    card=Card(
        source="Boyle, Couteau, Gilboa, Ishai, ACM CCS 2018 and with Kohl, Rindal, Scholl, CCS 2019 (puncturable "
        "trees, dual LPN); code: Raghuraman, Rindal, Tanguy, CRYPTO 2023 (expand-convolute, weight 7, 24 taps, rate "
        "1/2); subfield form: Couteau, Rindal, Raghuraman, CRYPTO 2021. Check of the trees: Weng, Yang, Katz, Wang, "
        "IEEE S&P 2021 (eprint 2020/925), section 5.1, with powers of one point as coefficients.",
        security="Semi-honest, or malicious where both sides ask for `checked`; computational, 128 bits: dual LPN "
        "over GF(2) with regular noise of weight 552 for the code above at a relative distance of 0.15, which is "
        "estimated, not proven; fixed-key AES in punctured trees; correlated transfers of `oblivious-transfer`, with "
        "`transfer-check` where checked.",
        inputs="receiver and sender: the length m; each a side of transfers that were set up for this vector alone.",
        reveals={
            "receiver": ("Nothing but its A and B, which look random.",),
            "sender": ("Nothing but its K and delta, which look random.",),
        },
        cost="552 (ceil(log2(m / 276)) + 64 w) transfers of 16 bytes, and 18 kB for each level of the trees; for each "
        "element about 4 blocks of AES, 100 XORs and 7 random reads. w = 1 or 2 words in an element of A. Checked: "
        "256 more transfers, 4 more messages, 2.3 kB.",
        fails="ProtocolError on another size; whatever fails in the transfers; where checked, on inconsistent choices "
        "or trees.",
        assurance="tested",
        notes=(
            "Checked: wrong sums or a wrong correction pass with probability 2m / 2^128, but for a sender that "
            "guesses where the noise is: a guess of one block's place, out of m / 276, passes if it is right and ends "
            "the run if not. The sender so learns one bit on the average; LPN is assumed to stand this (as in the "
            "source).",
            "Checked: assurance is `sketch`; the sources prove the parts, this composition is tested only.",
            "Delta is that of the transfers, and serves one vector only: after it the transfers are not used again.",
            "The code's public numbers come from a fixed seed.  The broken Silver codes are not used.",
        ),
    ),
    roles={"receiver": receiver, "sender": sender},
    messages=(Trees, Challenge, Answer),
    uses=(oblivious_transfer.PROTOCOL, transfer_check.PROTOCOL),
)
