"""Messages between two processes: our channel beside the simplest programs that bare grpcio allows."""

import asyncio
import json
import os
import queue
import statistics
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from atoll.core.channel import Channel, Gate
from atoll.core.message import U8, AtMost, Message
from atoll.transport.grpc_link import Endpoint, load_grpc
from atoll.transport.site import Site, init_site, load_site
from bench.harness import Report, free_ports, run_processes

TITLE = "The channel: audited messages over mutual TLS, beside bare grpcio"
SIZES = {"small": (1 << 28, 3), "medium": (1 << 30, 3), "large": (1 << 32, 3)}
"""Bytes sent for each figure, and how often it is taken."""

MESSAGES = {"4 MB": 1 << 22, "64 MB": 1 << 26}
ROUND_TRIPS = 1000
METHOD = "/bench.Bare/"
BARE = ("stream", "unary", "aio stream")
LIMITLESS = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]


class Bulk(Message, frozen=True):
    """Bytes to be moved."""

    data: U8


class Ping(Message, frozen=True):
    """A small message."""

    number: int


def run(size: str, report: Report) -> None:
    """Take turns: ours, then every bare program, several times; medians, and the best bare program as the limit."""
    total, repeats = SIZES[size]
    rates: dict[tuple[str, str], list[float]] = {}
    trips: dict[str, list[float]] = {}
    peak = 0.0
    for _ in range(repeats):
        for way in ("ours", *(f"{bare}, {tls}" for bare in BARE for tls in ("TLS", "plain"))):
            with tempfile.TemporaryDirectory() as folder:
                make_sites(Path(folder), free_ports(1)[0])
                roles = {role: ["-m", "bench.channel", role, way, folder, str(total)] for role in ("b", "a")}
                done = run_processes(roles, timeout=120)
            for name, rate in done["a"].value["rates"].items():
                rates.setdefault((way, name), []).append(rate)
            trips.setdefault(way, []).append(done["a"].value["round_trip"])
            if way == "ours":
                peak = max(peak, *(process.peak_mb for process in done.values()))
    for name in MESSAGES:
        figures = {way: statistics.median(found) for (way, message), found in rates.items() if message == name}
        bare = max((rate, way) for way, rate in figures.items() if way.endswith("TLS"))
        plain = max((rate, way) for way, rate in figures.items() if way.endswith("plain"))
        report.row(
            f"{name} messages", figures["ours"], unit="GB/s", limit=bare[0], limit_name=f"bare grpcio: {bare[1]}",
            goal=0.6 * bare[0], bytes=total, peak_mb=peak, note=f"without TLS {plain[0]:.2f} GB/s ({plain[1]})",
        )  # fmt: skip
    ways = {way: 1e3 * statistics.median(found) for way, found in trips.items()}
    bare = min((trip, way) for way, trip in ways.items() if way.endswith("TLS"))
    report.row(
        "round trip of a small message", ways["ours"], unit="ms", limit=bare[0],
        limit_name=f"bare grpcio: {bare[1]}", goal=0.5, note="median of 1,000",
    )  # fmt: skip


def make_sites(folder: Path, port: int) -> None:
    """Make sites a and b that trust each other; b listens."""
    a, b = init_site(folder / "a", "a", ""), init_site(folder / "b", "b", f"127.0.0.1:{port}")
    a.trust(b.card)
    b.trust(a.card)


# --- ours -------------------------------------------------------------------------------------------------------------


async def ours(role: str, site: Site, total: int) -> dict[str, object]:
    """One side of our channel; both ends hash every message and keep its audit line."""
    peer = site.peer("b" if role == "a" else "a")
    async with Endpoint(site, listen=site.card.address) as endpoint:
        link = await endpoint.link("bench", peer, dial=role == "a")
        lines: list[object] = []
        channel = Channel(link, Gate(role, "bench", allowed=None, audit=lines.append))
        return await (send(channel, total) if role == "a" else receive(channel, total))


