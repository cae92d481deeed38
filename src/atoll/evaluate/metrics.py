"""Metrics of a binary score, exact under ties.

scikit-learn computes what it has; KS, lift, bands and stability are ours. Scores are ranked first, so that
neither huge nor tiny values (1e308, denormals) can overflow or be taken for ties. Every function refuses
empty input, different lengths, labels other than 0 and 1, NaN and infinities with an `InputError`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from atoll.core.errors import InputError
from atoll.evaluate.results import (
    AucGain,
    Band,
    Calibration,
    Confusion,
    Gain,
    Ks,
    KsCurve,
    Psi,
    PsiBin,
    ReliabilityBin,
    Roc,
)

_Floats = NDArray[np.float64]
_Ints = NDArray[np.int64]


def auc(label: ArrayLike, score: ArrayLike) -> float:
    """Area under the ROC curve: the chance that a positive scores above a negative, ties count half.

    Args:
        label: (n,) 0 or 1, both present.
        score: (n,) finite; higher means more likely positive.

    Returns:
        A number in [0, 1].

    Raises:
        InputError: One class only, or unusable input.
    """
    y, s = _both_classes(label, score, "AUC")
    _, rows, hits = _blocks(y, s)
    new_hits, new_misses = np.diff(hits, prepend=0), np.diff(rows - hits, prepend=0)
    # twice the number of (positive, negative) pairs in the wrong order, in integers
    wrong = int(np.sum(new_hits * (2 * (rows - hits) - new_misses)))
    return 1.0 - wrong / (2 * int(hits[-1]) * int(rows[-1] - hits[-1]))


def auc_gain(label: ArrayLike, before: ArrayLike, after: ArrayLike) -> AucGain:
    """Difference of two scores' AUC on the same rows, with DeLong's 95 % interval.

    Args:
        label: (n,) 0 or 1, at least two of each.
        before: (n,) finite scores.
        after: (n,) finite scores of the same rows.

    Returns:
        The gain (after minus before), its standard error and interval.

    Raises:
        InputError: Fewer than two rows of a class, or unusable input.

    Source: DeLong et al. 1988; midrank form of Sun and Xu 2014, section II.
    """
    y, first = _both_classes(label, before, "AUC gain")
    second = _both_classes(label, after, "AUC gain")[1]
    positives, negatives = int(y.sum()), int((1 - y).sum())
    if min(positives, negatives) < 2:
        raise InputError("AUC gain needs at least two rows of each class", cure="Evaluate on more rows.")
    pairs = [_placements(y, s) for s in (first, second)]
    gain = float(pairs[1][0].mean() - pairs[0][0].mean())
    of_positives = float(np.var(pairs[1][0] - pairs[0][0], ddof=1)) / positives
    of_negatives = float(np.var(pairs[1][1] - pairs[0][1], ddof=1)) / negatives
    error = float(np.sqrt(of_positives + of_negatives))
    return AucGain(gain, error, gain - 1.959963984540054 * error, gain + 1.959963984540054 * error)


def roc(label: ArrayLike, score: ArrayLike) -> Roc:
    """ROC curve with one point for every distinct score.

    Args:
        label: (n,) 0 or 1, both present.
        score: (n,) finite.

    Raises:
        InputError: One class only, or unusable input.
    """
    values, rows, hits = _blocks(*_both_classes(label, score, "ROC"))
    misses = rows - hits
    false, true = misses / misses[-1], hits / hits[-1]
    return Roc((0.0, *false.tolist()), (0.0, *true.tolist()), (None, *values.tolist()))


def ks(label: ArrayLike, score: ArrayLike) -> Ks:
    """Kolmogorov-Smirnov statistic and the highest threshold where it is reached.

    The gap is compared in integers, so ties between thresholds are exact.

    Args:
        label: (n,) 0 or 1, both present.
        score: (n,) finite.

    Raises:
        InputError: One class only, or unusable input.
    """
    y, s = _both_classes(label, score, "KS")
    values, above, hits = _blocks(y, s)
    positives, negatives = int(hits[-1]), int(above[-1] - hits[-1])
    gap = np.abs(hits * negatives - (above - hits) * positives)  # (m,) times P*N, exact in int64 up to 2^62
    at = int(gap.argmax())
    return Ks(
        statistic=float(gap[at] / (positives * negatives)),
        threshold=float(values[at]),
        positives_above=float(hits[at] / positives),
        negatives_above=float((above[at] - hits[at]) / negatives),
        rows_above=float(above[at] / above[-1]),
    )


def ks_curve(label: ArrayLike, score: ArrayLike) -> KsCurve:
    """Cumulative shares of positives and negatives over the population, highest scores first.

    Args:
        label: (n,) 0 or 1, both present.
        score: (n,) finite.

    Raises:
        InputError: One class only, or unusable input.
    """
    y, s = _both_classes(label, score, "KS curve")
    _, above, hits = _blocks(y, s)
    misses = above - hits
    shares = (np.concatenate([[0.0], part / part[-1]]) for part in (above, hits, misses))
    population, positives, negatives = (tuple(share.tolist()) for share in shares)
    return KsCurve(population, positives, negatives)


def gains(label: ArrayLike, score: ArrayLike, groups: int = 10) -> tuple[Gain, ...]:
    """Lift table: rows ordered by falling score and cut into groups of equal size.

    Rows with equal scores are shared between groups in proportion, which is the expectation over every order
    of the tie; so the table does not depend on the order of the rows.

    Args:
        label: (n,) 0 or 1, at least one positive.
        score: (n,) finite.
        groups: Number of groups, 1 to n.

    Raises:
        InputError: No positive, too many groups, or unusable input.
    """
    y, s = _checked(label, score, "lift")
    if not y.any():
        raise InputError("Lift needs at least one positive row", cure="Evaluate on rows of both classes.")
    if not 1 <= groups <= len(y):
        raise InputError(f"{groups} groups cannot be made of {len(y)} rows", cure="Ask for 1 to n groups.")
    _, above, hits = _blocks(y, s)
    ends = np.arange(groups + 1) * (len(y) / groups)
    captured = np.interp(ends, np.concatenate([[0], above]), np.concatenate([[0], hits]))
    size, total = len(y) / groups, int(hits[-1])
    base = total / len(y)
    table = []
    for group in range(1, groups + 1):
        found = float(captured[group] - captured[group - 1])
        share = float(captured[group]) / total
        table.append(Gain(group, size, found, found / size, found / size / base, share, share * groups / group))
    return tuple(table)


def score_bands(label: ArrayLike, score: ArrayLike, edges: Sequence[float] | int = 10) -> tuple[Band, ...]:
    """Counts and bad rate per band of scores.

    Args:
        label: (n,) 0 or 1; one class is allowed.
        score: (n,) finite.
        edges: Ascending edges that cover all scores, or how many bands of about equal size to make; rows with
            equal scores always share a band, so there may be fewer.

    Raises:
        InputError: Edges that do not ascend or do not cover the scores, or unusable input.
    """
    y, s = _checked(label, score, "score bands")
    cuts = _quantile_edges(s, edges) if isinstance(edges, int) else _given_edges(edges, s)
    place = np.clip(np.searchsorted(cuts, s, side="right") - 1, 0, len(cuts) - 2)
    rows = np.bincount(place, minlength=len(cuts) - 1)
    hits = np.bincount(place[y == 1], minlength=len(cuts) - 1)
    return tuple(
        Band(float(low), float(high), int(n), int(k), float(n / len(y)), float(k / n) if n else None)
        for low, high, n, k in zip(cuts[:-1], cuts[1:], rows, hits, strict=True)
    )


def brier(label: ArrayLike, probability: ArrayLike) -> float:
    """Mean squared difference between probability and outcome.

    Args:
        label: (n,) 0 or 1; one class is allowed.
        probability: (n,) in [0, 1].

    Raises:
        InputError: Unusable input.
    """
    y, p = _probabilities(label, probability, "Brier score")
    return float(np.mean((p - y) ** 2))


def log_loss(label: ArrayLike, probability: ArrayLike) -> float:
    """Mean negative log-likelihood, natural logarithm; probabilities are clipped one ulp inside [0, 1].

    Args:
        label: (n,) 0 or 1; one class is allowed.
        probability: (n,) in [0, 1].

    Raises:
        InputError: Unusable input.
    """
    y, p = _probabilities(label, probability, "log-loss")
    ulp = np.finfo(np.float64).eps
    p = np.clip(p, ulp, 1.0 - ulp)
    return float(-np.mean(np.where(y == 1, np.log(p), np.log1p(-p))))


def calibration(label: ArrayLike, probability: ArrayLike, bins: int = 10, *, equal_width: bool = False) -> Calibration:
    """Reliability bins, Brier score and expected calibration error.

    Args:
        label: (n,) 0 or 1; one class is allowed.
        probability: (n,) in [0, 1].
        bins: At most this many bins, at least 1.
        equal_width: Bins of equal width over [0, 1] instead of about equal size.

    Raises:
        InputError: Unusable input.
    """
    y, p = _probabilities(label, probability, "calibration")
    cuts = np.linspace(0.0, 1.0, max(bins, 1) + 1) if equal_width else _quantile_edges(p, bins)
    place = np.clip(np.searchsorted(cuts, p, side="right") - 1, 0, len(cuts) - 2)
    rows = np.bincount(place, minlength=len(cuts) - 1)
    kept = rows > 0
    predicted = np.bincount(place, weights=p, minlength=len(cuts) - 1)[kept] / rows[kept]
    observed = np.bincount(place, weights=y, minlength=len(cuts) - 1)[kept] / rows[kept]
    gap = np.abs(predicted - observed)
    points = zip(rows[kept], predicted, observed, strict=True)
    return Calibration(
        bins=tuple(ReliabilityBin(int(n), float(at), float(seen)) for n, at, seen in points),
        brier=float(np.mean((p - y) ** 2)),
        expected_error=float(np.sum(gap * rows[kept]) / len(y)),
        largest_error=float(gap.max()),
    )


def confusion(label: ArrayLike, score: ArrayLike, threshold: float) -> Confusion:
    """Counts of right and wrong calls when rows with score >= threshold are called positive.

    Args:
        label: (n,) 0 or 1; one class is allowed.
        score: (n,) finite.
        threshold: Any number but NaN.

    Raises:
        InputError: Threshold is NaN, or unusable input.
    """
    y, s = _checked(label, score, "confusion")
    if np.isnan(threshold):
        raise InputError("The threshold is NaN", cure="Give a number.")
    called = s >= threshold
    tp, positives, calls = int(np.sum(y[called])), int(np.sum(y)), int(np.sum(called))
    return Confusion(float(threshold), tp, calls - tp, len(y) - positives - calls + tp, positives - tp)


def psi(expected: ArrayLike, actual: ArrayLike, bins: int = 10) -> Psi:
    """Population stability index of a score between two samples: sum of (a - e) ln(a / e) over bins.

    Bins are quantiles of the expected sample and open at both ends. An empty bin counts as half a row, so that
    the index stays finite.

    Args:
        expected: (n,) finite scores of the reference sample, such as development.
        actual: (m,) finite scores of the new sample.
        bins: At most this many bins, at least 1.

    Raises:
        InputError: Empty sample, NaN or infinities.
    """
    old, new = _finite(expected, "expected scores", "PSI"), _finite(actual, "actual scores", "PSI")
    cuts = _quantile_edges(old, bins)[1:-1]
    shares = []
    for sample in (old, new):
        rows = np.bincount(np.searchsorted(cuts, sample, side="right"), minlength=len(cuts) + 1)
        shares.append(np.maximum(rows, 0.5) / len(sample))
    before, after = shares
    parts = (after - before) * np.log(after / before)
    uppers: list[float | None] = [*(float(cut) for cut in cuts), None]
    table = zip(uppers, before.tolist(), after.tolist(), parts.tolist(), strict=True)
    return Psi(float(parts.sum()), tuple(PsiBin(*row) for row in table))


def _finite(values: ArrayLike, what: str, metric: str) -> _Floats:
    """Return (n,) float64, or say what is wrong with it."""
    try:
        array = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError):
        raise InputError(f"{metric}: the {what} are not numbers", cure="Give one number per row.") from None
    if array.ndim != 1 or array.size == 0:
        raise InputError(f"{metric}: the {what} have shape {array.shape}", cure="Give one number per row, at least 1.")
    bad = int(np.count_nonzero(~np.isfinite(array)))
    if bad:
        raise InputError(
            f"{metric}: {bad} of {array.size} {what} are NaN or infinite", cure="Leave those rows out or mend them."
        )
    return array


def _checked(label: ArrayLike, score: ArrayLike, metric: str) -> tuple[_Ints, _Floats]:
    y, s = _finite(label, "labels", metric), _finite(score, "scores", metric)
    if len(y) != len(s):
        raise InputError(f"{metric}: {len(y)} labels but {len(s)} scores", cure="Give one score per label.")
    if not np.isin(y, (0.0, 1.0)).all():
        raise InputError(f"{metric}: labels other than 0 and 1", cure="Code the label as 0 (good) and 1 (bad).")
    return y.astype(np.int64), s


def _both_classes(label: ArrayLike, score: ArrayLike, metric: str) -> tuple[_Ints, _Floats]:
    y, s = _checked(label, score, metric)
    if y.min() == y.max():
        raise InputError(f"{metric}: every label is {int(y[0])}", cure="Evaluate on rows of both classes.")
    return y, s


def _probabilities(label: ArrayLike, probability: ArrayLike, metric: str) -> tuple[_Ints, _Floats]:
    y, p = _checked(label, probability, metric)
    if p.min() < 0.0 or p.max() > 1.0:
        raise InputError(f"{metric}: probabilities outside [0, 1]", cure="Give probabilities, not margins or points.")
    return y, p


def _ranks(score: _Floats) -> tuple[_Floats, _Ints]:
    """Return distinct scores, ascending, and each row's place among them (equal scores, equal place)."""
    values, ranks = np.unique(score, return_inverse=True)
    return values, ranks.astype(np.int64)


