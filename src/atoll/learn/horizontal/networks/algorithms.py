"""How sites' local training becomes one network: each algorithm is what it adds to a plain average.

All state is either the same at every site (`shared`) or the site's own (`own`).  An algorithm sees only the trained
numbers; running statistics are averaged plainly.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import msgspec
import numpy as np

from atoll.core.errors import InputError
from atoll.learn.horizontal.networks.averages import F32
from atoll.learn.horizontal.networks.trainer import Pull, Trained

NOTHING: F32 = np.zeros(0, np.float32)
NOTHING.flags.writeable = False


@dataclass
class State:
    """Vectors that live from round to round.

    Attributes:
        shared: the same at every site.
        own: of this site alone.
    """

    shared: dict[str, F32] = field(default_factory=dict)
    own: dict[str, F32] = field(default_factory=dict)

    def common(self, name: str, size: int) -> F32:
        """Return a shared vector, zeros at first."""
        return self.shared.get(name, np.zeros(size, np.float32))

    def mine(self, name: str, size: int) -> F32:
        """Return a vector of this site, zeros at first."""
        return self.own.get(name, np.zeros(size, np.float32))


class Algorithm(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag=True):
    """Plain averaging; the hooks that algorithms replace."""

    @property
    def needs_pull(self) -> bool:
        """Whether local steps must add something to their gradient."""
        return False

    def pull(self, state: State, size: int) -> Pull:
        """Return what local steps add to their gradient, of `size` numbers."""
        return Pull()

    def beside(self, size: int) -> int:
        """Return how many numbers go beside an update of `size` numbers."""
        return 0

    def upload(self, change: F32, done: Trained, state: State) -> tuple[F32, F32]:
        """Return what is averaged: the site's update, and numbers that go beside it.

        Args:
            change: numbers after local training less those before.
            done: what local training says.
            state: of this site; it may be changed.
        """
        return change, NOTHING

    def step(self, mean: F32, extra: F32, share: float, state: State) -> F32:
        """Return the change of the network, the same at every site.

        Args:
            mean: weighted average of the updates.
            extra: weighted average of what went beside them.
            share: weight of the sites that took part, of all.
            state: of all sites; it may be changed.
        """
        return mean


class FedAvg(Algorithm, frozen=True, kw_only=True):
    """Averages of local training (McMahan et al. 2017), with momentum of the average if wanted (Hsu et al. 2019).

    Args:
        server_lr: factor on the average, above 0.
        momentum: in [0, 1).
    """

    server_lr: float = 1.0
    momentum: float = 0.0

    def __post_init__(self) -> None:
        _check("server_lr", self.server_lr, self.server_lr > 0, "above 0")
        _check("momentum", self.momentum, 0 <= self.momentum < 1, "in [0, 1)")

    def step(self, mean: F32, extra: F32, share: float, state: State) -> F32:
        """v ← β v + Δ; the network moves by η v."""
        if self.momentum:
            mean = np.float32(self.momentum) * state.common("velocity", mean.size) + mean
            state.shared["velocity"] = mean
        change: F32 = np.float32(self.server_lr) * mean
        return change


class FedProx(Algorithm, frozen=True, kw_only=True):
    """FedAvg whose local loss is held to the common network by μ/2 ‖w − w_common‖² (Li et al. 2020).

    Args:
        mu: μ, at least 0.
    """

    mu: float = 0.01

    def __post_init__(self) -> None:
        _check("mu", self.mu, self.mu >= 0, "at least 0")

    @property
    def needs_pull(self) -> bool:
        """Local steps add the gradient of the proximal term."""
        return self.mu > 0

    def pull(self, state: State, size: int) -> Pull:
        """Pull towards the common network."""
        return Pull(proximal=self.mu)


class FedNova(Algorithm, frozen=True):
    """Sites may take different numbers of local steps τᵢ without a bias (Wang et al. 2020, for plain local descent).

    Each site's change is divided by its τᵢ; the average is scaled by the average τ.
    """

    def beside(self, size: int) -> int:
        """The number of steps."""
        return 1

    def upload(self, change: F32, done: Trained, state: State) -> tuple[F32, F32]:
        """Δᵢ / τᵢ, and τᵢ beside it."""
        steps = np.float32(max(done.steps, 1))
        return change / steps, np.array([steps], np.float32)

    def step(self, mean: F32, extra: F32, share: float, state: State) -> F32:
        """τ̄ times the average."""
        change: F32 = extra[0] * mean
        return change


class Scaffold(Algorithm, frozen=True, kw_only=True):
    """Control variates take the drift out of local steps (Karimireddy et al. 2020, algorithm 1, option II).

    Sites count by their rows instead of equally.  Local training must be plain gradient descent.

    Args:
        server_lr: factor on the average, above 0.
    """

    server_lr: float = 1.0

    def __post_init__(self) -> None:
        _check("server_lr", self.server_lr, self.server_lr > 0, "above 0")

    @property
    def needs_pull(self) -> bool:
        """Local steps add c − cᵢ."""
        return True

    def pull(self, state: State, size: int) -> Pull:
        """Shift by c − cᵢ."""
        return Pull(shift=state.common("control", size) - state.mine("control", size))

    def beside(self, size: int) -> int:
        """The change of cᵢ."""
        return size

    def upload(self, change: F32, done: Trained, state: State) -> tuple[F32, F32]:
        """Δᵢ, and the change of cᵢ beside it: cᵢ⁺ − cᵢ = −c − Δᵢ / Σ lr."""
        if not done.lr_sum:
            raise InputError(
                "SCAFFOLD needs plain gradient descent at every site",
                step="networks",
                cure="Leave momentum and adaptive step sizes out of the optimiser, or choose another algorithm.",
            )
        moved = -state.common("control", change.size) - change / np.float32(done.lr_sum)
        state.own["control"] = state.mine("control", change.size) + moved
        return change, moved

    def step(self, mean: F32, extra: F32, share: float, state: State) -> F32:
        """c moves by the average of the sites' moves times their share of all sites."""
        state.shared["control"] = state.common("control", mean.size) + np.float32(share) * extra
        change: F32 = np.float32(self.server_lr) * mean
        return change


