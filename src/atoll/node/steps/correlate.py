"""Correlate the numeric columns of all sites with each other, with p values."""

from __future__ import annotations

import csv
import io
from typing import TYPE_CHECKING, Annotated, Literal

import msgspec
import numpy as np

from atoll.core.errors import InputError
from atoll.core.protocol import Protocol
from atoll.core.session import Session
from atoll.data.columns import Column, Columns
from atoll.node.models.base import known as finite
from atoll.node.steps.base import Called, Step, Work, present
from atoll.node.steps.compare import Agreed
from atoll.node.steps.describe import known_columns
from atoll.node.steps.totals import enough, shared, still_enough, sum_protocol, totals

if TYPE_CHECKING:
    from atoll.node.job import Job

CORRELATIONS = "correlations.json"
TABLE = "correlations.csv"

Unit = Annotated[float, msgspec.Meta(gt=0, le=1e12)]


class Correlate(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, tag_field="step", tag="correlate"
):
    """Params of `correlate`.

    Attributes:
        method: `pearson`; `spearman`, between ranks; or `kendall`, tau-b. The latter two open values, see below.
        columns: numeric columns; all of them if left out.
        round: for each column named here, values are rounded to multiples of a number first.
        most: how many different values of one column each site may open for `spearman` and `kendall`. Of a column of
            measures these are values of single people: round it, or raise this if all sites agree to show them.
        missing: what becomes of rows with a missing value: `refuse` the job, or `drop` them.
        name: of several steps `correlate` each needs its own; the files are called after it.
    """

    method: Literal["pearson", "spearman", "kendall"] = "pearson"
    columns: tuple[str, ...] = ()
    round: dict[str, Unit] = {}
    most: Annotated[int, msgspec.Meta(ge=2, le=100_000)] = 100
    missing: Literal["refuse", "drop"] = "refuse"
    name: Called = ""


class Correlations(msgspec.Struct, frozen=True):
    """All pairs of columns; None where a column is constant or there are too few rows.

    Attributes:
        method: as in the job.
        names: (p,) the columns.
        rows: rows of all sites without a missing value.
        values: (p, p) from -1 to 1.
        p_values: (p, p) two-sided.
    """

    method: str
    names: tuple[str, ...]
    rows: int
    values: tuple[tuple[float | None, ...], ...]
    p_values: tuple[tuple[float | None, ...], ...]


class CorrelateStep(Step[Correlate]):
    """Pearson's, Spearman's or Kendall's correlation of all pairs of numeric columns, with p values."""

    name = "correlate"
    title = "Correlate columns"
    needs = ("schema",)
    gives = ("correlations",)
    leaves = (CORRELATIONS, TABLE)
    hub = "aggregator"

    def uses(self) -> tuple[Protocol, ...]:
        """The sum."""
        return (sum_protocol(self.topology),)

    def says(self, job: Job) -> tuple[str, ...]:
        """What every site learns."""
        opened = {
            "pearson": ("  means, spreads and the size of every column",),
            "spearman": (
                f"  ! up to {self.params.most:,} different values of each column, and how many rows have each",
            ),
            "kendall": (
                f"  ! the values of each column, up to {self.params.most:,} of each site, and for each two columns how "
                "many rows have each two values together",
            ),
        }[self.params.method]
        return (
            f"{self.name}: every site learns, of {shared(job)}",
            "  the number of rows without a missing value in these columns",
            *opened,
            "  the correlation of each two columns",
        )

    def check(self, work: Work) -> None:
        """Refuse columns that are not there, text, missing values, and too many values to open.

        Raises:
            InputError: naming the column.
        """
        if work.table is None:
            return
        for column in self._chosen(work.table.columns):
            if self.params.missing == "refuse" and column.missing:
                raise InputError(
                    f"{column.missing:,} values are missing",
                    column=column.name,
                    cure=f"Fill them, or say `missing: drop` in step {self.name} to leave such rows out.",
                )
            found = len(np.unique(column.values[~np.isnan(column.values)]))
            if self.params.method != "pearson" and found > self.params.most:
                raise InputError(
                    f"it has {found:,} different values, and step {self.name} would show them",
                    column=column.name,
                    cure=f"Round it, `round: {{{column.name}: UNIT}}`, or raise `most:` if all sites agree to that.",
                )

    def _chosen(self, table: Columns) -> list[Column]:
        """The columns, rounded where the job says so.

        Raises:
            InputError: one is not there or is text, or fewer than two are left.
        """
        numeric = [column.name for column in table if column.kind == "numeric"]
        for name in (*self.params.columns, *self.params.round):
            known_columns((name,), table.names, self.name)
            if name not in numeric:
                raise InputError("it is text, and must be a number", column=name, cure="Code it, or leave it out.")
        chosen = [name for name in numeric if name in (self.params.columns or numeric)]
        if len(chosen) < 2:
            raise InputError("fewer than two numeric columns are left", cure="Name two or more under `columns:`.")
        found = []
        for name in chosen:
            values, unit = table[name].values, self.params.round.get(name)
            found.append(Column(name, "numeric", values if unit is None else np.rint(values / unit) * unit))
        return found

    async def run(self, session: Session, work: Work) -> str:
        """Correlate.

        Raises:
            InputError: there are too few rows, or too many different values.
        """
        from atoll.learn.horizontal import correlation
        from atoll.learn.horizontal.rows import Rows

        agreed: Agreed = present(work.state.get("agreed"), "schema")
        columns = self._chosen(work.state["coded"])
        names = tuple(column.name for column in columns)
        most = self.params.most * len(columns) * len(work.job.sites)
        X = np.stack([column.values for column in columns], axis=1)
        params = correlation.CorrelationParams(self.params.method, most, missing="drop")
        async with totals(session, work, self.name) as sums:
            here = float(np.count_nonzero(~np.isnan(X).any(axis=1)))
            rows = int((await sums.total(np.array([here]), what="rows without missing values"))[0])
            enough(rows, agreed.minimum, "rows without missing values")
            still_enough(work, self, rows, agreed.minimum, "rows without missing values")
            done = await correlation.fit(sums, Rows(names, X), params)
        values, p_values = (
            tuple(tuple(map(finite, row)) for row in table.tolist()) for table in (done.values, done.p_values)
        )
        found = Correlations(self.params.method, names, rows, values, p_values)
        work.store.write_json(self.file(CORRELATIONS), found)
        work.store.write(self.file(TABLE), _csv(found).encode())
        self._take(work, found)
        return f"{len(names)} columns over {rows:,} rows, {self.params.method}"

    async def resume(self, work: Work) -> None:
        """Take the figures again."""
        self._take(work, work.store.read_json(self.file(CORRELATIONS), Correlations))

    def _take(self, work: Work, found: Correlations) -> None:
        work.state.setdefault("correlations", {})[self.name] = found


def _csv(found: Correlations) -> str:
    """One line for each pair."""
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(("first", "second", found.method, "p", "rows"))
    for i, first in enumerate(found.names):
        for j, second in enumerate(found.names[:i]):
            pair = (found.values[i][j], found.p_values[i][j])
            writer.writerow((second, first, *("" if value is None else repr(value) for value in pair), found.rows))
    return text.getvalue()
