"""Survival of the people of all sites: Kaplan-Meier curves, by group if there is one, and the log-rank test."""

from __future__ import annotations

import csv
import io
from typing import TYPE_CHECKING, Annotated

import msgspec
import numpy as np
from numpy.typing import NDArray

from atoll.core.errors import InputError
from atoll.core.protocol import Protocol
from atoll.core.session import Session
from atoll.data.columns import Column
from atoll.node.models.base import known as finite
from atoll.node.steps.base import Called, Step, Work, present
from atoll.node.steps.compare import Agreed
from atoll.node.steps.describe import known_columns
from atoll.node.steps.groups import check_groups, groups_of
from atoll.node.steps.totals import enough, shared, still_enough, sum_protocol, totals

if TYPE_CHECKING:
    from atoll.learn.horizontal.survival import Curve as Estimate
    from atoll.node.job import Job
    from atoll.protocols.secure_sum.totals import Totals

F64 = NDArray[np.float64]
SURVIVAL = "survival.json"
TABLE = "survival.csv"


class Survival(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, tag_field="step", tag="survival"):
    """Params of `survival`.

    Attributes:
        event: the column that says whether the event happened, 1, or the person was last seen without it, 0.
        time: the column that says when, counted from each person's start; the job's label if left out.
        group: a column whose values make groups, each with a curve: texts, or few whole numbers. Groups of fewer than
            `minimum` people are left out.
        unit: times are rounded up to multiples of this; as they are if left out, and then those of single people show.
        name: of several steps `survival` each needs its own; the files are called after it.
    """

    event: str
    time: str = ""
    group: str = ""
    unit: Annotated[float, msgspec.Meta(gt=0)] | None = None
    name: Called = ""


class Curve(msgspec.Struct, frozen=True, kw_only=True):
    """Survival of one group, as long as `minimum` people are at risk.

    Attributes:
        group: its name; empty where there is one only.
        people: at the start.
        events: in all, also those after the curve's end.
        median: first time at which half or fewer are left; None if the curve ends before.
        times: (m,) distinct times of events.
        at_risk: (m,) people still there just before.
        happened: (m,) events then.
        survival: (m,) Kaplan-Meier estimate after each time.
        errors: (m,) standard errors, by Greenwood's formula; None where nobody is left.
        low: (m,) lower end of the 95 % interval, normal on the scale of log(-log(survival)); None likewise.
        high: (m,) upper end.
    """

    group: str
    people: int
    events: int
    median: float | None
    times: tuple[float, ...]
    at_risk: tuple[int, ...]
    happened: tuple[int, ...]
    survival: tuple[float, ...]
    errors: tuple[float | None, ...]
    low: tuple[float | None, ...]
    high: tuple[float | None, ...]


class Found(msgspec.Struct, frozen=True, kw_only=True):
    """What the step came to.

    Attributes:
        time: the column of times.
        unit: of that column, if its owners have said one.
        group: the column of groups; empty if none.
        left_out: rows of all sites that were left out, for a value is missing or their group is rare.
        curves: one a group.
        chi2: log-rank statistic; None with one group.
        df: its degrees of freedom.
        p: probability of so large a statistic if all groups had one hazard.
    """

    time: str
    unit: str
    group: str
    left_out: int
    curves: tuple[Curve, ...]
    chi2: float | None = None
    df: int = 0
    p: float | None = None


