"""Garbled circuits: bare garbling and evaluating, and 64-bit comparisons of two sites over mutual TLS.

The limit is the AES that half gates need, in bulk through OpenSSL in the same run: 8 blocks an AND gate to garble, 4 to
evaluate.  EMP, MOTION and MP-SPDZ have no wheels on PyPI.  What can be had there is pySecureCircuit, which garbles with
four Fernet tokens a gate, and for the comparisons MPyC, which does them on Shamir shares among three honest-majority
parties: another trust model, in three processes without TLS.
"""

import asyncio
import json
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from atoll.core.channel import Channel, Gate
from atoll.crypto import boolean_circuit, circuit_words, garbling
from atoll.crypto.aes import FixedKey, blocks
from atoll.crypto.circuit_schedule import Schedule, schedule
from atoll.crypto.random import Rng
from atoll.node.process import settle
from atoll.protocols import garbled_circuit, garbled_logic
from atoll.registry import kernels
from atoll.transport.grpc_link import Endpoint
from atoll.transport.site import init_site, load_site
from bench.harness import PeerUnavailable, Report, free_ports, peer_environment, run_processes, timed

TITLE = "Garbled circuits, beside the AES that they need"
SIZES = {"small": 100_000, "medium": 1_000_000, "large": 4_000_000}
"""64-bit comparisons."""

GOAL = 5e6
"""AND gates a second and core."""

AES_BLOCKS = 1 << 16


def run(size: str, report: Report) -> None:
    """Garble and evaluate in this process; then compare once in two processes of one machine."""
    n = SIZES[size]
    for warm in kernels().values():
        warm()
    aes = blocks_per_second()
    garbled, evaluated = bare()
    toy, missing = peer("pysecurecircuit", "pysecurecircuit==0.0.4")
    for what, rate, per_and in (("garbling", garbled, 8), ("evaluating", evaluated, 4)):
        report.row(
            f"{what} 64-bit comparisons, AND gates", rate, unit="AND gates/s/core", goal=GOAL,
            peer=toy.get(what), peer_name="pySecureCircuit 0.0.4" if toy else "", note=missing,
            limit=aes / per_and, limit_name=f"{per_and} blocks of bulk AES",
        )  # fmt: skip
    compare(n, aes, report)


def compare(n: int, aes: float, report: Report) -> None:
    """Compare n pairs of numbers in two processes."""
    with tempfile.TemporaryDirectory() as folder:
        port = free_ports(1)[0]
        a, b = init_site(Path(folder) / "a", "a", ""), init_site(Path(folder) / "b", "b", f"127.0.0.1:{port}")
        a.trust(b.card)
        b.trust(a.card)
        done = run_processes({role: ["-m", "bench.garbled", role, folder, str(n)] for role in ("b", "a")}, timeout=900)
    values = {role: process.value for role, process in done.items()}
    if values["a"]["ones"] != values["b"]["ones"] or not 0 < values["a"]["ones"] < n:
        raise RuntimeError("the sites do not agree on the comparisons")
    seconds, cpu = values["a"]["seconds"], sum(value["cpu"] for value in values.values())
    report.row(
        f"{n:,} 64-bit comparisons", seconds, unit="s",
        limit=n * 64 * 12 / aes, limit_name="12 blocks of bulk AES a gate",
        bytes=values["a"]["bytes"], peak_mb=max(process.peak_mb for process in done.values()),
        note=f"2 processes, TLS; processor time {cpu:.1f} s",
    )  # fmt: skip
    report.row(f"{n:,} 64-bit comparisons: AND gates", n * 64 / seconds, unit="AND gates/s", note="2 processes, TLS")
    shares, missing = peer("mpyc", "mpyc==0.11", "gmpy2", "numpy", options=("-M3",))
    report.row(
        f"{n:,} 64-bit comparisons: rate", n / seconds, unit="comparisons/s", peer=shares.get("comparisons"),
        peer_name="MPyC 0.11, 3 parties, shares" if shares else "", note=missing or "MPyC without TLS",
    )  # fmt: skip
    report.row(f"{n:,} 64-bit comparisons: bytes", values["a"]["bytes"] / n, unit="bytes/comparison", goal=3_200.0)


