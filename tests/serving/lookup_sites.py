"""Two sites on this machine, one of which serves a table; in one process, or in two."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from atoll.query.records import About, Field
from atoll.query.tables import Rows
from atoll.serving.lookup_client import Answer, Decoys, Keys, LookupClient
from atoll.serving.lookup_service import LookupDoor, LookupService
from atoll.serving.meter import Limit
from atoll.serving.prepare import Prepared, prepare
from atoll.testing import seeded_rng
from atoll.transport.site import Site, init_site, move_site

ABOUT = About(key=("company",), kinds=("text",), fields=(Field("risk", "float"), Field("note", "text")))


def table(count: int, note: str = "fine") -> Rows:
    keys = [f"公司 {at}" for at in range(count)]
    values = [(at / 8, None if at % 5 == 0 else f"{note} {at}") for at in range(count)]
    return Rows((keys,), ABOUT.fields, values, [f"line {at + 2}" for at in range(count)])


@dataclass
class Pair:
    """The server `registry`, and clients that it trusts."""

    folder: Path
    names: Sequence[str] = ("bank",)
    said: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.server = init_site(self.folder / "registry", "registry", "127.0.0.1:1")
        self.clients: dict[str, Site] = {}
        for name in self.names:
            self.clients[name] = init_site(self.folder / name, name, "")
            self.server.trust(self.clients[name].card)

    def prepare(self, rows: Rows, about: About = ABOUT, **options: Any) -> Prepared:
        folder = self.folder / "registry" / "services" / "companies" / "database"
        return prepare(folder, rows, about, rng=seeded_rng(5), **options)

    def service(self, limit: str = "none", **options: Any) -> LookupService:
        folder = self.folder / "registry" / "services" / "companies"
        return LookupService("companies", folder, Limit.parse(limit), report=self.said.append, **options)

    def play(self, service: LookupService, work: Callable[["Pair"], Awaitable[Any]]) -> Any:
        """Run the service while `work` runs, and return what that returns."""

        async def both() -> Any:
            stop, ready = asyncio.Event(), asyncio.get_running_loop().create_future()
            door = LookupDoor(self.server, {service.name: service})
            serving = asyncio.create_task(door.run(listen="127.0.0.1:0", stop=stop, ready=ready.set_result))
            done, _ = await asyncio.wait([serving, ready], return_when=asyncio.FIRST_COMPLETED)
            if serving in done:
                return await serving
            card = move_site(self.server, f"127.0.0.1:{ready.result()}").card
            for site in self.clients.values():
                site.trust(card, replace=True)
            try:
                return await work(self)
            finally:
                stop.set()
                await serving

        try:
            return asyncio.run(both())
        finally:
            service.close()

    async def look_up(
        self, keys: Sequence[str], *, name: str = "bank", source: str = "companies@registry", k: int = 0,
        pool: Sequence[str] = (), **options: Any,
    ) -> Answer:  # fmt: skip
        client = LookupClient.at(self.clients[name], source, self.folder / name, **options)
        decoys = Decoys(k, lambda about: given(pool)) if k else None
        return await client.look_up(lambda about: given(keys), rng=seeded_rng(8), decoys=decoys)


def given(keys: Sequence[str]) -> Keys:
    return Keys((list(keys),), [f"line {at + 2}" for at in range(len(keys))])
