"""Differentially private training: steps over rows drawn at random, short gradients, Gaussian noise (DP-SGD).

Two ways to add it over sites, for one row of any site:

    fit_private       all sites take every step together: each adds the gradients of the rows it drew and its share of
                      the noise inside the secure sum; as little noise as if all rows were in one place
    PrivateTrainer    every site trains by itself with noise of its own, and `fit` averages: less traffic, more noise,
                      and nobody need trust the others to add theirs

And for whole sites, `SiteNoise`: updates are cut to a length and get noise inside the sum (DP-FedAvg).  Rows drawn and
noise come from the operating system's randomness, never from torch's.

Sources: Abadi et al., CCS 2016; Kairouz, Liu, Steinke, ICML 2021 (noise in the sum); McMahan, Ramage, Talwar, Zhang,
ICLR 2018 (whole sites).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np

from atoll.core.errors import InputError
from atoll.core.offload import offload
from atoll.crypto.random import Rng
from atoll.learn.horizontal.networks import agreed
from atoll.learn.horizontal.networks.algorithms import State
from atoll.learn.horizontal.networks.averages import F32
from atoll.learn.horizontal.networks.combine import Combine, Combined, Turn
from atoll.learn.horizontal.networks.fit import Plan
from atoll.learn.horizontal.networks.row_gradients import F64, RowGradients, clipped, drawn
from atoll.learn.horizontal.networks.torch_trainer import Descent, TorchTrainer
from atoll.learn.horizontal.networks.trainer import Layout, Trained, Work
from atoll.privacy.accountant import Drawn, Loss, epsilon_at
from atoll.privacy.tight import tight_epsilon_of
from atoll.protocols.secure_sum.noisy import NoisyTotals
from atoll.protocols.secure_sum.totals import Totals


class DpSgd(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Sampler, clipping and noise, once for training and for the account; the same at every site.

    Args:
        rate: probability with which every row takes part in a step, drawn anew for each, in (0, 1].
        clip: longest gradient of one row, above 0; longer ones are shortened to it.
        noise: standard deviation of the noise in the sum of gradients, in units of `clip`, above 0.
        steps: how many in all, at least 1.
        lot: what the noisy sum is divided by, above 0: about as many rows as take part in a step. Decide on it without
            looking at the data, as on the others.
    """

    rate: float
    clip: float = 1.0
    noise: float = 1.0
    steps: int
    lot: float

    def __post_init__(self) -> None:
        rules = {
            "rate": 0 < self.rate <= 1,
            "clip": 0 < self.clip < math.inf,
            "noise": 0 < self.noise < math.inf,
            "steps": self.steps >= 1,
            "lot": 0 < self.lot < math.inf,
        }
        for name, good in rules.items():
            if not good:
                what = f"parameter {name} is {getattr(self, name)!r}"
                raise InputError(what, step="networks", cure=f"Change {name}.")

    @property
    def loss(self) -> Loss:
        """What all steps tell about one row, as a budget adds it up."""
        return Loss(None, 0.0, (Drawn(self.noise, self.rate, self.steps),))

    def epsilon(self, delta: float) -> float:
        """Return ε at δ by the distribution of the privacy loss, the closest figure; needs dp-accounting."""
        return tight_epsilon_of([self.loss], delta)

    def epsilon_by_renyi(self, delta: float) -> float:
        """Return ε at δ by Rényi losses, as budgets add them up: never below `epsilon` but for its rounding."""
        return epsilon_at(self.loss, delta)

    def sentence(self, delta: float) -> str:
        """Say what is promised, and for whom."""
        return (
            f"One row of one site: ε = {self.epsilon(delta):.3g} at δ = {delta:g} over {self.steps:,} steps, each over "
            f"rows drawn at random with probability {self.rate:g}."
        )

    def noisy(self, totals: Totals, numbers: int, honest: int, spend: Callable[[], None]) -> NoisyTotals:
        """Return totals of gradients with noise as described here."""
        rho = self.loss.drawn[0].rho
        return NoisyTotals(
            totals, (self.clip,) * numbers, rho, honest, self.steps, length=1.0, rate=self.rate, spend=spend
        )


