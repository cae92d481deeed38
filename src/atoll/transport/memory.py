"""Links within one process, for simulations and tests; what crosses them are the same bytes as between machines."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from atoll.core.channel import Channel, Gate, Incoming
from atoll.core.errors import AtollError, ConnectionLost, ProtocolError


@dataclass
class _MemoryFrame:
    header: bytes
    payload: bytes

    async def read(self, nbytes: int) -> NDArray[np.uint8]:
        if len(self.payload) != nbytes:
            raise ProtocolError(f"a message announced {nbytes:,} bytes and carries {len(self.payload):,}")
        return np.frombuffer(bytearray(self.payload), np.uint8)


@dataclass
class MemoryLink:
    """One end of an in-process link; `other` is the end that receives what this one sends."""

    peer: str
    other: MemoryLink | None = None
    waiting: dict[str, deque[_MemoryFrame]] = field(default_factory=dict)
    arrived: asyncio.Event = field(default_factory=asyncio.Event)
    cause: AtollError | None = None
    closed: bool = False

    async def send(self, stream: str, header: bytes, parts: Sequence[memoryview]) -> None:
        if self.cause:
            raise self.cause
        if self.other is None or self.closed or self.other.closed:
            raise ConnectionLost(f"the link to {self.peer} is closed")
        self.other.deliver(stream, _MemoryFrame(header, b"".join(parts)))
        await asyncio.sleep(0)

    def deliver(self, stream: str, frame: _MemoryFrame) -> None:
        """Put a frame where `recv` finds it."""
        self.waiting.setdefault(stream, deque()).append(frame)
        self.arrived.set()

    async def recv(self, stream: str) -> Incoming:
        while True:
            if self.cause:
                raise self.cause
            if self.waiting.get(stream):
                return self.waiting[stream].popleft()
            if self.closed or self.other is None or self.other.closed:
                raise ConnectionLost(f"{self.peer} has closed the link")
            self.arrived.clear()
            await self.arrived.wait()

    def abort(self, cause: AtollError) -> None:
        self.cause = self.cause or cause
        self.arrived.set()

    async def close(self) -> None:
        self.closed = True
        self.arrived.set()
        if self.other:
            self.other.arrived.set()


def memory_links(a: str = "a", b: str = "b") -> tuple[MemoryLink, MemoryLink]:
    """Return the two ends of an in-process link between sites `a` and `b`: first `a`'s end, then `b`'s."""
    at_a, at_b = MemoryLink(b), MemoryLink(a)
    at_a.other, at_b.other = at_b, at_a
    return at_a, at_b


def memory_pair(a: str = "a", b: str = "b", *, timeout: float = 5.0, **gate: Any) -> tuple[Channel, Channel]:
    """Return a pair of channels within one process, for tests; all kinds are allowed unless `allowed` is given."""
    at_a, at_b = memory_links(a, b)
    gate = {"allowed": None, **gate}
    return (
        Channel(at_a, Gate(a, "test", timeout=timeout, **gate)),
        Channel(at_b, Gate(b, "test", timeout=timeout, **gate)),
    )
