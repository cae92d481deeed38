"""From one 128-bit pseudorandom value to as many independent blocks as a protocol needs.

Block c is π_c(v) ⊕ v, where each π_c is AES-128 under a public key of its own.  Whoever does not know v sees noise, and
what some of the blocks are says nothing of the others.

Source: Black, Rogaway, Shrimpton, CRYPTO 2002 (Davies and Meyer's construction in the ideal-cipher model).
"""

from __future__ import annotations

import hashlib

import numpy as np
from numpy.typing import NDArray

from atoll.crypto.aes import FixedKey, blocks, expand

U64 = NDArray[np.uint64]


def stretch(values: U64, domain: bytes, count: int) -> U64:
    """Return `count` independent blocks of every value.

    Args:
        values: (n, 2) uint64, pseudorandom, and used for nothing else.
        domain: What the blocks are for; other domains give other blocks.
        count: Blocks of a value.

    Returns:
        (n, count, 2) uint64.
    """
    values, out = np.ascontiguousarray(values), np.empty((len(values), count, 2), np.uint64)
    keys, block = expand(hashlib.sha256(b"atoll/stretch/v1/" + domain).digest()[:16], 16 * count), blocks(len(values))
    for c in range(count):
        FixedKey(keys[16 * c : 16 * c + 16].tobytes()).encrypt_into(values, block)
        np.bitwise_xor(block, values, out=out[:, c])
    return out


def pads(values: U64, domain: bytes, width: int) -> NDArray[np.uint8]:
    """Return `width` bytes of every value that hide a label; arguments as in `stretch`.

    Returns:
        (n, width) uint8.
    """
    count = -(-width // 16)
    flat = stretch(values, domain, count).view(np.uint8).reshape(len(values), 16 * count)
    return np.ascontiguousarray(flat[:, :width])
