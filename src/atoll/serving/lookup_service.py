"""A lookup service: what a site leaves running, so that partners may ask for records without saying which."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from atoll.core.channel import Gate
from atoll.core.errors import AtollError, ContractError
from atoll.core.session import Session
from atoll.crypto.random import Rng
from atoll.protocols import decoy_lookup
from atoll.protocols.keyword_lookup import protocol as keyword_lookup
from atoll.protocols.keyword_lookup.table import Served
from atoll.query import database
from atoll.serving.audit import AuditFile
from atoll.serving.meter import Limit, MeterBook, SessionMeter
from atoll.transport.delivery import SteadyLink
from atoll.transport.grpc_link import Endpoint
from atoll.transport.site import Site

PREFIX = "lookup/"
"""Job ids of lookups are lookup/SERVICE/METHOD/random letters."""

METHODS = ("private", "decoys")
PATIENCE = 120.0
"""Seconds that either side waits for a message of the other."""

Report = Callable[[str], None]
_log = logging.getLogger("atoll.lookup")


@dataclass
class LookupService:
    """One database, served to some partners.

    Attributes:
        name: Its name; partners ask for NAME@SITE.
        folder: Holds `database/`, `meter.jsonl` and `audit.jsonl`.
        limit: The limit of every partner.
        partners: Who may ask; None for all trusted sites.
        fewest: Fewest candidates of a lookup among decoys; 0 refuses that method.
        report: Told one line for each session.
    """

    name: str
    folder: Path
    limit: Limit = field(default_factory=Limit)
    partners: Sequence[str] | None = None
    fewest: int = 0
    report: Report = lambda line: None

    def __post_init__(self) -> None:
        """Open the database and the files.

        Raises:
            InputError: The database is absent or damaged.
        """
        self.served = database.open_database(self.database)
        self.book = MeterBook(self.folder / "meter.jsonl", self.limit, alone=True)
        self.audit = AuditFile(self.folder / "audit.jsonl")

    @property
    def database(self) -> Path:
        """The database's folder."""
        return self.folder / "database"

    def present(self) -> Served:
        """Return the database; another process may have made a new version of it."""
        meta = database.read_meta(self.database)
        if (meta.identity, meta.version) != (self.served.identity.hex(), self.served.version):
            self.served = database.open_database(self.database)
        return self.served

    def close(self) -> None:
        """Close the files."""
        self.book.close()
        self.audit.close()


class LookupDoor:
    """Gives every session of a partner to the service it asks for.

    Args:
        site: This site.
        services: The services, by name.
    """

    def __init__(self, site: Site, services: dict[str, LookupService]) -> None:
        self.site, self.services = site, services

    async def run(self, *, listen: str, stop: asyncio.Event, ready: Callable[[int], None] = lambda port: None) -> None:
        """Listen until `stop` is set; sessions that run then are ended, and their partners told.

        Args:
            listen: host:port.
            stop: Ends the service.
            ready: Called with the port.

        Raises:
            IdentityError: No other site is trusted.
            ConnectionLost: The port is taken.
        """
        async with Endpoint(self.site, listen=listen, join_within=30.0, lost_after=15.0) as endpoint:
            endpoint.welcome(PREFIX, self.visit)
            ready(endpoint.port)
            await stop.wait()

    async def visit(self, link: SteadyLink) -> None:
        """Serve one session; whatever happens in it ends this session only."""
        parts = link.job.split("/")
        name, method = (parts[1], parts[2]) if len(parts) == 4 else ("", "")
        service = self.services.get(name)
        audit = service.audit if service else next(iter(self.services.values())).audit
        gate = Gate(self.site.name, link.job, timeout=PATIENCE, audit=audit)
        try:
            async with Session(gate, {link.peer: link}, hub=self.site.name) as session:
                with session.step("terms"):
                    service = self._allowed(service, name, method, link.peer)
                served = service.present()
                meter = SessionMeter(service.book, link.peer, parts[3], method, served.version)
                try:
                    await self._serve(session, service, served, meter)
                finally:
                    service.report(f"{link.peer}: {meter.count:,} queries ({method}), {_left(meter)}")
        except AtollError as error:
            if service:
                service.report(f"{link.peer}: session ended: {error.what}")
        except Exception:
            _log.exception("a session with %s failed", link.peer)

    def _allowed(self, service: LookupService | None, name: str, method: str, partner: str) -> LookupService:
        if service is None or (service.partners is not None and partner not in service.partners):
            mine = [one.name for one in self.services.values() if one.partners is None or partner in one.partners]
            raise ContractError(
                f"{self.site.name} has no service {name[:64]!r} for {partner}",
                cure=f"It serves {', '.join(mine)}." if mine else f"Ask {self.site.name} to allow it.",
            )
        if method not in METHODS or (method == "decoys" and service.fewest < 2):
            raise ContractError(
                f"{self.site.name} does not allow lookups of {name} among decoys",
                cure="Ask privately, without --decoys; or agree on it.",
            )
        return service

    async def _serve(self, session: Session, service: LookupService, served: Served, meter: SessionMeter) -> None:
        channel = session.peers[meter.partner]
        if meter.method == "private":
            with session.step("lookup", uses=[keyword_lookup.PROTOCOL]):
                await keyword_lookup.server(channel, served, meter=meter, rng=Rng.system())
            return
        with session.step("lookup", uses=[decoy_lookup.PROTOCOL]):
            await decoy_lookup.server(
                channel,
                partial(database.find, served),
                count=served.count,
                record=served.layout.record,
                about=served.about,
                fewest=service.fewest,
                meter=meter,
                rng=Rng.system(),
            )


def _left(meter: SessionMeter) -> str:
    left = meter.left()
    return "no limit" if left < 0 else f"{left:,} left"
