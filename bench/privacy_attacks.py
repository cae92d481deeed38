"""What an onlooker of training gets under each protection: pictures by gradient inversion, members by inference.

scikit-learn's digits are the pictures.  Beside every figure of an inversion stands what somebody gets who has seen
nothing, and offers as many pictures of other people instead: digits look alike, so that this is more than 10 dB.
"""

from __future__ import annotations

import importlib
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any
from unittest import mock

import numpy as np
from numpy.typing import NDArray

from atoll.learn.horizontal.networks import NormBound, Plan, Quantised, TopBlocks, TorchTrainer
from bench import digits, inversion, membership
from bench.harness import Report
from bench.inversion import Score
from bench.lying_hub import isolated
from bench.onlookers import ONE_STEP, Clipped, Noise, at_aggregator, in_sum
from bench.perceptron import F32, F64, I64, Perceptron, Rows

TITLE = "Attacks on training: what an onlooker gets under each protection"


@dataclass(frozen=True)
class Size:
    """How much is attacked.

    Attributes:
        starts: random networks over which figures of inversion are averaged.
        steps: of a search for pictures.
        worlds: trainings with and without each person.
        noisy: likewise where noise is added, which takes long to draw.
        rounds: of training with noise.
    """

    starts: int
    steps: int
    worlds: int
    noisy: int
    rounds: int


SIZES = {"small": Size(1, 150, 9, 5, 20), "medium": Size(3, 400, 17, 9, 30), "large": Size(10, 1000, 65, 33, 60)}

NETWORK = Perceptron(hidden=64)
CLIP = 0.05
EPSILON, STRICT = 8.0, 1.0
SITES = 10


def run(size: str, report: Report) -> None:
    """Both kinds of attack."""
    import torch

    torch.set_num_threads(1)
    pictures(SIZES[size], report)
    convolutions(SIZES[size], report)
    members(SIZES[size], report)


# ------------------------------------------------------------------------------------ pictures, from the first layer


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
    fit = importlib.import_module("atoll.learn.horizontal.networks.fit")  # the package has a function of this name
    with mock.patch.object(fit, "name_of", fit.name_of if bound else lambda model: "network"):
        return isolated(trainers, start, inversion.dead(NETWORK))


