"""Jobs that compare groups, correlate columns and draw survival curves, beside SciPy and statsmodels on pooled rows."""

from __future__ import annotations

import csv
import json
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats
from statsmodels.duration.api import SurvfuncRight, survdiff
from statsmodels.stats.contingency_tables import Table2x2

import atoll
from atoll.core.errors import InputError
from atoll.node.job import Job, check
from atoll.node.steps import build
from tests.node.branches import NUMBERS, SPLITS, Branches, document, frames, label

TEST = {"step": "test", "group": "bad"}
RANKS = {"step": "correlate", "name": "ranks", "method": "kendall", "columns": ["months", "instalment_rate", "bad"]}
CURVES = {"step": "survival", "time": "months", "event": "bad", "group": "housing"}
FILES = ("tests.json", "tests.csv", "correlations-ranks.json", "survival.json", "survival.csv", "model-risk.json")


def text(name: str) -> Any:
    return np.concatenate([np.array(part[name], object) for part in frames().values()])


def drawn(tmp_path: Path, *steps: dict[str, Any], parts: Any = None, minimum: int = 10, centre: bool = False) -> Any:
    job = document(*steps)
    if centre:
        job["sites"] = {"centre": {"role": "aggregator"}, **job["sites"]}
        job["sites"]["north"]["role"] = "member"
    job["steps"][0]["minimum"] = minimum
    return atoll.simulate(parts or frames(), job, out=tmp_path)


def read(run: Any, name: str) -> Any:
    return json.loads(run.stores["west"].path(name).read_text())


@pytest.fixture
def branches(tmp_path: Path) -> Iterator[Branches]:
    made = Branches.of(tmp_path, frames())
    yield made
    made.close()


@pytest.mark.processes
def test_processes_go_on_after_a_kill_and_end_with_the_figures_of_pooled_rows(branches: Branches) -> None:
    job = document(TEST, RANKS, CURVES, {"step": "fit", "name": "risk", "model": {"kind": "logistic"}})
    dying = (
        "import os, signal; from atoll.learn.horizontal import glm; "
        "glm.descend = lambda *args, **rest: os.kill(os.getpid(), signal.SIGKILL)"
    )
    assert branches.run_all(job, west=dying)["west"].code == -signal.SIGKILL
    ended = branches.run_all(job)
    assert {end.code for end in ended.values()} == {0}, ended
    stores = {name: branches.home(name).result("branches") for name in SPLITS}
    for name in FILES:
        assert len({store.path(name).read_bytes() for store in stores.values()}) == 1, name
    assert '"after":"survival"' in stores["west"].path("log.jsonl").read_text().replace(" ", "")
    _check_tests(json.loads(stores["west"].path("tests.json").read_text()))
    _check_ranks(json.loads(stores["west"].path("correlations-ranks.json").read_text()))
    _check_curves(json.loads(stores["west"].path("survival.json").read_text()), 10)
    page = stores["south"].path("report.html").read_text()
    for words in (
        "Means by bad", "Tests between groups of bad", "Welch&#39;s t-test", "Kendall correlation &#39;ranks&#39;",
        "Survival by housing", 'id="chart-survival-1"', "Log-rank test: χ²", "Logistic regression &#39;risk&#39;",
    ):  # fmt: skip
        assert words in page, words


def _check_tests(lines: list[dict[str, Any]]) -> None:
    found, bad = {line["column"]: line for line in lines}, label(frames())
    assert list(found) == [*NUMBERS, "checking", "housing"]
    for name in NUMBERS:
        samples = [label(frames(), name)[bad == group] for group in (0, 1)]
        wanted, one = stats.ttest_ind(*samples, equal_var=False), found[name]
        assert one["test"] == "Welch's t-test"
        assert (one["statistic"], one["p"]) == pytest.approx((wanted.statistic, wanted.pvalue), rel=1e-9)
        assert (one["low"], one["high"]) == pytest.approx(tuple(wanted.confidence_interval()), rel=1e-9)
        for group, sample in zip(one["groups"], samples, strict=True):
            assert group["count"] == len(sample)
            assert (group["mean"], group["sd"]) == pytest.approx((sample.mean(), sample.std(ddof=1)), rel=1e-9)
    levels = sorted(set(text("checking")))
    table = [[int(np.sum((text("checking") == level) & (bad == group))) for level in levels] for group in (0, 1)]
    one, wanted = found["checking"], stats.chi2_contingency(table)
    assert [list(group["categories"].values()) for group in one["groups"]] == table
    assert (one["test"], one["df"]) == ("χ² test", [3.0])
    assert (one["statistic"], one["p"]) == pytest.approx((wanted.statistic, wanted.pvalue), rel=1e-9)


def _check_ranks(found: dict[str, Any]) -> None:
    for i, first in enumerate(found["names"]):
        for j, second in enumerate(found["names"][:i]):
            wanted = stats.kendalltau(label(frames(), first), label(frames(), second))
            assert found["values"][i][j] == pytest.approx(wanted.statistic, rel=1e-9)
            assert found["p_values"][i][j] == pytest.approx(wanted.pvalue, rel=1e-7)


