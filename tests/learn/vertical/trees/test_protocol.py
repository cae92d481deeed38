"""The private protocol against the plain reference, and what each site gets to see."""

from itertools import pairwise

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from atoll.core.errors import AtollError, ContractError, InputError, ProtocolError
from atoll.data.columns import Column, Columns
from atoll.learn.vertical.trees.binning import bin_table
from atoll.learn.vertical.trees.model import FeaturePart, LabelPart, to_json
from atoll.learn.vertical.trees.objective import auc, base_margin, probability
from atoll.learn.vertical.trees.params import TreeParams
from atoll.learn.vertical.trees.protocol import Features, Opening, Round, Splits, feature_holder, label_holder
from atoll.learn.vertical.trees.reference import grow_forest
from atoll.testing import recorded_pair, seeded_rng
from atoll.transport.memory import memory_pair

from . import doubles
from .drawn import make_table
from .runs import Trained, predict, together, train
from .task import task


def drawn_label(rows: int, seed: int, share: float = 0.2) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    label, validation = rng.integers(0, 2, rows).astype(np.uint8), rng.random(rows) < share
    label[:2], label[-2:], validation[:2], validation[-2:] = (0, 1), (0, 1), False, share > 0
    return label, validation


def plain_scores(
    tables: list[Columns], label: np.ndarray, validation: np.ndarray, params: TreeParams, trained: Trained, seed: int
):
    """The reference on the bins in the order in which the sites shuffled their features."""
    orders = [seeded_rng(seed + i).permutation(len(t)).tolist() for i, t in enumerate(tables[1:], 1)]
    bins = [bin_table(tables[0], params.max_bin, params.min_bin)]
    bins += [bin_table(t, params.max_bin, params.min_bin, o) for t, o in zip(tables[1:], orders, strict=True)]
    rng = seeded_rng(seed)
    rng.u8(16)
    _ = [(rng.spawn(), rng.spawn()) for _ in tables[1:]]
    trees = grow_forest(bins, label, ~validation, params, rng.spawn())
    margin = base_margin(label[~validation], params) + sum(tree.added for tree in trees)
    return bins, trees, probability(margin)


@settings(max_examples=25)
@given(
    seed=st.integers(0, 10_000),
    rows=st.integers(8, 150),
    features=st.lists(st.integers(1, 3), min_size=1, max_size=2),
    own=st.integers(0, 3),
    depth=st.integers(1, 4),
    min_node=st.integers(1, 25),
    share=st.sampled_from([1.0, 0.6]),
    pad=st.booleans(),
)
def test_trees_equal_the_plain_reference_split_by_split(
    seed: int, rows: int, features: list[int], own: int, depth: int, min_node: int, share: float, pad: bool
) -> None:
    params = TreeParams(
        n_estimators=2,
        max_depth=depth,
        max_bin=8,
        min_bin=2,
        min_node=min_node,
        subsample=share,
        colsample_bytree=share,
        min_child_weight=0.5,
        pad_shape=pad,
    )
    tables = [make_table(f"s{i}_", rows, f, seed + i) for i, f in enumerate([own, *features])]
    label, validation = drawn_label(rows, seed)
    trained = train(tables, label, validation, params, seed=seed)
    bins, trees, scores = plain_scores(tables, label, validation, params, trained, seed)
    for nodes, want, number in zip(trained.label.trees, trees, range(2), strict=True):
        rules = {s.id: s.rule for part in trained.features for level in part.splits[number] for s in level}
        got = [(n, node.gain, node.rule or rules[node.split]) for n, node in enumerate(nodes) if node.left >= 0]
        expected = [(c.node, bins[c.site].columns[c.feature].rule(c.bin, c.default_left)) for c in want.splits]
        assert [(n, rule) for n, _, rule in got] == expected
        assert [gain for _, gain, _ in got] == pytest.approx([c.gain for c in want.splits], rel=1e-9)
    assert np.allclose(predict(trained, tables), scores, rtol=1e-9)


@pytest.mark.parametrize("patience", [None, 2])
def test_the_history_holds_the_scores_of_the_training_rows(patience: int | None) -> None:
    own, other, label, trains = task(500, features=6)
    params = TreeParams(n_estimators=8, max_depth=3, min_node=10, min_bin=2, early_stopping_rounds=patience)
    trained = train([own, other], label, ~trains, params)
    scores = predict(trained, [own, other])[trains]
    assert trained.history.scores == pytest.approx(np.quantile(scores, np.linspace(0, 1, 201)))


