"""The linear code that turns sparse noise of length 2m into m words that look random: the dual of expand-convolute.

out = e₁ + B·C′·C·e₂, where e = (e₁, e₂), C and C′ are convolutions (each element flows into the next one, and into each
of 24 further ones with probability ½) and every row of B adds 7 elements, 4 of them from 4 different quarters.
B, C and C′ are public, and the same for every run of one size.

Source: Raghuraman, Rindal and Tanguy, "Expand-Convolute Codes for Pseudorandom Correlation Generators from LPN",
CRYPTO 2023 (eprint 2023/882), systematic form, expander weight 7, 24 further taps, convolved twice.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from atoll.crypto.aes import expand
from atoll.crypto.jit import njit, read_only

U32, U64 = NDArray[np.uint32], NDArray[np.uint64]

TAPS = 24
WEIGHT, REGULAR = 7, 4
DISTANCE = 0.25
"""Relative distance that the noise is chosen for, as the authors' library takes it for this code at rate ½."""

SECURITY = 128
NOISE = math.ceil(SECURITY / -math.log2(1 - 2 * DISTANCE))
"""Noise positions t, one in each of t blocks: (1 − 2d)^t = 2^-128 bounds the bias of every linear test."""

SEED = bytes.fromhex("b7a5d6ab4fcbd4a2ddc1cbb5a5c9b0ff")
"""Public; any value that nobody chose with the noise in mind."""


class Code:
    """The code of one length; holds its public random numbers, 36 bytes for each output.

    Args:
        length: m, at least 1.
    """

    def __init__(self, length: int) -> None:
        self.length = length
        self._taps = expand(SEED, 8 * length, bytes([1] + [0] * 15)).view(np.uint32).reshape(2, length)
        self._rows = expand(SEED, 4 * WEIGHT * length, bytes([2] + [0] * 15)).view(np.uint32).reshape(length, WEIGHT)

    @property
    def noise_length(self) -> int:
        """Length of the noise that `compress` takes: at least 2m, whole blocks."""
        return NOISE * self.block

    @property
    def block(self) -> int:
        """Length of a block of noise, in which one position is set."""
        return -(-2 * self.length // NOISE)

    def compress(self, noise: U64) -> U64:
        """Return the m words that the code makes of noise, which is overwritten.

        Args:
            noise: (2m or a little more, w) uint64, w = 1 or 2; what is beyond 2m does not count.
        """
        m = self.length
        out, rest = noise[:m], noise[m : 2 * m]
        for taps in self._taps:
            (_convolve_one if noise.shape[1] == 1 else _convolve_two)(rest, read_only(taps))
        (_expand_one if noise.shape[1] == 1 else _expand_two)(rest, read_only(self._rows), out)
        return out


@njit
def _convolve_two(x: U64, taps: U32) -> None:
    n, zero, one = x.shape[0], np.uint64(0), np.uint64(1)
    for i in range(n):
        a, b, bits = x[i, 0], x[i, 1], np.uint64(taps[i])
        if i + 25 < n:
            x[i + 1, 0] ^= a
            x[i + 1, 1] ^= b
            for j in range(24):
                mask = zero - ((bits >> np.uint64(j)) & one)
                x[i + 2 + j, 0] ^= a & mask
                x[i + 2 + j, 1] ^= b & mask
        else:  # the end flows into the beginning, so that late noise spreads in the second convolution
            x[(i + 1) % n, 0] ^= a
            x[(i + 1) % n, 1] ^= b
            for j in range(24):
                mask = zero - ((bits >> np.uint64(j)) & one)
                x[(i + 2 + j) % n, 0] ^= a & mask
                x[(i + 2 + j) % n, 1] ^= b & mask


@njit
def _convolve_one(x: U64, taps: U32) -> None:
    n, zero, one = x.shape[0], np.uint64(0), np.uint64(1)
    for i in range(n):
        a, bits = x[i, 0], np.uint64(taps[i])
        if i + 25 < n:
            x[i + 1, 0] ^= a
            for j in range(24):
                x[i + 2 + j, 0] ^= a & (zero - ((bits >> np.uint64(j)) & one))
        else:
            x[(i + 1) % n, 0] ^= a
            for j in range(24):
                x[(i + 2 + j) % n, 0] ^= a & (zero - ((bits >> np.uint64(j)) & one))


@njit
def _expand_two(x: U64, rows: U32, out: U64) -> None:
    n, quarter, half = np.uint64(x.shape[0]), np.uint64(max(x.shape[0] // 4, 1)), np.uint64(32)
    for i in range(out.shape[0]):
        a, b = out[i, 0], out[i, 1]
        for j in range(4):
            at = (np.uint64(rows[i, j]) * quarter >> half) + np.uint64(j) * quarter
            at = at if at < n else at % n
            a ^= x[at, 0]
            b ^= x[at, 1]
        for j in range(4, 7):
            at = np.uint64(rows[i, j]) * n >> half
            a ^= x[at, 0]
            b ^= x[at, 1]
        out[i, 0], out[i, 1] = a, b


@njit
def _expand_one(x: U64, rows: U32, out: U64) -> None:
    n, quarter, half = np.uint64(x.shape[0]), np.uint64(max(x.shape[0] // 4, 1)), np.uint64(32)
    for i in range(out.shape[0]):
        a = out[i, 0]
        for j in range(4):
            at = (np.uint64(rows[i, j]) * quarter >> half) + np.uint64(j) * quarter
            a ^= x[at if at < n else at % n, 0]
        for j in range(4, 7):
            a ^= x[np.uint64(rows[i, j]) * n >> half, 0]
        out[i, 0] = a


def warm() -> None:
    """Compile this module's kernels."""
    for words in (1, 2):
        Code(2).compress(np.zeros((NOISE, words), np.uint64))
