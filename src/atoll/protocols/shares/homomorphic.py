"""Products of private numbers and matrices from homomorphic encryption between the two parties: no third site.

Each side is the owner of a key for one half of the products of numbers, and for the one of a matrix product's two mixed
terms in which its own matrix is encrypted; the other side answers.
(0) owner → answerer   seed, and encryptions of zero under the owner's key
(1) owner → answerer   its numbers, or the rows of its matrix, encrypted
(2) answerer → owner   their products with the answerer's, blinded by halves that the answerer keeps
Everything else, and what is too small for this, comes from transfers (`transfers`).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from atoll.core.channel import Channel
from atoll.core.errors import ProtocolError
from atoll.core.message import U8, Message
from atoll.core.offload import offload
from atoll.core.protocol import Protocol
from atoll.crypto import homomorphic as he
from atoll.crypto import matrix_tiles, slot_products, word_matrix
from atoll.crypto.homomorphic import ELEMENTS, MATRICES, SLOTS, Public, Secret
from atoll.crypto.matrix_tiles import Tile
from atoll.crypto.random import Rng
from atoll.protocols.shares import cards, transfers
from atoll.protocols.shares.source import Opener, Triple, both, pieces
from atoll.protocols.shares.transfers import TransferSource, Ways

Words = NDArray[np.uint64]
Plan = list[tuple[slice, slice, Tile]]

LEAST_NUMBERS = 1024
"""Fewer products of numbers come from transfers, with fewer bytes."""
LEAST_TERMS = 1024
"""So do products of matrices of fewer terms m·k·n."""
_GROUP = 4 * slot_products.BLOCK  # numbers that are sent together


class Keys(Message, frozen=True):
    """(0) owner → answerer: encryptions of zero, for each modulus of slots and for matrices, and the seed."""

    seed: bytes
    slots: U8
    matrices: U8


class Numbers(Message, frozen=True):
    """(1) owner → answerer: encrypted numbers, (9, 5, ciphertexts, 4096, 3), and the number of the request."""

    first: int
    parts: U8


class Products(Message, frozen=True):
    """(2) answerer → owner: blinded sums of products, (9, 2, 2, ciphertexts, 4096, 3)."""

    parts: U8


class EncryptedRows(Message, frozen=True):
    """(1) owner → answerer: encrypted rows of a matrix, (9, ciphertexts, 8192, 3), and the number of the request."""

    first: int
    parts: U8


class RowProducts(Message, frozen=True):
    """(2) answerer → owner: blinded rows of a product, the part of c₀ that is read and all of c₁."""

    c0: U8
    c1: U8


class _Owner:
    """One side's key, the channel on which its requests go out, and their count."""

    def __init__(self, peer: Channel, rng: Rng) -> None:
        self.peer, self._rng, self._seed, self._used = peer, rng, rng.bytes(32), 0
        self._elements, self._matrices = he.secret(ELEMENTS, rng), he.secret(MATRICES, rng)

    async def publish(self) -> None:
        """(0) Send encryptions of zero."""
        slots = [self._zero(self._elements, t) for t in SLOTS]
        await self.peer.send(Keys(self._seed, np.stack(slots), self._zero(self._matrices, matrix_tiles.MODULUS)))

    def _zero(self, key: Secret, t: int) -> NDArray[np.uint8]:
        return np.stack(he.public(key, t, self._seed, _label(t), self._rng))

    async def products(self, values: Words) -> Words:
        """Return this side's half of Σ over r of values[r]·theirs[r], for values (r, n)."""
        out, cuts = np.empty(values.shape[1], np.uint64), pieces(values.shape[1], _GROUP)

        async def ask() -> None:
            for cut in cuts:
                first = self._take()
                args = (self._elements, values[:, cut], self._seed, first, self._rng)
                await self.peer.send(Numbers(first, await offload(slot_products.request, *args)))  # (1)

        async def read() -> None:
            for cut in cuts:
                n = cut.stop - cut.start
                shape = (len(SLOTS), 2, ELEMENTS.kept, slot_products.blocks(n), ELEMENTS.N, 3)
                parts = (await self.peer.recv(Products, parts=shape)).parts  # (2)
                out[cut] = await offload(slot_products.read, self._elements, parts, n)

        await both(ask(), read())
        return out

    async def matrix(self, b: Words, m: int, plan: Plan) -> Words:
        """Return this side's half of theirs·B for B (k, n), theirs of m rows."""
        out = np.zeros((m, b.shape[1]), np.uint64)

        async def ask(part: Words, tile: Tile) -> None:
            numbers = [self._take() for _ in matrix_tiles.request_parts(tile)]
            made = matrix_tiles.request(self._matrices, part, tile, self._seed, numbers[0], self._rng)
            for first in numbers:
                await self.peer.send(EncryptedRows(first, await offload(next, made)))  # (1)

        async def read(into: Words, tile: Tile) -> None:
            for part in matrix_tiles.answer_parts(tile):
                c0, c1 = matrix_tiles.answer_shapes(tile, part)
                answer = await self.peer.recv(RowProducts, c0=c0, c1=c1)  # (2)
                rows = await offload(matrix_tiles.read, self._matrices, answer.c0, answer.c1, tile)
                into[part.start * tile.rows : part.stop * tile.rows] += rows[: m - part.start * tile.rows]

        for terms, columns, tile in plan:
            await both(ask(b[terms, columns], tile), read(out[:, columns], tile))
        return out

    def _take(self) -> int:
        """Count a request; no number serves twice, or two messages would have one uniform part."""
        self._used += 1
        return self._used - 1


