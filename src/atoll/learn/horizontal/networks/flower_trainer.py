"""A Flower ClientApp, unchanged, as a site's trainer: Flower's server is replaced by sums."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from typing import Any

import numpy as np

from atoll.core.errors import InputError
from atoll.learn.horizontal.networks.averages import F32
from atoll.learn.horizontal.networks.trainer import Layout, Trained, Work

ROWS = "num-examples"
"""The metric by which Flower weighs replies."""

LIFE = 43_200.0
"""Seconds for which a message is said to be valid, as by Flower itself."""


def flower_library() -> Any:
    """Return Flower's records and messages.

    Raises:
        InputError: it is not installed.
    """
    from atoll.transport.grpc_link import load_grpc

    if "grpc" not in sys.modules:
        load_grpc()  # before Flower loads it without the restriction to TLS 1.3, for links between sites
    try:
        from flwr import app
    except ImportError:
        raise InputError(
            "a Flower app needs Flower, which is not installed",
            step="networks",
            cure='Run pip install "atoll-fl[flower]".',
        ) from None
    return app


class FlowerTrainer:
    """Hands a ClientApp the messages that Flower's own FedAvg would send it, and reads its replies.

    The app sees `arrays` and a `config` with `server-round`, `lr`, `local-epochs`, `batch-size` and what is added here.

    Args:
        app: with functions for `train` and, if held-out rows are to be looked at, `evaluate`.
        arrays: the network to begin with, as Flower's ArrayRecord; float arrays are shared, others stay here.
        node_config: what the app reads in `context.node_config`, such as `partition-id`.
        run_config: what it reads in `context.run_config`.
        config: further entries of each message's `config`.

    Raises:
        InputError: flwr is not installed, or a float array is not float32.
    """

    pulls = False

    def __init__(
        self,
        app: Any,
        arrays: Any,
        *,
        node_config: Mapping[str, Any] | None = None,
        run_config: Mapping[str, Any] | None = None,
        config: Mapping[str, Any] | None = None,
    ) -> None:
        flower = flower_library()
        self.flower, self.app, self.config = flower, app, dict(config or {})
        self.context = flower.Context(
            run_id=1, node_id=1, node_config=dict(node_config or {}), state=flower.RecordDict(),
            run_config=dict(run_config or {}),
        )  # fmt: skip
        self._arrays = {name: array.numpy().copy() for name, array in arrays.items()}
        self._shared = [name for name, value in self._arrays.items() if value.dtype.kind == "f"]
        wrong = [name for name in self._shared if self._arrays[name].dtype != np.float32]
        if wrong:
            raise InputError(f"{wrong[0]} of the network is not float32", step="networks", cure="Convert it.")

    def parameters(self) -> F32:
        """Return all float arrays, one after the other."""
        parts = [self._arrays[name].ravel() for name in self._shared]
        return np.concatenate([np.zeros(0, np.float32), *parts])

    def load(self, vector: F32) -> None:
        """Take all float arrays from such a vector."""
        sizes = [self._arrays[name].size for name in self._shared]
        for name, part in zip(self._shared, np.split(vector, np.cumsum(sizes)[:-1]), strict=True):
            self._arrays[name] = part.reshape(self._arrays[name].shape).copy()

    def layout(self) -> Layout:
        """All float arrays are shared."""
        return Layout(np.arange(self.parameters().size))

    def train(self, work: Work) -> Trained:
        """Send a train message; the reply's arrays become the network.

        Raises:
            InputError: the app fails, or replies with other arrays or without the number of its rows.
        """
        config = {"server-round": work.round + 1, "lr": work.lr, "local-epochs": work.epochs, "batch-size": work.batch}
        content = self._call("train", config)
        (arrays,) = content.array_records.values()
        found = {name: array.numpy() for name, array in arrays.items()}
        if {n: (a.shape, a.dtype) for n, a in found.items()} != {
            n: (a.shape, a.dtype) for n, a in self._arrays.items()
        }:
            raise InputError(
                "the Flower app replies with other arrays than it was given",
                step="networks",
                cure="Give the app and `arrays` the same network.",
            )
        self._arrays = {name: value.copy() for name, value in found.items()}
        metrics = _metrics(content, "train")
        loss = next((metrics[name] for name in ("train_loss", "train-loss", "loss") if name in metrics), 0.0)
        return Trained(int(metrics[ROWS]), work.epochs, float(loss))

    def evaluate(self) -> Mapping[str, float]:
        """Send an evaluate message; metrics are weighed by its rows.

        Raises:
            InputError: the app fails, or replies without the number of its rows.
        """
        metrics = _metrics(self._call("evaluate", {}), "evaluate")
        rows = float(metrics.pop(ROWS))
        return {"rows": rows, **{name: float(value) * rows for name, value in metrics.items()}}

    def _call(self, kind: str, config: Mapping[str, Any]) -> Any:
        """Run the app on one message, and return what it replies."""
        flower = self.flower
        arrays = flower.ArrayRecord({name: flower.Array(value) for name, value in self._arrays.items()})
        content = flower.RecordDict({"arrays": arrays, "config": flower.ConfigRecord({**config, **self.config})})
        now = flower.Metadata(
            run_id=1, message_id=kind, src_node_id=0, dst_node_id=1, reply_to_message_id="", group_id="",
            created_at=time.time(), ttl=LIFE, message_type=kind,
        )  # fmt: skip
        try:
            reply = self.app(flower.Message(content=content, metadata=now), self.context)
        except Exception as cause:
            raise InputError(
                f"the Flower app failed at a {kind} message",
                step="networks",
                detail=f"{type(cause).__name__}: {cause}.",
                cure=f"Run the app in Flower's simulation, and see that it has a function for {kind}.",
            ) from cause
        if reply.has_error():
            raise InputError(f"the Flower app replied to a {kind} message with an error", detail=str(reply.error))
        return reply.content


def _metrics(content: Any, kind: str) -> dict[str, Any]:
    """The numbers of a reply."""
    found = {name: value for record in content.metric_records.values() for name, value in record.items()}
    if ROWS not in found:
        raise InputError(
            f"the Flower app does not say how many rows a {kind} reply is about",
            step="networks",
            cure=f'Put "{ROWS}" into its MetricRecord.',
        )
    return found
