"""Exact numbers against Python's fractions; quantised ones against their plain definition."""

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from atoll.crypto import fixed_point, word_ring
from atoll.crypto.fixed_point import Quantiser
from atoll.crypto.word_ring import Masks, WordRing
from atoll.testing import seeded_rng

fixed_point.warm()
word_ring.warm()
WIDE = WordRing(192)
UGLY = [
    0.0, -0.0, 1.0, -1.0, 5e-324, -5e-324, 2.0**-96, 2.0**-97, 3 * 2.0**-97, -(2.0**-97), 2.0**-98, 1e-300, 0.1,
    math.pi, -1e16, 2.0**53 + 2, 2.0**94, -(2.0**94), math.nextafter(2.0**95, 0), -math.nextafter(2.0**95, 0),
    2.0**-44, 2.0**-32 + 2.0**-84, 1 / 3 * 2.0**-60,
]  # fmt: skip


def nearest(value: Fraction) -> Fraction:
    """A multiple of 2^-96; Python's `round` takes halves to even."""
    return Fraction(round(value * 2**96), 2**96)


def integer(words: np.ndarray) -> int:
    number = int.from_bytes(words.tobytes(), "little")
    return number - (1 << 192) if number >> 191 else number


@pytest.mark.parametrize("value", UGLY)
def test_a_number_is_the_nearest_multiple(value: float) -> None:
    words = fixed_point.encode(np.array([value]))
    assert Fraction(integer(words), 2**96) == nearest(Fraction(value))
    assert fixed_point.decode(words)[0] == float(nearest(Fraction(value)))


@given(st.lists(st.floats(-(2.0**89), 2.0**89), min_size=1, max_size=40))
def test_a_sum_is_rounded_once_in_any_order(values: list[float]) -> None:
    exact = sum(nearest(Fraction(value)) for value in values)
    found = set()
    for order in (values, values[::-1], sorted(values, key=abs)):
        acc = np.zeros(3, np.uint64)
        for value in order:
            WIDE.add(acc, fixed_point.encode(np.array([value])))
        found.add(fixed_point.decode(acc).tobytes())
    assert found == {np.float64(float(exact)).tobytes()}  # Python's division of integers is correctly rounded


@given(st.integers(-(2**191) + 1, 2**191 - 1))
def test_any_integer_is_rounded_as_python_does(number: int) -> None:
    words = np.frombuffer((number % 2**192).to_bytes(24, "little"), np.uint64)
    assert fixed_point.decode(words)[0] == float(Fraction(number, 2**96))


def test_halves_and_their_neighbours_are_rounded_to_even() -> None:
    for bit in (60, 64, 65, 100, 127, 128, 129, 190):
        for mantissa in (2**53 - 1, 2**52, 2**52 + 1):
            for rest in (-1, 0, 1):
                number = (2 * mantissa + 1 << bit - 53) + rest
                words = np.frombuffer(number.to_bytes(24, "little"), np.uint64)
                assert fixed_point.decode(words)[0] == float(Fraction(number, 2**96))


def test_the_largest_value_leaves_room_for_all_sites() -> None:
    for sites in (1, 2, 3, 64, 65, 1000):
        worst = np.array([math.nextafter(fixed_point.largest_of(sites), 0.0)])
        for sign in (1.0, -1.0):
            acc = np.zeros(3, np.uint64)
            for _ in range(sites):
                WIDE.add(acc, fixed_point.encode(sign * worst))
            assert integer(acc) == sites * integer(fixed_point.encode(sign * worst))


@pytest.mark.parametrize("bits", [16, 32, 192])
@pytest.mark.parametrize("n", [1, 2, 5, 4096, 40_000])
def test_masks_are_added_and_taken_off_modulo_the_ring(bits: int, n: int) -> None:
    ring, rng = WordRing(bits), seeded_rng(n)
    keys = [rng.bytes(16) for _ in range(3)]
    start = rng.u64(ring.words(n))
    acc = start.copy()
    ring.mask(acc, Masks(keys, [False, True, True]))
    assert (acc != start).mean() > 0.9
    streams = word_ring.Streams(np.frombuffer(b"".join(keys), np.uint8))
    masks, width, size = streams.next(acc.size), bits // 8, ring.words(n) * 8

    def number(words: np.ndarray, at: int) -> int:
        return int.from_bytes(words.tobytes()[at : at + width], "little")

    for at in range(0, min(size, 50 * width), width):
        plus, *minus = (number(mask, at) for mask in masks)
        assert number(acc, at) == (number(start, at) + plus - sum(minus)) % 2**bits
    ring.mask(acc, Masks(keys, [True, False, False]))
    assert np.array_equal(acc, start)


def test_no_masks_change_nothing() -> None:
    acc = np.arange(6, dtype=np.uint64)
    WIDE.mask(acc, Masks([], []))
    assert acc.tolist() == [0, 1, 2, 3, 4, 5]


def test_other_widths_are_refused() -> None:
    with pytest.raises(ValueError, match="16, 32 or 192"):
        WordRing(64)


@pytest.mark.parametrize("bits", [16, 32])
@pytest.mark.parametrize("sites", [2, 3, 10])
def test_quantised_sums_equal_sums_of_integers(bits: int, sites: int) -> None:
    quantiser, ring, rng = Quantiser(2.5, sites, bits), WordRing(bits), seeded_rng(sites)
    values = rng.u64(sites, 1001).astype(np.float64) / 2.0**63 * 3 - 3  # some beyond the clip
    plain = np.rint(np.clip(values * (quantiser.levels / 2.5), -quantiser.levels, quantiser.levels)).astype(np.int64)
    acc = np.zeros(ring.words(1001), np.uint64)
    for row in values:
        ring.add(acc, quantiser.encode(row))
    assert np.array_equal(quantiser.decode(acc, 1001), plain.sum(axis=0) * (2.5 / quantiser.levels))


def test_the_outermost_levels_occur_and_their_sum_does_not_wrap() -> None:
    quantiser = Quantiser(1.0, 10, 16)
    acc = np.zeros(1, np.uint64)
    for _ in range(10):
        WordRing(16).add(acc, quantiser.encode(np.array([1.0, -1.0, 2.0, -9.0])))
    assert quantiser.decode(acc, 4).tolist() == [10.0, -10.0, 10.0, -10.0]


def test_stochastic_rounding_is_right_in_the_mean_and_between_the_neighbours() -> None:
    quantiser, rng = Quantiser(1.0, 2, 16, stochastic=True), seeded_rng(4)
    step = 1.0 / quantiser.levels
    values = np.full(40_000, 100.3 * step)
    found = quantiser.decode(quantiser.encode(values, rng), values.size) / step
    assert set(np.unique(np.rint(found))) == {100.0, 101.0}
    assert abs(found.mean() - 100.3) < 0.012  # five deviations
    with pytest.raises(ValueError, match="randomness"):
        quantiser.encode(values)


@pytest.mark.parametrize(
    ("clip", "sites", "bits"), [(0.0, 2, 32), (math.inf, 2, 32), (1, 0, 32), (1, 2, 64), (1, 40_000, 16)]
)
def test_quantisers_that_cannot_work(clip: float, sites: int, bits: int) -> None:
    with pytest.raises(ValueError, match="no quantiser"):
        Quantiser(clip, sites, bits)
