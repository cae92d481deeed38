"""Linear, generalised linear and multinomial regression, against statsmodels and scikit-learn on pooled rows."""

from typing import Any

import numpy as np
import pytest
import statsmodels.api as sm
from sklearn.linear_model import LogisticRegression, Ridge

from atoll.core.errors import InputError
from atoll.learn.horizontal import glm, linear, multinomial
from atoll.learn.horizontal.families import FAMILIES
from atoll.learn.horizontal.glm import GlmParams
from atoll.learn.horizontal.inference import Coefficients
from atoll.learn.horizontal.linear import LinearParams
from atoll.learn.horizontal.multinomial import MultinomialParams
from atoll.learn.horizontal.rows import Rows
from tests.learn.horizontal.drawn import F64, Task, difference, draw
from tests.learn.horizontal.together import together, watched

LINKS = [(family, link) for family, parts in FAMILIES.items() for link in parts.links]
THEIRS: dict[str, Any] = {
    "identity": sm.families.links.Identity,
    "log": sm.families.links.Log,
    "inverse": sm.families.links.InversePower,
    "logit": sm.families.links.Logit,
    "probit": sm.families.links.Probit,
    "cloglog": sm.families.links.CLogLog,
}


def scaled(task: Task) -> F64:
    """Columns at mean 0 and spread 1, which statsmodels needs for its digits."""
    return (task.X - task.X.mean(axis=0)) / task.X.std(axis=0)


def compare(ours: Coefficients, theirs: Any, spread: F64, limit: float) -> None:
    """Compare slopes, errors, statistics and p values; spread brings ours to the oracle's scaled columns."""
    at = slice(len(ours.values) - spread.size, None)
    assert difference(ours.slopes * spread, theirs.params[at]) < limit
    assert difference(ours.standard_errors[at] * spread, theirs.bse[at]) < limit
    assert difference(ours.statistics[at], theirs.tvalues[at]) < limit
    assert difference(ours.p_values[at], theirs.pvalues[at]) < 30 * limit
    assert difference(ours.intervals()[at] * spread[:, None], theirs.conf_int()[at]) < 10 * limit


@pytest.mark.parametrize("seed", range(15))
def test_least_squares_is_statsmodels(seed: int) -> None:
    task = draw(seed)
    Z = scaled(task)
    y = 5e3 + Z @ task.rng.standard_normal(Z.shape[1]) + task.rng.standard_normal(len(Z))
    models = together(linear.fit, task.parts(y, LinearParams()))
    assert all(np.array_equal(m.coefficients.values, models[0].coefficients.values) for m in models)
    ours, theirs = models[0], sm.OLS(y, sm.add_constant(Z)).fit()
    compare(ours.coefficients, theirs, task.X.std(axis=0), 1e-9)
    figures = [ours.r_squared, ours.rss, ours.sigma**2, ours.aic, *ours.f_test, ours.log_likelihood]
    wanted = [theirs.rsquared, theirs.ssr, theirs.scale, theirs.aic, theirs.fvalue, theirs.f_pvalue, theirs.llf]
    assert all(difference(a, b) < 1e-8 for a, b in zip(figures, wanted, strict=True))
    assert difference(ours.predict(task.X), theirs.fittedvalues) < 1e-9


def test_standard_errors_of_the_intercept_too() -> None:
    task = draw(3, ugly=False)
    y = task.X.sum(axis=1) + task.rng.standard_normal(len(task.X))
    for intercept in (True, False):
        ours = together(linear.fit, task.parts(y, LinearParams(intercept=intercept)))[0].coefficients
        theirs = sm.OLS(y, sm.add_constant(task.X) if intercept else task.X).fit()
        assert difference(ours.values, theirs.params) < 1e-10
        assert difference(ours.covariance, theirs.cov_params()) < 1e-10


def test_least_squares_keeps_digits_where_squares_lose_them() -> None:
    """The Longley data, on which one-pass sums fail; certified values of the NIST reference sets."""
    data = sm.datasets.longley.load_pandas()
    X, y = data.exog.to_numpy(), data.endog.to_numpy()
    parts = [(Rows(tuple(data.exog), X[at]), y[at], LinearParams()) for at in (slice(0, 1), slice(1, 1), slice(1, 16))]
    ours = together(linear.fit, parts)[0].coefficients
    certified = [-3482258.63459582, 15.0618722713733, -0.358191792925910e-01, -2.02022980381683, -1.03322686717359,
                 -0.511041056535807e-01, 1829.15146461355]  # fmt: skip
    errors = [890420.383607373, 84.9149257747669, 0.334910077722432e-01, 0.488399681651699, 0.214274163161675,
              0.226073200069370, 455.478499142212]  # fmt: skip
    assert np.allclose(ours.values, certified, rtol=1e-10, atol=0)
    assert np.allclose(ours.standard_errors, errors, rtol=1e-10, atol=0)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("intercept", [True, False])
