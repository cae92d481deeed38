"""Fisher's exact test, odds ratios and Kendall's tau-b, against SciPy, statsmodels, R and plain counting."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.contingency_tables import Table2x2

from atoll.core.errors import InputError, ProtocolError
from atoll.learn.horizontal import contingency, correlation, exact, kendall
from atoll.learn.horizontal.contingency import Contingency, ContingencyParams
from atoll.learn.horizontal.correlation import CorrelationParams
from tests.learn.horizontal.drawn import Task, difference, draw
from tests.learn.horizontal.test_tables import column
from tests.learn.horizontal.together import together, watched


@pytest.mark.parametrize("most", [2, 8, 60, 5000])
def test_two_by_two_tables_are_scipys(most: int) -> None:
    rng = np.random.default_rng(most)
    for _ in range(40):
        table = rng.integers(0, most, (2, 2))
        assert exact.fisher(table) == pytest.approx(stats.fisher_exact(table).pvalue, rel=1e-8)
    mirror = np.array([[2, 3], [3, 2]]) * most
    assert exact.fisher(mirror) == pytest.approx(stats.fisher_exact(mirror).pvalue, rel=1e-8)


def columns_of(rest: list[int], size: int) -> Iterator[tuple[int, ...]]:
    if len(rest) == 1:
        yield from [(size,)] if size <= rest[0] else []
        return
    for first in range(min(rest[0], size) + 1):
        for others in columns_of(rest[1:], size - first):
            yield (first, *others)


def enumerated(table: Any) -> float:
    """Add up SciPy's probabilities of all tables with the same margins."""
    chances = stats.random_table(table.sum(axis=1), table.sum(axis=0))
    here, found = chances.pmf(table), []

    def go(rest: Any, done: list[Any], left: list[int]) -> None:
        if len(left) == 1:
            found.append(np.array([*done, rest]).T)
            return
        for one in columns_of(rest, left[0]):
            go([a - b for a, b in zip(rest, one, strict=True)], [*done, one], left[1:])

    go(table.sum(axis=1).tolist(), [], table.sum(axis=0).tolist())
    every = chances.pmf(np.array(found))
    return float(every[every <= here * (1 + 1e-9)].sum())


@pytest.mark.parametrize("shape", [(2, 3), (3, 2), (3, 3), (2, 4)])
def test_larger_tables_add_up_all_that_are_no_more_probable(shape: tuple[int, int]) -> None:
    rng = np.random.default_rng(7)
    for _ in range(5):
        table = rng.integers(0, 5, shape)
        table[0] += 1
        table[:, 0] += 1
        assert exact.fisher(table) == pytest.approx(enumerated(table), rel=1e-9)


def test_known_tables() -> None:
    job = np.array([[1, 2, 1, 0], [3, 3, 6, 1], [10, 10, 14, 9], [6, 7, 12, 11]])
    assert exact.fisher(job) == pytest.approx(0.7827, abs=5e-5)  # Agresti's table of incomes in R's ?fisher.test
    parties = np.array([[762, 327, 468], [484, 239, 477]])
    assert exact.fisher(parties) == pytest.approx(stats.chi2_contingency(parties).pvalue, rel=0.05)
    assert exact.fisher(np.diag([3, 3, 3])) == pytest.approx(6 / 1680)
    assert exact.fisher(np.array([[7] * 6, [3] * 6, [4] * 6])) == pytest.approx(1.0)


def test_what_is_no_table_and_what_is_too_large() -> None:
    assert exact.fisher(np.array([[5, 3]])) == 1.0
    assert exact.fisher(np.array([[5, 0], [3, 0]])) == 1.0
    assert exact.fisher(np.zeros((0, 2), np.int64)) == 1.0
    for large in (np.full((5, 5), 400), np.full((2, 3), 10**6), np.full((2, 2), 10**8)):
        with pytest.raises(InputError, match=r"too large .*χ² test"):
            exact.fisher(large)


@pytest.mark.parametrize("seed", range(5))
def test_odds_ratios_are_statsmodels(seed: int) -> None:
    table = np.random.default_rng(seed).integers(1, 40, (2, 2))
    ours, theirs = Contingency(("a", "b"), ("x", "y"), table, 0, True), Table2x2(table)
    assert ours.odds_ratio == pytest.approx(theirs.oddsratio)
    assert ours.odds_interval() == pytest.approx(theirs.oddsratio_confint())
    table[0, 0] = 0
    assert ours.odds_ratio == 0.0
    assert np.isnan(ours.odds_interval()).all()


