"""Correlation, contingency tables, t-tests, analysis of variance and categories, against SciPy on pooled rows."""

from functools import partial

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as limits
from hypothesis import strategies as st
from scipy import stats

from atoll.core.errors import InputError
from atoll.data.columns import Column
from atoll.learn.horizontal import contingency, correlation, means
from atoll.learn.horizontal.categories import categories
from atoll.learn.horizontal.contingency import ContingencyParams
from atoll.learn.horizontal.correlation import CorrelationParams
from atoll.learn.horizontal.means import MeansParams
from tests.learn.horizontal.drawn import difference, draw
from tests.learn.horizontal.together import together, watched

TEXTS = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1, max_size=3)


def column(texts: list[str | None], name: str = "城市") -> Column:
    """A categorical column with categories in the order of this site's rows."""
    known = tuple(dict.fromkeys(text for text in texts if text is not None))
    return Column(name, "categorical", np.array([known.index(t) if t else -1 for t in texts], np.int32), known)


@given(
    st.lists(
        st.lists(st.one_of(TEXTS, st.sampled_from(["a", "ab", "北京", "北海"])), max_size=8), min_size=1, max_size=4
    )
)
@limits(max_examples=20)
def test_categories_are_those_that_enough_rows_have(sites: list[list[str]]) -> None:
    pooled = [text for site in sites for text in site]
    parts = [(column(list(texts)),) for texts in sites]
    for smallest in (1, 2):
        names, counts = together(partial(categories, smallest=smallest, step="c"), parts)[0]
        wanted = sorted({text for text in pooled if pooled.count(text) >= smallest}, key=str.encode)
        assert list(names) == wanted
        assert counts.tolist() == [pooled.count(text) for text in wanted]


def test_a_rare_category_does_not_appear_in_any_total() -> None:
    common = ["Beijing"] * 9
    seen = []
    for rare in ("Zhang San", "Zhao Yiyi"):
        parts = [(column([*common, rare]),), (column(common),)]
        _, adder = watched(lambda t, c: categories(t, c, smallest=3, step="c"), parts)
        seen.append([(what, total.tolist()) for what, total in adder.seen])
    assert seen[0][3:] == seen[1][3:]  # after the length of the longest one


@pytest.mark.parametrize("method", ["pearson", "spearman"])
@pytest.mark.parametrize("seed", range(10))
def test_correlations_are_scipys(method: str, seed: int) -> None:
    task = draw(seed, p=3)
    params = CorrelationParams(method=method)  # type: ignore[arg-type]
    ours = together(correlation.fit, task.tables(params))[0]
    test = stats.pearsonr if method == "pearson" else stats.spearmanr
    for i in range(3):
        for j in range(i):
            a, b = (task.X[:, k] - task.X[:, k].mean() for k in (i, j))
            wanted = test(a, b)
            assert ours.values[i, j] == pytest.approx(wanted.statistic, rel=1e-8, abs=1e-12)
            assert ours.p_values[i, j] == pytest.approx(wanted.pvalue, rel=1e-7, abs=1e-15)
    inverse = np.linalg.inv(ours.values)
    assert difference(ours.inflation, np.diagonal(inverse)) < 1e-7


def test_constant_and_repeated_columns_have_no_correlation_and_infinite_inflation() -> None:
    task = draw(2, p=2)
    X = np.column_stack([task.X[:, 1], np.full(len(task.X), 0.1), 3 - task.X[:, 1], task.X[:, 0]])
    ours = together(correlation.fit, type(task)(X, task.rows, task.rng).tables(CorrelationParams()))[0]
    assert np.isnan(ours.values[1]).all()
    assert ours.values[0, 2] == pytest.approx(-1)
    assert np.isinf(ours.inflation[[0, 2]]).all()


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("yates", [True, False])
def test_tables_are_scipys(seed: int, yates: bool) -> None:
    rng = np.random.default_rng(seed)
    task = draw(seed)
    letters = np.array(["甲", "乙", "丙", "d"][: 2 + seed % 3])
    a, b = rng.choice(letters, len(task.X)), rng.choice(np.array(["x", "y"]), len(task.X))
    b[a == "甲"] = "x"
    parts = [
        (
            column(a[at].tolist(), "a"),
            column([None if i % 17 == 0 else b[i] for i in at], "b"),
            ContingencyParams(1, yates),
        )
        for at in task.rows
    ]
    ours = together(contingency.fit, parts)[0]
    known = np.arange(len(a)) % 17 != 0
    counts = np.array([[np.sum((a == r) & (b == c) & known) for c in ours.columns] for r in ours.rows])
    assert ours.counts.tolist() == counts.tolist()
    assert ours.left_out == (~known).sum()
    wanted = stats.chi2_contingency(counts, correction=yates)
    assert difference([ours.chi2, ours.p_value, ours.df], [wanted.statistic, wanted.pvalue, wanted.dof]) < 1e-9
    assert ours.cramers_v == pytest.approx(stats.contingency.association(counts, method="cramer"), rel=1e-9)


@pytest.mark.parametrize("seed", range(10))
def test_comparisons_of_means_are_scipys(seed: int) -> None:
    task = draw(seed, p=1)
    k = 2 + seed % 3
    group = np.array(["g", "h", "组", "j"])[task.rng.integers(0, k, len(task.X))]
    x = task.X[:, 0] + np.where(group == "g", 0.3, 0) * task.X[:, 0].std()
    parts = [(x[at], column(group[at].tolist()), MeansParams()) for at in task.rows]
    ours = together(means.fit, parts)[0]
    samples = [x[group == name] for name in ours.groups]
    assert difference(ours.mean, [s.mean() for s in samples]) < 1e-10
    assert difference(ours.variance, [s.var(ddof=1) for s in samples]) < 1e-9
    wanted = stats.f_oneway(*[s - x.mean() for s in samples])
    assert difference(ours.anova()[::2], [wanted.statistic, wanted.pvalue]) < 1e-7
    if k > 2:
        with pytest.raises(InputError, match="two groups"):
            ours.t_test()
        return
    for equal in (True, False):
        test = stats.ttest_ind(samples[0] - x.mean(), samples[1] - x.mean(), equal_var=equal)
        found = ours.t_test(equal_variances=equal)
        assert difference([found.statistic, found.df[0], found.p_value], [test.statistic, test.df, test.pvalue]) < 1e-7
        off, *ends = ours.difference(equal_variances=equal)
        assert off == ours.mean[0] - ours.mean[1]
        assert difference(ends, list(test.confidence_interval())) < 1e-7


def test_a_text_column_is_needed() -> None:
    number = Column("age", "numeric", np.zeros(3))
    with pytest.raises(InputError, match=r"not categorical .*'age'"):
        together(contingency.fit, [(number, number, ContingencyParams())])