def test_ridge_is_scikit_learns(seed: int, intercept: bool) -> None:
    task = draw(seed, n=12, p=20, ugly=False)  # more columns than rows
    y = task.X[:, 0] + task.rng.standard_normal(12) + 3
    params = LinearParams(intercept=intercept, ridge=0.7)
    ours = together(linear.fit, task.parts(y, params))[0].coefficients
    theirs = Ridge(alpha=0.7, fit_intercept=intercept, solver="cholesky").fit(task.X, y)
    assert difference(ours.slopes, theirs.coef_) < 1e-9
    assert ours.intercept == pytest.approx(theirs.intercept_, rel=1e-9)
    assert np.isnan(ours.standard_errors).all()


def labels(family: str, link: str, eta: F64, rng: np.random.Generator) -> F64:
    """Labels of a family whose mean follows eta through something like the link."""
    n = eta.size
    if family == "gaussian":
        return eta + rng.standard_normal(n)
    if family == "binomial":
        return (rng.random(n) < 1 / (1 + np.exp(-eta))).astype(np.float64)
    if family == "poisson":
        return rng.poisson(np.exp(eta) if link == "log" else np.maximum(eta + 8, 0.1)).astype(np.float64)
    return rng.gamma(3, (np.exp(eta) if link == "log" else 1 / (4 + np.clip(eta, -2, 2))) / 3)


@pytest.mark.filterwarnings("ignore:The .* link function does not respect the domain")
@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize(("family", "link"), LINKS)
def test_generalised_linear_models_are_statsmodels(family: str, link: str, seed: int) -> None:
    task = draw(10 + seed)
    Z = scaled(task)
    n = len(Z)
    y = labels(family, link, Z @ task.rng.normal(0, 0.4, Z.shape[1]), task.rng)
    weights, offset = task.rng.uniform(0.5, 2, n), task.rng.normal(0, 0.1, n)
    given = {"offset": offset, "var_weights": weights} if seed % 2 else {}
    params = GlmParams(family=family, link=link)  # type: ignore[arg-type]

    async def site(totals: Any, X: Rows, y: F64, w: F64, o: F64) -> glm.GlmModel:
        return await glm.fit(totals, X, y, params, **({"offset": o, "weights": w} if seed % 2 else {}))

    parts = [(*part, weights[at], offset[at]) for part, at in zip(task.parts(y), task.rows, strict=True)]
    ours, adder = watched(site, parts)
    theirs = getattr(sm.families, family.capitalize())(THEIRS[link]())
    wanted = sm.GLM(y, sm.add_constant(Z), family=theirs, **given).fit(tol=1e-13, tol_criterion="params", maxiter=300)
    compare(ours[0].coefficients, wanted, task.X.std(axis=0), 1e-7 if link in ("identity", "cloglog") else 1e-8)
    figures = [ours[0].deviance, ours[0].pearson, ours[0].aic, ours[0].scale]
    assert difference(figures, [wanted.deviance, wanted.pearson_chi2, wanted.aic, wanted.scale]) < 1e-8
    if not seed % 2:
        assert difference(ours[0].null_deviance, wanted.null_deviance) < 1e-9
        assert difference(ours[0].predict(task.X), wanted.fittedvalues) < 1e-8
    assert len(adder.seen) < 40


@pytest.mark.parametrize("seed", range(5))
def test_penalised_logistic_regression_is_scikit_learns(seed: int) -> None:
    task = draw(seed, n=60, p=3, ugly=False)
    y = (task.X[:, 0] > 0).astype(np.float64)  # separated: only the penalty keeps it finite
    ours = together(glm.fit, task.parts(y, GlmParams(ridge=2.0)))[0].coefficients
    theirs = LogisticRegression(C=0.5, tol=1e-12, solver="newton-cholesky", max_iter=200).fit(task.X, y)
    assert difference(ours.values, [*theirs.intercept_, *theirs.coef_[0]]) < 1e-8


@pytest.mark.parametrize("seed", range(8))
def test_multinomial_regression_is_statsmodels(seed: int) -> None:
    task = draw(seed, n=150)
    Z = scaled(task)
    k = 2 + seed % 3
    utility = Z @ task.rng.normal(0, 0.5, (Z.shape[1], k)) + task.rng.gumbel(size=(len(Z), k))
    y = utility.argmax(axis=1).astype(np.float64) * 10 - 5
    ours = together(multinomial.fit, task.parts(y, MultinomialParams()))[0]
    theirs = sm.MNLogit(y, sm.add_constant(Z)).fit(disp=False, method="newton", tol=1e-14, maxiter=100)
    spread = task.X.std(axis=0)
    assert ours.classes.tolist() == sorted(set(y.tolist()))
    assert difference(ours.table[:, 1:] * spread, theirs.params[1:].T) < 1e-8
    errors = ours.coefficients.standard_errors.reshape(k - 1, -1)[:, 1:] * spread
    assert difference(errors, theirs.bse[1:].T) < 1e-8
    assert difference([ours.log_likelihood, ours.aic], [theirs.llf, theirs.aic]) < 1e-9
    assert difference(ours.predict(task.X), theirs.predict()) < 1e-8


