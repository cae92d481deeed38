"""Kernels of hidden tables: sixteen pad bits from one correlated string, and tables of sixteen bits under them.

The pad bit of value u is the lowest bit of π(π(x) ⊕ j) ⊕ π(x) with x = q_j ⊕ u·Δ, the tweaked hash of
`atoll.crypto.tmmo` under the string's own index j.  A table is 16 bits of a word: bit v is the table's value at v.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from atoll.crypto import gf128, tmmo
from atoll.crypto.aes import FixedKey, blocks
from atoll.crypto.jit import njit, read_only

U8 = NDArray[np.uint8]
U16 = NDArray[np.uint16]
U64 = NDArray[np.uint64]

VALUES = 16
"""Values of an index; its four bits are the width of the strings."""

WIDTH = 4

_ROWS = 1 << 10  # strings at a time: their 16 · 1,024 blocks stay in the second-level cache


def all_bits(q: U64, delta: U64, first: int) -> U16:
    """Return the owner's pad bits.

    Args:
        q: The sender's strings, (n, 2) uint64.
        delta: Its Δ, (2,) uint64.
        first: Running index of the first string.

    Returns:
        (n,) uint16: bit u is the pad of value u.
    """
    n, out, pi = len(q), np.empty(len(q), np.uint16), FixedKey(tmmo.FIXED_KEY)
    offsets, powers = np.zeros((VALUES, 2), np.uint64), gf128.powers(delta)
    for bit in range(WIDTH):
        offsets[1 << bit : 2 << bit] = offsets[: 1 << bit] ^ powers[bit]
    keys, inner, strings = blocks(VALUES * min(_ROWS, n)), blocks(VALUES * min(_ROWS, n)), read_only(q)
    for lo in range(0, n, _ROWS):
        part = strings[lo : lo + _ROWS]
        key, block = keys[: VALUES * len(part)], inner[: VALUES * len(part)]
        _spread(part, offsets, key)
        pi.encrypt_into(key, key)
        _tweak(key, np.uint64(first + lo), block)
        pi.encrypt_into(block, block)
        _collect(key, block, out[lo : lo + _ROWS])
    return out


def one_bit(t: U64, first: int) -> U8:
    """Return the chooser's pad bits, (n,) uint8: those of its own values; arguments as of `all_bits`."""
    out = np.empty(len(t), np.uint8)
    for lo in range(0, len(t), VALUES * _ROWS):
        part = slice(lo, min(lo + VALUES * _ROWS, len(t)))
        out[part] = tmmo.hash_blocks(t[part], first + lo)[:, 0] & np.uint64(1)
    return out


def nibbles(words: U64) -> U8:
    """Return the 16 groups of four bits of every word, lowest first: (16 n,) uint8."""
    flat = np.ascontiguousarray(words).view(np.uint8)
    return np.stack((flat & 15, flat >> 4), axis=-1).reshape(-1)


def quads(bits: U8) -> U8:
    """Return four bits after the other as one number: bits (4 n,) to (n,) uint8."""
    return np.packbits(bits.reshape(-1, 4), axis=1, bitorder="little")[:, 0]


def masked_indices(indices: U8, choices: U8) -> U8:
    """Return each index ⊕ choice, (n,) uint8 below 16, packed two a byte: (ceil(n / 2),)."""
    out = np.zeros(-(-len(indices) // 2), np.uint8)
    _mask_indices(read_only(indices), choices, out)
    return out


def masked_tables(tables: U16, masked: U8, pads: U16, shares: U8) -> U8:
    """Hide tables so that the chooser can read each at its index, XOR the owner's share of the result.

    Args:
        tables: (n,) uint16.
        masked: What `masked_indices` made, (ceil(n / 2),).
        pads: From `all_bits`, (n,); used here and never again.
        shares: The owner's shares, (n,) uint8 of random bits.

    Returns:
        (2 n,) uint8.
    """
    out = np.empty(len(tables), np.uint16)
    _mask_tables(tables, read_only(masked), pads, shares, out)
    return out.view(np.uint8)


def opened(message: U8, choices: U8, pads: U8) -> U8:
    """Return the chooser's shares, (n,) uint8, from what `masked_tables` made and its own choices and pad bits."""
    out = np.empty(len(choices), np.uint8)
    _open(read_only(message), choices, pads, out)
    return out


@njit
def _spread(q: U64, offsets: U64, out: U64) -> None:
    for i in range(q.shape[0]):
        for u in range(16):
            out[16 * i + u, 0] = q[i, 0] ^ offsets[u, 0]
            out[16 * i + u, 1] = q[i, 1] ^ offsets[u, 1]


@njit
def _tweak(key: U64, first: np.uint64, out: U64) -> None:
    for i in range(out.shape[0] // 16):
        tweak = first + np.uint64(i)
        for u in range(16 * i, 16 * i + 16):
            out[u, 0] = key[u, 0] ^ tweak
            out[u, 1] = key[u, 1]


@njit
def _collect(key: U64, block: U64, out: U16) -> None:
    for i in range(out.size):
        bits = np.uint64(0)
        for u in range(16):
            bits |= ((key[16 * i + u, 0] ^ block[16 * i + u, 0]) & np.uint64(1)) << np.uint64(u)
        out[i] = np.uint16(bits)


@njit
def _mask_indices(indices: U8, choices: U8, out: U8) -> None:
    for i in range(indices.size):
        out[i >> 1] |= (indices[i] ^ choices[i]) << np.uint8(4 * (i & 1))


@njit
def _mask_tables(tables: U16, masked: U8, pads: U16, shares: U8, out: U16) -> None:
    """Move the entry at v to v ⊕ d by swapping halves, quarters, pairs and neighbours where d has a bit."""
    for i in range(out.size):
        d = np.uint32(masked[i >> 1] >> np.uint8(4 * (i & 1)))
        table = np.uint32(tables[i])
        for level, low in ((0, 0x5555), (1, 0x3333), (2, 0x0F0F), (3, 0x00FF)):
            step, keep = np.uint32(1 << level), np.uint32(low)
            swapped = ((table >> step) & keep) | ((table & keep) << step)
            chosen = np.uint32(0) - ((d >> np.uint32(level)) & np.uint32(1))
            table ^= (table ^ swapped) & chosen
        out[i] = np.uint16((table ^ np.uint32(pads[i]) ^ (np.uint32(0) - np.uint32(shares[i]))) & np.uint32(0xFFFF))


@njit
def _open(message: U8, choices: U8, pads: U8, out: U8) -> None:
    for i in range(out.size):
        at = np.uint8(choices[i] & np.uint8(7))
        byte = message[2 * i + (choices[i] >> np.uint8(3))]
        out[i] = ((byte >> at) & np.uint8(1)) ^ pads[i]


def warm() -> None:
    """Compile this module's kernels."""
    one, strings = np.zeros(1, np.uint8), np.zeros((1, 2), np.uint64)
    pads = all_bits(strings, strings[0], 0)
    one_bit(strings, 0)
    opened(masked_tables(pads, masked_indices(one, one), pads, one), one, one)
