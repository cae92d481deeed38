"""A hub and its partners in one process, over links that record what crosses them."""

import asyncio
from collections.abc import Coroutine, Mapping, Sequence
from typing import Any

from atoll.core.channel import Channel, Gate
from atoll.core.errors import AtollError
from atoll.core.message import Message
from atoll.testing import FaultyLink, Frame
from atoll.transport.memory import memory_links

HUB = "hub"


class Star:
    """Channels between a hub and partners; `transcripts` holds the frames of each link."""

    def __init__(
        self, partners: Sequence[str], allowed: frozenset[type[Message]] | None = None, timeout: float = 5.0
    ) -> None:
        self.transcripts: dict[str, list[Frame]] = {name: [] for name in partners}
        self.peers: dict[str, Channel] = {}
        self.hubs: dict[str, Channel] = {}
        for name in partners:
            at_hub, at_partner = memory_links(HUB, name)
            for link, site, channels, key in (
                (at_hub, HUB, self.peers, name),
                (at_partner, name, self.hubs, name),
            ):
                gate = Gate(site, "test", allowed, "test", timeout)
                channels[key] = Channel(FaultyLink(link, site, self.transcripts[name]), gate)

    def run(
        self, hub: Coroutine[Any, Any, Any], partners: Mapping[str, Coroutine[Any, Any, Any]]
    ) -> dict[str, Any | BaseException]:
        """Run every site to its own end; a site that fails closes its links, as a session would."""

        async def closing(role: Coroutine[Any, Any, Any], channels: Sequence[Channel]) -> Any:
            try:
                return await role
            except AtollError:
                for channel in channels:
                    await channel.link.close()
                raise

        async def everyone() -> list[Any]:
            async with asyncio.timeout(30):
                return await asyncio.gather(
                    closing(hub, list(self.peers.values())),
                    *(closing(role, [self.hubs[name]]) for name, role in partners.items()),
                    return_exceptions=True,
                )

        return dict(zip((HUB, *partners), asyncio.run(everyone()), strict=True))

    def sent(self, partner: str, kind: str) -> list[Frame]:
        """The frames of one kind, by the last part of its name, on one link."""
        return [frame for frame in self.transcripts[partner] if frame.kind.endswith(f".{kind}")]


def error_of(ends: Mapping[str, Any], site: str, kind: type[BaseException]) -> BaseException:
    """The error in which a site ended; anything else fails the test."""
    assert isinstance(ends[site], kind), ends
    return ends[site]
