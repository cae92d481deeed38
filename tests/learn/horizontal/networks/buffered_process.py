"""One side of a buffered training as a process of its own: python buffered_process.py FOLDER NAME. Prints JSON."""

import asyncio
import json
import sys
import time
from pathlib import Path

import msgspec

from atoll.core.channel import Channel, Gate
from atoll.crypto.random import Rng
from atoll.learn.horizontal.networks import Buffering, Functions, Plan, buffered
from atoll.protocols.pairwise_keys import Seal
from atoll.transport.grpc_link import Endpoint
from atoll.transport.site import load_site
from tests.learn.horizontal.networks.linear import skewed_sites

HUB, SITES = "hub", ("a", "b", "c", "d")
PLAN, RULES = Plan(rounds=8, epochs=2, lr=0.3, seed=4), Buffering(staleness=2)


def lines():
    """Rows of the four sites."""
    return dict(zip(SITES, skewed_sites((6, 9, 12, 30), seed=3), strict=True))


def trainer(folder, name):
    """A trainer whose pace files in a common folder set: d sleeps through three buffers, then a waits for d."""
    line = lines()[name]

    def until(file):
        end = time.monotonic() + 40
        while not (folder / file).exists():
            if time.monotonic() > end:
                raise TimeoutError(file)
            time.sleep(0.01)

    def fit(work):
        if name == "a" and work.round == 3:
            (folder / "three buffers").touch()
        if name == "a" and work.round >= 5:
            until("d has trained anew")
        if name == "d" and work.round == 0:
            until("three buffers")
        done = line.fit(work)
        if name == "d" and work.round > 0:
            (folder / "d has trained anew").touch()
        return done

    return Functions(line.get, line.put, fit, line.test, pulls=True)


async def main(folder, name):
    site = load_site(folder / name)
    peers = SITES if name == HUB else (HUB,)
    async with Endpoint(site, listen=site.card.address, join_within=40) as endpoint:
        links = await asyncio.gather(*(endpoint.link("job", site.peer(p), dial=name != HUB) for p in peers))
        gate = Gate(name, "job", buffered.PROTOCOL.kinds, timeout=40)
        channels = {peer: Channel(link, gate) for peer, link in zip(peers, links, strict=True)}
        if name == HUB:
            done = await buffered.aggregator(channels, PLAN, RULES, rng=Rng.system(), context=("job",))
        else:
            seal, mine = Seal.of(site.key, site.trusted()), trainer(folder, name)
            rest = {"members": SITES, "rng": Rng.system(), "seal": seal, "context": ("job",)}
            done = await buffered.site(channels[HUB], mine, PLAN, RULES, **rest)
        print(json.dumps([done.model.tolist(), msgspec.to_builtins(done.buffers)]), flush=True)
        await asyncio.gather(*(link.close() for link in links), return_exceptions=True)


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), sys.argv[2]))
