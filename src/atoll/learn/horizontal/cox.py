"""Cox regression over sites (proportional hazards, Breslow's or Efron's ties, strata); equal to the pooled fit.

What is revealed: all distinct times of events, and how many people have an event, and leave, at each; sums, squares and
the size of every column; in each of about seven rounds, for every such time, sums of exp(x β), x exp(x β) and
x x' exp(x β) over the people still at risk, for Efron's ties also over those with an event then, for β that all sites
know.

Neighbouring times differ by the people who leave from one to the next.  Where that is one person, her columns are
shown, though not her site or her name; of few people with many columns, the sums of all rounds may be enough to solve
for them.  So `smallest` people must leave from each time of an event to the next; `unit` makes times coarse enough for
that.  The score of a Cox model is no sum over sites, so nothing less will do.

With strata, people are at risk beside people of their own stratum only: times and sums are those of each stratum.
Where each site is a stratum of its own (`by_site`), the score is a sum over sites: then no times are told and no sums
over risk sets, but only the log-likelihood with its first and second derivatives; and there is no baseline hazard.

Source:
    Therneau and Grambsch, Modeling Survival Data, chapter 3; sums by site as in Lu et al., WebDISCO, JAMIA 2015.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import msgspec
import numpy as np

from atoll.core.errors import InputError
from atoll.core.offload import offload
from atoll.data.columns import Column
from atoll.learn.horizontal.categories import categories, codes
from atoll.learn.horizontal.inference import Coefficients, back
from atoll.learn.horizontal.newton import Point, descend
from atoll.learn.horizontal.order import distinct_each
from atoll.learn.horizontal.rows import F64, I64, LARGEST, Missing, Rows, agree, blocks, same, settle
from atoll.learn.horizontal.scale import scale
from atoll.learn.horizontal.solve import pack, system, unpack
from atoll.learn.horizontal.survival import check_people, check_unit, round_up
from atoll.protocols.secure_sum.totals import Totals

STEP = "Cox regression"

_MOST_EVENTS = 5_000_000  # each takes memory at every site
_BLOCK = 4096  # rows whose products of columns are in memory at a time


class CoxParams(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Parameters of a Cox regression.

    Args:
        ties: efron or breslow.
        unit: times are rounded up to multiples of this, above 0; as they are if left out.
        smallest: fewest people who must leave from one time of an event to the next, and, for Efron's ties, have events
            at one time if it is more than one; at least 1.
        most: how many distinct times of events are too many.
        steps: steps before giving up, at least 1.
        by_site: whether each site is a stratum of its own.
        missing: `refuse` missing values, or `drop` their rows.
    """

    ties: Literal["efron", "breslow"] = "efron"
    unit: float | None = None
    smallest: int = 10
    most: int = 20_000
    steps: int = 30
    by_site: bool = False
    missing: Missing = "refuse"

    def __post_init__(self) -> None:
        check_unit(self.unit, STEP)
        if min(self.smallest, self.steps) < 1:
            raise InputError("parameters smallest and steps must be 1 or more", step=STEP, cure="Change them.")


@dataclass(frozen=True)
class CoxModel:
    """A fitted Cox regression.

    Args:
        coefficients: logarithms of hazard ratios, in the columns' units.
        rows: people of all sites.
        events: events among them.
        log_likelihood: partial log-likelihood.
        null: the same without columns.
        times: (m,) distinct times of events, stratum by stratum; none if each site is a stratum.
        baseline: (m,) cumulative baseline hazard (Breslow's) of a person whose columns are all 0.
        strata: their names; one without a name where there are none.
        stratum: (m,) the stratum of every time.
    """

    coefficients: Coefficients
    rows: int
    events: int
    log_likelihood: float
    null: float
    times: F64
    baseline: F64
    strata: tuple[str, ...]
    stratum: I64

    def predict(self, values: F64) -> F64:
        """Return (n,) logarithms of hazard ratios for (n, p) values."""
        return values @ self.coefficients.slopes


