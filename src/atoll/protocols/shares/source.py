"""Where correlated randomness comes from: one interface, three sources (`dealer`, `transfers`, `homomorphic`)."""

from __future__ import annotations

from collections.abc import Awaitable
from dataclasses import dataclass
from typing import Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from atoll.protocols.together import together

U64 = NDArray[np.uint64]
A = TypeVar("A")
B = TypeVar("B")

PIECE = 1 << 18
"""Values that are worked on together; larger arrays go in pieces, the next one's randomness under way."""


@dataclass(frozen=True, repr=False)
class Triple:
    """This party's halves of a, b and c = a·b (or a ∧ b, or the matrix product); used once."""

    a: U64
    b: U64
    c: U64


@dataclass(frozen=True, repr=False)
class Digits:
    """Comparison of digits, as this party's halves.

    Attributes:
        top: (w,): a bit which, added to the outcome of the comparison, gives the sign.
        less: (16, w): planes, for each digit whether the one side's is less than the other's.
        equal: (16, w): whether they are equal.
    """

    top: U64
    less: U64
    equal: U64


class Opener(Protocol):
    """How a source opens words between the two parties."""

    async def swap(self, half: U64) -> U64:
        """Return the sum of both halves."""

    async def swap_both(self, plane: U64, half: U64) -> tuple[U64, U64]:
        """Return a plane's two halves added by XOR and other halves summed, from one message."""

    @property
    def number(self) -> int:
        """0 or 1: which of the two parties this is."""


class Source(Protocol):
    """What a source gives.  Both parties ask for the same things in the same order; nothing is given twice.

    Attributes:
        name: For cards and reports.
    """

    name: str

    async def products(self, n: int) -> Triple:
        """Random a, b, c = a·b, (n,) each."""

    async def squares(self, n: int) -> tuple[U64, U64]:
        """Random a and a², (n,) each."""

    async def matrix_product(self, x: U64, y: U64, *, opener: Opener) -> U64:
        """Return a half of X·Y, (m, n), from halves of X (m, k) and Y (k, n), no size 0."""

    async def ands(self, width: int, words: int) -> Triple:
        """Random a (width, words), b (words,) and c = a ∧ b: the same b for the whole column."""

    async def bits(self, n: int) -> tuple[U64, U64]:
        """n random bits, shared twice: by XOR as a plane (w,), and by addition, (n,)."""

    async def chosen(self, plane: U64, half: U64, *, opener: Opener) -> U64:
        """Return a half of x (n,) where a shared bit, a plane (w,), is set, and of 0 elsewhere."""

    async def digits(self, half: U64, *, sign: bool, opener: Opener) -> Digits:
        """Compare hidden digits, such that `less` over all digits, and `top`, give the sign of x (n,).

        Args:
            half: This party's half of x, (n,).
            sign: Compare 63 bits, for the sign; otherwise all 64, for equality with zero.
            opener: How to open masked words.
        """

    async def shifted(self, half: U64, bits: int, *, opener: Opener) -> U64:
        """Return a half of x / 2^bits, rounded down or up at random, for x (n,) of less than 2^62 in size."""

    async def series(self, half: U64, wave: Wave, *, opener: Opener) -> U64:
        """Return a half of Σ βₖ·sin(k·ω·x), k = 1, 3, 5, …, for x (n,), with `wave.out` fractional bits."""


@dataclass(frozen=True)
class Wave:
    """An odd series of sines in a number with f fractional bits.

    Attributes:
        weights: βₖ for k = 1, 3, 5, …
        period: Log2 of the period in units of 2^-f: ω = 2π / 2^period for the integer.
        fine: Fractional bits of every sine and cosine.
        scale: Fractional bits of a weight.
    """

    weights: tuple[float, ...]
    period: int
    fine: int = 20
    scale: int = 20

    @property
    def out(self) -> int:
        """Fractional bits of the result."""
        return self.fine + self.scale


async def both(first: Awaitable[A], second: Awaitable[B]) -> tuple[A, B]:
    """Await two things at once; the first error ends both.

    Raises:
        Exception: What one of them raised.
    """
    one, other = await together(first, second)
    return one, other


def pieces(n: int, most: int = PIECE) -> list[slice]:
    """Cut n values into pieces."""
    return [slice(at, min(at + most, n)) for at in range(0, n, most)]
