"""k-means over sites: k-means++ seeding and Lloyd's iterations, all by sums.

Seeds are drawn among the rows of all sites with the probabilities of the pooled k-means++ by a race: every row draws
its own finishing time, exponential with rate its squared distance, and the first of all rows wins.  The sites look for
the winner's time bit by bit; its site then opens the mean of the winner's nearest rows there.

What is revealed: the number of rows, and means and spreads of the columns; for every seed the winning time, at how
many sites the best time lies below each bound, and the seed, a mean of `seed_rows` rows of one site (of all its rows,
if it has fewer); in every iteration count, sum and squared distances of every cluster, and how many rows have moved.
With `seed_rows` 1 seeds are rows of people.

Source:
    Arthur and Vassilvitskii, k-means++, SODA 2007; Efraimidis and Spirakis, Weighted random sampling with a reservoir,
    2006, for the race.
"""

from __future__ import annotations

from dataclasses import dataclass

import msgspec
import numpy as np

from atoll.core.errors import InputError
from atoll.core.offload import offload
from atoll.crypto.random import Rng
from atoll.learn.horizontal.classes import one_hot
from atoll.learn.horizontal.order import keys_of, largest
from atoll.learn.horizontal.rows import F64, I64, Missing, Rows, agree, blocks, settle
from atoll.learn.horizontal.scale import Scale, scale
from atoll.protocols.secure_sum.totals import Totals

STEP = "k-means"


