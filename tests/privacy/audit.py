"""What runs with a person and without say about ε: a lower bound that is wrong with a chance of 10^-11."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from scipy.stats import beta

RUNS = 20_000
CHANCE = 1e-11
"""Of one bound being wrong; fewer than a hundred are taken in all tests, so a false alarm has one below 10^-9."""


def lower_epsilon(with_person: NDArray[np.bool_], without: NDArray[np.bool_], delta: float = 0.0) -> float:
    """Least ε that explains how often an event came with a person and without, by Clopper and Pearson's bounds.

    Each bound holds by itself, so the runs with and without need not be independent of each other.
    """
    hits, misses = int(with_person.sum()), int(without.sum())
    low = float(beta.ppf(CHANCE, hits, len(with_person) - hits + 1)) if hits else 0.0
    high = float(beta.ppf(1 - CHANCE, misses + 1, len(without) - misses)) if misses < len(without) else 1.0
    return math.log(max(low - delta, 1e-300) / high)