def _check_curves(found: dict[str, Any], minimum: int) -> None:
    months, bad, housing = label(frames(), "months"), label(frames()), text("housing")
    assert [curve["group"] for curve in found["curves"]] == ["free", "own", "rent"]
    for curve in found["curves"]:
        mine = housing == curve["group"]
        theirs = SurvfuncRight(months[mine], bad[mine])
        shown = theirs.n_risk >= minimum
        assert (curve["people"], curve["events"]) == (mine.sum(), bad[mine].sum())
        assert curve["times"] == theirs.surv_times[shown].tolist()
        assert curve["at_risk"] == theirs.n_risk[shown].tolist()
        np.testing.assert_allclose(curve["survival"], theirs.surv_prob[shown], rtol=1e-12)
        np.testing.assert_allclose(curve["errors"], theirs.surv_prob_se[shown], rtol=1e-9)
        assert curve["median"] == theirs.quantile(0.5)
        away = stats.norm.ppf(0.975) * theirs.surv_prob_se[0] / np.log(theirs.surv_prob[0]) / theirs.surv_prob[0]
        ends = theirs.surv_prob[0] ** np.exp([-away, away])
        assert (curve["low"][0], curve["high"][0]) == pytest.approx(tuple(ends), rel=1e-9)
    assert (found["chi2"], found["p"]) == pytest.approx(survdiff(months, bad, housing), rel=1e-9)


def test_other_tests_and_methods_are_scipys(tmp_path: Path) -> None:
    two = frames()
    for part in two.values():
        part["housing"] = ["own" if value == "own" else "other" for value in part["housing"]]
    run = drawn(
        tmp_path,
        {**TEST, "name": "equal", "numbers": "student", "categories": "fisher", "columns": ["amount", "housing"]},
        {**TEST, "name": "many", "group": "checking", "columns": ["amount"]},
        {"step": "correlate"},
        {"step": "correlate", "name": "rank", "method": "spearman", "round": {"amount": 500}},
        {"step": "survival", "time": "months", "event": "bad", "unit": 12},
        parts=two,
    )
    bad, amount, housing = (
        label(two),
        label(two, "amount"),
        np.concatenate([np.array(p["housing"]) for p in two.values()]),
    )
    student, fisher = read(run, "tests-equal.json")
    wanted = stats.ttest_ind(amount[bad == 0], amount[bad == 1])
    assert (student["test"], student["df"]) == ("Student's t-test", [998.0])
    assert (student["statistic"], student["p"]) == pytest.approx((wanted.statistic, wanted.pvalue), rel=1e-9)
    table = np.array([[np.sum((bad == g) & (housing == h)) for h in ("other", "own")] for g in (0, 1)])
    assert fisher["p"] == pytest.approx(stats.fisher_exact(table).pvalue, rel=1e-9)
    theirs = Table2x2(table)
    assert (fisher["odds_ratio"], fisher["low"], fisher["high"]) == pytest.approx(
        (theirs.oddsratio, *theirs.oddsratio_confint()), rel=1e-9
    )
    f = stats.f_oneway(*(amount[text("checking") == level] for level in np.unique(text("checking").astype(str))))
    (many,) = read(run, "tests-many.json")
    assert (many["test"], many["df"]) == ("analysis of variance", [3.0, 996.0])
    assert (many["statistic"], many["p"]) == pytest.approx((f.statistic, f.pvalue), rel=1e-9)
    pearson, rank = read(run, "correlations.json"), read(run, "correlations-rank.json")
    assert pearson["names"] == [*NUMBERS, "bad"]
    one, other = stats.pearsonr(amount, bad), stats.spearmanr(np.rint(amount / 500), bad)
    assert (pearson["values"][0][3], pearson["p_values"][0][3]) == pytest.approx((one.statistic, one.pvalue), rel=1e-8)
    assert (rank["values"][0][3], rank["p_values"][0][3]) == pytest.approx((other.statistic, other.pvalue), rel=1e-8)
    (curve,) = read(run, "survival.json")["curves"]
    theirs = SurvfuncRight(np.ceil(label(two, "months") / 12) * 12, bad)
    np.testing.assert_allclose(curve["survival"], theirs.surv_prob[: len(curve["times"])], rtol=1e-12)
    assert read(run, "survival.json")["p"] is None
    with run.stores["north"].path("tests-equal.csv").open() as file:
        lines = list(csv.DictReader(file))
    assert [line["p"] for line in lines if line["test"]] == [repr(student["p"]), repr(fisher["p"])]
    assert [int(line["count"]) for line in lines if line["category"]] == table.ravel().tolist()


