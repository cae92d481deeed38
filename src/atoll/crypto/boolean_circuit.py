"""Boolean circuits of XOR and AND gates: flat arrays, a builder that folds what is constant, plain evaluation.

A wire is named by a *literal*: twice the number of its node, plus one where its value is inverted, as in and-inverter
graphs.  Inverting is free in this way, and no gate is spent on it.  Node 0 is the constant false, then come the
garbler's input bits, the evaluator's input bits, and the gates in an order in which inputs stand before outputs.

Circuits are public.  Both sides build theirs from public parameters and compare `Circuit.digest`; none is ever sent.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from atoll.crypto.jit import njit

XOR, AND = 0, 1
FALSE, TRUE = 0, 1
"""The literals of the two constants."""

_GARBLER, _EVALUATOR, _CONSTANT = 2, 3, 4  # kinds of nodes that are no gates, inside the builder
_TILE_WORDS = 256  # plain evaluation works on 64 × 256 instances at a time

Words = NDArray[np.uint64]
Bits = NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class Circuit:
    """A circuit as flat arrays.

    Attributes:
        garbler_bits: Input bits of the garbler, nodes 1 … garbler_bits.
        evaluator_bits: Input bits of the evaluator, the nodes after those.
        kinds: (g,) uint8, `XOR` or `AND`; gate i is node 1 + inputs + i.
        left, right: (g,) int32 literals of its inputs; those of an XOR gate are never inverted.
        outputs: (o,) int32 literals.
    """

    garbler_bits: int
    evaluator_bits: int
    kinds: NDArray[np.uint8]
    left: NDArray[np.int32]
    right: NDArray[np.int32]
    outputs: NDArray[np.int32]

    @property
    def inputs(self) -> int:
        """Input bits of both sides."""
        return self.garbler_bits + self.evaluator_bits

    @property
    def nodes(self) -> int:
        """The constant, the inputs and the gates."""
        return 1 + self.inputs + len(self.kinds)

    @cached_property
    def ands(self) -> int:
        """AND gates: what a garbled circuit costs."""
        return int(np.count_nonzero(self.kinds == AND))

    @cached_property
    def digest(self) -> bytes:
        """Return 32 bytes that two sides have in common only if their circuits are the same."""
        text = hashlib.sha256(b"atoll/boolean-circuit/v1")
        text.update(np.array([self.garbler_bits, self.evaluator_bits, len(self.kinds)], "<i8").tobytes())
        for array in (self.kinds.astype("|u1"), *(a.astype("<i4") for a in (self.left, self.right, self.outputs))):
            text.update(array.tobytes())
        return text.digest()


class Builder:
    """Builds a circuit gate by gate; gates that are constant, trivial, repeated or unused vanish.

    Words are lists of literals, the lowest bit first; `atoll.crypto.circuit_words` computes with them.
    """

    def __init__(self) -> None:
        self._kinds, self._left, self._right = [_CONSTANT], [0], [0]
        self._known: dict[tuple[int, int, int], int] = {}

    def garbler(self, width: int) -> list[int]:
        """Return the next `width` input bits of the garbler."""
        return [2 * self._node(_GARBLER, 0, 0) for _ in range(width)]

    def evaluator(self, width: int) -> list[int]:
        """Return the next `width` input bits of the evaluator."""
        return [2 * self._node(_EVALUATOR, 0, 0) for _ in range(width)]

    def xor(self, a: int, b: int) -> int:
        """Return a ⊕ b."""
        inverted, a, b = (a ^ b) & 1, a & ~1, b & ~1
        if a == b:
            return inverted
        if FALSE in (a, b):
            return a | b | inverted
        return 2 * self._gate(XOR, a, b) | inverted

    def conjunction(self, a: int, b: int) -> int:
        """Return a ∧ b."""
        if a == b or b == TRUE:
            return a
        if a ^ b == 1 or FALSE in (a, b):
            return FALSE
        return b if a == TRUE else 2 * self._gate(AND, a, b)

    def disjunction(self, a: int, b: int) -> int:
        """Return a ∨ b."""
        return self.conjunction(a ^ 1, b ^ 1) ^ 1

    def build(self, outputs: Sequence[int]) -> Circuit:
        """Return the circuit that computes these literals from all inputs that were asked for."""
        kinds = np.array(self._kinds, np.uint8)
        left, right = np.array(self._left, np.int32), np.array(self._right, np.int32)
        wanted = np.array(outputs, np.int32).reshape(-1)
        used = np.zeros(len(kinds), np.bool_)
        used[wanted >> 1] = True
        _mark_used(kinds, left, right, used)
        gates = np.flatnonzero(used & (kinds <= AND))
        sides = [np.flatnonzero(kinds == kind) for kind in (_GARBLER, _EVALUATOR)]
        order = np.concatenate((np.zeros(1, np.int64), *sides, gates))
        number = np.zeros(len(kinds), np.int32)
        number[order] = np.arange(len(order), dtype=np.int32)

        def renumbered(literals: NDArray[np.int32]) -> NDArray[np.int32]:
            return np.array(2 * number[literals >> 1] | (literals & 1), np.int32)

        parts = (kinds[gates], renumbered(left[gates]), renumbered(right[gates]), renumbered(wanted))
        return Circuit(len(sides[0]), len(sides[1]), *parts)

    def _gate(self, kind: int, a: int, b: int) -> int:
        key = (kind, min(a, b), max(a, b))
        if key not in self._known:
            self._known[key] = self._node(*key)
        return self._known[key]

    def _node(self, kind: int, a: int, b: int) -> int:
        self._kinds.append(kind)
        self._left.append(a)
        self._right.append(b)
        return len(self._kinds) - 1


def to_bits(words: Words, width: int) -> Bits:
    """Turn packed values into rows of bits.

    Args:
        words: (n, ⌈width / 64⌉) uint64; bit i of an instance is bit i % 64 of its word i // 64.
        width: Bits of an instance.

    Returns:
        (width, n) uint8, each 0 or 1.
    """
    octets = np.ascontiguousarray(words, "<u8").view(np.uint8)
    if width == 0:
        return np.zeros((0, len(words)), np.uint8)
    return np.ascontiguousarray(np.unpackbits(octets, axis=1, count=width, bitorder="little").T)


def to_words(bits: Bits) -> Words:
    """Turn rows of bits, (width, n), into packed values, (n, ⌈width / 64⌉) uint64: the inverse of `to_bits`."""
    width, n = bits.shape
    out = np.zeros((n, 8 * -(-width // 64)), np.uint8)
    out[:, : -(-width // 8)] = np.packbits(np.ascontiguousarray(bits.T), axis=1, bitorder="little")
    return out.view("<u8").astype(np.uint64, copy=False)


def evaluate(circuit: Circuit, garbler: Words, evaluator: Words) -> Words:
    """Evaluate a circuit in the plain, 64 instances at a time in each word.

    Args:
        circuit: The circuit.
        garbler: The garbler's inputs, (n, ⌈garbler_bits / 64⌉) uint64, packed as in `to_bits`.
        evaluator: The evaluator's inputs, (n, ⌈evaluator_bits / 64⌉) uint64.

    Returns:
        Outputs, (n, ⌈o / 64⌉) uint64.
    """
    n, rows = len(garbler), len(circuit.outputs)
    out = np.empty((n, -(-rows // 64)), np.uint64)
    for lo in range(0, n, 64 * _TILE_WORDS):
        part = slice(lo, min(lo + 64 * _TILE_WORDS, n))
        count = part.stop - lo
        values = np.zeros((circuit.nodes, -(-count // 64)), np.uint64)
        bits = (to_bits(garbler[part], circuit.garbler_bits), to_bits(evaluator[part], circuit.evaluator_bits))
        octets = np.packbits(np.concatenate(bits), axis=1, bitorder="little")
        values.view(np.uint8)[1 : 1 + circuit.inputs, : octets.shape[1]] = octets
        _evaluate(circuit.kinds, circuit.left, circuit.right, 1 + circuit.inputs, values)
        result = values[circuit.outputs >> 1] ^ (np.uint64(0) - (circuit.outputs & 1).astype(np.uint64))[:, np.newaxis]
        out[part] = to_words(np.unpackbits(result.view(np.uint8), axis=1, count=count, bitorder="little"))
    return out


@njit
def _mark_used(
    kinds: NDArray[np.uint8], left: NDArray[np.int32], right: NDArray[np.int32], used: NDArray[np.bool_]
) -> None:
    for i in range(kinds.shape[0] - 1, -1, -1):
        if used[i] and kinds[i] <= AND:
            used[left[i] >> 1] = True
            used[right[i] >> 1] = True


@njit
def _evaluate(
    kinds: NDArray[np.uint8], left: NDArray[np.int32], right: NDArray[np.int32], first: int, values: Words
) -> None:
    for i in range(kinds.shape[0]):
        a, b, out = values[left[i] >> 1], values[right[i] >> 1], values[first + i]
        if kinds[i] == XOR:
            for w in range(out.shape[0]):
                out[w] = a[w] ^ b[w]
        else:
            not_a, not_b = np.uint64(0) - np.uint64(left[i] & 1), np.uint64(0) - np.uint64(right[i] & 1)
            for w in range(out.shape[0]):
                out[w] = (a[w] ^ not_a) & (b[w] ^ not_b)


def warm() -> None:
    """Compile this module's kernels."""
    builder = Builder()
    circuit = builder.build([builder.conjunction(builder.garbler(1)[0], builder.evaluator(1)[0])])
    evaluate(circuit, np.zeros((1, 1), np.uint64), np.zeros((1, 1), np.uint64))