# ------------------------------------------------------------------------------------------------------- bad input


def one_site(X: Any, y: Any, params: Any) -> list[Any]:
    names = tuple("abcdefgh"[: len(X[0])])
    return [(Rows(names, np.array(X, np.float64)), np.array(y, np.float64), params)]


RNG = np.random.default_rng(7)
GOOD = RNG.standard_normal((30, 2))
BINARY = (GOOD[:, 0] + RNG.standard_normal(30) > 0).astype(float)
REPEATED = np.column_stack([GOOD, GOOD[:, 0] - 2 * GOOD[:, 1] + 1])


@pytest.mark.parametrize(
    ("fit", "part", "words"),
    [
        (linear.fit, one_site(REPEATED, BINARY, LinearParams()), "combination of 'a', 'b' .*column 'c'"),
        (linear.fit, one_site(np.c_[GOOD, np.ones(30)], BINARY, LinearParams()), "all its values are alike .*'c'"),
        (linear.fit, one_site(GOOD[:3], BINARY[:3], LinearParams()), "3 rows are too few for 3"),
        (linear.fit, one_site([[1, np.nan]] * 9, range(9), LinearParams()), "missing .*column 'b'.*9 of 9"),
        (linear.fit, one_site([[1, 2]] * 9, [np.nan] * 9, LinearParams()), "missing .*column 'label'"),
        (linear.fit, one_site([[1, -np.inf]], [0], LinearParams()), "infinite .*column 'b'"),
        (linear.fit, one_site(GOOD, BINARY[:5], LinearParams()), "30 rows have labels of shape"),
        (linear.fit, one_site([[np.nan, 2]] * 9, range(9), LinearParams(missing="drop")), "no site has a row"),
        (glm.fit, one_site(REPEATED, BINARY, GlmParams()), "combination of 'a', 'b' .*column 'c'"),
        (glm.fit, one_site(GOOD, GOOD[:, 0] > 0, GlmParams()), "no best coefficients"),
        (glm.fit, one_site(GOOD, BINARY * 2, GlmParams()), "binomial label must be between 0 and 1"),
        (glm.fit, one_site(GOOD, -BINARY, GlmParams(family="poisson")), "poisson label must be 0 or more"),
        (glm.fit, one_site(GOOD, BINARY, GlmParams(family="gamma")), "gamma label must be above 0"),
        (glm.fit, one_site(GOOD, np.zeros(30), GlmParams()), "no best coefficients"),
        (glm.fit, one_site(GOOD, np.zeros(30), GlmParams(family="poisson")), "no means to start from"),
        (linear.fit, one_site(np.zeros((9, 0)), range(9), LinearParams()), "no column"),
        (multinomial.fit, one_site(GOOD, np.ones(30), MultinomialParams()), "one class"),
        (multinomial.fit, one_site(GOOD, np.sign(GOOD[:, 0]), MultinomialParams()), "no best coefficients"),
    ],
)
def test_bad_input_is_named(fit: Any, part: list[Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        together(fit, part)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (lambda: GlmParams(family="poisson", link="logit"), "poisson has no link 'logit'"),
        (lambda: LinearParams(ridge=-1.0), "ridge"),
        (lambda: GlmParams(most=0), "most"),
        (lambda: Rows(("a", "a"), np.zeros((1, 2))), "stands twice"),
        (lambda: Rows(("a",), np.zeros((1, 2))), "1 names stand beside"),
    ],
)
def test_bad_parameters_are_named(wrong: Any, words: str) -> None:
    with pytest.raises(InputError, match=words):
        wrong()


def test_a_perfect_fit_and_a_constant_label_have_no_figures_that_divide_by_zero() -> None:
    X = np.arange(8.0)[:, None]
    perfect = together(linear.fit, one_site(X, 2 * X[:, 0] + 1, LinearParams()))[0]
    assert difference(perfect.coefficients.values, [1, 2]) < 1e-13
    assert perfect.r_squared == pytest.approx(1)
    constant = together(linear.fit, one_site(X, np.full(8, 3.0), LinearParams()))[0]
    assert difference(constant.coefficients.values, [3, 0]) < 1e-13
    assert np.isnan(constant.r_squared)
    assert np.isnan(constant.f_test[0]) or constant.f_test[0] >= 0


def test_dropping_rows_is_the_same_as_not_having_them() -> None:
    task = draw(4, ugly=False)
    y = task.X.sum(axis=1) + task.rng.standard_normal(len(task.X))
    X = task.X.copy()
    X[::7, 0], y[3::11] = np.nan, np.nan
    keep = ~np.isnan(X).any(axis=1) & ~np.isnan(y)
    holes = together(linear.fit, Task(X, task.rows, task.rng).parts(y, LinearParams(missing="drop")))[0]
    rest = together(linear.fit, [(Rows(task.names, X[keep]), y[keep], LinearParams())])[0]
    assert holes.rows == keep.sum()
    assert difference(holes.coefficients.values, rest.coefficients.values) < 1e-12
