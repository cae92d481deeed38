"""What one of three parties holds of a shared value: two of three parts; as `values` has it for two parties."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from atoll.protocols.shares.values import Shape

Words = NDArray[np.uint64]


def _no_truth() -> NoReturn:
    raise TypeError("a shared value is not known here: compare on shares, select, and open what may be known")


@dataclass(frozen=True, eq=False, repr=False)
class Replicated:
    """What party i holds of an array: xᵢ and xᵢ₊₁, uint64 of one shape, and the fractional bits."""

    own: Words
    next: Words
    fraction: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "own", np.asarray(self.own))  # numpy makes a number of an array of shape ()
        object.__setattr__(self, "next", np.asarray(self.next))

    @property
    def shape(self) -> Shape:
        """The shape of the array."""
        return self.own.shape

    @property
    def size(self) -> int:
        """How many values."""
        return int(self.own.size)

    @property
    def T(self) -> Replicated:
        """The transpose."""
        return Replicated(self.own.T, self.next.T, self.fraction)

    def reshape(self, *shape: int) -> Replicated:
        """Return the same values in another shape."""
        return Replicated(self.own.reshape(shape), self.next.reshape(shape), self.fraction)

    def sum(self, axis: int | None = None) -> Replicated:
        """Return the sum of all values, shape (), or along an axis; nothing is sent."""
        own, following = (part.sum(axis=axis, dtype=np.uint64) for part in (self.own, self.next))
        return Replicated(own, following, self.fraction)

    def scaled(self, factor: int) -> Replicated:
        """Return the values times a public integer; nothing is sent."""
        by = np.uint64(factor % (1 << 64))
        return Replicated(self.own * by, self.next * by, self.fraction)

    def taken(self, fraction: int) -> Replicated:
        """Return the same integers, taken with so many fractional bits."""
        return Replicated(self.own, self.next, fraction)

    def added(self, at: Any, other: Replicated) -> Replicated:
        """Return these values with others added in some places; nothing is sent."""
        own, following = self.own.copy(), self.next.copy()
        own[at] += other.own
        following[at] += other.next
        return Replicated(own, following, _same(self, other))

    def __getitem__(self, at: Any) -> Replicated:
        return Replicated(self.own[at], self.next[at], self.fraction)

    def __len__(self) -> int:
        return len(self.own)

    def __add__(self, other: Replicated) -> Replicated:
        return Replicated(self.own + other.own, self.next + other.next, _same(self, other))

    def __sub__(self, other: Replicated) -> Replicated:
        return Replicated(self.own - other.own, self.next - other.next, _same(self, other))

    def __neg__(self) -> Replicated:
        return Replicated(np.uint64(0) - self.own, np.uint64(0) - self.next, self.fraction)

    def __bool__(self) -> NoReturn:
        _no_truth()

    def __repr__(self) -> str:
        return f"Replicated(shape={self.shape}, fraction={self.fraction})"


@dataclass(frozen=True, eq=False, repr=False)
class ReplicatedBits:
    """What party i holds of bits: parts bᵢ and bᵢ₊₁ of b₀ ⊕ b₁ ⊕ b₂, (k, w) planes each, as `values.Bits`."""

    own: Words
    next: Words
    shape: Shape

    @classmethod
    def of(cls, parts: Words, shape: Shape) -> ReplicatedBits:
        """Return bits from both parts in one array, (2, k, w)."""
        return cls(parts[0], parts[1], shape)

    @property
    def parts(self) -> Words:
        """Both parts, (2, k, w)."""
        return np.stack((self.own, self.next))

    @property
    def size(self) -> int:
        """How many values have a bit in each plane."""
        return prod(self.shape)

    def __xor__(self, other: ReplicatedBits) -> ReplicatedBits:
        if self.shape != other.shape or self.own.shape != other.own.shape:
            raise ValueError(f"bits of {self.shape} and of {other.shape} do not fit")
        return ReplicatedBits(self.own ^ other.own, self.next ^ other.next, self.shape)

    def __bool__(self) -> NoReturn:
        _no_truth()

    def __repr__(self) -> str:
        return f"ReplicatedBits(planes={len(self.own)}, shape={self.shape})"


def joined(values: list[Replicated], axis: int = 0) -> Replicated:
    """Return arrays of one kind joined along an axis; nothing is sent."""
    own, following = ([getattr(value, part) for value in values] for part in ("own", "next"))
    return Replicated(np.concatenate(own, axis), np.concatenate(following, axis), _same(*values))


def _same(*values: Replicated) -> int:
    fractions = {value.fraction for value in values}
    if len(fractions) != 1:
        raise ValueError(f"values with {sorted(fractions)} fractional bits cannot be added")
    return fractions.pop()
