"""Silent transfers: correlated strings with random choices, receiver a_j and t_j, sender q_j = t_j ⊕ a_j·Δ.

Receiver                                                   Sender
(1) chooses one position and one value in each of t blocks: correlated transfers (the sender's Δ) on the positions'
    paths and on the values' bits
                                                           (2) grows t trees, sends their level sums under the
                                                               transfers' pads, and each tree's sum plus Δ·value
both fold the sparse vectors, the values and the trees' leaves, by the same linear code into vectors that look random

Choices have 1 to 8 bits: a_j = 0 or 1 is an ordinary transfer, a_j of w bits is one of 2^w, at the price of one string.
Few strings are made of the correlated transfers themselves.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from atoll.core.channel import Channel
from atoll.core.offload import offload
from atoll.core.protocol import Card, Protocol
from atoll.crypto import punctured_trees
from atoll.crypto.expand_convolute import Code, noise
from atoll.crypto.random import Rng
from atoll.protocols import noise_trees, oblivious_transfer
from atoll.protocols.noise_trees import Trees, joined
from atoll.protocols.oblivious_transfer import OtReceiver, OtSender

FEW = 1 << 13
"""Up to so many correlated transfers are cheaper than the trees."""

SHORTEST = 1 << 14
"""Strings that are made at least: in a shorter vector a block of noise has too few positions to hide one."""

LONGEST = 1 << 21
"""Strings of one vector: what bounds the memory, at about 100 bytes a string."""

_OWN = 1 << 63  # indices from here on belong to silent strings, those below to the transfers
_CALL = 24  # bits of an index inside one call

Words = NDArray[np.uint64]


@dataclass(frozen=True, repr=False)
class Received:
    """What the receiver has: choices a (n,) uint8, strings t (n, 2) uint64, running index of the first."""

    choices: NDArray[np.uint8]
    t: Words
    first: int


@dataclass(frozen=True, repr=False)
class Sent:
    """What the sender has: strings q (n, 2) uint64, Δ (2,), running index of the first."""

    q: Words
    delta: Words
    first: int


@dataclass(frozen=True)
class _Noise:
    """Sizes of one vector: `blocks` blocks of `block` positions, for at least 2 · `length` of them."""

    blocks: int
    block: int
    length: int

    @classmethod
    def of(cls, n: int, width: int) -> _Noise:
        blocks, length = noise(width), max(n, SHORTEST)
        return cls(blocks, -(-2 * length // blocks), length)


def pieces(n: int) -> list[slice]:
    """Cut n strings into vectors that are made one after the other."""
    return [slice(lo, min(lo + LONGEST, n)) for lo in range(0, n, LONGEST)]


async def receiver(peer: Channel, n: int, *, width: int, ot: OtReceiver, rng: Rng) -> Received:
    """Get random choices and the strings that they stand for.

    Args:
        peer: Channel to the sender.
        n: How many, 1 to `LONGEST`.
        width: Bits of a choice, 1 to 8.
        ot: Transfers in which this site is the receiver.
        rng: Secret randomness.

    Raises:
        ProtocolError: The sender sent another size, and as in the transfers.
        ValueError: n or the width is out of range.
    """
    _check(n, width)
    if n * width <= FEW:
        bits = rng.bits(n * width)
        blocks = await ot.extend(peer, bits)  # (1)
        choices = np.packbits(bits.reshape(n, width), axis=1, bitorder="little")[:, 0]
        return Received(choices, joined(blocks.t, width), _first(blocks.first))
    sizes = _Noise.of(n, width)
    missing = rng.uniform_u64(sizes.block, sizes.blocks).astype(np.int64)
    values = rng.uniform_u64((1 << width) - 1, sizes.blocks) + np.uint64(1)
    sides = punctured_trees.sides(missing, sizes.block)
    bits = (values[:, np.newaxis] >> np.arange(width, dtype=np.uint64) & np.uint64(1)).astype(np.uint8)
    blocks = await ot.extend(peer, np.concatenate((sides.reshape(-1), bits.reshape(-1))))  # (1)
    trees = await peer.recv(Trees, sums=(*sides.shape, 2, 2), leaves=(sizes.blocks, 2))  # (2)
    t = await offload(noise_trees.regrow, trees, missing, sides, blocks, sizes.block, width)
    choices, t = await offload(_fold, sizes, missing, values, t)
    return Received(choices[:n], t[:n], _first(blocks.first))


async def sender(peer: Channel, n: int, *, width: int, ot: OtSender, rng: Rng) -> Sent:
    """Get Δ and the strings from which all others follow; arguments as of `receiver`."""
    _check(n, width)
    if n * width <= FEW:
        blocks = await ot.extend(peer, n * width)  # (1)
        return Sent(joined(blocks.q, width), blocks.delta, _first(blocks.first))
    sizes = _Noise.of(n, width)
    leaves, sums = await offload(punctured_trees.grow, rng.u64(sizes.blocks, 2), sizes.block)
    blocks = await ot.extend(peer, sizes.blocks * (punctured_trees.depth(sizes.block) + width))  # (1)
    await peer.send(await offload(noise_trees.masked, leaves, sums, blocks, width))  # (2)
    (q,) = await offload(Code(sizes.length).compress, leaves.reshape(-1, 2))
    return Sent(q[:n], blocks.delta, _first(blocks.first))


def _check(n: int, width: int) -> None:
    if not 1 <= n <= LONGEST or not 1 <= width <= 8:
        raise ValueError(f"{n:,} strings with choices of {width} bits cannot be made at once")


def _first(transfers: int) -> int:
    """Return the index of a call's first string; transfers are used by one call only, and so are its indices."""
    return _OWN + (transfers << _CALL)