class KMeansParams(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Parameters of k-means.

    Args:
        clusters: k, at least 1.
        start: k centres of p values to start from; drawn by k-means++ if left out.
        seed_rows: rows whose mean is a seed, at least 1; the textbook's is 1.
        most: iterations at most, at least 1.
        tolerance: stop when centres move less in all, squared, than this share of the columns' mean variance.
        missing: `refuse` missing values, or `drop` their rows.
    """

    clusters: int
    start: tuple[tuple[float, ...], ...] = ()
    seed_rows: int = 5
    most: int = 300
    tolerance: float = 1e-4
    missing: Missing = "refuse"

    def __post_init__(self) -> None:
        if min(self.clusters, self.seed_rows, self.most) < 1 or not self.tolerance >= 0:
            what = "clusters, seed_rows and most must be 1 or more, and tolerance 0 or more"
            raise InputError(what, step=STEP, cure="Change them.")
        if self.start and len(self.start) != self.clusters:
            what = f"{len(self.start)} centres are given for {self.clusters} clusters"
            raise InputError(what, step=STEP, cure="Give one centre for each cluster.")


@dataclass(frozen=True)
class KMeansModel:
    """Clusters of the rows of all sites.

    Args:
        centres: (k, p); a cluster that lost all its rows stays where it was.
        counts: (k,) rows in each.
        inertia: sum of squared distances of rows to their centres.
        iterations: how many there were.
    """

    centres: F64
    counts: I64
    inertia: float
    iterations: int

    def predict(self, values: F64) -> I64:
        """Return (n,) the nearest centre's number for (n, p) values."""
        out = np.empty(len(values), np.int64)
        for block in blocks(len(values)):
            out[block] = _distances(values[block], self.centres).argmin(axis=1)
        return out


async def fit(totals: Totals, X: Rows, params: KMeansParams, *, rng: Rng) -> KMeansModel:
    """Cluster the rows of all sites.

    Args:
        totals: the sum over the sites.
        X: this site's columns.
        params: the parameters, the same at every site.
        rng: this site's own randomness, for the race.

    Raises:
        InputError: values are missing or infinite, there are fewer rows than clusters, or starts are of another width.
    """
    X, _ = settle(X, None, params.missing, step=STEP)
    totals, rows = await agree(totals, params, X.names, len(X.values), step=STEP)
    if rows < params.clusters:
        cure = "Ask for fewer."
        raise InputError(f"{rows:,} rows are too few for {params.clusters} clusters", step=STEP, cure=cure)
    if any(len(centre) != len(X.names) for centre in params.start):
        raise InputError(f"a start does not have {len(X.names)} values", step=STEP, cure="Give one for each column.")
    frame = await scale(totals, X.values, rows, step=STEP)
    # one unit for all columns, so that distances keep their meaning
    unit = 2.0 ** int(np.frexp(frame.spread.max() or 1.0)[1])
    values = (X.values - frame.centre) / unit
    if params.start:
        centres = (np.array(params.start, np.float64) - frame.centre) / unit
    else:
        centres = await _seeds(totals, values, params, rng)
    goal = params.tolerance * float(np.mean((frame.spread / unit) ** 2))
    centres, counts, inertia, iterations = await _lloyd(totals, values, centres, goal, params.most)
    return KMeansModel(_back(centres, frame, unit), counts.astype(np.int64), inertia * unit * unit, iterations)


def _back(centres: F64, frame: Scale, unit: float) -> F64:
    return centres * unit + frame.centre


def _distances(values: F64, centres: F64) -> F64:
    """Squared distances, (n, k), from differences: no digits are lost far from zero."""
    out = np.empty((len(values), len(centres)))
    for j, centre in enumerate(centres):
        d = values - centre
        out[:, j] = np.einsum("np,np->n", d, d)
    return out


async def _seeds(totals: Totals, values: F64, params: KMeansParams, rng: Rng) -> F64:
    """Draw k rows, each with a probability in proportion to its squared distance to the nearest one before."""
    weight = np.ones(len(values))
    seeds: list[F64] = []
    for number in range(params.clusters):
        uniform = ((rng.u64(len(values)) >> np.uint64(12)).astype(np.float64) + 0.5) * 2.0**-52
        with np.errstate(divide="ignore"):
            finish = -np.log(uniform) / weight
        finish = np.where(np.isfinite(finish), finish, np.finfo(np.float64).max)  # a row that is a seed comes last
        key = np.uint64((~keys_of(finish)).max(initial=0))
        first = await largest(totals, np.array([key]), what=f"{STEP}: race for seed {number + 1}")
        share = np.zeros(values.shape[1] + 1)
        if key == first[0]:
            winner = values[finish.argmin()]
            near = np.argsort(_distances(values, winner[None])[:, 0], kind="stable")[: params.seed_rows]
            share = np.append(values[near].mean(axis=0), 1.0)
        share = await totals.total(share, what=f"{STEP}: seed {number + 1}")
        seeds.append(share[:-1] / share[-1])  # the mean, should two sites have run the same time
        new = _distances(values, seeds[-1][None])[:, 0]
        weight = new if number == 0 else np.minimum(weight, new)
    return np.array(seeds)


async def _lloyd(totals: Totals, values: F64, centres: F64, goal: float, most: int) -> tuple[F64, F64, float, int]:
    """Move centres to the means of their rows until they stay. Returns centres, counts, inertia and iterations."""
    k, p = centres.shape
    nearest = np.full(len(values), -1)
    last, iterations = False, 0
    while True:
        mine = await offload(_assign, values, centres, nearest)
        flat = await totals.total(mine, what=f"{STEP}: counts, sums, distances by cluster")
        sums, moved = flat[:-1].reshape(k, p + 2), float(flat[-1])
        counts, inertia = sums[:, p], float(sums[:, p + 1].sum())
        if last or moved == 0 or iterations == most:
            return centres, counts, inertia, iterations
        iterations += 1
        filled = counts > 0
        new = np.where(filled[:, None], sums[:, :p] / np.maximum(counts, 1.0)[:, None], centres)
        last = float(((new - centres) ** 2).sum()) <= goal
        centres = new


def _assign(values: F64, centres: F64, nearest: I64) -> F64:
    """Assign rows to centres, in place; return sums of columns, counts and distances by cluster, and how many moved."""
    k, p = centres.shape
    sums, moved = np.zeros((k, p + 2)), 0
    for block in blocks(len(values)):
        d = _distances(values[block], centres)
        best = d.argmin(axis=1)
        least = d[np.arange(len(d)), best]
        sums += one_hot(best, k).T @ np.column_stack([values[block], np.ones(len(d)), least])
        moved += int(np.count_nonzero(best != nearest[block]))
        nearest[block] = best
    return np.append(sums.ravel(), moved)
