"""Values times hidden bits: the holder's values where the bit is 1 and zero elsewhere, as sums of two shares.

Holder, bits β_j and values v_j                            Partner, bits γ_j; the hidden bit is m_j = β_j ⊕ γ_j
(0) silent transfers with Δ at the holder: it has both pads P_j(0) and P_j(1), the partner P_j(a_j) of a random bit a_j
                                                           (1) sends γ_j ⊕ a_j, by which the holder swaps its pads
(2) sends P_j(0) − P_j(1) + (1 − 2β_j)·v_j
has β_j·v_j − P_j(0)                                       has P_j(γ_j) + γ_j·(what came)

m·v = β·v + γ·(1 − 2β)·v.  With v = 1 the bit itself becomes a number.  A value of which both sides have a share is
multiplied by running this twice, each side once as the holder.  Bit strings are values, too: where shares are to be
joined by XOR, sums and differences above are XOR, and (2) sends P_j(0) ⊕ P_j(1) ⊕ v_j.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from atoll.core.channel import Channel
from atoll.core.message import U8, U64, Message
from atoll.core.offload import offload
from atoll.core.protocol import Card, Protocol
from atoll.crypto import tmmo
from atoll.crypto.random import Rng
from atoll.protocols import silent_transfer
from atoll.protocols.oblivious_transfer import OtReceiver, OtSender

_MESSAGE_WORDS = 1 << 21

Bits = NDArray[np.uint8]
Words = NDArray[np.uint64]


class Flips(Message, frozen=True):
    """(1) partner → holder: its bits under random choices, packed."""

    bits: U8


class Corrections(Message, frozen=True):
    """(2) holder → partner: what turns one pad into the other plus the value, (rows, k), some rows at a time."""

    words: U64


async def holder(peer: Channel, bits: Bits, values: Words, *, ot: OtSender, rng: Rng, exclusive: bool = False) -> Words:
    """Share one's own values where the hidden bits are 1.

    Args:
        peer: Channel to the partner.
        bits: This side's halves of n hidden bits, (n,) uint8.
        values: (n, k) uint64, integers modulo 2^64; where k is 0 nothing is sent.
        ot: Transfers in which this site is the sender.
        rng: Secret randomness.
        exclusive: Whether shares are joined by XOR, the same at both sides.

    Returns:
        This side's shares, (n, k) uint64: the sum with the partner's, modulo 2^64, is bit times value; or the XOR.

    Raises:
        ProtocolError: As the card says.
        ValueError: There is not one row of values for each bit.
    """
    n, k = values.shape
    if len(bits) != n:
        raise ValueError(f"{n:,} rows of values for {len(bits):,} bits")
    out = np.empty((n, k), np.uint64)
    for part in silent_transfer.pieces(n if k else 0):
        size = part.stop - part.start
        sent = await silent_transfer.sender(peer, size, width=1, ot=ot, rng=rng.spawn())
        flips = (await peer.recv(Flips, bits=(-(-size // 8),))).bits  # (1)
        swap = np.unpackbits(flips, count=size, bitorder="little").astype(bool)
        for rows in _rows(size, k):
            here = slice(part.start + rows.start, part.start + rows.stop)
            work = _exclusive if exclusive else _corrections
            out[here], words = await offload(work, sent, rows, swap[rows], bits[here], values[here])
            await peer.send(Corrections(words))  # (2)
    return out


async def partner(peer: Channel, bits: Bits, k: int, *, ot: OtReceiver, rng: Rng, exclusive: bool = False) -> Words:
    """Share the holder's values where the hidden bits are 1.

    Args:
        peer: Channel to the holder.
        bits: This side's halves of the hidden bits, (n,) uint8.
        k: Values that belong to each bit.
        ot: Transfers in which this site is the receiver.
        rng: Secret randomness.
        exclusive: As of `holder`.

    Returns:
        This side's shares, (n, k) uint64.

    Raises:
        ProtocolError: As the card says.
    """
    out = np.empty((len(bits), k), np.uint64)
    for part in silent_transfer.pieces(len(bits) if k else 0):
        size = part.stop - part.start
        got = await silent_transfer.receiver(peer, size, width=1, ot=ot, rng=rng.spawn())
        await peer.send(Flips(np.packbits(bits[part] ^ got.choices, bitorder="little")))  # (1)
        for rows in _rows(size, k):
            here = slice(part.start + rows.start, part.start + rows.stop)
            words = (await peer.recv(Corrections, words=(rows.stop - rows.start, k))).words  # (2)
            pads = await offload(_pads, got.t[rows], got.first + rows.start, k)
            chosen = words * bits[here, np.newaxis].astype(np.uint64)
            out[here] = pads ^ chosen if exclusive else pads + chosen
    return out


def _rows(n: int, k: int) -> list[slice]:
    """Cut n rows of k words into messages."""
    step = max(1, _MESSAGE_WORDS // k)
    return [slice(lo, min(lo + step, n)) for lo in range(0, n, step)]


def _corrections(
    sent: silent_transfer.Sent, rows: slice, swap: NDArray[np.bool_], bits: Bits, values: Words
) -> tuple[Words, Words]:
    """Return the holder's shares of some rows and what it sends for them."""
    mine, (of_zero, of_one) = bits[:, np.newaxis].astype(np.uint64), _both_pads(sent, rows, swap, values.shape[1])
    signed = values - np.uint64(2) * mine * values
    return mine * values - of_zero, of_zero - of_one + signed


