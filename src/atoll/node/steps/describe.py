"""Describe the columns of all sites together: numbers, spreads, quartiles, categories."""

from __future__ import annotations

import csv
import io
import math
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from atoll.core.errors import InputError
from atoll.core.protocol import Protocol
from atoll.core.session import Session
from atoll.data.columns import Column, Columns
from atoll.data.scan import nearest
from atoll.data.schema import ColumnSchema
from atoll.node.private import columns_of, loss_of_step, noisy_totals
from atoll.node.private import says as says_noise
from atoll.node.steps import counts_noisy
from atoll.node.steps.base import Step, Work, present
from atoll.node.steps.compare import Agreed
from atoll.node.steps.totals import shared, sum_protocol, totals

if TYPE_CHECKING:
    from atoll.learn.horizontal.describe import Description
    from atoll.learn.horizontal.private.describe import DescribePlan
    from atoll.node.job import Job
    from atoll.node.private import JobPrivacy
    from atoll.privacy.accountant import Loss
    from atoll.protocols.secure_sum.noisy import Release

STATISTICS = "statistics.json"
TABLE = "statistics.csv"
FIGURES = ("mean", "sd", "least", "q1", "median", "q3", "largest")
CATEGORIES_SHOWN = 12


class Describe(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="step", tag="describe"):
    """Params of `describe`.

    Attributes:
        columns: the columns that are described; all, the label among them, if left out.
        extremes: whether the least and the largest value are found; they are values of single people.
    """

    columns: tuple[str, ...] = ()
    extremes: bool = False


class Statistics(msgspec.Struct, frozen=True, kw_only=True):
    """One column over the rows of all sites; None where there are too few values, or it was not asked for.

    Attributes:
        name: the column.
        kind: `numeric` or `categorical`.
        unit: of a numeric column.
        count: values that are there.
        missing: values that are not.
        mean: arithmetic mean.
        sd: standard deviation, with divisor n - 1.
        least: smallest value.
        q1: lower quartile, linear between neighbours.
        median: likewise.
        q3: upper quartile.
        largest: largest value.
        categories: rows by category; None where there are fewer than the minimum.
    """

    name: str
    kind: str
    unit: str = ""
    count: int
    missing: int
    mean: float | None = None
    sd: float | None = None
    least: float | None = None
    q1: float | None = None
    median: float | None = None
    q3: float | None = None
    largest: float | None = None
    categories: dict[str, int | None] = {}


class DescribeStep(Step[Describe]):
    """Number, mean, spread and quartiles of every numeric column, and the rows of every category, over all sites."""

    name = "describe"
    title = "Describe the columns"
    needs = ("schema",)
    gives = ("statistics",)
    leaves = (STATISTICS, TABLE)
    hub = "aggregator"

    def uses(self) -> tuple[Protocol, ...]:
        """The sum."""
        return (sum_protocol(self.topology),)

    def plan_noise(self, job: Job) -> tuple[Release, ...]:
        """The figures of numeric columns; categories are those of `compare`."""
        planned = self._planned(job, job.privacy) if job.privacy else None
        return planned.releases if planned else ()

    def loss(self, job: Job, site: str) -> Loss | None:
        """That of the figures, where they hold noise."""
        return loss_of_step(job, site, self.name)

    def _planned(self, job: Job, privacy: JobPrivacy) -> DescribePlan | None:
        if self.params.extremes:
            raise InputError(
                "least and largest values are those of single people, which no noise hides",
                step=self.name,
                cure="Remove `extremes:`.",
            )
        asked = known_columns(self.params.columns, columns_of(job), self.name)
        return counts_noisy.describe_plan(job, privacy, tuple(name for name in columns_of(job) if name in asked))

    def says(self, job: Job) -> tuple[str, ...]:
        """What every site learns."""
        if job.privacy:
            return says_noise(job, self.name, self.plan_noise(job))
        ends = ("  the least and the largest value of each numeric column: values of single people",)
        return (
            f"describe: every site learns, of {shared(job)} and each column in `columns:`",
            "  how many values are missing",
            "  mean, spread and size of each numeric column that has enough values",
            "  its quartiles, found by counting the values below numbers that close in on them",
            *(ends if self.params.extremes else ()),
        )

    def check(self, work: Work) -> None:
        """Refuse columns that are not there.

        Raises:
            InputError: naming the column.
        """
        if work.table is not None:
            known_columns(self.params.columns, work.table.columns.names, self.name)

    async def run(self, session: Session, work: Work) -> str:
        """Describe."""
        agreed: Agreed = present(work.state.get("agreed"), "schema")
        asked = known_columns(self.params.columns, [column.name for column in agreed.columns], self.name)
        numeric = [work.state["coded"][column.name] for column in agreed.columns if column.kind == "numeric"]
        numeric = [column for column in numeric if column.name in asked]
        if work.job.privacy:
            found = await self._numbers_with_noise(session, work, numeric, work.job.privacy)
        else:
            async with totals(session, work, self.name) as sums:
                found = await _numbers(sums, numeric, agreed, self.params.extremes)
        lines = tuple(
            found[column.name] if column.kind == "numeric" else _categories(column, counts, agreed)
            for column, counts in zip(agreed.columns, agreed.counts, strict=True)
            if column.name in asked
        )
        work.store.write_json(STATISTICS, lines)
        work.store.write(TABLE, _csv(lines).encode())
        work.state["statistics"] = lines
        return f"{len(lines)} columns over {agreed.rows:,} rows"

    async def _numbers_with_noise(
        self, session: Session, work: Work, columns: list[Column], privacy: JobPrivacy
    ) -> dict[str, Statistics]:
        """Describe numeric columns with noise; those with too few values by their number alone."""
        planned, agreed = self._planned(work.job, privacy), work.state["agreed"]
        if planned is None:
            return {}
        here = Columns(tuple(columns), work.state["coded"].rows)
        async with noisy_totals(session, work, self.name, planned.releases) as sums:
            found = await counts_noisy.described(sums, planned, here, privacy)
        units = {column.name: column.unit for column in agreed.columns}
        lines = {}
        for name, figures in found.items():
            count = max(0, round(figures.pop("count") or 0.0))
            shown = figures if count >= agreed.minimum else {}
            lost = max(0, agreed.rows - count)
            one = Statistics(name=name, kind="numeric", unit=units[name], count=count, missing=lost)
            lines[name] = msgspec.structs.replace(one, **shown)
        return lines

    async def resume(self, work: Work) -> None:
        """Take the figures again."""
        work.state["statistics"] = work.store.read_json(STATISTICS, tuple[Statistics, ...])


