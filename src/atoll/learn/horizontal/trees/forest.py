"""Boosted trees and random forests over the rows of many sites.

What is revealed: the number of rows, the bins (see `bins`), the mean of the label; for every node of every tree sums of
derivatives by bin of every column, and of whole leaves.  A node with few rows shows much about them: `min_child_weight`
or `min_rows` keeps nodes large.  Which rows a site has drawn, and where its rows lie, stays with it.

All sums are exact, so the trees are those of one site with all rows, split by split.

Source:
    Chen and Guestrin, XGBoost, KDD 2016; Breiman, Random forests, Machine Learning 2001.
"""

from __future__ import annotations

import hashlib
import math
from typing import Literal

import msgspec
import numpy as np

from atoll.core.errors import InputError
from atoll.crypto.random import Rng
from atoll.data.columns import Columns
from atoll.learn.horizontal.rows import F64, I64, Bool, agree
from atoll.learn.horizontal.scale import exponents
from atoll.learn.horizontal.trees.bins import code_table, fit_bins
from atoll.learn.horizontal.trees.grow import Allowed, Tree, grow, leaves
from atoll.learn.horizontal.trees.params import STEP, BoostParams, ForestParams
from atoll.learn.vertical.trees.binning import ColumnBins
from atoll.learn.vertical.trees.objective import probability
from atoll.protocols.secure_sum.totals import Totals

_POISSON = np.cumsum([math.exp(-1) / math.factorial(k) for k in range(18)])


