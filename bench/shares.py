"""Computing on shares: two sites over mutual TLS (and a dealer as a third), beside SPU in two processes over TCP.

What each of SPU's protocols needs for an operation runs in processes of its own, within a bound on memory: an operation
that outgrows it has no figure, and the row says so.
"""

import asyncio
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import numpy as np

from atoll.core.channel import Channel, Gate
from atoll.crypto.random import Rng
from atoll.node.process import settle
from atoll.protocols import shares
from atoll.protocols.shares import dealer, homomorphic, transfers
from atoll.registry import kernels
from atoll.transport.grpc_link import Endpoint
from atoll.transport.site import init_site, load_site
from bench.harness import BenchError, PeerUnavailable, Report, free_ports, peer_environment, run_processes

TITLE = "Products, comparisons, matrix products and logistic functions on shares, beside SPU"
SIZES = {"small": (100_000, 256), "medium": (1_000_000, 1_000)}
"""Values, and rows and columns of the square matrices."""

SMALL_MATRIX = 64
"""By transfers a matrix product costs 768 bytes for every product of two words: larger ones are not for them."""

REPEATS, LONG = 3, 20.0
"""Repeats after one to warm up, and seconds after which an operation is not repeated."""

SPU = ("spu==0.9.5", "jax==0.4.34", "jaxlib==0.4.34", "numpy==1.26.4", "setuptools<80")
PEERS = {"dealer": "semi2k", "homomorphic": "cheetah", "transfers": "cheetah"}
PEER_MEMORY = 9.0
"""GB of address space that each party of the peer may take: two of them fit into 24 GB."""

Array = np.ndarray[Any, Any]
Operation = Callable[[shares.Party, shares.Arithmetic, shares.Arithmetic], Awaitable[Any]]
OPERATIONS: dict[str, tuple[Operation, Callable[[Array, Array], Array]]] = {
    "products": (lambda p, x, y: p.mul(x, y), lambda x, y: x * y),
    "comparisons": (shares.less, lambda x, y: x < y),
    "matrix": (lambda p, x, y: p.matmul(x, y), lambda x, y: x @ y),
    "logistic": (lambda p, x, y: shares.logistic(p, x), lambda x, y: 1 / (1 + np.exp(-x))),
}


def run(size: str, report: Report) -> None:
    """Measure each source beside the peer whose randomness comes from the same kind of source."""
    n, side = SIZES[size]
    known: dict[tuple[str, str, int], tuple[dict[str, float], str]] = {}
    for source, peer in PEERS.items():
        matrix = SMALL_MATRIX if source == "transfers" else side
        ours, peak, dealt = _ours(source, n, matrix)
        for name, found in ours.items():
            what = f"{matrix} × {matrix} matrix product" if name == "matrix" else f"{n:,} {name}"
            key = (peer, name, matrix if name == "matrix" else n)
            known[key] = known.get(key) or _spu(*key)
            other, note = known[key]
            busy = f"both parties' processor time {found['cpu']:.2f} s"
            busy += f", the dealer's for all rows {dealt:.2f} s" if dealt else ""
            beside = f" (SPU {other['cpu']:.2f} s, error {other['error']:.1e})" if other else ""
            report.row(
                f"{what.replace('logistic', 'logistic functions')}, {source}", found["seconds"], unit="s",
                peer=other.get("seconds"), peer_name=f"SPU {peer}", goal=other.get("seconds"), bytes=found["bytes"],
                peak_mb=peak, note=f"{busy}, error {found['error']:.1e}{beside}; {note}",
            )  # fmt: skip


def _ours(source: str, n: int, side: int) -> tuple[dict[str, dict[str, float]], float, float]:
    """Return each operation's figures, the biggest process, and the dealer's processor seconds for all of them once."""
    names = ("a", "b", "dealer") if source == "dealer" else ("a", "b")
    with tempfile.TemporaryDirectory() as folder:
        ports = free_ports(2)
        addresses = ("", f"127.0.0.1:{ports[0]}", f"127.0.0.1:{ports[1]}")
        sites = [init_site(Path(folder) / name, name, address) for name, address in zip(names, addresses, strict=False)]
        for one in sites:
            for other in sites:
                if one is not other:
                    one.trust(other.card)
        commands = {name: ["-m", "bench.shares", name, folder, source, str(n), str(side)] for name in names}
        done = run_processes(commands, timeout=1800)
    values = {name: process.value for name, process in done.items()}
    found = {
        name: {
            "seconds": max(values[site][name]["seconds"] for site in ("a", "b")),
            "cpu": sum(values[site][name]["cpu"] for site in ("a", "b")),
            "error": values["a"][name]["error"],
            "bytes": round(sum(values[site][name]["bytes"] for site in ("a", "b"))),
        }
        for name in OPERATIONS
    }
    dealt = values["dealer"]["cpu"] if "dealer" in values else 0.0
    return found, max(process.peak_mb for process in done.values()), dealt


