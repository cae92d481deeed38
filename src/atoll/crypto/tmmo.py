"""Pads from oblivious-transfer strings by TMMO, the tweaked hash of one fixed-key AES.

block_c(j) = π(π(x_j) ⊕ (j‖c)) ⊕ π(x_j), where j is the transfer's 64-bit running index and c counts the blocks of one
pad.  Every (j, c) occurs once in a session and direction, so no pad is ever used twice.

Where the processor has AES instructions, `sender_corrections`, `receiver_sum` and `hash_blocks` make each pad inside
one compiled loop.  Elsewhere, and in the other functions, strings are worked through in chunks that stay in the
second-level cache: one pass fills the inner blocks, one call to OpenSSL encrypts them, one pass takes the pads.

Source: Guo, Katz, Wang, Yu, "Efficient and secure multiparty computation from fixed-key block ciphers", IEEE S&P 2020,
section 7.4.
"""

from collections.abc import Iterator
from functools import cache
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from atoll.crypto import aes_kernel
from atoll.crypto.aes import FixedKey, blocks
from atoll.crypto.jit import njit, read_only

Word = TypeVar("Word", np.uint32, np.uint64)
Strings = NDArray[np.uint64]
Words = NDArray[Any]

FIXED_KEY = bytes.fromhex("26cc33a046a34310799161e0102700f5")
"""Public: the first 16 bytes of SHA-256("atoll/tmmo/v1")."""

_CHUNK_BLOCKS = 1 << 15  # 512 kB of pads at a time; smaller chunks cost more in calls than they save in cache


def pad_rows(x: Strings, first: int, words: int, dtype: type[Word]) -> NDArray[Word]:
    """Return the pads of some strings, one row each.

    Args:
        x: Strings x_j, (n, 2) uint64.
        first: Running index of the first string; the others follow.
        words: Words in each pad.
        dtype: np.uint32 or np.uint64.

    Returns:
        Pads, (n, words).
    """
    out = np.empty((len(x), words), dtype)
    for rows, key, pads in _pads(x[np.newaxis], first, words, dtype):
        _copy(key, pads, out[rows])
    return out


def pad_sum(x: Strings, first: int, words: int, dtype: type[Word]) -> NDArray[Word]:
    """Return the sum of the pads of some strings, modulo 2^32 or 2^64; arguments as in `pad_rows`.

    Returns:
        The sum over j of pad_j, (words,).
    """
    total = np.zeros(words, dtype)
    for _, key, pads in _pads(x[np.newaxis], first, words, dtype):
        _add(key, pads, total)
    return total


def sender_corrections(
    q: Strings, delta: NDArray[np.uint64], first: int, rows: NDArray[Word]
) -> tuple[NDArray[Word], NDArray[Word]]:
    """Let a receiver learn Σ pad_j + Σ_{j: r_j = 1} rows_j, and nothing else, where r_j are its choices.

    Args:
        q: The sender's strings, (N, 2) uint64.
        delta: The sender's offset, (2,) uint64.
        first: Running index of the first string.
        rows: What a choice of one adds, (N, words) uint32 or uint64, contiguous: the transpose of a hint.

    Returns:
        Σ pad_j over the pads of q_j, (words,), which the sender keeps; and the corrections
        pad_j + rows_j − pad′_j, (N, words), which it sends, pad′_j being the pad of q_j ⊕ delta.
    """
    words = rows.shape[1]
    total, out = np.zeros(words, rows.dtype), np.empty_like(rows)
    both = np.stack((q, q ^ delta))
    if aes_kernel.available():
        key = _inner_keys(both)
        room, row = _row_room(2, words, rows.dtype.type)
        views = row, key.view(rows.dtype)
        _correct_inside(key, np.uint64(first), _schedule(), room, *views, rows, total, out)
        return total, out
    for at, key, pads in _pads(both, first, words, rows.dtype.type):
        _correct(key, pads, rows[at], total, out[at])
    return total, out


def receiver_sum(t: Strings, choices: NDArray[np.uint8], first: int, corrections: NDArray[Word]) -> NDArray[Word]:
    """Return what `sender_corrections` lets the receiver learn.

    Args:
        t: The receiver's strings, (N, 2) uint64.
        choices: Its choices r_j, (N,), each 0 or 1; time and memory access do not depend on them.
        first: Running index of the first string.
        corrections: What the sender sent, (N, words).

    Returns:
        Σ pad_j + Σ_{j: r_j = 1} rows_j, (words,).
    """
    words, dtype = corrections.shape[1], corrections.dtype.type
    total = np.zeros(words, dtype)
    chosen = dtype(0) - choices.astype(dtype)  # all bits set where the choice is one
    if aes_kernel.available():
        key = _inner_keys(t[np.newaxis])
        room, row = _row_room(1, words, dtype)
        views = row, key.view(dtype)
        _add_chosen_inside(key, np.uint64(first), _schedule(), room, *views, read_only(corrections), chosen, total)
        return total
    for at, key, pads in _pads(t[np.newaxis], first, words, dtype):
        _add_chosen(key, pads, read_only(corrections[at]), chosen[at], total)
    return total


