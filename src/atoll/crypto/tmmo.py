"""Pads from oblivious-transfer strings by TMMO, the tweaked hash of one fixed-key AES.

block_c(j) = π(π(x_j) ⊕ (j‖c)) ⊕ π(x_j), where j is the transfer's 64-bit running index and c counts the blocks of one
pad.  Every (j, c) occurs once in a session and direction, so no pad is ever used twice.

Numbers of a pad are words of 32 or 64 bits.  Numbers below 2^24 take three bytes each, cut into two planes, as they
travel: all low halves, then all high bytes.

Strings are worked through in chunks that stay in the second-level cache: one pass fills the inner blocks, one call to
OpenSSL encrypts them, one pass takes the pads.

Source: Guo, Katz, Wang, Yu, "Efficient and secure multiparty computation from fixed-key block ciphers", IEEE S&P 2020,
section 7.4.
"""

from collections.abc import Iterator
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from atoll.crypto.aes import FixedKey, blocks
from atoll.crypto.jit import njit, read_only

Word = TypeVar("Word", np.uint32, np.uint64)
Strings = NDArray[np.uint64]
Words = NDArray[Any]

FIXED_KEY = bytes.fromhex("26cc33a046a34310799161e0102700f5")
"""Public: the first 16 bytes of SHA-256("atoll/tmmo/v1")."""

_NARROW = np.uint32((1 << 24) - 1)

_CHUNK_BLOCKS = 1 << 15  # 512 kB of pads at a time; smaller chunks cost more in calls than they save in cache


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
    for at, key, pads in _pads(both, first, words * rows.itemsize):
        _correct(key.view(rows.dtype), pads.view(rows.dtype), rows[at], total, out[at])
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
    for at, key, pads in _pads(t[np.newaxis], first, words * corrections.itemsize):
        _add_chosen(key.view(dtype), pads.view(dtype), read_only(corrections[at]), chosen[at], total)
    return total


def narrow_corrections(
    q: Strings, delta: NDArray[np.uint64], first: int, rows: NDArray[np.uint32]
) -> tuple[NDArray[np.uint32], NDArray[np.uint16], NDArray[np.uint8]]:
    """Do as `sender_corrections` does, modulo 2^24.

    Args:
        q: The sender's strings, (N, 2) uint64.
        delta: The sender's offset, (2,) uint64.
        first: Running index of the first string.
        rows: What a choice of one adds, (N, words) uint32, contiguous; their low 24 bits count.

    Returns:
        Σ pad_j, (words,) below 2^24; and the corrections, cut into bits 0 to 15 and 16 to 23, (N, words) each.
    """
    words = rows.shape[1]
    total, low, high = np.zeros(words, np.uint32), np.empty(rows.shape, np.uint16), np.empty(rows.shape, np.uint8)
    both = np.stack((q, q ^ delta))
    for at, key, pads in _pads(both, first, 3 * words):
        _correct_narrow(key.view(np.uint64), pads.view(np.uint16), pads, rows[at], total, low[at], high[at])
    total &= _NARROW
    return total, low, high


def narrow_sum(
    t: Strings, choices: NDArray[np.uint8], first: int, low: NDArray[np.uint16], high: NDArray[np.uint8]
) -> NDArray[np.uint32]:
    """Do as `receiver_sum` does, with the two planes of `narrow_corrections`; (words,) below 2^24."""
    total = np.zeros(low.shape[1], np.uint32)
    chosen = np.uint32(0) - choices.astype(np.uint32)
    for at, key, pads in _pads(t[np.newaxis], first, 3 * low.shape[1]):
        pairs = pads.view(np.uint16)
        _add_chosen_narrow(key.view(np.uint64), pairs, pads, read_only(low[at]), read_only(high[at]), chosen[at], total)
    total &= _NARROW
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
    key, out = blocks(len(x)), blocks(len(x))
    pi = FixedKey(FIXED_KEY)
    pi.encrypt_into(np.ascontiguousarray(x), key)
    _fill(key[np.newaxis], np.uint64(first), np.uint64(counter), out.reshape(1, -1, 1, 2))
    pi.encrypt_into(out, out)
    out ^= key
    return out


