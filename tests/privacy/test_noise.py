"""Noise as it is drawn: the right law, the claimed loss as far as runs can tell, and half the noise is noticed.

Everything here is drawn from the operating system, so these tests could fail by chance: bounds are chosen so that the
chance of a false alarm stays below 10^-9 for the whole file.
"""

from __future__ import annotations

import sys
from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import chi2

from atoll.core.errors import InputError
from atoll.privacy.accountant import Loss, epsilon_of
from atoll.privacy.mechanism import Mechanism, laplace, loss_of_shares, share_of
from atoll.privacy.noise import draw, noise
from tests.privacy.audit import RUNS, lower_epsilon


def audit(
    mechanism: Mechanism, drawn: Callable[[Mechanism, int], NDArray[np.int64]], delta: float = 0.0, runs: int = RUNS
) -> float:
    """Lower bound on ε from many releases with and without a person who changes every number as far as possible.

    The event, fixed beforehand: all numbers together speak for the person, by the likelihood under the claim.
    """
    clip, scales = np.array(mechanism.clip), np.array(mechanism.scales)

    def speaks(x: NDArray[np.int64]) -> NDArray[np.bool_]:
        if mechanism.noise == "laplace":
            return ((np.abs(x) - np.abs(x - clip)) / scales).sum(axis=1) >= mechanism.loss.epsilon / 2
        return (x * clip / scales**2).sum(axis=1) >= 3 * mechanism.loss.rho

    found = drawn(mechanism, runs)
    return lower_epsilon(speaks(found + clip), speaks(found), delta)


def half(mechanism: Mechanism, n: int) -> NDArray[np.int64]:
    """The mutant: half the scale."""
    return draw(mechanism.noise, [scale / 2 for scale in mechanism.scales], n)


@pytest.mark.slow
def test_an_audit_of_laplace_noise_stays_under_the_claim_and_catches_half_the_noise() -> None:
    mechanism = laplace((1, 300), 1.0)
    assert 0.5 < audit(mechanism, noise) <= 1.0
    assert audit(mechanism, half) > 1.0


CONCENTRATED = Loss(None, 0.5)
DELTA = 0.01
"""A loss of ρ has an ε for every δ; runs see most at a large δ."""


@pytest.mark.slow
def test_an_audit_of_gaussian_noise_stays_under_the_claim_and_catches_half_the_noise() -> None:
    mechanism = Mechanism(noise="gaussian", clip=(300,), loss=CONCENTRATED)
    claimed = epsilon_of(0.5, DELTA)
    assert 0.5 < audit(mechanism, noise, DELTA) <= claimed
    assert audit(mechanism, half, DELTA) > claimed


@pytest.mark.slow
def test_an_audit_of_shares_from_five_sites_stays_under_the_claim() -> None:
    mechanism = Mechanism(noise="gaussian", clip=(40,), loss=CONCENTRATED)
    claimed = epsilon_of(loss_of_shares(mechanism, 5).rho, DELTA)

    def sites(count: int) -> Callable[[Mechanism, int], NDArray[np.int64]]:
        return lambda mechanism, n: sum(draw("gaussian", share_of(mechanism, 5), n) for _ in range(count))

    assert 0.5 < audit(mechanism, sites(5), DELTA, RUNS // 4) <= claimed
    assert audit(mechanism, sites(1), DELTA) > claimed  # four told theirs, which nobody had counted on


@pytest.mark.parametrize(("kind", "scale"), [("laplace", 0.4), ("laplace", 3.0), ("gaussian", 0.6), ("gaussian", 3.0)])
def test_noise_has_the_law_that_it_is_named_after(kind: str, scale: float) -> None:
    n = 4_000
    found = draw(kind, [scale], n)[:, 0]
    x = np.arange(-200, 201)
    weight = np.exp(-np.abs(x) / scale) if kind == "laplace" else np.exp(-(x**2) / (2 * scale**2))
    expected = n * weight / weight.sum()
    inner = expected >= 5
    counts = np.array([(found == value).sum() for value in x[inner]])
    rest = n - counts.sum(), n - expected[inner].sum()
    square = ((counts - expected[inner]) ** 2 / expected[inner]).sum() + (rest[0] - rest[1]) ** 2 / max(rest[1], 5)
    assert square < chi2.ppf(1 - 1e-12, inner.sum())


def test_columns_have_scales_of_their_own_and_nothing_repeats() -> None:
    mechanism = laplace((1 << 30, 0, 1), 0.5)
    one, two = noise(mechanism, 50), noise(mechanism, 50)
    assert one.shape == (50, 3)
    assert one.dtype == np.int64
    assert not one[:, 1].any()
    assert np.abs(one[:, 0]).max() > 1 << 27
    assert len(np.unique(np.concatenate((one[:, 0], two[:, 0])))) == 100
    assert noise(mechanism, 0).shape == (0, 3)


def test_without_opendp_one_error_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opendp.measurements", None)
    with pytest.raises(InputError, match="not installed here") as caught:
        noise(laplace((1,), 1.0), 1)
    assert "atoll-fl[dp]" in caught.value.cure
