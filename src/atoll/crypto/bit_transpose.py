"""Tall bit matrices for oblivious-transfer extension: 128 (or more) columns of bits become one string a row."""

import numpy as np
from numpy.typing import NDArray

from atoll.crypto.jit import njit, read_only

Columns = NDArray[np.uint64]
"""(64·k, w): bit j % 64 of word j // 64 in row i is bit i of string j; k is 2 for strings of 128 bits."""


@njit
def _transpose64(block: NDArray[np.uint64]) -> None:
    """Transpose a 64 × 64 bit matrix in place (Warren, Hacker's Delight, section 7-3)."""
    size, low = np.uint64(32), np.uint64(0xFFFFFFFF)
    while size > np.uint64(0):
        step = np.int64(size)
        for start in range(0, 64, 2 * step):
            for k in range(start, start + step):
                swap = ((block[k] >> size) ^ block[k + step]) & low
                block[k] ^= swap << size
                block[k + step] ^= swap
        size >>= np.uint64(1)
        low ^= low << size


@njit
def strings_of(columns: Columns, out: NDArray[np.uint64]) -> None:
    """Transpose columns into strings.

    Args:
        columns: (64·k, w) uint64.
        out: Room for the strings, (64·w, k) uint64: word c holds bits 64·c to 64·c + 63.
    """
    block = np.empty(64, np.uint64)
    for b in range(columns.shape[1]):
        for c in range(out.shape[1]):
            for i in range(64):
                block[i] = columns[64 * c + i, b]
            _transpose64(block)
            for i in range(64):
                out[64 * b + i, c] = block[i]


@njit
def masked_columns(zero: Columns, one: Columns, choices: NDArray[np.uint64], out: Columns) -> None:
    """Write u_i = t_i ⊕ G(k_i^1) ⊕ r, the receiver's message of an extension; t = `zero`, G(k^1) = `one`."""
    for i in range(zero.shape[0]):
        for w in range(zero.shape[1]):
            out[i, w] = zero[i, w] ^ one[i, w] ^ choices[w]


@njit
def corrected_columns(columns: Columns, received: Columns, chosen: NDArray[np.uint64]) -> None:
    """Turn G(k_i^Δ_i) into q_i = G(k_i^Δ_i) ⊕ Δ_i·u_i in place; chosen[i] has all bits Δ_i."""
    for i in range(columns.shape[0]):
        for w in range(columns.shape[1]):
            columns[i, w] ^= received[i, w] & chosen[i]


def warm() -> None:
    """Compile this module's kernels."""
    columns, words = np.zeros((128, 1), np.uint64), np.zeros(128, np.uint64)
    strings_of(columns, np.empty((64, 2), np.uint64))
    masked_columns(columns, columns, words, columns.copy())
    corrected_columns(columns, read_only(columns.copy()), words)
