"""The conformance suite that every transport passes: what a channel must do, and what it must notice.

A transport gives a function that makes two joined links. Each case runs in an event loop of its own, between two
channels over those links; in the fault cases one end misbehaves. Every case must end within its time-out, with the
data that was sent or with an error at the side that can notice: never a hang, never wrong data.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from atoll.core.channel import AuditLine, Channel, Gate, Incoming, Link
from atoll.core.errors import AtollError, ConnectionLost, ProtocolError
from atoll.core.message import F64, HEADER_LIMIT, U8, AtMost, Message
from atoll.transport.memory import memory_links

PATIENCE = 20.0
"""Seconds after which a case counts as hanging."""

SHORT = 0.2
"""Seconds a channel waits for a message in the cases where none comes."""


class Count(Message, frozen=True):
    """A small message."""

    number: int


class Block(Message, frozen=True):
    """Arrays of two widths and a text."""

    name: str
    values: F64
    marks: U8


class Answer(Message, frozen=True):
    """The other side has everything."""

    blocks: int


@dataclass(frozen=True)
class LinkPair:
    """Two joined links: `a` leads to site b and `b` to site a; `kill_b` makes b vanish without a word."""

    a: Link
    b: Link
    kill_b: Callable[[], Awaitable[None]]


MakePair = Callable[[], AbstractAsyncContextManager[LinkPair]]
Case = Callable[[MakePair], Awaitable[None]]
Wired = tuple[str, bytes, bytes]


@asynccontextmanager
async def memory_link_pair() -> Any:
    """Make two joined links in memory."""
    at_a, at_b = memory_links("a", "b")
    yield LinkPair(at_a, at_b, at_b.close)
    await at_a.close()
    await at_b.close()


def check_channel(make_pair: MakePair) -> None:
    """Run the whole suite on one kind of link.

    Args:
        make_pair: Returns an async context manager that gives a `LinkPair` and closes it.

    Raises:
        AssertionError: A case failed; the text names it.
    """
    for name in CASES:
        check_channel_case(make_pair, name)


def check_channel_case(make_pair: MakePair, name: str) -> None:
    """Run one case of `CASES`; for test runners that show each on its own."""

    async def limited() -> None:
        async with asyncio.timeout(PATIENCE):
            await CASES[name](make_pair)

    try:
        asyncio.run(limited())
    except TimeoutError:
        raise AssertionError(f"{name}: hangs") from None
    except AssertionError as failure:
        raise AssertionError(f"{name}: {failure}") from failure


# --- what a channel must do -------------------------------------------------------------------------------------------


def channels(pair: LinkPair, *, timeout: float = 10.0, **gate: Any) -> tuple[Channel, Channel]:
    """Return channels over the two links."""
    options = {"allowed": None, **gate}
    return (
        Channel(pair.a, Gate("a", "job", timeout=timeout, **options)),
        Channel(pair.b, Gate("b", "job", timeout=timeout, **options)),
    )


def block(size: int) -> Block:
    """Return a block whose content follows from its size."""
    values = np.arange(size, dtype=np.float64) * 1.5 - size
    return Block(f"block {size} é", values, (values % 251).astype(np.uint8)[: size // 2])


async def receive_block(channel: Channel, size: int) -> None:
    """Receive the block of that size and compare it."""
    got, want = await channel.recv(Block, values=(size,), marks=(AtMost(size),)), block(size)
    _require(got.name == want.name, "a text differs")
    _require(np.array_equal(got.values, want.values) and np.array_equal(got.marks, want.marks), "an array differs")
    _require(not got.values.flags.writeable and got.values.flags.aligned, "a received array is writable or unaligned")


async def all_sizes_arrive(make_pair: MakePair) -> None:
    """Empty, odd, and many-chunk messages arrive equal and in order, in both directions at once."""
    sizes = (0, 1, 7, 8_192, 65_537, 0, 1_300_000, 3)
    async with make_pair() as pair:
        a, b = channels(pair)

        async def side(channel: Channel) -> None:
            async def send() -> None:
                for size in sizes:
                    await channel.send(block(size))

            sending = asyncio.create_task(send())
            for size in sizes:
                await receive_block(channel, size)
            await sending

        await asyncio.gather(side(a), side(b))


async def streams_are_independent(make_pair: MakePair) -> None:
    """A message is found on its stream only, in whatever order the streams are read."""
    async with make_pair() as pair:
        a, b = channels(pair)
        names = [f"stream {n}" for n in range(20)]
        for number, name in enumerate(names):
            await a.sub(name).send(Count(number))
            await a.sub(name).sub("inner").send(Count(-number))
        for number, name in reversed(list(enumerate(names))):
            _require((await b.sub(name).sub("inner").recv(Count)).number == -number, "streams were mixed up")
            _require((await b.sub(name).recv(Count)).number == number, "streams were mixed up")


async def slow_stream_blocks_no_other(make_pair: MakePair) -> None:
    """A stream that nobody reads holds back itself only, and is whole when it is read at last."""
    size = 1_000_000
    async with make_pair() as pair:
        a, b = channels(pair)

        async def flood() -> None:
            for _ in range(6):
                await a.sub("slow").send(block(size))

        flooding = asyncio.create_task(flood())
        for number in range(50):
            await a.sub("fast").send(Count(number))
            _require((await b.sub("fast").recv(Count)).number == number, "a message is wrong")
        for _ in range(6):
            await receive_block(b.sub("slow"), size)
        await flooding


async def undeclared_kinds_stay(make_pair: MakePair) -> None:
    """A kind that the step has not declared does not leave, and the channel works on."""
    async with make_pair() as pair:
        a, b = channels(pair, allowed=frozenset({Count}))
        error = await _error(a.send(block(1)))
        _require(isinstance(error, ProtocolError), "an undeclared kind was sent")
        await a.send(Count(1))
        _require((await b.recv(Count)).number == 1, "the undeclared message left a trace")


async def both_ends_audit_alike(make_pair: MakePair) -> None:
    """Each message gives one audit line at each end, with the same bytes and digest."""
    async with make_pair() as pair:
        lines: list[AuditLine] = []
        a, b = channels(pair, audit=lines.append)
        for size in (1, 100_000):
            sending = asyncio.create_task(a.send(block(size)))
            await receive_block(b, size)
            await sending
        sent = [(line.kind, line.bytes, line.sha256) for line in lines if line.direction == "sent"]
        received = [(line.kind, line.bytes, line.sha256) for line in lines if line.direction == "received"]
        _require(len(sent) == 2 and sent == received, "audit lines differ")


async def abort_wakes_everybody(make_pair: MakePair) -> None:
    """After an abort every pending and every later call raises its cause."""
    async with make_pair() as pair:
        a, _ = channels(pair)
        waiting = [asyncio.create_task(_error(a.sub(name).recv(Count))) for name in "xyz"]
        await asyncio.sleep(0)
        pair.a.abort(ProtocolError("enough is enough"))
        for error in [*await asyncio.gather(*waiting), await _error(a.recv(Count)), await _error(a.send(Count(1)))]:
            _require("enough is enough" in str(error), f"a call ended with {error!r} instead of the cause")


async def close_delivers(make_pair: MakePair) -> None:
    """What was sent before `close` arrives; then the peer sees that the link is closed."""
    async with make_pair() as pair:
        a, b = channels(pair)
        await a.send(block(200_000))
        await a.send(Count(1))
        closing = asyncio.create_task(pair.a.close())
        await receive_block(b, 200_000)
        _require((await b.recv(Count)).number == 1, "the last message is wrong")
        await closing
        _require(isinstance(await _error(b.recv(Count)), ConnectionLost), "a closed link was not noticed")


# --- what a channel must notice ---------------------------------------------------------------------------------------


@dataclass
class TamperingLink:
    """A link that misbehaves: every frame that is sent becomes the frames that `tamper(number, frame)` returns."""

    inner: Link
    tamper: Callable[[int, Wired], Sequence[Wired]] = lambda number, frame: [frame]
    sent: list[Wired] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.peer = self.inner.peer

    async def send(self, stream: str, header: bytes, parts: Sequence[memoryview]) -> None:
        frame = (stream, header, b"".join(parts))
        self.sent.append(frame)
        for name, head, payload in self.tamper(len(self.sent) - 1, frame):
            await self.inner.send(name, head, [memoryview(payload)])

    async def recv(self, stream: str) -> Incoming:
        return await self.inner.recv(stream)

    def abort(self, cause: AtollError) -> None:
        self.inner.abort(cause)

    async def close(self) -> None:
        await self.inner.close()


async def conversation(pair: LinkPair, a: Channel, b: Channel) -> Sequence[Any]:
    """Two counts, two equal blocks and an answer; a side that fails closes its link, as a session does."""

    async def first() -> int:
        for number in range(2):
            await a.send(Count(number))
            await a.send(block(1000))
        return (await a.recv(Answer)).blocks

    async def second() -> int:
        for number in range(2):
            _require((await b.recv(Count)).number == number, "a wrong count was taken for the right one")
            await receive_block(b, 1000)
        await b.send(Answer(2))
        return 2

    async def guarded(work: Awaitable[int], link: Link) -> Any:
        try:
            return await work
        except AtollError as error:
            await link.close()
            return error

    return await asyncio.gather(guarded(first(), pair.a), guarded(second(), pair.b))


def fault(tamper: Callable[[int, Wired], Sequence[Wired]], *, silent: bool = False) -> Case:
    """Make a case in which a's link tampers; b must notice, at once unless the fault is silent."""

    async def case(make_pair: MakePair) -> None:
        async with make_pair() as pair:
            a, b = channels(pair, timeout=SHORT if silent else 10.0)
            bad = Channel(TamperingLink(pair.a, tamper), a.gate)
            _must_end_with_errors(await conversation(pair, bad, b))

    return case


