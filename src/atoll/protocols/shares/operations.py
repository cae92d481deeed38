"""What a program calls: one name for each operation, of two parties (`logic`) or of three (`replicated_logic`)."""

from __future__ import annotations

from types import ModuleType
from typing import Any

from atoll.protocols.shares import logic, replicated_logic, replicated_values, values
from atoll.protocols.shares.party import Party
from atoll.protocols.shares.replicated import Member
from atoll.protocols.shares.replicated_values import Replicated, ReplicatedBits
from atoll.protocols.shares.values import Arithmetic, Bits

Engine = Party | Member
Numbers = Arithmetic | Replicated
Truths = Bits | ReplicatedBits


def _of(p: Engine) -> ModuleType:
    return logic if isinstance(p, Party) else replicated_logic


async def negative(p: Engine, x: Numbers) -> Any:
    """Return whether each value is below zero, for |x| as an integer below 2^63."""
    return await _of(p).negative(p, x)


async def less(p: Engine, x: Any, y: Any) -> Any:
    """Return whether x < y, element by element; both have one fraction, and their shapes broadcast."""
    return await negative(p, x - y)


async def equal(p: Engine, x: Numbers, y: Numbers) -> Any:
    """Return whether x = y, element by element, exactly."""
    return await _of(p).equal(p, x, y)


async def choose(p: Engine, condition: Truths, x: Numbers) -> Any:
    """Return x where the condition holds and 0 elsewhere; the condition's shape broadcasts to x's."""
    return await _of(p).choose(p, condition, x)


async def select(p: Engine, condition: Truths, x: Any, y: Any) -> Any:
    """Return x where the condition holds and y elsewhere; both have one fraction, exactly."""
    return await choose(p, condition, x - y) + y


async def conjunction(p: Engine, x: Truths, y: Truths) -> Any:
    """Return x ∧ y."""
    return await _of(p).conjunction(p, x, y)


async def disjunction(p: Engine, x: Any, y: Any) -> Any:
    """Return x ∨ y."""
    return p.invert(await conjunction(p, p.invert(x), p.invert(y)))


async def to_arithmetic(p: Engine, bits: Truths) -> Any:
    """Return truth values as shares of 0 and 1, with fraction 0."""
    return await _of(p).to_arithmetic(p, bits)


async def to_bits(p: Engine, x: Numbers) -> Any:
    """Return the 64 bits of each integer, in two's complement, lowest first."""
    return await _of(p).to_bits(p, x)


async def from_bits(p: Engine, bits: Truths, weights: list[int] | None = None) -> Any:
    """Return Σ weightᵢ·bitᵢ with fraction 0; the weights are 1, 2, 4, … if left out."""
    return await _of(p).from_bits(p, bits, weights)


def joined(parts: list[Any], axis: int = 0) -> Any:
    """Return arrays of one kind joined along an axis; nothing is sent."""
    return (values if isinstance(parts[0], Arithmetic) else replicated_values).joined(parts, axis)
