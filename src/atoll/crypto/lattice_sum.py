"""Encryption for sums under a key that nobody holds: each site has a part of it, and parts of an opening add up.

All sites' secrets s_i add up to s.  From a common a each site publishes b_i = t·e_i − a·s_i, and b = Σ b_i.  Words m
modulo t are encrypted as c₁ = a·u + t·e₁ and c₀ = b·u + t·e₀ + m modulo q, and ciphertexts are added up.  Who holds a
part σ of the key gives c₁·σ + t·f with wide noise f; these and c₀ add up to m + t·noise modulo q, which shows m and no
more.  Only c₁ needs all of q: the rest is divided by the primes that it can do without before it leaves.

Two sets of parameters, and no way to make another; docs/parameters-sums.md derives them.

Source: Mouchet, Troncoso-Pastoriza, Bossuat and Hubaux, PoPETs 2021(4) (eprint 2020/304); with thresholds Mouchet,
Bertrand and Hubaux, J. Cryptology 36, 2023 (eprint 2022/780); here over the scheme of Brakerski, Gentry and
Vaikuntanathan, ITCS 2012, in which sums modulo a power of two wrap around by themselves.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

import numpy as np
from numpy.typing import NDArray

from atoll.crypto.aes import expand
from atoll.crypto.homomorphic import (
    Chain,
    add_product,
    add_scaled,
    centred,
    multiply,
    packed,
    small,
    sum_of_parts,
    switch,
    switching,
    transformed,
    uniform_parts,
    unpacked,
)
from atoll.crypto.jit import njit, read_only
from atoll.crypto.prime_transform import forward, inverse, reduced
from atoll.crypto.random import Rng

F64 = NDArray[np.float64]
U64 = NDArray[np.uint64]
U32 = NDArray[np.uint32]
U16 = NDArray[np.uint16]
Bytes = NDArray[np.uint8]

MEMBERS = 32
"""Most sites that have a part of a key: the noise of so many has room."""

SEED = 32
"""Bytes of what the common polynomial comes from."""


@dataclass(frozen=True)
class Lattice:
    """One named set of parameters.

    Attributes:
        name: Its name.
        chain: Degree and primes; what leaves beside c₁ is switched to the first `chain.kept` primes.
        bits: Words are added modulo t = 2^bits.
        flood: f is uniform on an interval of 2^flood.
        batch: Polynomials in one message.
    """

    name: str
    chain: Chain
    bits: int
    flood: int
    batch: int

    @property
    def t(self) -> int:
        """The modulus of what is encrypted."""
        return 1 << self.bits

    @property
    def primes(self) -> int:
        """How many primes there are."""
        return len(self.chain.primes)

    def polynomials(self, count: int) -> int:
        """Return how many polynomials so many numbers take; there is always one."""
        return max(-(-count // self.chain.N), 1)

    def pieces(self, count: int) -> list[slice]:
        """Return which numbers travel together; one empty piece if there are none."""
        step = self.batch * self.chain.N
        return [slice(at, min(at + step, count)) for at in range(0, max(count, 1), step)]


NARROW = Lattice("L32", Chain(4096, (4169729, 4120577, 2424833, 2277377, 2236417), 2), 32, 69, 8)
"""Words of 16 and 32 bits: q of 107.4 bits."""

WIDE = Lattice(
    "L192",
    Chain(
        16384,
        (
            *(16580609, 16515073, 16384001, 16121857, 15630337, 14942209),
            *(14909441, 14155777, 14123009, 13664257, 13631489, 13565953),
        ),
        9,
    ),
    192,
    72,
    1,
)
"""Numbers of 192 bits: q of 286.0 bits."""


def lattice_of(bits: int) -> Lattice:
    """Return the parameters for words of 16, 32 or 192 bits."""
    return WIDE if bits == 192 else NARROW


@dataclass(frozen=True, repr=False)
class Public:
    """A common key, transformed, (L, N) each: whatever is encrypted under it opens with all parts of s together."""

    lattice: Lattice
    a: F64
    b: F64


def common(lattice: Lattice, seed: bytes) -> F64:
    """Expand a seed into a, uniform, transformed, (L, N); no residue is likelier than another by more than 2^-40."""
    key = hashlib.sha256(b"atoll/lattice-sum/v1" + lattice.name.encode() + seed).digest()
    words = expand(key[:16], 8 * lattice.primes * lattice.chain.N, key[16:]).view(np.uint64)
    out = np.empty((lattice.primes, lattice.chain.N))
    for row, part, p in zip(out, words.reshape(out.shape), lattice.chain.primes, strict=True):
        row[:] = (part % np.uint64(p)).astype(np.float64)
        row[row > p // 2] -= p
    return out


def ternary(rng: Rng, *shape: int) -> F64:
    """Return uniform numbers of −1, 0 and 1."""
    return rng.uniform_u64(3, *shape).astype(np.float64) - 1.0


def secret(lattice: Lattice, rng: Rng) -> F64:
    """Draw one site's part of the key, transformed and reduced, (L, N)."""
    return _each_reduced(lattice, transformed(lattice.chain, ternary(rng, 1, lattice.chain.N))[:, 0])


