"""How good a model is, found by sums: within its bound of the exact figure, whatever the scores are."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, r2_score, roc_auc_score

from atoll.core.errors import InputError
from atoll.node.steps.quality import auc, quality
from tests.learn.horizontal.together import F64, split, together


def dealt(score: F64, y: F64, seed: int) -> list[tuple[F64, F64]]:
    """The rows of three sites."""
    return [(score[at], y[at]) for at in split(len(y), 3, np.random.default_rng(seed))]


@given(st.integers(0, 2**32 - 1), st.integers(1, 400), st.integers(1, 30), st.sampled_from([1, 2, 9]))
def test_the_auc_is_off_by_no_more_than_it_says(seed: int, n: int, minimum: int, digits: int) -> None:
    draw = np.random.default_rng(seed)
    y = (draw.random(n) < draw.random()).astype(np.float64)
    score = np.round(np.clip(draw.normal(0.4 + 0.2 * y, 0.3), 0.0, 1.0), digits)  # ties, and 0 and 1 themselves
    found = together(lambda totals, s, label: auc(totals, s, label, minimum), dealt(score, y, seed))
    assert found[0] == found[1] == found[2]
    if y.min() == y.max():
        assert found[0] == {}
        return
    off = found[0]["largest error of the AUC"]
    assert abs(found[0]["AUC"] - roc_auc_score(y, score)) <= off + 1e-12
    assert 0 <= off <= 0.5


def test_numbers_and_classes_are_measured_as_on_pooled_rows() -> None:
    draw = np.random.default_rng(3)
    y = draw.normal(size=90)
    score = y + draw.normal(size=90)
    score[::10], y[5] = np.nan, np.nan  # these cannot be measured
    known = ~np.isnan(score) & ~np.isnan(y)
    found = together(lambda totals, s, label: quality(totals, "number", s, label, 10), dealt(score, y, 1))
    assert found[0]["R²"] == pytest.approx(r2_score(y[known], score[known]), rel=1e-10)
    classes = draw.integers(0, 3, 90).astype(np.float64)
    p = draw.random((90, 3))
    found = together(lambda totals, s, label: quality(totals, "class", s, label, 10), dealt(p, classes, 1))
    assert found[0]["right"] == pytest.approx(accuracy_score(classes, p.argmax(axis=1)))
    with pytest.raises(InputError, match="fewer than the minimum"):
        together(lambda totals, s, label: quality(totals, "class", s, label, 91), dealt(p, classes, 1))
