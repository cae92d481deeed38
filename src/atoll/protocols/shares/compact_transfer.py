"""Correlated oblivious transfer with 4 bytes for each transfer: the receiver's choices under 32 masks instead of 128.

Sender, Δ in 32 groups of 4 bits                           Receiver
(1) 128 transfers of `oblivious-transfer`, in which this side chooses the way around one leaf in each of 32 trees
                                                           (2) grows the trees, sends their level sums under pads
both expand the 16 leaves of every tree; the sender lacks leaf δ of each
                                                           (3) for every call: r plus the sum of all 16, for each tree
q = Σ (x ⊕ δ)·leafₓ ⊕ δ·(r ⊕ …), bit by bit                t = Σ x·leafₓ, so that q = t ⊕ r·Δ
"""

from __future__ import annotations

from typing import NoReturn

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, CipherContext, algorithms, modes
from numpy.typing import NDArray

from atoll.core.channel import Channel
from atoll.core.errors import ProtocolError
from atoll.core.message import U64, Message
from atoll.core.offload import offload
from atoll.core.protocol import Card, Protocol
from atoll.crypto import punctured_trees, tmmo
from atoll.crypto.bit_transpose import strings_of
from atoll.crypto.compact_columns import correct, fold
from atoll.crypto.jit import read_only
from atoll.crypto.random import Rng
from atoll.protocols import oblivious_transfer
from atoll.protocols.oblivious_transfer import KAPPA, CorrelatedBlocks, ReceivedBlocks

Words = NDArray[np.uint64]

BITS = 4
GROUPS = KAPPA // BITS
LEAVES = 1 << BITS
_TILE_WORDS = 2040  # words of a column at a time, not a power of two: 16 streams stay in the cache
_MESSAGE_TILES = 8


class Trees(Message, frozen=True):
    """(2) receiver → sender: masked sums of left and of right children, (32, 4, 2, 2)."""

    sums: U64


class Columns(Message, frozen=True):
    """(3) receiver → sender, for every call: its choices, masked once for each of 32 trees."""

    first: int
    columns: U64


class _Streams:
    """The leaves' key streams, which only go forward, and the count of transfers that were given out."""

    def __init__(self, leaves: Words) -> None:
        """Begin one stream for each leaf, (32, 16, 2)."""
        self._streams: list[list[CipherContext]] = [
            [Cipher(algorithms.AES(leaf.tobytes()), modes.CTR(bytes(16))).encryptor() for leaf in tree]
            for tree in leaves
        ]
        self._zeros = np.zeros(8 * _TILE_WORDS, np.uint8)
        self._kept = np.empty(0, np.uint64)
        self._busy, self.used = False, 0

    def __repr__(self) -> str:
        return f"{type(self).__name__}(used={self.used})"  # everything else is secret

    def __reduce__(self) -> NoReturn:
        raise TypeError("a set-up of transfers cannot be copied or stored: its index would be used twice")

    def _begin(self, words: int) -> int:
        if self._busy:
            raise RuntimeError("this set-up is in use, or a call on it has failed; its transfers are not taken again")
        first, self._busy = self.used, True
        self.used += 64 * words
        return first

    def _room(self, words: int) -> tuple[Words, Words]:
        """Return room for a tree's streams and for all columns; it is kept, as fresh pages cost more than the sums."""
        if self._kept.size < (LEAVES + KAPPA) * words:
            self._kept = np.empty((LEAVES + KAPPA) * words, np.uint64)
        streams, columns = self._kept[: LEAVES * words], self._kept[LEAVES * words : (LEAVES + KAPPA) * words]
        return streams.reshape(LEAVES, words), columns.reshape(KAPPA, words)

    def _next(self, tree: int, order: NDArray[np.intp], out: Words) -> None:
        """Fill rows with the next words of a tree's streams, in the given order."""
        zeros = self._zeros[: 8 * out.shape[1]].data
        for row, leaf in zip(out.view(np.uint8), order, strict=True):
            self._streams[tree][leaf].update_into(zeros, row.data)