class _Answerer:
    """The other side's encryptions of zero, the channel on which its requests come in, and their count."""

    def __init__(self, peer: Channel, rng: Rng) -> None:
        self.peer, self._rng, self._used = peer, rng, 0
        self._seed, self._slots, self._matrices = b"", list[Public](), list[Public]()

    async def learn(self) -> None:
        """(0) Receive encryptions of zero."""
        shape = (len(ELEMENTS.primes), 1, ELEMENTS.N, 3)
        keys = await self.peer.recv(Keys, slots=(len(SLOTS), *shape), matrices=(len(MATRICES.primes), 1, MATRICES.N, 3))
        if len(keys.seed) != 32:
            raise ProtocolError(f"{self.peer.peer} sent a seed of {len(keys.seed)} bytes instead of 32")
        self._seed = keys.seed
        self._slots = [
            he.public_from(ELEMENTS, t, part, keys.seed, _label(t)) for t, part in zip(SLOTS, keys.slots, strict=True)
        ]
        t = matrix_tiles.MODULUS
        self._matrices = [he.public_from(MATRICES, t, keys.matrices, keys.seed, _label(t))]

    async def products(self, values: Words) -> Words:
        """Return this side's half of Σ over r of theirs[r]·values[r], for values (r, n)."""
        out = np.empty(values.shape[1], np.uint64)
        for cut in pieces(values.shape[1], _GROUP):
            rows = len(values) * slot_products.blocks(cut.stop - cut.start)
            shape = (len(SLOTS), len(ELEMENTS.primes), rows, ELEMENTS.N, 3)
            asked = await self.peer.recv(Numbers, parts=shape)  # (1)
            first = self._count(asked.first)
            args = (self._slots, values[:, cut], asked.parts, self._seed, first, self._rng)
            parts, out[cut] = await offload(slot_products.answer, *args)
            await self.peer.send(Products(parts))  # (2)
        return out

    async def matrix(self, a: Words, n: int, plan: Plan) -> Words:
        """Return this side's half of A·theirs for A (m, k), theirs of n columns."""
        out = np.zeros((len(a), n), np.uint64)
        for terms, columns, tile in plan:
            asked, first = [], self._used
            for part in matrix_tiles.request_parts(tile):
                shape = (len(MATRICES.primes), part.stop - part.start, MATRICES.N, 3)
                message = await self.peer.recv(EncryptedRows, parts=shape)  # (1)
                self._count(message.first)
                asked.append(message.parts)
            part_of_a = np.ascontiguousarray(a[:, terms])
            made = matrix_tiles.answer(self._matrices[0], part_of_a, asked, tile, self._seed, first, self._rng)
            for part in matrix_tiles.answer_parts(tile):
                c0, c1, half = await offload(next, made)
                await self.peer.send(RowProducts(c0, c1))  # (2)
                at = part.start * tile.rows
                out[at : at + len(half), columns] += half[: len(a) - at]
        return out

    def _count(self, first: int) -> int:
        if first != self._used:
            raise ProtocolError(f"{self.peer.peer} sent request {first:,}, this side is at {self._used:,}")
        self._used += 1
        return first


