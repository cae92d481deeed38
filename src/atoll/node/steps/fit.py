"""Fit a model to the rows of all sites; the same model at every site."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import msgspec
import numpy as np
from msgspec.structs import replace
from numpy.typing import NDArray

from atoll.core.errors import InputError
from atoll.core.protocol import Protocol
from atoll.core.session import Session
from atoll.data.columns import Column, Columns
from atoll.data.schema import ColumnSchema
from atoll.node.coding import matrix, terms_of
from atoll.node.kept import MODEL, Kept
from atoll.node.models import AnyModel, Fitted, Here, Label
from atoll.node.private import columns_of, loss_of_step, noisy_totals, rho_of_step
from atoll.node.private import says as says_noise
from atoll.node.steps import fit_noisy
from atoll.node.steps.base import Called, Step, Work, present
from atoll.node.steps.compare import Agreed
from atoll.node.steps.describe import known_columns
from atoll.node.steps.groups import check_groups, groups_of
from atoll.node.steps.quality import quality
from atoll.node.steps.split import TEST, Share, Split, draw
from atoll.node.steps.totals import enough, shared, still_enough, sum_protocol, totals
from atoll.node.store import RESUME

if TYPE_CHECKING:
    from atoll.node.job import Job
    from atoll.node.private import JobPrivacy
    from atoll.privacy.accountant import Loss
    from atoll.protocols.secure_sum.noisy import Release
    from atoll.protocols.secure_sum.totals import Totals

F64 = NDArray[np.float64]
MOST_CLASSES = 100


class Fit(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, tag_field="step", tag="fit"):
    """Params of `fit`.

    Attributes:
        model: what is fitted: `kind:` and its own keys, see below.
        label: the column that it predicts; the job's label if left out.
        columns: the columns that it reads; all but the labels if left out. A column of categories becomes one number,
            0 or 1, for each category but the first.
        positive: the value of a text label that counts as 1.
        missing: what becomes of rows with a missing value: `refuse` the job, or `drop` them.
        test: share of the rows that the model is not fitted to but measured on; drawn by a hash of the id.
        seed: another number draws others.
        name: of several steps `fit` each needs its own; the model is kept in `model-NAME.json`.
    """

    model: AnyModel
    label: str = ""
    columns: tuple[str, ...] = ()
    positive: str = ""
    missing: Literal["refuse", "drop"] = "refuse"
    test: Share = 0.0
    seed: int = 0
    name: Called = ""

    def __post_init__(self) -> None:
        if self.test and (self.model.wants == "none" or self.model.beside):
            raise InputError(f"{self.model.title} is not measured on rows kept out", cure="Remove `test:`.")


class FitStep(Step[Fit]):
    """A model with its standard errors and p values, equal to the one that all rows in one place would give."""

    name = "fit"
    title = "Fit a model to the rows of all sites"
    needs = ("schema",)
    gives = ("fitted",)
    leaves = (MODEL,)
    hub = "aggregator"

    def uses(self) -> tuple[Protocol, ...]:
        """The sum."""
        return (sum_protocol(self.topology),)

    @property
    def wants(self) -> Label:
        """What the label must be."""
        return self.params.model.wants

    def _noisy(self, job: Job, privacy: JobPrivacy) -> fit_noisy.NoisyFit:
        self._require_label(job)
        names = self._features(columns_of(job), job)
        return fit_noisy.plan(self.params, names, self._label_of(job), privacy, rho_of_step(job, self.name))

    def plan_noise(self, job: Job) -> tuple[Release, ...]:
        """What the model opens, and what it is measured by."""
        return self._noisy(job, job.privacy).releases if job.privacy else ()

    def loss(self, job: Job, site: str) -> Loss | None:
        """That of all totals, where they hold noise."""
        return loss_of_step(job, site, self.name)

    def _label_of(self, job: Job) -> str:
        return self.params.label or job.label

    def _features(self, names: Sequence[str], job: Job) -> tuple[str, ...]:
        """The columns that the model may read: all but the labels, unless it names the job's for a label of its own.

        Raises:
            InputError: it names one that is not there.
        """
        model, label = self.params.model, self._label_of(job)
        kept = [name for name in names if name not in (label, *model.beside, *model.within)]
        chosen = known_columns(self.params.columns, kept, self.name)
        return chosen if self.params.columns else tuple(name for name in chosen if name != job.label)

    def says(self, job: Job) -> tuple[str, ...]:
        """What every site learns.

        Raises:
            InputError: the model needs a label and the job names none.
        """
        model = self.params.model
        self._require_label(job)
        if job.privacy:
            return says_noise(job, self.name, self.plan_noise(job))
        extra: list[str] = []
        if self.wants == "event":
            extra = [
                "how many rows have the event, and how many events there are among rows of like scores, for the AUC"
            ]
        elif self.params.test:
            extra = ["how far predictions are off, or how many are right, on the rows kept out"]
        return (
            f"{self.name}: every site learns, of {shared(job)}, the {model.title} and on the way",
            "  the number of rows",
            *(f"  {line}" for line in (*model.tells, *extra)),
        )

    def _require_label(self, job: Job) -> None:
        if self.wants != "none" and not self._label_of(job):
            raise InputError(
                f"{self.params.model.title} needs a label",
                step=self.name,
                cure="Name it under `label:` at every site with data.",
            )

    def check(self, work: Work) -> None:
        """Refuse columns that are not there, missing values where they must not be, and labels that do not fit.

        Raises:
            InputError: naming the column.
        """
        self.says(work.job)
        self.params.model.check()
        if work.table is None or work.job.privacy:
            return
        label, table = self._label_of(work.job), work.table.columns
        if label:
            known_columns((label,), table.names, self.name)
        beside = known_columns(self.params.model.beside, table.names, self.name) if self.params.model.beside else ()
        for name in beside:
            if table[name].kind != "numeric":
                raise InputError("it is text, and must be a number", column=name, cure="Code it.")
        for name in known_columns(self.params.model.within, table.names, self.name) if self.params.model.within else ():
            check_groups(table[name])
        used = self._features(table.names, work.job)
        if not used:
            raise InputError("no column is left to fit a model to", cure="Name some under `columns:` of the sites.")
        needed = (
            *(used if self.params.model.whole else ()),
            *beside,
            *self.params.model.within,
            *(() if self.wants == "none" else (label,)),
        )
        for name in needed if self.params.missing == "refuse" else ():
            if lost := table[name].missing:
                raise InputError(
                    f"{lost:,} values are missing",
                    column=name,
                    cure=f"Fill them, or say `missing: drop` in step {self.name} to leave such rows out.",
                )
        if self.wants != "none":
            self._check_label(table[label])

    def _check_label(self, column: Column) -> None:
        kind, title = self.wants, self.params.model.title
        text, cure = column.kind == "categorical", ""
        if kind == "number" and text:
            what, cure = f"{title} predicts a number, and the label is text", "Take another model or label."
        elif kind == "event" and text and not self.params.positive:
            what, cure = "the label is text", "Say in step fit which value counts as 1: `positive: VALUE`."
        elif not text and self.params.positive:
            what, cure = "the label is numeric, so that no text can be positive", "Remove `positive:`."
        elif kind == "event" and not text and (other := _neither(column.values)):
            what = f"the label holds {other:,} values other than 0 and 1"
            cure = "Code the event as 1 and the rest as 0, at every site; `recode:` in the job can."
        elif kind == "class" and not text and _no_classes(column.values):
            what = "the label is a measure and no class, and all its values would be shown"
            cure = f"Code classes as whole numbers or texts, at most {MOST_CLASSES}, or take another model."
        if cure:
            raise InputError(what, column=column.name, cure=cure)

    async def run(self, session: Session, work: Work) -> str:
        """Fit, and keep the model.

        Raises:
            InputError: there are too few rows, one class only, or the model cannot be fitted to these columns.
        """
        agreed: Agreed = present(work.state.get("agreed"), "schema")
        if work.job.privacy:
            return await self._run_with_noise(session, work, self._noisy(work.job, work.job.privacy))
        params, label = self.params, self._label_of(work.job)
        used = self._features([column.name for column in agreed.columns], work.job)
        columns = tuple(column for column in agreed.columns if column.name in used)
        coded: Columns = work.state["coded"]
        table = Columns(tuple(coded[column.name] for column in columns), coded.rows)
        y, classes = self._label(work)
        out = self._kept_out(work)
        try:
            async with totals(session, work, self.name) as sums:
                here = await self._here(sums, work, columns, y, out)
                here = dataclasses.replace(here, progress=session.progress, folder=self._folder(work))
                done = await params.model.fit(sums, here)
                await self._measure(sums, done, table, y, out, agreed.minimum)
        except InputError as error:
            raise self._in_words_of_the_job(error, label) from None
        return self._keep(work, self._kept(work, columns, done, classes))

    async def _run_with_noise(self, session: Session, work: Work, planned: fit_noisy.NoisyFit) -> str:
        """Fit with noise, and keep the model."""
        async with noisy_totals(session, work, self.name, planned.releases) as sums:
            done = await planned.fit(sums, work, self._kept_out(work))
        return self._keep(work, self._kept(work, planned.columns, done, ()))

    def _keep(self, work: Work, kept: Kept) -> str:
        work.store.write_json(self.file(MODEL), kept)
        self._take(work, kept)
        return f"{kept.model.title}, {len(kept.terms)} terms, {kept.rows:,} rows{_best(kept.figures)}"

    async def _here(
        self, sums: Totals, work: Work, columns: Sequence[ColumnSchema], y: F64, out: NDArray[np.bool_]
    ) -> Here:
        """This site's rows that can be used, after a look at how many all sites have.

        Raises:
            InputError: there are too few, or an event that all rows have, or none.
        """
        from atoll.learn.horizontal.rows import Rows

        model, minimum, coded = self.params.model, work.state["agreed"].minimum, work.state["coded"]
        table = Columns(tuple(coded[column.name] for column in columns), coded.rows)
        X = matrix(table, baseline=model.baseline)
        beside = {name: coded[name].values for name in model.beside}
        within = {name: groups_of(coded, name, work.state["agreed"]) for name in model.within}
        use = ~(out | np.isnan(y))
        for strata, _ in within.values():
            use &= strata.values >= 0
        if model.whole:
            use &= ~np.isnan(np.column_stack([X, *beside.values()])).any(axis=1)
        rows = int((await sums.total(np.array([float(use.sum())]), what="rows that can be used"))[0])
        enough(rows, minimum, "rows without missing values")
        still_enough(work, self, rows, minimum, "rows that can be used")
        if self.wants == "event":
            events = float((await sums.total(np.array([float(y[use].sum())]), what="rows with the event"))[0])
            if events in (0.0, rows):
                cure = "Bring rows with and without the event."
                raise InputError("all rows of all sites have one class", column="label", cure=cure)
            enough(events, minimum, "rows with the event", "label")
            enough(rows - events, minimum, "rows without the event", "label")
            still_enough(work, self, int(events), minimum, "rows with the event", "label")
            still_enough(work, self, int(rows - events), minimum, "rows without the event", "label")
        return Here(
            table=table.take(np.flatnonzero(use)),
            X=Rows(terms_of(columns, baseline=model.baseline), X[use]),
            y=y[use],
            beside={name: column[use] for name, column in beside.items()},
            within={name: (column.take(np.flatnonzero(use)), known) for name, (column, known) in within.items()},
            rows=rows,
            minimum=minimum,
            rng=work.rng.spawn(),
        )

    def _folder(self, work: Work) -> Path | None:
        """Where this fit of this run, among these sites, keeps its side, if anything is kept."""
        name = hashlib.sha256(work.run + msgspec.json.encode([self.params, work.state["among"]])).hexdigest()[:16]
        return work.store.path(f"{RESUME}/{self.name}-{name}") if work.run else None

    def _label(self, work: Work) -> tuple[F64, tuple[str, ...]]:
        """The label as numbers, NaN where it is missing, and the names of its classes if it is text.

        Raises:
            InputError: a text label has other values than an event and its opposite.
        """
        coded: Columns = work.state["coded"]
        if self.wants == "none":
            return np.zeros(coded.rows), ()
        column = coded[self._label_of(work.job)]
        if column.kind == "numeric":
            return column.values, ()
        lost = column.values < 0
        if self.wants == "class":
            return np.where(lost, np.nan, column.values), column.categories
        positive = self.params.positive
        if positive not in column.categories or len(column.categories) != 2:
            held = ", ".join(map(repr, column.categories[:12]))
            raise InputError(
                f"the label has the values {held} at all sites together, and {positive!r} is to be 1",
                column=column.name,
                cure="Say in the job what each site's values are called, `recode:`, and name one under `positive:`.",
            )
        return np.where(lost, np.nan, column.values == column.categories.index(positive)), ()

    def _in_words_of_the_job(self, error: InputError, label: str) -> InputError:
        """Name step, column and key as the job does, where a model names them as it knows them."""
        names = {"label": label, "time": label, "event": "".join(self.params.model.beside)}
        error.step, error.column = self.name, names.get(error.column, error.column)
        error.cure = error.cure.replace("`smallest`", "`minimum` in step compare")
        return error

    def _kept_out(self, work: Work) -> NDArray[np.bool_]:
        """(n,) which rows the model is measured on and not fitted to."""
        if work.table is None:
            return np.zeros(0, np.bool_)
        kept: NDArray[np.bool_] = draw(work.table.ids, Split(test=self.params.test, seed=self.params.seed)) == TEST
        return kept

    async def _measure(
        self, sums: Totals, done: Fitted, table: Columns, y: F64, out: NDArray[np.bool_], minimum: int
    ) -> None:
        """Add how good the model is: on the rows kept out, or for an event on all."""
        if not self.params.test and self.wants != "event":
            return
        on = out if self.params.test else np.ones(len(y), np.bool_)
        score = self.params.model.predict(done.values, table.take(np.flatnonzero(on)))
        if self.wants == "class" and score.ndim == 2:
            score = _likeliest(score, np.array(done.values["classes"], np.float64))
        found = await quality(sums, self.wants, score, y[on], minimum)
        where = " on rows kept out" if self.params.test else ""
        done.figures.update({name + where: value for name, value in found.items()})

    def _kept(
        self,
        work: Work,
        columns: Sequence[ColumnSchema],
        done: Fitted,
        classes: tuple[str, ...],
    ) -> Kept:
        return Kept(
            job=work.job.id,
            model=self.params.model,
            label="" if self.wants == "none" else self._label_of(work.job),
            positive=self.params.positive,
            classes=classes,
            columns=tuple(columns),
            terms=terms_of(columns, baseline=self.params.model.baseline),
            rows=done.rows,
            sites=tuple(work.state["among"]),
            figures=done.figures,
            coefficients=tuple(replace(line, term=_by_name(line.term, classes)) for line in done.coefficients),
            grids=tuple(replace(grid, heads=tuple(_by_name(h, classes) for h in grid.heads)) for grid in done.grids),
            values=done.values,
            curves=dict(done.curves),
        )

    async def resume(self, work: Work) -> None:
        """Take the model again."""
        self._take(work, work.store.read_json(self.file(MODEL), Kept))

    def _take(self, work: Work, kept: Kept) -> None:
        work.state.setdefault("fitted", {})[self.name] = kept
        work.report[self.name] = {"kind": kept.model.title, "rows": kept.rows, **kept.figures}


def _likeliest(shares: F64, classes: F64) -> F64:
    """(n,) the class of the largest of (n, K) probabilities; NaN where they are not known."""
    lost = np.isnan(shares.sum(axis=1))
    return np.where(lost, np.nan, classes[np.nan_to_num(shares).argmax(axis=1)])


def _neither(values: F64) -> int:
    return int(np.count_nonzero((values != 0) & (values != 1) & ~np.isnan(values)))


def _no_classes(values: F64) -> bool:
    found = np.unique(values[~np.isnan(values)])
    return len(found) > MOST_CLASSES or bool((found != np.rint(found)).any())


def _by_name(text: str, classes: Sequence[str]) -> str:
    """Call classes that models know by number what the label calls them: `class 1` and `1: age`."""
    for at, name in enumerate(classes):
        if text == f"class {at}" or text.startswith(f"{at}: "):
            return name if text.startswith("class") else name + text.removeprefix(str(at))
    return text


def _best(figures: Mapping[str, float]) -> str:
    best = next((name for name in figures if name.startswith(("AUC", "R²", "right"))), "")
    return f", {best} {figures[best]:.3f}" if best else ""
