"""Private query: one pass over a database of encrypted records, beside the speed at which this machine reads memory."""

import asyncio
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from atoll.core.channel import Channel, Gate
from atoll.crypto import pir
from atoll.crypto.jit import njit
from atoll.crypto.random import Rng
from atoll.node.process import settle
from atoll.protocols.keyword_lookup import protocol as keyword_lookup
from atoll.query import database
from atoll.registry import kernels
from atoll.transport.grpc_link import Endpoint
from atoll.transport.site import init_site, load_site
from bench.harness import Report, free_ports, peak_mb, run_processes

TITLE = "Private query of records by key, beside the speed of reading memory"
SIZES = {"small": 100_000, "medium": 1_000_000}
"""Records of 256 bytes."""

RECORD = 256
GOAL_MS, GOAL_GBS, GOAL_BATCH = 60.0, 5.0, 15.0
BATCH = 32
SINGLE = 12


@njit
def total(words: Any) -> Any:
    """Read everything once and do next to nothing with it."""
    found = np.uint64(0)
    for i in range(words.size):
        found += words[i]
    return found


def run(size: str, report: Report) -> None:
    """Set up, answer on one core, then ask from another process."""
    n = SIZES[size]
    with tempfile.TemporaryDirectory() as folder:
        port = free_ports(1)[0]
        a, b = init_site(Path(folder) / "a", "a", ""), init_site(Path(folder) / "b", "b", f"127.0.0.1:{port}")
        a.trust(b.card)
        b.trust(a.card)
        for warm in kernels().values():
            warm()
        what = f"{n:,} × {RECORD} B"
        set_up(Path(folder) / "db", n, what, report)
        scan(Path(folder) / "db", n, what, report)
        done = run_processes({role: ["-m", "bench.lookup", role, folder, str(n)] for role in ("b", "a")}, timeout=900)
    told(what, {role: process.value for role, process in done.items()}, report)


def set_up(folder: Path, n: int, what: str, report: Report) -> None:
    """Build the database, and change a thousandth of it."""
    from atoll.query.update import update

    keys, records = [b"company %d" % i for i in range(n)], [record(i) for i in range(n)]
    start, cpu = time.perf_counter(), time.process_time()
    parts: dict[str, float] = {}

    def progress(part: str, done: int, total: int) -> None:
        parts[part] = time.perf_counter() - start

    database.build(folder, keys, records, record=RECORD, about="{}", rng=Rng.system(), progress=progress)
    seconds, used = time.perf_counter() - start, time.process_time() - cpu
    report.row(
        f"{what}: full set-up", seconds, unit="s", peak_mb=peak_mb(),
        note=f"all cores, {used:.0f} s of processor time; keys and records {parts['records']:.0f} s, "
        f"hint {parts['hint'] - parts['records']:.0f} s",
    )  # fmt: skip
    new = [b"changed" if at % 1000 == 0 else text for at, text in enumerate(records)]
    start = time.perf_counter()
    update(folder, keys, new, rng=Rng.system())
    report.row(f"{what}: update of {n // 1000:,} records", time.perf_counter() - start, unit="s", limit=seconds,
               limit_name="full set-up")  # fmt: skip


