"""Private retrieval of a column of a matrix from its owner, by plain learning-with-errors (LWE).

The database D is a matrix of bytes (L × m).  For column c the client sends u = A·s + e + Δ·(unit vector c), and gets
D·u, one pass over the bytes; Δ·D[:, c] is what is left once the hint H = D·A, computed once, has taken off
D·A·s.  A (m × 1024) comes out of a hash, so clients share one hint; s and e serve one query.

Bytes are read as signed numbers: 256·Δ = q, so it is the same byte in the end, and D·e is half as large.

Source: Henzinger, Hong, Corrigan-Gibbs, Meiklejohn, Vaikuntanathan, "One server for the price of two", USENIX Security
2023, sections 4 and 5.  σ is 32 there 6.4: words of 8 bits leave room for it (docs/parameters.md, "Private query").
"""

import hashlib
import math
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from numpy.typing import NDArray

from atoll.crypto.aes import expand
from atoll.crypto.gaussian import Gaussian
from atoll.crypto.jit import njit, read_only
from atoll.crypto.random import Rng
from atoll.crypto.ristretto import cores

NAME = "P1024"
"""This set of parameters: n = 1024, q = 2^32, σ = 32, s uniform modulo q, a byte in each word."""

N = 1024
SIGMA = 32.0
DELTA = 1 << 24
LARGEST_COLUMNS = 1 << 17
"""Most columns m.  D·e then has a standard deviation of 32·√m·74 ≤ 0.86 million, and Δ/2 is 9.8 times that."""

U8 = NDArray[np.uint8]
U32 = NDArray[np.uint32]

_BLOCK = 2048  # columns of D, and so rows of A, that are expanded at a time: 8 MB
_ROWS = 256  # rows of D that a thread takes at a time


def check_columns(columns: int) -> None:
    """Refuse a number of columns that is no power of two, or too large for the noise.

    Raises:
        ValueError: It is.
    """
    if columns < 1 or columns & (columns - 1) or columns > LARGEST_COLUMNS:
        raise ValueError(f"a database has 2^0 to 2^17 columns, a power of two, got {columns:,}")


def noise_deviation(columns: int) -> float:
    """Return the standard deviation of D·e for bytes that look random, as ciphertexts do."""
    return SIGMA * math.sqrt(columns * (256**2 + 2) / 12)


