"""Frames that arrive once and in order, whatever happens to the connection below.

A `SteadyLink` cuts frames into numbered units and writes them to a `Pipe`, one connection. When the pipe breaks,
the next one goes on where the peer's last received number says; units stay in the outbox until they are
acknowledged and are sent again byte for byte. Every stream has a window of bytes that may be sent ahead of its
reader, so a slow stream holds back itself only, and memory is bounded on both sides whatever the peer does.
"""

from __future__ import annotations

import asyncio
import re
import secrets
import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from struct import Struct
from typing import Protocol

import msgspec
import numpy as np
from numpy.typing import NDArray

from atoll.core.errors import AtollError, ConnectionLost, ProtocolError
from atoll.core.message import HEADER_LIMIT

ALIGN = 16
"""Payloads start at a multiple of this within a unit, so that arrays can be used where they arrived."""

SOON = 0.0004
"""Seconds that a side which has just sent a small message looks for the answer without going to sleep."""

AT_ONCE = 1 << 16
"""Messages up to so many bytes do not wait for the writer's turn when the connection is idle."""

ENDING = 5.0
"""Seconds that `close` gives to delivering what was taken."""

FRAME, MORE, END, ACK, CREDIT, FAIL = range(6)
"""Kinds of unit. The first three are numbered; the others repeat what holds now and may get lost."""

_PREFIX = Struct("<BQQQHI")  # kind, number, next number expected from the peer, size, bytes of name, bytes of header
_NAME = re.compile(r"[\w ./:=@+-]{0,200}")


class Pipe(Protocol):
    """One connection: whole units, in order, until it breaks."""

    async def write(self, unit: bytes) -> None:
        """Write a unit; `OSError` says that the connection is gone."""

    async def read(self) -> bytes | None:
        """Return the next unit, or `None` when the connection is gone."""


