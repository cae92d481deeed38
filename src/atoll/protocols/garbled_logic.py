"""Branching on private numbers by garbled circuits: comparisons, minima, maxima, arg-max and thresholds.

Each call stands once in the code of both sites, between the roles' other steps:

    party = await start_garbler(peer, rng=rng)                 party = await start_evaluator(peer, rng=rng)
    best = await arg_max(party, mine, theirs=2, to="both")     best = await arg_max(party, mine, theirs=3, to="both")

Values are 64-bit integers or narrower ones, signed by default.  They belong to one site each, or are shared: both sites
then hold addends whose sum modulo 2^width is the value.  Results go where `to` says; `additive` gives shares whose sum
modulo 2^64 is the result, ready for arithmetic on shares.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from atoll.core.errors import InputError
from atoll.crypto import circuit_words as words
from atoll.crypto.boolean_circuit import Builder, Circuit
from atoll.crypto.circuit_words import Word
from atoll.protocols.garbled_circuit import Evaluator, Garbler, Output

Party = Garbler | Evaluator
Target = Output | Literal["additive"]
"""Where a result goes: as `Output`, or in additive shares modulo 2^64."""

Relation = Literal["<", "<=", "==", "!=", ">=", ">"]
Integers = NDArray[np.int64] | NDArray[np.uint64]

_TARGETS = (*get_args(Output), "additive")
_KEPT = 32  # circuits that are not built again


@dataclass(frozen=True)
class _Question:
    """What is asked: names a circuit, the same at both sides.

    Attributes:
        name: What is computed of the values of a row; see `_ANSWERS`.
        width: Bits of a value.
        counts: Values of the garbler and of the evaluator in a row; of both as many where they are shared.
        shared: Whether a value is the sum of one of the garbler's and one of the evaluator's.
        signed: Whether the highest bit is a sign.
        masked: Whether the garbler's mask is taken from the result.
        constant: The public number of a threshold.
    """

    name: str
    width: int
    counts: tuple[int, int]
    shared: bool
    signed: bool
    masked: bool
    constant: int = 0


async def compare(
    party: Party,
    values: Integers,
    relation: Relation = "<",
    *,
    to: Target,
    signed: bool = True,
    width: int = 64,
) -> NDArray[Any] | None:
    """Compare the garbler's values with the evaluator's, row by row.

    Args:
        party: This site's end of a session.
        values: Own values, (n,) integers of `width` bits.
        relation: Between the garbler's value, on the left, and the evaluator's.
        to: Where the result goes.
        signed: Whether values are in two's complement.
        width: Bits of a value, 1 to 64; fewer cost less.

    Returns:
        (n,) uint8 of 0 and 1, XOR shares of it, or additive shares, (n,) uint64; None if the result is not for here.

    Raises:
        InputError: A value does not fit the width, or an argument makes no sense.
        ProtocolError: As `garbled-circuit`.
    """
    if relation not in _RELATIONS:
        raise InputError(f"there is no relation {relation!r}", cure=f"Known are {' '.join(_RELATIONS)}.")
    question = _Question(relation, width, (1, 1), False, signed, to == "additive")
    return _bit(await _ask(party, question, _column(values), to), to)


async def at_least(
    party: Party, values: Integers, threshold: int, *, to: Target, signed: bool = True, width: int = 64
) -> NDArray[Any] | None:
    """Ask whether the sum of both sites' values reaches a public threshold, row by row.

    The sum is taken modulo 2^width, so that additive shares may be given as they are.

    Args:
        party: This site's end of a session.
        values: Own addends, (n,).
        threshold: The public number, the same at both sites; it fits the width.
        to: Where the result goes.
        signed: Whether the sum is in two's complement.
        width: Bits of the sum.

    Returns:
        As `compare`.

    Raises:
        InputError: As `compare`.
        ProtocolError: As `garbled-circuit`.
    """
    low, high = (-(1 << width - 1), 1 << width - 1) if signed else (0, 1 << width)
    if not low <= threshold < high:
        raise InputError(f"the threshold {threshold} does not fit {width} bits", cure="Give more bits, or another one.")
    question = _Question("threshold", width, (1, 1), True, signed, to == "additive", threshold)
    return _bit(await _ask(party, question, _column(values), to), to)


async def minimum(
    party: Party, values: Integers, *, theirs: int | None, to: Target, signed: bool = True, width: int = 64
) -> NDArray[Any] | None:
    """Find the smallest value of every row; arguments and result as of `maximum`."""
    return await _extreme("minimum", party, values, theirs, to, signed, width)


async def maximum(
    party: Party, values: Integers, *, theirs: int | None, to: Target, signed: bool = True, width: int = 64
) -> NDArray[Any] | None:
    """Find the largest value of every row.

    Args:
        party: This site's end of a session.
        values: (n, k) own values, or own shares of k values.
        theirs: How many values the other site adds to a row; None if `values` are shares.
        to: Where the result goes.
        signed: Whether values are in two's complement.
        width: Bits of a value; shares are read modulo 2^width.

    Returns:
        (n,) int64, or uint64 if not signed; XOR shares or additive shares, (n,) uint64; None if not for here.

    Raises:
        InputError: As `compare`, or there are no values at all.
        ProtocolError: As `garbled-circuit`.
    """
    return await _extreme("maximum", party, values, theirs, to, signed, width)


async def arg_max(
    party: Party, values: Integers, *, theirs: int | None, to: Target, signed: bool = True, width: int = 64
) -> NDArray[Any] | None:
    """Find the place of the largest value of every row, the first of equals.

    Args:
        party: This site's end of a session.
        values: As of `maximum`, and so are the rest.

    Returns:
        (n,) int64: places count the garbler's values first, then the evaluator's; shares as of `maximum`.

    Raises:
        InputError: As `maximum`.
        ProtocolError: As `garbled-circuit`.
    """
    question = _question("arg_max", party, values, theirs, to, signed, width)
    found = await _ask(party, question, values, to)
    return found if found is None or to in ("shares", "additive") else found.astype(np.int64)


async def _extreme(
    name: str, party: Party, values: Integers, theirs: int | None, to: Target, signed: bool, width: int
) -> NDArray[Any] | None:
    found = await _ask(party, _question(name, party, values, theirs, to, signed, width), values, to)
    if found is None or to in ("shares", "additive") or not signed:
        return found
    spare = np.int64(64 - width)  # the sign is drawn out to 64 bits
    return (found.view(np.int64) << spare) >> spare


def _question(
    name: str, party: Party, values: Integers, theirs: int | None, to: Target, signed: bool, width: int
) -> _Question:
    if values.ndim != 2:
        raise InputError(f"values are an array (rows, values in a row), not {values.shape}")
    mine = values.shape[1]
    counts = (mine, mine if theirs is None else theirs)
    if min(counts) < 0 or sum(counts) == 0:
        raise InputError("a row has no values")
    if isinstance(party, Evaluator):
        counts = counts[::-1]
    return _Question(name, width, counts, theirs is None, signed, to == "additive")


async def _ask(party: Party, question: _Question, values: Integers, to: Target) -> NDArray[np.uint64] | None:
    """Run the question's circuit on own values, (n, k); return results or shares, (n,) uint64."""
    if not 1 <= question.width <= 64:
        raise InputError(f"values of {question.width} bits are not supported, only of 1 to 64")
    if to not in _TARGETS:
        raise InputError(f"a result cannot go to {to!r}", cure=f"Known are {', '.join(_TARGETS)}.")
    circuit, n = _circuit(question), len(values)
    inputs = _packed(values, question)
    target: Output = "evaluator" if to == "additive" else to
    mask = np.zeros(n, np.uint64)
    if question.masked and isinstance(party, Garbler):
        mask = party.rng.u64(n)
        inputs = np.column_stack((mask, inputs))
    found = await party.run(circuit, inputs, target)
    if question.masked and isinstance(party, Garbler):
        return mask
    if found is None:
        return None
    return found[:, 0] if found.shape[1] else np.zeros(n, np.uint64)  # one value is its own arg-max: an index of 0 bits


