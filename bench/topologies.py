"""The same sum over a star, a ring and directly, in processes over mutual TLS; and many sites in one process."""

import asyncio
import time
from collections.abc import Mapping
from typing import Any

import numpy as np

from atoll.core.channel import Channel, Gate
from atoll.core.errors import ConnectionLost
from atoll.crypto import lattice_sum
from atoll.crypto.random import Rng
from atoll.protocols.secure_sum import dropouts, lattice, star
from atoll.protocols.secure_sum.lattice_steps import Partial
from atoll.protocols.secure_sum.question import Question
from atoll.protocols.secure_sum.star import Masked
from atoll.transport.memory import memory_links
from bench.harness import Report, watching_memory
from bench.peers import horizontal
from bench.secure_sum import ROUNDS, measured

TITLE = "Sums over star, ring, point to point, few aggregators and a shared key; many sites, and sites that drop out"
SIZES = {"small": 100_000, "medium": 1_000_000, "large": 1_000_000}
"""Parameters of five sites in processes; from medium on also 100 and 1,000 simulated sites."""

NAMES = ("hub", *(f"site {i}" for i in range(1, 5)))
TEN = ("hub", *(f"site {i}" for i in range(1, 10)))
FURTHER = ("lattice", "aggregators")
WAYS = ("star", "star with drop-outs", "ring", "direct", "leader", "lattice", "lattice with 3 of 4", "aggregators")
KINDS = star.PROTOCOL.kinds | dropouts.PROTOCOL.kinds | lattice.PROTOCOL.kinds


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
            note=f"median of {ROUNDS} rounds, TLS, 32 bits; bytes in and out of one site; "
            f"processor {found[way]['cpu']:.2f} s"
            + (f"; in and out of another {found[way]['member bytes'] / 1e6:.1f} MB" if way in WAYS[5:] else ""),
        )  # fmt: skip
    found = measured(n, TEN, FURTHER)
    for way in FURTHER:
        report.row(
            f"{len(TEN)} sites × {n:,} parameters, {way}", found[way]["seconds"], bytes=int(found[way]["bytes"]),
            peak_mb=found["peak_mb"],
            note=f"median of {ROUNDS} rounds, TLS, 32 bits; bytes in and out of the hub; in and out of another "
            f"{found[way]['member bytes'] / 1e6:.1f} MB; processor {found[way]['cpu']:.2f} s",
        )  # fmt: skip
    encrypted(report, n)
    plans = [(100, 100_000, 0)] if size == "small" else [(100, 1_000_000, 0), (1_000, 100_000, 50)]
    for sites, parameters, gone in plans:
        with watching_memory() as peak:
            done = simulated(sites, parameters, gone)
        report.row(
            f"{sites:,} simulated sites × {parameters:,} parameters, {gone} drop out", done["seconds"],
            goal=60.0 if sites == 100 and size != "small" else None, bytes=int(done["bytes"]), peak_mb=peak(),
            note="one process, no TLS, keys not signed; the total equals the sum of those that are left",
        )  # fmt: skip


def encrypted(report: Report, n: int) -> None:
    """Encrypt, add and open in one process: ours beside CKKS through TenSEAL; and a sum whose opener dies."""
    alone(len(TEN), 8)  # compiles
    ours, peer = alone(len(TEN), n), horizontal.ckks(len(TEN), n)
    note = f"one site encrypts, {len(TEN)} are added, one opens; one process, one thread; bytes of one vector up; exact"
    if peer:
        note += (
            f"; TenSEAL {peer['encrypt']:.2f} + {peer['add']:.2f} + {peer['decrypt']:.2f} s, "
            f"{peer['bytes'] / 1e6:.1f} MB, error {peer['error']:.1e}, one key opens everything"
        )
    report.row(
        f"encrypt, add and open {n:,} parameters", ours["seconds"], bytes=int(ours["bytes"]),
        peer=sum(peer[step] for step in ("encrypt", "add", "decrypt")) if peer else None,
        peer_name="TenSEAL, CKKS" if peer else "", note=note,
    )  # fmt: skip
    done = simulated(10, n, 1, lattice)
    report.row(
        f"10 simulated sites × {n:,} parameters, lattice, any 6 open, 1 drops out while it opens", done["seconds"],
        bytes=int(done["bytes"]), note="one process, no TLS, keys made within; the total equals the sum of all",
    )  # fmt: skip


