"""The label holder's forest: margins, early stopping, measures, and its part of the model.  No messages."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from atoll.core.errors import InputError
from atoll.core.offload import offload
from atoll.crypto.random import Rng
from atoll.learn.vertical.trees.binning import BinnedTable, Layout
from atoll.learn.vertical.trees.grow import Growth, draw_sample
from atoll.learn.vertical.trees.kept import ANEW, KeptForest
from atoll.learn.vertical.trees.kernels import F64, U8
from atoll.learn.vertical.trees.model import History, Importance, LabelPart, TreeNode, used_columns
from atoll.learn.vertical.trees.objective import auc, base_margin, derivatives, log_loss, probability
from atoll.learn.vertical.trees.params import TreeParams
from atoll.privacy.leakage import LeakageMeter

POINTS = 201
"""Quantiles of the training rows' scores that are kept for comparing later ones with."""

Asked = Sequence[Mapping[int, str]]
"""Level by level: node → id of the split that a site was told; fakes have negative numbers."""


@dataclass(frozen=True)
class Label:
    """A checked label: (n,) of 0 and 1, and which rows are trained on."""

    values: U8
    train: NDArray[np.bool_]


def checked_label(label: NDArray[np.generic], validation: NDArray[np.bool_], rows: int, params: TreeParams) -> Label:
    """Check a label and its validation part.

    Raises:
        InputError: Wrong length, values other than 0 and 1, one class only, or early stopping without validation rows.
    """
    step = "trees"
    if rows == 0:
        raise InputError("there are no rows to train on", step=step, cure="Check the alignment's result.")
    if label.shape != (rows,) or validation.shape != (rows,):
        raise InputError(
            f"the label has {label.size:,} rows and the validation mask {validation.size:,}, the columns have {rows:,}",
            step=step,
            cure="Take all three from the same aligned table.",
        )
    try:
        values = label.astype(np.float64)
    except (TypeError, ValueError):
        raise InputError(
            "the label is not made of numbers", step=step, cure="Code the event as 1, the rest as 0."
        ) from None
    if not np.isfinite(values).all():
        raise InputError("the label has missing or infinite values", step=step, cure="Leave those rows out.")
    if not np.isin(values, (0.0, 1.0)).all():
        raise InputError(
            "the label has values other than 0 and 1", step=step, cure="Code the event as 1, the rest as 0."
        )
    train = ~validation.astype(np.bool_)
    for name, part in (("training", train), ("validation", ~train)):
        if part.any() and np.unique(values[part]).size < 2:
            raise InputError(
                f"the label has one class only among the {name} rows",
                step=step,
                cure="Trees need rows of both classes in every part; check the label column and the split.",
            )
    if not train.any():
        raise InputError("there are no training rows", step=step, cure="Make the validation part smaller.")
    if params.early_stopping_rounds and train.all():
        raise InputError(
            "early stopping needs validation rows and there are none", step=step, cure="Set a validation part."
        )
    return Label(values.astype(np.uint8), train)


