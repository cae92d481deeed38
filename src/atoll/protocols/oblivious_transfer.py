"""Correlated oblivious transfer: 128 base transfers by endemic key agreement, then IKNP extension.

`setup_sender` and `setup_receiver` run once a job and direction; the objects that they return give any number of
correlated strings, sender q_j and receiver t_j = q_j ⊕ r_j·Δ, each with a running index that no later one shares.
What is made of the strings (pads, bits) is the caller's matter: `atoll.crypto.tmmo` hashes them under that index.
"""

import hashlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from atoll.core.channel import Channel
from atoll.core.errors import ProtocolError
from atoll.core.message import U8, U64, Message
from atoll.core.offload import offload
from atoll.core.protocol import Card, Protocol
from atoll.crypto import ristretto
from atoll.crypto.aes import Streams
from atoll.crypto.bit_transpose import corrected_columns, masked_columns, strings_of
from atoll.crypto.jit import read_only
from atoll.crypto.random import Rng

KAPPA = 128
_TILE_WORDS = 504  # words of a column at a time: 32,256 transfers; a power of two would crowd one set of the cache
_MESSAGE_TILES = 32  # tiles in one message, 16 MB

CARD = Card(
    source="Base: Masny and Rindal, ACM CCS 2019 (eprint 2019/706), endemic transfer from Diffie-Hellman, on "
    "ristretto255 (RFC 9496). Extension: Ishai, Kilian, Nissim and Petrank, CRYPTO 2003, kappa = 128.",
    security="Semi-honest, computational: CDH on ristretto255 and SHA-512 as a random oracle for the base transfers, "
    "AES-128 in counter mode for the extension, 128 bits. A malicious receiver could learn bits of delta.",
    inputs="receiver: choices (n,) of bits. sender: nothing; it draws delta, 128 bits, once for each set-up.",
    reveals={
        "sender": ("The number n of transfers of each call, and nothing of the choices.",),
        "receiver": ("The number n of transfers of each call, and nothing of delta.",),
    },
    cost="Set-up 2 messages, 8.2 kB. Each call ceil(n / 1,032,192) messages from the receiver, "
    "16 bytes for each transfer, n rounded up to a multiple of 64.",
    fails="ProtocolError on points outside the group, wrong sizes, or an index that differs from the sender's count. "
    "After a failed or interrupted call the set-up refuses to go on.",
    assurance="tested",
    notes=(
        "The running index is never rewound, and nothing of a set-up can be copied or stored: after a restart there "
        "are new base transfers.",
        "Each direction has a set-up of its own, with its own delta and its own index.",
        "The strings are correlated; hash them under their index before they hide anything.",
        "Base transfers alone (`choose_seeds`, `offer_seeds`) give one of two random seeds each, for 64 bytes.",
    ),
)


class BaseChoices(Message, frozen=True):
    """Step 1, sender of the extension: for each base transfer a pair of points, one of them chosen."""

    points: U8


class BaseKey(Message, frozen=True):
    """Step 2, receiver of the extension: one Diffie-Hellman point for all base transfers."""

    point: U8


class Columns(Message, frozen=True):
    """Step 3, receiver, for every call: its choices, masked once in each of 128 columns."""

    first: int
    columns: U64


@dataclass(frozen=True, repr=False)
class CorrelatedBlocks:
    """What the sender has of n transfers: q (n, 2) uint64, delta (2,) uint64, running index of the first."""

    q: NDArray[np.uint64]
    delta: NDArray[np.uint64]
    first: int


@dataclass(frozen=True, repr=False)
class ReceivedBlocks:
    """What the receiver has of n transfers: t_j = q_j ⊕ r_j·Δ, (n, 2) uint64, running index of the first."""

    t: NDArray[np.uint64]
    first: int


class _Streams:
    """Key streams of an extension, which only go forward, and the count of transfers that were given out."""

    def __init__(self, seeds: NDArray[np.uint8]) -> None:
        """Begin one stream for each seed, (…, 16)."""
        self._streams = Streams(seeds)
        self._busy = False
        self.used = 0

    def __repr__(self) -> str:
        return f"{type(self).__name__}(used={self.used})"  # everything else is secret

    def __reduce__(self) -> str:
        raise TypeError("a set-up of transfers cannot be copied or stored: its index would be used twice")

    def _begin(self, n: int) -> int:
        """Take n indices (rounded up to whole words); return the first."""
        if self._busy:
            raise RuntimeError("this set-up is in use, or a call on it has failed; its transfers are not taken again")
        if n < 0:
            raise ValueError(f"the number of transfers is {n}")
        first, self._busy = self.used, True
        self.used += 64 * _words(n)
        return first

    def _end(self) -> None:
        self._busy = False


