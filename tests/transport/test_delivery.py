"""A link over pipes in memory: what the peer or the network may do, without a network."""

import asyncio
import hashlib
import os
import random
from contextlib import asynccontextmanager
from itertools import pairwise

import msgspec
import numpy as np
import pytest

from atoll.core.errors import ConnectionLost, ProtocolError
from atoll.transport import delivery
from atoll.transport.delivery import ACK, CREDIT, FRAME, MORE, Limits, SteadyLink

SMALL = Limits(chunk=1000, window=40_000, total=100_000, outbox=30_000, queue=4_000, unit=100, streams=40)
"""Windows that a test fills quickly."""


class PipeEnd:
    """One end of a pipe in memory; `tamper` turns every unit written here into a list of units."""

    def __init__(self, tamper=lambda unit: [unit]):
        self.tamper, self.inbox, self.other, self.stalled = tamper, asyncio.Queue(8), None, asyncio.Event()
        self.stalled.set()

    async def write(self, unit):
        await self.stalled.wait()
        for one in self.tamper(unit):
            if self.other is None:
                raise OSError("cut")
            await self.other.inbox.put(one)

    async def read(self):
        return await self.inbox.get()


class Connection:
    """Two links joined by a pipe, as the endpoint does it."""

    def __init__(self, a, b, tamper=lambda unit: [unit]):
        self.a, self.b, self.tamper = a, b, tamper

    async def __aenter__(self):
        await self.a.detach()
        await self.b.detach()
        to_b, to_a = self.ends = PipeEnd(self.tamper), PipeEnd()
        to_b.other, to_a.other = to_a, to_b
        hellos = self.a.hello(), self.b.hello()
        self.b.greet(hellos[0])
        self.a.greet(hellos[1])
        ways = ((self.a, to_b, hellos[1]), (self.b, to_a, hellos[0]))
        self.tasks = [asyncio.create_task(self.use(*way)) for way in ways]
        await asyncio.sleep(0)
        return self

    async def use(self, link, end, hello):
        await link.run(end, hello)
        if end.other:
            await end.other.inbox.put(None)

    async def cut(self):
        """Break the connection; what is under way is lost."""
        for end in self.ends:
            end.other = None
            while not end.inbox.empty():
                end.inbox.get_nowait()
            end.inbox.put_nowait(None)
        await asyncio.gather(*self.tasks)

    async def __aexit__(self, *_):
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)


@asynccontextmanager
async def pair(tamper=lambda unit: [unit], **options):
    options = {"limits": SMALL, **options}
    a, b = SteadyLink("b", "job", **options), SteadyLink("a", "job", **options)
    async with Connection(a, b, tamper) as connection:
        yield a, b, connection
        a.over = b.over = True
    for link in (a, b):
        await link.close()


def run(coroutine):
    async def limited():
        async with asyncio.timeout(10):
            return await coroutine

    return asyncio.run(limited())


def views(*arrays):
    return [memoryview(array) for array in arrays]


async def fetch(link, stream="x"):
    frame = await link.recv(stream)
    return frame.header, bytes(await frame.read(frame._size))


async def drain(link):
    while True:
        await fetch(link)


def test_frames_arrive_whole_and_in_order_per_stream():
    async def main():
        async with pair() as (a, b, _):
            sizes = [0, 1, 999, 1000, 1001, 25_000, 0, 3]
            data = [os.urandom(size) for size in sizes]

            async def sender(stream):
                for number, one in enumerate(data):
                    await a.send(stream, b"h%d" % number, views(one[:700], one[700:]))

            sending = [asyncio.create_task(sender(stream)) for stream in "xyz"]
            for stream in "zyx":
                for number, one in enumerate(data):
                    assert await fetch(b, stream) == (b"h%d" % number, one)
            await asyncio.gather(*sending)

    run(main())


def test_a_stream_that_nobody_reads_holds_back_itself_only():
    async def main():
        async with pair() as (a, b, _):
            slow = asyncio.create_task(a.send("slow", b"", views(bytes(1_000_000))))
            for number in range(300):
                await a.send("fast", b"%d" % number, views(bytes(500)))
                assert (await fetch(b, "fast"))[0] == b"%d" % number
            assert not slow.done()
            assert b._held <= SMALL.window
            assert a._kept <= SMALL.outbox + SMALL.chunk + 1000
            header, payload = await fetch(b, "slow")
            assert (header, payload) == (b"", bytes(1_000_000))
            await slow

    run(main())


