"""Bits on replicated shares: as `logic`, for three parties.

x = u + v with u = x₀ + x₁, which party 0 knows and shares as bits, and v = x₂, whose bits parties 1 and 2 know already.
Carries of u + v come from g = u ∧ v and h = u ⊕ v, joined as g = g_high ⊕ h_high ∧ g_low, h = h_high ∧ h_low: in a tree
for the sign, in a parallel-prefix adder for all bits.  A bit becomes a number in the same way: b = c ⊕ b₂ with
c = b₀ ⊕ b₁, which party 0 knows, is c + b₂ − 2·c·b₂.

Source: Mohassel and Rindal, ABY3, ACM CCS 2018, section 5; Sklansky 1960.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import numpy as np
from numpy.typing import NDArray

from atoll.crypto import packed_bits
from atoll.protocols.shares.replicated import Member
from atoll.protocols.shares.replicated_values import Replicated, ReplicatedBits
from atoll.protocols.shares.source import pieces

Words = NDArray[np.uint64]

_PIECE = 1 << 19  # values whose bits are worked on together


async def conjunction(p: Member, x: ReplicatedBits, y: ReplicatedBits) -> ReplicatedBits:
    """Return x ∧ y."""
    if x.shape != y.shape or x.own.shape != y.own.shape:
        raise ValueError(f"bits of {x.shape} and of {y.shape} do not fit")
    p.begin("and", x.own.shape)
    if not x.size:
        return x
    return ReplicatedBits.of(await p.both_bits(x.parts, y.parts), x.shape)


async def negative(p: Member, x: Replicated) -> ReplicatedBits:
    """Return whether each value is below zero, for |x| as an integer below 2^63."""
    p.begin("negative", x.shape)
    return await _by_pieces(x, lambda part: _sign(p, part))


async def equal(p: Member, x: Replicated, y: Replicated) -> ReplicatedBits:
    """Return whether x = y, element by element, exactly."""
    difference = x - y
    p.begin("equal", difference.shape)
    return await _by_pieces(difference, lambda part: _zero(p, part))


async def choose(p: Member, condition: ReplicatedBits, x: Replicated) -> Replicated:
    """Return x where the condition holds and 0 elsewhere; the condition's shape broadcasts to x's."""
    number = await to_arithmetic(p, condition)
    return await p.mul(number, x)


async def to_arithmetic(p: Member, bits: ReplicatedBits) -> Replicated:
    """Return truth values as shares of 0 and 1, with fraction 0."""
    if len(bits.own) != 1:
        raise ValueError("several bits for each value become numbers by `from_bits`")
    p.begin("to arithmetic", bits.shape)
    return (await _numbers(p, bits)).reshape(*bits.shape)


async def to_bits(p: Member, x: Replicated) -> ReplicatedBits:
    """Return the 64 bits of each integer, in two's complement, lowest first."""
    p.begin("to bits", x.shape)
    if not x.size:
        nothing = np.zeros((64, 0), np.uint64)
        return ReplicatedBits(nothing, nothing, x.shape)
    u, v = await _addends(p, x.reshape(-1))
    generate, propagate = await p.both_bits(u, v), u ^ v
    sums = propagate.copy()
    for level in range(6):
        high = np.flatnonzero(np.arange(64) >> level & 1)
        low = (high >> level << level) - 1
        joint = np.stack((generate[:, low], propagate[:, low]), axis=1)  # (2, 2, 32, w)
        found = await p.both_bits(joint, np.stack([propagate[:, high]] * 2, axis=1))
        generate[:, high] ^= found[:, 0]
        propagate[:, high] = found[:, 1]
    sums[:, 1:] ^= generate[:, :-1]
    return ReplicatedBits.of(sums, x.shape)


