"""Every model over sites beside its oracle on the pooled rows: how each is run, and which figures are compared."""

from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import statsmodels.api as sm
from scipy import optimize, stats
from sklearn.cluster import KMeans
from sklearn.decomposition import PCA
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.linear_model import Ridge
from sklearn.naive_bayes import GaussianNB
from sklearn.svm import LinearSVC
from statsmodels.duration.api import PHReg, SurvfuncRight, survdiff

from atoll.crypto.random import Rng
from atoll.data.columns import Column, Columns
from atoll.learn.horizontal import (
    bayes,
    contingency,
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
    survival,
    svm,
)
from atoll.learn.horizontal.rows import Rows
from atoll.learn.horizontal.trees import forest
from atoll.learn.horizontal.trees.bins import code_table
from atoll.learn.horizontal.trees.params import BoostParams
from atoll.learn.vertical.trees.params import TreeParams
from atoll.learn.vertical.trees.reference import grow_forest
from tests.learn.horizontal.together import together

LEVELS = (0.0, 0.05, 0.25, 0.5, 0.75, 0.95, 1.0)


@dataclass(frozen=True)
class Task:
    """Pooled rows with every kind of label, and which rows are at which site.

    Args:
        names: (p,) columns.
        X: (n, p) their values.
        y: (n,) a number.
        binary: (n,) 0 or 1.
        counts: (n,) 0 or more.
        amounts: (n,) above 0.
        classes: (n,) three classes or more, as numbers.
        time: (n,) times, with ties.
        event: (n,) 0 or 1.
        rows: by site, row numbers.
    """

    names: tuple[str, ...]
    X: Any
    y: Any
    binary: Any
    counts: Any
    amounts: Any
    classes: Any
    time: Any
    event: Any
    rows: list[Any]

    @property
    def Z(self) -> Any:
        """Columns at mean 0 and spread 1: on others some oracles lose digits."""
        return (self.X - self.X.mean(axis=0)) / self.X.std(axis=0)

    def at(self, at: Any) -> Rows:
        """One site's rows."""
        return Rows(self.names, self.X[at])


Site = Callable[[Any, Task, Any], Coroutine[Any, Any, Any]]
Pairs = list[tuple[Any, Any]]


@dataclass(frozen=True)
class Model:
    """One line of the comparison.

    Args:
        name: the model.
        oracle: what it is compared with.
        site: one site's part: totals, task, its rows.
        pooled: the oracle.
        pairs: which figures of both are compared.
    """

    name: str
    oracle: str
    site: Site
    pooled: Callable[[Task], Any]
    pairs: Callable[[Any, Any, Task], Pairs]


def _regression(ours: Any, theirs: Any, task: Task) -> Pairs:
    c, s = ours.coefficients, task.X.std(axis=0)
    at = slice(len(c.values) - s.size, None)
    return [
        (c.slopes * s, theirs.params[at]),
        (c.standard_errors[at] * s, theirs.bse[at]),
        (c.p_values[at], theirs.pvalues[at]),
    ]


def _glm(family: str, link: str, y: Callable[[Task], Any], theirs: Any) -> Model:
    params = glm.GlmParams(family=family, link=link)  # type: ignore[arg-type]

    def pooled(task: Task) -> Any:
        fit = sm.GLM(y(task), sm.add_constant(task.Z), family=theirs)
        return fit.fit(tol=1e-12, tol_criterion="params", maxiter=300)

    return Model(
        f"{family} regression, {link} link",
        "statsmodels GLM",
        lambda t, task, at: glm.fit(t, task.at(at), y(task)[at], params),
        pooled,
        lambda a, b, task: [*_regression(a, b, task), ([a.deviance, a.aic], [b.deviance, b.aic])],
    )


def _correlations(task: Task) -> Any:
    return np.corrcoef(stats.rankdata(task.X, axis=0).T)


def _groups(task: Task, at: Any) -> Column:
    names = tuple(str(int(c)) for c in np.unique(task.classes))
    return Column(
        "class", "categorical", np.searchsorted(np.unique(task.classes), task.classes[at]).astype(np.int32), names
    )


