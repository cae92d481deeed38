"""Whole jobs and estimators in one process."""

from __future__ import annotations

import asyncio
from pathlib import Path

import msgspec
import numpy as np
import pytest

from atoll import VerticalBoostedTreesClassifier, simulate
from atoll.core.errors import ContractError, InputError
from atoll.data.frames import column_of, table_of
from atoll.learn.vertical.trees.params import TreeParams
from tests.node.sites import document

RNG = np.random.default_rng(3)
N = 300
A, B = RNG.normal(size=N), RNG.normal(size=N)
Y = (A + 3 * B + RNG.normal(size=N) > 0).astype(int)
FRAMES = {
    "bank": {"id": np.arange(N), "a": A, "left": Y},
    "shop": {"id": [str(i) for i in range(20, N)], "b": B[20:], "kind": ["x" if b > 0 else None for b in B[20:]]},
}
SMALL = {"n_estimators": 2, "max_depth": 2, "max_bin": 4, "min_node": 20}


class Frame:
    """Looks like a data frame and is none."""

    def __init__(self, columns: dict[str, object]) -> None:
        self.values, self.columns = columns, list(columns)

    def __getitem__(self, name: str) -> object:
        return self.values[name]


def test_a_whole_job_with_reports(tmp_path: Path) -> None:
    job = document()
    job["sites"]["bank"]["columns"] = ["a"]
    run = simulate(FRAMES, job, out=tmp_path)
    assert run.report.alignment.final == N - 20
    alone, partnership = run.report.performances
    assert partnership.auc > alone.auc
    assert run.report_of("shop").thresholds
    assert run.path("shop").read_text().startswith("<!")
    assert "KS" in str(run)


def test_the_default_job_keeps_to_the_limit_on_vectors() -> None:
    with pytest.raises(ContractError, match="rows are too few"):
        simulate(FRAMES, label="left", trees=SMALL)
    with pytest.raises(InputError, match="at 0 sites"):
        simulate(FRAMES, label="lost")
    with pytest.raises(InputError, match=r"the job names bank, shop, the frames bank, else"):
        simulate({"bank": FRAMES["bank"], "else": FRAMES["shop"]}, document())


def test_the_site_with_the_error_is_named() -> None:
    with pytest.raises(InputError, match="one class only") as caught:
        simulate({**FRAMES, "bank": {**FRAMES["bank"], "left": np.zeros(N)}}, document())
    assert caught.value.site == "bank"


def test_an_estimator_with_the_manners_of_scikit_learn() -> None:
    from sklearn.base import clone

    X = {"bank": {"a": A}, "shop": Frame({"b": B})}
    model = clone(VerticalBoostedTreesClassifier(**SMALL, reveals_rows=True))
    with pytest.raises(InputError, match="not been trained"):
        model.predict(X)
    assert model.fit(X, Y) is model
    proba = model.predict_proba(X)
    assert proba.shape == (N, 2)
    assert np.allclose(proba.sum(1), 1.0)
    assert model.score(X, Y) > 0.65
    assert model.get_params()["max_depth"] == 2
    assert model.set_params(max_depth=1).max_depth == 1
    with pytest.raises(InputError, match="no parameter"):
        model.set_params(depth=1)
    with pytest.raises(InputError, match="equally many rows"):
        model.predict({"bank": {"a": A}, "shop": {"b": B[1:]}})


def test_inside_a_running_event_loop() -> None:
    async def cell() -> object:
        model = VerticalBoostedTreesClassifier(**SMALL, reveals_rows=True)
        return model.fit({"bank": {"a": A}, "shop": {"b": B}}, Y).predict({"bank": {"a": A}, "shop": {"b": B}})

    assert len(asyncio.run(cell())) == N  # type: ignore[arg-type]


def test_frames_of_any_kind() -> None:
    days = np.array(["1970-01-02", "NaT"], "datetime64[D]")
    table = table_of(Frame({"id": [1, 2], "d": days, "n": [1, None], "s": ["u", None]}), ["id"])
    assert table.ids[0].tolist() == ["1", "2"]
    for name, first in (("d", 1.0), ("n", 1.0)):
        assert table.columns[name].values[0] == first
        assert np.isnan(table.columns[name].values[1])
    assert table.columns["s"].values.tolist() == [0, -1]
    assert column_of("b", np.array([True, False])).kind == "numeric"
    assert column_of("c", [1, 2], "categorical").categories == ("1", "2")
    for bad, words in (({"a": [1.0, np.inf]}, "infinite"), ({"a": []}, "no rows"), (3, "not a table")):
        with pytest.raises(InputError, match=words):
            table_of(bad)
    with pytest.raises(InputError, match="floating"):
        table_of({"id": [1.5]}, ["id"])
    with pytest.raises(InputError, match="no column"):
        table_of({"a": [1]}, ["id"])


def test_frames_of_polars() -> None:
    import polars

    frame = polars.DataFrame({"id": [1, 2], "n": [1.5, None], "s": ["u", None]})
    table = table_of(frame, ["id"])
    assert table.ids[0].tolist() == ["1", "2"]
    assert np.isnan(table.columns["n"].values[1])
    assert table.columns["s"].values.tolist() == [0, -1]


def test_the_estimator_has_the_parameters_of_a_job_with_the_same_defaults() -> None:
    ours, theirs = VerticalBoostedTreesClassifier().get_params(), msgspec.structs.asdict(TreeParams())
    assert {name: ours[name] for name in theirs} == theirs
    assert ours.keys() - theirs.keys() == {"label_site", "reveals_rows"}


def test_weak_protocols_need_an_argument() -> None:
    job = document()
    job["sites"]["bank"]["columns"] = ["a"]
    job["steps"][0]["protocol"] = "salted-hash"
    with pytest.raises(ContractError, match="salted-hash-intersection, which is weak") as caught:
        simulate(FRAMES, job)
    assert "allow=('salted-hash-intersection',)" in caught.value.cure
    with pytest.raises(InputError, match="no protocol"):
        simulate(FRAMES, job, allow="salted-hash")
    assert simulate(FRAMES, job, allow=("salted-hash-intersection",)).report.alignment.final == N - 20
