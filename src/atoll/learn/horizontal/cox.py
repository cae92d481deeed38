"""Cox regression over sites (proportional hazards, Breslow's or Efron's ties); equal to the pooled fit.

What is revealed: all distinct times of events, and how many people have an event, and leave, at each; sums, squares and
the size of every column; in each of about seven rounds, for every such time, sums of exp(x β), x exp(x β) and
x x' exp(x β) over the people still at risk, for Efron's ties also over those with an event then, for β that all sites
know.

Neighbouring times differ by the people who leave from one to the next.  Where that is one person, her columns are
shown, though not her site or her name; of few people with many columns, the sums of all rounds may be enough to solve
for them.  So `smallest` people must leave from each time of an event to the next; `unit` makes times coarse enough for
that.  The score of a Cox model is no sum over sites, so nothing less will do.

Source:
    Therneau and Grambsch, Modeling Survival Data, chapter 3; sums by site as in Lu et al., WebDISCO, JAMIA 2015.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import msgspec
import numpy as np

from atoll.core.errors import InputError
from atoll.core.offload import offload
from atoll.learn.horizontal.inference import Coefficients, back
from atoll.learn.horizontal.newton import Point, descend
from atoll.learn.horizontal.order import distinct
from atoll.learn.horizontal.rows import F64, I64, LARGEST, Missing, Rows, agree, blocks, same, settle
from atoll.learn.horizontal.scale import scale
from atoll.learn.horizontal.solve import system
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
        missing: `refuse` missing values, or `drop` their rows.
    """

    ties: Literal["efron", "breslow"] = "efron"
    unit: float | None = None
    smallest: int = 10
    most: int = 20_000
    steps: int = 30
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
        times: (m,) distinct times of events.
        baseline: (m,) cumulative baseline hazard (Breslow's) of a person whose columns are all 0.
    """

    coefficients: Coefficients
    rows: int
    events: int
    log_likelihood: float
    null: float
    times: F64
    baseline: F64

    def predict(self, values: F64) -> F64:
        """Return (n,) logarithms of hazard ratios for (n, p) values."""
        return values @ self.coefficients.slopes


@dataclass(frozen=True)
class _People:
    """One site's people: scaled columns, place of their last time among the events', whether they had one."""

    Z: F64
    until: I64  # the last event time that a person is at risk at; -1 for none
    event: F64
    deaths: F64  # (m,) events of all sites at every time
    ties: str

    @property
    def tied(self) -> I64:
        """Times at which the sums over those with an event are needed."""
        return np.flatnonzero(self.deaths > 1) if self.ties == "efron" else np.zeros(0, np.int64)


async def fit(totals: Totals, X: Rows, time: F64, event: F64, params: CoxParams) -> CoxModel:
    """Fit a Cox regression on the people of all sites.

    Args:
        totals: the sum over the sites.
        X: this site's columns.
        time: (n,) when each person was last seen, 0 or more.
        event: (n,) 1 for an event then, 0 for a departure.
        params: the parameters, the same at every site.

    Raises:
        InputError: values are missing, infinite or impossible; columns overlap; there is no event; too few people leave
            between two events; or a column tells the order of events exactly.
    """
    both = Rows((*X.names, "event"), np.column_stack([X.values, event]))
    both, time = settle(both, time, params.missing, step=STEP, label="time")
    X, event = Rows(X.names, both.values[:, :-1]), both.values[:, -1]
    check_people(np.column_stack([time, event]), step=STEP)
    time = round_up(time, params.unit)
    totals, rows = await agree(totals, params, X.names, len(time), step=STEP)
    times, deaths = await distinct(totals, time[event == 1], most=params.most, what=f"{STEP}: times of events")
    if not times.size:
        raise InputError("no site has an event", step=STEP, column="event", cure="Look at the filters.")
    if deaths.sum() > _MOST_EVENTS:
        raise InputError(
            f"there are more than {_MOST_EVENTS:,} events", step=STEP, column="event", cure="Draw a sample."
        )
    until = np.searchsorted(times, time, side="right") - 1
    await _check_groups(totals, until, deaths, params)
    frame = await scale(totals, X.values, rows, step=STEP)
    people = _People(frame.apply(X.values), until, event, deaths.astype(np.float64), params.ties)
    values: list[float] = []

    async def evaluate(g: F64) -> Point:
        found = await _evaluate(totals, people, g)
        values.append(found.value)
        return found

    g, point = await descend(evaluate, np.zeros(len(X.names)), X.names, most=params.steps, step=STEP)
    T = back(frame, False)
    covariance = T @ system(point.hessian, X.names, step=STEP).inverse() @ T.T
    with np.errstate(over="ignore"):  # far from zero a person whose columns are all 0 may be beyond all sizes
        hazard = np.cumsum(people.deaths / point.rest) * np.exp(-(frame.centre / frame.unit @ g))
    beta, covariance, hazard = await same(totals, T @ g, covariance, hazard, step=STEP)
    coefficients = Coefficients(X.names, beta, covariance)
    return CoxModel(coefficients, rows, int(deaths.sum()), -point.value, -values[0], times, hazard)


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
    bad = not np.isfinite(mine).all() or float(np.abs(mine).max(initial=0.0)) >= LARGEST
    flat = np.append(np.zeros_like(mine) if bad else mine, float(bad))
    flat = await totals.total(flat, what=f"{STEP}: sums over risk sets and events at every time")
    p, m = g.size, people.deaths.size
    width = 1 + p + p * (p + 1) // 2
    if flat[-1]:
        return Point(math.inf, np.zeros(p), np.eye(p), np.ones(m))
    tied = people.tied
    at_risk, dying = flat[: m * width].reshape(m, width), np.zeros((m, width))
    dying[tied] = flat[m * width : -1 - p].reshape(-1, width)
    return _likelihood(at_risk, dying, flat[-1 - p : -1], people, g)


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
        at_risk = np.cumsum(leaving[::-1], axis=0)[::-1]
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
