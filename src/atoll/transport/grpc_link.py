"""Links over gRPC with mutual TLS 1.3, on one port per site.

Of two sites one dials and one listens, so only one of them must be reachable. Both accept exactly the
certificates on the cards they trust. A connection carries one link: one job between two sites.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from atoll.core.errors import AtollError, ConnectionLost, ContractError, IdentityError, ProtocolError
from atoll.core.identity import Card, dns_name
from atoll.transport.delivery import Hello, Limits, SteadyLink
from atoll.transport.site import Site, certificates

METHOD = "/atoll.Link/Units"

ATTEMPT = 10.0
"""Seconds for one attempt to connect, and for the peer's first words."""

SLAMMED = 5
"""Connections closed right after the handshake that mean: the peer does not want this site's certificate."""

RETRY = (0.05, 1.0)
"""First and longest pause between attempts, in seconds."""

TLS13_ONLY = "ECDHE-RSA-AES128-GCM-SHA256"
"""gRPC's Python has no switch for the TLS version. Our certificates are ECDSA, and this, the only TLS 1.2 suite
that gRPC is left with, needs RSA: so no TLS 1.2 handshake can succeed. TLS 1.3 suites are not affected."""

VISITS = 16
"""Sessions that one site may have at a time with services of another; more wait for a place."""

Visit = Callable[[SteadyLink], Awaitable[None]]

_log = logging.getLogger("atoll.link")