@dataclass(frozen=True)
class Alone:
    """The totals of one site."""

    site: str = "here"

    @property
    def sites(self) -> tuple[str, ...]:
        """It alone."""
        return (self.site,)

    async def total(self, values: F64, *, what: str) -> F64:
        """Return the values."""
        return values


async def fit_private(
    trainer: TorchTrainer,
    totals: Totals,
    params: DpSgd,
    *,
    lr: float,
    honest: int,
    optimizer: Callable[[Iterable[Any], float], Any] = Descent,
    spend: Callable[[], None] = lambda: None,
    rng: Rng | None = None,
    on_step: Callable[[int], object] = lambda number: None,
) -> F32:
    """Train one network on the rows of all sites, with noise that the sites add together; the trainer then holds it.

    All start from the network of the site whose name comes first.  What leaves a site is the sum of its rows' short
    gradients with its share of the noise, masked.

    Args:
        trainer: this site's module, loss and rows; the loss is a mean over rows.
        totals: exact sums over all sites.
        params: sampler, clipping and noise.
        lr: learning rate of a step along the noisy sum divided by `lot`.
        honest: sites whose noise is counted on; see `NoisyTotals`. A site knows its own: at most all but one.
        optimizer: what makes a step of a gradient, the same at every site.
        spend: called before anything with noise leaves: makes the reserved part of a budget final.
        rng: this site's randomness, for the rows it draws.
        on_step: called after every step, with its number from 1.

    Returns:
        All numbers of the network, float32, the same at all sites.

    Raises:
        InputError: Opacus or torch is missing, or a layer mixes rows.
        ContractError: sites have different networks or parameters.
    """
    rng = rng or Rng.system()
    _refuse_statistics(trainer.layout())
    with closing(RowGradients(trainer.module, trainer.loss)) as rows:
        document = msgspec.json.encode([params, lr, honest, rows.numbers, list(totals.sites)])
        await agreed.check_same(totals, document, what="the network and its private training")
        vector = trainer.parameters().astype(np.float64)
        mine = vector if totals.site == totals.sites[0] else np.zeros_like(vector)
        trainer.load((await totals.total(mine, what="the network to begin with")).astype(np.float32))
        noisy, moves = params.noisy(totals, rows.numbers, honest, spend), optimizer(rows.parameters, lr)
        for number in range(params.steps):
            gradient = await offload(_sum_of_drawn, trainer, rows, params, rng)
            rows.put(await noisy.total(gradient, what="gradients of rows drawn at random, with noise") / params.lot)
            moves.step()
            on_step(number + 1)
    return trainer.parameters()