def swapped() -> Callable[[int, Wired], Sequence[Wired]]:
    """Exchange frames 1 and 3, which are of one kind, and let 2 pass."""
    kept: list[Wired] = []

    def tamper(number: int, frame: Wired) -> Sequence[Wired]:
        kept.append(frame)
        return {0: [frame], 1: [], 2: []}.get(number, [kept[-1], kept[2], kept[1]] if number == 3 else [frame])

    return tamper


def at(number: int, *change: Callable[[Wired], Wired]) -> Callable[[int, Wired], Sequence[Wired]]:
    """Replace frame `number` by what the changes make of it; none lose it."""
    return lambda n, frame: [one(frame) for one in change] if n == number else [frame]


async def late_message(make_pair: MakePair) -> None:
    """A message that comes after the time-out comes too late."""
    async with make_pair() as pair:
        a, b = channels(pair, timeout=SHORT)
        a.gate.timeout = 10.0
        error = await _error(b.recv(Count))
        _require(isinstance(error, ProtocolError) and "within" in str(error), "a time-out was not noticed")
        pair.b.abort(error)
        await a.send(Count(0))
        _require(isinstance(await _error(b.recv(Count)), ProtocolError), "a message was taken after the time-out")


async def wrong_job(make_pair: MakePair) -> None:
    """Messages of another job are refused though the link is the right one."""
    async with make_pair() as pair:
        a, b = channels(pair)
        a.gate.job = "another job"
        _must_end_with_errors(await conversation(pair, a, b))