@dataclass(frozen=True)
class _People:
    """One site's people: scaled columns, place of their last time among the events', whether they had one."""

    Z: F64
    until: I64  # the last event time that a person is at risk at; -1 for none
    event: F64
    deaths: F64  # (m,) events of all sites at every time, stratum by stratum
    stratum: I64  # (m,)
    ties: str

    @property
    def tied(self) -> I64:
        """Times at which the sums over those with an event are needed."""
        return np.flatnonzero(self.deaths > 1) if self.ties == "efron" else np.zeros(0, np.int64)


async def fit(
    totals: Totals,
    X: Rows,
    time: F64,
    event: F64,
    params: CoxParams,
    *,
    strata: Column | None = None,
    known: Sequence[str] | None = None,
) -> CoxModel:
    """Fit a Cox regression on the people of all sites.

    Args:
        totals: the sum over the sites.
        X: this site's columns.
        time: (n,) when each person was last seen, 0 or more.
        event: (n,) 1 for an event then, 0 for a departure.
        params: the parameters, the same at every site.
        strata: this site's strata, a categorical column of n rows; at all sites or at none. People without one, or of
            one with fewer than `smallest` people, are left out.
        known: all strata, where all sites know them; they are not looked for then.

    Raises:
        InputError: values are missing, infinite or impossible; columns overlap; there is no event; too few people leave
            between two events; or a column tells the order of events exactly.
    """
    X, time, event, strata = _settled(X, time, event, strata, params)
    names: tuple[str, ...] = ("",)
    code = np.zeros(len(time), np.int64)
    totals, rows = await agree(totals, params, X.names, len(time), step=STEP)
    if strata is not None:
        names, count = await categories(totals, strata, smallest=params.smallest, known=known, step=STEP)
        code, rows = codes(strata, names), int(count.sum())
        keep = code >= 0
        X, time, event, code = X.take(keep), time[keep], event[keep], code[keep]
    events = await _events(totals, event, params)
    times, stratum, deaths, until = await _times(totals, time, event, code, len(names), params)
    frame = await scale(totals, X.values, rows, step=STEP)
    people = _People(frame.apply(X.values), until, event, deaths.astype(np.float64), stratum, params.ties)
    values: list[float] = []

    async def evaluate(g: F64) -> Point:
        found = await (_evaluate_by_site if params.by_site else _evaluate)(totals, people, g)
        values.append(found.value)
        return found

    g, point = await descend(evaluate, np.zeros(len(X.names)), X.names, most=params.steps, step=STEP)
    T = back(frame, False)
    covariance = T @ system(point.hessian, X.names, step=STEP).inverse() @ T.T
    hazard = np.zeros(0)
    if params.by_site:
        times, stratum = np.zeros(0), np.zeros(0, np.int64)
    else:
        with np.errstate(over="ignore"):  # far from zero a person whose columns are all 0 may be beyond all sizes
            steps = people.deaths / point.rest * np.exp(-(frame.centre / frame.unit @ g))
        hazard = np.concatenate([np.cumsum(steps[stratum == k]) for k in range(len(names))])
    beta, covariance, hazard = await same(totals, T @ g, covariance, hazard, step=STEP)
    coefficients = Coefficients(X.names, beta, covariance)
    return CoxModel(coefficients, rows, events, -point.value, -values[0], times, hazard, names, stratum)


def _settled(
    X: Rows, time: F64, event: F64, strata: Column | None, params: CoxParams
) -> tuple[Rows, F64, F64, Column | None]:
    """Check one site's people and settle missing values; those without a stratum are left out."""
    if strata is not None and params.by_site:
        raise InputError("strata are given twice, by column and by site", step=STEP, cure="Take one of them.")
    at = np.arange(len(time)) if strata is None else np.flatnonzero(strata.values >= 0)
    place = np.zeros(len(time)) if strata is None else strata.values.astype(np.float64)
    if len(place) != len(time):
        raise InputError(f"{len(time):,} times have {len(place):,} strata", step=STEP)
    both = Rows((*X.names, "event", "stratum"), np.column_stack([X.values, event, place])[at])
    both, time = settle(both, time[at], params.missing, step=STEP, label="time")
    event, place = both.values[:, -2], both.values[:, -1]
    check_people(np.column_stack([time, event]), step=STEP)
    if strata is not None:
        strata = Column(strata.name, strata.kind, place.astype(np.int32), strata.categories)
    return Rows(X.names, both.values[:, :-2]), round_up(time, params.unit), event, strata


