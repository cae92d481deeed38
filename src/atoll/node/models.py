"""Models that sites with the same columns can fit: their keys in the job, what they reveal, how they predict."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from atoll.core.errors import InputError

if TYPE_CHECKING:
    from atoll.learn.horizontal.inference import Coefficients
    from atoll.learn.horizontal.rows import Missing, Rows
    from atoll.protocols.secure_sum.totals import Totals

F64 = NDArray[np.float64]
NotNegative = Annotated[float, msgspec.Meta(ge=0, le=1e12)]
Label = Literal["number", "event", "class", "none"]

GLM_LEARNS = (
    "means, spreads and the size of every column, and the mean of the label",
    "in each of about six rounds, for coefficients that all sites know: products of all pairs of columns, weighted by "
    "the model, products of the columns with the residuals, and the deviance",
    "the log-likelihood, and the deviance without columns",
)


class Coefficient(msgspec.Struct, frozen=True):
    """One line of a model's table; what a penalty leaves without meaning is None.

    Attributes:
        term: a column, `column=category`, or `(intercept)`.
        estimate: in the column's unit.
        error: standard error.
        statistic: the estimate divided by it.
        p: two-sided probability of so large a statistic if the coefficient were 0.
        low: lower end of the 95 % interval.
        high: upper end.
    """

    term: str
    estimate: float
    error: float | None = None
    statistic: float | None = None
    p: float | None = None
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Fitted:
    """What a fit came to.

    Args:
        rows: rows of all sites that it used.
        values: what prediction needs, by name; lists of numbers.
        figures: how good it is, by name.
        coefficients: the table; empty for models without one.
    """

    rows: int
    values: dict[str, Any]
    figures: dict[str, float] = field(default_factory=dict)
    coefficients: tuple[Coefficient, ...] = ()


class Kind(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, tag_field="kind"):
    """A model as the job names it: `kind:` and its own keys.

    Attributes:
        title: for people.
        label: what the label must be: any number, an event (1 or 0), a class, or none at all.
        baseline: whether the first category of every column is what the others are compared with.
        learns: what every site learns while it is fitted, one entry a line.
    """

    title: ClassVar[str]
    label: ClassVar[Label]
    baseline: ClassVar[bool] = True
    learns: ClassVar[tuple[str, ...]]

    async def fit(self, totals: Totals, X: Rows, y: F64, missing: Missing) -> Fitted:
        """Fit the model to the rows of all sites."""
        raise NotImplementedError

    def predict(self, values: Mapping[str, Any], X: F64) -> F64:
        """Return predictions for (n, terms) numbers: (n,), or (n, k) for k classes or axes."""
        raise NotImplementedError


class Linear(Kind, frozen=True, tag="linear"):
    """Least squares, or ridge regression with `ridge:` above 0.

    Attributes:
        intercept: whether there is one.
        ridge: penalty on the squared coefficients, as `alpha` of scikit-learn's `Ridge`; there are no standard errors
            then.
    """

    title = "linear regression"
    label = "number"
    learns = (
        "means, spreads and the size of every column and of the label",
        "products of all pairs of columns and the label: their correlations",
        "products of the columns with the residuals, and the sum of squared residuals",
    )

    intercept: bool = True
    ridge: NotNegative = 0.0

    async def fit(self, totals: Totals, X: Rows, y: F64, missing: Missing) -> Fitted:
        """Fit; see `atoll.learn.horizontal.linear`."""
        from atoll.learn.horizontal import linear

        params = linear.LinearParams(intercept=self.intercept, ridge=self.ridge, missing=missing)
        model = await linear.fit(totals, X, y, params)
        figures = {"R²": model.r_squared, "residual standard deviation": model.sigma if model.df > 0 else math.nan}
        if not self.ridge and model.coefficients.slopes.size:
            f, p = model.f_test
            figures |= {"AIC": model.aic, "F": f, "p of F": p}
        return _regression(model.coefficients, model.rows, figures)

    def predict(self, values: Mapping[str, Any], X: F64) -> F64:
        """Return (n,) expected labels."""
        return _eta(values, X)


class Logistic(Kind, frozen=True, tag="logistic"):
    """The probability of an event: logistic regression, or probit.

    Attributes:
        link: `logit`, `probit` or `cloglog`.
        intercept: whether there is one.
        ridge: penalty: half of it times the squared coefficients is taken from the log-likelihood, `1 / C` of
            scikit-learn's `LogisticRegression`; there are no standard errors then.
    """

    title = "logistic regression"
    label = "event"
    learns = GLM_LEARNS

    link: Literal["logit", "probit", "cloglog"] = "logit"
    intercept: bool = True
    ridge: NotNegative = 0.0

    async def fit(self, totals: Totals, X: Rows, y: F64, missing: Missing) -> Fitted:
        """Fit; see `atoll.learn.horizontal.glm`."""
        return await _generalised("binomial", self, totals, X, y, missing)

    def predict(self, values: Mapping[str, Any], X: F64) -> F64:
        """Return (n,) probabilities of the event."""
        return _mean("binomial", self, values, X)


class Poisson(Kind, frozen=True, tag="poisson"):
    """Counts: Poisson regression.

    Attributes:
        link: `log` or `identity`.
        intercept: whether there is one.
        ridge: as for `logistic`.
    """

    title = "Poisson regression"
    label = "number"
    learns = GLM_LEARNS

    link: Literal["log", "identity"] = "log"
    intercept: bool = True
    ridge: NotNegative = 0.0

    async def fit(self, totals: Totals, X: Rows, y: F64, missing: Missing) -> Fitted:
        """Fit; see `atoll.learn.horizontal.glm`."""
        return await _generalised("poisson", self, totals, X, y, missing)

    def predict(self, values: Mapping[str, Any], X: F64) -> F64:
        """Return (n,) expected counts."""
        return _mean("poisson", self, values, X)


class Gamma(Kind, frozen=True, tag="gamma"):
    """Sizes above 0, such as costs: gamma regression.

    Attributes:
        link: `log` or `inverse`.
        intercept: whether there is one.
        ridge: as for `logistic`.
    """

    title = "gamma regression"
    label = "number"
    learns = GLM_LEARNS

    link: Literal["log", "inverse"] = "log"
    intercept: bool = True
    ridge: NotNegative = 0.0

    async def fit(self, totals: Totals, X: Rows, y: F64, missing: Missing) -> Fitted:
        """Fit; see `atoll.learn.horizontal.glm`."""
        return await _generalised("gamma", self, totals, X, y, missing)

    def predict(self, values: Mapping[str, Any], X: F64) -> F64:
        """Return (n,) expected sizes."""
        return _mean("gamma", self, values, X)


class Multinomial(Kind, frozen=True, tag="multinomial"):
    """Which of several classes: multinomial logistic regression.

    Attributes:
        intercept: whether there is one for each class.
    """

    title = "multinomial regression"
    label = "class"
    learns = (
        "how many rows each class has",
        "means, spreads and the size of every column",
        "in each of about eight rounds, for coefficients that all sites know: the log-likelihood with its first and "
        "second derivatives",
    )

    intercept: bool = True

    async def fit(self, totals: Totals, X: Rows, y: F64, missing: Missing) -> Fitted:
        """Fit; see `atoll.learn.horizontal.multinomial`."""
        from atoll.learn.horizontal import multinomial

        params = multinomial.MultinomialParams(intercept=self.intercept, missing=missing)
        model = await multinomial.fit(totals, X, y, params)
        figures = {"log-likelihood": model.log_likelihood, "AIC": model.aic}
        done = _regression(model.coefficients, model.rows, figures)
        done.values.update(classes=model.classes.tolist(), table=model.table.tolist())
        return done

    def predict(self, values: Mapping[str, Any], X: F64) -> F64:
        """Return (n, K) probabilities of the classes, in ascending order."""
        table = np.array(values["table"], np.float64)
        if table.shape[1] == X.shape[1] + 1:
            X = np.concatenate([np.ones((len(X), 1)), X], axis=1)
        eta = np.concatenate([np.zeros((len(X), 1)), X @ table.T], axis=1)
        eta = np.exp(eta - eta.max(axis=1, keepdims=True))
        return np.asarray(eta / eta.sum(axis=1, keepdims=True))


AnyModel = Linear | Logistic | Poisson | Gamma | Multinomial


async def _generalised(
    family: Any, kind: Logistic | Poisson | Gamma, totals: Totals, X: Rows, y: F64, missing: Missing
) -> Fitted:
    from atoll.learn.horizontal import glm

    params = glm.GlmParams(family, kind.link, intercept=kind.intercept, ridge=kind.ridge, missing=missing)
    model = await glm.fit(totals, X, y, params)
    figures = {
        "deviance": model.deviance,
        "deviance without columns": model.null_deviance,
        "log-likelihood": model.log_likelihood,
        "AIC": model.aic,
    }
    if family == "gamma":
        figures["dispersion"] = model.scale
    return _regression(model.coefficients, model.rows, figures)


def _mean(family: Any, kind: Logistic | Poisson | Gamma, values: Mapping[str, Any], X: F64) -> F64:
    from atoll.learn.horizontal.glm import GlmParams

    return GlmParams(family, kind.link).parts[1].inverse(_eta(values, X))


def _regression(found: Coefficients, rows: int, figures: dict[str, float]) -> Fitted:
    """Bring coefficients into the table and the values that prediction needs."""
    ends = found.intervals()
    columns = (found.standard_errors, found.statistics, found.p_values, ends[:, 0], ends[:, 1])
    table = tuple(
        Coefficient(name, float(value), *(_known(column[at]) for column in columns))
        for at, (name, value) in enumerate(zip(found.names, found.values, strict=True))
    )
    values = {
        "intercept": found.intercept,
        "slopes": found.slopes.tolist(),
        "covariance": [[_known(number) for number in row] for row in found.covariance],
    }
    return Fitted(rows, values, {name: value for name, value in figures.items() if math.isfinite(value)}, table)


def _known(value: Any) -> float | None:
    return float(value) if math.isfinite(value) else None


def _eta(values: Mapping[str, Any], X: F64) -> F64:
    slopes = np.array(values["slopes"], np.float64)
    if slopes.size != X.shape[1]:
        raise InputError(f"the model has {slopes.size} slopes for {X.shape[1]} columns", cure="Take its own file.")
    return np.asarray(X @ slopes + float(values["intercept"]))
