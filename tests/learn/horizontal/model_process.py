"""One hospital as a process of its own, `python model_process.py FOLDER NAME`: fits models, prints JSON."""

import asyncio
import json
import sys
from pathlib import Path

import numpy as np

from atoll.core.channel import Channel, Gate
from atoll.crypto.random import Rng
from atoll.data.columns import Column, Columns
from atoll.learn.horizontal import correlation, describe, glm, kmeans
from atoll.learn.horizontal.rows import Rows
from atoll.learn.horizontal.trees import forest
from atoll.learn.horizontal.trees.params import BoostParams
from atoll.protocols.pairwise_keys import Seal
from atoll.protocols.secure_sum import star
from atoll.protocols.secure_sum.sums import Sums
from atoll.transport.grpc_link import Endpoint
from atoll.transport.site import load_site

HUB, MEMBERS = "clinic", ("heart centre", "university")
NAMES = ("radius", "texture", "smoothness", "concavity", "symmetry")
BOOST = BoostParams(n_estimators=3, max_bin=16)
START = ((10.0, 15.0, 0.1, 0.0, 0.2), (20.0, 20.0, 0.1, 0.2, 0.2))


async def models(totals, X, y):
    """What every hospital learns."""
    table = Columns(tuple(Column(name, "numeric", X[:, j]) for j, name in enumerate(NAMES)), len(X))
    rows, rng = Rows(NAMES, X), Rng.system()
    described = await describe.fit(totals, rows, describe.DescribeParams())
    fitted = await glm.fit(totals, rows, y, glm.GlmParams())
    ranked = await correlation.fit(totals, rows, correlation.CorrelationParams(method="spearman"))
    clusters = await kmeans.fit(totals, rows, kmeans.KMeansParams(2, start=START), rng=rng)
    seeded = await kmeans.fit(totals, rows, kmeans.KMeansParams(2), rng=rng)
    trees = await forest.boost(totals, table, y, BOOST, rng=rng)
    return {
        "median": described.quantiles[:, 2].tolist(),
        "coefficients": fitted.coefficients.values.tolist(),
        "errors": fitted.coefficients.standard_errors.tolist(),
        "spearman": ranked.values.tolist(),
        "centres": clusters.centres.tolist(),
        "seeded": seeded.centres.tolist(),
        "splits": [[tree.left, tree.feature, tree.bin, tree.weight] for tree in trees.trees],
    }


async def main(folder, name):
    """Join the others in a star whose hub has rows of its own, fit, and print."""
    site = load_site(Path(folder) / name)
    peers = MEMBERS if name == HUB else (HUB,)
    with np.load(site.folder / "rows.npz") as data:
        X, y = data["X"], data["y"]
    async with Endpoint(site, listen=site.card.address, join_within=40) as endpoint:
        links = await asyncio.gather(*(endpoint.link("job", site.peer(peer), dial=name != HUB) for peer in peers))
        gate = Gate(name, "job", star.PROTOCOL.kinds, timeout=40)
        channels = {peer: Channel(link, gate) for peer, link in zip(peers, links, strict=True)}
        if name == HUB:
            carrier = await star.hub(channels)
        else:
            seal = Seal.of(site.key, site.trusted())
            carrier = await star.member(channels[HUB], MEMBERS, rng=Rng.system(), seal=seal)
        sums = Sums(carrier, Rng.system())
        found = await models(sums, X, y)
        await sums.finish()
        found["told"] = len(sums.told)
        print(json.dumps(found), flush=True)
        await asyncio.gather(*(link.close() for link in links), return_exceptions=True)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2]))