def test_all_streams_together_are_bounded():
    async def main():
        async with pair() as (a, b, _):
            sending = [asyncio.create_task(a.send(f"s{n}", b"", views(bytes(90_000)))) for n in range(20)]
            await asyncio.sleep(0.05)
            assert 50_000 < b._held <= SMALL.total
            for n in range(20):
                assert len((await fetch(b, f"s{n}"))[1]) == 90_000
            await asyncio.gather(*sending)

    run(main())


@pytest.mark.parametrize("seed", range(5))
def test_cut_again_and_again_it_goes_on_where_it_was(seed):
    chance = random.Random(seed)
    data = chance.randbytes(400_000)
    units = []

    def tamper(unit):
        units.append(unit)
        return [unit]

    async def main():
        a, b = SteadyLink("b", limits=SMALL), SteadyLink("a", limits=SMALL)

        async def cuts():
            while True:
                async with Connection(a, b, tamper) as connection:
                    for _ in range(chance.randrange(5, 200)):
                        await asyncio.sleep(0)
                    await connection.cut()

        cutting = asyncio.create_task(cuts())
        sending = asyncio.create_task(a.send("x", b"big", views(data)))
        got, _ = await asyncio.gather(fetch(b), a.send("y", b"small", views(b"abc")))
        assert got == (b"big", data)
        assert await fetch(b, "y") == (b"small", b"abc")
        await sending
        cutting.cancel()
        await asyncio.gather(cutting, return_exceptions=True)
        a.over = b.over = True
        await asyncio.gather(a.close(), b.close())

    run(main())
    numbered = {}
    for unit in units:
        if unit[0] in (FRAME, MORE):
            numbered.setdefault(int.from_bytes(unit[1:9], "little"), set()).add(hashlib.sha256(unit).digest())
    assert all(len(copies) == 1 for copies in numbered.values()), "sent again, but not byte for byte"


def test_without_a_connection_both_sides_fail_alike():
    async def main():
        async with pair(lost_after=0.05) as (a, b, connection):
            await connection.cut()
            errors = await asyncio.gather(a.recv("x"), b.recv("x"), return_exceptions=True)
            for error, peer in zip(errors, "ba", strict=True):
                assert isinstance(error, ConnectionLost)
                assert f"connection to {peer} was lost and did not come back within 0.05 s" in str(error)
            with pytest.raises(ConnectionLost):
                await a.send("x", b"", [])

    run(main())


def test_a_peer_that_never_joins_is_named():
    async def main():
        link = SteadyLink("telco", "credit", address="telco.example:1", join_within=0.02)
        with pytest.raises(ConnectionLost, match=r"telco \(telco.example:1\) did not join job 'credit' within 0.02 s"):
            await link.recv("x")
        await link.close()

    run(main())


def test_a_restarted_peer_is_refused_and_the_link_fails():
    async def main():
        async with pair() as (a, b, _):
            reborn = SteadyLink("b", "job")
            with pytest.raises(ConnectionLost, match="restarted"):
                b.greet(reborn.hello())
            with pytest.raises(ConnectionLost, match="restarted"):
                await b.recv("x")
            with pytest.raises(ConnectionLost, match="restarted"):
                reborn.greet(msgspec.structs.replace(a.hello(), expects=a.id))
            await reborn.close()

    run(main())


def swap(units):
    """Change the order of units 1 and 2."""
    kept = []

    def tamper(unit):
        if unit[0] in (ACK, CREDIT):
            return [unit]
        kept.append(unit)
        return [kept[0]] if len(kept) == 1 else [] if len(kept) == 2 else [unit, kept[1]] if len(kept) == 3 else [unit]

    return tamper


def at(number, change):
    """Apply `change` to the unit of that number."""

    def tamper(unit):
        numbered = unit[0] in (FRAME, MORE)
        return change(unit) if numbered and int.from_bytes(unit[1:9], "little") == number else [unit]

    return tamper


def edit(unit, place, value):
    return [unit[:place] + value + unit[place + len(value) :]]


