"""Channels: the only way out of a site.

A `Link` moves frames to one peer within one job; there are two kinds, memory and gRPC. A `Channel` over it moves
typed messages, and every channel of a site passes the site's `Gate`, which refuses kinds that the running step
has not declared and writes one audit line for each message.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Protocol

import msgspec
import numpy as np
from numpy.typing import NDArray

from atoll.core.errors import AtollError, ProtocolError
from atoll.core.message import M, Message, decode, encode, expect, kind_of
from atoll.core.offload import offload

HASH_INLINE = 1 << 16
"""Messages above this many bytes are hashed in a worker thread."""


class Incoming(Protocol):
    """A frame that has begun to arrive."""

    header: bytes

    async def read(self, nbytes: int) -> NDArray[np.uint8]:
        """Return the payload, which must be exactly `nbytes` long, or raise `ProtocolError`."""


class Link(Protocol):
    """Ordered frames to one peer within one job, on any number of named streams."""

    @property
    def peer(self) -> str:
        """The other site's name."""

    async def send(self, stream: str, header: bytes, parts: Sequence[memoryview]) -> None:
        """Take a frame for delivery; wait while the peer's window is full. `parts` must not change afterwards."""

    async def recv(self, stream: str) -> Incoming:
        """Return the next frame of a stream as soon as its header is there."""

    def abort(self, cause: AtollError) -> None:
        """Make every pending and future call raise `cause`."""

    async def close(self) -> None:
        """Deliver what was taken, then let go of the connection."""


class AuditLine(msgspec.Struct, frozen=True):
    """What the audit file says of one message."""

    time: float
    job: str
    step: str
    peer: str
    direction: str
    kind: str
    bytes: int
    sha256: str


@dataclass
class Gate:
    """What a site lets out while a job runs, and the record of it.

    Attributes:
        site: This site's name.
        job: The job's id.
        allowed: Kinds that may leave or arrive now; `None` allows all (tests only).
        step: The running step, for errors and audit lines.
        timeout: Seconds that `recv` waits for a message before both sides fail; `None` waits for ever.
        audit: Called with one line for each message.
    """

    site: str
    job: str
    allowed: frozenset[type[Message]] | None = frozenset()
    step: str = ""
    timeout: float | None = 600.0
    audit: Callable[[AuditLine], None] = lambda line: None
    traffic: dict[tuple[str, str, str], int] = field(default_factory=dict)
    counts: dict[tuple[str, str, str], int] = field(default_factory=dict)

    def check(self, kind: type[Message]) -> None:
        """Refuse a kind that the running step has not declared."""
        if self.allowed is not None and kind not in self.allowed:
            raise ProtocolError(
                f"step {self.step or '(none)'} has not declared {kind_of(kind)}; nothing was sent",
                site=self.site,
                step=self.step,
                cure="Declare the kind, or its protocol, where the step starts.",
            )

    def place(self, sender: str, receiver: str, stream: str) -> bytes:
        """Return where the next message of a stream belongs, so that it is accepted there only, and count it."""
        key = (sender, receiver, stream)
        self.counts[key] = number = self.counts.get(key, 0) + 1
        place = _beginning(self.job, sender, receiver, stream).copy()
        place.update(number.to_bytes(8, "little"))
        return place.digest()[:8]

    def record(self, peer: str, direction: str, kind: str, size: int, digest: str) -> None:
        """Write the audit line of a message that left or arrived."""
        key = (self.step, peer, direction)
        self.traffic[key] = self.traffic.get(key, 0) + size
        self.audit(AuditLine(time.time(), self.job, self.step, peer, direction, kind, size, digest))


class Channel:
    """An ordered, typed, audited pipe to one peer.

    Args:
        link: The transport.
        gate: The site's exit control, shared by all its channels.
        stream: Name of this channel's stream on the link.
    """

    def __init__(self, link: Link, gate: Gate, stream: str = "") -> None:
        self.link, self.gate, self.stream = link, gate, stream

    @property
    def peer(self) -> str:
        """The other site's name."""
        return self.link.peer

    def sub(self, name: str) -> Channel:
        """Return an independent ordered stream to the same peer; both sides use the same name."""
        return Channel(self.link, self.gate, f"{self.stream}/{name}" if self.stream else name)

    async def send(self, message: Message) -> None:
        """Send a message; return when the link has taken it.

        Raises:
            ProtocolError: The running step has not declared this kind, or the peer broke the protocol.
            PeerFailed, ConnectionLost: The job has ended elsewhere, or the peer is gone.
        """
        self.gate.check(type(message))
        step = self.gate.step
        header, parts = encode(message, self.gate.place(self.gate.site, self.peer, self.stream))
        size = len(header) + sum(part.nbytes for part in parts)
        try:
            if size < HASH_INLINE:
                digest = _digest(header, parts)
                await self.link.send(self.stream, header, parts)
            else:
                hashing = asyncio.ensure_future(offload(_digest, header, parts))
                await self.link.send(self.stream, header, parts)
                digest = await hashing
        except AtollError as error:
            raise error.located(site=self.gate.site, step=step) from error.__cause__
        self.gate.record(self.peer, "sent", kind_of(type(message)), size, digest)

    async def recv(self, kind: type[M], **shapes: Sequence[int]) -> M:
        """Receive the next message, which must be of `kind` with arrays of the given shapes.

        Args:
            kind: The only kind accepted here.
            shapes: The expected shape of each array field; a dimension may be `AtMost(limit)`.

        Raises:
            ProtocolError: Another kind or shape, a value that does not fit, or nothing within the gate's time-out.
            PeerFailed, ConnectionLost: The job has ended elsewhere, or the peer is gone.
        """
        self.gate.check(kind)
        step = self.gate.step
        try:
            async with asyncio.timeout(self.gate.timeout):
                return await self._recv(kind, shapes)
        except TimeoutError:
            raise ProtocolError(
                f"no {kind_of(kind)} from {self.peer} within {self.gate.timeout:g} s",
                site=self.gate.site,
                step=step,
                cure=f"Ask {self.peer} whether its side is still running, or raise the job's time-out.",
            ) from None
        except AtollError as error:
            raise error.located(site=self.gate.site, step=step) from error.__cause__

    async def _recv(self, kind: type[M], shapes: Mapping[str, Sequence[int]]) -> M:
        incoming = await self.link.recv(self.stream)
        place = self.gate.place(self.peer, self.gate.site, self.stream)
        head, size = expect(incoming.header, kind, shapes, place)
        payload = await incoming.read(size)
        total = len(incoming.header) + size
        hashed = (incoming.header, [payload.data])
        digest = _digest(*hashed) if total < HASH_INLINE else await offload(_digest, *hashed)
        message = decode(head, payload, kind)
        self.gate.record(self.peer, "received", kind_of(kind), total, digest)
        return message


def _digest(header: bytes, parts: Sequence[memoryview]) -> str:
    sha = hashlib.sha256(header)
    for part in parts:
        sha.update(part)
    return sha.hexdigest()


@lru_cache(1024)
def _beginning(job: str, sender: str, receiver: str, stream: str) -> hashlib._Hash:
    return hashlib.sha256(repr((job, sender, receiver, stream)).encode())