class CompactSender(_Streams):
    """The sender's state; one object for one direction and job."""

    def __init__(self, leaves: Words, missing: NDArray[np.int64]) -> None:
        super().__init__(leaves)
        self._orders = [np.arange(LEAVES) ^ int(delta) for delta in missing]  # place 0 is the missing leaf
        bits = (missing[:, np.newaxis] >> np.arange(BITS)) & 1
        self._chosen = np.uint64(0) - bits.astype(np.uint64)  # (32, 4)
        self._delta = np.packbits(bits.astype(np.uint8).reshape(-1), bitorder="little").view(np.uint64)

    async def extend(self, peer: Channel, words: int) -> CorrelatedBlocks:
        """Take part in 64·words transfers.

        Raises:
            ProtocolError: The receiver sent another size or another index.
            RuntimeError: Two calls at once, or an earlier one has failed.
        """
        first = self._begin(words)
        q = np.empty((64 * words, 2), np.uint64)
        for lo, hi in _messages(words):
            message = await peer.recv(Columns, columns=(GROUPS * (hi - lo),))  # (3)
            if message.first != first + 64 * lo:
                raise ProtocolError(
                    f"the receiver extends transfers from index {message.first:,}, this side is at {first + 64 * lo:,}"
                )
            await offload(self._correct, message.columns, q[64 * lo : 64 * hi])
        self._busy = False
        return CorrelatedBlocks(q, self._delta.copy(), first)

    def _correct(self, received: Words, q: Words) -> None:
        for lo, hi in _tiles(len(q) // 64):
            streams, columns = self._room(hi - lo)
            part = received[GROUPS * lo : GROUPS * hi].reshape(GROUPS, -1)
            for tree in range(GROUPS):
                streams[0] = 0
                self._next(tree, self._orders[tree][1:], streams[1:])
                own = columns[BITS * tree : BITS * (tree + 1)]
                fold(streams, own)
                correct(own, read_only(part[tree]), self._chosen[tree])
            strings_of(columns, q[64 * lo : 64 * hi])


class CompactReceiver(_Streams):
    """The receiver's state; one object for one direction and job."""

    async def extend(self, peer: Channel, choices: Words) -> ReceivedBlocks:
        """Choose in 64·words transfers.

        Args:
            peer: Channel to the sender, which calls `CompactSender.extend` with as many words.
            choices: (words,) uint64, one bit for each transfer.

        Raises:
            RuntimeError: Two calls at once, or an earlier one has failed.
        """
        first = self._begin(len(choices))
        t = np.empty((64 * len(choices), 2), np.uint64)
        for lo, hi in _messages(len(choices)):
            columns = await offload(self._mask, choices[lo:hi], t[64 * lo : 64 * hi])
            await peer.send(Columns(first + 64 * lo, columns))  # (3)
        self._busy = False
        return ReceivedBlocks(t, first)

    def _mask(self, choices: Words, t: Words) -> Words:
        out, order = np.empty(GROUPS * len(choices), np.uint64), np.arange(LEAVES)
        for lo, hi in _tiles(len(choices)):
            streams, columns = self._room(hi - lo)
            part = out[GROUPS * lo : GROUPS * hi].reshape(GROUPS, -1)
            for tree in range(GROUPS):
                self._next(tree, order, streams)
                fold(streams, columns[BITS * tree : BITS * (tree + 1)])
                np.bitwise_xor(streams[0], choices[lo:hi], out=part[tree])
            strings_of(columns, t[64 * lo : 64 * hi])
        return out


async def setup_sender(peer: Channel, *, rng: Rng) -> CompactSender:
    """Choose one leaf to lack in each tree: its number is a part of Δ.

    Args:
        peer: Channel to the receiver.
        rng: Secret randomness.

    Raises:
        ProtocolError: The receiver broke the protocol.
    """
    ot = await oblivious_transfer.setup_receiver(peer, rng=rng)
    missing = rng.uniform_u64(LEAVES, GROUPS).astype(np.int64)
    sides = punctured_trees.sides(missing, LEAVES)  # (32, 4)
    blocks = await ot.extend(peer, sides.reshape(-1))  # (1)
    trees = await peer.recv(Trees, sums=(*sides.shape, 2, 2))  # (2)
    pads = tmmo.hash_blocks(blocks.t, blocks.first).reshape(*sides.shape, 2)
    chosen = sides[:, :, np.newaxis, np.newaxis].astype(np.int64)
    sums = np.take_along_axis(trees.sums, chosen, axis=2)[:, :, 0] ^ pads
    return CompactSender(punctured_trees.grow_punctured(missing, LEAVES, sums), missing)


async def setup_receiver(peer: Channel, *, rng: Rng) -> CompactReceiver:
    """Grow the trees; arguments and errors as of `setup_sender`."""
    ot = await oblivious_transfer.setup_sender(peer, rng=rng)
    leaves, sums = punctured_trees.grow(rng.u64(GROUPS, 2), LEAVES)
    blocks = await ot.extend(peer, GROUPS * BITS)  # (1)
    pads = [tmmo.hash_blocks(x, blocks.first) for x in (blocks.q, blocks.q ^ blocks.delta)]
    await peer.send(Trees(sums ^ np.stack(pads, axis=1).reshape(sums.shape)))  # (2)
    return CompactReceiver(leaves)


def _tiles(words: int) -> list[tuple[int, int]]:
    return [(lo, min(lo + _TILE_WORDS, words)) for lo in range(0, words, _TILE_WORDS)]


def _messages(words: int) -> list[tuple[int, int]]:
    step = _MESSAGE_TILES * _TILE_WORDS
    return [(lo, min(lo + step, words)) for lo in range(0, words, step)]


PROTOCOL = Protocol(
    name="compact-transfer",
    version=1,
    title="Correlated oblivious transfer with 4 bytes for each transfer",
    card=Card(
        source="Roy, SoftSpokenOT, CRYPTO 2022 (eprint 2022/192), with fields of 2^4; punctured "
        "trees as of `silent-vole`, from 128 transfers of `oblivious-transfer`.",
        security="Semi-honest, computational, 128 bits: fixed-key AES in punctured trees, AES-128 in counter mode for "
        "the leaves, and the base transfers.",
        inputs="receiver: choices, one bit for each transfer. sender: nothing; Δ is drawn in the set-up.",
        reveals={
            "sender": ("The number of transfers of each call, and nothing of the choices.",),
            "receiver": ("The number of transfers of each call, and nothing of Δ.",),
        },
        cost="Set-up 15 kB. Each call 4 bytes for each transfer, from the receiver, and 4 blocks of AES at both sides.",
        fails="ProtocolError on another size, or an index that differs from the sender's count. After a failed or "
        "interrupted call the set-up refuses to go on.",
        assurance="tested",
        notes=(
            "A malicious receiver could learn bits of Δ: there is no consistency check.",
            "Streams only go forward; nothing of a set-up can be copied or stored.",
            "The strings are correlated; hash them under their index before they hide anything.",
        ),
    ),
    roles={"sender": setup_sender, "receiver": setup_receiver},
    messages=(Trees, Columns),
    uses=(oblivious_transfer.PROTOCOL,),
)
