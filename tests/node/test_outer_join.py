"""Models over rows that partners lack, and over rows that repeat an id: as if grown on the plain outer join."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from atoll import simulate
from atoll.core.errors import InputError
from atoll.data.frames import table_of
from atoll.learn.vertical.trees.binning import bin_table
from atoll.learn.vertical.trees.objective import base_margin, probability
from atoll.learn.vertical.trees.params import TreeParams
from atoll.learn.vertical.trees.reference import grow_forest
from atoll.node.steps.split import TEST, Split, draw
from atoll.node.steps.train import TRAINING, Training
from atoll.testing import seeded_rng
from tests.node.sites import Sites, document

TREES = {"n_estimators": 3, "max_depth": 3, "min_node": 10}
BINS = {"max_bin": 6, "min_bin": 5}


def tables(seed: int, n: int = 260) -> dict[str, pl.DataFrame]:
    """Loans of customers, who may have several, and what a shop knows of two thirds of them, and of others."""
    draw = np.random.default_rng(seed)
    loans = np.concatenate((draw.permutation(n), draw.integers(0, n, n // 4)))
    known = np.flatnonzero(draw.random(n) < 0.65)
    visits = draw.normal(size=n)
    age = draw.normal(size=loans.size).round(2)
    odds = np.where(np.isin(loans, known), 2.5 * visits[loans], -1.0) + 1.2 * age
    left = (draw.random(loans.size) < 1 / (1 + np.exp(-odds))).astype(int)
    shop = np.concatenate((known, np.arange(n, n + 30)))
    mail = np.where(draw.random(shop.size) < 0.5, "", [f"{at}@x.cn" for at in shop])
    phone = np.where(mail == "", [f"8613{at:09d}" for at in shop], "")
    return {
        "bank": pl.DataFrame({
            "phone": [f"8613{at:09d}" for at in loans], "mail": [f"{at}@x.cn" for at in loans], "id": loans, "age": age,
            "left": left,
        }),
        "shop": pl.DataFrame({
            "phone": phone, "mail": mail, "id": shop, "visits": np.append(visits[known], draw.normal(size=30)),
        }),
    }  # fmt: skip


def job(**align: Any) -> dict[str, Any]:
    found = document()
    found["sites"]["bank"] |= {"id": [["phone"], ["mail"]], "columns": ["age"]}
    found["sites"]["shop"] |= {"id": [["phone"], ["mail"]], "columns": ["visits"]}
    found["steps"] = [
        {"step": "align", "kinds": ["phone", "email"], "repeats": "join", "rows": "label-holder", **align},
        {"step": "split", "test": 0.25},
        {"step": "bin", **BINS},
        {"step": "train", **TREES},
        {"step": "evaluate", "share": True},
    ]
    return found


def pooled_scores(frames: dict[str, pl.DataFrame], how: Any) -> np.ndarray:
    """Training scores of trees that are grown in the open, on the plain join."""
    joined = frames["bank"].join(frames["shop"].select("id", "visits"), on="id", how=how)
    table = table_of(joined, ("phone", "mail"), ("age", "visits"))
    train = np.flatnonzero(draw(table.ids, Split(test=0.25)) != TEST)
    params = TreeParams(**TREES, **BINS)
    columns = table.columns.take(train).columns
    bins = [bin_table(type(table.columns)((column,), len(train)), params.max_bin, params.min_bin) for column in columns]
    label = joined["left"].to_numpy()[train].astype(np.uint8)
    trees = grow_forest(bins, label, np.ones(len(train), np.bool_), params, seeded_rng(0))
    assert {split.site for tree in trees for split in tree.splits} == {0, 1}
    margin = base_margin(label, params) + sum(tree.added for tree in trees)
    return probability(margin)


@pytest.mark.parametrize(("rows", "how", "seed"), [("label-holder", "left", 1), ("common", "inner", 2)])
def test_trees_are_those_of_the_plain_join(rows: str, how: str, seed: int, tmp_path: Path) -> None:
    frames = tables(seed)
    done = simulate(frames, job(rows=rows), out=tmp_path)
    history = done.stores["bank"].read_json(TRAINING, Training).history
    scores = pooled_scores(frames, how)
    assert history.rows == len(scores)
    assert np.allclose(history.scores, np.quantile(scores, np.linspace(0, 1, len(history.scores))), atol=1e-6)
    assert len(set(history.scores)) > 4


@pytest.fixture
def sites(tmp_path: Path) -> Iterator[Sites]:
    made = Sites.make(tmp_path, {name: frame.write_csv().splitlines() for name, frame in tables(3).items()})
    yield made
    made.close()


@pytest.mark.processes
def test_two_processes_over_tls_score_rows_that_the_partner_lacks(sites: Sites) -> None:
    ended = sites.both(job())
    assert {name: end.code for name, end in ended.items()} == {"bank": 0, "shop": 0}, ended
    frames = tables(3)
    joined = frames["bank"].join(frames["shop"].select("id", shop="id"), on="id", how="left", coalesce=False)
    rows = {name: sites.home(name).result("leavers").read_array("rows.npy") for name in ("bank", "shop")}
    ids = {name: np.append(frames[name]["id"].to_numpy(), -1)[rows[name]].tolist() for name in rows}
    wanted = joined.select("id", pl.col("shop").fill_null(-1)).rows()
    assert sorted(zip(ids["bank"], ids["shop"], strict=True)) == sorted(wanted)
    text = sites.home("bank").result("leavers").path("evaluation.csv").read_text()
    scored = {line["mail"] for line in csv.DictReader(io.StringIO(text))}
    known = {f"{at}@x.cn" for at in frames["shop"]["id"]}
    assert scored & known
    assert scored - known
    log = sites.home("shop").result("leavers").path("log.jsonl").read_text()
    assert "by phone" in log
    report = sites.home("shop").result("leavers").path("report.html").read_text()
    assert "how often each of its own matched rows" in report


def test_a_model_can_score_rows_that_the_partner_lacks(tmp_path: Path) -> None:
    frames = tables(1)
    trained = simulate(frames, job(), out=tmp_path)
    score = job() | {"name": "score"}
    score["steps"] = [score["steps"][0], {"step": "predict", "model": trained.job.id}]
    done = simulate(frames, score, out=tmp_path)
    lines = done.stores["bank"].path("scores.csv").read_text().splitlines()
    assert len(lines) == 1 + len(frames["bank"])
    few = job(minimum=5_000)
    with pytest.raises(InputError, match="in common with shop"):
        simulate(frames, few, out=tmp_path / "few")
