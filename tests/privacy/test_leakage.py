"""The leakage meter: it finds rows where equations are many, and nothing beyond chance where the limits hold."""

import time

import numpy as np
import pytest

from atoll.crypto.gaussian import Gaussian
from atoll.privacy.leakage import LeakageMeter, labels_from_gradient, onto_simplex, solve
from atoll.protocols.fixed_matrix_product import Facts, Indicator, Terms
from atoll.testing import seeded_rng
from atoll.testing.lattice import toy_set
from tests.protocols.fixed_matrix_product.tools import play


def tree_vectors(rng: np.random.Generator, n: int, trees: int, depth: int) -> np.ndarray:
    """g and h of the smaller sibling of every pair, as boosted trees ask them, (trees · 2^depth, n)."""
    out = []
    for t in range(trees):
        p = 1 / (1 + np.exp(-0.3 * t / trees * rng.standard_normal(n)))
        g, h, node = p - rng.integers(0, 2, n), p * (1 - p), np.zeros(n, np.int64)
        for level in range(depth):
            for pair in range(max(1, 2**level // 2)):
                inside = node == 2 * pair + (int(rng.integers(2)) if level else 0)
                out += [g * inside, h * inside]
            node = 2 * node + rng.integers(0, 2, n)
    return np.array(out)


def answers(V: np.ndarray, bins: np.ndarray, m: int) -> np.ndarray:
    return V @ np.eye(m)[bins]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("n", "m", "trees", "low", "high"),
    [(600, 16, 10, 0.78, 1.0), (600, 16, 20, 0.97, 1.0), (3_000, 32, 8, 0.15, 0.45), (8_000, 16, 5, 0.06, 0.16)],
)
def test_rows_fall_with_the_number_of_equations(n: int, m: int, trees: int, low: float, high: float) -> None:
    """T/n = 0.27, 0.53, 0.04 and 0.01, the last being the limit that the owner keeps."""
    rng = np.random.default_rng(1)
    V, bins = tree_vectors(rng, n, trees, 4), rng.integers(0, m, n)
    guess = solve(V, answers(V, bins, m), np.full(m, 1 / m), steps=40).argmax(axis=1)
    assert low <= (guess == bins).mean() <= high


@pytest.mark.slow
def test_an_honest_transcript_gives_rows_away_once_the_limit_is_lifted() -> None:
    """The product itself, its noise included: the label holder finds the bins of a third of all rows at least."""
    rng, n, m = np.random.default_rng(2), 1_000, 16
    V, bins = tree_vectors(rng, n, 16, 4), rng.integers(0, m, n)
    matrix = Indicator(bins.astype(np.uint8)[np.newaxis], [m])
    terms = Terms(reveals_rows=True, facts=Facts.indicator(1, n, 100))
    Y = play(matrix, V, toy_set(64, 40, 8.0, dropped_bits=8), terms).asker_result
    noise = 2.0**-20 * np.abs(V).sum(axis=1)
    guess = solve(V, Y, np.full(m, 1 / m), noise=noise, steps=50).argmax(axis=1)
    assert (guess == bins).mean() > 0.33


def test_repeating_one_vector_would_add_equations_but_for_the_output_noise() -> None:
    """A repeated v with fresh e, known to the asker, is a new equation each time: so it is answered from the store."""
    n, m, repeats = 300, 8, 100
    bins = seeded_rng(1).uniform_u64(m, n).astype(np.int64)
    e = Gaussian(8.0).sample(seeded_rng(2), repeats * n).reshape(repeats, n).astype(np.float64)
    exact = answers(e, bins, m)
    found = [(solve(e, exact, np.full(m, 1 / m)).argmax(axis=1) == bins).mean()]
    for factor in (4, 256):  # gradients, structured
        Q = factor * 8.0 * np.sqrt(n / m)
        u = (seeded_rng(3).u64(repeats, m).astype(np.float64) / 2.0**64 - 0.5) * Q
        guess = solve(e, exact + u, np.full(m, 1 / m), noise=Q / np.sqrt(12)).argmax(axis=1)
        found.append((guess == bins).mean())
    assert found[0] > 0.99
    assert found[0] > found[1] > found[2]
    assert found[2] < 2 / m


def test_labels_fall_to_few_rows_and_stand_where_the_rule_holds() -> None:
    rng = np.random.default_rng(3)
    for n, d, low, high in ((200, 120, 0.95, 1.0), (1_000, 10, 0.0, 0.62)):
        X, y = rng.standard_normal((n, d)), rng.integers(0, 2, n)
        found = (labels_from_gradient(X, X.T @ (0.5 - y)) == y).mean()
        assert low <= found <= high


def metered(n: int, trees: int, noise: float) -> tuple[LeakageMeter, float]:
    meter = LeakageMeter(n, 5, rows=600)
    V = tree_vectors(np.random.default_rng(6), n, trees, 4)
    for at in range(0, len(V), 16):
        meter.observe(V[at : at + 16], noise)
    return meter, len(V) / n


def test_the_meter_reads_on_a_sample_what_the_whole_job_would_show() -> None:
    shares = np.full(16, 1 / 16)
    meter, ratio = metered(2_000, 32, 0.01)  # T/n = 0.26
    reading = meter.estimate(shares)
    assert reading.ratio == pytest.approx(ratio)
    assert reading.recovered > 0.6
    assert reading.chance == pytest.approx(1 / 16)
    assert "512 vectors over 2,000 rows (T/n = 0.2560)" in reading.sentence()
    assert "chance is 6%" in reading.sentence()


def test_the_meter_is_quiet_within_the_limit_and_quick() -> None:
    meter, _ = metered(20_000, 12, 0.01)  # T/n = 0.0096
    started = time.process_time()
    reading = meter.estimate(np.full(16, 1 / 16))
    assert time.process_time() - started < 5
    assert reading.recovered < 0.2


def test_the_meter_before_anything_was_asked() -> None:
    reading = LeakageMeter(500, 1).estimate(np.array([0.25, 0.75]))
    assert (reading.vectors, reading.sampled_rows, reading.recovered, reading.chance) == (0, 500, 0.75, 0.75)
    assert solve(np.zeros((2, 5)), np.zeros((2, 3)), np.full(3, 1 / 3)).shape == (5, 3)


def test_projection_onto_the_simplex() -> None:
    X = np.random.default_rng(1).standard_normal((50, 7))
    P = onto_simplex(X)
    np.testing.assert_allclose(P.sum(axis=1), 1)
    assert (P >= 0).all()
    for row, nearest in zip(X, P, strict=True):  # moving towards any corner makes it worse
        assert ((nearest - row) @ (np.eye(7) - nearest).T >= -1e-12).all()
