"""Survival curves over sites: Kaplan-Meier, Nelson-Aalen, and the log-rank test.

What is revealed: all distinct times of events with their number (see `order.distinct`), and for every group how many
people have an event at each and how many leave from it to the next.  That is what the curves say; coarser times
(`unit`) say less.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import msgspec
import numpy as np

from atoll.core.errors import InputError
from atoll.data.columns import Column
from atoll.learn.horizontal import tails
from atoll.learn.horizontal.categories import categories, codes
from atoll.learn.horizontal.order import distinct
from atoll.learn.horizontal.rows import F64, I64, Missing, Rows, agree, same, settle
from atoll.protocols.secure_sum.totals import Totals

STEP = "survival"


class SurvivalParams(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Parameters of survival curves.

    Args:
        unit: times are rounded up to multiples of this, above 0; as they are if left out.
        smallest: fewest people of a group; a smaller one is left out.
        most: how many distinct times of events are too many.
        missing: `refuse` missing times and events, or `drop` their rows; rows without a group are always left out.
    """

    unit: float | None = None
    smallest: int = 1
    most: int = 100_000
    missing: Missing = "refuse"

    def __post_init__(self) -> None:
        check_unit(self.unit, STEP)
        if self.smallest < 1:
            raise InputError("parameter smallest must be 1 or more", step=STEP, cure="Change it.")


def check_unit(unit: float | None, step: str) -> None:
    """Refuse a unit of time that is none."""
    if unit is not None and not (unit > 0 and math.isfinite(unit)):
        raise InputError(f"parameter unit is {unit!r}, but must be above 0", step=step, cure="Change it.")


@dataclass(frozen=True)
class Curve:
    """Survival of one group.

    Args:
        group: its name; empty where there is one only.
        times: (m,) distinct times of events.
        at_risk: (m,) people still there.
        events: (m,) events.
    """

    group: str
    times: F64
    at_risk: I64
    events: I64

    @property
    def survival(self) -> F64:
        """(m,) Kaplan-Meier estimate after each time."""
        return np.asarray(np.cumprod(1 - self.events / self.at_risk))

    @property
    def standard_errors(self) -> F64:
        """(m,) of the survival, by Greenwood's formula; NaN where nobody is left."""
        left = self.at_risk - self.events
        parts = self.events / (self.at_risk * np.maximum(left, 1))
        return np.where(left > 0, self.survival * np.sqrt(np.cumsum(parts)), math.nan)

    @property
    def hazard(self) -> F64:
        """(m,) Nelson-Aalen estimate of the cumulative hazard."""
        return np.cumsum(self.events / self.at_risk)

    def quantile(self, level: float = 0.5) -> float:
        """Return the first time at which survival is 1 - level or less; infinite if it stays above."""
        below = np.flatnonzero(self.survival <= 1 - level + 1e-12)
        return float(self.times[below[0]]) if below.size else math.inf


@dataclass(frozen=True)
class Survival:
    """Curves of all groups, and the log-rank test between them.

    Args:
        curves: one for each group.
        chi2: log-rank statistic; NaN with one group.
        df: its degrees of freedom.
    """

    curves: tuple[Curve, ...]
    chi2: float
    df: int

    @property
    def p_value(self) -> float:
        """Probability of so large a χ² if all groups had one hazard."""
        return tails.chi2_tail(self.chi2, self.df) if self.df else math.nan


