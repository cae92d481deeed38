"""GF(2^128) against polynomial arithmetic on Python's integers."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from atoll.crypto import gf128

MODULUS = 1 << 128 | 0x87
elements = st.integers(0, (1 << 128) - 1) | st.sampled_from([0, 1, 1 << 127, (1 << 128) - 1, 1 << 64])


def times(a: int, b: int) -> int:
    product = 0
    for i in range(128):
        product ^= (a << i) * (b >> i & 1)
    for i in range(254, 127, -1):
        product ^= (MODULUS << (i - 128)) * (product >> i & 1)
    return product


def words(*values: int) -> np.ndarray:
    return np.array([[v & (1 << 64) - 1, v >> 64] for v in values], np.uint64)


def number(row: np.ndarray) -> int:
    return int(row[0]) | int(row[1]) << 64


@given(delta=elements, factor=elements, start=elements)
def test_products(delta: int, factor: int, start: int) -> None:
    out, (d,) = words(start), words(delta)
    gf128.add_wide_products(words(factor), gf128.tables(d, 2), out)
    assert number(out[0]) == start ^ times(delta, factor)
    low = factor & (1 << 64) - 1
    out = words(start)
    gf128.add_products(np.array([low], np.uint64), gf128.tables(d, 1), out)
    assert number(out[0]) == start ^ times(delta, low)


@given(strings=st.lists(elements, min_size=1, max_size=128))
def test_inner_product_with_powers(strings: list[int]) -> None:
    out = np.empty((1, 2), np.uint64)
    gf128.inner_with_powers(words(*strings)[np.newaxis], out)
    want = 0
    for j, value in enumerate(strings):
        want ^= times(1 << j, value)
    assert number(out[0]) == want


def test_powers() -> None:
    (delta,) = words(0xDEADBEEF << 90)
    assert [number(row) for row in gf128.powers(delta)] == [times(0xDEADBEEF << 90, 1 << i) for i in range(128)]


@given(point=elements, values=st.lists(elements, min_size=1, max_size=20))
def test_evaluation_at_a_point(point: int, values: list[int]) -> None:
    want = 0
    for value in values:
        want = times(want, point) ^ value
    (at,) = words(point)
    assert number(gf128.evaluate(at, words(*values))) == want
    places = np.flatnonzero(np.array([value != 0 for value in values]))
    sparse = gf128.evaluate_sparse(at, len(values), places, words(*values)[places])
    assert number(sparse) == want


@given(x=elements, y=elements)
def test_product_of_two(x: int, y: int) -> None:
    assert number(gf128.multiply(words(x)[0], words(y)[0])) == times(x, y)
