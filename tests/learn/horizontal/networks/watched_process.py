"""One site of a training as a process of its own, whose links keep what crosses them: python watched_process.py
FOLDER NAME.  It leaves FOLDER/NAME/frames.msgpack."""

import asyncio
import sys
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np

from atoll.core.channel import Channel, Gate, Incoming, Link
from atoll.crypto.random import Rng
from atoll.learn.horizontal.networks import AtAggregator, AtSite, ExactAverages, Plan, Seen, TrimmedMean, fit
from atoll.learn.horizontal.networks.seen_updates import PROTOCOL
from atoll.privacy.accountant import rho_of
from atoll.protocols.pairwise_keys import Seal
from atoll.protocols.secure_sum import star, topology
from atoll.protocols.secure_sum.noisy import NoisyTotals
from atoll.transport.grpc_link import Endpoint
from atoll.transport.site import load_site
from bench.perceptron import Perceptron, Rows

NAMES = ("a", "b", "c")
NETWORK = Perceptron(hidden=64)
PLAN = Plan(rounds=1, epochs=1, batch=0, lr=1.0, weights="equal", evaluate=0, seed=5)
CLIP, EPSILON, DELTA = 0.05, 8.0, 1e-5


@dataclass
class Arriving:
    """A frame that is kept once it has arrived."""

    inner: Incoming
    keep: object

    @property
    def header(self):
        return self.inner.header

    async def read(self, nbytes):
        payload = await self.inner.read(nbytes)
        self.keep(self.header, payload.tobytes())
        return payload


@dataclass
class Watched:
    """A link of a curious site: it keeps every frame that arrives, `(peer, stream, header, payload)`."""

    inner: Link
    kept: list

    @property
    def peer(self):
        return self.inner.peer

    async def send(self, stream, header, parts):
        await self.inner.send(stream, header, parts)

    async def recv(self, stream):
        incoming = await self.inner.recv(stream)
        return Arriving(incoming, lambda *frame: self.kept.append((self.peer, stream, *frame)))

    def abort(self, cause):
        self.inner.abort(cause)

    async def close(self):
        await self.inner.close()


async def trainings(site, channels, x, y):
    """The same round three times: seen by a, added up through a, added up with noise; what each showed to a."""

    def trainer(**options):
        return Rows(NETWORK, NETWORK.start(1), x, y, **options).trainer

    async def sums(name):
        own = {peer: channel.sub(name) for peer, channel in channels.items()}
        options = {"site": site.name, "sites": NAMES, "hub": NAMES[0], "seal": Seal.of(site.key, site.trusted())}
        return await topology.join("star", own, rng=Rng.system(), **options)

    seen = {peer: channel.sub("seen") for peer, channel in channels.items() if NAMES[0] in (peer, site.name)}
    aggregator = AtAggregator(seen) if site.name == NAMES[0] else AtSite(seen[NAMES[0]])
    plain = Seen(rule=TrimmedMean(trim=0.0))
    models = [await fit(trainer(), await sums("plain"), PLAN, combine=plain, aggregator=aggregator)]
    models.append(await fit(trainer(), await sums("secure"), PLAN))
    totals = await sums("noisy")
    noisy = NoisyTotals(totals, [CLIP * 1.001] * NETWORK.size + [0.0], rho_of(EPSILON, DELTA), honest=2)
    clipped = trainer(clip=CLIP, planned=1)
    added = totals if site.name == NAMES[0] else noisy  # a is curious, and adds no noise that it would have to take off
    models.append(await fit(clipped, totals, PLAN, averages=ExactAverages(added)))
    return [done.model for done in models]


async def main(folder, name):
    site = load_site(Path(folder) / name)
    peers, kept = [peer for peer in NAMES if peer != name], []
    async with Endpoint(site, listen=site.card.address, join_within=40) as endpoint:
        calls = (endpoint.link("job", site.peer(p), dial=NAMES.index(name) > NAMES.index(p)) for p in peers)
        links = await asyncio.gather(*calls)
        gate = Gate(name, "job", star.PROTOCOL.kinds | PROTOCOL.kinds, timeout=40)
        channels = {peer: Channel(Watched(link, kept), gate) for peer, link in zip(peers, links, strict=True)}
        with np.load(site.folder / "rows.npz") as rows:
            models = await trainings(site, channels, rows["x"], rows["y"])
        await asyncio.gather(*(link.close() for link in links), return_exceptions=True)
    (site.folder / "frames.msgpack").write_bytes(msgspec.msgpack.encode(kept))
    np.save(site.folder / "models.npy", np.stack(models))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2]))
