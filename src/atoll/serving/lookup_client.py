"""The client's side of a lookup: keep the hint, ask, and read the answers."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import msgspec

from atoll.align.ids import unique_ids
from atoll.core.channel import Gate
from atoll.core.errors import AtollError, ConnectionLost, ContractError, InputError, PeerFailed
from atoll.core.identity import Card, dns_name
from atoll.core.session import Session
from atoll.crypto import pir
from atoll.crypto.lookup_table import Layout
from atoll.crypto.random import Rng
from atoll.data.catalogue import NAME
from atoll.protocols import decoy_lookup
from atoll.protocols.keyword_lookup import protocol as keyword_lookup
from atoll.protocols.keyword_lookup.table import Cached
from atoll.query import files
from atoll.query.records import About, Row, decode, read_about
from atoll.serving.audit import AuditFile
from atoll.serving.lookup_service import PATIENCE, PREFIX
from atoll.serving.meter import Limit, Line, MeterBook
from atoll.serving.prepare import key_texts
from atoll.transport.delivery import SteadyLink
from atoll.transport.grpc_link import Endpoint
from atoll.transport.site import Site

Progress = Callable[[str, int, int], None]


class Kept(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What `hint.json` says of the hint beside it."""

    identity: str
    version: int
    columns: int
    slots: int
    record: int
    overflow: int
    point: str
    digest: str


@dataclass(frozen=True)
class Keys:
    """Keys as a person gives them.

    Attributes:
        columns: For each key column (n,) texts.
        places: Where each row stands, for errors.
    """

    columns: Sequence[Sequence[str]]
    places: Sequence[str]


@dataclass(frozen=True)
class Answer:
    """What came of a lookup.

    Attributes:
        about: The columns of a row.
        rows: For each key its rows, or None where there is no record.
        asked: How many different keys were asked for.
        left: How many queries are left after them; −1 without limit.
        version: Of the database.
        count: Records in it.
        fetched: Whether hint or changes were downloaded.
        sent, received: Bytes of all messages.
        seconds: From the first connection to the last answer.
        decoys: k, if it was a lookup among decoys; 0 otherwise.
    """

    about: About
    rows: list[list[Row] | None]
    asked: int
    left: int
    version: int
    count: int
    fetched: bool
    sent: int = 0
    received: int = 0
    seconds: float = 0.0
    decoys: int = 0

    @property
    def hits(self) -> int:
        """How many of the keys have a record."""
        return sum(row is not None for row in self.rows)


@dataclass(frozen=True)
class Decoys:
    """How to hide among decoys: k, and where plausible keys come from."""

    k: int
    pool: Callable[[About], Keys]


