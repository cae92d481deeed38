"""Hidden bit strings in an order that one side knows: shares of them there, and the other side learns no order.

Orderer, order o_1 … o_n, shares x_i                       Holder, shares y_i; the strings are x_i ⊕ y_i
both walk a switching network layer by layer, some layers at a time; a share travels on every wire
(0) silent transfers with Δ at the holder: for switch j it has the pads P_j(0) and P_j(1) of two strings each, the
    orderer P_j(a_j) of a random bit a_j
(1) sends σ_j ⊕ a_j, where σ_j tells whether switch j
    exchanges its wires, by which the holder swaps pads
                                                           (2) sends P_j(0) ⊕ P_j(1) ⊕ (w ⊕ w′), where w and w′ are
                                                               its shares on the wires that enter
adds P_j(σ_j), and where σ_j = 1 what came                 adds P_j(0) to w and w′
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from atoll.core.channel import Channel
from atoll.core.message import U8, Message
from atoll.core.offload import offload
from atoll.core.protocol import Card, Protocol
from atoll.crypto import switching_network, tmmo
from atoll.crypto.random import Rng
from atoll.crypto.switching_network import Layer
from atoll.protocols import silent_transfer
from atoll.protocols.oblivious_transfer import OtReceiver, OtSender

LONGEST = 128
"""Most bytes of a string."""

_MESSAGE_BYTES = 1 << 24

Octets = NDArray[np.uint8]


class Flips(Message, frozen=True):
    """(1) orderer → holder: settings of switches under random choices, packed."""

    bits: U8


class Exchanges(Message, frozen=True):
    """(2) holder → orderer: what turns one pad into the other plus the difference of both wires, (switches, 2, b)."""

    strings: U8


async def orderer(peer: Channel, order: NDArray[np.int64], shares: Octets, *, ot: OtReceiver, rng: Rng) -> Octets:
    """Put shared strings in an order that only this side knows.

    Args:
        peer: Channel to the holder.
        order: (n,) int64, which string comes to each place: a permutation of 0 … n − 1.
        shares: This side's shares of n strings of b bytes, (n, b) uint8.
        ot: Transfers in which this site is the receiver.
        rng: Secret randomness.

    Returns:
        New shares of the strings in that order, (n, b); XOR with the holder's gives them.

    Raises:
        ProtocolError: As the card says.
        ValueError: The strings are too long.
    """
    width = _checked(shares)
    settings = await offload(switching_network.route, order)
    wires, at = np.zeros_like(shares), 0
    for layers in _together(len(shares), width):
        count = sum(len(layer.sources) for layer in layers)
        mine = settings[at : at + count]
        at += count
        pads = np.empty((count, 2, width), np.uint8)
        for part in silent_transfer.pieces(count):
            got = await silent_transfer.receiver(peer, part.stop - part.start, width=1, ot=ot, rng=rng.spawn())
            await peer.send(Flips(np.packbits(mine[part] ^ got.choices, bitorder="little")))  # (1)
            pads[part] = await offload(_pads, got.t, got.first, width)
        strings = (await peer.recv(Exchanges, strings=(count, 2, width))).strings  # (2)
        pads ^= strings * mine[:, np.newaxis, np.newaxis]
        wires = await offload(_moved, layers, wires, mine, pads)
    return wires ^ shares[order]


async def holder(peer: Channel, shares: Octets, *, ot: OtSender, rng: Rng) -> Octets:
    """Have shared strings put in an order that the peer knows.

    Args:
        peer: Channel to the orderer.
        shares: This side's shares, (n, b) uint8.
        ot: Transfers in which this site is the sender.
        rng: Secret randomness.

    Returns:
        This side's new shares, (n, b).

    Raises:
        ProtocolError: As the card says.
        ValueError: The strings are too long.
    """
    width = _checked(shares)
    wires = shares
    for layers in _together(len(shares), width):
        count = sum(len(layer.sources) for layer in layers)
        kept, other = np.empty((2, count, 2, width), np.uint8)
        for part in silent_transfer.pieces(count):
            size = part.stop - part.start
            sent = await silent_transfer.sender(peer, size, width=1, ot=ot, rng=rng.spawn())
            flips = (await peer.recv(Flips, bits=(-(-size // 8),))).bits  # (1)
            kept[part], other[part] = await offload(_both_pads, sent, flips, width)
        other ^= kept
        wires = await offload(_masked, layers, wires, kept, other)
        await peer.send(Exchanges(other))  # (2)
    return wires


def _together(n: int, width: int) -> Iterator[list[Layer]]:
    """Yield layers whose switches are worked in one go: a vector of transfers, and one message."""
    most = min(silent_transfer.LONGEST, _MESSAGE_BYTES // (2 * width))
    layers: list[Layer] = []
    count = 0
    for layer in switching_network.layers(n):
        size = len(layer.sources)
        if layers and count + size > most:
            yield layers
            layers, count = [], 0
        if size:
            layers.append(layer)
            count += size
    if layers:
        yield layers


def _moved(layers: list[Layer], wires: Octets, settings: NDArray[np.uint8], pads: Octets) -> Octets:
    """Walk layers as the orderer: exchange wires, add pads."""
    at = 0
    for layer in layers:
        part = slice(at, at := at + len(layer.sources))
        swap = settings[part, np.newaxis]
        entering = np.where(swap == 1, layer.sources[:, ::-1], layer.sources)
        after = wires.copy()
        after[layer.targets] = wires[entering] ^ pads[part]
        wires = after
    return wires


def _masked(layers: list[Layer], wires: Octets, kept: Octets, exchanges: Octets) -> Octets:
    """Walk layers as the holder: leave wires as they are, add pads, put both wires' difference into the exchanges."""
    at = 0
    for layer in layers:
        part = slice(at, at := at + len(layer.sources))
        entering = wires[layer.sources]
        exchanges[part] ^= (entering[:, 0] ^ entering[:, 1])[:, np.newaxis]
        after = wires.copy()
        after[layer.targets] = entering ^ kept[part]
        wires = after
    return wires


