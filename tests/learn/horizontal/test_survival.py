"""Survival curves, log-rank test and Cox regression, against statsmodels on pooled rows."""

from functools import partial
from typing import Any

import numpy as np
import pytest
from statsmodels.duration.api import PHReg, SurvfuncRight, survdiff

from atoll.core.errors import InputError
from atoll.data.columns import Column
from atoll.learn.horizontal import cox, survival
from atoll.learn.horizontal.cox import CoxParams
from atoll.learn.horizontal.rows import Rows
from atoll.learn.horizontal.survival import SurvivalParams
from tests.learn.horizontal.drawn import F64, Task, difference, draw
from tests.learn.horizontal.together import together, watched


def people(seed: int, **options: Any) -> tuple[Task, F64, F64]:
    """Columns, times with or without ties, and events."""
    task = draw(seed, **options)
    Z = (task.X - task.X.mean(axis=0)) / task.X.std(axis=0)
    time = task.rng.exponential(np.exp(-Z @ task.rng.normal(0, 0.5, Z.shape[1])))
    gone = task.rng.exponential(1.5, len(Z))
    event = (time <= gone).astype(np.float64)
    time = np.minimum(time, gone)
    return task, np.ceil(time * 8) / 8 if seed % 3 else time * 1e-3, event


def groups(task: Task, k: int) -> Any:
    names = ("甲", "b", "ccc")[:k]
    return task.rng.integers(0, k, len(task.X)).astype(np.int32), names


@pytest.mark.parametrize("seed", range(10))
def test_curves_and_the_log_rank_test_are_statsmodels(seed: int) -> None:
    task, time, event = people(seed)
    code, names = groups(task, 2 + seed % 2)

    async def site(totals: Any, at: Any) -> survival.Survival:
        group = Column("组", "categorical", code[at], names)
        return await survival.fit(totals, time[at], event[at], SurvivalParams(), group=group)

    ours = together(site, [(at,) for at in task.rows])[0]
    for curve in ours.curves:
        mine = code == names.index(curve.group)
        theirs = SurvfuncRight(time[mine], event[mine])
        known = np.isfinite(theirs.surv_prob_se) & (theirs.surv_prob > 0)
        assert curve.times.tolist() == theirs.surv_times.tolist()
        assert curve.at_risk.tolist() == theirs.n_risk.tolist()
        assert curve.events.tolist() == theirs.n_events.tolist()
        assert difference(curve.survival, theirs.surv_prob) < 1e-12
        assert difference(curve.standard_errors[known], theirs.surv_prob_se[known]) < 1e-12
        assert curve.quantile(0.5) == theirs.quantile(0.5) or np.isinf(curve.quantile(0.5))
        hazard = [sum(1 / np.sum(time[mine] >= s) for s in time[mine & (event == 1)] if s <= t) for t in curve.times]
        assert difference(curve.hazard, hazard) < 1e-12
    chi2, p_value = survdiff(time, event, code)
    assert difference([ours.chi2, ours.p_value], [chi2, p_value]) < 1e-8


@pytest.mark.parametrize("ties", ["efron", "breslow"])
@pytest.mark.parametrize("seed", range(9))
def test_cox_regression_is_statsmodels(seed: int, ties: str) -> None:
    task, time, event = people(seed)
    params = CoxParams(ties=ties, smallest=1)  # type: ignore[arg-type]
    parts = [(Rows(task.names, task.X[at]), time[at], event[at], params) for at in task.rows]
    models, adder = watched(cox.fit, parts)
    assert all(np.array_equal(one.baseline, models[0].baseline) for one in models)
    ours, spread, centre = models[0].coefficients, task.X.std(axis=0), task.X.mean(axis=0)
    theirs = PHReg(time, (task.X - centre) / spread, status=event, ties=ties).fit(disp=False, tol=1e-12, maxiter=200)
    assert difference(ours.values * spread, theirs.params) < 1e-6
    assert difference(ours.standard_errors * spread, theirs.bse) < 1e-6
    assert difference(ours.p_values, theirs.pvalues) < 1e-5
    assert difference(models[0].log_likelihood, theirs.llf) < 1e-9
    risk = np.exp((task.X - centre) / spread @ theirs.params)
    steps = [np.sum(event * (time == t)) / np.sum(risk[time >= t]) for t in models[0].times]
    assert difference(models[0].baseline * np.exp(centre @ ours.values), np.cumsum(steps)) < 1e-6
    assert len(adder.seen) < 60


