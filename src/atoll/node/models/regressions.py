"""Regressions: expected numbers, probabilities and hazards, with standard errors and p values."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal

import msgspec
import numpy as np

from atoll.core.errors import InputError
from atoll.data.columns import Columns
from atoll.node.models.base import F64, Fitted, Here, Kind, known, table

if TYPE_CHECKING:
    from atoll.learn.horizontal.inference import Coefficients
    from atoll.protocols.secure_sum.totals import Totals

NotNegative = Annotated[float, msgspec.Meta(ge=0, le=1e12)]

GLM_LEARNS = (
    "means, spreads and the size of every column, and the mean of the label",
    "in each of about six rounds, for coefficients that all sites know: products of all pairs of columns, weighted by "
    "the model, products of the columns with the residuals, and the deviance",
    "the log-likelihood, and the deviance without columns",
)


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

    async def fit(self, totals: Totals, here: Here) -> Fitted:
        """Fit; see `atoll.learn.horizontal.linear`."""
        from atoll.learn.horizontal import linear

        params = linear.LinearParams(intercept=self.intercept, ridge=self.ridge)
        model = await linear.fit(totals, here.X, here.y, params)
        figures = {"R²": model.r_squared, "residual standard deviation": model.sigma if model.df > 0 else math.nan}
        if not self.ridge and model.coefficients.slopes.size:
            f, p = model.f_test
            figures |= {"AIC": model.aic, "F": f, "p of F": p}
        return _regression(model.coefficients, model.rows, figures)

    def predict(self, values: Mapping[str, Any], table: Columns) -> F64:
        """Return (n,) expected labels."""
        return _eta(values, self.numbers(table))


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

    async def fit(self, totals: Totals, here: Here) -> Fitted:
        """Fit; see `atoll.learn.horizontal.glm`."""
        return await _generalised("binomial", self, totals, here)

    def predict(self, values: Mapping[str, Any], table: Columns) -> F64:
        """Return (n,) probabilities of the event."""
        return _mean("binomial", self, values, self.numbers(table))


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

    async def fit(self, totals: Totals, here: Here) -> Fitted:
        """Fit; see `atoll.learn.horizontal.glm`."""
        return await _generalised("poisson", self, totals, here)

    def predict(self, values: Mapping[str, Any], table: Columns) -> F64:
        """Return (n,) expected counts."""
        return _mean("poisson", self, values, self.numbers(table))


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

    async def fit(self, totals: Totals, here: Here) -> Fitted:
        """Fit; see `atoll.learn.horizontal.glm`."""
        return await _generalised("gamma", self, totals, here)

    def predict(self, values: Mapping[str, Any], table: Columns) -> F64:
        """Return (n,) expected sizes."""
        return _mean("gamma", self, values, self.numbers(table))


class Cox(Kind, frozen=True, tag="cox"):
    """How long until an event: Cox regression; the label is the time when a person was last seen.

    Attributes:
        event: the column that says whether the event happened then, 1, or the person just left, 0.
        ties: `efron` or `breslow`.
        unit: times are rounded up to multiples of this; as they are if left out. At least `minimum` people must
            leave from one time of an event to the next.
        strata: a column whose values make strata, texts or few whole numbers: people are compared with those of their
            own stratum only. Strata of fewer than `minimum` people are left out.
        by_site: whether each site is a stratum of its own. Then no times are told, and no sums by time.
    """

    title = "Cox regression"
    label = "number"
    learns = (
        "all times of events, and how many people have one, and leave, at each",
        "means, spreads and the size of every column",
        "in each of about seven rounds, for coefficients that all sites know, at every such time: sums, and products "
        "of all pairs of columns, over the people still there",
    )

    event: str
    ties: Literal["efron", "breslow"] = "efron"
    unit: Annotated[float, msgspec.Meta(gt=0)] | None = None
    strata: str = ""
    by_site: bool = False

    def __post_init__(self) -> None:
        if self.strata and self.by_site:
            raise InputError("`strata:` and `by_site:` are both given", cure="Take one of them.")

    @property
    def tells(self) -> tuple[str, ...]:
        """Less where each site is a stratum; by stratum where a column makes them."""
        if self.by_site:
            return (
                "how many rows have the event",
                self.learns[1],
                "in each of about seven rounds, for coefficients that all sites know: the sum over the sites of the "
                "log-likelihood within each, with its first and second derivatives",
            )
        own = f"; all that within each stratum of {self.strata}, and how many rows each has" if self.strata else ""
        return (*self.learns[:-1], self.learns[-1] + own)

    @property
    def within(self) -> tuple[str, ...]:
        """The column of strata."""
        return (self.strata,) if self.strata else ()

    @property
    def beside(self) -> tuple[str, ...]:
        """The column of events."""
        return (self.event,)

    async def fit(self, totals: Totals, here: Here) -> Fitted:
        """Fit; see `atoll.learn.horizontal.cox`."""
        from atoll.learn.horizontal import cox

        params = cox.CoxParams(ties=self.ties, unit=self.unit, smallest=here.minimum, by_site=self.by_site)
        strata, groups = here.within[self.strata] if self.strata else (None, None)
        event = here.beside[self.event]
        model = await cox.fit(totals, here.X, here.y, event, params, strata=strata, known=groups)
        figures = {
            "events": float(model.events),
            "log-likelihood": model.log_likelihood,
            "log-likelihood without columns": model.null,
        }
        done = _regression(model.coefficients, model.rows, figures)
        done.values.update(times=model.times.tolist(), baseline=model.baseline.tolist())
        if self.strata:
            done.values.update(strata=model.strata, stratum=model.stratum.tolist())
        return done

    def predict(self, values: Mapping[str, Any], table: Columns) -> F64:
        """Return (n,) logarithms of hazard ratios."""
        return _eta(values, self.numbers(table))


async def _generalised(family: Any, kind: Logistic | Poisson | Gamma, totals: Totals, here: Here) -> Fitted:
    from atoll.learn.horizontal import glm

    params = glm.GlmParams(family, kind.link, intercept=kind.intercept, ridge=kind.ridge)
    model = await glm.fit(totals, here.X, here.y, params)
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
    values = {
        "intercept": found.intercept,
        "slopes": found.slopes.tolist(),
        "covariance": [[known(number) for number in row] for row in found.covariance],
    }
    return Fitted(rows, values, {name: value for name, value in figures.items() if math.isfinite(value)}, table(found))


def _eta(values: Mapping[str, Any], X: F64) -> F64:
    slopes = np.array(values["slopes"], np.float64)
    if slopes.size != X.shape[1]:
        raise InputError(f"the model has {slopes.size} slopes for {X.shape[1]} columns", cure="Take its own file.")
    return np.asarray(X @ slopes + float(values["intercept"]))
