"""Encryption that adds, and multiplies by known polynomials: BGV over residues that fit into double precision.

A ciphertext of m is (c₀, c₁) with c₀ + c₁·s = m + t·e modulo q, q a product of primes of 22 bits.  Who knows
polynomials w adds up c·w, blinds the sum by an encryption of zero under fresh randomness and by a uniform number of
which only what the owner of s shall read stands out, and switches to few of the primes before it answers.  Two sets of
parameters, and no way to make another; docs/parameters-shares.md derives them.

Source: Brakerski, Gentry and Vaikuntanathan, ITCS 2012; blinding as in Ishai and Paskin, TCC 2007, by noise.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from math import log2, prod

import numpy as np
from numpy.typing import NDArray

from atoll.crypto.aes import expand
from atoll.crypto.gaussian import Gaussian
from atoll.crypto.jit import njit, read_only
from atoll.crypto.prime_transform import Tables, forward, inverse, reduced, tables, times
from atoll.crypto.random import Rng

F64 = NDArray[np.float64]
U64 = NDArray[np.uint64]
Bytes = NDArray[np.uint8]

SIGMA = 3.2
"""Deviation of secrets and of noise."""

PART = 26
"""Bits of a part: uniform numbers are sums of parts times powers of 2^26."""


@dataclass(frozen=True)
class Chain:
    """One named set of parameters.

    Attributes:
        N: Degree.
        primes: q is their product.
        kept: An answer is switched to the first so many.
    """

    N: int
    primes: tuple[int, ...]
    kept: int

    @property
    def tables(self) -> tuple[Tables, ...]:
        """The transforms modulo each prime."""
        return tuple(tables(self.N, p) for p in self.primes)

    @property
    def blind_bits(self) -> int:
        """The uniform number lies in ±2^(b − 1), with 2^b ≤ q/2."""
        return int(log2(prod(self.primes))) - 1

    @property
    def factor(self) -> int:
        """The product of the primes that an answer loses."""
        return prod(self.primes[self.kept :])


ELEMENTS = Chain(4096, (2236417, 2277377, 2424833, 2482177, 2572289), 2)
"""Products of numbers in slots: q of 106.0 bits."""

SLOTS = (2056193, 1990657, 1908737, 1892353, 1843201, 1810433, 1794049, 1785857, 1769473)
"""The moduli t of slots: together 187.5 bits."""

MATRICES = Chain(8192, (4079617, 4046849, 3850241, 3735553, 3686401, 3604481, 3588097, 3489793, 3391489), 4)
"""Matrix products modulo t = 2^64: q of 196.4 bits."""


@dataclass(frozen=True, repr=False)
class Secret:
    """s, transformed, (L, N), and the deviation's sampler."""

    chain: Chain
    hat: F64


@dataclass(frozen=True, repr=False)
class Public:
    """An encryption of zero modulo t, transformed: what blinds are made of, (2, L, N)."""

    chain: Chain
    t: int
    hats: F64


def secret(chain: Chain, rng: Rng) -> Secret:
    """Draw s, each coefficient with deviation 3.2."""
    s = small(rng, chain.N)
    return Secret(chain, transformed(chain, s[np.newaxis])[:, 0])


@cache
def _noise() -> Gaussian:
    return Gaussian(SIGMA)


def small(rng: Rng, *shape: int) -> F64:
    """Return noise of deviation 3.2 as integers in double precision."""
    return _noise().sample(rng, prod(shape)).astype(np.float64).reshape(shape)


def transformed(chain: Chain, x: F64) -> F64:
    """Return polynomials of integers of at most 2^21 in size, (n, N), transformed modulo every prime, (L, n, N)."""
    out = np.empty((len(chain.primes), *x.shape))
    for row, t in zip(out, chain.tables, strict=True):
        row[:] = x
        forward(row, t)
    return out


def uniform(chain: Chain, prime: int, seed: bytes, label: bytes, n: int) -> F64:
    """Expand a seed into n uniform polynomials modulo one prime, taken as transformed, (n, N).

    Words of 62 bits are reduced: no residue is likelier than another by more than 2^-40 of its probability.
    """
    text = b"atoll/homomorphic/v1" + len(label).to_bytes(8, "little") + label + prime.to_bytes(1, "little") + seed
    key = hashlib.sha256(text).digest()
    words = expand(key[:16], 8 * n * chain.N, key[16:]).view(np.uint64)
    out = np.empty((n, chain.N))
    p = chain.primes[prime]
    _reduce_words(words, float(p), centred(1 << 31, p), out.reshape(-1))
    return out


