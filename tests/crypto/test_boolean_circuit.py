"""Circuits: what they compute, what vanishes from them, and what they cost."""

import itertools
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from atoll.crypto import boolean_circuit as bc
from atoll.crypto import circuit_words as cw
from atoll.crypto.boolean_circuit import FALSE, TRUE, Builder, Circuit
from tests.crypto.circuits import plain, random_circuit, random_inputs

WIDTHS = st.sampled_from([1, 2, 3, 7, 8, 13, 31, 32, 64])


@pytest.fixture(scope="module", autouse=True)
def _compiled() -> None:
    bc.warm()


def computed(circuit: Circuit, x: list[int], y: list[int]) -> list[int]:
    """Evaluate one-word circuits on Python integers."""
    columns = [np.array(values, object) % (1 << 64) for values in (x, y)]
    packed = [column.astype(np.uint64)[:, np.newaxis] for column in columns]
    return [int(v) for v in bc.evaluate(circuit, *packed)[:, 0]]


def two_words(width: int, build: Callable[[Builder, cw.Word, cw.Word], cw.Word]) -> Circuit:
    builder = Builder()
    x, y = builder.garbler(width), builder.evaluator(width)
    return builder.build(build(builder, x, y))


def signed(value: int, width: int) -> int:
    value %= 1 << width
    return value - (1 << width) if value >> (width - 1) else value


@pytest.mark.parametrize("table", range(16))
def test_every_function_of_two_bits(table: int) -> None:
    """Built of disjunctions of the inputs for which it is true; all sixteen truth tables come out right."""
    builder = Builder()
    (a,), (b,) = builder.garbler(1), builder.evaluator(1)
    out = FALSE
    for i, (p, q) in enumerate(itertools.product((0, 1), repeat=2)):
        if table >> i & 1:
            out = builder.disjunction(out, builder.conjunction(a ^ 1 ^ p, b ^ 1 ^ q))
    circuit = builder.build([out, builder.xor(a, b), builder.xor(a, b ^ 1)])
    for i, (p, q) in enumerate(itertools.product((0, 1), repeat=2)):
        assert computed(circuit, [p], [q]) == [table >> i & 1 | (p ^ q) << 1 | (1 ^ p ^ q) << 2]


def test_trivial_gates_vanish() -> None:
    builder = Builder()
    a, b = builder.garbler(2)
    for other, xor, conjunction in ((FALSE, a, FALSE), (TRUE, a ^ 1, a), (a, FALSE, a), (a ^ 1, TRUE, FALSE)):
        assert builder.xor(a, other) == builder.xor(other, a) == xor
        assert builder.conjunction(a, other) == builder.conjunction(other, a) == conjunction
    assert builder.xor(a, b) == builder.xor(b, a) == builder.xor(a ^ 1, b) ^ 1
    assert builder.conjunction(a, b) == builder.conjunction(b, a)
    builder.conjunction(a ^ 1, b)  # nothing reads it
    circuit = builder.build([builder.conjunction(a, b)])
    assert (circuit.nodes, circuit.ands, circuit.garbler_bits) == (4, 1, 2)


def test_outputs_may_be_constants_and_inputs() -> None:
    builder = Builder()
    (a,), (b,) = builder.garbler(1), builder.evaluator(1)
    circuit = builder.build([TRUE, a, b ^ 1, FALSE])
    assert computed(circuit, [0, 1], [0, 1]) == [0b0101, 0b0011]
    assert len(circuit.kinds) == 0


@given(WIDTHS, st.integers(0, (1 << 64) - 1), st.integers(0, (1 << 64) - 1))
def test_words_compute_as_integers_do(width: int, x: int, y: int) -> None:
    bound = 1 << width
    x, y = x % bound, y % bound
    cases: dict[str, tuple[Callable[[Builder, cw.Word, cw.Word], cw.Word], int]] = {
        "add": (cw.add, (x + y) % bound),
        "subtract": (cw.subtract, (x - y) % bound),
        "less": (lambda b, p, q: [cw.less_than(b, p, q)], x < y),
        "less, signed": (lambda b, p, q: [cw.less_than(b, p, q, signed=True)], signed(x, width) < signed(y, width)),
        "equal": (lambda b, p, q: [cw.equal(b, p, q)], x == y),
        "same": (lambda b, p, q: [cw.equal(b, p, p)], 1),
        "select": (lambda b, p, q: cw.select(b, p[0], p, q), x if x & 1 else y),
        "minimum": (lambda b, p, q: cw.minimum(b, [p, q]), min(x, y)),
        "maximum": (lambda b, p, q: cw.maximum(b, [p, q], signed=True), max(x, y, key=lambda v: signed(v, width))),
        "threshold": (lambda b, p, q: [cw.threshold(b, p, y)], x >= y),
        "threshold, signed": (
            lambda b, p, q: [cw.threshold(b, p, signed(y, width), signed=True)],
            signed(x, width) >= signed(y, width),
        ),
    }
    if width <= 13:
        cases["multiply"] = (cw.multiply, x * y % bound)
    for name, (build, want) in cases.items():
        assert computed(two_words(width, build), [x], [y]) == [int(want)], name