def test_parts_survive_json_and_hold_only_their_own_side() -> None:
    tables = [make_table("own", 200, 2, 1), make_table("other", 200, 3, 2)]
    label, validation = drawn_label(200, 0)
    trained = train(tables, label, validation, TreeParams(n_estimators=3, min_node=1, min_bin=2))
    mine, theirs = to_json(trained.label), to_json(trained.features[0])
    assert msgspec.json.decode(mine, type=LabelPart) == trained.label
    assert msgspec.json.decode(theirs, type=FeaturePart) == trained.features[0]
    assert b"other" not in mine
    assert b"weight" not in theirs
    assert b"own" not in theirs


def vectors_of(
    own: Columns, other: Columns, label: np.ndarray, held: np.ndarray, params: TreeParams
) -> list[np.ndarray]:
    """All vectors that the feature holder is sent in the hidden, level by level."""
    seen: list[np.ndarray] = []

    async def asking(peer, layout, rows, *, params, reveals_rows, rng, spent):
        end = await doubles.asking(peer, layout, rows, params=params, reveals_rows=reveals_rows, rng=rng)
        plain = end.sums

        async def sums(vectors):
            seen.append(vectors.copy())
            return await plain(vectors)

        end.sums = sums
        return end

    a, b = memory_pair("label", "site1")
    together(
        label_holder({"site1": a}, own, label, held, params, rng=seeded_rng(0), reveals_rows=True, connect=asking),
        feature_holder(b, other, params, rng=seeded_rng(1), reveals_rows=True, connect=doubles.answering),
    )
    return seen


def test_rows_outside_the_node_and_validation_rows_are_zero_in_every_vector() -> None:
    own, other, label, trains = task(400, features=6)
    params = TreeParams(n_estimators=1, max_depth=3, min_node=10, min_bin=2, subsample=0.7)
    seen = vectors_of(own, other, label, ~trains, params)
    assert all(vectors.shape[1] == 400 for vectors in seen)
    assert all((vectors[:, ~trains] == 0).all() for vectors in seen)
    assert 150 < np.count_nonzero(seen[0][1]) < 300
    for vectors in seen:
        rows = [set(np.flatnonzero(h).tolist()) for h in vectors[1::2]]
        assert all(not one & two for one, two in pairwise(rows))
        assert all(np.array_equal(g != 0, h != 0) for g, h in zip(vectors[::2], vectors[1::2], strict=True))


def test_no_sums_of_few_rows_follow_from_those_that_are_opened() -> None:
    params, opened = TreeParams(n_estimators=1, max_depth=6, min_node=40, min_bin=2, min_child_weight=0.1), 0
    for seed in range(6):
        own, other = make_table("own", 400, 3, seed), make_table("other", 400, 3, seed + 50)
        vectors = vectors_of(own, other, *drawn_label(400, seed), params)
        groups = [frozenset(np.flatnonzero(h).tolist()) for v in vectors for h in v[1::2]]
        opened += len(groups)
        for group in groups:
            rest = group.difference(*(other for other in groups if other < group))
            assert not rest or len(rest) >= 40
    assert opened > 12


def record(label: np.ndarray, *, pad: bool, own_seed: int = 1, gamma: float = 0.0) -> list:
    tables = [make_table("own", 300, 2, own_seed), make_table("other", 300, 3, 2)]
    transcripts = []

    def pair(a: str, b: str):
        one, two, transcript = recorded_pair(a, b)
        transcripts.append(transcript)
        return one, two

    params = TreeParams(n_estimators=2, max_depth=3, min_node=5, min_bin=2, pad_shape=pad, gamma=gamma)
    train(tables, label, np.zeros(300, np.bool_), params, pair=pair)
    return [(f.sender, f.kind.rsplit(".")[-1], f.header, len(f.payload)) for f in transcripts[0]]


def test_with_padding_the_transcript_has_one_shape_for_all_trees() -> None:
    one, two = drawn_label(300, 1, 0)[0], drawn_label(300, 2, 0)[0]
    assert record(one, pad=True) == record(two, pad=True, own_seed=5) == record(one, pad=True, gamma=50.0)
    assert record(one, pad=False) != record(one, pad=False, gamma=50.0)


def test_a_feature_holder_sees_ids_at_random_and_every_level_of_every_tree() -> None:
    frames = record(drawn_label(300, 1, 0)[0], pad=False)
    assert sum(kind == "Round" for _, kind, *_ in frames) == 2 * 3 + 1
    assert sum(kind == "Splits" for _, kind, *_ in frames) == 2 * 3


def test_early_stopping_keeps_the_best_tree() -> None:
    own, other, label, trains = task(1_000, features=6)
    params = TreeParams(n_estimators=40, learning_rate=1.0, early_stopping_rounds=3, min_node=1, min_bin=5)
    trained = train([own, other], label, ~trains, params)
    loss = trained.history.valid_log_loss
    assert trained.history.best == trained.label.used == int(np.argmin(loss)) + 1
    assert len(loss) == len(trained.features[0].splits) == trained.label.used + 3 < 40
    scores = predict(trained, [own, other])
    best = trained.history.valid_auc[trained.label.used - 1]
    assert auc(scores[~trains], label[~trains]) == pytest.approx(best)


