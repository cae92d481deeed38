"""A job that trains a network: the same at every site, near what pooled rows give, and kept without code."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from sklearn.datasets import load_digits
from sklearn.linear_model import LinearRegression, LogisticRegression

import atoll
from atoll.core.errors import InputError
from atoll.learn.horizontal.networks import Keeper
from atoll.learn.horizontal.networks.described import Described, module, scores
from atoll.node.job import Job
from atoll.node.kept import load_model
from atoll.node.progress import Silent
from tests.learn.horizontal.networks.test_torch import descend
from tests.node.branches import SPLITS, Branches, document, frames, label

EVENT = {"kind": "network", "hidden": [6], "rounds": 5, "epochs": 2, "lr": 0.2, "momentum": 0.5}


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def fitting(model: dict[str, Any], name: str = "bad", **step: Any) -> dict[str, Any]:
    """A job of step fit, over three columns and what is no label."""
    job = document({"step": "fit", "model": model, **step}, label=name)
    for part in job["sites"].values():
        part["columns"] = ["months", "instalment_rate", "housing"]
    return job


def run(folder: Path, job: dict[str, Any], parts: Any = None) -> Any:
    """The model of a simulated job, the same at every site, and the run."""
    done = atoll.simulate(parts or frames(), job, out=folder)
    files = {store.path("model.json").read_bytes() for store in done.stores.values()}
    assert len(files) == 1
    return load_model(done.stores[done.job.partners[-1]].path("model.json")), done


def table() -> NDArray[np.float64]:
    """The columns as a network sees them, before they are scaled."""
    text = np.concatenate([part["housing"] for part in frames().values()])
    hot = [(text == value).astype(float) for value in ("free", "own", "rent")]
    return np.column_stack([label(frames(), "months"), label(frames(), "instalment_rate"), *hot])


def test_without_hidden_layers_it_becomes_the_regression_of_all_rows(tmp_path: Path) -> None:
    steep = {"kind": "network", "hidden": [], "batch": 0, "rounds": 50, "lr": 3.0, "momentum": 0.5}
    model, done = run(tmp_path / "event", fitting(steep))
    X = table()[:, :4]
    theirs = LogisticRegression(C=np.inf, solver="newton-cholesky", tol=1e-12).fit(X, label(frames()))
    np.testing.assert_allclose(model.predict(frames()["west"]), theirs.predict_proba(X)[SPLITS["west"], 1], atol=1e-3)
    curve = done.report.history
    assert (curve.round, [series.name for series in curve.series]) == ("round", ["training"])
    assert curve.series[0].values[0] > curve.series[0].values[-1]
    assert len(curve.series[0].values) == 50
    assert "after each round" in done.stores["west"].path("report.html").read_text()
    flat = {**steep, "predicts": "number", "lr": 0.3}
    model, _ = run(tmp_path / "number", fitting(flat, "amount"))
    line = LinearRegression().fit(X, label(frames(), "amount"))
    np.testing.assert_allclose(model.predict(frames()["west"]), line.predict(X)[SPLITS["west"]], rtol=1e-3)


def test_one_full_step_a_round_is_central_descent(tmp_path: Path) -> None:
    steps = {"kind": "network", "hidden": [5, 4], "activation": "tanh", "batch": 0, "rounds": 6, "lr": 0.7, "seed": 3}
    model, _ = run(tmp_path, fitting(steps))
    X, y = table(), torch.as_tensor(label(frames())).float()
    X = torch.as_tensor((X - X.mean(axis=0)) / X.std(axis=0)).float()
    twin = module(Described(inputs=5, outputs=1, hidden=(5, 4), activation="tanh"), 3)
    for _ in range(6):
        descend(twin, torch.nn.functional.binary_cross_entropy_with_logits(twin(X)[:, 0], y), 0.7)
    want = torch.sigmoid(twin(X)[:, 0]).detach().numpy()[SPLITS["west"]]
    np.testing.assert_allclose(model.predict(frames()["west"]), want, atol=1e-5)


def digits(labels: tuple[int, ...]) -> dict[str, dict[str, Any]]:
    """Three hospitals' pictures of a few digits, and a centre without any."""
    images, numbers = load_digits(return_X_y=True)
    keep = np.isin(numbers, labels)
    images, numbers = images[keep][:360], numbers[keep][:360]
    names = [f"p{at:02d}" for at in range(64)]
    return {
        name: {**dict(zip(names, images[at::3].T.tolist(), strict=True)), "digit": numbers[at::3].tolist()}
        for at, name in enumerate(("north", "south", "west"))
    }


