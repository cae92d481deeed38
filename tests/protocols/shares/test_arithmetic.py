"""Arithmetic on shares equals numpy's over drawn shapes and ugly values, from both sources."""

import asyncio
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from atoll.core.errors import ContractError, InputError, ProtocolError
from atoll.protocols import shares
from atoll.protocols.shares import Arithmetic, Bits, Party, dealer, first, joined, logic, second, transfers
from atoll.protocols.shares.values import decode, encode
from atoll.testing import end_pair, recorded_pair, seeded_rng
from tests.protocols.shares.runs import play

UNIT = 2.0**-18
SOURCES = ("dealer", "transfers")
SHAPES = [(0,), (1,), (7,), (3, 5), (2, 0, 3), ()]
DRAWN = settings(max_examples=12, deadline=None, derandomize=True)


def drawn(shape: tuple[int, ...], seed: int, size: float = 100.0) -> np.ndarray:
    """Numbers of both signs, with zeros and the ends among them, on the grid of 18 fractional bits."""
    rng = np.random.default_rng(seed)
    values = rng.uniform(-size, size, shape)
    values = np.where(rng.random(shape) < 0.2, rng.choice([0.0, UNIT, -UNIT, size, -size], shape), values)
    return np.rint(values / UNIT) * UNIT


async def shared(p: Party, *arrays: Any, fraction: int | None = None) -> list[Arithmetic]:
    """Share arrays, the owners taking turns."""
    found = []
    for number, array in enumerate(arrays):
        owner = number % 2
        values = array if p.number == owner else None
        found.append(await p.input(owner, np.shape(array), values, fraction))
    return found


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("shape", SHAPES)
def test_products_and_squares(source: str, shape: tuple[int, ...]) -> None:
    x, y = drawn(shape, 1), drawn(shape, 2)

    async def program(p: Party) -> Any:
        a, b = await shared(p, x, y)
        return await p.open(await p.mul(a, b), await p.square(a), a + b, a - b, -a, a.scaled(-3), p.plus(a, y))

    mine, theirs, _ = play(program, source=source)
    want = (x * y, x * x, x + y, x - y, -x, -3 * x, x + y)
    for got, other, exact in zip(mine, theirs, want, strict=True):
        assert np.array_equal(got, other)
        assert got.shape == shape
        assert np.abs(got - exact).max(initial=0) <= UNIT * (1 + 1e-9)


@DRAWN
@given(n=st.integers(0, 70), seed=st.integers(0, 1000), f=st.sampled_from([8, 12, 18, 20]))
def test_a_product_is_at_most_one_unit_off_for_every_fraction(n: int, seed: int, f: int) -> None:
    size = 2.0 ** min(10, 29 - f)
    rng = np.random.default_rng(seed)
    x, y = np.rint(rng.uniform(-size, size, (2, n)) * 2.0**f).astype(np.int64)

    async def program(p: Party) -> Any:
        a, b = await shared(p, x / 2.0**f, y / 2.0**f)
        return await p.open(await p.mul(a, b))

    got = play(program, fraction=f, seed=seed)[0] * 2.0**f
    assert np.abs(got - np.floor(x.astype(object) * y.astype(object) / 2**f).astype(float)).max(initial=0) <= 1


@pytest.mark.parametrize("source", SOURCES)
def test_integers_multiply_exactly_modulo_2_to_the_64(source: str) -> None:
    x = np.array([0, 1, -1, 2**61, -(2**61), 2**40 + 1, -(2**33)], np.int64)
    y = np.array([5, -1, -1, 4, 2, 2**40 - 1, 2**35], np.int64)

    async def program(p: Party) -> Any:
        a, b = await shared(p, x, y, fraction=0)
        return await p.open(await p.mul(a, b), await p.square(a))

    product, square = play(program, source=source)[0]
    with np.errstate(over="ignore"):
        assert np.array_equal(product, x * y)  # numpy wraps in the same way
        assert np.array_equal(square, x * x)


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("size", [(1, 1, 1), (3, 5, 2), (2, 5, 3), (0, 4, 3), (4, 0, 3), (5, 70, 3)])
def test_matrix_products(source: str, size: tuple[int, int, int]) -> None:
    m, k, n = size
    x, y = drawn((m, k), 1, 30), drawn((k, n), 2, 30)

    async def program(p: Party) -> Any:
        a, b = await shared(p, x, y)
        return await p.open(await p.matmul(a, b), await p.matmul(b.T, a.T))

    product, other = play(program, source=source)[0]
    assert np.abs(product - x @ y).max(initial=0) <= UNIT * (1 + 1e-9)
    assert np.abs(other.T - x @ y).max(initial=0) <= UNIT * (1 + 1e-9)


