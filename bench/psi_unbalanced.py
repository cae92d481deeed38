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
from atoll.protocols.prepared_set import Allowance, Prepared
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

WIDE, HELD = 10_000_000, 20_000
"""A second set has this capacity and holds so many ids: what a query costs depends on the capacity alone."""


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
    what = (f"{n:,} ids", f"a capacity of {WIDE:,} ids")
    for name, server, client in zip(what, done["a"].value, done["b"].value, strict=True):
        if client["found"] != QUERY // 2:
            raise RuntimeError("the intersection is wrong")
        cpu = server["cpu_query"] + client["cpu_query"]
        report.row(
            f"{QUERY:,} ids against {name}: one query", client["query"], unit="s", goal=GOAL,
            bytes=round(client["bytes"]), note=f"median of {QUERIES}; 2 processes, TLS; processor time {cpu:.2f} s",
        )  # fmt: skip
        report.row(f"{name}: download once", client["download"], unit="s", bytes=client["filter"])
    server = done["a"].value[0]
    report.row(
        f"{n:,} ids: prepare once", server["prepare"], unit="s",
        peak_mb=done["a"].peak_mb, note=f"processor time {server['cpu']:.1f} s",
    )  # fmt: skip


async def site(role: str, folder: str, n: int) -> list[dict[str, Any]]:
    """The server a, or the client b; first with n ids, then with the wide set."""
    here, sent, measured = load_site(Path(folder) / role), [], []
    for warm in kernels().values():
        warm()
    settle()
    held = [prepared(n, 0), prepared(HELD, WIDE)] if role == "a" else []
    async with Endpoint(here, listen=here.card.address, join_within=3600) as endpoint:
        link = await endpoint.link("bench", here.peer("b" if role == "a" else "a"), dial=role == "b")
        gate = Gate(role, "bench", prepared_intersection.PROTOCOL.kinds, audit=sent.append)
        for number, count in enumerate((n, HELD)):
            channel = Channel(link, gate, f"set {number}")
            if role == "a":
                measured.append(held[number][1] | await answer(channel, held[number][0]))
            else:
                measured.append(await ask(channel, count, sent))
                sent.clear()
        await link.close()
    return measured


def prepared(n: int, capacity: int) -> tuple[Prepared, dict[str, float]]:
    """Prepare a set, and say what it took."""
    start, cpu = time.perf_counter(), time.process_time()
    held = prepared_set.prepare([b"customer %d" % i for i in range(n)], rng=Rng.system(), version=1, capacity=capacity)
    return held, {"prepare": time.perf_counter() - start, "cpu": time.process_time() - cpu}


async def answer(channel: Channel, held: Prepared) -> dict[str, float]:
    """Send the filter and answer five times."""
    await prepared_intersection.publish(channel, held.filter)
    allowance, cpu = Allowance(QUERIES * QUERY), time.process_time()
    for _ in range(QUERIES):
        await prepared_intersection.server(channel, held, allowance=allowance)
    return {"cpu_query": (time.process_time() - cpu) / QUERIES}


async def ask(channel: Channel, n: int, sent: list[Any]) -> dict[str, Any]:
    """Download the filter and ask five times; half of the ids are the server's."""
    start = time.perf_counter()
    filter_ = await prepared_intersection.download(channel)
    download, received = time.perf_counter() - start, sum(line.bytes for line in sent)
    ids = [b"customer %d" % i for i in range(n - QUERY // 2, n + QUERY // 2)]
    seconds, found, cpu = [], 0, time.process_time()
    for _ in range(QUERIES):
        start = time.perf_counter()
        found = len((await prepared_intersection.client(channel, ids, filter_, rng=Rng.system())).rows)
        seconds.append(time.perf_counter() - start)
    return {
        "download": download,
        "filter": received,
        "query": statistics.median(seconds),
        "cpu_query": (time.process_time() - cpu) / QUERIES,
        "found": found,
        "bytes": (sum(line.bytes for line in sent) - received) / QUERIES,
    }


def main() -> None:
    """Run as one of the two processes, and print what was measured."""
    role, folder, n = sys.argv[1:]
    print(json.dumps(asyncio.run(site(role, folder, int(n)))), flush=True)


if __name__ == "__main__":
    main()