def _both_pads(sent: silent_transfer.Sent, flips: Octets, width: int) -> tuple[Octets, Octets]:
    """Return the pads of a switch that leaves its wires, and of one that exchanges them, (switches, 2, b) each."""
    swap = np.unpackbits(flips, count=len(sent.q), bitorder="little").astype(np.bool_)[:, np.newaxis, np.newaxis]
    zero, one = (_pads(strings, sent.first, width) for strings in (sent.q, sent.q ^ sent.delta))
    return np.where(swap, one, zero), np.where(swap, zero, one)


def _pads(strings: NDArray[np.uint64], first: int, width: int) -> Octets:
    """Return two pads of `width` bytes for each transfer, (switches, 2, b); each block of AES gives 8 bytes of both."""
    out = np.empty((len(strings), 2, width), np.uint8)
    for counter, lo in enumerate(range(0, width, 8)):
        block = tmmo.hash_blocks(strings, first, counter).view(np.uint8).reshape(-1, 2, 8)
        out[:, :, lo : lo + 8] = block[:, :, : width - lo]
    return out


def _checked(shares: Octets) -> int:
    if shares.ndim != 2 or not 1 <= shares.shape[1] <= LONGEST:
        raise ValueError(f"strings are an array (n, 1 to {LONGEST} bytes), not {shares.shape}")
    return int(shares.shape[1])


PROTOCOL = Protocol(
    name="hidden-permutation",
    version=1,
    title="Hidden bit strings in an order that one side knows and the other does not learn",
    card=Card(
        source="Mohassel and Sadeghian, EUROCRYPT 2013, section 4 (a switching network by transfers, one for each "
        "switch), with silent transfers; any number of wires: Chang and Melhem 1997.",
        security="Semi-honest, 2 parties, computational 128 bits, as `silent-transfer`; fixed-key AES as a tweakable "
        "correlation-robust hash for the pads.",
        inputs="Both: shares by XOR of n strings of b bytes. orderer: an order of n places.",
        reveals={
            "orderer": ("n and b, and nothing of the strings: its shares are random.",),
            "holder": ("n and b, and nothing of order or strings: its shares are random.",),
        },
        cost="About n log2 n switches; for each 2 b + 1/8 bytes, a silent transfer, and b / 4 blocks of AES at the "
        "holder. 2 messages, and 2 more for each further 2,097,152 switches.",
        fails="ProtocolError on wrong sizes and as `silent-transfer`.",
        assurance="tested",
        notes=("A malicious holder can change strings; a malicious orderer can only choose its order.",),
    ),
    roles={"orderer": orderer, "holder": holder},
    messages=(Flips, Exchanges),
    uses=(silent_transfer.PROTOCOL,),
)
