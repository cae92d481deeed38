"""What every model of a job is: its keys, what it needs, what it reveals, how it is fitted and how it predicts."""

from __future__ import annotations

import dataclasses
import math
from abc import ABCMeta, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Literal, TypeVar

import msgspec
import numpy as np
from numpy.typing import NDArray

from atoll.data.columns import Column, Columns
from atoll.node.coding import matrix

if TYPE_CHECKING:
    from atoll.crypto.random import Rng
    from atoll.learn.horizontal.inference import Coefficients
    from atoll.learn.horizontal.rows import Rows
    from atoll.protocols.secure_sum.totals import Totals

F64 = NDArray[np.float64]
Label = Literal["number", "event", "class", "none"]
M = TypeVar("M")


class Coefficient(msgspec.Struct, frozen=True):
    """One line of a model's table; what a penalty leaves without meaning is None.

    Attributes:
        term: a column, `column=category`, or `(intercept)`.
        estimate: in the column's unit.
        error: standard error.
        statistic: the estimate divided by it.
        p: two-sided probability of so large a statistic if the coefficient were 0.
        low: lower end of the 95 % interval.
        high: upper end.
    """

    term: str
    estimate: float
    error: float | None = None
    statistic: float | None = None
    p: float | None = None
    low: float | None = None
    high: float | None = None


class Grid(msgspec.Struct, frozen=True):
    """Numbers by term and by something else, such as a cluster.

    Attributes:
        title: what they are.
        heads: of its columns.
        rows: one number a column each, None where there is none; by term.
    """

    title: str
    heads: tuple[str, ...]
    rows: dict[str, tuple[float | None, ...]]


@dataclass(frozen=True)
class Here:
    """One site's rows in the form that models are fitted to; none has a missing label, or any value if that matters.

    Args:
        table: the columns.
        X: the columns as numbers; see `atoll.node.coding.matrix`.
        y: (n,) the label; zeros if the model needs none.
        beside: (n,) each, further columns of numbers that the model's keys name.
        within: columns of groups that they name, each with the groups that enough rows have; None if still to be found.
        rows: such rows of all sites.
        minimum: fewest rows over which a total is opened.
        rng: this site's own randomness.
    """

    table: Columns
    X: Rows
    y: F64
    beside: Mapping[str, F64]
    within: Mapping[str, tuple[Column, tuple[str, ...] | None]]
    rows: int
    minimum: int
    rng: Rng


@dataclass(frozen=True)
class Fitted:
    """What a fit came to.

    Args:
        rows: rows of all sites that it used.
        values: what prediction needs, by name; numbers and lists of them.
        figures: how good it is, by name.
        coefficients: the table; empty for models without one.
        grids: further tables.
    """

    rows: int
    values: dict[str, Any]
    figures: dict[str, float] = field(default_factory=dict)
    coefficients: tuple[Coefficient, ...] = ()
    grids: tuple[Grid, ...] = ()


class _Abstract(msgspec.StructMeta, ABCMeta):
    """Records, of which none can be made that lacks a method."""


class Kind(
    msgspec.Struct, metaclass=_Abstract, frozen=True, forbid_unknown_fields=True, kw_only=True, tag_field="kind"
):
    """A model as the job names it: `kind:` and its own keys.

    Attributes:
        title: for people.
        label: what the label must be: any number, an event (1 or 0), a class, or none at all.
        baseline: whether the first category of every column is what the others are compared with.
        whole: whether rows with a missing value cannot be used.
        learns: what every site learns while it is fitted, one entry a line.
    """

    title: ClassVar[str]
    label: ClassVar[Label]
    baseline: ClassVar[bool] = True
    whole: ClassVar[bool] = True
    learns: ClassVar[tuple[str, ...]]

    @property
    def wants(self) -> Label:
        """What the label must be; a key of the model may decide."""
        return self.label

    @property
    def beside(self) -> tuple[str, ...]:
        """Columns of numbers that the model needs beside its label, and that are no features."""
        return ()

    @property
    def within(self) -> tuple[str, ...]:
        """Columns of groups that the model needs, and that are no features."""
        return ()

    @property
    def tells(self) -> tuple[str, ...]:
        """What every site learns with these keys, one entry a line."""
        return self.learns

    @abstractmethod
    async def fit(self, totals: Totals, here: Here) -> Fitted:
        """Fit the model to the rows of all sites."""

    @abstractmethod
    def predict(self, values: Mapping[str, Any], table: Columns) -> F64:
        """Return predictions for n rows of the model's columns: (n,), or (n, k) for k classes or axes."""

    def numbers(self, table: Columns) -> F64:
        """The columns as the numbers that most models are fitted to, (n, terms)."""
        return matrix(table, baseline=self.baseline)


def table(found: Coefficients) -> tuple[Coefficient, ...]:
    """Return coefficients as lines with everything that people want to know of each."""
    ends = found.intervals()
    columns = (found.standard_errors, found.statistics, found.p_values, ends[:, 0], ends[:, 1])
    return tuple(
        Coefficient(name, float(value), *(known(column[at]) for column in columns))
        for at, (name, value) in enumerate(zip(found.names, found.values, strict=True))
    )


def known(value: Any) -> float | None:
    """Return a finite number, or None."""
    return float(value) if math.isfinite(value) else None


def frozen(model: Any) -> dict[str, Any]:
    """Return a model of arrays and numbers as lists and numbers, for JSON."""
    values = {part.name: getattr(model, part.name) for part in dataclasses.fields(model)}
    return {name: value.tolist() if isinstance(value, np.ndarray) else value for name, value in values.items()}


def thawed(kind: type[M], values: Mapping[str, Any]) -> M:
    """Undo `frozen`."""
    return kind(**{name: np.array(value) if isinstance(value, list) else value for name, value in values.items()})
