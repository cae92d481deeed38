"""The one loop of learning by averages: draw sites, train at each, combine, step, look how good it is.

Every site runs it, and all that a site learns of the others are sums: there is no server, and each does alike what a
server would do with an average.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Literal

import msgspec
import numpy as np

from atoll.core.errors import AtollError, InputError, ProtocolError
from atoll.crypto.random import Rng
from atoll.learn.horizontal.networks import agreed
from atoll.learn.horizontal.networks.algorithms import Algorithm, FedAvg
from atoll.learn.horizontal.networks.averages import F32, Averages, ExactAverages
from atoll.learn.horizontal.networks.bound import bind
from atoll.learn.horizontal.networks.combine import Average, Combine, Turn
from atoll.learn.horizontal.networks.kept import Keeper, Progress, Round
from atoll.learn.horizontal.networks.local import Local
from atoll.learn.horizontal.networks.seen_updates import Aggregator
from atoll.learn.horizontal.networks.trainer import Trained, Trainer, Work
from atoll.protocols.secure_sum.totals import Totals


class Plan(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How long and how sites train; the same at all of them.

    Args:
        rounds: at least 1.
        epochs: passes over a site's rows in a round, at least 1.
        batch: rows of a local step; 0 for all of a site at once.
        lr: local learning rate, above 0.
        schedule: how it changes with the rounds: stays, falls as a cosine to 0, or times `decay` each round.
        decay: in (0, 1].
        sample: share of the sites drawn for each round, at least one site, in (0, 1].
        weights: sites count by their rows, or all alike.
        most_rows: most rows by which a site counts, at least 1; 0 for any number. It bounds what a wrong number can do.
        evaluate: look at held-out rows every so many rounds, and after the last; 0 for never.
        patience: stop after so many looks without a lower loss; 0 for never.
        seed: of everything drawn; sites draw a common one if left out.
    """

    rounds: int = 10
    epochs: int = 1
    batch: int = 32
    lr: float = 0.1
    schedule: Literal["constant", "cosine", "exponential"] = "constant"
    decay: float = 0.99
    sample: float = 1.0
    weights: Literal["rows", "equal"] = "rows"
    most_rows: int = 0
    evaluate: int = 1
    patience: int = 0
    seed: int | None = None

    def __post_init__(self) -> None:
        rules = {
            "rounds": (self.rounds >= 1, "at least 1"),
            "epochs": (self.epochs >= 1, "at least 1"),
            "batch": (self.batch >= 0, "at least 0"),
            "most_rows": (self.most_rows >= 0, "at least 0"),
            "lr": (0 < self.lr < math.inf, "above 0"),
            "decay": (0 < self.decay <= 1, "in (0, 1]"),
            "sample": (0 < self.sample <= 1, "in (0, 1]"),
            "evaluate": (self.evaluate >= 0, "at least 0"),
            "patience": (self.patience >= 0, "at least 0"),
        }
        for name, (good, wanted) in rules.items():
            if not good:
                raise InputError(
                    f"parameter {name} is {getattr(self, name)!r}, but must be {wanted}",
                    step="networks",
                    cure=f"Change {name} in the plan.",
                )

    def lr_at(self, number: int) -> float:
        """Return the learning rate of a round, counted from 0."""
        if self.schedule == "cosine":
            return self.lr * (1 + math.cos(math.pi * number / self.rounds)) / 2
        return self.lr * self.decay**number if self.schedule == "exponential" else self.lr

    def drawn(self, seed: bytes, number: int, sites: tuple[str, ...]) -> frozenset[str]:
        """Return the sites that train in a round."""
        count = max(1, round(self.sample * len(sites)))
        order = agreed.stream(seed, "sites", number).permutation(len(sites))
        return frozenset(sites[i] for i in order[:count])

    def weight(self, rows: int) -> float:
        """Return what a site with so many rows counts."""
        if self.weights == "equal":
            return float(rows > 0)
        return float(min(rows, self.most_rows) if self.most_rows else rows)

    def most(self, sites: int) -> float:
        """Return what so many sites count at most."""
        most = 1.0 if self.weights == "equal" else self.most_rows or math.inf
        return most * sites * (1 + 1e-9)  # carriers may round

    def looks(self, number: int) -> bool:
        """Whether held-out rows are looked at after a round, counted from 1."""
        return self.evaluate > 0 and (number % self.evaluate == 0 or number == self.rounds)


