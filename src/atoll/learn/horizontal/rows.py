"""One site's rows on their way into a model: checked, with missing values settled, and agreed with the other sites."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from atoll.core.errors import InputError, ProtocolError
from atoll.protocols.secure_sum.totals import Totals

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]
Bool = NDArray[np.bool_]
Missing = Literal["refuse", "drop"]

BLOCK = 1 << 15
"""Rows that are worked on at a time, so that memory does not grow with them."""

LARGEST = 2.0**80
"""What is larger is not added up: sums of so many sites would overflow."""

_SPECIAL = 5000  # no float64 has this exponent


@dataclass(frozen=True)
class Rows:
    """Numeric columns of one site.

    Args:
        names: the columns' names, the same and in the same order at every site.
        values: (n, p) float64, NaN where a value is missing; n may be 0.
    """

    names: tuple[str, ...]
    values: F64

    def __post_init__(self) -> None:
        if self.values.ndim != 2 or self.values.shape[1] != len(self.names):
            raise InputError(
                f"{len(self.names)} names stand beside values of shape {self.values.shape}",
                cure="Give a matrix with one column for each name.",
            )
        if len(set(self.names)) != len(self.names):
            twice = next(name for name in self.names if self.names.count(name) > 1)
            raise InputError("the name stands twice", column=twice, cure="Give every column a name of its own.")

    def take(self, keep: Bool | I64) -> Rows:
        """The same columns with only these rows."""
        return Rows(self.names, self.values[keep])


def check_sizes(name: str, values: F64, *, step: str) -> None:
    """Refuse infinite values, and a column whose squares would leave the range of float64.

    Args:
        name: the column's name.
        values: (n,) its values at this site; NaN is left out.
        step: the model's name.

    Raises:
        InputError: a value is infinite or at least 2^480, or all are 0 or below 2^-480.
    """
    largest = float(np.fmax.reduce(np.abs(values), initial=0.0))
    if math.isinf(largest):
        cure = "Replace infinite values, or leave them empty so that they count as missing."
        raise InputError("it holds an infinite value", step=step, column=name, cure=cure)
    if largest >= 2.0**480 or 0 < largest < 2.0**-480:
        raise InputError("its values are too large or too small", step=step, column=name, cure="Take another unit.")


def settle(X: Rows, y: F64 | None, missing: Missing, *, step: str, label: str = "label") -> tuple[Rows, F64]:
    """Check one site's values and settle the missing ones, before anything is sent.

    Args:
        X: the site's rows.
        y: (n,) float64 label, NaN = missing; None where a model has none.
        missing: `refuse` a missing value, or `drop` its row.
        step: the model's name, for errors.
        label: what errors call the label.

    Returns:
        The rows that are left, and their labels (zeros without a label).

    Raises:
        InputError: a value is infinite or of an impossible size, one is missing and must not be, or rows and labels
            differ in number.
    """
    n = len(X.values)
    target = np.zeros(n) if y is None else np.asarray(y, np.float64)
    if target.shape != (n,):
        raise InputError(f"{n:,} rows have labels of shape {target.shape}", step=step, column=label)
    keep = np.ones(n, np.bool_)
    for name, column in [*zip(X.names, X.values.T, strict=True), (label, target)]:
        check_sizes(name, column, step=step)
        lost = np.isnan(column)
        if missing == "refuse" and lost.any():
            raise InputError(
                "a value is missing",
                step=step,
                column=name,
                cure="Fill it, or say `missing: drop` to leave such rows out.",
                detail=f"{np.count_nonzero(lost):,} of {n:,} are.",
            )
        keep &= ~lost
    return (X, target) if keep.all() else (X.take(keep), target[keep])


@dataclass(frozen=True)
class Steady:
    """Totals of always the same sites: numbers of different sets of sites do not fit together.

    Args:
        totals: what adds up.
        sites: the sites at the start.
    """

    totals: Totals
    sites: tuple[str, ...]

    @property
    def site(self) -> str:
        """This site's name."""
        return self.totals.site

    async def total(self, values: F64, *, what: str) -> F64:
        """Add up as `Totals.total`.

        Raises:
            ProtocolError: a site has left.
        """
        found = await self.totals.total(values, what=what)
        if self.totals.sites != self.sites:
            left = ", ".join(sorted(set(self.sites) - set(self.totals.sites)))
            raise ProtocolError(f"{left} left while a model was fitted", step=what, cure="Fit it again without them.")
        return found


async def agree(
    totals: Totals, params: msgspec.Struct, names: tuple[str, ...], n: int, *, step: str
) -> tuple[Steady, int]:
    """Notice sites that have other columns or parameters, and count the rows of all sites.

    Reveals: the number of rows of all sites together.

    Args:
        totals: the sum over the sites.
        params: this site's parameters.
        names: this site's columns.
        n: this site's rows.
        step: the model's name.

    Returns:
        Totals that end with an error when a site leaves, and the rows of all sites.

    Raises:
        InputError: sites differ in columns or parameters, there is no column, or no site has any row.
        ProtocolError: a site has left.
    """
    if not names:
        raise InputError("there is no column", step=step, cure="Name at least one.")
    steady = Steady(totals, totals.sites)
    text = msgspec.json.encode([step, names, params])
    digest = float(int.from_bytes(hashlib.sha256(text).digest()[:5], "big"))
    total, rows = (await steady.total(np.array([digest, n]), what=f"{step}: columns alike, rows")).tolist()
    if total != digest * len(steady.sites):
        raise InputError(
            "sites differ in their columns or parameters",
            step=step,
            cure="Give every site the same columns in the same order, and the same parameters.",
        )
    if rows < 1:
        raise InputError("no site has a row", step=step, cure="Look at the filters and at `missing`.")
    return steady, int(rows)


async def same(totals: Totals, *arrays: F64, step: str) -> list[F64]:
    """Give all sites the first site's arrays, so that processors which round differently end with one model.

    Args:
        totals: the sum over the sites.
        arrays: computed from totals alone, so that nothing new is revealed; NaN and infinities may occur.
        step: the model's name.

    Returns:
        The same arrays, bit for bit alike at all sites.
    """
    flat = np.concatenate([np.ravel(array) for array in arrays])
    finite = np.isfinite(flat)
    mantissa, exponent = np.frexp(np.where(finite, flat, 0.0))
    special = np.where(np.isnan(flat), 0.0, np.sign(flat))
    parts = np.concatenate([np.where(finite, mantissa, special), np.where(finite, exponent, _SPECIAL)])
    mine = parts if totals.site == totals.sites[0] else np.zeros_like(parts)
    mantissa, exponent = (await totals.total(mine, what=f"{step}: the result, as the first site has it")).reshape(2, -1)
    with np.errstate(invalid="ignore", over="ignore"):
        special = np.where(mantissa == 0, np.nan, mantissa * np.inf)
        agreed = np.where(exponent == _SPECIAL, special, np.ldexp(mantissa, exponent.astype(np.int64)))
    ends = np.cumsum([np.size(array) for array in arrays])[:-1]
    return [part.reshape(np.shape(array)) for part, array in zip(np.split(agreed, ends), arrays, strict=True)]


def blocks(n: int, size: int = BLOCK) -> Iterator[slice]:
    """Slices that cover n rows."""
    return (slice(at, min(at + size, n)) for at in range(0, n, size))