def peer(name: str, *requirements: str, options: Sequence[str] = ()) -> tuple[dict[str, float], str]:
    """Return what a peer measures of itself, or nothing and why."""
    try:
        environment = peer_environment(name, requirements)
    except PeerUnavailable as error:
        return {}, str(error)
    return environment.run("bench/peers/garbled.py", name, *options).value, ""


def blocks_per_second() -> float:
    """Return how many blocks a second one core encrypts under a fixed key."""
    room, pi = blocks(AES_BLOCKS), FixedKey(bytes(16))
    room[:] = 0
    return AES_BLOCKS / timed(pi.encrypt_into, room, room).best


def bare(chunks: int = 20) -> tuple[float, float]:
    """Return AND gates a second of garbling and of evaluating, one thread, without any transfer."""
    builder = boolean_circuit.Builder()
    less = circuit_words.less_than(builder, builder.garbler(64), builder.evaluator(64), signed=True)
    circuit = builder.build([less])
    plan = schedule(circuit)
    n, pi, delta = plan.chunk, FixedKey(bytes(16)), np.ones(2, np.uint64)
    inputs = np.zeros((64, n, 2), np.uint64)
    tables: list[np.ndarray] = []

    def garble() -> None:
        room = garbling.Labels(plan, n, garbling.BLOCKS_TO_GARBLE)
        for _ in range(chunks):
            tables[:] = garble_chunk(plan, room, inputs, delta, pi)

    def evaluate() -> None:
        room = garbling.Labels(plan, n, garbling.BLOCKS_TO_EVALUATE)
        for _ in range(chunks):
            chunk = room.start(n, inputs, inputs)
            for segment, rows in zip(plan.segments(n), tables, strict=True):
                garbling.evaluate(room, chunk, segment, rows, pi, 0)

    work = circuit.ands * n * chunks
    return work / timed(garble).best, work / timed(evaluate).best


def garble_chunk(
    plan: Schedule, room: garbling.Labels, inputs: np.ndarray, delta: np.ndarray, pi: FixedKey
) -> list[np.ndarray]:
    """Garble one chunk and return its tables."""
    chunk = room.start(inputs.shape[1], inputs, inputs)
    segments = plan.segments(inputs.shape[1])
    return [garbling.garble(room, chunk, segment, delta, pi, 0) for segment in segments]


async def site(role: str, folder: str, n: int) -> dict[str, float]:
    """One site of the comparisons."""
    here, sent, rng = load_site(Path(folder) / role), [], Rng.system()
    values = rng.u64(n).view(np.int64)
    for warm in kernels().values():
        warm()
    settle()
    async with Endpoint(here, listen=here.card.address) as endpoint:
        link = await endpoint.link("bench", here.peer("b" if role == "a" else "a"), dial=role == "a")
        channel = Channel(link, Gate(role, "bench", garbled_circuit.PROTOCOL.kinds, audit=sent.append))
        start, cpu = time.perf_counter(), time.process_time()
        begin = garbled_circuit.start_garbler if role == "a" else garbled_circuit.start_evaluator
        less = await garbled_logic.compare(await begin(channel, rng=rng), values, "<", to="both")
        seconds = time.perf_counter() - start
        await link.close()
    return {
        "seconds": seconds,
        "cpu": time.process_time() - cpu,
        "ones": int(less.sum()),
        "bytes": sum(line.bytes for line in sent),
    }


def main() -> None:
    """Run as one of the two processes, and print what was measured."""
    role, folder, n = sys.argv[1:]
    print(json.dumps(asyncio.run(site(role, folder, int(n)))), flush=True)


if __name__ == "__main__":
    main()
