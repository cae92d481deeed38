"""Hashes of many short numbered rows by SHA-512, for strings that hide behind a secret offset.

A pseudorandom function from oblivious transfer needs H(j, q ⊕ (c ∧ s)) to look random for many known c and one unknown
s of any 128 of the bits; a hash that is a random oracle gives that, a fixed-key AES of single blocks does not.

Source: FIPS 180-4; Kolesnikov, Kumaresan, Rosulek, Trieu, ACM CCS 2016, definition 2.
"""

import numpy as np
from numpy.typing import NDArray

from atoll.crypto.jit import njit, read_only
from atoll.crypto.sodium import call, library

U32 = NDArray[np.uint32]
U64 = NDArray[np.uint64]

TAG_WORDS = 2
LONGEST = 10
"""Most words of a row: with its tag and its number it still fits one block of SHA-512."""


def hash_rows(tag: bytes, numbers: U32, rows: U64) -> U64:
    """Return the first 128 bits of SHA-512(tag ‖ number ‖ row) for every row.

    Args:
        tag: 16 bytes that separate this use from all others.
        numbers: (n,) uint32, number of each row.
        rows: (n, w) uint64, w at most `LONGEST`.

    Returns:
        (n, 2) uint64.

    Raises:
        ValueError: The tag does not have 16 bytes, or rows are too long.
    """
    if len(tag) != 8 * TAG_WORDS or rows.shape[1] > LONGEST:
        raise ValueError(f"a tag has 16 bytes and a row at most {LONGEST} words")
    out, room = np.empty((len(rows), 2), np.uint64), np.zeros(TAG_WORDS + 1 + rows.shape[1], np.uint64)
    room[:TAG_WORDS] = np.frombuffer(tag, np.uint64)
    _hash(np.uint64(library().sha512), read_only(numbers), read_only(rows), room, out)
    return out


@njit
def _hash(address: np.uint64, numbers: U32, rows: U64, room: U64, out: U64) -> None:
    digest = np.empty(8, np.uint64)
    to, source, size = np.uint64(digest.ctypes.data), np.uint64(room.ctypes.data), np.uint64(8 * room.size)
    for i in range(rows.shape[0]):
        room[2] = np.uint64(numbers[i])
        for k in range(rows.shape[1]):
            room[3 + k] = rows[i, k]
        call(address, to, source, size)
        out[i, 0], out[i, 1] = digest[0], digest[1]


def warm() -> None:
    """Compile this module's kernels."""
    hash_rows(bytes(16), np.zeros(1, np.uint32), np.zeros((1, 7), np.uint64))
