"""Classes of a label over all sites, and counts, means and variances within each."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from atoll.core.errors import InputError
from atoll.learn.horizontal.order import distinct
from atoll.learn.horizontal.rows import F64, I64, blocks
from atoll.learn.horizontal.scale import scale
from atoll.protocols.secure_sum.totals import Totals

MOST_CLASSES = 1000


def shares_of(scores: F64) -> F64:
    """Return probabilities in proportion to the exponentials of (n, K) scores, without overflow."""
    odds = np.exp(scores - scores.max(axis=1, keepdims=True))
    return np.asarray(odds / odds.sum(axis=1, keepdims=True))


async def classes(totals: Totals, y: F64, *, step: str) -> tuple[F64, I64]:
    """Find the classes that a numeric label has at any site.

    Reveals: the classes and how many rows of all sites have each.

    Returns:
        (K,) ascending classes, and (n,) the class number of every row of this site.

    Raises:
        InputError: there is one class only, or more than 1,000.
    """
    found, _ = await distinct(totals, y, most=MOST_CLASSES, what=f"{step}: classes")
    if len(found) < 2:
        cure = "Take a label with two classes or more."
        raise InputError("all rows of all sites have one class", step=step, column="label", cure=cure)
    return found, np.searchsorted(found, y)


def one_hot(codes: I64, k: int) -> F64:
    """Return (n, k) zeros with a one at every row's code."""
    return np.equal.outer(codes, np.arange(k)).astype(np.float64)


@dataclass(frozen=True)
class Moments:
    """Counts, means and variances by group.

    Args:
        count: (K,) rows.
        mean: (K, p) means; NaN where a group is empty.
        variance: (K, p) with divisor n; NaN where a group is empty.
        exponent: (p,) every value is below 2^exponent in size.
    """

    count: F64
    mean: F64
    variance: F64
    exponent: I64


async def moments(totals: Totals, values: F64, codes: I64, k: int, rows: int, *, step: str) -> Moments:
    """Find counts, means and variances by group, in two passes.

    Reveals: counts, sums and sums of squares of every group and column; as `scale`.

    Args:
        totals: the sum over the sites.
        values: (n, p) this site's finite values.
        codes: (n,) groups, 0 to k - 1.
        k: number of groups.
        rows: rows of all sites.
        step: the model's name.
    """
    frame = await scale(totals, values, rows, step=step)
    shape = (k, values.shape[1])
    count, sums = np.bincount(codes, minlength=k).astype(np.float64), np.zeros(shape)
    for block in blocks(len(values)):
        sums += one_hot(codes[block], k).T @ frame.apply(values[block])
    flat = await totals.total(np.concatenate([count, sums.ravel()]), what=f"{step}: sums by group")
    count, sums = flat[:k], flat[k:].reshape(shape)
    with np.errstate(invalid="ignore"):
        centre = sums / count[:, None]
    off, squares = np.zeros(shape), np.zeros(shape)
    for block in blocks(len(values)):
        d, groups = frame.apply(values[block]) - centre[codes[block]], one_hot(codes[block], k)
        off, squares = off + groups.T @ d, squares + groups.T @ (d * d)
    flat = await totals.total(np.concatenate([off.ravel(), squares.ravel()]), what=f"{step}: squares by group")
    off, squares = flat.reshape(2, *shape)
    with np.errstate(invalid="ignore"):
        mean = centre + off / count[:, None]
        variance = np.maximum((squares - off * off / count[:, None]) / count[:, None], 0.0)
    return Moments(count, frame.centre + frame.unit * mean, variance * frame.unit**2, frame.exponent)
