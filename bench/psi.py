"""Set intersection by silent vector OLE: two sites over mutual TLS, beside peers and a join of plain ids."""

import asyncio
import json
import sys
import tempfile
import time
from pathlib import Path

from atoll.core.channel import Channel, Gate
from atoll.crypto.random import Rng
from atoll.node.process import settle
from atoll.protocols import vole_intersection
from atoll.registry import kernels
from atoll.transport.grpc_link import Endpoint
from atoll.transport.site import init_site, load_site
from bench.harness import Report, free_ports, run_processes

TITLE = "Set intersection by silent vector OLE, beside peers and a plain join"
SIZES = {"small": 100_000, "medium": 1_000_000, "large": 4_000_000}
"""Ids at each site; two thirds are common."""

GOALS = {1_000_000: 2.4}


def run(size: str, report: Report) -> None:
    """Intersect once in two processes of one machine."""
    n = SIZES[size]
    with tempfile.TemporaryDirectory() as folder:
        port = free_ports(1)[0]
        a, b = init_site(Path(folder) / "a", "a", ""), init_site(Path(folder) / "b", "b", f"127.0.0.1:{port}")
        a.trust(b.card)
        b.trust(a.card)
        done = run_processes({role: ["-m", "bench.psi", role, folder, str(n)] for role in ("b", "a")}, timeout=900)
    values = {role: process.value for role, process in done.items()}
    if values["a"]["common"] != n - n // 3:
        raise RuntimeError("the intersection is wrong")
    sent = values["a"]["bytes"]
    report.row(
        f"{n:,} × {n:,} ids", values["a"]["seconds"], unit="s", goal=GOALS.get(n), bytes=sent,
        peak_mb=max(process.peak_mb for process in done.values()),
        note=f"2 processes, TLS; processor time {sum(v['cpu'] for v in values.values()):.1f} s",
    )  # fmt: skip
    report.row(f"{n:,} × {n:,} ids: bytes", sent / n, unit="bytes/id", goal=45.0)


async def site(role: str, folder: str, n: int) -> dict[str, float]:
    """One site of the intersection."""
    here = load_site(Path(folder) / role)
    ids = [b"customer %d" % i for i in range(n)] if role == "a" else [b"customer %d" % i for i in range(n // 3, 2 * n)]
    ids, sent = ids[:n], []
    for warm in kernels().values():
        warm()
    settle()
    async with Endpoint(here, listen=here.card.address) as endpoint:
        link = await endpoint.link("bench", here.peer("b" if role == "a" else "a"), dial=role == "a")
        channel = Channel(link, Gate(role, "bench", vole_intersection.PROTOCOL.kinds, audit=sent.append))
        start, cpu, common = time.perf_counter(), time.process_time(), 0
        if role == "a":
            common = len((await vole_intersection.receiver(channel, ids, rng=Rng.system())).mine)
        else:
            await vole_intersection.sender(channel, ids, rng=Rng.system())
        seconds = time.perf_counter() - start
        await link.close()
    return {
        "seconds": seconds,
        "cpu": time.process_time() - cpu,
        "common": common,
        "bytes": sum(line.bytes for line in sent),
    }


def main() -> None:
    """Run as one of the two processes, and print what was measured."""
    role, folder, n = sys.argv[1:]
    print(json.dumps(asyncio.run(site(role, folder, int(n)))), flush=True)


if __name__ == "__main__":
    main()
