"""One site's trainer, taken apart into what sites share and what stays."""

from __future__ import annotations

import asyncio
import math
from dataclasses import dataclass

import numpy as np

from atoll.core.errors import AtollError, InputError
from atoll.learn.horizontal.networks.averages import F32
from atoll.learn.horizontal.networks.trainer import Trained, Trainer, Work

LARGEST = 1e15
"""Numbers of an update beyond it come from a loss that diverges, and their squares would not fit."""


@dataclass
class Local:
    """A trainer at a site.

    Attributes:
        trainer: the network and the rows.
        site: this site's name, for errors.
    """

    trainer: Trainer
    site: str

    def __post_init__(self) -> None:
        self.layout = self.trainer.layout()
        self.places = self.layout.shared
        self.own = self.layout.own(self.trainer.parameters().size)
        self.weights = self.layout.weights.size

    def install(self, model: F32, own: F32) -> None:
        """Give the trainer a common network, with this site's own numbers."""
        vector = np.empty(model.size + own.size, np.float32)
        vector[self.places] = model
        vector[self.own] = own
        self.trainer.load(vector)

    async def train(self, model: F32, own: F32, work: Work) -> tuple[F32, F32, Trained]:
        """Train from a common network; return the change of what is shared, the own numbers, and what training says.

        Raises:
            InputError: training fails or has diverged.
        """
        self.install(model, own)
        try:
            done = await asyncio.to_thread(self.trainer.train, work)
        except AtollError as error:
            raise error.located(site=self.site, step="networks") from None
        vector = self.trainer.parameters()
        return self.shared(vector, done.loss) - model, vector[self.own], done

    async def evaluate(self, model: F32, own: F32) -> dict[str, float]:
        """Return a network's sums over this site's held-out rows."""
        self.install(model, own)
        return dict(await asyncio.to_thread(self.trainer.evaluate))

    def shared(self, vector: F32, loss: float = 0.0) -> F32:
        """Return what sites share of a vector.

        Raises:
            InputError: training has diverged.
        """
        shared = vector[self.places]
        if not (math.isfinite(loss) and np.abs(shared).max(initial=0) < LARGEST):
            raise InputError(
                "the network has numbers that are not finite or far too large",
                site=self.site,
                step="networks",
                cure="Lower the learning rate, clip gradients, and look for missing values in this site's columns.",
            )
        return shared
