"""k-means and principal components, against scikit-learn on pooled rows."""

from collections import Counter
from typing import Any

import numpy as np
import pytest
from sklearn.cluster import KMeans
from sklearn.decomposition import PCA

from atoll.core.errors import InputError
from atoll.learn.horizontal import kmeans, pca
from atoll.learn.horizontal.kmeans import KMeansModel, KMeansParams
from atoll.learn.horizontal.pca import PcaParams
from atoll.learn.horizontal.rows import Rows
from atoll.testing import seeded_rng
from tests.learn.horizontal.drawn import Task, difference, draw
from tests.learn.horizontal.together import F64, split, together, watched


def clustered(seed: int) -> Task:
    """Rows around four places, dealt unevenly."""
    rng = np.random.default_rng(seed)
    X = rng.normal(0, 4, (4, 3))[rng.integers(0, 4, 160)] + rng.standard_normal((160, 3)) + 50
    return Task(X, split(160, 1 + seed % 5, rng), rng)


async def cluster(totals: Any, X: Rows, params: KMeansParams, seed: int = 0) -> KMeansModel:
    """One site, with randomness of its own."""
    return await kmeans.fit(totals, X, params, rng=seeded_rng(1000 * seed + ord(totals.site[-1])))


@pytest.mark.parametrize("tolerance", [0.0, 1e-3])
@pytest.mark.parametrize("seed", range(8))
def test_lloyd_is_scikit_learns_from_the_same_start(seed: int, tolerance: float) -> None:
    task = clustered(seed)
    start = task.X[task.rng.choice(len(task.X), 4, replace=False)]
    params = KMeansParams(4, start=tuple(map(tuple, start.tolist())), tolerance=tolerance)
    models = together(cluster, task.tables(params))
    assert all(np.array_equal(one.centres, models[0].centres) for one in models)
    ours = models[0]
    theirs = KMeans(4, init=start, n_init=1, tol=tolerance, algorithm="lloyd").fit(task.X)
    assert difference(ours.centres, theirs.cluster_centers_) < 1e-10
    assert difference(ours.inertia, theirs.inertia_) < 1e-10
    assert ours.predict(task.X).tolist() == theirs.labels_.tolist()
    assert ours.counts.tolist() == np.bincount(theirs.labels_, minlength=4).tolist()


def test_seeds_are_rows_drawn_in_proportion_to_squared_distance() -> None:
    """With two seeds, the second falls on a row with the probability of the pooled k-means++; χ² over 150 draws."""
    X = np.array([[0.0], [1.0], [3.0], [3.5], [10.0]])
    rows = [np.array([0, 3]), np.array([1, 2, 4])]
    pairs: Counter[tuple[float, ...]] = Counter()
    for seed in range(150):
        params = KMeansParams(2, seed_rows=1, most=1)
        _, adder = watched(cluster, [(Rows(("x",), X[at]), params, seed) for at in rows])
        seeds = [float(total[0] / total[1]) for what, total in adder.seen if ": seed" in what]
        low, high = (float(X[np.abs((X - X.mean()) / 4 - s).argmin(), 0]) for s in seeds)
        pairs[low, high] += 1
    chi2 = 0.0
    for a in X[:, 0]:
        weight = (X[:, 0] - a) ** 2
        for b, w in zip(X[:, 0], weight, strict=True):
            expected = 150 / 5 * w / weight.sum()
            if b == a:
                assert pairs[a, b] == 0
            else:
                chi2 += (pairs[a, b] - expected) ** 2 / expected
    assert chi2 < 50  # 19 degrees of freedom: P = 1.4e-4


@pytest.mark.parametrize("seed", range(4))
def test_seeding_finds_clusters_about_as_good_as_scikit_learns(seed: int) -> None:
    task = clustered(seed)
    runs = [together(cluster, task.tables(KMeansParams(4), start))[0] for start in range(4)]
    theirs = KMeans(4, n_init=10, random_state=0).fit(task.X)
    assert {int(one.counts.sum()) for one in runs} == {160}
    assert min(one.inertia for one in runs) < 1.05 * theirs.inertia_


