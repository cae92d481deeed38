"""One site of a training that goes wrong, as a process of its own; a session tells the others why a site ends."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from atoll.core.channel import Channel, Gate
from atoll.core.errors import AtollError
from atoll.core.session import Session
from atoll.crypto.random import Rng
from atoll.learn.horizontal.networks import Plan, TorchTrainer, fit
from atoll.protocols.secure_sum import direct
from atoll.protocols.secure_sum.sums import Sums
from atoll.transport.grpc_link import Endpoint
from atoll.transport.site import load_site

NAMES = ("a", "b", "c")
GUILTY = "b"
PLAN = Plan(rounds=2, epochs=1, batch=0, lr=0.5, seed=5, evaluate=0, most_rows=100)


def rows(name: str) -> tuple[Any, Any]:
    """Forty rows of a site: which side of a plane they lie on."""
    draw = np.random.default_rng(NAMES.index(name))
    x = draw.normal(size=(40, 3)).astype(np.float32)
    return x, (x.sum(axis=1) > 0).astype(np.int64)


def trainer(x: Any, y: Any, width: int = 2) -> TorchTrainer:
    """A linear classifier in PyTorch, the same at every site."""
    import torch

    torch.set_num_threads(1)
    torch.manual_seed(1)
    return TorchTrainer(torch.nn.Linear(3, width), torch.nn.functional.cross_entropy, (x, y))


def steepened(made: TorchTrainer) -> TorchTrainer:
    """Let every gradient of a trainer be no number, as 0 · ∞ in a loss gives."""
    for value in made.module.parameters():
        value.register_hook(lambda gradient: gradient * float("nan"))
    return made


def site_with(fault: str, name: str) -> TorchTrainer:
    """A site's trainer; that of the guilty one with a fault."""
    x, y = rows(name)
    ways: dict[str, Callable[[], TorchTrainer]] = {
        "gradients": lambda: steepened(trainer(x, y)),
        "shape": lambda: trainer(x, y, width=3),
        "divergence": lambda: trainer(x * 1e30, y),
    }
    return ways[fault]() if name == GUILTY and fault in ways else trainer(x, y)


def plan_of(fault: str, name: str) -> Plan:
    """The plan; that of a site with changed software counts a million rows and says that it counts as all do."""
    if fault == "lie" and name == GUILTY:
        Plan.weight = lambda plan, rows: 1e6  # type: ignore[method-assign]
    return PLAN


async def train(folder: Path, name: str, fault: str) -> list[float]:
    """Train with the two others; return the network."""
    site, peers = load_site(folder / name), [peer for peer in NAMES if peer != name]
    async with Endpoint(site, listen=site.card.address, join_within=30, lost_after=2) as endpoint:
        calls = (endpoint.link("job", site.peer(p), dial=NAMES.index(name) > NAMES.index(p)) for p in peers)
        links = dict(zip(peers, await asyncio.gather(*calls), strict=True))
        async with Session(Gate(name, "job", timeout=30), links, hub=NAMES[0]) as session:
            with session.step("networks", uses=[direct.PROTOCOL]):
                own: dict[str, Channel] = {peer: channel.sub("sums") for peer, channel in session.peers.items()}
                sums = Sums(await direct.site(own, rng=Rng.system()), Rng.system())
                done = await fit(site_with(fault, name), sums, plan_of(fault, name))
    return [float(value) for value in done.model]


def run(folder: str, name: str, fault: str) -> None:
    """Be a site; print the network or the error, and end as `atoll` would."""
    try:
        print(json.dumps(asyncio.run(train(Path(folder), name, fault))))
    except AtollError as error:
        print(json.dumps(error.to_dict()))
        raise SystemExit(error.exit_code) from None
    raise SystemExit(0)