async def _events(totals: Totals, event: F64, params: CoxParams) -> int:
    """Count events, and refuse none, too many, or for strata by site fewer than may be shown."""
    events = int((await totals.total(np.array([event.sum()]), what=f"{STEP}: events"))[0])
    where = {"step": STEP, "column": "event"}
    if not events:
        raise InputError("no site has an event", cure="Look at the filters.", **where)
    if events > _MOST_EVENTS:
        raise InputError(f"there are more than {_MOST_EVENTS:,} events", cure="Draw a sample.", **where)
    if params.by_site and events < params.smallest:
        raise InputError(f"all sites together have only {events} events", cure="Lower `smallest`.", **where)
    return events


async def _times(
    totals: Totals, time: F64, event: F64, code: I64, strata: int, params: CoxParams
) -> tuple[F64, I64, I64, I64]:
    """Find the times of events of every stratum, or with strata by site those of this site alone.

    Returns:
        (m,) times, (m,) their strata, (m,) events, and (n,) the last time that each person is at risk at.
    """
    columns = [time[(event == 1) & (code == k)] for k in range(strata)]
    if params.by_site:
        each = [np.unique(columns[0], return_counts=True)]
    else:
        each = await distinct_each(totals, columns, most=params.most, what=f"{STEP}: times of events")
    until, begun = np.full(len(time), -1), 0
    for k, (times, _) in enumerate(each):
        mine = np.flatnonzero(code == k)
        last = np.searchsorted(times, time[mine], side="right")
        until[mine] = np.where(last > 0, begun + last - 1, -1)
        begun += len(times)
    times, deaths = (np.concatenate(parts) for parts in zip(*each, strict=True))
    stratum = np.repeat(np.arange(strata), [len(times) for times, _ in each])
    if not params.by_site:
        await _check_groups(totals, until, deaths, params)
    return times, stratum, deaths, until


async def _check_groups(totals: Totals, until: I64, deaths: I64, params: CoxParams) -> None:
    """Refuse risk sets whose differences would show single people."""
    leave = np.bincount(until[until >= 0], minlength=deaths.size).astype(np.float64)
    leave = await totals.total(leave, what=f"{STEP}: people who leave from one event to the next")
    tied = deaths[deaths > 1] if params.ties == "efron" else deaths[:0]
    least = int(min(leave.min(), tied.min(initial=np.iinfo(np.int64).max)))
    if least < params.smallest:
        raise InputError(
            f"only {least} leave or have events from one event to the next, and their columns would be shown",
            step=STEP,
            column="time",
            cure="Round times up with `unit`, or lower `smallest` if all sites agree to show so few.",
        )


async def _evaluate(totals: Totals, people: _People, g: F64) -> Point:
    """Add up the risk sets at coefficients g, and form minus the log-likelihood with its derivatives."""
    mine = await offload(_sums, people, g)
    bad = _too_large(mine)
    flat = np.append(np.zeros_like(mine) if bad else mine, float(bad))
    flat = await totals.total(flat, what=f"{STEP}: sums over risk sets and events at every time")
    p = g.size
    if flat[-1]:
        return Point(math.inf, np.zeros(p), np.eye(p), np.ones(people.deaths.size))
    return _likelihood(*_parted(flat[:-1], people, p), people, g)


