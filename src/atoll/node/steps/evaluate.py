"""Score the test rows from the model parts and measure what the partnership gained."""

from __future__ import annotations

import csv
import io
from typing import Annotated, Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from atoll.core.channel import Channel
from atoll.core.errors import InputError
from atoll.core.message import Message
from atoll.core.protocol import Card, Protocol
from atoll.core.session import Session
from atoll.node.steps.base import Step, Work, present
from atoll.node.steps.split import TEST

EVALUATION = "evaluation.csv"


class Evaluate(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="step", tag="evaluate"):
    """Params of `evaluate`.

    Attributes:
        share: whether the feature holders are told AUC and KS, alone and in partnership.
        subject: what a row is, in the plural, for the report.
        positive: adjective for rows with label 1.
        negative: adjective for rows with label 0.
        minimum: fewest test rows that are worth measuring.
    """

    share: bool = False
    subject: str = "customers"
    positive: str = "positive"
    negative: str = "negative"
    minimum: Annotated[int, msgspec.Meta(ge=10)] = 10


class Figures(Message, frozen=True):
    """What the label holder tells its partners of the result: four numbers, NaN-free."""

    rows: int
    auc_alone: float
    ks_alone: float
    auc: float
    ks: float


async def announce(peer: Channel, figures: Figures) -> None:
    """Label holder: tell a feature holder the figures."""
    await peer.send(figures)


async def learn(peer: Channel) -> Figures:
    """Feature holder: receive the figures."""
    return await peer.recv(Figures)


class EvaluateStep(Step[Evaluate]):
    """Prediction of the test rows, then metrics at the label holder only."""

    name = "evaluate"
    title = "Evaluate on rows that were not trained on"
    needs = ("model",)
    gives = ("metrics",)

    def uses(self) -> tuple[Protocol, ...]:
        """Prediction, and the announcement if the job says so."""
        from atoll.learn.vertical.trees.predict import PROTOCOL as PREDICTION

        return (PREDICTION, PROTOCOL) if self.params.share else (PREDICTION,)

    async def run(self, session: Session, work: Work) -> str:
        """Score the test rows and measure.

        Raises:
            InputError: too few test rows.
        """
        from atoll.learn.vertical.trees.predict import predict_feature_holder, predict_label_holder

        X, part, model = (
            present(work.X, "columns"),
            present(work.part, "split"),
            present(work.state.get("model"), "model"),
        )
        test = np.flatnonzero(part == TEST)
        if len(test) < self.params.minimum:
            raise InputError(
                f"{len(test)} test rows are too few to evaluate (minimum {self.params.minimum})",
                cure="Raise `test:` in step split, or bring more rows.",
            )
        if not work.labels:
            hub = session.peers[work.job.hub]
            await predict_feature_holder(hub.sub("predict"), model, X.take(test), rng=work.rng)
            if not self.params.share:
                return f"helped to score {len(test):,} rows; the label holder keeps the figures"
            figures = await learn(hub.sub("figures"))
            work.report["figures"] = msgspec.to_builtins(figures)
            alone = f"(label holder alone {figures.auc_alone:.3f}, {figures.ks_alone:.3f})"
            return f"AUC {figures.auc:.3f}, KS {figures.ks:.3f} {alone}"
        peers = {name: channel.sub("predict") for name, channel in session.peers.items()}
        score = await predict_label_holder(peers, model, X.take(test), rng=work.rng)
        return await self._measure(session, work, test, score)

    async def _measure(self, session: Session, work: Work, test: Any, score: Any) -> str:
        from atoll.evaluate import metrics
        from atoll.learn.vertical.trees.predict import predict_label_holder
        from atoll.report import performance

        y, X = present(work.y, "label")[test], present(work.X, "columns")
        found = [performance("partnership", y, score)]
        alone = work.state.get("alone")
        before = None
        if alone is not None:
            before = await predict_label_holder({}, alone, X.take(test), rng=work.rng)
            found.insert(0, performance("alone", y, before))
            work.state["auc_gain"] = metrics.auc_gain(y, before, score)
        work.state["performances"] = found
        work.state["stability"] = metrics.psi(work.state["history"].scores, score)
        self._keep(work, test, score)
        first, last = found[0], found[-1]
        if self.params.share:
            figures = Figures(len(test), first.auc, first.ks.statistic, last.auc, last.ks.statistic)
            for peer in session.peers.values():
                await announce(peer.sub("figures"), figures)
        versus = f" (alone {first.auc:.3f}, {first.ks.statistic:.3f})" if alone is not None else ""
        return f"AUC {last.auc:.3f}, KS {last.ks.statistic:.3f}{versus} on {len(test):,} rows"

    def _keep(self, work: Work, test: NDArray[np.int64], score: NDArray[np.float64]) -> None:
        """Write id, label and score of the test rows for the label holder's own use."""
        table, rows, y = present(work.table, "table"), present(work.rows, "common rows"), present(work.y, "label")
        text = io.StringIO()
        writer = csv.writer(text)
        writer.writerow([*work.mine.ids, "label", "score"])
        for at, value in zip(test.tolist(), score.tolist(), strict=True):
            writer.writerow([*(ids[rows[at]] for ids in table.ids), int(y[at]), f"{value:.6f}"])
        work.store.write(EVALUATION, text.getvalue().encode())


PROTOCOL = Protocol(
    name="figures-announcement",
    version=1,
    title="The label holder tells its partners what the partnership gained",
    card=Card(
        source="Atoll.",
        security="Nothing is hidden: the five numbers are the message. A job says `share: true` to allow it.",
        inputs="Label holder: number of test rows, AUC and KS alone and in partnership.",
        reveals={
            "label holder": ("Nothing.",),
            "feature holder": (
                "The number of test rows, and AUC and KS of the label holder's own data alone and of the partnership.",
            ),
        },
        cost="1 message of about 150 bytes to each feature holder.",
        fails="ProtocolError on another message.",
        assurance="tested",
        notes=("AUC and KS of few rows say something of single labels; keep `share: false` below a few hundred rows.",),
    ),
    roles={"label holder": announce, "feature holder": learn},
    messages=(Figures,),
)
