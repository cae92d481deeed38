"""Arithmetic and choices on words of a boolean circuit; every function counts its AND gates, XORs are free.

A word is a list of literals of one `Builder`, the lowest bit first.  Words that meet have the same width.  Constants
are words too (`constant`), and whatever they decide vanishes from the circuit.

Source: Kolesnikov, Sadeghi, Schneider, CANS 2009, sections 3.1 to 3.3: adders, comparison, selection and minimum with
one AND gate a bit where XOR is free.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from atoll.crypto.boolean_circuit import FALSE, TRUE, Builder

Word = list[int]


def constant(value: int, width: int) -> Word:
    """Return the lowest bits of a public number, negative ones in two's complement."""
    return [(value >> i) & 1 for i in range(width)]


def inverted(x: Word) -> Word:
    """Return all bits inverted; free."""
    return [bit ^ 1 for bit in x]


def add(builder: Builder, x: Word, y: Word) -> Word:
    """Return x + y modulo 2^w; w − 1 AND gates."""
    _same_width(x, y)
    out, carry = [], FALSE
    for i, (a, b) in enumerate(zip(x, y, strict=True)):
        b_and_carry = builder.xor(b, carry)
        out.append(builder.xor(a, b_and_carry))
        if i + 1 < len(x):
            carry = _majority(builder, a, b, carry)
    return out


def subtract(builder: Builder, x: Word, y: Word) -> Word:
    """Return x − y modulo 2^w, as the complement of ~x + y; w − 1 AND gates."""
    return inverted(add(builder, inverted(x), y))


def multiply(builder: Builder, x: Word, y: Word) -> Word:
    """Return x·y modulo 2^w by adding shifted rows; about w² AND gates, so for small words only."""
    _same_width(x, y)
    total = constant(0, len(x))
    for i, digit in enumerate(y):
        row = [builder.conjunction(digit, bit) for bit in x[: len(x) - i]]
        total = total[:i] + add(builder, total[i:], row)
    return total


def less_than(builder: Builder, x: Word, y: Word, *, signed: bool = False) -> int:
    """Return whether x < y: the borrow of x − y; w AND gates."""
    _same_width(x, y)
    if signed and x:
        x, y = [*x[:-1], x[-1] ^ 1], [*y[:-1], y[-1] ^ 1]
    borrow = FALSE
    for a, b in zip(x, y, strict=True):
        borrow = _majority(builder, a ^ 1, b, borrow)
    return borrow


def equal(builder: Builder, x: Word, y: Word) -> int:
    """Return whether x = y; w − 1 AND gates, ⌈log₂ w⌉ of them one after the other."""
    _same_width(x, y)
    return all_of(builder, [builder.xor(a, b) ^ 1 for a, b in zip(x, y, strict=True)])


def all_of(builder: Builder, bits: Word) -> int:
    """Return whether all bits are set; one AND gate less than there are bits."""
    while len(bits) > 1:
        pairs = [builder.conjunction(a, b) for a, b in zip(bits[::2], bits[1::2], strict=False)]
        bits = pairs + bits[2 * len(pairs) :]
    return bits[0] if bits else TRUE


def select(builder: Builder, condition: int, x: Word, y: Word) -> Word:
    """Return x where the condition holds, else y; w AND gates."""
    _same_width(x, y)
    return [
        builder.xor(b, builder.conjunction(condition, builder.xor(a, b))) if a != b else a
        for a, b in zip(x, y, strict=True)
    ]


def threshold(builder: Builder, x: Word, at_least: int, *, signed: bool = False) -> int:
    """Return whether x ≥ a public number, which x's width can hold; at most w − 1 AND gates."""
    return less_than(builder, x, constant(at_least, len(x)), signed=signed) ^ 1


def minimum(builder: Builder, values: Sequence[Word], *, signed: bool = False) -> Word:
    """Return the smallest of k values; 2w(k − 1) AND gates."""
    return arg_min(builder, values, signed=signed)[1]


def maximum(builder: Builder, values: Sequence[Word], *, signed: bool = False) -> Word:
    """Return the largest of k values; 2w(k − 1) AND gates."""
    return arg_max(builder, values, signed=signed)[1]


def arg_min(builder: Builder, values: Sequence[Word], *, signed: bool = False) -> tuple[Word, Word]:
    """Return the index of the smallest value, the first of equals, and that value."""
    return _tournament(builder, values, lambda later, first: less_than(builder, later, first, signed=signed))


def arg_max(builder: Builder, values: Sequence[Word], *, signed: bool = False) -> tuple[Word, Word]:
    """Return the index of the largest value, the first of equals, and that value.

    The index has ⌈log₂ k⌉ bits; (2w + 1)(k − 1) AND gates or a few more, in ⌈log₂ k⌉ rounds of pairs.
    """
    return _tournament(builder, values, lambda later, first: less_than(builder, first, later, signed=signed))


def _tournament(builder: Builder, values: Sequence[Word], beats: Callable[[Word, Word], int]) -> tuple[Word, Word]:
    """Play pairs of neighbours until one is left; a later value wins only if it `beats` an earlier one."""
    if not values:
        raise ValueError("there is no best one among no values")
    width = (len(values) - 1).bit_length()
    players = [(constant(i, width), list(value)) for i, value in enumerate(values)]
    while len(players) > 1:
        winners = []
        for (first_index, first), (later_index, later) in zip(players[::2], players[1::2], strict=False):
            won = beats(later, first)
            index = select(builder, won, later_index, first_index)
            winners.append((index, select(builder, won, later, first)))
        players = winners + players[2 * len(winners) :]
    return players[0]


def _majority(builder: Builder, a: int, b: int, c: int) -> int:
    return builder.xor(c, builder.conjunction(builder.xor(a, c), builder.xor(b, c)))


def _same_width(x: Word, y: Word) -> None:
    if len(x) != len(y):
        raise ValueError(f"words of {len(x)} and {len(y)} bits do not meet")
