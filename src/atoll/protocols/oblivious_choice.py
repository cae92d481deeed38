"""One of m bits, or none, for every row: the owner does not learn the choice, the chooser not the other bits."""

import numpy as np
from numpy.typing import NDArray

from atoll.core.channel import Channel
from atoll.core.message import U8, Message
from atoll.core.offload import offload
from atoll.core.protocol import Card, Protocol
from atoll.crypto.choice_pads import choice_bits, hide, reveal, transfers_per_row
from atoll.protocols import oblivious_transfer
from atoll.protocols.oblivious_transfer import OtReceiver, OtSender

CHUNK = 1 << 18
"""Rows at a time: what bounds the memory."""

CARD = Card(
    source="Naor and Pinkas, STOC 1999, section 2, on correlated transfers hashed by TMMO (`atoll.crypto.tmmo`).",
    security="Semi-honest, as `oblivious-transfer`; fixed-key AES as an ideal cipher for the pads.",
    inputs="owner: bits (m, n) of 0 and 1. chooser: choice (n,) in 0 … m, where m chooses nothing and gives 0.",
    reveals={
        "owner": ("m and n, and nothing of the choices, not even whether a row chose anything.",),
        "chooser": ("For every row the bit it chose, and nothing of the others.",),
    },
    cost="For each chunk of 262,144 rows 1 message from the owner and those of ceil(log2(m + 1)) transfers a row: "
    "16 ceil(log2(m + 1)) + m / 8 bytes a row.",
    fails="ProtocolError on wrong sizes and as `oblivious-transfer`; ValueError on own choices out of range.",
    assurance="tested",
    notes=(
        "A malicious owner can answer with other bits; a malicious chooser gets one bit a row, as an honest one does.",
        "No reaction of the chooser depends on the bits it gets.",
    ),
)


class HiddenBits(Message, frozen=True):
    """Step 2, owner, each chunk: all bits under their pads, packed along the rows; step 1 are the transfers."""

    bits: U8


async def owner(peer: Channel, bits: NDArray[np.uint8], *, ot: OtSender) -> None:
    """Offer m bits for each of n rows.

    Args:
        peer: Channel to the chooser.
        bits: (m, n) uint8, each 0 or 1.
        ot: Transfers in which this site is the sender.

    Raises:
        ValueError: A bit is neither 0 nor 1.
        ProtocolError: As the card says.
    """
    m, n = bits.shape
    if bits.size and bits.max() > 1:
        raise ValueError("the offered values are bits")
    for lo, hi in _chunks(m, n):
        blocks = await ot.extend(peer, (hi - lo) * transfers_per_row(m))  # (1)
        hidden = await offload(hide, bits[:, lo:hi], blocks.q, blocks.delta, blocks.first)
        await peer.send(HiddenBits(hidden))  # (2)


async def chooser(peer: Channel, choice: NDArray[np.integer], m: int, *, ot: OtReceiver) -> NDArray[np.uint8]:
    """Choose one of m bits, or none, for each of n rows.

    Args:
        peer: Channel to the owner.
        choice: (n,) of integers 0 … m; m chooses nothing.
        m: Bits that the owner offers a row.
        ot: Transfers in which this site is the receiver.

    Returns:
        The chosen bits, (n,) uint8; 0 where nothing was chosen.

    Raises:
        ValueError: A choice is out of range.
        ProtocolError: As the card says.
    """
    if choice.size and not 0 <= choice.min() <= choice.max() <= m:
        raise ValueError(f"choices lie in 0 … {m}")
    out = np.zeros(len(choice), np.uint8)
    for lo, hi in _chunks(m, len(choice)):
        mine = choice[lo:hi].astype(np.int64)
        blocks = await ot.extend(peer, choice_bits(mine, m))  # (1)
        hidden = (await peer.recv(HiddenBits, bits=(m, -(-(hi - lo) // 8)))).bits  # (2)
        out[lo:hi] = await offload(reveal, hidden, mine, m, blocks.t, blocks.first)
    return out


def _chunks(m: int, n: int) -> list[tuple[int, int]]:
    return [(lo, min(lo + CHUNK, n)) for lo in range(0, n, CHUNK)] if m else []


PROTOCOL = Protocol(
    name="oblivious-choice",
    version=1,
    title="One of m bits, or none, for every row",
    card=CARD,
    roles={"owner": owner, "chooser": chooser},
    messages=(HiddenBits,),
    uses=(oblivious_transfer.PROTOCOL,),
)