def known_columns(wanted: tuple[str, ...], there: Any, step: str) -> tuple[str, ...]:
    """Return the columns that a step names, or all.

    Raises:
        InputError: one of them is not there; with the nearest name.
    """
    for name in wanted:
        if name not in there:
            close = nearest(name, list(there))
            raise InputError(
                f"step {step} names a column that the sites' data have not, or the job leaves out",
                column=name,
                cure=f"Did you mean {close!r}?" if close else f"There are {', '.join(there)}.",
            )
    return wanted or tuple(there)


async def _numbers(sums: Any, columns: list[Column], agreed: Agreed, extremes: bool) -> dict[str, Statistics]:
    """Describe numeric columns; those with too few values by their number alone."""
    from atoll.learn.horizontal import describe
    from atoll.learn.horizontal.rows import Rows

    there = np.array([len(column.values) - column.missing for column in columns], np.float64)
    counts = (await sums.total(there, what="values that are there")).astype(np.int64)
    units = {column.name: column.unit for column in agreed.columns}
    found = {
        column.name: Statistics(
            name=column.name, kind="numeric", unit=units[column.name], count=count, missing=agreed.rows - count
        )
        for column, count in zip(columns, counts.tolist(), strict=True)
    }
    enough = [column for column, count in zip(columns, counts, strict=True) if count >= agreed.minimum]
    if not enough:
        return found
    levels = (0.0, 0.25, 0.5, 0.75, 1.0) if extremes else (0.25, 0.5, 0.75)
    X = Rows(tuple(column.name for column in enough), np.stack([column.values for column in enough], axis=1))
    done = await describe.fit(sums, X, describe.DescribeParams(levels, shape=False))
    for at, column in enumerate(enough):
        figures = zip(FIGURES, _figures(done, at, extremes), strict=True)
        found[column.name] = msgspec.structs.replace(found[column.name], **dict(figures))
    return found


def _figures(done: Description, at: int, extremes: bool) -> list[float | None]:
    ends = done.quantiles[at].tolist()
    middle = ends[1:-1] if extremes else ends
    sd = math.sqrt(done.variance[at]) if done.variance[at] >= 0 else None
    return [float(done.mean[at]), sd, ends[0] if extremes else None, *middle, ends[-1] if extremes else None]


def _categories(column: ColumnSchema, counts: tuple[int, ...], agreed: Agreed) -> Statistics:
    """Rows by category; rare ones are one already, but for those of the label."""
    there, rows = sum(counts), agreed.rows
    many = [count if count >= agreed.minimum else None for count in counts]
    by_category = dict(zip(column.categories, many, strict=True))
    lost = max(0, rows - there)  # counts with noise need not fit each other
    return Statistics(name=column.name, kind="categorical", count=there, missing=lost, categories=by_category)


def _csv(lines: tuple[Statistics, ...]) -> str:
    """One line a column, and below it one for each category."""
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(("column", "category", "unit", "count", "missing", *FIGURES))
    for one in lines:
        values = ["" if (value := getattr(one, name)) is None else repr(value) for name in FIGURES]
        writer.writerow((one.name, "", one.unit, one.count, one.missing, *values))
        writer.writerows(
            (one.name, category, "", count, "", *[""] * len(FIGURES)) for category, count in one.categories.items()
        )
    return text.getvalue()