@dataclass(frozen=True)
class Fitted:
    """The outcome, the same at all sites: the network's shared numbers, its rounds, and the shared state."""

    model: F32
    rounds: tuple[Round, ...]
    shared: Mapping[str, F32]


async def fit(
    trainer: Trainer,
    totals: Totals,
    plan: Plan,
    *,
    algorithm: Algorithm = FedAvg(),  # noqa: B008 (frozen)
    combine: Combine = Average(),  # noqa: B008 (frozen)
    averages: Averages | None = None,
    aggregator: Aggregator | None = None,
    keeper: Keeper | None = None,
    rng: Rng | None = None,
    on_round: Callable[[Round], object] = lambda done: None,
) -> Fitted:
    """Train one network with all other sites; afterwards the trainer holds it.

    All start from the network of the site whose name comes first.

    Args:
        trainer: this site's network and rows.
        totals: exact sums over all sites.
        plan: the same at all sites, as are `algorithm` and `combine`.
        algorithm: what averages do to the network.
        combine: how updates become one.
        averages: what carries vectors of the network's size; exact sums if left out.
        aggregator: what combines single updates, for `Seen`.
        keeper: where this site keeps its side after every round; all sites go on from the last round that all kept.
        rng: this site's randomness.
        on_round: called after every round.

    Returns:
        The network and its rounds, the same at all sites.

    Raises:
        InputError: training diverges, no site has rows, or the trainer cannot do what the algorithm needs.
        ContractError: sites have different networks, algorithms or plans.
    """
    if algorithm.needs_pull and not trainer.pulls:
        raise InputError(
            f"{type(algorithm).__name__} changes local gradients, which this trainer does not offer",
            site=totals.site,
            step="networks",
            cure="Heed `work.pull` in the training function and say `pulls=True`, or choose another algorithm.",
        )
    if combine.hides_sites and plan.evaluate:
        raise InputError(
            f"{type(combine).__name__} hides sites, and a look at held-out rows adds up exact figures of each",
            site=totals.site,
            step="networks",
            cure="Say `evaluate=0` in the plan, and look at rows that need no protection.",
        )
    site = _Site(trainer, totals, averages or ExactAverages(totals), plan, algorithm, combine, aggregator)
    progress = await site.begin(keeper, rng or Rng.system())
    while len(progress.rounds) < plan.rounds and not _enough(plan, progress.rounds):
        done = await site.round(progress)
        if keeper is not None:
            keeper.keep(progress)
        on_round(done)
    site.local.install(progress.model, progress.own)
    return Fitted(progress.model, tuple(progress.rounds), progress.state.shared)


