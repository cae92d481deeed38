"""One site of an intersection as a process of its own: python site_process.py FOLDER ROLE. Prints JSON."""

import asyncio
import json
import sys
from pathlib import Path

import numpy as np

from atoll.core.channel import Channel, Gate
from atoll.crypto.random import Rng
from atoll.protocols import (
    intersection_size,
    intersection_sum,
    labelled_intersection,
    multi_intersection,
    prepared_intersection,
    prepared_set,
)
from atoll.protocols.pairwise_keys import Seal
from atoll.transport.grpc_link import Endpoint
from atoll.transport.site import load_site

HUB, PARTNERS = "hub", ("b", "c")
IDS = {"hub": range(0, 60), "b": range(20, 90), "c": [*range(0, 10), *range(40, 80)]}
USED = (multi_intersection, labelled_intersection, intersection_sum, prepared_intersection)
MINUTE = 60.0


async def together(site, channels, ids):
    """All three sites: the ids that they have in common, in one order."""
    if site.name == HUB:
        return await multi_intersection.receive_common(channels, ids, rng=Rng.system(), minimum=10)
    seal = Seal.of(site.key, site.trusted())
    return await multi_intersection.join(channels[HUB], ids, partners=PARTNERS, rng=Rng.system(), seal=seal, minimum=10)


async def in_pairs(role, channels, ids):
    """The hub and b: labels, a count, a sum, and a query of a prepared set."""
    rng, values = Rng.system(), np.arange(20, 90, dtype=np.int64)[:, np.newaxis]
    if role == "b":
        peer = channels[HUB]
        await labelled_intersection.sender(peer, ids, {"last": (values % 256).astype(np.uint8)}, rng=rng)
        count = await intersection_size.sender(peer, ids, rng=rng)
        total = await intersection_sum.sender(peer, ids, values, rng=rng, to="receiver", minimum=2)
        held = prepared_set.prepare(ids, rng=rng, version=1)
        await prepared_intersection.publish(peer, held.filter)
        await prepared_intersection.server(peer, held, allowance=prepared_set.Allowance(100))
        return {"count": count, "sum": total.sums}
    peer = channels["b"]
    labelled = await labelled_intersection.receiver(peer, ids, rng=rng)
    count = await intersection_size.receiver(peer, ids, rng=rng)
    total = await intersection_sum.receiver(peer, ids, rng=rng, to="receiver", minimum=2)
    filter_ = await prepared_intersection.download(peer)
    found = await prepared_intersection.client(peer, ids, filter_, rng=rng)
    return {
        "labels": dict(zip(labelled.matches.mine.tolist(), labelled.labels["last"][:, 0].tolist(), strict=True)),
        "count": count,
        "sum": total.sums.tolist(),
        "found": found.rows.tolist(),
    }


async def main(folder, role):
    site, ids = load_site(Path(folder) / role), [b"id-%d" % i for i in IDS[role]]
    peers = PARTNERS if role == HUB else (HUB,)
    async with Endpoint(site, listen=site.card.address, join_within=MINUTE) as endpoint:
        links = await asyncio.gather(*(endpoint.link("job", site.peer(p), dial=role != HUB) for p in peers))
        kinds = frozenset().union(*(module.PROTOCOL.kinds for module in USED))
        gate = Gate(role, "job", kinds, timeout=MINUTE)
        channels = {peer: Channel(link, gate) for peer, link in zip(peers, links, strict=True)}
        rows = await together(site, channels, ids)
        result = {"common": [ids[i].decode() for i in rows]}
        if role != "c":
            result |= await in_pairs(role, {name: channel.sub("pair") for name, channel in channels.items()}, ids)
        await asyncio.gather(*(link.close() for link in links))
    print(json.dumps(result), flush=True)


asyncio.run(main(sys.argv[1], sys.argv[2]))
