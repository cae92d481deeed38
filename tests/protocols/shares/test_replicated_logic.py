"""Comparison, conversion and order of three parties equal numpy's at the ends of the range; nothing is seen."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from atoll.core.errors import ProtocolError
from atoll.core.message import kind_of
from atoll.protocols import shares
from atoll.protocols.shares import Member, Replicated, ReplicatedBits, replicated_logic
from atoll.protocols.shares.replicated import Part, Shown
from atoll.testing import seeded_rng
from tests.protocols.shares.test_arithmetic import UNIT, drawn
from tests.protocols.shares.test_functions import ENDS
from tests.protocols.shares.test_replicated import play, shared


def parts(p: Member, values: np.ndarray, seed: int = 7) -> Replicated:
    """Uniform parts of integers of the ring, whatever their size."""
    masks = seeded_rng(seed).u64(2, *values.shape)
    every = (values.view(np.uint64) - masks[0] - masks[1], *masks)
    return Replicated(every[p.number], every[(p.number + 1) % 3])


@pytest.mark.parametrize("n", [0, 1, 64, 65, 200])
def test_signs_and_equality_hold_at_the_ends_of_the_range(n: int) -> None:
    x = np.resize(ENDS, n)
    y = np.where(np.arange(n) % 3 == 0, x, np.roll(x, 1))

    async def program(p: Member) -> Any:
        a, b = parts(p, x), parts(p, y, 8)
        return await p.open(await shares.negative(p, a), await shares.equal(p, a, b))

    results, _ = play(program)
    for negative, same in results:
        assert np.array_equal(negative, x < 0)
        assert np.array_equal(same, x == y)


@settings(max_examples=10, deadline=None, derandomize=True)
@given(shape=st.sampled_from([(1,), (9,), (3, 4), (65,), ()]), seed=st.integers(0, 1000))
def test_comparison_selection_and_logic(shape: tuple[int, ...], seed: int) -> None:
    x, y = drawn(shape, seed), drawn(shape, seed + 1)
    y.reshape(-1)[::4] = x.reshape(-1)[::4]

    async def program(p: Member) -> Any:
        a, b = await shared(p, x, y)
        low, same = await shares.less(p, a, b), await shares.equal(p, a, b)
        pair = shares.joined([a.reshape(1, *shape), b.reshape(1, *shape)])
        return await p.open(
            low,
            same,
            await shares.select(p, low, a, b),
            await shares.to_arithmetic(p, low),
            await shares.conjunction(p, low, p.invert(same)),
            await shares.disjunction(p, low, same),
            low ^ same,
            await shares.choose(p, same, pair),
            p.plus(a, np.ones(shape)) - p.constant(y),
            (-a).scaled(-3).sum(),
        )

    want = (x < y, x == y, np.minimum(x, y), (x < y) * 1, x < y, x <= y, x <= y, np.stack((x, y)) * (x == y))
    for got, exact in zip(play(program, seed=seed)[0][1], (*want, x + 1 - y, 3 * x.sum()), strict=True):
        assert np.allclose(got, exact, rtol=0, atol=0 if got.dtype.kind in "bi" else 1e-9)


@pytest.mark.parametrize("n", [0, 1, 70])
def test_numbers_become_bits_and_bits_numbers(n: int) -> None:
    x = np.resize(ENDS, n)

    async def program(p: Member) -> Any:
        bits = await shares.to_bits(p, parts(p, x))
        return await p.open(bits, await shares.from_bits(p, bits), await shares.from_bits(p, bits, [1] * 64))

    bits, back, count = play(program)[0][2]
    assert np.array_equal(bits, ((x[np.newaxis] >> np.arange(64)[:, np.newaxis]) & 1).astype(bool))
    assert np.array_equal(back, x)
    assert np.array_equal(count, bits.sum(axis=0))


def test_values_larger_than_a_piece_are_put_together_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replicated_logic, "_PIECE", 128)
    x = drawn((300,), 1)

    async def program(p: Member) -> Any:
        (a,) = await shared(p, x)
        return await p.open(await shares.negative(p, a))

    assert np.array_equal(play(program)[0][0], x < 0)


@pytest.mark.parametrize("shape", [(1,), (2,), (7,), (3, 6)])
def test_order(shape: tuple[int, ...]) -> None:
    x = drawn(shape, 5)
    x[..., -1] = x[..., 0]  # a tie
    levels = [0, 0.3, 1]

    async def program(p: Member) -> Any:
        (a,) = await shared(p, x)
        flat = a.reshape(-1)
        rising, column = await shares.sort(p, flat, flat.scaled(2))
        ends = (*await shares.largest(p, a), *await shares.smallest(p, a))
        return await p.open(*ends, rising, column, await shares.quantiles(p, flat, levels))

    *exact, quantiles = play(program)[0][0]
    flat = np.sort(x.reshape(-1))
    want = (x.max(-1), x.argmax(-1), x.min(-1), x.argmin(-1), flat, 2 * flat)
    for got, value in zip(exact, want, strict=True):
        assert np.array_equal(got, value)
    assert np.abs(quantiles - np.quantile(x, levels)).max() <= 200 * UNIT


async def everything(p: Member, x: np.ndarray) -> None:
    a, b = await shared(p, x, x[::-1])
    low = await shares.less(p, a, b)
    await shares.equal(p, a, b)
    await shares.select(p, low, a, b)
    await shares.to_bits(p, a)
    await shares.sort(p, a[:5])


def test_two_worlds_look_the_same_and_uniform() -> None:
    kinds = []
    for x in (np.zeros(640), np.linspace(-1e6, 1e6, 640)):
        _, transcript = play(lambda p, x=x: everything(p, x))
        kinds.append(sorted((f.sender, f.kind, len(f.payload)) for f in transcript))
        assert not [f for f in transcript if f.kind == kind_of(Shown)]
        for sender in "abc":
            sent = b"".join(f.payload for f in transcript if f.sender == sender and f.kind == kind_of(Part))
            counts = np.bincount(np.frombuffer(sent, np.uint8), minlength=256)
            expected = len(sent) / 256
            assert ((counts - expected) ** 2 / expected).sum() < 255 + 6 * np.sqrt(510), sender
    assert kinds[0] == kinds[1]


def test_parts_that_are_not_blinded_show_values(monkeypatch: pytest.MonkeyPatch) -> None:
    """Mutant: without the sharing of zero a party's part of x ∧ x is known from the two it has and the one it gets."""

    async def program(p: Member) -> Any:
        (a,) = await shared(p, np.zeros(64))
        bits = await shares.to_bits(p, a)
        if bare:
            p._own = p._shared = Still()  # type: ignore[assignment]
        return bits.parts, await p.both_bits(bits.parts, bits.parts)

    class Still:
        def u64(self, *shape: int) -> np.ndarray:
            return np.zeros(shape, np.uint64)

    for bare in (True, False):
        results, transcript = play(program)
        sent = [f for f in transcript if f.sender == "a" and f.kind == kind_of(Part)][-1]
        x = results[0][0]
        guess = (x[0] & (x[0] ^ x[1])) ^ (x[1] & x[0])
        assert np.array_equal(np.frombuffer(sent.payload, np.uint64), guess.reshape(-1)) == bare


def test_bits_that_do_not_fit_and_truth_are_refused() -> None:
    one, two = (ReplicatedBits(*np.zeros((2, 1, 1), np.uint64), (n,)) for n in (1, 2))
    with pytest.raises(ValueError, match="do not fit"):
        one ^ two
    with pytest.raises(ValueError, match="do not fit"):
        play(lambda p: shares.conjunction(p, one, two))
    with pytest.raises(TypeError, match="not known here"):
        bool(one)
    with pytest.raises(ValueError, match="from_bits"):
        play(lambda p: shares.to_arithmetic(p, ReplicatedBits(*np.zeros((2, 2, 1), np.uint64), (1,))))
    assert repr(one) == "ReplicatedBits(planes=1, shape=(1,))"


def test_programs_that_differ_end_in_one_clear_error() -> None:
    async def one(p: Member) -> Any:
        (a,) = await shared(p, np.zeros(3))
        await p.open(await shares.negative(p, a))

    async def other(p: Member) -> Any:
        (a,) = await shared(p, np.zeros(3))
        await p.open(await shares.equal(p, a, a))

    with pytest.raises(ProtocolError, match="same operations in the same order"):
        play(one, one, other)
