"""What a site's own training must offer: four small functions over one vector of numbers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from atoll.learn.horizontal.networks.averages import F32


@dataclass(frozen=True)
class Pull:
    """What an algorithm adds to the gradient in every local step: μ (w − anchor) + shift.

    Attributes:
        proximal: μ, at least 0 (FedProx).
        shift: (n_weights,) float32, or None (SCAFFOLD's c − cᵢ).
    """

    proximal: float = 0.0
    shift: F32 | None = None

    @property
    def is_none(self) -> bool:
        """Whether local training is plain."""
        return self.proximal == 0.0 and self.shift is None


@dataclass(frozen=True)
class Work:
    """One round of local training.

    Attributes:
        round: from 0.
        epochs: passes over the site's rows, at least 1.
        batch: rows of a step; 0 for all of them at once.
        lr: the learning rate of this round.
        seed: for the order of rows and for dropout; another one at every site and round.
        pull: what to add to gradients.
    """

    round: int
    epochs: int
    batch: int
    lr: float
    seed: int
    pull: Pull = Pull()


@dataclass(frozen=True)
class Trained:
    """What local training has to say for itself.

    Attributes:
        rows: rows trained on; the site's weight.
        steps: optimiser steps taken.
        loss: mean training loss over the last pass.
        lr_sum: sum of the steps' learning rates if the optimiser was plain gradient descent, else None.
    """

    rows: int
    steps: int
    loss: float
    lr_sum: float | None = None


@dataclass(frozen=True)
class Layout:
    """Which numbers of a trainer's vector are what; entries in neither list stay at their site.

    Attributes:
        weights: places of trained numbers that sites share, int64.
        statistics: places of shared numbers without a gradient (running means of batch norm), int64.
    """

    weights: NDArray[np.int64]
    statistics: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))

    @property
    def shared(self) -> NDArray[np.int64]:
        """Places of all shared numbers, weights first."""
        return np.concatenate([self.weights, self.statistics])

    def own(self, size: int) -> NDArray[np.int64]:
        """Places of the numbers that stay at their site, of a vector of `size` numbers."""
        return np.setdiff1d(np.arange(size), self.shared)


class Trainer(Protocol):
    """A site's network and rows."""

    def parameters(self) -> F32:
        """Return all numbers of the network as one new vector, float32."""

    def load(self, vector: F32) -> None:
        """Take all numbers of the network from such a vector."""

    def train(self, work: Work) -> Trained:
        """Train on this site's rows, starting from the numbers at hand."""

    def evaluate(self) -> Mapping[str, float]:
        """Return sums over this site's held-out rows: `rows`, and what is to be divided by the rows of all sites."""

    def layout(self) -> Layout:
        """Return which numbers are shared."""

    @property
    def pulls(self) -> bool:
        """Whether `train` heeds `work.pull`."""


@dataclass(frozen=True)
class Functions:
    """A trainer made of four functions, for networks of any library.

    Attributes:
        get, put, fit, test: as `Trainer.parameters`, `load`, `train` and `evaluate`.
        pulls: whether `fit` heeds `work.pull`; FedProx and SCAFFOLD need it.
    """

    get: Callable[[], F32]
    put: Callable[[F32], None]
    fit: Callable[[Work], Trained]
    test: Callable[[], Mapping[str, float]]
    pulls: bool = False

    def parameters(self) -> F32:
        """Return a copy of the vector."""
        return np.array(self.get(), np.float32).reshape(-1)

    def load(self, vector: F32) -> None:
        """Hand over the vector."""
        self.put(vector)

    def train(self, work: Work) -> Trained:
        """Train on this site's rows."""
        return self.fit(work)

    def evaluate(self) -> Mapping[str, float]:
        """Return sums over held-out rows."""
        return self.test()

    def layout(self) -> Layout:
        """Everything is shared."""
        return Layout(np.arange(self.parameters().size))
