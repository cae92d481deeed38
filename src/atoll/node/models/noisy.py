"""Models that can be fitted to totals with noise: which they are, what they open, and how they are fitted."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from atoll.core.errors import InputError
from atoll.node.models.base import Coefficient, Fitted, Here, Kind
from atoll.node.models.regressions import Linear, Logistic
from atoll.node.models.trees import Boosted, kept_trees

if TYPE_CHECKING:
    from atoll.learn.horizontal.private.linear import PrivateRegression
    from atoll.learn.horizontal.private.logistic import LogisticPlan
    from atoll.learn.horizontal.private.trees import TreesPlan
    from atoll.protocols.secure_sum.noisy import PlannedTotals, Release

BINS = 16
"""Bins of a numeric column of trees, if the job does not say: the more there are, the more noise is added up."""


@dataclass(frozen=True)
class Declared:
    """What a job says of a model's columns.

    Args:
        columns: names, and the categories of those that have some.
        label: its name; empty where there is none.
        bounds: of numeric columns and a numeric label.
    """

    columns: tuple[tuple[str, tuple[str, ...]], ...]
    label: str
    bounds: Mapping[str, tuple[float, float]]


@dataclass(frozen=True)
class FitPlan:
    """What a model opens, with how it is to be fitted.

    Args:
        releases: all of it.
        how: the plan of the algorithm.
    """

    releases: tuple[Release, ...]
    how: Release | LogisticPlan | TreesPlan


def plan(model: Kind, said: Declared, rho: float) -> FitPlan:
    """Plan the totals of a model.

    Raises:
        InputError: the model has no form with noise, or not with these keys.
    """
    from atoll.learn.horizontal.private import linear, logistic, trees
    from atoll.learn.horizontal.private.scaled import scaled

    if isinstance(model, Linear) and not (model.beside or model.within):
        release = linear.plan(scaled(said.columns, said.bounds), rho, intercept=model.intercept)
        return FitPlan((release,), release)
    if isinstance(model, Logistic) and model.link == "logit":
        steps = logistic.plan(scaled(said.columns, said.bounds), rho, intercept=model.intercept)
        return FitPlan(steps.releases, steps)
    if isinstance(model, Boosted):
        bins = trees.even_bins(said.columns, said.bounds, model.max_bin or BINS)
        grown = trees.plan(bins, model.params(min_child_weight=model.min_child_weight or 1.0), rho)
        return FitPlan(grown.releases, grown)
    raise InputError(
        f"{model.title} has no form with noise",
        step="fit",
        cure="Take `linear`, `logistic` with the link `logit`, or `boosted-trees`, or leave out `privacy:`.",
    )


async def fit(totals: PlannedTotals, planned: FitPlan, model: Kind, said: Declared, here: Here) -> Fitted:
    """Fit a model to the rows of all sites; `here.y` lies between its bounds, or is 0 or 1."""
    from atoll.learn.horizontal.private import linear, logistic, trees
    from atoll.learn.horizontal.private.scaled import scaled

    how: Any = planned.how
    if isinstance(model, Boosted):
        label = {said.label: said.bounds[said.label]} if model.objective == "squared" else {}
        return kept_trees(here, await trees.boost(totals, how, here.table, here.y, label))
    scale, X = scaled(said.columns, said.bounds), here.X.values
    if isinstance(model, Linear):
        label_scale = scaled([(said.label, ())], said.bounds)
        found = await linear.fit(
            totals, how, X, here.y, scale, label_scale, intercept=model.intercept, ridge=model.ridge
        )
    elif isinstance(model, Logistic):
        found = await logistic.fit(totals, how, X, here.y, scale, intercept=model.intercept, ridge=model.ridge)
    else:
        raise InputError(f"{model.title} has no form with noise", step="fit", cure="Leave out `privacy:`.")
    return _regression(found, scale.names, here.rows, intercept=model.intercept)


def _regression(found: PrivateRegression, names: tuple[str, ...], rows: int, *, intercept: bool) -> Fitted:
    values = {"intercept": found.intercept, "slopes": found.slopes.tolist(), "covariance": []}
    lines = [Coefficient("(intercept)", found.intercept)] if intercept else []
    lines += [Coefficient(name, slope) for name, slope in zip(names, found.slopes.tolist(), strict=True)]
    many = rows if math.isnan(found.rows) else max(0, round(found.rows))
    figures = {"ridge penalty that the noise asked for": found.penalty}
    return Fitted(many, values, figures, tuple(lines))
