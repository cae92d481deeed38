"""Trees over sites against the plain reference on pooled bins, one site with all rows, scikit-learn and XGBoost."""

from typing import Any

import numpy as np
import pytest
import xgboost
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score
from sklearn.tree import DecisionTreeRegressor

from atoll.core.errors import InputError
from atoll.data.columns import Column, Columns
from atoll.learn.horizontal.trees import forest
from atoll.learn.horizontal.trees.bins import code_table
from atoll.learn.horizontal.trees.forest import ForestModel
from atoll.learn.horizontal.trees.grow import Tree
from atoll.learn.horizontal.trees.params import BoostParams, ForestParams
from atoll.learn.vertical.trees.params import TreeParams
from atoll.learn.vertical.trees.reference import PlainTree, grow_forest
from atoll.testing import seeded_rng
from tests.learn.horizontal.together import split, together, watched

F64 = NDArray[np.float64]


def drawn(seed: int, n: int = 240, *, ugly: bool = True) -> tuple[Columns, F64, list[Any]]:
    """A table of numbers with ties and gaps and of texts, a label, and which rows are where."""
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((n, 3))
    code = rng.integers(0, 4, n).astype(np.int32)
    y = (X[:, 0] + (code == 2) - 0.7 * X[:, 1] ** 2 + rng.logistic(size=n) > 0).astype(np.float64)
    if ugly:
        X[:, 1], X[:, 2] = np.round(X[:, 1], 1), 0.1
        X[rng.random(n) < 0.1, 0] = np.nan
        code[rng.random(n) < 0.1] = -1
        code[:1] = 3
    numbers = [Column(f"x{j}", "numeric", X[:, j]) for j in range(3)]
    texts = Column("类", "categorical", code, ("a", "b", "丙", "rare"))
    return Columns((*numbers[:2], texts, numbers[2]), n), y, split(n, 1 + seed % 5, rng)


async def fit(totals: Any, table: Columns, y: F64, params: Any, seed: int = 0) -> ForestModel:
    """Boosted trees or a forest, by the kind of the parameters."""
    train = forest.boost if isinstance(params, BoostParams) else forest.forest
    return await train(totals, table, y, params, rng=seeded_rng(seed + ord(totals.site[-1])))


def sites(table: Columns, y: F64, rows: list[Any], params: Any) -> list[tuple[Any, ...]]:
    return [(table.take(at), y[at], params) for at in rows]


SETTINGS: list[Any] = [
    BoostParams(n_estimators=4, max_bin=16),
    BoostParams(n_estimators=3, max_bin=8, colsample_bytree=0.5, gamma=0.3, max_depth=6, min_child_weight=0.0),
    BoostParams(n_estimators=3, objective="squared", max_depth=3, learning_rate=0.7),
    ForestParams(n_estimators=3, bootstrap=False),
    ForestParams(n_estimators=2, bootstrap=False, features="all", max_depth=3),
]


@pytest.mark.parametrize("params", SETTINGS, ids=lambda p: type(p).__name__)
@pytest.mark.parametrize("seed", range(1, 6))
def test_trees_of_many_sites_are_those_of_one_site_with_all_rows(seed: int, params: Any) -> None:
    table, y, rows = drawn(seed)
    if getattr(params, "objective", "") == "squared":
        y = (y + np.nan_to_num(table["x0"].values)) * 1e5
    models = together(fit, sites(table, y, rows, params))
    whole = together(fit, [(table, y, params)])[0]
    assert all(one == whole for one in models)
    assert np.array_equal(models[0].predict(table), whole.predict(table))
    assert whole.predict(table.take(np.arange(5))).tolist() == whole.predict(table)[:5].tolist()


def plain(tree: Tree) -> list[tuple[int, int, int, bool, float]]:
    inner = [node for node, left in enumerate(tree.left) if left >= 0]
    return [(n, tree.feature[n], tree.bin[n], tree.default_left[n], tree.gain[n]) for n in inner]


def theirs(tree: PlainTree) -> list[tuple[int, int, int, bool, float]]:
    return [(c.node, c.feature, c.bin, c.default_left, c.gain) for c in tree.splits]


@pytest.mark.parametrize("seed", range(1, 9))
def test_boosted_trees_are_the_plain_reference_split_by_split(seed: int) -> None:
    table, y, rows = drawn(seed)
    params = BoostParams(n_estimators=4, max_depth=4, max_bin=12, min_child_weight=seed % 3, reg_lambda=seed / 2)
    ours = together(fit, sites(table, y, rows, params))[0]
    wanted = grow_forest(
        [code_table(table, ours.columns)],
        y.astype(np.uint8),
        np.ones(len(y), np.bool_),
        TreeParams(n_estimators=4, max_bin=12, min_child_weight=seed % 3, reg_lambda=seed / 2),
        seeded_rng(1),
    )
    assert [plain(tree) for tree in ours.trees] == [theirs(tree) for tree in wanted]
    margin = ours.base + sum(tree.added for tree in wanted)
    assert np.allclose(ours.predict(table), 1 / (1 + np.exp(-margin)), rtol=1e-12)


