"""Cuckoo hashing without a stash: every key into one of its three bins, at most one key a bin.

Each of the three bins of a key lies in a third of its own, so a key never has one bin twice, and a bin tells which of
the three it is for its key.

Source: Pinkas, Schneider, Zohner, ACM TOPS 2018 (three hashes, 1.27 bins a key without a stash, failure 2^-40 from 2^12
keys on); Kolesnikov, Kumaresan, Rosulek, Trieu, ACM CCS 2016, section 5.
"""

import math

import numpy as np
from numpy.typing import NDArray

from atoll.crypto.aes import FixedKey, blocks
from atoll.crypto.jit import njit, read_only

U32 = NDArray[np.uint32]
I32 = NDArray[np.int32]
U64 = NDArray[np.uint64]

EXPANSION = 1.27
"""Bins a key for many keys."""

SPARE, FEW = 400, 4096
"""Below `FEW` keys: two bins a key and `SPARE` more; then a union bound over Hall's condition gives 2^-43."""

_PATIENCE = 100  # moves a key, on the average, before the walk gives up


class NotPlaceable(Exception):
    """These keys cannot be placed under this seed; another seed will do."""


def third(n: int) -> int:
    """Return the number of bins in each third for n keys."""
    return math.ceil(max(EXPANSION * n, 2 * min(n, FEW) + SPARE) / 3)


def bins_of(keys: U64, seed: bytes, size: int) -> U32:
    """Return the three bins of every key.

    Args:
        keys: (n, 2) uint64, hashed keys.
        seed: 16 public bytes, drawn when the keys were settled.
        size: Bins in a third, below 2^24.

    Returns:
        (n, 3) uint32; column i lies in [i·size, (i + 1)·size).
    """
    mixed, out = blocks(len(keys)), np.empty((len(keys), 3), np.uint32)
    FixedKey(seed).encrypt_into(keys, mixed)
    mixed ^= keys
    _bins(mixed, np.uint64(size), out)
    return out


def place(bins: U32, size: int) -> I32:
    """Place every key.

    Args:
        bins: (n, 3) uint32 from `bins_of`.
        size: Bins in a third.

    Returns:
        (3·size,) int32: the key in each bin, or −1.

    Raises:
        NotPlaceable: The keys need another seed.
    """
    table = np.full(3 * size, -1, np.int32)
    if not _walk(read_only(bins), table, _PATIENCE * (len(bins) + 100)):
        raise NotPlaceable
    return table


@njit
def _bins(mixed: U64, size: np.uint64, out: U32) -> None:
    low, forty = np.uint64((1 << 40) - 1), np.uint64(40)
    for i in range(mixed.shape[0]):
        first, second = mixed[i, 0], mixed[i, 1]
        rest = (first >> forty) | ((second >> forty) << np.uint64(24))
        out[i, 0] = np.uint32(((first & low) * size) >> forty)
        out[i, 1] = np.uint32((((second & low) * size) >> forty) + size)
        out[i, 2] = np.uint32((((rest & low) * size) >> forty) + size + size)


@njit
def _walk(bins: U32, table: I32, patience: int) -> bool:
    """Insert by a random walk: a key without a free bin drives another one out; which is no secret."""
    state = np.uint64(0x9E3779B97F4A7C15)
    for i in range(bins.shape[0]):
        key = np.int32(i)
        while key >= 0:
            free = np.int64(-1)
            for j in range(3):
                if table[bins[key, j]] < 0:
                    free = np.int64(bins[key, j])
                    break
            if free >= 0:
                table[free] = key
                break
            patience -= 1
            if patience < 0:
                return False
            state ^= state << np.uint64(13)
            state ^= state >> np.uint64(7)
            state ^= state << np.uint64(17)
            at = bins[key, np.int64((state >> np.uint64(33)) % np.uint64(3))]
            key, table[at] = table[at], key
    return True


def warm() -> None:
    """Compile this module's kernels."""
    place(bins_of(np.zeros((1, 2), np.uint64), bytes(16), 1), 1)