class PublicMatrix:
    """A (m × 1024), which is never stored whole.

    Args:
        identity: What names the database and its set-up; another identity gives an independent A.
        columns: m.

    Raises:
        ValueError: As of `check_columns`.
    """

    def __init__(self, identity: bytes, columns: int) -> None:
        check_columns(columns)
        self.columns, self.width = columns, min(_BLOCK, columns)
        text = b"atoll/pir" + NAME.encode() + b"\x00" + len(identity).to_bytes(8, "little") + identity
        self._key = hashlib.sha256(text + columns.to_bytes(8, "little")).digest()[:16]

    def block(self, number: int) -> U32:
        """Return rows number·width … of A, transposed: (1024, width) uint32."""
        words = N * self.width
        return expand(self._key, 4 * words, (number * (words // 4)).to_bytes(16, "big")).view(np.uint32).reshape(N, -1)

    def blocks(self) -> Iterator[tuple[int, U32]]:
        """Yield the first column of each block, and the block: one piece of memory, which the next block overwrites."""
        stream = Cipher(algorithms.AES(self._key), modes.CTR(bytes(16))).encryptor()
        zeros, room = np.zeros(4 * N * self.width, np.uint8), np.empty(4 * N * self.width, np.uint8)
        for first in range(0, self.columns, self.width):
            stream.update_into(zeros.data, room.data)
            yield first, room.view(np.uint32).reshape(N, -1)


def hint(
    matrix: U8,
    public: PublicMatrix,
    *,
    threads: int = 0,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> U32:
    """Return the hint H = D·A.

    Args:
        matrix: D (L, m) uint8, contiguous.
        public: A.
        threads: How many; 0 takes all cores.
        progress: Called with columns done and columns in all.

    Returns:
        H (L, 1024) uint32.

    Raises:
        ValueError: D has not as many columns as A rows.
    """
    signed = _signed(matrix, public.columns)
    out = np.zeros((len(matrix), N), np.uint32)
    for first, block in public.blocks():
        _by_rows(partial(_add_hint_rows, signed, first, read_only(block), out), len(out), threads)
        progress(first + block.shape[1], public.columns)
    return out


def change_hint(hint: U32, public: PublicMatrix, rows: NDArray[np.int64], columns: NDArray[np.int64],
                changes: NDArray[np.int16]) -> None:  # fmt: skip
    """Bring a hint up to date, in place, when pieces of columns have changed.

    Args:
        hint: H (L, 1024) uint32, writable.
        public: A.
        rows: (t,) int64, first row of each piece.
        columns: (t,) int64, its column; a piece may be listed once only.
        changes: (t, w) int16: signed new byte less signed old byte, as `signed_change` returns.
    """
    order = np.argsort(columns // public.width, kind="stable")
    number, block = -1, np.zeros((0, 0), np.uint32)
    for at in order.tolist():
        column = int(columns[at])
        if column // public.width != number:
            number = column // public.width
            block = public.block(number)
        part = slice(int(rows[at]), int(rows[at]) + changes.shape[1])
        hint[part] += changes[at].astype(np.int32).view(np.uint32)[:, None] * block[:, column % public.width][None, :]


def signed_change(new: U8, old: U8) -> NDArray[np.int16]:
    """Return new less old where bytes count as signed numbers, int16 of the same shape."""
    return new.view(np.int8).astype(np.int16) - old.view(np.int8).astype(np.int16)


def masks(public: PublicMatrix, count: int, rng: Rng) -> tuple[U32, U32]:
    """Draw fresh secrets, and the queries A·s + e that nothing has been added to.

    Args:
        public: A.
        count: Number of queries.
        rng: Secret randomness.

    Returns:
        s (count, 1024) uint32, secret and for one use; and A·s + e, (count, m) uint32.
    """
    s = rng.u32(count, N)
    u = Gaussian(SIGMA).sample(rng, count * public.columns).astype(np.uint32).reshape(count, public.columns)
    for first, block in public.blocks():
        _add_mask(read_only(block), s, first, u)
    return s, u


def choose(u: U32, columns: NDArray[np.int64]) -> None:
    """Add Δ to one word of each query, in place: the column it asks for.

    Args:
        u: (count, m) uint32, from `masks`.
        columns: (count,) int64 in 0 … m − 1.
    """
    u[np.arange(len(u)), columns] += np.uint32(DELTA)


def answer(matrix: U8, queries: U32, *, threads: int = 0) -> U32:
    """Return D·u for every query, in one pass over D for four of them.

    Args:
        matrix: D (L, m) uint8, contiguous.
        queries: (count, m) uint32; time and memory access do not depend on what is in it.
        threads: How many; 0 takes all cores.

    Returns:
        (count, L) uint32.

    Raises:
        ValueError: Queries are not as long as D is wide.
    """
    count, columns = queries.shape
    signed, queries = _signed(matrix, columns), read_only(np.ascontiguousarray(queries))
    out = np.empty((count, len(matrix)), np.uint32)

    def rows(lo: int, hi: int) -> None:
        for at in range(0, count - count % 4, 4):
            _answer_four(signed[lo:hi], queries[at : at + 4], lo, out[at : at + 4])
        for at in range(count - count % 4, count):
            _answer_one(signed[lo:hi], queries[at], lo, out[at])

    _by_rows(rows, len(matrix), threads)
    return out


def recover(answers: U32, hint: U32, s: U32) -> U8:
    """Return the columns that were asked for.

    Args:
        answers: (count, L) uint32.
        hint: H (L, 1024) uint32.
        s: (count, 1024) uint32, the secrets of these queries.

    Returns:
        (count, L) uint8.
    """
    out = np.empty(answers.shape, np.uint8)
    _recover(read_only(answers), read_only(hint), read_only(s), out)
    return out


def _signed(matrix: U8, columns: int) -> NDArray[np.int8]:
    if matrix.ndim != 2 or matrix.shape[1] != columns or not matrix.flags.c_contiguous:
        raise ValueError(f"the database is a contiguous matrix of {columns:,} columns")
    return read_only(np.asarray(matrix).view(np.int8))


def _by_rows(work: Callable[[int, int], None], rows: int, threads: int) -> None:
    spans = [(lo, min(lo + _ROWS, rows)) for lo in range(0, rows, _ROWS)]
    threads = min(threads or cores(), len(spans))
    if threads < 2:
        for lo, hi in spans:
            work(lo, hi)
        return
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(lambda span: work(*span), spans))


def _add_hint_rows(d: NDArray[np.int8], first: int, a: U32, out: U32, lo: int, hi: int) -> None:
    _add_hint(d[lo:hi], first, a, out[lo:hi])


@njit
def _answer_one(d: NDArray[np.int8], u: U32, first: int, out: U32) -> None:
    """Four rows at a time, so that each word of the query is loaded once for them."""
    rows, m = d.shape
    whole = rows - rows % 4
    for i in range(0, whole, 4):
        w, x, y, z = np.uint32(0), np.uint32(0), np.uint32(0), np.uint32(0)
        for j in range(m):
            word = u[j]
            w += np.uint32(d[i, j]) * word
            x += np.uint32(d[i + 1, j]) * word
            y += np.uint32(d[i + 2, j]) * word
            z += np.uint32(d[i + 3, j]) * word
        out[first + i], out[first + i + 1], out[first + i + 2], out[first + i + 3] = w, x, y, z
    for i in range(whole, rows):
        w = np.uint32(0)
        for j in range(m):
            w += np.uint32(d[i, j]) * u[j]
        out[first + i] = w


@njit
def _answer_four(d: NDArray[np.int8], u: U32, first: int, out: U32) -> None:
    """Four queries and two rows at a time: the database passes once through the memory for four answers."""
    rows, m = d.shape
    for i in range(0, rows, 2):
        k = min(i + 1, rows - 1)  # the last row of an odd number is done twice
        d0, d1, v0, v1, v2, v3 = d[i], d[k], u[0], u[1], u[2], u[3]
        a0, a1, a2, a3 = np.uint32(0), np.uint32(0), np.uint32(0), np.uint32(0)
        b0, b1, b2, b3 = np.uint32(0), np.uint32(0), np.uint32(0), np.uint32(0)
        for j in range(m):
            x, y = np.uint32(d0[j]), np.uint32(d1[j])
            u0, u1, u2, u3 = v0[j], v1[j], v2[j], v3[j]
            a0 += x * u0
            a1 += x * u1
            a2 += x * u2
            a3 += x * u3
            b0 += y * u0
            b1 += y * u1
            b2 += y * u2
            b3 += y * u3
        out[0, first + i], out[1, first + i], out[2, first + i], out[3, first + i] = a0, a1, a2, a3
        out[0, first + k], out[1, first + k], out[2, first + k], out[3, first + k] = b0, b1, b2, b3


@njit
def _add_hint(d: NDArray[np.int8], first: int, a: U32, out: U32) -> None:
    """out += D[:, first …]·A for one block of A, transposed; 32 rows of it at a time stay in the cache."""
    rows, width = d.shape[0], a.shape[1]
    for tile in range(0, a.shape[0], 32):
        for i in range(0, rows, 2):
            k = min(i + 1, rows - 1)
            d0, d1 = d[i, first : first + width], d[k, first : first + width]
            for n in range(tile, tile + 32, 4):
                v0, v1, v2, v3 = a[n], a[n + 1], a[n + 2], a[n + 3]
                a0, a1, a2, a3 = np.uint32(0), np.uint32(0), np.uint32(0), np.uint32(0)
                b0, b1, b2, b3 = np.uint32(0), np.uint32(0), np.uint32(0), np.uint32(0)
                for j in range(width):
                    x, y = np.uint32(d0[j]), np.uint32(d1[j])
                    u0, u1, u2, u3 = v0[j], v1[j], v2[j], v3[j]
                    a0 += x * u0
                    a1 += x * u1
                    a2 += x * u2
                    a3 += x * u3
                    b0 += y * u0
                    b1 += y * u1
                    b2 += y * u2
                    b3 += y * u3
                out[i, n] += a0
                out[i, n + 1] += a1
                out[i, n + 2] += a2
                out[i, n + 3] += a3
                if k > i:
                    out[k, n] += b0
                    out[k, n + 1] += b1
                    out[k, n + 2] += b2
                    out[k, n + 3] += b3


@njit
def _add_mask(a: U32, s: U32, first: int, out: U32) -> None:
    """out += A·s for one block of A, transposed."""
    width = a.shape[1]
    for q in range(s.shape[0]):
        for n in range(0, a.shape[0], 4):
            s0, s1, s2, s3 = s[q, n], s[q, n + 1], s[q, n + 2], s[q, n + 3]
            v0, v1, v2, v3, part = a[n], a[n + 1], a[n + 2], a[n + 3], out[q, first : first + width]
            for j in range(width):
                part[j] += v0[j] * s0 + v1[j] * s1 + v2[j] * s2 + v3[j] * s3


@njit
def _recover(answers: U32, h: U32, s: U32, out: U8) -> None:
    half = np.uint32(1 << 23)
    for q in range(s.shape[0]):
        for i in range(h.shape[0]):
            known = np.uint32(0)
            for n in range(h.shape[1]):
                known += h[i, n] * s[q, n]
            rest = np.uint32(answers[q, i] - np.uint32(known))
            out[q, i] = np.uint8(np.uint32(rest + half) >> np.uint32(24))


def warm() -> None:
    """Compile this module's kernels."""
    matrix, public = np.zeros((1, 1), np.uint8), PublicMatrix(b"warm", 1)
    s, u = masks(public, 5, Rng(bytes(32)))
    recover(answer(matrix, u, threads=1), hint(matrix, public, threads=1), s)