@lru_cache(_KEPT)
def _circuit(question: _Question) -> Circuit:
    """Build a question's circuit; a mask comes first, so that it has a word of its own."""
    builder, width = Builder(), question.width
    mask = builder.garbler(64) if question.masked else []
    mine = [builder.garbler(width) for _ in range(question.counts[0])]
    theirs = [builder.evaluator(width) for _ in range(question.counts[1])]
    sums = [words.add(builder, a, b) for a, b in zip(mine, theirs, strict=question.shared)]
    values = sums if question.shared else mine + theirs
    result = _ANSWERS[question.name](builder, values, question)
    if question.masked:
        numeric = question.signed and question.name in ("minimum", "maximum")
        filler = result[-1] if numeric and result else 0
        result = words.subtract(builder, result + [filler] * (64 - len(result)), mask)
    return builder.build(result)


def _less(builder: Builder, x: Word, y: Word, question: _Question) -> int:
    return words.less_than(builder, x, y, signed=question.signed)


_RELATIONS: dict[str, Callable[[Builder, list[Word], _Question], Word]] = {
    "<": lambda builder, v, q: [_less(builder, v[0], v[1], q)],
    "<=": lambda builder, v, q: [_less(builder, v[1], v[0], q) ^ 1],
    "==": lambda builder, v, q: [words.equal(builder, v[0], v[1])],
    "!=": lambda builder, v, q: [words.equal(builder, v[0], v[1]) ^ 1],
    ">=": lambda builder, v, q: [_less(builder, v[0], v[1], q) ^ 1],
    ">": lambda builder, v, q: [_less(builder, v[1], v[0], q)],
}

