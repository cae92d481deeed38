"""Columns of one site in the form that all sites have agreed on, and as the numbers that models are fitted to."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from atoll.core.errors import InputError
from atoll.data.columns import Column, Columns
from atoll.data.schema import ColumnSchema

OTHER = "(other)"
"""The category of all rare ones."""


def coded(columns: Columns | None, agreed: Sequence[ColumnSchema]) -> Columns:
    """Return the columns in the agreed order, with the agreed categories.

    Args:
        columns: a site's columns; None for a site without rows.
        agreed: what all sites have alike. A category that is not among them becomes `(other)` where there is that
            category, and missing where there is not.

    Raises:
        InputError: a column is not there or of another kind.
    """
    found = []
    for wanted in agreed:
        if columns is None:
            dtype = np.float64 if wanted.kind == "numeric" else np.int32
            found.append(Column(wanted.name, wanted.kind, np.zeros(0, dtype), wanted.categories))
            continue
        try:
            column = columns[wanted.name]
        except KeyError:
            raise InputError(f"there is no column {wanted.name!r}", column=wanted.name, cure="Add it.") from None
        if column.kind != wanted.kind:
            raise InputError(f"it is {column.kind}, not {wanted.kind}", column=wanted.name, cure="Mend its values.")
        found.append(column if column.kind == "numeric" else _recoded(column, wanted.categories))
    return Columns(tuple(found), columns.rows if columns else 0)


def _recoded(column: Column, categories: tuple[str, ...]) -> Column:
    place = {text: at for at, text in enumerate(categories)}
    rest = place.get(OTHER, -1)
    table = np.array([*(place.get(text, rest) for text in column.categories), -1], np.int32)
    return Column(column.name, column.kind, table[column.values], categories)


def merged(column: ColumnSchema, counts: NDArray[np.int64], minimum: int) -> tuple[ColumnSchema, NDArray[np.int64]]:
    """Put categories with fewer rows than the minimum together, with the next rarest if they are too few themselves.

    Args:
        column: the column, with the categories of all sites.
        counts: (k,) the rows of each at all sites.
        minimum: fewest rows of a category.

    Returns:
        The column with the categories that stay, `(other)` last among them if there is one; and their rows.
    """
    order = np.argsort(counts, kind="stable")
    sums = np.cumsum(counts[order])
    rare = int(np.count_nonzero(counts < minimum))
    if not rare:
        return column, counts
    while rare < len(order) and sums[rare - 1] < minimum:
        rare += 1
    keep = np.sort(order[rare:])
    names = (*(column.categories[at] for at in keep), OTHER)
    return (
        ColumnSchema(column.name, column.kind, column.unit, names),
        np.append(counts[keep], sums[rare - 1]),
    )


def terms_of(columns: Sequence[ColumnSchema], *, baseline: bool) -> tuple[str, ...]:
    """Names of the numbers that a model is fitted to: numeric columns, and `column=category`.

    Args:
        columns: the columns.
        baseline: whether the first category of each column is left out, as the one that others are compared with.
    """
    names: list[str] = []
    for column in columns:
        if column.kind == "numeric":
            names.append(column.name)
        else:
            names += [f"{column.name}={value}" for value in column.categories[int(baseline) :]]
    return tuple(names)


def matrix(columns: Columns, *, baseline: bool) -> NDArray[np.float64]:
    """Return the numbers that a model is fitted to, (n, terms); NaN where a value is missing.  See `terms_of`."""
    parts: list[NDArray[np.float64]] = [np.zeros((columns.rows, 0))]
    for column in columns:
        if column.kind == "numeric":
            parts.append(column.values[:, None])
            continue
        hot = np.equal.outer(column.values, np.arange(int(baseline), len(column.categories))).astype(np.float64)
        hot[column.values < 0] = np.nan
        parts.append(hot)
    return np.concatenate(parts, axis=1)
