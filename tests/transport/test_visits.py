"""Sessions that a trusted site begins by itself: served one by one, ended for good, and bounded in number."""

import asyncio
from pathlib import Path

import pytest

from atoll.core.errors import ConnectionLost
from atoll.transport import grpc_link
from atoll.transport.delivery import SteadyLink
from atoll.transport.grpc_link import Endpoint
from atoll.transport.site import Site, init_site, move_site


@pytest.fixture
def sites(tmp_path: Path) -> tuple[Site, Site]:
    a, b = (init_site(tmp_path / name, name, "127.0.0.1:1") for name in "ab")
    a.trust(b.card)
    b.trust(a.card)
    return a, b


async def echo(link: SteadyLink) -> None:
    """Send back one frame."""
    frame = await link.recv("x")
    await link.send("x", b"again " + frame.header, [])


async def ask(endpoint: Endpoint, card: object, job: str) -> bytes:
    link = await endpoint.link(job, card, dial=True)  # type: ignore[arg-type]
    await link.send("x", job.encode(), [])
    answer = (await link.recv("x")).header
    await link.close()
    return answer


def test_sessions_come_and_go(sites: tuple[Site, Site]) -> None:
    async def both() -> None:
        async with Endpoint(sites[0], listen="127.0.0.1:0") as server, Endpoint(sites[1], join_within=5) as client:
            server.welcome("echo/", echo)
            card = move_site(sites[0], f"127.0.0.1:{server.port}").card
            answers = await asyncio.gather(*(ask(client, card, f"echo/{n}") for n in range(5)))
            assert answers == [b"again echo/%d" % n for n in range(5)]
            while server._visits:
                await asyncio.sleep(0.005)
            assert server._links == {}

    asyncio.run(both())


def test_other_job_ids_are_not_served(sites: tuple[Site, Site]) -> None:
    async def both() -> None:
        async with Endpoint(sites[0], listen="127.0.0.1:0") as server, Endpoint(sites[1], join_within=0.4) as client:
            server.welcome("echo/", echo)
            card = move_site(sites[0], f"127.0.0.1:{server.port}").card
            for job in ("other/1", "echo/" + "x" * 300):
                with pytest.raises(ConnectionLost, match="did not join"):
                    await ask(client, card, job)
            assert server._links == {}

    asyncio.run(both())


def test_more_sessions_than_are_allowed_wait_for_a_place(
    sites: tuple[Site, Site], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(grpc_link, "VISITS", 1)
    most, now = [0], [0]

    async def counted(link: SteadyLink) -> None:
        now[0] += 1
        most[0] = max(most[0], now[0])
        await echo(link)
        now[0] -= 1

    async def both() -> None:
        async with Endpoint(sites[0], listen="127.0.0.1:0") as server, Endpoint(sites[1], join_within=20) as client:
            server.welcome("echo/", counted)
            card = move_site(sites[0], f"127.0.0.1:{server.port}").card
            await asyncio.gather(*(ask(client, card, f"echo/{n}") for n in range(3)))

    asyncio.run(both())
    assert most == [1]


def test_closing_ends_sessions(sites: tuple[Site, Site]) -> None:
    async def both() -> None:
        begun, ended = asyncio.Event(), asyncio.Event()

        async def long(link: SteadyLink) -> None:
            begun.set()
            try:
                await link.recv("never")
            finally:
                ended.set()

        async with Endpoint(sites[1], join_within=5) as client:
            async with Endpoint(sites[0], listen="127.0.0.1:0") as server:
                server.welcome("long/", long)
                link = await client.link("long/1", move_site(sites[0], f"127.0.0.1:{server.port}").card, dial=True)
                await begun.wait()
            assert ended.is_set()
            with pytest.raises(ConnectionLost):
                await link.recv("x")

    asyncio.run(both())