def contribution(lattice: Lattice, s: F64, a: F64, rng: Rng) -> Bytes:
    """Return b_i = t·e_i − a·s_i, transformed, packed for the wire, (L, N, 3)."""
    e = small(rng, 1, lattice.chain.N)
    out = np.zeros((lattice.primes, 1, lattice.chain.N))
    for i, (p, table) in enumerate(zip(lattice.chain.primes, lattice.chain.tables, strict=True)):
        add_scaled(e.reshape(-1), centred(lattice.t, p), float(p), out[i].reshape(-1))
        forward(out[i], table)
        add_product(out[i], a[i : i + 1], -s[i], float(p))
    return _packed(lattice, out[:, 0])


def joined(lattice: Lattice, parts: Sequence[Bytes]) -> F64:
    """Return the sum of packed polynomials, (L, N, 3) each, reduced, (L, N)."""
    total = np.zeros((lattice.primes, lattice.chain.N))
    for part in parts:
        for row, residues, p in zip(total, part, lattice.chain.primes, strict=True):
            row += unpacked(residues, p)
    return _each_reduced(lattice, total)


def encrypted(public: Public, limbs: U16, rng: Rng) -> tuple[Bytes, Bytes]:
    """Encrypt numbers modulo t under the common key.

    Args:
        public: The key.
        limbs: (count, bits / 16) uint16, lowest first.
        rng: Secret randomness.

    Returns:
        c₁ transformed, packed, (L, k, N, 3) for k polynomials, and c₀ of the numbers there are, switched and packed,
        (kept, count, 3).
    """
    lattice, chain, count = public.lattice, public.lattice.chain, len(limbs)
    k, N = lattice.polynomials(count), chain.N
    u = transformed(chain, ternary(rng, k, N))
    e0, e1 = small(rng, k, N), small(rng, k, N)
    c1 = np.zeros((lattice.primes, k, N))
    c0 = np.zeros((1, lattice.primes, 1, count))
    m = _residues(lattice, limbs)
    for i, (p, table) in enumerate(zip(chain.primes, chain.tables, strict=True)):
        t = centred(lattice.t, p)
        add_scaled(e1.reshape(-1), t, float(p), c1[i].reshape(-1))
        forward(c1[i], table)
        add_product(c1[i], u[i], public.a[i], float(p))
        row = np.zeros((k, N))
        add_product(row, u[i], public.b[i], float(p))
        inverse(row, table)
        add_scaled(e0.reshape(-1), t, float(p), row.reshape(-1))
        c0[0, i, 0] = reduced(row.reshape(-1)[:count] + m[i], p)
    return _packed(lattice, c1), _switched(lattice, c0)


