"""Bits of many values packed side by side: word e // 64, bit e % 64 of a plane belongs to value e.

A plane is (w,) uint64 with w = ceil(n / 64); the bits behind the last value have no meaning.
"""

import numpy as np
from numpy.typing import NDArray

from atoll.crypto.bit_transpose import _transpose64
from atoll.crypto.jit import njit

U64 = NDArray[np.uint64]
Bytes = NDArray[np.uint8]


def words(n: int) -> int:
    """Words of a plane of n values."""
    return -(-n // 64)


def pack(bits: Bytes) -> U64:
    """Pack bits, (…, n) uint8 each 0 or 1, into planes (…, w)."""
    n = bits.shape[-1]
    out = np.zeros((*bits.shape[:-1], words(n)), np.uint64)
    if n:
        packed = np.packbits(bits, axis=-1, bitorder="little")
        out.view(np.uint8)[..., : packed.shape[-1]] = packed
    return out


def unpack(planes: U64, n: int) -> Bytes:
    """Unpack planes (…, w) into bits (…, n) uint8."""
    if not n:
        return np.zeros((*planes.shape[:-1], 0), np.uint8)
    return np.unpackbits(np.ascontiguousarray(planes).view(np.uint8), axis=-1, count=n, bitorder="little")


def planes_of(values: U64) -> U64:
    """Return the 64 bits of every value as planes.

    Args:
        values: (n,) uint64.

    Returns:
        (64, w): plane i holds bit i.
    """
    out = np.zeros((64, words(len(values))), np.uint64)
    _to_planes(np.ascontiguousarray(values).view(), out)
    return out


def values_of(planes: U64, n: int) -> U64:
    """Return values (n,) whose bits are the planes (64, w); the inverse of `planes_of`."""
    out = np.empty(64 * planes.shape[1], np.uint64)
    _from_planes(np.ascontiguousarray(planes).view(), out)
    return out[:n]


def digits_of(values: U64) -> Bytes:
    """Return the 16 hexadecimal digits of every value, lowest first: (16, n) uint8."""
    out = np.empty((16, len(values)), np.uint8)
    for i in range(16):
        out[i] = (values >> np.uint64(4 * i)) & np.uint64(15)
    return out


def one_hot(values: U64) -> U64:
    """Return for each digit of each value 16 bits of which one is set.

    Args:
        values: (n,) uint64.

    Returns:
        (4, n): bit 16·j + v of word i is set where digit 4·i + j is v.
    """
    out = np.empty((4, len(values)), np.uint64)
    _mark(np.ascontiguousarray(values).view(), out)
    return out


def compare_digits(opened: U64, marks: U64, keep_top: bool) -> tuple[U64, U64]:
    """Compare each digit of a public value with a digit that is shared as 16 bits.

    Everything is linear in the marks, so that the results are shares as the marks are.

    Args:
        opened: c, (n,) uint64.
        marks: A share of `one_hot(r)`, (4, n).
        keep_top: Compare the top bit, too; without it only 63 bits count.

    Returns:
        Two arrays of planes (16, w), lowest digit first: [digit of c < digit of r], and [the digits are equal].
    """
    less, equal = (np.zeros((16, words(len(opened))), np.uint64) for _ in range(2))
    _compare(np.ascontiguousarray(opened).view(), np.ascontiguousarray(marks).view(), keep_top, less, equal)
    return less, equal


def top_of(marks: U64) -> U64:
    """Return the plane (w,) of the top bits of what `one_hot` has marked, as a share if the marks are one."""
    top = marks[3] >> np.uint64(56)  # marks of the values 8 to 15 of the top digit
    for shift in (4, 2, 1):
        top = top ^ (top >> np.uint64(shift))
    return pack((top & np.uint64(1)).astype(np.uint8))


@njit
def _to_planes(values: U64, out: U64) -> None:
    block = np.empty(64, np.uint64)
    for w in range(out.shape[1]):
        inside = min(64, values.size - 64 * w)
        for i in range(64):
            block[i] = values[64 * w + i] if i < inside else np.uint64(0)
        _transpose64(block)
        for i in range(64):
            out[i, w] = block[i]


@njit
def _from_planes(planes: U64, out: U64) -> None:
    block = np.empty(64, np.uint64)
    for w in range(planes.shape[1]):
        for i in range(64):
            block[i] = planes[i, w]
        _transpose64(block)
        for i in range(64):
            out[64 * w + i] = block[i]


@njit
def _mark(values: U64, out: U64) -> None:
    one, digit = np.uint64(1), np.uint64(15)
    for i in range(4):
        for e in range(values.size):
            v = values[e] >> np.uint64(16 * i)
            word = one << (v & digit)
            word |= one << (((v >> np.uint64(4)) & digit) + np.uint64(16))
            word |= one << (((v >> np.uint64(8)) & digit) + np.uint64(32))
            word |= one << (((v >> np.uint64(12)) & digit) + np.uint64(48))
            out[i, e] = word


@njit
def _compare(opened: U64, marks: U64, keep_top: bool, less: U64, equal: U64) -> None:
    one, digit = np.uint64(1), np.uint64(15)
    for i in range(4):
        for e in range(opened.size):
            c, m = opened[e] >> np.uint64(16 * i), marks[i, e]
            if i == 3 and not keep_top:  # fold the values 8 to 15 of the top digit onto 0 to 7
                c &= np.uint64(0x7FFF)
                top = m >> np.uint64(48)
                m = (m & np.uint64(0xFFFFFFFFFFFF)) | (
                    ((top ^ (top >> np.uint64(8))) & np.uint64(0xFF)) << np.uint64(48)
                )
            # above[v] = sum of the marks beyond v, in each of four fields of 16 bits
            above = (m >> one) & np.uint64(0x7FFF7FFF7FFF7FFF)
            above ^= (above >> one) & np.uint64(0x7FFF7FFF7FFF7FFF)
            above ^= (above >> np.uint64(2)) & np.uint64(0x3FFF3FFF3FFF3FFF)
            above ^= (above >> np.uint64(4)) & np.uint64(0x0FFF0FFF0FFF0FFF)
            above ^= (above >> np.uint64(8)) & np.uint64(0x00FF00FF00FF00FF)
            w, at = e >> 6, np.uint64(e & 63)
            for j in range(4):
                v = ((c >> np.uint64(4 * j)) & digit) + np.uint64(16 * j)
                less[4 * i + j, w] |= ((above >> v) & one) << at
                equal[4 * i + j, w] |= ((m >> v) & one) << at


def warm() -> None:
    """Compile this module's kernels."""
    values = np.ones(1, np.uint64)
    values_of(planes_of(values), 1)
    compare_digits(values, one_hot(values), True)
