"""Two parties compute on additive shares modulo 2^64: both run the same lines, each on its own halves.

Every step on shares opens masked words only, both ways at once (1); a value is opened where the program says so (2).
Beaver's product, for random a, b, c = a·b of the source: open d = x − a and e = y − b, then
x·y = c + d·b + e·a + d·e.

Both sites hash the operations that they run. The hash travels with every message, so that sites whose programs differ
end at once, in one error.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from atoll.core.channel import Channel
from atoll.core.errors import ContractError, InputError, ProtocolError
from atoll.core.message import U64, Message
from atoll.core.protocol import Protocol
from atoll.crypto.random import Rng
from atoll.protocols.shares import cards
from atoll.protocols.shares.source import PIECE, Source, Triple, both, pieces
from atoll.protocols.shares.values import Arithmetic, Bits, decode, encode, truth

Words = NDArray[np.uint64]
Fetched = TypeVar("Fetched")

FRACTION = 18
"""Fractional bits of real numbers, unless the job says otherwise: steps of 4·10^-6, products below 6·10^7."""


class Hello(Message, frozen=True):
    """(0) both: the seed of the masks of this side's inputs, and what must agree."""

    number: int
    fraction: int
    source: str
    seed: bytes


class Masked(Message, frozen=True):
    """(1) both: halves of masked words; they look random."""

    program: bytes
    words: U64


class Opened(Message, frozen=True):
    """(2) to who may know: halves of a value that the program opens."""

    program: bytes
    words: U64