def test_fishers_test_over_sites() -> None:
    rng = np.random.default_rng(3)
    a, b = rng.choice(["甲", "乙"], 50), rng.choice(["x", "y"], 50)
    parts = [
        (column(a[at].tolist(), "a"), column(b[at].tolist(), "b"), ContingencyParams(1)) for at in draw(3, n=50).rows
    ]
    ours = together(contingency.fit, parts)[0]
    assert ours.fisher() == pytest.approx(stats.fisher_exact(ours.counts).pvalue, rel=1e-9)


def test_known_categories_are_counted_in_one_round_and_rare_ones_left_out() -> None:
    texts = [["a"] * 5 + ["b"], ["a", "c", "c", "c", None]]
    other = [["x"] * 6, ["x", "y", "y", "y", "y"]]
    known = (("a", "b", "c", "d"), ("x", "y"))

    async def site(totals: Any, first: Any, second: Any) -> Contingency:
        return await contingency.fit(totals, column(first), column(second, "o"), ContingencyParams(3), known=known)

    found, adder = watched(site, list(zip(texts, other, strict=True)))
    assert (found[0].rows, found[0].columns, found[0].counts.tolist()) == (("a", "c"), ("x", "y"), [[6, 0], [0, 3]])
    assert len(adder.seen) == 4


@pytest.mark.parametrize("seed", range(12))
def test_tau_b_is_scipys(seed: int) -> None:
    task = draw(seed, p=3, n=20 if seed % 2 else None)
    ours = together(correlation.fit, task.tables(CorrelationParams(method="kendall")))[0]
    for i in range(3):
        for j in range(3):
            wanted = stats.kendalltau(task.X[:, i], task.X[:, j])
            assert ours.values[i, j] == pytest.approx(wanted.statistic, rel=1e-10, abs=1e-14)
            assert ours.p_values[i, j] == pytest.approx(wanted.pvalue, rel=1e-7, abs=1e-15) or i == j
    assert np.isnan(ours.inflation).all()


@pytest.mark.parametrize("n", [2, 3, 12, 40])
def test_tables_of_ranks_with_and_without_ties(n: int) -> None:
    rng = np.random.default_rng(n)
    for k in range(20):
        a, b = (rng.permutation(n) if k % 3 == 0 else rng.integers(0, 2 + k // 3, n) for _ in "ab")
        (first, i), (second, j) = (np.unique(one, return_inverse=True) for one in (a, b))
        table = np.zeros((len(first), len(second)), np.int64)
        np.add.at(table, (i, j), 1)
        wanted = stats.kendalltau(a, b)
        assert difference(kendall.of_table(table), [wanted.statistic, wanted.pvalue]) < 1e-9
    assert kendall.of_table(np.eye(n, dtype=np.int64))[0] == 1.0


def test_constant_columns_have_no_tau_and_too_many_values_are_not_opened() -> None:
    task = draw(2, p=2, n=40)
    X = np.column_stack([task.X, np.ones(40)])
    ours = together(correlation.fit, Task(X, task.rows, task.rng).tables(CorrelationParams(method="kendall")))[0]
    assert np.isnan(ours.values[2]).all()
    assert np.isnan(ours.p_values[:, 2]).all()
    with pytest.raises(InputError, match=r"have \d+ cells, more than 100"):
        together(correlation.fit, task.tables(CorrelationParams(method="kendall", cells=100)))


def test_counts_that_are_none_are_refused() -> None:
    """A site that lies about how often values stand together."""
    task = draw(2, p=2, n=40)

    async def site(totals: Any, X: Any, lies: bool) -> Any:
        class Liar:
            site, sites = totals.site, totals.sites

            async def total(self, values: Any, *, what: str) -> Any:
                return await totals.total(values - lies * ("two values" in what or "counts" in what), what=what)

        if X is None:
            group = column(["a"] * 5 + ["b"] * 5)
            return await contingency.fit(Liar(), group, group, ContingencyParams(1))
        return await correlation.fit(Liar(), X, CorrelationParams(method="kendall"))

    tables = [one[0] for one in task.tables(CorrelationParams())]
    parts = [(table, at == 0) for at, table in enumerate(tables)]
    with pytest.raises(ProtocolError, match="counts that are none"):
        together(site, parts)
    with pytest.raises(ProtocolError, match="counts that are none"):
        together(site, [(None, True), (None, False)])