@pytest.mark.parametrize("ties", ["efron", "breslow"])
@pytest.mark.parametrize("seed", range(5))
def test_strata_are_statsmodels(seed: int, ties: str) -> None:
    task, time, event = people(seed)
    code, names = groups(task, 2 + seed % 2)
    event[code == 0] *= seed != 4  # a stratum without events
    params = CoxParams(ties=ties, smallest=1)  # type: ignore[arg-type]

    async def site(totals: Any, at: Any) -> cox.CoxModel:
        strata = Column("组", "categorical", code[at], names)
        return await cox.fit(totals, Rows(task.names, task.X[at]), time[at], event[at], params, strata=strata)

    model = together(site, [(at,) for at in task.rows])[0]
    _check_strata(model, task, time, event, code, ties)
    spread, centre = task.X.std(axis=0), task.X.mean(axis=0)
    for k in range(len(names)):
        mine = np.sort(np.array(names))[k] == np.array(names)[code]
        risk = np.exp((task.X - centre) @ model.coefficients.values) * mine
        here = model.stratum == k
        steps = [np.sum(event * mine * (time == t)) / np.sum(risk[time >= t]) for t in model.times[here]]
        assert difference(model.baseline[here] * np.exp(centre @ model.coefficients.values), np.cumsum(steps)) < 1e-6
    assert spread.all()


def _check_strata(model: cox.CoxModel, task: Task, time: F64, event: F64, strata: Any, ties: str) -> None:
    spread = task.X.std(axis=0)
    oracle = PHReg(time, (task.X - task.X.mean(axis=0)) / spread, status=event, strata=strata, ties=ties)
    theirs = oracle.fit(disp=False, tol=1e-12, maxiter=200)
    assert difference(model.coefficients.values * spread, theirs.params) < 1e-6
    assert difference(model.coefficients.standard_errors * spread, theirs.bse) < 1e-6
    assert difference(model.log_likelihood, theirs.llf) < 1e-8
    assert model.events == event.sum()


