"""What a person may choose about boosted trees, under XGBoost's names and with XGBoost's meanings."""

from __future__ import annotations

import math
from collections.abc import Mapping

import msgspec

from atoll.core.errors import InputError

MAX_BINS = 65_534
"""Bin numbers travel in 16 bits, and one of them is the missing bin."""


class TreeParams(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Parameters of vertical boosted trees for a yes/no label; checked once, when they are made.

    Args:
        n_estimators: Number of trees, at least 1.
        max_depth: Depth of every tree, 1 to 12.
        learning_rate: Factor on every leaf, in (0, 1].
        reg_lambda: L2 penalty λ on leaf weights, at least 0.
        gamma: Smallest gain for which a node is split, at least 0.
        min_child_weight: Smallest sum of second derivatives on either side of a split, at least 0.
        subsample: Share of the training rows drawn for each tree, in (0, 1].
        colsample_bytree: Share of the features (of all sites together) drawn for each tree, in (0, 1].
        max_bin: Largest number of bins of a column, 2 to 65,534; bytes grow with it.
        scale_pos_weight: Weight of positive rows, above 0.
        base_score: Probability before the first tree, in (0, 1); if left out, taken from the training labels as
            XGBoost does.
        early_stopping_rounds: Stop after so many trees without a better validation log-loss; never if left out.
        min_node: Sums over other sites' bins are opened for so many rows or more, and no sums of fewer follow from
            them; smaller nodes are split on own features only. 20 × `max_bin` if left out.
        min_bin: Bins with fewer rows are merged with their neighbours before anything is computed.
        pad_shape: Send the same number of vectors and splits at every level, so that tree shapes stay hidden.

    Raises:
        InputError: A value lies outside its range.
    """

    n_estimators: int = 10
    max_depth: int = 4
    learning_rate: float = 0.3
    reg_lambda: float = 1.0
    gamma: float = 0.0
    min_child_weight: float = 1.0
    subsample: float = 1.0
    colsample_bytree: float = 1.0
    max_bin: int = 32
    scale_pos_weight: float = 1.0
    base_score: float | None = None
    early_stopping_rounds: int | None = None
    min_node: int | None = None
    min_bin: int = 20
    pad_shape: bool = False

    def __post_init__(self) -> None:
        for name, (low, high, open_low, open_high) in _RANGES.items():
            value = getattr(self, name)
            if value is None and name in _OPTIONAL:
                continue
            if not _is_number(value, whole=name in _WHOLE) or not _within(value, low, high, open_low, open_high):
                kind = "a whole number" if name in _WHOLE else "a number"
                interval = f"{'(' if open_low else '['}{low:g}, {high:g}{')' if open_high else ']'}"
                raise InputError(
                    f"parameter {name} is {value!r}, but must be {kind} in {interval}",
                    step="trees",
                    cure=f"Change {name} in the job.",
                )
        if not isinstance(self.pad_shape, bool):
            raise InputError("parameter pad_shape must be true or false", step="trees", cure="Change it in the job.")

    @property
    def smallest_node(self) -> int:
        """Fewest rows whose sums over other sites' bins are opened."""
        return 20 * self.max_bin if self.min_node is None else self.min_node

    @property
    def vectors(self) -> int:
        """Most vectors this job can send to one feature holder: two for each queried node, 2^(depth − 1) a tree."""
        return self.n_estimators * (1 << self.max_depth)


_INF = math.inf
_RANGES: Mapping[str, tuple[float, float, bool, bool]] = {  # low, high, low excluded, high excluded
    "n_estimators": (1, 100_000, False, False),
    "max_depth": (1, 12, False, False),
    "learning_rate": (0, 1, True, False),
    "reg_lambda": (0, _INF, False, True),
    "gamma": (0, _INF, False, True),
    "min_child_weight": (0, _INF, False, True),
    "subsample": (0, 1, True, False),
    "colsample_bytree": (0, 1, True, False),
    "max_bin": (2, MAX_BINS, False, False),
    "scale_pos_weight": (0, 1e6, True, False),
    "base_score": (0, 1, True, True),
    "early_stopping_rounds": (1, 100_000, False, False),
    "min_node": (1, _INF, False, True),
    "min_bin": (1, _INF, False, True),
}
_WHOLE = frozenset({"n_estimators", "max_depth", "max_bin", "early_stopping_rounds", "min_node", "min_bin"})
_OPTIONAL = frozenset({"base_score", "early_stopping_rounds", "min_node"})


def _is_number(value: object, *, whole: bool) -> bool:
    kinds = (int,) if whole else (int, float)
    return isinstance(value, kinds) and not isinstance(value, bool)


def _within(value: float, low: float, high: float, open_low: bool, open_high: bool) -> bool:
    return (low < value if open_low else low <= value) and (value < high if open_high else value <= high)