BAD = {
    "lost": at(1, lambda unit: []),
    "reordered": swap([]),
    "too short": at(1, lambda unit: [unit[:20]]),
    "cut in its header": at(0, lambda unit: [unit[:32]]),
    "truncated": at(3, lambda unit: [unit[:-1]]),
    "lengthened": at(4, lambda unit: [unit + b"\0"]),
    "oversize": at(1, lambda unit: [unit + bytes(SMALL.largest_unit)]),
    "unknown kind": at(1, lambda unit: edit(unit, 0, b"\x09")),
    "second start": at(1, lambda unit: edit(unit, 0, bytes([FRAME]))),
    "no start": at(0, lambda unit: edit(unit, 0, bytes([MORE]))),
    "confirms the future": at(1, lambda unit: edit(unit, 9, b"\xff\xff")),
    "header of 2 MB": at(0, lambda unit: edit(unit, 27, (1 << 21).to_bytes(4, "little"))),
    "bad name": at(0, lambda unit: edit(unit, 31, b"\n")),
    "name that is no text": at(0, lambda unit: edit(unit, 31, b"\xff")),
    "credit for nothing": at(1, lambda unit: [unit, *edit(edit(unit, 0, bytes([CREDIT]))[0], 17, b"\xff" * 8)]),
}


@pytest.mark.parametrize("fault", BAD)
def test_a_peer_that_breaks_the_rules_ends_the_link_at_both_sides(fault):
    async def main():
        async with pair(BAD[fault]) as (a, b, _):
            sending = asyncio.create_task(a.send("x", b"header", views(bytes(4_500))))
            with pytest.raises(ProtocolError) as here:
                await drain(b)
            with pytest.raises(ConnectionLost) as there:
                await a.recv("x")
            assert f"b ended the connection: {here.value.what}" in str(there.value)
            await asyncio.gather(sending, return_exceptions=True)

    run(main())


def test_units_that_come_twice_are_dropped():
    async def main():
        seen = []

        def tamper(unit):
            seen.append(unit)
            return [unit, unit, seen[0]]

        async with pair(tamper) as (a, b, _):
            for number in range(20):
                await a.send("x", b"%d" % number, views(bytes(number * 300)))
                assert await fetch(b) == (b"%d" % number, bytes(number * 300))

    run(main())


def test_a_sender_that_ignores_the_window_is_stopped(monkeypatch):
    async def main():
        async with pair() as (a, b, _):
            monkeypatch.setattr(a._stream("x"), "confirmed", 10**12)
            sending = asyncio.create_task(a.send("x", b"", views(bytes(200_000))))
            await b.recv("x")
            with pytest.raises(ProtocolError, match="than was announced or allowed"):
                await b.recv("y")
            assert b._held < SMALL.window + 2000
            await asyncio.gather(sending, return_exceptions=True)

    run(main())


def test_nothing_is_allocated_on_the_peers_word(monkeypatch):
    async def main():
        async with pair() as (a, b, _):
            await a.send("x", b"", views(b"abc"))
            monkeypatch.setattr(delivery.np, "empty", lambda *_: pytest.fail("allocated"))
            frame = await b.recv("x")
            with pytest.raises(ProtocolError, match=r"announced 1,000,000,000,000 bytes and sends 3"):
                await frame.read(10**12)

    run(main())


def test_streams_are_bounded_in_number_and_named_plainly():
    async def main():
        async with pair(limits=Limits(streams=3)) as (a, b, _):
            for name in ("x", "tree/3 left", ""):
                await a.send(name, b"", [])
                await b.recv(name)
            for name in ("one more", "a" * 201, "a\nb"):
                with pytest.raises(ProtocolError):
                    await a.send(name, b"", [])

    run(main())


def test_reading_on_before_a_message_was_read_is_refused():
    async def main():
        async with pair() as (a, b, _):
            sending = asyncio.create_task(a.send("x", b"", views(bytes(SMALL.chunk + 1))))
            await b.recv("x")
            with pytest.raises(ProtocolError, match="not read to its end"):
                await b.recv("x")
            await sending

    run(main())


def test_a_send_cut_off_in_the_middle_spoils_its_stream_only():
    async def main():
        async with pair() as (a, b, _):
            sending = asyncio.create_task(a.send("x", b"", views(bytes(500_000))))
            await asyncio.sleep(0.01)
            sending.cancel()
            with pytest.raises(asyncio.CancelledError):
                await sending
            with pytest.raises(ProtocolError, match="cut off"):
                await a.send("x", b"", [])
            await a.send("end", b"last words", [])
            assert (await fetch(b, "end"))[0] == b"last words"

    run(main())


