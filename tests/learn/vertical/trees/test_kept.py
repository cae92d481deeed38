"""A training that is cut off goes on at a tree's border, and no vector goes uncounted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from atoll.core.errors import ContractError, InputError, ProtocolError
from atoll.learn.vertical.trees.kept import Keeper, KeptForest, KeptSplits
from atoll.learn.vertical.trees.params import TreeParams
from atoll.learn.vertical.trees.protocol import Features, Opening, feature_holder, label_holder
from atoll.privacy.leakage import LeakageMeter
from atoll.testing import seeded_rng
from atoll.transport.memory import memory_pair

from . import doubles
from .runs import Trained, pairs, predict, together
from .task import task

RUN = bytes(range(16))
LABEL, *SITES = "label", "site1", "site2"


class Cut(Exception):
    """The process was killed here."""


@dataclass
class Kept:
    """What each site has on its disk, and the keepers of one try."""

    files: dict[str, bytes]
    seconds: float = 0.0

    def keeper(self, site: str, run: bytes = RUN) -> Keeper:
        def clock() -> float:
            self.seconds += 1.0
            return self.seconds

        def write(data: bytes) -> None:
            self.files[site] = data

        return Keeper(run, lambda: self.files.get(site), write, clock)


def attempt(
    kept: Kept | None, params: TreeParams, *, rows: int = 400, sites: int = 2, cut: tuple[str, int] = ("", 0),
    seed: int = 0, run: bytes = RUN, reveals_rows: bool = True, meter: LeakageMeter | None = None,
) -> Trained:  # fmt: skip
    """One try; a site is cut off when it has told of its `cut`-th tree."""
    own, other, label, trains = task(rows, features=6)
    tables = [own, *[other.take(np.arange(rows))] * sites]
    at_label, at_sites = pairs(sites)

    def options(site: str, number: int) -> dict[str, Any]:
        def progress(what: str, done: int, total: int) -> None:
            if (site, done) == cut:
                raise Cut

        found = {"rng": seeded_rng(seed + number), "progress": progress, "reveals_rows": reveals_rows}
        return found | ({} if kept is None else {"keeper": kept.keeper(site, run)})

    (part, history), *features = together(
        label_holder(
            at_label, tables[0], label, ~trains, params, connect=doubles.asking, meter=meter, **options(LABEL, 0)
        ),
        *(
            feature_holder(peer, table, params, connect=doubles.answering, **options(f"site{i}", i))
            for i, (peer, table) in enumerate(zip(at_sites, tables[1:], strict=True), 1)
        ),
    )
    return Trained(part, history, tuple(features))


@pytest.mark.parametrize("cut", [(LABEL, 1), (LABEL, 4), (LABEL, 6), ("site1", 1), ("site2", 5)])
@pytest.mark.parametrize("stopping", [None, 3])
def test_a_training_that_was_cut_off_ends_with_the_same_trees(cut: tuple[str, int], stopping: int | None) -> None:
    params = TreeParams(n_estimators=6, max_depth=3, min_node=20, min_bin=2, early_stopping_rounds=stopping)
    kept, whole = Kept({}), attempt(None, params)
    with pytest.raises(Cut):
        attempt(kept, params, cut=cut)
    again = attempt(kept, params, seed=50)
    own, other, *_ = task(400, features=6)
    assert np.allclose(predict(again, [own, other, other]), predict(whole, [own, other, other]), rtol=1e-9)
    assert again.history.train_log_loss == pytest.approx(whole.history.train_log_loss)
    assert again.history.valid_auc == pytest.approx(whole.history.valid_auc)
    assert again.history.scores == pytest.approx(whole.history.scores)
    assert (again.label.used, again.history.best) == (whole.label.used, whole.history.best)
    assert sum(i.splits for i in again.history.importance) == sum(i.splits for i in whole.history.importance)
    assert again.history.vectors >= whole.history.vectors
    assert again.label.model == RUN.hex() == again.features[0].model


def test_what_was_kept_is_really_used() -> None:
    params = TreeParams(n_estimators=6, max_depth=2, min_node=20, min_bin=2)
    kept = Kept({})
    with pytest.raises(Cut):
        attempt(kept, params, cut=(LABEL, 5))
    before = Keeper(RUN, lambda: kept.files[LABEL], lambda data: None).forest()
    assert before is not None
    assert 1 <= len(before.trees) <= 5
    again = attempt(kept, params, seed=9)
    grown = [tree for tree, old in zip(again.label.trees, before.trees, strict=False) if tree == old]
    assert len(grown) == len(before.trees)


def test_sites_that_kept_less_than_the_label_holder_begin_anew() -> None:
    params = TreeParams(n_estimators=4, max_depth=2, min_node=20, min_bin=2)
    kept = Kept({})
    with pytest.raises(Cut):
        attempt(kept, params, cut=(LABEL, 4))
    splits, spent = kept.keeper("site2").splits()
    assert splits is not None
    Kept(kept.files).keeper("site2").keep(KeptSplits(RUN, splits.order, splits.trees[:1], spent))
    again = attempt(kept, params, seed=9)
    assert len(again.label.trees) == len(again.features[0].splits) == len(again.features[1].splits) == 4
    assert again.history.vectors > spent


def test_another_run_takes_nothing_up_but_counts_on() -> None:
    params = TreeParams(n_estimators=3, max_depth=2, min_node=20, min_bin=2)
    kept, plain = Kept({}), attempt(None, params)
    with pytest.raises(Cut):
        attempt(kept, params, cut=(LABEL, 2))
    spent = kept.keeper("site1").splits()[1]
    again = attempt(kept, params, run=bytes(15) + b"\1")
    assert spent >= 8
    assert again.history.vectors == plain.history.vectors + spent


@pytest.mark.parametrize(("spent", "trees"), [(0, 3), (28, 3), (29, 2), (32, 2), (36, 1)])
def test_vectors_of_tries_that_were_cut_off_count_towards_the_limit(spent: int, trees: int) -> None:
    params = TreeParams(n_estimators=3, max_depth=2, min_node=20, min_bin=2)
    kept = Kept({})
    kept.keeper("site1").keep(KeptSplits(bytes(16), list(range(6)), (), spent))
    part = attempt(kept, params, rows=4000, sites=1, reveals_rows=False).label
    assert len(part.trees) == trees  # 40 vectors are allowed, a tree may take 4


def test_no_tree_at_all_is_an_error_that_says_why() -> None:
    params = TreeParams(n_estimators=3, max_depth=2, min_node=20, min_bin=2)
    kept = Kept({})
    kept.keeper("site1").keep(KeptSplits(bytes(16), list(range(6)), (), 37))
    with pytest.raises(ContractError, match="37 vectors"):
        attempt(kept, params, rows=4000, sites=1, reveals_rows=False)


def test_the_meter_goes_on_with_its_notes() -> None:
    params = TreeParams(n_estimators=4, max_depth=2, min_node=20, min_bin=2)
    kept, readings = Kept({}), []
    for cut in (("", 0), (LABEL, 3)):
        meter = LeakageMeter(400, 7)
        try:
            attempt(kept if cut[1] else None, params, cut=cut, meter=meter)
        except Cut:
            meter = LeakageMeter(400, 7)
            attempt(kept, params, meter=meter)
        readings.append(meter.estimate(np.full(8, 1 / 8)))
    assert readings[0] == readings[1]


@pytest.mark.parametrize("data", [b"", b"\x80", b"junk", b"\x81\xa5model"])
def test_a_damaged_file_is_an_error_with_a_cure(data: bytes) -> None:
    for read in (Keeper(RUN, lambda: data, lambda _: None).forest, Keeper(RUN, lambda: data, lambda _: None).splits):
        with pytest.raises(InputError, match="damaged"):
            read()


def test_a_forest_of_other_rows_is_damaged() -> None:
    kept = Kept({})
    kept.keeper(LABEL).keep(KeptForest(RUN, [], [], [], [], [], (), bytes(8), []))
    with pytest.raises(InputError, match="damaged"):
        attempt(kept, TreeParams(n_estimators=1, min_node=20, min_bin=2))


@pytest.mark.parametrize("lie", [{"trees": -1}, {"trees": 99}, {"spent": -1}, {"spent": 1 << 62}])
def test_a_site_that_lies_about_what_it_kept(lie: dict[str, int]) -> None:
    own, _, label, trains = task(60, features=6)
    a, b = memory_pair("label", "site1")

    async def liar() -> None:
        await b.recv(Opening, model=(16,))
        await b.send(Features(60, np.array([3], np.uint32), np.zeros(1, np.uint8), **lie))

    with pytest.raises(ProtocolError, match="cannot be"):
        together(
            label_holder({"site1": a}, own, label, ~trains, TreeParams(), rng=seeded_rng(0), reveals_rows=True), liar()
        )


def test_a_label_holder_that_names_another_model() -> None:
    _, other, _, _ = task(60, features=6)
    a, b = memory_pair("label", "site1")

    async def liar() -> None:
        await a.send(Opening(np.zeros(16, np.uint8), 60))

    with pytest.raises(ProtocolError, match="another model"):
        together(
            liar(),
            feature_holder(
                b, other, TreeParams(), rng=seeded_rng(0), reveals_rows=True, keeper=Kept({}).keeper("site1")
            ),
        )
