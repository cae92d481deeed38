"""Three parties, at most one of them curious: x = x₀ + x₁ + x₂ modulo 2^64, and party i holds xᵢ and xᵢ₊₁.

A seed sᵢ is known to parties i and i − 1, as xᵢ is. Everything is indexed modulo 3; (n) counts within an operation.
Input    owner o: xₒ₊₁ is drawn from sₒ₊₁, xₒ₊₂ = 0, (1) xₒ = x − xₒ₊₁ goes to party o − 1.
Product  zᵢ = xᵢ·yᵢ + xᵢ·yᵢ₊₁ + xᵢ₊₁·yᵢ + F(sᵢ) − F(sᵢ₊₁), (1) sent to party i − 1: one word for each product and party.
Bits     as numbers, with ⊕ for + and ∧ for ·.
Opening  (1) party i sends xᵢ₊₁ to party i − 1, which lacks it.
Shift    party 2 knows r from s₂ and s₀ and deals what its high bits are, (1) to party 1; parties 0 and 1 (2) open
         x + r to each other, and (3) hand on their halves of the result, as in `dealer`, section `shifted`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from atoll.core.channel import Channel
from atoll.core.errors import ContractError, InputError, ProtocolError
from atoll.core.message import U64, Message
from atoll.core.offload import offload
from atoll.core.protocol import Protocol
from atoll.crypto import word_matrix
from atoll.crypto.random import Rng
from atoll.protocols.shares import cards
from atoll.protocols.shares.party import FRACTION
from atoll.protocols.shares.replicated_values import Replicated, ReplicatedBits
from atoll.protocols.shares.source import both
from atoll.protocols.shares.values import Shape, decode, encode, truth

Words = NDArray[np.uint64]

OFFSET = np.uint64(1 << 62)


class Beginning(Message, frozen=True):
    """(0) party i → party i − 1: the seed sᵢ, and what must agree."""

    number: int
    fraction: int
    seed: bytes


class Part(Message, frozen=True):
    """(1) to (3): a part of a shared value, uniform to who receives it."""

    program: bytes
    words: U64


class Shown(Message, frozen=True):
    """(1) to who may know: the part of an opened value that it lacks."""

    program: bytes
    words: U64


class Member:
    """One of three parties; all three await the same operations in the same order.

    Attributes:
        number: 0, 1 or 2.
        fraction: Fractional bits of real numbers.
        operations: How many were begun.
    """

    def __init__(
        self, number: int, previous: Channel, following: Channel, fraction: int, own: Rng, shared: Rng
    ) -> None:
        self.number, self.fraction, self.operations = number, fraction, 0
        self._previous, self._following, self._own, self._shared = previous, following, own, shared
        self._program, self._last = hashlib.sha256(b"atoll/shares/replicated/v1"), ""

    def __repr__(self) -> str:
        return f"Member(number={self.number}, operations={self.operations})"

    async def input(self, owner: int, shape: Sequence[int], values: Any = None, fraction: int | None = None) -> Any:
        """Share an array that one party has; arguments as of `Party.input`.

        Raises:
            InputError: The values are missing, have another shape, are too large or not finite.
        """
        f, shape = self.fraction if fraction is None else fraction, tuple(shape)
        self.begin("input", owner, shape, f)
        drawn, mask = self._own.u64(*shape), self._shared.u64(*shape)  # all streams advance at all parties
        nothing = np.zeros(shape, np.uint64)
        if self.number == owner:
            if values is None or np.shape(values) != shape:
                raise InputError(f"an input of shape {np.shape(values)} was to have the shape {shape}")
            first = np.asarray(encode(values, f) - mask)
            await self._send(self._previous, Part, first)  # (1)
            return Replicated(first, mask, f)
        if self.number == (owner + 1) % 3:
            return Replicated(drawn, nothing, f)
        return Replicated(nothing, await self._recv(self._following, Part, shape), f)

    def constant(self, values: Any, fraction: int | None = None) -> Replicated:
        """Return public numbers as shares; nothing is sent."""
        fraction = self.fraction if fraction is None else fraction
        return self.held(encode(values, fraction), fraction)

    def plus(self, x: Replicated, values: Any) -> Replicated:
        """Return x plus public numbers; nothing is sent."""
        return x + self.held(np.broadcast_to(encode(values, x.fraction), x.shape), x.fraction)

    def invert(self, bits: ReplicatedBits) -> ReplicatedBits:
        """Return the opposite bits; nothing is sent."""
        return bits ^ ReplicatedBits(*self._second(~np.zeros_like(bits.own)), bits.shape)

    def held(self, words: Words, fraction: int = 0) -> Replicated:
        """Return words that parties 1 and 2 know (party 0's are not looked at) as shares: all of it is part x₂."""
        return Replicated(*self._second(words), fraction)

    def held_bits(self, planes: Words, shape: Shape) -> ReplicatedBits:
        """Return planes that parties 1 and 2 know, as `held`."""
        return ReplicatedBits(*self._second(planes), shape)

    def _second(self, words: Words) -> tuple[Words, Words]:
        nothing = np.zeros_like(words)
        return (nothing, nothing) if self.number == 0 else (nothing, words) if self.number == 1 else (words, nothing)

    async def spread(self, words: Words, *, bits: bool) -> tuple[Words, Words]:
        """Share words that party 0 knows (the others' are not looked at), as numbers or as bits: x₁ is drawn, x₂ = 0.

        Returns:
            This party's two parts.
        """
        drawn, mask = self._own.u64(*words.shape), self._shared.u64(*words.shape)
        nothing = np.zeros_like(words)
        if self.number == 0:
            first = np.asarray(words ^ mask if bits else words - mask)
            await self._send(self._previous, Part, first)  # (1)
            return first, mask
        if self.number == 1:
            return drawn, nothing
        return nothing, await self._recv(self._following, Part, words.shape)

    async def mul(self, x: Replicated, y: Replicated) -> Replicated:
        """Multiply element by element, with numpy's broadcasting; the result is rescaled as by `Party.mul`."""
        shape = np.broadcast_shapes(x.shape, y.shape)
        self.begin("mul", shape, x.fraction, y.fraction)
        # numbers of shape () are worked on as (1,): numpy would make scalars of them, which warn where they wrap
        a, b, c, d = (np.broadcast_to(part, shape).reshape(-1) for part in (x.own, x.next, y.own, y.next))
        own, following = await self._reshared(a * (c + d) + b * c)
        return await self._rescaled((own.reshape(shape), following.reshape(shape)), x.fraction, y.fraction)

    async def both_bits(self, x: Words, y: Words) -> Words:
        """Return x ∧ y for bits of which this party holds the parts x (2, …) and y (2, …): one bit from each party."""
        z = (x[0] & (y[0] ^ y[1])) ^ (x[1] & y[0])
        z ^= self._own.u64(*z.shape)
        z ^= self._shared.u64(*z.shape)
        received = await self._pass_on(Part, z.reshape(-1))  # (1)
        return np.stack((z, np.zeros_like(z) if received is None else received.reshape(z.shape)))

    async def square(self, x: Replicated) -> Replicated:
        """Square element by element."""
        return await self.mul(x, x)

    async def matmul(self, x: Replicated, y: Replicated) -> Replicated:
        """Multiply matrices (m, k) and (k, n): m·n words from each party, however long k is."""
        if len(x.shape) != 2 or len(y.shape) != 2 or x.shape[1] != y.shape[0]:
            raise ValueError(f"matrices of {x.shape} and {y.shape} cannot be multiplied")
        self.begin("matmul", x.shape, y.shape, x.fraction, y.fraction)
        terms = (x.own, y.own + y.next), (x.next, y.own)
        parts = await both(*(offload(word_matrix.product, *term) for term in terms))
        return await self._rescaled(await self._reshared(parts[0] + parts[1]), x.fraction, y.fraction)

    async def truncate(self, x: Replicated, bits: int) -> Replicated:
        """Drop fractional bits, rounding down or up at random; |x| as an integer is at most 2^62 − 1.

        Source:
            The mask of `dealer`, with party 2 as the dealer; as in Dalskov, Escudero and Keller, USENIX Security 2021.
        """
        if not 0 <= bits <= 40:
            raise ValueError(f"{bits} bits cannot be dropped")
        self.begin("truncate", x.shape, bits)
        if not bits or not x.own.size:
            return Replicated(x.own, x.next, x.fraction - bits)
        own, shared = self._own.u64(3, x.own.size), self._shared.u64(3, x.own.size)
        step = self._deal if self.number == 2 else self._shift
        made = await step(Replicated(x.own.reshape(-1), x.next.reshape(-1)), bits, own, shared)
        first, second = (part.reshape(x.shape) for part in made)
        return Replicated(first, second, x.fraction - bits)

    async def open(self, *values: Replicated | ReplicatedBits, to: int | None = None) -> Any:
        """Open values, all in one message; arguments and result as of `Party.open`."""
        self.begin("open", to, *values)
        mine = np.concatenate([value.next.reshape(-1) for value in values])
        missing = await self._pass_on(Shown, mine, to)
        if missing is None:
            return None
        found, at = [], 0
        for value in values:
            part, at = missing[at : at + value.own.size].reshape(value.own.shape), at + value.own.size
            if isinstance(value, Replicated):
                found.append(decode(np.asarray(value.own + value.next + part), value.fraction))
            else:
                found.append(truth(value.own ^ value.next ^ part, value.shape))
        return found[0] if len(found) == 1 else tuple(found)

    # ---------------------------------------------------------------------------------------------- steps

    async def _reshared(self, z: Words) -> tuple[Words, Words]:
        """Blind the parts of a product by a sharing of zero, and hand each on to who shall have it, too."""
        blind = self._own.u64(*z.shape)
        blind -= self._shared.u64(*z.shape)
        mine = np.asarray(z + blind)
        received = await self._pass_on(Part, mine.reshape(-1))  # (1)
        return mine, np.zeros_like(mine) if received is None else received.reshape(mine.shape)

    async def _deal(self, x: Replicated, bits: int, own: Words, shared: Words) -> tuple[Words, Words]:
        """Party 2: r = r₁ + r₀ from s₂ and s₀; split what the others need of it into their halves."""
        r = own[0] + shared[0]
        low = (r & np.uint64((1 << 63) - 1)) >> np.uint64(bits)
        high = np.stack((low, (r >> np.uint64(63)) << np.uint64(63 - bits)))
        await self._send(self._previous, Part, high - shared[1:])  # (1) party 0 draws its half from s₀
        # its own parts of the result: x₂ comes from party 1, x₀ from party 0
        second, first = await both(
            self._recv(self._previous, Part, x.shape), self._recv(self._following, Part, x.shape)
        )  # (3)
        return second, first

    async def _shift(self, x: Replicated, bits: int, own: Words, shared: Words) -> tuple[Words, Words]:
        """Parties 0 and 1: x = (x₀ + x₁) + x₂, opened under r; then parts z₀, z₁ and z₂ of the result."""
        if self.number == 0:
            mask, high, half, other = own[0], own[1:], x.own + x.next + OFFSET, self._following
        else:
            high = await self._recv(self._following, Part, (2, *x.shape))  # (1)
            mask, half, other = shared[0], x.next, self._previous
        masked = half + mask
        _, theirs = await both(self._send(other, Part, masked), self._recv(other, Part, masked.shape))  # (2)
        c = masked + theirs
        negative = (c >> np.uint64(63)).astype(bool)
        z: Words = np.where(negative, np.uint64(0) - high[1], high[1]) - high[0]
        # party 2 knows both halves of the mask, so each half of the result is blinded from s₁, which it has not:
        # z₁ is the sum of the two blinds
        blinds = shared[1:] if self.number == 0 else own[1:]
        z = z - blinds[self.number]
        if self.number == 0:
            z = z + ((c & np.uint64((1 << 63) - 1)) >> np.uint64(bits)) - (OFFSET >> np.uint64(bits))
            z = z + np.where(negative, np.uint64(1 << (63 - bits)), np.uint64(0))
            await self._send(self._previous, Part, z)  # (3)
            return z, blinds[0] + blinds[1]
        await self._send(self._following, Part, z)  # (3)
        return blinds[0] + blinds[1], z

    async def _rescaled(self, parts: tuple[Words, Words], f: int, g: int) -> Replicated:
        return await self.truncate(Replicated(*parts, f + g), min(f, g))

    def begin(self, operation: str, *facts: Any) -> None:
        """Record that an operation begins; all parties must record the same."""
        self._last = f"{operation} {' '.join(map(str, facts))}"
        self._program.update(self._last.encode() + b"\n")
        self.operations += 1

    async def _pass_on(self, kind: type[Part] | type[Shown], mine: Words, to: int | None = None) -> Words | None:
        """Send to the previous party what it lacks, and receive from the following one; `to` limits who learns."""
        sends, receives = to in (None, (self.number - 1) % 3), to in (None, self.number)
        if sends and receives:
            return (await both(self._send(self._previous, kind, mine), self._recv(self._following, kind, mine.shape)))[
                1
            ]
        if sends:
            await self._send(self._previous, kind, mine)
        return await self._recv(self._following, kind, mine.shape) if receives else None

    async def _send(self, peer: Channel, kind: type[Part] | type[Shown], words: Words) -> None:
        await peer.send(kind(self._program.digest()[:8], np.ascontiguousarray(words).reshape(words.shape)))

    async def _recv(self, peer: Channel, kind: type[Part] | type[Shown], shape: Shape) -> Words:
        program = self._program.digest()[:8]
        try:
            message = await peer.recv(kind, words=shape)
        except ProtocolError as error:
            raise self._astray(error.what) from error
        if message.program != program:
            raise self._astray("the operations so far are not the same")
        return message.words

    def _astray(self, what: str) -> ProtocolError:
        return ProtocolError(
            f"at operation {self.operations:,} on shares ({self._last}) {what}",
            cure="All sites must run the same operations in the same order: compare their programs and sizes.",
        )


async def member(previous: Channel, following: Channel, number: int, *, rng: Rng, fraction: int = FRACTION) -> Member:
    """Be one of three parties.

    Args:
        previous: Channel to party number − 1.
        following: Channel to party number + 1.
        number: 0, 1 or 2.
        rng: Secret randomness.
        fraction: Fractional bits of real numbers.

    Raises:
        ContractError: Another party is set up in another way.
    """
    if not 4 <= fraction <= 28:
        raise InputError(f"{fraction} fractional bits are not between 4 and 28")
    seed = rng.bytes(32)
    sending = previous.send(Beginning(number, fraction, seed))
    _, theirs = await both(sending, following.recv(Beginning))  # (0)
    if (theirs.number, theirs.fraction) != ((number + 1) % 3, fraction):
        raise ContractError(
            f"{following.peer} is party {theirs.number} with {theirs.fraction} fractional bits; this side is party "
            f"{number} with {fraction}",
            cure="Compare the job documents of the sites.",
        )
    if len(theirs.seed) != 32:
        raise ProtocolError(f"{following.peer} sent a seed of {len(theirs.seed)} bytes instead of 32")
    return Member(number, previous, following, fraction, Rng(seed), Rng(theirs.seed))


PROTOCOL = Protocol(
    name="replicated-shares",
    version=1,
    title="Three parties compute on shares of which each holds two of three parts",
    card=cards.REPLICATED,
    roles={"member": member},
    messages=(Beginning, Part, Shown),
)
