"""Estimators with the manners of scikit-learn, over columns that stay at several sites."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from atoll.core.errors import InputError
from atoll.crypto.random import Rng
from atoll.data.columns import Columns
from atoll.data.frames import table_of
from atoll.learn.vertical.trees.params import TreeParams
from atoll.notebook.simulation import Frames, run
from atoll.protocols.together import together
from atoll.transport.memory import memory_pair


@dataclass
class VerticalBoostedTreesClassifier:
    """Boosted trees over columns that stay at several sites, with the manners of scikit-learn.

    `X` maps each site to its table; row i of every table is the same person. The first site holds the label, or
    the one that `label_site` names. Parameters have XGBoost's names and meaning.
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
    label_site: str = ""
    reveals_rows: bool = False

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Return the parameters by name."""
        return {name: getattr(self, name) for name in self.__dataclass_fields__}

    def set_params(self, **params: Any) -> VerticalBoostedTreesClassifier:
        """Change parameters by name.

        Raises:
            InputError: an unknown name.
        """
        known = self.get_params()
        for name, value in params.items():
            if name not in known:
                raise InputError(f"there is no parameter {name!r}", cure=f"Known are {', '.join(known)}.")
            setattr(self, name, value)
        return self

    def fit(self, X: Frames, y: ArrayLike, *, validation: ArrayLike | None = None) -> VerticalBoostedTreesClassifier:
        """Train.

        Args:
            X: for each site its table, n rows in the same order.
            y: (n,) 0 or 1, known to the label site only.
            validation: (n,) rows that are measured and not trained on.

        Raises:
            AtollError: as a job does.
        """
        params = TreeParams(**{name: getattr(self, name) for name in TreeParams.__struct_fields__})
        tables, hub = self._tables(X)
        label = np.asarray(y)
        held = np.zeros(len(label), np.bool_) if validation is None else np.asarray(validation, np.bool_)
        self.sites_, self.hub_, self.classes_ = tuple(tables), hub, np.array([0, 1])
        self.parts_, self.history_ = run(_fit(tables, hub, label, held, params, self.reveals_rows))
        self.n_features_in_ = sum(len(table) for table in tables.values())
        return self

    def predict_proba(self, X: Frames) -> NDArray[np.float64]:
        """Return (n, 2) probabilities of label 0 and 1."""
        if not hasattr(self, "parts_"):
            raise InputError("the model has not been trained", cure="Call fit first.")
        tables, _ = self._tables(X)
        score = run(_predict(tables, self.hub_, self.parts_))
        return np.column_stack([1.0 - score, score])

    def predict(self, X: Frames) -> NDArray[np.int64]:
        """Return (n,) 0 or 1, at probability one half."""
        return (self.predict_proba(X)[:, 1] >= 0.5).astype(np.int64)

    def score(self, X: Frames, y: ArrayLike) -> float:
        """Return the share of rows that `predict` gets right."""
        return float(np.mean(self.predict(X) == np.asarray(y)))

    def _tables(self, X: Frames) -> tuple[dict[str, Columns], str]:
        tables = {name: table_of(frame).columns for name, frame in X.items()}
        if len(tables) < 2 or len({table.rows for table in tables.values()}) != 1:
            raise InputError("X must have at least two sites with equally many rows", cure="Align them by `simulate`.")
        hub = self.label_site or next(iter(tables))
        if hub not in tables:
            raise InputError(f"there is no site {hub!r} in X", cure=f"There are {', '.join(tables)}.")
        return tables, hub


async def _fit(
    tables: Mapping[str, Columns], hub: str, label: Any, held: Any, params: TreeParams, reveals: bool
) -> tuple[dict[str, Any], Any]:
    from atoll.learn.vertical.trees.protocol import feature_holder, label_holder

    pairs = {name: memory_pair(hub, name, timeout=600.0) for name in tables if name != hub}
    peers = {name: pair[0] for name, pair in pairs.items()}
    options: dict[str, Any] = {"reveals_rows": reveals}
    (own, history), *others = await together(
        label_holder(peers, tables[hub], label, held, params, rng=Rng.system(), **options),
        *(feature_holder(pair[1], tables[n], params, rng=Rng.system(), **options) for n, pair in pairs.items()),
    )
    return {hub: own, **dict(zip(pairs, others, strict=True))}, history


async def _predict(tables: Mapping[str, Columns], hub: str, parts: Mapping[str, Any]) -> NDArray[np.float64]:
    from atoll.learn.vertical.trees.predict import predict_feature_holder, predict_label_holder

    pairs = {name: memory_pair(hub, name, timeout=600.0) for name in tables if name != hub}
    peers = {name: pair[0] for name, pair in pairs.items()}
    score, *_ = await together(
        predict_label_holder(peers, parts[hub], tables[hub], rng=Rng.system()),
        *(predict_feature_holder(pair[1], parts[n], tables[n], rng=Rng.system()) for n, pair in pairs.items()),
    )
    return np.asarray(score, np.float64)
