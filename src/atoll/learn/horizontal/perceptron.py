"""Rosenblatt's perceptron over sites: in every round all rows on the wrong side pull the weights at once.

The weights with the fewest errors so far are kept (Gallant's pocket), so that the result is of use where no line parts
the classes.

What is revealed: the number of rows, means and spreads of the columns; in every round the number of errors and the sum
of the scaled columns of rows on the wrong side, with their sign, for weights that all sites know.

Source:
    Rosenblatt 1958; Gallant, Perceptron-based learning algorithms, IEEE Transactions on Neural Networks 1990.
"""

from __future__ import annotations

from dataclasses import dataclass

import msgspec
import numpy as np

from atoll.core.errors import InputError
from atoll.core.offload import offload
from atoll.learn.horizontal.inference import back, design
from atoll.learn.horizontal.rows import F64, Missing, Rows, agree, blocks, same, settle
from atoll.learn.horizontal.scale import scale
from atoll.protocols.secure_sum.totals import Totals

STEP = "perceptron"


class PerceptronParams(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Parameters of a perceptron.

    Args:
        rounds: rounds at most, at least 1; it stops earlier once no row is on the wrong side.
        missing: `refuse` missing values, or `drop` their rows.
    """

    rounds: int = 100
    missing: Missing = "refuse"

    def __post_init__(self) -> None:
        if self.rounds < 1:
            raise InputError("parameter rounds must be 1 or more", step=STEP, cure="Change it.")


@dataclass(frozen=True)
class PerceptronModel:
    """A fitted perceptron.

    Args:
        weights: (p,) in the columns' units.
        intercept: above 0 in all means label 1.
        errors: rows of all sites on the wrong side.
        rounds: how many there were.
    """

    weights: F64
    intercept: float
    errors: int
    rounds: int

    def decide(self, values: F64) -> F64:
        """Return (n,) decision values for (n, p) values; above 0 means label 1."""
        return np.asarray(values @ self.weights + self.intercept)


async def fit(totals: Totals, X: Rows, y: F64, params: PerceptronParams) -> PerceptronModel:
    """Fit a perceptron on the rows of all sites.

    Columns are brought to mean 0 and spread 1 over all sites, behind a column of ones.  From weights of 0, every round
    adds the mean over all rows of sign × columns of those with sign × decision at most 0.

    Args:
        totals: the sum over the sites.
        X: this site's columns.
        y: (n,) this site's label, 0 or 1.
        params: the parameters, the same at every site.

    Raises:
        InputError: values are missing or infinite, or a label is neither 0 nor 1.
    """
    X, y = settle(X, y, params.missing, step=STEP)
    if not np.isin(y, (0, 1)).all():
        raise InputError("a label is neither 0 nor 1", step=STEP, column="label", cure="Code it as 0 and 1.")
    totals, rows = await agree(totals, params, X.names, len(y), step=STEP)
    frame = await scale(totals, X.values, rows, step=STEP)

    def mine(w: F64) -> F64:
        sums = np.zeros(w.size + 1)
        for block in blocks(len(y)):
            Z, sign = design(X.values[block], frame, True), 2 * y[block] - 1
            wrong = sign * (Z @ w) <= 0
            sums += np.append(Z[wrong].T @ sign[wrong], np.count_nonzero(wrong))
        return sums

    w = best = np.zeros(len(X.names) + 1)
    fewest, rounds = rows + 1, 0
    while True:
        flat = await totals.total(await offload(mine, w), what=f"{STEP}: rows on the wrong side")
        if flat[-1] < fewest:
            fewest, best = int(flat[-1]), w
        if fewest == 0 or rounds == params.rounds:
            break
        w, rounds = w + flat[:-1] / rows, rounds + 1
    (shown,) = await same(totals, back(frame, True) @ best, step=STEP)
    return PerceptronModel(shown[1:], float(shown[0]), fewest, rounds)