def _fold(sizes: _Noise, missing: NDArray[np.int64], values: Words, t: Words) -> tuple[NDArray[np.uint8], Words]:
    """Fold both sparse vectors."""
    a = np.zeros((sizes.blocks, sizes.block, 1), np.uint8)
    a[np.arange(sizes.blocks), missing, 0] = values
    choices, strings = Code(sizes.length).compress(a.reshape(-1, 1), t.reshape(-1, 2))
    return choices[:, 0], strings


PROTOCOL = Protocol(
    name="silent-transfer",
    version=1,
    title="Silent transfers: correlated strings with random choices, almost free of bytes",
    card=Card(
        source="Boyle, Couteau, Gilboa, Ishai, Kohl, Rindal, Scholl, ACM CCS 2019 (silent transfers); one of 2^w by "
        "values of w bits: Roy, CRYPTO 2022 (eprint 2022/192); code: Raghuraman, Rindal, Tanguy, CRYPTO "
        "2023.",
        security="Semi-honest, computational, 128 bits: dual LPN over GF(2) with regular noise for the code of "
        "`silent-vole` at the relative distance taken there, which is estimated, not proven; values of w bits get more "
        "noise, since a bit of a value is zero half of the time. Fixed-key AES in punctured trees; transfers of "
        "`oblivious-transfer`.",
        inputs="receiver and sender: the number n of strings and the width w of choices; a side of transfers each.",
        reveals={
            "receiver": ("Nothing but its choices and strings, which look random.",),
            "sender": ("Nothing but its strings, which look random.",),
        },
        cost="Bytes: 16 n w for few strings (n w up to 8,192); otherwise about 48 t log2(2 n / t) + 16 t (w + 1) for "
        f"each 2,097,152 strings, where t is {noise(1)} for w = 1 and {noise(4)} for w = 4: a few 100 kB. For each "
        "string about 4 blocks of AES, 100 XORs and 7 random reads.",
        fails="ProtocolError on another size; whatever fails in the transfers.",
        assurance="tested",
        notes=(
            "Delta is that of the transfers, and the same in all calls; indices tell strings apart in the hash.",
            "The strings are correlated; hash them under their index before they hide anything.",
        ),
    ),
    roles={"receiver": receiver, "sender": sender},
    messages=(Trees,),
    uses=(oblivious_transfer.PROTOCOL,),
)