async def from_bits(p: Member, bits: ReplicatedBits, weights: list[int] | None = None) -> Replicated:
    """Return Σ weightᵢ·bitᵢ with fraction 0; the weights are 1, 2, 4, … if left out."""
    k, w = bits.own.shape
    p.begin("from bits", bits.own.shape)
    factors = np.array([v % (1 << 64) for v in weights or [1 << i for i in range(k)]], np.uint64)[:, np.newaxis]
    out = np.empty((2, 64 * w), np.uint64)
    for cut in pieces(w, max(1, _PIECE // (64 * k))):
        part = bits.parts[..., cut].reshape(2, 1, -1)
        ones = await _numbers(p, ReplicatedBits.of(part, (64 * part.shape[-1],)))
        for into, number in zip(out, (ones.own, ones.next), strict=True):
            into[64 * cut.start : 64 * cut.stop] = (factors * number.reshape(k, -1)).sum(axis=0, dtype=np.uint64)
    return Replicated(out[0, : bits.size], out[1, : bits.size]).reshape(*bits.shape)


def rows(bits: ReplicatedBits) -> list[ReplicatedBits]:
    """Return the rows of truth values (k, …) one by one; nothing is sent."""
    found = packed_bits.unpack(bits.parts[:, 0], bits.size).reshape(2, bits.shape[0], -1)
    return [ReplicatedBits.of(packed_bits.pack(found[:, [i]]), bits.shape[1:]) for i in range(bits.shape[0])]


async def _addends(p: Member, x: Replicated, sign: int = 1) -> tuple[Words, Words]:
    """Return the bits of u = x₀ + x₁, and of v = x₂ or of −x₂, as parts (2, 64, w) each."""
    mine = packed_bits.planes_of(x.own + x.next)  # party 0's is u
    theirs = packed_bits.planes_of((x.next if p.number == 1 else x.own) * np.uint64(sign % (1 << 64)))
    u = np.stack(await p.spread(mine, bits=True))
    return u, p.held_bits(theirs, x.shape).parts


async def _sign(p: Member, x: Replicated) -> Words:
    u, v = await _addends(p, x)
    h = u ^ v
    top, u, v, h = h[:, 63], u[:, :63], v[:, :63], h[:, :63]
    g = await p.both_bits(u, v)
    while g.shape[1] > 1:
        n = g.shape[1] // 2 * 2  # an odd one on top waits for the next level
        high, low = slice(1, n, 2), slice(0, n, 2)
        joint = np.stack((g[:, low], h[:, low]), axis=1)
        found = await p.both_bits(joint, np.stack([h[:, high]] * 2, axis=1))
        g = np.concatenate((g[:, high] ^ found[:, 0], g[:, n:]), axis=1)
        h = np.concatenate((found[:, 1], h[:, n:]), axis=1)
    sign: Words = g[:, 0] ^ top
    return sign


async def _zero(p: Member, x: Replicated) -> Words:
    """x = 0 where the bits of u and of −v are the same."""
    u, v = await _addends(p, x, -1)
    same = p.invert(ReplicatedBits.of(u ^ v, x.shape)).parts
    while same.shape[1] > 1:
        same = await p.both_bits(same[:, 0::2], same[:, 1::2])
    zero: Words = same[:, 0]
    return zero


async def _numbers(p: Member, bits: ReplicatedBits) -> Replicated:
    n = bits.size
    own, following = (packed_bits.unpack(part[0], n).astype(np.uint64) for part in (bits.own, bits.next))
    c = Replicated(*await p.spread(own ^ following, bits=False))  # party 0's is b₀ ⊕ b₁
    b = p.held(following if p.number == 1 else own)
    return c + b - (await p.mul(c, b)).scaled(2)


async def _by_pieces(x: Replicated, work: Callable[[Replicated], Awaitable[Words]]) -> ReplicatedBits:
    planes = np.zeros((2, 1, packed_bits.words(x.size)), np.uint64)
    flat = x.reshape(-1)
    for cut in pieces(x.size, _PIECE):
        planes[:, 0, cut.start // 64 : -(-cut.stop // 64)] = await work(flat[cut])
    return ReplicatedBits.of(planes, x.shape)