def test_shapes_broadcast_and_arrays_are_cut_and_joined() -> None:
    x, y = drawn((4, 3), 1), drawn((3,), 2)

    async def program(p: Party) -> Any:
        a, b = await shared(p, x, y)
        dot = await p.dot(a[0], b)
        return await p.open(await p.mul(a, b), dot, a.sum(axis=0), a.sum(), joined([a, a[1:]]), a.reshape(-1)[:2])

    products, dot, columns, total, both, part = play(program)[0]
    assert np.abs(products - x * y).max() <= UNIT * (1 + 1e-9)
    assert abs(dot - x[0] @ y) <= UNIT * (1 + 1e-9)
    assert np.allclose(columns, x.sum(axis=0), atol=1e-12)
    assert np.isclose(total, x.sum(), atol=1e-12)
    assert np.array_equal(both, np.concatenate((x, x[1:])))
    assert np.array_equal(part, x.reshape(-1)[:2])
    with pytest.raises(ValueError, match="cannot be multiplied"):
        play(lambda p: p.matmul(p.constant(x), p.constant(x)))
    three, four = (Arithmetic(np.zeros(1, np.uint64), f) for f in (3, 4))
    with pytest.raises(ValueError, match="fractional bits"):
        three + four


@pytest.mark.parametrize("source", SOURCES)
def test_truncation_is_at_most_one_unit_off_at_the_ends_of_the_range(source: str) -> None:
    ends = [2**62 - 1, -(2**62), 0, -1, 1, 2**18, -(2**18), 2**18 - 1, 12345678901234567]
    x = np.array(ends * 30, np.int64)

    async def program(p: Party) -> Any:
        words = x.view(np.uint64) if p.number == 0 else np.zeros(x.size, np.uint64)
        mask = seeded_rng(77).u64(x.size)  # as halves would be: uniform
        half = words - mask if p.number == 0 else mask
        return [await p.open(await p.truncate(Arithmetic(half, bits), bits)) for bits in (0, 1, 18, 31, 40)]

    for bits, got in zip((0, 1, 18, 31, 40), play(program, source=source)[0], strict=True):
        assert np.abs(got - (x >> bits)).max() <= (1 if bits else 0), bits


def test_truncating_each_half_alone_goes_wrong_as_often_as_theory_says() -> None:
    """Mutant: SecureML's local truncation fails with probability |x| / 2^64, and then by 2^(64 − f)."""
    rng, n, bits = seeded_rng(3), 40_000, 18
    x = np.full(n, 1 << 58, np.uint64)
    mask = rng.u64(n)
    local = ((x - mask) >> np.uint64(bits)) - ((np.uint64(0) - mask) >> np.uint64(bits))
    wrong = np.abs(local.view(np.int64) - (1 << 40)) > 1
    assert abs(wrong.mean() - 2.0**-6) < 0.003
    assert np.abs(local.view(np.int64)[wrong]).min() > 2**45

    async def program(p: Party) -> Any:
        return await p.open(await p.truncate(Arithmetic(x - mask if p.number == 0 else mask, bits), bits))

    for source in SOURCES:
        assert np.abs(play(program, source=source)[0] - (1 << 40)).max() <= 1


def test_an_opened_value_goes_to_whom_the_program_names() -> None:
    async def program(p: Party) -> Any:
        (x,) = await shared(p, np.array([1.5, -2.0]))
        return await p.open(x, to=0), await p.open(x, to=1), await p.open(x)

    mine, theirs, transcript = play(program)
    assert mine[0].tolist() == [1.5, -2.0]
    assert mine[1] is None
    assert theirs[0] is None
    assert theirs[1].tolist() == theirs[2].tolist() == [1.5, -2.0]
    assert [frame.sender for frame in transcript if "Opened" in frame.kind] in ([*"baab"], [*"baba"])


def test_values_are_not_shown_and_have_no_truth() -> None:
    x, b = Arithmetic(np.array([7], np.uint64), 3), Bits(np.ones((1, 1), np.uint64), (1,))
    for value in (x, b):
        with pytest.raises(TypeError, match="not known here"):
            bool(value)
        assert "7" not in repr(value)
    assert (x == x.reshape(1)) is False


@pytest.mark.parametrize("bad", [np.nan, np.inf, 2.0**44, -(2.0**45), 1e300])
def test_numbers_that_do_not_fit_are_refused(bad: float) -> None:
    with pytest.raises(InputError, match="not finite, or"):
        encode(np.array([1.0, bad]), 18)


