"""One object describes the noise: its scales cost what it says, and an independent accountant agrees."""

from __future__ import annotations

import itertools
import math
from fractions import Fraction

import numpy as np
import pytest

from atoll.core.errors import InputError
from atoll.privacy.accountant import Loss, exact, rho_of
from atoll.privacy.mechanism import Mechanism, gaussian, laplace, loss_of_shares, share_of
from atoll.privacy.tight import tight_epsilon, tight_epsilon_of

CLIPS = ((1,), (1, 1), (1, 1_000, 1 << 30), (0, 7), (3, 0, 0, 5))


@pytest.mark.parametrize(("clip", "epsilon", "rounds"), list(itertools.product(CLIPS, (0.1, 1.0, 1 / 3, 17.0), (1, 5))))
def test_scales_cost_no_more_than_the_loss_says(clip: tuple[int, ...], epsilon: float, rounds: int) -> None:
    found = laplace(clip, epsilon, rounds=rounds)
    cost = sum(Fraction(c) / Fraction(b) for c, b in zip(clip, found.scales, strict=True) if b) * rounds
    assert exact(epsilon) * (1 - Fraction(1, 2**48)) < cost <= exact(epsilon)
    found = gaussian(clip, epsilon, 1e-6, rounds=rounds)
    rho = sum(Fraction(c) ** 2 / Fraction(s) ** 2 for c, s in zip(clip, found.scales, strict=True) if s) * rounds / 2
    assert Fraction(found.loss.rho) * (1 - Fraction(1, 2**44)) < rho <= Fraction(found.loss.rho)
    assert all((c == 0) == (s == 0) for c, s in zip(clip, found.scales, strict=True))


def test_noise_that_nobody_could_use_is_refused() -> None:
    with pytest.raises(InputError, match="larger than 64 bits hold"):
        _ = laplace((1 << 45,), 1e-3).scales
    assert laplace((0, 0), 1.0).scales == (0.0, 0.0)
    assert laplace((0, 0), 1.0).within() == (0, 0)
    assert gaussian((), 1.0, 1e-6).scales == ()


@pytest.mark.parametrize("scale", [0.2, 0.5, 0.7, 1.0, 1.4, 3.0, 10.0, 77.7, 1_000.0])
def test_the_range_that_is_told_holds_95_percent(scale: float) -> None:
    x = np.arange(-60_000, 60_001)
    for found, weight in (
        (laplace((1,), 1 / scale), np.exp(-np.abs(x) / scale)),
        (Mechanism(noise="gaussian", clip=(1,), loss=Loss(None, 1 / (2 * scale**2))), np.exp(-(x**2) / (2 * scale**2))),
    ):
        (within,), (drawn,) = found.within(), found.scales
        assert drawn == pytest.approx(scale)
        inside = weight[np.abs(x) <= within].sum() / weight.sum()
        assert inside >= 0.95
        assert within < 4 * scale + 1


def test_the_close_figure_is_below_what_is_charged_and_sees_sampling() -> None:
    """One import of a second and a half, so one test."""
    asks = [laplace((1, 9), 0.1) for _ in range(40)]
    assert tight_epsilon(asks, 1e-6) < 2.3  # 4.0 as a plain sum
    assert tight_epsilon([laplace((5,), 2.0)], 1e-12) == pytest.approx(2.0, abs=2e-4)
    for epsilon in (0.5, 2.0):
        assert 0.8 * epsilon < tight_epsilon([gaussian((1, 50, 0), epsilon, 1e-6)], 1e-6) < epsilon
    whole = gaussian((1 << 20,), 8.0, 1e-6, rounds=100)
    part = gaussian((1 << 20,), 8.0, 1e-6, rounds=100, rate=0.01)
    assert (part.loss, part.scales) == (whole.loss, whole.scales)
    assert tight_epsilon([part], 1e-6) < 0.3 < 7 < tight_epsilon([whole], 1e-6) < 8
    assert tight_epsilon([laplace((0,), 1.0)], 1e-6) == 0.0
    mixed = [laplace((1, 1, 1), 0.5), gaussian((7, 7), 0.5, 1e-6)]
    assert tight_epsilon(mixed, 1e-6) <= tight_epsilon_of([one.loss for one in mixed], 1e-6) < 1.0
    with pytest.raises(InputError, match="too small for a close figure"):
        tight_epsilon([gaussian((1,), 50.0, 1e-6)], 1e-6)


def divergence(p: np.ndarray, q: np.ndarray, alpha: float) -> float:
    """Rényi's, of two lists of probabilities."""
    at = (p > 1e-60) & (q > 1e-60)
    return float(np.log((p[at] ** alpha * q[at] ** (1 - alpha)).sum()) / (alpha - 1))


@pytest.mark.parametrize("sites", [2, 3, 5])
def test_shares_of_noise_add_up_to_enough(sites: int) -> None:
    """The exact distribution of a sum of shares, against the concentrated loss that is charged for it."""
    whole = gaussian((10,), 1.0, 1e-6)
    (sigma,) = share_of(whole, sites)
    assert sigma * math.sqrt(sites) == pytest.approx(whole.scales[0])
    reach = int(12 * sigma)
    x = np.arange(-reach, reach + 1)
    one = np.exp(-(x**2) / (2 * sigma**2))
    total = one / one.sum()
    for _ in range(sites - 1):
        total = np.convolve(total, one / one.sum())
    loss = loss_of_shares(whole, sites)
    assert whole.loss.rho <= loss.rho < whole.loss.rho * (1 + 1e-9)
    padded, shifted = np.pad(total, (0, 10)), np.pad(total, (10, 0))
    for alpha in (1.5, 2.0, 4.0):
        assert divergence(shifted, padded, alpha) <= alpha * loss.rho * (1 + 1e-6)
        assert divergence(shifted, padded, alpha) > alpha * loss.rho * 0.99  # and not far more noise than needed


def test_a_share_that_counts_on_too_many_sites_is_worth_less() -> None:
    """The mutant: noise for five, while two of them tell theirs; the loss passes what was claimed."""
    whole = gaussian((10,), 1.0, 1e-6)
    (thin,), (right,) = share_of(whole, 5), share_of(whole, 3)
    assert 10**2 / (2 * 3 * thin**2) > 1.6 * whole.loss.rho
    assert 10**2 / (2 * 3 * right**2) <= whole.loss.rho


def test_shares_are_refused_where_they_are_no_discrete_gaussian() -> None:
    with pytest.raises(InputError, match="too small to add up"):
        share_of(gaussian((1,), 5.0, 1e-6), 4)
    for wrong in ((laplace((1,), 1.0), 2), (gaussian((100,), 1.0, 1e-6), 0)):
        with pytest.raises(InputError, match="only Gaussian noise"):
            share_of(*wrong)
    assert rho_of(1.0, 1e-6) == gaussian((1,), 1.0, 1e-6).loss.rho