def hash_blocks(x: Strings, first: int, counter: int = 0) -> Strings:
    """Return block number `counter` of every string's pad.

    Args:
        x: Strings, (n, 2) uint64.
        first: Running index of the first.
        counter: c, the number of the block inside the pad.

    Returns:
        Blocks, (n, 2) uint64.
    """
    if aes_kernel.available():
        out = np.empty((len(x), 2), np.uint64)
        _hash_inside(np.ascontiguousarray(x), np.uint64(first), np.uint64(counter), _schedule(), out)
        return out
    key, out = blocks(len(x)), blocks(len(x))
    pi = FixedKey(FIXED_KEY)
    pi.encrypt_into(np.ascontiguousarray(x), key)
    _fill(key[np.newaxis], np.uint64(first), np.uint64(counter), out.reshape(1, -1, 1, 2))
    pi.encrypt_into(out, out)
    out ^= key
    return out


def _pads(x: Strings, first: int, words: int, dtype: type[Word]) -> Iterator[tuple[slice, Words, Words]]:
    """Yield chunks: rows (a slice), π(x_j) as (s, rows, 2), and pads before the last XOR as (s, rows, words up)."""
    s, n, _ = x.shape
    width = -(-words * np.dtype(dtype).itemsize // 16)
    step = max(1, _CHUNK_BLOCKS // max(1, s * width))
    room, keys = blocks(s * min(step, n) * width), blocks(s * min(step, n))
    pi = FixedKey(FIXED_KEY)
    for lo in range(0, n, step):
        hi = min(lo + step, n)
        key = keys[: s * (hi - lo)]
        pi.encrypt_into(np.ascontiguousarray(x[:, lo:hi]), key)
        key, chunk = key.reshape(s, hi - lo, 2), room[: s * (hi - lo) * width]
        _fill(key, np.uint64(first + lo), np.uint64(0), chunk.reshape(s, hi - lo, width, 2))
        pi.encrypt_into(chunk, chunk)
        yield slice(lo, hi), key.view(dtype), chunk.view(dtype).reshape(s, hi - lo, -1)


@cache
def _schedule() -> NDArray[np.uint64]:
    return aes_kernel.schedule(FIXED_KEY)


def _inner_keys(x: Strings) -> Strings:
    """Return π(x_j) for strings (s, n, 2)."""
    out = blocks(x.shape[0] * x.shape[1]).reshape(x.shape)
    FixedKey(FIXED_KEY).encrypt_into(np.ascontiguousarray(x), out)
    return out


def _row_room(s: int, words: int, dtype: type[Word]) -> tuple[NDArray[np.uint64], Words]:
    """Return room for s pads, (s, whole groups of blocks in words of 64 bits), and the same room as words."""
    width = -(-words * np.dtype(dtype).itemsize // (16 * aes_kernel.GROUP)) * aes_kernel.GROUP
    room = np.empty((s, 2 * width), np.uint64)
    return room, room.view(dtype)


@njit
def _fill_row(low: np.uint64, high: np.uint64, schedule: NDArray[np.uint64], row: NDArray[np.uint64]) -> None:
    """Write π(π(x_j) ⊕ (j‖c)) for c = 0, 1, …, where low and high are π(x_j) ⊕ (j‖0)."""
    for c in range(row.size // 2):
        row[2 * c] = low
        row[2 * c + 1] = high ^ np.uint64(c)
    groups = np.uint64(row.size // 32)
    aes_kernel.encrypt_blocks(np.uint64(schedule.ctypes.data), np.uint64(row.ctypes.data), groups)


@njit
def _correct_inside(
    key: Strings,
    first: np.uint64,
    schedule: NDArray[np.uint64],
    room: NDArray[np.uint64],
    pads: Words,
    key_words: Words,
    rows: Words,
    total: Words,
    out: Words,
) -> None:
    mask, mask_of_one = np.empty_like(total), np.empty_like(total)
    zero, one = pads[0], pads[1]
    for r in range(rows.shape[0]):
        j = first + np.uint64(r)
        for s in range(2):
            _fill_row(key[s, r, 0] ^ j, key[s, r, 1], schedule, room[s])
        _tile(key_words[0, r], mask)
        _tile(key_words[1, r], mask_of_one)
        row, correction = rows[r], out[r]
        for w in range(total.shape[0]):
            pad = zero[w] ^ mask[w]
            total[w] += pad
            correction[w] = pad + row[w] - (one[w] ^ mask_of_one[w])


@njit
def _add_chosen_inside(
    key: Strings,
    first: np.uint64,
    schedule: NDArray[np.uint64],
    room: NDArray[np.uint64],
    pads: Words,
    key_words: Words,
    rows: Words,
    choices: Words,
    total: Words,
) -> None:
    mask, pad = np.empty_like(total), pads[0]
    for r in range(rows.shape[0]):
        _fill_row(key[0, r, 0] ^ (first + np.uint64(r)), key[0, r, 1], schedule, room[0])
        _tile(key_words[0, r], mask)
        row, choice = rows[r], choices[r]
        for w in range(total.shape[0]):
            total[w] += (pad[w] ^ mask[w]) + (row[w] & choice)


@njit
def _hash_inside(x: Strings, first: np.uint64, counter: np.uint64, schedule: NDArray[np.uint64], out: Strings) -> None:
    """Write block `counter` of every pad, a group of blocks at a time."""
    size = 2 * aes_kernel.GROUP
    key, inner = np.zeros(size, np.uint64), np.zeros(size, np.uint64)
    keys_at, key_at, inner_at = (
        np.uint64(schedule.ctypes.data),
        np.uint64(key.ctypes.data),
        np.uint64(inner.ctypes.data),
    )
    for lo in range(0, x.shape[0], aes_kernel.GROUP):
        n = min(aes_kernel.GROUP, x.shape[0] - lo)
        for i in range(n):
            key[2 * i], key[2 * i + 1] = x[lo + i, 0], x[lo + i, 1]
        aes_kernel.encrypt_blocks(keys_at, key_at, np.uint64(1))
        for i in range(n):
            inner[2 * i] = key[2 * i] ^ (first + np.uint64(lo + i))
            inner[2 * i + 1] = key[2 * i + 1] ^ counter
        aes_kernel.encrypt_blocks(keys_at, inner_at, np.uint64(1))
        for i in range(n):
            out[lo + i, 0], out[lo + i, 1] = inner[2 * i] ^ key[2 * i], inner[2 * i + 1] ^ key[2 * i + 1]


@njit
def _fill(key: Strings, first: np.uint64, counter: np.uint64, out: Strings) -> None:
    """Write π(x_j) ⊕ (j‖c), for c from `counter` on."""
    for s in range(key.shape[0]):
        for r in range(key.shape[1]):
            low, high = key[s, r, 0] ^ (first + np.uint64(r)), key[s, r, 1]
            for c in range(out.shape[2]):
                out[s, r, c, 0] = low
                out[s, r, c, 1] = high ^ (counter + np.uint64(c))


@njit
def _tile(key: Words, out: Words) -> None:
    """Repeat the words of π(x_j) over a whole row: the loops below then run in vector registers."""
    last = key.shape[0] - 1  # 4 or 2 words a block
    for w in range(out.shape[0]):
        out[w] = key[w & last]


@njit
def _copy(key: Words, pads: Words, out: Words) -> None:
    mask = np.empty_like(out[0])
    for r in range(out.shape[0]):
        _tile(key[0, r], mask)
        pad, row = pads[0, r], out[r]
        for w in range(row.shape[0]):
            row[w] = pad[w] ^ mask[w]


@njit
def _add(key: Words, pads: Words, total: Words) -> None:
    mask = np.empty_like(total)
    for r in range(pads.shape[1]):
        _tile(key[0, r], mask)
        pad = pads[0, r]
        for w in range(total.shape[0]):
            total[w] += pad[w] ^ mask[w]


@njit
def _correct(key: Words, pads: Words, rows: Words, total: Words, out: Words) -> None:
    mask, mask_of_one = np.empty_like(total), np.empty_like(total)
    for r in range(pads.shape[1]):
        _tile(key[0, r], mask)
        _tile(key[1, r], mask_of_one)
        zero, one, row, correction = pads[0, r], pads[1, r], rows[r], out[r]
        for w in range(total.shape[0]):
            pad = zero[w] ^ mask[w]
            total[w] += pad
            correction[w] = pad + row[w] - (one[w] ^ mask_of_one[w])


@njit
def _add_chosen(key: Words, pads: Words, rows: Words, choices: Words, total: Words) -> None:
    mask = np.empty_like(total)
    for r in range(pads.shape[1]):
        _tile(key[0, r], mask)
        pad, row, choice = pads[0, r], rows[r], choices[r]
        for w in range(total.shape[0]):
            total[w] += (pad[w] ^ mask[w]) + (row[w] & choice)


def warm() -> None:
    """Compile the kernels that protocols use, for both word sizes."""
    _warm(np.zeros((1, 5), np.uint32))
    _warm(np.zeros((1, 5), np.uint64))
    hash_blocks(np.zeros((1, 2), np.uint64), 0)


def _warm(rows: NDArray[Word]) -> None:
    x = np.zeros((1, 2), np.uint64)
    receiver_sum(x, np.zeros(1, np.uint8), 0, sender_corrections(x, x[0], 0, rows)[1])
