"""Averages that bear some wrong updates, computed from single updates in one place.

Each rule takes (n, d) float32, one update a row, and gives (d,) float32.  Who computes it sees every update.
"""

from __future__ import annotations

import msgspec
import numpy as np
from numpy.typing import NDArray

from atoll.core.errors import InputError
from atoll.learn.horizontal.networks.averages import F32


class Rule(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag=True):
    """The plain mean, which a single wrong update moves anywhere."""

    def __call__(self, updates: F32) -> F32:
        """Combine updates, (n, d), n at least 1."""
        return _float32(updates.mean(axis=0, dtype=np.float64))


class Median(Rule, frozen=True):
    """The median of each coordinate (Yin et al. 2018); bears fewer than half of the sites."""

    def __call__(self, updates: F32) -> F32:
        """Combine updates, (n, d)."""
        return _float32(np.median(updates, axis=0))


class TrimmedMean(Rule, frozen=True, kw_only=True):
    """The mean of each coordinate without its largest and smallest values (Yin et al. 2018).

    Args:
        trim: share of the sites left out at either end, in [0, 0.5); bears as many wrong ones, rounded down.
    """

    trim: float = 0.2

    def __post_init__(self) -> None:
        if not 0 <= self.trim < 0.5:
            raise InputError(f"trim is {self.trim!r}, but must be in [0, 0.5)", step="networks", cure="Change trim.")

    def __call__(self, updates: F32) -> F32:
        """Combine updates, (n, d)."""
        cut = int(self.trim * len(updates))
        kept = np.sort(updates, axis=0)[cut : len(updates) - cut]
        return _float32(kept.mean(axis=0, dtype=np.float64))


class MultiKrum(Rule, frozen=True, kw_only=True):
    """The mean of the updates that are nearest to their n − f − 2 nearest neighbours (Blanchard et al. 2017).

    Args:
        wrong: f, how many sites may be wrong; needs n > 2f + 2.
        keep: how many updates are averaged, at least 1 (1 is Krum); n − f if left out.
    """

    wrong: int
    keep: int | None = None

    def __post_init__(self) -> None:
        if self.wrong < 0 or (self.keep is not None and self.keep < 1):
            raise InputError("wrong must be at least 0 and keep at least 1", step="networks", cure="Change them.")

    def __call__(self, updates: F32) -> F32:
        """Combine updates, (n, d).

        Raises:
            InputError: There are too few of them.
        """
        n = len(updates)
        if n <= 2 * self.wrong + 2 or (self.keep or 1) > n:
            raise InputError(
                f"multi-Krum with {self.wrong} wrong sites needs {2 * self.wrong + 3} updates or more, but has {n}",
                step="networks",
                cure="Draw more sites for a round, or expect fewer wrong ones.",
            )
        chosen = np.argsort(self.scores(updates), kind="stable")[: self.keep or n - self.wrong]
        return _float32(updates[chosen].mean(axis=0, dtype=np.float64))

    def scores(self, updates: F32) -> NDArray[np.float64]:
        """Return each update's sum of squared distances to its n − f − 2 nearest neighbours, (n,)."""
        rows = updates.astype(np.float64)
        rows -= np.median(rows, axis=0)  # distances stay, and lose fewer digits below
        squares = (rows**2).sum(axis=1)
        distances = np.maximum(squares[:, None] + squares[None, :] - 2 * (rows @ rows.T), 0)
        np.fill_diagonal(distances, np.inf)
        nearest = np.sort(distances, axis=1)[:, : len(rows) - self.wrong - 2]
        scores: NDArray[np.float64] = nearest.sum(axis=1)
        return scores


def _float32(values: NDArray[np.float64]) -> F32:
    return values.astype(np.float32)
