"""Descriptive statistics, order statistics and tails, against NumPy and SciPy on pooled rows."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as limits
from hypothesis import strategies as st
from scipy import stats

from atoll.core.errors import InputError
from atoll.learn.horizontal import describe, order, tails
from atoll.learn.horizontal.describe import DescribeParams
from atoll.learn.horizontal.rows import Rows
from atoll.learn.horizontal.scale import exponents
from tests.learn.horizontal.drawn import difference, draw
from tests.learn.horizontal.together import F64, together, watched

FLOATS = st.floats(allow_nan=False, allow_infinity=False)
LEVELS = (0.0, 0.1, 0.25, 0.5, 0.77, 1.0)
SITES = st.lists(st.lists(st.one_of(FLOATS, st.integers(-3, 3).map(float)), max_size=6), min_size=1, max_size=5)


@given(SITES)
@limits(max_examples=25)
def test_distinct_values_and_their_counts_are_those_of_the_pooled_values(sites: list[list[float]]) -> None:
    pooled = np.array([value for site in sites for value in site], np.float64) + 0.0
    parts = [(np.array(values, np.float64),) for values in sites]
    for found, counts in together(lambda t, v: order.distinct(t, v, most=100, what="v"), parts):
        values, times = np.unique(pooled, return_counts=True)
        assert found.tolist() == values.tolist()
        assert counts.tolist() == times.tolist()


@given(SITES)
@limits(max_examples=25)
def test_quantiles_and_extremes_are_exactly_numpys(sites: list[list[float]]) -> None:
    pooled = np.array([value for site in sites for value in site], np.float64) + 0.0
    parts = [([np.array(values, np.float64), np.zeros(0)],) for values in sites]
    with np.errstate(all="ignore"):
        found = together(lambda t, v: order.quantiles(t, v, LEVELS, what="v"), parts)[0]
        wanted = np.quantile(pooled, LEVELS) if pooled.size else np.full(len(LEVELS), np.nan)
    assert np.array_equal(found[0], wanted, equal_nan=True)
    assert np.isnan(found[1]).all()
    low, high = together(lambda t, v: order.extremes(t, v, what="v"), parts)[0]
    if pooled.size:
        assert (low[0], high[0]) == (pooled.min(), pooled.max())


def test_too_many_distinct_values_are_refused_everywhere() -> None:
    parts = [(np.arange(20.0),), (np.arange(20.0, 40.0),)]
    with pytest.raises(InputError, match="more than 30 distinct"):
        together(lambda t, v: order.distinct(t, v, most=30, what="v"), parts)


@pytest.mark.parametrize("value", [5e-324, 1e-300, 0.75, 1.0, 1.7e308, -3.0, 0.0])
def test_the_size_of_values_is_the_next_power_of_two(value: float) -> None:
    parts = [(np.array([[value]]),), (np.zeros((0, 1)),), (np.array([[value / 8], [np.nan]]),)]
    assert together(lambda t, v: exponents(t, v, step="v"), parts)[0] == np.frexp(value)[1]


@pytest.mark.parametrize("seed", range(15))
def test_moments_are_those_of_the_pooled_rows(seed: int) -> None:
    task = draw(seed)
    X = task.X.copy()
    if seed % 3 == 0:
        X[task.rng.random(X.shape) < 0.2] = np.nan
    parts = [(Rows(task.names, X[at]), DescribeParams(LEVELS)) for at in task.rows]
    found = together(describe.fit, parts)
    assert all(str(one) == str(found[0]) for one in found)
    ours, there = found[0], ~np.isnan(X)
    assert ours.count.tolist() == there.sum(axis=0).tolist()
    assert ours.missing.tolist() == (~there).sum(axis=0).tolist()
    assert np.array_equal(ours.quantiles, np.nanquantile(X, LEVELS, axis=0).T)
    for j, column in enumerate(X.T):
        known = column[~np.isnan(column)]
        centred = known - known.mean()  # SciPy's own rounding, far from zero
        assert difference(ours.mean[j], known.mean()) < 1e-12
        assert difference(ours.variance[j], known.var(ddof=1)) < 1e-9
        assert difference([ours.skewness[j], ours.kurtosis[j]], [stats.skew(centred), stats.kurtosis(centred)]) < 1e-8


def test_sites_without_rows_constant_columns_and_one_row() -> None:
    parts = [(Rows(("a", "b", "c"), np.zeros((0, 3))), DescribeParams())] * 2
    one = (Rows(("a", "b", "c"), np.array([[7.1, np.nan, 1e140]])), DescribeParams())
    ours = together(describe.fit, [parts[0], one, parts[1]])[0]
    assert ours.count.tolist() == [1, 0, 1]
    assert difference(ours.mean, [7.1, np.nan, 1e140]) < 1e-15
    assert np.isnan(ours.variance).all()
    same = [(Rows(("a",), np.full((5, 1), 0.1)), DescribeParams())] * 3
    assert together(describe.fit, same)[0].variance.tolist() == [0.0]
    with pytest.raises(InputError, match="no site has a row"):
        together(describe.fit, parts)


def test_sites_with_other_columns_or_parameters_notice() -> None:
    a, b = Rows(("a",), np.zeros((2, 1))), Rows(("b",), np.zeros((2, 1)))
    for parts in ([(a, DescribeParams()), (b, DescribeParams())], [(a, DescribeParams()), (a, DescribeParams(()))]):
        with pytest.raises(InputError, match="differ in their columns or parameters"):
            together(describe.fit, parts)


@pytest.mark.parametrize(("value", "words"), [(np.inf, "infinite value"), (1e300, "too large"), (1e-300, "too small")])
def test_values_whose_squares_are_not_numbers_are_refused_with_their_column(value: float, words: str) -> None:
    with pytest.raises(InputError, match=f"{words} .*'b'"):
        together(describe.fit, [(Rows(("a", "b"), np.array([[0.0, value]])), DescribeParams())])


@pytest.mark.parametrize("seed", range(6))
def test_histograms_are_numpys(seed: int) -> None:
    task = draw(seed, p=1)
    x = task.X[:, 0]
    ours, edges = together(lambda t, v: describe.histogram(t, v, bins=7), [(x[at],) for at in task.rows])[0]
    counts, cuts = np.histogram(x, 7)
    assert (ours.tolist(), edges.tolist()) == (counts.tolist(), cuts.tolist())
    cuts = np.quantile(x, [0.1, 0.5, 0.9])
    ours, _ = together(lambda t, v: describe.histogram(t, v, edges=cuts.tolist()), [(x[at],) for at in task.rows])[0]
    assert ours.tolist() == np.histogram(x, cuts)[0].tolist()


def test_bisection_shows_nothing_of_which_site_holds_a_value() -> None:
    values = np.random.default_rng(1).standard_normal(40)

    def totals(owner: F64) -> list[tuple[str, list[float]]]:
        parts = [([values[owner == site]],) for site in range(3)]
        _, adder = watched(lambda t, v: order.quantiles(t, v, LEVELS, what="v"), parts)
        return [(what, total.tolist()) for what, total in adder.seen]

    assert totals(np.arange(40) % 3) == totals(np.arange(40)[::-1] // 25)


@pytest.mark.parametrize("df", [1.0, 2.0, 3.5, 30.0, 1e3, 1e6])
def test_tails_are_scipys(df: float) -> None:
    t = np.array([0.01, 0.3, 1.0, 2.0, 5.0, 30.0])
    assert np.allclose(tails.t_two_sided(t, df), 2 * stats.t.sf(t, df), rtol=1e-9, atol=1e-290)
    assert np.allclose(tails.normal_two_sided(-t), 2 * stats.norm.sf(t), rtol=1e-12, atol=0)
    for x in [1e-3, 0.5, 1.0, 10.0, 100.0, df * 0.9, df, df * 1.1]:
        assert tails.chi2_tail(x, df) == pytest.approx(stats.chi2.sf(x, df), rel=1e-10, abs=1e-290)
        for df1 in (1, 2, 5, 100):
            assert tails.f_tail(x, df1, df) == pytest.approx(stats.f.sf(x, df1, df), rel=1e-9, abs=1e-290)
    assert tails.t_quantile(0.95, df) == pytest.approx(stats.t.ppf(0.975, df), rel=1e-10)
    assert tails.normal_quantile(0.9) == pytest.approx(stats.norm.ppf(0.95), rel=1e-12)
