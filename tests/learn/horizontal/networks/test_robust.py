"""Robust rules beside plain references, and where each of them breaks."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from scipy import optimize, stats

from atoll.core.errors import InputError
from atoll.learn.horizontal.networks import (
    CentredClipping,
    FedNova,
    GeometricMedian,
    Median,
    MultiKrum,
    NormBound,
    Plan,
    Seen,
    TrimmedMean,
)
from atoll.learn.horizontal.networks.algorithms import State
from atoll.learn.horizontal.networks.combine import Combine
from atoll.learn.horizontal.networks.rules import Rule
from tests.learn.horizontal.networks.linear import skewed_sites, trainers
from tests.learn.horizontal.networks.runs import combined, fit_all

SIZES = st.tuples(st.integers(1, 12), st.integers(1, 5))
NUMBERS = st.floats(-1e6, 1e6, width=32)
UPDATES = arrays.arrays(np.float32, SIZES, elements=NUMBERS)


@settings(max_examples=40)
@given(UPDATES)
def test_the_median_is_numpys(updates: np.ndarray) -> None:
    np.testing.assert_allclose(Median()(updates), np.median(updates.astype(float), axis=0), rtol=1e-6)


@settings(max_examples=40)
@given(UPDATES, st.sampled_from([0.0, 0.1, 0.25, 0.49]))
def test_the_trimmed_mean_is_scipys(updates: np.ndarray, trim: float) -> None:
    want = stats.trim_mean(updates.astype(float), trim, axis=0)
    np.testing.assert_allclose(TrimmedMean(trim=trim)(updates), want, rtol=1e-5, atol=1e-2)


@settings(max_examples=40)
@given(st.integers(0, 3), st.integers(0, 6), st.integers(1, 4), st.integers(0, 2**32))
def test_multi_krum_is_the_papers_loop(wrong: int, more: int, d: int, seed: int) -> None:
    n = 2 * wrong + 3 + more
    updates = np.random.default_rng(seed).normal(size=(n, d)).astype(np.float32)
    scores = []
    for i in range(n):
        distances = sorted(float(np.sum((updates[i].astype(float) - updates[j]) ** 2)) for j in range(n) if j != i)
        scores.append(sum(distances[: n - wrong - 2]))
    np.testing.assert_allclose(MultiKrum(wrong=wrong).scores(updates), scores, rtol=1e-9)
    best = np.argsort(scores)[: n - wrong]
    np.testing.assert_allclose(MultiKrum(wrong=wrong)(updates), updates[best].mean(axis=0), rtol=1e-4, atol=1e-5)
    assert np.array_equal(MultiKrum(wrong=wrong, keep=1)(updates), updates[np.argmin(scores)])


def test_the_geometric_median_is_where_distances_are_least() -> None:
    updates = np.random.default_rng(3).normal(size=(7, 3)).astype(np.float32)
    want = optimize.minimize(lambda z: np.linalg.norm(updates - z, axis=1).sum(), np.zeros(3), tol=1e-12).x
    done = combined(GeometricMedian(steps=60), updates, [1.0, 9.0, 1.0, 1.0, 2.0, 1.0, 1.0], beside=False)
    np.testing.assert_allclose(done[0].update, want, atol=1e-4)
    assert done[0].weight == 7  # sites count alike


def test_centred_clipping_is_algorithm_2() -> None:
    draw, rule = np.random.default_rng(4), CentredClipping(radius=1.5, steps=2, momentum=0.6)
    kept = [State() for _ in range(4)]
    momentum, centre = None, np.zeros(3)
    for _ in range(3):
        updates = draw.normal(size=(4, 3)) * 3
        momentum = updates if momentum is None else 0.6 * momentum + 0.4 * updates
        for _ in range(2):
            away = momentum - centre
            centre = centre + (away * np.minimum(1, 1.5 / np.linalg.norm(away, axis=1))[:, None]).mean(axis=0)
        done = combined(rule, updates, [1.0] * 4, kept, beside=False)
        np.testing.assert_allclose(done[3].update, centre, rtol=1e-5)


def test_a_norm_bound_shortens_long_updates_alone() -> None:
    updates = np.array([[3.0, 4.0], [0.3, 0.4], [0.0, 0.0]])
    done = combined(NormBound(radius=1.0), updates, [1.0, 7.0, 1.0], beside=False)
    np.testing.assert_allclose(done[0].update, [(0.6 + 0.3) / 3, (0.8 + 0.4) / 3], rtol=1e-6)


def mean(updates: np.ndarray) -> np.ndarray:
    return Rule()(updates)


@pytest.mark.parametrize(
    ("rule", "bears"),
    [(Rule(), 0), (Median(), 4), (TrimmedMean(trim=0.3), 3), (MultiKrum(wrong=3), 3), (MultiKrum(wrong=3, keep=1), 3)],
)
def test_rules_over_single_updates_bear_what_they_promise_and_no_more(rule: Rule, bears: int) -> None:
    honest = np.random.default_rng(5).normal(1, 0.1, (10, 6)).astype(np.float32)
    for wrong in (bears, 6):
        updates = honest.copy()
        updates[:wrong] = 1e6  # wrong sites agree among themselves
        gap = float(np.abs(rule(updates) - 1).max())
        assert gap < 0.5 if wrong == bears else gap > 1e4


@pytest.mark.parametrize(
    ("combine", "bears"),
    [(GeometricMedian(steps=60), 4), (CentredClipping(radius=0.5, steps=30, momentum=0), 3), (NormBound(radius=3), 1)],
)
def test_rules_over_sums_bear_what_they_promise_and_no_more(combine: Combine, bears: int) -> None:
    honest = np.random.default_rng(6).normal(1, 0.1, (10, 6)).astype(np.float32)
    start = np.ones(6, np.float32) * 0.9
    for wrong in (bears, 7):
        updates = honest.copy()
        updates[:wrong] = -1e3
        kept = [State(shared={"centre": start}) for _ in range(10)]
        gap = float(np.abs(combined(combine, updates, [1.0] * 10, kept, beside=False)[0].update - 1).max())
        assert gap < 0.75 if wrong == bears else gap > 0.75


def test_wrong_parameters_and_combinations_are_named() -> None:
    for make in (
        lambda: TrimmedMean(trim=0.5),
        lambda: MultiKrum(wrong=-1),
        lambda: MultiKrum(wrong=1, keep=0),
        lambda: NormBound(radius=0),
        lambda: GeometricMedian(steps=0),
        lambda: CentredClipping(radius=1, momentum=1),
    ):
        with pytest.raises(InputError):
            make()
    with pytest.raises(InputError, match="needs 5 updates or more, but has 4"):
        MultiKrum(wrong=1)(np.zeros((4, 2), np.float32))
    sites = trainers(skewed_sites())
    with pytest.raises(InputError, match=r"Median needs a site that sees every update.*site-000"):
        fit_all(sites, Plan(), combine=Seen(rule=Median()))
    with pytest.raises(InputError, match="protects updates alone"):
        fit_all(sites, Plan(), combine=NormBound(radius=1), algorithm=FedNova())


def test_training_with_a_robust_rule_bears_a_wrong_site() -> None:
    lines = skewed_sites((20, 20, 20, 20, 20), seed=2)
    good = np.array([1.0, -2.0, 0.5, 3.0])
    for line in lines:
        line.y = line.x @ good
    lines[2].y = -50 * lines[2].y
    plan = Plan(rounds=25, epochs=10, lr=0.9, evaluate=0)
    plain = fit_all(trainers(lines), plan)[0].model
    robust = fit_all(trainers(lines), plan, combine=GeometricMedian(steps=8))[0].model
    assert np.abs(robust - good).max() < 0.2 < 5 < np.abs(plain - good).max()