async def send(channel: Channel, total: int) -> dict[str, object]:
    """Send, and take the times."""
    found: dict[str, float] = {}
    for name, size in MESSAGES.items():
        message = Bulk(np.frombuffer(os.urandom(size), np.uint8))
        await exchange(channel, message)
        start = time.perf_counter()
        for _ in range(total // size):
            await channel.send(message)
        await channel.recv(Ping)
        found[name] = total / (time.perf_counter() - start) / 1e9
    trips = []
    for number in range(ROUND_TRIPS):
        start = time.perf_counter()
        await channel.send(Ping(number))
        await channel.recv(Ping)
        trips.append(time.perf_counter() - start)
    return {"rates": found, "round_trip": statistics.median(trips)}


async def exchange(channel: Channel, message: Bulk) -> None:
    """One message there and one back, off the clock."""
    await channel.send(message)
    await channel.recv(Ping)


async def receive(channel: Channel, total: int) -> dict[str, object]:
    """Receive, and answer at the end of every part."""
    for size in MESSAGES.values():
        for count in (1, total // size):
            for _ in range(count):
                await channel.recv(Bulk, data=(AtMost(size),))
            await channel.send(Ping(0))
    for _ in range(ROUND_TRIPS):
        await channel.send(await channel.recv(Ping))
    return {}


# --- bare grpcio ----------------------------------------------------------------------------------------------------


def bare_server(site: Site, how: str, tls: bool) -> None:
    """Take messages and drop them; answer the small ones."""
    grpc = load_grpc()
    done = queue.Queue()

    def take(data: bytes) -> bytes:
        if data == b"stop":
            done.put(None)
        return data if len(data) < 1000 else b"taken"

    def unary(data: bytes, _: object) -> bytes:
        return take(data)

    def stream(units: object, _: object) -> object:
        for data in units:
            answer = take(data)
            if len(data) < 1000:
                yield answer

    async def aio_stream(units: object, context: object) -> None:
        async for data in units:
            answer = take(data)
            if len(data) < 1000:
                await context.write(answer)

    def add(server: object, handlers: dict[str, object]) -> None:
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("bench.Bare", handlers),))
        if tls:
            pair = (site.key_pem, site.card.certificate.encode())
            roots = site.peer("a").certificate.encode()
            server.add_secure_port(site.card.address, grpc.ssl_server_credentials([pair], roots, True))
        else:
            server.add_insecure_port(site.card.address)

    async def aio_server() -> None:
        server = grpc.aio.server(options=LIMITLESS)
        add(server, {"aio_stream": grpc.stream_stream_rpc_method_handler(aio_stream)})
        await server.start()
        await asyncio.to_thread(done.get)
        await server.stop(1)

    if how == "aio stream":
        asyncio.run(aio_server())
        return
    server = grpc.server(ThreadPoolExecutor(8), options=LIMITLESS)
    handlers = {
        "unary": grpc.unary_unary_rpc_method_handler(unary),
        "stream": grpc.stream_stream_rpc_method_handler(stream),
    }
    add(server, handlers)
    server.start()
    done.get()
    server.stop(1).wait()


def bare_client(site: Site, how: str, tls: bool, total: int) -> dict[str, object]:
    """Send messages as fast as the program allows, and take the times."""
    grpc = load_grpc()
    peer = site.peer("b")
    name = ("grpc.ssl_target_name_override", peer.x509.subject.rdns[0].rfc4514_string().removeprefix("CN="))
    pair = (site.key_pem, site.card.certificate.encode())
    options = [*LIMITLESS, name, ("grpc.initial_reconnect_backoff_ms", 100)]
    module = grpc.aio if how == "aio stream" else grpc
    if tls:
        credentials = grpc.ssl_channel_credentials(peer.certificate.encode(), *pair)
        channel = module.secure_channel(peer.address, credentials, options=options)
    else:
        channel = module.insecure_channel(peer.address, options=options)
    return {"stream": by_stream, "unary": by_unary}[how](channel, total)


