"""A dealer of correlated randomness: a third site that is no party, and learns only how much is asked for.

Dealer                                                     Party 0                     Party 1
(1) sends each party a seed of its own
                                                           (2) both send the same order
draws what both will draw from their seeds                 draws its halves            draws all halves but the last
(3) sends the one half that cannot be drawn                                            receives it
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import prod
from typing import NoReturn

import numpy as np
from numpy.typing import NDArray

from atoll.core.channel import Channel
from atoll.core.errors import ProtocolError
from atoll.core.message import U64, Message
from atoll.core.offload import offload
from atoll.core.protocol import Protocol
from atoll.crypto import packed_bits, word_matrix
from atoll.crypto.random import Rng
from atoll.protocols.shares import beaver, cards, waves
from atoll.protocols.shares.source import Digits, Opener, Triple, Wave, both

Words = NDArray[np.uint64]
Shape = tuple[int, ...]
Parts = list[Words]

LARGEST = 1 << 26
"""Most words that one order may ask for."""


class Seed(Message, frozen=True):
    """(1) dealer → party: the seed of this party's halves."""

    seed: bytes


class Order(Message, frozen=True):
    """(2) party → dealer: what is wanted next, and its sizes; `end` closes the account."""

    number: int
    kind: str
    sizes: tuple[int, ...]


class Correction(Message, frozen=True):
    """(3) dealer → party 1: the half that makes the relation true; it looks random."""

    number: int
    words: U64


@dataclass(frozen=True)
class Recipe:
    """How one kind of randomness is made.

    Attributes:
        shapes: From the sizes, the shapes of the halves that each party draws.
        correct: From all drawn halves, party 1's last one.
        correction: From the sizes, the shape of that one.
    """

    shapes: Callable[..., tuple[list[Shape], list[Shape]]]
    correction: Callable[..., Shape]
    correct: Callable[..., Words]


def _products(x: Parts, y: Parts, n: int) -> Words:
    return (x[0] + y[0]) * (x[1] + y[1]) - x[2]


def _squares(x: Parts, y: Parts, n: int) -> Words:
    a = x[0] + y[0]
    return a * a - x[1]


def _matrices(x: Parts, y: Parts, m: int, k: int, n: int) -> Words:
    return word_matrix.product(x[0] + y[0], x[1] + y[1]) - x[2]


def _ands(x: Parts, y: Parts, width: int, words: int) -> Words:
    return ((x[0] ^ y[0]) & (x[1] ^ y[1])) ^ x[2]


def _bits(x: Parts, y: Parts, n: int) -> Words:
    return packed_bits.unpack(x[0] ^ y[0], n).astype(np.uint64) - x[1]


def _choices(x: Parts, y: Parts, n: int) -> Words:
    r = packed_bits.unpack(x[0] ^ y[0], n).astype(np.uint64)
    return np.stack((r, r * (x[1] + y[1]))) - x[2]


def _masks(x: Parts, y: Parts, n: int) -> Words:
    return packed_bits.one_hot(x[0] + y[0]) ^ x[1]


def _shifts(x: Parts, y: Parts, n: int, bits: int) -> Words:
    r = x[0] + y[0]
    low = (r & np.uint64((1 << 63) - 1)) >> np.uint64(bits)
    return np.stack((low, (r >> np.uint64(63)) << np.uint64(63 - bits))) - x[1]


def _waves(x: Parts, y: Parts, n: int, terms: int, period: int, fine: int) -> Words:
    return waves.sines(x[0] + y[0], terms, period, fine) - x[1]


