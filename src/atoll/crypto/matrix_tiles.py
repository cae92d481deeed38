"""The product of one side's matrix and another side's, modulo 2^64, under `homomorphic` encryption.

With Y = X^w the owner of B puts k₀ rows of at most w numbers into one polynomial, Σ B[j + r]·Y^r, and encrypts it.  The
owner of A writes m₀ rows of k₀ numbers as a polynomial in Y alone, Σ A[i + a, j + r]·Y^(a·k₀ + k₀ − 1 − r): the powers
Y^(a·k₀ + k₀ − 1) of the two polynomials' product hold rows of A·B, for m₀·k₀·w ≤ N.  A polynomial in Y is one number
modulo each of the N/w factors of X^N + 1 that the transform splits off first.  So the whole product is, for each prime,
N/w products of ordinary matrices of residues of 22 bits, which BLAS multiplies exactly in double precision.

Source: the packing is that of Huang, Lu, Hong and Ding, "Cheetah", USENIX Security 2022, section 3, and of Hao et al.,
"Iron", NeurIPS 2022; tiles with whole rows of B in the last place, so that A's polynomials are sparse, are ours.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from atoll.crypto import homomorphic as he
from atoll.crypto.homomorphic import MATRICES, Bytes, Public, Secret
from atoll.crypto.jit import njit
from atoll.crypto.one_thread import one_thread
from atoll.crypto.prime_transform import BLOCK, forward, reduced, split, tables, times
from atoll.crypto.random import Rng

F64 = NDArray[np.float64]
U64 = NDArray[np.uint64]

MODULUS = 1 << 64
MOST_REQUESTS = 512
"""Ciphertexts of B that are worked on together; more than 2,048 would not stay exact in double precision."""
MOST_TERMS = 1 << 15
"""Rows of B times m₀: the noise of so many terms is provided for."""
ANSWERS = 256
"""Answers for which products are collected before they are blinded."""
_GROUP = 8  # answers that are blinded and sent together


@dataclass(frozen=True)
class Tile:
    """How a product (m, k)·(k, n), n at most w, is packed.

    Attributes:
        m: Rows of A.
        k: Rows of B.
        n: Columns of B.
        rows: m₀, rows of A in one answer.
        terms: k₀, rows of B in one request.
        width: w, a power of two.
    """

    m: int
    k: int
    n: int
    rows: int
    terms: int
    width: int

    @property
    def requests(self) -> int:
        """Ciphertexts of B."""
        return -(-self.k // self.terms)

    @property
    def answers(self) -> int:
        """Ciphertexts that come back."""
        return -(-self.m // self.rows)

    @property
    def groups(self) -> int:
        """Powers of Y that there are."""
        return MATRICES.N // self.width

    @property
    def most(self) -> int:
        """Rows of B that one product of this packing may have."""
        return min(MOST_REQUESTS * self.terms, MOST_TERMS // self.rows)

    @property
    def cost(self) -> int:
        """Work in ciphertexts, of the parts together.

        An answer costs about four times what a request costs, and where tiles are so narrow that A's polynomials are
        transformed as a whole, each of them a third.
        """
        whole = 0 if self.width >= BLOCK else self.requests * self.answers // 3
        return self.requests + 4 * self.answers * -(-self.k // self.most) + whole


def plan(m: int, k: int, n: int) -> list[tuple[slice, slice, Tile]]:
    """Cut a product into parts: rows of B, columns of B, and the tile of that part; the parts of one column add up."""
    width, least, best = MATRICES.N, 0, list[tuple[slice, Tile]]()
    while width and (n <= 64 * width or not best):
        columns = [slice(at, min(at + width, n)) for at in range(0, n, width)]
        tiles = [(column, _tile(m, k, column.stop - column.start)) for column in columns]
        cost = sum(tile.cost for _, tile in tiles)
        if not best or cost < least:
            least, best = cost, tiles
        width //= 2
    return [
        (slice(at, min(at + tile.most, k)), column, replace(tile, k=min(tile.most, k - at)))
        for column, tile in best
        for at in range(0, k, tile.most)
    ]


def _tile(m: int, k: int, n: int) -> Tile:
    """Return the packing that costs least."""
    width, found = 1 << (n - 1).bit_length(), list[Tile]()
    for wide in (width, max(width, BLOCK)):
        rows = 1
        while rows * wide <= MATRICES.N and rows < 2 * m:
            found.append(Tile(m, k, n, rows, MATRICES.N // wide // rows, wide))
            rows *= 2
    return min(found, key=lambda tile: tile.cost)


def label(first: int) -> bytes:
    """Return the label of the uniform parts of request number `first`."""
    return b"matrix %d" % first


def request(key: Secret, b: U64, tile: Tile, seed: bytes, first: int, rng: Rng) -> Iterator[Bytes]:
    """Encrypt B, (k, n), some ciphertexts at a time.

    Args:
        key: The owner's secret.
        b: B, (k, n) uint64.
        tile: How it is packed.
        seed: Of the uniform parts.
        first: Number of the first part of the request; each part has its own, which is never used twice.
        rng: Secret randomness.

    Yields:
        (9, c, 8192, 3), for c ciphertexts; `request_parts` of them.
    """
    words = np.zeros((tile.requests * tile.terms, tile.width), np.int64)
    words[: tile.k, : tile.n] = b.view(np.int64)
    whole = np.zeros((tile.requests, MATRICES.N), np.int64)
    whole[:, : tile.terms * tile.width] = words.reshape(tile.requests, -1)
    for number, part in enumerate(request_parts(tile)):
        some = whole[part]
        plain = [_residues(some, p) for p in MATRICES.primes]
        a = [he.uniform(MATRICES, i, seed, label(first + number), len(some)) for i in range(len(plain))]
        yield np.stack(he.encrypt(key, MODULUS, plain, a, rng))


def request_parts(tile: Tile) -> list[slice]:
    """Return the ciphertexts of each part of a request."""
    return [slice(at, min(at + _GROUP, tile.requests)) for at in range(0, tile.requests, _GROUP)]


def answer_parts(tile: Tile) -> list[slice]:
    """Return the ciphertexts of each part of an answer."""
    return [slice(at, min(at + _GROUP, tile.answers)) for at in range(0, tile.answers, _GROUP)]


def answer_shapes(tile: Tile, part: slice) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return the shapes of one part of an answer: c₀ where it is read, and c₁."""
    count = part.stop - part.start
    return (MATRICES.kept, count, tile.rows, tile.n, 3), (MATRICES.kept, count, MATRICES.N, 3)