@dataclass(frozen=True)
class Case:
    """One attack on the first layer.

    Attributes:
        name: under what protection.
        start: the network to begin with.
        seen: what the onlooker sees, given that network.
        rows: pictures in what is seen, the first ones of the data.
        bins: whether the network is a trap.
        safe: whether the protection promises that nothing is recovered.
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
    alone = partial(added, sites=1)
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


def pictures(size: Size, report: Report) -> None:
    """Inputs of the first layer, by division."""
    x, *_ = digits.digits()
    for case in cases():
        scores = []
        for seed in range(size.starts):
            start = case.start(seed)
            scores.append(exposed(case.seen(start), x[: case.rows], bins=case.bins))
        told(report, f"first layer, {case.name}", scores, safe=case.safe)


def told(
    report: Report, what: str, scores: Sequence[tuple[Score, Score]], *, safe: bool = False, note: str = ""
) -> None:
    """Write a row: mean PSNR beside that of a guess; where protection promises it, no better than the guess."""
    mine, guess = (float(np.mean([pair[i].psnr for pair in scores])) for i in (0, 1))
    recovered = float(np.mean([pair[0].recovered for pair in scores]))
    similar = float(np.mean([pair[0].ssim for pair in scores]))
    report.row(
        what, mine, unit="dB", limit=guess, limit_name="guess", goal=guess + 1 if safe else None,
        note=f"{100 * recovered:.0f} % of pictures recovered, SSIM {similar:.2f}{note}",
    )  # fmt: skip


# ------------------------------------------------------------------------------------------- pictures, by search


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


def convolutions(size: Size, report: Report) -> None:
    """Pictures whose gradient is the one that was seen, and the labels."""
    cases: tuple[tuple[str, int, int, float, bool], ...] = (
        ("plain: 1 row", 1, 1, 0.0, False),
        ("plain: 4 rows", 1, 4, 0.0, False),
        ("plain: 8 rows", 1, 8, 0.0, False),
        ("secure sum of 2 sites: 8 rows each", 2, 8, 0.0, False),
        ("secure sum of 5 sites: 8 rows each", 5, 8, 0.0, False),
        ("secure sum of 10 sites: 1 row each", 10, 1, 0.0, False),
        ("secure sum of 10 sites: 8 rows each", 10, 8, 0.0, True),
        (f"secure sum of 10 sites and noise of ε = {EPSILON:g}: 1 row each", 10, 1, EPSILON, True),
    )
    for name, sites, rows, epsilon, safe in cases:
        both: dict[str, list[tuple[Score, Score]]] = {"DLG": [], "direction": []}
        right = []
        for seed in range(size.starts):
            update = update_of(sites, rows, seed, epsilon=epsilon)
            found, share = searched(update, sites * rows, size.steps, seed)
            right.append(share)
            for method, pair in found.items():
                both[method].append(pair)
        best = max(both, key=lambda method: np.mean([pair[0].psnr for pair in both[method]]))
        note = f", {100 * np.mean(right):.0f} % of labels; best of {' and '.join(both)}: {best}"
        told(report, f"convolutions, {name}", both[best], safe=safe, note=note)


def searched(update: F32, rows: int, steps: int, seed: int) -> tuple[dict[str, tuple[Score, Score]], float]:
    """Attack a convolutional network in both ways; return the scores, and the share of labels that were found."""
    x, y, public, _ = digits.digits()
    module, gradient = inversion.small_convolutions(seed), -update
    labels = inversion.labels_of(gradient[-10:], rows, _chances(module, public))
    hits = sum((Counter(labels.tolist()) & Counter(y[:rows].tolist())).values())
    guess = inversion.score(x[:rows], public[:rows])
    found = {
        name: inversion.searched(module, gradient, labels, steps=steps, direction=direction, seed=seed)
        for name, direction in (("DLG", False), ("direction", True))
    }
    return {name: (inversion.score(x[:rows], one), guess) for name, one in found.items()}, hits / rows


def _chances(module: Any, public: F32) -> F64:
    import torch

    with torch.no_grad():
        found: F64 = torch.softmax(module(torch.as_tensor(public)), dim=1).mean(dim=0).double().numpy()
    return found


# -------------------------------------------------------------------------------------------------------- members


PEOPLE, SITES_OF_FEW = 200, 10
MANY, SITES_OF_MANY = 1400, 5
OFTEN = Plan(rounds=20, epochs=5, batch=10, lr=0.2, weights="equal", evaluate=0, seed=1)


@dataclass(frozen=True)
class World:
    """Half of the people, in one world of many; person i is with site i modulo `count` if anywhere."""

    members: NDArray[np.bool_]
    x: F32
    y: I64
    count: int
    network: Perceptron

    @property
    def start(self) -> F32:
        """Where training begins."""
        return self.network.start(0)

    @property
    def home(self) -> I64:
        """The site of each person."""
        return np.arange(len(self.y)) % self.count

    def nobody(self) -> Any:
        """The onlooker's trainer."""
        return Rows(self.network, self.start, self.x[:0], self.y[:0]).trainer

    def sites(self, **options: Any) -> list[Any]:
        """The trainers of all sites."""
        chosen = [self.members & (self.home == k) for k in range(self.count)]
        return [Rows(self.network, self.start, self.x[one], self.y[one], **options).trainer for one in chosen]


def worlds(people: int, sites: int, count: int, hidden: int) -> list[World]:
    """Draw worlds over the first people of the data."""
    x, y, *_ = digits.digits()
    drawn = membership.worlds(people, count)
    return [World(inside, x[:people], y[:people], sites, Perceptron(hidden=hidden)) for inside in drawn]


def guessed(found: list[World], look: Callable[[World], F64]) -> membership.Guessed:
    """Look at every world and tell members from others."""
    return membership.likelihood_ratios(np.array([look(one) for one in found]), np.array([w.members for w in found]))


def looks_alone(world: World) -> F64:
    """How each person looks in the update of its own site."""
    updates = at_aggregator(world.nobody(), world.sites())
    found = [membership.likeness(world.network, world.start, one, world.x, world.y) for one in updates]
    return np.array(found)[world.home, np.arange(len(world.y))]


