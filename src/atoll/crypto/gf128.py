"""GF(2^128) as polynomials modulo X^128 + X^7 + X^2 + X + 1: products with one constant, for many elements; hashes.

An element is two words, (…, 2) uint64: bit i of word 0 belongs to X^i, bit i of word 1 to X^(64 + i).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from atoll.crypto.jit import njit, read_only

U64 = NDArray[np.uint64]
I64 = NDArray[np.int64]


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


def evaluate(point: U64, coefficients: U64) -> U64:
    """Return Σ_i point^(n - 1 - i) · c_i, (2,): a universal hash of c, for a point drawn after c was settled.

    Two vectors have one hash for at most n - 1 points of 2^128.

    Args:
        point: (2,) uint64.
        coefficients: c, (n, 2) uint64.
    """
    out = np.zeros(2, np.uint64)
    _horner(tables(point, 2), read_only(coefficients), out)
    return out


def evaluate_sparse(point: U64, length: int, at: I64, values: U64) -> U64:
    """Return `evaluate` of a vector of `length` elements that has the values (k, 2) at the places (k,), zeros else."""
    out = np.zeros(2, np.uint64)
    squares = np.empty((64, 2), np.uint64)
    squares[0] = point
    for k in range(1, 64):
        _multiply(squares[k - 1], squares[k - 1], squares[k])
    for place, value in zip(at.tolist(), values, strict=True):
        product, exponent = value.copy(), length - 1 - place
        for k in range(exponent.bit_length()):
            if exponent >> k & 1:
                _multiply(product, squares[k], product)
        out ^= product
    return out


def multiply(x: U64, y: U64) -> U64:
    """Return the product of two elements, (2,)."""
    out = np.empty(2, np.uint64)
    _multiply(np.ascontiguousarray(x), np.ascontiguousarray(y), out)
    return out


@njit
def _multiply(x: U64, y: U64, out: U64) -> None:
    """Write x · y; `out` may be the same array as one of them."""
    one, top, fold = np.uint64(1), np.uint64(63), np.uint64(0x87)
    a, b, low, high = np.uint64(0), np.uint64(0), x[0], x[1]
    for word in range(2):
        factor = y[word]
        for bit in range(64):
            mask = np.uint64(0) - ((factor >> np.uint64(bit)) & one)
            a ^= low & mask
            b ^= high & mask
            carry = high >> top
            high = (high << one) | (low >> top)
            low = (low << one) ^ (carry * fold)
    out[0], out[1] = a, b


@njit
def _horner(tables_: U64, coefficients: U64, out: U64) -> None:
    a, b = out[0], out[1]
    low = np.uint64(255)
    for i in range(coefficients.shape[0]):
        x, y = coefficients[i, 0], coefficients[i, 1]
        for byte in range(8):
            shift = np.uint64(8 * byte)
            j, k = (a >> shift) & low, (b >> shift) & low
            x ^= tables_[byte, j, 0] ^ tables_[8 + byte, k, 0]
            y ^= tables_[byte, j, 1] ^ tables_[8 + byte, k, 1]
        a, b = x, y
    out[0], out[1] = a, b


def warm() -> None:
    """Compile this module's kernels."""
    two = np.zeros((1, 2), np.uint64)
    add_products(np.zeros(1, np.uint64), tables(two[0], 1), two)
    add_wide_products(two, tables(two[0], 2), two.copy())
    inner_with_powers(np.zeros((1, 2, 2), np.uint64), two)
    evaluate(two[0], two)
    multiply(two[0], two[0])
