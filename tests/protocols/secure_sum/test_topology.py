"""One call for all topologies."""

from typing import Any, get_args

import numpy as np
import pytest

from atoll.core.errors import InputError
from atoll.protocols.secure_sum.topology import Topology, join, protocol_of
from atoll.testing import seeded_rng
from tests.protocols.secure_sum.meshes import Mesh

SITES = ("b", "c", "d", "e")


@pytest.mark.parametrize("topology", get_args(Topology))
def test_every_site_joins_in_the_same_way(topology: Topology) -> None:
    mesh = Mesh(SITES, protocol_of(topology).kinds)

    async def site(name: str) -> Any:
        rng = seeded_rng(ord(name))
        sums = await join(topology, mesh.peers[name], site=name, sites=SITES, hub="c", rng=rng, context=("job",))
        total = await sums.total(np.array([0.1, float(ord(name))]), what="numbers")
        await sums.finish()
        return total.tolist(), sums.sites

    ends = mesh.run({name: site(name) for name in SITES})
    assert set(map(str, ends.values())) == {str(([0.4, float(sum(map(ord, SITES)))], SITES))}


@pytest.mark.parametrize("topology", ["star", "dropouts"])
def test_a_hub_may_be_none_of_the_sites_that_add(topology: Topology) -> None:
    mesh = Mesh(SITES, protocol_of(topology).kinds)

    async def site(name: str) -> Any:
        rng, adding = seeded_rng(ord(name)), SITES[1:]
        sums = await join(topology, mesh.peers[name], site=name, sites=adding, hub="b", rng=rng, least=3)
        return (await sums.total(np.array([float(name != "b")]), what="numbers")).tolist(), sums.sites

    ends = mesh.run({name: site(name) for name in SITES})
    assert list(ends.values()) == [([3.0], SITES[1:])] * 4


@pytest.mark.parametrize(("topology", "words"), [("tree", "no topology 'tree'"), ("ring", "no link to d, e")])
def test_what_cannot_be_joined(topology: Any, words: str) -> None:
    mesh = Mesh(("b", "c"))
    options = {"site": "b", "sites": SITES, "hub": "c", "rng": seeded_rng(1)}
    with pytest.raises(InputError, match=words):
        join(topology, mesh.peers["b"], **options).send(None)
