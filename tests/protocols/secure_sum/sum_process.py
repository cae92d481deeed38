"""One site of a sum as a process of its own: python sum_process.py FOLDER NAME. Prints JSON."""

import asyncio
import json
import os
import sys
from pathlib import Path

import numpy as np

from atoll.core.channel import Channel, Gate
from atoll.crypto.random import Rng
from atoll.privacy.accountant import rho_of
from atoll.protocols.pairwise_keys import Seal
from atoll.protocols.secure_sum import aggregators, direct, dropouts, gossip, lattice, ring, star
from atoll.protocols.secure_sum.noisy import NoisyTotals
from atoll.protocols.secure_sum.star import Masked
from atoll.protocols.secure_sum.sums import Sums
from atoll.protocols.secure_sum.topology import join
from atoll.transport.grpc_link import Endpoint
from atoll.transport.site import load_site

NAMES = ("hub", "b", "c", "d")
MEMBERS = NAMES[1:]
KINDS = frozenset().union(
    *(module.PROTOCOL.kinds for module in (star, dropouts, ring, direct, lattice, aggregators, gossip))
)


class Dying(Channel):
    """A channel of a site whose power fails before it sends its vector."""

    async def send(self, message):
        if isinstance(message, Masked):
            os._exit(0)
        await super().send(message)


def moments(site):
    """Count, sums and products of the site's rows."""
    own = np.load(site.folder / "rows.npy")
    return np.concatenate([[len(own)], own.sum(axis=0), (own.T @ own).ravel()])


async def topologies(site, channels):
    """The same sum over all topologies."""
    rng, hub, seal = Rng.system(), site.name == "hub", Seal.of(site.key, site.trusted())
    found = {}
    for name, protocol in (("star", star), ("ring", ring), ("direct", direct)):
        own = {peer: channel.sub(name) for peer, channel in channels.items()}
        if protocol is not star:
            carrier = await protocol.site(own, rng=rng)
        elif hub:
            carrier = await star.hub(own)
        else:
            carrier = await star.member(own["hub"], MEMBERS, rng=rng, seal=seal)
        sums = Sums(carrier, rng)
        found[name] = (await sums.total(moments(site), what="moments")).tolist()
        if name == "star":
            noisy = NoisyTotals(sums, (1.0, 40.0), rho_of(1.0, 1e-6), honest=3)
            found["noisy"] = (await noisy.total(moments(site)[:2], what="radius with noise")).tolist()
        await sums.finish()
    for name, least in (("lattice", 0), ("lattice", 3), ("aggregators", 0)):
        own = {peer: channel.sub(f"{name} {least}") for peer, channel in channels.items()}
        sums = await join(name, own, site=site.name, sites=NAMES, hub="hub", rng=rng, seal=seal, least=least)
        # Not the total itself: d prints before the others end, and a pipe holds 64 kB until somebody reads it.
        found[f"{name} {least}"] = (await sums.total(moments(site), what="moments")).tolist() == found["star"]
        await sums.finish()
    own = {peer: channel.sub("gossip") for peer, channel in channels.items()}
    mixed = await gossip.mix(own, moments(site), rounds=2, what="moments", rng=rng)
    found["gossip"] = bool(np.allclose(mixed.values, np.array(found["star"]) / len(NAMES), rtol=1e-12))
    return found


async def without_d(site, channels):
    """A sum in which site d dies after its shares; the hub has no numbers."""
    seal = Seal.of(site.key, site.trusted())
    if site.name == "hub":
        hub = await dropouts.hub(channels, adds=False, checked=True, patience=4.0)
        await hub.serve()
        return hub.dropped
    options = {"adds": False, "checked": True}
    channel = channels["hub"]
    if site.name == "d":
        channel = Dying(channel.link, channel.gate, channel.stream)
    sums = Sums(await dropouts.member(channel, MEMBERS, rng=Rng.system(), seal=seal, **options), Rng.system())
    total = (await sums.total(moments(site), what="moments")).tolist()
    await sums.finish()
    return total


async def main(folder, name):
    site = load_site(Path(folder) / name)
    peers = [peer for peer in NAMES if peer != name]
    async with Endpoint(site, listen=site.card.address, join_within=90, lost_after=10.0) as endpoint:
        calls = (endpoint.link("job", site.peer(p), dial=NAMES.index(name) > NAMES.index(p)) for p in peers)
        links = await asyncio.gather(*calls)
        gate = Gate(name, "job", KINDS, timeout=60)
        channels = {peer: Channel(link, gate) for peer, link in zip(peers, links, strict=True)}
        found = await topologies(site, channels)
        if name == "d":
            print(json.dumps(found), flush=True)
        left = {peer: channel.sub("dropouts") for peer, channel in channels.items()}
        found["without d"] = await without_d(site, left)
        print(json.dumps(found), flush=True)
        await asyncio.gather(*(link.close() for link in links), return_exceptions=True)


asyncio.run(main(sys.argv[1], sys.argv[2]))
