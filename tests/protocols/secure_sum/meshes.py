"""Sites in one process that all have a link to each other, some of which die."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from atoll.core.channel import Channel, Gate
from atoll.core.errors import AtollError, ConnectionLost
from atoll.core.message import Message
from atoll.testing import FaultyLink, Frame, seeded_rng
from atoll.transport.memory import memory_links


@dataclass
class Life:
    """How long a site lives: it dies, or falls silent, before it sends its message of one kind with that number."""

    kind: str = "nothing"
    number: int = 0
    silent: bool = False
    seen: int = 0
    links: list[Any] = field(default_factory=list)

    async def check(self, header: bytes) -> None:
        """Die if it is time."""
        if f".{self.kind}".encode() in header:
            self.seen += 1
        if self.seen > self.number:
            if self.silent:
                await asyncio.Event().wait()
            for link in self.links:
                await link.close()
            raise ConnectionLost("the power is off")


class Mortal(FaultyLink):
    """A link of a site that may die."""

    life: Life

    async def send(self, stream: str, header: bytes, parts: Any) -> None:
        await self.life.check(header)
        await super().send(stream, header, parts)


class Mesh:
    """Channels between all sites: `peers[one][other]`; `transcript` holds all frames."""

    def __init__(
        self,
        sites: Sequence[str],
        allowed: frozenset[type[Message]] | None = None,
        timeout: float = 5.0,
        lives: Mapping[str, Life] | None = None,
    ) -> None:
        self.transcript: list[Frame] = []
        self.lives = {name: (lives or {}).get(name, Life()) for name in sites}
        self.peers: dict[str, dict[str, Channel]] = {name: {} for name in sites}
        gates = {name: Gate(name, "test", allowed, "test", timeout) for name in sites}
        for i, one in enumerate(sites):
            for other in sites[i + 1 :]:
                for me, you, inner in zip((one, other), (other, one), memory_links(one, other), strict=True):
                    link = Mortal(inner, me, self.transcript)
                    link.life = self.lives[me]
                    link.life.links.append(inner)
                    self.peers[me][you] = Channel(link, gates[me])

    def run(self, roles: Mapping[str, Any]) -> dict[str, Any]:
        """Run every site to its own end; a site that fails closes its links, as a session would."""

        async def closing(name: str, role: Any) -> Any:
            try:
                return await role
            except AtollError:
                for link in self.lives[name].links:
                    await link.close()
                raise

        async def everyone() -> list[Any]:
            async with asyncio.timeout(30):
                return await asyncio.gather(
                    *(closing(name, role) for name, role in roles.items()), return_exceptions=True
                )

        return dict(zip(roles, asyncio.run(everyone()), strict=True))


def play_mesh(
    use: Mapping[str, Any], protocol: Any, *, mesh: Mesh | None = None, seed: int = 1, **options: Any
) -> tuple[dict[str, Any], Mesh]:
    """Run sites of a ring or a mesh, each of which uses its sums so."""
    from tests.protocols.secure_sum.stars import adding

    mesh = mesh or Mesh(list(use), protocol.PROTOCOL.kinds)
    roles = {
        name: adding(
            protocol.site(mesh.peers[name], rng=seeded_rng(100 * seed + i), **{"context": ("job 1",), **options}),
            use[name], seeded_rng(100 * seed + 50 + i),
        )
        for i, name in enumerate(use)
    }  # fmt: skip
    return mesh.run(roles), mesh