def test_missing_values_and_small_groups_are_left_out(tmp_path: Path) -> None:
    parts = frames()
    for part in parts.values():
        part["months"][::3] = [None] * len(part["months"][::3])
        part["housing"][:2] = ["castle", ""]
        part["instalment_rate"] = [None if value == 1 else value for value in part["instalment_rate"]]
    run = drawn(
        tmp_path,
        {"step": "test", "group": "housing", "columns": ["months", "bad"]},
        {"step": "test", "name": "rate", "group": "instalment_rate", "columns": ["amount"]},
        {"step": "correlate", "columns": ["months", "amount"], "missing": "drop"},
        {**CURVES, "group": "instalment_rate"},
        parts=parts,
        centre=True,
    )
    for name in ("tests.json", "tests-rate.json", "correlations.json", "survival.json"):
        assert len({store.path(name).read_bytes() for store in run.stores.values()}) == 1
    months, housing = label(parts, "months"), np.concatenate([np.array(p["housing"], object) for p in parts.values()])
    there = ~np.isnan(months)
    tested = read(run, "tests.json")[0]
    # castle has 3 rows: it becomes "(other)" with the next rarest, free, in step compare
    groups = {"(other)": ("castle", "free"), "own": ("own",), "rent": ("rent",)}
    assert {group["name"]: group["count"] for group in tested["groups"]} == {
        name: int((np.isin(housing, values) & there).sum()) for name, values in groups.items()
    }
    f = stats.f_oneway(*(months[np.isin(housing, values) & there] for values in groups.values()))
    assert tested["p"] == pytest.approx(f.pvalue, rel=1e-9)
    assert tested["left_out"] == 1000 - sum(group["count"] for group in tested["groups"])
    assert [group["name"] for group in read(run, "tests-rate.json")[0]["groups"]] == ["2", "3", "4"]
    amount = label(parts, "amount")
    assert read(run, "correlations.json")["values"][0][1] == pytest.approx(
        stats.pearsonr(months[there], amount[there]).statistic, rel=1e-9
    )
    curves = read(run, "survival.json")
    rate = label(parts, "instalment_rate")
    assert [curve["people"] for curve in curves["curves"]] == [int((there & (rate == r)).sum()) for r in (2, 3, 4)]
    assert curves["left_out"] == int((~there | np.isnan(rate)).sum())


@pytest.mark.parametrize(
    ("step", "words"),
    [
        ({"step": "test", "group": "amount"}, r"it is a measure, .* make no groups \(.*column 'amount'"),
        ({"step": "test", "group": "houses"}, "Did you mean 'housing'"),
        ({**TEST, "group": "housing", "numbers": "t-test"}, "compares two groups, there are 3"),
        (
            {"step": "correlate", "method": "spearman"},
            r"different values, and step correlate would show them .*'amount'",
        ),
        ({"step": "correlate", "columns": ["housing", "amount"]}, r"it is text, and must be a number .*'housing'"),
        ({"step": "correlate", "columns": ["amount"]}, "fewer than two numeric columns"),
        ({**CURVES, "event": "housing"}, r"it is text, and must be a number .*'housing'"),
        ({**CURVES, "event": "months", "time": "bad"}, "values other than 0 and 1"),
        ({**CURVES, "group": "months", "event": "bad"}, "make no groups"),
    ],
)
def test_steps_that_do_not_suit_the_data_are_refused(tmp_path: Path, step: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        drawn(tmp_path, step)


def test_few_rows_open_nothing(tmp_path: Path) -> None:
    parts = frames()
    for part in parts.values():
        part["months"] = [None] * (len(part["months"]) - 3) + part["months"][-3:]
    for step in ({"step": "correlate", "missing": "drop"}, CURVES):
        with pytest.raises(InputError, match=r"have 9 rows with.*, fewer than the minimum of 10"):
            drawn(tmp_path, step, parts=parts)
    with pytest.raises(InputError, match="fewer than two groups have at least 990 rows"):
        drawn(tmp_path, TEST, minimum=990)


def said(*steps: Any) -> str:
    job = Job.of(document(*steps))
    check(job)
    return "\n".join(line for step in build(job) for line in step.says(job))


def test_people_read_before_what_is_told() -> None:
    assert "! how many rows of each group have each category" in said(TEST)
    assert "! the values of each column, up to 100 of each site, and for each two columns" in said(RANKS)
    assert "! all times of events" in said(CURVES)
    assert "  all times of events in steps of 6" in said({**CURVES, "unit": 6})
    assert "!" not in said({"step": "correlate"}).split("correlate:")[1]


def test_strata_by_site_tell_no_times() -> None:
    cox = {"step": "fit", "label": "months", "model": {"kind": "cox", "event": "bad"}}
    assert "all times of events" in said(cox)
    assert "all times" not in said({**cox, "model": {**cox["model"], "by_site": True}})
    assert "within each stratum of housing" in said({**cox, "model": {**cox["model"], "strata": "housing"}})
    with pytest.raises(InputError, match="both given"):
        said({**cox, "model": {**cox["model"], "strata": "housing", "by_site": True}})


def test_steps_of_a_kind_need_names() -> None:
    with pytest.raises(InputError, match=r"step test stands twice .*Give each a name"):
        said(TEST, TEST)
    with pytest.raises(InputError, match="step test a stands twice"):
        said({**TEST, "name": "a"}, {**TEST, "name": "a"})
    assert "test b: every site learns" in said({**TEST, "name": "a"}, {**TEST, "name": "b"})
    with pytest.raises(InputError, match="name"):
        said({**TEST, "name": "../b"})
