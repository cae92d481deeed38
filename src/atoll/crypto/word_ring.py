"""Vectors of integers modulo 2^16, 2^32 or 2^192, in whole 64-bit words: added, masked, and nothing else.

A vector travels and is masked as (m,) uint64, little-endian: four numbers of 16 bits a word, two of 32, or three words
a number of 192 bits.  Sums are exact and do not depend on their order.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from atoll.crypto.aes import Streams
from atoll.crypto.jit import njit, read_only

U64 = NDArray[np.uint64]
Word = TypeVar("Word", np.uint16, np.uint32)

_CACHE = 1 << 15  # words of all masks together that are made before they are added: they stay in the cache
_UNIT = 3  # pieces are cut at whole numbers of 192 bits


@dataclass(frozen=True)
class WordRing:
    """Integers modulo 2^bits.

    Attributes:
        bits: 16, 32 or 192.
    """

    bits: int

    def __post_init__(self) -> None:
        """Refuse widths without a kernel."""
        if self.bits not in (16, 32, 192):
            raise ValueError(f"numbers of a sum have 16, 32 or 192 bits, got {self.bits}")

    def words(self, n: int) -> int:
        """Return how many 64-bit words n numbers take."""
        return 3 * n if self.bits == 192 else -(-n * self.bits // 64)

    def add(self, acc: U64, other: U64) -> None:
        """Add a vector to `acc`, both (m,) uint64 in whole numbers."""
        other = read_only(other)
        if self.bits == 192:
            _add_wide(acc, other)
        elif self.bits == 32:
            _add_words(acc.view(np.uint32), read_only(other.view(np.uint32)))
        else:
            _add_words(acc.view(np.uint16), read_only(other.view(np.uint16)))

    def mask(self, acc: U64, masks: Masks) -> None:
        """Add the next words of every mask to `acc`, (m,) uint64 in whole numbers; subtract the negative ones."""
        step = max(_CACHE // max(len(masks.negative), 1) // _UNIT, 64) * _UNIT
        for at in range(0, acc.size if len(masks.negative) else 0, step):
            part = acc[at : at + step]
            streams = masks.streams.next(part.size)
            if self.bits == 192:
                _mask_wide(part, streams, masks.negative)
            elif self.bits == 32:
                _mask_words(part.view(np.uint32), streams.view(np.uint32), masks.negative)
            else:
                _mask_words(part.view(np.uint16), streams.view(np.uint16), masks.negative)


class Masks:
    """Pseudorandom vectors that are added to a vector, or taken from it, piece by piece.

    Args:
        keys: One key of 16 bytes for each mask; a key is good for one vector.
        negative: Whether a mask is subtracted.
    """

    def __init__(self, keys: Sequence[bytes], negative: Sequence[bool]) -> None:
        self.streams = Streams(np.frombuffer(b"".join(keys), np.uint8))
        self.negative = np.array(negative, np.bool_)

    def __repr__(self) -> str:
        return f"Masks({len(self.negative)})"  # the keys are secret


@njit
def _add_words(acc: NDArray[Word], other: NDArray[Word]) -> None:
    for i in range(acc.size):
        acc[i] += other[i]


@njit
def _add_wide(acc: U64, other: U64) -> None:
    for i in range(0, acc.size, 3):
        carry = np.uint64(0)
        for limb in range(3):
            a, b = acc[i + limb], other[i + limb]
            low = a + b
            total = low + carry
            carry = np.uint64(low < a) | np.uint64(total < low)
            acc[i + limb] = total


@njit
def _mask_words(acc: NDArray[Word], streams: NDArray[Word], negative: NDArray[np.bool_]) -> None:
    for k in range(streams.shape[0]):
        if negative[k]:
            for i in range(acc.size):
                acc[i] -= streams[k, i]
        else:
            for i in range(acc.size):
                acc[i] += streams[k, i]


@njit
def _mask_wide(acc: U64, streams: U64, negative: NDArray[np.bool_]) -> None:
    for k in range(streams.shape[0]):
        # −m = (2^192 − 1 − m) + 1
        flip = np.uint64(0xFFFFFFFFFFFFFFFF) if negative[k] else np.uint64(0)
        for i in range(0, acc.size, 3):
            carry = np.uint64(negative[k])
            for limb in range(3):
                a, b = acc[i + limb], streams[k, i + limb] ^ flip
                low = a + b
                total = low + carry
                carry = np.uint64(low < a) | np.uint64(total < low)
                acc[i + limb] = total


def warm() -> None:
    """Compile this module's kernels."""
    for bits in (16, 32, 192):
        acc = np.zeros(3, np.uint64)
        WordRing(bits).add(acc, np.ones(3, np.uint64))
        WordRing(bits).mask(acc, Masks([bytes(16)], [True]))