async def _evaluate_by_site(totals: Totals, people: _People, g: F64) -> Point:
    """As `_evaluate`, where nobody is at risk beside people of other sites: each site forms its own likelihood."""
    p = g.size
    mine, sums = np.full(1 + p + p * (p + 1) // 2, math.inf), await offload(_sums, people, g)
    if not _too_large(sums):
        point = _likelihood(*_parted(sums, people, p), people, g)
        mine = np.concatenate([[point.value], point.gradient, pack(point.hessian)])
    bad = _too_large(mine)
    flat = np.append(np.zeros_like(mine) if bad else mine, float(bad))
    flat = await totals.total(flat, what=f"{STEP}: log-likelihood with its first and second derivatives")
    if flat[-1]:
        return Point(math.inf, np.zeros(p), np.eye(p), np.zeros(0))
    return Point(float(flat[0]), flat[1 : 1 + p], unpack(flat[1 + p : -1], p), np.zeros(0))


def _too_large(numbers: F64) -> bool:
    return not np.isfinite(numbers).all() or float(np.abs(numbers).max(initial=0.0)) >= LARGEST


def _parted(flat: F64, people: _People, p: int) -> tuple[F64, F64, F64]:
    """Undo the order of `_sums`: sums over those at risk and over those with an event, (m, …), and of columns, (p,)."""
    m, width = people.deaths.size, 1 + p + p * (p + 1) // 2
    dying = np.zeros((m, width))
    dying[people.tied] = flat[m * width : flat.size - p].reshape(-1, width)
    return flat[: m * width].reshape(m, width), dying, flat[flat.size - p :]


def _sums(people: _People, g: F64) -> F64:
    """Sums over those at risk by time, over those with an event by tied time, and of their columns, (p,); flat."""
    m, p = people.deaths.size, g.size
    leaving, dying, columns = *np.zeros((2, m, 1 + p + p * (p + 1) // 2)), np.zeros(p)
    upper = np.triu_indices(p)
    with np.errstate(over="ignore", invalid="ignore"):
        for block in blocks(len(people.Z), _BLOCK):
            known = people.until[block] >= 0
            Z, until, event = (one[block][known] for one in (people.Z, people.until, people.event))
            w = np.exp(Z @ g)
            squares = (w * Z[:, a] * Z[:, b] for a, b in zip(*upper, strict=True))
            for at, one in enumerate([w, *(w * z for z in Z.T), *squares]):
                leaving[:, at] += np.bincount(until, one, m)
                dying[:, at] += np.bincount(until, one * event, m)
            columns += event @ Z
        begins = np.searchsorted(people.stratum, np.unique(people.stratum))[1:]
        parts = np.split(leaving, begins)  # people are at risk in their own stratum only
        at_risk = np.concatenate([np.cumsum(part[::-1], axis=0)[::-1] for part in parts])
    return np.concatenate([at_risk.ravel(), dying[people.tied].ravel(), columns])


def _likelihood(at_risk: F64, dying: F64, total: F64, people: _People, g: F64) -> Point:
    """Minus the partial log-likelihood, downhill gradient and information from sums by time, tie by tie."""
    m, p = people.deaths.size, g.size
    deaths = people.deaths.astype(np.int64)
    at = np.repeat(np.arange(m), deaths)  # one entry for each event
    number = np.arange(at.size) - np.repeat(np.cumsum(deaths) - deaths, deaths)
    part = number / people.deaths[at] if people.ties == "efron" else np.zeros(at.size)
    left = at_risk[at] - part[:, None] * dying[at]
    s0, s1, s2 = left[:, 0], left[:, 1 : 1 + p], left[:, 1 + p :]
    if not (s0 > 0).all():
        return Point(math.inf, np.zeros(p), np.eye(p), np.ones(m))
    mean = s1 / s0[:, None]
    upper = np.triu_indices(p)
    hessian = np.zeros((p, p))
    hessian[upper] = (s2 / s0[:, None] - mean[:, upper[0]] * mean[:, upper[1]]).sum(axis=0)
    hessian = hessian + np.triu(hessian, 1).T
    value = float(np.log(s0).sum()) - float(total @ g)
    return Point(value, total - mean.sum(axis=0), hessian, at_risk[:, 0])
