"""Linear support vector machine over sites: squared hinge by Newton's method; equal to the pooled fit.

The objective is that of scikit-learn's `LinearSVC(dual=False)`: ½ |w|² + C Σ max(0, 1 - y f)², the intercept being the
weight of one more column that is 1 everywhere, and penalised like the others.

What is revealed: the classes and how many rows have each; sums, squares and the size of every column; in each of about
ten rounds the loss with its gradient and the products of columns over the rows inside the margin, for weights that all
sites know.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import msgspec
import numpy as np

from atoll.core.errors import InputError
from atoll.core.offload import offload
from atoll.learn.horizontal.classes import classes
from atoll.learn.horizontal.inference import INTERCEPT, back, design
from atoll.learn.horizontal.newton import Point, descend
from atoll.learn.horizontal.rows import F64, Missing, Rows, agree, blocks, same, settle
from atoll.learn.horizontal.scale import Scale, scale
from atoll.learn.horizontal.solve import pack, unpack
from atoll.protocols.secure_sum.totals import Totals

STEP = "linear SVM"


class SvmParams(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Parameters of a linear support vector machine.

    Args:
        C: weight of the loss against the penalty, above 0.
        intercept: whether there is one.
        most: steps before giving up, at least 1.
        missing: `refuse` missing values, or `drop` their rows.
    """

    C: float = 1.0
    intercept: bool = True
    most: int = 200
    missing: Missing = "refuse"

    def __post_init__(self) -> None:
        if not (math.isfinite(self.C) and self.C > 0):
            raise InputError(f"parameter C is {self.C!r}, but must be above 0", step=STEP, cure="Change it.")


@dataclass(frozen=True)
class SvmModel:
    """A fitted linear support vector machine.

    Args:
        classes: (K,) ascending.
        weights: (K, p), each class against the rest; with two classes (1, p), the second against the first.
        intercepts: (K,) or (1,).
        loss: the objective, summed over the machines.
    """

    classes: F64
    weights: F64
    intercepts: F64
    loss: float

    def decide(self, values: F64) -> F64:
        """Return (n, K) or (n, 1) decision values for (n, p) values."""
        return np.asarray(values @ self.weights.T + self.intercepts)

    def predict(self, values: F64) -> F64:
        """Return (n,) classes for (n, p) values."""
        f = self.decide(values)
        found: F64 = self.classes[(f[:, 0] > 0).astype(np.int64) if f.shape[1] == 1 else f.argmax(axis=1)]
        return found


async def fit(totals: Totals, X: Rows, y: F64, params: SvmParams) -> SvmModel:
    """Fit a linear support vector machine on the rows of all sites, one for each class if there are more than two.

    Args:
        totals: the sum over the sites.
        X: this site's columns.
        y: (n,) this site's classes as numbers.
        params: the parameters, the same at every site.

    Raises:
        InputError: values are missing or infinite, or there is one class.
    """
    X, y = settle(X, y, params.missing, step=STEP)
    totals, rows = await agree(totals, params, X.names, len(y), step=STEP)
    found, codes = await classes(totals, y, step=STEP)
    frame = await scale(totals, X.values, rows, centred=params.intercept, step=STEP)
    wanted = [1] if found.size == 2 else range(found.size)
    machines, loss = [], 0.0
    for c in wanted:
        w, value = await _machine(totals, X, np.where(codes == c, 1.0, -1.0), frame, params)
        machines.append(w)
        loss += value
    (table,) = await same(totals, np.array(machines), step=STEP)
    weights, intercepts = (table[:, 1:], table[:, 0]) if params.intercept else (table, np.zeros(len(table)))
    return SvmModel(found, weights, intercepts, loss)


async def _machine(totals: Totals, X: Rows, sign: F64, frame: Scale, params: SvmParams) -> tuple[F64, float]:
    """Weights, behind the intercept if there is one, and the objective of one machine; signs are -1 and 1."""
    T = back(frame, params.intercept)
    penalty, k = T.T @ T, len(T)

    def mine(g: F64) -> F64:
        sums = np.zeros(1 + k + k * (k + 1) // 2)
        for block in blocks(len(sign)):
            Z = design(X.values[block], frame, params.intercept)
            slack = 1 - sign[block] * (Z @ g)
            inside = slack > 0
            Z, slack, s = Z[inside], slack[inside], sign[block][inside]
            sums += np.concatenate([[slack @ slack], Z.T @ (s * slack), pack(Z.T @ Z)])
        return sums

    async def evaluate(g: F64) -> Point:
        flat = await totals.total(await offload(mine, g), what=f"{STEP}: loss and derivatives")
        value = float(g @ penalty @ g) / 2 + params.C * float(flat[0])
        hessian = penalty + 2 * params.C * unpack(flat[1 + k :], k)
        return Point(value, 2 * params.C * flat[1 : 1 + k] - penalty @ g, hessian, np.zeros(0))

    names = (INTERCEPT, *X.names)[-k:]
    g, point = await descend(evaluate, np.zeros(k), names, most=params.most, step=STEP)
    return T @ g, point.value
