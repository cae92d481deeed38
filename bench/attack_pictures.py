"""Attacks on pictures under each protection: what an onlooker sees, and what it works out from it."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from typing import Any
from unittest import mock

import numpy as np
from numpy.typing import NDArray

from atoll.learn.horizontal.networks import NormBound, Plan, Quantised, TopBlocks, TorchTrainer
from atoll.learn.horizontal.networks.bound import Bond
from bench import digits, inversion
from bench.inversion import Score
from bench.lying_hub import isolated
from bench.onlookers import ONE_STEP, Clipped, Noise, at_aggregator, in_sum
from bench.perceptron import F32, F64, Perceptron, Rows

NETWORK = Perceptron(hidden=64)
CLIP = 0.05
EPSILON = 8.0
SITES = 10


# ------------------------------------------------------------------------------------ from the first layer


def site(k: int, rows: int, start: F32) -> Any:
    """The trainer of one site with some rows of its own."""
    x, y, *_ = digits.digits()
    mine = slice(k * rows, (k + 1) * rows)
    return Rows(NETWORK, start, x[mine], y[mine]).trainer


def nobody(start: F32) -> Any:
    """The trainer of an onlooker: a network and no rows."""
    return Rows(NETWORK, start, np.zeros((0, 64), np.float32), np.zeros(0, np.int64)).trainer


def exposed(update: NDArray, originals: F32, *, bins: bool = False) -> tuple[Score, Score]:
    """Attack the first layer; return the score, and that of as many pictures of other people."""
    weights, biases, *_ = NETWORK.split(update)
    found = (inversion.inputs_of_bins if bins else inversion.inputs_of_neurons)(weights, biases)
    *_, public, _ = digits.digits()
    return inversion.score(originals, found), inversion.score(originals, public[: max(len(found), 1)])


def honest(seed: int) -> F32:
    """A network that nobody chose."""
    return NETWORK.start(seed)


def trapped(seed: int) -> F32:
    """A network that the onlooker chose."""
    return inversion.trap(NETWORK, digits.digits()[2], seed)


def plainly(start: F32, rows: int, plan: Plan = ONE_STEP) -> F32:
    """One site's update, at an aggregator that sees each."""
    return at_aggregator(nobody(start), [site(0, rows, start), site(1, rows, start)], plan=plan)[0]


def added(start: F32, rows: int, sites: int, **options: Any) -> F32:
    """The total of all updates."""
    return in_sum(nobody(start), [site(k, rows, start) for k in range(sites)], **options)[0]


def with_noise(start: F32, rows: int, sites: int, epsilon: float = EPSILON) -> F32:
    """The total with noise that hides a site's whole update."""
    return in_sum(
        nobody(start), [Clipped(site(k, rows, start), CLIP) for k in range(sites)], noise=Noise(CLIP, epsilon)
    )[0]


def led_astray(start: F32, rows: int, sites: int, *, bound: bool) -> F64:
    """The total where a hub led all sites but the first to a dead network; masks bound to networks or not."""
    trainers = [site(k, rows, start) for k in range(sites)]
    with contextlib.nullcontext() if bound else unbound():
        return isolated(trainers, start, inversion.dead(NETWORK))


def unbound() -> AbstractContextManager[Any]:
    """Take the bond off the sums of a round."""
    return mock.patch.object(Bond, "label", lambda bond, what: what)


@dataclass(frozen=True)
class Case:
    """One attack on the first layer.

    Attributes:
        name: under what protection.
        start: the network to begin with.
        seen: what the onlooker sees, given that network.
        rows: pictures in what is seen, the first ones of the data.
        bins: whether the network is a trap.
        safe: whether no more than a guess may come out.
    """

    name: str
    start: Callable[[int], F32]
    seen: Callable[[F32], NDArray]
    rows: int
    bins: bool = False
    safe: bool = False


FIVE_PASSES = Plan(rounds=1, epochs=5, batch=4, lr=0.1, weights="equal", evaluate=0, seed=1)


