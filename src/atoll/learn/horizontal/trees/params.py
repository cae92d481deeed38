"""What a person may choose about trees over sites; boosted trees under XGBoost's names, with XGBoost's meanings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import msgspec

from atoll.core.errors import InputError
from atoll.learn.vertical.trees.params import TreeParams

STEP = "trees over sites"


class BoostParams(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Parameters of boosted trees.

    Args:
        objective: logistic for a label of 0 and 1, or squared for a number.
        n_estimators: number of trees, at least 1.
        max_depth: depth of every tree, 1 to 12.
        learning_rate: factor on every leaf, in (0, 1].
        reg_lambda: L2 penalty on leaf weights, at least 0.
        gamma: smallest gain for which a node is split, at least 0.
        min_child_weight: smallest sum of second derivatives on either side of a split, at least 0.
        subsample: share of the rows drawn for each tree, in (0, 1]; every site draws its own in secret.
        colsample_bytree: share of the columns drawn for each tree, in (0, 1]; drawn alike at all sites from `seed`.
        max_bin: largest number of bins of a column, 2 to 65,534.
        smallest: fewest rows of a category with a bin of its own, at least 1.
        seed: where the draw of columns comes from; it is no secret.
    """

    objective: Literal["logistic", "squared"] = "logistic"
    n_estimators: int = 50
    max_depth: int = 4
    learning_rate: float = 0.3
    reg_lambda: float = 1.0
    gamma: float = 0.0
    min_child_weight: float = 1.0
    subsample: float = 1.0
    colsample_bytree: float = 1.0
    max_bin: int = 64
    smallest: int = 3
    seed: int = 0

    def __post_init__(self) -> None:
        self.splits  # noqa: B018  checks what both kinds of trees share
        _check_smallest(self.smallest)

    @property
    def splits(self) -> TreeParams:
        """The same in the form that the search for splits takes."""
        return TreeParams(
            n_estimators=self.n_estimators,
            max_depth=self.max_depth,
            learning_rate=self.learning_rate,
            reg_lambda=self.reg_lambda,
            gamma=self.gamma,
            min_child_weight=self.min_child_weight,
            subsample=self.subsample,
            colsample_bytree=self.colsample_bytree,
            max_bin=self.max_bin,
        )


class ForestParams(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Parameters of a random forest, for a label of 0 and 1 or a number.

    Args:
        n_estimators: number of trees, at least 1.
        max_depth: depth of every tree, 1 to 12.
        min_rows: fewest drawn rows of a leaf, at least 1.
        features: columns that each node may be split on: sqrt, third or all of them; drawn alike from `seed`.
        bootstrap: whether every site draws its rows with replacement (Poisson, in secret), or all are taken.
        max_bin: largest number of bins of a column, 2 to 65,534.
        smallest: fewest rows of a category with a bin of its own, at least 1.
        seed: where the draw of columns comes from; it is no secret.
    """

    n_estimators: int = 50
    max_depth: int = 8
    min_rows: int = 5
    features: Literal["sqrt", "third", "all"] = "sqrt"
    bootstrap: bool = True
    max_bin: int = 64
    smallest: int = 3
    seed: int = 0

    def __post_init__(self) -> None:
        self.splits  # noqa: B018  checks what both kinds of trees share
        _check_smallest(self.smallest)

    @property
    def splits(self) -> TreeParams:
        """The same in the form that the search for splits takes: squared loss, whose gain is that of Gini's index."""
        return TreeParams(
            n_estimators=self.n_estimators,
            max_depth=self.max_depth,
            learning_rate=1.0,
            reg_lambda=0.0,
            min_child_weight=float(self.min_rows),
            max_bin=self.max_bin,
        )

    def share(self, features: int) -> int:
        """Columns that each node may be split on."""
        shares: Mapping[str, float] = {"sqrt": features**0.5, "third": features / 3, "all": features}
        return max(1, int(shares[self.features]))


def _check_smallest(smallest: int) -> None:
    if smallest < 1:
        raise InputError("parameter smallest must be 1 or more", step=STEP, cure="Change it.")
