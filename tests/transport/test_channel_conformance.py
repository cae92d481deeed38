"""Both kinds of link pass the public suite."""

import asyncio
from contextlib import asynccontextmanager

import pytest

from atoll.testing.check_channel import CASES, LinkPair, check_channel_case, memory_link_pair
from atoll.transport.grpc_link import Endpoint
from atoll.transport.site import init_site, move_site


@pytest.fixture(scope="module")
def sites(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sites")
    a, b = init_site(folder / "a", "a", ""), init_site(folder / "b", "b", "")
    b.trust(a.card)
    return a, b


def grpc_links(sites):
    @asynccontextmanager
    async def make():
        a, b = sites
        async with (
            Endpoint(b, listen="127.0.0.1:0", join_within=10, lost_after=0.3) as at_b,
            Endpoint(a, join_within=10, lost_after=0.3) as at_a,
        ):
            card = move_site(b, f"127.0.0.1:{at_b.port}").card
            first, second = await asyncio.gather(
                at_a.link("job", card, dial=True), at_b.link("job", a.card, dial=False)
            )

            async def kill():
                """The process of b is gone: its connections break and nothing of it answers."""
                second.over = True
                await second.detach()
                await at_b._server.stop(None)

            yield LinkPair(first, second, kill)

    return make


@pytest.mark.parametrize("name", CASES)
def test_memory_links(name):
    check_channel_case(memory_link_pair, name)


@pytest.mark.parametrize("name", CASES)
def test_grpc_links(sites, name):
    check_channel_case(grpc_links(sites), name)