def test_history_counts_vectors_and_gains() -> None:
    own, other, label, trains = task(1_000, features=6)
    trained = train([own, other], label, ~trains, TreeParams(n_estimators=3, max_depth=3, min_node=1, min_bin=5))
    history = trained.history
    assert history.rows == 1_000
    assert 0 < history.vectors <= 3 * 8
    assert list(history.train_log_loss) == sorted(history.train_log_loss, reverse=True)
    assert sum(i.splits for i in history.importance) == sum(n.left >= 0 for t in trained.label.trees for n in t)
    assert {i.name for i in history.importance if not i.site} <= {f"a{i}" for i in range(6)}
    assert {i.name for i in history.importance if i.site == "site1"} <= {""}


def test_a_label_holder_alone_grows_trees_of_its_own() -> None:
    own, _, label, trains = task(1_000, features=6)
    trained = train([own], label, ~trains, TreeParams(min_bin=5))
    assert trained.history.vectors == 0
    assert auc(predict(trained, [own])[~trains], label[~trains]) > 0.6


@pytest.mark.parametrize(
    ("label", "validation", "message"),
    [
        (np.zeros(50), np.zeros(50, bool), "one class only among the training"),
        (np.array([0.0, 1.0] * 25), np.arange(50) == 3, "one class only among the validation"),
        (np.array([0.0, np.nan] * 25), np.zeros(50, bool), "missing or infinite"),
        (np.array([0.0, np.inf] * 25), np.zeros(50, bool), "missing or infinite"),
        (np.array([1.0, 2.0] * 25), np.zeros(50, bool), "other than 0 and 1"),
        (np.array(["yes", "no"] * 25), np.zeros(50, bool), "not made of numbers"),
        (np.array([0.0, 1.0]), np.zeros(50, bool), "label has 2 rows"),
        (np.array([0.0, 1.0] * 25), np.ones(50, bool), "no training rows"),
    ],
)
def test_an_unusable_label_is_refused_before_anything_is_sent(
    label: np.ndarray, validation: np.ndarray, message: str
) -> None:
    a, _, transcript = recorded_pair()
    table = make_table("own", 50, 2, 0)
    with pytest.raises(InputError, match=message):
        together(label_holder({"b": a}, table, label, validation, TreeParams(), rng=seeded_rng(0), reveals_rows=True))
    assert not transcript


def test_no_rows_early_stopping_without_validation_and_no_columns_are_refused() -> None:
    a, b, transcript = recorded_pair()
    empty, none = make_table("own", 0, 1, 0), np.zeros(0, bool)
    with pytest.raises(InputError, match="no rows"):
        together(label_holder({"b": a}, empty, np.zeros(0), none, TreeParams(), rng=seeded_rng(0)))
    table, label, params = make_table("own", 50, 2, 0), np.array([0, 1] * 25), TreeParams(early_stopping_rounds=2)
    with pytest.raises(InputError, match="early stopping needs validation rows"):
        together(label_holder({"b": a}, table, label, np.zeros(50, bool), params, rng=seeded_rng(0)))
    with pytest.raises(InputError, match="no columns"):
        together(feature_holder(b, Columns((), 50), TreeParams(), rng=seeded_rng(0)))
    assert not transcript


def test_too_many_vectors_are_refused_at_both_sites_before_anything_is_sent() -> None:
    a, b, transcript = recorded_pair()
    table, label = make_table("own", 15_999, 1, 0), np.arange(15_999) % 2
    none, params = np.zeros(15_999, bool), TreeParams()
    with pytest.raises(ContractError, match=r"160 vectors.*15,999 rows allow 159.*reveals: rows of M"):
        together(label_holder({"b": a}, table, label, none, params, rng=seeded_rng(0)))
    with pytest.raises(ContractError, match="160 vectors"):
        together(feature_holder(b, table, params, rng=seeded_rng(0)))
    with pytest.raises(ContractError, match="too few"):
        together(feature_holder(b, make_table("own", 999, 1, 0), TreeParams(n_estimators=1), rng=seeded_rng(0)))
    assert not transcript


