"""One site of a training as a process of its own: python network_process.py FOLDER NAME. Prints JSON."""

import asyncio
import json
import sys
from pathlib import Path

import numpy as np

from atoll.core.channel import Channel, Gate
from atoll.crypto.random import Rng
from atoll.learn.horizontal.networks import AtAggregator, AtSite, FedProx, Median, Plan, Scaffold, Seen, fit, gossip
from atoll.learn.horizontal.networks.seen_updates import PROTOCOL
from atoll.protocols.secure_sum import direct
from atoll.protocols.secure_sum import gossip as sum_gossip
from atoll.protocols.secure_sum.sums import Sums
from atoll.transport.grpc_link import Endpoint
from atoll.transport.site import load_site
from tests.learn.horizontal.networks.linear import Line

NAMES = ("a", "b", "c")
PLAN = Plan(rounds=3, epochs=2, lr=0.02, seed=5, sample=0.7)
ALIKE = Plan(rounds=3, epochs=2, lr=0.02, seed=5, weights="equal")


async def both(totals, line, seen):
    """Two trainings: by sums alone, and by a site that sees every update."""
    by_sums = await fit(line.trainer, totals, PLAN, algorithm=Scaffold())
    line.w[:] = 0
    robust = await fit(line.trainer, totals, PLAN, algorithm=FedProx(), combine=Seen(rule=Median()), aggregator=seen)
    return [[*done.model.tolist(), done.rounds[-1].metrics["loss"]] for done in (by_sums, robust)]


async def main(folder, name):
    site = load_site(Path(folder) / name)
    peers = [peer for peer in NAMES if peer != name]
    async with Endpoint(site, listen=site.card.address, join_within=40) as endpoint:
        calls = (endpoint.link("job", site.peer(p), dial=NAMES.index(name) > NAMES.index(p)) for p in peers)
        links = await asyncio.gather(*calls)
        gate = Gate(name, "job", direct.PROTOCOL.kinds | sum_gossip.PROTOCOL.kinds | PROTOCOL.kinds, timeout=40)
        channels = {peer: Channel(link, gate) for peer, link in zip(peers, links, strict=True)}
        rng = Rng.system()
        own = {peer: channel.sub("sums") for peer, channel in channels.items()}
        sums = Sums(await direct.site(own, rng=rng), rng)
        seen = {peer: channel.sub("seen") for peer, channel in channels.items()}
        aggregator = AtAggregator(seen) if name == NAMES[0] else AtSite(seen[NAMES[0]])
        rows = np.load(site.folder / "rows.npy")
        line = Line(rows[:, 1:], rows[:, 0])
        found = await both(sums, line, aggregator)
        await sums.finish()
        line.w[:] = 0
        groups = {peer: channel.sub("gossip") for peer, channel in channels.items()}
        found.append((await gossip(line.trainer, groups, ALIKE, rng=rng)).model.tolist())
        print(json.dumps(found), flush=True)
        await asyncio.gather(*(link.close() for link in links), return_exceptions=True)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2]))