@given(st.lists(st.integers(-8, 7), min_size=1, max_size=9))
def test_tournaments_find_the_first_of_equals(values: list[int]) -> None:
    builder = Builder()
    players = [builder.garbler(4) for _ in values]
    results = [play(builder, players, signed=True) for play in (cw.arg_max, cw.arg_min)]
    width = (len(values) - 1).bit_length()
    circuit = builder.build([bit for index, best in results for bit in index + best])
    packed = sum((value % 16) << 4 * i for i, value in enumerate(values))
    (out,) = computed(circuit, [packed % (1 << 64)], [0])
    for chosen in (max, min):
        best = chosen(values)
        assert out % (1 << width) == values.index(best)
        assert out >> width & 15 == best % 16
        out >>= width + 4


def test_and_gates_are_as_few_as_said() -> None:
    w = 64
    counts = {
        "add": two_words(w, cw.add).ands,
        "subtract": two_words(w, cw.subtract).ands,
        "less": two_words(w, lambda b, x, y: [cw.less_than(b, x, y, signed=True)]).ands,
        "equal": two_words(w, lambda b, x, y: [cw.equal(b, x, y)]).ands,
        "minimum": two_words(w, lambda b, x, y: cw.minimum(b, [x, y])).ands,
        "threshold": two_words(w, lambda b, x, y: [cw.threshold(b, x, 1 << 40)]).ands,
    }
    assert counts == {"add": 63, "subtract": 63, "less": 64, "equal": 63, "minimum": 128, "threshold": 23}


@pytest.mark.parametrize("seed", range(5))
def test_bit_slices_equal_one_bit_at_a_time(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bc, "_TILE_WORDS", 2)
    circuit = random_circuit(seed, garbler=70, evaluator=3, gates=300, outputs=67)
    for n in (0, 1, 64, 300):
        x, y = random_inputs(seed, n, 70), random_inputs(seed + 1, n, 3)
        out = bc.evaluate(circuit, x, y)
        assert out.shape == (n, 2)
        assert np.array_equal(bc.to_bits(out, 67).T, plain(circuit, x, y))


@given(st.integers(0, 130), st.integers(0, 70), st.integers(0, 1 << 32))
def test_packing_and_unpacking_are_inverse(width: int, n: int, seed: int) -> None:
    words = random_inputs(seed, n, width)
    bits = bc.to_bits(words, width)
    assert bits.shape == (width, n)
    again = bc.to_words(bits)
    assert again.shape == words.shape
    assert np.array_equal(bc.to_bits(again, width), bits)


def test_a_digest_belongs_to_one_circuit() -> None:
    circuits = [
        two_words(8, cw.add),
        two_words(8, cw.subtract),
        two_words(9, cw.add),
        two_words(8, lambda b, x, y: cw.add(b, y, x)),
        two_words(8, lambda b, x, y: cw.inverted(cw.add(b, x, y))),
    ]
    assert len({circuit.digest for circuit in circuits}) >= 4
    assert circuits[0].digest == two_words(8, cw.add).digest
    assert circuits[0].digest.hex()[:16] == FROZEN


FROZEN = "de25f25fed452a9e"


def test_words_of_two_widths_do_not_meet() -> None:
    builder = Builder()
    x, y = builder.garbler(3), builder.garbler(4)
    with pytest.raises(ValueError, match="3 and 4 bits"):
        cw.add(builder, x, y)
    with pytest.raises(ValueError, match="no values"):
        cw.arg_max(builder, [])