@pytest.mark.parametrize("ties", ["efron", "breslow"])
@pytest.mark.parametrize("seed", [1, 2, 3, 4])
def test_a_stratum_for_each_site_is_statsmodels_and_tells_no_times(seed: int, ties: str) -> None:
    task, time, event = people(seed, n=150)
    params = CoxParams(ties=ties, smallest=10, by_site=True)  # type: ignore[arg-type]
    parts = [(Rows(task.names, task.X[at]), time[at], event[at], params) for at in task.rows]
    models, adder = watched(cox.fit, parts)
    strata = np.zeros(len(time), np.int64)
    for site, at in enumerate(task.rows):
        strata[at] = site
    _check_strata(models[0], task, time, event, strata, ties)
    assert models[0].times.size == models[0].baseline.size == 0
    p = task.X.shape[1]
    sizes = {total.size for what, total in adder.seen if "size of values" not in what}
    assert max(sizes) <= max(2 + p + p * (p + 1) // 2, 2 * (p + p * p))  # none grows with the people
    assert not any("times" in what for what, _ in adder.seen)


def test_strata_that_are_rare_missing_or_given_twice() -> None:
    task, time, event = people(2, n=120, p=1)
    code = np.where(np.arange(120) < 2, 2, np.arange(120) % 2).astype(np.int32)
    code[5:9] = -1

    async def site(totals: Any, at: Any, **options: Any) -> cox.CoxModel:
        strata = Column("s", "categorical", code[at], ("a", "b", "c"))
        params = CoxParams(smallest=3, unit=4.0, ties="breslow", **options)
        return await cox.fit(
            totals, Rows(task.names, task.X[at]), time[at], event[at], params, strata=strata, known=("a", "b", "c")
        )

    model = together(site, [(at,) for at in task.rows])[0]
    kept = np.isin(code, (0, 1))
    assert (model.strata, model.rows, model.events) == (("a", "b"), kept.sum(), event[kept].sum())
    with pytest.raises(InputError, match="strata are given twice"):
        together(partial(site, by_site=True), [(at,) for at in task.rows])


@pytest.mark.parametrize("ties", ["efron", "breslow"])
def test_the_gradient_of_the_pooled_likelihood_vanishes(ties: str) -> None:
    """Straight from the textbook's formula, which needs no oracle's tolerance: to 1e-9 of its scale."""
    task, time, event = people(4, n=80, p=2, ugly=False)
    params = CoxParams(ties=ties, smallest=1)  # type: ignore[arg-type]
    parts = [(Rows(task.names, task.X[at]), time[at], event[at], params) for at in task.rows]
    beta = together(cox.fit, parts)[0].coefficients.values
    w, score = np.exp(task.X @ beta), np.zeros(2)
    for t in np.unique(time[event == 1]):
        risk, dead = time >= t, (time == t) & (event == 1)
        d = int(dead.sum())
        for j in range(d):
            part = j / d if ties == "efron" else 0.0
            s = w * risk - part * w * dead
            score -= s @ task.X / s.sum()
        score += task.X[dead].sum(axis=0)
    assert np.abs(score).max() < 1e-9 * len(time)


def test_rounded_times_are_the_pooled_fit_on_rounded_times() -> None:
    task, time, event = people(6, n=190, p=2, ugly=False)
    params = CoxParams(ties="breslow", unit=2e-4, smallest=5)
    parts = [(Rows(task.names, task.X[at]), time[at], event[at], params) for at in task.rows]
    if min(np.bincount(np.ceil(time / 2e-4).astype(int))[1:4]) < 5:
        pytest.fail("the drawn times are not dense enough for this test")
    early = time < 8e-4
    late = np.where(early, time, 8e-4)
    parts = [(Rows(task.names, task.X[at]), late[at], (event * early)[at], params) for at in task.rows]
    ours = together(cox.fit, parts)[0]
    rounded = np.ceil(late / 2e-4) * 2e-4
    theirs = PHReg(rounded, task.X, status=event * early, ties="breslow").fit(disp=False, tol=1e-12)
    assert difference(ours.coefficients.values, theirs.params) < 1e-6


def test_few_people_between_two_events_are_not_shown() -> None:
    task, time, event = people(3, n=60, p=2)
    parts = [(Rows(task.names, task.X[at]), time[at], event[at], CoxParams()) for at in task.rows]
    with pytest.raises(InputError, match="only 1 leave or have events"):
        together(cox.fit, parts)


def test_single_events_are_not_opened_for_efrons_ties() -> None:
    task, time, event = people(3, n=60, p=2)  # times without ties
    parts = [(Rows(task.names, task.X[at]), time[at], event[at], CoxParams(smallest=1)) for at in task.rows]
    _, adder = watched(cox.fit, parts)
    m = int(event.sum())
    assert {total.size for what, total in adder.seen if "sums over risk sets" in what} == {m * 6 + 2 + 1}


X, T, E = np.arange(6.0).reshape(6, 1) ** 2, np.arange(1.0, 7), np.array([1.0, 0, 1, 0, 1, 0])


@pytest.mark.parametrize(
    ("time", "event", "words"),
    [
        (-T, E, "negative .*'time'"),
        (T, E * 2, "neither 0 nor 1 .*'event'"),
        (T, E * 0, "no site has an event"),
        (np.where(E == 1, np.nan, T), E, "missing .*'time'"),
    ],
)
def test_bad_input_is_named(time: F64, event: F64, words: str) -> None:
    with pytest.raises(InputError, match=words):
        together(cox.fit, [(Rows(("x",), X), time, event, CoxParams(smallest=1))])
    with pytest.raises(InputError, match=words):
        together(partial(survival.fit), [(time, event, SurvivalParams())])


def test_a_column_that_tells_the_order_of_events_is_noticed() -> None:
    parts = [(Rows(("x",), -T[:, None]), T, np.ones(6), CoxParams(smallest=1))]
    with pytest.raises(InputError, match="no best coefficients"):
        together(cox.fit, parts)
    with pytest.raises(InputError, match=r"alike .*column 'x'"):
        together(cox.fit, [(Rows(("x",), T[:, None] * 0), T, np.ones(6), CoxParams(smallest=1))])
