"""A site's trainer as a Flower ClientApp, for a server that is Flower's own: it sees every update.

(1) server → site   Flower's train message: a network
(2) site → server   Trained: the network after local training
(3) server → site   Flower's evaluate message: a network
(4) site → server   Measured: how good it is on the site's held-out rows
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from atoll.core import protocol
from atoll.core.channel import Gate
from atoll.core.errors import ProtocolError
from atoll.core.message import U32, Message, encode, kind_of
from atoll.learn.horizontal.networks import agreed
from atoll.learn.horizontal.networks.averages import F32
from atoll.learn.horizontal.networks.fit import Plan
from atoll.learn.horizontal.networks.flower_trainer import ROWS, flower_library
from atoll.learn.horizontal.networks.local import Local
from atoll.learn.horizontal.networks.trainer import Trainer, Work


class Trained(Message, frozen=True):
    """(2) site → server: bits of all float32 numbers of the network, rows trained on, and their mean loss."""

    values: U32
    rows: int
    loss: float


class Measured(Message, frozen=True):
    """(4) site → server: the number of held-out rows, and means of metrics over them."""

    rows: int
    metrics: dict[str, float]


def superlink_app(trainer: Trainer, plan: Plan, *, gate: Gate, server: str, seed: bytes) -> Any:
    """Return a Flower ClientApp that trains and evaluates at this site.

    How long and how fast it trains the site says itself: of a message's `config` it heeds `server-round` alone.

    Args:
        trainer: this site's network and rows.
        plan: epochs, batch, learning rate and schedule; the server decides on the rest.
        gate: what records and allows what leaves.
        server: name of the server, for the record.
        seed: for the order of rows, 16 bytes.

    Raises:
        InputError: Flower is not installed.
    """
    flower_library()
    from flwr.clientapp import ClientApp

    app, side = ClientApp(), _Site(trainer, plan, gate, server, seed)
    app.train()(lambda message, context: side.train(message))
    app.evaluate()(lambda message, context: side.evaluate(message))
    return app


class _Site:
    """What stands behind the ClientApp."""

    def __init__(self, trainer: Trainer, plan: Plan, gate: Gate, server: str, seed: bytes) -> None:
        self.local, self.plan, self.gate, self.server, self.seed = Local(trainer, gate.site), plan, gate, server, seed
        self.own = trainer.parameters()[self.local.own]
        self.names: tuple[str, ...] = tuple(getattr(trainer, "arrays", dict)())

    def train(self, message: Any) -> Any:
        """Train from the network of a message; the reply holds it as it then is, under the same names."""
        model, arrays = self._model(message)
        number = max(1, int(_config(message).get("server-round", 1))) - 1
        seed = agreed.number(self.seed, "training", number, self.gate.site)
        lr = self.plan.lr_at(min(number, self.plan.rounds - 1))
        work = Work(number, self.plan.epochs, self.plan.batch, lr, seed)
        change, self.own, done = asyncio.run(self.local.train(model, self.own, work))
        vector = model + change
        self._leaves(Trained(vector.view(np.uint32), done.rows, done.loss))  # (2)
        return self._reply(message, {ROWS: done.rows, "train_loss": done.loss}, self._named(vector, arrays))

    def evaluate(self, message: Any) -> Any:
        """Measure the network of a message on this site's held-out rows."""
        model, _ = self._model(message)
        sums = asyncio.run(self.local.evaluate(model, self.own))
        rows = int(sums.pop("rows"))
        metrics = {name: value / max(rows, 1) for name, value in sums.items()}
        self._leaves(Measured(rows, metrics))  # (4)
        return self._reply(message, {ROWS: rows, **metrics})

    def _leaves(self, what: Message) -> None:
        """Write the audit line before anything is handed to Flower."""
        self.gate.check(type(what))
        header, parts = encode(what)
        digest = hashlib.sha256(header)
        for part in parts:
            digest.update(part)
        size = len(header) + sum(part.nbytes for part in parts)
        self.gate.record(self.server, "sent", kind_of(type(what)), size, digest.hexdigest())

    def _model(self, message: Any) -> tuple[F32, dict[str, Any]]:
        """Return the shared numbers of a message's network, and its arrays.

        Raises:
            ProtocolError: it is not a network of this site's kind.
        """
        records = list(message.content.array_records.values())
        arrays = {name: array.numpy() for name, array in records[0].items()} if len(records) == 1 else {}
        floats = {name: value for name, value in arrays.items() if value.dtype.kind == "f"}
        parts = [np.zeros(0, np.float32), *(np.ravel(floats[name]) for name in self._order(floats))]
        model = np.concatenate(parts)
        size = self.local.places.size
        if any(value.dtype != np.float32 for value in floats.values()) or model.size != size:
            raise ProtocolError(
                f"{self.server} sent a network of {model.size:,} numbers instead of {size:,}, or not in float32",
                site=self.gate.site,
                cure="Give the server the same network; numbers that stay at the site are not for it.",
            )
        if not np.isfinite(model).all():
            raise ProtocolError(f"{self.server} sent a network with numbers that are not finite", site=self.gate.site)
        return model, arrays

    def _order(self, floats: Mapping[str, Any]) -> list[str]:
        """Names of a message's arrays in the order of this site's vector: by name where the trainer has names."""
        known = set(floats) <= set(self.names)
        return [name for name in self.names if name in floats] if known else list(floats)

    def _named(self, vector: F32, arrays: Mapping[str, Any]) -> dict[str, Any]:
        """A network under the names and in the shapes of a message's arrays; whole numbers stay as they came."""
        order = self._order({name: value for name, value in arrays.items() if value.dtype.kind == "f"})
        parts = np.split(vector, np.cumsum([arrays[name].size for name in order])[:-1])
        new = {name: part.reshape(arrays[name].shape) for name, part in zip(order, parts, strict=True)}
        return {name: new.get(name, value) for name, value in arrays.items()}

    def _reply(self, message: Any, metrics: Mapping[str, Any], arrays: Mapping[str, Any] | None = None) -> Any:
        flower = flower_library()
        content = {"metrics": flower.MetricRecord(dict(metrics))}
        if arrays is not None:
            content["arrays"] = flower.ArrayRecord({name: flower.Array(value) for name, value in arrays.items()})
        return flower.Message(content=flower.RecordDict(content), reply_to=message)


def _config(message: Any) -> dict[str, Any]:
    return {name: value for record in message.content.config_records.values() for name, value in record.items()}


PROTOCOL = protocol.Protocol(
    name="flower-updates",
    version=1,
    title="A site trains for a Flower server, which sees its updates",
    card=protocol.Card(
        source="McMahan et al., AISTATS 2017; messages and server of Flower 1.42 (Beutel et al. 2020).",
        security="None against the server, which sees the network that every site has trained, each site's rows, loss "
        "and metrics, and chooses whom it asks with which network. Against others what Flower's TLS gives.",
        inputs="The site a network and rows; the server, which is not Atoll's, the network to train from.",
        reveals={"site": ("The networks that the server sends.",)},
        cost="For each round the network down and up, 4 bytes a number; for each evaluation the network down.",
        fails="The reply tells the server of an error: a network of another size or with numbers that are not finite.",
        assurance="tested",
        notes=(
            "Single updates give away rows (gradient inversion) and who is in them (membership inference).",
            "The server's package of code is not run at the site: its trainer is the site's own.",
            "Secure sums between Atoll sites show nobody an update: `FlowerTrainer` runs a Flower app over them.",
        ),
        weak="The Flower server sees every update of this site, from which rows can be worked out.",
    ),
    roles={"site": superlink_app},
    messages=(Trained, Measured),
)
