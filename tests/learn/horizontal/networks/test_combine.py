"""Averages, and what compression makes of them."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from atoll.core.errors import InputError, ProtocolError
from atoll.learn.horizontal.networks import Average, FedNova, Plan, Quantised, TopBlocks, simulate
from atoll.learn.horizontal.networks.algorithms import State
from atoll.learn.horizontal.networks.combine import Combine, stochastic_round, total_of_small
from atoll.protocols.secure_sum.totals import Totals
from atoll.testing import seeded_rng
from tests.learn.horizontal.networks.linear import best, pooled, skewed_sites, trainers
from tests.learn.horizontal.networks.runs import combined, fit_all


def states(n: int) -> list[State]:
    return [State() for _ in range(n)]


@settings(max_examples=25)
@given(st.integers(1, 5), st.integers(1, 6), st.integers(0, 2**32))
def test_the_average_is_the_true_one_rounded(sites: int, n: int, seed: int) -> None:
    draw = np.random.default_rng(seed)
    values = (draw.normal(size=(sites, n)) * 10.0 ** draw.integers(-8, 8, (sites, n))).astype(np.float32)
    weights = [float(w) for w in draw.integers(1, 2**20, sites)]
    done = combined(Average(), values, weights, states(sites))
    for j in range(n):
        exact = sum(Fraction(float(v)) * int(w) for v, w in zip(values[:, j], weights, strict=True)) / int(sum(weights))
        assert abs(float(done[0].update[j]) - float(exact)) <= 1e-7 * abs(float(exact))
    assert all(np.array_equal(one.update, done[0].update) and one.weight == sum(weights) for one in done)


def test_a_weight_of_nothing_leaves_no_trace() -> None:
    updates = np.array([[1.0, 2.0], [1e15, -1e15]])
    assert combined(Average(), updates, [3.0, 0.0], states(2))[1].update.tolist() == [1.0, 2.0]
    for rule in (Average(), TopBlocks(), Quantised()):
        with pytest.raises(ProtocolError, match="no site has anything to average"):
            combined(rule, updates, [0.0, 0.0], states(2))


def test_the_largest_entries_go_and_the_others_wait() -> None:
    draw, rule = np.random.default_rng(1), TopBlocks(keep=0.25, block=1)
    updates, weights, kept = draw.normal(size=(3, 12)), [1.0, 2.0, 3.0], states(3)
    residuals = np.zeros((3, 12))
    for _ in range(4):
        whole = (updates + residuals).astype(np.float32)
        told = (np.array(weights)[:, None] * whole.astype(float) ** 2).sum(0)
        sent = np.isin(np.arange(12), np.argsort(-told)[:3])
        want = np.where(sent, (np.array(weights)[:, None] * whole).sum(0) / 6, 0)
        residuals = np.where(sent, 0, whole)
        done = combined(rule, updates, weights, kept)
        np.testing.assert_allclose(done[0].update, want, rtol=1e-6)
        assert done[2].beside == pytest.approx([(0 + 2 + 6) / 6])
        np.testing.assert_allclose([state.own["residual"] for state in kept], residuals, rtol=1e-6)


@settings(max_examples=25)
@given(st.integers(1, 40), st.integers(1, 33), st.integers(1, 2**15), st.integers(0, 2**32))
def test_small_numbers_share_a_total_and_come_out_exactly(sites: int, n: int, top: int, seed: int) -> None:
    values = np.random.default_rng(seed).integers(-top, top + 1, (sites, n))
    values[0, 0] = top

    async def site(totals: Totals) -> np.ndarray:
        return await total_of_small(totals, values[totals.sites.index(totals.site)], top, what="x")

    assert np.array_equal(simulate(sites, site)[-1], values.sum(axis=0))


def test_rounding_is_right_on_average() -> None:
    values = np.array([0.25, -1.75, 3.0, 0.999])
    drawn = stochastic_round(np.tile(values, 20_000), seeded_rng(1)).reshape(-1, 4)
    assert set(np.unique(drawn[:, 1])) == {-2.0, -1.0}
    np.testing.assert_allclose(drawn.mean(axis=0), values, atol=0.015)


@pytest.mark.parametrize("bits", [4, 8, 16])
def test_what_rounding_lost_is_made_up_for(bits: int) -> None:
    draw = np.random.default_rng(bits)
    updates, weights, kept = draw.normal(size=(4, 50)), [1.0, 5.0, 2.0, 0.0], states(4)
    want = (np.array(weights)[:, None] * updates).sum(0) / 8
    told = np.zeros(50)
    for k in range(20):
        told += combined(Quantised(bits=bits), updates, weights, kept, seed=k)[0].update
    # All that is missing after k rounds is what sites still hold back: with k it vanishes as 1 / k.
    held = sum(w * state.mine("residual", 50) for w, state in zip(weights, kept, strict=True)) / 8
    np.testing.assert_allclose(told + held, 20 * want, atol=1e-4)
    assert np.abs(told / 20 - want).max() < 6 * 8 / 2**bits / 3


@pytest.mark.parametrize("rule", [TopBlocks(keep=0.5, block=1), Quantised(bits=4)])
def test_compressed_training_ends_where_plain_training_does(rule: Combine) -> None:
    lines = skewed_sites()
    done = fit_all(trainers(lines), Plan(rounds=120, lr=0.9, schedule="cosine", evaluate=0, seed=1), combine=rule)
    np.testing.assert_allclose(done[0].model, best(pooled(lines)), atol=5e-3)
    nova = fit_all(trainers(lines), Plan(rounds=3, seed=1), combine=rule, algorithm=FedNova())
    assert np.isfinite(nova[0].model).all()


def test_an_update_of_zeros_is_quantised_to_zeros() -> None:
    done = combined(Quantised(), np.zeros((2, 5)), [1.0, 1.0], states(2))
    assert done[0].update.tolist() == [0.0] * 5


def test_parameters_of_compression_are_checked() -> None:
    for make in (lambda: TopBlocks(keep=0), lambda: TopBlocks(block=0), lambda: Quantised(bits=3)):
        with pytest.raises(InputError):
            make()