def _label(t: int) -> bytes:
    return b"zero modulo %d" % t


async def source(peer: Channel, number: int, *, rng: Rng) -> HomomorphicSource:
    """Set up transfers and keys in both directions.

    Args:
        peer: Channel to the other party.
        number: 0 or 1: which party this is.
        rng: Secret randomness.

    Raises:
        ProtocolError: The peer broke the protocol.
    """
    rest = await transfers.ways(peer, number, rng=rng)
    owner = _Owner(peer.sub(f"products of {number}"), rng.spawn())
    answerer = _Answerer(peer.sub(f"products of {1 - number}"), rng.spawn())
    await both(owner.publish(), answerer.learn())  # (0)
    return HomomorphicSource(number, rest, owner, answerer, rng.spawn())


class HomomorphicSource(TransferSource):
    """A party's keys and transfers; see `Source` for what they give."""

    name = "homomorphic"

    def __init__(self, number: int, rest: Ways, owner: _Owner, answerer: _Answerer, rng: Rng) -> None:
        super().__init__(number, rest, rng)
        self._owner, self._answerer = owner, answerer

    async def products(self, n: int) -> Triple:
        if n < LEAST_NUMBERS:
            return await super().products(n)
        a, b = self._rng.u64(n), self._rng.u64(n)
        # theirs and mine of each pair: a·b′ + b·a′ in one sum
        return Triple(a, b, a * b + await self._mixed(np.stack((a, b)), np.stack((b, a))))

    async def squares(self, n: int) -> tuple[Words, Words]:
        if n < LEAST_NUMBERS:
            return await super().squares(n)
        a = self._rng.u64(n)
        return a, a * a + await self._mixed(a[np.newaxis], np.uint64(2) * a[np.newaxis])

    async def matrix_product(self, x: Words, y: Words, *, opener: Opener) -> Words:
        """X·Y and the mixed terms X·Y′ + X′·Y: each side encrypts its Y, or the transposes are multiplied."""
        (m, k), n = x.shape, y.shape[1]
        if m * k * n < LEAST_TERMS:
            return await super().matrix_product(x, y, opener=opener)
        plan, other = matrix_tiles.plan(m, k, n), matrix_tiles.plan(n, k, m)
        turned = _cost(other) < _cost(plan)
        a, b = (y.T, x.T) if turned else (x, y)
        mixed = both(
            self._owner.matrix(b, len(a), other if turned else plan),
            self._answerer.matrix(a, b.shape[1], other if turned else plan),
        )
        own, (mine, theirs) = await both(offload(word_matrix.product, x, y), mixed)
        cross = mine + theirs
        return own + (cross.T if turned else cross)

    async def _mixed(self, asked: Words, answered: Words) -> Words:
        """Return a half of Σ over r of asked[r]·answered′[r]: one side asks for the first half of the values."""
        n = asked.shape[1]
        middle = min(n, slot_products.BLOCK * -(-slot_products.blocks(n) // 2))
        cuts = slice(0, middle), slice(middle, n)
        mine, theirs = cuts if self.number == 0 else cuts[::-1]
        parts = await both(self._owner.products(asked[:, mine]), self._answerer.products(answered[:, theirs]))
        out = np.empty(n, np.uint64)
        out[mine], out[theirs] = parts
        return out


def _cost(plan: Plan) -> int:
    return sum(tile.cost for _, _, tile in plan)


PROTOCOL = Protocol(
    name="homomorphic-products",
    version=1,
    title="Two parties multiply private numbers and matrices under homomorphic encryption",
    card=cards.HOMOMORPHIC,
    roles={"first": source, "second": source},
    messages=(Keys, Numbers, Products, EncryptedRows, RowProducts),
    uses=(transfers.PROTOCOL,),
)
