"""Set intersection that nobody learns, and sums over it: two sites over mutual TLS."""

import asyncio
import json
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from atoll.core.channel import Channel, Gate
from atoll.crypto.random import Rng
from atoll.node.process import settle
from atoll.protocols import circuit_intersection, hidden_sum
from atoll.registry import kernels
from atoll.transport.grpc_link import Endpoint
from atoll.transport.site import init_site, load_site
from bench.harness import Report, free_ports, run_processes

TITLE = "Hidden intersection: shares of membership and payload, count and sums"
SIZES = {"small": 20_000, "medium": 100_000, "large": 1_000_000}
"""Ids at each site; two thirds are common."""

TASKS = {
    "shares": (circuit_intersection, "shares of membership and one payload word"),
    "sum": (hidden_sum, "count and one sum of each site over the common ids"),
}


def run(size: str, report: Report) -> None:
    """Run both tasks once in two processes of one machine."""
    n = SIZES[size]
    for task, (_, what) in TASKS.items():
        with tempfile.TemporaryDirectory() as folder:
            port = free_ports(1)[0]
            a, b = init_site(Path(folder) / "a", "a", ""), init_site(Path(folder) / "b", "b", f"127.0.0.1:{port}")
            a.trust(b.card)
            b.trust(a.card)
            commands = {role: ["-m", "bench.psi_circuit", task, role, folder, str(n)] for role in ("b", "a")}
            done = run_processes(commands, timeout=1800)
        values = {role: process.value for role, process in done.items()}
        sent = values["a"]["bytes"]
        report.row(
            f"{n:,} × {n:,} ids: {what}", values["a"]["seconds"], unit="s", bytes=sent,
            peak_mb=max(process.peak_mb for process in done.values()),
            note=f"2 processes, TLS; processor time {values['a']['cpu']:.1f} and {values['b']['cpu']:.1f} s",
        )  # fmt: skip
        report.row(f"{n:,} × {n:,} ids: {what}: bytes", sent / n, unit="bytes/id")


async def site(task: str, role: str, folder: str, n: int) -> dict[str, float]:
    """One site of the run."""
    here, at = load_site(Path(folder) / role), 0 if role == "a" else n // 3
    ids, values = [b"customer %d" % i for i in range(at, at + n)], np.arange(at, at + n)[:, np.newaxis]
    sent: list[int] = []
    for warm in kernels().values():
        warm()
    settle()
    async with Endpoint(here, listen=here.card.address) as endpoint:
        link = await endpoint.link("bench", here.peer("b" if role == "a" else "a"), dial=role == "a")
        kinds = TASKS[task][0].PROTOCOL.kinds
        channel = Channel(link, Gate(role, "bench", kinds, audit=lambda line: sent.append(line.bytes)))
        start, cpu = time.perf_counter(), time.process_time()
        if task == "shares" and role == "a":
            await circuit_intersection.receiver(channel, ids, words=1, rng=Rng.system())
        elif task == "shares":
            await circuit_intersection.sender(channel, ids, values, rng=Rng.system())
        else:
            side = hidden_sum.receiver if role == "a" else hidden_sum.sender
            told = await side(channel, ids, values, others=1, minimum=1, to="both", rng=Rng.system())
            if told is None or told.count != n - n // 3 or told.receiver[0] != sum(range(n // 3, n)):
                raise RuntimeError("the sums are wrong")
        seconds, used = time.perf_counter() - start, time.process_time() - cpu
        await link.close()
    return {"seconds": seconds, "cpu": used, "bytes": sum(sent)}


def main() -> None:
    """Run as one of the two processes, and print what was measured."""
    task, role, folder, n = sys.argv[1:]
    print(json.dumps(asyncio.run(site(task, role, folder, int(n)))), flush=True)


if __name__ == "__main__":
    main()