def _spu(protocol: str, operation: str, size: int) -> tuple[dict[str, float], str]:
    """Return the peer's figures for one operation on so many values, or rows and columns."""
    try:
        environment = peer_environment("spu", SPU)
    except PeerUnavailable as error:
        return {}, str(error)
    ports = map(str, free_ports(2))
    script = str(Path(__file__).parent / "peers" / "spu_shares.py")
    third = "its party 0 makes both sides' randomness" if protocol == "semi2k" else "no third site"
    note = f"SPU 0.9.5 {protocol}, 2 processes over plain TCP, {third}"
    try:
        done = environment.run(script, protocol, operation, str(size), str(PEER_MEMORY), *ports, timeout=1800)
    except BenchError as error:
        if "did not end within" not in str(error) and "EOFError" not in str(error):
            raise
        return {}, f"{note}: no figure, as it does not end within 1,800 s and {PEER_MEMORY:g} GB for each party"
    return done.value, note


async def site(name: str, folder: str, source: str, n: int, side: int) -> dict[str, Any]:
    """One site; the dealer serves until both parties are done."""
    here = load_site(Path(folder) / name)
    for warm in kernels().values():
        warm()
    settle()
    received = [0]
    async with AsyncExitStack() as stack:
        endpoint = await stack.enter_async_context(Endpoint(here, listen=here.card.address))

        def audit(line: Any) -> None:
            received[0] += line.bytes if line.direction == "received" else 0

        async def channel(peer: str) -> Channel:
            link = await endpoint.link("bench", here.peer(peer), dial=name < peer)
            stack.push_async_callback(link.close)
            return Channel(link, Gate(name, "bench", None, audit=audit))

        others = [
            other for other in ("a", "b", "dealer") if other != name and (source == "dealer" or other != "dealer")
        ]
        peer, *rest = await asyncio.gather(*map(channel, others))
        if name == "dealer":
            busy = time.process_time()
            await dealer.dealer(peer, *rest, rng=Rng.system())
            return {"cpu": (time.process_time() - busy) / (REPEATS + 1)}
        number = "ab".index(name)
        rng = Rng.system()
        kind = homomorphic if source == "homomorphic" else transfers
        made = await dealer.source(rest[0], number) if rest else await kind.source(peer, number, rng=rng)
        p = await (shares.first, shares.second)[number](peer, made, rng=rng)
        found = {}
        for operation, (ours, plain) in OPERATIONS.items():
            shape = (side, side) if operation == "matrix" else (n,)
            found[operation] = await _measure(p, ours, plain, shape, received)
        if isinstance(made, dealer.DealerSource):
            await made.close()
        return found


async def _measure(
    p: shares.Party,
    ours: Operation,
    plain: Callable[[Array, Array], Array],
    shape: tuple[int, ...],
    received: list[int],
) -> dict[str, float]:
    x, y = np.random.default_rng(1).uniform(-8, 8, (2, *shape))
    halves = [await p.input(owner, shape, value if p.number == owner else None) for owner, value in enumerate((x, y))]
    seconds, cpu = [], []
    repeat = True
    while repeat and len(seconds) <= REPEATS:
        await p.open(p.constant(np.zeros(1)))  # both begin together
        start, before, busy = time.perf_counter(), received[0], time.process_time()
        out = await ours(p, *halves)
        seconds.append(time.perf_counter() - start)
        cpu.append(time.process_time() - busy)
        got = received[0] - before
        # both must agree whether it goes on
        took = await p.open(await p.input(0, (1,), np.array([min(seconds[-1], 1e6)]) if p.number == 0 else None))
        repeat = bool(took[0] < LONG)
    error = float(np.max(np.abs((await p.open(out)).astype(float) - plain(x, y).astype(float))))
    return {
        "seconds": statistics.median(seconds[1:] or seconds),
        "cpu": statistics.median(cpu[1:] or cpu),
        "bytes": got,
        "error": error,
    }


def main() -> None:
    """Run as one of the processes, and print what was measured."""
    name, folder, source, n, side = sys.argv[1:]
    print(json.dumps(asyncio.run(site(name, folder, source, int(n), int(side)))), flush=True)


if __name__ == "__main__":
    main()