class Party:
    """One of two parties: its channel, its source of randomness, and the record of what it has run.

    Its operations are coroutines.  Both parties await the same ones in the same order, with arrays of the same shapes.

    Attributes:
        peer: Channel to the other party.
        number: 0 or 1: which one this is.
        source: Where correlated randomness comes from.
        fraction: Fractional bits of real numbers.
        operations: How many were begun.
    """

    def __init__(self, peer: Channel, number: int, source: Source, fraction: int, inputs: tuple[Rng, Rng]) -> None:
        self.peer, self.number, self.source, self.fraction = peer, number, source, fraction
        self.operations, self._last, self._inputs, self._busy = 0, "", inputs, False
        self._program = hashlib.sha256(b"atoll/shares/v1")

    def __repr__(self) -> str:
        return f"Party(number={self.number}, source={self.source.name!r}, operations={self.operations})"

    def begin(self, operation: str, *facts: Any) -> None:
        """Record that an operation begins; both parties must record the same."""
        self._last = f"{operation} {' '.join(map(str, facts))}".strip()
        self._program.update(self._last.encode() + b"\n")
        self.operations += 1

    # ------------------------------------------------------------------------------------------ in and out

    async def input(self, owner: int, shape: Sequence[int], values: Any = None, fraction: int | None = None) -> Any:
        """Share an array that one party has.  Nothing is sent: the other half is drawn from the owner's seed.

        Args:
            owner: 0 or 1.
            shape: The array's shape, which both know.
            values: The array, at its owner; left out by the other.
            fraction: Fractional bits; the party's own if left out, 0 for integers.

        Returns:
            An `Arithmetic`.

        Raises:
            InputError: The values are missing, have another shape, are too large or not finite.
        """
        fraction = self.fraction if fraction is None else fraction
        self.begin("input", owner, tuple(shape), fraction)
        mask = self._inputs[owner].u64(*shape)
        if owner != self.number:
            return Arithmetic(mask, fraction)
        if values is None or np.shape(values) != tuple(shape):
            raise InputError(f"an input of shape {np.shape(values)} was to have the shape {tuple(shape)}")
        return Arithmetic(encode(values, fraction) - mask, fraction)

    def constant(self, values: Any, fraction: int | None = None) -> Arithmetic:
        """Return public numbers as shares."""
        fraction = self.fraction if fraction is None else fraction
        words = encode(values, fraction)
        return Arithmetic(words if self.number == 0 else np.zeros_like(words), fraction)

    def plus(self, x: Arithmetic, values: Any) -> Arithmetic:
        """Return x plus public numbers; nothing is sent."""
        return x if self.number else Arithmetic(x.half + encode(values, x.fraction), x.fraction)

    def invert(self, bits: Bits) -> Bits:
        """Return the opposite bits; nothing is sent."""
        return bits if self.number else Bits(~bits.planes, bits.shape)

    async def open(self, *values: Arithmetic | Bits, to: int | None = None) -> Any:
        """Open values, all in one message.

        Args:
            *values: What is opened.
            to: The party that learns them; both if left out.

        Returns:
            The arrays (one alone if there is one value): float64, int64 where the fraction is 0, or bool; None at
            the party that learns nothing.
        """
        if not values or to not in (None, 0, 1):
            raise ValueError("name what is opened, and to party 0, party 1 or both")
        self.begin("open", to, *values)
        mine = [value.half if isinstance(value, Arithmetic) else value.planes for value in values]
        flat = np.concatenate([half.reshape(-1) for half in mine])
        theirs = await self._exchange(Opened, flat, to)
        if theirs is None:
            return None
        found, at = [], 0
        for value, half in zip(values, mine, strict=True):
            other, at = theirs[at : at + half.size].reshape(half.shape), at + half.size
            if isinstance(value, Arithmetic):
                found.append(decode(half + other, value.fraction))
            else:
                found.append(truth(half ^ other, value.shape))
        return found[0] if len(found) == 1 else tuple(found)

    async def swap(self, half: Words) -> Words:
        """Open masked words that were shared additively."""
        theirs = await self._exchange(Masked, half)
        return half + theirs if theirs is not None else half

    async def swap_both(self, plane: Words, half: Words) -> tuple[Words, Words]:
        """Open masked bits and masked words in one message."""
        mine = np.concatenate((plane, half))
        theirs = await self._exchange(Masked, mine)
        other = np.zeros_like(mine) if theirs is None else theirs
        return plane ^ other[: plane.size], half + other[plane.size :]

    async def swap_bits(self, half: Words) -> Words:
        """Open masked words that were shared by XOR."""
        theirs = await self._exchange(Masked, half)
        return half ^ theirs if theirs is not None else half

    async def _exchange(self, kind: type[Masked] | type[Opened], mine: Words, to: int | None = None) -> Words | None:
        """Send this side's words and receive the other's, each where `to` asks for it."""
        if self._busy:
            raise RuntimeError("operations on shares run one after another: await each before the next begins")
        program, self._busy = self._program.digest()[:8], True
        message = kind(program, np.ascontiguousarray(mine))
        try:
            if to == 1 - self.number:
                await self.peer.send(message)
                return None
            receiving = self.peer.recv(kind, words=mine.shape)
            theirs = await receiving if to == self.number else (await both(self.peer.send(message), receiving))[1]
        except ProtocolError as error:
            raise self._astray(error.what) from error
        finally:
            self._busy = False
        if theirs.program != program:
            raise self._astray("the operations so far are not the same")
        return theirs.words

    def _astray(self, what: str) -> ProtocolError:
        return ProtocolError(
            f"at operation {self.operations:,} on shares ({self._last}) {what}",
            cure="Both sites must run the same operations in the same order: compare their programs and sizes.",
        )

    # ------------------------------------------------------------------------------------------ products

    async def mul(self, x: Arithmetic, y: Arithmetic) -> Arithmetic:
        """Multiply element by element, with numpy's broadcasting; |x·y|·2^(f_x + f_y) stays below 2^62.

        Returns:
            The products, with the larger of the two fractions, rounded down or up at random.
        """
        halves = np.broadcast_arrays(x.half, y.half)
        self.begin("mul", halves[0].shape, x.fraction, y.fraction)
        a, b = (np.ascontiguousarray(half).reshape(-1) for half in halves)

        async def work(cut: slice, triple: Triple) -> Words:
            masked = np.stack((a[cut] - triple.a, b[cut] - triple.b))
            return _combine(triple, await self.swap(masked), self.number)

        out = await self.by_pieces(a.size, self.source.products, work)
        return await self._rescaled(out.reshape(halves[0].shape), x.fraction, y.fraction)

    async def square(self, x: Arithmetic) -> Arithmetic:
        """Square element by element: half the traffic of `mul`."""
        self.begin("square", x.shape, x.fraction)
        flat = np.ascontiguousarray(x.half).reshape(-1)

        async def work(cut: slice, pair: tuple[Words, Words]) -> Words:
            d = await self.swap(flat[cut] - pair[0])
            twice = pair[1] + (d * pair[0]) * np.uint64(2)
            return twice if self.number else twice + d * d

        out = await self.by_pieces(flat.size, self.source.squares, work)
        return await self._rescaled(out.reshape(x.shape), x.fraction, x.fraction)

    async def matmul(self, x: Arithmetic, y: Arithmetic) -> Arithmetic:
        """Multiply matrices (m, k) and (k, n)."""
        if len(x.shape) != 2 or len(y.shape) != 2 or x.shape[1] != y.shape[0]:
            raise ValueError(f"matrices of {x.shape} and {y.shape} cannot be multiplied")
        (m, k), n = x.shape, y.shape[1]
        self.begin("matmul", m, k, n, x.fraction, y.fraction)
        if not m * k * n:
            return Arithmetic(np.zeros((m, n), np.uint64), max(x.fraction, y.fraction))
        half = await self.source.matrix_product(x.half, y.half, opener=self)
        return await self._rescaled(half, x.fraction, y.fraction)

    async def dot(self, x: Arithmetic, y: Arithmetic) -> Arithmetic:
        """Return the inner product of two vectors (n,), of shape ()."""
        return (await self.matmul(x.reshape(1, -1), y.reshape(-1, 1))).reshape()

    async def truncate(self, x: Arithmetic, bits: int) -> Arithmetic:
        """Drop fractional bits, rounding down or up at random; |x| as an integer is at most 2^62 − 1."""
        if not 0 <= bits <= 40 or bits > x.fraction:
            raise ValueError(f"{bits} bits of {x.fraction} cannot be dropped")
        return Arithmetic(await self.shifted(x.half, bits), x.fraction - bits)

    async def shifted(self, half: Words, bits: int) -> Words:
        """Shift integers of the ring to the right, keeping their sign; see `truncate`."""
        self.begin("shift", half.shape, bits)
        if not bits:
            return half
        flat = np.ascontiguousarray(half).reshape(-1)
        done = [await self.source.shifted(flat[cut], bits, opener=self) for cut in pieces(flat.size)]
        return np.concatenate([flat[:0], *done]).reshape(half.shape)

    async def by_pieces(
        self,
        n: int,
        fetch: Callable[[int], Awaitable[Fetched]],
        work: Callable[[slice, Fetched], Awaitable[Words]],
        most: int = PIECE,
    ) -> Words:
        """Work through n values; while one piece is opened, the randomness of the next one is fetched."""
        cuts = pieces(n, most)
        out = np.empty(n, np.uint64)
        if not cuts:
            return out
        ready = await fetch(cuts[0].stop)
        for cut, then in itertools.pairwise(cuts):
            out[cut], ready = await both(work(cut, ready), fetch(then.stop - then.start))
        out[cuts[-1]] = await work(cuts[-1], ready)
        return out

    async def _rescaled(self, half: Words, f: int, g: int) -> Arithmetic:
        return Arithmetic(await self.shifted(half, min(f, g)), max(f, g))


