"""Typed columns in memory: what every learner and feature step reads.

A numeric column is float64 with NaN for a missing value.  A categorical column is int32 codes into its own
`categories`, with -1 for a missing value.  There is no other kind: sources turn everything else into these two.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

__all__ = ["I64", "Column", "Columns", "Kind"]

I64 = NDArray[np.int64]
Kind = Literal["numeric", "categorical"]


@dataclass(frozen=True)
class Column:
    """One named column.

    Args:
        name: the column's name as its owner wrote it.
        kind: `numeric` or `categorical`.
        values: (n,) float64 with NaN = missing, or (n,) int32 codes with -1 = missing.
        categories: the values that the codes stand for; empty for a numeric column.
    """

    name: str
    kind: Kind
    values: NDArray[Any]
    categories: tuple[str, ...] = ()

    def take(self, rows: I64) -> Column:
        """The same column with only these rows, in this order; a row of -1 has a missing value."""
        values = self.values[rows]
        values[rows < 0] = np.nan if self.kind == "numeric" else -1
        return Column(self.name, self.kind, values, self.categories)

    @property
    def missing(self) -> int:
        """How many values are missing."""
        if self.kind == "numeric":
            return int(np.count_nonzero(np.isnan(self.values)))
        return int(np.count_nonzero(self.values < 0))


@dataclass(frozen=True)
class Columns:
    """Columns of one site with the same number of rows.

    Args:
        columns: the columns, in the owner's order.
        rows: how many rows each of them has.
    """

    columns: tuple[Column, ...]
    rows: int

    def take(self, rows: I64) -> Columns:
        """The same columns with only these rows, in this order.

        Args:
            rows: (m,) int64 row numbers, 0 <= row < self.rows, or -1 for a row that has no values.
        """
        return Columns(tuple(column.take(rows) for column in self.columns), len(rows))

    @property
    def names(self) -> tuple[str, ...]:
        """The columns' names, in order."""
        return tuple(column.name for column in self.columns)

    def __iter__(self) -> Iterator[Column]:
        return iter(self.columns)

    def __len__(self) -> int:
        return len(self.columns)

    def __getitem__(self, name: str) -> Column:
        for column in self.columns:
            if column.name == name:
                return column
        raise KeyError(name)