class PrivateTrainer:
    """A trainer for `fit` whose site adds all the noise itself: its updates are private whoever looks at them.

    A round takes `epochs` times 1 / `rate` steps.  It tells neither how many rows there are nor their loss: every site
    counts alike.  Held-out rows, if there are any, are not protected: `fit` adds up exact figures of them.

    Args:
        trainer: this site's module, loss and rows; the loss is a mean over rows.
        params: sampler, clipping and noise, of this site; as many steps as the plan has.
        optimizer: what makes a step of a gradient.
        spend: as for `fit_private`.
        rng: this site's randomness.

    Raises:
        InputError: Opacus or torch is missing, or a layer mixes rows.
    """

    pulls = False

    def __init__(
        self,
        trainer: TorchTrainer,
        params: DpSgd,
        *,
        optimizer: Callable[[Iterable[Any], float], Any] = Descent,
        spend: Callable[[], None] = lambda: None,
        rng: Rng | None = None,
    ) -> None:
        self.trainer, self.params, self.optimizer, self.rng = trainer, params, optimizer, rng or Rng.system()
        self.rows = RowGradients(trainer.module, trainer.loss)
        _refuse_statistics(trainer.layout())
        self._noisy = params.noisy(Alone(), self.rows.numbers, 1, spend)

    @staticmethod
    def steps(plan: Plan, rate: float) -> int:
        """Return how many steps a site takes in a plan at most."""
        return plan.rounds * plan.epochs * _steps_of_pass(rate)

    def layout(self) -> Layout:
        """As the trainer's."""
        return self.trainer.layout()

    def parameters(self) -> F32:
        """As the trainer's."""
        return self.trainer.parameters()

    def load(self, vector: F32) -> None:
        """As the trainer's."""
        self.trainer.load(vector)

    def evaluate(self) -> Mapping[str, float]:
        """As the trainer's: exact sums over held-out rows."""
        return self.trainer.evaluate()

    def train(self, work: Work) -> Trained:
        """Take the steps of one round.

        Raises:
            InputError: all steps have been taken, or the module cannot be trained on these rows.
        """
        moves, steps = self.optimizer(self.rows.parameters, work.lr), work.epochs * _steps_of_pass(self.params.rate)
        for _ in range(steps):
            gradient = _sum_of_drawn(self.trainer, self.rows, self.params, self.rng)
            self.rows.put(self._noisy.noised(gradient, "gradients") / self.params.lot)
            moves.step()
        return Trained(1, steps, 0.0)


class SiteNoise(Combine, frozen=True, kw_only=True):
    """Hide whole sites: updates are cut to a length, count alike, and get noise inside the sum (DP-FedAvg).

    Sites draw the noise in shares, so that no one sees a sum without.  Which sites train in a round is known to all,
    so that drawing them makes nothing more private.

    Args:
        clip: longest update of a site, above 0; longer ones are shortened to it.
        noise: standard deviation of the noise in the sum of updates, in units of `clip`, above 0.
        honest: as for `fit_private`.
        lot: what the sum is divided by: about as many sites as train in a round.
    """

    clip: float
    noise: float
    honest: int
    lot: float

    def __post_init__(self) -> None:
        if not (0 < self.clip < math.inf and 0 < self.noise < math.inf and self.honest >= 1 and self.lot > 0):
            raise InputError(
                "clip, noise, honest and lot must be above 0", step="networks", cure="Change them in the rule."
            )

    @property
    def hides_sites(self) -> bool:
        """Exact figures of a site's rows beside it would undo it."""
        return True

    def loss(self, rounds: int) -> Loss:
        """Return what so many rounds tell about one site."""
        return Loss(None, rounds / (2 * self.noise**2))

    async def __call__(self, turn: Turn, state: State) -> Combined:
        """Shorten the update, and add all with noise."""
        if turn.beside.size:
            raise InputError(
                "numbers beside updates would be averaged without noise",
                step="networks",
                cure="Take FedAvg, FedProx, FedAdam or FedYogi, and a network without running statistics.",
            )
        noisy = NoisyTotals(turn.totals, (self.clip,) * turn.update.size, self.loss(1).rho, self.honest, length=1.0)
        update = turn.update.astype(np.float64) if turn.weight > 0 else np.zeros(turn.update.size)
        total = await noisy.total(clipped(update[None], self.clip), what="shortened updates of sites, with noise")
        return Combined((total / self.lot).astype(np.float32), turn.beside, self.lot)


def _sum_of_drawn(trainer: TorchTrainer, rows: RowGradients, params: DpSgd, rng: Rng) -> F64:
    """Draw rows, and return the sum of their short gradients."""
    x, y = trainer.rows
    at = trainer.torch.from_numpy(drawn(rng, len(x), params.rate)).to(x.device)
    trainer.module.train()
    return rows.clipped_sum(x[at], y[at], params.clip)


def _steps_of_pass(rate: float) -> int:
    return max(1, round(1 / rate))


def _refuse_statistics(layout: Layout) -> None:
    if layout.statistics.size:
        raise InputError(
            "the network keeps running statistics of rows, which no noise would hide",
            step="networks",
            cure="Take group norm or layer norm in place of batch norm.",
        )
