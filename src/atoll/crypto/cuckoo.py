"""Hashing items into bins: at most one of the receiver's in each, and the sender's in all three where it might be.

Every item has one bin in each third.  A site puts each of its items into one of its three bins, moving others on
(cuckoo hashing, no stash); whoever looks for an item finds it in one of three.

Source: Pinkas, Schneider, Tkachenko, Yanai, EUROCRYPT 2019 (three bins without a stash, 1.27 bins for each item).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from atoll.crypto import item_hash
from atoll.crypto.jit import njit, read_only

I64 = NDArray[np.int64]

EXPANSION = 1.27
"""Bins for each item of a large set."""

_MOVES = 1 << 10
"""Moves after which an item is said not to fit."""


class DoesNotFit(Exception):
    """Some item found no bin under this key; another key will do."""


def third(n: int) -> int:
    """Return the number of bins in each third, for n items.

    In small sets the danger are 4 items with the same 3 bins: n^4 / 24 · (27 / m^3)^3 is kept below 2^-40.
    """
    small = (820 * 2.0**40 * float(max(n, 1)) ** 4) ** (1 / 9)
    return max(1, math.ceil(max(EXPANSION * n, small if n > 3 else n) / 3))


def candidates(items: Sequence[bytes], key: bytes, size: int) -> I64:
    """Return every item's bins, (n, 3) int64, one in each third.

    Args:
        items: n items.
        key: 16 bytes that both sides know, drawn after the items were settled.
        size: Bins of a third, below 2^32.
    """
    parts = item_hash.hash_items(items, key).view(np.uint32).reshape(-1, 4)[:, :3].astype(np.uint64)
    within = (parts * np.uint64(size)) >> np.uint64(32)
    return within.astype(np.int64) + np.arange(3, dtype=np.int64) * size


def place(bins: I64, size: int) -> I64:
    """Put every item into one of its bins.

    Args:
        bins: From `candidates`, (n, 3).
        size: Bins of a third.

    Returns:
        (3 size,) int64: the item in each bin, −1 where there is none.

    Raises:
        DoesNotFit: An item found no bin.
    """
    table = np.full(3 * size, -1, np.int64)
    if not _place(read_only(np.ascontiguousarray(bins)), table, _MOVES):
        raise DoesNotFit("an item found no bin")
    return table


@njit
def _place(bins: I64, table: I64, moves: int) -> bool:
    turn = np.zeros(bins.shape[0], np.uint8)  # which of its bins an item tries next
    for first in range(bins.shape[0]):
        item = first
        for _ in range(moves):
            free = -1
            for j in range(3):
                if table[bins[item, j]] < 0:
                    free = bins[item, j]
                    break
            if free >= 0:
                table[free] = item
                item = -1
                break
            b = bins[item, turn[item]]
            turn[item] = (turn[item] + 1) % 3
            item, table[b] = table[b], item
        if item >= 0:
            return False
    return True


def warm() -> None:
    """Compile this module's kernels."""
    place(candidates([b""], bytes(16), 1), 1)
