"""The prime-order group ristretto255, in bulk on all cores, through libsodium.

Points and scalars travel as their 32 canonical bytes.  Kernels call libsodium's functions by address, so that a whole
chunk runs without the interpreter and its lock.

Source: RFC 9496 (the group); RFC 9380, section 5.3.1 and appendix B (hashing to it, suite
ristretto255_XMD:SHA-512_R255MAP_RO_).
"""

import ctypes
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

from atoll.core.errors import ProtocolError
from atoll.crypto.jit import njit, read_only
from atoll.crypto.random import Rng
from atoll.crypto.sodium import call as _call
from atoll.crypto.sodium import library as _library

Points = NDArray[np.uint8]

POINT_BYTES = 32
_SMALLEST_CHUNK = 256  # points; less is not worth a thread


class Packed:
    """Byte strings of any lengths in one buffer, as the kernels read them.

    Args:
        items: The strings; or (n, w) uint8, one string of w bytes a row.
    """

    def __init__(self, items: Sequence[bytes] | NDArray[np.uint8]) -> None:
        if isinstance(items, np.ndarray):
            n, width = items.shape
            self.flat = items.flatten()
            self.ends = np.arange(1, n + 1, dtype=np.int64) * width
        else:
            self.flat = _bytes(b"".join(items))
            self.ends = np.cumsum(np.fromiter(map(len, items), np.int64, len(items)))
        self.starts = np.concatenate((np.zeros(1, np.int64), self.ends[:-1]))[: len(self.ends)]

    def __len__(self) -> int:
        return len(self.ends)


def random_scalar(rng: Rng) -> bytes:
    """Return a scalar uniform on 1 … order − 1, 32 bytes."""
    sodium = _library().sodium
    while True:
        wide, out = rng.bytes(64), ctypes.create_string_buffer(32)
        sodium.crypto_core_ristretto255_scalar_reduce(out, wide)
        if any(out.raw):
            return out.raw


def random_points(n: int, rng: Rng) -> Points:
    """Return `n` uniform points whose discrete logarithms nobody knows, (n, 32)."""
    sodium, wide, out = _library().sodium, rng.u8(n, 64), np.empty((n, POINT_BYTES), np.uint8)
    for i in range(n):
        sodium.crypto_core_ristretto255_from_hash(_pointer(out[i]), _pointer(wide[i]))
    return out


def hash_to_points(items: Sequence[bytes] | NDArray[np.uint8], domain: bytes, *, threads: int = 0) -> Points:
    """Hash byte strings to points of the group.

    Args:
        items: n byte strings, or (n, w) uint8.
        domain: Domain separation tag, 1 to 255 bytes; no two uses share one.
        threads: How many; 0 takes all cores.

    Returns:
        Points, (n, 32).

    Source:
        RFC 9380, appendix B.
    """
    return hash_and_multiply(items, domain, None, threads=threads)


def hash_and_multiply(
    items: Sequence[bytes] | NDArray[np.uint8] | Packed, domain: bytes, scalar: bytes | None, *, threads: int = 0
) -> Points:
    """Hash byte strings to points and multiply each by a scalar; arguments as in `hash_to_points`.

    Args:
        items: n byte strings.
        domain: Domain separation tag, 1 to 255 bytes.
        scalar: 32 bytes; `None` leaves the points as they are.
        threads: How many; 0 takes all cores.

    Raises:
        ValueError: The tag or the scalar has a wrong length.
    """
    if not 1 <= len(domain) <= 255:
        raise ValueError(f"a domain separation tag has 1 to 255 bytes, got {len(domain)}")
    packed, library = items if isinstance(items, Packed) else Packed(items), _library()
    tag = _bytes(domain + bytes([len(domain)]))
    factor = np.zeros(32, np.uint8) if scalar is None else _scalar(scalar)
    multiply_at = 0 if scalar is None else library.multiply
    out = np.empty((len(packed), POINT_BYTES), np.uint8)
    longest = int((packed.ends - packed.starts).max(initial=0))

    def chunk(lo: int, hi: int) -> int:
        return _hash_chunk(
            np.array([library.sha512, library.from_hash, multiply_at], np.uint64),
            packed.flat,
            packed.starts[lo:hi],
            packed.ends[lo:hi],
            tag,
            factor,
            np.zeros(128 + longest + 3 + len(tag), np.uint8),
            out[lo:hi],
        )

    _on_all_cores(chunk, len(packed), threads)
    return out


