"""Texts of any length to 128-bit words, many at once: CBC-MAC under a key drawn when the texts were settled.

The length of a text stands before it, so no text continues another.  Two given texts collide with a probability below
(blocks)² / 2^127 over the key.  Whoever knows the key can make collisions, so the key comes after the texts; where a
site might choose its texts to collide, `digest_texts` gives 256 bits that resist it.

Source: Bellare, Kilian, Rogaway, "The security of the cipher block chaining message authentication code", JCSS 2000;
SHA-256: NIST FIPS 180-4.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain, pairwise

import numpy as np
from numpy.typing import NDArray

from atoll.crypto.aes import FixedKey, blocks
from atoll.crypto.jit import njit, read_only

U64 = NDArray[np.uint64]
I64 = NDArray[np.int64]

_JOIN = 1024
"""Texts to join at a time: Python keeps 80 bytes for each while it joins."""


@dataclass(frozen=True)
class Texts:
    """Many texts one after the other, without an object for each.

    Attributes:
        text: (bytes,) uint8; there may be more behind the last text.
        starts: (n + 1,) int64; text i is text[starts[i] : starts[i + 1]].
    """

    text: NDArray[np.uint8]
    starts: I64

    @classmethod
    def of(cls, items: Sequence[bytes]) -> Texts:
        """Join texts, with the room behind them that hashing wants."""
        starts = np.zeros(len(items) + 1, np.int64)
        np.cumsum(np.fromiter(map(len, items), np.int64, len(items)), out=starts[1:])
        end = bytes(16 - int(starts[-1]) % 8)
        pieces = (b"".join(items[lo : lo + _JOIN]) for lo in range(0, len(items), _JOIN))
        return cls(np.frombuffer(b"".join(chain(pieces, (end,))), np.uint8), starts)

    def __len__(self) -> int:
        return len(self.starts) - 1

    def items(self) -> list[bytes]:
        """Return the texts as objects; for few of them."""
        whole = self.text.tobytes()
        return [whole[lo:hi] for lo, hi in pairwise(self.starts.tolist())]


def hash_items(items: Sequence[bytes], key: bytes) -> U64:
    """Return the hash of every item, as `hash_texts` does."""
    return hash_texts(Texts.of(items), key)


def hash_texts(texts: Texts, key: bytes) -> U64:
    """Return the hash of every text.

    Args:
        texts: n texts.
        key: 16 bytes that both sides know, drawn after the texts were settled.

    Returns:
        (n, 2) uint64.
    """
    n, starts, words = len(texts), texts.starts, _whole_words(texts)
    lengths, cipher, state = np.diff(starts), FixedKey(key), blocks(n)
    state[:, 0], state[:, 1] = lengths.view(np.uint64), 0
    cipher.encrypt_into(state, state)
    for block in range(int((lengths.max(initial=0) + 15) // 16)):
        longer = np.flatnonzero(lengths > 16 * block)
        if len(longer) == n:
            _mix(words, starts, block, state)
            cipher.encrypt_into(state, state)
        else:
            part = blocks(len(longer))
            part[:] = state[longer]
            _mix_some(words, starts, longer, block, part)
            cipher.encrypt_into(part, part)
            state[longer] = part
    return state


def digest_texts(texts: Texts, key: bytes) -> U64:
    """Return SHA-256 of the key and every text, (n, 4) uint64: nobody can find two texts with one digest.

    Args:
        texts: n texts.
        key: 16 bytes that both sides know.
    """
    begun, whole, out = hashlib.sha256(key), texts.text.data, bytearray()
    for lo, hi in pairwise(texts.starts.tolist()):
        one = begun.copy()
        one.update(whole[lo:hi])
        out += one.digest()
    return np.frombuffer(out, np.uint64).reshape(-1, 4)


def _whole_words(texts: Texts) -> U64:
    """Return the text as words, with at least one whole word behind the last text."""
    end, text = int(texts.starts[-1]), texts.text
    if text.size % 8 or text.size < end // 8 * 8 + 16 or text.ctypes.data % 8:
        text = np.zeros(end // 8 * 8 + 16, np.uint8)
        text[:end] = texts.text[:end]
    return read_only(text).view(np.uint64)


def repeated(hashed: U64) -> int:
    """Return how many of the hashes (n, w) repeat an earlier one."""
    return len(hashed) - int(np.count_nonzero(first_of_each(hashed)))


def first_of_each(hashed: U64) -> NDArray[np.bool_]:
    """Return which of the hashes (n, w) stand where they appear first, (n,)."""
    out = np.empty(len(hashed), np.bool_)
    _firsts(read_only(hashed), _slots(len(hashed)), out)
    return out


def join(x: U64, y: U64) -> tuple[I64, I64]:
    """Return the places of equal words in x and in y.

    Args:
        x: (n, 2) uint64 that look random, each once.
        y: (m, 2) uint64.

    Returns:
        Places in x and in y, in the order of y; a word that y holds twice is there twice.
    """
    at_x, at_y = np.empty(len(y), np.int64), np.empty(len(y), np.int64)
    count = _join(read_only(x), read_only(y), _slots(len(x)), at_x, at_y)
    return at_x[:count], at_y[:count]


def _slots(n: int) -> NDArray[np.uint32]:
    return np.zeros(1 << max(1, (2 * n).bit_length()), np.uint32)


@njit
def _word(text: U64, start: int, end: int) -> np.uint64:
    """Return up to 8 bytes from `start` on, and zeros from `end` on."""
    if start >= end:
        return np.uint64(0)
    at, shift = start >> 3, np.uint64(8 * (start & 7))
    word: np.uint64 = text[at] >> shift
    if shift != np.uint64(0):
        word |= text[at + 1] << (np.uint64(64) - shift)
    if end - start < 8:
        word &= (np.uint64(1) << np.uint64(8 * (end - start))) - np.uint64(1)
    return word


@njit
def _mix(text: U64, starts: I64, block: int, state: U64) -> None:
    for i in range(state.shape[0]):
        start, end = starts[i] + 16 * block, starts[i + 1]
        state[i, 0] ^= _word(text, start, end)
        state[i, 1] ^= _word(text, start + 8, end)


@njit
def _mix_some(text: U64, starts: I64, which: I64, block: int, state: U64) -> None:
    for k in range(which.size):
        start, end = starts[which[k]] + 16 * block, starts[which[k] + 1]
        state[k, 0] ^= _word(text, start, end)
        state[k, 1] ^= _word(text, start + 8, end)


@njit
def _firsts(x: U64, slots: NDArray[np.uint32], out: NDArray[np.bool_]) -> None:
    mask = np.uint64(slots.size - 1)
    for i in range(x.shape[0]):
        at = x[i, 0] & mask
        out[i] = True
        while slots[at] != 0:
            j = np.int64(slots[at]) - 1
            same = True
            for w in range(x.shape[1]):
                same &= x[j, w] == x[i, w]
            if same:
                out[i] = False
                break
            at = (at + np.uint64(1)) & mask
        else:
            slots[at] = np.uint32(i + 1)


@njit
def _join(x: U64, y: U64, slots: NDArray[np.uint32], at_x: I64, at_y: I64) -> int:
    mask, count = np.uint64(slots.size - 1), 0
    for i in range(x.shape[0]):
        at = x[i, 0] & mask
        while slots[at] != 0:
            at = (at + np.uint64(1)) & mask
        slots[at] = np.uint32(i + 1)
    for i in range(y.shape[0]):
        at = y[i, 0] & mask
        while slots[at] != 0:
            j = np.int64(slots[at]) - 1
            if x[j, 0] == y[i, 0] and x[j, 1] == y[i, 1]:
                at_x[count], at_y[count] = j, i
                count += 1
                break
            at = (at + np.uint64(1)) & mask
    return count


def warm() -> None:
    """Compile this module's kernels."""
    found = hash_items([b"a", b"b" * 17], bytes(16))
    repeated(found)
    join(found, found)
