"""Set intersection by Diffie-Hellman: two sites over mutual TLS, beside bare scalar multiplications.

The limit is the arithmetic alone: each of the two sites' ids is multiplied twice, by libsodium, on all cores, with no
hashing, no messages and no comparison.
"""

import asyncio
import json
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from atoll.core.channel import Channel, Gate
from atoll.crypto import ristretto
from atoll.crypto.random import Rng
from atoll.protocols import ecdh_intersection
from atoll.transport.grpc_link import Endpoint
from atoll.transport.site import init_site, load_site
from bench.harness import Report, free_ports, run_processes, timed

TITLE = "Set intersection on ristretto255, beside bare scalar multiplication"
SIZES = {"small": 20_000, "medium": 100_000, "large": 1_000_000}
"""Ids at each site; two thirds are common."""


def run(size: str, report: Report) -> None:
    """Intersect once in two processes of one machine; multiply as many points bare, in this one."""
    n, cores = SIZES[size], ristretto.cores()
    bare = 4 * n / multiplications_per_second()
    with tempfile.TemporaryDirectory() as folder:
        port = free_ports(1)[0]
        a, b = init_site(Path(folder) / "a", "a", ""), init_site(Path(folder) / "b", "b", f"127.0.0.1:{port}")
        a.trust(b.card)
        b.trust(a.card)
        done = run_processes({role: ["-m", "bench.ecdh", role, folder, str(n)] for role in ("b", "a")}, timeout=900)
    values = {role: process.value for role, process in done.items()}
    cpu = sum(value["cpu"] for value in values.values())
    seconds, peak = values["a"]["seconds"], max(process.peak_mb for process in done.values())
    if values["a"]["common"] != n - n // 3:
        raise RuntimeError("the intersection is wrong")
    report.row(
        f"{n:,} × {n:,} ids", seconds, unit="s", limit=bare, limit_name="bare multiplications",
        bytes=values["a"]["bytes"], peak_mb=peak, note=f"2 processes, {cores} cores, TLS; processor time {cpu:.1f} s",
    )  # fmt: skip
    report.row(
        f"{n:,} × {n:,} ids, rate", 2 * n / seconds / cores, unit="ids/s/core",
        limit=2 * n / bare / cores, limit_name="bare multiplications",
    )  # fmt: skip


def multiplications_per_second(count: int = 8_000) -> float:
    """Return how many points a second libsodium multiplies on all cores."""
    points = ristretto.hash_to_points(np.arange(count, dtype=np.uint64).view(np.uint8).reshape(-1, 8), b"bench")
    scalar = ristretto.random_scalar(Rng.system())
    return count / timed(ristretto.multiply, points, scalar).best


async def site(role: str, folder: str, n: int) -> dict[str, float]:
    """One site of the intersection."""
    here = load_site(Path(folder) / role)
    ids = [b"customer %d" % i for i in range(n)] if role == "a" else [b"customer %d" % i for i in range(n // 3, 2 * n)]
    ids, sent = ids[:n], []
    ristretto.warm()
    async with Endpoint(here, listen=here.card.address) as endpoint:
        link = await endpoint.link("bench", here.peer("b" if role == "a" else "a"), dial=role == "a")
        channel = Channel(link, Gate(role, "bench", ecdh_intersection.PROTOCOL.kinds, audit=sent.append))
        start, cpu, common = time.perf_counter(), time.process_time(), 0
        if role == "a":
            common = len((await ecdh_intersection.receiver(channel, ids, rng=Rng.system())).mine)
        else:
            await ecdh_intersection.sender(channel, ids, rng=Rng.system())
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