class ForestModel(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Trees with the bins that they look at.

    Args:
        kind: logistic or squared (boosted trees, added up), or forest (trees, averaged).
        columns: the bins of every column.
        trees: the trees.
        depth: levels of splits in a tree at most.
        base: what is predicted without trees: log-odds for logistic, else the mean of the label.
        unit: label units of a leaf's weight.
    """

    kind: Literal["logistic", "squared", "forest"]
    columns: tuple[ColumnBins, ...]
    trees: tuple[Tree, ...]
    depth: int
    base: float
    unit: float

    def predict(self, table: Columns) -> F64:
        """Return (n,) probabilities of label 1 (logistic), or expected labels.

        Raises:
            InputError: a column is not there, of another kind, or infinite somewhere.
        """
        binned, added = code_table(table, self.columns), np.zeros(table.rows)
        for tree in self.trees:
            added += np.array(tree.weight)[leaves(tree, binned, self.depth)]
        if self.kind == "forest":
            return np.asarray(added * (self.unit / len(self.trees)))
        margin = self.base + added * self.unit
        return probability(margin) if self.kind == "logistic" else margin

    def importance(self) -> dict[str, float]:
        """Return the sum of gains of every column's splits, largest first."""
        gains = dict.fromkeys((one.name for one in self.columns), 0.0)
        for tree in self.trees:
            for left, feature, gain in zip(tree.left, tree.feature, tree.gain, strict=True):
                gains[self.columns[feature].name] += gain * self.unit**2 if left >= 0 else 0.0
        return dict(sorted(gains.items(), key=lambda item: -item[1]))


async def boost(totals: Totals, table: Columns, y: F64, params: BoostParams, *, rng: Rng) -> ForestModel:
    """Fit boosted trees on the rows of all sites.

    Args:
        totals: the sum over the sites.
        table: this site's columns; missing values may stand in them.
        y: (n,) this site's label: 0 and 1 (logistic), or numbers (squared).
        params: the parameters, the same at every site.
        rng: this site's own randomness, for `subsample`.

    Raises:
        InputError: a label or a column cannot be used, or sites differ in columns or parameters.
    """
    totals, rows, mean, unit = await _start(totals, table, y, params, binary=params.objective == "logistic")
    columns = await fit_bins(totals, table, max_bin=params.max_bin, smallest=params.smallest)
    binned, public = code_table(table, columns), public_draws(params.seed)
    logistic = params.objective == "logistic"
    if logistic and mean in (0, 1):
        raise InputError("all rows of all sites have one label", step=STEP, column="label", cure="Look at the label.")
    base = math.log(mean / (1 - mean)) if logistic else mean
    margin, label, trees = np.full(y.size, base / unit), y / unit, []
    drawn = max(1, int(params.colsample_bytree * len(columns)))
    splits = msgspec.structs.replace(params.splits, gamma=params.gamma / unit**2)
    for _ in range(params.n_estimators):
        if logistic:
            p = probability(margin)
            g, h = _on_grid(p - label, rows), _on_grid(p * (1 - p), rows)
        else:
            g, h = _on_grid(margin - label, rows), np.ones(y.size)
        if params.subsample < 1:
            taken = rng.u32(y.size) < np.uint64(params.subsample * 2.0**32)
            g, h = np.where(taken, g, 0.0), np.where(taken, h, 0.0)
        features = draw_features(public, 1, len(columns), drawn)
        tree, at = await grow(totals, binned, g, h, splits, _for_all_nodes(features))
        margin = margin + np.array(tree.weight)[at]
        trees.append(tree)
    return ForestModel(params.objective, columns, tuple(trees), params.max_depth, base, unit)


async def forest(totals: Totals, table: Columns, y: F64, params: ForestParams, *, rng: Rng) -> ForestModel:
    """Fit a random forest on the rows of all sites.

    Args:
        totals: the sum over the sites.
        table: this site's columns; missing values may stand in them.
        y: (n,) this site's label: 0 and 1, or numbers.
        params: the parameters, the same at every site.
        rng: this site's own randomness, for the rows that each tree draws.

    Raises:
        InputError: a label or a column cannot be used, or sites differ in columns or parameters.
    """
    totals, rows, mean, unit = await _start(totals, table, y, params, binary=False)
    columns = await fit_bins(totals, table, max_bin=params.max_bin, smallest=params.smallest)
    binned, public = code_table(table, columns), public_draws(params.seed)
    share, label, trees = params.share(len(columns)), _on_grid(y / unit, 16 * rows), []
    for _ in range(params.n_estimators):
        weight = _poisson(rng, y.size) if params.bootstrap else np.ones(y.size)
        tree, _ = await grow(
            totals, binned, -weight * label, weight, params.splits,
            lambda level: draw_features(public, level.size, len(columns), share),
        )  # fmt: skip
        trees.append(tree)
    return ForestModel("forest", columns, tuple(trees), params.max_depth, mean, unit)


async def _start(
    totals: Totals, table: Columns, y: F64, params: BoostParams | ForestParams, *, binary: bool
) -> tuple[Totals, int, float, float]:
    """Check the label; return steady totals, rows and mean over all sites, and a power of two above every label."""
    if y.shape != (table.rows,):
        raise InputError(f"{table.rows:,} rows have labels of shape {y.shape}", step=STEP, column="label")
    if not np.isfinite(y).all():
        cure = "Fill missing labels, or leave their rows out."
        raise InputError("a label is missing or infinite", step=STEP, column="label", cure=cure)
    if binary and not np.isin(y, (0, 1)).all():
        raise InputError("a label is neither 0 nor 1", step=STEP, column="label", cure="Code it so, or use squared.")
    kinds = tuple(f"{column.kind}: {column.name}" for column in table)
    totals, rows = await agree(totals, params, kinds, table.rows, step=STEP)
    unit = 1.0 if binary else await _unit(totals, y)
    total = await totals.total(np.array([_on_grid(y / unit, rows, 52).sum()]), what=f"{STEP}: mean of the label")
    return totals, rows, float(total[0]) / rows * unit, unit


async def _unit(totals: Totals, y: F64) -> float:
    return float(2.0 ** int((await exponents(totals, y[:, None], step=STEP))[0]))


def _on_grid(values: F64, rows: int, bits: int = 30) -> F64:
    """Round values, at most 4 in size, to a grid on which the sum of so many is exact."""
    grid = 2.0 ** min(bits, 50 - math.ceil(math.log2(max(rows, 2))))
    return np.rint(np.clip(values, -4.0, 4.0) * grid) / grid


def public_draws(seed: int) -> Rng:
    """What all sites draw alike."""
    return Rng(hashlib.sha256(f"atoll/trees/{seed}".encode()).digest())


def draw_features(public: Rng, nodes: int, features: int, count: int) -> Bool:
    """Draw `count` of the features for every node, (nodes, features)."""
    if count >= features:
        return np.ones((nodes, features), np.bool_)
    order: I64 = np.argsort(public.u64(nodes, features), axis=1, kind="stable")
    out = np.zeros((nodes, features), np.bool_)
    np.put_along_axis(out, order[:, :count], True, axis=1)
    return out


def _for_all_nodes(features: Bool) -> Allowed:
    """Allow every node of a tree the same features, (1, F)."""
    return lambda level: np.repeat(features, level.size, axis=0)


def _poisson(rng: Rng, n: int) -> F64:
    """Draw Poisson numbers with mean 1, (n,), at most 16: how often a row comes up in a bootstrap."""
    uniform = (rng.u64(n) >> np.uint64(11)).astype(np.float64) * 2.0**-53
    return np.minimum(np.searchsorted(_POISSON, uniform, side="right"), 16).astype(np.float64)
