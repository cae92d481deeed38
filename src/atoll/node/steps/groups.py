"""Groups of rows by the values of a column, which several steps compare with each other."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from atoll.core.errors import InputError
from atoll.data.columns import Column
from atoll.node.steps.compare import Agreed

if TYPE_CHECKING:
    from atoll.data.columns import Columns

MOST_GROUPS = 20
"""Whole numbers that may stand for groups at one site."""


def check_groups(column: Column) -> None:
    """Refuse a column of measures, whose values would all be shown as groups.

    Raises:
        InputError: it is numeric, and its values are not few whole numbers.
    """
    if column.kind == "numeric":
        found = np.unique(column.values[~np.isnan(column.values)])
        if len(found) > MOST_GROUPS or (found != np.rint(found)).any():
            raise InputError(
                "it is a measure, and its values make no groups",
                column=column.name,
                cure=f"Take a column of texts, or of at most {MOST_GROUPS} whole numbers.",
            )


def groups_of(coded: Columns, name: str, agreed: Agreed) -> tuple[Column, tuple[str, ...] | None]:
    """Return a column as groups, and the groups that enough rows of all sites have.

    Args:
        coded: this site's columns as all sites have agreed on them.
        name: the column.
        agreed: what they have agreed on.

    Returns:
        A categorical column; and its groups, or None where they are numbers, which are still to be counted.
    """
    column = coded[name]
    if column.kind == "numeric":
        known = ~np.isnan(column.values)
        found, code = np.unique(column.values[known], return_inverse=True)
        codes = np.full(len(column.values), -1, np.int32)
        codes[known] = code
        return Column(name, "categorical", codes, tuple(str(int(value)) for value in found)), None
    at = next(at for at, one in enumerate(agreed.columns) if one.name == name)
    counts = zip(column.categories, agreed.counts[at], strict=True)
    return column, tuple(category for category, count in counts if count >= agreed.minimum)
