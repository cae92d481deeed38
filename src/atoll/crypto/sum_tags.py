"""Tags that show whether a sum of vectors is the right one, to those who know a secret that the summer does not.

A tag of x is ⟨α, x⟩ modulo the prime 2^61 − 1 for a secret α; tags add up as vectors do.  A wrong sum fits the sum of
the tags with probability 2^-61; two tags with independent α are used.

Source: the linear authentication of Damgård, Pastro, Smart and Zakarias, CRYPTO 2012, with a shared key.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from atoll.crypto.aes import expand
from atoll.crypto.jit import njit, read_only
from atoll.crypto.random import Rng

U64 = NDArray[np.uint64]
Integers = NDArray[Any]  # int16 or int32

P = (1 << 61) - 1
TAGS = 2
WORDS = 3 * TAGS
"""Words of the tags of one vector: each is a number of 192 bits."""

_HIDING = 96  # bits of the random multiple of P that hides how often a sum of tags exceeds P


def evaluate(words: U64, bits: int, n: int, key: bytes) -> list[int]:
    """Return the tags of n numbers, each below 2^61 − 1.

    Args:
        words: The numbers in two's complement, packed as `word_ring.WordRing(bits)` has them.
        bits: 16, 32 or 192.
        n: How many numbers.
        key: 16 secret bytes: α, for one vector only.
    """
    alpha = expand(key, 8 * TAGS * n).view(np.uint64).reshape(n, TAGS)
    out = np.zeros(TAGS, np.uint64)
    if bits == 192:
        _wide(read_only(words), alpha, out)
    else:
        numbers: Integers = words.view(np.int32 if bits == 32 else np.int16)[:n]
        _narrow(read_only(numbers), alpha, out)
    return [int(tag) for tag in out]


def hidden(tags: list[int], rng: Rng) -> U64:
    """Return tags as words to be summed, (6,): each plus a random multiple of P, so that sums show no quotient."""
    numbers = [tag + P * int.from_bytes(rng.bytes(_HIDING // 8), "little") for tag in tags]
    return np.frombuffer(b"".join(number.to_bytes(24, "little") for number in numbers), np.uint64).copy()


def opened(words: U64) -> list[int]:
    """Return what a sum of hidden tags, (6,), stands for modulo P."""
    raw = words.tobytes()
    return [int.from_bytes(raw[at : at + 24], "little") % P for at in range(0, 24 * TAGS, 24)]


@njit(inline="always")
def _times(a: np.uint64, b: np.uint64) -> np.uint64:
    """Return a·b modulo P, not fully reduced below 2^61 + 1, for a, b up to P."""
    low = np.uint64(0xFFFFFFFF)
    a0, a1, b0, b1 = a & low, a >> np.uint64(32), b & low, b >> np.uint64(32)
    middle = a0 * b1 + a1 * b0  # below 2^62
    # a·b = a1·b1·2^64 + middle·2^32 + a0·b0, where 2^64 is 8 and 2^61 is 1
    part = (a1 * b1) * np.uint64(8) + (middle >> np.uint64(29)) + ((middle & np.uint64(0x1FFFFFFF)) << np.uint64(32))
    return _fold(_fold(part) + _fold(a0 * b0))


@njit(inline="always")
def _fold(x: np.uint64) -> np.uint64:
    return (x & np.uint64(P)) + (x >> np.uint64(61))


@njit
def _wide(words: U64, alpha: U64, out: U64) -> None:
    p = np.uint64(P)
    for i in range(alpha.shape[0]):
        a, b, c = words[3 * i], words[3 * i + 1], words[3 * i + 2]
        # 2^64, 2^128 and −2^192 are 8, 64 and −512
        x = _fold(a) % p + _times(_fold(b) % p, np.uint64(8)) + _times(_fold(c) % p, np.uint64(64))
        if c >> np.uint64(63) == np.uint64(1):
            x += p - np.uint64(512)
        for t in range(out.size):
            out[t] = (out[t] + _times(x % p, _fold(alpha[i, t]) % p)) % p


@njit
def _narrow(numbers: Integers, alpha: U64, out: U64) -> None:
    p = np.uint64(P)
    for i in range(alpha.shape[0]):
        x = np.uint64(np.int64(numbers[i]) + np.int64(P)) % p
        for t in range(out.size):
            out[t] = (out[t] + _times(x, _fold(alpha[i, t]) % p)) % p


def warm() -> None:
    """Compile this module's kernels."""
    words = np.zeros(3, np.uint64)
    for bits in (16, 32, 192):
        evaluate(words, bits, 1, bytes(16))