async def replayed_from_another_job(make_pair: MakePair) -> None:
    """A message recorded in one job is refused in the next one, at the same place of the conversation."""
    async with make_pair() as pair:
        a, b = channels(pair)
        recorder = TamperingLink(pair.a)
        a.gate.job = b.gate.job = "first job"
        done = await conversation(pair, Channel(recorder, a.gate), b)
        _require(list(done) == [2, 2], f"the conversation ended with {done}")
    await fault(lambda number, frame: [recorder.sent[1]] if number == 1 else [frame])(make_pair)


async def reflected(make_pair: MakePair) -> None:
    """A site's own message, sent back to it, is refused."""
    async with make_pair() as pair:
        a, b = channels(pair)
        mirror = TamperingLink(pair.a)
        await Channel(mirror, a.gate).send(Count(0))
        await b.recv(Count)
        stream, header, payload = mirror.sent[0]
        await pair.b.send(stream, header, [memoryview(payload)])
        _require(isinstance(await _error(a.recv(Count)), ProtocolError), "a site's own message was taken")


async def peer_killed(make_pair: MakePair) -> None:
    """When the peer vanishes, a side that waits and a side that sends both end with `ConnectionLost`."""
    async with make_pair() as pair:
        a, b = channels(pair)
        await a.send(Count(0))
        await b.recv(Count)
        waiting = asyncio.create_task(_error(a.recv(Count)))
        await asyncio.sleep(0)
        await pair.kill_b()
        error = await waiting
        _require(isinstance(error, ConnectionLost), f"a dead peer gave {error!r}")
        _require(isinstance(await _error(a.send(Count(1))), ConnectionLost), "a message was sent to a dead peer")


