"""Products of two sides' private numbers modulo 2^64, 4,096 in a ciphertext, under `homomorphic` encryption.

The owner encrypts its numbers modulo each of nine primes, in slots.  The other side multiplies slot by slot, adds a
random number R to every product and answers.  The product, an integer of at most 2^127 in size, and R, of 184 bits,
stay below the primes' product T, so that nothing wraps: modulo 2^64 the owner's number less R is the product.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from math import prod

import numpy as np
from numpy.typing import NDArray

from atoll.crypto import homomorphic as he
from atoll.crypto.homomorphic import ELEMENTS, SLOTS, Bytes, Public, Secret
from atoll.crypto.prime_transform import forward, inverse, reduced, tables
from atoll.crypto.random import Rng

F64 = NDArray[np.float64]
U64 = NDArray[np.uint64]

BLOCK = ELEMENTS.N
"""Numbers in one ciphertext."""
MASK_BITS = 184
"""Bits of R; it is raised by T/4, so that it neither wraps nor is near zero."""


def blocks(n: int) -> int:
    """Return the ciphertexts, for each prime, of n numbers."""
    return -(-n // BLOCK)


def labels(first: int) -> list[bytes]:
    """Return for each prime the label of the uniform parts of request number `first`."""
    return [b"slots %d of %d" % (i, first) for i in range(len(SLOTS))]


def request(key: Secret, values: U64, seed: bytes, first: int, rng: Rng) -> Bytes:
    """Encrypt numbers.

    Args:
        key: The owner's secret.
        values: (r, n): r arrays, each of whose numbers is multiplied by another one of the other side.
        seed: Of the uniform parts.
        first: Number of the request, never used twice.
        rng: Secret randomness.

    Returns:
        (9, 5, r·blocks, 4096, 3).
    """
    rows = len(values) * blocks(values.shape[1])
    out = np.empty((len(SLOTS), len(ELEMENTS.primes), rows, BLOCK, 3), np.uint8)
    for into, t, label in zip(out, SLOTS, labels(first), strict=True):
        m = _encoded(values, t)
        a = [he.uniform(ELEMENTS, i, seed, label, rows) for i in range(len(ELEMENTS.primes))]
        for part, row in zip(he.encrypt(key, t, [m] * len(a), a, rng), into, strict=True):
            row[:] = part
    return out


def answer(keys: Sequence[Public], values: U64, asked: Bytes, seed: bytes, first: int, rng: Rng) -> tuple[Bytes, U64]:
    """Multiply encrypted numbers by one's own, and blind the sums of r products each.

    Args:
        keys: The owner's encryptions of zero, one for each prime.
        values: (r, n).
        asked: What `request` returned, (9, 5, r·blocks, 4096, 3).
        seed: Of the uniform parts.
        first: Number of the request.
        rng: Secret randomness.

    Returns:
        For the owner, (9, 2, 2, blocks, 4096, 3), and this side's half of the sums of products, (n,).
    """
    (r, n), count = values.shape, blocks(values.shape[1])
    parts = he.uniform_parts(rng, MASK_BITS, count * BLOCK)
    quarter = prod(SLOTS) // 4
    slots = he.sum_of_parts(parts, SLOTS, quarter).reshape(len(SLOTS), count, BLOCK)
    out = np.empty((len(SLOTS), 2, ELEMENTS.kept, count, BLOCK, 3), np.uint8)
    for into, key, t, label, c0, hidden in zip(out, keys, SLOTS, labels(first), asked, slots, strict=True):
        factors = he.transformed(ELEMENTS, _encoded(values, t))
        sums = np.empty((2, len(ELEMENTS.primes), count, BLOCK))
        for i, p in enumerate(ELEMENTS.primes):
            a = he.uniform(ELEMENTS, i, seed, label, r * count)
            for side, c in enumerate((he.unpacked(c0[i], p), a)):
                products = reduced(c * reduced(factors[i], p), p)
                sums[side, i] = products.reshape(r, count, BLOCK).sum(axis=0)
        switched = he.blinded(key, sums, _masks(hidden, t, rng), rng)
        for i, p in enumerate(ELEMENTS.primes[: ELEMENTS.kept]):
            into[:, i] = he.packed(switched[:, i], p)
    return out, np.uint64(0) - he.words_of_parts(parts, quarter)[:n]


def read(key: Secret, answered: Bytes, n: int) -> U64:
    """Return the owner's half of the sums of products, (n,), from what `answer` returned."""
    found = np.empty((len(SLOTS), n))
    for row, t, part in zip(found, SLOTS, answered, strict=True):
        c0, c1 = (np.stack([he.unpacked(side[i], ELEMENTS.primes[i]) for i in range(ELEMENTS.kept)]) for side in part)
        slots = he.modulo(ELEMENTS, he.opened(key, c0, c1), t)
        table = tables(BLOCK, t)
        forward(slots, table)
        row[:] = reduced(slots.reshape(-1)[:n], t)
    return _joined(found)


def _encoded(values: U64, t: int) -> F64:
    """Return polynomials whose slots hold the numbers, taken with sign, modulo t: (r·blocks, 4096)."""
    r, n = values.shape
    signed = np.zeros((r, blocks(n) * BLOCK), np.int64)
    signed[:, :n] = values.view(np.int64)
    high, low = (signed >> np.int64(32)).astype(np.float64), (signed & np.int64((1 << 32) - 1)).astype(np.float64)
    slots = reduced(high * ((1 << 32) % t) + low, t).reshape(-1, BLOCK)
    inverse(slots, tables(BLOCK, t))
    return slots


def _masks(slots: F64, t: int, rng: Rng) -> F64:
    """Return what is added to the answers: R in the slots, plus t times a wide uniform number, modulo each prime."""
    inverse(slots, tables(BLOCK, t))
    bits = ELEMENTS.blind_bits - t.bit_length()
    wide = he.uniform_parts(rng, bits, *slots.shape)
    return slots + he.sum_of_parts(wide, ELEMENTS.primes, -(1 << (bits - 1)), t)


def _joined(residues: F64) -> U64:
    """Return the numbers whose residues modulo the nine primes are given, (9, n), modulo 2^64: they are about T/4."""
    T = prod(SLOTS)
    out, turns = np.zeros(residues.shape[1], np.uint64), np.zeros(residues.shape[1])
    for row, t in zip(residues, SLOTS, strict=True):
        y = reduced(row * _inverse_of_rest(t), t)
        turns += y / t
        out += y.astype(np.int64).view(np.uint64) * np.uint64(T // t % (1 << 64))
    out -= np.rint(turns - 0.25).astype(np.int64).view(np.uint64) * np.uint64(T % (1 << 64))
    return out


@cache
def _inverse_of_rest(t: int) -> float:
    value = pow(prod(SLOTS) // t, -1, t)
    return float(value - t if value > t // 2 else value)
