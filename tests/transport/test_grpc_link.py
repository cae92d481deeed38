"""The endpoint on a real network: who gets in, what is seen of a refusal, and what a bad network does."""

import asyncio
import json
import os
import signal
import ssl
import subprocess
import sys
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from atoll.core.errors import ConnectionLost, ContractError, IdentityError
from atoll.core.identity import dns_name
from atoll.transport import grpc_link
from atoll.transport.grpc_link import Endpoint, load_grpc
from atoll.transport.site import certificates, init_site, move_site


@pytest.fixture(scope="module")
def sites(tmp_path_factory):
    """Sites a, b and c that trust each other, and a stranger that trusts them and is trusted by nobody."""
    folder = tmp_path_factory.mktemp("sites")
    made = {name: init_site(folder / name, name, "127.0.0.1:1") for name in ("a", "b", "c", "stranger")}
    for one in made.values():
        for other in "abc":
            if one.name != other:
                one.trust(made[other].card)
    return made


def run(coroutine, seconds=20):
    async def limited():
        async with asyncio.timeout(seconds):
            return await coroutine

    return asyncio.run(limited())


def at_port(site, port):
    return move_site(site, f"127.0.0.1:{port}").card


class Proxy:
    """A TCP proxy that can cut its connections, or let no bytes through."""

    def __init__(self, port):
        self.target, self.cuts, self.tasks, self.writers = port, 0, set(), set()
        self.open = asyncio.Event()
        self.open.set()
        self.passed = 0
        self.cut_after = None

    async def __aenter__(self):
        self.server = await asyncio.start_server(self.accept, "127.0.0.1", 0)
        self.port = self.server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_):
        self.server.close()
        self.cut()
        await asyncio.gather(*self.tasks, return_exceptions=True)

    async def accept(self, reader, writer):
        self.tasks.add(asyncio.current_task())
        there = await asyncio.open_connection("127.0.0.1", self.target)
        self.writers |= {writer, there[1]}
        await asyncio.gather(self.pump(reader, there[1]), self.pump(there[0], writer), return_exceptions=True)

    async def pump(self, reader, writer):
        while data := await reader.read(1 << 16):
            await self.open.wait()
            self.passed += len(data)
            if self.cut_after and self.passed > self.cut_after:
                self.passed = 0
                self.cut()
                return
            writer.write(data)
            await writer.drain()
        writer.close()

    def cut(self):
        self.cuts += 1
        for writer in self.writers:
            writer.transport.abort()
        self.writers.clear()


@asynccontextmanager
async def joined(sites, *, through_proxy=False, **options):
    """Links between a, which dials, and b; and the proxy between them, if any."""
    options = {"join_within": 10, "lost_after": 5, **options}
    async with (
        Endpoint(sites["b"], listen="127.0.0.1:0", **options) as at_b,
        Endpoint(sites["a"], **options) as at_a,
        Proxy(at_b.port) as proxy,
    ):
        card = at_port(sites["b"], proxy.port if through_proxy else at_b.port)
        links = await asyncio.gather(at_a.link("job", card, dial=True), at_b.link("job", sites["a"].card, dial=False))
        yield *links, proxy
        await asyncio.gather(*(link.close() for link in links))


# --- who gets in ------------------------------------------------------------------------------------------------------


