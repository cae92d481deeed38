"""Bits on shares: AND, comparison, equality, selection, and the ways between additive shares and bits.

Comparison works on 16 digits of 4 bits: the source says for each digit, in shares, whether it is less and whether it is
equal; four levels of AND join them, less = less_high ⊕ equal_high ∧ less_low, equal = equal_high ∧ equal_low.
AND with a triple c = a ∧ b: open d = x ⊕ a and e = y ⊕ b, then x ∧ y = c ⊕ d ∧ b ⊕ e ∧ a ⊕ d ∧ e.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from math import prod

import numpy as np
from numpy.typing import NDArray

from atoll.crypto import packed_bits
from atoll.protocols.shares.party import Party
from atoll.protocols.shares.source import Triple, pieces
from atoll.protocols.shares.values import Arithmetic, Bits

Words = NDArray[np.uint64]

_PIECE = 1 << 20  # values whose digits are compared together


async def conjunction(p: Party, x: Bits, y: Bits) -> Bits:
    """Return x ∧ y."""
    if x.shape != y.shape or x.planes.shape != y.planes.shape:
        raise ValueError(f"bits of {x.shape} and of {y.shape} do not fit")
    p.begin("and", x.planes.shape)
    if not x.size:
        return x
    triple = await p.source.ands(1, x.planes.size)
    return Bits((await _and(p, x.planes[np.newaxis], y.planes, triple))[0], x.shape)


async def negative(p: Party, x: Arithmetic) -> Bits:
    """Return whether each value is below zero, for |x| as an integer below 2^63."""
    p.begin("negative", x.shape)
    return await _by_pieces(x, lambda half: _sign(p, half))


async def equal(p: Party, x: Arithmetic, y: Arithmetic) -> Bits:
    """Return whether x = y, element by element, exactly."""
    difference = x - y
    p.begin("equal", difference.shape)
    return await _by_pieces(difference, lambda half: _zero(p, half))


async def choose(p: Party, condition: Bits, x: Arithmetic) -> Arithmetic:
    """Return x where the condition holds and 0 elsewhere; the condition's shape broadcasts to x's."""
    p.begin("choose", condition.shape, x.shape)
    bits = packed_bits.unpack(condition.planes[0], condition.size).reshape(condition.shape)
    plane = packed_bits.pack(np.broadcast_to(bits, x.shape).reshape(-1))
    flat = np.ascontiguousarray(x.half).reshape(-1)
    done = [flat[:0]]
    for cut in pieces(flat.size):
        part = plane[cut.start // 64 : -(-cut.stop // 64)]
        done.append(await p.source.chosen(part, flat[cut], opener=p))
    return Arithmetic(np.concatenate(done).reshape(x.shape), x.fraction)


def rows(bits: Bits) -> list[Bits]:
    """Return the rows of truth values (k, …) one by one; nothing is sent."""
    found = packed_bits.unpack(bits.planes[0], bits.size).reshape(bits.shape[0], -1)
    return [Bits(packed_bits.pack(row[np.newaxis]), bits.shape[1:]) for row in found]


async def to_arithmetic(p: Party, bits: Bits) -> Arithmetic:
    """Return truth values as additive shares of 0 and 1, with fraction 0.

    Source:
        Bits that are shared both ways: Rotaru and Wood, INDOCRYPT 2019 (eprint 2019/207).
    """
    if len(bits.planes) != 1:
        raise ValueError("several bits for each value become numbers by `from_bits`")
    p.begin("to arithmetic", bits.shape)
    return Arithmetic((await _numbers(p, bits.planes[0], bits.size)).reshape(bits.shape))


async def to_bits(p: Party, x: Arithmetic) -> Bits:
    """Return the 64 bits of each integer, in two's complement, lowest first.

    The two halves are added by a parallel-prefix adder of six levels (Sklansky 1960) on planes of bits.
    """
    p.begin("to bits", x.shape)
    planes = packed_bits.planes_of(x.half.reshape(-1))
    if not x.size:
        return Bits(planes, x.shape)
    # generate = a ∧ b, where party 0 has a and party 1 has b; propagate = a ⊕ b, of which each has its own half
    nothing = np.zeros_like(planes)
    a, b = (planes, nothing) if p.number == 0 else (nothing, planes)
    triple = await p.source.ands(1, planes.size)
    generate, propagate = (await _and(p, a[np.newaxis], b, triple))[0], planes.copy()
    for level in range(6):
        high = np.flatnonzero(np.arange(64) >> level & 1)
        low = (high >> level << level) - 1
        triple = await p.source.ands(2, propagate[high].size)
        found = await _and(p, np.stack((generate[low], propagate[low])), propagate[high], triple)
        generate[high] ^= found[0]
        propagate[high] = found[1]
    planes[1:] ^= generate[:-1]
    return Bits(planes, x.shape)


async def from_bits(p: Party, bits: Bits, weights: list[int] | None = None) -> Arithmetic:
    """Return Σ weightᵢ·bitᵢ as additive shares with fraction 0; the weights are 1, 2, 4, … if left out."""
    k, w = bits.planes.shape
    p.begin("from bits", bits.planes.shape)
    factors = np.array([v % (1 << 64) for v in weights or [1 << i for i in range(k)]], np.uint64)
    out = np.empty(64 * w, np.uint64)
    for cut in pieces(w, max(1, _PIECE // (64 * k))):
        part = bits.planes[:, cut]
        ones = (await _numbers(p, part.reshape(-1), 64 * part.size)).reshape(k, -1)
        out[64 * cut.start : 64 * cut.stop] = (factors[:, np.newaxis] * ones).sum(axis=0, dtype=np.uint64)
    return Arithmetic(out[: bits.size].reshape(bits.shape))


async def _numbers(p: Party, plane: Words, n: int) -> Words:
    """Turn n bits of a plane into additive halves: open b ⊕ r, then b = r or b = 1 − r."""
    out = np.empty(n, np.uint64)
    for cut in pieces(n):
        mask, numbers = await p.source.bits(cut.stop - cut.start)
        opened = await p.swap_bits(plane[cut.start // 64 : -(-cut.stop // 64)] ^ mask)
        flipped = packed_bits.unpack(opened, numbers.size).astype(bool)
        one = np.uint64(1 - p.number)
        out[cut] = np.where(flipped, one - numbers, numbers)
    return out


async def _sign(p: Party, half: Words) -> Words:
    found = await p.source.digits(half, sign=True, opener=p)
    less, equal = found.less, found.equal  # (16, w)
    w = less.shape[1]
    triple, used = await p.source.ands(2, 15 * w), 0
    while len(less) > 1:
        part, used = _part(triple, used, len(less) // 2 * w), used + len(less) // 2 * w
        joined = await _and(p, np.stack((less[0::2], equal[0::2])), equal[1::2], part)
        less, equal = less[1::2] ^ joined[0], joined[1]
    sign: Words = less[0] ^ found.top
    return sign


async def _zero(p: Party, half: Words) -> Words:
    equal = (await p.source.digits(half, sign=False, opener=p)).equal
    w = equal.shape[1]
    triple, used = await p.source.ands(1, 15 * w), 0
    while len(equal) > 1:
        part, used = _part(triple, used, len(equal) // 2 * w), used + len(equal) // 2 * w
        equal = (await _and(p, equal[np.newaxis, 0::2], equal[1::2], part))[0]
    zero: Words = equal[0]
    return zero


async def _and(p: Party, x: Words, y: Words, triple: Triple) -> Words:
    """Return x ∧ y for x (v, …) and y (…), where one y serves all v."""
    width, words = len(x), y.size
    masked = np.concatenate(((x.reshape(width, words) ^ triple.a).reshape(-1), y.reshape(-1) ^ triple.b))
    opened = await p.swap_bits(masked)
    d, e = opened[: width * words].reshape(width, words), opened[width * words :]
    out: Words = triple.c ^ (d & triple.b) ^ (e & (triple.a if p.number else triple.a ^ d))
    return out.reshape(x.shape)


def _part(triple: Triple, start: int, size: int) -> Triple:
    at = slice(start, start + size)
    return Triple(triple.a[:, at], triple.b[at], triple.c[:, at])


async def _by_pieces(x: Arithmetic, work: Callable[[Words], Awaitable[Words]]) -> Bits:
    planes = np.zeros((1, packed_bits.words(prod(x.shape))), np.uint64)
    flat = np.ascontiguousarray(x.half).reshape(-1)
    for cut in pieces(flat.size, _PIECE):
        planes[0, cut.start // 64 : -(-cut.stop // 64)] = await work(flat[cut])
    return Bits(planes, x.shape)
