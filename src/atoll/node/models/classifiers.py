"""Classifiers: which of several classes a row belongs to."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal

import msgspec
import numpy as np

from atoll.data.columns import Columns
from atoll.node.models.base import F64, Fitted, Grid, Here, Kind, frozen, known, table, thawed

if TYPE_CHECKING:
    from atoll.protocols.secure_sum.totals import Totals

Positive = Annotated[float, msgspec.Meta(gt=0, le=1e12)]
BY_CLASS = "how many rows each class has"
SCALES = "means, spreads and the size of every column"


class Multinomial(Kind, frozen=True, tag="multinomial"):
    """Multinomial logistic regression: log-odds of every class against the first.

    Attributes:
        intercept: whether there is one for each class.
    """

    title = "multinomial regression"
    label = "class"
    learns = (
        BY_CLASS,
        SCALES,
        "in each of about eight rounds, for coefficients that all sites know: the log-likelihood with its first and "
        "second derivatives",
    )

    intercept: bool = True

    async def fit(self, totals: Totals, here: Here) -> Fitted:
        """Fit; see `atoll.learn.horizontal.multinomial`."""
        from atoll.learn.horizontal import multinomial

        params = multinomial.MultinomialParams(intercept=self.intercept)
        model = await multinomial.fit(totals, here.X, here.y, params)
        values = {"classes": model.classes.tolist(), "table": model.table.tolist()}
        values["covariance"] = [[known(number) for number in row] for row in model.coefficients.covariance]
        figures = {"log-likelihood": model.log_likelihood, "AIC": model.aic}
        return Fitted(model.rows, values, figures, table(model.coefficients))

    def predict(self, values: Mapping[str, Any], table: Columns) -> F64:
        """Return (n, K) probabilities of the classes, in ascending order."""
        from atoll.learn.horizontal.classes import shares_of

        X, weights = self.numbers(table), np.array(values["table"], np.float64)
        if weights.shape[1] == X.shape[1] + 1:
            X = np.concatenate([np.ones((len(X), 1)), X], axis=1)
        return shares_of(np.concatenate([np.zeros((len(X), 1)), X @ weights.T], axis=1))


class Svm(Kind, frozen=True, tag="svm"):
    """Linear support vector machine with squared hinge loss, one for each class if there are more than two.

    Attributes:
        C: weight of the loss against the penalty, as in scikit-learn's `LinearSVC`.
        intercept: whether there is one.
    """

    title = "linear support vector machine"
    label = "class"
    learns = (
        BY_CLASS,
        SCALES,
        "in each of about ten rounds, for weights that all sites know: the loss with its gradient, and products of all "
        "pairs of columns over the rows inside the margin",
    )

    C: Positive = 1.0
    intercept: bool = True

    async def fit(self, totals: Totals, here: Here) -> Fitted:
        """Fit; see `atoll.learn.horizontal.svm`."""
        from atoll.learn.horizontal import svm

        params = svm.SvmParams(C=self.C, intercept=self.intercept)
        model = await svm.fit(totals, here.X, here.y, params)
        machines = [f"class {c:g}" for c in (model.classes if len(model.weights) > 1 else model.classes[1:])]
        weights = dict(zip(here.X.names, map(tuple, model.weights.T.tolist()), strict=True))
        grid = Grid("Weights", tuple(machines), {"(intercept)": tuple(model.intercepts.tolist()), **weights})
        return Fitted(here.rows, frozen(model), {"objective": model.loss}, grids=(grid,))

    def predict(self, values: Mapping[str, Any], table: Columns) -> F64:
        """Return (n,) classes."""
        from atoll.learn.horizontal.svm import SvmModel

        return thawed(SvmModel, values).predict(self.numbers(table))


class Discriminant(Kind, frozen=True, tag="discriminant"):
    """Linear discriminant analysis."""

    title = "discriminant analysis"
    label = "class"
    learns = (
        BY_CLASS,
        "the mean of every column in each class, and the size of its values",
        "products of all pairs of columns about the means of their class",
    )

    async def fit(self, totals: Totals, here: Here) -> Fitted:
        """Fit; see `atoll.learn.horizontal.discriminant`."""
        from atoll.learn.horizontal import discriminant

        model = await discriminant.fit(totals, here.X, here.y, discriminant.DiscriminantParams())
        return Fitted(here.rows, frozen(model), grids=(_by_class("Means", here, model.classes, model.means),))

    def predict(self, values: Mapping[str, Any], table: Columns) -> F64:
        """Return (n, K) probabilities of the classes, in ascending order."""
        from atoll.learn.horizontal.discriminant import DiscriminantModel

        return thawed(DiscriminantModel, values).predict(self.numbers(table))


class Bayes(Kind, frozen=True, tag="naive-bayes"):
    """Naive Bayes.

    Attributes:
        values: `gaussian`; `bernoulli`, where above 0 counts as 1; or `multinomial`, for counts.
        alpha: pseudo-counts of the latter two.
    """

    title = "naive Bayes"
    label = "class"
    baseline = False
    learns = (BY_CLASS, "in each class, sums of every column; for `gaussian` also spreads and the size of values")

    values: Literal["gaussian", "bernoulli", "multinomial"] = "gaussian"
    alpha: Positive = 1.0

    async def fit(self, totals: Totals, here: Here) -> Fitted:
        """Fit; see `atoll.learn.horizontal.bayes`."""
        from atoll.learn.horizontal import bayes

        params = bayes.BayesParams(self.values, self.alpha)
        model = await bayes.fit(totals, here.X, here.y, params)
        what = "Means" if self.values == "gaussian" else "Logarithms of probabilities"
        return Fitted(int(model.count.sum()), frozen(model), grids=(_by_class(what, here, model.classes, model.first),))

    def predict(self, values: Mapping[str, Any], table: Columns) -> F64:
        """Return (n, K) probabilities of the classes, in ascending order."""
        from atoll.learn.horizontal.bayes import BayesModel

        return thawed(BayesModel, values).predict(self.numbers(table))


def _by_class(title: str, here: Here, classes: F64, numbers: F64) -> Grid:
    rows = dict(zip(here.X.names, map(tuple, numbers.T.tolist()), strict=True))
    return Grid(title, tuple(f"class {c:g}" for c in classes), rows)