def alone(sites: int, n: int) -> dict[str, float]:
    """Encrypt a vector, add as many as there are sites, give one part of the opening, and open."""
    narrow, rng = lattice_sum.NARROW, Rng.system()
    a, s = lattice_sum.common(narrow, bytes(32)), lattice_sum.secret(narrow, rng)
    public = lattice_sum.Public(narrow, a, lattice_sum.joined(narrow, [lattice_sum.contribution(narrow, s, a, rng)]))
    limbs = lattice_sum.limbs_of(32, values(0, n + n % 2).view(np.uint64))
    start, size, found = time.perf_counter(), 0, []
    for piece in narrow.pieces(len(limbs)):
        c1, c0 = lattice_sum.encrypted(public, limbs[piece], rng)
        mask, phase = np.zeros(c1.shape[:-1], np.uint32), np.zeros(c0.shape[:-1], np.uint32)
        for _ in range(sites):
            lattice_sum.add_packed(mask, c1)
            lattice_sum.add_packed(phase, c0)
        lattice_sum.add_packed(phase, lattice_sum.partial(narrow, s, mask, c0.shape[1], rng))
        size += c1.nbytes + c0.nbytes
        found.append(lattice_sum.opened(narrow, phase))
    seconds = time.perf_counter() - start
    if not np.array_equal(np.concatenate(found)[:, 0], limbs.view(np.uint32)[:, 0] * np.uint32(sites)):
        raise RuntimeError("the sum is wrong")
    return {"seconds": seconds, "bytes": size}


def simulated(sites: int, n: int, gone: int, protocol: Any = None) -> dict[str, Any]:
    """Add over a star of many sites in this process; some drop out at the worst moment: after they have sent shares."""
    protocol = protocol or (dropouts if gone else star)
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
    total = asyncio.run(everyone(protocol, names, hubs, members, n, lost))
    seconds = time.perf_counter() - start
    plain = np.zeros(n, np.uint32)
    for i, name in enumerate(names):
        if name not in lost or protocol is lattice:
            plain += values(i, n)
    if not np.array_equal(total, plain):
        raise RuntimeError("the sum is wrong")
    return {"seconds": seconds, "bytes": sum(traffic)}


class Leaving(Channel):
    """A channel of a site that dies at the worst moment: before its vector, or before its part of an opening."""

    async def send(self, message: Any) -> None:
        if isinstance(message, Masked | Partial):
            await self.link.close()
            raise ConnectionLost("the site has dropped out")
        await super().send(message)


def values(site: int, n: int) -> np.ndarray:
    """A site's numbers, integers of 32 bits."""
    return ((np.arange(n) * (site + 1)) % 1_000_003).astype(np.uint32)


async def everyone(
    protocol: Any, names: list[str], hubs: Mapping[str, Channel], members: Mapping[str, Channel], n: int, lost: set[str]
) -> np.ndarray:
    """Run the hub, which has no numbers, and all members; return what the last one gets."""
    options = {"least": len(names) // 2 + 1} if protocol is lattice else {}

    async def member(i: int, name: str) -> np.ndarray | None:
        try:
            carrier = await protocol.member(members[name], names, rng=Rng.system(), adds=False, **options)
            total = await carrier.add(Question("numbers", 32, n), values(i, n).view(np.uint64))
        except ConnectionLost:
            return None
        await carrier.finish()
        return total.view(np.uint32)

    async def hub() -> None:
        await (await protocol.hub(hubs, adds=False, **options)).serve()

    *totals, _ = await asyncio.gather(*(member(i, name) for i, name in enumerate(names)), hub())
    return totals[-1]
