"""Correlated randomness from oblivious transfer between the two parties: no third site.

In every call one side is the transfers' sender, the other their receiver; where both do the same work, each is the
sender for one half of the values.
(1) receiver → sender   its choices, masked (`compact_transfer`)
(2) sender → receiver   corrections under the transfers' pads: products of private numbers, tables for digits
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import NoReturn

import numpy as np
from numpy.typing import NDArray

from atoll.core.channel import Channel
from atoll.core.message import U32, U64, Message
from atoll.core.offload import offload
from atoll.core.protocol import Protocol
from atoll.crypto import packed_bits, tmmo, word_matrix
from atoll.crypto import transfer_products as kernels
from atoll.crypto.random import Rng
from atoll.protocols.oblivious_transfer import CorrelatedBlocks, ReceivedBlocks
from atoll.protocols.shares import beaver, cards, compact_transfer, waves
from atoll.protocols.shares.compact_transfer import CompactReceiver, CompactSender
from atoll.protocols.shares.source import Digits, Opener, Triple, Wave, both, pieces

Words = NDArray[np.uint64]
Halves = Callable[[Words], Awaitable[Words]]

_TRANSFERS = 64 * 8160
"""Transfers in one batch, four whole tiles of `compact_transfer`: their strings take 8 MB."""


class Corrections(Message, frozen=True):
    """(2) sender → receiver: what turns pads into halves of products, 64-bit and 32-bit words."""

    long: U64
    short: U32


class Rows(Message, frozen=True):
    """(2) sender → receiver: the same for whole rows of a matrix, (32·k, n) for low and for high bits."""

    long: U64
    short: U32


class Tables(Message, frozen=True):
    """(2) sender → receiver: masked tables of what a digit may be compared with, (16, n)."""

    words: U32


@dataclass(frozen=True, repr=False)
class Ways:
    """Transfers in both directions.

    Attributes:
        out: Channel of those that this side sends.
        back: Channel of those that it receives.
        sender: Sends over `out`.
        receiver: Receives over `back`.
    """

    out: Channel
    back: Channel
    sender: CompactSender
    receiver: CompactReceiver


async def ways(peer: Channel, number: int, *, rng: Rng) -> Ways:
    """Set up transfers in both directions; see `source`."""
    out, back = peer.sub(f"transfers of {number}"), peer.sub(f"transfers of {1 - number}")
    set_up = (
        compact_transfer.setup_sender(out, rng=rng.spawn()),
        compact_transfer.setup_receiver(back, rng=rng.spawn()),
    )
    return Ways(out, back, *await both(*set_up))


async def source(peer: Channel, number: int, *, rng: Rng) -> TransferSource:
    """Set up transfers in both directions.

    Args:
        peer: Channel to the other party.
        number: 0 or 1: which party this is.
        rng: Secret randomness.

    Raises:
        ProtocolError: The peer broke the protocol.
    """
    return TransferSource(number, await ways(peer, number, rng=rng), rng.spawn())


class TransferSource:
    """A party's two directions of transfers; see `Source` for what they give."""

    name = "transfers"

    def __init__(self, number: int, ways: Ways, rng: Rng) -> None:
        self.number, self._rng = number, rng
        self._sender, self._receiver, self._out, self._back = ways.sender, ways.receiver, ways.out, ways.back

    def __repr__(self) -> str:
        return f"{type(self).__name__}(number={self.number}, used={self._sender.used + self._receiver.used})"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a source of randomness cannot be copied or stored: its randomness would be used twice")

    # ------------------------------------------------------------------------------------------ what is given

    async def products(self, n: int) -> Triple:
        a, b = self._rng.u64(n), self._rng.u64(n)
        mine, theirs = await both(self._send_product(a), self._receive_product(b))
        return Triple(a, b, a * b + mine + theirs)

    async def squares(self, n: int) -> tuple[Words, Words]:
        a = self._rng.u64(n)
        return a, a * a + (await self._balanced(a, self._send_product, self._receive_product)) * np.uint64(2)

    async def matrices(self, m: int, k: int, n: int) -> Triple:
        a, b = self._rng.u64(m, k), self._rng.u64(k, n)
        c = await offload(word_matrix.product, a, b)
        if m <= n:
            mine, theirs = await both(self._send_matrix(b, m), self._receive_matrix(a, n))
            return Triple(a, b, c + mine + theirs)
        # fewer transfers where B's transpose has fewer rows than A
        mine, theirs = await both(self._send_matrix(a.T, n), self._receive_matrix(b.T, m))
        return Triple(a, b, c + (mine + theirs).T)

    async def matrix_product(self, x: Words, y: Words, *, opener: Opener) -> Words:
        triple = await self.matrices(len(x), len(y), y.shape[1])
        return await beaver.matrix_product(triple, x, y, opener)

    async def ands(self, width: int, words: int) -> Triple:
        b = self._rng.u64(words)
        cuts = pieces(words, _TRANSFERS // 64)
        sent, got = await both(self._send_bits(width, words, cuts), self._receive_bits(width, b, cuts))
        a, mine = sent
        return Triple(a, b, (a & b) ^ mine ^ got)

    async def bits(self, n: int) -> tuple[Words, Words]:
        plane = self._rng.u64(packed_bits.words(n))
        own = packed_bits.unpack(plane, n).astype(np.uint64)
        cross = await self._balanced(own, lambda x: self._send_product(x, 1), lambda y: self._receive_product(y, 1))
        return plane, own - cross * np.uint64(2)  # r0 ⊕ r1 = r0 + r1 − 2·r0·r1

    async def chosen(self, plane: Words, half: Words, *, opener: Opener) -> Words:
        """(b + b′ − 2·b·b′)·x for each side's x: its own part, and x·(1 − 2·b) where the other's bit is set."""
        own = packed_bits.unpack(plane, half.size).astype(np.uint64)
        sending = self._send_product(half - np.uint64(2) * own * half, 1)
        mine, theirs = await both(sending, self._receive_product(own, 1))
        return own * half + mine + theirs

    async def digits(self, half: Words, *, sign: bool, opener: Opener) -> Digits:
        """x is negative where its halves' top bits and the carry out of their low 63 bits add up to one."""
        low = np.uint64((1 << 63) - 1 if sign else (1 << 64) - 1)
        top = packed_bits.pack((half >> np.uint64(63)).astype(np.uint8))
        found = np.zeros((2, 16, packed_bits.words(half.size)), np.uint64)

        async def as_sender(own: Words) -> Words:
            return await self._send_digits(own & low)

        async def as_receiver(own: Words) -> Words:  # the halves carry where u > 2^63 − 1 − v; they are zero at u = −v
            return await self._receive_digits(low - own & low if sign else np.uint64(0) - own)

        for at, planes in await self._both_roles(half, as_sender, as_receiver):
            found[..., at.start // 64 : -(-at.stop // 64)] = planes
        return Digits(top, found[0], found[1])

    async def shifted(self, half: Words, bits: int, *, opener: Opener) -> Words:
        """y = x + 2^62 is not negative, so its halves wrap exactly where one of their top bits is set."""
        offset = np.uint64(1 << 62)
        y = half if self.number else half + offset
        top = y >> np.uint64(63)

        async def as_sender(own: Words) -> Words:  # top ∨ choice = top + choice·(1 − top)
            return own + await self._send_product(np.uint64(1) - own, 1, ring=bits)

        async def as_receiver(own: Words) -> Words:
            return await self._receive_product(own, 1, ring=bits)

        wraps = await self._balanced(top, as_sender, as_receiver)
        out = (y >> np.uint64(bits)) - (wraps << np.uint64(64 - bits))
        # the two low parts may carry one, which nobody sees: with one more, x / 2^bits is rounded down or up
        return out + np.uint64(1) if self.number else out - (offset >> np.uint64(bits))

    async def series(self, half: Words, wave: Wave, *, opener: Opener) -> Words:
        """sin(a + b) = sin a·cos b + cos a·sin b: products of numbers that one side each knows."""
        precisions = [max(3, int(np.ceil(16 + np.log2(abs(weight))))) for weight in wave.weights]
        terms = len(precisions)

        async def as_sender(own: Words) -> Words:
            total = np.zeros(own.size, np.uint64)
            known = waves.harmonics(own, terms, wave.period)
            for k, (weight, bits) in enumerate(zip(wave.weights, precisions, strict=True)):
                x = waves.fixed(weight * np.concatenate((known[0][k], known[1][k])), wave.out - bits)
                product = await self._send_product(x, bits + 1)
                product -= x << np.uint64(bits)  # the receiver's numbers are raised by one
                total += product[: own.size] + product[own.size :]
            return total

        async def as_receiver(own: Words) -> Words:
            total = np.zeros(own.size, np.uint64)
            known = waves.harmonics(own, terms, wave.period)
            for k, bits in enumerate(precisions):
                y = np.rint((np.concatenate((known[1][k], known[0][k])) + 1) * 2.0**bits)
                product = await self._receive_product(np.minimum(y, 2.0 ** (bits + 1) - 1).astype(np.uint64), bits + 1)
                total += product[: own.size] + product[own.size :]
            return total

        return await self._balanced(half, as_sender, as_receiver)

    # ------------------------------------------------------------------------------------------ who does what

    async def _both_roles(self, own: Words, send: Halves, receive: Halves) -> list[tuple[slice, Words]]:
        """Be the sender for one half of the values and the receiver for the other; the halves begin at whole words."""
        middle = min(own.size, 64 * -(-own.size // 128))
        first, second = slice(0, middle), slice(middle, own.size)
        mine, theirs = (first, second) if self.number == 0 else (second, first)

        async def role(work: Halves, at: slice) -> list[tuple[slice, Words]]:
            return [(at, await work(own[at]))] if at.stop > at.start else []

        sent, received = await both(role(send, mine), role(receive, theirs))
        return sent + received

    async def _balanced(self, own: Words, send: Halves, receive: Halves) -> Words:
        out = np.empty(own.size, np.uint64)
        for at, part in await self._both_roles(own, send, receive):
            out[at] = part
        return out

    # ------------------------------------------------------------------------------------------ products

    async def _send_product(self, x: Words, bits: int = 64, ring: int = 64) -> Words:
        """Return this side's half of x·y modulo 2^ring, y the receiver's number of so many bits."""
        out = np.empty(x.size, np.uint64)
        for cut in pieces(x.size, _batch(bits)):
            values = _whole_words(x[cut])
            blocks = await self._sender.extend(self._out, bits * values.size // 64)  # (1)
            args = (blocks.q, blocks.delta, blocks.first, values, bits, ring)
            half, long, short = await offload(kernels.multiply_as_sender, *args)
            await self._out.send(Corrections(long, short))  # (2)
            out[cut] = half[: cut.stop - cut.start]
        return out

    async def _receive_product(self, y: Words, bits: int = 64, ring: int = 64) -> Words:
        out, wide = np.empty(y.size, np.uint64), kernels.wide_bits(bits, ring)
        for cut in pieces(y.size, _batch(bits)):
            planes = np.ascontiguousarray(packed_bits.planes_of(y[cut])[:bits])
            n = 64 * planes.shape[1]
            blocks = await self._receiver.extend(self._back, planes.reshape(-1))  # (1)
            message = await self._back.recv(Corrections, long=(wide, n), short=(bits - wide, n))  # (2)
            args = (blocks.t, blocks.first, planes, message.long, message.short)
            out[cut] = (await offload(kernels.multiply_as_receiver, *args))[: cut.stop - cut.start]
        return out

    async def _send_matrix(self, b: Words, m: int) -> Words:
        """Return this side's half of A·B: for each row of the receiver's A all shifts of all rows of B."""
        out = np.zeros((m, b.shape[1]), np.uint64)
        for cut in pieces(len(b), _terms(b.shape[1])):
            long, short = _shifted_rows(b[cut])
            for i in range(m):
                blocks = await self._sender.extend(self._out, cut.stop - cut.start)  # (1)
                half, message = await offload(_row_corrections, blocks, long, short)
                await self._out.send(message)  # (2)
                out[i] += half
        return out

    async def _receive_matrix(self, a: Words, n: int) -> Words:
        out = np.zeros((len(a), n), np.uint64)
        for cut in pieces(a.shape[1], _terms(n)):
            shape = (32 * (cut.stop - cut.start), n)
            for i, row in enumerate(a[:, cut]):
                # the low halves of all words, then the high ones
                choices = np.ascontiguousarray(row).view(np.uint32).reshape(-1, 2).T.reshape(-1).view(np.uint64)
                blocks = await self._receiver.extend(self._back, choices)  # (1)
                message = await self._back.recv(Rows, long=shape, short=shape)  # (2)
                out[i] += await offload(_row_sum, blocks, choices, message)
        return out

    # ------------------------------------------------------------------------------------------ bits and digits

    async def _send_bits(self, width: int, words: int, cuts: list[slice]) -> tuple[Words, Words]:
        """Return random a, and this side's half of a ∧ b for the receiver's b: both come from the pads alone."""
        a, half = np.empty((width, words), np.uint64), np.empty((width, words), np.uint64)
        for cut in cuts:
            blocks = await self._sender.extend(self._out, cut.stop - cut.start)  # (1)
            half[:, cut] = await offload(kernels.bits_of_pads, blocks.q, blocks.first, width)
            other = await offload(kernels.bits_of_pads, blocks.q ^ blocks.delta, blocks.first, width)
            a[:, cut] = half[:, cut] ^ other
        return a, half

    async def _receive_bits(self, width: int, b: Words, cuts: list[slice]) -> Words:
        half = np.empty((width, b.size), np.uint64)
        for cut in cuts:
            blocks = await self._receiver.extend(self._back, b[cut])  # (1)
            half[:, cut] = await offload(kernels.bits_of_pads, blocks.t, blocks.first, width)
        return half

    async def _send_digits(self, values: Words) -> Words:
        """Return halves of [u > v] and [u = v] for 16 digits as planes, (2, 16, w), u this side's values."""
        out = np.empty((2, 16, packed_bits.words(values.size)), np.uint64)
        for cut in pieces(values.size, _batch(64)):
            digits = packed_bits.digits_of(_whole_words(values[cut]))
            hidden = self._rng.u8(*digits.shape) & np.uint8(3)
            blocks = await self._sender.extend(self._out, digits.shape[1])  # (1)
            args = (blocks.q, blocks.delta, blocks.first, digits, hidden)
            await self._out.send(Tables(await offload(kernels.compare_as_sender, *args)))  # (2)
            out[..., cut.start // 64 : -(-cut.stop // 64)] = _split(hidden)
        return out

    async def _receive_digits(self, values: Words) -> Words:
        out = np.empty((2, 16, packed_bits.words(values.size)), np.uint64)
        for cut in pieces(values.size, _batch(64)):
            whole = _whole_words(values[cut])
            digits = packed_bits.digits_of(whole)
            blocks = await self._receiver.extend(self._back, packed_bits.planes_of(whole).reshape(-1))  # (1)
            tables = (await self._back.recv(Tables, words=digits.shape)).words  # (2)
            found = await offload(kernels.compare_as_receiver, blocks.t, blocks.first, digits, tables)
            out[..., cut.start // 64 : -(-cut.stop // 64)] = _split(found)
        return out


def _terms(n: int) -> int:
    """Rows of B, of n words each, that are worked on together: 2^21 words."""
    return max(1, (1 << 16) // max(1, n))


def _shifted_rows(b: Words) -> tuple[Words, NDArray[np.uint32]]:
    """Return B times 2^0 … 2^31, and what B times 2^32 … 2^63 leaves in the high half, (32·k, n) each."""
    shifts = np.arange(32, dtype=np.uint64)[:, np.newaxis]
    rows = (b[:, np.newaxis, :] << shifts).reshape(-1, b.shape[1])
    return rows, rows.astype(np.uint32)


def _row_corrections(blocks: CorrelatedBlocks, long: Words, short: NDArray[np.uint32]) -> tuple[Words, Rows]:
    n = len(long)
    low, first = tmmo.sender_corrections(blocks.q[:n], blocks.delta, blocks.first, long)
    high, second = tmmo.sender_corrections(blocks.q[n:], blocks.delta, blocks.first + n, short)
    return np.uint64(0) - low - (high.astype(np.uint64) << np.uint64(32)), Rows(first, second)


def _row_sum(blocks: ReceivedBlocks, choices: Words, message: Rows) -> Words:
    n = len(message.long)
    bits = packed_bits.unpack(choices, 2 * n)
    low = tmmo.receiver_sum(blocks.t[:n], bits[:n], blocks.first, message.long)
    high = tmmo.receiver_sum(blocks.t[n:], bits[n:], blocks.first + n, message.short)
    return low + (high.astype(np.uint64) << np.uint64(32))


def _batch(bits: int) -> int:
    """Values in one batch of products or comparisons with so many transfers each."""
    return max(64, _TRANSFERS // bits // 64 * 64)


def _whole_words(values: Words) -> Words:
    out = np.zeros(64 * packed_bits.words(values.size), np.uint64)
    out[: values.size] = values
    return out


def _split(pairs: NDArray[np.uint8]) -> Words:
    return np.stack((packed_bits.pack(pairs & np.uint8(1)), packed_bits.pack(pairs >> np.uint8(1))))


PROTOCOL = Protocol(
    name="transfer-randomness",
    version=1,
    title="Two parties make the randomness for computing on shares by oblivious transfer",
    card=cards.TRANSFERS,
    roles={"first": source, "second": source},
    messages=(Corrections, Rows, Tables),
    uses=(compact_transfer.PROTOCOL,),
)
