"""Neural networks: trained at every site and averaged, so that they come near the one that pooled rows would give."""

from __future__ import annotations

import base64
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal

import msgspec
import numpy as np

from atoll.core.errors import InputError
from atoll.node.models.base import F64, Fitted, Grid, Here, Kind, Label

if TYPE_CHECKING:
    from atoll.data.columns import Columns
    from atoll.learn.horizontal.networks import Plan
    from atoll.learn.horizontal.networks.algorithms import Algorithm
    from atoll.learn.horizontal.networks.described import Described
    from atoll.learn.horizontal.scale import Scale
    from atoll.protocols.secure_sum.totals import Totals

Count = Annotated[int, msgspec.Meta(ge=1, le=100_000)]
Units = Annotated[int, msgspec.Meta(ge=1, le=1 << 16)]
Side = Annotated[int, msgspec.Meta(ge=2, le=1024)]
Rate = Annotated[float, msgspec.Meta(gt=0, le=1e6)]
Share = Annotated[float, msgspec.Meta(ge=0, lt=1)]
Names = Literal["fedavg", "fedprox", "fednova", "scaffold", "fedadam", "fedyogi"]

STEP = "network"


class Network(Kind, frozen=True, tag="network"):
    """A neural network, dense or with convolutions, trained by federated averaging. It needs PyTorch at every site.

    Attributes:
        predicts: an `event` (label 0 and 1), a `number`, or a `class`.
        hidden: sizes of the dense layers before the last one.
        activation: `relu` or `tanh`, after every layer but the last.
        dropout: share of the numbers after hidden dense layers that training sets to 0.
        image: `[height, width]` if the columns are grey values of an image, row by row, as the aggregator lists them.
        filters: for an image, outputs of each convolution of 3 by 3, which a maximum over 2 by 2 follows.
        algorithm: `fedavg`, `fedprox`, `fednova`, `scaffold`, `fedadam` or `fedyogi`; see "Train networks".
        server_lr: factor on the average; that of the algorithm if left out.
        momentum: of the average, for `fedavg`.
        mu: how firmly `fedprox` holds sites to the common network.
        rounds: how often sites train and average.
        epochs: passes over a site's rows in a round.
        batch: rows of a local step; 0 for all of a site at once.
        lr: local learning rate.
        schedule: how it changes over the rounds: `constant`, `cosine` to 0, or `exponential`.
        decay: factor a round, for `exponential`.
        validation: share of each site's rows on which the network is looked at after every round.
        patience: stop after so many rounds without a lower loss on those rows; 0 for never.
        mixed: compute in bfloat16 where PyTorch thinks it safe.
        seed: of first numbers, batches and validation rows.
    """

    title = "neural network"
    label = "event"
    baseline = False
    learns = (
        "means, spreads and the size of every column; of the label, too, or how many rows each class has",
        "in every round: the network, which is the average of what sites trained, with the number of rows trained on",
        "in every round: the loss on these rows, and with `validation` how good it is on the rows held out",
        "! An average over few sites, or of few rows, can give rows away.",
    )

    predicts: Literal["event", "number", "class"] = "event"
    hidden: tuple[Units, ...] = (32,)
    activation: Literal["relu", "tanh"] = "relu"
    dropout: Share = 0.0
    image: tuple[Side, Side] | None = None
    filters: tuple[Units, ...] = ()
    algorithm: Names = "fedavg"
    server_lr: Rate | None = None
    momentum: Share = 0.0
    mu: Annotated[float, msgspec.Meta(ge=0, le=1e6)] = 0.01
    rounds: Count = 20
    epochs: Count = 1
    batch: Annotated[int, msgspec.Meta(ge=0, le=1 << 30)] = 32
    lr: Rate = 0.1
    schedule: Literal["constant", "cosine", "exponential"] = "constant"
    decay: Annotated[float, msgspec.Meta(gt=0, le=1)] = 0.99
    validation: Share = 0.0
    patience: Annotated[int, msgspec.Meta(ge=0, le=100_000)] = 0
    mixed: bool = False
    seed: Annotated[int, msgspec.Meta(ge=0, lt=1 << 62)] = 0

    def __post_init__(self) -> None:
        if self.momentum and self.algorithm != "fedavg":
            raise _wrong("`momentum` belongs to algorithm fedavg", "Remove it, or take `algorithm: fedavg`.")
        if self.server_lr is not None and self.algorithm in ("fedprox", "fednova"):
            raise _wrong(f"{self.algorithm} has no `server_lr`", "Remove it.")
        if self.patience and not self.validation:
            raise _wrong("`patience` needs rows to look at", "Say which share to hold out: `validation: 0.1`.")
        if bool(self.filters) != (self.image is not None):
            raise _wrong("`image` and `filters` go together", "Give both, or neither.")

    @property
    def wants(self) -> Label:
        """What the network predicts."""
        return self.predicts

    def check(self) -> None:
        """Refuse to begin without PyTorch.

        Raises:
            InputError: it is not installed.
        """
        from atoll.learn.horizontal.networks.torch_trainer import torch

        torch()

    async def fit(self, totals: Totals, here: Here) -> Fitted:
        """Fit; see `atoll.learn.horizontal.networks.fit`."""
        from atoll.learn.horizontal import networks
        from atoll.learn.horizontal.classes import classes
        from atoll.learn.horizontal.scale import scale

        frame = await scale(totals, here.X.values, here.rows, step=STEP)
        values: dict[str, Any] = {"centre": frame.centre.tolist(), "unit": frame.unit.tolist()}
        y, outputs = here.y, 1
        if self.predicts == "class":
            found, codes = await classes(totals, y, step=STEP)
            y, outputs, values["classes"] = codes.astype(np.float64), len(found), found.tolist()
        elif self.predicts == "number":
            line = await scale(totals, y[:, None], here.rows, step=STEP)
            y = line.apply(y[:, None])[:, 0]
            values |= {"label centre": float(line.centre[0]), "label unit": float(line.unit[0])}
        network = self._network(here.X.values.shape[1], outputs)
        trainer = self._trainer(network, frame, here, y, totals.site)
        plan = self._plan()
        done = await networks.fit(
            trainer,
            totals,
            plan,
            algorithm=self._algorithm(),
            keeper=None if here.folder is None else networks.Keeper(here.folder),
            rng=here.rng,
            on_round=lambda one: here.progress("rounds", one.number, plan.rounds),
        )
        weights = network.split(done.model)
        values |= {"inputs": network.inputs, "outputs": outputs}
        values["weights"] = {name: _packed(array) for name, array in weights.items()}
        layers: dict[str, tuple[float | None, ...]] = {name: (float(array.size),) for name, array in weights.items()}
        last = done.rounds[-1]
        figures = {"rounds": float(last.number), "training loss": last.train_loss or 0.0}
        figures |= {f"{name} on validation rows": value for name, value in last.metrics.items()}
        curves = {"training": tuple(one.train_loss or 0.0 for one in done.rounds)}
        if last.metrics:
            curves["validation"] = tuple(one.metrics["loss"] for one in done.rounds)
        return Fitted(here.rows, values, figures, grids=(Grid("Layers", ("numbers",), layers),), curves=curves)

    def predict(self, values: Mapping[str, Any], table: Columns) -> F64:
        """Return (n,) probabilities of the event or expected numbers, or (n, K) probabilities of ascending classes.

        Raises:
            InputError: the kept network contradicts itself.
        """
        from atoll.learn.horizontal.classes import shares_of
        from atoll.learn.horizontal.networks.described import scores

        network = self._network(values["inputs"], values["outputs"])
        weights = {name: _unpacked(values["weights"], name, shape) for name, shape in network.shapes().items()}
        out = scores(network, weights, (self.numbers(table) - np.array(values["centre"])) / np.array(values["unit"]))
        if self.predicts == "class":
            return shares_of(out)
        if self.predicts == "number":
            numbers: F64 = out[:, 0] * values["label unit"] + values["label centre"]
            return numbers
        return _logistic(out[:, 0])

    def _network(self, inputs: int, outputs: int) -> Described:
        from atoll.learn.horizontal.networks.described import SHAPES, Described

        return Described(inputs=inputs, outputs=outputs, **{name: getattr(self, name) for name in SHAPES})

    def _plan(self) -> Plan:
        from atoll.learn.horizontal.networks import Plan

        names = ("rounds", "epochs", "batch", "lr", "schedule", "decay", "patience", "seed")
        return Plan(**{name: getattr(self, name) for name in names})

    def _algorithm(self) -> Algorithm:
        from atoll.learn.horizontal import networks

        own = {"fedavg": {"momentum": self.momentum}, "fedprox": {"mu": self.mu}}.get(self.algorithm, {})
        if self.server_lr is not None:
            own = own | {"server_lr": self.server_lr}
        kinds: dict[str, Any] = {
            "fedavg": networks.FedAvg, "fedprox": networks.FedProx, "fednova": networks.FedNova,
            "scaffold": networks.Scaffold, "fedadam": networks.FedAdam, "fedyogi": networks.FedYogi,
        }  # fmt: skip
        made: Algorithm = kinds[self.algorithm](**own)
        return made

    def _trainer(self, network: Described, frame: Scale, here: Here, y: F64, site: str) -> Any:
        """This site's rows around the network, some of them held out."""
        from atoll.learn.horizontal.networks import TorchTrainer, agreed
        from atoll.learn.horizontal.networks.described import module
        from atoll.learn.horizontal.networks.torch_trainer import torch

        functional = torch().nn.functional
        losses: dict[str, tuple[Any, dict[str, Any]]] = {
            "event": (
                lambda out, label: functional.binary_cross_entropy_with_logits(out[:, 0], label),
                {"right": lambda out, label: ((out[:, 0] > 0) == (label > 0.5)).sum()},
            ),
            "number": (lambda out, label: functional.mse_loss(out[:, 0], label), {}),
            "class": (
                functional.cross_entropy,
                {"right": lambda out, label: (out.argmax(dim=-1) == label).sum()},
            ),
        }
        loss, metrics = losses[self.predicts]
        X = frame.apply(here.X.values).astype(np.float32)
        labels = y.astype(np.int64 if self.predicts == "class" else np.float32)
        order = agreed.stream(str(self.seed).encode(), "validation", site).permutation(len(labels))
        held, rest = np.split(order, [round(self.validation * len(labels))])
        train, test = (X[rest], labels[rest]), (X[held], labels[held])
        return TorchTrainer(module(network, self.seed), loss, train, test, metrics=metrics, mixed=self.mixed)


def _logistic(scores: F64) -> F64:
    """1 / (1 + e^-s), without overflow."""
    small = np.exp(-np.abs(scores))
    return np.where(scores >= 0, 1.0, small) / (1.0 + small)


def _packed(array: Any) -> dict[str, Any]:
    """An array in a form that JSON holds: its shape and its little-endian bytes."""
    return {"shape": list(array.shape), "float32": base64.b64encode(array.astype("<f4").tobytes()).decode()}


def _unpacked(weights: Mapping[str, Any], name: str, shape: tuple[int, ...]) -> Any:
    try:
        data = base64.b64decode(weights[name]["float32"], validate=True)
        if tuple(weights[name]["shape"]) != shape or len(data) != 4 * math.prod(shape):
            raise ValueError(f"its shape is not {shape}")
    except (KeyError, TypeError, ValueError) as cause:
        raise InputError(
            f"the kept network has no good array {name!r}", step=STEP, detail=str(cause), cure="Run the job again."
        ) from None
    return np.frombuffer(data, "<f4").reshape(shape).astype(np.float32)


def _wrong(what: str, cure: str) -> InputError:
    return InputError(what, step="fit", cure=cure)
