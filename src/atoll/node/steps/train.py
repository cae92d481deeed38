"""Train vertical boosted trees with the partners, and the same trees on the label holder's own columns alone."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from atoll.core.errors import InputError
from atoll.core.offload import offload
from atoll.core.protocol import Protocol
from atoll.core.session import Session
from atoll.data.columns import Columns
from atoll.learn.vertical.trees.kept import Keeper
from atoll.learn.vertical.trees.model import FeaturePart, History, LabelPart, to_json
from atoll.learn.vertical.trees.params import TreeParams
from atoll.node.steps.base import Step, Work, present
from atoll.node.steps.split import TEST, VALIDATION
from atoll.node.store import RESUME
from atoll.privacy.leakage import Leakage, LeakageMeter

MODEL, TRAINING = "model.json", "training.json"
GROWING = f"{RESUME}/trees.bin"


class Training(msgspec.Struct, frozen=True):
    """What the label holder keeps of the training beside the model, for the report."""

    history: History
    meter: Leakage
    alone: LabelPart | None


class Train(TreeParams, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="step", tag="train"):
    """Params of `train`: those of boosted trees, under XGBoost's names; the bins' stand in step `bin`."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for field in msgspec.structs.fields(TreeParams):
            name = field.name
            if name in ("max_bin", "min_bin") and getattr(self, name) != field.default:
                raise InputError(f"{name} belongs to step bin", step="train", cure=f"Move `{name}:` to `step: bin`.")


class TrainStep(Step[Train]):
    """Boosted trees; every site keeps its own part of the model."""

    name = "train"
    title = "Train boosted trees"
    needs = ("bins",)
    gives = ("model",)
    leaves = (MODEL, TRAINING)

    def uses(self) -> tuple[Protocol, ...]:
        """Boosted trees and what they use."""
        from atoll.learn.vertical.trees.protocol import PROTOCOL

        return (PROTOCOL,)

    async def run(self, session: Session, work: Work) -> str:
        """Train with the partners, then alone for comparison."""
        X, part = present(work.X, "columns"), present(work.part, "split")
        chosen = np.flatnonzero(part != TEST)
        options: dict[str, Any] = {
            "rng": work.rng,
            "reveals_rows": "rows of M" in work.job.limits.reveals,
            "progress": session.progress,
            "keeper": Keeper(work.run, *work.store.slot(GROWING)) if work.run else None,
        }
        if work.labels:
            return await self._lead(session, work, X.take(chosen), chosen, options)
        return await self._help(session, work, X.take(chosen), options)

    async def _help(self, session: Session, work: Work, table: Columns, options: dict[str, Any]) -> str:
        from atoll.learn.vertical.trees.protocol import feature_holder
        from atoll.learn.vertical.trees.ties import answering

        ties_made: list[Any] = []

        async def connect(*args: Any, **kwargs: Any) -> Any:
            ties_made.append(await answering(*args, **kwargs))
            return ties_made[-1]

        hub = session.peers[work.job.hub].sub("trees")
        own = await feature_holder(hub, table, self.trees(work), connect=connect, **options)
        work.store.write(MODEL, to_json(own))
        work.state["model"] = own
        splits = sum(len(level) for tree in own.splits for level in tree)
        work.report["vectors"] = {"rows": table.rows, "used": ties_made[0].owner.vectors_used}
        return f"{len(own.splits)} trees; {splits} splits use columns of {work.site}"

    async def _lead(
        self, session: Session, work: Work, table: Columns, chosen: NDArray[np.int64], options: dict[str, Any]
    ) -> str:
        from atoll.learn.vertical.trees.protocol import label_holder

        params, part = self.trees(work), present(work.part, "split")
        peers = {name: channel.sub("trees") for name, channel in session.peers.items()}
        label, held = present(work.y, "label")[chosen], part[chosen] == VALIDATION
        meter = LeakageMeter(len(chosen), int.from_bytes(work.job.digest()[:4], "big"))
        model, history = await label_holder(peers, table, label, held, params, meter=meter, **options)
        reading = await offload(meter.estimate, np.full(params.max_bin, 1.0 / params.max_bin))
        alone = None
        if len(table):  # the report compares the two
            alone, _ = await label_holder({}, table, label, held, params, rng=work.rng, reveals_rows=True)
        training = Training(history, reading, alone)
        work.store.write(MODEL, to_json(model))
        work.store.write_json(TRAINING, training)
        self._keep(work, model, training)
        ratio = f"{history.vectors} vectors over {history.rows:,} rows to each partner"
        return f"{_grown(history, params)}; {ratio}"

    def trees(self, work: Work) -> TreeParams:
        """The parameters of the trees: this step's and those of step `bin`."""
        values = {name: getattr(self.params, name) for name in TreeParams.__struct_fields__}
        bins = work.state["bin"]
        return msgspec.structs.replace(TreeParams(**values), max_bin=bins.max_bin, min_bin=bins.min_bin)

    async def resume(self, work: Work) -> None:
        """Take the model again."""
        if work.labels:
            self._keep(work, work.store.read_json(MODEL, LabelPart), work.store.read_json(TRAINING, Training))
        else:
            work.state["model"] = work.store.read_json(MODEL, FeaturePart)

    def _keep(self, work: Work, model: LabelPart, training: Training) -> None:
        work.state |= {"model": model, "history": training.history, "meter": training.meter, "alone": training.alone}


def _grown(history: History, params: TreeParams) -> str:
    count = len(history.seconds)
    if history.best:
        return f"{count} trees, the best is number {history.best}"
    if count < params.n_estimators:
        return f"{count} trees of {params.n_estimators}, for tries that were cut off took their part of the vectors"
    return f"{count} trees"
