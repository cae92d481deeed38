"""Principal components over sites: from the exact covariance, or by subspace iteration for wide data.

What is revealed: the number of rows, means, spreads and the size of the columns; then all covariances, or for wide data
the products of the covariance with bases that all sites know.  With no more rows than columns the covariance would
show the rows up to a rotation, so a full covariance is refused then; rounds times directions beyond the number of rows
would show it too.

Source:
    Halko, Martinsson and Tropp, Finding structure with randomness, SIAM Review 2011, algorithm 4.4, on the covariance.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from typing import Literal

import msgspec
import numpy as np

from atoll.core.errors import InputError
from atoll.core.offload import offload
from atoll.crypto.random import Rng
from atoll.learn.horizontal.rows import F64, Missing, Rows, agree, blocks, same, settle
from atoll.learn.horizontal.scale import Scale, scale
from atoll.learn.horizontal.solve import pack, unpack
from atoll.protocols.secure_sum.totals import Totals

STEP = "principal components"


class PcaParams(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Parameters of principal components.

    Args:
        components: how many, at least 1.
        standardise: whether columns are brought to spread 1 first (correlations instead of covariances).
        solver: exact, or randomised for thousands of columns.
        oversample: randomised: directions beyond those wanted, 0 or more.
        rounds: randomised: iterations, at least 1; each brings the result nearer by the ratio of eigenvalues.
        seed: randomised: where the agreed random basis comes from; it is no secret.
        missing: `refuse` missing values, or `drop` their rows.
    """

    components: int
    standardise: bool = False
    solver: Literal["exact", "randomised"] = "exact"
    oversample: int = 10
    rounds: int = 8
    seed: int = 0
    missing: Missing = "refuse"

    def __post_init__(self) -> None:
        if min(self.components, self.rounds) < 1 or self.oversample < 0:
            what = "components and rounds must be 1 or more, and oversample 0 or more"
            raise InputError(what, step=STEP, cure="Change them.")


@dataclass(frozen=True)
class PcaModel:
    """Principal components of the rows of all sites.

    Args:
        mean: (p,) of the columns.
        unit: (p,) what columns are divided by: ones, or their spreads (divisor n).
        components: (k, p), orthonormal; the largest entry of each is positive, as in scikit-learn.
        variance: (k,) explained, with divisor n - 1, largest first.
        total: variance of all columns together.
    """

    mean: F64
    unit: F64
    components: F64
    variance: F64
    total: float

    @property
    def ratio(self) -> F64:
        """(k,) share of the variance that each explains."""
        return self.variance / self.total

    def transform(self, values: F64) -> F64:
        """Return (n, k) scores for (n, p) values."""
        return np.asarray((values - self.mean) / self.unit @ self.components.T)


async def fit(totals: Totals, X: Rows, params: PcaParams) -> PcaModel:
    """Find the principal components of the rows of all sites.

    Args:
        totals: the sum over the sites.
        X: this site's columns.
        params: the parameters, the same at every site.

    Raises:
        InputError: values are missing or infinite, all columns are constant, there are too few rows, or fewer columns
            than components.
    """
    X, _ = settle(X, None, params.missing, step=STEP)
    p = len(X.names)
    totals, rows = await agree(totals, params, X.names, len(X.values), step=STEP)
    wide = params.solver == "randomised"
    if params.components > min(p, rows - 1) or (rows <= p and not wide):
        what = f"{rows:,} rows and {p:,} columns do not give {params.components} components"
        raise InputError(what, step=STEP, cure="Ask for fewer, leave columns out, or take the randomised solver.")
    frame = await scale(totals, X.values, rows, step=STEP)
    if not (frame.spread > 0).any():
        raise InputError("all columns are constant", step=STEP, cure="Take others.")
    unit = frame.unit if params.standardise else np.full(p, frame.spread.max())
    frame = Scale(frame.mean, frame.mean, unit, frame.exponent)  # spread 1 for each column, or one unit for all
    variance = float(((await _diagonal(totals, X.values, frame)) / (rows - 1)).sum())
    find = _randomised if wide else _exact
    values, vectors = await find(totals, X.values, frame, params)
    vectors = vectors[:, : params.components].T
    top = vectors[np.arange(len(vectors)), np.abs(vectors).argmax(axis=1)]
    vectors = vectors * np.sign(top)[:, None]
    back = 1.0 if params.standardise else float(unit[0])
    values = np.maximum(values[: params.components], 0.0) / (rows - 1) * back * back
    values, vectors = await same(totals, values, vectors, step=STEP)
    shown = unit if params.standardise else np.ones(p)
    return PcaModel(frame.mean, shown, vectors, values, variance * back * back)


async def _diagonal(totals: Totals, values: F64, frame: Scale) -> F64:
    sums = np.zeros(values.shape[1])
    for block in blocks(len(values)):
        Z = frame.apply(values[block])
        sums += np.einsum("ij,ij->j", Z, Z)
    return await totals.total(sums, what=f"{STEP}: squares")


async def _exact(totals: Totals, values: F64, frame: Scale, params: PcaParams) -> tuple[F64, F64]:
    """Eigenvalues, largest first, and eigenvectors, (p, p), of Z'Z."""
    p = values.shape[1]

    def mine() -> F64:
        sums = np.zeros((p, p))
        for block in blocks(len(values)):
            Z = frame.apply(values[block])
            sums += Z.T @ Z
        return pack(sums)

    sums = unpack(await totals.total(await offload(mine), what=f"{STEP}: products"), p)
    found, vectors = np.linalg.eigh(sums)
    return found[::-1], vectors[:, ::-1]


async def _randomised(totals: Totals, values: F64, frame: Scale, params: PcaParams) -> tuple[F64, F64]:
    """Leading eigenvalues and eigenvectors of Z'Z: multiply a random basis by it, and make it orthonormal, again."""
    p = values.shape[1]
    Q = np.linalg.qr(_basis(p, min(params.components + params.oversample, p), params.seed))[0]
    for _ in range(params.rounds):
        (Q,) = await same(totals, Q, step=STEP)  # the bases of two processors would drift apart
        S = await _times(totals, values, frame, Q)
        Q = np.linalg.qr(S)[0]
    (Q,) = await same(totals, Q, step=STEP)
    small = Q.T @ await _times(totals, values, frame, Q)
    found, turn = np.linalg.eigh((small + small.T) / 2)
    return found[::-1], Q @ turn[:, ::-1]


async def _times(totals: Totals, values: F64, frame: Scale, Q: F64) -> F64:
    """Add up Z'(Z Q), (p, k)."""

    def mine() -> F64:
        sums = np.zeros(Q.shape)
        for block in blocks(len(values)):
            Z = frame.apply(values[block])
            sums += Z.T @ (Z @ Q)
        return sums.ravel()

    flat = await totals.total(await offload(mine), what=f"{STEP}: covariance times a known basis")
    return flat.reshape(Q.shape)


def _basis(p: int, k: int, seed: int) -> F64:
    """Normal numbers that all sites draw alike, (p, k); they are public."""
    rng = Rng(hashlib.sha256(f"atoll/pca/{seed}".encode()).digest())
    u = ((rng.u64(2, p, k) >> np.uint64(12)).astype(np.float64) + 0.5) * 2.0**-52
    return np.asarray(np.sqrt(-2 * np.log(u[0])) * np.cos(2 * math.pi * u[1]))
