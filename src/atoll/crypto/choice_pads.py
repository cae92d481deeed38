"""One-time pads for choosing one of m bits, made of ⌈log2(m + 1)⌉ transfers of keys a row.

The key of transfer b and bit v expands to blocks of 128 bits; the pad of message x is the XOR over b of bit x of the
blocks of key k_b^{x_b}.  Who holds one key of every pair can compute the pad of one message only.

Source: Naor and Pinkas, "Oblivious transfer and polynomial evaluation", STOC 1999, section 2.
"""

import numpy as np
from numpy.typing import NDArray

from atoll.crypto.jit import njit
from atoll.crypto.tmmo import Strings, hash_blocks

_TILE = 1 << 13  # rows whose blocks stay in the cache


def transfers_per_row(m: int) -> int:
    """Return ⌈log2(m + 1)⌉: one choice of m messages or none takes so many transfers."""
    return m.bit_length()


def choice_bits(choice: NDArray[np.int64], m: int) -> NDArray[np.uint8]:
    """Return the transfers' choices: the binary digits of each row's choice, lowest first, row after row, (n·L,)."""
    shifts = np.arange(transfers_per_row(m))
    return ((choice[:, np.newaxis] >> shifts) & 1).astype(np.uint8).reshape(-1)


def hide(bits: NDArray[np.uint8], q: Strings, delta: NDArray[np.uint64], first: int) -> NDArray[np.uint8]:
    """Add to every bit its pad.

    Args:
        bits: (m, n) uint8, each 0 or 1.
        q: The sender's strings, (n·L, 2), L = transfers_per_row(m), row after row.
        delta: The sender's offset.
        first: Running index of the first string.

    Returns:
        Padded bits, packed along the rows: (m, ⌈n/8⌉) uint8.
    """
    (m, n), per_row = bits.shape, transfers_per_row(len(bits))
    out = np.empty_like(bits)
    for lo in range(0, n, _TILE):
        hi = min(lo + _TILE, n)
        x, at = q[lo * per_row : hi * per_row], first + lo * per_row
        tile = bits[:, lo:hi].copy()
        for c in range(-(-m // 128)):
            zero, one = hash_blocks(x, at, c), hash_blocks(x ^ delta, at, c)
            _hide(zero.reshape(hi - lo, per_row, 2), one.reshape(hi - lo, per_row, 2), c, tile)
        out[:, lo:hi] = tile
    return np.packbits(out, axis=1)


def reveal(hidden: NDArray[np.uint8], choice: NDArray[np.int64], m: int, t: Strings, first: int) -> NDArray[np.uint8]:
    """Take the chosen bits out of what `hide` returned.

    Args:
        hidden: (m, ⌈n/8⌉) uint8.
        choice: (n,) int64, each 0 … m; m chooses nothing and gives 0.
        m: Number of messages a row.
        t: The receiver's strings, (n·L, 2).
        first: Running index of the first string.

    Returns:
        Chosen bits, (n,) uint8.
    """
    n, per_row = len(choice), transfers_per_row(m)
    out = np.zeros(n, np.uint8)
    bits = np.unpackbits(hidden, axis=1, count=n)
    for lo in range(0, n, _TILE):
        hi = min(lo + _TILE, n)
        x, at = t[lo * per_row : hi * per_row], first + lo * per_row
        tile = bits[:, lo:hi].copy()
        for c in range(-(-m // 128)):
            blocks = hash_blocks(x, at, c).reshape(hi - lo, per_row, 2)
            _reveal(blocks, c, tile, choice[lo:hi], out[lo:hi])
    return out


@njit
def _hide(zero: Strings, one: Strings, c: int, out: NDArray[np.uint8]) -> None:
    """XOR the pads of messages 128·c … 128·c + 127 onto out (m, n)."""
    ones = np.uint64(0xFFFFFFFFFFFFFFFF)
    # bit x of digits[half, b] is binary digit b of message 128·c + 64·half + x
    digits = np.zeros((2, zero.shape[1]), np.uint64)
    for half in range(2):
        for b in range(digits.shape[1]):
            for x in range(64):
                if ((128 * c + 64 * half + x) >> b) & 1:
                    digits[half, b] |= np.uint64(1) << np.uint64(x)
    for half in range(2):
        start = 128 * c + 64 * half
        messages = min(64, out.shape[0] - start)
        for i in range(zero.shape[0]):
            pad = np.uint64(0)
            for b in range(zero.shape[1]):
                pad ^= (zero[i, b, half] & (digits[half, b] ^ ones)) ^ (one[i, b, half] & digits[half, b])
            for x in range(messages):
                out[start + x, i] ^= np.uint8((pad >> np.uint64(x)) & np.uint64(1))


@njit
def _reveal(
    blocks: Strings, c: int, bits: NDArray[np.uint8], choice: NDArray[np.int64], out: NDArray[np.uint8]
) -> None:
    """Write the bits of rows whose choice is one of the messages 128·c … 128·c + 127."""
    for i in range(blocks.shape[0]):
        y = choice[i]
        if y < bits.shape[0] and y >> 7 == c:
            pad = np.uint64(0)
            for b in range(blocks.shape[1]):
                pad ^= blocks[i, b, (y >> 6) & 1]
            out[i] = bits[y, i] ^ np.uint8((pad >> np.uint64(y & 63)) & np.uint64(1))


def warm() -> None:
    """Compile this module's kernels."""
    x = np.zeros((1, 2), np.uint64)
    reveal(hide(np.zeros((1, 1), np.uint8), x, x[0], 0), np.zeros(1, np.int64), 1, x, 0)
