"""An app written for Flower runs unchanged at sites that share sums alone."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from atoll.core.errors import InputError
from atoll.learn.horizontal.networks import FlowerTrainer, Plan
from atoll.transport.grpc_link import load_grpc
from tests.learn.horizontal.networks.linear import Line, skewed_sites, trainers
from tests.learn.horizontal.networks.runs import fit_all

load_grpc()  # Flower would load it as links between sites may not use it
flower = pytest.importorskip("flwr.app")
clientapp = pytest.importorskip("flwr.clientapp")
SIZES = (5, 12, 30)


def make_app() -> Any:
    """As in Flower's tutorials: arrays in, arrays and metrics out."""
    app = clientapp.ClientApp()

    def line(message: Any, context: Any) -> Line:
        made = skewed_sites(SIZES)[context.node_config["partition-id"]]
        made.w = message.content["arrays"].to_numpy_ndarrays()[0].astype(np.float64)
        return made

    @app.train()
    def train(message: Any, context: Any) -> Any:
        mine, config = line(message, context), message.content["config"]
        for _ in range(config["local-epochs"]):
            mine.w -= config["lr"] * mine.gradient(mine.w)
        names = list(message.content["arrays"])
        arrays = flower.ArrayRecord({names[0]: flower.Array(mine.get()), names[1]: flower.Array(np.array([7]))})
        metrics = flower.MetricRecord({"train_loss": 0.5, "num-examples": len(mine.y)})
        content = flower.RecordDict({"arrays": arrays, "metrics": metrics})
        return flower.Message(content=content, reply_to=message)

    @app.evaluate()
    def evaluate(message: Any, context: Any) -> Any:
        mine = line(message, context)
        sums = mine.test()
        metrics = flower.MetricRecord({"loss": sums["loss"] / len(mine.y), "num-examples": len(mine.y)})
        return flower.Message(content=flower.RecordDict({"metrics": metrics}), reply_to=message)

    return app


def sites(app: Any) -> list[FlowerTrainer]:
    start = {"w": flower.Array(np.zeros(4, np.float32)), "count": flower.Array(np.array([0]))}
    return [FlowerTrainer(app, flower.ArrayRecord(start), node_config={"partition-id": k}) for k in range(len(SIZES))]


def test_an_app_trains_what_its_arithmetic_says() -> None:
    plan = Plan(rounds=5, epochs=3, lr=0.2)
    want = fit_all(trainers(skewed_sites(SIZES)), plan)
    done = fit_all(sites(make_app()), plan)
    np.testing.assert_allclose(done[0].model, want[0].model, rtol=1e-6)
    assert done[2].rounds[-1].metrics["loss"] == pytest.approx(want[0].rounds[-1].metrics["loss"], rel=1e-5)
    assert done[0].rounds[-1].train_loss == pytest.approx(0.5)


def test_apps_that_do_not_fit_are_named() -> None:
    with pytest.raises(InputError, match="failed at a train message"):
        fit_all(sites(clientapp.ClientApp()), Plan())
    app = clientapp.ClientApp()

    @app.train()
    def train(message: Any, context: Any) -> Any:
        content = flower.RecordDict({"arrays": message.content["arrays"], "metrics": flower.MetricRecord({"x": 1.0})})
        return flower.Message(content=content, reply_to=message)

    with pytest.raises(InputError, match="does not say how many rows"):
        fit_all(sites(app), Plan())
    wide = flower.ArrayRecord({"w": flower.Array(np.zeros(4))})
    with pytest.raises(InputError, match="not float32"):
        FlowerTrainer(app, wide)
