"""Totals show figures of the pooled rows, nothing of which site a row is at, and never figures of fewer sites."""

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from atoll.core.errors import ProtocolError
from atoll.data.columns import Column
from atoll.learn.horizontal import (
    bayes,
    binning,
    correlation,
    cox,
    describe,
    discriminant,
    glm,
    kmeans,
    linear,
    means,
    multinomial,
    pca,
    perceptron,
    survival,
    svm,
)
from atoll.learn.horizontal.rows import Rows, agree, same
from atoll.testing import seeded_rng
from tests.learn.horizontal.together import F64, together, watched

N = 60
RNG = np.random.default_rng(11)
X = np.column_stack([RNG.integers(-4, 5, N), RNG.integers(0, 9, N)]).astype(np.float64)
Y = (X[:, 0] + RNG.logistic(size=N) * 3 > 0).astype(np.float64)
TIME, EVENT = RNG.integers(1, 4, N).astype(np.float64), (RNG.random(N) < 0.6).astype(np.float64)
GROUP = RNG.integers(0, 3, N).astype(np.int32)

BY_SITE = ("size of values", "ends", "length of categories", "as the first site has it")
"""Totals that count sites, not rows, as their docstrings say; and results."""

Site = Callable[[Any, Any], Coroutine[Any, Any, Any]]


def rows(at: Any) -> Rows:
    return Rows(("a", "b"), X[at])


MODELS: dict[str, Site] = {
    "describe": lambda t, at: describe.fit(t, rows(at), describe.DescribeParams()),
    "pearson": lambda t, at: correlation.fit(t, rows(at), correlation.CorrelationParams()),
    "spearman": lambda t, at: correlation.fit(t, rows(at), correlation.CorrelationParams(method="spearman")),
    "kendall": lambda t, at: correlation.fit(t, rows(at), correlation.CorrelationParams(method="kendall")),
    "means": lambda t, at: means.fit(
        t, X[at, 0], Column("g", "categorical", GROUP[at], ("x", "y", "z")), means.MeansParams()
    ),
    "binning": lambda t, at: binning.fit(t, rows(at), binning.BinningParams(bins=4)),
    "linear": lambda t, at: linear.fit(t, rows(at), Y[at], linear.LinearParams()),
    "logistic": lambda t, at: glm.fit(t, rows(at), Y[at], glm.GlmParams()),
    "multinomial": lambda t, at: multinomial.fit(
        t, rows(at), GROUP[at].astype(np.float64), multinomial.MultinomialParams()
    ),
    "svm": lambda t, at: svm.fit(t, rows(at), Y[at], svm.SvmParams()),
    "perceptron": lambda t, at: perceptron.fit(t, rows(at), Y[at], perceptron.PerceptronParams(rounds=5)),
    "bayes": lambda t, at: bayes.fit(t, rows(at), Y[at], bayes.BayesParams()),
    "discriminant": lambda t, at: discriminant.fit(t, rows(at), Y[at], discriminant.DiscriminantParams()),
    "pca": lambda t, at: pca.fit(t, rows(at), pca.PcaParams(1)),
    "k-means": lambda t, at: kmeans.fit(
        t, rows(at), kmeans.KMeansParams(2, start=((0.0, 0.0), (3.0, 3.0))), rng=seeded_rng(1)
    ),
    "survival": lambda t, at: survival.fit(t, TIME[at], EVENT[at], survival.SurvivalParams()),
    "cox": lambda t, at: cox.fit(t, rows(at), TIME[at], EVENT[at], cox.CoxParams(smallest=1)),
    "strata": lambda t, at: cox.fit(
        t,
        rows(at),
        TIME[at],
        EVENT[at],
        cox.CoxParams(smallest=1),
        strata=Column("g", "categorical", GROUP[at], ("x", "y", "z")),
    ),
}


@pytest.mark.parametrize("name", MODELS)
def test_totals_do_not_tell_at_which_site_a_row_is(name: str) -> None:
    worlds = []
    for owner in (np.arange(N) % 3, np.arange(N) // 29, np.zeros(N)):
        _, adder = watched(MODELS[name], [(np.flatnonzero(owner == site),) for site in range(3)])
        worlds.append([seen for seen in adder.seen if not any(words in seen[0] for words in BY_SITE)])
    first = worlds[0]
    for other in worlds[1:]:
        assert [what for what, _ in other] == [what for what, _ in first]
        for (what, a), (_, b) in zip(first, other, strict=True):
            size = np.abs(a).max(initial=1.0)
            if "columns alike" in what:
                continue
            assert np.abs(a - b).max(initial=0.0) <= 1e-9 * size, what


@dataclass
class Leaving:
    """Totals of two sites, the second of which has nothing and leaves after some rounds."""

    rounds: int
    site: str = "a"

    @property
    def sites(self) -> tuple[str, ...]:
        return ("a", "b") if self.rounds > 0 else ("a",)

    async def total(self, values: F64, *, what: str) -> F64:
        self.rounds -= 1
        return values * 2 if "columns alike" in what else values


@pytest.mark.parametrize("rounds", [1, 5, 9])
def test_a_site_that_leaves_ends_the_fit(rounds: int) -> None:
    with pytest.raises(ProtocolError, match="b left while a model was fitted"):
        asyncio.run(linear.fit(Leaving(rounds), rows(slice(None)), Y, linear.LinearParams()))


def test_the_first_sites_result_is_everyones() -> None:
    odd = np.array([0.1, -0.0, 5e-324, 1.7e308, np.nan, np.inf, -np.inf, 2.0**-1000, 1 / 3])

    async def site(totals: Any, scale: float) -> list[F64]:
        steady, _ = await agree(totals, linear.LinearParams(), ("x",), 1, step="t")
        return await same(steady, odd * scale, np.array([[scale]]), step="t")

    for one, two in together(site, [(1.0,), (0.3,), (-1.0,)]):
        assert np.array_equal(one, odd + 0.0, equal_nan=True)
        assert two.tolist() == [[1.0]]