def _exclusive(
    sent: silent_transfer.Sent, rows: slice, swap: NDArray[np.bool_], bits: Bits, values: Words
) -> tuple[Words, Words]:
    """Do the same for shares that are joined by XOR."""
    mine, (of_zero, of_one) = bits[:, np.newaxis].astype(np.uint64), _both_pads(sent, rows, swap, values.shape[1])
    return mine * values ^ of_zero, of_zero ^ of_one ^ values


def _both_pads(sent: silent_transfer.Sent, rows: slice, swap: NDArray[np.bool_], k: int) -> tuple[Words, Words]:
    """Return the pads that stand for the partner's bits 0 and 1."""
    q = sent.q[rows]
    zero, one = (_pads(strings, sent.first + rows.start, k) for strings in (q, q ^ sent.delta))
    return np.where(swap[:, np.newaxis], one, zero), np.where(swap[:, np.newaxis], zero, one)


def _pads(strings: Words, first: int, k: int) -> Words:
    """Return k pad words of every string, (n, k)."""
    blocks = [tmmo.hash_blocks(strings, first, counter) for counter in range(-(-k // 2))]
    return np.concatenate(blocks, axis=1)[:, :k]


PROTOCOL = Protocol(
    name="masked-values",
    version=1,
    title="Values where a hidden bit is 1, and zero elsewhere, as shares",
    card=Card(
        source="Gilboa, CRYPTO 1999 (products by transfers); Rathee et al., CrypTFlow2, ACM CCS 2020 "
        "(multiplexer), with random transfers turned to chosen ones.",
        security="Semi-honest, 2 parties, computational 128 bits, as `silent-transfer`; fixed-key AES as a tweakable "
        "correlation-robust hash for the pads.",
        inputs="Both: halves of n bits shared by XOR, and whether shares of products are sums or XOR. holder: k "
        "integers modulo 2^64, or strings of 64 bits, for each bit.",
        reveals={
            "holder": ("n, and nothing of the bits.",),
            "partner": ("n and k, and nothing of bits and values: its shares are random.",),
        },
        cost="8 k + 1/8 bytes a bit in 2 messages, and what `silent-transfer` takes: 16 bytes a bit up to 8,192 bits, "
        "up to 200 kB for each 2,097,152 bits beyond.",
        fails="ProtocolError on wrong sizes and as `silent-transfer`.",
        assurance="tested",
        notes=("A malicious holder or partner can change a product; nothing checks it.",),
    ),
    roles={"holder": holder, "partner": partner},
    messages=(Flips, Corrections),
    uses=(silent_transfer.PROTOCOL,),
)