def looks_in_sum(world: World) -> F64:
    """How each person looks in the total of all updates."""
    total, _ = in_sum(world.nobody(), world.sites())
    return membership.likeness(world.network, world.start, total, world.x, world.y)


def trained(world: World) -> tuple[F32, float]:
    """The network at the end of training, and an infinite ρ."""
    total, spent = in_sum(world.nobody(), world.sites(), plan=OFTEN)
    return world.start + total / np.float32(world.count), spent


def trained_with_noise(
    world: World, rounds: int, epsilon: float, clip: float = 0.1, lr: float = 4.0
) -> tuple[F32, float]:
    """The network at the end of training with noise that hides each person, of ε in all, and ρ."""
    planned = len(world.y) // 2 // world.count
    plan = Plan(rounds=rounds, epochs=1, batch=0, lr=lr, weights="equal", evaluate=0, seed=1)
    change = lr * clip / planned  # of one person, in every number of a round's total
    sites = world.sites(clip=clip, planned=planned)
    total, spent = in_sum(world.nobody(), sites, plan=plan, noise=Noise(change, epsilon))
    return world.start + total / np.float32(world.count), spent


@dataclass
class AtTheEnd:
    """How each person looks in a trained network.

    Attributes:
        train: gives the network and the ρ of its noise.
        right: accuracy on held-out pictures, of every network so far.
        spent: ρ.
    """

    train: Callable[[World], tuple[F32, float]]
    right: list[float] = field(default_factory=list)
    spent: float = np.inf

    def __call__(self, world: World) -> F64:
        """Train, and look."""
        (vector, self.spent), (*_, x, y) = self.train(world), digits.digits()
        self.right.append(float(np.mean(world.network.chances(vector, x).argmax(axis=1) == y)))
        return membership.confidence(world.network, vector, world.x, world.y)


def members(size: Size, report: Report) -> None:
    """Who was among the rows: few people, whom a network can learn by heart, and many."""
    few = worlds(PEOPLE, SITES_OF_FEW, size.worlds, hidden=16)
    many = worlds(MANY, SITES_OF_MANY, size.noisy, hidden=8)
    inferred(report, f"plain: one site's update, {PEOPLE // SITES_OF_FEW // 2} rows", guessed(few, looks_alone))
    inferred(report, f"secure sum of {SITES_OF_FEW} sites: the total, {PEOPLE // 2} rows", guessed(few, looks_in_sum))
    noisy = [(found, epsilon) for found, epsilon in ((few[: size.noisy], EPSILON), (many, EPSILON), (many, STRICT))]
    for found, epsilon in ((few, 0.0), noisy[0], (many, 0.0), *noisy[1:]):
        look = AtTheEnd(partial(trained_with_noise, rounds=size.rounds, epsilon=epsilon) if epsilon else trained)
        done = guessed(found, look)
        noise = f" and noise of ε = {epsilon:g}" if epsilon else ""
        what = f"secure sum of {found[0].count} sites{noise}: the network at the end, {len(found[0].y) // 2} rows"
        inferred(report, what, done, look)


def inferred(report: Report, what: str, done: membership.Guessed, look: AtTheEnd | None = None) -> None:
    """Write a row: the attack's AUC; with noise, it may not be above what the noise allows, but for chance."""
    found, rarely = 100 * done.found(0.01), 100 * done.found(0.001)
    words = [f"finds {found:.1f} % of members at 1 % false alarms, {rarely:.1f} % at 0.1 %"]
    goal = None
    if look and look.spent < np.inf:
        goal = membership.allowed_auc(look.spent) + done.chance
        words.append(f"the noise allows {100 * membership.allowed(0.01, look.spent):.1f} % at 1 %")
    if look:
        words.append(f"accuracy of the network {100 * np.mean(look.right):.0f} %")
    report.row(
        f"members, {what}", done.auc, unit="AUC of the attack", limit=0.5, limit_name="guess", goal=goal,
        note=f"± {done.chance:.2f} by chance; {'; '.join(words)}",
    )  # fmt: skip
