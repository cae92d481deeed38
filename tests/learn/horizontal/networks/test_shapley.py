"""Contributions of sites, beside sums over all orders in which they might have come."""

from __future__ import annotations

import asyncio
from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.datasets import load_diabetes
from sklearn.linear_model import LinearRegression
from sklearn.metrics import r2_score

from atoll.core.errors import InputError
from atoll.learn.horizontal.networks import FedNova, Plan, Rated, linear_contributions, simulate
from atoll.learn.horizontal.networks.shapley import Contributions, sampled_values, shapley_values
from atoll.protocols.secure_sum.totals import Totals
from tests.learn.horizontal.networks.linear import Line, skewed_sites, trainers
from tests.learn.horizontal.networks.runs import fit_all

Rows = tuple[np.ndarray, np.ndarray]


def by_orders(quality: np.ndarray) -> np.ndarray:
    """Mean gain over all orders."""
    n = len(quality).bit_length() - 1
    gains = np.zeros(n)
    orders = list(permutations(range(n)))
    for order in orders:
        s = 0
        for i in order:
            gains[i] += (quality[s | 1 << i] - quality[s]) / len(orders)
            s |= 1 << i
    return gains


@settings(max_examples=20)
@given(st.integers(1, 5), st.integers(0, 2**32))
def test_values_are_mean_gains_over_all_orders(n: int, seed: int) -> None:
    quality = np.random.default_rng(seed).normal(size=2**n)
    values = shapley_values(quality)
    np.testing.assert_allclose(values, by_orders(quality), atol=1e-12)
    assert values.sum() == pytest.approx(quality[-1] - quality[0])


def contributions(train: list[Rows], test: list[Rows]) -> Contributions:
    async def site(totals: Totals) -> Contributions:
        k = totals.sites.index(totals.site)
        return await linear_contributions(totals, train[k], test[k])

    done = simulate(len(train), site)
    assert all(one == done[0] for one in done)
    return done[0]


def test_linear_models_of_every_coalition_are_scikit_learns() -> None:
    x, y = load_diabetes(return_X_y=True)
    train = [(x[a:b], y[a:b]) for a, b in ((0, 40), (40, 60), (60, 200), (200, 300))]
    test = [(x[300 + k :: 4], y[300 + k :: 4]) for k in range(4)]
    held_x, held_y = (np.concatenate([part[k] for part in test]) for k in (0, 1))
    quality = np.zeros(16)
    for s in range(1, 16):
        rows = [part for i, part in enumerate(train) if s >> i & 1]
        model = LinearRegression().fit(np.concatenate([r[0] for r in rows]), np.concatenate([r[1] for r in rows]))
        quality[s] = r2_score(held_y, model.predict(held_x))
    done = contributions(train, test)
    np.testing.assert_allclose(list(done.values.values()), by_orders(quality), rtol=1e-7)
    assert done.quality == pytest.approx(quality[-1], rel=1e-9)


def test_equal_sites_get_the_same_and_sites_without_rows_nothing() -> None:
    x, y = load_diabetes(return_X_y=True)
    nothing = (x[:0], y[:0])
    train = [(x[:50], y[:50]), nothing, (x[:50], y[:50]), (x[50:200], y[50:200])]
    values = list(contributions(train, [(x[300:], y[300:]), nothing, nothing, nothing]).values.values())
    assert values[1] == 0
    assert values[0] == pytest.approx(values[2], rel=1e-12)
    assert values[3] > values[0]


def test_fewer_rows_than_columns_and_constant_columns_have_values() -> None:
    x, y = load_diabetes(return_X_y=True)
    x = np.column_stack([x, np.full(len(x), 7.0)])
    done = contributions([(x[:3], y[:3]), (x[3:250], y[3:250])], [(x[250:], y[250:])] * 2)
    assert sum(done.values.values()) == pytest.approx(done.quality)


