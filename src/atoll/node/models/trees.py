"""Trees over the columns as they are: boosted ones and random forests; missing values may stand in the columns."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal

import msgspec

from atoll.data.columns import Columns
from atoll.node.models.base import F64, Fitted, Grid, Here, Kind, Label

if TYPE_CHECKING:
    from atoll.learn.horizontal.trees.forest import ForestModel
    from atoll.learn.horizontal.trees.params import BoostParams
    from atoll.protocols.secure_sum.totals import Totals

Count = Annotated[int, msgspec.Meta(ge=1, le=10_000)]
Depth = Annotated[int, msgspec.Meta(ge=1, le=12)]
Bins = Annotated[int, msgspec.Meta(ge=2, le=65_534)]
Share = Annotated[float, msgspec.Meta(gt=0, le=1)]
NotNegative = Annotated[float, msgspec.Meta(ge=0, le=1e12)]

LEARNS = (
    "the borders of the bins of every numeric column: quantiles",
    "the mean of the label",
    "for every node of every tree: sums of the rows' residuals and weights by bin of every column; a bin of a small "
    "node may hold few rows",
)


class Boosted(Kind, frozen=True, tag="boosted-trees"):
    """Boosted trees under XGBoost's names: the probability of an event, or with `objective: squared` a number.

    Attributes:
        objective: `logistic` for a label of 0 and 1, or `squared` for a number.
        n_estimators: number of trees.
        max_depth: depth of every tree.
        learning_rate: factor on every leaf.
        reg_lambda: L2 penalty on leaf weights.
        gamma: smallest gain for which a node is split.
        min_child_weight: smallest sum of second derivatives on either side of a split; if left out so much that
            `minimum` rows stand there.
        subsample: share of the rows drawn for each tree; every site draws its own in secret.
        colsample_bytree: share of the columns drawn for each tree.
        max_bin: largest number of bins of a column; 64 if left out, or 16 where totals hold noise.
    """

    title = "boosted trees"
    label = "number"
    whole = False
    learns = LEARNS

    objective: Literal["logistic", "squared"] = "logistic"
    n_estimators: Count = 50
    max_depth: Depth = 4
    learning_rate: Share = 0.3
    reg_lambda: NotNegative = 1.0
    gamma: NotNegative = 0.0
    min_child_weight: NotNegative | None = None
    subsample: Share = 1.0
    colsample_bytree: Share = 1.0
    max_bin: Bins | None = None

    @property
    def wants(self) -> Label:
        """An event, or a number."""
        return "event" if self.objective == "logistic" else "number"

    async def fit(self, totals: Totals, here: Here) -> Fitted:
        """Fit; see `atoll.learn.horizontal.trees.forest.boost`."""
        from atoll.learn.horizontal.trees.forest import boost

        weight = self.min_child_weight
        if weight is None:  # a row's second derivative is at most 1/4, or 1
            weight = here.minimum / (4 if self.objective == "logistic" else 1)
        params = self.params(min_child_weight=weight, smallest=here.minimum)
        return kept_trees(here, await boost(totals, here.table, here.y, params, rng=here.rng))

    def params(self, **more: Any) -> BoostParams:
        """Return the keys as the algorithm takes them, with some that it needs besides."""
        from atoll.learn.horizontal.trees.params import BoostParams

        names = set(BoostParams.__struct_fields__) & set(self.__struct_fields__)
        return BoostParams(**{name: getattr(self, name) for name in names} | {"max_bin": self.max_bin or 64} | more)

    def predict(self, values: Mapping[str, Any], table: Columns) -> F64:
        """Return (n,) probabilities of the event, or expected numbers."""
        return _predict(values, table)


class Forest(Kind, frozen=True, tag="forest"):
    """Random forest, for a number or a label of 0 and 1.

    Attributes:
        n_estimators: number of trees.
        max_depth: depth of every tree.
        features: columns that each node may be split on: `sqrt`, `third` or `all` of them.
        bootstrap: whether every site draws its rows for each tree with replacement, in secret, or all are taken.
        max_bin: largest number of bins of a column.
    """

    title = "random forest"
    label = "number"
    whole = False
    learns = LEARNS

    n_estimators: Count = 50
    max_depth: Depth = 8
    features: Literal["sqrt", "third", "all"] = "sqrt"
    bootstrap: bool = True
    max_bin: Bins = 64

    async def fit(self, totals: Totals, here: Here) -> Fitted:
        """Fit; see `atoll.learn.horizontal.trees.forest.forest`.  Leaves hold `minimum` drawn rows at least."""
        from atoll.learn.horizontal.trees.forest import forest
        from atoll.learn.horizontal.trees.params import ForestParams

        params = ForestParams(
            n_estimators=self.n_estimators,
            max_depth=self.max_depth,
            min_rows=here.minimum,
            features=self.features,
            bootstrap=self.bootstrap,
            max_bin=self.max_bin,
            smallest=here.minimum,
        )
        return kept_trees(here, await forest(totals, here.table, here.y, params, rng=here.rng))

    def predict(self, values: Mapping[str, Any], table: Columns) -> F64:
        """Return (n,) expected labels."""
        return _predict(values, table)


def kept_trees(here: Here, model: ForestModel) -> Fitted:
    """Return what is kept of trees."""
    gains = model.importance()
    whole = sum(gains.values()) or 1.0
    grid = Grid("Columns", ("share of the gain",), {name: (gain / whole,) for name, gain in gains.items()})
    return Fitted(here.rows, msgspec.to_builtins(model), {"trees": float(len(model.trees))}, grids=(grid,))


def _predict(values: Mapping[str, Any], table: Columns) -> F64:
    from atoll.learn.horizontal.trees.forest import ForestModel

    return msgspec.convert(values, ForestModel).predict(table)
