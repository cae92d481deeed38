"""The local computations of both roles, arrays in and out, and the one loop that lets them overlap with sending."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from atoll.core.errors import ContractError, InputError
from atoll.crypto import tmmo
from atoll.crypto.gaussian import Gaussian
from atoll.crypto.random import Rng
from atoll.crypto.ring import Transformed
from atoll.protocols.fixed_matrix_product import kernels
from atoll.protocols.fixed_matrix_product.matrices import Matrix
from atoll.protocols.fixed_matrix_product.terms import Agreement

A = TypeVar("A")
U64 = NDArray[np.uint64]
Secret = NDArray[np.uint8]
Row = Callable[[int, int], NDArray[np.int64]]
Words = NDArray[Any]  # uint32 or uint64, as the agreement says
Parts = tuple[Words, ...]  # corrections as they travel: words, or two planes


async def in_turn(calls: Sequence[Callable[[], Awaitable[A]]], use: Callable[[A], Awaitable[None]]) -> None:
    """Use the results of calls in order; each call runs while the result before it is being used."""
    if not calls:
        return
    running = asyncio.ensure_future(calls[0]())
    try:
        for at in range(len(calls)):
            ready = await running
            if at + 1 < len(calls):
                running = asyncio.ensure_future(calls[at + 1]())
            await use(ready)
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


def check_output(agreement: Agreement, output: str, count: int) -> None:
    """Refuse a call that the terms do not name, or one without vectors."""
    if agreement.terms.output != output:
        raise ContractError(f"the terms send this product to {agreement.terms.output}, not to {output}")
    if count < 1:
        raise InputError(f"a product takes at least one vector, not {count}")


def check_matrix(agreement: Agreement, matrix: Matrix) -> None:
    """Refuse a matrix outside the public bounds, on which noise and scale rest."""
    bounds, mine = agreement.facts, matrix.facts()
    for name in ("largest", "row_norm", "row_sum", "spectral"):
        if getattr(mine, name) > getattr(bounds, name) * (1 + 1e-9):
            raise InputError(
                f"matrix {agreement.terms.matrix or 'M'} exceeds the agreed bound on its {name.replace('_', ' ')}",
                cure="Agree on wider bounds, clip the column, or use fewer fractional bits.",
            )


def transform(agreement: Agreement, seed: bytes) -> Transformed:
    """Expand A and transform it for products with secrets s."""
    ring = agreement.params.ring
    return ring.transform(ring.expand(seed, agreement.label, agreement.n), ring.limb_bits_for(ring.N**0.5))


class Hint(NamedTuple):
    """What the owner computes once.

    Attributes:
        rows: The transpose of H′, (N, k): H = M·A, rounded to its bits from t up.
        shift: ½ Σ_j ρ_j with ρ = H − 2^t·H′, (k,): what rounding adds on average over s, to be taken off answers.
    """

    rows: Words
    shift: U64


def hint(agreement: Agreement, matrix: Matrix, seed: bytes) -> Hint:
    """Return H′ and its shift."""
    ring, t = agreement.params.ring, agreement.dropped_bits
    h = matrix.hint(ring, ring.expand(seed, agreement.label, agreement.n))
    shift = np.zeros(agreement.k, np.int64)
    if t:
        h += np.uint64(1 << (t - 1))
        shift = ((h & np.uint64((1 << t) - 1)).sum(axis=1).astype(np.int64) - (agreement.params.N << (t - 1))) // 2
        h = (h & ring.mask) >> np.uint64(t)
    return Hint(np.ascontiguousarray(h.T.astype(agreement.word)), shift.view(np.uint64))


def mask(
    agreement: Agreement, a: Transformed, noise: Gaussian, rng: Rng, secrets: Sequence[Secret], rows: Sequence[Row]
) -> kernels.Planes:
    """Mask a group of vectors, each with its own s and e.

    Args:
        agreement: Sizes and parameters.
        a: A, transformed.
        noise: Sampler of e.
        rng: Secret randomness.
        secrets: A fresh s for each vector, (N,) uint8.
        rows: One call for each vector, that returns the entries of round(Δv) from the first up to the last one asked.

    Returns:
        c = A·s + e + round(Δv) mod q.
    """
    params, n = agreement.params, agreement.n
    c = kernels.empty_planes(params.q_bits, len(rows), n)
    for s, low, middle, high, row in zip(secrets, *c, rows, strict=True):
        for first, product in a.pieces(s, n):
            end = first + product.size
            e, planes = noise.sample(rng, product.size), [plane[first:end] for plane in (low, middle, high)]
            kernels.mask(product, e, row(first, end), params.ring.mask, planes[0], planes[1], planes[2])
    return c


def corrections(agreement: Agreement, q: U64, delta: U64, first: int, hint: Words) -> tuple[Words, Parts]:
    """Return P and the corrections of one vector; arguments as `tmmo.sender_corrections`."""
    if agreement.correction_bits == 24:
        pads, low, high = tmmo.narrow_corrections(q, delta, first, hint)
        return pads, (low, high)
    pads, words = tmmo.sender_corrections(q, delta, first, hint)
    return pads, (words,)


def chosen(t: U64, s: Secret, first: int, parts: Parts) -> Words:
    """Return P + H·s of one vector; arguments as `tmmo.receiver_sum`."""
    return tmmo.receiver_sum(t, s, first, *parts) if len(parts) == 1 else tmmo.narrow_sum(t, s, first, *parts)


def scaled(v: NDArray[np.float64], delta: float, fresh: bool, first: int, end: int) -> NDArray[np.int64]:
    """Return entries of round(Δv), or zeros for a vector that was asked before."""
    return np.rint(v[first:end] * delta).astype(np.int64) if fresh else np.zeros(end - first, np.int64)


def words_of(v: U64, first: int, end: int) -> NDArray[np.int64]:
    """Return entries of a vector of words modulo q as they are."""
    return v[first:end].view(np.int64)


def digests(V: NDArray[np.float64]) -> list[bytes]:
    """Return one digest for each row of V; −0 and 0 are one number."""
    return [hashlib.sha256(np.ascontiguousarray(v + 0.0).data).digest() for v in V]


def blind(agreement: Agreement, product: U64, pads: Words, shift: U64, rng: Rng) -> U64:
    """Return M·c + P + u modulo q, less the hint's shift and without its t low bits: what the asker gets.

    u is uniform on [−Q/2, Q/2), in units of 1/q: the asker's private Δ does not scale it.  Everything is reduced
    modulo q, so that M·c taken as an integer does not show how often it wrapped.
    """
    q_mask, t = agreement.params.ring.mask, np.uint64(agreement.dropped_bits)
    u = rng.uniform_u64(1 << agreement.noise_bits, *product.shape) - np.uint64((1 << agreement.noise_bits) // 2)
    half = np.uint64((1 << int(t)) // 2)
    return (((product - shift + u + half) & q_mask) >> t) + pads.astype(np.uint64) & (q_mask >> t)


def centred(words: U64, bits: int) -> NDArray[np.float64]:
    """Return the representatives of words modulo 2^bits nearest to zero, as float64."""
    shift = np.uint64(64 - bits)
    return ((words << shift).view(np.int64) >> np.int64(64 - bits)).astype(np.float64)


def add_opening_noise(sums: Words, noise: Gaussian, rng: Rng) -> U64:
    """Return R + e′, before anything leaves step (2): it is added for every k."""
    e = noise.sample(rng, sums.size).reshape(sums.shape)
    return sums.astype(np.uint64) + e.view(np.uint64)


def as_bytes(text: bytes) -> NDArray[Any]:
    """Return bytes as an array field of a message."""
    return np.frombuffer(text, np.uint8)
