"""Three sites align in a star over mutual TLS, without showing pairs; beside two pairwise intersections that do."""

import asyncio
import json
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from atoll.core.channel import Channel, Gate
from atoll.crypto.random import Rng
from atoll.node.process import settle
from atoll.protocols import intersection_result, multi_intersection, vole_intersection
from atoll.protocols.pairwise_keys import Seal
from atoll.registry import kernels
from atoll.transport.grpc_link import Endpoint
from atoll.transport.site import init_site, load_site
from bench.harness import Report, free_ports, run_processes

TITLE = "Intersection of three sites, beside pairs that are shown"
SIZES = {"small": 20_000, "medium": 200_000, "large": 1_000_000}
"""Ids at each site; half of them are common to all."""

PARTNERS = ("b", "c")
KINDS = multi_intersection.PROTOCOL.kinds


def run(size: str, report: Report) -> None:
    """Align once in three processes of one machine, and then by pairs."""
    n = SIZES[size]
    with tempfile.TemporaryDirectory() as folder:
        make_star(Path(folder), "hub", PARTNERS)
        roles = {role: ["-m", "bench.psi_multi", role, folder, str(n)] for role in ("hub", *PARTNERS)}
        done = run_processes(roles, timeout=900)
    values = {role: process.value for role, process in done.items()}
    hub = values["hub"]
    if {value["common"] for value in values.values()} != {n // 2} or len({v["first"] for v in values.values()}) != 1:
        raise RuntimeError("the intersection is wrong, or the sites have it in different orders")
    report.row(
        f"3 sites × {n:,} ids", hub["seconds"], unit="s", bytes=hub["bytes"],
        limit=hub["pairs"], limit_name="two pairwise intersections, which show the pairs",
        peak_mb=max(process.peak_mb for process in done.values()),
        note=f"3 processes, TLS; processor time {sum(v['cpu'] for v in values.values()):.1f} s",
    )  # fmt: skip
    report.row(f"3 sites × {n:,} ids: bytes at the hub", hub["bytes"] / n, unit="bytes/id")


def make_star(folder: Path, hub: str, partners: tuple[str, ...]) -> None:
    """Make sites that trust each other; the hub listens."""
    sites = [init_site(folder / hub, hub, f"127.0.0.1:{free_ports(1)[0]}")]
    sites += [init_site(folder / name, name, "") for name in partners]
    for one in sites:
        for other in sites:
            if one is not other:
                one.trust(other.card)


async def site(role: str, folder: str, n: int) -> dict[str, Any]:
    """One site: first all together, then the hub with each partner."""
    here, sent = load_site(Path(folder) / role), []
    ids = [b"customer %d" % i for i in range(n // 2)]
    ids += [b"%s customer %d" % (b"b" if role == "hub" else role.encode(), i) for i in range(n // 2, n)]
    for warm in kernels().values():
        warm()
    settle()
    peers = PARTNERS if role == "hub" else ("hub",)
    async with Endpoint(here, listen=here.card.address) as endpoint:
        links = await asyncio.gather(*(endpoint.link("bench", here.peer(p), dial=role != "hub") for p in peers))
        gate = Gate(role, "bench", KINDS, audit=sent.append)
        channels = {peer: Channel(link, gate) for peer, link in zip(peers, links, strict=True)}
        start, cpu = time.perf_counter(), time.process_time()
        if role == "hub":
            rows = await multi_intersection.receive_common(channels, ids, rng=Rng.system())
        else:
            rows = await multi_intersection.join(
                channels["hub"], ids, partners=PARTNERS, rng=Rng.system(), seal=Seal.of(here.key, here.trusted())
            )
        measured = {
            "seconds": time.perf_counter() - start,
            "cpu": time.process_time() - cpu,
            "common": len(rows),
            "first": ids[rows[0]].decode(),
            "bytes": sum(line.bytes for line in sent),
        }
        start = time.perf_counter()
        await pairs({name: channel.sub("pairs") for name, channel in channels.items()}, role, ids)
        measured["pairs"] = time.perf_counter() - start
        await asyncio.gather(*(link.close() for link in links))
    return measured


async def pairs(channels: Mapping[str, Channel], role: str, ids: list[bytes]) -> np.ndarray:
    """What a star does that shows the hub every pair."""
    if role != "hub":
        shuffled = await vole_intersection.sender(channels["hub"], ids, rng=Rng.system())
        return await intersection_result.learn(channels["hub"], shuffled.order)
    found = await vole_intersection.receive_from_all(channels, ids, rng=Rng.system())
    rows, places = intersection_result.common_rows(list(found.values()), Rng.system())
    for channel, place in zip(channels.values(), places, strict=True):
        await intersection_result.announce(channel, place)
    return rows


def main() -> None:
    """Run as one of the three processes, and print what was measured."""
    role, folder, n = sys.argv[1:]
    print(json.dumps(asyncio.run(site(role, folder, int(n)))), flush=True)


if __name__ == "__main__":
    main()
