"""Attacks on membership under each protection: worlds in which people take part or not, and how they look in each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from atoll.learn.horizontal.networks import Plan
from atoll.learn.horizontal.networks.combine import Combine
from bench import digits, membership
from bench.onlookers import Noise, at_aggregator, in_sum
from bench.perceptron import F32, F64, I64, Perceptron, Rows

OFTEN = Plan(rounds=20, epochs=5, batch=10, lr=0.2, weights="equal", evaluate=0, seed=1)


@dataclass(frozen=True)
class World:
    """Half of the people, in one world of many; person i is with site i modulo `count` if anywhere."""

    members: NDArray[np.bool_]
    x: F32
    y: I64
    count: int
    network: Perceptron

    @property
    def start(self) -> F32:
        """Where training begins."""
        return self.network.start(0)

    @property
    def home(self) -> I64:
        """The site of each person."""
        return np.arange(len(self.y)) % self.count

    def nobody(self) -> Any:
        """The onlooker's trainer."""
        return Rows(self.network, self.start, self.x[:0], self.y[:0]).trainer

    def sites(self, **options: Any) -> list[Any]:
        """The trainers of all sites."""
        chosen = [self.members & (self.home == k) for k in range(self.count)]
        return [Rows(self.network, self.start, self.x[one], self.y[one], **options).trainer for one in chosen]


def few(count: int) -> list[World]:
    """Draw worlds of 200 people at ten sites; a network can learn them by heart."""
    return _worlds(200, 10, count, hidden=16)


def many(count: int) -> list[World]:
    """Draw worlds of 1,400 people at five sites, and a small network, which bears noise better."""
    return _worlds(1400, 5, count, hidden=8)


def _worlds(people: int, sites: int, count: int, hidden: int) -> list[World]:
    x, y, *_ = digits.digits()
    drawn = membership.worlds(people, count)
    return [World(inside, x[:people], y[:people], sites, Perceptron(hidden=hidden)) for inside in drawn]


def guessed(found: list[World], look: Callable[[World], F64], *, sites: int = 0) -> membership.Guessed:
    """Look at every world and tell members from others; at the first sites only, if a number is given."""
    here = found[0].home < (sites or found[0].count)
    looks = np.array([look(one) for one in found])[:, here]
    return membership.likelihood_ratios(looks, np.array([one.members for one in found])[:, here])


def looks_alone(world: World, combine: Combine | None = None) -> F64:
    """How each person looks in the update of its own site, as an aggregator sees it, or once it was made shorter."""
    if combine is None:
        updates = at_aggregator(world.nobody(), world.sites())
    else:
        updates = [in_sum(world.nobody(), [one], combine=combine)[0] for one in world.sites()]
    found = [membership.likeness(world.network, world.start, one, world.x, world.y) for one in updates]
    return np.array(found)[world.home, np.arange(len(world.y))]


def looks_in_sum(world: World, sites: int) -> F64:
    """How each person looks in the total of the first sites' updates."""
    total, _ = in_sum(world.nobody(), world.sites()[:sites])
    return membership.likeness(world.network, world.start, total, world.x, world.y)


def trained(world: World) -> tuple[F32, float]:
    """The network at the end of training, and an infinite ρ."""
    total, spent = in_sum(world.nobody(), world.sites(), plan=OFTEN)
    return world.start + total / np.float32(world.count), spent


def trained_with_noise(
    world: World, rounds: int, epsilon: float, clip: float = 0.1, lr: float = 4.0
) -> tuple[F32, float]:
    """The network at the end of training with noise that hides each person, of ε in all, and ρ."""
    planned = len(world.y) // 2 // world.count
    plan = Plan(rounds=rounds, epochs=1, batch=0, lr=lr, weights="equal", evaluate=0, seed=1)
    change = lr * clip / planned  # of one person, in every number of a round's total
    sites = world.sites(clip=clip, planned=planned)
    total, spent = in_sum(world.nobody(), sites, plan=plan, noise=Noise(change, epsilon))
    return world.start + total / np.float32(world.count), spent


@dataclass
class AtTheEnd:
    """How each person looks in a trained network.

    Attributes:
        train: gives the network and the ρ of its noise.
        right: accuracy on held-out pictures, of every network so far.
        spent: ρ.
    """

    train: Callable[[World], tuple[F32, float]]
    right: list[float] = field(default_factory=list)
    spent: float = np.inf

    def __call__(self, world: World) -> F64:
        """Train, and look."""
        (vector, self.spent), (*_, x, y) = self.train(world), digits.digits()
        self.right.append(float(np.mean(world.network.chances(vector, x).argmax(axis=1) == y)))
        return membership.confidence(world.network, vector, world.x, world.y)