def encrypt(key: Secret, t: int, plain: Sequence[F64], a: Sequence[F64], rng: Rng) -> list[Bytes]:
    """Encrypt polynomials m.

    Args:
        key: The secret.
        t: The modulus of what is encrypted.
        plain: m modulo each prime, of at most 2^22 in size, (n, N) each.
        a: The uniform part modulo each prime, transformed, (n, N) each.
        rng: Secret randomness.

    Returns:
        c₀ = m + t·e − a·s, transformed, modulo each prime as `packed` for the wire.
    """
    e = small(rng, *plain[0].shape)
    found = []
    for p, m, uniform_part, hat, table in zip(key.chain.primes, plain, a, key.hat, key.chain.tables, strict=True):
        out = m.copy()
        add_scaled(e.reshape(-1), centred(t, p), float(p), out.reshape(-1))
        forward(out, table)
        _subtract_product(out, uniform_part, hat, float(p))
        found.append(packed(out, p))
    return found


def public(key: Secret, t: int, seed: bytes, label: bytes, rng: Rng) -> list[Bytes]:
    """Return the c₀ of an encryption of zero, (1, N, 3) for each prime."""
    chain = key.chain
    a = [uniform(chain, i, seed, label, 1) for i in range(len(chain.primes))]
    return encrypt(key, t, [np.zeros((1, chain.N))] * len(a), a, rng)


def public_from(chain: Chain, t: int, c0: Sequence[Bytes] | Bytes, seed: bytes, label: bytes) -> Public:
    """Put an encryption of zero together from its packed c₀, (1, N, 3) for each prime, and the seed of its c₁."""
    hats = [
        np.stack((unpacked(part, p)[0], uniform(chain, i, seed, label, 1)[0]))
        for i, (part, p) in enumerate(zip(c0, chain.primes, strict=True))
    ]
    return Public(chain, t, np.stack(hats, axis=1))