def by_unary(channel: object, total: int) -> dict[str, object]:
    """Calls with four in flight."""
    call = channel.unary_unary(METHOD + "unary")
    call(b"up?", wait_for_ready=True)

    def many(data: bytes, count: int) -> None:
        flying = []
        for _ in range(count):
            flying.append(call.future(data))
            if len(flying) == 4:
                flying.pop(0).result()
        for one in flying:
            one.result()

    result = times(many, lambda: call(b"x" * 100), total)
    call(b"stop")
    channel.close()
    return result


def by_stream(channel: object, total: int) -> dict[str, object]:
    """One stream of messages, fed by a short queue."""
    waiting = queue.Queue(4)
    answers = channel.stream_stream(METHOD + "stream")(iter(waiting.get, None), wait_for_ready=True)

    def once(data: bytes = b"x" * 100) -> None:
        waiting.put(data)
        next(answers)

    def many(data: bytes, count: int) -> None:
        for _ in range(count):
            waiting.put(data)
        once()

    once()
    result = times(many, once, total)
    once(b"stop")
    waiting.put(None)
    channel.close()
    return result


def times(many: object, once: object, total: int) -> dict[str, object]:
    """Time `many(data, count)` for every message size, and `once()`."""
    found = {}
    for name, size in MESSAGES.items():
        data = os.urandom(size)
        many(data, 1)
        start = time.perf_counter()
        many(data, total // size)
        found[name] = total / (time.perf_counter() - start) / 1e9
    trips = []
    for _ in range(ROUND_TRIPS):
        start = time.perf_counter()
        once()
        trips.append(time.perf_counter() - start)
    return {"rates": found, "round_trip": statistics.median(trips)}


async def by_aio_stream(site: Site, tls: bool, total: int) -> dict[str, object]:
    """One stream of messages on the event loop."""
    grpc = load_grpc()
    peer = site.peer("b")
    name = ("grpc.ssl_target_name_override", peer.x509.subject.rdns[0].rfc4514_string().removeprefix("CN="))
    options = [*LIMITLESS, name, ("grpc.initial_reconnect_backoff_ms", 100)]
    if tls:
        pair = (site.key_pem, site.card.certificate.encode())
        credentials = grpc.ssl_channel_credentials(peer.certificate.encode(), *pair)
        channel = grpc.aio.secure_channel(peer.address, credentials, options=options)
    else:
        channel = grpc.aio.insecure_channel(peer.address, options=options)
    async with channel:
        call = channel.stream_stream(METHOD + "aio_stream")(wait_for_ready=True)

        async def once(data: bytes = b"x" * 100) -> None:
            await call.write(data)
            await call.read()

        await once()
        found = {}
        for name, size in MESSAGES.items():
            data = os.urandom(size)
            await call.write(data)
            await once()
            start = time.perf_counter()
            for _ in range(total // size):
                await call.write(data)
            await once()
            found[name] = total / (time.perf_counter() - start) / 1e9
        trips = []
        for _ in range(ROUND_TRIPS):
            start = time.perf_counter()
            await once()
            trips.append(time.perf_counter() - start)
        await once(b"stop")
    return {"rates": found, "round_trip": statistics.median(trips)}


def main(role: str, way: str, folder: str, total: str) -> None:
    """Be one of the two processes."""
    site = load_site(Path(folder) / role)
    how, _, kind = way.partition(", ")
    if way == "ours":
        print(json.dumps(asyncio.run(ours(role, site, int(total)))))
    elif role == "b":
        bare_server(site, how, kind == "TLS")
    elif how == "aio stream":
        print(json.dumps(asyncio.run(by_aio_stream(site, kind == "TLS", int(total)))))
    else:
        print(json.dumps(bare_client(site, how, kind == "TLS", int(total))))


if __name__ == "__main__":
    main(*sys.argv[1:])