RECIPES: Mapping[str, Recipe] = {
    "products": Recipe(lambda n: ([(n,)] * 3, [(n,)] * 2), lambda n: (n,), _products),
    "squares": Recipe(lambda n: ([(n,)] * 2, [(n,)]), lambda n: (n,), _squares),
    "matrices": Recipe(lambda m, k, n: ([(m, k), (k, n), (m, n)], [(m, k), (k, n)]), lambda m, k, n: (m, n), _matrices),
    "ands": Recipe(lambda v, w: ([(v, w), (w,), (v, w)], [(v, w), (w,)]), lambda v, w: (v, w), _ands),
    "bits": Recipe(lambda n: ([(-(-n // 64),), (n,)], [(-(-n // 64),)]), lambda n: (n,), _bits),
    "choices": Recipe(lambda n: ([(-(-n // 64),), (n,), (2, n)], [(-(-n // 64),), (n,)]), lambda n: (2, n), _choices),
    "masks": Recipe(lambda n: ([(n,), (4, n)], [(n,)]), lambda n: (4, n), _masks),
    "shifts": Recipe(lambda n, bits: ([(n,), (2, n)], [(n,)]), lambda n, bits: (2, n), _shifts),
    "waves": Recipe(lambda n, k, p, f: ([(n,), (2 * k, n)], [(n,)]), lambda n, k, p, f: (2 * k, n), _waves),
}


async def dealer(party0: Channel, party1: Channel, *, rng: Rng) -> int:
    """Deal to two parties until both say that they are done.

    Args:
        party0: Channel to party 0.
        party1: Channel to party 1.
        rng: Secret randomness.

    Returns:
        How many orders were served.

    Raises:
        ProtocolError: The parties order different things, or more than one order may ask for.
    """
    seeds = rng.bytes(32), rng.bytes(32)
    await both(party0.send(Seed(seeds[0])), party1.send(Seed(seeds[1])))  # (1)
    streams, served = (Rng(seeds[0]), Rng(seeds[1])), 0
    while True:
        order, other = await both(party0.recv(Order), party1.recv(Order))  # (2)
        if order != other or order.number != served:
            raise ProtocolError(
                f"{party0.peer} and {party1.peer} order different randomness: {_show(order)} and {_show(other)}",
                cure="Both sites must run the same operations in the same order: compare their programs and sizes.",
            )
        if order.kind == "end":
            return served
        words = await offload(_served, order, *streams)
        await party1.send(Correction(served, words))  # (3)
        served += 1


def _served(order: Order, x: Rng, y: Rng) -> Words:
    recipe, shapes = _checked(order)
    halves = [[stream.u64(*shape) for shape in part] for stream, part in zip((x, y), shapes, strict=True)]
    return np.ascontiguousarray(recipe.correct(*halves, *order.sizes))


def _checked(order: Order) -> tuple[Recipe, tuple[list[Shape], list[Shape]]]:
    """Refuse what no honest party orders, before anything is allocated."""
    recipe, sizes = RECIPES.get(order.kind), order.sizes
    if recipe is None or recipe.shapes.__code__.co_argcount != len(sizes):
        raise ProtocolError(f"the dealer does not know the order {_show(order)}")
    if order.kind == "shifts" and not 0 < sizes[1] < 63:
        raise ProtocolError(f"a shift by {sizes[1]} bits was ordered")
    if order.kind == "waves" and not (0 < sizes[1] <= 64 and 0 < sizes[2] < 64 and 0 < sizes[3] < 53):
        raise ProtocolError(f"waves that cannot be were ordered: {_show(order)}")
    if not all(0 < size <= LARGEST for size in sizes):
        raise ProtocolError(f"an order has sizes out of range: {_show(order)}")
    shapes = recipe.shapes(*sizes)
    if max(prod(shape) for part in shapes for shape in part) > LARGEST:
        raise ProtocolError(f"an order asks for more than {LARGEST:,} words: {_show(order)}")
    return recipe, shapes


def _show(order: Order) -> str:
    return f"{order.kind[:20]!r} {list(order.sizes[:4])} as number {order.number}"


async def source(site: Channel, number: int) -> DealerSource:
    """Open an account with the dealer.

    Args:
        site: Channel to the dealer.
        number: 0 or 1: which party this is.
    """
    seed = (await site.recv(Seed)).seed  # (1)
    if len(seed) != 32:
        raise ProtocolError(f"{site.peer} dealt a seed of {len(seed)} bytes instead of 32")
    return DealerSource(site, number, Rng(seed))


class DealerSource:
    """A party's account with a dealer; see `Source` for what it gives."""

    name = "dealer"

    def __init__(self, site: Channel, number: int, stream: Rng) -> None:
        self.site, self.number, self._stream, self.ordered = site, number, stream, 0
        self._busy = False

    def __repr__(self) -> str:
        return f"DealerSource(number={self.number}, ordered={self.ordered})"

    def __reduce__(self) -> NoReturn:
        raise TypeError("an account with a dealer cannot be copied or stored: its randomness would be used twice")

    async def close(self) -> None:
        """Tell the dealer that no more orders come."""
        await self.site.send(Order(self.ordered, "end", ()))

    async def _order(self, kind: str, *sizes: int) -> Parts:
        """Return this party's halves of the next ones of a kind."""
        if self._busy:
            raise RuntimeError("this account is in use, or an order on it has failed: operations run one after another")
        recipe, number = RECIPES[kind], self.ordered
        self._busy, self.ordered = True, number + 1
        shapes = recipe.shapes(*sizes)[self.number]
        await self.site.send(Order(number, kind, sizes))  # (2)
        halves = await offload(lambda: [self._stream.u64(*shape) for shape in shapes])
        if self.number == 1:
            correction = await self.site.recv(Correction, words=recipe.correction(*sizes))  # (3)
            if correction.number != number:
                raise ProtocolError(f"{self.site.peer} dealt number {correction.number}, {number} was ordered")
            halves.append(correction.words)
        self._busy = False
        return halves

    async def products(self, n: int) -> Triple:
        return Triple(*await self._order("products", n))

    async def squares(self, n: int) -> tuple[Words, Words]:
        a, square = await self._order("squares", n)
        return a, square

    async def matrices(self, m: int, k: int, n: int) -> Triple:
        return Triple(*await self._order("matrices", m, k, n))

    async def matrix_product(self, x: Words, y: Words, *, opener: Opener) -> Words:
        triple = await self.matrices(len(x), len(y), y.shape[1])
        return await beaver.matrix_product(triple, x, y, opener)

    async def ands(self, width: int, words: int) -> Triple:
        return Triple(*await self._order("ands", width, words))

    async def bits(self, n: int) -> tuple[Words, Words]:
        plane, words = await self._order("bits", n)
        return plane, words

    async def chosen(self, plane: Words, half: Words, *, opener: Opener) -> Words:
        """Open e = b ⊕ r and d = x − a; then r·x = r·d + r·a, and b·x is r·x, or x − r·x where e is set."""
        r, a, known = await self._order("choices", half.size)
        e, d = await opener.swap_both(plane ^ r, half - a)
        product = known[0] * d + known[1]
        out: Words = np.where(packed_bits.unpack(e, half.size).astype(bool), half - product, product)
        return out

    async def digits(self, half: Words, *, sign: bool, opener: Opener) -> Digits:
        """Open c = x + r; x is c − r, so its sign is that of c, of r, and a borrow where c's low bits are below r's."""
        r, marks = await self._order("masks", half.size)
        c = await opener.swap(half + r)
        less, equal = await offload(packed_bits.compare_digits, c, marks, not sign)
        top = packed_bits.top_of(marks)
        if self.number == 0:
            top ^= packed_bits.pack((c >> np.uint64(63)).astype(np.uint8))
        return Digits(top, less, equal)

    async def shifted(self, half: Words, bits: int, *, opener: Opener) -> Words:
        """Open c = y + r for y = x + 2^62 ≥ 0; then y = c − r, of which the high bits follow from those of c and r.

        Source:
            Escudero, Ghosh, Keller, Rachuri and Scholl, CRYPTO 2020 (eprint 2020/338).
        """
        offset = np.uint64(1 << 62)
        r, high = await self._order("shifts", half.size, bits)
        c = await opener.swap(half + r if self.number else half + r + offset)
        # r = 2^63·t + r′, and b = t ⊕ (top bit of c) is the wrap of y + r′ beyond 2^63
        negative = (c >> np.uint64(63)).astype(bool)
        out: Words = np.where(negative, np.uint64(0) - high[1], high[1]) - high[0]
        if self.number == 0:
            out += (c & np.uint64((1 << 63) - 1)) >> np.uint64(bits)
            out += np.where(negative, np.uint64(1 << (63 - bits)), np.uint64(0))
            out -= offset >> np.uint64(bits)
        return out

    async def series(self, half: Words, wave: Wave, *, opener: Opener) -> Words:
        """Open c = x + r; sines of k(c − r) are sums of products of public ones and dealt ones."""
        r, dealt = await self._order("waves", half.size, len(wave.weights), wave.period, wave.fine)
        c = await opener.swap(half + r)
        return await offload(waves.turned, c, dealt, wave)


PROTOCOL = Protocol(
    name="triple-dealer",
    version=1,
    title="A third site deals the randomness with which two parties compute on shares",
    card=cards.DEALER,
    roles={"dealer": dealer, "party": source},
    messages=(Seed, Order, Correction),
)
