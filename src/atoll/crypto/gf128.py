"""GF(2^128) as polynomials modulo X^128 + X^7 + X^2 + X + 1: products with one constant, for many elements.

An element is two words, (…, 2) uint64: bit i of word 0 belongs to X^i, bit i of word 1 to X^(64 + i).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from atoll.crypto.jit import njit

U64 = NDArray[np.uint64]


def powers(delta: U64) -> U64:
    """Return Δ·X^i for i = 0 … 127, (128, 2)."""
    out = np.empty((128, 2), np.uint64)
    low, high = int(delta[0]), int(delta[1])
    for i in range(128):
        out[i] = low, high
        low, high, carry = low << 1, high << 1 | low >> 63, high >> 63
        low, high = (low ^ 0x87 * carry) & (1 << 64) - 1, high & (1 << 64) - 1
    return out


def tables(delta: U64, words: int) -> U64:
    """Return Δ times every byte at every place of factors of one or two words, (8 · words, 256, 2)."""
    at, out = powers(delta), np.zeros((8 * words, 256, 2), np.uint64)
    for byte in range(8 * words):
        for bit in range(8):
            out[byte, 1 << bit : 2 << bit] = out[byte, : 1 << bit] ^ at[8 * byte + bit]
    return out


@njit
def add_products(factors: U64, tables_: U64, out: U64) -> None:
    """Add Δ·f to each element: factors (n,) uint64 of degree below 64, out (n, 2)."""
    for i in range(factors.size):
        f, a, b = factors[i], out[i, 0], out[i, 1]
        for byte in range(8):
            k = (f >> np.uint64(8 * byte)) & np.uint64(255)
            a ^= tables_[byte, k, 0]
            b ^= tables_[byte, k, 1]
        out[i, 0], out[i, 1] = a, b


@njit
def add_wide_products(factors: U64, tables_: U64, out: U64) -> None:
    """As `add_products`, for factors (n, 2) of any degree."""
    for i in range(factors.shape[0]):
        a, b = out[i, 0], out[i, 1]
        for word in range(2):
            f = factors[i, word]
            for byte in range(8):
                k = (f >> np.uint64(8 * byte)) & np.uint64(255)
                a ^= tables_[8 * word + byte, k, 0]
                b ^= tables_[8 * word + byte, k, 1]
        out[i, 0], out[i, 1] = a, b


@njit
def inner_with_powers(strings: U64, out: U64) -> None:
    """Write Σ_j X^j · s_j for every group of strings: (n, k, 2) with k at most 128, out (n, 2)."""
    top, fold = np.uint64(63), np.uint64(0x87)
    one = np.uint64(1)
    for i in range(strings.shape[0]):
        a, b = np.uint64(0), np.uint64(0)
        for j in range(strings.shape[1] - 1, -1, -1):  # Horner's rule
            carry = b >> top
            b = (b << one) | (a >> top)
            a = (a << one) ^ (carry * fold)
            a ^= strings[i, j, 0]
            b ^= strings[i, j, 1]
        out[i, 0], out[i, 1] = a, b


def warm() -> None:
    """Compile this module's kernels."""
    two = np.zeros((1, 2), np.uint64)
    add_products(np.zeros(1, np.uint64), tables(two[0], 1), two)
    add_wide_products(two, tables(two[0], 2), two.copy())
    inner_with_powers(np.zeros((1, 2, 2), np.uint64), two)
