"""Some models fitted by processes over mutual TLS: `python -m bench.lossless_site FOLDER NAME EVERY` runs one site."""

import asyncio
import json
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from atoll.core.channel import Channel, Gate
from atoll.crypto.random import Rng
from atoll.learn.vertical.trees import kernels
from atoll.protocols.pairwise_keys import Seal
from atoll.protocols.secure_sum import star
from atoll.protocols.secure_sum.sums import Sums
from atoll.transport.grpc_link import Endpoint
from atoll.transport.site import init_site, load_site
from bench.harness import Report, free_ports, run_processes

SITES = ("clinic", "practice", "university")
"""The first is the hub of a star, with rows of its own; each holds two of the study's six sites."""

SHOWN = ("descriptive statistics", "linear regression", "binomial regression, logit link", "boosted trees")


def over_processes(report: Report, rows: int, every: int) -> None:
    """Report what the models take when every site is a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        made = [init_site(Path(folder) / n, n, f"127.0.0.1:{p}") for n, p in zip(SITES, free_ports(3), strict=True)]
        for one in made:
            for other in made:
                if one is not other:
                    one.trust(other.card)
        done = run_processes({n: ["-m", "bench.lossless_site", folder, n, str(every)] for n in SITES}, timeout=900)
    for name in SHOWN:
        report.row(
            f"{name}, {rows:,} rows, 3 processes", max(one.value[name]["seconds"] for one in done.values()), unit="s",
            bytes=sum(one.value[name]["bytes"] for one in done.values()), peak_mb=max(o.peak_mb for o in done.values()),
            note=f"star over TLS, masked sums; {done[SITES[0]].value[name]['sums']} sums",
        )  # fmt: skip


async def site(folder: Path, name: str, every: int) -> dict[str, Any]:
    """One site: join the star, fit every model, and measure."""
    from atoll.node.process import settle
    from bench.lossless import real
    from bench.lossless_models import MODELS

    task, here, sent = real(every)["insurance"], load_site(folder / name), list[int]()
    mine = np.concatenate(task.rows[2 * SITES.index(name) :][:2])
    peers: Sequence[str] = SITES[1:] if name == SITES[0] else SITES[:1]
    kernels.warm()
    settle()
    found = {}
    async with Endpoint(here, listen=here.card.address, join_within=120) as endpoint:
        calls = (endpoint.link("bench", here.peer(peer), dial=name != SITES[0]) for peer in peers)
        links = await asyncio.gather(*calls)
        gate = Gate(name, "bench", star.PROTOCOL.kinds, audit=lambda line: sent.append(line.bytes), timeout=120)
        channels = {peer: Channel(link, gate) for peer, link in zip(peers, links, strict=True)}
        if name == SITES[0]:
            carrier: Any = await star.hub(channels)
        else:
            seal = Seal.of(here.key, here.trusted())
            carrier = await star.member(channels[SITES[0]], SITES[1:], rng=Rng.system(), seal=seal)
        sums = Sums(carrier, Rng.system())
        for model in (one for one in MODELS if one.name in SHOWN):
            await sums.total(np.zeros(1), what="all are ready")
            start, bytes_, told = time.perf_counter(), sum(sent), len(sums.told)
            await model.site(sums, task, mine)
            seconds = time.perf_counter() - start
            found[model.name] = {"seconds": seconds, "bytes": sum(sent) - bytes_, "sums": len(sums.told) - told}
        await sums.finish()
        await asyncio.gather(*(link.close() for link in links), return_exceptions=True)
    return found


if __name__ == "__main__":
    print(json.dumps(asyncio.run(site(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])))), flush=True)
