"""Trees grown with subtraction and vectorised search equal those of the plain reference and of XGBoost."""

from dataclasses import replace
from typing import Any

import msgspec
import numpy as np
import pytest
import xgboost
from hypothesis import given, settings
from hypothesis import strategies as st

from atoll.data.columns import Column, Columns
from atoll.learn.vertical.trees.binning import BinnedTable, bin_table, right_bits
from atoll.learn.vertical.trees.grow import Choice, Growth, draw_sample
from atoll.learn.vertical.trees.kernels import U8, histogram
from atoll.learn.vertical.trees.objective import auc, base_margin, derivatives, log_loss, probability
from atoll.learn.vertical.trees.params import TreeParams
from atoll.learn.vertical.trees.reference import grow_forest
from atoll.testing import seeded_rng

from .drawn import make_table
from .task import task


def grow(tables: list[BinnedTable], label: U8, train: np.ndarray, params: TreeParams, seed: int) -> list[Growth]:
    """All sites' bins in one place, but grown as the label holder grows them."""
    rng, margin, grown = seeded_rng(seed), np.full(label.size, base_margin(label[train], params)), []
    for _ in range(params.n_estimators):
        g, h = derivatives(margin, label, params)
        sample = draw_sample(g, h, train, [t.layout.features for t in tables], params, rng)
        tree = Growth(tables[0], [t.layout for t in tables[1:]], sample, params)
        for _ in range(params.max_depth):
            slots, count = tree._slots(tree.opened()), len(tree.opened())
            answers = [
                histogram(t.codes, t.layout.offsets, tree.at, slots, sample.g, sample.h, count) for t in tables[1:]
            ]
            tree.absorb(tree.own_sums(), answers)
            choices = tree.choose()
            bits = np.zeros(label.size, np.uint8)
            for c in choices:
                if c.site:
                    here = tree.at == c.node
                    bits[here] = right_bits(tables[c.site], c.feature, c.bin, c.default_left)[here]
            tree.apply(choices, bits)
        margin = margin + tree.weights()[tree.at]
        grown.append(tree)
    return grown


def splits(tree: Growth) -> list[tuple[object, ...]]:
    return [key(node.split) for node in tree.nodes if node.split]


def key(c: Choice) -> tuple[object, ...]:
    return (c.node, c.site, c.feature, c.bin, c.default_left, round(c.gain, 9))


@settings(max_examples=40)
@given(
    seed=st.integers(0, 10_000),
    rows=st.integers(2, 150),
    features=st.lists(st.integers(0, 3), min_size=1, max_size=3),
    depth=st.integers(1, 4),
    max_bin=st.integers(2, 12),
    min_node=st.integers(1, 25),
    gamma=st.sampled_from([0.0, 0.3]),
    child=st.sampled_from([0.0, 0.5, 2.0]),
    share=st.sampled_from([1.0, 0.6]),
)
def test_trees_equal_the_plain_reference_split_by_split(
    seed: int,
    rows: int,
    features: list[int],
    depth: int,
    max_bin: int,
    min_node: int,
    gamma: float,
    child: float,
    share: float,
) -> None:
    params = TreeParams(
        n_estimators=2,
        max_depth=depth,
        max_bin=max_bin,
        min_node=min_node,
        min_bin=2,
        gamma=gamma,
        min_child_weight=child,
        subsample=share,
        colsample_bytree=share,
        scale_pos_weight=1.7,
    )
    tables = [bin_table(make_table(f"s{i}", rows, f, seed + i), max_bin, 2) for i, f in enumerate(features)]
    rng = np.random.default_rng(seed)
    label, train = rng.integers(0, 2, rows).astype(np.uint8), rng.random(rows) < 0.8
    label[:2], train[:2] = (0, 1), True
    plain = grow_forest(tables, label, train, params, seeded_rng(seed))
    for tree, want in zip(grow(tables, label, train, params, seed), plain, strict=True):
        assert splits(tree) == [key(split) for split in want.splits]
        assert np.allclose(tree.weights()[tree.at], want.added, rtol=1e-12, atol=0)


def xgboost_margins(x: np.ndarray, label: U8, train: np.ndarray, params: TreeParams, **more: Any) -> np.ndarray:
    """Log-odds of the rows that are not trained on."""
    settings = {"objective": "binary:logistic", "tree_method": "hist", "nthread": 1, "eta": params.learning_rate}
    names = ("max_bin", "max_depth", "reg_lambda", "gamma", "min_child_weight", "scale_pos_weight", "base_score")
    settings |= {name: getattr(params, name) for name in names if getattr(params, name) is not None}
    kinds = more.pop("feature_types", None)
    data = [xgboost.DMatrix(x[part], label[part], feature_types=kinds) for part in (train, ~train)]
    booster = xgboost.train(settings | more, data[0], params.n_estimators)
    return np.asarray(booster.predict(data[1], output_margin=True), np.float64)