def test_sites_with_different_row_counts_both_say_so() -> None:
    a, b = memory_pair("label", "site1")
    tables = [make_table("own", 60, 2, 0), make_table("other", 61, 2, 1)]
    label, validation = drawn_label(60, 0)
    args = {"rng": seeded_rng(0), "reveals_rows": True}
    roles = [
        label_holder({"site1": a}, tables[0], label, validation, TreeParams(), connect=doubles.asking, **args),
        feature_holder(b, tables[1], TreeParams(), connect=doubles.answering, **args),
    ]
    from atoll.testing import end_pair

    ends = end_pair(*roles)
    assert all(isinstance(end, InputError) and "60" in str(end) and "61" in str(end) for end in ends)


async def cheat(peer, rows: int, messages: list) -> None:
    await peer.send(Opening(np.zeros(16, np.uint8), rows))
    for message in messages:
        await peer.send(message)


def split(feature: int, bin_: int, side: int) -> Splits:
    return Splits(np.zeros((1, 16), np.uint8), np.array([[feature, bin_, side]], np.uint32))


@pytest.mark.parametrize(
    "messages",
    [
        [Round(1, 0, 0, False)],
        [Round(0, 1, 0, False)],
        [Round(0, 0, 2, False)],
        [Round(0, 0, -1, False)],
        [Round(0, 0, 1, True)],
        [Round(0, 0, 0, False), split(2, 0, 0)],
        [Round(0, 0, 0, False), split(0, 99, 0)],
        [Round(0, 0, 0, False), split(0, 0, 2)],
        [Round(0, 0, 0, False), Splits(np.zeros((1, 16), np.uint8), np.zeros((0, 3), np.uint32))],
    ],
    ids=lambda messages: repr(messages[-1])[:40],
)
def test_a_feature_holder_refuses_what_no_honest_label_holder_sends(messages: list) -> None:
    a, b = memory_pair("label", "site1", timeout=0.5)
    table = make_table("other", 60, 2, 1)
    with pytest.raises(ProtocolError):
        together(
            cheat(a, 60, messages),
            feature_holder(b, table, TreeParams(), rng=seeded_rng(0), reveals_rows=True, connect=doubles.answering),
        )


@pytest.mark.parametrize(("bins", "kinds"), [([], []), ([4, 4], [0]), ([0], [0]), ([33], [0]), ([4], [4])])
def test_a_label_holder_refuses_features_that_cannot_be(bins: list[int], kinds: list[int]) -> None:
    a, b = memory_pair("label", "site1", timeout=0.5)
    label, held = drawn_label(60, 0)

    async def lie() -> None:
        await b.recv(Opening, model=(16,))
        await b.send(Features(60, np.array(bins, np.uint32), np.array(kinds, np.uint8)))

    with pytest.raises(ProtocolError, match="site1 describes"):
        together(
            lie(),
            label_holder(
                {"site1": a},
                make_table("own", 60, 1, 0),
                label,
                held,
                TreeParams(),
                rng=seeded_rng(0),
                reveals_rows=True,
            ),
        )


def test_prediction_refuses_foreign_models_rows_columns_and_categories() -> None:
    tables = [make_table("own", 200, 2, 1), make_table("other", 200, 3, 2)]
    label, validation = drawn_label(200, 0)
    params = TreeParams(n_estimators=2, min_node=1, min_bin=2)
    one, two = (train(tables, label, validation, params, seed=s) for s in (1, 2))

    def fails(trained: Trained, own: Columns, other: Columns, message: str) -> None:
        with pytest.raises(AtollError, match=message):
            predict(trained, [own, other])

    mixed = Trained(one.label, one.history, two.features)
    fails(mixed, *tables, "different models")
    fails(one, tables[0], tables[1].take(np.arange(199)), "199")
    fails(one, tables[0], Columns((), 200), "does not have it")


def test_a_category_that_is_new_at_prediction_is_an_error_with_a_cure() -> None:
    codes = np.array([0, 1] * 100, np.int32)
    label = np.array([0, 1] * 90 + [1, 0] * 10, np.uint8)
    own, other = make_table("own", 200, 1, 3), Columns((Column("c", "categorical", codes, ("a", "b")),), 200)
    params = TreeParams(n_estimators=1, min_node=1, min_bin=2)
    trained = train([own, other], label, np.zeros(200, bool), params)
    other = Columns((Column("c", "categorical", codes, ("b", "new")),), 200)
    with pytest.raises(InputError, match=r"'c'.*Make them missing"):
        predict(trained, [own, other])


def test_scores_are_the_same_when_rows_come_in_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    tables = [make_table("own", 200, 2, 1), make_table("other", 200, 3, 2)]
    label, validation = drawn_label(200, 0)
    trained = train(tables, label, validation, TreeParams(n_estimators=3, min_node=1, min_bin=2))
    whole = predict(trained, tables)
    monkeypatch.setattr("atoll.learn.vertical.trees.predict.CHUNK", 3 * 7)
    assert np.array_equal(predict(trained, tables), whole)