@pytest.mark.parametrize("seed", range(1, 5))
def test_a_tree_without_draws_is_as_good_as_scikit_learns_on_the_same_bins(seed: int) -> None:
    table, y, rows = drawn(seed, ugly=False)
    table = Columns(tuple(column for column in table if column.kind == "numeric"), table.rows)
    params = ForestParams(n_estimators=1, bootstrap=False, features="all", max_depth=3, min_rows=7, max_bin=20)
    ours = together(fit, sites(table, y, rows, params))[0]
    codes = code_table(table, ours.columns).codes.T
    best = DecisionTreeRegressor(max_depth=3, min_samples_leaf=7, random_state=0).fit(codes, y)
    assert np.mean((ours.predict(table) - y) ** 2) == pytest.approx(np.mean((best.predict(codes) - y) ** 2), rel=1e-9)


@pytest.mark.slow
def test_boosted_trees_rank_as_well_as_xgboost() -> None:
    table, y, rows = drawn(3, 12_000, ugly=False)
    train, test = np.arange(12_000) < 8_000, np.arange(8_000, 12_000)
    params = BoostParams(n_estimators=20, max_bin=256)
    parts = sites(table, y, [at[train[at]] for at in rows], params)
    ours = together(fit, parts)[0].predict(table.take(test))
    X = np.stack([column.values for column in table], axis=1)
    data = xgboost.DMatrix(X[train], y[train], feature_types=["q", "q", "c", "q"], enable_categorical=True)
    settings = {"objective": "binary:logistic", "tree_method": "hist", "max_depth": 4, "nthread": 1}
    model = xgboost.train(settings, data, 20)
    scores = model.predict(xgboost.DMatrix(X[test], feature_types=["q", "q", "c", "q"], enable_categorical=True))
    assert abs(roc_auc_score(y[test], ours) - roc_auc_score(y[test], scores)) < 0.002


def test_a_forest_with_secret_draws_ranks_better_than_one_tree() -> None:
    table, y, rows = drawn(2, 800, ugly=False)
    train, test = np.arange(800) < 500, np.arange(500, 800)
    mine = [at[train[at]] for at in rows]
    one, many = (
        together(fit, sites(table, y, mine, ForestParams(n_estimators=n, min_rows=3)))[0].predict(table.take(test))
        for n in (1, 12)
    )
    assert roc_auc_score(y[test], many) > roc_auc_score(y[test], one) > 0.6


def test_the_bootstrap_draws_poisson_numbers() -> None:
    drawn_ = forest._poisson(seeded_rng(1), 20_000)
    shares = np.bincount(drawn_.astype(int), minlength=4)[:4] / 20_000
    assert np.allclose(shares, np.exp(-1) / np.array([1, 1, 2, 6]), atol=0.012)


def test_totals_do_not_tell_at_which_site_a_row_is() -> None:
    table, y, _ = drawn(4)
    params = BoostParams(n_estimators=2, max_depth=3)
    seen = []
    for owner in (np.arange(240) % 3, np.arange(240)[::-1] // 120):
        _, adder = watched(fit, sites(table, y, [np.flatnonzero(owner == site) for site in range(3)], params))
        seen.append([(what, total.tolist()) for what, total in adder.seen if "length of categories" not in what])
    assert seen[0] == seen[1]


def test_categories_that_are_new_or_rare_are_scored() -> None:
    table, y, rows = drawn(5)
    model = together(fit, sites(table, y, rows, SETTINGS[0]))[0]
    column = Column("类", "categorical", np.array([0, 1], np.int32), ("never seen", "rare"))
    two = table.take(np.arange(2))
    new = Columns((*two.columns[:2], column, two.columns[3]), 2)
    assert ((model.predict(new) > 0) & (model.predict(new) < 1)).all()
    assert set(model.importance()) == {"x0", "x1", "x2", "类"}
    assert model.importance()["x2"] == 0


TABLE, Y, _ = drawn(1)


@pytest.mark.parametrize(
    ("table", "y", "params", "words"),
    [
        (TABLE, Y * 2, BoostParams(), "neither 0 nor 1 .*'label'"),
        (TABLE, Y * np.nan, BoostParams(), "missing or infinite .*'label'"),
        (TABLE, Y[:5], ForestParams(), "240 rows have labels of shape"),
        (TABLE, Y * 0, BoostParams(), "one label"),
        (Columns((), 240), Y, BoostParams(), "no column"),
        (Columns((Column("x", "numeric", np.full(240, np.inf)),), 240), Y, BoostParams(), "infinite .*'x'"),
    ],
)
def test_bad_input_is_named(table: Columns, y: F64, params: Any, words: str) -> None:
    with pytest.raises(InputError, match=words):
        together(fit, [(table, y, params)])


@pytest.mark.parametrize("wrong", [lambda: BoostParams(max_depth=0), lambda: ForestParams(smallest=0)])
def test_bad_parameters_are_named(wrong: Any) -> None:
    with pytest.raises(InputError):
        wrong()


def test_labels_of_one_kind_at_a_site_and_no_rows_at_another() -> None:
    table, y, _ = drawn(2)
    rows = [np.flatnonzero(y == 1), np.zeros(0, np.int64), np.flatnonzero(y == 0)]
    ours = together(fit, sites(table, y, rows, SETTINGS[0]))
    assert ours[0] == ours[1] == together(fit, [(table, y, SETTINGS[0])])[0]
