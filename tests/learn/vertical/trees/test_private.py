"""Training and prediction over the real product and choice: conformance, views of the sites, and noise."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest

from atoll.core.channel import Channel
from atoll.crypto.random import Rng
from atoll.data.columns import Column, Columns
from atoll.learn.vertical.trees.binning import Layout, bin_table
from atoll.learn.vertical.trees.model import FeaturePart, LabelPart
from atoll.learn.vertical.trees.objective import auc, base_margin, probability
from atoll.learn.vertical.trees.params import TreeParams
from atoll.learn.vertical.trees.predict import PROTOCOL as PREDICTION
from atoll.learn.vertical.trees.predict import predict_feature_holder, predict_label_holder
from atoll.learn.vertical.trees.protocol import PROTOCOL, feature_holder, label_holder
from atoll.learn.vertical.trees.reference import PlainTree, grow_forest
from atoll.learn.vertical.trees.ties import completed, implied
from atoll.protocols.fixed_matrix_product import Indicator, reference
from atoll.testing import ProtocolCheck, check_protocol, recorded_pair, seeded_rng

from .runs import Trained, predict, train
from .task import task


@dataclass(frozen=True)
class Case:
    """Two tables without ties between features or default sides, a label, and validation rows."""

    own: Columns
    other: Columns
    label: np.ndarray
    validation: np.ndarray
    params: TreeParams


def make_case(rows: int, features: tuple[int, int], seed: int, **params: Any) -> Case:
    rng = np.random.default_rng(seed)
    tables = []
    for site, count in zip("ab", features, strict=True):
        values = rng.normal(size=(count, rows))
        values[:, rng.random(rows) < 0.2] = np.nan if seed % 2 else 0.0
        tables.append(Columns(tuple(Column(f"{site}{i}", "numeric", v) for i, v in enumerate(values)), rows))
    label = (rng.random(rows) < probability(np.nan_to_num(tables[1].columns[0].values))).astype(np.uint8)
    label[:2] = 0, 1
    validation = np.zeros(rows, np.bool_)
    return Case(*tables, label, validation, TreeParams(min_node=1, min_bin=2, max_bin=5, **params))


CASES = (
    make_case(60, (1, 2), 1, n_estimators=1, max_depth=2),
    make_case(30, (0, 1), 2, n_estimators=2, max_depth=1),
    make_case(90, (2, 2), 7, n_estimators=2, max_depth=3),
    make_case(60, (1, 2), 4, n_estimators=1, max_depth=2, pad_shape=True),
)


async def as_label_holder(peer: Channel, case: Case, rng: Rng) -> Any:
    part, _ = await label_holder(
        {"b": peer}, case.own, case.label, case.validation, case.params, rng=rng, reveals_rows=True
    )
    return [[(n, node.left, node.rule, round(node.weight, 6)) for n, node in enumerate(t)] for t in part.trees]


async def as_feature_holder(peer: Channel, case: Case, rng: Rng) -> Any:
    part = await feature_holder(peer, case.other, case.params, rng=rng, reveals_rows=True)
    return [[{split.rule for split in level} for level in tree] for tree in part.splits]


def plain(case: Case) -> tuple[Any, Any]:
    """What both roles should return, from the reference."""
    tables = [bin_table(t, case.params.max_bin, case.params.min_bin) for t in (case.own, case.other)]
    trees = grow_forest(tables, case.label, ~case.validation, case.params, seeded_rng(0))
    mine, theirs = [], []
    for tree in trees:
        rules = {c.node: tables[c.site].columns[c.feature].rule(c.bin, c.default_left) for c in tree.splits}
        lefts = {c.node: 1 + 2 * i for i, c in enumerate(tree.splits)}
        depth = {0: 0}
        for node, left in lefts.items():
            depth[left] = depth[left + 1] = depth[node] + 1
        own = {c.node for c in tree.splits if c.site == 0}
        weights = weights_of(tree, case, tables, lefts)
        mine.append([(n, lefts.get(n, -1), rules[n] if n in own else None, weights.get(n, 0.0)) for n in sorted(depth)])
        theirs.append(
            [
                {rules[c.node] for c in tree.splits if c.site and depth[c.node] == level}
                for level in range(case.params.max_depth)
            ]
        )
    return mine, theirs


def weights_of(tree: PlainTree, case: Case, tables: list, lefts: dict[int, int]) -> dict[int, float]:
    """Leaf weights by node, read off what the tree adds to the rows of each leaf."""
    from atoll.learn.vertical.trees.binning import right_bits

    at = np.zeros(case.label.size, np.int64)
    for c in tree.splits:
        here = at == c.node
        bits = right_bits(tables[c.site], c.feature, c.bin, c.default_left)
        at[here] = lefts[c.node] + bits[here]
    return {int(node): round(float(tree.added[at == node][0]), 6) for node in np.unique(at)}


def equal(got: Any, want: Any) -> bool:
    """Fakes of a padded run may stand beside the winners."""
    if got and isinstance(got[0][0], set):
        return all(w <= g for gs, ws in zip(got, want, strict=True) for g, w in zip(gs, ws, strict=True))
    return bool(got == want)


@pytest.mark.slow
def test_training_conforms() -> None:
    check_protocol(
        ProtocolCheck(
            PROTOCOL,
            CASES,
            as_label_holder,
            as_feature_holder,
            plain,
            max_bytes=lambda case: 400_000 + case.params.vectors * 2048 * 4 * (4 + 6 * len(case.other)) * 2,
            equal=equal,
            faults_at=1,
            patience=0.2,
        )
    )


@dataclass(frozen=True)
class Scoring:
    """A trained model and rows to score."""

    case: Case
    trained: Trained
    want: np.ndarray


def make_scoring(case: Case) -> Scoring:
    trained = train([case.own, case.other], case.label, case.validation, case.params)
    return Scoring(case, trained, predict(trained, [case.own, case.other]))


@pytest.mark.slow
def test_prediction_conforms() -> None:
    async def label(peer: Channel, scoring: Scoring, rng: Rng) -> Any:
        return await predict_label_holder({"site1": peer}, scoring.trained.label, scoring.case.own, rng=rng)

    async def feature(peer: Channel, scoring: Scoring, rng: Rng) -> Any:
        return await predict_feature_holder(peer, scoring.trained.features[0], scoring.case.other, rng=rng)

    check_protocol(
        ProtocolCheck(
            PREDICTION,
            [make_scoring(case) for case in CASES],
            label,
            feature,
            lambda scoring: (scoring.want, None),
            faults_at=1,
            max_bytes=lambda scoring: 20_000 + scoring.case.params.vectors * 40 * (64 + scoring.case.label.size),
            patience=0.2,
        )
    )


def test_prediction_agrees_with_what_training_computed() -> None:
    case = CASES[2]
    tables = [bin_table(t, case.params.max_bin, case.params.min_bin) for t in (case.own, case.other)]
    trees = grow_forest(tables, case.label, ~case.validation, case.params, seeded_rng(0))
    margin = base_margin(case.label, case.params) + sum(tree.added for tree in trees)
    assert np.allclose(make_scoring(case).want, probability(margin), rtol=1e-9)


def test_a_feature_holder_sees_the_same_when_all_labels_are_turned_round() -> None:
    def view(label: np.ndarray) -> tuple[list, list]:
        case, seen = CASES[0], []

        def pair(a: str, b: str) -> tuple[Channel, Channel]:
            one, two, transcript = recorded_pair(a, b)
            seen.append(transcript)
            return one, two

        train([case.own, case.other], label, case.validation, case.params, private=True, pair=pair)
        frames = [frame for frame in seen[0] if frame.sender == "label"]
        hidden = [frame for frame in frames if frame.kind.split(".")[0] == "protocols"]
        hidden.sort(key=lambda frame: frame.stream)  # transfers run beside the vectors: who is first is the machine's
        return [f for f in frames if f not in hidden], [(f.stream, f.kind, f.header, len(f.payload)) for f in hidden]

    label = CASES[0].label
    assert view(label) == view(1 - label)


def test_two_feature_holders_give_the_trees_of_the_plain_doubles() -> None:
    case, third = CASES[2], make_case(90, (1, 2), 10).other
    third = Columns(tuple(replace(c, name=f"c{i}") for i, c in enumerate(third)), 90)
    tables = [case.own, case.other, third]
    runs = [train(tables, case.label, case.validation, case.params, private=private) for private in (False, True)]
    shapes = [[[(n.left, n.rule, n.site, n.rows) for n in t] for t in r.label.trees] for r in runs]
    assert shapes[0] == shapes[1]
    gains = [[n.gain for t in r.label.trees for n in t] for r in runs]
    assert gains[0] == pytest.approx(gains[1], abs=1e-2)
    assert {n.site for t in runs[0].label.trees for n in t} == {"", "site1", "site2"}
    scores = [predict(run, tables, private=private) for run, private in zip(runs, (False, True), strict=True)]
    assert np.allclose(*scores, rtol=1e-9)


def test_ids_of_splits_never_repeat() -> None:
    def ids(seed: int) -> list[str]:
        case = CASES[2]
        trained = train([case.own, case.other], case.label, case.validation, case.params, seed=seed)
        return [split.id for tree in trained.features[0].splits for level in tree for split in level]

    one, two = ids(1), ids(2)
    assert one
    assert len(set(one + two)) == len(one) + len(two)
    assert all(len(bytes.fromhex(each)) == 16 for each in one)


def test_what_leaves_while_scoring_has_one_shape_for_all_rows() -> None:
    scoring, shapes = make_scoring(CASES[2]), []
    for seed in (1, 2):
        seen: list = []

        def pair(a: str, b: str, seen: list = seen) -> tuple[Channel, Channel]:
            one, two, transcript = recorded_pair(a, b)
            seen.append(transcript)
            return one, two

        case = make_case(90, (2, 2), 2 * seed + 1)
        predict(scoring.trained, [case.own, case.other], private=True, pair=pair)
        shapes.append([(f.sender, f.stream, f.header, len(f.payload)) for f in seen[0]])
    assert shapes[0] == shapes[1]


@pytest.mark.parametrize(
    ("bins", "categorical", "missing"),
    [([1], [0], [0]), ([1, 1], [0, 0], [0, 0]), ([3], [1], [0]), ([4, 1, 3, 2], [0, 0, 1, 0], [0, 1, 1, 0])],
)
def test_sums_of_implied_bins_follow_from_the_others(bins: list, categorical: list, missing: list) -> None:
    layout = Layout(np.array(bins), np.array(categorical, np.bool_), np.array(missing, np.bool_))
    n, sizes = 50, (layout.bins + layout.missing).tolist()
    rng = np.random.default_rng(1)
    codes = np.stack([rng.integers(0, m, n) for m in sizes]).astype(np.uint8)
    vectors = rng.integers(-9, 9, (3, n)).astype(np.float64)
    whole, less = Indicator(codes, sizes), Indicator(codes, sizes, without=implied(layout))
    numeric = int((~layout.categorical).sum())
    assert 1 <= less.k == max(whole.k - numeric, 1)
    want = reference.product(whole, vectors)
    assert np.array_equal(completed(reference.product(less, vectors), vectors.sum(axis=1), layout), want)


def test_a_site_of_constant_columns_is_asked_and_gives_nothing() -> None:
    case = CASES[0]
    constant = Columns((Column("b0", "numeric", np.ones(60)), Column("b1", "numeric", np.zeros(60))), 60)
    trained = train([case.own, constant], case.label, case.validation, case.params, private=True)
    assert trained.history.vectors
    assert not any(node.site for tree in trained.label.trees for node in tree)


@pytest.mark.slow
def test_noise_of_the_product_changes_auc_by_less_than_a_thousandth() -> None:
    own, other, label, trains = task(20_000)
    rows, tests = np.flatnonzero(trains), np.flatnonzero(~trains)
    areas = []
    for private in (False, True):
        tables = [own.take(rows), other.take(rows)]
        validation = np.zeros(rows.size, np.bool_)
        trained = train(tables, label[rows], validation, TreeParams(), private=private, reveals_rows=False)
        assert trained.history.vectors <= rows.size // 100
        scores = predict(trained, [own.take(tests), other.take(tests)], private=private)
        areas.append(auc(scores, label[tests]))
    assert abs(areas[0] - areas[1]) < 0.001


def test_parts_are_of_their_own_kinds() -> None:
    trained = make_scoring(CASES[0]).trained
    assert isinstance(trained.label, LabelPart)
    assert isinstance(trained.features[0], FeaturePart)
