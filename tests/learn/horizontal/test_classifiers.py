"""Linear SVM, naive Bayes and discriminant analysis, against scikit-learn on pooled rows."""

from typing import Any

import numpy as np
import pytest
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.naive_bayes import BernoulliNB, GaussianNB, MultinomialNB
from sklearn.svm import LinearSVC

from atoll.core.errors import InputError
from atoll.learn.horizontal import bayes, discriminant, perceptron, svm
from atoll.learn.horizontal.bayes import BayesParams
from atoll.learn.horizontal.discriminant import DiscriminantParams
from atoll.learn.horizontal.perceptron import PerceptronParams
from atoll.learn.horizontal.rows import Rows
from atoll.learn.horizontal.svm import SvmParams
from tests.learn.horizontal.drawn import F64, Task, difference, draw
from tests.learn.horizontal.together import together


def labelled(seed: int, **options: Any) -> tuple[Task, F64]:
    """A task with two to four classes, which may be missing at some sites."""
    task = draw(seed, n=150, **options)
    Z = (task.X - task.X.mean(axis=0)) / task.X.std(axis=0)
    k = 2 + seed % 3
    y = (Z @ task.rng.normal(0, 1, (Z.shape[1], k)) + task.rng.gumbel(size=(len(Z), k))).argmax(axis=1)
    return task, y * 3.0 - 1


@pytest.mark.parametrize("intercept", [True, False])
@pytest.mark.parametrize("seed", range(8))
def test_the_linear_svm_is_scikit_learns(seed: int, intercept: bool) -> None:
    task, y = labelled(seed, ugly=False)
    X = task.X + 2
    task = Task(X, task.rows, task.rng)
    models = together(svm.fit, task.parts(y, SvmParams(C=0.7, intercept=intercept)))
    assert all(np.array_equal(one.weights, models[0].weights) for one in models)
    ours = models[0]
    theirs = LinearSVC(C=0.7, dual=False, fit_intercept=intercept, tol=1e-13, max_iter=100_000).fit(X, y)
    assert difference(ours.weights, theirs.coef_) < 1e-6
    assert difference(ours.intercepts, np.zeros(len(ours.weights)) + theirs.intercept_) < 1e-6
    assert ours.predict(X).tolist() == theirs.predict(X).tolist()
    for c, w, b in zip(ours.classes[-len(ours.weights) :], ours.weights, ours.intercepts, strict=True):
        sign = np.where(y == c, 1.0, -1.0)  # the pooled gradient vanishes, which needs no oracle's tolerance
        pull = 1.4 * np.maximum(0, 1 - sign * (X @ w + b)) * sign
        assert np.abs(w - X.T @ pull).max() < 1e-10
        assert not intercept or abs(b - pull.sum()) < 1e-10


@pytest.mark.parametrize("seed", range(10))
def test_gaussian_naive_bayes_is_scikit_learns(seed: int) -> None:
    task, y = labelled(seed, ugly=seed % 2 == 0)
    ours = together(bayes.fit, task.parts(y, BayesParams()))[0]
    theirs = GaussianNB().fit(task.X, y)
    assert difference(ours.first, theirs.theta_) < 1e-10
    assert difference(ours.second, theirs.var_) < 1e-8
    assert difference(ours.count, theirs.class_count_) == 0
    assert np.allclose(ours.predict(task.X), theirs.predict_proba(task.X), rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("kind", ["bernoulli", "multinomial"])
@pytest.mark.parametrize("seed", range(5))
def test_naive_bayes_of_counts_is_scikit_learns(kind: str, seed: int) -> None:
    task, y = labelled(seed)
    X = task.rng.poisson(0.5, task.X.shape).astype(np.float64)
    params = BayesParams(kind=kind, alpha=0.3)  # type: ignore[arg-type]
    ours = together(bayes.fit, Task(X, task.rows, task.rng).parts(y, params))[0]
    theirs = (BernoulliNB if kind == "bernoulli" else MultinomialNB)(alpha=0.3).fit(X, y)
    assert difference(ours.first, theirs.feature_log_prob_) < 1e-12
    assert difference(ours.predict(X), theirs.predict_proba(X)) < 1e-10


@pytest.mark.parametrize("seed", range(10))
def test_discriminant_analysis_is_scikit_learns(seed: int) -> None:
    task, y = labelled(seed, ugly=seed % 2 == 0)
    ours = together(discriminant.fit, task.parts(y, DiscriminantParams()))[0]
    centre, spread = task.X.mean(axis=0), task.X.std(axis=0)
    Z = (task.X - centre) / spread
    theirs = LinearDiscriminantAnalysis(solver="lsqr", store_covariance=True).fit(Z, y)
    assert difference(ours.covariance / np.outer(spread, spread), theirs.covariance_) < 1e-8
    assert difference(ours.means, centre + spread * theirs.means_) < 1e-10
    assert difference(ours.predict(task.X), theirs.predict_proba(Z)) < 1e-6


@pytest.mark.parametrize("apart", [True, False])
@pytest.mark.parametrize("seed", range(6))
def test_the_perceptron_is_the_one_on_pooled_rows(seed: int, apart: bool) -> None:
    task = draw(seed, n=120, p=3)
    Z = np.column_stack([np.ones(120), (task.X - task.X.mean(axis=0)) / task.X.std(axis=0)])
    score = Z[:, 1:] @ task.rng.standard_normal(3)
    y = (score + (0 if apart else task.rng.logistic(size=120)) > 0).astype(np.float64)
    ours = together(perceptron.fit, task.parts(y, PerceptronParams(rounds=60 if not apart else 5_000)))[0]
    w, best, fewest = np.zeros(4), np.zeros(4), 121
    for _ in range(ours.rounds + 1):
        wrong = (2 * y - 1) * (Z @ w) <= 1e-13  # at w = 0 all are
        if wrong.sum() < fewest:
            fewest, best = int(wrong.sum()), w
        w = w + Z[wrong].T @ (2 * y - 1)[wrong] / 120
    assert ours.errors == fewest
    assert difference(ours.weights * task.X.std(axis=0), best[1:]) < 1e-8
    assert np.count_nonzero((ours.decide(task.X) > 0) != y) == fewest
    assert (fewest == 0) == apart


X = np.random.default_rng(5).standard_normal((20, 2))
Y = np.repeat([0.0, 1.0], 10)


@pytest.mark.parametrize(
    ("fit", "values", "label", "params", "words"),
    [
        (svm.fit, X, np.ones(20), SvmParams(), "one class"),
        (bayes.fit, X, Y, BayesParams(kind="multinomial"), "0 or more .*column 'a'"),
        (bayes.fit, np.c_[X[:, 0], Y], Y, BayesParams(smoothing=0.0), "constant within a class .*column 'b'"),
        (discriminant.fit, np.c_[X[:, 0], 3 * X[:, 0]], Y, DiscriminantParams(), "combination of 'a' .*column 'b'"),
        (discriminant.fit, np.c_[X[:, 0], Y], Y, DiscriminantParams(), "alike .*column 'b'"),
        (discriminant.fit, X[9:12], Y[9:12], DiscriminantParams(), "too few"),
    ],
)
def test_bad_input_is_named(fit: Any, values: F64, label: F64, params: Any, words: str) -> None:
    with pytest.raises(InputError, match=words):
        together(fit, [(Rows(("a", "b"), values), label, params)])


def test_the_penalty_must_be_sound() -> None:
    with pytest.raises(InputError, match="C is 0"):
        SvmParams(C=0)
