"""A thousand ids against a large set that was prepared once: two sites over mutual TLS."""

import asyncio
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from atoll.core.channel import Channel, Gate
from atoll.crypto.random import Rng
from atoll.node.process import settle
from atoll.protocols import prepared_intersection, prepared_set
from atoll.protocols.prepared_set import Allowance
from atoll.registry import kernels
from atoll.transport.grpc_link import Endpoint
from atoll.transport.site import init_site, load_site
from bench.harness import Report, free_ports, run_processes

TITLE = "A small set against a large one that was prepared once"
SIZES = {"small": 20_000, "medium": 200_000, "large": 1_000_000}
"""Ids of the server."""

QUERY = 1_000
QUERIES = 5
GOAL = 0.5
"""Seconds of one query, also at 10 million ids of the server."""


def run(size: str, report: Report) -> None:
    """Prepare, download and ask, in two processes of one machine."""
    n = SIZES[size]
    with tempfile.TemporaryDirectory() as folder:
        port = free_ports(1)[0]
        a, b = init_site(Path(folder) / "a", "a", f"127.0.0.1:{port}"), init_site(Path(folder) / "b", "b", "")
        a.trust(b.card)
        b.trust(a.card)
        done = run_processes(
            {role: ["-m", "bench.psi_unbalanced", role, folder, str(n)] for role in ("a", "b")}, timeout=900
        )
    server, client = done["a"].value, done["b"].value
    if client["found"] != QUERY // 2:
        raise RuntimeError("the intersection is wrong")
    cpu = client["cpu"] + server["cpu_query"]
    report.row(
        f"{QUERY:,} ids against {n:,}: one query", client["seconds"], unit="s", goal=GOAL,
        bytes=client["bytes"], note=f"median of {QUERIES}; 2 processes, TLS; processor time {cpu:.2f} s",
    )  # fmt: skip
    report.row(
        f"{n:,} ids: prepare once", server["prepare"], unit="s",
        peak_mb=done["a"].peak_mb, note=f"{n / server['prepare']:,.0f} ids/s; processor time {server['cpu']:.1f} s",
    )  # fmt: skip
    report.row(
        f"{n:,} ids: download once", client["download"], unit="s", bytes=client["filter"],
        peak_mb=done["b"].peak_mb, note=f"{client['filter'] / n:.1f} bytes/id",
    )  # fmt: skip


async def site(role: str, folder: str, n: int) -> dict[str, Any]:
    """The server a, or the client b."""
    here, sent, measured = load_site(Path(folder) / role), [], {}
    for warm in kernels().values():
        warm()
    settle()
    if role == "a":
        start, cpu = time.perf_counter(), time.process_time()
        held = prepared_set.prepare([b"customer %d" % i for i in range(n)], rng=Rng.system(), version=1)
        measured = {"prepare": time.perf_counter() - start, "cpu": time.process_time() - cpu}
    async with Endpoint(here, listen=here.card.address, join_within=3600) as endpoint:
        link = await endpoint.link("bench", here.peer("b" if role == "a" else "a"), dial=role == "b")
        gate = Gate(role, "bench", prepared_intersection.PROTOCOL.kinds, audit=sent.append)
        channel = Channel(link, gate)
        if role == "a":
            await prepared_intersection.publish(channel, held.filter)
            allowance, cpu = Allowance(QUERIES * QUERY), time.process_time()
            for _ in range(QUERIES):
                await prepared_intersection.server(channel, held, allowance=allowance)
            measured["cpu_query"] = (time.process_time() - cpu) / QUERIES
        else:
            measured = await ask(channel, n, sent)
        await link.close()
    return measured


async def ask(channel: Channel, n: int, sent: list[Any]) -> dict[str, Any]:
    """Download the filter and ask five times; half of the ids are the server's."""
    start = time.perf_counter()
    filter_ = await prepared_intersection.download(channel)
    measured: dict[str, Any] = {"download": time.perf_counter() - start, "filter": sum(line.bytes for line in sent)}
    ids = [b"customer %d" % i for i in range(n - QUERY // 2, n + QUERY // 2)]
    seconds, found, cpu = [], 0, time.process_time()
    for _ in range(QUERIES):
        start = time.perf_counter()
        found = len((await prepared_intersection.client(channel, ids, filter_, rng=Rng.system())).rows)
        seconds.append(time.perf_counter() - start)
    spent = sum(line.bytes for line in sent) - measured["filter"]
    return measured | {
        "seconds": statistics.median(seconds),
        "cpu": (time.process_time() - cpu) / QUERIES,
        "found": found,
        "bytes": spent / QUERIES,
    }


def main() -> None:
    """Run as one of the two processes, and print what was measured."""
    role, folder, n = sys.argv[1:]
    print(json.dumps(asyncio.run(site(role, folder, int(n)))), flush=True)


if __name__ == "__main__":
    main()