def _combine(triple: Triple, opened: Words, number: int) -> Words:
    d, e = opened
    out: Words = triple.c + d * triple.b
    out += e * (triple.a if number else triple.a + d)
    return out


async def first(peer: Channel, source: Source, *, rng: Rng, fraction: int = FRACTION) -> Party:
    """Be party 0.

    Args:
        peer: Channel to party 1, which calls `second`.
        source: Of the same kind as the peer's: of `dealer.source`, `transfers.source` or `homomorphic.source`.
        rng: Secret randomness.
        fraction: Fractional bits of real numbers.

    Raises:
        ContractError: The peer is set up in another way.
    """
    return await _join(peer, 0, source, rng, fraction)


async def second(peer: Channel, source: Source, *, rng: Rng, fraction: int = FRACTION) -> Party:
    """Be party 1; as `first`."""
    return await _join(peer, 1, source, rng, fraction)


async def _join(peer: Channel, number: int, source: Source, rng: Rng, fraction: int) -> Party:
    if not 4 <= fraction <= 28:
        raise InputError(f"{fraction} fractional bits are not between 4 and 28")
    seed = rng.bytes(32)
    _, theirs = await both(peer.send(Hello(number, fraction, source.name, seed)), peer.recv(Hello))  # (0)
    if (theirs.number, theirs.fraction, theirs.source) != (1 - number, fraction, source.name):
        raise ContractError(
            f"{peer.peer} is party {theirs.number} with {theirs.fraction} fractional bits and randomness by "
            f"{theirs.source[:40]!r}; this side is party {number} with {fraction} and {source.name!r}",
            cure="Compare the job documents of both sites.",
        )
    if len(theirs.seed) != 32:
        raise ProtocolError(f"{peer.peer} sent a seed of {len(theirs.seed)} bytes instead of 32")
    seeds = (seed, theirs.seed) if number == 0 else (theirs.seed, seed)
    return Party(peer, number, source, fraction, (Rng(seeds[0]), Rng(seeds[1])))


PROTOCOL = Protocol(
    name="shared-arithmetic",
    version=1,
    title="Two parties compute on additive shares modulo 2^64",
    card=cards.ARITHMETIC,
    roles={"first": first, "second": second},
    messages=(Hello, Masked, Opened),
)
