"""Which updates are mixed when, if sites train at their own speed: the rules, without messages or clocks."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated

import msgspec
import numpy as np

from atoll.core.errors import InputError
from atoll.learn.horizontal.networks.averages import F32
from atoll.learn.horizontal.networks.trainer import Pull


class Buffering(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Buffered asynchronous averaging (FedBuff, Nguyen et al., AISTATS 2022), the same at all sites.

    Args:
        size: updates that are mixed at once, K; at least 3, so that each hides among others.
        staleness: newest version of the network less the one that an update was trained from, τ, at most; an older
            update is refused.
        power: updates count (1 + τ)^-power; at least 0.
        server_lr: factor on the average, above 0.
        mu: how firmly local training is held to the network that it began from (FedProx), at least 0.
        clip: if given, updates travel as masked 32-bit words, a sixth of the bytes, and all their numbers must be below
            it; else as exact sums.
    """

    size: Annotated[int, msgspec.Meta(ge=3, le=64)] = 3
    staleness: int = 10
    power: float = 0.5
    server_lr: float = 1.0
    mu: float = 0.0
    clip: float | None = None

    def __post_init__(self) -> None:
        rules = {
            "size": (3 <= self.size <= 64, "3 to 64"),
            "staleness": (self.staleness >= 0, "at least 0"),
            "power": (0 <= self.power < math.inf, "at least 0"),
            "server_lr": (0 < self.server_lr < math.inf, "above 0"),
            "mu": (0 <= self.mu < math.inf, "at least 0"),
            "clip": (self.clip is None or 0 < self.clip < math.inf, "above 0"),
        }
        for name, (good, wanted) in rules.items():
            if not good:
                value = getattr(self, name)
                raise InputError(
                    f"parameter {name} is {value!r}, but must be {wanted}", step="networks", cure=f"Change {name}."
                )

    @property
    def pull(self) -> Pull:
        """What local steps add to their gradients."""
        return Pull(proximal=self.mu)

    def damped(self, change: F32, staleness: int) -> F32:
        """Return an update as it is mixed: the less, the older the network that it was trained from."""
        return change * np.float32((1 + staleness) ** -self.power)

    def moved(self, model: F32, mean: F32) -> F32:
        """Return the network moved by the average of a buffer."""
        return model + np.float32(self.server_lr) * mean


class Mixed(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One buffer: who was in it, and what the sums over its sites told.

    Attributes:
        number: from 1; also the version of the network that it made.
        sites: whose updates it holds, in alphabetical order.
        staleness: τ of each.
        weight: sum of their weights.
        train_loss: mean over the rows that they trained on.
        metrics: over their held-out rows, of the networks from which they trained; empty if not asked for.
    """

    number: int
    sites: tuple[str, ...]
    staleness: tuple[int, ...]
    weight: float
    train_loss: float
    metrics: dict[str, float]


@dataclass
class Desk:
    """What the aggregator knows: the newest version, who trains from which one, and who waits to be mixed.

    Attributes:
        rules: the same at all sites.
        given: the version that each site has been given last; sites that are gone are not in it.
        version: the newest one.
        waiting: sites that have trained, first come first.
    """

    rules: Buffering
    given: dict[str, int]
    version: int = 0
    waiting: list[str] = field(default_factory=list)

    def refused(self) -> list[str]:
        """Take out the waiting sites whose updates are too old, and give them the newest version."""
        late = [site for site in self.waiting if self.version - self.given[site] > self.rules.staleness]
        self.waiting = [site for site in self.waiting if site not in late]
        self.given |= dict.fromkeys(late, self.version)
        return late

    def full(self) -> tuple[str, ...]:
        """The sites of the next buffer, in alphabetical order; none if too few wait."""
        size = self.rules.size
        return tuple(sorted(self.waiting[:size])) if len(self.waiting) >= size else ()

    def mixed(self, sites: Sequence[str]) -> None:
        """A buffer has become the next version, which its sites have."""
        self.version += 1
        self.waiting = [site for site in self.waiting if site not in sites]
        self.given |= dict.fromkeys(sites, self.version)

    def gone(self, site: str) -> bool:
        """Forget a site that waits for nothing; say whether enough are left."""
        del self.given[site]
        return len(self.given) >= self.rules.size
