"""What each site has contributed, by Shapley value: the basis of a bill.

A site's value is the gain in quality that it brings to a coalition of others, averaged over all orders in which sites
might have come (Shapley 1953).  Values add up to the quality of all together; sites that bring the same get the same;
one that brings nothing gets nothing.  Sums of coalitions are seen, those of single sites among them.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from atoll.core.errors import InputError
from atoll.learn.horizontal.networks import agreed
from atoll.learn.horizontal.networks.algorithms import State
from atoll.learn.horizontal.networks.combine import Combine, Combined, Turn, averaged
from atoll.protocols.secure_sum.totals import Totals

F64 = NDArray[np.float64]

MOST_SITES = 10
"""Exact values look at 2^n coalitions."""


def shapley_values(quality: F64) -> F64:
    """Return exact Shapley values, (n,).

    Args:
        quality: (2^n,) quality of every coalition; site i is in coalition s if bit i of s is set.
    """
    n = len(quality).bit_length() - 1
    members = np.arange(len(quality))
    size = np.array([int(s).bit_count() for s in members])
    share = np.array([1 / (n * math.comb(n - 1, k)) for k in range(n)])
    values = np.zeros(n)
    for i in range(n):
        without = members[members >> i & 1 == 0]
        values[i] = math.fsum(share[size[without]] * (quality[without | 1 << i] - quality[without]))
    return values


@dataclass(frozen=True)
class Contributions:
    """Shapley values of a linear model, and the quality that they add up to.

    Attributes:
        values: by site.
        quality: R² of the model of all sites on all held-out rows.
    """

    values: dict[str, float]
    quality: float


async def linear_contributions(totals: Totals, train: tuple[F64, F64], test: tuple[F64, F64]) -> Contributions:
    """Return each site's exact Shapley value for least squares with an intercept, quality being R² on held-out rows.

    One sum carries every site's XᵀX and Xᵀy, from which all 2^n models follow.  So all sites see each other's
    sufficient statistics; models of single sites, which the value rests on, would show nearly as much.

    Args:
        totals: sums over at most 10 sites.
        train: x (n, p) and y (n,) of this site, float64; there may be no rows.
        test: likewise this site's held-out rows.

    Raises:
        InputError: too many sites, or no or constant held-out rows.
    """
    if len(totals.sites) > MOST_SITES:
        raise InputError(
            f"exact values of {len(totals.sites)} sites look at too many coalitions",
            step="contribution",
            cure=f"Join sites to at most {MOST_SITES}, or rate rounds of averaging with `Rated`.",
        )
    mine, held = _statistics(*train), _statistics(*test)
    slots = np.zeros((len(totals.sites), mine.size))
    slots[totals.sites.index(totals.site)] = mine.ravel()
    told = await totals.total(np.concatenate([slots.ravel(), held.ravel()]), what="sufficient statistics of every site")
    each = told[: slots.size].reshape(-1, *mine.shape)
    pooled = told[slots.size :].reshape(mine.shape)
    n, spread = pooled[0, 0], pooled[-1, -1] - pooled[0, -1] ** 2 / max(pooled[0, 0], 1)
    if not (n > 0 and spread > 1e-12 * pooled[-1, -1]):
        raise InputError("held-out rows are missing or have one value", step="contribution", cure="Hold out others.")
    quality = np.zeros(2 ** len(each))
    for s in range(1, len(quality)):
        chosen = [one for i, one in enumerate(each) if s >> i & 1]
        quality[s] = _r_squared(np.vectorize(lambda *v: math.fsum(v))(*chosen), pooled, spread)
    values = shapley_values(quality)
    return Contributions(dict(zip(totals.sites, values.tolist(), strict=True)), float(quality[-1]))


def _statistics(x: F64, y: F64) -> F64:
    """Cross products of a column of ones, x and y, (p + 2, p + 2)."""
    columns = np.column_stack([np.ones(len(y)), x, y]).astype(np.float64)
    products: F64 = columns.T @ columns
    return products


def _r_squared(train: F64, test: F64, spread: float) -> float:
    """Quality of the least squares of some rows on others, both given as cross products; 0 without any rows."""
    if train[0, 0] == 0:
        return 0.0
    beta = np.linalg.pinv(train[:-1, :-1], rcond=1e-12, hermitian=True) @ train[:-1, -1]
    residual = test[-1, -1] - 2 * beta @ test[:-1, -1] + beta @ test[:-1, :-1] @ beta
    return float(1 - residual / spread)


class Rated(Combine, frozen=True, kw_only=True):
    """The plain average, and each site's Shapley value of every round (Song et al. 2019, truncated as Liu et al. 2022).

    A coalition's quality is a metric, on all held-out rows, of the network moved by its members' average alone.  The
    sum over rounds is `Fitted.shared["contribution"]`, in the order of the sites' names.

    Args:
        orders: orders of sites drawn for each round, at least 1; with few sites all coalitions are looked at instead.
        tolerance: gains that small are taken for none, at least 0.
        metric: what quality is; the larger the better.
    """

    orders: int = 8
    tolerance: float = 0.0
    metric: str = "accuracy"

    def __post_init__(self) -> None:
        if self.orders < 1 or not self.tolerance >= 0:
            raise InputError("orders must be at least 1, tolerance 0", step="contribution", cure="Change them.")

    async def __call__(self, turn: Turn, state: State) -> Combined:
        """Average, and rate the sites that took part."""
        found = await averaged(turn, turn.update, "updates")
        sites = turn.totals.sites
        here = np.array([site == turn.totals.site and turn.weight > 0 for site in sites], np.float64)
        players = np.flatnonzero(await turn.totals.total(here, what="who takes part"))
        rating = _Rating(turn, self.metric, sites)
        base, full = await rating.of(frozenset()), await rating.of(frozenset(players.tolist()))
        gains = np.zeros(len(sites), np.float32)
        if abs(full - base) > self.tolerance:
            if 2**players.size <= self.orders * players.size:
                gains[players] = await _enumerated(players, rating.of)
            else:
                gains[players] = await sampled_values(
                    players, rating.of, turn.seed, orders=self.orders, tolerance=self.tolerance
                )
        state.shared["contribution"] = state.common("contribution", len(sites)) + gains
        return found


Quality = Callable[[frozenset[int]], Awaitable[float]]


async def sampled_values(
    players: NDArray[np.int64], quality: Quality, seed: bytes, *, orders: int, tolerance: float
) -> F64:
    """Return Shapley values as mean gains over drawn orders; an order ends where nothing is left to gain.

    Args:
        players: sites' numbers, (n,).
        quality: of a coalition of them.
        seed: of the orders.
        orders: how many, at least 1.
        tolerance: what counts as nothing, at least 0.
    """
    gains, full = np.zeros(players.size), await quality(frozenset(players.tolist()))
    for k in range(orders):
        before, members = await quality(frozenset()), frozenset[int]()
        for at in agreed.stream(seed, "orders", k).permutation(players.size).tolist():
            if abs(full - before) <= tolerance:
                break
            members |= {int(players[at])}
            after = await quality(members)
            gains[at] += (after - before) / orders
            before = after
    return gains


async def _enumerated(players: NDArray[np.int64], quality: Quality) -> F64:
    """Exact values; all coalitions are looked at."""
    found = np.zeros(2**players.size)
    for s in range(len(found)):
        found[s] = await quality(frozenset(int(p) for i, p in enumerate(players) if s >> i & 1))
    return shapley_values(found)


class _Rating:
    """Quality of coalitions, each looked at once."""

    def __init__(self, turn: Turn, metric: str, sites: tuple[str, ...]) -> None:
        self.turn, self.metric, self.sites = turn, metric, sites
        self.known: dict[frozenset[int], float] = {}

    async def of(self, members: frozenset[int]) -> float:
        """Return the quality of a coalition of sites, by number."""
        if members not in self.known:
            self.known[members] = await self._look(members)
        return self.known[members]

    async def _look(self, members: frozenset[int]) -> float:
        turn, change = self.turn, np.zeros(self.turn.update.size + self.turn.beside.size, np.float32)
        if members:
            weight = turn.weight if self.sites.index(turn.totals.site) in members else 0.0
            both = np.concatenate([turn.update, turn.beside])
            change, _ = await turn.averages.average(both, weight, what=f"updates of {len(members)} sites")
        if turn.score is None:
            raise InputError("this loop cannot rate coalitions", step="contribution", cure="Use `fit`.")
        metrics = await turn.score(change)
        if self.metric not in metrics:
            raise InputError(
                f"held-out rows give no metric {self.metric!r}", step="contribution", cure="Name another one."
            )
        return metrics[self.metric]
