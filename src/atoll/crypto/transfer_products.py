"""Products of two sides' private numbers, and comparisons of their digits, from correlated transfers.

Transfers are in planes: number (p·w + v)·64 + i of a batch belongs to bit p of value 64·v + i, so that the receiver's
choices are the planes of its values.  Each transfer gives one pad of 128 bits under its running index (`tmmo`).
"""

import numpy as np
from numpy.typing import NDArray

from atoll.crypto.aes import FixedKey, blocks
from atoll.crypto.jit import njit, read_only
from atoll.crypto.tmmo import FIXED_KEY

U64 = NDArray[np.uint64]
U32 = NDArray[np.uint32]


_CHUNK = 1 << 13
"""Strings that are hashed together, where nothing else says how many: 128 kB."""


class _Pads:
    """The first words of pads, block 0 of `tmmo`, in room that is used again and stays in the cache."""

    def __init__(self, most: int) -> None:
        self._pi, self._inner, self._outer = FixedKey(FIXED_KEY), blocks(most), blocks(most)

    def of(self, x: U64, first: int) -> U64:
        """Return the first words (n,) of the pads of strings (n, 2), which are numbered from `first`."""
        inner, outer = self._inner[: len(x)], self._outer[: len(x)]
        self._pi.encrypt_into(np.ascontiguousarray(x), inner)
        return self._finished(inner, outer, first, len(x))

    def of_both(self, q: U64, delta: U64, first: int) -> tuple[U64, U64]:
        """Return the first words of the pads of q and of q ⊕ Δ."""
        n = len(q)
        inner, outer = self._inner[: 2 * n], self._outer[: 2 * n]
        _pair(q, delta, outer)
        self._pi.encrypt_into(outer, inner)
        words = self._finished(inner, outer, first, n)
        return words[:n], words[n:]

    def _finished(self, inner: U64, outer: U64, first: int, period: int) -> U64:
        _number(inner, np.uint64(first), period, outer)
        self._pi.encrypt_into(outer, outer)
        words = np.empty(len(inner), np.uint64)
        _first_words(inner, outer, words)
        return words


def wide_bits(bits: int, ring: int) -> int:
    """Of the products' `bits` corrections, the first so many need 64-bit words; the others fit into 32 bits."""
    return max(0, min(bits, ring - 32))


def multiply_as_sender(q: U64, delta: U64, first: int, x: U64, bits: int, ring: int) -> tuple[U64, U64, U32]:
    """Let the receiver have a half of x·y, where y is its value of `bits` bits.

    Args:
        q: The sender's strings, (bits·n, 2), n a multiple of 64.
        delta: Its offset, (2,).
        first: Running index of the first string.
        x: Its values, (n,).
        bits: Planes of y.
        ring: Halves are made modulo 2^ring; up to 32, all corrections have 32 bits.

    Returns:
        The sender's half (n,), and what it sends: corrections (wide, n) and (bits − wide, n).

    Source:
        Gilboa, CRYPTO 1999; with correlated transfers as in Demmler, Schneider and Zohner, NDSS 2015.
    """
    n, wide = len(x), wide_bits(bits, ring)
    half = np.zeros(n, np.uint64)
    long, short = np.empty((wide, n), np.uint64), np.empty((bits - wide, n), np.uint32)
    pads = _Pads(2 * n)
    for bit in range(bits):
        zero, one = pads.of_both(q[bit * n : (bit + 1) * n], delta, first + bit * n)
        out = long[bit] if bit < wide else short[bit - wide]
        _correct_product(zero, one, x, np.uint64(bit), half, out)
    return half, long, short


def multiply_as_receiver(t: U64, first: int, y: U64, long: U64, short: U32) -> U64:
    """Return the receiver's half of x·y.

    Args:
        t: The receiver's strings, for the choices `y`.
        first: Running index of the first string.
        y: The planes of its values, (bits, w).
        long: Corrections received, (wide, n).
        short: Corrections received, (bits − wide, n).
    """
    n = 64 * y.shape[1]
    half, pads = np.zeros(n, np.uint64), _Pads(n)
    for bit in range(len(y)):
        words = pads.of(t[bit * n : (bit + 1) * n], first + bit * n)
        correction = long[bit] if bit < len(long) else short[bit - len(long)]
        _add_product(words, y[bit], read_only(correction), np.uint64(bit), half)
    return half


