"""Simulated sites, and how a table is dealt out to them."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from atoll.core.errors import InputError, ProtocolError
from atoll.learn.horizontal.networks import Simulation, simulate
from atoll.protocols.secure_sum.totals import Totals
from bench.partition import evenly, skewed

ODD = st.floats(-(2.0**94), 2.0**94) | st.sampled_from([1e-20, 2.0**60, -(2.0**60), 1 / 3])


@settings(max_examples=30)
@given(st.lists(ODD, min_size=1, max_size=6))
def test_totals_are_exact_and_rounded_once(values: list[float]) -> None:
    async def site(totals: Totals) -> np.ndarray:
        return await totals.total(np.array([values[totals.sites.index(totals.site)], 1.0]), what="x")

    for total in simulate(len(values), site):
        assert total.tolist() == [float(sum(map(Fraction, values))), len(values)]


def test_counters_say_what_was_added() -> None:
    met: list[Simulation] = []

    async def site(totals: Totals) -> None:
        await totals.total(np.ones(3), what="a")
        await totals.total(np.ones(4), what="b")

    simulate(["b", "a"], site, simulation=met.append)
    assert (met[0].sites, met[0].numbers, met[0].sums) == (("a", "b"), 7, 2)


def test_sites_that_do_different_things_are_told() -> None:
    async def site(totals: Totals) -> None:
        await totals.total(np.ones(1 + (totals.site == "a")), what="x")

    with pytest.raises(ProtocolError, match="sites add different things"):
        simulate(["a", "b"], site)


@pytest.mark.parametrize("bad", [np.nan, np.inf, 2.0**95])
def test_numbers_that_fit_no_sum_are_named(bad: float) -> None:
    async def site(totals: Totals) -> None:
        await totals.total(np.array([bad if totals.site == "b" else 0.0]), what="losses")

    with pytest.raises(InputError, match=r"'losses' is not finite or too large.*'b'"):
        simulate(["a", "b"], site)


def test_names_are_needed_once() -> None:
    async def site(totals: Totals) -> None:
        raise AssertionError

    for names in ([], ["a", "a"], 0):
        with pytest.raises(InputError, match="need names"):
            simulate(names, site)


@settings(max_examples=30)
@given(st.integers(0, 50), st.integers(1, 9), st.integers(0, 99))
def test_an_even_split_deals_every_row_once(rows: int, sites: int, seed: int) -> None:
    parts = evenly(rows, sites, seed=seed)
    assert np.array_equal(np.sort(np.concatenate(parts)), np.arange(rows))
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


@settings(max_examples=30)
@given(st.integers(1, 6), st.sampled_from([0.05, 0.5, 50.0]), st.integers(0, 99))
def test_a_skewed_split_deals_every_row_once(sites: int, alpha: float, seed: int) -> None:
    labels = np.repeat([0, 1, 2], [7, 1, 22])
    parts = skewed(labels, sites, alpha=alpha, least=2, seed=seed)
    assert np.array_equal(np.sort(np.concatenate(parts)), np.arange(30))
    assert min(map(len, parts)) >= 2


def test_a_small_alpha_parts_labels() -> None:
    labels = np.repeat(np.arange(10), 100)
    kinds = [
        np.mean([len(np.unique(labels[part])) for part in skewed(labels, 10, alpha=alpha, seed=1)])
        for alpha in (0.05, 100.0)
    ]
    assert kinds[0] < 4
    assert kinds[1] == 10
    with pytest.raises(InputError, match="cannot be split"):
        skewed(labels, 10, alpha=0)
    with pytest.raises(InputError, match="cannot be split"):
        skewed(labels[:4], 5, alpha=1)
