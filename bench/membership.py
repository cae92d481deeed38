"""Membership inference: who was among the rows, worked out from a network or from an update.

The likelihood-ratio attack, LiRA (Carlini et al. 2022): train many times with and without each person, and see under
which of the two normal distributions what was observed is more likely.  Every world is attacked in turn, with all the
others as shadows.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from bench.perceptron import F64, I64, Perceptron

Bools = NDArray[np.bool_]

NORMAL = NormalDist()


@dataclass(frozen=True)
class Guessed:
    """How well members were told from others.

    Attributes:
        scores: how much each (world, person) looks like a member.
        members: whether it was.
    """

    scores: F64
    members: Bools

    @property
    def auc(self) -> float:
        """Chance that a member looks more like one than somebody else; 0.5 is a guess."""
        ranks = _ranks(self.scores)
        inside, outside = int(self.members.sum()), int((~self.members).sum())
        return float((ranks[self.members].sum() - inside * (inside + 1) / 2) / (inside * outside))

    @property
    def chance(self) -> float:
        """How far from 0.5 the AUC of guesses lies in 99.7 of 100 cases (Mann and Whitney)."""
        inside, outside = int(self.members.sum()), int((~self.members).sum())
        return 3 * sqrt((inside + outside + 1) / (12 * inside * outside))

    def found(self, wrong: float) -> float:
        """Return the share of members that are found when this share of the others is taken for members."""
        others = np.sort(self.scores[~self.members])[::-1]
        allowed = int(wrong * len(others))
        bar = others[allowed] if allowed < len(others) else -np.inf
        return float(np.mean(self.scores[self.members] > bar))


def allowed(wrong: float, rho: float) -> float:
    """Return what Gaussian noise of loss ρ allows `found` to be in the long run (Dong, Roth, Su 2022: μ² = 2ρ)."""
    return NORMAL.cdf(NORMAL.inv_cdf(wrong) + sqrt(2 * rho))


def allowed_auc(rho: float) -> float:
    """Return the largest AUC that Gaussian noise of loss ρ allows in the long run."""
    return NORMAL.cdf(sqrt(rho))


def likelihood_ratios(observed: F64, members: Bools) -> Guessed:
    """Attack every world with the others as shadows.

    Args:
        observed: (worlds, people), what is seen of each, larger for members.
        members: (worlds, people), who was in.
    """
    scores = np.empty(observed.shape)
    for world in range(len(observed)):
        rest = np.arange(len(observed)) != world
        seen, inside = observed[rest], members[rest]
        means = [_mean(seen, side) for side in (inside, ~inside)]
        # With few shadows one width for all is better than one for each person (Carlini et al., section 5).
        widths = [_width(seen, side, mean) for side, mean in zip((inside, ~inside), means, strict=True)]
        near, far = (
            -0.5 * ((observed[world] - mean) / width) ** 2 - np.log(width)
            for mean, width in zip(means, widths, strict=True)
        )
        scores[world] = near - far
    return Guessed(scores.ravel(), members.ravel())


def confidence(network: Perceptron, vector: NDArray, x: NDArray, y: I64) -> F64:
    """Return log p / (1 − p) of each row's label: what LiRA looks at in a network, (n,)."""
    right = network.chances(vector, x)[np.arange(len(y)), y]
    return np.log(np.maximum(right, 1e-12)) - np.log(np.maximum(1 - right, 1e-12))


def likeness(network: Perceptron, start: NDArray, update: NDArray, x: NDArray, y: I64) -> F64:
    """Return how much an update points to where each row's own gradient would, (n,)."""
    gradients = network.gradients(start, x, y)
    return -(gradients @ np.asarray(update, np.float64)) / np.linalg.norm(gradients, axis=1)


def worlds(people: int, count: int, seed: int = 0) -> Bools:
    """Draw who is in, (count, people), by coins; to balance them would tell something of the world that is left out."""
    return np.random.default_rng(seed).random((count, people)) < 0.5


def _mean(seen: F64, side: Bools) -> F64:
    """Mean of each person, drawn to the mean of all as by one more world."""
    return (np.where(side, seen, 0).sum(axis=0) + seen[side].mean()) / (side.sum(axis=0) + 1)


def _width(seen: F64, side: Bools, mean: F64) -> float:
    return float(np.sqrt(((seen - mean) ** 2)[side].mean())) + 1e-12


def _ranks(values: F64) -> F64:
    """Ranks from 1, ties shared."""
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    return (ends - (counts - 1) / 2)[place]