def test_a_seed_is_a_mean_of_rows_unless_one_row_is_asked_for() -> None:
    task = clustered(2)
    _, adder = watched(cluster, task.tables(KMeansParams(4, seed_rows=6)))
    shown = np.array([total for what, total in adder.seen if ": seed" in what])
    scaled = (task.X - task.X.mean(axis=0)) / 2.0 ** np.frexp(task.X.std(axis=0).max())[1]
    assert np.abs(scaled[:, None] - shown[:, :-1]).max(axis=2).min() > 1e-6


def test_as_many_clusters_as_rows_and_repeated_rows() -> None:
    X = np.array([[1.0, 2.0]] * 5)
    ours = together(cluster, [(Rows(("a", "b"), X[:2]), KMeansParams(3)), (Rows(("a", "b"), X[2:]), KMeansParams(3))])[
        0
    ]
    assert ours.inertia == 0
    with pytest.raises(InputError, match="5 rows are too few for 6"):
        together(cluster, [(Rows(("a", "b"), X), KMeansParams(6))])


@pytest.mark.parametrize("standardise", [True, False])
@pytest.mark.parametrize("seed", range(10))
def test_principal_components_are_scikit_learns(seed: int, standardise: bool) -> None:
    task = draw(seed, ugly=standardise)
    k = min(2, task.X.shape[1])
    ours = together(pca.fit, task.tables(PcaParams(k, standardise=standardise)))[0]
    X = (task.X - task.X.mean(axis=0)) / (task.X.std(axis=0) if standardise else 1)
    theirs = PCA(k, svd_solver="full").fit(X)
    assert difference(ours.variance, theirs.explained_variance_) < 1e-8
    assert difference(ours.ratio, theirs.explained_variance_ratio_) < 1e-8
    assert np.allclose(ours.components, theirs.components_, atol=1e-8)
    size = np.abs(theirs.transform(X)).max()
    assert np.allclose(ours.transform(task.X) / size, theirs.transform(X) / size, atol=1e-8)


@pytest.mark.parametrize("seed", range(3))
def test_the_randomised_solver_finds_leading_components_of_wide_data(seed: int) -> None:
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((40, 4)) * [9, 5, 3, 2] @ rng.standard_normal((4, 300)) + 0.1 * rng.standard_normal(
        (40, 300)
    )
    task = Task(X, split(40, 2 + seed, rng), rng)
    params = PcaParams(4, solver="randomised", rounds=6)
    models = together(pca.fit, task.tables(params))
    assert all(np.array_equal(one.components, models[0].components) for one in models)
    theirs = PCA(4, svd_solver="full").fit(X)
    assert difference(models[0].variance, theirs.explained_variance_) < 1e-8
    assert difference(models[0].ratio, theirs.explained_variance_ratio_) < 1e-8
    assert np.allclose(models[0].components, theirs.components_, atol=1e-6)


@pytest.mark.parametrize(
    ("X", "params", "words"),
    [
        (np.zeros((9, 2)), PcaParams(1), "all columns are constant"),
        (np.eye(3), PcaParams(1), "3 rows and 3 columns"),
        (np.eye(9)[:, :2], PcaParams(3), "do not give 3"),
        (np.full((9, 2), np.nan), PcaParams(1), "missing .*column 'a'"),
    ],
)
def test_bad_input_is_named(X: F64, params: PcaParams, words: str) -> None:
    with pytest.raises(InputError, match=words):
        together(pca.fit, [(Rows(tuple("abc"[: X.shape[1]]), X), params)])


@pytest.mark.parametrize(
    "wrong",
    [lambda: KMeansParams(0), lambda: KMeansParams(2, start=((1.0,),)), lambda: PcaParams(0)],
)
def test_bad_parameters_are_named(wrong: Any) -> None:
    with pytest.raises(InputError):
        wrong()