def scan(folder: Path, n: int, what: str, report: Report) -> None:
    """Answer queries on one core."""
    served = database.open_database(folder)
    words = served.matrix.reshape(-1)[: served.matrix.size // 8 * 8].view(np.uint64)
    u = Rng.system().u32(BATCH, served.layout.columns)
    size = served.matrix.nbytes
    read = best(lambda: total(words))
    one = best(lambda: pir.answer(served.matrix, u[:1], threads=1))
    many = best(lambda: pir.answer(served.matrix, u, threads=1))
    goal = {"goal": GOAL_MS} if n == SIZES["medium"] else {}
    report.row(
        f"{what}: server time of one query", 1000 * one, unit="ms", limit=1000 * read,
        limit_name="reading the same bytes once", note=f"1 core, matrix of {size / 1e6:.0f} MB", **goal,
    )  # fmt: skip
    report.row(
        f"{what}: scanned, one query", size / one / 1e9, unit="GB/s", limit=size / read / 1e9,
        limit_name="memory bandwidth", goal=GOAL_GBS, note="1 core; the SimplePIR paper reports 10 GB/s",
    )  # fmt: skip
    report.row(
        f"{what}: scanned, batch of {BATCH}", BATCH * size / many / 1e9, unit="GB/s", limit=size / read / 1e9,
        limit_name="memory bandwidth", goal=GOAL_BATCH, note=f"1 core, effective; {1000 * many / BATCH:.1f} ms a query",
    )  # fmt: skip


def told(what: str, values: dict[str, Any], report: Report) -> None:
    """Print what the two processes measured."""
    a, b = values["a"], values["b"]
    if a["wrong"]:
        raise RuntimeError("a lookup is wrong")
    report.row(f"{what}: hint and overflow, once", a["hint"] / 1e6, unit="MB", bytes=a["hint"],
               note=f"overflow {a['overflow'] / 1e6:.1f} MB")  # fmt: skip
    report.row(f"{what}: client's set-up", a["set_up"], unit="s", peak_mb=a["peak"],
               note="download over TLS, digest, opening")  # fmt: skip
    report.row(f"{what}: bytes of a query, up", a["up"] / 1e3, unit="kB", bytes=a["up"])
    report.row(f"{what}: bytes of a query, down", a["down"] / 1e3, unit="kB", bytes=a["down"])
    report.row(f"{what}: one key, end to end", 1000 * a["single"], unit="ms", peak_mb=b["peak"],
               note="2 processes, TLS, hint at hand; client draws A·s + e meanwhile")  # fmt: skip
    report.row(f"{what}: many keys, end to end", 1000 * a["many"], unit="ms/key", note=f"batches of {BATCH}")


def best(work: Callable[[], object]) -> float:
    """The median of five processor times of this thread, after one call to warm up."""
    work()
    times = []
    for _ in range(5):
        start = time.thread_time()
        work()
        times.append(time.thread_time() - start)
    return statistics.median(times)


def record(i: int) -> bytes:
    return (b"risk class %d, since %d; " % (i % 7, i)).ljust(RECORD - 2, b".")


class Free:
    """A meter without limit."""

    def left(self) -> int:
        return -1

    def spend(self, count: int) -> None:
        return


async def site(role: str, folder: str, n: int) -> dict[str, Any]:
    """One of the two processes."""
    here = load_site(Path(folder) / role)
    for module in ("atoll.crypto.pir", "atoll.crypto.ristretto"):
        kernels()[module]()
    settle()
    lines: list[Any] = []
    async with Endpoint(here, listen=here.card.address) as endpoint:
        link = await endpoint.link("bench", here.peer("b" if role == "a" else "a"), dial=role == "a")
        channel = Channel(link, Gate(role, "bench", keyword_lookup.PROTOCOL.kinds, audit=lines.append))
        if role == "b":
            served = database.open_database(Path(folder) / "db")
            await keyword_lookup.server(channel, served, meter=Free(), rng=Rng.system())
            measured: dict[str, Any] = {}
        else:
            measured = await client(channel, n, lines)
        await link.close()
    return measured | {"peak": peak_mb()}


async def client(channel: Channel, n: int, lines: list[Any]) -> dict[str, Any]:
    """Download the hint, then look up one key at a time, then many."""
    rng, start = Rng.system(), time.perf_counter()
    met = await keyword_lookup.meet(channel)
    set_up, hint = time.perf_counter() - start, sum(line.bytes for line in lines)
    singles, wrong = [], 0
    lines.clear()
    for i in range(SINGLE):
        start = time.perf_counter()
        got = await keyword_lookup.ask(channel, met, [b"company %d" % (i * 7 + 1)], rng=rng)
        singles.append(time.perf_counter() - start)
        wrong += got != [record(i * 7 + 1)]
    up = sum(line.bytes for line in lines if line.direction == "sent") // SINGLE
    down = sum(line.bytes for line in lines if line.direction == "received") // SINGLE
    asked = [b"company %d" % i for i in range(n - 100, n + 28)]
    start = time.perf_counter()
    found = await keyword_lookup.ask(channel, met, asked, rng=rng)
    many = (time.perf_counter() - start) / len(asked)
    wrong += sum(one is None for one in found) != 28
    await keyword_lookup.leave(channel)
    overflow = met.cached.overflow.nbytes
    return {
        "hint": hint, "overflow": overflow, "set_up": set_up, "single": statistics.median(singles), "many": many,
        "up": up, "down": down, "wrong": wrong,
    }  # fmt: skip


def main() -> None:
    """Run as one of the two processes, and print what was measured."""
    role, folder, n = sys.argv[1:]
    print(json.dumps(asyncio.run(site(role, folder, int(n)))), flush=True)


if __name__ == "__main__":
    main()