def uniform_parts(rng: Rng, bits: int, *shape: int) -> F64:
    """Return the parts of uniform integers of so many bits, (ceil(bits / 26), *shape), lowest first."""
    count = -(-bits // PART)
    words = rng.u32(count, *shape)
    words[:-1] &= np.uint32((1 << PART) - 1)
    words[-1] &= np.uint32((1 << (bits - PART * (count - 1))) - 1)
    return words.astype(np.float64)


def sum_of_parts(parts: F64, moduli: Sequence[int], offset: int = 0, factor: int = 1) -> F64:
    """Return (Σ partₖ·2^(26·k) + offset)·factor modulo primes below 2^22, (primes, …), for at most 16 parts, (P, …)."""
    constants = np.array([[centred(factor * (1 << (PART * k)), p) for k in range(len(parts))] for p in moduli])
    offsets = np.array([centred(offset * factor, p) for p in moduli])
    out = np.empty((len(moduli), *parts.shape[1:]))
    _add_parts(
        parts.reshape(len(parts), -1), constants, offsets, np.array(moduli, np.float64), out.reshape(len(moduli), -1)
    )
    return out


def words_of_parts(parts: F64, offset: int = 0) -> U64:
    """Return Σ partₖ·2^(26·k) + offset modulo 2^64."""
    out = np.full(parts.shape[1:], offset % (1 << 64), np.uint64)
    for k, part in enumerate(parts):
        if PART * k < 64:
            out += part.astype(np.uint64) << np.uint64(PART * k)
    return out


def blinded(public: Public, sums: F64, masks: F64, rng: Rng) -> F64:
    """Blind sums of products, and switch them to the kept primes.

    Args:
        public: An encryption of zero by the owner of s.
        sums: c₀ and c₁ modulo every prime, transformed, reduced, (2, L, n, N); overwritten.
        masks: What is added to c₀'s polynomial, modulo every prime, reduced, (L, n, N): modulo t what shall hide the
            sum, and otherwise uniform and wide.
        rng: Secret randomness.

    Returns:
        c₀ and c₁ modulo the kept primes, (2, kept, n, N), coefficients: of the sum times a constant, see `opened`.
    """
    chain, n = public.chain, sums.shape[2]
    u = transformed(chain, small(rng, n, chain.N))
    e = small(rng, n, chain.N)
    for i, (p, table) in enumerate(zip(chain.primes, chain.tables, strict=True)):
        for side in range(2):
            add_product(sums[side, i], u[i], public.hats[side, i], float(p))
            inverse(sums[side, i], table)
        sums[0, i] += masks[i]
        add_scaled(e.reshape(-1), centred(public.t, p), float(p), sums[1, i].reshape(-1))
    switch(sums, switching(chain, public.t), chain.kept)
    return sums[:, : chain.kept]


def opened(key: Secret, c0: F64, c1: F64) -> F64:
    """Return the phase c₀ + c₁·s modulo the kept primes, (kept, n, N), reduced; arguments are overwritten."""
    for i, (p, table) in enumerate(zip(key.chain.primes[: key.chain.kept], key.chain.tables, strict=False)):
        forward(c1[i], table)
        multiply(c1[i], key.hat[i], float(p))
        inverse(c1[i], table)
        c0[i] = reduced(c0[i] + c1[i], p)
    return c0


def words(chain: Chain, phases: F64) -> U64:
    """Return phases (kept, …) times the lost primes, modulo t = 2^64: the sum that was blinded."""
    weights = [prod(chain.primes[: chain.kept]) // p for p in chain.primes[: chain.kept]]
    q, out = prod(chain.primes[: chain.kept]), np.zeros(phases.shape[1:], np.uint64)
    turns = np.zeros(phases.shape[1:])
    for phase, p, weight in zip(phases, chain.primes, weights, strict=False):
        y = reduced(phase * centred(pow(weight, -1, p), p), p)
        turns += y / p
        out += y.astype(np.int64).view(np.uint64) * np.uint64(weight % (1 << 64))
    out -= np.rint(turns).astype(np.int64).view(np.uint64) * np.uint64(q % (1 << 64))
    out *= np.uint64(chain.factor % (1 << 64))
    return out


def modulo(chain: Chain, phases: F64, t: int) -> F64:
    """Return phases (kept, …) times the lost primes, modulo a prime t below 2^22, reduced."""
    q = prod(chain.primes[: chain.kept])
    out, turns = np.zeros(phases.shape[1:]), np.zeros(phases.shape[1:])
    for phase, p in zip(phases, chain.primes, strict=False):
        y = reduced(phase * centred(pow(q // p, -1, p), p), p)
        turns += y / p
        out += y * centred(q // p * chain.factor % t, t)
    out -= np.rint(turns) * centred(q * chain.factor % t, t)
    return reduced(out, t)


def packed(x: F64, p: int) -> Bytes:
    """Return residues (…) as three bytes each, (…, 3)."""
    out = np.empty((*x.shape, 3), np.uint8)
    _pack(np.ascontiguousarray(x).reshape(-1), float(p), out.reshape(-1))
    return out


def unpacked(parts: Bytes, p: int) -> F64:
    """Return residues (…) of three bytes each, reduced, whatever the bytes are."""
    out = np.empty(parts.shape[:-1])
    _unpack(read_only(np.ascontiguousarray(parts).reshape(-1)), float(p), out.reshape(-1))
    return out


@cache
def switching(chain: Chain, t: int) -> F64:
    """Return for each prime −1/t, and for each pair of primes t and 1/p, as `switch` needs them, (L, 2 + 2·L)."""
    L = len(chain.primes)
    out = np.zeros((L, 2 + 2 * L))
    for i, p in enumerate(chain.primes):
        out[i, 0], out[i, 1] = p, centred(pow(-t, -1, p), p)
        for j, other in enumerate(chain.primes):
            if i != j:
                out[i, 2 + j] = centred(t % other, other)
                out[i, 2 + L + j] = centred(pow(p, -1, other), other)
    return out


def centred(value: int, p: int) -> float:
    """Return an integer modulo p, of at most p/2 in size, in double precision."""
    value %= p
    return float(value - p if value > p // 2 else value)


@njit
def _reduce_words(words: U64, p: float, c: float, out: F64) -> None:
    mask, v = np.uint64((1 << 31) - 1), 1.0 / p
    for i in range(out.size):
        high, low = np.float64(np.int64(words[i] >> np.uint64(33))), np.float64(np.int64(words[i] & mask))
        out[i] = times(high * c + low, 1.0, v, p)


@njit
def _add_parts(parts: F64, constants: F64, offsets: F64, moduli: F64, out: F64) -> None:
    tile = np.empty(1024)
    for at in range(0, out.shape[1], 1024):
        size = min(1024, out.shape[1] - at)
        for i in range(moduli.size):
            p = moduli[i]
            v, into = 1.0 / p, out[i, at : at + size]
            for j in range(size):
                tile[j] = offsets[i]
            for k in range(parts.shape[0]):
                part, constant = parts[k, at : at + size], constants[i, k]
                for j in range(size):
                    tile[j] += part[j] * constant  # below 2^47 each: exact
            for j in range(size):
                into[j] = times(tile[j], 1.0, v, p)


@njit
def add_scaled(x: F64, factor: float, p: float, out: F64) -> None:
    """Add x·factor modulo p to `out`, both (n,)."""
    v = factor / p
    for i in range(out.size):
        out[i] += times(x[i], factor, v, p)


@njit
def _subtract_product(x: F64, a: F64, s: F64, p: float) -> None:
    v = 1.0 / p
    for r in range(x.shape[0]):
        for j in range(x.shape[1]):
            x[r, j] = times(x[r, j] - times(a[r, j] * s[j], 1.0, v, p), 1.0, v, p)


@njit
def add_product(x: F64, u: F64, key: F64, p: float) -> None:
    """Add u·key modulo p to x, transformed polynomials (n, N) and (N,)."""
    v = 1.0 / p
    for r in range(x.shape[0]):
        for j in range(x.shape[1]):
            x[r, j] += times(u[r, j] * key[j], 1.0, v, p)


@njit
def multiply(x: F64, s: F64, p: float) -> None:
    """Multiply transformed polynomials (n, N) by one, (N,), modulo p."""
    v = 1.0 / p
    for r in range(x.shape[0]):
        for j in range(x.shape[1]):
            x[r, j] = times(x[r, j] * s[j], 1.0, v, p)


@njit
def switch(c: F64, constants: F64, kept: int) -> None:
    """Drop the last primes one by one: (c + t·d) / p for the d of at most p/2 in size that makes it divisible."""
    L = c.shape[1]
    for side in range(c.shape[0]):
        for r in range(c.shape[2]):
            for i in range(L - 1, kept - 1, -1):
                p, minus = constants[i, 0], constants[i, 1]
                v = 1.0 / p
                last = c[side, i, r]
                for j in range(last.size):
                    last[j] = times(times(last[j], 1.0, v, p), minus, minus / p, p)
                for k in range(i):
                    o, t, by = constants[k, 0], constants[i, 2 + k], constants[i, 2 + L + k]
                    row = c[side, k, r]
                    t_o, by_o = t / o, by / o
                    for j in range(last.size):
                        row[j] = times(row[j] + times(last[j], t, t_o, o), by, by_o, o)


@njit
def _pack(x: F64, p: float, out: Bytes) -> None:
    v = 1.0 / p
    for i in range(x.size):
        word = np.int64(times(x[i], 1.0, v, p))
        word += np.int64(p) & (word >> 63)
        out[3 * i] = np.uint8(word & 255)
        out[3 * i + 1] = np.uint8((word >> 8) & 255)
        out[3 * i + 2] = np.uint8(word >> 16)


@njit
def _unpack(parts: Bytes, p: float, out: F64) -> None:
    v = 1.0 / p
    for i in range(out.size):
        word = np.int64(parts[3 * i]) | np.int64(parts[3 * i + 1]) << 8 | np.int64(parts[3 * i + 2]) << 16
        out[i] = times(np.float64(word), 1.0, v, p)


def warm() -> None:
    """Compile this module's kernels."""
    x, flat, constants = np.ones((1, 1)), np.ones(1), np.ones((2, 6))
    _reduce_words(np.ones(1, np.uint64), 257.0, 1.0, flat)
    _add_parts(x, x, flat, flat, x)
    add_scaled(flat, 1.0, 257.0, flat)
    for kernel in (_subtract_product, add_product):
        kernel(x, x, flat, 257.0)
    multiply(x, flat, 257.0)
    switch(np.ones((2, 2, 1, 1)), constants, 1)
    _pack(flat, 257.0, np.zeros(3, np.uint8))
    unpacked(np.zeros((1, 3), np.uint8), 257)