def multiply(points: Points, scalar: bytes, *, first: int = 0, threads: int = 0) -> Points:
    """Multiply points that a peer sent by a scalar.

    Args:
        points: (n, 32) uint8, not trusted.
        scalar: 32 bytes, not zero.
        first: Place of the first point in a longer list, for the error.
        threads: How many; 0 takes all cores.

    Returns:
        The products, (n, 32).

    Raises:
        ProtocolError: A point is not the canonical encoding of an element other than the identity; names its place.
    """
    return _multiplied(points, _scalar(scalar).reshape(1, 32), first, threads)


def multiply_each(points: Points, scalars: NDArray[np.uint8], *, threads: int = 0) -> Points:
    """Multiply every point by a scalar of its own; points, result and errors as of `multiply`.

    Args:
        points: (n, 32) uint8, not trusted.
        scalars: (n, 32) uint8, none of them zero.
        threads: How many; 0 takes all cores.

    Raises:
        ValueError: There are not as many scalars as points.
    """
    if scalars.shape != (len(points), 32):
        raise ValueError(f"{len(points):,} points need as many scalars of 32 bytes, got {scalars.shape}")
    return _multiplied(points, np.array(scalars), 0, threads)


def invert(scalars: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return the inverses of scalars modulo the group's order, (n, 32) uint8; none may be zero."""
    function, scalars = _library().sodium.crypto_core_ristretto255_scalar_invert, np.ascontiguousarray(scalars)
    out = np.empty_like(scalars)
    for i in range(len(scalars)):
        if function(_pointer(out[i]), _pointer(scalars[i])):
            raise ValueError("zero has no inverse")
    return out


def reduce_scalar(wide: bytes) -> bytes:
    """Return 64 bytes as a scalar modulo the group's order, 32 bytes; uniform if they are."""
    if len(wide) != 64:
        raise ValueError(f"a scalar is reduced from 64 bytes, got {len(wide)}")
    out = ctypes.create_string_buffer(32)
    _library().sodium.crypto_core_ristretto255_scalar_reduce(out, wide)
    return out.raw


def less_product(r: bytes, c: bytes, k: bytes) -> bytes:
    """Return r − c·k modulo the group's order, 32 bytes each."""
    sodium, product, out = _library().sodium, ctypes.create_string_buffer(32), ctypes.create_string_buffer(32)
    sodium.crypto_core_ristretto255_scalar_mul(product, c, k)
    sodium.crypto_core_ristretto255_scalar_sub(out, r, product)
    return out.raw


def _multiplied(points: Points, scalars: NDArray[np.uint8], first: int, threads: int) -> Points:
    """Multiply by one scalar for all, (1, 32), or by one for each point, (n, 32)."""
    address, points = np.uint64(_library().multiply), read_only(np.ascontiguousarray(points))
    out = np.empty(points.shape, np.uint8)

    def chunk(lo: int, hi: int) -> int:
        return _multiply_chunk(address, points[lo:hi], scalars[lo:hi] if len(scalars) > 1 else scalars, out[lo:hi])

    bad = _on_all_cores(chunk, len(points), threads)
    if bad >= 0:
        raise ProtocolError(f"item {first + bad:,} is not a point of ristretto255, or is the identity")
    return out


def multiply_base(scalar: bytes) -> Points:
    """Return the generator times a scalar, (32,)."""
    out, factor = np.empty(POINT_BYTES, np.uint8), _scalar(scalar)
    _library().sodium.crypto_scalarmult_ristretto255_base(_pointer(out), _pointer(factor))
    return out


def add(p: Points, q: Points) -> Points:
    """Add points pairwise, (n, 32) each.

    Raises:
        ProtocolError: A point is not canonical.
    """
    return _pairwise("crypto_core_ristretto255_add", p, q)


def subtract(p: Points, q: Points) -> Points:
    """Subtract points pairwise, (n, 32) each.

    Raises:
        ProtocolError: A point is not canonical.
    """
    return _pairwise("crypto_core_ristretto255_sub", p, q)


def _pairwise(name: str, p: Points, q: Points) -> Points:
    function, p, q = getattr(_library().sodium, name), np.ascontiguousarray(p), np.ascontiguousarray(q)
    out = np.empty_like(p)
    for i in range(len(p)):
        if p[i, 31] > 127 or q[i, 31] > 127 or function(_pointer(out[i]), _pointer(p[i]), _pointer(q[i])):
            raise ProtocolError(f"item {i:,} is not a point of ristretto255")
    return out


def _pointer(array: NDArray[np.uint8]) -> ctypes.c_void_p:
    """Return the array's address; the caller keeps the array alive by a name of its own."""
    return ctypes.c_void_p(array.ctypes.data)


def _scalar(scalar: bytes) -> NDArray[np.uint8]:
    if len(scalar) != 32:
        raise ValueError(f"a scalar has 32 bytes, got {len(scalar)}")
    return _bytes(scalar)


def _bytes(data: bytes) -> NDArray[np.uint8]:
    """Return a writable array: to the compiler a read-only one is another type, and each type costs a compilation."""
    return np.frombuffer(bytearray(data), np.uint8)


def _on_all_cores(chunk: Callable[[int, int], int], n: int, threads: int) -> int:
    """Run chunk(lo, hi) over 0 … n; each returns the place of its first bad item or −1; so does this."""
    threads = threads or cores()
    step = max(_SMALLEST_CHUNK, -(-n // (4 * threads)))
    spans = [(lo, min(lo + step, n)) for lo in range(0, n, step)]
    if threads == 1 or len(spans) < 2:
        found = [chunk(lo, hi) for lo, hi in spans]
    else:
        with ThreadPoolExecutor(threads) as pool:
            found = list(pool.map(lambda span: chunk(*span), spans))
    return next((lo + bad for (lo, _), bad in zip(spans, found, strict=True) if bad >= 0), -1)


def cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@njit
def _multiply_chunk(address: np.uint64, points: Points, scalars: NDArray[np.uint8], out: Points) -> int:
    p, q, s = np.uint64(points.ctypes.data), np.uint64(out.ctypes.data), np.uint64(scalars.ctypes.data)
    step = np.uint64(32 if scalars.shape[0] > 1 else 0)
    for i in range(points.shape[0]):
        at = np.uint64(32 * i)
        # libsodium up to 1.0.18 ignores the top bit, which a canonical encoding has clear
        if points[i, 31] > 127 or _call(address, q + at, s + step * np.uint64(i), p + at) != 0:
            return i
    return -1


@njit
def _hash_chunk(
    addresses: NDArray[np.uint64],
    flat: NDArray[np.uint8],
    starts: NDArray[np.int64],
    ends: NDArray[np.int64],
    tag: NDArray[np.uint8],
    scalar: NDArray[np.uint8],
    room: NDArray[np.uint8],
    out: Points,
) -> int:
    """expand_message_xmd to 64 bytes, the group map, and a multiplication where an address for it is given."""
    first, wide = np.zeros(65 + tag.size, np.uint8), np.empty(64, np.uint8)
    first[64] = 1
    for j in range(tag.size):  # assigning a slice would cost three seconds of compilation
        first[65 + j] = tag[j]
    for i in range(starts.size):
        size = ends[i] - starts[i]
        # Z_pad ‖ message ‖ I2OSP(64, 2) ‖ I2OSP(0, 1) ‖ tag ‖ length of tag; the first 128 bytes stay zero
        for j in range(size):
            room[128 + j] = flat[starts[i] + j]
        room[128 + size] = 0
        room[129 + size] = 64
        room[130 + size] = 0
        for j in range(tag.size):
            room[131 + size + j] = tag[j]
        _call(addresses[0], np.uint64(first.ctypes.data), np.uint64(room.ctypes.data), np.uint64(131 + size + tag.size))
        _call(addresses[0], np.uint64(wide.ctypes.data), np.uint64(first.ctypes.data), np.uint64(first.size))
        at = np.uint64(out.ctypes.data) + np.uint64(32 * i)
        _call(addresses[1], at, np.uint64(wide.ctypes.data), np.uint64(0))
        if addresses[2] != 0:
            # the hash of a string is the identity with probability 2^-252 only, hence no check
            _call(addresses[2], at, np.uint64(scalar.ctypes.data), at)
    return -1


def warm() -> None:
    """Compile this module's kernels."""
    scalar = (1).to_bytes(32, "little")
    points = hash_and_multiply([b""], b"warm", scalar, threads=1)
    multiply(points, scalar, threads=1)