def test_integers_that_do_not_fit_and_shapes_that_differ_are_refused() -> None:
    with pytest.raises(InputError, match="2\\^62"):
        encode(np.array([1 << 62]), 0)
    assert decode(encode(np.array([-(1 << 62)]), 0), 0).tolist() == [-(1 << 62)]

    async def program(p: Party) -> Any:
        await p.input(p.number, (3,), np.zeros(2))

    with pytest.raises(InputError, match="was to have the shape"):
        play(program)


def test_parties_that_are_set_up_differently_end_in_one_error() -> None:
    class Nothing:
        name = "dealer"

    a, b, _ = recorded_pair()
    ends = end_pair(first(a, Nothing(), rng=seeded_rng(1)), first(b, Nothing(), rng=seeded_rng(2)))  # type: ignore[arg-type]
    assert all(isinstance(end, ContractError) for end in ends)
    a, b, _ = recorded_pair()
    ends = end_pair(
        first(a, Nothing(), rng=seeded_rng(1), fraction=18),  # type: ignore[arg-type]
        second(b, Nothing(), rng=seeded_rng(2), fraction=20),  # type: ignore[arg-type]
    )
    assert all(isinstance(end, ContractError) and "fractional bits" in end.what for end in ends)
    with pytest.raises(InputError, match="between 4 and 28"):
        play(lambda p: p.open(), fraction=40)
    with pytest.raises(ValueError, match="name what is opened"):
        play(lambda p: p.open())


PROGRAMS: dict[str, tuple[Any, Any]] = {
    "another operation": (lambda p, x: p.square(x), lambda p, x: p.mul(x, x)),
    "another shape": (lambda p, x: p.open(x), lambda p, x: p.open(x[:2])),
    "another fraction": (lambda p, x: p.open(x), lambda p, x: p.open(Arithmetic(x.half, 4))),
    "opened instead of used": (lambda p, x: p.open(x), lambda p, x: p.mul(x, x)),
    "opened to another": (lambda p, x: p.open(x, to=0), lambda p, x: p.open(x)),
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_programs_that_differ_end_in_one_clear_error(name: str) -> None:
    def runs(step: Any) -> Any:
        async def program(p: Party) -> Any:
            (x,) = await shared(p, np.zeros(3))
            await step(p, x)
            await p.open(p.constant(np.zeros(1)))

        return program

    mine, theirs = PROGRAMS[name]
    with pytest.raises(ProtocolError, match="same operations in the same order"):
        play(runs(mine), runs(theirs), timeout=0.5)
    assert dealer.PROTOCOL.name == "triple-dealer"


def test_arrays_larger_than_a_piece_are_put_together_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logic, "_PIECE", 128)
    x, y = drawn((300_000,), 1), drawn((300_000,), 2)

    async def program(p: Party) -> Any:
        a, b = await shared(p, x, y)
        below = await shares.less(p, a[:300], b[:300])
        back = await logic.from_bits(p, await logic.to_bits(p, a[:300]))
        return await p.open(await p.mul(a, b), await p.square(a), below, Arithmetic(back.half, 18))

    product, square, below, back = play(program)[0]
    assert np.array_equal(back, x[:300])
    assert np.abs(product - x * y).max() <= UNIT * (1 + 1e-9)
    assert np.abs(square - x * x).max() <= UNIT * (1 + 1e-9)
    assert np.array_equal(below, (x < y)[:300])


def test_transfers_in_several_batches_are_put_together_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transfers, "_TRANSFERS", 64 * 64)
    monkeypatch.setattr(transfers, "_terms", lambda n: 3)
    x, y = drawn((333,), 1), drawn((333,), 2)

    async def program(p: Party) -> Any:
        a, b = await shared(p, x, y)
        dot = await p.dot(a[:10], b[:10])
        return await p.open(await p.mul(a, b), await p.square(a), await shares.less(p, a, b), dot)

    product, square, below, dot = play(program, source="transfers")[0]
    assert abs(dot - x[:10] @ y[:10]) <= UNIT * (1 + 1e-9)
    assert np.abs(product - x * y).max() <= UNIT * (1 + 1e-9)
    assert np.abs(square - x * x).max() <= UNIT * (1 + 1e-9)
    assert np.array_equal(below, x < y)


def test_operations_at_once_are_refused() -> None:
    """Their messages and their randomness would be taken for each other's."""

    async def program(p: Party) -> Any:
        x = p.constant(np.ones(3))
        await asyncio.gather(p.open(x), p.open(x))

    async def orders(p: Party) -> Any:
        await asyncio.gather(p.source.products(3), p.source.products(3))

    for at_once in (program, orders):
        with pytest.raises(RuntimeError, match="one after another"):
            play(at_once)
