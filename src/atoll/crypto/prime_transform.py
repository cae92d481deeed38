"""Polynomials modulo X^N + 1 and a small prime p: the negacyclic transform, in double precision, where all is exact.

Residues are signed and near zero.  A product with a constant w needs no wide words: r = x·w − ⌊x·(w/p)⌉·p, of which
every part is an integer below 2^53 as long as |x·w| is; then |r| ≤ p/2 and a little.  A forward transform lets its
numbers grow by p/2 in each of log2 N layers and reduces nothing; an inverse one multiplies three of four numbers of
every pass anyway and reduces the fourth.  With N ≤ 2^14 and p < 2^25 nothing exceeds 2^52.

Transformed numbers are in the order in which X^N + 1 splits (X^N + 1 into X^{N/2} ∓ i, and so on), and within blocks
of 64 in an order of their own, which no product notices.

Source: Shoup's constant multiplication in double precision, as in van der Hoeven, Lecerf and Quintin, "Modular SIMD
arithmetic in Mathemagix", ACM TOMS 2016; the layers as in Longa and Naehrig, CANS 2016.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from atoll.crypto.jit import njit

F64 = NDArray[np.float64]

BLOCK = 64
"""Transformed numbers are in the order of the splitting from blocks of this size upwards."""
LARGEST = 1 << 25
"""Primes are below."""

_SIDE = 64  # groups of eight numbers that the last three layers take side by side
_MAGIC = 1.5 * 2.0**52  # x + this − this is x rounded to the nearest integer, for |x| < 2^51


@dataclass(frozen=True, eq=False)
class Tables:
    """The constants of one prime and degree.

    Attributes:
        N: Degree, a power of two from 64 to 2^14.
        p: The prime, p ≡ 1 modulo 2N.
        forward: (2, N) the powers of a 2N-th root of one in the order of the layers, and each divided by p.
        last: (2, …, 7, side) those of the last three layers, for `side` groups of eight numbers side by side.
        inverse: As `forward`, of the inverses.
        first: As `last`, of the inverses.
    """

    N: int
    p: int
    forward: F64
    last: F64
    inverse: F64
    first: F64


@cache
def tables(N: int, p: int) -> Tables:
    """Return the constants of a prime; they are kept.

    Raises:
        ValueError: The transform does not serve this degree or this prime.
    """
    if N < BLOCK or N & (N - 1) or N > 1 << 14 or not 2 < p < LARGEST or (p - 1) % (2 * N):
        raise ValueError(f"no transform for N = {N} modulo {p}")
    root = next(y for x in range(2, p) if pow(y := pow(x, (p - 1) // (2 * N), p), N, p) == p - 1)
    found: list[F64] = []
    for base in (root, pow(root, -1, p)):
        powers = np.empty(N, np.int64)
        powers[0] = 1
        for j in range(1, N):
            powers[j] = int(powers[j - 1]) * base % p
        signed = np.where(powers > p // 2, powers - p, powers).astype(np.float64)[_reversed(N)]
        eight = signed[N // 8 :]
        side = min(N // 8, _SIDE)
        last = [eight[: N // 8].reshape(-1, side, 1), eight[N // 8 : 3 * N // 8].reshape(-1, side, 2)]
        last.append(eight[3 * N // 8 :].reshape(-1, side, 4))
        side_by_side = np.ascontiguousarray(np.concatenate(last, axis=2).transpose(0, 2, 1))
        found += [np.stack((signed, signed / p)), np.stack((side_by_side, side_by_side / p))]
    return Tables(N, p, *found)


def _reversed(N: int) -> NDArray[np.intp]:
    """Return the numbers below N with their bits in reverse order."""
    order = np.zeros(1, np.intp)
    while order.size < N:
        order = np.concatenate((2 * order, 2 * order + 1))
    return order


def forward(x: F64, t: Tables) -> None:
    """Transform polynomials in place.

    Args:
        x: (n, N) float64, contiguous, integers of at most p in size; transformed, at most 8·p.
        t: The prime.
    """
    _forward(x, t.forward, t.last, float(t.p))


def inverse(x: F64, t: Tables) -> None:
    """Undo `forward` in place; integers of at most 2^27 in size come out at most p/2 and a little in size."""
    _inverse(x, t.inverse, t.first, float(t.p), _centred(pow(t.N, -1, t.p), t.p))


def split(x: F64, t: Tables) -> F64:
    """Return polynomials in Y = X^{N/G}, (…, G) with G ≤ N/64, modulo each of the G factors that X^N + 1 splits into.

    Args:
        x: Coefficients of 1, Y, Y², …, at most p in size.
        t: The prime.

    Returns:
        (…, G) reduced, in the order of the transform: entry c is the number by which a product with x multiplies
        everything in block c of a transformed polynomial.
    """
    out = x.copy()
    G = x.shape[-1]
    m = 1
    while m < G:
        layer = out.reshape(*x.shape[:-1], m, 2, G // m // 2)
        high = _by(layer[..., 1, :], t.forward[:, m : 2 * m, np.newaxis], t.p)
        layer[..., 1, :] = layer[..., 0, :] - high
        layer[..., 0, :] += high
        m *= 2
    return reduced(out, t.p)


def reduced(x: F64, p: int) -> F64:
    """Return integers of at most 2^52 in size modulo p, of at most p/2 and a little in size."""
    out = np.empty(x.shape)
    _reduce(np.ascontiguousarray(x).reshape(-1), float(p), out.reshape(-1))
    return out


def _by(x: F64, constants: F64, p: int) -> F64:
    out: F64 = x * constants[0] - np.rint(x * constants[1]) * p
    return out


def _centred(value: int, p: int) -> float:
    return float(value - p if value > p // 2 else value)


@njit(inline="always")
def times(x: float, w: float, v: float, p: float) -> float:
    """Return x·w modulo p, where v = w/p."""
    return x * w - ((x * v + _MAGIC) - _MAGIC) * p


@njit
def _reduce(x: F64, p: float, out: F64) -> None:
    v = 1.0 / p
    for i in range(x.size):
        out[i] = times(x[i], 1.0, v, p)


@njit
def _forward(x: F64, w: F64, last: F64, p: float) -> None:
    """Two layers at a time down to groups of eight numbers, then three layers across many groups at a time."""
    for row in range(x.shape[0]):
        a = x[row]
        t, m = a.size >> 1, 1
        while t >= 16:
            h = t >> 1
            for i in range(m):
                w0, v0, k = w[0, m + i], w[1, m + i], 2 * (m + i)
                w1, v1, w2, v2 = w[0, k], w[1, k], w[0, k + 1], w[1, k + 1]
                b = a[2 * i * t : 2 * i * t + 4 * h]
                for j in range(h):
                    x2, x3 = times(b[j + 2 * h], w0, v0, p), times(b[j + 3 * h], w0, v0, p)
                    y1, y3 = times(b[j + h] + x3, w1, v1, p), times(b[j + h] - x3, w2, v2, p)
                    y0, y2 = b[j] + x2, b[j] - x2
                    b[j], b[j + h], b[j + 2 * h], b[j + 3 * h] = y0 + y1, y0 - y1, y2 + y3, y2 - y3
            t, m = t >> 2, m << 2
        if t == 8:
            for i in range(m):
                b = a[16 * i : 16 * i + 16]
                for j in range(8):
                    y = times(b[j + 8], w[0, m + i], w[1, m + i], p)
                    b[j + 8] = b[j] - y
                    b[j] += y
        _last_layers(a, last, p)


@njit
def _last_layers(a: F64, last: F64, p: float) -> None:
    side = last.shape[3]
    tile = np.empty((8, side), np.float64)
    for i in range(last.shape[1]):
        b, w, v = a[8 * side * i : 8 * side * (i + 1)], last[0, i], last[1, i]
        for g in range(side):
            for j in range(8):
                tile[j, g] = b[8 * g + j]
        for j in range(4):
            _across(tile[j], tile[j + 4], w[0], v[0], p)
        for j in range(2):
            _across(tile[j], tile[j + 2], w[1], v[1], p)
            _across(tile[j + 4], tile[j + 6], w[2], v[2], p)
        for j in range(4):
            _across(tile[2 * j], tile[2 * j + 1], w[3 + j], v[3 + j], p)
        for g in range(0, side, 8):
            for j in range(8):
                for k in range(8):
                    b[8 * g + 8 * j + k] = tile[j, g + k]


@njit(inline="always")
def _across(low: F64, high: F64, w: F64, v: F64, p: float) -> None:
    for g in range(low.size):
        y, x = times(high[g], w[g], v[g], p), low[g]
        low[g], high[g] = x + y, x - y


@njit
def _inverse(x: F64, w: F64, first: F64, p: float, scale: float) -> None:
    """The passes of `_forward` in reverse; what is only added up is reduced once in each pass."""
    one = 1.0 / p
    for row in range(x.shape[0]):
        a = x[row]
        _first_layers(a, first, p, scale)
        t, m = 8, a.size >> 4
        if _odd(a.size):
            for i in range(m):
                b = a[16 * i : 16 * i + 16]
                for j in range(8):
                    y = b[j] - b[j + 8]
                    b[j] = times(b[j] + b[j + 8], 1.0, one, p)
                    b[j + 8] = times(y, w[0, m + i], w[1, m + i], p)
            t, m = 16, m >> 1
        while m >= 1:
            m >>= 1
            for i in range(m):
                w0, v0, k = w[0, m + i], w[1, m + i], 2 * (m + i)
                w1, v1, w2, v2 = w[0, k], w[1, k], w[0, k + 1], w[1, k + 1]
                b = a[4 * i * t : 4 * i * t + 4 * t]
                for j in range(t):
                    y0, y1 = b[j] + b[j + t], times(b[j] - b[j + t], w1, v1, p)
                    y2, y3 = b[j + 2 * t] + b[j + 3 * t], times(b[j + 2 * t] - b[j + 3 * t], w2, v2, p)
                    b[j], b[j + t] = times(y0 + y2, 1.0, one, p), times(y1 + y3, 1.0, one, p)
                    b[j + 2 * t], b[j + 3 * t] = times(y0 - y2, w0, v0, p), times(y1 - y3, w0, v0, p)
            t, m = t << 2, m >> 1


@njit
def _odd(n: int) -> bool:
    """Return whether a single layer stands between the groups of eight and the passes of two layers."""
    layers = 0
    while n > 8:
        n, layers = n >> 1, layers + 1
    return layers % 2 == 1


@njit
def _first_layers(a: F64, first: F64, p: float, scale: float) -> None:
    side = first.shape[3]
    tile = np.empty((8, side), np.float64)
    by = scale / p
    for i in range(first.shape[1]):
        b, w, v = a[8 * side * i : 8 * side * (i + 1)], first[0, i], first[1, i]
        for g in range(0, side, 8):
            for j in range(8):
                for k in range(8):
                    tile[j, g + k] = times(b[8 * g + 8 * j + k], scale, by, p)
        for j in range(4):
            _back(tile[2 * j], tile[2 * j + 1], w[3 + j], v[3 + j], p)
        for j in range(2):
            _back(tile[j], tile[j + 2], w[1], v[1], p)
            _back(tile[j + 4], tile[j + 6], w[2], v[2], p)
        for j in range(4):
            _back(tile[j], tile[j + 4], w[0], v[0], p)
        for g in range(side):
            for j in range(8):
                b[8 * g + j] = tile[j, g]


@njit(inline="always")
def _back(low: F64, high: F64, w: F64, v: F64, p: float) -> None:
    for g in range(low.size):
        x, y = low[g], high[g]
        low[g], high[g] = x + y, times(x - y, w[g], v[g], p)


def warm() -> None:
    """Compile this module's kernels."""
    t = tables(64, 257)
    x = np.ones((1, 64))
    forward(x, t)
    inverse(x, t)