def cases() -> list[Case]:
    """From no protection to all of it."""
    alone = partial(added, sites=1)  # shortened, but in a sum with nobody else
    return [
        Case("plain: 4 rows", honest, partial(plainly, rows=4), 4),
        Case("plain: 16 rows", honest, partial(plainly, rows=16), 16),
        Case("plain: 16 rows, 5 passes in steps of 4 rows", honest, partial(plainly, rows=16, plan=FIVE_PASSES), 16),
        Case("plain, the network is a trap: 16 rows", trapped, partial(plainly, rows=16), 16, bins=True),
        Case("plain, shortened updates: 4 rows", honest, partial(alone, rows=4, combine=NormBound(radius=0.1)), 4),
        Case("plain, 8 bits a number: 4 rows", honest, partial(alone, rows=4, combine=Quantised(bits=8)), 4),
        Case("plain, a tenth of the numbers: 1 row", honest, partial(alone, rows=1, combine=TopBlocks(keep=0.1)), 1),
        *(
            Case(f"secure sum of {n} sites: {rows} rows each", honest, partial(added, rows=rows, sites=n), n * rows,
                 safe=n * rows > 2 * NETWORK.hidden)
            for n, rows in ((2, 4), (5, 4), (10, 4), (2, 16), (10, 16))
        ),
        Case("secure sum of 10 sites, a trap for all: 4 rows each", trapped, partial(added, rows=4, sites=SITES), 40,
             bins=True),
        Case("secure sum of 10 sites, a trap for all: 16 rows each", trapped, partial(added, rows=16, sites=SITES),
             160, bins=True),
        Case("secure sum of 10 sites, a hub that lies, masks not bound: 16 rows each", trapped,
             partial(led_astray, rows=16, sites=SITES, bound=False), 16, bins=True),
        Case("secure sum of 10 sites, a hub that lies: 16 rows each", trapped,
             partial(led_astray, rows=16, sites=SITES, bound=True), 16, bins=True, safe=True),
        Case(f"secure sum of 10 sites and noise of ε = {EPSILON:g}: 4 rows each", honest,
             partial(with_noise, rows=4, sites=SITES), 40, safe=True),
        Case(f"secure sum of 10 sites and noise of ε = {EPSILON:g}, a trap for all: 4 rows each", trapped,
             partial(with_noise, rows=4, sites=SITES), 40, bins=True, safe=True),
        Case("secure sum of 10 sites and noise of ε = 1,000, a trap for all: 4 rows each", trapped,
             partial(with_noise, rows=4, sites=SITES, epsilon=1000.0), 40, bins=True),
    ]  # fmt: skip


# ------------------------------------------------------------------------------------------- by search


METHODS = {"differences (DLG)": False, "direction": True}
"""Searches, and whether they compare directions."""


def convolutional(lo: int, hi: int, seed: int) -> Any:
    """The trainer of a site with a small convolutional network and some rows."""
    import torch

    x, y, *_ = digits.digits()
    return TorchTrainer(inversion.small_convolutions(seed), torch.nn.functional.cross_entropy, (x[lo:hi], y[lo:hi]))


def update_of(sites: int, rows: int, seed: int, *, epsilon: float = 0.0) -> F32:
    """What is seen: one site's update, or the total of several, with noise if wanted; divided by the sites."""
    onlooker = convolutional(0, 0, seed)
    trainers = [convolutional(k * rows, (k + 1) * rows, seed) for k in range(sites)]
    if sites == 1:
        return at_aggregator(onlooker, trainers)[0]
    if epsilon:
        return in_sum(onlooker, [Clipped(one, CLIP) for one in trainers], noise=Noise(CLIP, epsilon))[0] / sites
    return in_sum(onlooker, trainers)[0] / sites


def searched(update: F32, rows: int, steps: int, seed: int) -> tuple[dict[str, tuple[Score, Score]], float]:
    """Attack a convolutional network in both ways; return the scores, and the share of labels that were found."""
    x, y, public, _ = digits.digits()
    module, gradient = inversion.small_convolutions(seed), -update
    labels = inversion.labels_of(gradient[-10:], rows, _chances(module, public))
    hits = sum((Counter(labels.tolist()) & Counter(y[:rows].tolist())).values())
    guess = inversion.score(x[:rows], public[:rows])
    found = {
        name: inversion.searched(module, gradient, labels, steps=steps, direction=direction, seed=seed)
        for name, direction in METHODS.items()
    }
    return {name: (inversion.score(x[:rows], one), guess) for name, one in found.items()}, hits / rows


def _chances(module: Any, public: F32) -> F64:
    import torch

    with torch.no_grad():
        found: F64 = torch.softmax(module(torch.as_tensor(public)), dim=1).mean(dim=0).double().numpy()
    return found