class Endpoint:
    """A site's one door: dials other sites, and listens for those that dial.

    Args:
        site: This site.
        listen: host:port to listen on; port 0 takes a free one; empty only dials.
        join_within: Seconds that `link` waits for a peer to join a job.
        lost_after: Seconds without a connection after which a link fails at both sides.
    """

    def __init__(self, site: Site, *, listen: str = "", join_within: float = 300.0, lost_after: float = 30.0) -> None:
        self.site, self.listen, self.join_within, self.lost_after = site, listen, join_within, lost_after
        self.port = 0
        self._server: Any = None
        self._known: dict[bytes, str] = {}
        self._members: dict[str, set[str]] = {}
        self._dismissed: dict[tuple[str, str], str] = {}
        self._links: dict[tuple[str, str], SteadyLink] = {}
        self._dialling: set[asyncio.Task[None]] = set()
        self._services: dict[str, Visit] = {}
        self._visits: dict[asyncio.Task[None], str] = {}

    async def __aenter__(self) -> Endpoint:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def start(self) -> None:
        """Begin to listen.

        Raises:
            IdentityError: No other site is trusted yet.
            ConnectionLost: The port is taken.
        """
        if not self.listen:
            return
        grpc = load_grpc()
        cards = self.site.trusted()
        if not cards:
            raise IdentityError(
                "no other site is trusted yet", site=self.site.name, cure="Run `atoll site trust FILE` with a card."
            )
        self._known = {_der(card): name for name, card in cards.items()}
        pair = (self.site.key_pem, self.site.card.certificate.encode())
        credentials = grpc.ssl_server_credentials([pair], certificates(cards), require_client_auth=True)
        self._server = grpc.aio.server(options=_options())
        service, method = METHOD.strip("/").split("/")
        handler = grpc.stream_stream_rpc_method_handler(self._serve)
        self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, {method: handler}),))
        try:
            self.port = self._server.add_secure_port(self.listen, credentials)
            await self._server.start()
        except RuntimeError:
            raise ConnectionLost(
                f"{self.listen} cannot be listened on",
                site=self.site.name,
                cure="Another program uses the port, or the host name is not this machine's: choose another one.",
            ) from None

    def admit(self, job: str, sites: Iterable[str]) -> None:
        """Name all members of a job, before their links are made; every other site is refused for it."""
        self._members.setdefault(job, set()).update(sites)

    def dismiss(self, job: str, site: str, why: str) -> None:
        """Tell a member that comes back why the job goes on without it."""
        self._dismissed[job, site] = why

    def welcome(self, prefix: str, visit: Visit) -> None:
        """Let every trusted site begin sessions by itself, under job ids that begin with `prefix`.

        Args:
            prefix: What these job ids begin with.
            visit: Serves one session on the link it gets; it may raise nothing, and the link is closed after it.
        """
        self._services[prefix] = visit

    async def link(self, job: str, peer: Card, *, dial: bool) -> SteadyLink:
        """Connect to a peer for a job; return when it has joined.

        Args:
            job: The job's id, the same at both sites.
            peer: The peer's card.
            dial: Whether this site dials; exactly one of the two must.

        Raises:
            ConnectionLost: The peer did not join in time.
            ContractError: The peer refuses this site for the job.
            IdentityError: The peer's certificate is not the one on its card, or it does not trust ours.
        """
        link = SteadyLink(
            peer.name, job, address=peer.address, join_within=self.join_within, lost_after=self.lost_after
        )
        self.admit(job, [peer.name])
        self._links[job, peer.name] = link
        if dial:
            task = asyncio.create_task(self._dial(link, peer))
            self._dialling.add(task)
            task.add_done_callback(self._dialling.discard)
        await link.joined.wait()
        if link.cause:
            raise link.cause.located(site=self.site.name)
        return link

    async def close(self) -> None:
        """Close all links and stop listening."""
        for visit in list(self._visits):
            visit.cancel()
        await asyncio.gather(*self._visits, return_exceptions=True)
        await asyncio.gather(*(link.close() for link in self._links.values()))
        for task in self._dialling:
            task.cancel()
        await asyncio.gather(*self._dialling, return_exceptions=True)
        if self._server:
            await self._server.stop(0.5)
            self._server = None

    # --- the side that listens -----------------------------------------------------------------------------------

    async def _serve(self, _units: object, context: Any) -> None:
        grpc = load_grpc()
        code = grpc.StatusCode
        name = self._known.get(_der_of(context.auth_context()["x509_pem_cert"][0]))
        if name is None:
            await context.abort(code.UNAUTHENTICATED, "this certificate is not on a trusted card")
            return
        try:
            async with asyncio.timeout(ATTEMPT):
                hello = _hello(await context.read())
        except (TimeoutError, ProtocolError):
            await context.abort(code.INVALID_ARGUMENT, "the first words could not be read")
            return
        if name not in self._members.get(hello.job, {name}):
            _log.warning("refused %s for job %s: it is not a member", name, hello.job[:80])
            await context.abort(code.PERMISSION_DENIED, f"{name} is not a member of job {hello.job[:80]}")
        link = self._links.get((hello.job, name)) or self._visitor(hello, name)
        if link is None:
            await context.abort(code.NOT_FOUND, "the job is not open here yet")
            return
        try:
            if why := self._dismissed.get((hello.job, name), ""):
                raise ConnectionLost(why)
            if link.broken or link.over:
                raise ConnectionLost(f"job {hello.job[:80]} has ended at {self.site.name}, or its link to {name}")
            link.greet(hello)
        except ConnectionLost as error:
            await context.abort(code.FAILED_PRECONDITION, error.what)
        await link.detach()
        await context.write(msgspec.json.encode(link.hello()))
        await link.run(_GrpcPipe(context), hello)

    def _visitor(self, hello: Hello, name: str) -> SteadyLink | None:
        """Make the link of a session that a service allows, and begin to serve it."""
        visit = next((one for prefix, one in self._services.items() if hello.job.startswith(prefix)), None)
        if visit is None or hello.expects or len(hello.job) > 200 or [*self._visits.values()].count(name) >= VISITS:
            return None
        link = SteadyLink(name, hello.job, join_within=self.join_within, lost_after=self.lost_after)
        self._links[hello.job, name] = link
        task = asyncio.create_task(self._host(link, visit))
        self._visits[task] = name
        task.add_done_callback(lambda done: self._visits.pop(done, None))
        return link

    async def _host(self, link: SteadyLink, visit: Visit) -> None:
        try:
            await link.joined.wait()
            if link.cause is None:
                await visit(link)
        finally:
            self._links.pop((link.job, link.peer), None)
            await link.close()

    # --- the side that dials -------------------------------------------------------------------------------------

    async def _dial(self, link: SteadyLink, peer: Card) -> None:
        pause, longest = RETRY
        slammed = 0
        while not (link.over or link.broken or link.peer_ended):
            try:
                if await self._connect(link, peer):
                    pause = RETRY[0]
                # With TLS 1.3 a client learns only after its handshake that the server did not want its certificate.
                slammed = slammed + 1 if link.hint.endswith(": Socket closed") else 0
                if slammed == SLAMMED and not link.joined.is_set():
                    raise _distrusted(peer)
            except AtollError as error:
                link.fail(error)
            else:
                await asyncio.sleep(pause)
                pause = min(2 * pause, longest)

    async def _connect(self, link: SteadyLink, peer: Card) -> bool:
        """Make one connection and use it till it breaks; return whether it came about."""
        grpc = load_grpc()
        pair = (self.site.key_pem, self.site.card.certificate.encode())
        credentials = grpc.ssl_channel_credentials(peer.certificate.encode(), *pair)
        name = ("grpc.ssl_target_name_override", dns_name(peer.name))
        async with grpc.aio.secure_channel(peer.address, credentials, options=[*_options(), name]) as channel:
            call = channel.stream_stream(METHOD)()
            try:
                async with asyncio.timeout(ATTEMPT):
                    await call.write(msgspec.json.encode(link.hello()))
                    hello = _hello(await call.read())
            except TimeoutError:
                return False
            except (grpc.aio.AioRpcError, asyncio.InvalidStateError):
                link.hint = (await call.details() or "").rpartition("last error: ")[2]
                _refused(await call.code(), link.hint, peer, link.job)
                return False
            link.greet(hello)
            await link.run(_GrpcPipe(call), hello)
            return True


