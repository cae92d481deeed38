"""Numbers as integers that a sum adds without error: exact ones of 192 bits, and quantised ones of 16 or 32.

Exact numbers are multiples of 2^-96 in two's complement, so that whatever float64 statistics produce is added as it is,
and the sum is rounded once.  Quantised ones are for networks, where a vector has millions of coordinates.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from atoll.crypto.jit import njit, read_only
from atoll.crypto.random import Rng

F64 = NDArray[np.float64]
U64 = NDArray[np.uint64]
Integers = NDArray[Any]  # int16 or int32

FRACTION = 96
"""Fractional bits of exact numbers."""

LARGEST = 2.0**95
"""What the size of an exact sum stays below."""

_BITS = FRACTION - 1075  # of the exponent field of a float64 to the place of its last bit


def largest_of(sites: int) -> float:
    """Return what each value stays below in size, so that the sum over so many sites cannot wrap around."""
    return LARGEST / 2.0 ** math.ceil(math.log2(max(sites, 1)))


def encode(values: F64) -> U64:
    """Return values as multiples of 2^-96, rounded to the nearest one, half to even.

    Args:
        values: (n,) float64, finite and below 2^95 in size.

    Returns:
        (3n,) uint64: three words a value, little-endian, in two's complement.
    """
    out = np.zeros(3 * values.size, np.uint64)
    _encode(read_only(np.ascontiguousarray(values).view(np.int64)), out)
    return out


def decode(words: U64) -> F64:
    """Return multiples of 2^-96, (3n,) uint64, as the nearest float64, (n,), half to even."""
    out = np.empty(words.size // 3, np.float64)
    _decode(read_only(words), out)
    return out


@njit
def _encode(bits: NDArray[np.int64], out: U64) -> None:
    for i in range(bits.size):
        field = (bits[i] >> np.int64(52)) & np.int64(0x7FF)
        mantissa = bits[i] & np.int64(0xFFFFFFFFFFFFF)
        if field > 0:
            mantissa |= np.int64(1) << np.int64(52)
        shift = max(field, np.int64(1)) + np.int64(_BITS)
        if shift < 0:
            mantissa = _rounded(mantissa, -shift)
            shift = np.int64(0)
        limb, at = shift // 64, np.uint64(shift % 64)
        word = np.uint64(mantissa)
        out[3 * i + limb] = word << at
        if at > np.uint64(0) and limb < 2:
            out[3 * i + limb + 1] = word >> (np.uint64(64) - at)
        if bits[i] < 0:
            _negate(out, 3 * i)


@njit(inline="always")
def _rounded(mantissa: np.int64, drop: np.int64) -> np.int64:
    """Return mantissa / 2^drop, to nearest, half to even."""
    if drop > 54:
        return np.int64(0)
    whole = mantissa >> drop
    rest, half = mantissa - (whole << drop), np.int64(1) << (drop - 1)
    return whole + np.int64(rest > half or (rest == half and (whole & 1) == 1))


@njit(inline="always")
def _negate(words: U64, at: int) -> None:
    carry = True
    for limb in range(3):
        word = ~words[at + limb]
        if carry:
            word += np.uint64(1)
            carry = word == np.uint64(0)
        words[at + limb] = word


@njit
def _decode(words: U64, out: F64) -> None:
    number = np.empty(3, np.uint64)
    for i in range(out.size):
        for limb in range(3):
            number[limb] = words[3 * i + limb]
        negative = number[2] >> np.uint64(63) == np.uint64(1)
        if negative:
            _negate(number, 0)
        value = _nearest(number)
        out[i] = -value if negative else value


@njit(inline="always")
def _nearest(number: U64) -> float:
    """Return an unsigned number of three words, times 2^-96, as the nearest float64."""
    top = 2
    while top > 0 and number[top] == np.uint64(0):
        top -= 1
    if number[top] == np.uint64(0):
        return 0.0
    lead, word = 0, number[top]
    while word >> np.uint64(63) == np.uint64(0):
        word <<= np.uint64(1)
        lead += 1
    sticky = False
    if top > 0:
        below = number[top - 1]
        if lead > 0:
            word |= below >> np.uint64(64 - lead)
        sticky = (below << np.uint64(lead)) != np.uint64(0)
        if top > 1:
            sticky = sticky or number[0] != np.uint64(0)
    mantissa, rest, half = np.int64(word >> np.uint64(11)), word & np.uint64(0x7FF), np.uint64(0x400)
    if rest > half or (rest == half and (sticky or (mantissa & 1) == 1)):
        mantissa += 1
    return math.ldexp(np.float64(mantissa), 64 * top - lead + 11 - FRACTION)


@dataclass(frozen=True)
class Quantiser:
    """Real numbers in [-clip, clip] as signed integers, so short that a sum over the sites fits the ring.

    Attributes:
        clip: Larger numbers are cut off at it.
        sites: How many sites add.
        bits: Width of the ring, 16 or 32.
        stochastic: Round up with the probability of the rest, so that the mean is right; else to the nearest.
    """

    clip: float
    sites: int
    bits: int = 32
    stochastic: bool = False

    def __post_init__(self) -> None:
        """Refuse what cannot be summed."""
        if not 0 < self.clip < math.inf or self.sites < 1 or self.bits not in (16, 32) or self.levels < 1:
            raise ValueError(f"no quantiser of {self.bits} bits for {self.sites} sites, clipped at {self.clip}")

    @property
    def levels(self) -> int:
        """The integer that stands for `clip`."""
        return ((1 << (self.bits - 1)) - 1) // self.sites

    def encode(self, values: F64, rng: Rng | None = None) -> U64:
        """Return the integers of values (n,), packed into whole words of 64 bits.

        Args:
            values: (n,) float64 or float32, finite.
            rng: Randomness for stochastic rounding.

        Raises:
            ValueError: Stochastic rounding without randomness.
        """
        words = np.zeros(-(-values.size * self.bits // 64), np.uint64)
        scale, values = self.levels / self.clip, read_only(np.ascontiguousarray(values, np.float64))
        out: Integers = words.view(np.int32 if self.bits == 32 else np.int16)
        if not self.stochastic:
            _quantise(values, scale, float(self.levels), out)
            return words
        if rng is None:
            raise ValueError("stochastic rounding needs randomness")
        _quantise_at_random(values, scale, float(self.levels), rng.u32(values.size), out)
        return words

    def decode(self, words: U64, n: int) -> F64:
        """Return the n numbers of a sum, float64."""
        integers: Integers = words.view(np.int32 if self.bits == 32 else np.int16)[:n]
        return np.asarray(integers * (self.clip / self.levels))


@njit
def _quantise(values: F64, scale: float, levels: float, out: Integers) -> None:
    for i in range(values.size):
        out[i] = np.int32(np.rint(min(max(values[i] * scale, -levels), levels)))


@njit
def _quantise_at_random(values: F64, scale: float, levels: float, draws: NDArray[np.uint32], out: Integers) -> None:
    for i in range(values.size):
        scaled = min(max(values[i] * scale, -levels), levels)
        whole = np.floor(scaled)
        up = np.float64(draws[i]) < (scaled - whole) * 4294967296.0
        out[i] = np.int32(whole + 1.0) if up else np.int32(whole)


def warm() -> None:
    """Compile this module's kernels."""
    decode(encode(np.ones(1)))
    for bits in (16, 32):
        Quantiser(1.0, 2, bits).encode(np.ones(1))
        Quantiser(1.0, 2, bits, stochastic=True).encode(np.ones(1), Rng(bytes(16)))