def _pads(x: Strings, first: int, nbytes: int) -> Iterator[tuple[slice, Words, Words]]:
    """Yield chunks: rows (a slice), π(x_j) as (s, rows, 16) bytes, and whole blocks of pads before the last XOR."""
    s, n, _ = x.shape
    width = -(-nbytes // 16)
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
        yield slice(lo, hi), key.view(np.uint8), chunk.view(np.uint8).reshape(s, hi - lo, 16 * width)


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
    last = key.shape[0] - 1  # 2 to 16 words a block
    for w in range(out.shape[0]):
        out[w] = key[w & last]


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


@njit
def _widen(low: Words, high: Words, low_mask: Words, high_mask: Words, out: Words) -> None:
    """Put two masked planes together.  Loops over one width at a time run in vector registers, mixed ones do not."""
    for w in range(out.shape[0]):
        out[w] = np.uint32(high[w] ^ high_mask[w]) << np.uint32(16)
    for w in range(out.shape[0]):
        out[w] |= np.uint32(low[w] ^ low_mask[w])


@njit
def _correct_narrow(
    key: Words, low_pads: Words, pads: Words, rows: Words, total: Words, low: Words, high: Words
) -> None:
    words, blocks = total.shape[0], pads.shape[2] // 8
    tile, tile_of_one = np.empty(blocks, np.uint64), np.empty(blocks, np.uint64)
    mask, mask_of_one = tile.view(np.uint16), tile_of_one.view(np.uint16)
    top, top_of_one = tile.view(np.uint8)[2 * words :], tile_of_one.view(np.uint8)[2 * words :]
    pad, other = np.empty_like(total), np.empty_like(total)
    for r in range(pads.shape[1]):
        _tile(key[0, r], tile)
        _tile(key[1, r], tile_of_one)
        _widen(low_pads[0, r], pads[0, r, 2 * words :], mask, top, pad)
        _widen(low_pads[1, r], pads[1, r, 2 * words :], mask_of_one, top_of_one, other)
        row, out, out_top = rows[r], low[r], high[r]
        for w in range(words):
            total[w] += pad[w]
            other[w] = pad[w] + row[w] - other[w]
        for w in range(words):
            out[w] = np.uint16(other[w] & np.uint32(0xFFFF))
        for w in range(words):
            out_top[w] = np.uint8((other[w] >> np.uint32(16)) & np.uint32(0xFF))


@njit
def _add_chosen_narrow(
    key: Words, low_pads: Words, pads: Words, low: Words, high: Words, choices: Words, total: Words
) -> None:
    words = total.shape[0]
    tile = np.empty(pads.shape[2] // 8, np.uint64)
    mask, top = tile.view(np.uint16), tile.view(np.uint8)[2 * words :]
    none, none_top = np.zeros(words, np.uint16), np.zeros(words, np.uint8)
    pad, row = np.empty_like(total), np.empty_like(total)
    for r in range(pads.shape[1]):
        _tile(key[0, r], tile)
        _widen(low_pads[0, r], pads[0, r, 2 * words :], mask, top, pad)
        _widen(low[r], high[r], none, none_top, row)
        choice = choices[r]
        for w in range(words):
            total[w] += pad[w] + (row[w] & choice)


def warm() -> None:
    """Compile the kernels that protocols use, for all sizes of numbers."""
    _warm(np.zeros((1, 5), np.uint32))
    _warm(np.zeros((1, 5), np.uint64))
    x = np.zeros((1, 2), np.uint64)
    narrow_sum(x, np.zeros(1, np.uint8), 0, *narrow_corrections(x, x[0], 0, np.zeros((1, 5), np.uint32))[1:])
    hash_blocks(np.zeros((1, 2), np.uint64), 0)


def _warm(rows: NDArray[Word]) -> None:
    x = np.zeros((1, 2), np.uint64)
    receiver_sum(x, np.zeros(1, np.uint8), 0, sender_corrections(x, x[0], 0, rows)[1])
