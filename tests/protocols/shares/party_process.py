"""One of three sites as a process of its own: python party_process.py FOLDER a|b|dealer. Prints JSON."""

import asyncio
import json
import sys
from pathlib import Path

import numpy as np

from atoll.core.channel import Gate
from atoll.core.session import Session
from atoll.crypto.random import Rng
from atoll.protocols import shares
from atoll.protocols.shares import dealer, party
from atoll.transport.grpc_link import Endpoint
from atoll.transport.site import load_site

SITES = ("a", "b", "dealer")


async def main(folder, name):
    site = load_site(Path(folder) / name)
    others = [other for other in SITES if other != name]
    async with Endpoint(site, listen=site.card.address, join_within=50) as endpoint:
        joining = (endpoint.link("job", site.peer(other), dial=name < other) for other in others)
        links = dict(zip(others, await asyncio.gather(*joining), strict=True))
        session = Session(Gate(name, "job", timeout=40.0), links, hub="dealer")
        async with session:
            with session.step("shares", uses=[party.PROTOCOL, dealer.PROTOCOL]):
                return await (deal(session) if name == "dealer" else compute(session, "ab".index(name)))


async def deal(session):
    return {"served": await dealer.dealer(session.peers["a"], session.peers["b"], rng=Rng.system())}


async def compute(session, number):
    peer, source = session.peers["ba"[number]], await dealer.source(session.peers["dealer"], number)
    p = await (shares.first, shares.second)[number](peer, source, rng=Rng.system())
    x = await p.input(0, (50,), np.arange(50.0) if number == 0 else None)
    y = await p.input(1, (50,), np.full(50, 2.5) if number == 1 else None)
    below = await shares.to_arithmetic(p, await shares.less(p, x, y))
    total, count = await p.open(await p.dot(x, y), below.sum())
    await source.close()
    return {"total": float(total), "count": int(count)}


if __name__ == "__main__":
    print(json.dumps(asyncio.run(main(*sys.argv[1:]))), flush=True)
