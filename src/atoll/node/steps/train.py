"""Train vertical boosted trees with the partners, and the same trees on the label holder's own columns alone."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np

from atoll.core.errors import InputError
from atoll.core.offload import offload
from atoll.core.protocol import Protocol
from atoll.core.session import Session
from atoll.learn.vertical.trees.params import TreeParams
from atoll.node.steps.base import Step, Work, present
from atoll.node.steps.split import TEST, VALIDATION

MODEL = "model.json"


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

    def uses(self) -> tuple[Protocol, ...]:
        """Boosted trees and what they use."""
        from atoll.learn.vertical.trees.protocol import PROTOCOL

        return (PROTOCOL,)

    async def run(self, session: Session, work: Work) -> str:
        """Train with the partners, then alone for comparison."""
        from atoll.learn.vertical.trees.model import to_json
        from atoll.learn.vertical.trees.protocol import feature_holder, label_holder
        from atoll.learn.vertical.trees.ties import answering
        from atoll.privacy.leakage import LeakageMeter

        X, part = present(work.X, "columns"), present(work.part, "split")
        chosen = np.flatnonzero(part != TEST)
        table, params = X.take(chosen), self.trees(work)
        options: dict[str, Any] = {"rng": work.rng, "reveals_rows": "rows of M" in work.job.limits.reveals}
        if not work.labels:
            hub = session.peers[work.job.hub].sub("trees")
            ties_made: list[Any] = []

            async def connect(*args: Any, **kwargs: Any) -> Any:
                ties_made.append(await answering(*args, **kwargs))
                return ties_made[-1]

            own = await feature_holder(hub, table, params, progress=session.progress, connect=connect, **options)
            work.store.write(MODEL, to_json(own))
            work.state["model"] = own
            splits = sum(len(level) for tree in own.splits for level in tree)
            work.report["vectors"] = {"rows": len(chosen), "used": ties_made[0].owner.vectors_used}
            return f"{len(own.splits)} trees; {splits} splits use columns of {work.site}"
        peers = {name: channel.sub("trees") for name, channel in session.peers.items()}
        label, held = present(work.y, "label")[chosen], part[chosen] == VALIDATION
        meter = LeakageMeter(len(chosen), int.from_bytes(work.job.digest()[:4], "big"))
        model, history = await label_holder(
            peers, table, label, held, params, progress=session.progress, meter=meter, **options
        )
        work.state["meter"] = await offload(meter.estimate, np.full(params.max_bin, 1.0 / params.max_bin))
        work.store.write(MODEL, to_json(model))
        work.state["model"], work.state["history"] = model, history
        await self._alone(work, table, label, held, params)
        best = f", the best is number {history.best}" if history.best else ""
        ratio = f"{history.vectors} vectors over {history.rows:,} rows to each partner"
        return f"{len(history.seconds)} trees{best}; {ratio}"

    def trees(self, work: Work) -> TreeParams:
        """The parameters of the trees: this step's and those of step `bin`."""
        values = {name: getattr(self.params, name) for name in TreeParams.__struct_fields__}
        bins = work.state["bin"]
        return msgspec.structs.replace(TreeParams(**values), max_bin=bins.max_bin, min_bin=bins.min_bin)

    async def _alone(self, work: Work, table: Any, label: Any, held: Any, params: TreeParams) -> None:
        """Train the same trees on the own columns only; the report compares the two."""
        from atoll.learn.vertical.trees.protocol import label_holder

        if len(table):
            alone, _ = await label_holder({}, table, label, held, params, rng=work.rng, reveals_rows=True)
            work.state["alone"] = alone
