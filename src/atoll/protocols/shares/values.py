"""What a party holds of a shared value: its half, the shape that both know, and never the value itself."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from atoll.core.errors import InputError
from atoll.crypto import packed_bits

U64 = NDArray[np.uint64]
Shape = tuple[int, ...]

RANGE_BITS = 62
"""Values, as integers of the ring, stay below 2^62 in size; truncation and comparison rely on it."""


def _no_truth() -> NoReturn:
    raise TypeError("a shared value is not known here: compare on shares, select, and open what may be known")


@dataclass(frozen=True, eq=False, repr=False)
class Arithmetic:
    """An array shared additively: the two halves sum to the value's integer modulo 2^64.

    Attributes:
        half: This party's half, uint64 of any shape.
        fraction: Fractional bits f: the integer is the value times 2^f, rounded.
    """

    half: U64
    fraction: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "half", np.asarray(self.half))  # numpy makes a number of an array of shape ()

    @property
    def shape(self) -> Shape:
        """The shape of the array."""
        return self.half.shape

    @property
    def size(self) -> int:
        """How many values."""
        return int(self.half.size)

    @property
    def T(self) -> Arithmetic:
        """The transpose."""
        return Arithmetic(self.half.T, self.fraction)

    def reshape(self, *shape: int) -> Arithmetic:
        """Return the same values in another shape."""
        return Arithmetic(self.half.reshape(shape), self.fraction)

    def sum(self, axis: int | None = None) -> Arithmetic:
        """Return the sum of all values, shape (), or along an axis; nothing is sent."""
        return Arithmetic(self.half.sum(axis=axis, dtype=np.uint64), self.fraction)

    def scaled(self, factor: int) -> Arithmetic:
        """Return the values times a public integer; nothing is sent."""
        return Arithmetic(self.half * np.uint64(factor % (1 << 64)), self.fraction)

    def taken(self, fraction: int) -> Arithmetic:
        """Return the same integers, taken with so many fractional bits."""
        return Arithmetic(self.half, fraction)

    def added(self, at: Any, other: Arithmetic) -> Arithmetic:
        """Return these values with others added in some places; nothing is sent."""
        half = self.half.copy()
        half[at] += other.half
        return Arithmetic(half, _same(self, other))

    def __getitem__(self, at: Any) -> Arithmetic:
        return Arithmetic(self.half[at], self.fraction)

    def __len__(self) -> int:
        return len(self.half)

    def __add__(self, other: Arithmetic) -> Arithmetic:
        return Arithmetic(self.half + other.half, _same(self, other))

    def __sub__(self, other: Arithmetic) -> Arithmetic:
        return Arithmetic(self.half - other.half, _same(self, other))

    def __neg__(self) -> Arithmetic:
        return Arithmetic(np.uint64(0) - self.half, self.fraction)

    def __bool__(self) -> NoReturn:
        _no_truth()

    def __repr__(self) -> str:
        return f"Arithmetic(shape={self.shape}, fraction={self.fraction})"  # the half stays hidden


@dataclass(frozen=True, eq=False, repr=False)
class Bits:
    """Bits shared by XOR and packed in words: k planes, with one bit for each value in every plane.

    Attributes:
        planes: This party's half, (k, w) uint64 with w = ceil(size / 64); k is 1 for truth values.
        shape: The shape of the array that the bits belong to.
    """

    planes: U64
    shape: Shape

    @property
    def size(self) -> int:
        """How many values have a bit in each plane."""
        return prod(self.shape)

    def __xor__(self, other: Bits) -> Bits:
        if self.shape != other.shape or self.planes.shape != other.planes.shape:
            raise ValueError(f"bits of {self.shape} and of {other.shape} do not fit")
        return Bits(self.planes ^ other.planes, self.shape)

    def __bool__(self) -> NoReturn:
        _no_truth()

    def __repr__(self) -> str:
        return f"Bits(planes={len(self.planes)}, shape={self.shape})"


def joined(values: list[Arithmetic], axis: int = 0) -> Arithmetic:
    """Return arrays of one kind joined along an axis; nothing is sent."""
    return Arithmetic(np.concatenate([value.half for value in values], axis=axis), _same(*values))


def encode(values: Any, fraction: int) -> U64:
    """Turn numbers into integers of the ring: times 2^f, rounded to the nearest.

    Args:
        values: An array of finite numbers, |value|·2^f below 2^62.
        fraction: f; integers are taken as they are where f is 0.

    Raises:
        InputError: A value is not finite or too large.
    """
    array = np.asarray(values)
    if fraction == 0 and array.dtype.kind in "bui":
        if array.size and (int(array.max()) >= 1 << RANGE_BITS or int(array.min()) < -(1 << RANGE_BITS)):
            raise InputError(f"an integer to be shared is 2^{RANGE_BITS} or more in size")
        return np.ascontiguousarray(array.astype(np.int64)).view(np.uint64).reshape(array.shape)
    scaled = np.rint(array.astype(np.float64) * 2.0**fraction)
    if not (np.abs(scaled) < 2.0**RANGE_BITS).all():
        raise InputError(
            f"a value to be shared is not finite, or {2.0 ** (RANGE_BITS - fraction):,.0f} or more in size",
            cure="Scale the column down, or use fewer fractional bits.",
        )
    return np.ascontiguousarray(scaled.astype(np.int64)).view(np.uint64).reshape(array.shape)


def decode(words: U64, fraction: int) -> NDArray[Any]:
    """Return what `encode` was given: float64, or int64 where the fraction is 0."""
    integers = np.ascontiguousarray(words).view(np.int64).reshape(words.shape)
    return integers / 2.0**fraction if fraction else integers


def truth(planes: U64, shape: Shape) -> NDArray[np.bool_]:
    """Return an opened plane (1, w) as truth values, or planes (k, w) as an array (k, *shape)."""
    bits = packed_bits.unpack(planes, prod(shape)).astype(bool)
    return bits.reshape(shape) if len(bits) == 1 else bits.reshape(len(bits), *shape)


def _same(*values: Arithmetic) -> int:
    fractions = {value.fraction for value in values}
    if len(fractions) != 1:
        raise ValueError(f"values with {sorted(fractions)} fractional bits cannot be added")
    return fractions.pop()