def partial(lattice: Lattice, sigma: F64, c1: U32, count: int, rng: Rng) -> Bytes:
    """Return one part of the opening of a sum of ciphertexts.

    Args:
        lattice: The parameters.
        sigma: A part of the key, transformed and reduced, (L, N).
        c1: The sum of all c₁, not reduced, (L, k, N).
        count: How many numbers there are.
        rng: Secret randomness, for the flood.

    Returns:
        c₁·σ + t·f of the numbers there are, switched and packed, (kept, count, 3).
    """
    parts = uniform_parts(rng, lattice.flood, count)
    flood = sum_of_parts(parts, lattice.chain.primes, -(1 << (lattice.flood - 1)), lattice.t)
    out = np.zeros((1, lattice.primes, 1, count))
    for i, (p, table) in enumerate(zip(lattice.chain.primes, lattice.chain.tables, strict=True)):
        row = reduced(c1[i].astype(np.float64), p)
        multiply(row, sigma[i], float(p))
        inverse(row, table)
        out[0, i, 0] = reduced(row.reshape(-1)[:count] + flood[i], p)
    return _switched(lattice, out)


def add_packed(total: U32, part: Bytes) -> None:
    """Add packed residues, (…, 3), to a sum that is not reduced, (…)."""
    _add_packed(total.reshape(-1), read_only(np.ascontiguousarray(part).reshape(-1)))


def widened(part: Bytes) -> U32:
    """Return packed residues as words, (…)."""
    out = np.zeros(part.shape[:-1], np.uint32)
    add_packed(out, part)
    return out


