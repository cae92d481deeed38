"""Who masks with whom: everybody with everybody up to 64 members, a sparse random graph with more.

The graph is Harary's, each member joined to the k next ones on a circle, after a permutation that nobody could choose.
Its degree and the threshold of the shares are such that three things fail with a probability below 2^-40 together: more
colluding neighbours of one member than the threshold allows, fewer of them left than the threshold needs, and a
run of members gone or colluding that cuts the others in two.

Source: Bell, Bonawitz, Gascón, Lepoint and Raykova, ACM CCS 2020 (eprint 2020/704).
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from atoll.crypto.random import Rng

COMPLETE = 64
"""Most members of a complete graph."""

MOST = 254
"""Most neighbours, for a share to have a place in GF(2^8)."""

FAILURE = -40.0
"""Binary logarithm of the probability of failure that is accepted."""


@dataclass(frozen=True)
class Shape:
    """A graph and how secrets are shared on it.

    Attributes:
        k: Neighbours of each member.
        t: Shares that open a secret, of the k + 1 that a member and its neighbours hold.
    """

    k: int
    t: int


@lru_cache(64)
def shape(n: int, *, gone: float = 0.1, colluding: float = 0.1, malicious: bool = False) -> Shape:
    """Return the graph for n members.

    Args:
        n: Members, 1 or more.
        gone: Part of the members that may drop out, for more than 64.
        colluding: Part that may show the aggregator all they have, for more than 64.
        malicious: Whether the threshold also holds against an aggregator that tells members different things.

    Raises:
        ValueError: No degree up to 254 is enough for these parts.
    """
    if n <= COMPLETE:
        return Shape(n - 1, threshold(n - 1, malicious))
    for k in range(2 * math.ceil(math.log2(n)), min(n - 1, MOST) + 1, 2):
        t = threshold(k, malicious)
        if failure(n, k, t, gone, colluding) < FAILURE:
            return Shape(k, t)
    raise ValueError(f"no graph of {n} members stands {gone:.0%} gone and {colluding:.0%} colluding")


def threshold(k: int, malicious: bool) -> int:
    """Return how many of k + 1 shares open a secret: more than a half, or more than two thirds."""
    return (2 * (k + 1) // 3 if malicious else (k + 1) // 2) + 1


def failure(n: int, k: int, t: int, gone: float, colluding: float) -> float:
    """Return the binary logarithm of a bound on the probability that the graph fails; see the module."""
    lost, bad = math.ceil(gone * n), math.ceil(colluding * n)
    seen = _upper_tail(n - 1, bad, k, t)  # t colluding neighbours open everything
    stuck = _upper_tail(n - 1, lost, k, k + 1 - t)  # of k + 1 shares that of the member itself may be gone, too
    cut = (k / 2) * math.log2((lost + bad) / n) if lost + bad else -math.inf
    return math.log2(n) + _log2_sum((seen, stuck, cut))


def near(me: str, members: Sequence[str], coin: bytes, k: int = 0) -> tuple[str, ...]:
    """Return a member's neighbours, in alphabetical order.

    Args:
        me: The member.
        members: All of them, in one order.
        coin: Bytes that nobody could choose; the same at all members.
        k: Degree, even for more than 64 members; that of `shape` without it.
    """
    n = len(members)
    if n <= COMPLETE:
        return tuple(sorted(other for other in members if other != me))
    order, place = _circle(tuple(members), coin)
    half, at = (k or shape(n).k) // 2, place[me]
    return tuple(sorted(order[(at + step) % n] for step in range(-half, half + 1) if step))


@lru_cache(8)
def _circle(members: tuple[str, ...], coin: bytes) -> tuple[tuple[str, ...], dict[str, int]]:
    rng = Rng(hashlib.sha256(b"atoll/neighbours/v1" + coin).digest())
    order = tuple(members[i] for i in rng.permutation(len(members)))
    return order, {name: at for at, name in enumerate(order)}


def _upper_tail(n: int, marked: int, draws: int, least: int) -> float:
    """Return log2 of P(at least `least` marked ones among `draws` of n, without putting back)."""
    terms = [
        _log2_choose(marked, i) + _log2_choose(n - marked, draws - i) - _log2_choose(n, draws)
        for i in range(max(least, 0), min(marked, draws) + 1)
        if draws - i <= n - marked
    ]
    return _log2_sum(terms)


def _log2_choose(n: int, k: int) -> float:
    return (math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)) / math.log(2)


def _log2_sum(terms: Sequence[float]) -> float:
    top = max(terms, default=-math.inf)
    return top if top == -math.inf else top + math.log2(sum(2.0 ** (term - top) for term in terms))
