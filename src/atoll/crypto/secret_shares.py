"""Shamir's secret sharing, byte by byte over GF(2^8): any t shares give the secret, fewer show nothing of it.

The field is that of AES, polynomials modulo X^8 + X^4 + X^3 + X + 1.  Products take the same time for all.

Source: Shamir, "How to share a secret", CACM 22(11), 1979.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from atoll.crypto.jit import njit, read_only
from atoll.crypto.random import Rng

U8 = NDArray[np.uint8]

MOST = 255
"""Most shares of one secret."""


def share(secret: U8, t: int, shares: int, rng: Rng) -> U8:
    """Share a secret.

    Args:
        secret: (s,) uint8.
        t: How many shares give it, 1 or more.
        shares: How many shares there are, t to 255.
        rng: Secret randomness.

    Returns:
        (shares, s) uint8; row i belongs to point i + 1.

    Raises:
        ValueError: The numbers do not fit.
    """
    if not 1 <= t <= shares <= MOST:
        raise ValueError(f"no sharing of which {t} of {shares} shares give the secret")
    coefficients = np.concatenate([secret[np.newaxis], rng.u8(t - 1, secret.size)])
    out = np.zeros((shares, secret.size), np.uint8)
    _evaluate(coefficients, out)
    return out


def combine(points: NDArray[np.int64], shares: U8) -> U8:
    """Return the secret.

    Args:
        points: (t,) int64, the points of the shares, 1 to 255, distinct.
        shares: (t, s) uint8, as many as the sharing asks for.

    Raises:
        ValueError: A point is out of range, or stands twice.
    """
    if points.size and (points.min() < 1 or points.max() > MOST or np.unique(points).size < points.size):
        raise ValueError("points of shares are distinct and lie between 1 and 255")
    out = np.zeros(shares.shape[1], np.uint8)
    _interpolate(read_only(points.astype(np.uint8)), read_only(shares), out)
    return out


@njit(inline="always")
def _times(a: np.uint8, b: np.uint8) -> np.uint8:
    product, a16, b16 = np.uint16(0), np.uint16(a), np.uint16(b)
    for bit in range(8):
        product ^= (a16 << np.uint16(bit)) * ((b16 >> np.uint16(bit)) & np.uint16(1))
    for bit in range(14, 7, -1):
        product ^= (np.uint16(0x11B) << np.uint16(bit - 8)) * ((product >> np.uint16(bit)) & np.uint16(1))
    return np.uint8(product & np.uint16(0xFF))


@njit
def _inverse(a: np.uint8) -> np.uint8:
    """Return a^254."""
    out, power = np.uint8(1), a
    for _ in range(7):
        power = _times(power, power)
        out = _times(out, power)
    return out


@njit
def _evaluate(coefficients: U8, out: U8) -> None:
    """Horner's rule at the points 1, 2, …"""
    for i in range(out.shape[0]):
        for c in range(coefficients.shape[0] - 1, -1, -1):
            for j in range(out.shape[1]):
                out[i, j] = _times(out[i, j], np.uint8(i + 1)) ^ coefficients[c, j]


@njit
def _interpolate(points: U8, shares: U8, out: U8) -> None:
    """Lagrange's formula at 0, where differences are sums."""
    for i in range(points.size):
        above, below = np.uint8(1), np.uint8(1)
        for j in range(points.size):
            if j != i:
                above = _times(above, points[j])
                below = _times(below, points[i] ^ points[j])
        weight = _times(above, _inverse(below))
        for j in range(out.size):
            out[j] ^= _times(shares[i, j], weight)


def warm() -> None:
    """Compile this module's kernels."""
    share(np.zeros(1, np.uint8), 1, 1, Rng(bytes(16)))
    combine(np.ones(1, np.int64), np.zeros((1, 1), np.uint8))
