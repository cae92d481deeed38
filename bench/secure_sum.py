"""Ten sites average a network's parameters behind masks, as processes over mutual TLS; beside Flower and NVFlare."""

import asyncio
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from atoll.core.channel import Channel, Gate
from atoll.crypto import fixed_point, homomorphic, lattice_sum, prime_transform, secret_shares, sum_tags, word_ring
from atoll.crypto.random import Rng
from atoll.node.process import settle
from atoll.protocols.pairwise_keys import Seal
from atoll.protocols.secure_sum.sums import Sums
from atoll.protocols.secure_sum.topology import Topology, join, protocol_of
from atoll.transport.grpc_link import Endpoint
from atoll.transport.site import init_site, load_site
from bench.harness import Report, free_ports, repeated, run_processes
from bench.peers import horizontal

TITLE = "One averaging round of ten sites behind masks, beside Flower and NVFlare"
SIZES = {"small": 1_000_000, "medium": 1_000_000, "large": 10_000_000}
"""Parameters; from medium on the peers run, too."""

SITES, ROUNDS = 10, 7
GOAL = 0.3
NAMES = ("hub", *(f"site {i}" for i in range(1, SITES)))
WAYS: Mapping[str, Topology] = {
    "star": "star",
    "star of 16 bits": "star",
    "star with drop-outs": "dropouts",
    "ring": "ring",
    "direct": "direct",
    "leader": "leader",
    "lattice": "lattice",
    "lattice with 3 of 4": "lattice",
    "aggregators": "aggregators",
    "small sums": "star",
}
"""What is timed, and over which topology."""

LEAST = {"lattice with 3 of 4": 4}
"""Fewest sites in a sum where it is not all of them, the hub among them."""

TIMED = ("star", "star of 16 bits", "star with drop-outs")
KINDS = frozenset().union(*(protocol_of(topology).kinds for topology in WAYS.values()))


def run(size: str, report: Report) -> None:
    """Time every way of adding over a star; the limit is the same average over arrays in one process."""
    n = SIZES[size]
    found = measured(n, NAMES, (*TIMED, "small sums"))
    plain = repeated(lambda: np.mean([np.ones(n) for _ in NAMES], axis=0)).seconds
    peers = horizontal.rounds(SITES, n) if size != "small" else {}
    flower = peers.get("Flower, SecAgg+")
    for way in TIMED:
        rounds = found[way]
        bits = 16 if "16" in way else 32
        report.row(
            f"{SITES} sites × {n:,} parameters, {way}", rounds["seconds"], goal=GOAL if n == 1_000_000 else None,
            peer=flower, peer_name="Flower, SecAgg+" if flower else "",
            limit=plain, limit_name="numpy, no sites", bytes=rounds["bytes"], peak_mb=found["peak_mb"],
            note=f"median of {ROUNDS} rounds, {SITES} processes, TLS, {bits} bits; processor {rounds['cpu']:.2f} s",
        )  # fmt: skip
        needed = 2 * (SITES - 1) * n * bits / 8
        report.row("the same: bytes at the hub", rounds["bytes"] / needed, unit="of the limit")
    report.row("sum of 10 numbers over a star", found["small sums"]["seconds"] * 1000, unit="ms", note="median of 50")
    for name, seconds in peers.items():
        report.row(f"{SITES} sites × {n:,} parameters, {name}", seconds, note="one round, of the peer")


def measured(n: int, names: tuple[str, ...], ways: tuple[str, ...]) -> dict[str, Any]:
    """Run all ways in processes, one for each site; return the hub's figures."""
    with tempfile.TemporaryDirectory() as folder:
        make_mesh(Path(folder), names)
        task = json.dumps({"folder": folder, "n": n, "names": names, "ways": ways})
        done = run_processes({name: ["-m", "bench.secure_sum", name, task] for name in names}, timeout=900)
    values = {name: process.value for name, process in done.items()}
    hub = values[names[0]]
    for way in ways:
        if len({value[way]["digest"] for value in values.values()}) != 1:
            raise RuntimeError(f"{way}: sites have different results")
        hub[way]["member bytes"] = values[names[-1]][way]["bytes"]
        hub[way]["cpu"] = sum(value[way]["cpu"] for value in values.values())
    return {**hub, "peak_mb": max(process.peak_mb for process in done.values())}


def make_mesh(folder: Path, names: tuple[str, ...]) -> None:
    """Make sites that trust each other and all listen."""
    ports = free_ports(len(names))
    sites = [init_site(folder / name, name, f"127.0.0.1:{port}") for name, port in zip(names, ports, strict=True)]
    for one in sites:
        for other in sites:
            if one is not other:
                one.trust(other.card)


async def site(name: str, folder: str, n: int, names: list[str], ways: list[str]) -> dict[str, Any]:
    """One site: all ways, one after the other."""
    here, hub, sent = load_site(Path(folder) / name), names[0], []
    for module in (fixed_point, homomorphic, lattice_sum, prime_transform, secret_shares, sum_tags, word_ring):
        module.warm()
    settle()
    mesh = not {WAYS[way] for way in ways} <= {"star", "dropouts"}
    peers = [other for other in names if other != name] if mesh or name == hub else [hub]
    measured: dict[str, Any] = {}
    async with Endpoint(here, listen=here.card.address) as endpoint:
        calls = (endpoint.link("bench", here.peer(p), dial=names.index(name) > names.index(p)) for p in peers)
        links = await asyncio.gather(*calls)
        gate = Gate(name, "bench", KINDS, audit=sent.append)
        channels = {peer: Channel(link, gate) for peer, link in zip(peers, links, strict=True)}
        for way in ways:
            own = {peer: channel.sub(way) for peer, channel in channels.items()}
            seal = Seal.of(here.key, here.trusted())
            sums = await join(
                WAYS[way], own, site=name, sites=names, hub=hub, rng=Rng.system(), seal=seal, least=LEAST.get(way, 0)
            )
            work = small(sums) if way == "small sums" else large(sums, n, 16 if "16" in way else 32)
            sent.clear()
            measured[way] = await work
            measured[way]["bytes"] = sum(line.bytes for line in sent) / measured[way].pop("rounds")
            await sums.finish()
        await asyncio.gather(*(link.close() for link in links))
    return measured


async def large(sums: Sums, n: int, bits: int) -> dict[str, Any]:
    """Average n parameters some times; the first round warms up."""
    values, took, cpu = np.sin(np.arange(n) + len(sums.site)), [], time.process_time()
    for _ in range(ROUNDS + 1):
        start = time.perf_counter()
        mean = await sums.mean(values, weight=1.0, clip=2.0, what="parameters", bits=bits)
        took.append(time.perf_counter() - start)
    cpu = (time.process_time() - cpu) / (ROUNDS + 1)
    return {"seconds": statistics.median(took[1:]), "cpu": cpu, "digest": float(mean.sum()), "rounds": ROUNDS + 1}


async def small(sums: Sums) -> dict[str, Any]:
    """Add ten numbers fifty times."""
    took, cpu = [], time.process_time()
    for _ in range(50):
        start = time.perf_counter()
        total = await sums.total(np.arange(10.0), what="ten numbers")
        took.append(time.perf_counter() - start)
    cpu = (time.process_time() - cpu) / 50
    return {"seconds": statistics.median(took), "cpu": cpu, "digest": float(total.sum()), "rounds": 50}


def main() -> None:
    """Run as one of the processes, and print what was measured."""
    name, task = sys.argv[1:]
    print(json.dumps(asyncio.run(site(name, **json.loads(task)))), flush=True)


if __name__ == "__main__":
    main()