async def handshake(port, server, client=None, *, low=None, high=None, folder=None):
    """Shake hands with Python's own TLS; return the version, or None where the server does not go on."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(cadata=server.card.certificate)
    context.minimum_version = low or ssl.TLSVersion.TLSv1_2
    context.maximum_version = high or ssl.TLSVersion.TLSv1_3
    context.set_alpn_protocols(["h2"])
    if client:
        pem = folder / "client.pem"
        pem.write_bytes(client[0] + client[1])
        context.load_cert_chain(pem)
    try:
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", port, ssl=context, server_hostname=dns_name(server.name)
        )
    except OSError:  # ssl.SSLError is one
        return None
    try:
        writer.write(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(3) + b"\4" + bytes(5))
        answer = await reader.read(9)
        return writer.get_extra_info("ssl_object").version() if answer else None
    except OSError:
        return None
    finally:
        writer.transport.abort()


def credentials(site):
    return site.key_pem, site.card.certificate.encode()


def test_tls_1_3_with_a_trusted_certificate_and_nothing_else(sites, tmp_path):
    old, new = ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3
    b = sites["b"]

    async def main():
        async with Endpoint(b, listen="127.0.0.1:0") as endpoint:
            port = endpoint.port
            good, bad = credentials(sites["a"]), credentials(sites["stranger"])
            assert await handshake(port, b, good, low=new, folder=tmp_path) == "TLSv1.3"
            assert await handshake(port, b, good, folder=tmp_path) == "TLSv1.3"
            assert await handshake(port, b, good, high=old, folder=tmp_path) is None
            assert await handshake(port, b, bad, low=new, folder=tmp_path) is None
            assert await handshake(port, b, None, low=new, folder=tmp_path) is None

    run(main())


def test_a_trusted_site_cannot_vouch_for_another_key(sites, tmp_path):
    """A certificate signed with a trusted site's key, in its name or a new one, is a stranger's."""
    a, key = sites["a"], ec.generate_private_key(ec.SECP256R1())
    now = datetime.now(UTC)

    def issued(subject):
        name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, subject)])
        builder = x509.CertificateBuilder(
            a.card.x509.subject, name, key.public_key(), 7, now - timedelta(1), now + timedelta(1)
        ).add_extension(x509.SubjectAlternativeName([x509.DNSName(subject)]), critical=False)
        pem = builder.sign(a.key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
        form = serialization.PrivateFormat.PKCS8
        return key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption()), pem + credentials(a)[
            1
        ]

    async def main():
        async with Endpoint(sites["b"], listen="127.0.0.1:0") as endpoint:
            for subject in ("other.atoll.internal", dns_name("a")):
                pair = issued(subject)
                assert await handshake(endpoint.port, sites["b"], pair, folder=tmp_path) is None
            with Serving(issued(dns_name("a")), certificates({"b": sites["b"].card})) as port:
                async with Endpoint(sites["b"], join_within=5) as dialling:
                    with pytest.raises(IdentityError, match="not the one on the card of a"):
                        await dialling.link("job", at_port(a, port), dial=True)

    run(main())


class Serving:
    """A gRPC server with a given certificate."""

    def __init__(self, pair, roots):
        self.pair, self.roots = pair, roots

    def __enter__(self):
        from concurrent.futures import ThreadPoolExecutor

        grpc = load_grpc()
        self.pool = ThreadPoolExecutor(1, thread_name_prefix="grpc")
        self.server = grpc.server(self.pool)
        port = self.server.add_secure_port(
            "127.0.0.1:0", grpc.ssl_server_credentials([self.pair], self.roots, require_client_auth=True)
        )
        self.server.start()
        return port

    def __exit__(self, *_):
        self.server.stop(None).wait()
        self.pool.shutdown()


def test_a_stranger_is_told_that_it_is_not_trusted(sites):
    async def main():
        async with Endpoint(sites["b"], listen="127.0.0.1:0") as at_b, Endpoint(sites["stranger"]) as stranger:
            at_b.admit("job", ["stranger"])
            with pytest.raises(IdentityError, match="refuses this site's certificate"):
                await stranger.link("job", at_port(sites["b"], at_b.port), dial=True)

    run(main())


def test_the_wrong_server_is_noticed_at_once(sites):
    async def main():
        async with Endpoint(sites["c"], listen="127.0.0.1:0") as at_c, Endpoint(sites["a"]) as at_a:
            with pytest.raises(IdentityError, match=r"not the one on the card of b.*fingerprint"):
                await at_a.link("job", at_port(sites["b"], at_c.port), dial=True)

    run(main())


def test_a_known_site_is_refused_for_a_job_it_is_not_in(sites, caplog):
    async def main():
        async with Endpoint(sites["b"], listen="127.0.0.1:0") as at_b, Endpoint(sites["c"]) as at_c:
            at_b.admit("job", ["a"])
            with pytest.raises(ContractError, match=r"b refuses this site for job 'job': c is not a member"):
                await at_c.link("job", at_port(sites["b"], at_b.port), dial=True)

    run(main())
    assert "refused c for job job" in caplog.text


def test_the_first_to_dial_waits_until_the_job_is_open_there(sites):
    async def main():
        async with Endpoint(sites["b"], listen="127.0.0.1:0") as at_b, Endpoint(sites["a"]) as at_a:
            dialling = asyncio.create_task(at_a.link("job", at_port(sites["b"], at_b.port), dial=True))
            await asyncio.sleep(0.1)
            assert not dialling.done()
            await at_b.link("job", sites["a"].card, dial=False)
            await dialling

    run(main())


def test_several_jobs_and_sites_share_one_port(sites):
    async def main():
        async with (
            Endpoint(sites["b"], listen="127.0.0.1:0") as at_b,
            Endpoint(sites["a"]) as at_a,
            Endpoint(sites["c"]) as at_c,
        ):
            card = at_port(sites["b"], at_b.port)
            ways = [(at_a, "a", "one"), (at_a, "a", "two"), (at_c, "c", "one")]
            for _, name, job in ways:
                at_b.admit(job, [name])
            links = await asyncio.gather(
                *(end.link(job, card, dial=True) for end, _, job in ways),
                *(at_b.link(job, sites[name].card, dial=False) for _, name, job in ways),
            )
            for number, link in enumerate(links[:3]):
                await link.send("x", b"%d" % number, [])
            for number, link in enumerate(links[3:]):
                assert (await link.recv("x")).header == b"%d" % number

    run(main())


def test_a_site_that_never_joins_is_named_with_the_last_failure(sites):
    async def main():
        async with Endpoint(sites["a"], join_within=0.3) as at_a:
            with pytest.raises(ConnectionLost, match=r"b \(127.0.0.1:1\) did not join job 'job' within 0.3 s.*refused"):
                await at_a.link("job", at_port(sites["b"], 1), dial=True)

    run(main())


def test_without_trust_there_is_no_listening(tmp_path):
    async def main():
        alone = init_site(tmp_path / "alone", "alone", "")
        with pytest.raises(IdentityError, match="no other site is trusted"):
            await Endpoint(alone, listen="127.0.0.1:0").start()

    run(main())


def test_a_port_that_is_taken_is_named(sites):
    async def main():
        async with Endpoint(sites["b"], listen="127.0.0.1:0") as first:
            with pytest.raises(ConnectionLost, match=f"127.0.0.1:{first.port} cannot be listened on"):
                await Endpoint(sites["b"], listen=f"127.0.0.1:{first.port}").start()

    run(main())


def test_other_tls_settings_are_not_accepted(monkeypatch):
    load_grpc()
    monkeypatch.setenv("GRPC_SSL_CIPHER_SUITES", "")
    with pytest.raises(IdentityError, match="was loaded before"):
        load_grpc()


# --- a bad network ----------------------------------------------------------------------------------------------------


def test_connections_cut_in_mid_transfer_lose_and_repeat_nothing(sites):
    data = os.urandom(40 << 20)

    async def main():
        async with joined(sites, through_proxy=True) as (a, b, proxy):
            proxy.cut_after = 9 << 20

            async def there():
                frame = await b.recv("x")
                return bytes(await frame.read(len(data)))

            async def count(link, back):
                for number in range(30):
                    await link.send("small", b"%d" % number, [])
                    assert (await back.recv("small")).header == b"%d" % number

            results = await asyncio.gather(there(), a.send("x", b"", [memoryview(data)]), count(a, b), count(b, a))
            assert results[0] == data
            assert proxy.cuts >= 3

    run(main())


def test_a_cut_while_nothing_is_sent_is_mended(sites):
    async def main():
        async with joined(sites, through_proxy=True) as (a, b, proxy):
            for number in range(3):
                proxy.cut()
                await b.send("x", b"%d" % number, [])
                assert (await a.recv("x")).header == b"%d" % number

    run(main())


def test_a_network_that_stays_down_fails_both_sides_alike(sites):
    async def main():
        async with joined(sites, through_proxy=True, lost_after=0.3) as (a, b, proxy):
            proxy.server.close()
            proxy.cut()
            errors = await asyncio.gather(a.recv("x"), b.recv("x"), return_exceptions=True)
            assert [type(error) for error in errors] == [ConnectionLost, ConnectionLost]
            for error in errors:
                assert "was lost and did not come back within 0.3 s" in str(error)
                assert error.cure

    run(main())


def test_a_stalled_network_holds_the_sender_back(sites):
    async def main():
        async with joined(sites, through_proxy=True) as (a, b, proxy):
            proxy.open.clear()
            piece = memoryview(bytes(1 << 20))
            sending = asyncio.create_task(a.send("x", b"", [piece] * 60))
            await asyncio.sleep(0.3)
            assert not sending.done()
            assert a._kept <= a.limits.window
            proxy.open.set()
            assert len(await (await b.recv("x")).read(60 << 20)) == 60 << 20
            await sending

    run(main())


def test_an_endpoint_that_starts_anew_is_another_process_to_its_peer(sites):
    async def main():
        async with Endpoint(sites["a"], lost_after=5) as at_a:
            async with Endpoint(sites["b"], listen="127.0.0.1:0", lost_after=5) as at_b:
                port, card = at_b.port, at_port(sites["b"], at_b.port)
                first, second = await asyncio.gather(
                    at_a.link("job", card, dial=True), at_b.link("job", sites["a"].card, dial=False)
                )
                second.over = True  # it ends without a word, as when killed
            async with Endpoint(sites["b"], listen=f"127.0.0.1:{port}") as reborn:
                errors = await asyncio.gather(
                    first.recv("x"), reborn.link("job", sites["a"].card, dial=False), return_exceptions=True
                )
                assert [type(error) for error in errors] == [ConnectionLost, ConnectionLost]
                assert all("restarted" in str(error) for error in errors)

    run(main())


def test_what_is_no_hello_is_refused(sites):
    async def main():
        grpc = load_grpc()
        async with Endpoint(sites["b"], listen="127.0.0.1:0") as at_b:
            pair = credentials(sites["a"])
            secrets = grpc.ssl_channel_credentials(sites["b"].card.certificate.encode(), *pair)
            name = [("grpc.ssl_target_name_override", dns_name("b"))]
            async with grpc.aio.secure_channel(f"127.0.0.1:{at_b.port}", secrets, options=name) as channel:
                for words in (b"", b"{}", b"\xff" * 100, b'{"job": 1}'):
                    call = channel.stream_stream(grpc_link.METHOD)()
                    await call.write(words)
                    assert await call.code() is grpc.StatusCode.INVALID_ARGUMENT

    run(main())


# --- processes --------------------------------------------------------------------------------------------------------


class Process:
    """A side of a link in a process of its own."""

    def __init__(self, folder, role, size_mb):
        script = Path(__file__).with_name("link_process.py")
        self.process = subprocess.Popen(
            [sys.executable, str(script), str(folder), role, str(size_mb)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        )  # fmt: skip

    def says(self):
        return json.loads(self.process.stdout.readline())

    def tell(self, word):
        self.process.stdin.write(word + "\n")
        self.process.stdin.flush()

    def end(self):
        self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            pipe.close()


@pytest.fixture
def two_processes(tmp_path):
    import socket

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    a, b = init_site(tmp_path / "a", "a", ""), init_site(tmp_path / "b", "b", f"127.0.0.1:{port}")
    a.trust(b.card)
    b.trust(a.card)
    started = []

    def start(size_mb):
        started.extend(Process(tmp_path, role, size_mb) for role in "ba")
        for one in started:
            assert "joined" in one.says()
        return started

    yield start
    for one in started:
        one.end()


@pytest.mark.processes
def test_a_message_of_half_a_gigabyte_needs_bounded_memory(two_processes):
    b, a = two_processes(512)
    a.tell("how much")
    facts = a.says()
    assert not facts["sent"]
    assert facts["grown"] < 200
    b.tell("read")
    assert a.says()["grown"] < 250
    facts = b.says()
    assert facts["right"]
    assert facts["grown"] < 512 + 250


@pytest.mark.processes
@pytest.mark.parametrize("victim", ["a", "b"])
def test_a_killed_process_is_noticed(two_processes, victim):
    both = dict(zip("ba", two_processes(64), strict=True))
    both[victim].process.send_signal(signal.SIGKILL)
    left = both["a" if victim == "b" else "b"]
    left.tell("how much" if victim == "b" else "read")
    facts = left.says()
    if "sent" in facts:
        facts = left.says()
    assert facts["error"] == "ConnectionLost"
    assert left.process.wait(10) == 7
