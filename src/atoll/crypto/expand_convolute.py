"""The linear code that turns sparse noise of length 2m into m words that look random: the dual of expand-convolute.

out = e₁ + B·C′·C·e₂, where e = (e₁, e₂), C and C′ are convolutions (each element flows into the next one, and into each
of 24 further ones with probability ½) and every row of B adds 7 elements, 4 of them from 4 different quarters.
B, C and C′ are public, and the same for every run of one size.

Source: Raghuraman, Rindal and Tanguy, "Expand-Convolute Codes for Pseudorandom Correlation Generators from LPN",
CRYPTO 2023 (eprint 2023/882), systematic form, expander weight 7, 24 further taps, convolved twice.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from numpy.typing import NDArray

from atoll.crypto.jit import njit, read_only

U32 = NDArray[np.uint32]
Words = NDArray[Any]

TAPS = 24
WEIGHT = 7
DISTANCE = 0.15
"""Relative distance that the noise is chosen for.

For this code at rate ½ the authors' library took it to be 0.15 at first, and takes 0.25 now; both are estimates.
"""

_PIECE = 1 << 14
"""Rows of public words at a time: they stay in the cache."""

SECURITY = 128


def noise(width: int) -> int:
    """Return how many noise positions, one in each block, hide vectors whose values have so many bits.

    A linear test looks at some bits of some words.  It meets the noise in a block with probability d, and then sees a
    bit that is set with probability p = 2^(w−1) / (2^w − 1) for a random value of w bits that is not zero.  So the bias
    of every linear test is below (1 − 2·p·d)^t: (1 − 2d)^t for bits, but only (1 − d)^t for wide values.
    """
    return math.ceil(SECURITY / -math.log2(1 - DISTANCE * (1 << width) / ((1 << width) - 1)))


NOISE = 8 * math.ceil(noise(64) / 8)
"""Noise positions t under values of 64 bits and more."""

SEED = bytes.fromhex("b7a5d6ab4fcbd4a2ddc1cbb5a5c9b0ff")
"""Public; any value that nobody chose with the noise in mind."""


@dataclass(frozen=True)
class Code:
    """The code of one length.

    Args:
        length: m, at least 1.
    """

    length: int

    @property
    def block(self) -> int:
        """Length of a block of noise, in which one position is set; `blocks` of them are 2m or a little more."""
        return -(-2 * self.length // NOISE)

    @property
    def blocks(self) -> int:
        """Number of blocks: `NOISE`, or as many as there are positions where these are fewer."""
        return min(NOISE, 2 * self.length)

    def compress(self, *noises: Words) -> tuple[Words, ...]:
        """Return the m words that the code makes of each noise; noises are overwritten.

        Args:
            *noises: (2m or a little more, w) uint64 each, w = 1 or 2, or uint8 with w = 1; what is beyond 2m does not
                count.
        """
        m = self.length
        for number in range(2):
            for lo, taps in _public(number, m, 1):
                for noise in noises:
                    _convolve(noise[m : 2 * m], lo, taps.reshape(-1))
        for lo, rows in _public(2, m, WEIGHT):
            places = np.empty(rows.shape, np.uint32)
            _scale(rows, m, places)
            for noise in noises:
                gather = _gather_one if noise.shape[1] == 1 else _gather_two
                gather(noise[m : 2 * m], read_only(places), noise[lo : lo + len(rows)])
        return tuple(noise[:m] for noise in noises)


def _public(number: int, length: int, width: int) -> Iterator[tuple[int, U32]]:
    """Yield the code's public random words in pieces: the first row, and (rows, width) uint32."""
    stream = Cipher(algorithms.AES(SEED), modes.CTR(bytes([number] + [0] * 15))).encryptor()
    for lo in range(0, length, _PIECE):
        words = np.zeros((min(_PIECE, length - lo), width), np.uint32)
        flat = words.reshape(-1).view(np.uint8)
        stream.update_into(flat.data, flat.data)
        yield lo, read_only(words)


def _convolve(x: Words, first: int, taps: U32) -> None:
    inside = max(0, min(len(taps), len(x) - TAPS - 1 - first))
    (_convolve_one if x.shape[1] == 1 else _convolve_two)(x[first:], taps[:inside])
    _convolve_end(x, first + inside, taps[inside:])


@njit
def _convolve_two(x: Words, taps: U32) -> None:
    zero, one = np.uint64(0), np.uint64(1)
    for i in range(taps.size):
        a, b, bits = x[i, 0], x[i, 1], np.uint64(taps[i])
        x[i + 1, 0] ^= a
        x[i + 1, 1] ^= b
        for j in range(24):
            mask = zero - ((bits >> np.uint64(j)) & one)
            x[i + 2 + j, 0] ^= a & mask
            x[i + 2 + j, 1] ^= b & mask


@njit
def _convolve_one(x: Words, taps: U32) -> None:
    zero, one = np.uint64(0), np.uint64(1)
    for i in range(taps.size):
        a, bits = x[i, 0], np.uint64(taps[i])
        x[i + 1, 0] ^= a
        for j in range(24):
            x[i + 2 + j, 0] ^= a & (zero - ((bits >> np.uint64(j)) & one))


@njit
def _convolve_end(x: Words, first: int, taps: U32) -> None:
    """Let the end flow into the beginning, so that noise near the end spreads in the second convolution."""
    for k in range(taps.size):
        here = x[first + k].copy()
        for j in range(-1, 24):
            if j < 0 or (np.uint64(taps[k]) >> np.uint64(j)) & np.uint64(1) == np.uint64(1):
                at = (first + k + 2 + j) % x.shape[0]
                for w in range(here.size):
                    x[at, w] ^= here[w]


@njit
def _scale(rows: U32, length: int, places: U32) -> None:
    """Turn random words into places: the first four in one quarter each, the others anywhere."""
    n, quarter, half = np.uint64(length), np.uint64(max(length // 4, 1)), np.uint64(32)
    for i in range(rows.shape[0]):
        for j in range(4):
            at = (np.uint64(rows[i, j]) * quarter >> half) + np.uint64(j) * quarter
            places[i, j] = np.uint32(at if at < n else at % n)
        for j in range(4, 7):
            places[i, j] = np.uint32(np.uint64(rows[i, j]) * n >> half)


@njit
def _gather_two(x: Words, places: U32, out: Words) -> None:
    for i in range(out.shape[0]):
        a, b = out[i, 0], out[i, 1]
        for j in range(7):
            a ^= x[places[i, j], 0]
            b ^= x[places[i, j], 1]
        out[i, 0], out[i, 1] = a, b


@njit
def _gather_one(x: Words, places: U32, out: Words) -> None:
    for i in range(out.shape[0]):
        a = out[i, 0]
        for j in range(7):
            a ^= x[places[i, j], 0]
        out[i, 0] = a


def warm() -> None:
    """Compile this module's kernels."""
    Code(2).compress(*(np.zeros((NOISE, w), dtype) for w, dtype in ((1, np.uint64), (2, np.uint64), (1, np.uint8))))
