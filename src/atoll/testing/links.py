"""Links that record what crosses them, or damage it, for tests."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import msgspec

from atoll.core.channel import Channel, Gate, Incoming, Link
from atoll.core.errors import AtollError
from atoll.core.message import Message
from atoll.transport.memory import memory_links

A = TypeVar("A")
B = TypeVar("B")

FAULTS = ("lost", "truncated", "lengthened", "wrong kind", "wrong shape", "garbled header", "unknown field")
"""What `FaultyLink` can do to one message."""


@dataclass(frozen=True)
class Frame:
    """One message as it crossed the border."""

    sender: str
    stream: str
    kind: str
    header: bytes
    payload: bytes

    @property
    def size(self) -> int:
        """Bytes of header and payload."""
        return len(self.header) + len(self.payload)


@dataclass
class FaultyLink:
    """Wraps one end of a link: records every frame that leaves, and damages the one with number `target`.

    Args:
        inner: The link that delivers.
        sender: The site at this end.
        transcript: Where frames are recorded, shared by both ends to keep the order.
        target: Number in the shared transcript of the frame to damage; -1 damages none.
        fault: One of `FAULTS`.
    """

    inner: Link
    sender: str
    transcript: list[Frame] = field(default_factory=list)
    target: int = -1
    fault: str = ""

    @property
    def peer(self) -> str:
        return self.inner.peer

    async def send(self, stream: str, header: bytes, parts: Sequence[memoryview]) -> None:
        kind, *_ = msgspec.msgpack.decode(header)
        payload = b"".join(parts)
        self.transcript.append(Frame(self.sender, stream, kind, header, payload))
        if len(self.transcript) - 1 == self.target:
            damaged = damage(self.fault, header, payload)
            if damaged is None:
                return
            header, payload = damaged
        await self.inner.send(stream, header, [memoryview(payload)])

    async def recv(self, stream: str) -> Incoming:
        return await self.inner.recv(stream)

    def abort(self, cause: AtollError) -> None:
        self.inner.abort(cause)

    async def close(self) -> None:
        await self.inner.close()


def damage(fault: str, header: bytes, payload: bytes) -> tuple[bytes, bytes] | None:
    """Return a damaged frame, or `None` where it is lost."""
    kind, shapes, fields, place = msgspec.msgpack.decode(header)
    match fault:
        case "lost":
            return None
        case "truncated":
            return (header, payload[:-1]) if payload else (header[:-1], payload)
        case "lengthened":
            return header, payload + b"\0"
        case "wrong kind":
            kind += "Other"
        case "wrong shape":
            shapes = [[*shape, 1 << 40] for shape in shapes] or [[1]]
        case "garbled header":
            return b"\xc1" + header[1:], payload
        case "unknown field":
            fields = {**fields, "surplus": 1}
        case _:
            raise ValueError(f"unknown fault {fault!r}; known are {FAULTS}")
    return msgspec.msgpack.encode([kind, shapes, fields, place]), payload


def recorded_pair(
    a: str = "a",
    b: str = "b",
    *,
    allowed: frozenset[type[Message]] | None = None,
    target: int = -1,
    fault: str = "",
    timeout: float = 5.0,
) -> tuple[Channel, Channel, list[Frame]]:
    """Return a pair of in-process channels and the transcript they share; one frame may be damaged."""
    transcript: list[Frame] = []
    at_a, at_b = memory_links(a, b)
    channels = [
        Channel(FaultyLink(link, site, transcript, target, fault), Gate(site, "test", allowed, "test", timeout))
        for link, site in ((at_a, a), (at_b, b))
    ]
    return channels[0], channels[1], transcript


def run_pair(first: Coroutine[Any, Any, A], second: Coroutine[Any, Any, B], *, timeout: float = 30.0) -> tuple[A, B]:
    """Run two role coroutines to their ends in a new event loop and return both results.

    Raises:
        Exception: The first error of either side; the other side is cancelled.
    """

    async def both() -> tuple[A, B]:
        async with asyncio.timeout(timeout):
            try:
                async with asyncio.TaskGroup() as group:
                    a, b = group.create_task(first), group.create_task(second)
            except BaseExceptionGroup as errors:
                raise errors.exceptions[0] from None
        return a.result(), b.result()

    return asyncio.run(both())


def end_pair(
    first: Coroutine[Any, Any, A], second: Coroutine[Any, Any, B], *, timeout: float = 30.0
) -> tuple[A | BaseException, B | BaseException]:
    """Run two role coroutines, each to its own end, and return results or errors; never wait for ever."""

    async def both() -> tuple[A | BaseException, B | BaseException]:
        async with asyncio.timeout(timeout):
            a, b = await asyncio.gather(first, second, return_exceptions=True)
        return a, b

    return asyncio.run(both())
