"""Averages over masked 32-bit words, between sites that add up directly."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from atoll.core.errors import InputError, ProtocolError
from atoll.learn.horizontal.networks import ExactAverages, MaskedAverages, Plan, Quantised, TopBlocks, fit, simulate
from atoll.protocols.secure_sum import direct
from atoll.protocols.secure_sum.totals import Totals
from tests.learn.horizontal.networks.linear import skewed_sites, trainers
from tests.learn.horizontal.networks.runs import fit_all
from tests.protocols.secure_sum.meshes import play_mesh

SITES = ("a", "b", "c")


def play(use: Any) -> tuple[list[Any], int]:
    """What each site got, and the bytes of all messages."""
    got, mesh = play_mesh({name: lambda sums, k=k: use(sums, k) for k, name in enumerate(SITES)}, direct)
    return list(got.values()), sum(frame.size for frame in mesh.transcript)


def test_masked_averages_are_the_weighted_ones() -> None:
    updates = np.random.default_rng(1).uniform(-1, 1, (3, 400)).astype(np.float32)
    weights = [5.0, 0.0, 20.0]

    async def use(sums: Any, k: int) -> Any:
        return await MaskedAverages(sums).average(updates[k], weights[k], what="updates")

    got, _ = play(use)
    assert all(np.array_equal(mean, got[0][0]) and total == 25 for mean, total in got)
    np.testing.assert_allclose(got[0][0], (5 * updates[0] + 20 * updates[2]) / 25, atol=2e-8 * 3)


def test_masked_averages_take_a_sixth_of_the_bytes() -> None:
    def sent(averages: Any) -> int:
        async def use(sums: Any, k: int) -> Any:
            return await averages(sums).average(np.zeros(10_000, np.float32), 1.0, what="updates")

        return play(use)[1]

    assert sent(MaskedAverages) < sent(ExactAverages) / 5.5


def test_training_over_masked_words_comes_as_near() -> None:
    plan = Plan(rounds=8, epochs=3, lr=0.2, sample=0.7, seed=1)
    sites = trainers(skewed_sites())

    async def use(sums: Any, k: int) -> Any:
        return (await fit(sites[k], sums, plan, averages=MaskedAverages(sums, clip=4.0))).model

    want = fit_all(trainers(skewed_sites()), plan)[0].model
    got, _ = play(use)
    np.testing.assert_allclose(got[1], want, atol=3e-7)
    assert np.array_equal(got[0], got[2])


@pytest.mark.parametrize("rule", [TopBlocks(keep=0.5, block=1), Quantised(bits=6)])
def test_compressed_updates_with_error_feedback_cross_masked_sums_bit_for_bit(rule: Any) -> None:
    plan = Plan(rounds=6, epochs=2, lr=0.2, sample=0.7, seed=1, schedule="cosine")
    sites, others = trainers(skewed_sites()), trainers(skewed_sites())

    async def use(sums: Any, k: int) -> Any:
        return await fit(sites[k], sums, plan, combine=rule)

    async def simulated(totals: Totals) -> Any:
        return await fit(others[SITES.index(totals.site)], totals, plan, combine=rule)

    want = simulate(SITES, simulated)[0]
    got, _ = play(use)
    assert all(np.array_equal(one.model, want.model) and one.rounds == want.rounds for one in got)


def test_what_fits_no_masked_word_is_named() -> None:
    async def large(sums: Any, k: int) -> Any:
        return await MaskedAverages(sums).average(np.full(3, 1.5, np.float32), 1.0, what="updates")

    async def nobody(sums: Any, k: int) -> Any:
        return await MaskedAverages(sums).average(np.zeros(3, np.float32), 0.0, what="updates")

    got, _ = play(large)
    assert isinstance(got[0], InputError)
    assert "larger than 1" in str(got[0])
    got, _ = play(nobody)
    assert all(isinstance(error, ProtocolError) and "no site has anything" in str(error) for error in got)
