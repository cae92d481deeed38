"""An oblivious key-value store: n keys with values become m words, and a key's value is the XOR of a few of them.

Keys fall into bins that fit a core's cache.  Within its bin a key decodes to the XOR of three words of the sparse part,
one in each third, and of some of the `DENSE` last words.  Encoding peels: a place that one key alone uses settles that
key, and so on.  What peeling leaves, mostly nothing, is solved by elimination with the dense words.

Source: Garimella, Pinkas, Rosulek, Trieu, Yanai, CRYPTO 2021 (peeling); Raghuraman and Rindal, ACM CCS 2022, section 3
(three places a key, number of words, bins), with a margin.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from atoll.crypto.aes import FixedKey, blocks, expand
from atoll.crypto.jit import njit, read_only

U32 = NDArray[np.uint32]
U64 = NDArray[np.uint64]
I64 = NDArray[np.int64]

DENSE = 48
"""Words of a bin's dense part: 40 for a failure below 2^-40, and more than the columns that a peeled core may lack."""

MARGIN = 0.01
"""Added to the published number of words for each key."""

BIN = 1 << 14
"""Keys of a bin on the average: its words and counters fit a second-level cache."""

FAILURE = 40
"""A store cannot be encoded with probability below 2^-FAILURE; then another seed is drawn."""

_BYTES = DENSE // 8


class NotEncodable(Exception):
    """These keys cannot be encoded under this seed; another seed will do."""


def bin_capacity(mean: float, bins: int) -> int:
    """Return how many keys a bin must hold, so that any of the bins overflows with probability below 2^-FAILURE.

    Args:
        mean: Keys that fall into the fullest bin on the average.
        bins: Number of bins, each of which may overflow.

    Source:
        Chernoff's bound P(X ≥ mean + d) ≤ exp(-d² / (2 mean + 2d / 3)), Bernstein's form, and the union over the bins.
    """
    tail = FAILURE * math.log(2) + math.log(bins)
    return math.ceil(mean + tail / 3 + math.sqrt(tail**2 / 9 + 2 * mean * tail))