def test_what_cannot_be_rated_is_named() -> None:
    x, y = load_diabetes(return_X_y=True)
    with pytest.raises(InputError, match="at most 10"):
        contributions([(x[:9], y[:9])] * 11, [(x[9:20], y[9:20])] * 11)
    with pytest.raises(InputError, match="held-out rows"):
        contributions([(x[:9], y[:9])], [(x[:0], y[:0])])
    with pytest.raises(InputError, match="held-out rows"):
        contributions([(x[:9], y[:9])], [(x[:5], np.full(5, 3.0))])
    with pytest.raises(InputError, match="give no metric 'auc'"):
        fit_all(trainers(skewed_sites()), Plan(), combine=Rated(metric="auc"))
    with pytest.raises(InputError, match="FedNova averages more than updates"):
        fit_all(trainers(skewed_sites()), Plan(), combine=Rated(metric="loss"), algorithm=FedNova())


def round_by_round(lines: list[Line], plan: Plan) -> np.ndarray:
    """The same training with every coalition of every round looked at, in the plain."""
    w, values, whole = np.zeros(4), np.zeros(len(lines)), np.concatenate([line.x for line in lines])
    y = np.concatenate([line.y for line in lines])
    for _ in range(plan.rounds):
        moves = [-plan.lr * line.gradient(w) for line in lines]
        quality = np.zeros(2 ** len(lines))
        for s in range(2 ** len(lines)):
            chosen = [
                (len(line.y), move) for i, (line, move) in enumerate(zip(lines, moves, strict=True)) if s >> i & 1
            ]
            v = w + (sum(n * move for n, move in chosen) / sum(n for n, _ in chosen) if chosen else 0)
            quality[s] = np.mean((whole @ v - y) ** 2) / 2
        values += by_orders(quality)
        w = v
    return values


def test_rated_rounds_are_exact_with_few_sites() -> None:
    lines, plan = skewed_sites((6, 9, 14)), Plan(rounds=3, lr=0.2)
    done = fit_all(trainers(lines), plan, combine=Rated(metric="loss"))
    np.testing.assert_allclose(done[0].shared["contribution"], round_by_round(lines, plan), rtol=1e-4)
    assert np.array_equal(done[0].model, fit_all(trainers(lines), plan)[0].model)


def test_drawn_orders_come_near_and_keep_the_sum() -> None:
    worth = np.random.default_rng(2).normal(size=2**5)
    looked: list[frozenset[int]] = []

    async def quality(members: frozenset[int]) -> float:
        looked.append(members)
        return float(worth[sum(1 << at for at in members)])

    found = asyncio.run(sampled_values(np.arange(5), quality, b"seed", orders=1500, tolerance=0.0))
    np.testing.assert_allclose(found, by_orders(worth), atol=0.12)
    assert found.sum() == pytest.approx(worth[-1] - worth[0])
    looked.clear()
    none = asyncio.run(sampled_values(np.arange(5), quality, b"seed", orders=10, tolerance=100.0))
    assert none.tolist() == [0.0] * 5
    assert set(looked) == {frozenset(), frozenset(range(5))}


def test_sites_that_bring_nothing_or_the_same_are_rated_so() -> None:
    lines, plan = skewed_sites((6, 9, 14, 5, 0, 9, 7)), Plan(rounds=1, lr=0.2, seed=1)
    lines[5] = Line(lines[1].x, lines[1].y)
    every = fit_all(trainers(lines), plan, combine=Rated(metric="loss", orders=40))[0].shared["contribution"]
    some = fit_all(trainers(lines), plan, combine=Rated(metric="loss", orders=7))[0].shared["contribution"]
    assert every[4] == some[4] == 0  # no rows
    assert every[1] == pytest.approx(every[5], rel=1e-5)  # 40 orders of 6 sites: all 64 coalitions instead
    assert some.sum() == pytest.approx(every.sum(), rel=1e-4)
    none = fit_all(trainers(lines), plan, combine=Rated(metric="loss", tolerance=1e9))[0].shared["contribution"]
    assert none.tolist() == [0.0] * 7