class _GrpcPipe:
    """One gRPC stream as a pipe, the same at both ends of it."""

    def __init__(self, call: Any) -> None:
        grpc = load_grpc()
        self.call = call
        self.gone = (grpc.RpcError, grpc.aio.UsageError, grpc.aio.InternalError, asyncio.InvalidStateError)

    async def write(self, unit: bytes) -> None:
        try:
            await self.call.write(unit)
        except self.gone as cause:
            raise OSError(str(cause)) from None

    async def read(self) -> bytes | None:
        try:
            unit = await self.call.read()
        except self.gone:
            return None
        return unit if isinstance(unit, bytes) else None


def _refused(code: Any, details: str, peer: Card, job: str) -> None:
    """Raise where trying again cannot help."""
    match code.name:
        case "PERMISSION_DENIED":
            raise ContractError(
                f"{peer.name} refuses this site for job {job!r}: {details}",
                cure="All sites must run the same job document, with this site among its members.",
            )
        case "FAILED_PRECONDITION":
            raise ConnectionLost(
                f"{peer.name} refuses to go on: {details}",
                cure="Start the job again at every site, unless the others go on without this one.",
            )
        case "UNAUTHENTICATED":
            raise _distrusted(peer)
        case "UNAVAILABLE" if "CERTIFICATE_VERIFY_FAILED" in details:
            raise IdentityError(
                f"the certificate shown at {peer.address} is not the one on the card of {peer.name}",
                cure=f"Ask {peer.name} for its present card and compare the fingerprint by telephone.",
            )


def _distrusted(peer: Card) -> IdentityError:
    return IdentityError(
        f"{peer.name} ({peer.address}) refuses this site's certificate",
        cure=f"Send this site's card to {peer.name}, to be trusted there; it must not have expired.",
    )


def _hello(unit: Any) -> Hello:
    try:
        return msgspec.json.decode(unit, type=Hello)
    except (msgspec.MsgspecError, TypeError):
        raise ProtocolError("the peer's first words could not be read") from None


def _der(card: Card) -> bytes:
    return card.x509.public_bytes(Encoding.DER)


def _der_of(pem: bytes) -> bytes:
    return x509.load_pem_x509_certificate(pem).public_bytes(Encoding.DER)


def _options() -> list[tuple[str, int]]:
    largest = 2 * Limits().largest_unit  # above the link's own limit, which tells the peer why
    return [
        ("grpc.max_receive_message_length", largest),
        ("grpc.max_send_message_length", largest),
        ("grpc.use_local_subchannel_pool", 1),
        ("grpc.so_reuseport", 0),
        ("grpc.keepalive_time_ms", 10_000),
        ("grpc.keepalive_timeout_ms", 10_000),
        ("grpc.http2.max_pings_without_data", 0),
        ("grpc.http2.min_ping_interval_without_data_ms", 5_000),
        ("grpc.http2.max_frame_size", 1 << 20),
    ]


def load_grpc() -> Any:
    """Load gRPC so that it can speak TLS 1.3 only.

    Raises:
        IdentityError: gRPC was loaded before, with other settings.
    """
    name = "GRPC_SSL_CIPHER_SUITES"
    if "grpc" in sys.modules and os.environ.get(name) != TLS13_ONLY:
        raise IdentityError(
            "gRPC was loaded before Atoll could restrict it to TLS 1.3", cure=f"Set {name}={TLS13_ONLY} at the start."
        )
    os.environ[name] = TLS13_ONLY
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    import grpc
    import grpc.aio

    return grpc
