"""Discrete Gaussian noise: exact tables, the distribution of samples, and frozen vectors."""

import math

import numpy as np
import pytest

from atoll.crypto.gaussian import ROUNDED_FROM, Gaussian, table
from atoll.testing import seeded_rng


def probabilities(sigma: float) -> np.ndarray:
    """P(x) for x = −tail … tail, in the plain."""
    x = np.arange(-math.ceil(10 * sigma), math.ceil(10 * sigma) + 1)
    weights = np.exp(-(x**2) / (2 * sigma**2))
    return weights / weights.sum()


def chi_square(samples: np.ndarray, p: np.ndarray) -> tuple[float, int]:
    """Statistic and degrees of freedom, with cells of at least 20 expected samples."""
    half = len(p) // 2
    kept = p * samples.size >= 20
    counts = np.bincount(samples + half, minlength=len(p))
    seen = np.append(counts[kept], counts[~kept].sum())
    want = np.append(p[kept], p[~kept].sum()) * samples.size
    return float(((seen - want) ** 2 / want).sum()), int(kept.sum())


@pytest.mark.parametrize("sigma", [1.0, 3.2, 8.0, 512.0])
def test_tables_are_cumulative_probabilities(sigma: float) -> None:
    p = probabilities(sigma)
    half = len(p) // 2
    reached = p[half] + 2 * np.concatenate(([0.0], np.cumsum(p[half + 1 :])))
    t = table(sigma)
    np.testing.assert_allclose(t / 2**63, reached[: t.size], atol=1e-14)
    assert (np.diff(t) >= 0).all()
    assert t.size >= 9 * sigma  # the tail that is left out weighs less than 2^-63


def test_frozen_tables() -> None:
    assert table(8.0)[:3].tolist() == [459949134171706403, 1372688697396575690, 2264284671412249603]
    assert table(3.2)[:3].tolist() == [1149872835429266008, 3340023666152832878, 5231742854224525755]


@pytest.mark.parametrize("sigma", [3.2, 8.0, 512.0])
def test_samples_count_the_entries_that_a_word_reaches(sigma: float) -> None:
    words = seeded_rng(1).u64(5_000)
    magnitude = np.searchsorted(table(sigma), (words >> np.uint64(1)).astype(np.int64), side="right")
    want = np.where(words & np.uint64(1), -magnitude, magnitude)
    assert np.array_equal(Gaussian(sigma).sample(seeded_rng(1), 5_000), want)


@pytest.mark.parametrize("sigma", [3.2, 8.0, 512.0, 2.0**16])
def test_samples_follow_the_distribution(sigma: float) -> None:
    samples = Gaussian(sigma).sample(seeded_rng(2), 400_000)
    if sigma >= 512:  # cells of a sixteenth of σ
        p, width = probabilities(sigma), int(sigma) // 16
        p = np.bincount((np.arange(len(p)) - len(p) // 2) // width + 160, p, 321)
        samples = samples // width
    else:
        p = probabilities(sigma)
    statistic, freedom = chi_square(samples, p)
    assert abs(statistic - freedom) < 5 * math.sqrt(2 * freedom)


def test_no_noise_and_wrong_noise() -> None:
    assert not Gaussian(0.0).sample(seeded_rng(1), 100).any()
    for sigma in (-1.0, math.inf, math.nan, 2.0**49):
        with pytest.raises(ValueError, match="sigma"):
            Gaussian(sigma)
    with pytest.raises(ValueError, match="serves"):
        table(ROUNDED_FROM)


def test_wide_noise_is_rounded_not_truncated() -> None:
    samples = Gaussian(2.0**40).sample(seeded_rng(3), 200_001)
    assert abs(samples.mean()) < 5 * 2.0**40 / math.sqrt(200_001)
    assert abs(samples.std() / 2.0**40 - 1) < 0.01
    assert set((samples & 3).tolist()) == {0, 1, 2, 3}