@dataclass
class Forest:
    """All trees so far and the margins that they give.

    Args:
        table: The label holder's own bins.
        foreign: Layout of every feature holder.
        label: The checked label.
        params: The parameters.
        rng: For the samples of rows and features.
    """

    table: BinnedTable
    foreign: Sequence[Layout]
    label: Label
    params: TreeParams
    rng: Rng
    trees: list[tuple[TreeNode, ...]] = field(default_factory=list)
    asked: list[Mapping[str, Asked]] = field(default_factory=list)
    gains: list[list[tuple[int, int, float]]] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    vectors: int = 0

    def __post_init__(self) -> None:
        self.base = base_margin(self.label.values[self.label.train], self.params)
        self.margin: F64 = np.full(self.table.rows, self.base)
        self._scores: tuple[float, ...] = ()
        self._known: list[tuple[float, ...]] = []
        self._measures: list[asyncio.Task[tuple[float, ...]]] = []
        self._valid_loss: list[float] = []

    @property
    def best(self) -> int:
        """Number of trees up to the best one."""
        return int(np.argmin(self._valid_loss)) + 1 if self._valid_loss else len(self.trees)

    @property
    def wants_more(self) -> bool:
        """Whether another tree is to be grown."""
        patience = self.params.early_stopping_rounds
        stopped = patience is not None and len(self.trees) - self.best >= patience
        return len(self.trees) < self.params.n_estimators and not stopped

    def sprout(self) -> Growth:
        """Begin the next tree on the residuals of those before."""
        g, h = derivatives(self.margin, self.label.values, self.params)
        counts = [layout.features for layout in (self.table.layout, *self.foreign)]
        sample = draw_sample(g, h, self.label.train, counts, self.params, self.rng)
        return Growth(self.table, self.foreign, sample, self.params)

    async def add(self, growth: Growth, asked: Mapping[str, Asked], sites: Sequence[str], seconds: float) -> None:
        """Take a grown tree; measure it while the next one grows, or at once where early stopping needs it."""
        ids = {node: found for levels in asked.values() for level in levels for node, found in level.items()}
        weights = growth.weights()
        self.trees.append(tuple(self._node(growth, n, ids, sites, float(weights[n])) for n in range(len(growth.nodes))))
        self.gains.append([(n.split.site, n.split.feature, n.split.gain) for n in growth.nodes if n.split])
        self.asked.append(asked)
        self.seconds.append(seconds)
        self.vectors += growth.asked
        self.margin = self.margin + weights[growth.at]
        self._measures.append(asyncio.create_task(offload(_measure, self.margin, self.label)))
        if self.params.early_stopping_rounds is not None:
            self._valid_loss.append((await self._measures[-1])[2])
            if self.best == len(self.trees):
                self._scores = await offload(self._quantiles)

    async def kept(self, model: bytes, meter: LeakageMeter | None) -> KeptForest:
        """Return what a later try needs to go on after these trees."""
        self._known += [await task for task in self._measures]
        self._measures = []
        asked: list[Any] = [{site: list(levels) for site, levels in tree.items()} for tree in self.asked]
        notes = [] if meter is None else meter.notes()
        margin = self.margin.astype("<f8").tobytes()
        return KeptForest(model, self.trees, asked, self.gains, self.seconds, self._known, self._scores, margin, notes)

    def restore(self, kept: KeptForest, meter: LeakageMeter | None) -> None:
        """Go on after the trees that an earlier try has kept."""
        self.trees, self.asked, self.gains = list(kept.trees), list(kept.asked), list(kept.gains)
        self.seconds, self._known, self._scores = list(kept.seconds), list(kept.measures), kept.scores
        if len(kept.margin) != 8 * self.table.rows:
            raise InputError("what an earlier try kept of the trees is damaged", step="train", cure=ANEW)
        self.margin = np.frombuffer(kept.margin, "<f8").astype(np.float64)
        if self.params.early_stopping_rounds is not None:
            self._valid_loss = [measure[2] for measure in kept.measures]
        if meter is not None:
            meter.restore(kept.meter)

    def part(self, model: str) -> LabelPart:
        """Return the label holder's part of the model."""
        rules = [node.rule for tree in self.trees for node in tree if node.rule]
        asked = {
            site: tuple(tuple(tuple(level.values()) for level in tree[site]) for tree in self.asked)
            for site in (self.asked[0] if self.asked else ())
        }
        return LabelPart(
            model,
            self.base,
            self.params.max_depth,
            self.best,
            tuple(self.trees),
            asked,
            used_columns(self.table, rules),
        )

    async def history(self, sites: Sequence[str]) -> History:
        """Return how training went."""
        measures = self._known + [await task for task in self._measures]
        series = list(zip(*measures, strict=True)) if measures else []
        loss, area, valid_loss, valid_area = series if len(series) == 4 else (*series, (), ())
        best = self.best if self.params.early_stopping_rounds else None
        importance = tuple(self._importance(sites))
        scores = self._scores if best else await offload(self._quantiles)
        times, rows = tuple(self.seconds), self.table.rows
        return History(
            loss, area, valid_loss, valid_area, times, best, self.vectors, rows, importance, scores
        )  # fmt: skip

    def _quantiles(self) -> tuple[float, ...]:
        scores = probability(self.margin[self.label.train])
        return tuple(np.quantile(scores, np.linspace(0.0, 1.0, POINTS)).tolist())

    def _node(
        self, growth: Growth, number: int, ids: Mapping[int, str], sites: Sequence[str], weight: float
    ) -> TreeNode:
        node = growth.nodes[number]
        split = node.split
        if split is None:
            return TreeNode(weight=weight, rows=node.rows)
        if split.site:
            site = sites[split.site - 1]
            return TreeNode(node.left, 0.0, node.rows, split.gain, site=site, split=ids[number])
        rule = self.table.columns[split.feature].rule(split.bin, split.default_left)
        return TreeNode(node.left, 0.0, node.rows, split.gain, rule)

    def _importance(self, sites: Sequence[str]) -> list[Importance]:
        sums: dict[tuple[int, int], tuple[float, int]] = {}
        for site, feature, gain in (entry for tree in self.gains[: self.best] for entry in tree):
            before, count = sums.get((site, feature), (0.0, 0))
            sums[site, feature] = (before + gain, count + 1)
        ranked = sorted(sums.items(), key=lambda item: (-item[1][0], item[0]))
        return [
            Importance(
                sites[site - 1] if site else "",
                feature + 1,
                "" if site else self.table.columns[feature].name,
                gain,
                count,
            )
            for (site, feature), (gain, count) in ranked
        ]


def _measure(margin: F64, label: Label) -> tuple[float, ...]:
    """Return log-loss and AUC on the training rows, and on the validation rows if there are any."""
    parts = [label.train] if label.train.all() else [label.train, ~label.train]
    return tuple(
        value
        for part in parts
        for value in (log_loss(margin[part], label.values[part]), auc(margin[part], label.values[part]))
    )