class Hello(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """First words on every connection, from both sides.

    Attributes:
        job: The job's id.
        sender: Random id of the sender's link object; a restarted process has another one.
        expects: Id of the peer's link that the sender knows; empty on first contact.
        received: Number of the next unit the sender waits for.
        version: Of this wire format.
    """

    job: str
    sender: str
    expects: str
    received: int
    version: int = 1


@dataclass(frozen=True)
class Limits:
    """Bounds on the memory of a link, in bytes, the same at both sites.

    Attributes:
        chunk: Payload in one unit.
        window: Sent on one stream ahead of its reader.
        total: Sent on all streams ahead of their readers.
        outbox: Kept until acknowledged.
        queue: Of the outbox, what may wait to be written.
        unit: What a unit counts in the windows beside its content, so that small units are bounded too.
        streams: Number of streams.
    """

    chunk: int = 4 << 20
    window: int = 32 << 20
    total: int = 256 << 20
    outbox: int = 64 << 20
    queue: int = 8 << 20
    unit: int = 4096
    streams: int = 4096

    @property
    def largest_unit(self) -> int:
        """Largest unit accepted from a peer."""
        return self.chunk + HEADER_LIMIT + self.unit


@dataclass
class _Stream:
    """Both directions of one stream; all counts are bytes since the link began."""

    sending: asyncio.Lock = field(default_factory=asyncio.Lock)
    cut: bool = False  # a send was cancelled in the middle of its frame
    sent: int = 0
    confirmed: int = 0  # of `sent`, what the peer's reader has taken
    arrived: asyncio.Event = field(default_factory=asyncio.Event)
    units: deque[tuple[bytes | None, int, memoryview, int]] = field(default_factory=deque)
    missing: int = 0  # payload bytes of the newest frame still to arrive
    unread: int = 0  # payload bytes of the frame handed out that its reader has not taken
    taken: int = 0
    told: int = 0  # of `taken`, what the peer knows
    held: int = 0


class SteadyLink:
    """A `Link` that survives broken connections.

    Args:
        peer: The other site's name.
        job: The job's id.
        address: Where the peer is, for messages to people.
        join_within: Seconds to wait for the first connection.
        lost_after: Seconds without a connection after which both sides give up.
        limits: Bounds on memory.
    """

    def __init__(
        self,
        peer: str,
        job: str = "",
        *,
        address: str = "",
        join_within: float = 300.0,
        lost_after: float = 30.0,
        limits: Limits | None = None,
    ) -> None:
        self.peer, self.job, self.lost_after, self.limits = peer, job, lost_after, limits or Limits()
        self.place = f"{peer} ({address})" if address else peer
        self.hint = ""  # how the last attempt to connect failed
        self.id, self.peer_id = secrets.token_hex(16), ""
        self.cause: AtollError | None = None
        self.broken = self.over = self.peer_ended = False
        self.joined, self._wake, self._room = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self._streams: dict[str, _Stream] = {}
        self._unsent: deque[tuple[int, bytes]] = deque()
        self._outbox: deque[tuple[int, bytes]] = deque()  # written, not acknowledged
        self._queued = self._kept = 0  # bytes in _unsent; bytes in _unsent and _outbox
        self._next = self._received = 0
        self._sent = self._confirmed = self._held = self._untold = self._unacked = 0
        self._ack_due, self._credit_due, self._last_words = False, set[str](), b""
        self._running: list[asyncio.Task[None]] = []
        self._asked = False
        self._pipe: Pipe | None = None
        self._writing = asyncio.Lock()
        self._timer = asyncio.get_running_loop().call_later(join_within, self._never_joined, join_within)

    # --- the Link ---------------------------------------------------------------------------------------------

    async def send(self, stream: str, header: bytes, parts: Sequence[memoryview]) -> None:
        """Take a frame for delivery; wait while the windows are full."""
        line = self._stream(stream)
        size = sum(part.nbytes for part in parts)
        small = size <= min(AT_ONCE, self.limits.chunk)
        async with line.sending:
            if line.cut:
                raise ProtocolError(f"an earlier message on stream {stream!r} was cut off")
            for number, pieces in enumerate(_cut(parts, self.limits.chunk)):
                head = b"" if number else header
                cost = self.limits.unit + len(head) + sum(piece.nbytes for piece in pieces)
                await self._until_room(line, cost)
                line.sent, self._sent = line.sent + cost, self._sent + cost
                self._put(MORE if number else FRAME, stream, head, 0 if number else size, pieces)
                line.cut = True
                if not small:
                    self._wake.set()
            line.cut = False
        self._asked = small
        if small and not await self._written_at_once():
            self._wake.set()

    async def recv(self, stream: str) -> _Arriving:
        """Return the next frame of a stream as soon as its first unit is there."""
        line = self._stream(stream)
        if line.unread:
            raise ProtocolError(f"the message before on stream {stream!r} was not read to its end")
        header, size, data = await self._take(stream, line)
        line.unread = size - len(data)
        return _Arriving(self, stream, line, header or b"", size, data)

    def abort(self, cause: AtollError) -> None:
        """Make every pending and future call raise `cause`; what was taken for delivery still goes out."""
        self.cause = self.cause or cause
        self._notify()

    async def close(self) -> None:
        """Deliver what was taken, tell the peer that no more comes, and let go of the connection."""
        if not (self.over or self.broken):
            self._put(END, "", b"", 0, [])
            self._wake.set()
        try:
            async with asyncio.timeout(ENDING):
                while self._kept and self.joined.is_set() and not (self.over or self.broken or self._deserted()):
                    self._room.clear()
                    await self._room.wait()
                await self._flushed()
        except TimeoutError:
            pass
        self.over = True
        self.abort(ConnectionLost(f"the link to {self.peer} is closed"))
        self._timer.cancel()
        await self.detach()

    # --- one connection after the other --------------------------------------------------------------------------

    def hello(self) -> Hello:
        """Return this side's first words for a new connection; call `detach` before."""
        return Hello(self.job, self.id, self.peer_id, self._received)

    def greet(self, hello: Hello) -> None:
        """Check the peer's first words.

        Raises:
            ConnectionLost: The peer, or this side, is not the process that began this link.
        """
        if self.peer_id not in ("", hello.sender) or hello.expects not in ("", self.id):
            error = ConnectionLost(
                f"{self.place} or this site was restarted in the middle of job {self.job!r}",
                cure="Start the job again at every site.",
            )
            self.fail(error)
            raise error
        self.peer_id = hello.sender

    async def detach(self) -> None:
        """Stop using the present connection, if any."""
        for task in self._running:
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)

    async def run(self, pipe: Pipe, hello: Hello) -> None:
        """Use a connection until it breaks or the link ends; `hello` are the peer's first words on it."""
        self._acknowledged(hello.received)
        self._unsent.extendleft(reversed(self._outbox))
        self._outbox.clear()
        self._queued = self._kept
        self._credit_due.update(name for name, line in self._streams.items() if line.taken)
        self._ack_due = True
        self._timer.cancel()
        self.joined.set()
        self._pipe, self._writing = pipe, asyncio.Lock()
        writer, reader = asyncio.create_task(self._write(pipe)), asyncio.create_task(self._read(pipe))
        tasks = self._running = [writer, reader]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            if self.broken:
                await asyncio.wait([writer], timeout=1.0)
        finally:
            for task in tasks:
                task.cancel()
            if self._running is tasks:  # before any await: gRPC may cancel this coroutine a second time
                self._running, self._pipe = [], None
                self._detached()
            await asyncio.gather(*tasks, return_exceptions=True)

    def fail(self, error: AtollError, *, tell: bool = False) -> None:
        """End the link at once: nothing more is delivered; `tell` lets the peer know why."""
        if not (self.broken or self.over):
            self.broken = True
            self._last_words = error.what.encode()[:1000] if tell else b""
            self.abort(error)

    def _detached(self) -> None:
        self._notify()
        if not (self.broken or self.over or self.peer_ended):
            self._timer = asyncio.get_running_loop().call_later(self.lost_after, self._lost)

    def _lost(self) -> None:
        self.fail(
            ConnectionLost(
                f"the connection to {self.place} was lost and did not come back within {self.lost_after:g} s",
                cure=f"See that {self.peer}'s process runs and the network is up, then start the job again everywhere.",
            )
        )

    def _never_joined(self, waited: float) -> None:
        self.fail(
            ConnectionLost(
                f"{self.place} did not join job {self.job!r} within {waited:g} s",
                cure=f"Ask {self.peer} to start the same job, and check its address and the firewall between.",
                detail=f"The last attempt ended with: {self.hint}." if self.hint else "",
            )
        )

    def _deserted(self) -> bool:
        return self.peer_ended and not self._running

    # --- writing ---------------------------------------------------------------------------------------------------

    def _put(self, kind: int, stream: str, header: bytes, size: int, pieces: Sequence[memoryview]) -> None:
        unit = self._unit(kind, stream, header, size, pieces, self._next)
        self._unsent.append((self._next, unit))
        self._next += 1
        self._queued, self._kept = self._queued + len(unit), self._kept + len(unit)

    def _unit(
        self, kind: int, stream: str = "", header: bytes = b"", size: int = 0,
        pieces: Sequence[memoryview] = (), number: int = 0,
    ) -> bytes:  # fmt: skip
        name = stream.encode()
        prefix = _PREFIX.pack(kind, number, self._received, size, len(name), len(header))
        pad = bytes(-(len(prefix) + len(name) + len(header)) % ALIGN)
        return b"".join((prefix, name, header, pad, *pieces))

    async def _until_room(self, line: _Stream, cost: int) -> None:
        while True:
            self._check()
            if self.peer_ended:
                raise ConnectionLost(f"{self.peer} has closed the link")
            if (
                self._queued < self.limits.queue
                and self._kept < self.limits.outbox
                and line.sent + cost <= line.confirmed + self.limits.window
                and self._sent + cost <= self._confirmed + self.limits.total
            ):
                return
            self._room.clear()
            await self._room.wait()

    async def _written_at_once(self) -> bool:
        """Write the only unit there is, if all before it are acknowledged: it need not wait for the writer's turn."""
        if self._pipe is None or self._writing.locked() or self._outbox or len(self._unsent) != 1:
            return False
        try:
            async with self._writing:
                await self._write_unit(self._pipe)
        except OSError:
            return True  # the reader notices as well, and the next connection carries the unit
        except asyncio.CancelledError:
            for task in self._running:  # nobody can tell how much of the unit went out
                task.cancel()
            raise
        return True

    async def _write_unit(self, pipe: Pipe) -> None:
        entry = self._unsent.popleft()
        self._outbox.append(entry)
        self._queued -= len(entry[1])
        self._room.set()
        await pipe.write(entry[1])

    async def _write(self, pipe: Pipe) -> None:
        try:
            while not self.broken:
                self._wake.clear()
                async with self._writing:
                    await self._write_due(pipe)
                await self._wake.wait()
            if self._last_words:
                async with self._writing:
                    await pipe.write(self._unit(FAIL, header=self._last_words))
        except OSError:
            return

    async def _write_due(self, pipe: Pipe) -> None:
        while not self.broken:
            while self._credit_due:
                name = self._credit_due.pop()
                line = self._streams[name]
                self._untold -= line.taken - line.told
                line.told = line.taken
                await pipe.write(self._unit(CREDIT, name, size=line.taken))
            if self._unsent:
                await self._write_unit(pipe)
            elif self._ack_due:
                self._ack_due = False
                await pipe.write(self._unit(ACK))
                self._room.set()
            else:
                return

    async def _flushed(self) -> None:
        while self._ack_due and self._running and not self.broken:
            self._room.clear()
            await self._room.wait()

    # --- reading ---------------------------------------------------------------------------------------------------

    async def _read(self, pipe: Pipe) -> None:
        try:
            while not self.broken and (unit := await pipe.read()) is not None:
                self._accept(unit)
                await asyncio.sleep(0)  # whoever waited for the unit goes on before the next read begins
        except ProtocolError as error:
            self.fail(error.located(site=self.peer), tell=True)
        except ConnectionLost as error:
            self.fail(error)

    def _accept(self, unit: bytes) -> None:
        """Take one unit from the peer; nothing in it is believed before it is checked."""
        if not _PREFIX.size <= len(unit) <= self.limits.largest_unit:
            raise ProtocolError(f"{self.peer} sent a unit of {len(unit):,} bytes")
        kind, number, ack, size, name_size, header_size = _PREFIX.unpack_from(unit)
        at = _PREFIX.size + name_size
        if header_size > HEADER_LIMIT or at + header_size > len(unit):
            raise ProtocolError(f"{self.peer} sent a unit that is not well formed")
        name, header = unit[_PREFIX.size : at].decode(errors="replace"), unit[at : at + header_size]
        at += header_size
        data = memoryview(unit)[at + -at % ALIGN :]
        self._acknowledged(ack)
        if kind == CREDIT and name in self._streams:
            self._credited(self._streams[name], size)
        elif kind == FAIL:
            words = header[:1000].decode(errors="replace")
            raise ConnectionLost(f"{self.peer} ended the connection: {''.join(filter(str.isprintable, words))}")
        elif kind in (FRAME, MORE, END):
            self._numbered(kind, number, name, header, size, data, self.limits.unit + len(header) + len(data))
        elif kind != ACK:
            raise ProtocolError(f"{self.peer} sent a unit of unknown kind {kind}")

    def _numbered(
        self, kind: int, number: int, name: str, header: bytes, size: int, data: memoryview, cost: int
    ) -> None:
        if number > self._received or (self.peer_ended and number == self._received):
            raise ProtocolError(f"{self.peer} sent unit {number} where {self._received} was due")
        self._unacked += cost
        if number < self._received or kind == END or self._unacked >= self.limits.queue // 4:
            self._ack_due, self._unacked = True, 0
            self._wake.set()
        if number < self._received:
            return
        self._received += 1
        if kind == END:
            self.peer_ended = True
            self._notify()
            return
        line = self._stream(name)
        if (kind == FRAME) == bool(line.missing):
            raise ProtocolError(f"{self.peer} mixed up the parts of messages on stream {name!r}")
        missing = (size if kind == FRAME else line.missing) - len(data)
        line.held, self._held = line.held + cost, self._held + cost
        # Every unit but a frame's last one is full, so a shortened one is noticed at once.
        ragged = missing < 0 or (missing > 0 and len(data) != self.limits.chunk)
        if ragged or line.held > self.limits.window or self._held > self.limits.total:
            raise ProtocolError(f"{self.peer} sent more, or less, than was announced or allowed on stream {name!r}")
        line.missing = missing
        line.units.append((header if kind == FRAME else None, size, data, cost))
        line.arrived.set()

    async def _take(self, name: str, line: _Stream) -> tuple[bytes | None, int, memoryview]:
        """Hand out the next unit of a stream and give its bytes back to the peer's window."""
        while True:
            self._check()
            if line.units:
                break
            if self.peer_ended:
                raise ConnectionLost(f"{self.peer} has closed the link")
            line.arrived.clear()
            await self._soon(line)
            await line.arrived.wait()
        header, size, data, cost = line.units.popleft()
        line.held, self._held = line.held - cost, self._held - cost
        line.taken, self._untold = line.taken + cost, self._untold + cost
        if line.taken - line.told >= self.limits.window // 4:
            self._credit_due.add(name)
            self._wake.set()
        if self._untold >= self.limits.total // 4:
            self._credit_due.update(name for name, line in self._streams.items() if line.taken > line.told)
            self._wake.set()
        return header, size, data

    async def _soon(self, line: _Stream) -> None:
        """Look for the answer to a small message without going to sleep: waking up takes longer than such an answer."""
        if not self._asked:
            return
        self._asked, until = False, time.monotonic() + SOON
        while not line.arrived.is_set() and time.monotonic() < until:
            await asyncio.sleep(0)

    def _credited(self, line: _Stream, taken: int) -> None:
        if taken > line.sent:
            raise ProtocolError(f"{self.peer} confirmed bytes that were never sent")
        if taken > line.confirmed:
            self._confirmed += taken - line.confirmed
            line.confirmed = taken
            self._room.set()

    def _acknowledged(self, upto: int) -> None:
        if upto > self._next:
            raise ProtocolError(f"{self.peer} confirmed unit {upto - 1}, which was never sent")
        for waiting in (self._outbox, self._unsent):
            while waiting and waiting[0][0] < upto:
                _, unit = waiting.popleft()
                self._kept -= len(unit)
                self._queued -= len(unit) if waiting is self._unsent else 0
                self._room.set()

    # --- small parts -------------------------------------------------------------------------------------------------

    def _stream(self, name: str) -> _Stream:
        line = self._streams.get(name)
        if line is None:
            if not _NAME.fullmatch(name):
                raise ProtocolError(f"{name[:80]!r} cannot be the name of a stream")
            if len(self._streams) >= self.limits.streams:
                raise ProtocolError(f"the link to {self.peer} has {self.limits.streams:,} streams; no more are allowed")
            line = self._streams[name] = _Stream()
        return line

    def _check(self) -> None:
        if self.cause:
            raise self.cause

    def _notify(self) -> None:
        self._wake.set()
        self._room.set()
        if self.broken:
            self.joined.set()
        for line in self._streams.values():
            line.arrived.set()