class OtSender(_Streams):
    """The sender's state after the base transfers; one object for one direction and job."""

    def __init__(self, seeds: NDArray[np.uint8], delta: NDArray[np.uint64]) -> None:
        super().__init__(seeds)
        self._delta = delta
        bits = np.unpackbits(delta.view(np.uint8), bitorder="little").astype(np.uint64)
        self._chosen = np.uint64(0) - bits

    async def extend(self, peer: Channel, n: int) -> CorrelatedBlocks:
        """Take part in n transfers.

        Args:
            peer: Channel to the receiver, which calls `OtReceiver.extend` with n choices.
            n: How many; 0 sends nothing.

        Returns:
            The sender's strings.

        Raises:
            ProtocolError: The receiver sent another size or another index.
            RuntimeError: Two calls at once, or an earlier one has failed.
        """
        first = self._begin(n)
        q = np.empty((64 * _words(n), 2), np.uint64)
        for lo, hi in _messages(n):
            message = await peer.recv(Columns, columns=(KAPPA * (hi - lo),))  # (3)
            if message.first != first + 64 * lo:
                raise ProtocolError(
                    f"the receiver extends transfers from index {message.first:,}, this side is at {first + 64 * lo:,}"
                )
            await offload(self._correct, message.columns, q[64 * lo : 64 * hi])
        self._end()
        return CorrelatedBlocks(q[:n], self._delta.copy(), first)

    def _correct(self, received: NDArray[np.uint64], q: NDArray[np.uint64]) -> None:
        for lo, hi in _tiles(len(q) // 64):
            columns = self._streams.next(hi - lo)  # (128, w)
            part = received[KAPPA * lo : KAPPA * hi].reshape(KAPPA, -1)
            corrected_columns(columns, read_only(part), self._chosen)
            strings_of(columns, q[64 * lo : 64 * hi])


class OtReceiver(_Streams):
    """The receiver's state after the base transfers; one object for one direction and job."""

    async def extend(self, peer: Channel, choices: NDArray[np.uint8]) -> ReceivedBlocks:
        """Choose in n transfers.

        Args:
            peer: Channel to the sender, which calls `OtSender.extend` with n.
            choices: (n,) uint8, each 0 or 1.

        Returns:
            The receiver's strings.

        Raises:
            ValueError: A choice is neither 0 nor 1.
            RuntimeError: Two calls at once, or an earlier one has failed.
        """
        if choices.size and choices.max() > 1:
            raise ValueError("choices are bits")
        n = len(choices)
        first = self._begin(n)
        r = np.zeros(_words(n), np.uint64)
        packed = np.packbits(choices, bitorder="little")
        r.view(np.uint8)[: len(packed)] = packed
        t = np.empty((64 * len(r), 2), np.uint64)
        for lo, hi in _messages(n):
            columns = await offload(self._mask, r[lo:hi], t[64 * lo : 64 * hi])
            await peer.send(Columns(first + 64 * lo, columns))  # (3)
        self._end()
        return ReceivedBlocks(t[:n], first)

    def _mask(self, r: NDArray[np.uint64], t: NDArray[np.uint64]) -> NDArray[np.uint64]:
        out = np.empty(KAPPA * len(r), np.uint64)
        for lo, hi in _tiles(len(r)):
            both = self._streams.next(hi - lo)  # (256, w)
            columns = out[KAPPA * lo : KAPPA * hi].reshape(KAPPA, -1)
            masked_columns(both[:KAPPA], both[KAPPA:], r[lo:hi], columns)
            strings_of(both[:KAPPA], t[64 * lo : 64 * hi])
        return out


async def setup_sender(peer: Channel, *, rng: Rng, odd: bool = False) -> OtSender:
    """Run the base transfers as the extension's sender, who chooses in them by the bits of a fresh delta.

    Args:
        peer: Channel to the receiver.
        rng: Secret randomness.
        odd: Set the lowest bit of delta, as the colours of garbled circuits need it; 127 bits stay secret.

    Raises:
        ProtocolError: The peer's point is not in the group.
    """
    delta = rng.u64(2)
    if odd:
        delta[0] |= np.uint64(1)
    bits = np.unpackbits(delta.view(np.uint8), bitorder="little")  # (128,)
    return OtSender(await choose_seeds(peer, bits, rng=rng), delta)


async def setup_receiver(peer: Channel, *, rng: Rng) -> OtReceiver:
    """Run the base transfers as the extension's receiver.

    Args:
        peer: Channel to the sender.
        rng: Secret randomness.

    Raises:
        ProtocolError: A point of the peer is not in the group.
    """
    seeds = await offer_seeds(peer, KAPPA, rng=rng)  # (128, 2, 16)
    return OtReceiver(np.ascontiguousarray(seeds.transpose(1, 0, 2)))


async def choose_seeds(peer: Channel, bits: NDArray[np.uint8], *, rng: Rng) -> NDArray[np.uint8]:
    """Base transfers alone, as the side that chooses: one of two random seeds for each bit.

    Args:
        peer: Channel to the side that calls `offer_seeds`.
        bits: (n,) uint8, each 0 or 1; n at most 2^15.
        rng: Secret randomness.

    Returns:
        The chosen seeds, (n, 16) uint8.

    Raises:
        ProtocolError: The peer's point is not in the group.
    """
    points, scalars = await offload(_base_choose, bits, rng)
    await peer.send(BaseChoices(points))  # (1)
    key = (await peer.recv(BaseKey, point=(32,))).point  # (2)
    return await offload(_base_chosen_seeds, bits, points, scalars, key)


async def offer_seeds(peer: Channel, n: int, *, rng: Rng) -> NDArray[np.uint8]:
    """Base transfers alone, as the side that gets both random seeds of each, (n, 2, 16) uint8.

    Args:
        peer: Channel to the side that calls `choose_seeds`.
        n: How many, at most 2^15.
        rng: Secret randomness.

    Raises:
        ProtocolError: A point of the peer is not in the group.
    """
    y = ristretto.random_scalar(rng)
    points = (await peer.recv(BaseChoices, points=(n, 2, 32))).points  # (1)
    key = ristretto.multiply_base(y)
    seeds = await offload(_base_both_seeds, points, y, key)
    await peer.send(BaseKey(key))  # (2)
    return seeds


def _base_choose(bits: NDArray[np.uint8], rng: Rng) -> tuple[NDArray[np.uint8], list[bytes]]:
    """r_{1-c} is random; r_c = a·G − H_c(r_{1-c}), so that only r_c + H_c(r_{1-c}) has a known logarithm a."""
    scalars = [ristretto.random_scalar(rng) for _ in bits]
    other = ristretto.random_points(len(bits), rng)
    chosen = ristretto.subtract(np.stack([ristretto.multiply_base(a) for a in scalars]), _base_hash(bits, other))
    swap = bits[:, np.newaxis].astype(bool)
    return np.stack((np.where(swap, other, chosen), np.where(swap, chosen, other)), axis=1), scalars


def _base_chosen_seeds(
    bits: NDArray[np.uint8], points: NDArray[np.uint8], scalars: list[bytes], key: NDArray[np.uint8]
) -> NDArray[np.uint8]:
    shared = [ristretto.multiply(key[np.newaxis], a)[0] for a in scalars]
    return np.stack([_base_seed(i, int(bits[i]), key, points[i], shared[i]) for i in range(len(bits))])


def _base_both_seeds(points: NDArray[np.uint8], y: bytes, key: NDArray[np.uint8]) -> NDArray[np.uint8]:
    out = np.empty((len(points), 2, 16), np.uint8)
    for b in range(2):
        bits = np.full(len(points), b, np.uint8)
        shared = ristretto.multiply(ristretto.add(points[:, b], _base_hash(bits, points[:, 1 - b])), y)
        for i in range(len(points)):
            out[i, b] = _base_seed(i, b, key, points[i], shared[i])
    return out


def _base_label(i: int, bit: int) -> bytes:
    """Two bytes that name a transfer (up to 2^15) and a bit."""
    return bytes([i & 255, bit | i >> 8 << 1])


def _base_hash(bits: NDArray[np.uint8], points: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Hash points to points, by an oracle of its own for every transfer and bit."""
    labels = np.frombuffer(b"".join(_base_label(i, int(bit)) for i, bit in enumerate(bits)), np.uint8)
    items = np.column_stack((labels.reshape(-1, 2), points))
    return ristretto.hash_to_points(items, b"atoll/oblivious-transfer/v1/base")


def _base_seed(
    i: int, bit: int, key: NDArray[np.uint8], points: NDArray[np.uint8], shared: NDArray[np.uint8]
) -> NDArray[np.uint8]:
    parts = (
        b"atoll/oblivious-transfer/v1/seed",
        _base_label(i, bit),
        key.tobytes(),
        points.tobytes(),
        shared.tobytes(),
    )
    return np.frombuffer(hashlib.sha256(b"".join(parts)).digest()[:16], np.uint8)


def _words(n: int) -> int:
    return -(-n // 64)


def _tiles(words: int) -> list[tuple[int, int]]:
    return [(lo, min(lo + _TILE_WORDS, words)) for lo in range(0, words, _TILE_WORDS)]


def _messages(n: int) -> list[tuple[int, int]]:
    """Cut n transfers into messages; each is a range of words."""
    step = _MESSAGE_TILES * _TILE_WORDS
    return [(lo, min(lo + step, _words(n))) for lo in range(0, _words(n), step)]


PROTOCOL = Protocol(
    name="oblivious-transfer",
    version=1,
    title="Correlated oblivious transfer: strings of which the receiver holds one of two",
    card=CARD,
    roles={"sender": setup_sender, "receiver": setup_receiver},
    messages=(BaseChoices, BaseKey, Columns),
)