def _start(task: Task) -> Any:
    return np.unique(task.Z, axis=0)[:: len(np.unique(task.Z, axis=0)) // 4][:4]


def table_of(task: Task, at: Any) -> Columns:
    """One site's rows as typed columns."""
    return Columns(tuple(Column(n, "numeric", task.X[at, j]) for j, n in enumerate(task.names)), len(task.X[at]))


BOOST = BoostParams(n_estimators=10, max_bin=64, smallest=1)


def _boosted(task: Task) -> Any:
    """Bins of one site with all rows, and the plain reference grower on them."""
    every = np.arange(len(task.X))
    whole = together(partial(forest.boost, rng=Rng.system()), [(table_of(task, every), task.binary, BOOST)])[0]
    tables = [code_table(table_of(task, every), whole.columns)]
    params = TreeParams(n_estimators=10, max_bin=64)
    return whole, grow_forest(tables, task.binary.astype(np.uint8), every >= 0, params, Rng.system())


def _boosted_pairs(ours: Any, theirs: Any, task: Task) -> Pairs:
    splits = [
        [(n, t.feature[n], t.bin[n], t.gain[n]) for n, left in enumerate(t.left) if left >= 0] for t in ours.trees
    ]
    wanted = [[(c.node, c.feature, c.bin, c.gain) for c in tree.splits] for tree in theirs[1]]
    return [(a, b) for a, b in zip(splits, wanted, strict=True)]


def _svm(task: Task) -> Any:
    """Liblinear's weights, which it leaves with a gradient of 1e-6, brought on to a gradient of 0 by SciPy."""
    first = LinearSVC(dual=False, tol=1e-12, max_iter=100_000).fit(task.Z, task.binary)
    Z, sign = np.c_[task.Z, np.ones(len(task.Z))], 2 * task.binary - 1

    def gradient(w: Any) -> Any:
        return w - 2 * Z.T @ (sign * np.maximum(0, 1 - sign * (Z @ w)))

    def hessian(w: Any) -> Any:
        inside = Z[sign * (Z @ w) < 1]
        return np.eye(len(w)) + 2 * inside.T @ inside

    return optimize.root(gradient, [*first.coef_[0], *first.intercept_], jac=hessian, tol=1e-14).x


def _cox(task: Task) -> Any:
    return PHReg(task.time, task.Z, status=task.event, ties="efron").fit(disp=False, tol=1e-12, maxiter=200)


def _strata(task: Task) -> Any:
    """Each site a stratum of its own."""
    strata = np.zeros(len(task.X), np.int64)
    for site, at in enumerate(task.rows):
        strata[at] = site
    oracle = PHReg(task.time, task.Z, status=task.event, strata=strata, ties="efron")
    return oracle.fit(disp=False, tol=1e-12, maxiter=200)


def _halves(task: Task, at: Any) -> Column:
    """Whether the first column lies above its median."""
    first = task.X[:, 0]
    return Column("half", "categorical", (first[at] > np.median(first)).astype(np.int32), ("low", "high"))


def _binary(task: Task, at: Any) -> Column:
    return Column("label", "categorical", task.binary[at].astype(np.int32), ("no", "yes"))


def _fisher(task: Task) -> Any:
    high = task.X[:, 0] > np.median(task.X[:, 0])
    table = np.array([[np.sum((high == h) & (task.binary == b)) for b in (0, 1)] for h in (1, 0)])
    interval = stats.contingency.odds_ratio(table, kind="sample").confidence_interval()
    return stats.fisher_exact(table).pvalue, stats.contingency.odds_ratio(table, kind="sample").statistic, *interval


def _few(task: Task) -> Any:
    """Columns in tenths of their spread: Kendall's tables of all values would show every row."""
    return np.round(5 * task.Z) / 5


def _kendall(task: Task) -> Any:
    few, p = _few(task), len(task.names)
    found = [stats.kendalltau(few[:, i], few[:, j]) for i in range(p) for j in range(i)]
    return [one.statistic for one in found], [one.pvalue for one in found]


def _multinomial(task: Task) -> Any:
    fit = sm.MNLogit(task.classes, sm.add_constant(task.Z))
    return fit.fit(disp=False, method="newton", tol=1e-14, maxiter=100)


def _survival(t: Any, task: Task, at: Any) -> Any:
    group = Column("g", "categorical", task.binary[at].astype(np.int32), ("0", "1"))
    return survival.fit(t, task.time[at], task.event[at], survival.SurvivalParams(), group=group)


def _pooled_survival(task: Task) -> Any:
    curves = [SurvfuncRight(task.time[task.binary == g], task.event[task.binary == g]) for g in (0, 1)]
    return curves, survdiff(task.time, task.event, task.binary)


MODELS = (
    Model(
        "descriptive statistics",
        "NumPy, SciPy",
        lambda t, task, at: describe.fit(t, task.at(at), describe.DescribeParams(quantiles=())),
        lambda task: (task.X.mean(axis=0), task.X.var(axis=0, ddof=1), stats.skew(task.Z), stats.kurtosis(task.Z)),
        lambda a, b, task: list(zip((a.mean, a.variance, a.skewness, a.kurtosis), b, strict=True)),
    ),
    Model(
        "quantiles",
        "NumPy",
        lambda t, task, at: describe.fit(t, task.at(at), describe.DescribeParams(quantiles=LEVELS, shape=False)),
        lambda task: np.quantile(task.X, LEVELS, axis=0).T,
        lambda a, b, task: [(a.quantiles, b)],
    ),
    Model(
        "Pearson correlation",
        "NumPy",
        lambda t, task, at: correlation.fit(t, task.at(at), correlation.CorrelationParams()),
        lambda task: np.corrcoef(task.Z.T),
        lambda a, b, task: [(a.values, b)],
    ),
    Model(
        "Spearman correlation",
        "SciPy",
        lambda t, task, at: correlation.fit(t, task.at(at), correlation.CorrelationParams(method="spearman")),
        _correlations,
        lambda a, b, task: [(a.values, b)],
    ),
    Model(
        "Kendall correlation, p values",
        "SciPy",
        lambda t, task, at: correlation.fit(
            t, Rows(task.names, _few(task)[at]), correlation.CorrelationParams(method="kendall")
        ),
        _kendall,
        lambda a, b, task: [
            (one[np.tril_indices(len(one), -1)], two) for one, two in zip((a.values, a.p_values), b, strict=True)
        ],
    ),
    Model(
        "Fisher's exact test, odds ratio",
        "SciPy",
        lambda t, task, at: contingency.fit(
            t, _halves(task, at), _binary(task, at), contingency.ContingencyParams(smallest=1)
        ),
        _fisher,
        lambda a, b, task: [
            (one, two) for one, two in zip((a.fisher(), a.odds_ratio, *a.odds_interval()), b, strict=True)
        ],
    ),
    Model(
        "analysis of variance",
        "SciPy f_oneway",
        lambda t, task, at: means.fit(t, task.y[at], _groups(task, at), means.MeansParams()),
        lambda task: stats.f_oneway(*(task.y[task.classes == c] for c in np.unique(task.classes))),
        lambda a, b, task: [(a.anova()[::2], (b.statistic, b.pvalue))],
    ),
    Model(
        "linear regression",
        "statsmodels OLS",
        lambda t, task, at: linear.fit(t, task.at(at), task.y[at], linear.LinearParams()),
        lambda task: sm.OLS(task.y, sm.add_constant(task.Z)).fit(),
        lambda a, b, task: [
            *_regression(a, b, task),
            ([a.r_squared, a.aic, a.f_test[0]], [b.rsquared, b.aic, b.fvalue]),
        ],
    ),
    Model(
        "ridge regression",
        "scikit-learn Ridge",
        lambda t, task, at: linear.fit(t, Rows(task.names, task.Z[at]), task.y[at], linear.LinearParams(ridge=3.0)),
        lambda task: Ridge(alpha=3.0, solver="cholesky").fit(task.Z, task.y),
        lambda a, b, task: [(a.coefficients.slopes, b.coef_), (a.coefficients.intercept, b.intercept_)],
    ),
    _glm("binomial", "logit", lambda task: task.binary, sm.families.Binomial()),
    _glm("binomial", "probit", lambda task: task.binary, sm.families.Binomial(sm.families.links.Probit())),
    _glm("poisson", "log", lambda task: task.counts, sm.families.Poisson()),
    _glm("gamma", "log", lambda task: task.amounts, sm.families.Gamma(sm.families.links.Log())),
    Model(
        "multinomial regression",
        "statsmodels MNLogit",
        lambda t, task, at: multinomial.fit(t, task.at(at), task.classes[at], multinomial.MultinomialParams()),
        _multinomial,
        lambda a, b, task: [
            (a.table[:, 1:] * task.X.std(axis=0), b.params[1:].T),
            (
                a.coefficients.standard_errors.reshape(a.table.shape)[:, 1:] * task.X.std(axis=0),
                b.bse[1:].T,
            ),
        ],
    ),
    Model(
        "linear SVM",
        "scikit-learn LinearSVC, SciPy",
        lambda t, task, at: svm.fit(t, Rows(task.names, task.Z[at]), task.binary[at], svm.SvmParams()),
        _svm,
        lambda a, b, task: [([*a.weights[0], a.intercepts[0]], b)],
    ),
    Model(
        "naive Bayes, Gaussian",
        "scikit-learn GaussianNB",
        lambda t, task, at: bayes.fit(t, Rows(task.names, task.Z[at]), task.classes[at], bayes.BayesParams()),
        lambda task: GaussianNB().fit(task.Z, task.classes),
        lambda a, b, task: [(a.second, b.var_), (a.predict(task.Z), b.predict_proba(task.Z))],
    ),
    Model(
        "discriminant analysis",
        "scikit-learn LDA, lsqr",
        lambda t, task, at: discriminant.fit(
            t, Rows(task.names, task.Z[at]), task.classes[at], discriminant.DiscriminantParams()
        ),
        lambda task: LinearDiscriminantAnalysis(solver="lsqr").fit(task.Z, task.classes),
        lambda a, b, task: [(a.predict(task.Z), b.predict_proba(task.Z))],
    ),
    Model(
        "k-means, Lloyd",
        "scikit-learn KMeans",
        lambda t, task, at: kmeans.fit(
            t,
            Rows(task.names, task.Z[at]),
            kmeans.KMeansParams(4, start=tuple(map(tuple, _start(task).tolist()))),
            rng=Rng.system(),
        ),
        lambda task: KMeans(4, init=_start(task), n_init=1, tol=1e-4).fit(task.Z),
        lambda a, b, task: [(a.centres, b.cluster_centers_), (a.inertia, b.inertia_)],
    ),
    Model(
        "principal components",
        "scikit-learn PCA",
        lambda t, task, at: pca.fit(t, task.at(at), pca.PcaParams(2, standardise=True)),
        lambda task: PCA(2, svd_solver="full").fit(task.Z),
        lambda a, b, task: [
            (a.variance, b.explained_variance_),
            (a.components * np.sign((a.components * b.components_).sum(axis=1))[:, None], b.components_),
        ],
    ),
    Model(
        "boosted trees",
        "plain growth on pooled bins",
        lambda t, task, at: forest.boost(t, table_of(task, at), task.binary[at], BOOST, rng=Rng.system()),
        _boosted,
        _boosted_pairs,
    ),
    Model(
        "Kaplan-Meier, log-rank",
        "statsmodels",
        _survival,
        _pooled_survival,
        lambda a, b, task: [
            *((x.survival, y.surv_prob) for x, y in zip(a.curves, b[0], strict=True)),
            ((a.chi2, a.p_value), b[1]),
        ],
    ),
    Model(
        "Cox regression, Efron",
        "statsmodels PHReg",
        lambda t, task, at: cox.fit(t, task.at(at), task.time[at], task.event[at], cox.CoxParams(smallest=1)),
        _cox,
        lambda a, b, task: [
            *_regression(a, b, task)[:2],
            ([a.log_likelihood], [b.llf]),
        ],
    ),
    Model(
        "Cox regression, each site a stratum",
        "statsmodels PHReg",
        lambda t, task, at: cox.fit(
            t, task.at(at), task.time[at], task.event[at], cox.CoxParams(smallest=1, by_site=True)
        ),
        _strata,
        lambda a, b, task: [*_regression(a, b, task)[:2], ([a.log_likelihood], [b.llf])],
    ),
)
"""All models that are compared, in the order of the page."""
