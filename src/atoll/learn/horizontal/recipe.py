"""Scaling and encoding fitted over sites: from typed columns to the numbers that models take, alike at every site.

What is revealed: for numeric columns means and spreads, or least and largest values, and medians if they fill; for
categorical ones the categories that enough rows have, with their number (see `categories`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import msgspec
import numpy as np

from atoll.core.errors import InputError
from atoll.data.columns import Column, Columns
from atoll.learn.horizontal.categories import categories, codes
from atoll.learn.horizontal.order import extremes, quantiles
from atoll.learn.horizontal.rows import F64, Rows, agree, check_sizes, same
from atoll.learn.horizontal.scale import scale
from atoll.protocols.secure_sum.totals import Totals

STEP = "recipe"


class RecipeParams(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Parameters of a recipe.

    Args:
        scale: standard (mean 0 and standard deviation 1, divisor n), minmax (0 to 1), or none.
        fill: what stands for a missing number: nothing, the mean, or the median of the values that are there.
        smallest: fewest rows of a category with a column of its own, at least 1.
        drop_first: whether the first category has no column, as regressions want it.
        declared: for each categorical column named here its categories, agreed openly instead of found.
    """

    scale: Literal["standard", "minmax", "none"] = "standard"
    fill: Literal["none", "mean", "median"] = "none"
    smallest: int = 3
    drop_first: bool = False
    declared: dict[str, tuple[str, ...]] = {}

    def __post_init__(self) -> None:
        if self.smallest < 1:
            raise InputError("parameter smallest must be 1 or more", step=STEP, cure="Change it.")


class NumberRecipe(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A numeric column becomes (x - shift) / unit, after `fill` for missing values."""

    name: str
    shift: float
    unit: float
    fill: float | None


class CategoryRecipe(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A categorical column becomes a column of zeros and ones for each category; any other value is zero in all."""

    name: str
    categories: tuple[str, ...]


class Recipe(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How typed columns become numbers.

    Args:
        numbers: numeric columns, in the table's order.
        categories: categorical columns, in the table's order; their new columns come last.
    """

    numbers: tuple[NumberRecipe, ...]
    categories: tuple[CategoryRecipe, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the resulting columns; those of categories are `COLUMN=CATEGORY`."""
        ones = tuple(f"{one.name}={category}" for one in self.categories for category in one.categories)
        return tuple(one.name for one in self.numbers) + ones

    def apply(self, table: Columns) -> Rows:
        """Turn a table into numbers.

        Raises:
            InputError: a column is not there, or of another kind.
        """
        parts: list[F64] = []
        for number in self.numbers:
            values = _column(table, number.name, "numeric").values
            values = values if number.fill is None else np.where(np.isnan(values), number.fill, values)
            parts.append((values - number.shift) / number.unit)
        for one in self.categories:
            at = codes(_column(table, one.name, "categorical"), one.categories)
            parts += list(np.equal.outer(np.arange(len(one.categories)), at).astype(np.float64))
        values = np.stack(parts, axis=1) if parts else np.zeros((table.rows, 0))
        return Rows(self.names, values)


async def fit(totals: Totals, table: Columns, params: RecipeParams) -> Recipe:
    """Fit a recipe on the rows of all sites.

    Args:
        totals: the sum over the sites.
        table: this site's columns, of the same names and kinds at every site.
        params: the parameters, the same at every site.

    Raises:
        InputError: columns or parameters differ between sites, a value is infinite, no site has a row, or a column has
            no value at any site.
    """
    kinds = tuple(f"{column.kind}: {column.name}" for column in table)
    totals, _ = await agree(totals, params, kinds, table.rows, step=STEP)
    numeric = [column for column in table if column.kind == "numeric"]
    numbers = await _numbers(totals, numeric, params) if numeric else ()
    named = []
    for column in table:
        if column.kind == "categorical":
            known = params.declared.get(column.name)
            if known is None:
                known, _ = await categories(totals, column, smallest=params.smallest, step=STEP)
            named.append(CategoryRecipe(column.name, known[1:] if params.drop_first else known))
    return Recipe(numbers, tuple(named))


async def _numbers(totals: Totals, columns: Sequence[Column], params: RecipeParams) -> tuple[NumberRecipe, ...]:
    values = np.stack([np.asarray(column.values, np.float64) for column in columns], axis=1)
    for column in columns:
        check_sizes(column.name, column.values, step=STEP)
    known = [column[~np.isnan(column)] for column in values.T]
    counts = await totals.total(np.array([float(k.size) for k in known]), what=f"{STEP}: values that are there")
    for column, count in zip(columns, counts, strict=True):
        if not count:
            raise InputError("no site has a value", step=STEP, column=column.name, cure="Leave it out.")
    size = len(columns)
    shift, unit, fill = np.zeros(size), np.ones(size), np.full(size, np.nan)
    if params.scale == "standard" or params.fill == "mean":
        frame = await scale(totals, values, counts, step=STEP)
        if params.scale == "standard":
            shift, unit = frame.mean, frame.unit
        fill = frame.mean if params.fill == "mean" else fill
    if params.scale == "minmax":
        shift, high = await extremes(totals, known, what=f"{STEP}: least and largest values")
        unit = np.where(high > shift, high - shift, 1.0)
    if params.fill == "median":
        fill = (await quantiles(totals, known, [0.5], what=f"{STEP}: medians"))[:, 0]
    shift, unit, fill = await same(totals, shift, unit, fill, step=STEP)
    return tuple(
        NumberRecipe(column.name, float(a), float(u), None if np.isnan(f) else float(f))
        for column, a, u, f in zip(columns, shift, unit, fill, strict=True)
    )


def _column(table: Columns, name: str, kind: str) -> Column:
    if name not in table.names:
        raise InputError("the recipe needs it and the table does not have it", step=STEP, column=name, cure="Add it.")
    column = table[name]
    if column.kind != kind:
        raise InputError(f"it is {column.kind}, not {kind}", step=STEP, column=name, cure="Read it as when fitted.")
    return column
