"""Steps `compare` and `describe` in a job with `privacy:`: columns as declared, counts and figures with noise."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from atoll.core.errors import InputError
from atoll.data.columns import Columns
from atoll.data.schema import ColumnSchema, Schema
from atoll.node.coding import coded
from atoll.node.private import columns_of, rho_of_step
from atoll.protocols.secure_sum.noisy import PlannedTotals, Release

if TYPE_CHECKING:
    from atoll.learn.horizontal.private.describe import Described, DescribePlan
    from atoll.node.job import Job
    from atoll.node.private import JobPrivacy
    from atoll.node.steps.base import Work

Counts = tuple[tuple[int, ...], ...]


def declared_schema(work: Work, privacy: JobPrivacy) -> Schema:
    """Return this site's schema as the job declares it, whatever values there are; with its own units."""
    return Schema(tuple(privacy.column(name, work.units.get(name, "")) for name in columns_of(work.job)))


def check_declared(work: Work, privacy: JobPrivacy) -> None:
    """Refuse columns that are of another kind than declared.

    Raises:
        InputError: naming the column.
    """
    for column in work.table.columns if work.table else ():
        if column.kind != (kind := privacy.column(column.name).kind):
            raise InputError(
                f"it is {column.kind} here, and declared as {kind}",
                column=column.name,
                cure="Correct the job's `privacy:`, or add the data set with another kind for the column.",
            )


def counts_plan(job: Job, privacy: JobPrivacy) -> Release:
    """Plan the rows of all sites, and of each category; one row is in one of every column at most."""
    columns = [privacy.column(name) for name in columns_of(job)]
    sizes = [len(column.categories) for column in columns if column.categories]
    return Release(
        what="rows, and rows of each category",
        numbers=1 + sum(sizes),
        length=math.sqrt(1 + len(sizes)),
        rho=rho_of_step(job, "compare"),
    )


async def counts(
    totals: PlannedTotals, release: Release, table: Columns | None, columns: tuple[ColumnSchema, ...]
) -> tuple[int, Counts]:
    """Count rows and categories; what noise brings below 0 is 0.

    Args:
        totals: noisy totals of the plan.
        release: of `counts_plan`.
        table: this site's columns; None without data.
        columns: as declared.
    """
    here = coded(table, columns)
    parts = [np.array([float(here.rows)])]
    for column in here:
        if column.kind == "categorical":
            known = column.values[column.values >= 0]
            parts.append(np.bincount(known, minlength=len(column.categories)).astype(np.float64))
    found = np.maximum(np.rint(await totals.total(np.concatenate(parts), release)), 0.0).astype(np.int64).tolist()
    ends, at = [], 1
    for schema in columns:
        ends.append(tuple(found[at : at + len(schema.categories)]))
        at += len(schema.categories)
    return found[0], tuple(ends)


def describe_plan(job: Job, privacy: JobPrivacy, asked: tuple[str, ...]) -> DescribePlan | None:
    """Plan the figures of numeric columns; None if there are none among those asked for."""
    from atoll.learn.horizontal.private import describe

    numeric = [name for name in asked if privacy.column(name).kind == "numeric"]
    return describe.plan(len(numeric), rho_of_step(job, "describe")) if numeric else None


async def described(
    totals: PlannedTotals, planned: DescribePlan, columns: Columns, privacy: JobPrivacy
) -> dict[str, dict[str, float | None]]:
    """Return figures of numeric columns by name: `count`, `mean`, `sd`, quartiles; None where noise leaves nothing."""
    from atoll.learn.horizontal.private import describe
    from atoll.learn.horizontal.private.scaled import scaled

    scale = scaled([(column.name, ()) for column in columns], privacy.bounds)
    X = np.stack([column.values for column in columns], axis=1)
    found: Described = await describe.describe(totals, planned, X, scale)
    lines = np.column_stack([found.count, found.mean, found.sd, found.quantiles]).tolist()
    names = ("count", "mean", "sd", "q1", "median", "q3")
    return {
        column.name: {key: value if math.isfinite(value) else None for key, value in zip(names, line, strict=True)}
        for column, line in zip(columns, lines, strict=True)
    }
