"""Metrics against scikit-learn, scipy and first principles, over drawn ugly data."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from scipy.stats import ks_2samp
from sklearn import metrics as oracle

from atoll import evaluate as ours
from atoll.core.errors import InputError

QUICK = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
SCORES = st.one_of(
    st.sampled_from([0.0, -0.0, 0.5, 1.0]),  # many ties
    st.integers(-3, 3).map(float),
    st.floats(allow_nan=False, allow_infinity=False),  # denormals and 1e308
)


@st.composite
def labelled(draw: Any, scores: Any = SCORES, both: bool = True) -> tuple[np.ndarray, np.ndarray]:
    size = draw(st.integers(2, 40))
    label = np.array(draw(st.lists(st.integers(0, 1), min_size=size, max_size=size)))
    assume(not both or 0 < label.sum() < size)
    return label, np.array(draw(st.lists(scores, min_size=size, max_size=size)))


def ranked(score: np.ndarray) -> np.ndarray:
    return np.unique(score, return_inverse=True)[1]


@QUICK
@given(labelled())
def test_auc_is_the_share_of_ordered_pairs(data: tuple[np.ndarray, np.ndarray]) -> None:
    label, score = data
    good, bad = score[label == 0], score[label == 1]
    wins = (bad[:, None] > good[None, :]).sum() + 0.5 * (bad[:, None] == good[None, :]).sum()
    assert ours.auc(label, score) == pytest.approx(wins / (len(good) * len(bad)), abs=1e-12)
    assert ours.auc(label, score) == pytest.approx(oracle.roc_auc_score(label, ranked(score)), abs=1e-12)


@QUICK
@given(labelled())
def test_ks_equals_scipy_and_its_threshold_reaches_it(data: tuple[np.ndarray, np.ndarray]) -> None:
    label, score = data
    found = ours.ks(label, score)
    assert found.statistic == pytest.approx(
        ks_2samp(score[label == 1], score[label == 0], method="exact").statistic, abs=1e-12
    )
    above = score >= found.threshold
    assert above.mean() == pytest.approx(found.rows_above)
    assert above[label == 1].mean() == pytest.approx(found.positives_above)
    assert abs(above[label == 1].mean() - above[label == 0].mean()) == pytest.approx(found.statistic, abs=1e-12)


@QUICK
@given(labelled())
def test_roc_and_ks_curve_agree_with_scikit_learn(data: tuple[np.ndarray, np.ndarray]) -> None:
    label, score = data
    curve = ours.roc(label, score)
    false, true, _ = oracle.roc_curve(label, ranked(score), drop_intermediate=False)
    assert curve.false_positive_rate == pytest.approx(false)
    assert curve.true_positive_rate == pytest.approx(true)
    assert oracle.auc(curve.false_positive_rate, curve.true_positive_rate) == pytest.approx(ours.auc(label, score))
    for threshold, rate in zip(curve.threshold[1:], curve.true_positive_rate[1:], strict=True):
        assert (score[label == 1] >= threshold).mean() == pytest.approx(rate)
    shares = ours.ks_curve(label, score)
    assert shares.population[0] == 0
    assert shares.population[-1] == shares.positives[-1] == shares.negatives[-1] == 1
    assert np.abs(np.subtract(shares.positives, shares.negatives)).max() == pytest.approx(
        ours.ks(label, score).statistic, abs=1e-12
    )


@QUICK
@given(labelled(), st.integers(1, 12), st.randoms(use_true_random=False))
def test_gains_do_not_depend_on_the_order_of_rows(data: tuple[np.ndarray, np.ndarray], groups: int, rng: Any) -> None:
    label, score = data
    groups = min(groups, len(label))
    table = ours.gains(label, score, groups)
    order = np.array(rng.sample(range(len(label)), len(label)))
    assert ours.gains(label[order], score[order], groups) == table
    assert sum(row.positives for row in table) == pytest.approx(label.sum())
    assert sum(row.rows for row in table) == pytest.approx(len(label))
    assert table[-1].captured == pytest.approx(1.0)
    assert table[-1].cumulative_lift == pytest.approx(1.0)
    assert np.mean([row.lift for row in table]) == pytest.approx(1.0)


def test_gains_by_hand() -> None:
    label, score = [1, 1, 0, 0], [0.9, 0.5, 0.5, 0.1]
    top, bottom = ours.gains(label, score, 2)
    assert (top.positives, top.rate, top.lift, top.captured) == (1.5, 0.75, 1.5, 0.75)  # the tie is shared
    assert (bottom.positives, bottom.cumulative_lift) == (0.5, 1.0)


@QUICK
@given(labelled(both=False), st.integers(1, 12))
def test_bands_count_every_row_once_and_never_split_a_tie(data: tuple[np.ndarray, np.ndarray], bands: int) -> None:
    label, score = data
    table = ours.score_bands(label, score, bands)
    assert sum(band.rows for band in table) == len(label)
    assert sum(band.positives for band in table) == label.sum()
    assert sum(band.share for band in table) == pytest.approx(1.0)
    assert len(table) <= bands
    for band in table:
        inside = (score >= band.lower) & (score < band.upper)
        last = band is table[-1]
        assert band.rows == (inside | (last & (score == band.upper))).sum()
        assert band.rows > 0
        assert band.rate == pytest.approx(band.positives / band.rows)


def test_bands_with_given_edges() -> None:
    table = ours.score_bands([0, 1, 1, 0], [0.0, 0.5, 1.0, 0.2], [0.0, 0.1, 0.4, 0.45, 1.0])
    assert [band.rows for band in table] == [1, 1, 0, 2]
    assert [band.rate for band in table] == [0.0, 0.0, None, 1.0]
    assert len(ours.score_bands([0, 1], [0.0, 1.0], 2)) == 2
    for edges in ([0.1, 1.0], [0.0, 0.9], [0.0, 0.0, 1.0], [1.0], [0.0, math.nan, 1.0]):
        with pytest.raises(InputError):
            ours.score_bands([0, 1], [0.0, 1.0], edges)


@QUICK
@given(labelled(st.floats(0, 1), both=False))
def test_probability_metrics_equal_scikit_learn(data: tuple[np.ndarray, np.ndarray]) -> None:
    label, p = data
    assert ours.brier(label, p) == pytest.approx(np.mean((p - label) ** 2))
    if label.min() != label.max():
        assert ours.brier(label, p) == pytest.approx(oracle.brier_score_loss(label, p))
    assert ours.log_loss(label, p) == pytest.approx(oracle.log_loss(label, p, labels=[0, 1]))
    assert math.isfinite(ours.log_loss(label, p))


@QUICK
@given(labelled(st.floats(0, 1), both=False), st.integers(1, 12), st.booleans())
def test_calibration_bins_add_up(data: tuple[np.ndarray, np.ndarray], bins: int, equal_width: bool) -> None:
    label, p = data
    found = ours.calibration(label, p, bins, equal_width=equal_width)
    rows = np.array([part.rows for part in found.bins])
    assert rows.sum() == len(p)
    assert len(rows) <= bins
    assert (rows * [part.predicted for part in found.bins]).sum() == pytest.approx(p.sum())
    assert (rows * [part.observed for part in found.bins]).sum() == pytest.approx(label.sum())
    gaps = np.array([abs(part.predicted - part.observed) for part in found.bins])
    assert found.expected_error == pytest.approx((gaps * rows).sum() / len(p), abs=1e-12)
    assert found.largest_error == pytest.approx(gaps.max(), abs=1e-12)
    assert found.brier == pytest.approx(ours.brier(label, p))


def test_calibration_of_equal_width_agrees_with_scikit_learn() -> None:
    from sklearn.calibration import calibration_curve

    rng = np.random.default_rng(7)
    p = rng.random(500)
    label = (rng.random(500) < p).astype(int)
    observed, predicted = calibration_curve(label, p, n_bins=8)
    found = ours.calibration(label, p, 8, equal_width=True)
    assert [part.observed for part in found.bins] == pytest.approx(observed)
    assert [part.predicted for part in found.bins] == pytest.approx(predicted)
    assert found.expected_error < 0.1


@QUICK
@given(labelled(both=False), SCORES)
def test_confusion_equals_counting(data: tuple[np.ndarray, np.ndarray], threshold: float) -> None:
    label, score = data
    found = ours.confusion(label, score, threshold)
    called = score >= threshold
    assert found.true_positives == (called & (label == 1)).sum()
    assert found.false_positives == (called & (label == 0)).sum()
    assert found.accuracy == pytest.approx(oracle.accuracy_score(label, called))
    if called.any():
        assert found.precision == pytest.approx(oracle.precision_score(label, called))
    else:
        assert found.precision is None
    if label.any():
        assert found.recall == pytest.approx(oracle.recall_score(label, called))
    else:
        assert found.recall is None


@QUICK
@given(st.lists(SCORES, min_size=1, max_size=40), st.lists(SCORES, min_size=1, max_size=40), st.integers(1, 12))
def test_psi_is_never_negative_and_zero_on_itself(old: list[float], new: list[float], bins: int) -> None:
    assert ours.psi(old, old, bins).index == 0.0
    found = ours.psi(old, new, bins)
    assert 0.0 <= found.index < math.inf
    assert found.index == pytest.approx(sum(part.part for part in found.bins))
    assert sum(part.expected for part in found.bins) == pytest.approx(1.0)
    assert ours.psi(old, new[::-1], bins) == found


def test_psi_by_hand() -> None:
    found = ours.psi([0, 0, 1, 1], [0, 1, 1, 1], 2)
    assert [(part.upper, part.expected, part.actual) for part in found.bins] == [(1.0, 0.5, 0.25), (None, 0.5, 0.75)]
    assert found.index == pytest.approx(-0.25 * math.log(0.5) + 0.25 * math.log(1.5))
    gone = ours.psi([0, 1], [1, 1], 2)  # nobody in the first bin counts as half a row
    assert gone.bins[0].actual == 0.25


def test_auc_gain_agrees_with_the_bootstrap() -> None:
    rng = np.random.default_rng(3)
    label = (rng.random(800) < 0.3).astype(int)
    weak = label + rng.normal(0, 2.0, 800)
    strong = 0.6 * weak + label + rng.normal(0, 1.0, 800)
    found = ours.auc_gain(label, weak, strong)
    assert found.gain == pytest.approx(ours.auc(label, strong) - ours.auc(label, weak))
    draws = []
    for _ in range(200):
        rows = rng.integers(0, 800, 800)
        draws.append(ours.auc(label[rows], strong[rows]) - ours.auc(label[rows], weak[rows]))
    assert found.standard_error == pytest.approx(np.std(draws), rel=0.2)
    assert found.low < found.gain < found.high
    same = ours.auc_gain(label, weak, weak)
    assert (same.gain, same.standard_error) == (0.0, 0.0)
    with pytest.raises(InputError, match="two rows of each class"):
        ours.auc_gain([0, 0, 1], [1, 2, 3], [1, 2, 3])


def test_a_constant_score_is_worth_nothing() -> None:
    label, score = [0, 1, 1], [7.0, 7.0, 7.0]
    assert ours.auc(label, score) == 0.5
    assert ours.ks(label, score).statistic == 0.0
    assert [row.lift for row in ours.gains(label, score, 3)] == pytest.approx([1.0, 1.0, 1.0])
    assert len(ours.score_bands(label, score, 5)) == 1
    assert ours.roc(label, score).false_positive_rate == (0.0, 1.0)


def test_close_and_extreme_scores_are_not_ties() -> None:
    tiny = 5e-324
    assert ours.auc([0, 1], [0.0, tiny]) == 1.0
    assert ours.auc([0, 1], [-1.7e308, 1.7e308]) == 1.0
    assert ours.auc([0, 1], [1.0, np.nextafter(1.0, 2.0)]) == 1.0
    assert ours.auc([0, 1], [0.0, -0.0]) == 0.5


NEED_BOTH: tuple[Callable[..., object], ...] = (ours.auc, ours.ks, ours.roc, ours.ks_curve)
TWO_ARGUMENTS: tuple[Callable[..., object], ...] = (
    *NEED_BOTH,
    ours.gains,
    ours.score_bands,
    ours.brier,
    ours.log_loss,
    ours.calibration,
)


@pytest.mark.parametrize("metric", NEED_BOTH)
@pytest.mark.parametrize("label", [[0, 0], [1, 1]])
def test_one_class_is_refused(metric: Callable[..., object], label: list[int]) -> None:
    with pytest.raises(InputError, match="every label is"):
        metric(label, [0.1, 0.2])


@pytest.mark.parametrize("metric", TWO_ARGUMENTS)
@pytest.mark.parametrize(
    ("label", "score", "words"),
    [
        ([], [], "shape"),
        ([0, 1], [0.5], "2 labels but 1 scores"),
        ([0, 1], [0.5, math.nan], "1 of 2 scores are NaN"),
        ([0, 1], [0.5, math.inf], "NaN or infinite"),
        ([0, math.nan], [0.5, 0.5], "labels are NaN"),
        ([0, 2], [0.5, 0.5], "other than 0 and 1"),
        ([-1, 1], [0.5, 0.5], "other than 0 and 1"),
        ([0, 1], [[0.5], [0.5]], "shape"),
        ([0, 1], ["a", "b"], "not numbers"),
    ],
)
def test_unusable_input_is_refused(metric: Callable[..., object], label: Any, score: Any, words: str) -> None:
    with pytest.raises(InputError, match=words):
        metric(label, score)


@pytest.mark.parametrize("metric", [ours.brier, ours.log_loss, ours.calibration])
def test_margins_are_not_probabilities(metric: Callable[..., object]) -> None:
    with pytest.raises(InputError, match="outside"):
        metric([0, 1], [0.5, 1.5])


def test_counts_out_of_range_are_refused() -> None:
    for call in (
        lambda: ours.gains([0, 1], [0.1, 0.2], 3),
        lambda: ours.gains([0, 1], [0.1, 0.2], 0),
        lambda: ours.gains([0, 0], [0.1, 0.2], 1),
        lambda: ours.score_bands([0, 1], [0.1, 0.2], 0),
        lambda: ours.calibration([0, 1], [0.1, 0.2], 0),
        lambda: ours.psi([0.0], [0.0], 0),
        lambda: ours.psi([], [0.0]),
        lambda: ours.psi([0.0], [math.nan]),
        lambda: ours.confusion([0, 1], [0.1, 0.2], math.nan),
    ):
        with pytest.raises(InputError):
            call()


def test_bool_and_float_labels_mean_the_same() -> None:
    score = [0.1, 0.9, 0.4]
    assert ours.auc([False, True, False], score) == ours.auc([0.0, 1.0, 0.0], score) == ours.auc([0, 1, 0], score)
