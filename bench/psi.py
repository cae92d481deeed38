"""Set intersection by silent vector OLE: two sites over mutual TLS, from files, beside peers and a join of plain ids.

Both sites read their ids from a Parquet file and write the numbers of the common rows; each is a process of its own.
Peers do the same from CSV files, as two processes, without TLS. Ids have 17 characters, and half of them are common.
"""

import asyncio
import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from atoll.align.packed import packed_keys
from atoll.core.channel import Channel, Gate
from atoll.crypto.random import Rng
from atoll.data.id_stream import stream_ids
from atoll.node.process import settle
from atoll.protocols import bucketed_intersection, vole_oprf
from atoll.registry import kernels
from atoll.transport.grpc_link import Endpoint
from atoll.transport.site import init_site, load_site
from bench.harness import BenchError, Finished, Report, free_ports, peer_environment, run_processes, timed

TITLE = "Set intersection by silent vector OLE, beside peers and a plain join"
SIZES = {"small": 100_000, "medium": 1_000_000, "large": 10_000_000}
"""Ids at each site; half of them are common."""

GOALS = {1_000_000: 2.4, 10_000_000: 35.0}
PEERS = {"RR22": 10_000_000, "KKRT": 1_000_000, "ECDH": 1_000_000}
"""SPU's protocols, and up to how many ids each is run: beyond, it would take minutes."""

WIDE = "semi-honest, wide"
"""A run with words of 128 bits, as sets beyond 2^24 ids have them."""

OPENMINED = 100_000
SPU, OPENMINED_PSI = ("spu==0.9.5",), ("openmined-psi==2.0.6",)
PEER_PYTHON = "python3.11"
"""The peers' wheels are for older Pythons than Atoll runs on."""


def run(size: str, report: Report) -> None:
    """Intersect in two processes of one machine, semi-honest and malicious, and let the peers do the same."""
    n = SIZES[size]
    with tempfile.TemporaryDirectory(dir=os.environ.get("ATOLL_BENCH_FOLDER")) as name:
        folder = Path(name)
        write_ids(folder, n)
        limit = timed(join_plain, folder).seconds
        first = ours(report, folder, n, "semi-honest", limit)
        ours(report, folder, n, "malicious", limit)
        if size == "large":
            project(report, folder, n, first)


def ours(report: Report, folder: Path, n: int, security: str, limit: float) -> float:
    """Add our rows at one size; return the seconds."""
    values = intersect(folder, n, security)
    a, b = values["a"].value, values["b"].value
    seconds, sent = max(a["seconds"], b["seconds"]), a["bytes"]
    what = f"{n:,} × {n:,} ids" + (", malicious" if security == "malicious" else "")
    notes = (
        f"2 processes, TLS, files; processor time {a['cpu'] + b['cpu']:.1f} s, reading and hashing {a['read']:.1f} s"
    )
    peers = others(folder, n) if security == "semi-honest" else {}
    best = min(peers, key=lambda name: peers[name][0], default="")
    told = ", ".join(f"{name} {text}" for name, (_, text) in peers.items())
    goal = GOALS.get(n) if security == "semi-honest" else None
    report.row(
        what, seconds, unit="s", goal=goal, bytes=sent, limit=limit, limit_name="polars join of plain ids",
        peer=peers[best][0] if best and np.isfinite(peers[best][0]) else None, peer_name=best,
        peak_mb=max(process.peak_mb for process in values.values()), note="; ".join(filter(None, (notes, told))),
    )  # fmt: skip
    report.row(f"{what}: bytes", sent / n, unit="bytes/id", goal=45.0 if security == "semi-honest" else None)
    if security == "semi-honest":
        memory = max(process.peak_mb for process in values.values())
        report.row(f"{what}: memory of a site", memory / 1e3, unit="GB", goal=3.0 if n == SIZES["large"] else None)
    return seconds


def project(report: Report, folder: Path, n: int, seconds: float) -> None:
    """Draw the line from a tenth of the ids, and where it leads."""
    few = n // 10
    write_ids(folder, few)
    small, wide = (
        max(one.value["seconds"] for one in intersect(folder, few, how).values()) for how in ("semi-honest", WIDE)
    )
    slope = (seconds - small) / (n - few) * max(1.0, wide / small)
    for total in (10**8, 10**9):
        report.row(
            f"{total:,} × {total:,} ids, projected", seconds + slope * (total - n), unit="s",
            note=f"line through {few:,} ids in {small:.1f} s and {n:,} in {seconds:.1f} s, times "
            f"{max(1.0, wide / small):.2f} for words of 128 bits; disk for a site {32 * total / 1e9:.1f} GB beside its "
            f"file; memory as at {n:,}",
        )  # fmt: skip


