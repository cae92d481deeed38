"""Bins: every column becomes a few dozen ordered or named bins, the only form in which splits see it."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import msgspec
import numpy as np
from numpy.typing import NDArray

from atoll.core.errors import InputError
from atoll.data.columns import Column, Columns
from atoll.learn.vertical.trees.kernels import F64, I64, U8, U16, Codes, numeric_codes

MOST = sys.float_info.max
"""Threshold of a split that sends every known value left and missing ones right."""


class Rule(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One split in the words of its column: what goes right.

    Args:
        column: Name of the column.
        threshold: Numeric columns: values at or above it go right.
        categories: Categorical columns: these go right, all others left.
        default_left: Whether a missing value goes left.
    """

    column: str
    threshold: float | None
    categories: tuple[str, ...]
    default_left: bool


class ColumnBins(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How one column falls into bins: the ordinary bins in order, then a bin of its own for missing values if any.

    Args:
        name: The column's name.
        kind: `numeric` or `categorical`.
        cuts: Numeric: ascending cuts, one fewer than bins; a value equal to a cut lies right of it.
        categories: Categorical: all categories seen in training.
        kept: Categorical: the categories with a bin of their own, in bin order.
        other: Whether one more bin holds the rare categories (and missing values, if they are rare).
        missing: Whether missing values have their own, last bin.
    """

    name: str
    kind: str
    cuts: tuple[float, ...] = ()
    categories: tuple[str, ...] = ()
    kept: tuple[str, ...] = ()
    other: bool = False
    missing: bool = False

    @property
    def ordinary(self) -> int:
        """Number of bins without the missing bin."""
        return len(self.cuts) + 1 if self.kind == "numeric" else max(1, len(self.kept) + self.other)

    def rule(self, bin_: int, default_left: bool) -> Rule:
        """Put a split at a bin into words; rare missing values go where their shared bin goes."""
        if self.kind == "numeric":
            threshold = self.cuts[bin_] if bin_ < len(self.cuts) else MOST
            return Rule(self.name, threshold, (), default_left if self.missing else False)
        rest = tuple(c for c in self.categories if c not in set(self.kept))
        right = (self.kept[bin_],) if bin_ < len(self.kept) else rest
        return Rule(self.name, None, right, default_left if self.missing else bin_ < len(self.kept))


@dataclass(frozen=True)
class Layout:
    """Shape of one site's bins, all that the label holder knows of foreign features.

    Args:
        bins: (F,) ordinary bins of every feature, at least 1.
        categorical: (F,) whether its splits are one bin against the rest.
        missing: (F,) whether one more bin holds missing values.
    """

    bins: I64
    categorical: NDArray[np.bool_]
    missing: NDArray[np.bool_]

    @property
    def features(self) -> int:
        """Number of features F."""
        return len(self.bins)

    @cached_property
    def offsets(self) -> I64:
        """(F + 1,) first row of every feature among all k bins, and k."""
        return np.concatenate([[0], np.cumsum(self.bins + self.missing)]).astype(np.int64)


@dataclass(frozen=True)
class BinnedTable:
    """One site's columns in bins.

    Args:
        columns: How each feature's column was binned, in feature order.
        codes: (F, n) bins, uint8 or uint16.
        layout: Their shape.
    """

    columns: tuple[ColumnBins, ...]
    codes: Codes
    layout: Layout

    @property
    def rows(self) -> int:
        """Number of rows n."""
        return int(self.codes.shape[1])


def bin_table(table: Columns, max_bin: int, min_bin: int, order: Sequence[int] | None = None) -> BinnedTable:
    """Put every column into bins.

    Args:
        table: The columns.
        max_bin: Most ordinary bins of a column.
        min_bin: Fewest rows of a bin; smaller ones are merged.
        order: Columns in the order in which they become features; as they are if left out.

    Raises:
        InputError: A column holds an infinite value or has the wrong length.
    """
    columns = [table.columns[i] for i in (range(len(table)) if order is None else order)]
    found = [fit_column(column, max_bin, min_bin) for column in columns]
    layout = Layout(
        np.array([c.ordinary for c in found], np.int64),
        np.array([c.kind == "categorical" for c in found], np.bool_),
        np.array([c.missing for c in found], np.bool_),
    )
    width = int((layout.bins + layout.missing).max(initial=1))
    codes = np.empty((len(found), table.rows), np.uint8 if width <= 256 else np.uint16)
    scratch = np.empty(table.rows, np.uint16)
    for row, column, bins in zip(codes, columns, found, strict=True):
        if len(column.values) != table.rows:
            raise InputError(f"it has {len(column.values):,} rows, the table {table.rows:,}", column=column.name)
        row[:] = code_column(column, bins, scratch)
    return BinnedTable(tuple(found), codes, layout)


def fit_column(column: Column, max_bin: int, min_bin: int) -> ColumnBins:
    """Choose the bins of one column; merged until each has at least `min_bin` rows, as far as there are so many."""
    if column.kind == "categorical":
        return _fit_categories(column, max_bin, min_bin)
    values = np.sort(np.asarray(column.values, np.float64))  # NaN last
    known = int(np.searchsorted(values, np.nan)) if values.size and np.isnan(values[-1]) else values.size
    if known and not (np.isfinite(values[0]) and np.isfinite(values[known - 1])):
        raise InputError(
            "it holds an infinite value",
            column=column.name,
            step="bin",
            cure="Replace infinite values, or leave them empty so that they count as missing.",
        )
    missing = values.size - known >= min_bin
    return ColumnBins(column.name, "numeric", cuts=quantile_cuts(values[:known], max_bin, min_bin), missing=missing)


def quantile_cuts(values: F64, max_bin: int, min_bin: int) -> tuple[float, ...]:
    """Cut sorted values into at most `max_bin` bins of about equal size that never part equal values.

    Each bin aims at an equal share of what is left, and ends at the nearer end of the run of ties its aim falls into.
    With no more distinct values than bins, every value that is frequent enough has its own.

    Args:
        values: (n,) ascending, finite.
        max_bin: Most bins.
        min_bin: Fewest values of a bin.

    Returns:
        The smallest value of every bin but the first.
    """
    n, at, cuts = values.size, 0, []
    few = n > 0 and np.count_nonzero(values[1:] != values[:-1]) < max_bin
    for left in range(max_bin, 1, -1):
        aim = at + (min_bin if few else max(min_bin, round((n - at) / left)))
        if n - aim < min_bin:
            break
        low = int(np.searchsorted(values, values[aim], "left"))
        high = int(np.searchsorted(values, values[aim], "right"))
        end = low if low - at >= min_bin and aim - low <= high - aim else high
        if end == n or n - end < min_bin:
            end = low
        if end - at < min_bin or n - end < min_bin:
            break
        cuts.append(float(values[end]))
        at = end
    return tuple(cuts)


def _fit_categories(column: Column, max_bin: int, min_bin: int) -> ColumnBins:
    counts = np.bincount(column.values + 1, minlength=len(column.categories) + 1)
    missing = bool(counts[0] >= min_bin)
    ranked = sorted(range(len(column.categories)), key=lambda c: (-counts[c + 1], c))
    kept = [c for c in ranked if counts[c + 1] >= min_bin][:max_bin]
    total = int(counts.sum()) - (int(counts[0]) if missing else 0)
    rare = total - int(sum(counts[c + 1] for c in kept))
    while kept and (0 < rare < min_bin or (rare and len(kept) >= max_bin)):
        rare += int(counts[kept.pop() + 1])
    other = rare > 0
    names = tuple(column.categories[c] for c in kept)
    return ColumnBins(
        column.name, "categorical", categories=column.categories, kept=names, other=other, missing=missing
    )


def code_column(column: Column, bins: ColumnBins, scratch: U16) -> U16:
    """Return the bin of every row of a column, (n,).

    Raises:
        InputError: A category occurs that was not there when the bins were chosen.
    """
    if bins.kind == "numeric":
        missing = bins.ordinary if bins.missing else bins.ordinary - 1
        numeric_codes(np.asarray(column.values, np.float64), np.array(bins.cuts, np.float64), missing, scratch)
        return scratch
    place = {name: number for number, name in enumerate(bins.kept)}
    table = [place.get(name, len(bins.kept)) for name in column.categories]
    table.append(bins.ordinary if bins.missing else len(bins.kept))  # code -1
    coded: U16 = np.asarray(table, np.uint16)[column.values]
    return coded


def right_bits(table: BinnedTable, feature: int, bin_: int, default_left: bool) -> U8:
    """Return for every row of a binned table whether it goes right at a split, (n,) of 0 and 1."""
    codes, layout = table.codes[feature], table.layout
    right = codes == bin_ if layout.categorical[feature] else codes > bin_
    if layout.missing[feature]:
        right = np.where(codes == layout.bins[feature], not default_left, right)
    bits: U8 = right.astype(np.uint8)
    return bits


def rule_bits(rule: Rule, table: Columns) -> U8:
    """Return for every row of a table of columns whether it goes right at a split, (n,) of 0 and 1."""
    column = table[rule.column]
    if rule.threshold is not None:
        values = np.asarray(column.values, np.float64)
        bits: U8 = np.where(np.isnan(values), not rule.default_left, values >= rule.threshold).astype(np.uint8)
        return bits
    wanted = set(rule.categories)
    lookup = [name in wanted for name in column.categories] + [not rule.default_left]
    bits = np.asarray(lookup, np.uint8)[column.values]
    return bits