def test_convolutions_read_digits_with_a_centre_that_brings_none(tmp_path: Path) -> None:
    parts = digits((3, 6, 8))
    model = {
        "kind": "network", "predicts": "class", "image": [8, 8], "filters": [8], "hidden": [16], "algorithm": "fedadam",
        "server_lr": 0.05, "rounds": 8, "epochs": 2, "lr": 0.1, "schedule": "cosine", "validation": 0.2, "patience": 6,
    }  # fmt: skip
    job = document({"step": "fit", "model": model, "test": 0.3}, label="digit")
    for part in job["sites"].values():
        part |= {"role": "member", "columns": [name for name in parts["north"] if name != "digit"]}
    job["sites"] = {"centre": {"role": "aggregator"}, **job["sites"]}
    kept, done = run(tmp_path, job, parts)
    assert kept.values["classes"] == [3.0, 6.0, 8.0]
    assert kept.figures["right on rows kept out"] > 0.9
    assert kept.figures["right on validation rows"] > 0.9
    assert [series.name for series in done.report.history.series] == ["training", "validation"]
    found = kept.predict(parts["west"])
    assert found.shape == (120, 3)
    right = np.array(kept.values["classes"])[found.argmax(axis=1)] == parts["west"]["digit"]
    assert right.mean() > 0.9


@pytest.mark.parametrize("kind", ["multinomial", "svm"])
def test_classes_that_are_not_numbered_from_0_are_measured_as_themselves(tmp_path: Path, kind: str) -> None:
    parts = digits((2, 5))
    names = [name for name in parts["north"] if np.ptp(np.concatenate([part[name] for part in parts.values()])) > 9]
    job = document({"step": "fit", "model": {"kind": kind}, "columns": names[::4], "test": 0.3}, label="digit")
    for part in job["sites"].values():
        part["columns"] = names
    assert run(tmp_path, job, parts)[0].figures["right on rows kept out"] > 0.9


@pytest.mark.parametrize(
    "network",
    [
        Described(inputs=4, outputs=3, hidden=(), activation="tanh"),
        Described(inputs=3, outputs=1, hidden=(7, 5), dropout=0.5),
        Described(inputs=35, outputs=2, hidden=(4,), image=(5, 7), filters=(3, 2)),
        Described(inputs=64, outputs=10, hidden=(), activation="tanh", image=(8, 8), filters=(2, 3, 4)),
    ],
)
def test_what_is_read_with_numpy_is_what_pytorch_trained(network: Described) -> None:
    made = module(network, 5)
    weights = {name: value.detach().numpy() for name, value in made.named_parameters()}
    assert {name: value.shape for name, value in weights.items()} == network.shapes()
    assert list(weights) == list(network.shapes())
    made.eval()
    X = np.random.default_rng(1).normal(size=(1030, network.inputs))
    want = made(torch.as_tensor(X).float()).detach().numpy()
    np.testing.assert_allclose(scores(network, weights, X), want, atol=2e-6)
    assert scores(network, weights, X[:0]).shape == (0, network.outputs)