def opened(lattice: Lattice, phase: U32) -> U32:
    """Return the sum of the numbers modulo t.

    Args:
        lattice: The parameters.
        phase: The sum of all c₀ and of all parts of the opening, not reduced, (kept, count).

    Returns:
        (count, bits / 32) uint32, lowest first.
    """
    kept = lattice.chain.primes[: lattice.chain.kept]
    q, limbs = prod(kept), lattice.bits // 32
    inverses = np.array([centred(pow(q // p, -1, p), p) for p in kept])
    weights = [q // p * lattice.chain.factor % lattice.t for p in kept]
    weights.append(-q * lattice.chain.factor % lattice.t)
    table = np.array([[w >> (32 * j) & 0xFFFFFFFF for j in range(limbs)] for w in weights], np.uint64)
    out = np.empty((phase.shape[1], limbs), np.uint32)
    _open(read_only(np.ascontiguousarray(phase)), np.array(kept, np.float64), inverses, table, out)
    return out


# ---------------------------------------------------------------------------------------------- thresholds


def shares(lattice: Lattice, s: F64, t: int, n: int, rng: Rng) -> list[Bytes]:
    """Share a part of the key over the residues, so that any t shares give it; number i belongs to point i + 1.

    Args:
        lattice: The parameters.
        s: What is shared, transformed and reduced, (L, N).
        t: How many shares give it.
        n: How many shares there are.
        rng: Secret randomness.

    Returns:
        Packed, (L, N, 3) each.

    Raises:
        ValueError: The numbers do not fit.
    """
    if not 1 <= t <= n <= MEMBERS:
        raise ValueError(f"no sharing of which {t} of {n} shares give the secret")
    coefficients = np.stack([rng.uniform_u64(p, t - 1, lattice.chain.N) for p in lattice.chain.primes], axis=1)
    found = []
    for x in range(1, n + 1):
        value = np.zeros_like(s)
        for coefficient in (*coefficients[::-1].astype(np.float64), s):
            value = _each_reduced(lattice, value * x + coefficient)
        found.append(_packed(lattice, value))
    return found


def weighted(lattice: Lattice, share: F64, me: int, points: Sequence[int]) -> F64:
    """Return a share, (L, N), times Lagrange's weight at 0, for the points that open together, `me` among them."""
    out = np.empty_like(share)
    for i, p in enumerate(lattice.chain.primes):
        weight = prod(x * pow(x - me, -1, p) for x in points if x != me) % p
        out[i] = reduced(share[i] * centred(weight, p), p)
    return out


# ---------------------------------------------------------------------------------------------- words


def limbs_of(bits: int, words: U64) -> U16:
    """Return all numbers in words of a `word_ring`, as limbs of 16 bits; one of 16 bits is the upper half of one of 32.

    The sum of upper halves modulo 2^32 is the sum of the numbers modulo 2^16, and nobody sees how often it wrapped.
    """
    if bits == 192:
        return words.view(np.uint16).reshape(-1, 12)
    if bits == 32:
        return words.view(np.uint16).reshape(-1, 2)
    numbers = words.view(np.uint16)
    return np.stack((np.zeros_like(numbers), numbers), axis=1)


def words_of(bits: int, limbs: U32) -> U64:
    """Undo `limbs_of` for what `opened` returns."""
    if bits == 16:
        return np.ascontiguousarray(limbs[:, 0] >> np.uint32(16)).astype(np.uint16).view(np.uint64)
    return np.ascontiguousarray(limbs).reshape(-1).view(np.uint64)


def numbers_in(bits: int, words: int) -> int:
    """Return how many numbers so many words hold."""
    return words // 3 if bits == 192 else words * 64 // bits


# ---------------------------------------------------------------------------------------------- residues


def _each_reduced(lattice: Lattice, x: F64) -> F64:
    return np.stack([reduced(row, p) for row, p in zip(x, lattice.chain.primes, strict=True)])


def _packed(lattice: Lattice, x: F64) -> Bytes:
    return np.stack([packed(row, p) for row, p in zip(x, lattice.chain.primes, strict=False)])


def _switched(lattice: Lattice, x: F64) -> Bytes:
    switch(x, switching(lattice.chain, lattice.t), lattice.chain.kept)
    return _packed(lattice, x[0, : lattice.chain.kept, 0])


def _residues(lattice: Lattice, limbs: U16) -> F64:
    constants = np.array([[centred(1 << (16 * k), p) for k in range(limbs.shape[1])] for p in lattice.chain.primes])
    out = np.empty((lattice.primes, len(limbs)))
    _reduce_limbs(read_only(limbs), constants, np.array(lattice.chain.primes, np.float64), out)
    return out


@njit
def _reduce_limbs(limbs: U16, constants: F64, moduli: F64, out: F64) -> None:
    for i in range(moduli.size):
        p = moduli[i]
        for j in range(limbs.shape[0]):
            total = 0.0  # 12 terms below 2^39 at most: exact
            for k in range(limbs.shape[1]):
                total += np.float64(limbs[j, k]) * constants[i, k]
            out[i, j] = total - np.rint(total / p) * p


@njit
def _add_packed(total: U32, part: Bytes) -> None:
    for i in range(total.size):
        word = np.uint32(part[3 * i]) | np.uint32(part[3 * i + 1]) << np.uint32(8)
        total[i] += word | np.uint32(part[3 * i + 2]) << np.uint32(16)


@njit
def _open(phase: U32, primes: F64, inverses: F64, weights: U64, out: U32) -> None:
    """Σ yᵢ·(q/pᵢ)·factor less what exceeds q, limb by limb: 10 products below 2^56 and a carry."""
    y = np.empty(primes.size)
    limbs, last = out.shape[1], primes.size
    for j in range(phase.shape[1]):
        turns = 0.5
        for i in range(primes.size):
            p = primes[i]
            x = np.float64(phase[i, j])
            x = (x - np.floor(x / p) * p) * inverses[i]
            x -= np.floor(x / p) * p
            y[i] = x + p if x < 0.0 else (x - p if x >= p else x)
            turns += y[i] / p
        whole, carry = np.uint64(np.int64(turns)), np.uint64(0)
        for k in range(limbs):
            carry += whole * weights[last, k]
            for i in range(primes.size):
                carry += np.uint64(np.int64(y[i])) * weights[i, k]
            out[j, k] = np.uint32(carry & np.uint64(0xFFFFFFFF))
            carry >>= np.uint64(32)


def warm() -> None:
    """Compile this module's kernels."""
    _reduce_limbs(read_only(np.ones((1, 2), np.uint16)), np.ones((1, 2)), np.ones(1) * 257.0, np.ones((1, 1)))
    add_packed(np.zeros(1, np.uint32), np.zeros((1, 3), np.uint8))
    opened(NARROW, np.zeros((2, 1), np.uint32))
