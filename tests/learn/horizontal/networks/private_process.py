"""One site of a private training as a process of its own: python private_process.py FOLDER NAME. Prints JSON."""

import asyncio
import json
import sys
from pathlib import Path

import numpy as np
import torch
from torch.nn.functional import cross_entropy

from atoll.core.channel import Channel, Gate
from atoll.crypto.random import Rng
from atoll.learn.horizontal.networks import DpSgd, Plan, PrivateTrainer, SiteNoise, TorchTrainer, fit, fit_private
from atoll.protocols.secure_sum import direct
from atoll.protocols.secure_sum.sums import Sums
from atoll.transport.grpc_link import Endpoint
from atoll.transport.site import load_site

NAMES = ("a", "b")
PARAMS = DpSgd(rate=0.3, clip=1.0, noise=1.5, steps=12, lot=60.0)
PLAN = Plan(rounds=4, epochs=1, lr=1.0, seed=1, evaluate=0)


def net():
    """Ten measures, two classes; the same at every site."""
    torch.manual_seed(1)
    return torch.nn.Sequential(torch.nn.Linear(10, 4), torch.nn.Tanh(), torch.nn.Linear(4, 2))


async def three(totals, rows):
    """Noise shared inside the sum; noise of each site; whole sites hidden."""
    shared = await fit_private(TorchTrainer(net(), cross_entropy, rows), totals, PARAMS, lr=1.0, honest=1)
    own = await fit(PrivateTrainer(TorchTrainer(net(), cross_entropy, rows), PARAMS), totals, PLAN)
    rule = SiteNoise(clip=1.0, noise=0.01, honest=1, lot=2.0)
    sites = await fit(TorchTrainer(net(), cross_entropy, rows), totals, PLAN, combine=rule)
    return {"shared": shared.tolist(), "own": own.model.tolist(), "sites": sites.model.tolist()}


async def main(folder, name):
    site = load_site(Path(folder) / name)
    (peer,) = (one for one in NAMES if one != name)
    async with Endpoint(site, listen=site.card.address, join_within=120) as endpoint:
        link = await endpoint.link("job", site.peer(peer), dial=name == NAMES[1])
        rng = Rng.system()
        channel = Channel(link, Gate(name, "job", direct.PROTOCOL.kinds, timeout=120)).sub("sums")
        sums = Sums(await direct.site({peer: channel}, rng=rng), rng)
        found = np.load(site.folder / "rows.npz")
        print(json.dumps(await three(sums, (found["X"], found["y"]))), flush=True)
        await sums.finish()
        await link.close()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2]))