@pytest.mark.processes
def test_processes_train_what_the_simulation_trains(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    parts, job = {name: part for name, part in frames().items() if name != "south"}, fitting(EVENT)
    del job["sites"]["south"]
    branches = Branches.of(tmp_path / "sites", parts)
    try:
        ended = branches.run_all(job)
    finally:
        branches.close()
    assert {end.code for end in ended.values()} == {0}, ended
    _, done = run(tmp_path / "here", job, parts)
    want = done.stores["west"].path("model.json").read_bytes()
    for name in parts:
        store = branches.home(name).result("branches")
        assert store.path("model.json").read_bytes() == want
        audit = [json.loads(line) for line in store.path("audit.jsonl").read_text().splitlines()]
        sent = {line["kind"].split(".")[-1] for line in audit if line["direction"] == "sent" and line["step"] == "fit"}
        assert sent == ({"Total"} if name == "north" else {"Masked"})


class Cut(Exception):
    """The process was killed here."""


def test_a_job_that_was_cut_off_goes_on_after_the_last_round(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    branches, job = Branches.of(tmp_path / "sites", frames()), fitting(EVENT)
    keep, rounds = Keeper.keep, []

    def dying(keeper: Keeper, progress: Any) -> None:
        rounds.append(len(progress.rounds))
        if len(progress.rounds) == 3 and "west" in keeper.folder.parts:
            raise Cut
        keep(keeper, progress)

    monkeypatch.setattr(Keeper, "keep", dying)
    ended = branches.run_here(job)
    assert isinstance(ended["west"], Cut)
    assert all(isinstance(end, BaseException) for end in ended.values())
    rounds.clear()
    monkeypatch.setattr(Keeper, "keep", lambda keeper, done: (rounds.append(len(done.rounds)), keep(keeper, done)))
    said: list[Any] = []
    monkeypatch.setattr(Silent, "progress", lambda watch, *words: said.append(words))
    stores = branches.run_here(job)
    assert set(rounds) == {3, 4, 5}
    assert ("rounds", 5, 5) in said
    _, done = run(tmp_path / "here", job)
    want = done.stores["west"].path("model.json").read_bytes()
    assert [store.path("model.json").read_bytes() for store in stores.values()] == [want] * 3
    assert not any((store.folder / "resume").exists() for store in stores.values())


def test_what_a_site_cannot_train_is_told_before_anything_is_sent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(InputError, match=r"PyTorch, which is not installed.*atoll-fl\[nn\]"):
        run(tmp_path, fitting(EVENT))


@pytest.mark.parametrize(
    ("changes", "wrong"),
    [
        ({"patience": 3}, "needs rows to look at"),
        ({"algorithm": "fednova"}, "`momentum` belongs to algorithm fedavg"),
        ({"algorithm": "fedprox", "momentum": 0.0, "server_lr": 0.1}, "has no `server_lr`"),
        ({"image": [8, 8]}, "go together"),
        ({"hidden": [0]}, "hidden"),
        ({"layers": [3]}, "unknown key"),
    ],
)
def test_keys_that_do_not_fit_are_named(changes: dict[str, Any], wrong: str) -> None:
    with pytest.raises(InputError, match=wrong):
        Job.of(fitting({**EVENT, **changes}))


@pytest.mark.parametrize(
    ("shape", "wrong"),
    [
        ({"inputs": 63, "image": (8, 8), "filters": (4,)}, "has 64 pixels, and there are 63 columns"),
        ({"inputs": 64, "image": (8, 8), "filters": (4, 4, 4, 4)}, "nothing is left"),
        ({"inputs": 60_000, "hidden": (60_000,)}, "more than 67,108,864 numbers"),
    ],
)
def test_networks_that_cannot_be_are_named(shape: dict[str, Any], wrong: str) -> None:
    with pytest.raises(InputError, match=wrong):
        Described(outputs=1, **shape)


def test_a_kept_network_that_contradicts_itself_is_not_used(tmp_path: Path) -> None:
    model, done = run(tmp_path, fitting({**EVENT, "rounds": 1, "validation": 0.001}))
    file = done.stores["west"].path("model.json")
    whole = json.loads(file.read_text())
    for damage in ({"shape": [1, 6]}, {"float32": "AAAA"}, {"float32": "no base64"}):
        torn = json.loads(file.read_text())
        torn["values"]["weights"]["dense0.weight"] |= damage
        file.write_text(json.dumps(torn))
        with pytest.raises(InputError, match=r"no good array 'dense0\.weight'"):
            load_model(file).predict(frames()["west"])
        file.write_text(json.dumps(whole))
    assert model.curves.keys() == {"training"}  # a thousandth of the rows is none to look at
    assert np.isfinite(model.predict(frames()["west"])).all()
    assert np.isnan(model.predict({"months": [np.nan], "instalment_rate": [1.0], "housing": ["own"]})).all()