@dataclass(frozen=True)
class Shape:
    """Sizes of a store; public, and the same whatever the keys are.

    Args:
        keys: n, at least 1.
    """

    keys: int

    @cached_property
    def bins(self) -> int:
        """Number of bins."""
        return max(1, self.keys // BIN)

    @cached_property
    def capacity(self) -> int:
        """Most keys of a bin: more fall into one with probability below 2^-FAILURE (Chernoff's bound)."""
        if self.bins == 1:
            return self.keys
        return bin_capacity(self.keys / self.bins, self.bins)

    @cached_property
    def third(self) -> int:
        """Words in each third of a bin's sparse part."""
        slope = 2 ** (0.555 * math.log2(self.capacity) + 2.336)
        expansion = (FAILURE + 9.2 + math.log2(self.bins)) / slope + 1.223 + MARGIN
        return math.ceil(expansion * self.capacity / 3) + 1

    @property
    def width(self) -> int:
        """Words of a bin."""
        return 3 * self.third + DENSE

    @property
    def words(self) -> int:
        """m, words in all."""
        return self.bins * self.width


@dataclass(frozen=True)
class Places:
    """Where keys are stored, bin by bin.

    Attributes:
        order: (n,) int64, index of the key at each position of the arrays below.
        starts: (bins + 1,) int64, where each bin's keys begin.
        at: (n, 3) uint32, places in the bin's sparse part.
        dense: (n,) uint64, bits of the dense words that count.
        keys: (n, 2) uint64, the keys.
        hashed: (n, 2) uint64, a hash of each key for the caller's use.
        shape: Sizes.
    """

    order: I64
    starts: I64
    at: U32
    dense: U64
    keys: U64
    hashed: U64
    shape: Shape


def places(seed: bytes, keys: U64, shape: Shape, rest: U64 | None = None) -> Places:
    """Find where keys are stored.

    Args:
        seed: 16 public bytes, drawn when the keys were settled.
        keys: (n, 2) uint64, hashed keys; any number of them.
        shape: Sizes of the store.
        rest: (n, 2) uint64, what `Places.hashed` is made of; the keys if left out.
    """
    n, first, second = len(keys), blocks(len(keys)), blocks(len(keys))
    schedule, rest = expand(seed, 32).tobytes(), keys if rest is None else rest
    FixedKey(schedule[:16]).encrypt_into(keys, first)
    FixedKey(schedule[16:]).encrypt_into(rest, second)
    starts, order = np.zeros(shape.bins + 1, np.int64), np.empty(n, np.int64)
    at, dense = np.empty((n, 3), np.uint32), np.empty(n, np.uint64)
    sorted_, hashed = np.empty((n, 2), np.uint64), np.empty((n, 2), np.uint64)
    second ^= rest
    _places(read_only(keys), first, second, shape.bins, shape.third, starts, order, at, dense, sorted_, hashed)
    return Places(order, starts, at, dense, sorted_, hashed, shape)


def encode(found: Places, values: U64) -> U64:
    """Return the words, (m,) uint64, that decode to the values; words that no key needs are zero.

    Args:
        found: Places of n keys, each once.
        values: (n,) uint64, in the places' order.

    Raises:
        NotEncodable: Another seed is needed, or a key stands twice.
    """
    shape, n = found.shape, len(values)
    if int(np.diff(found.starts).max()) > shape.capacity:
        raise NotEncodable("a bin overflows")
    out, sparse = np.zeros((shape.bins, shape.width), np.uint64), 3 * shape.third
    order, slot, peeled = np.empty(n, np.uint32), np.empty(n, np.uint32), np.zeros(shape.bins, np.int64)
    _peel_and_settle(found.at, values, found.starts, sparse, order, slot, peeled, out)
    for bin_ in np.flatnonzero(peeled < np.diff(found.starts)):
        lo, hi = int(found.starts[bin_]), int(found.starts[bin_ + 1])
        part, settled = slice(lo, hi), slice(lo, lo + int(peeled[bin_]))
        core = np.setdiff1d(np.arange(hi - lo), order[settled])
        _solve_core(found.at[part], found.dense[part], values[part], core, sparse, out[bin_])
        tables = dense_tables(out[bin_, sparse:, np.newaxis])
        _settle_above_core(
            found.at[part], found.dense[part], values[part], order[settled], slot[settled], tables, out[bin_]
        )
    return out.reshape(-1)


def decode(found: Places, words: U64) -> U64:
    """Return the values of keys, (n, 2) uint64 in the places' order, from words (m, 2)."""
    shape, out = found.shape, np.empty((len(found.at), 2), np.uint64)
    binned = read_only(words.reshape(shape.bins, shape.width, 2))
    _decode(found.at, found.dense, found.starts, binned, 3 * shape.third, out)
    return out


def dense_tables(words: U64) -> U64:
    """Return the XOR of every subset of each 8 dense words, (DENSE / 8, 256, w)."""
    tables = np.zeros((_BYTES, 256, words.shape[1]), np.uint64)
    for byte in range(_BYTES):
        for bit in range(8):
            tables[byte, 1 << bit : 2 << bit] = tables[byte, : 1 << bit] ^ words[8 * byte + bit]
    return tables


def _solve_core(at: U32, dense: U64, values: U64, core: I64, sparse: int, out: U64) -> None:
    """Solve the keys of a bin that peeling left, by elimination over their own sparse places and the dense words."""
    used = np.unique(at[core])
    column = {int(place): number for number, place in enumerate(used)}
    width = len(used) + DENSE
    rows = np.zeros((len(core), width + 64), np.bool_)
    for row, key in enumerate(core):
        for place in at[key]:
            rows[row, column[int(place)]] = True
        rows[row, len(used) : width] = (int(dense[key]) >> np.arange(DENSE)) & 1
        rows[row, width:] = np.unpackbits(values[key : key + 1].view(np.uint8), bitorder="little")
    found = np.concatenate((used, sparse + np.arange(DENSE)))
    for row in range(len(rows)):
        ones = np.flatnonzero(rows[row, :width])
        if not len(ones):
            raise NotEncodable("a key stands twice, or the dense part is too small for this seed")
        others = rows[:, ones[0]].copy()
        others[row] = False
        rows[others] ^= rows[row]
    for solved in rows:
        place = found[np.flatnonzero(solved[:width])[0]]
        out[place] = np.packbits(solved[width:], bitorder="little").view(np.uint64)[0]


@njit
def _places(
    keys: U64,
    first: U64,
    second: U64,
    bins: int,
    third: int,
    starts: I64,
    order: I64,
    at: U32,
    dense: U64,
    sorted_: U64,
    hashed: U64,
) -> None:
    """Sort keys into bins by counting, and write what `Places` holds; `first` is AES(key), `second` the hashes."""
    size, low, bits, some = np.uint64(third), np.uint64(0x1FFFFF), np.uint64(21), np.uint64(0xFFFF)
    many = np.uint64(bins)
    for i in range(keys.shape[0]):
        b = (((first[i, 1] ^ keys[i, 1]) & some) * many) >> np.uint64(16)
        starts[np.int64(b) + 1] += 1
    for b in range(bins):
        starts[b + 1] += starts[b]
    free = starts[:-1].copy()
    for i in range(keys.shape[0]):
        word, rest = first[i, 0] ^ keys[i, 0], first[i, 1] ^ keys[i, 1]
        b = np.int64(((rest & some) * many) >> np.uint64(16))
        q = free[b]
        free[b] += 1
        order[q] = i
        at[q, 0] = np.uint32(((word & low) * size) >> bits)
        at[q, 1] = np.uint32(size + ((((word >> bits) & low) * size) >> bits))
        at[q, 2] = np.uint32(size + size + ((((word >> (bits + bits)) & low) * size) >> bits))
        dense[q] = rest >> np.uint64(16)
        sorted_[q, 0], sorted_[q, 1] = keys[i, 0], keys[i, 1]
        hashed[q, 0], hashed[q, 1] = second[i, 0], second[i, 1]


@njit
def _peel_and_settle(
    at: U32, values: U64, starts: I64, sparse: int, order: U32, slot: U32, peeled: I64, out: U64
) -> None:
    """Encode every bin that peels to the end; write how many keys of each bin peel, and in which order."""
    degree, mixed, stack = np.empty(sparse, np.uint32), np.empty(sparse, np.uint32), np.empty(sparse, np.uint32)
    one = np.uint32(1)
    for b in range(out.shape[0]):
        lo, hi = starts[b], starts[b + 1]
        degree[:], mixed[:] = np.uint32(0), np.uint32(0)
        for i in range(lo, hi):
            for j in range(3):
                degree[at[i, j]] += one
                mixed[at[i, j]] ^= np.uint32(i - lo)
        top, done = 0, lo
        for x in range(sparse):
            if degree[x] == one:
                stack[top] = np.uint32(x)
                top += 1
        while top > 0:
            top -= 1
            x = stack[top]
            if degree[x] != one:
                continue
            i = mixed[x]
            order[done], slot[done] = i, x
            done += 1
            for j in range(3):
                y = at[lo + i, j]
                degree[y] -= one
                mixed[y] ^= i
                if degree[y] == one:
                    stack[top] = y
                    top += 1
        peeled[b] = done - lo
        if done == hi:
            row = out[b]
            for q in range(hi - 1, lo - 1, -1):
                i = lo + order[q]
                row[slot[q]] = values[i] ^ row[at[i, 0]] ^ row[at[i, 1]] ^ row[at[i, 2]]


@njit
def _settle_above_core(at: U32, dense: U64, values: U64, order: U32, slot: U32, tables: U64, out: U64) -> None:
    """Set the settling places of one bin in reverse order of peeling, when core and dense words are known."""
    for q in range(order.size - 1, -1, -1):
        i = order[q]
        value = values[i] ^ out[at[i, 0]] ^ out[at[i, 1]] ^ out[at[i, 2]]  # the settling place is still zero
        for byte in range(tables.shape[0]):
            value ^= tables[byte, (dense[i] >> np.uint64(8 * byte)) & np.uint64(255), 0]
        out[slot[q]] = value


@njit
def _decode(at: U32, dense: U64, starts: I64, words: U64, sparse: int, out: U64) -> None:
    tables = np.zeros((6, 256, 2), np.uint64)
    for b in range(words.shape[0]):
        row = words[b]
        for byte in range(6):
            for bit in range(8):
                step = 1 << bit
                for k in range(step):
                    tables[byte, step + k, 0] = tables[byte, k, 0] ^ row[sparse + 8 * byte + bit, 0]
                    tables[byte, step + k, 1] = tables[byte, k, 1] ^ row[sparse + 8 * byte + bit, 1]
        for i in range(starts[b], starts[b + 1]):
            a0 = row[at[i, 0], 0] ^ row[at[i, 1], 0] ^ row[at[i, 2], 0]
            a1 = row[at[i, 0], 1] ^ row[at[i, 1], 1] ^ row[at[i, 2], 1]
            bits = dense[i]
            for byte in range(6):
                k = (bits >> np.uint64(8 * byte)) & np.uint64(255)
                a0 ^= tables[byte, k, 0]
                a1 ^= tables[byte, k, 1]
            out[i, 0], out[i, 1] = a0, a1


def warm() -> None:
    """Compile this module's kernels."""
    found = places(bytes(16), np.zeros((1, 2), np.uint64), Shape(1))
    words = encode(found, np.zeros(1, np.uint64))
    decode(found, np.stack((words, words), axis=1))
    nothing = np.empty(0, np.uint32)
    _settle_above_core(
        found.at, found.dense, found.dense, nothing, nothing, dense_tables(words[-DENSE:, np.newaxis]), words
    )