class SurvivalStep(Step[Survival]):
    """Kaplan-Meier curves with 95 % intervals, and between groups the log-rank test."""

    name = "survival"
    title = "Survival curves"
    needs = ("schema",)
    gives = ("survival",)
    leaves = (SURVIVAL, TABLE)
    hub = "aggregator"

    def uses(self) -> tuple[Protocol, ...]:
        """The sum."""
        return (sum_protocol(self.topology),)

    def says(self, job: Job) -> tuple[str, ...]:
        """What every site learns.

        Raises:
            InputError: no column of times is named.
        """
        params = self.params
        if not (params.time or job.label):
            raise InputError("no column says when", step=self.name, cure="Name it under `time:`.")
        groups = f" of each group of {params.group}" if params.group else ""
        fine = f"  all times of events in steps of {params.unit:g}" if params.unit else "  ! all times of events"
        return (
            f"{self.name}: every site learns, of {shared(job)}",
            *((f"  how many rows each group of {params.group} has",) if params.group else ()),
            fine,
            f"  ! how many people{groups} have an event at each, and leave from it to the next; it may be one",
            "  The report shows curves as long as `minimum` people are at risk.",
        )

    def check(self, work: Work) -> None:
        """Refuse columns that are not there, times and events that are none, and groups that are none.

        Raises:
            InputError: naming the column.
        """
        self.says(work.job)
        if work.table is None:
            return
        table, params, time = work.table.columns, self.params, self.params.time or work.job.label
        known_columns((time, params.event, *([params.group] if params.group else ())), table.names, self.name)
        for name in (time, params.event):
            if table[name].kind != "numeric":
                raise InputError("it is text, and must be a number", column=name, cure="Say `recode:` at this site.")
        times, events = table[time].values, table[params.event].values
        if (times < 0).any():
            raise InputError("a time is negative", column=time, cure="Count times from each person's start.")
        if other := int(np.count_nonzero((events != 0) & (events != 1) & ~np.isnan(events))):
            cure = "Code the event as 1 and the rest as 0, at every site."
            raise InputError(f"it holds {other:,} values other than 0 and 1", column=params.event, cure=cure)
        if params.group:
            check_groups(table[params.group])

    async def run(self, session: Session, work: Work) -> str:
        """Estimate the curves.

        Raises:
            InputError: there are too few people, or no event.
        """
        from atoll.learn.horizontal import survival
        from atoll.learn.horizontal.categories import categories

        agreed: Agreed = present(work.state.get("agreed"), "schema")
        coded, params = work.state["coded"], self.params
        time, event = coded[params.time or work.job.label], coded[params.event]
        group: Column | None = None
        groups: tuple[str, ...] | None = None
        async with totals(session, work, self.name) as sums:
            whole = ~(np.isnan(time.values) | np.isnan(event.values))
            rows = int((await sums.total(np.array([float(whole.sum())]), what="rows with time and event"))[0])
            enough(rows, agreed.minimum, "rows with time and event", time.name)
            still_enough(work, self, rows, agreed.minimum, "rows with time and event", time.name)
            if params.group:
                group, groups = groups_of(coded, params.group, agreed)
                if groups is None:
                    groups, _ = await categories(sums, group, smallest=agreed.minimum, step=self.name)
                if not groups:
                    cure = "Take another column, or a smaller `minimum:` in step compare."
                    raise InputError(f"no group has {agreed.minimum:,} rows", column=params.group, cure=cure)
            options = survival.SurvivalParams(unit=params.unit, smallest=agreed.minimum, missing="drop")
            done = await survival.fit(sums, time.values, event.values, options, group=group, known=groups)
            people = await _people(sums, whole, group, [curve.group for curve in done.curves])
        curves = tuple(_curve(*one, agreed.minimum) for one in zip(done.curves, people, strict=True))
        unit = next(one.unit for one in agreed.columns if one.name == time.name)
        found = Found(
            time=time.name, unit=unit, group=params.group, left_out=agreed.rows - sum(people), curves=curves,
            chi2=finite(done.chi2), df=done.df, p=finite(done.p_value),
        )  # fmt: skip
        work.store.write_json(self.file(SURVIVAL), found)
        work.store.write(self.file(TABLE), _csv(found).encode())
        self._take(work, found)
        test = f", log-rank p {found.p:.3g}" if found.p is not None else ""
        return f"{len(curves)} curves of {sum(people):,} people, {sum(c.events for c in curves):,} events{test}"

    async def resume(self, work: Work) -> None:
        """Take the curves again."""
        self._take(work, work.store.read_json(self.file(SURVIVAL), Found))

    def _take(self, work: Work, found: Found) -> None:
        work.state.setdefault("survival", {})[self.name] = found


async def _people(sums: Totals, whole: NDArray[np.bool_], group: Column | None, names: list[str]) -> list[int]:
    """People of each group at all sites."""
    from atoll.learn.horizontal.categories import codes

    at = np.zeros(len(whole), np.int64) if group is None else codes(group, names)
    here = np.bincount(at[whole & (at >= 0)], minlength=len(names)).astype(np.float64)
    return [int(n) for n in await sums.total(here, what="people of each group")]


def _curve(estimate: Estimate, people: int, minimum: int) -> Curve:
    """Bring an estimate into the form of the files, as long as enough people are at risk."""
    m = int(np.count_nonzero(estimate.at_risk >= minimum))
    survival, errors = estimate.survival[:m], estimate.standard_errors[:m]
    low, high = interval(survival, errors)
    median = estimate.quantile(0.5)
    return Curve(
        group=estimate.group,
        people=people,
        events=int(estimate.events.sum()),
        median=median if m and median <= estimate.times[m - 1] else None,
        times=tuple(estimate.times[:m].tolist()),
        at_risk=tuple(estimate.at_risk[:m].tolist()),
        happened=tuple(estimate.events[:m].tolist()),
        survival=tuple(survival.tolist()),
        errors=tuple(map(finite, errors.tolist())),
        low=tuple(map(finite, low.tolist())),
        high=tuple(map(finite, high.tolist())),
    )


def interval(survival: F64, errors: F64) -> tuple[F64, F64]:
    """Return 95 % intervals, normal on the scale of log(-log(survival)), so that they stay between 0 and 1.

    Source:
        Kalbfleisch and Prentice, The Statistical Analysis of Failure Time Data, 2nd edition, section 1.4.
    """
    from atoll.learn.horizontal.tails import normal_quantile

    with np.errstate(divide="ignore", invalid="ignore"):
        away = normal_quantile(0.95) * errors / (survival * np.log(survival))
        return survival ** np.exp(-away), survival ** np.exp(away)


def _csv(found: Found) -> str:
    """One line for each group and time."""
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(("group", "time", "at_risk", "events", "survival", "error", "low", "high"))
    for one in found.curves:
        parts = (one.times, one.at_risk, one.happened, one.survival, one.errors, one.low, one.high)
        for line in zip(*parts, strict=True):
            writer.writerow((one.group, *("" if value is None else repr(value) for value in line)))
    return text.getvalue()