async def nobody_answers(make_pair: MakePair) -> None:
    """A peer that is there and says nothing runs into the time-out."""
    async with make_pair() as pair:
        a, _ = channels(pair, timeout=SHORT)
        _require(isinstance(await _error(a.recv(Count)), ProtocolError), "silence was not noticed")


CASES: dict[str, Case] = {
    "all sizes arrive": all_sizes_arrive,
    "streams are independent": streams_are_independent,
    "a slow stream blocks no other": slow_stream_blocks_no_other,
    "undeclared kinds stay": undeclared_kinds_stay,
    "both ends audit alike": both_ends_audit_alike,
    "abort wakes everybody": abort_wakes_everybody,
    "close delivers": close_delivers,
    "lost": fault(at(1)),
    "last one lost": fault(at(3), silent=True),
    "late": late_message,
    "duplicated": fault(at(1, lambda frame: frame, lambda frame: frame)),
    "duplicated, small": fault(at(0, lambda frame: frame, lambda frame: frame)),
    "reordered": fault(swapped()),
    "truncated": fault(at(1, lambda frame: (frame[0], frame[1], frame[2][:-1]))),
    "truncated header": fault(at(1, lambda frame: (frame[0], frame[1][:-1], frame[2]))),
    "empty": fault(at(1, lambda frame: (frame[0], b"", b""))),
    "oversize": fault(at(1, lambda frame: (frame[0], frame[1], frame[2] + bytes(1 << 23)))),
    "oversize header": fault(at(1, lambda frame: (frame[0], frame[1] + bytes(HEADER_LIMIT), frame[2]))),
    "garbled header": fault(at(1, lambda frame: (frame[0], b"\xc1" + frame[1][1:], frame[2]))),
    "wrong kind": fault(at(1, lambda frame: (frame[0], frame[1].replace(b".Block", b".Count"), frame[2]))),
    "wrong stream": fault(at(1, lambda frame: ("elsewhere", frame[1], frame[2])), silent=True),
    "wrong job": wrong_job,
    "replayed from another job": replayed_from_another_job,
    "reflected": reflected,
    "peer killed": peer_killed,
    "nobody answers": nobody_answers,
}
"""All cases by name."""


def _must_end_with_errors(ends: Sequence[Any]) -> None:
    for side, end in zip("ab", ends, strict=True):
        _require(isinstance(end, ProtocolError | ConnectionLost), f"{side} ended with {end!r}")


async def _error(work: Awaitable[Any]) -> AtollError:
    try:
        result = await work
    except AtollError as error:
        return error
    raise AssertionError(f"no error was raised; the result is {result!r}")


def _require(condition: Any, what: str) -> None:
    if not condition:
        raise AssertionError(what)
