"""Step `fit` in a job with `privacy:`: nothing is looked at but what the job declares and totals with noise."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from atoll.core.errors import InputError
from atoll.data.columns import Columns
from atoll.data.schema import ColumnSchema
from atoll.node.coding import matrix, terms_of
from atoll.node.models import Fitted, Here, noisy
from atoll.node.models.noisy import Declared, FitPlan

if TYPE_CHECKING:
    from atoll.learn.horizontal.rows import F64, Bool
    from atoll.node.private import JobPrivacy
    from atoll.node.steps.base import Work
    from atoll.node.steps.fit import Fit
    from atoll.protocols.secure_sum.noisy import PlannedTotals, Release

MEASURE = 0.15
"""Part of the step's ρ for how good the model is."""


@dataclass(frozen=True)
class NoisyFit:
    """What is planned for one job.

    Args:
        params: of the step.
        columns: that the model reads, as declared.
        said: the same for the model.
        model: what it opens.
        measure: what is opened to measure it; None where it is not measured.
    """

    params: Fit
    columns: tuple[ColumnSchema, ...]
    said: Declared
    model: FitPlan
    measure: Release | None

    @property
    def releases(self) -> tuple[Release, ...]:
        """All that is opened."""
        return (*self.model.releases, *((self.measure,) if self.measure else ()))

    async def fit(self, totals: PlannedTotals, work: Work, out: Bool) -> Fitted:
        """Fit the model and measure it.

        Args:
            totals: noisy totals of `releases`.
            work: this site's side.
            out: (n,) rows that the model is measured on and not fitted to.
        """
        coded: Columns = work.state["coded"]
        table = Columns(tuple(coded[column.name] for column in self.columns), coded.rows)
        y, X = self._label(coded), matrix(table, baseline=self.params.model.baseline)
        there = ~np.isnan(y)
        whole = there & ~np.isnan(X).any(axis=1) if self.params.model.whole else there
        here = self._here(work, table, X, y, whole & ~out)
        done = await noisy.fit(totals, self.model, self.params.model, self.said, here)
        if self.measure is not None:
            on = whole & (out if self.params.test else np.ones(len(y), np.bool_))
            done.figures.update(await self._measured(totals, done, table.take(np.flatnonzero(on)), y[on]))
        return done

    def _here(self, work: Work, table: Columns, X: F64, y: F64, use: Bool) -> Here:
        from atoll.learn.horizontal.rows import Rows

        agreed = work.state["agreed"]
        terms = terms_of(self.columns, baseline=self.params.model.baseline)
        kept = table.take(np.flatnonzero(use))
        return Here(kept, Rows(terms, X[use]), y[use], {}, {}, agreed.rows, agreed.minimum, work.rng.spawn())

    async def _measured(self, totals: PlannedTotals, done: Fitted, table: Columns, y: F64) -> dict[str, float]:
        from atoll.learn.horizontal.private.measure import auc, r_squared

        score, where = self.params.model.predict(done.values, table), " on rows kept out" if self.params.test else ""
        if self.measure is None:
            return {}
        if self.params.model.wants == "event":
            found = await auc(totals, self.measure, score, y)
        else:
            found = await r_squared(totals, self.measure, score, y, self.said.bounds[self.said.label])
        return {name + where: value for name, value in found.items()}

    def _label(self, coded: Columns) -> F64:
        """The label as numbers; NaN where it is missing or none of the declared values."""
        column = coded[self.said.label]
        if column.kind == "categorical":
            event = column.values == column.categories.index(self.params.positive)
            return np.where(column.values < 0, np.nan, event)
        if self.params.model.wants == "event":
            return np.where((column.values == 0) | (column.values == 1), column.values, np.nan)
        return column.values


def plan(params: Fit, features: Sequence[str], label: str, privacy: JobPrivacy, rho: float) -> NoisyFit:
    """Plan the step from the job alone.

    Args:
        params: of the step.
        features: the columns that the model reads.
        label: its label; empty where there is none.
        privacy: what the job declares.
        rho: the step's part of ρ.

    Raises:
        InputError: the model has no form with noise, or the job does not declare what it needs.
    """
    from atoll.learn.horizontal.private.measure import auc_plan, r_squared_plan

    if params.missing != "drop":
        raise InputError(
            "a job that ends because of a missing value tells that there is one",
            step="fit",
            cure="Say `missing: drop`.",
        )
    columns = tuple(privacy.column(name) for name in features)
    wants = params.model.wants
    if wants in ("event", "number"):
        _check_label(params, privacy.column(label), privacy)
    said = Declared(tuple((one.name, one.categories) for one in columns), label, privacy.bounds)
    measured = bool(params.test) or wants == "event"
    model = noisy.plan(params.model, said, rho * (1 - MEASURE) if measured else rho)
    measure = (auc_plan if wants == "event" else r_squared_plan)(rho * MEASURE) if measured else None
    return NoisyFit(params, columns, said, model, measure)


def _check_label(params: Fit, label: ColumnSchema, privacy: JobPrivacy) -> None:
    """Refuse a label that is not declared as the model needs it."""
    wants, text = params.model.wants, label.kind == "categorical"
    cure = ""
    if wants == "number" and text:
        cure = "Take another model or label."
    elif text and (params.positive not in label.categories or len(label.categories) != 2):
        cure = "Declare its two values under `categories:`, and name one of them under `positive:`."
    elif not text and params.positive:
        cure = "Remove `positive:`."
    elif wants == "event" and not text and privacy.bounds[label.name] != (0.0, 1.0):
        cure = f"Code the event as 1 and the rest as 0, and declare `{label.name}: [0, 1]`."
    if cure:
        raise InputError(f"the label is not declared as {params.model.title} needs it", column=label.name, cure=cure)