def bits_of_pads(x: U64, first: int, width: int) -> U64:
    """Return the first bits of every string's pad as planes.

    Args:
        x: Strings, (64·w, 2).
        first: Running index of the first.
        width: How many bits, up to 64.

    Returns:
        (width, w).
    """
    out = np.empty((width, len(x) // 64), np.uint64)
    pads = _Pads(min(len(x), _CHUNK))
    for lo in range(0, len(x), _CHUNK):
        hi = min(lo + _CHUNK, len(x))
        _collect(pads.of(x[lo:hi], first + lo), out[:, lo // 64 : hi // 64])
    return out


def compare_as_sender(q: U64, delta: U64, first: int, digits: NDArray[np.uint8], hidden: NDArray[np.uint8]) -> U32:
    """Mask the tables of [u > v] and [u = v] for every v that the receiver's digit may be.

    Args:
        q: The sender's strings, (64·n, 2): four planes for each of 16 digits.
        delta: Its offset, (2,).
        first: Running index of the first string.
        digits: u, (16, n), each below 16.
        hidden: The sender's half of the results, (16, n): bit 0 for greater, bit 1 for equal.

    Returns:
        (16, n): 16 pairs of bits, of which the receiver can read one.
    """
    out = np.empty(digits.shape, np.uint32)
    n = digits.shape[1]
    pads, zero, one = _Pads(2 * n), np.empty((4, n), np.uint64), np.empty((4, n), np.uint64)
    for j in range(len(digits)):
        for i in range(4):
            at = (4 * j + i) * n
            zero[i], one[i] = pads.of_both(q[at : at + n], delta, first + at)
        _mask_tables(zero, one, digits[j], hidden[j], out[j])
    return out


def compare_as_receiver(t: U64, first: int, digits: NDArray[np.uint8], tables: U32) -> NDArray[np.uint8]:
    """Read the pair of bits at the receiver's digit.

    Args:
        t: The receiver's strings, whose choices are the planes of its values.
        first: Running index of the first string.
        digits: v, (16, n).
        tables: What the sender sent, (16, n).

    Returns:
        The receiver's half, (16, n): bit 0 for greater, bit 1 for equal.
    """
    out = np.empty(digits.shape, np.uint8)
    n = digits.shape[1]
    pads = _Pads(4 * n)
    for j in range(len(digits)):
        words = pads.of(t[4 * j * n : 4 * (j + 1) * n], first + 4 * j * n).reshape(4, n)
        _read_tables(words, digits[j], read_only(tables[j]), out[j])
    return out


@njit
def _pair(q: U64, delta: U64, out: U64) -> None:
    n = q.shape[0]
    for e in range(n):
        out[e, 0], out[e, 1] = q[e, 0], q[e, 1]
        out[n + e, 0], out[n + e, 1] = q[e, 0] ^ delta[0], q[e, 1] ^ delta[1]


@njit
def _number(inner: U64, first: np.uint64, period: int, out: U64) -> None:
    """Write π(x_j) ⊕ j, where the numbers begin anew after each period."""
    for lo in range(0, inner.shape[0], period):
        for e in range(period):
            out[lo + e, 0], out[lo + e, 1] = inner[lo + e, 0] ^ (first + np.uint64(e)), inner[lo + e, 1]


@njit
def _first_words(inner: U64, outer: U64, out: U64) -> None:
    for e in range(out.size):
        out[e] = inner[e, 0] ^ outer[e, 0]


@njit
def _correct_product(zero: U64, one: U64, x: U64, bit: np.uint64, half: U64, out: U64 | U32) -> None:
    for e in range(x.size):
        half[e] -= zero[e] << bit
        out[e] = zero[e] - one[e] + x[e]


@njit
def _add_product(pads: U64, choices: U64, corrections: U64 | U32, bit: np.uint64, half: U64) -> None:
    for e in range(half.size):
        chosen = np.uint64(0) - ((choices[e >> 6] >> np.uint64(e & 63)) & np.uint64(1))
        half[e] += (pads[e] + (np.uint64(corrections[e]) & chosen)) << bit


@njit
def _collect(pads: U64, out: U64) -> None:
    for v in range(out.shape[1]):
        for b in range(out.shape[0]):
            word = np.uint64(0)
            for i in range(64):
                word |= ((pads[64 * v + i] >> np.uint64(b)) & np.uint64(1)) << np.uint64(i)
            out[b, v] = word


@njit
def _mask_tables(zero: U64, one: U64, digits: NDArray[np.uint8], hidden: NDArray[np.uint8], out: U32) -> None:
    for e in range(out.size):
        u = np.uint64(digits[e])
        # [u > v] at the even places of v < u, [u = v] at the odd place of u, over the replicated hidden pair
        word = ((np.uint64(1) << (np.uint64(2) * u)) - np.uint64(1)) & np.uint64(0x55555555)
        word |= np.uint64(2) << (np.uint64(2) * u)
        word ^= np.uint64(hidden[e]) * np.uint64(0x55555555)
        word ^= (zero[0, e] & np.uint64(0x33333333)) ^ (one[0, e] & np.uint64(0xCCCCCCCC))
        word ^= (zero[1, e] & np.uint64(0x0F0F0F0F)) ^ (one[1, e] & np.uint64(0xF0F0F0F0))
        word ^= (zero[2, e] & np.uint64(0x00FF00FF)) ^ (one[2, e] & np.uint64(0xFF00FF00))
        word ^= (zero[3, e] & np.uint64(0x0000FFFF)) ^ (one[3, e] & np.uint64(0xFFFF0000))
        out[e] = np.uint32(word)


@njit
def _read_tables(pads: U64, digits: NDArray[np.uint8], tables: U32, out: NDArray[np.uint8]) -> None:
    for e in range(out.size):
        word = np.uint64(tables[e]) ^ pads[0, e] ^ pads[1, e] ^ pads[2, e] ^ pads[3, e]
        out[e] = np.uint8((word >> (np.uint64(2) * np.uint64(digits[e]))) & np.uint64(3))


def warm() -> None:
    """Compile this module's kernels."""
    strings, value, digits = np.zeros((64 * 64, 2), np.uint64), np.zeros(64, np.uint64), np.zeros((16, 64), np.uint8)
    for ring in (32, 64):
        _, long, short = multiply_as_sender(strings, strings[0], 0, value, 64, ring)
        multiply_as_receiver(strings, 0, np.zeros((64, 1), np.uint64), long, short)
    bits_of_pads(strings, 0, 1)
    compare_as_receiver(strings, 0, digits, compare_as_sender(strings, strings[0], 0, digits, digits))