def test_a_message_and_its_answer_are_one_unit_each():
    async def main():
        units = []
        async with pair(lambda unit: units.append(unit) or [unit], limits=Limits()) as (a, b, _):
            for number in range(50):
                await a.send("x", b"%d" % number, [])
                assert (await fetch(b))[0] == b"%d" % number
                await b.send("x", b"pong", [])
                await fetch(a)
            await asyncio.sleep(0)
        assert len([unit for unit in units if unit[0] == FRAME]) == 50
        assert len(units) <= 50 + 2  # the acknowledgement of the connection's beginning, and of its end

    run(main())


def test_acknowledgements_flow_when_one_side_only_listens():
    async def main():
        async with pair() as (a, b, _):
            for number in range(500):
                await a.send("x", b"%d" % number, views(bytes(900)))
                assert (await fetch(b))[0] == b"%d" % number
                assert a._kept <= SMALL.outbox + SMALL.chunk + 1000

    run(main())


def test_a_send_cancelled_while_its_unit_goes_out_loses_nothing():
    async def main():
        async with pair() as (a, b, connection):
            await a.send("x", b"0", [])
            await fetch(b)
            await b.send("x", b"", [])
            await fetch(a)
            connection.ends[0].stalled.clear()
            sending = asyncio.create_task(a.send("x", b"1", []))
            await asyncio.sleep(0)
            assert a._outbox  # it is being written, not waiting
            sending.cancel()
            await asyncio.gather(sending, *connection.tasks[:1], return_exceptions=True)
            async with Connection(a, b):
                await a.send("x", b"2", [])
                assert [(await fetch(b))[0] for _ in range(2)] == [b"1", b"2"]

    run(main())


def test_abort_wakes_everybody_with_the_cause_and_still_delivers():
    async def main():
        async with pair() as (a, b, _):
            waiting = asyncio.create_task(a.recv("x"))
            await a.send("end", b"last words", [])
            cause = ProtocolError("enough")
            a.abort(cause)
            a.abort(ProtocolError("later"))
            for attempt in (waiting, a.recv("y"), a.send("x", b"", [])):
                with pytest.raises(ProtocolError) as error:
                    await attempt
                assert error.value is cause
            _, got = await asyncio.gather(a.close(), fetch(b, "end"))
            assert got[0] == b"last words"

    run(main())


def test_close_delivers_everything_then_the_peer_sees_the_end():
    async def main():
        async with pair() as (a, b, _):
            data = os.urandom(20_000)
            await a.send("x", b"", views(data))
            await a.close()
            assert await fetch(b) == (b"", data)
            for attempt in (b.recv("x"), b.send("x", b"", [])):
                with pytest.raises(ConnectionLost, match="a has closed the link"):
                    await attempt
            await b.close()

    run(main())


def test_a_connection_whose_handler_is_cancelled_twice_counts_as_gone():
    async def main():
        async with pair() as (a, b, connection):
            await a.close()
            for _ in range(2):  # the second one hits while the first is cleaned up after
                connection.tasks[1].cancel()
                await asyncio.sleep(0)
            async with asyncio.timeout(delivery.ENDING / 2):
                await b.close()

    run(main())


def test_close_gives_up_on_a_peer_that_is_gone(monkeypatch):
    monkeypatch.setattr(delivery, "ENDING", 0.05)

    async def main():
        async with pair() as (a, _, connection):
            await connection.cut()
            await a.send("x", b"", views(b"abc"))
            await a.close()

    run(main())


def test_small_units_count_in_the_window_too():
    async def main():
        async with pair() as (a, b, _):

            async def flood():
                for _ in range(2000):
                    await a.send("x", b"", [])

            sending = asyncio.create_task(flood())
            await asyncio.sleep(0.05)
            assert len(b._stream("x").units) <= SMALL.window // SMALL.unit
            for _ in range(2000):
                await b.recv("x")
            await sending

    run(main())


def test_received_arrays_are_aligned_for_every_dtype():
    async def main():
        async with pair() as (a, b, _):
            for size in range(8, 200, 8):
                await a.send("stream", b"h" * size, views(bytes(size)))
                frame = await b.recv("stream")
                assert (await frame.read(size)).view(np.uint64).flags.aligned

    run(main())


def test_parts_are_cut_at_the_chunk():
    pieces = list(delivery._cut(views(bytes(1500), b"", bytes(700), bytes(2000)), 1000))
    sizes = [sum(map(len, piece)) for piece in pieces]
    assert sizes == [1000, 1000, 1000, 1000, 200]
    assert [len(one) for one, _ in pairwise([*pieces, []])] == [1, 2, 2, 1, 1]
    assert list(delivery._cut([], 1000)) == [[]]
