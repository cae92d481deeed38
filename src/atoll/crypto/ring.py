"""The ring R_q = Z_q[X]/(X^N + 1), q = 2^b, and the matrix A whose rows are rotations of uniform ring elements.

A (n × N) consists of blocks of N rows.  Row i of block b is such that (A·s)[b·N + i] is coefficient i of a_b·s; that
is A[b·N + i, j] = ±a_b[(i − j) mod N], with the minus sign where j > i.  Hence A·s costs one product in the ring for a
block, and the hint M·A one negacyclic correlation for a block and row of M.

Products run in double precision through the half-length complex transform (X^N + 1 splits into X^{N/2} ∓ i for real
polynomials).  Coefficients are centred, and cut into limbs where one transform would not stay exact: the a_b being
uniform, the error of a coefficient has a standard deviation of about 2^-51 times that of the coefficient (measured:
2^-51.2), and limbs are chosen so that 32 such deviations stay below 1/4.

Source: Bernstein, "Multidigit multiplication for mathematicians", 2001, section 8 (the right-angle trick);
Lyubashevsky, Peikert, Regev, "On ideal lattices and learning with errors over rings", EUROCRYPT 2010.
"""

import hashlib
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from atoll.crypto.aes import expand
from atoll.crypto.jit import njit

Complex = NDArray[np.complex128]
U64 = NDArray[np.uint64]
Bins = NDArray[Any]  # uint8 or uint16

_EXACT_BITS = 51 - 2 - 5  # precision, less rounding at 1/4 and the tail of the error
_BATCH = 16  # transforms at a time: 16 · 2048 · 16 bytes stay in the second-level cache