def answer(
    key: Public, a: U64, asked: Sequence[Bytes], tile: Tile, seed: bytes, first: int, rng: Rng
) -> Iterator[tuple[Bytes, Bytes, U64]]:
    """Multiply A and the encrypted B, and blind the result.

    Args:
        key: The owner's encryption of zero.
        a: A, (m, k) uint64.
        asked: The parts of the request.
        tile: How B is packed.
        seed: Of the uniform parts.
        first: Number of the first part of the request.
        rng: Secret randomness.

    Yields:
        For each of `answer_parts`: c₀ and c₁ for the owner, see `answer_shapes`, and this side's half of these rows
        of A·B, (count·m₀, n).
    """
    # narrow tiles need whole polynomials for A, one for each request and answer: 2,048 of them take 130 MB
    step = ANSWERS if tile.width >= BLOCK else max(_GROUP, min(ANSWERS, 2048 // tile.requests) // _GROUP * _GROUP)
    for at in range(0, tile.answers, step):
        chunk = a[at * tile.rows : (at + step) * tile.rows]
        collected = _products(chunk, asked, tile, seed, first)
        for low in range(0, collected.shape[2], _GROUP):
            yield _blinded(key, collected[:, :, low : low + _GROUP].astype(np.float64), tile, rng)


def read(key: Secret, c0: Bytes, c1: Bytes, tile: Tile) -> U64:
    """Return the owner's half of some rows of A·B, (count·m₀, n), from one part of an answer."""
    kept, count = MATRICES.kept, c1.shape[1]
    whole = np.zeros((kept, count, tile.groups, tile.width))
    places = _places(tile)
    second = np.empty((kept, count, MATRICES.N))
    for i, p in enumerate(MATRICES.primes[:kept]):
        whole[i][:, places, : tile.n] = he.unpacked(c0[i], p)
        second[i] = he.unpacked(c1[i], p)
    phases = he.opened(key, whole.reshape(kept, count, MATRICES.N), second)
    phases = phases.reshape(kept, count, tile.groups, tile.width)[:, :, places, : tile.n]
    return he.words(MATRICES, phases).reshape(-1, tile.n)


def _places(tile: Tile) -> slice:
    """The powers of Y that hold results."""
    return slice(tile.terms - 1, tile.rows * tile.terms, tile.terms)


def _products(a: U64, asked: Sequence[Bytes], tile: Tile, seed: bytes, first: int) -> NDArray[np.float32]:
    """Return sums of products, transformed, (2, 9, answers, 8192): residues of 22 bits fit into single precision."""
    count = -(-len(a) // tile.rows)
    out = np.empty((2, len(MATRICES.primes), count, MATRICES.N), np.float32)
    for i, p in enumerate(MATRICES.primes):
        factors = _factors(a, tile, i)  # (groups, answers, requests)
        c0 = np.concatenate([he.unpacked(part[i], p) for part in asked])
        c1 = [he.uniform(MATRICES, i, seed, label(first + at), part.shape[1]) for at, part in enumerate(asked)]
        for side, c in enumerate((c0, np.concatenate(c1))):
            _add_up(factors, c, p, out[side, i])
    return out


def _factors(a: U64, tile: Tile, i: int) -> F64:
    """Return A's polynomials in Y modulo each factor of X^N + 1, (groups, answers, requests)."""
    p = MATRICES.primes[i]
    m, k = -(-len(a) // tile.rows), tile.requests
    residues = np.zeros((m * tile.rows, k * tile.terms))
    residues[: len(a), : tile.k] = _residues(a.view(np.int64), p)
    tiles = residues.reshape(m, tile.rows, k, tile.terms)[..., ::-1].transpose(0, 2, 1, 3)
    coefficients = np.zeros((m, k, tile.groups))
    coefficients[..., : tile.rows * tile.terms] = tiles.reshape(m, k, -1)
    if tile.width >= BLOCK:
        found = split(coefficients, tables(MATRICES.N, p))
    else:
        whole = np.zeros((m * k, MATRICES.N))
        whole[:, :: tile.width] = coefficients.reshape(m * k, -1)
        forward(whole, tables(MATRICES.N, p))
        found = reduced(whole, p).reshape(m, k, MATRICES.N)
    return np.ascontiguousarray(found.transpose(2, 0, 1))


def _add_up(factors: F64, c: F64, p: int, out: NDArray[np.float32]) -> None:
    """Multiply (groups, answers, requests) and (requests, groups, N / groups) for every group."""
    groups = len(factors)
    one_thread()
    sums = np.matmul(factors, c.reshape(len(c), groups, -1).transpose(1, 0, 2))
    _reduce_sums(sums, float(p), out)


def _blinded(key: Public, sums: F64, tile: Tile, rng: Rng) -> tuple[Bytes, Bytes, U64]:
    bits, count = MATRICES.blind_bits, sums.shape[2]
    parts = he.uniform_parts(rng, bits, count, MATRICES.N)
    offset = -(1 << (bits - 1))
    masks = he.sum_of_parts(parts, MATRICES.primes, offset)
    c0, c1 = he.blinded(key, sums, masks, rng)
    places = (_places(tile), slice(tile.n))
    c0 = c0.reshape(MATRICES.kept, count, tile.groups, tile.width)[:, :, *places]
    half = he.words_of_parts(parts.reshape(-1, count, tile.groups, tile.width)[:, :, *places], offset)
    both = [np.stack([he.packed(c[i], p) for i, p in enumerate(MATRICES.primes[: len(c)])]) for c in (c0, c1)]
    return both[0], both[1], (np.uint64(0) - half).reshape(-1, tile.n)


def _residues(words: NDArray[np.int64], p: int) -> F64:
    """Return words, taken with sign, modulo p."""
    out = np.empty(words.shape)
    _reduce_signed(np.ascontiguousarray(words).reshape(-1), float(p), he.centred(1 << 32, p), out.reshape(-1))
    return out


@njit
def _reduce_signed(words: NDArray[np.int64], p: float, c: float, out: F64) -> None:
    v, by = 1.0 / p, c / p
    for i in range(out.size):
        high, low = np.float64(words[i] >> 32), np.float64(words[i] & 0xFFFFFFFF)
        out[i] = times(times(high, c, by, p) + low, 1.0, v, p)


@njit
def _reduce_sums(sums: F64, p: float, out: NDArray[np.float32]) -> None:
    v = 1.0 / p
    groups, rows, width = sums.shape
    for r in range(rows):
        for g in range(groups):
            row, into = sums[g, r], out[r, g * width : (g + 1) * width]
            for j in range(width):
                into[j] = np.float32(times(row[j], 1.0, v, p))


def warm() -> None:
    """Compile this module's kernels."""
    _reduce_signed(np.ones(1, np.int64), 257.0, 1.0, np.ones(1))
    _reduce_sums(np.ones((1, 1, 1)), 257.0, np.ones((1, 1), np.float32))
