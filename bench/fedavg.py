"""Federated averaging on scikit-learn's digits, beside the twin trained on pooled rows and Flower's simulation."""

import json
import time
from dataclasses import dataclass
from typing import Any

import msgspec

from atoll.learn.horizontal.networks import (
    Average,
    Buffering,
    FedAdam,
    FedAvg,
    FedNova,
    FedProx,
    FedYogi,
    Fitted,
    Mixed,
    Plan,
    Quantised,
    Scaffold,
    Simulation,
    TopBlocks,
    fit,
    simulate,
    simulate_buffered,
)
from atoll.learn.horizontal.networks.algorithms import Algorithm
from atoll.learn.horizontal.networks.combine import Combine
from atoll.protocols.secure_sum.totals import Totals
from bench import digits
from bench.harness import PeerUnavailable, Report, peer_environment
from bench.partition import evenly, skewed

TITLE = "Federated averaging of a small network, beside its central twin and Flower, and with a slow site"
SIZES = {"small": (10, 10), "medium": (50, 20), "large": (50, 40)}
"""Sites and rounds."""

GOAL = 97.0
SLOWER = 10
"""How many times longer the slow site takes for a local training."""

WIRE = 24
"""Bytes of a number in an exact secure sum."""

SERVER = FedAvg(momentum=0.7)
FLOWER = ("flwr[simulation]>=1.20", "torch==2.13.0", "scikit-learn>=1.6")
ALGORITHMS: dict[str, tuple[Algorithm, Combine]] = {
    "FedAvg": (FedAvg(), Average()),
    "FedAvg, server momentum": (SERVER, Average()),
    "FedProx, μ 0.1": (FedProx(mu=0.1), Average()),
    "FedNova": (FedNova(), Average()),
    "SCAFFOLD": (Scaffold(), Average()),
    "FedAdam": (FedAdam(server_lr=0.02), Average()),
    "FedYogi": (FedYogi(server_lr=0.02), Average()),
    "FedAvg, a quarter of the blocks": (FedAvg(), TopBlocks(keep=0.25)),
    "FedAvg, 8 bits": (FedAvg(), Quantised(bits=8)),
}


@dataclass(frozen=True)
class Run:
    """Accuracies in % after each round, seconds, seconds of the processor, and bytes that all sites give to sums."""

    accuracy: list[float]
    seconds: float
    cpu: float
    bytes: int

    @property
    def reached(self) -> int | None:
        """The first round that reaches the goal."""
        return next((k for k, value in enumerate(self.accuracy, 1) if value >= GOAL), None)


def run(size: str, report: Report) -> None:
    """Train at simulated sites and centrally, and compare; at the largest size every algorithm on skewed sites."""
    import torch

    torch.set_num_threads(1)  # of one small network a second thread makes nothing faster
    sites, rounds = SIZES[size]
    plan = Plan(rounds=rounds, epochs=5, batch=10, lr=0.1, seed=1)
    parts = evenly(len(digits.digits()[0]), sites)
    mine = federated(parts, plan, optimizer=digits.momentum, algorithm=SERVER)
    start = time.perf_counter()
    twin = central(plan)
    seconds = time.perf_counter() - start
    peer = flower(sites, plan) if size != "small" else {"note": ""}
    what = f"digits, {sites} sites, {rounds} rounds of 5 passes"
    report.row(
        f"{what}: accuracy", mine.accuracy[-1], unit="%", limit=twin[-1], limit_name="the same passes on pooled rows",
        peer=peer.get("accuracy"), peer_name="Flower, simulation", goal=GOAL if size != "small" else None,
        note=f"{GOAL:g} % in round {mine.reached}; best {max(mine.accuracy):.2f} %, central {max(twin):.2f} %",
    )  # fmt: skip
    report.row(
        what, mine.seconds, unit="s", limit=seconds, limit_name="the same passes on pooled rows",
        peer=peer.get("seconds"), peer_name="Flower, simulation", goal=60.0, bytes=mine.bytes,
        note=f"one process, processor time {mine.cpu:.0f} s; bytes as of exact secure sums, {WIRE} a number; "
        f"{peer['note']}".rstrip("; "),
    )  # fmt: skip
    slow_site(report, sites, rounds)
    if size == "large":
        compare(report, plan, sites, seconds)


