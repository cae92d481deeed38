"""Discrete Gaussian noise on the integers: a cumulative table where σ is small, rounding where σ is large.

D_σ gives x the probability proportional to exp(−x² / 2σ²), so σ is the standard deviation (up to 2^-100 for σ ≥ 3).

Source: Micciancio, Walter, "Gaussian sampling over the integers", CRYPTO 2017, section 2 (what a table must hold);
NIST round 3 submission of FrodoKEM, section 2.2.4 (sampling by comparing one word with the whole table).
"""

from decimal import Decimal, localcontext

import numpy as np
from numpy.typing import NDArray

from atoll.crypto.jit import njit
from atoll.crypto.random import Rng

ROUNDED_FROM = float(1 << 16)
"""From this σ on a rounded double-precision Gaussian is used: it differs from D_σ by less than 2^-36 relatively."""

_SCANNED = 256  # tables up to this length are scanned in full, longer ones are bisected
_CHUNK = 1 << 19


def table(sigma: float) -> NDArray[np.int64]:
    """Return the cumulative table of |x| for x ~ D_σ.

    Args:
        sigma: σ, 0 ≤ σ < 2^16.  0 gives the empty table, whose samples are all 0.

    Returns:
        t (tail,) int64, t[i] = ⌊2^63 · P(|x| ≤ i)⌉ as long as that is below 2^63.  |x| is the number of entries
        that a uniform 63-bit word reaches.

    Raises:
        ValueError: σ is negative, or so large that `sample` rounds instead.
    """
    if not 0 <= sigma < ROUNDED_FROM:
        raise ValueError(f"a table serves 0 <= sigma < {ROUNDED_FROM:.0f}, got {sigma}")
    if sigma == 0:
        return np.zeros(0, np.int64)
    with localcontext() as exact:
        exact.prec = 60
        step = (-1 / (2 * Decimal(repr(float(sigma))) ** 2)).exp()  # exp(−1/2σ²)
        weights, ratio, weight = [Decimal(1)], step, Decimal(1)
        while weight > Decimal(10) ** -40:  # weight of x + 1 = weight of x · step^(2x+1)
            weight *= ratio
            ratio *= step * step
            weights.append(2 * weight)
        total, reached, entries = sum(weights), Decimal(0), []
        for weight in weights:
            reached += weight
            entries.append(int((reached / total * 2**63).to_integral_value()))
    return np.array([entry for entry in entries if entry < 2**63], np.int64)


class Gaussian:
    """A sampler of D_σ.

    Args:
        sigma: σ ≥ 0.

    Raises:
        ValueError: σ is negative or not finite, or above 2^48, where double precision ends.
    """

    def __init__(self, sigma: float) -> None:
        if not 0 <= sigma <= 2.0**48:
            raise ValueError(f"sigma must lie between 0 and 2^48, got {sigma}")
        self.sigma = float(sigma)
        self._table = table(sigma) if sigma < ROUNDED_FROM else np.zeros(0, np.int64)

    def sample(self, rng: Rng, n: int) -> NDArray[np.int64]:
        """Return n independent samples, (n,) int64.

        Tables of up to 256 entries (σ ≤ 27) are compared in full with every word: time and memory access do not
        depend on the samples.  Longer tables are bisected in a fixed number of steps.
        """
        out = np.empty(n, np.int64)
        for at in range(0, n, _CHUNK):
            part = out[at : at + _CHUNK]
            if self.sigma >= ROUNDED_FROM:
                part[:] = _rounded(self.sigma, rng, part.size)
            elif self._table.size > _SCANNED:
                _bisect(rng.u64(part.size), self._table, part)
            else:
                _scan(rng.u64(part.size), self._table, part)
        return out


def _rounded(sigma: float, rng: Rng, n: int) -> NDArray[np.int64]:
    """Round Box and Muller's pairs; 64-bit words keep the tail up to 9.4 σ."""
    half = (n + 1) // 2
    u = (rng.u64(2, half).astype(np.float64) + 0.5) * 2.0**-64
    radius, angle = sigma * np.sqrt(-2.0 * np.log(u[0])), 2.0 * np.pi * u[1]
    pairs: NDArray[np.float64] = np.concatenate((radius * np.cos(angle), radius * np.sin(angle)))
    return np.rint(pairs[:n]).astype(np.int64)


@njit
def _scan(words: NDArray[np.uint64], t: NDArray[np.int64], out: NDArray[np.int64]) -> None:
    """Count for every word how many entries it reaches, the same comparisons for all; the lowest bit is the sign."""
    r = np.empty(1024, np.int64)
    count = np.empty(1024, np.int64)
    for at in range(0, words.size, 1024):
        m = min(1024, words.size - at)
        for i in range(m):
            r[i] = np.int64(words[at + i] >> np.uint64(1))
            count[i] = 0
        for e in range(0, t.size - 3, 4):
            t0, t1, t2, t3 = t[e], t[e + 1], t[e + 2], t[e + 3]
            for i in range(m):
                count[i] += np.int64(r[i] >= t0) + np.int64(r[i] >= t1) + np.int64(r[i] >= t2) + np.int64(r[i] >= t3)
        for e in range(t.size - t.size % 4, t.size):
            t0 = t[e]
            for i in range(m):
                count[i] += np.int64(r[i] >= t0)
        for i in range(m):
            sign = np.int64(words[at + i] & np.uint64(1))
            out[at + i] = (count[i] ^ -sign) + sign


@njit
def _bisect(words: NDArray[np.uint64], t: NDArray[np.int64], out: NDArray[np.int64]) -> None:
    """As `_scan`, by a search of a fixed number of steps without branches."""
    top = 1
    while 2 * top <= t.size:
        top *= 2
    for i in range(words.size):
        r = np.int64(words[i] >> np.uint64(1))
        low, step = 0, top
        while step > 0:
            at = low + step if low + step < t.size else t.size
            low += (at - low) * int(r >= t[at - 1])  # `low` entries are reached for certain
            step >>= 1
        sign = np.int64(words[i] & np.uint64(1))
        out[i] = (low ^ -sign) + sign


def warm() -> None:
    """Compile this module's kernels."""
    for t in (table(1.0), table(40.0)):
        _scan(np.zeros(1, np.uint64), t, np.zeros(1, np.int64))
        _bisect(np.zeros(1, np.uint64), t, np.zeros(1, np.int64))