@cache
def twist_of(N: int) -> Complex:
    """Return ω^j for j < N/2, where ω^{N/2} = i; read-only."""
    twist: Complex = np.exp(1j * np.pi * np.arange(N // 2) / N)
    twist.flags.writeable = False
    return twist


@dataclass(frozen=True)
class Ring:
    """R_q with q = 2^bits.

    Attributes:
        N: Degree, a power of two from 16 on.
        bits: b, 8 to 64.
    """

    N: int
    bits: int

    def __post_init__(self) -> None:
        """Refuse degrees without a fast transform and moduli wider than a word."""
        if self.N < 16 or self.N & (self.N - 1) or not 8 <= self.bits <= 64:
            raise ValueError(f"no ring with N = {self.N} and q = 2^{self.bits}: N is a power of two, 8 <= bits <= 64")

    @property
    def mask(self) -> np.uint64:
        """q − 1."""
        return np.uint64((1 << self.bits) - 1)

    def blocks(self, n: int) -> int:
        """Return the number of blocks for n rows of A."""
        return -(-n // self.N)

    def expand(self, seed: bytes, label: bytes, n: int) -> U64:
        """Expand a seed into the blocks a_1 … a_B, uniform on R_q, by AES-128 in counter mode.

        Args:
            seed: 32 public bytes.
            label: What the blocks are for (job, matrix, parameter set); another label gives independent blocks.
            n: Rows of A.

        Returns:
            a (B, N) uint64 below q.

        Raises:
            ValueError: The seed does not have 32 bytes.
        """
        if len(seed) != 32:
            raise ValueError(f"the seed of A has 32 bytes, got {len(seed)}")
        key = hashlib.sha256(b"atoll/ring/v1" + len(label).to_bytes(8, "little") + label + seed).digest()
        shape = (self.blocks(n), self.N)
        return (expand(key[:16], 8 * math.prod(shape), key[16:]).view(np.uint64) & self.mask).reshape(shape)

    def transform(self, a: U64, limb_bits: int) -> "Transformed":
        """Transform ring elements once for many products.

        Args:
            a: (B, N) uint64 below q.
            limb_bits: Bits of a limb; `limb_bits_for` says what stays exact.
        """
        limbs = -(-self.bits // limb_bits)
        out = np.empty((limbs, *a.shape[:-1], self.N // 2), np.complex128)
        for at in range(0, len(a), _BATCH):
            part = out[:, at : at + _BATCH]
            _split(a[at : at + _BATCH], self.bits, limb_bits, twist_of(self.N), part)
            part[:] = np.fft.fft(part, axis=-1)
        return Transformed(self, limb_bits, out)

    def limb_bits_for(self, norm: float) -> int:
        """Return the widest limb that keeps a product with a vector of this Euclidean norm exact.

        Raises:
            ValueError: Not even limbs of 8 bits do: the vector's norm is above 2^35.
        """
        # a centred limb of w bits has deviation 2^w/√12, a coefficient of the product ‖y‖ times that
        room = _EXACT_BITS + math.log2(12) / 2 - math.log2(max(norm, 1.0))
        if room < 8:
            raise ValueError(f"a vector of norm {norm:.3g} is too long for exact products")
        return min(self.bits, int(room))

    def forward(self, x: NDArray[np.float64]) -> Complex:
        """Transform polynomials with small integer coefficients, (…, N) float64, to (…, N/2)."""
        half = self.N // 2
        return np.asarray(np.fft.fft((x[..., :half] + 1j * x[..., half:]) * twist_of(self.N), axis=-1))

    def round(self, limbs: Sequence[Complex] | Complex, limb_bits: int) -> U64:
        """Return the product whose transforms, one for each limb, are given, (…, N) uint64 below q."""
        out = np.zeros((*limbs[0].shape[:-1], self.N), np.uint64)
        flat = out.reshape(-1, self.N)
        for index, limb in enumerate(limbs):
            z = np.fft.ifft(limb, axis=-1).reshape(-1, self.N // 2)
            _join(z, twist_of(self.N), np.uint64(index * limb_bits), flat)
        out &= self.mask
        return out


@dataclass(frozen=True)
class Transformed:
    """The blocks of A in the frequency domain.

    Attributes:
        ring: Their ring.
        limb_bits: Bits of a limb.
        limbs: (L, B, N/2) complex128.
    """

    ring: Ring
    limb_bits: int
    limbs: Complex

    def times(self, s: NDArray[np.uint8], n: int) -> U64:
        """Return A·s.

        Args:
            s: (N,) uint8, each 0 or 1.
            n: Rows of A.

        Returns:
            (n,) uint64 below q.
        """
        return np.concatenate([piece for _, piece in self.pieces(s, n)])

    def pieces(self, s: NDArray[np.uint8], n: int) -> Iterator[tuple[int, U64]]:
        """Yield A·s in pieces that stay in the cache: the number of the first row, and the rows."""
        fs = self.ring.forward(s.astype(np.float64))
        for at in range(0, self.limbs.shape[1], _BATCH):
            product = self.ring.round(self.limbs[:, at : at + _BATCH] * fs, self.limb_bits)
            first = at * self.ring.N
            yield first, product.reshape(-1)[: n - first]


def hint_of_bins(ring: Ring, a: U64, bins: Bins, sizes: NDArray[np.int64]) -> U64:
    """Return M·A for the indicator matrix of binned columns, which is never written out.

    Args:
        ring: R_q.
        a: Blocks of A, (B, N) uint64.
        bins: (F, n) bin of every row in every column.
        sizes: (F,) number of bins of every column; all of `bins[f]` are below `sizes[f]`.

    Returns:
        H (Σ sizes, N) uint64 below q: the bins of column 0, then those of column 1, and so on.
    """
    n, half = bins.shape[1], ring.N // 2
    fa = ring.transform(a, ring.limb_bits_for(math.sqrt(n)))
    conj, twist = np.conj(fa.limbs), twist_of(ring.N)
    out = np.empty((int(sizes.sum()), ring.N), np.uint64)
    first = 0
    for f, m in enumerate(sizes.tolist()):
        acc = np.zeros((conj.shape[0], m, half), np.complex128)
        for b in range(ring.blocks(n)):
            z = np.zeros((m, half), np.complex128)
            _scatter(bins[f, b * ring.N : (b + 1) * ring.N], twist, z)
            _accumulate(np.fft.fft(z, axis=-1), conj[:, b], acc)
        out[first : first + m] = ring.round(acc, fa.limb_bits)
        first += m
    return out


def hint_of_rows(ring: Ring, a: U64, matrix: NDArray[np.int64]) -> U64:
    """Return M·A for a dense matrix of small integers.

    Args:
        ring: R_q.
        a: Blocks of A, (B, N) uint64.
        matrix: M (k, n) int64; rows of norm up to 2^35.

    Returns:
        H (k, N) uint64 below q.

    Raises:
        ValueError: A row is so long that the product would not be exact.
    """
    k, n = matrix.shape
    norm = max((float(np.linalg.norm(row.astype(np.float64))) for row in matrix), default=0.0)
    fa = ring.transform(a, ring.limb_bits_for(norm))
    conj = np.conj(fa.limbs)
    out = np.empty((k, ring.N), np.uint64)
    for at in range(0, k, _BATCH):
        rows = matrix[at : at + _BATCH]
        acc = np.zeros((conj.shape[0], len(rows), ring.N // 2), np.complex128)
        for b in range(ring.blocks(n)):
            piece = np.zeros((len(rows), ring.N))
            part = rows[:, b * ring.N : (b + 1) * ring.N]
            piece[:, : part.shape[1]] = part
            _accumulate(ring.forward(piece), conj[:, b], acc)
        out[at : at + _BATCH] = ring.round(acc, fa.limb_bits)
    return out


@njit
def _split(a: U64, bits: int, limb_bits: int, twist: Complex, out: Complex) -> None:
    """Centre each coefficient, cut it into centred limbs, fold the halves into one complex number, and twist."""
    half = twist.size
    for b in range(a.shape[0]):
        for j in range(half):
            low, high = _centred(a[b, j], bits), _centred(a[b, j + half], bits)
            for limb in range(out.shape[0]):
                if limb == out.shape[0] - 1:
                    x, y = low, high
                else:
                    x, y = _centred(np.uint64(low), limb_bits), _centred(np.uint64(high), limb_bits)
                    # exact and without overflow: both shifts drop the limb, the second carries what it borrowed
                    low, high = (low >> limb_bits) + np.int64(x < 0), (high >> limb_bits) + np.int64(y < 0)
                out[limb, b, j] = complex(np.float64(x), np.float64(y)) * twist[j]


@njit(inline="always")
def _centred(word: np.uint64, bits: int) -> np.int64:
    """Return the representative of a word modulo 2^bits in [−2^(bits−1), 2^(bits−1))."""
    shift = np.uint64(64 - bits)
    return np.int64(word << shift) >> np.int64(64 - bits)


@njit
def _join(z: Complex, twist: Complex, shift: np.uint64, out: U64) -> None:
    """Untwist, round and add one limb."""
    half = twist.size
    for r in range(z.shape[0]):
        for j in range(half):
            x = z[r, j] * twist[j].conjugate()
            out[r, j] += np.uint64(np.int64(np.rint(x.real))) << shift
            out[r, j + half] += np.uint64(np.int64(np.rint(x.imag))) << shift


@njit
def _scatter(bins: Bins, twist: Complex, z: Complex) -> None:
    """Write the folded and twisted indicators of one block's rows."""
    half = twist.size
    for i in range(min(half, bins.size)):
        z[bins[i], i] = twist[i]
    for i in range(half, bins.size):
        z[bins[i], i - half] += 1j * twist[i - half]


@njit
def _accumulate(z: Complex, a: Complex, acc: Complex) -> None:
    """acc[l, r] += z[r] · a[l]."""
    for r in range(z.shape[0]):
        for limb in range(a.shape[0]):
            for j in range(z.shape[1]):
                acc[limb, r, j] += z[r, j] * a[limb, j]


def warm() -> None:
    """Compile this module's kernels."""
    ring = Ring(16, 40)
    a = np.ones((1, 16), np.uint64)
    for dtype in (np.uint8, np.uint16):
        hint_of_bins(ring, a, np.zeros((1, 16), dtype), np.ones(1, np.int64))
    hint_of_rows(ring, a, np.ones((1, 16), np.int64))
    ring.transform(a, 40).times(np.ones(16, np.uint8), 16)
