"""Bins that all sites share, the only form in which splits see columns."""

from __future__ import annotations

import numpy as np

from atoll.core.errors import InputError
from atoll.data.columns import Column, Columns
from atoll.learn.horizontal.categories import categories
from atoll.learn.horizontal.order import order_statistics
from atoll.learn.horizontal.rows import F64, I64
from atoll.learn.horizontal.trees.params import STEP
from atoll.learn.vertical.trees.binning import BinnedTable, ColumnBins, Layout, code_column
from atoll.protocols.secure_sum.totals import Totals


async def fit_bins(totals: Totals, table: Columns, *, max_bin: int, smallest: int) -> tuple[ColumnBins, ...]:
    """Choose the bins of every column from the values of all sites.

    Numeric columns are cut at order statistics of even rank.  Categories that enough rows have get a bin each, the most
    frequent first; the others share one.  Missing values have a bin of their own if there are any.

    Reveals: how many values of every column are missing; the cuts and what `order_statistics` says; the categories that
    enough rows have (see `categories`).

    Args:
        totals: the sum over the sites.
        table: this site's columns.
        max_bin: largest number of ordinary bins, at least 2.
        smallest: fewest rows of a category with a bin of its own.

    Raises:
        InputError: a value is infinite.
    """
    for column in table:
        if column.kind == "numeric" and np.isinf(column.values).any():
            raise InputError("it holds an infinite value", step=STEP, column=column.name, cure="Make it missing.")
    missing = np.array([column.missing for column in table], np.float64)
    flat = await totals.total(np.append(missing, table.rows), what=f"{STEP}: missing values")
    missing, rows = flat[:-1], int(flat[-1])
    numeric = [j for j, column in enumerate(table) if column.kind == "numeric"]
    known = (rows - missing[numeric]).astype(np.int64)
    cuts = iter(await _cuts(totals, [table.columns[j] for j in numeric], known, max_bin))
    found: list[ColumnBins] = []
    for j, column in enumerate(table):
        lost = bool(missing[j])
        if column.kind == "numeric":
            found.append(ColumnBins(column.name, "numeric", cuts=next(cuts), missing=lost))
        else:
            names, counts = await categories(totals, column, smallest=smallest, step=STEP)
            order = np.argsort(-counts, kind="stable")
            kept = tuple(names[at] for at in order[: max_bin - 1])
            rest = rows - int(missing[j]) - int(counts[order[: max_bin - 1]].sum())
            found.append(
                ColumnBins(column.name, "categorical", categories=names, kept=kept, other=rest > 0, missing=lost)
            )
    return tuple(found)


async def _cuts(totals: Totals, columns: list[Column], known: I64, bins: int) -> list[tuple[float, ...]]:
    """Distinct order statistics of even rank, above the least value, for every numeric column."""
    ranks = [np.arange(bins) * n // bins if n else np.zeros(0, np.int64) for n in known.tolist()]
    at = np.repeat(np.arange(len(columns)), [one.size for one in ranks])
    values = [column.values[~np.isnan(column.values)] for column in columns]
    if not at.size:
        return [() for _ in columns]
    found = await order_statistics(totals, values, at, np.concatenate(ranks), what=f"{STEP}: cuts")
    return [tuple(np.unique(found[at == j])[1:].tolist()) for j in range(len(columns))]


def code_table(table: Columns, columns: tuple[ColumnBins, ...]) -> BinnedTable:
    """Put a table into known bins; a category without a bin counts as rare, or else as missing.

    Raises:
        InputError: a column is not there, of another kind, or infinite somewhere.
    """
    layout = Layout(
        np.array([c.ordinary for c in columns], np.int64),
        np.array([c.kind == "categorical" for c in columns], np.bool_),
        np.array([c.missing for c in columns], np.bool_),
    )
    width = int((layout.bins + layout.missing).max(initial=1))
    codes = np.empty((len(columns), table.rows), np.uint8 if width <= 256 else np.uint16)
    scratch = np.empty(table.rows, np.uint16)
    for row, bins in zip(codes, columns, strict=True):
        column = next((c for c in table if c.name == bins.name), None)
        if column is None or column.kind != bins.kind:
            cure = "Give the columns that the trees were grown on."
            raise InputError(f"it is not there as a {bins.kind} column", step=STEP, column=bins.name, cure=cure)
        if column.kind == "numeric" and np.isinf(column.values).any():
            raise InputError("it holds an infinite value", step=STEP, column=column.name, cure="Make it missing.")
        row[:] = code_column(column, bins, scratch)
    return BinnedTable(columns, codes, layout)


def node_total(sums: F64, layout: Layout) -> F64:
    """Return the sums of whole nodes, (S, 2), out of their histograms, (S, k, 2)."""
    return np.asarray(sums[:, : layout.offsets[1]].sum(axis=1))