async def fit(
    totals: Totals,
    time: F64,
    event: F64,
    params: SurvivalParams,
    *,
    group: Column | None = None,
    known: Sequence[str] | None = None,
) -> Survival:
    """Estimate survival of the people of all sites, by group if there is one.

    Args:
        totals: the sum over the sites.
        time: (n,) when each person was last seen, 0 or more.
        event: (n,) 1 for an event then, 0 for a departure.
        params: the parameters, the same at every site.
        group: this site's groups, a categorical column of n rows; at all sites or at none.
        known: all groups, where all sites know them; they are not looked for then.

    Raises:
        InputError: values are missing, infinite or impossible, columns differ in length, there is no
            event, or there are too many times.
    """
    at = np.arange(len(time)) if group is None else np.flatnonzero(group.values >= 0)
    place = np.zeros(len(time)) if group is None else group.values.astype(np.float64)
    if len(place) != len(time):
        raise InputError(f"{len(time):,} times have {len(place):,} groups", step=STEP)
    X = Rows(("time", "event"), np.column_stack([time, event])[at])
    X, place = settle(X, place[at], params.missing, step=STEP)
    time, event = round_up(X.values[:, 0], params.unit), check_people(X.values, step=STEP)
    totals, _ = await agree(totals, params, (group.name if group else "",), len(time), step=STEP)
    names: tuple[str, ...] = ("",)
    code = np.zeros(len(time), np.int64)
    if group is not None:
        column = Column(group.name, group.kind, place.astype(np.int32), group.categories)
        names, _ = await categories(totals, column, smallest=params.smallest, known=known, step=STEP)
        code = codes(column, names)
        time, event, code = time[code >= 0], event[code >= 0], code[code >= 0]
    stops, _ = await distinct(totals, time[event == 1], most=params.most, what=f"{STEP}: times of events")
    if not stops.size:
        raise InputError("no site has an event", step=STEP, column="event", cure="Look at the filters.")
    m, k = len(stops), len(names)
    until = np.searchsorted(stops, time, side="right") - 1
    cell, event = (code * m + until)[until >= 0], event[until >= 0]
    counts = np.stack([np.bincount(cell, minlength=k * m), np.bincount(cell, event, minlength=k * m)])
    flat = await totals.total(counts.astype(np.float64).ravel(), what=f"{STEP}: departures and events by time")
    leave, events = flat.reshape(2, k, m)
    at_risk = np.cumsum(leave[:, ::-1], axis=1)[:, ::-1]
    curves = []
    for name, n, d in zip(names, at_risk, events, strict=True):
        keep = d > 0
        curves.append(Curve(name, stops[keep], n[keep].astype(np.int64), d[keep].astype(np.int64)))
    chi2, df = log_rank(at_risk, events)
    (agreed,) = await same(totals, np.array([chi2]), step=STEP)
    return Survival(tuple(curves), float(agreed[0]), df)


def round_up(time: F64, unit: float | None) -> F64:
    """Round times up to multiples of a unit."""
    return time if unit is None else np.ceil(time / unit) * unit


def check_people(values: F64, *, step: str) -> F64:
    """Check times and events, (n, 2), and return the events."""
    if (values[:, 0] < 0).any():
        raise InputError("a time is negative", step=step, column="time", cure="Count times from the start.")
    if not np.isin(values[:, 1], (0, 1)).all():
        raise InputError("an event is neither 0 nor 1", step=step, column="event", cure="Code it as 0 and 1.")
    return values[:, 1]


def log_rank(at_risk: F64, events: F64) -> tuple[float, int]:
    """Return the log-rank statistic and its degrees of freedom.

    Args:
        at_risk: (K, m) people of every group at every time.
        events: (K, m) events.

    Source:
        Kalbfleisch and Prentice, The Statistical Analysis of Failure Time Data, 2nd edition, section 1.5.
    """
    there = at_risk.sum(axis=1) > 0
    at_risk, events = at_risk[there], events[there]
    df = len(at_risk) - 1
    if df < 1:
        return math.nan, 0
    n, d = at_risk.sum(axis=0), events.sum(axis=0)
    share = at_risk / n
    away = (events - share * d).sum(axis=1)[1:]
    factor = d * (n - d) / np.maximum(n - 1, 1)
    spread = np.diag((share * factor).sum(axis=1)) - (share * factor) @ share.T
    spread = spread[1:, 1:]
    if not np.diagonal(spread).all():
        return math.nan, df
    return float(away @ np.linalg.solve(spread, away)), df