def _blocks(y: _Ints, score: _Floats) -> tuple[_Floats, _Ints, _Ints]:
    """Return distinct scores, descending, with the rows and the positives at or above each."""
    values, ranks = _ranks(score)
    rows = np.bincount(ranks, minlength=len(values))[::-1]
    hits = np.bincount(ranks[y == 1], minlength=len(values))[::-1]
    return values[::-1], np.cumsum(rows), np.cumsum(hits)


def _placements(y: _Ints, score: _Floats) -> tuple[_Floats, _Floats]:
    """Return each positive's share of negatives below it, and each negative's share of positives above it."""
    ranks = _ranks(score)[1]
    positives, negatives = ranks[y == 1], ranks[y == 0]
    everyone = _midranks(np.concatenate([positives, negatives]))
    p, n = len(positives), len(negatives)
    below: Any = (everyone[:p] - _midranks(positives)) / n
    above: Any = 1.0 - (everyone[p:] - _midranks(negatives)) / p
    return below, above


def _midranks(ranks: _Ints) -> _Floats:
    """Rank from 1; tied values share the mean of their ranks."""
    rows = np.bincount(ranks)
    shared: Any = np.cumsum(rows) - (rows - 1) / 2
    return np.asarray(shared[ranks])


def _quantile_edges(values: _Floats, bins: int) -> _Floats:
    """Return edges, taken from the values, that cut them into about equal parts.

    Edges ascend; only the last two may be equal, when the highest value fills a bin of its own.
    """
    if bins < 1:
        raise InputError("At least one bin is needed", cure="Ask for 1 bin or more.")
    inner = np.quantile(values, np.arange(1, bins) / bins, method="higher")
    lower = np.unique(np.concatenate([[values.min()], inner]))
    return np.concatenate([lower, [values.max()]])


def _given_edges(given: Sequence[float], score: _Floats) -> _Floats:
    edges = _finite(given, "edges", "score bands")
    if len(edges) < 2 or (np.diff(edges) <= 0).any():
        raise InputError("The edges of the score bands do not ascend", cure="Give two or more ascending edges.")
    if score.min() < edges[0] or score.max() > edges[-1]:
        raise InputError(
            f"The edges {edges[0]:g} to {edges[-1]:g} do not cover the scores", cure="Widen the first or last edge."
        )
    return edges
