"""The same sum over a star, a ring and directly, in processes over mutual TLS; and many sites in one process."""

import asyncio
import time
from collections.abc import Mapping
from typing import Any

import numpy as np

from atoll.core.channel import Channel, Gate
from atoll.core.errors import ConnectionLost
from atoll.crypto.random import Rng
from atoll.protocols.secure_sum import dropouts, star
from atoll.protocols.secure_sum.question import Question
from atoll.protocols.secure_sum.star import Masked
from atoll.transport.memory import memory_links
from bench.harness import Report, watching_memory
from bench.secure_sum import ROUNDS, measured

TITLE = "Sums over star, ring and point to point; many sites, and sites that drop out"
SIZES = {"small": 100_000, "medium": 1_000_000, "large": 1_000_000}
"""Parameters of five sites in processes; from medium on also 100 and 1,000 simulated sites."""

NAMES = ("hub", *(f"site {i}" for i in range(1, 5)))
WAYS = ("star", "star with drop-outs", "ring", "direct", "leader")
KINDS = star.PROTOCOL.kinds | dropouts.PROTOCOL.kinds


def run(size: str, report: Report) -> None:
    """Time all topologies, then many sites."""
    n = SIZES[size]
    found = measured(n, NAMES, WAYS)
    if len({round(found[way]["digest"], 2) for way in WAYS}) != 1:
        raise RuntimeError("topologies differ")
    for way in WAYS:
        report.row(
            f"{len(NAMES)} sites × {n:,} parameters, {way}", found[way]["seconds"], bytes=int(found[way]["bytes"]),
            peak_mb=found["peak_mb"],
            note=f"median of {ROUNDS} rounds, TLS, 32 bits; bytes out of one site; processor {found[way]['cpu']:.2f} s",
        )  # fmt: skip
    plans = [(100, 100_000, 0)] if size == "small" else [(100, 1_000_000, 0), (1_000, 100_000, 50)]
    for sites, parameters, gone in plans:
        with watching_memory() as peak:
            done = simulated(sites, parameters, gone)
        report.row(
            f"{sites:,} simulated sites × {parameters:,} parameters, {gone} drop out", done["seconds"],
            goal=60.0 if sites == 100 and size != "small" else None, bytes=int(done["bytes"]), peak_mb=peak(),
            note="one process, no TLS, keys not signed; the total equals the sum of those that are left",
        )  # fmt: skip


def simulated(sites: int, n: int, gone: int) -> dict[str, Any]:
    """Add over a star of many sites in this process; some drop out after they have sent their shares."""
    names = [f"site {i:04}" for i in range(sites)]
    lost = set(names[:: sites // gone]) if gone else set()
    traffic: list[int] = []
    hubs: dict[str, Channel] = {}
    members: dict[str, Channel] = {}
    at_hub = Gate("hub", "bench", KINDS, audit=lambda line: traffic.append(line.bytes))
    for name in names:
        links = memory_links("hub", name)
        hubs[name] = Channel(links[0], at_hub)
        kind = Leaving if name in lost else Channel
        members[name] = kind(links[1], Gate(name, "bench", KINDS))
    start = time.perf_counter()
    total = asyncio.run(everyone(names, hubs, members, n, lost))
    seconds = time.perf_counter() - start
    plain = np.zeros(n, np.uint32)
    for i, name in enumerate(names):
        if name not in lost:
            plain += values(i, n)
    if not np.array_equal(total, plain):
        raise RuntimeError("the sum is wrong")
    return {"seconds": seconds, "bytes": sum(traffic)}


class Leaving(Channel):
    """A channel of a site that dies at the worst moment: its keys are shared, and it sends no vector."""

    async def send(self, message: Any) -> None:
        if isinstance(message, Masked):
            await self.link.close()
            raise ConnectionLost("the site has dropped out")
        await super().send(message)


def values(site: int, n: int) -> np.ndarray:
    """A site's numbers, integers of 32 bits."""
    return ((np.arange(n) * (site + 1)) % 1_000_003).astype(np.uint32)


async def everyone(
    names: list[str], hubs: Mapping[str, Channel], members: Mapping[str, Channel], n: int, lost: set[str]
) -> np.ndarray:
    """Run the hub, which has no numbers, and all members; return what the last one gets."""
    protocol: Any = dropouts if lost else star

    async def member(i: int, name: str) -> np.ndarray | None:
        try:
            carrier = await protocol.member(members[name], names, rng=Rng.system(), adds=False)
            total = await carrier.add(Question("numbers", 32, n), values(i, n).view(np.uint64))
        except ConnectionLost:
            return None
        await carrier.finish()
        return total.view(np.uint32)

    async def hub() -> None:
        await (await protocol.hub(hubs, adds=False)).serve()

    *totals, _ = await asyncio.gather(*(member(i, name) for i, name in enumerate(names)), hub())
    return totals[-1]
