"""Score new rows from the model parts that an earlier job left at each site."""

from __future__ import annotations

import csv
import io
from typing import Any, Literal

import msgspec
import numpy as np

from atoll.core.protocol import Protocol
from atoll.core.session import Session
from atoll.data.columns import Column, Columns
from atoll.node.steps.base import Step, Work, present
from atoll.node.steps.train import MODEL

SCORES = "scores.csv"


class Predict(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="step", tag="predict"):
    """Params of `predict`.

    Attributes:
        model: id of the job that trained the model, the same at every site.
        unseen: what becomes of categories that did not occur in training: `missing`, or `refuse` the job.
    """

    model: str
    unseen: Literal["missing", "refuse"] = "missing"


class PredictStep(Step[Predict]):
    """Prediction; the scores stay at the label holder."""

    name = "predict"
    title = "Score the common rows"
    needs = ("rows",)
    gives = ("scores",)

    def uses(self) -> tuple[Protocol, ...]:
        """Prediction."""
        from atoll.learn.vertical.trees.predict import PROTOCOL

        return (PROTOCOL,)

    def part(self, work: Work) -> Any:
        """This site's part of the model.

        Raises:
            InputError: no such job finished here, or its model is damaged.
        """
        from atoll.learn.vertical.trees.model import FeaturePart, LabelPart

        return work.earlier(self.params.model).read_json(MODEL, LabelPart if work.labels else FeaturePart)

    async def run(self, session: Session, work: Work) -> str:
        """Score, and at the label holder write the scores beside the ids."""
        from atoll.learn.vertical.trees.predict import predict_feature_holder, predict_label_holder

        part, X = self.part(work), present(work.X, "columns")
        X, lost = as_trained(X, part.columns) if self.params.unseen == "missing" else (X, 0)
        note = f"; {lost:,} values of new categories count as missing" if lost else ""
        if not work.labels:
            hub = session.peers[work.job.hub].sub("predict")
            await predict_feature_holder(hub, part, X, rng=work.rng)
            return f"helped to score {X.rows:,} rows{note}"
        peers = {name: channel.sub("predict") for name, channel in session.peers.items()}
        score = await predict_label_holder(peers, part, X, rng=work.rng)
        table, rows = present(work.table, "table"), present(work.rows, "common rows")
        text = io.StringIO()
        writer = csv.writer(text)
        writer.writerow([*work.mine.ids, "score"])
        for at, value in sorted(zip(rows.tolist(), score.tolist(), strict=True)):
            writer.writerow([*(ids[at] for ids in table.ids), f"{value:.6f}"])
        path = work.store.write(SCORES, text.getvalue().encode())
        work.report["scores"] = path.name
        return f"{len(score):,} rows scored{note}"


def as_trained(X: Columns, used: Any) -> tuple[Columns, int]:
    """Make values of categories that training did not see missing.

    Returns:
        The columns, and how many values changed.
    """
    known = {column.name: frozenset(column.categories) for column in used if column.kind == "categorical"}
    columns, lost = [], 0
    for column in X.columns:
        if column.kind == "categorical" and column.name in known:
            new = np.array([text not in known[column.name] for text in column.categories] + [False])
            hit = new[column.values]
            lost += int(np.count_nonzero(hit))
            column = Column(column.name, column.kind, np.where(hit, np.int32(-1), column.values), column.categories)
        columns.append(column)
    return Columns(tuple(columns), X.rows), lost