class _Arriving:
    """A frame whose header is there and whose payload comes in as it is read."""

    def __init__(
        self, link: SteadyLink, stream: str, line: _Stream, header: bytes, size: int, data: memoryview
    ) -> None:
        self.header = header
        self._link, self._stream, self._line, self._size, self._data = link, stream, line, size, data

    async def read(self, nbytes: int) -> NDArray[np.uint8]:
        """Return the payload, which must be exactly `nbytes` long; only that much is ever allocated."""
        if nbytes != self._size:
            raise ProtocolError(f"{self._link.peer} announced {nbytes:,} bytes and sends {self._size:,}")
        at, data = 0, self._data
        if len(data) == nbytes:
            return np.frombuffer(data, np.uint8)
        payload = np.empty(nbytes, np.uint8)
        while True:
            payload[at : at + len(data)] = np.frombuffer(data, np.uint8)
            at += len(data)
            if at == nbytes:
                return payload
            _, _, data = await self._link._take(self._stream, self._line)
            self._line.unread -= len(data)


def _cut(parts: Sequence[memoryview], chunk: int) -> Iterator[list[memoryview]]:
    """Cut the parts into lists of views of at most `chunk` bytes; at least one list, maybe empty."""
    pieces, room = list[memoryview](), chunk
    for part in parts:
        at = 0
        while at < part.nbytes:
            if not room:
                yield pieces
                pieces, room = [], chunk
            piece = part[at : at + room]
            pieces.append(piece)
            at, room = at + piece.nbytes, room - piece.nbytes
    yield pieces
