"""One of three sites as a process of its own: python party_process.py FOLDER a|b|dealer. Prints JSON.

Two compute with a dealer, then all three on replicated shares, then the two alone under homomorphic encryption.
"""

import asyncio
import json
import sys
from pathlib import Path

import numpy as np

from atoll.core.channel import Gate
from atoll.core.session import Session
from atoll.crypto.random import Rng
from atoll.protocols import shares
from atoll.protocols.shares import dealer, homomorphic, party, replicated
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
                found = await (deal(session) if name == "dealer" else compute(session, "ab".index(name)))
            with session.step("three", uses=[replicated.PROTOCOL]):
                found |= await compare(session, SITES.index(name))
            with session.step("alone", uses=[party.PROTOCOL, homomorphic.PROTOCOL]):
                return found | (await multiply(session, "ab".index(name)) if name != "dealer" else {})


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


async def compare(session, number):
    previous, following = (session.peers[SITES[(number + step) % 3]] for step in (-1, 1))
    p = await shares.member(previous, following, number, rng=Rng.system())
    x = await p.input(0, (50,), np.arange(50.0) if number == 0 else None)
    y = await p.input(1, (50,), np.full(50, 2.5) if number == 1 else None)
    below = await shares.to_arithmetic(p, await shares.less(p, x, y))
    largest, place = await shares.largest(p, x)
    below, largest, place = await p.open(below.sum(), largest, place)
    return {"below": int(below), "largest": [float(largest), int(place)]}


async def multiply(session, number):
    peer = session.peers["ba"[number]]
    source = await homomorphic.source(peer, number, rng=Rng.system())
    p = await (shares.first, shares.second)[number](peer, source, rng=Rng.system())
    x = await p.input(0, (2000,), np.arange(2000) if number == 0 else None, 0)
    y = await p.input(1, (2000,), np.arange(2000)[::-1] if number == 1 else None, 0)
    dot, products = await p.open(await p.dot(x, y), (await p.mul(x, y)).sum())
    return {"dot": int(dot), "products": int(products)}


if __name__ == "__main__":
    print(json.dumps(asyncio.run(main(*sys.argv[1:]))), flush=True)