def slow_site(report: Report, sites: int, rounds: int) -> None:
    """One site trains ten times slower: rounds that wait for it, beside buffers that do not, on a clock that counts.

    A local training takes a fast site one unit of time, whatever it takes here; messages take none.
    """
    parts, plan = evenly(len(digits.digits()[0]), sites), Plan(rounds=rounds, epochs=5, batch=10, lr=0.1, seed=1)
    waiting = federated(parts, plan, optimizer=digits.momentum)
    size = max(3, sites // 3)
    many = msgspec.structs.replace(plan, rounds=rounds * sites // size)
    times, accuracy = buffered(parts, many, Buffering(size=size))
    for goal in (95.0, GOAL):
        before = next((k for k, value in enumerate(waiting.accuracy, 1) if value >= goal), None)
        after = next((at for at, value in zip(times, accuracy, strict=True) if value >= goal), None)
        report.row(
            f"digits, {sites} sites, one {SLOWER} times slower, buffers of {size}: time to {goal:g} %",
            times[-1] if after is None else after, unit="trainings of a fast site",
            limit=None if before is None else float(before * SLOWER), limit_name="rounds that wait for all",
            note=f"simulated clock; best {max(accuracy):.2f} %, with rounds {max(waiting.accuracy):.2f} %"
            + ("; not reached" if after is None else ""),
        )  # fmt: skip


def buffered(parts: list[Any], plan: Plan, rules: Buffering) -> tuple[list[float], list[float]]:
    """Train in buffers, the last site slow; times of the versions, and their accuracies in % on all held-out rows."""
    import torch

    *_, x, y = (torch.as_tensor(part) for part in digits.digits())
    named = {f"site-{k:02d}": one for k, one in enumerate(digits.trainers(parts, optimizer=digits.momentum))}
    seconds = {name: 1.0 + 0.01 * k for k, name in enumerate(named)} | {max(named): float(SLOWER)}
    network, times, accuracy = digits.network(), list[float](), list[float]()

    def look(at: float, mixed: Mixed, model: Any) -> None:
        torch.nn.utils.vector_to_parameters(torch.as_tensor(model), network.parameters())
        with torch.no_grad():
            accuracy.append(100 * (network(x).argmax(dim=1) == y).double().mean().item())
        times.append(at)

    plan = msgspec.structs.replace(plan, evaluate=0)
    simulate_buffered(named, plan, rules, seconds=seconds, on_buffer=look)
    return times, accuracy


def compare(report: Report, plan: Plan, sites: int, limit: float) -> None:
    """Every algorithm with plain local descent, on sites whose labels differ."""
    parts = skewed(digits.digits()[1], sites, alpha=0.3, least=2)
    plan = Plan(rounds=plan.rounds, epochs=5, batch=10, lr=0.2, seed=1)
    for name, (algorithm, combine) in ALGORITHMS.items():
        done = federated(parts, plan, algorithm=algorithm, combine=combine)
        report.row(
            f"{name}, skewed labels (α 0.3): accuracy", done.accuracy[-1], unit="%", bytes=done.bytes,
            note=f"{done.seconds:.0f} s; best {max(done.accuracy):.2f} %; {GOAL:g} % in round {done.reached}",
        )  # fmt: skip


def federated(parts: list[Any], plan: Plan, *, optimizer: Any = None, **options: Any) -> Run:
    """Train at simulated sites."""
    trainers = digits.trainers(parts, **({} if optimizer is None else {"optimizer": optimizer}))
    met: list[Simulation] = []

    async def site(totals: Totals) -> Fitted:
        return await fit(trainers[totals.sites.index(totals.site)], totals, plan, **options)

    start, cpu = time.perf_counter(), time.process_time()
    done = simulate(len(parts), site, simulation=met.append)[0]
    seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
    accuracy = [100 * one.metrics["accuracy"] for one in done.rounds]
    return Run(accuracy, seconds, cpu, WIRE * met[0].numbers * len(parts))


def central(plan: Plan) -> list[float]:
    """The same network, batches and number of passes, in plain PyTorch on pooled rows; accuracies in %."""
    import torch

    x, y, held_x, held_y = (torch.as_tensor(part) for part in digits.digits())
    network = digits.network()
    optimizer = digits.momentum(network.parameters(), plan.lr)
    accuracy = []
    for _ in range(plan.rounds):
        for _ in range(plan.epochs):
            for rows in torch.randperm(len(x)).split(plan.batch):
                optimizer.zero_grad()
                torch.nn.functional.cross_entropy(network(x[rows]), y[rows]).backward()
                optimizer.step()
        with torch.no_grad():
            accuracy.append(100 * (network(held_x).argmax(dim=1) == held_y).double().mean().item())
    return accuracy


def flower(sites: int, plan: Plan) -> dict[str, Any]:
    """The same task in Flower's simulation, in an environment of its own."""
    task = {"sites": sites, "rounds": plan.rounds, "epochs": plan.epochs, "batch": plan.batch, "lr": plan.lr}
    task["momentum"] = SERVER.momentum
    try:
        environment = peer_environment("flower", FLOWER)
    except PeerUnavailable as missing:
        return {"note": str(missing)}
    found: dict[str, Any] = environment.run("-m", "bench.peers.flower_digits", json.dumps(task)).value
    return found | {"note": f"Flower {found['version']} with 2 workers"}