def write_ids(folder: Path, n: int) -> None:
    """Write both sites' files, in the two forms that we and the peers read."""
    import duckdb

    for name, first in (("a", 0), ("b", n // 2)):
        with duckdb.connect() as connection:
            rows = f"SELECT printf('customer-%08d', (i * 7919) % {n} + {first}) AS id FROM range({n}) t(i)"  # noqa: S608
            connection.execute(f"COPY ({rows}) TO '{folder / name}.parquet' (FORMAT parquet)")
            connection.execute(f"COPY (SELECT id FROM '{folder / name}.parquet') TO '{folder / name}.csv' (HEADER)")  # noqa: S608


def join_plain(folder: Path) -> int:
    """Join the plain ids."""
    import polars

    a, b = (polars.read_parquet(folder / f"{name}.parquet") for name in "ab")
    return len(a.join(b, on="id"))


def intersect(folder: Path, n: int, security: str) -> dict[str, Finished]:
    """Run our two sites, and check what they found."""
    with tempfile.TemporaryDirectory(dir=folder) as home:
        port = free_ports(1)[0]
        a, b = init_site(Path(home) / "a", "a", ""), init_site(Path(home) / "b", "b", f"127.0.0.1:{port}")
        a.trust(b.card)
        b.trust(a.card)
        done = run_processes(
            {role: ["-m", "bench.psi", role, home, str(folder), security] for role in ("b", "a")}, timeout=3600
        )
    rows = {role: np.load(folder / f"rows-{role}.npy") for role in "ab"}
    ids = {role: (rows[role] * 7919) % n + (n // 2 if role == "b" else 0) for role in "ab"}
    if len(ids["a"]) != n - n // 2 or not np.array_equal(ids["a"], ids["b"]):
        raise RuntimeError("the intersection is wrong")
    return done


def others(folder: Path, n: int) -> dict[str, tuple[float, str]]:
    """Run SPU's and OpenMined's intersections; return seconds and a text for each."""
    found: dict[str, tuple[float, str]] = {}
    for protocol, most in PEERS.items():
        if n <= most:
            ports = [str(port) for port in free_ports(2)]
            command = {
                str(rank): ["bench/peers/psi_spu.py", str(rank), str(folder), *ports, protocol] for rank in (0, 1)
            }
            found[f"SPU {protocol}"] = peer(SPU, command, folder, n)
    if n <= OPENMINED:
        port = str(free_ports(1)[0])
        command = {role: ["bench/peers/psi_openmined.py", role, str(folder), port] for role in ("server", "client")}
        found["OpenMined"] = peer(OPENMINED_PSI, command, folder, n)
    return found


def peer(packages: tuple[str, ...], command: dict[str, list[str]], folder: Path, n: int) -> tuple[float, str]:
    """Run a peer's two processes; return its seconds, infinite if it cannot be run, and a text."""
    try:
        environment = peer_environment(f"psi-{packages[0].split('=')[0]}", packages, python=PEER_PYTHON)
        done = run_processes(command, python=environment.python, timeout=1200)
    except BenchError as error:
        return float("inf"), f"not run ({str(error).splitlines()[0]})"
    values = [json.loads((folder / f"peer-{name}.json").read_text()) for name in command]
    if any(value["common"] not in (None, n - n // 2) for value in values):
        return float("inf"), "gave a wrong result"
    seconds = max(value["seconds"] for value in values)
    return seconds, f"{seconds:.2f} s (processor {sum(value['cpu'] for value in values):.1f} s, " + (
        f"{max(process.peak_mb for process in done.values()):.0f} MB a party)"
    )


async def site(role: str, home: str, folder: Path, security: str) -> dict[str, float]:
    """One site of the intersection."""
    here, sent = load_site(Path(home) / role), list[Any]()
    if security == WIDE:
        vole_oprf.NARROW, security = 0, "semi-honest"
    for warm in kernels().values():
        warm()
    settle()
    read = [0.0]

    def told(done: int, total: int) -> None:
        if 2 * done == total:
            read[0] = time.perf_counter() - start

    async with Endpoint(here, listen=here.card.address) as endpoint:
        link = await endpoint.link("bench", here.peer("b" if role == "a" else "a"), dial=role == "a")
        channel = Channel(link, Gate(role, "bench", bucketed_intersection.PROTOCOL.kinds, audit=sent.append))
        start, cpu = time.perf_counter(), time.process_time()
        ids = packed_keys(stream_ids(folder / f"{role}.parquet", ("id",)))
        align = bucketed_intersection.receive_rows if role == "a" else bucketed_intersection.send_rows
        found = await align(channel, ids, rng=Rng.system(), folder=folder, progress=told, security=security)
        np.save(folder / f"rows-{role}.npy", found.rows())
        seconds = time.perf_counter() - start
        await link.close()
    return {
        "seconds": seconds,
        "read": read[0],
        "cpu": time.process_time() - cpu,
        "common": len(found),
        "bytes": sum(line.bytes for line in sent),
    }


def main() -> None:
    """Run as one of the two processes, and print what was measured."""
    role, home, folder, security = sys.argv[1:]
    print(json.dumps(asyncio.run(site(role, home, Path(folder), security))), flush=True)


if __name__ == "__main__":
    main()