@dataclass
class _Site:
    """One site's part of the loop."""

    trainer: Trainer
    totals: Totals
    averages: Averages
    plan: Plan
    algorithm: Algorithm
    combine: Combine
    aggregator: Aggregator | None

    def __post_init__(self) -> None:
        self.local = Local(self.trainer, self.totals.site)
        self.weights = self.local.weights

    async def begin(self, keeper: Keeper | None, rng: Rng) -> Progress:
        """Make sure that all do the same, and find the common beginning or the last round that all sites kept."""
        vector = self.trainer.parameters()
        sizes = [self.local.places.size, self.weights, *self.totals.sites]
        document = msgspec.json.encode([self.plan, self.algorithm, self.combine, sizes])
        await agreed.check_same(self.totals, document, what="the network, the algorithm and the plan")
        run = hashlib.sha256(document).digest()
        kept = keeper.read(run) if keeper is not None else {}
        have = np.isin(np.arange(self.plan.rounds + 1), list(kept)).astype(np.float64)
        everywhere = await self.totals.total(have, what="rounds kept") == len(self.totals.sites)
        common = np.flatnonzero(everywhere & (have > 0))
        if common.size:
            return kept[int(common[-1])]
        seed = await agreed.agree_on_seed(self.totals, rng)
        if self.plan.seed is not None:
            seed = hashlib.sha256(str(self.plan.seed).encode()).digest()[:16]
        first = float(self.totals.site == self.totals.sites[0])
        exact = ExactAverages(self.totals)  # another carrier may be made for the size of updates
        model, _ = await exact.average(self.local.shared(vector), first, what="the network to begin with")
        return Progress(run, seed, model, vector[self.local.own])

    async def round(self, progress: Progress) -> Round:
        """Train where it is this site's turn, combine, step; `progress` moves on by one round."""
        number = len(progress.rounds)
        state, drawn = progress.state, self.plan.drawn(progress.seed, number, self.totals.sites)
        change, beside, done = np.zeros(self.weights, np.float32), self._nothing(), Trained(0, 0, 0.0)
        if self.totals.site in drawn:
            change, beside, done = await self._train(progress, number)
        weight = self.plan.weight(done.rows)
        seed = agreed.stream(progress.seed, "combining", number).bytes(16)
        score = partial(self._score, progress)
        totals, averages = await bind(self.totals, self.averages, progress)
        turn = Turn(totals, averages, change, beside, weight, seed, self.aggregator, score)
        mean = await self.combine(turn, state)
        if mean.weight > self.plan.most(len(drawn)):
            raise ProtocolError(
                f"sites count for {mean.weight:,.0f} rows together, and {len(drawn)} sites have "
                f"{self.plan.most(len(drawn)):,.0f} at most: one has told a wrong number",
                site=self.totals.site,
                step="networks",
            )
        extra, statistics = np.split(mean.beside, [self.algorithm.beside(self.weights)])
        moved = self.algorithm.step(mean.update, extra, len(drawn) / len(self.totals.sites), state)
        progress.model = progress.model + np.concatenate([moved, statistics])
        metrics, loss = await self._look(progress, done) if self.plan.looks(number + 1) else ({}, None)
        progress.rounds.append(Round(number + 1, metrics, loss, mean.weight))
        return progress.rounds[-1]

    async def _train(self, progress: Progress, number: int) -> tuple[F32, F32, Trained]:
        """Train from the common network; return the update, what goes beside it, and what training says."""
        seed = agreed.number(progress.seed, "training", number, self.totals.site)
        pull = self.algorithm.pull(progress.state, self.weights)
        work = Work(number, self.plan.epochs, self.plan.batch, self.plan.lr_at(number), seed, pull)
        change, progress.own, done = await self.local.train(progress.model, progress.own, work)
        if done.rows == 0:
            return np.zeros(self.weights, np.float32), self._nothing(), done
        try:
            update, extra = self.algorithm.upload(change[: self.weights], done, progress.state)
        except AtollError as error:
            raise error.located(site=self.totals.site, step="networks") from None
        return update, np.concatenate([extra, change[self.weights :]]), done

    async def _look(self, progress: Progress, done: Trained) -> tuple[dict[str, float], float]:
        """Return the metrics of all sites' held-out rows, and the training loss."""
        metrics, (loss, rows) = await self._metrics(progress.model, progress.own, done.loss * done.rows, done.rows)
        return metrics, loss / rows if rows > 0 else 0.0

    async def _score(self, progress: Progress, change: F32) -> dict[str, float]:
        """Return the metrics of the network moved by a change, which is the same at every site."""
        if change.size != progress.model.size:
            raise InputError(
                f"{type(self.algorithm).__name__} averages more than updates, so that parts of it cannot be rated",
                step="networks",
                cure="Take FedAvg or FedProx.",
            )
        return (await self._metrics(progress.model + change, progress.own))[0]

    async def _metrics(self, model: F32, own: F32, *beside: float) -> tuple[dict[str, float], list[float]]:
        """Return a network's metrics over all sites' held-out rows, and the sums of what goes beside them."""
        sums = await self.local.evaluate(model, own)
        names = sorted(sums.keys() - {"rows"})
        mine = np.array([sums["rows"], *(sums[name] for name in names), *beside], np.float64)
        rows, *told = (await self.totals.total(mine, what=f"metrics: {', '.join(names)}")).tolist()
        metrics = {name: value / rows for name, value in zip(names, told[: len(names)], strict=True)} if rows else {}
        return metrics, told[len(names) :]

    def _nothing(self) -> F32:
        """What goes beside the update of a site that was not drawn."""
        return np.zeros(self.algorithm.beside(self.weights) + self.local.layout.statistics.size, np.float32)


def _enough(plan: Plan, rounds: list[Round]) -> bool:
    """Whether the loss has not fallen for `patience` looks."""
    losses = [done.metrics["loss"] for done in rounds if "loss" in done.metrics]
    return plan.patience > 0 and len(losses) - 1 - int(np.argmin(losses or [0])) >= plan.patience