_ANSWERS: dict[str, Callable[[Builder, list[Word], _Question], Word]] = {
    **_RELATIONS,
    "threshold": lambda builder, v, q: [words.threshold(builder, v[0], q.constant, signed=q.signed)],
    "minimum": lambda builder, v, q: words.minimum(builder, v, signed=q.signed),
    "maximum": lambda builder, v, q: words.maximum(builder, v, signed=q.signed),
    "arg_max": lambda builder, v, q: words.arg_max(builder, v, signed=q.signed)[0],
}


def _packed(values: Integers, question: _Question) -> NDArray[np.uint64]:
    """Pack values of `width` bits one after the other; shares are taken modulo 2^width, others must fit."""
    if values.dtype.kind not in "iu":
        raise InputError(f"garbled logic works on integers, not {values.dtype}", cure="Scale to fixed point first.")
    if not question.shared and values.size:
        low = -(1 << question.width - 1) if question.signed else 0
        high = (1 << question.width - question.signed) - 1
        if int(values.min()) < low or int(values.max()) > high:
            raise InputError(f"a value does not fit {question.width} bits", cure="Give more bits, or scale the values.")
    whole = np.ascontiguousarray(values.astype(np.int64 if values.dtype.kind == "i" else np.uint64)).view(np.uint64)
    if question.width == 64:
        return whole
    n, k = whole.shape
    octets = whole.astype("<u8")[:, :, np.newaxis].view(np.uint8)
    bits = np.unpackbits(octets, axis=2, count=question.width, bitorder="little").reshape(n, k * question.width)
    out = np.zeros((n, 8 * -(-bits.shape[1] // 64)), np.uint8)
    out[:, : -(-bits.shape[1] // 8)] = np.packbits(bits, axis=1, bitorder="little")
    return out.view("<u8").astype(np.uint64)


def _column(values: Integers) -> Integers:
    if values.ndim != 1:
        raise InputError(f"values are an array (rows,), not {values.shape}")
    return values[:, np.newaxis]


def _bit(found: NDArray[np.uint64] | None, to: Target) -> NDArray[Any] | None:
    return found if found is None or to == "additive" else found.astype(np.uint8)