class FedAdam(Algorithm, frozen=True, kw_only=True):
    """The average is a gradient for Adam (Reddi et al. 2021, algorithm 2), run alike at every site.

    Args:
        server_lr: η, above 0.
        beta1, beta2: in [0, 1).
        tau: τ, adaptivity, above 0.
    """

    server_lr: float = 0.03
    beta1: float = 0.9
    beta2: float = 0.99
    tau: float = 1e-3

    def __post_init__(self) -> None:
        _check_adaptive(self)

    def step(self, mean: F32, extra: F32, share: float, state: State) -> F32:
        """v ← β₂ v + (1 − β₂) Δ²."""
        b = np.float32(self.beta2)
        state.shared["v"] = b * _variance(state, mean, self.tau) + (1 - b) * mean**2
        return _adaptive(self, mean, state)


class FedYogi(Algorithm, frozen=True, kw_only=True):
    """As `FedAdam`, with Yogi's slower second moment; arguments likewise."""

    server_lr: float = 0.03
    beta1: float = 0.9
    beta2: float = 0.99
    tau: float = 1e-3

    def __post_init__(self) -> None:
        _check_adaptive(self)

    def step(self, mean: F32, extra: F32, share: float, state: State) -> F32:
        """v ← v − (1 − β₂) Δ² sign(v − Δ²)."""
        v, square = _variance(state, mean, self.tau), mean**2
        state.shared["v"] = v - np.float32(1 - self.beta2) * square * np.sign(v - square)
        return _adaptive(self, mean, state)


def _variance(state: State, mean: F32, tau: float) -> F32:
    return state.shared.get("v", np.full(mean.size, tau**2, np.float32))


def _adaptive(params: FedAdam | FedYogi, mean: F32, state: State) -> F32:
    """m ← β₁ m + (1 − β₁) Δ; the network moves by η m / (√v + τ)."""
    b = np.float32(params.beta1)
    m = b * state.common("m", mean.size) + (1 - b) * mean
    state.shared["m"] = m
    scale: F32 = np.sqrt(state.shared["v"])
    return np.float32(params.server_lr) * m / (scale + np.float32(params.tau))


def _check_adaptive(params: FedAdam | FedYogi) -> None:
    _check("server_lr", params.server_lr, params.server_lr > 0, "above 0")
    _check("beta1", params.beta1, 0 <= params.beta1 < 1, "in [0, 1)")
    _check("beta2", params.beta2, 0 <= params.beta2 < 1, "in [0, 1)")
    _check("tau", params.tau, params.tau > 0, "above 0")


def _check(name: str, value: float, good: bool, wanted: str) -> None:
    if not good:
        raise InputError(
            f"parameter {name} is {value!r}, but must be {wanted}", step="networks", cure=f"Change {name}."
        )
