"""Comparison, selection, conversion, functions and order on shares, beside numpy, from both sources."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from atoll.protocols import shares
from atoll.protocols.shares import Arithmetic, Bits, Party, functions, order
from atoll.testing import seeded_rng
from tests.protocols.shares.runs import play
from tests.protocols.shares.test_arithmetic import SOURCES, UNIT, drawn, shared

ENDS = np.array([0, 1, -1, 2**62, -(2**62), 2**62 - 1, 15, 16, -16, 2**48, -(2**48) + 1, 255], np.int64)


def halves(p: Party, values: np.ndarray, seed: int = 7) -> Arithmetic:
    """Uniform halves of integers of the ring, whatever their size."""
    mask = seeded_rng(seed).u64(*values.shape)
    return Arithmetic(values.view(np.uint64) - mask if p.number == 0 else mask)


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("n", [0, 1, 64, 65, 200])
def test_signs_and_equality_hold_at_the_ends_of_the_range(source: str, n: int) -> None:
    x = np.resize(ENDS, n)
    y = np.where(np.arange(n) % 3 == 0, x, np.roll(x, 1))

    async def program(p: Party) -> Any:
        a, b = halves(p, x), halves(p, y, 8)
        return await p.open(await shares.negative(p, a), await shares.equal(p, a, b))

    mine, theirs, _ = play(program, source=source)
    assert np.array_equal(mine[0], x < 0)
    assert np.array_equal(mine[1], x == y)
    assert np.array_equal(mine, theirs)


@settings(max_examples=10, deadline=None, derandomize=True)
@given(shape=st.sampled_from([(1,), (9,), (3, 4), (65,)]), seed=st.integers(0, 1000), source=st.sampled_from(SOURCES))
def test_comparison_selection_and_logic(shape: tuple[int, ...], seed: int, source: str) -> None:
    x, y = drawn(shape, seed), drawn(shape, seed + 1)
    y.reshape(-1)[::4] = x.reshape(-1)[::4]

    async def program(p: Party) -> Any:
        a, b = await shared(p, x, y)
        low, same = await shares.less(p, a, b), await shares.equal(p, a, b)
        return await p.open(
            low,
            same,
            await shares.select(p, low, a, b),
            await shares.to_arithmetic(p, low),
            await shares.conjunction(p, low, p.invert(same)),
            await shares.disjunction(p, low, same),
            low ^ same,
            await shares.choose(p, same, Arithmetic(np.stack((a.half, b.half)), 18)),
        )

    want = (x < y, x == y, np.minimum(x, y), (x < y).astype(int), x < y, x <= y, x <= y, np.stack((x, y)) * (x == y))
    for got, exact in zip(play(program, source=source, seed=seed)[0], want, strict=True):
        assert np.array_equal(got, exact)


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("n", [0, 1, 70])
def test_numbers_become_bits_and_bits_numbers(source: str, n: int) -> None:
    x = np.resize(ENDS, n)

    async def program(p: Party) -> Any:
        bits = await shares.to_bits(p, halves(p, x))
        return await p.open(bits, await shares.from_bits(p, bits), await shares.from_bits(p, bits, [1] * 64))

    bits, back, count = play(program, source=source)[0]
    assert np.array_equal(bits, ((x[np.newaxis] >> np.arange(64)[:, np.newaxis]) & 1).astype(bool))
    assert np.array_equal(back, x)
    assert np.array_equal(count, bits.sum(axis=0))
    with pytest.raises(ValueError, match="from_bits"):
        play(lambda p: shares.to_arithmetic(p, Bits(np.zeros((2, 1), np.uint64), (1,))))


def test_bits_that_do_not_fit_are_refused() -> None:
    one, two = Bits(np.zeros((1, 1), np.uint64), (1,)), Bits(np.zeros((1, 1), np.uint64), (2,))
    with pytest.raises(ValueError, match="do not fit"):
        one ^ two
    with pytest.raises(ValueError, match="do not fit"):
        play(lambda p: shares.conjunction(p, one, two))


@pytest.mark.parametrize("source", SOURCES)
def test_division(source: str) -> None:
    rng = np.random.default_rng(4)
    y = np.concatenate((2.0 ** rng.uniform(-10, 22.9, 60), [1, 2, 4, 3, UNIT * 1024, 2**23 - 1]))
    y = np.rint(y / UNIT) * UNIT
    x = np.rint(y * rng.uniform(-1, 1, y.size) * 2.0 ** rng.integers(-6, 12, y.size) / UNIT) * UNIT
    x = np.clip(x, -(2.0**40), 2.0**40)

    async def program(p: Party) -> Any:
        a, b = await shared(p, x, y)
        return await p.open(await shares.divide(p, a, b), await shares.reciprocal(p, b))

    quotient, inverse = play(program, source=source)[0]
    assert (np.abs(quotient - x / y) <= np.abs(x / y) * 2.0**-18 + 3 * UNIT).all()
    assert (np.abs(inverse - 1 / y) <= 2.0**-18 / y + 3 * UNIT).all()


@pytest.mark.parametrize("source", SOURCES)
def test_exponential(source: str) -> None:
    x = np.concatenate((np.linspace(-15, 9.7, 80), [-14, -1000, 0, -(2.0**30)]))

    async def program(p: Party) -> Any:
        (a,) = await shared(p, x)
        return await p.open(await shares.exponential(p, a))

    want = np.where(x < -14, 0, np.exp(x))
    assert (np.abs(play(program, source=source)[0] - want) <= want * 2.0**-16 + 2 * UNIT).all()


def test_exponential_with_other_fractions() -> None:
    x = np.linspace(-10, 5, 20)

    async def program(p: Party) -> Any:
        (a,) = await shared(p, x)
        return await p.open(await shares.exponential(p, a))

    for f in (10, 20, 24):
        got = play(program, fraction=f)[0]
        assert (np.abs(got - np.exp(x)) <= np.exp(x) * (2.0**-15 + 2.0**-f) + 2 * 2.0**-f).all(), f
    with pytest.raises(ValueError, match="at most 24"):
        play(program, fraction=28)


@pytest.mark.parametrize("source", SOURCES)
def test_logistic(source: str) -> None:
    x = np.concatenate((np.linspace(-9, 9, 200), [8, -8, 15.9, -15.9, 16, 17, 24, 32, -40, 1e6, -1e6, 0]))

    async def program(p: Party) -> Any:
        (a,) = await shared(p, x)
        return await p.open(await shares.logistic(p, a))

    error = np.abs(play(program, source=source)[0] - 1 / (1 + np.exp(-np.clip(x, -700, 700))))
    assert error.max() <= 4e-4
    assert error[np.abs(x) < 7.99].max() <= 1.2e-4


def test_the_series_are_the_least_squares_fit() -> None:
    x = np.linspace(0, 8, 4001)
    waves = np.sin(np.outer(x, (2 * np.arange(len(functions.WEIGHTS)) + 1) * (2 * np.pi / 32)))
    found, *_ = np.linalg.lstsq(waves, 1 / (1 + np.exp(-x)) - 0.5, rcond=None)
    assert np.abs(found - functions.WEIGHTS).max() < 1e-8


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("shape", [(1,), (2,), (7,), (3, 6)])
def test_largest_and_smallest(source: str, shape: tuple[int, ...]) -> None:
    x = drawn(shape, 5)
    x[..., -1] = x[..., 0]  # a tie

    async def program(p: Party) -> Any:
        (a,) = await shared(p, x)
        return await p.open(*await shares.largest(p, a), *await shares.smallest(p, a))

    for got, exact in zip(
        play(program, source=source)[0], (x.max(-1), x.argmax(-1), x.min(-1), x.argmin(-1)), strict=True
    ):
        assert np.array_equal(got, exact)


@pytest.mark.parametrize("n", [0, 1, 2, 3, 8, 13, 64, 100])
def test_the_network_sorts(n: int) -> None:
    rng = np.random.default_rng(n)
    for _ in range(20):
        x = rng.integers(0, max(1, n), n)
        want = np.sort(x)
        for low, high in order.layers(n):
            assert len({*low, *high}) == 2 * len(low)
            x[low], x[high] = np.minimum(x[low], x[high]), np.maximum(x[low], x[high])
        assert np.array_equal(x, want)


def test_sorting_carries_columns_along() -> None:
    x, y = drawn((13,), 1), np.arange(13, dtype=np.int64)

    async def program(p: Party) -> Any:
        (a,), (b,) = await shared(p, x), await shared(p, y, fraction=0)
        return await p.open(*await shares.sort(p, a, b))

    keys, places = play(program)[0]
    assert np.array_equal(keys, np.sort(x))
    assert np.array_equal(x[places], keys)
    assert np.array_equal(np.sort(places), y)


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("n", [1, 2, 11])
def test_quantiles(source: str, n: int) -> None:
    x, levels = drawn((n,), n), [0, 0.1, 0.5, 0.99, 1]

    async def program(p: Party) -> Any:
        (a,) = await shared(p, x)
        return await p.open(await shares.quantiles(p, a, levels))

    assert np.abs(play(program, source=source)[0] - np.quantile(x, levels)).max() <= 200 * UNIT
    for bad in ([1.5], [-0.1]):
        with pytest.raises(ValueError, match="between 0 and 1"):
            play(lambda p, bad=bad: shares.quantiles(p, p.constant(x), bad))