@dataclass(frozen=True)
class LookupClient:
    """Asks one service of one partner.

    Attributes:
        site: This site.
        card: The partner's card.
        service: The service's name.
        folder: Where hint, audit and metering file of this service are kept.
        join_within: Seconds to wait for the partner.
    """

    site: Site
    card: Card
    service: str
    folder: Path
    join_within: float = 20.0

    @classmethod
    def at(cls, site: Site, source: str, home: Path, *, join_within: float = 20.0) -> LookupClient:
        """Return the client for SERVICE@PARTNER.

        Args:
            site: This site.
            source: `registry@partner`.
            home: The site's folder.
            join_within: Seconds to wait for the partner.

        Raises:
            InputError: It is not of this form.
            IdentityError: The partner is not trusted.
        """
        service, _, partner = source.partition("@")
        if not partner or not NAME.fullmatch(service):
            raise InputError(f"{source!r} names no service", cure="Write SERVICE@SITE, such as registry@partner.")
        card = site.peer(partner)
        if not card.address:
            raise InputError(f"the card of {partner} has no address", cure=f"Ask {partner} for a card with one.")
        return cls(site, card, service, home / "asked" / dns_name(partner) / service, join_within)

    async def look_up(
        self,
        keys_for: Callable[[About], Keys],
        *,
        rng: Rng,
        decoys: Decoys | None = None,
        progress: Progress = lambda what, done, total: None,
    ) -> Answer:
        """Look up keys; each different one is asked for once.

        Args:
            keys_for: Returns the keys once it is known what the service's key columns are.
            rng: Secret randomness.
            decoys: Hide among decoys, the weak method, instead of asking privately.
            progress: Called with what is done, how much of it, and how much in all.

        Raises:
            ContractError: Unknown service, or the limit does not allow so many keys.
            InputError: Keys cannot be used.
            ConnectionLost: The partner cannot be reached.
            ProtocolError, PeerFailed, IdentityError: As everywhere.
        """
        pir.warm()
        files.folder_for(self.folder)
        method, start = "decoys" if decoys else "private", time.perf_counter()
        session_id = os.urandom(8).hex()
        job = f"{PREFIX}{self.service}/{method}/{session_id}"
        audit, book = AuditFile(self.folder / "audit.jsonl"), MeterBook(self.folder / "meter.jsonl", Limit())
        gate = Gate(self.site.name, job, timeout=PATIENCE, audit=audit)
        try:
            async with Endpoint(self.site, join_within=self.join_within, lost_after=15.0) as endpoint:
                link = await self._link(endpoint, job)
                async with Session(gate, {self.card.name: link}, hub=self.card.name, progress=progress) as session:

                    def counted(version: int, count: int) -> None:
                        names = (self.service, self.card.name, session_id, method)
                        book.add(Line(time.time(), *names, count, version))

                    if decoys:
                        answer = await self._among(session, keys_for, decoys, rng, partial(counted, 0))
                    else:
                        answer = await self._private(session, keys_for, rng, counted)
        except PeerFailed as error:
            if error.step != "terms":
                raise
            raise ContractError(error.what, site=error.site, cure=error.cure) from None
        finally:
            audit.close()
            book.close()
        return replace(answer, sent=audit.sent, received=audit.received, seconds=time.perf_counter() - start)

    async def _link(self, endpoint: Endpoint, job: str) -> SteadyLink:
        try:
            return await endpoint.link(job, self.card, dial=True)
        except ConnectionLost as error:
            raise ConnectionLost(
                f"{self.card.name} ({self.card.address}) did not answer within {self.join_within:g} s",
                site=self.site.name,
                detail=error.detail,
                cure=f"Ask {self.card.name} whether its lookup service is running, and check address and firewall.",
            ) from None

    async def _private(
        self, session: Session, keys_for: Callable[[About], Keys], rng: Rng, counted: Callable[[int, int], None]
    ) -> Answer:
        channel = session.peers[self.card.name]
        with session.step("lookup", uses=[keyword_lookup.PROTOCOL]):
            met = await keyword_lookup.meet(channel, cached=self._cached())
            if met.fetched:
                self._keep(met.cached)
            about = read_about(met.terms.about, self.card.name)
            keys, back = _distinct(keys_for(about), about)

            def progress(done: int, total: int) -> None:
                session.progress("keys", done, total)

            count = partial(counted, met.terms.version)
            records = await keyword_lookup.ask(channel, met, keys, rng=rng, counted=count, progress=progress)
            await keyword_lookup.leave(channel)
        terms = met.terms
        rows = self._rows(records, back, about)
        return Answer(about, rows, len(keys), _rest(terms.left, keys), terms.version, terms.count, met.fetched)

    async def _among(
        self,
        session: Session,
        keys_for: Callable[[About], Keys],
        decoys: Decoys,
        rng: Rng,
        counted: Callable[[int], None],
    ) -> Answer:
        channel = session.peers[self.card.name]
        with session.step("lookup", uses=[decoy_lookup.PROTOCOL]):
            offered = await decoy_lookup.meet(channel)
            about = read_about(offered.about, self.card.name)
            keys, back = _distinct(keys_for(about), about)
            pool, _ = _distinct(decoys.pool(about), about)

            def progress(done: int, total: int) -> None:
                session.progress("keys", done, total)

            records = await decoy_lookup.ask(
                channel, offered, keys, pool=pool, k=decoys.k, secret=self._secret(), rng=rng, counted=counted,
                progress=progress,
            )  # fmt: skip
        rows = self._rows(records, back, about)
        return Answer(about, rows, len(keys), _rest(offered.left, keys), 0, offered.count, False, decoys=decoys.k)

    def _rows(self, records: Sequence[bytes | None], back: Sequence[int], about: About) -> list[list[Row] | None]:
        read = [None if one is None else decode(one, about, self.card.name) for one in records]
        return [read[at] for at in back]

    def _cached(self) -> Cached | None:
        """Return the hint that is kept, if it is whole and what its digest says."""
        path = self.folder / "hint.json"
        if not path.is_file():
            return None
        try:
            kept = files.read_json(path, Kept)
            layout = Layout(kept.columns, kept.slots, kept.record)
            hint = files.read_array(self.folder / f"hint-{kept.version}.npy", "<u4", (layout.rows, pir.N))
            shape = (kept.overflow, layout.row_bytes)
            overflow = files.read_array(self.folder / f"overflow-{kept.version}.npy", "|u1", shape)
            names = (bytes.fromhex(kept.identity), kept.version, layout)
            pins = (bytes.fromhex(kept.point), bytes.fromhex(kept.digest))
            cached = Cached(*names, *pins, hint, overflow)
        except (AtollError, ValueError):
            return None
        return cached if cached.intact() else None

    def _keep(self, cached: Cached) -> None:
        """Write the hint for the next session."""
        layout, version = cached.layout, cached.version
        files.write_array(self.folder / f"hint-{version}.npy", cached.hint)
        files.write_array(self.folder / f"overflow-{version}.npy", cached.overflow)
        sizes = (layout.columns, layout.slots, layout.record, len(cached.overflow))
        kept = Kept(cached.identity.hex(), version, *sizes, cached.point.hex(), cached.digest.hex())
        files.write_json(self.folder / "hint.json", kept)
        for path in self.folder.glob("*-*.npy"):
            if path.name not in (f"hint-{version}.npy", f"overflow-{version}.npy"):
                path.unlink(missing_ok=True)

    def _secret(self) -> bytes:
        """Return the secret that keeps decoys the same; made on first use."""
        path = self.folder / "decoys"
        if not path.exists():
            secret = Rng.system().bytes(32)
            files.write(path, lambda file: file.write(secret))
        return path.read_bytes()


def _rest(left: int, keys: Sequence[bytes]) -> int:
    return left - len(keys) if left >= 0 else -1


def _distinct(keys: Keys, about: About) -> tuple[list[bytes], list[int]]:
    """Return the canonical keys, each once, and for each row the place of its key."""
    if len(keys.columns) != len(about.key):
        raise InputError(
            f"a key of the service has {len(about.key)} columns ({', '.join(about.key)}), not {len(keys.columns)}",
            cure="Name them with --key, in this order.",
        )
    ids = unique_ids(key_texts(keys.columns, about.kinds, keys.places))
    back = [0] * len(ids.rows)
    starts, rows = ids.starts.tolist(), ids.rows.tolist()
    for at in range(len(ids.keys)):
        for row in rows[starts[at] : starts[at + 1]]:
            back[row] = at
    return ids.keys, back