def margins(tables: list[BinnedTable], label: U8, train: np.ndarray, params: TreeParams) -> np.ndarray:
    """Ours of the same rows."""
    trees = grow(tables, label, train, params, 0)
    return (base_margin(label[train], params) + sum(t.weights()[t.at] for t in trees))[~train]


def holes(table: Columns, seed: int) -> Columns:
    """The table with some values missing, none of every third column."""
    rng = np.random.default_rng(seed)
    absent = [rng.random(table.rows) < 0.2 * (i % 3) for i in range(len(table))]
    columns = (replace(c, values=np.where(gone, np.nan, c.values)) for c, gone in zip(table, absent, strict=True))
    return Columns(tuple(columns), table.rows)


def as_numbers(tables: list[BinnedTable]) -> np.ndarray:
    """Bins as a table for XGBoost, missing values missing."""
    known = [np.where(t.codes == t.layout.bins[:, None], np.nan, t.codes.astype(np.float32)) for t in tables]
    return np.concatenate(known).T


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"gamma": 5.0, "scale_pos_weight": 3.0},
        {"reg_lambda": 0.0, "min_child_weight": 20.0, "base_score": 0.3},
        {"max_depth": 6, "min_child_weight": 0.0, "learning_rate": 1.0},
        {"max_bin": 4},
    ],
)
def test_scores_equal_those_of_xgboost_on_the_same_bins(settings: dict[str, Any]) -> None:
    own, other, label, train = task(4_000, 7)
    params = TreeParams(**{"n_estimators": 5, "min_node": 1, **settings})
    tables = [bin_table(holes(table, seed), params.max_bin, 1) for seed, table in enumerate((own, other))]
    theirs = xgboost_margins(as_numbers(tables), label, train, replace_bins(params))
    assert np.abs(margins(tables, label, train, params) - theirs).max() < 1e-5


def test_scores_equal_those_of_xgboost_on_categories() -> None:
    rng = np.random.default_rng(4)
    codes = rng.integers(-1, 7, (3, 4_000)).astype(np.int32)
    effects = rng.normal(size=(3, 8))
    label = (rng.random(4_000) < probability(sum(e[c] for e, c in zip(effects, codes, strict=True)))).astype(np.uint8)
    train, names = np.arange(4_000) < 3_000, tuple("abcdefg")
    table = Columns(tuple(Column(f"c{i}", "categorical", c, names) for i, c in enumerate(codes)), 4_000)
    params = TreeParams(n_estimators=5, min_node=1)
    tables = [bin_table(table, 32, 1)]
    more = {"feature_types": ["c"] * 3, "max_cat_to_onehot": 100}
    theirs = xgboost_margins(as_numbers(tables), label, train, params, **more)
    assert np.abs(margins(tables, label, train, params) - theirs).max() < 1e-5


def replace_bins(params: TreeParams) -> TreeParams:
    """Enough bins for XGBoost to keep ours apart."""
    return msgspec.structs.replace(params, max_bin=128)


@pytest.mark.slow
def test_auc_is_within_two_thousandths_of_xgboost_on_the_pooled_columns() -> None:
    """Equal bins leave only `min_node` as a difference; XGBoost's own bins move its AUC by more than that."""
    own, other, label, train = task(20_000)
    params = TreeParams()
    tables = [bin_table(own, 32, 20), bin_table(other, 32, 20)]
    ours = auc(margins(tables, label, train, params), label[~train])
    same_bins = auc(xgboost_margins(as_numbers(tables), label, train, replace_bins(params)), label[~train])
    raw = np.column_stack([c.values for table in (own, other) for c in table])
    own_bins = auc(xgboost_margins(raw, label, train, params), label[~train])
    assert abs(ours - same_bins) < 0.002
    assert ours > own_bins - 0.002


def test_auc_and_log_loss_of_small_cases() -> None:
    label = np.array([0, 1, 0, 1], np.uint8)
    assert auc(np.array([0.1, 0.9, 0.2, 0.8]), label) == 1.0
    assert auc(np.zeros(4), label) == 0.5
    assert auc(np.array([0.0, 0.0, 1.0, 1.0]), label) == 0.5
    assert log_loss(np.zeros(4), label) == pytest.approx(np.log(2))
    assert log_loss(np.array([-800.0, 800.0, -800.0, 800.0]), label) == 0.0


def test_sums_of_derivatives_do_not_depend_on_their_order() -> None:
    rng = np.random.default_rng(0)
    g, h = derivatives(rng.normal(size=9_999), rng.integers(0, 2, 9_999).astype(np.uint8), TreeParams())
    order = rng.permutation(9_999)
    assert sum(g.tolist()) == sum(g[order].tolist()) == float(g.sum())
    assert sum(h.tolist()) == sum(h[order].tolist()) == float(h.sum())
