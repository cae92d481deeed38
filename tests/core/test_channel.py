import asyncio
import hashlib

import numpy as np
import pytest

from atoll.core.channel import AuditLine, Channel, Gate
from atoll.core.errors import ConnectionLost, PeerFailed, ProtocolError
from atoll.core.message import U8, Message, encode
from atoll.testing import end_pair, run_pair
from atoll.transport.memory import memory_links, memory_pair


class Ping(Message, frozen=True):
    number: int


class Bulk(Message, frozen=True):
    data: U8


async def pump(channel, count):
    for number in range(count):
        await channel.send(Ping(number))


async def drain(channel, count):
    return [(await channel.recv(Ping)).number for _ in range(count)]


def test_messages_arrive_in_order():
    a, b = memory_pair()
    assert run_pair(pump(a, 5), drain(b, 5))[1] == [0, 1, 2, 3, 4]


def test_streams_are_independent():
    a, b = memory_pair()

    async def sender():
        await a.sub("x").send(Ping(1))
        await a.sub("y").sub("z").send(Ping(2))
        await a.send(Ping(3))

    async def receiver():
        return [(await end.recv(Ping)).number for end in (b, b.sub("y").sub("z"), b.sub("x"))]

    assert run_pair(sender(), receiver())[1] == [3, 2, 1]


def test_a_kind_that_the_step_has_not_declared_does_not_leave():
    a, b = memory_pair(allowed=frozenset({Bulk}), timeout=0.05)
    sent, received = end_pair(a.send(Ping(1)), b.recv(Bulk, data=(1,)))
    assert isinstance(sent, ProtocolError)
    assert "has not declared" in str(sent)
    assert isinstance(received, ProtocolError)
    assert "within 0.05 s" in str(received)


@pytest.mark.parametrize("size", [3, 1 << 17])
def test_every_message_writes_an_audit_line_at_both_ends(size):
    lines: list[AuditLine] = []
    at_a, at_b = memory_links("bank", "telco")
    a = Channel(at_a, Gate("bank", "job-1", None, "align", audit=lines.append))
    b = Channel(at_b, Gate("telco", "job-1", None, "align", audit=lines.append))
    message = Bulk(np.ones(size, np.uint8))
    run_pair(a.send(message), b.recv(Bulk, data=(size,)))
    header, parts = encode(message, Gate("bank", "job-1").place("bank", "telco", ""))
    digest = hashlib.sha256(header + bytes(parts[0])).hexdigest()
    assert {(line.peer, line.direction) for line in lines} == {("telco", "sent"), ("bank", "received")}
    assert {(line.sha256, line.bytes, line.step, line.job) for line in lines} == {
        (digest, len(header) + size, "align", "job-1")
    }
    assert a.gate.traffic == {("align", "telco", "sent"): len(header) + size}


def test_abort_ends_pending_and_future_calls():
    a, b = memory_pair("bank", "telco")
    cause = PeerFailed("disk full", site="telco")

    async def waiting():
        return await asyncio.gather(a.recv(Ping), a.sub("x").recv(Ping), return_exceptions=True)

    async def breaking():
        await asyncio.sleep(0)
        a.link.abort(cause)

    ends, _ = run_pair(waiting(), breaking())
    assert ends == [cause, cause]
    assert end_pair(a.send(Ping(1)), a.recv(Ping)) == (cause, cause)
    assert b.peer == "bank"


def test_a_closed_link_delivers_what_was_sent_and_then_ends():
    a, b = memory_pair()

    async def sender():
        await a.send(Ping(7))
        await a.link.close()

    async def receiver():
        assert (await b.recv(Ping)).number == 7
        with pytest.raises(ConnectionLost):
            await b.recv(Ping)
        with pytest.raises(ConnectionLost):
            await b.send(Ping(1))

    run_pair(sender(), receiver())
