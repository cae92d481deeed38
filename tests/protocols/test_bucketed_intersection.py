"""Bucket after bucket: equals plain sets, sizes say nothing, nothing is used twice, and hostile peers end in errors."""

import asyncio
import errno
import hashlib
import json
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from atoll.core.channel import Channel
from atoll.core.errors import InputError, ProtocolError
from atoll.crypto import okvs
from atoll.crypto.item_hash import Texts
from atoll.crypto.random import Rng
from atoll.data import buckets as store
from atoll.protocols import bucketed_intersection as psi
from atoll.protocols import intersection_result as result
from atoll.protocols import oblivious_transfer, vole_intersection
from atoll.protocols.intersection_result import Matches, Shuffled
from atoll.testing import ProtocolCheck, check_protocol, recorded_pair, run_pair, seeded_rng
from atoll.transport.memory import memory_pair
from atoll.transport.site import init_site

CONTEXT = ("job 1", "phone")
Case = tuple[list[bytes], list[bytes]]


@pytest.fixture(autouse=True)
def _small_buckets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(psi, "WHOLE", 40)
    monkeypatch.setattr(psi, "BUCKET", 32)


def ids(lo: int, hi: int) -> list[bytes]:
    return [b"id-%d" % i for i in range(lo, hi)]


def play(x: Any, y: Any, seed: int = 1, **options: Any) -> tuple[Matches, Shuffled, list[Any]]:
    a, b, transcript = recorded_pair(allowed=psi.PROTOCOL.kinds)
    matches, shuffled = run_pair(
        psi.receiver(a, x, rng=seeded_rng(seed), context=CONTEXT, **options),
        psi.sender(b, y, rng=seeded_rng(seed + 1), context=CONTEXT, **options),
    )
    return matches, shuffled, transcript


def test_conformance(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(psi, "LANES", 1)  # two lanes mix their messages in no fixed order

    async def first(peer: Channel, case: Case, rng: Rng) -> Any:
        matches = await psi.receiver(peer, case[0], rng=rng, context=CONTEXT)
        rows, (positions,) = result.common_rows([matches], rng)
        await result.announce(peer, positions)
        return {case[0][i] for i in rows}

    async def second(peer: Channel, case: Case, rng: Rng) -> Any:
        shuffled = await psi.sender(peer, case[1], rng=rng, context=CONTEXT)
        return {case[1][i] for i in await result.learn(peer, shuffled.order)}

    def cost(case: Case) -> float:
        nx, ny = map(len, case)
        count = psi.bucket_count(nx, ny)
        one, other = psi.bucket_size(nx, count), psi.bucket_size(ny, count)
        return count * (8 * okvs.Shape(max(one, 1)).words + 12 * other + 550_000) + 8 * min(nx, ny) + 1000

    check_protocol(
        ProtocolCheck(
            protocol=psi.PROTOCOL,
            cases=[
                (ids(0, 45), ids(30, 50)),
                (ids(0, 6), ids(3, 8)),
                ([], ids(0, 50)),
                ([], []),
                (ids(0, 1), ids(0, 1)),
            ],
            first=first,
            second=second,
            reference=lambda case: (set(case[0]) & set(case[1]),) * 2,
            max_bytes=cost,
            faults_at=1,
        )
    )


@pytest.mark.parametrize("disk", [False, True])
@pytest.mark.parametrize("sizes", [(1, 1), (90, 1), (0, 70), (150, 130)])
def test_matches_name_places(sizes: tuple[int, int], disk: bool, tmp_path: Path) -> None:
    nx, ny = sizes
    x, y = ids(0, nx), ids(nx // 2, nx // 2 + ny)
    matches, shuffled, _ = play(x, y, folder=tmp_path if disk else None)
    assert [x[i] for i in matches.mine] == [y[i] for i in shuffled.order[matches.theirs]]
    assert {x[i] for i in matches.mine} == set(x) & set(y)
    assert matches.mine.tolist() == sorted(matches.mine.tolist())
    assert sorted(shuffled.order[shuffled.order >= 0]) == list(range(ny))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("disk", [False, True])
def test_rows_stand_in_a_common_order(disk: bool, tmp_path: Path) -> None:
    x, y = ids(0, 120), ids(50, 200)
    options: dict[str, Any] = {"folder": tmp_path if disk else None, "context": CONTEXT}
    a, b = memory_pair(timeout=5.0)
    mine, theirs = run_pair(
        psi.receive_rows(a, stream(x), rng=seeded_rng(1), **options),
        psi.send_rows(b, stream(y), rng=seeded_rng(2), **options),
    )
    assert [x[i] for i in mine.rows()] == [y[i] for i in theirs.rows()]
    assert len(mine) == len(theirs) == 70
    assert list(map(len, mine.parts)) == list(map(len, theirs.parts))


def stream(items: Sequence[bytes], step: int = 17) -> Iterator[Texts]:
    for lo in range(0, len(items), step):
        yield Texts.of(items[lo : lo + step])


def test_malicious_sites_and_wide_words(monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = ids(0, 90), ids(40, 100)
    matches, shuffled, _ = play(x, y, security="malicious")
    assert [x[i] for i in matches.mine] == [y[i] for i in shuffled.order[matches.theirs]]
    assert len(matches.mine) == 50
    monkeypatch.setattr(vole_intersection.vole_oprf, "NARROW", 100)  # less than all buckets hold together
    matches, _, transcript = play(x, y)
    assert matches.mine.tolist() == list(range(40, 90))
    each = okvs.Shape(psi.bucket_size(90, 3)).words
    assert {len(f.payload) for f in transcript if f.kind.endswith(".Encoded")} == {16 * each}


def test_frozen_vectors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(psi, "LANES", 1)
    matches, shuffled, transcript = play(ids(0, 45), ids(40, 50))
    digests = [hashlib.sha256(frame.payload).hexdigest()[:16] for frame in transcript if frame.payload][-1:]
    assert (digests, matches.theirs.tolist(), shuffled.order.tolist()) == FROZEN


FROZEN: Any = (
    ["7ca4356bf187b8d1"],
    [5, 0, 18, 4, 9],
    [1, 6, 7, -1, 3, 0, -1, -1, 8, 4, 5, -1, 9, -1, -1, -1, -1, -1, 2, -1],
)


def test_a_star() -> None:
    x, others = ids(0, 60), {"b": ids(20, 80), "c": ids(40, 50)}
    pairs = {name: memory_pair(timeout=5.0) for name in others}

    async def both() -> Any:
        return await asyncio.gather(
            psi.receive_from_all({name: pair[0] for name, pair in pairs.items()}, x, rng=seeded_rng(1)),
            *(psi.sender(pairs[name][1], y, rng=seeded_rng(2)) for name, y in others.items()),
        )

    found, *orders = asyncio.run(both())
    for (name, y), shuffled in zip(others.items(), orders, strict=True):
        assert [x[i] for i in found[name].mine] == [y[i] for i in shuffled.order[found[name].theirs]]
        assert len(found[name].mine) == len(set(x) & set(y))


def test_duplicates_are_refused_or_kept_once() -> None:
    x, y = [*ids(0, 60), *ids(0, 5), *[b"same"] * 300], [*ids(50, 90), b"same", *ids(55, 60)]
    with pytest.raises(InputError, match="more than one row"):
        play(x, y)
    matches, shuffled, _ = play(x, y, duplicates="first")
    assert [x[i] for i in matches.mine] == [y[i] for i in shuffled.order[matches.theirs]]
    assert matches.mine.tolist() == [*range(50, 60), 65]
    assert {y[i] for i in shuffled.order[shuffled.order >= 0]} == set(y)
    matches, _, _ = play([b"x"] * 100, [b"x"] * 100, duplicates="first")
    assert matches.mine.tolist() == [0]


def sizes(transcript: list[Any]) -> list[tuple[str, int, int]]:
    return sorted((f.sender, len(f.header), len(f.payload)) for f in transcript)


def test_sizes_say_nothing_of_the_ids() -> None:
    """Two worlds with as many ids: one spreads evenly, in the other all fall into few buckets as far as they go."""
    worlds = [play(ids(lo, lo + 100), ids(0, 90), seed)[2] for seed, lo in ((1, 0), (9, 5000))]
    assert sizes(worlds[0]) == sizes(worlds[1])


def test_a_mutant_that_does_not_fill_up_shows_the_sizes_of_buckets(monkeypatch: pytest.MonkeyPatch) -> None:
    take = psi._Run._take

    def mutant(run: Any, *args: Any) -> Any:
        bucket = take(run, *args)
        bucket.arguments["size"] = None
        return bucket

    monkeypatch.setattr(psi._Run, "_take", mutant)
    worlds = []
    for lo in (0, 5000):
        a, b, transcript = recorded_pair(allowed=psi.PROTOCOL.kinds)
        x, y = ids(lo, lo + 100), ids(lo, lo + 90)
        run_pair(psi.receive_rows(a, x, rng=seeded_rng(1)), psi.send_rows(b, y, rng=seeded_rng(2)))
        worlds.append(transcript)
    assert sizes(worlds[0]) != sizes(worlds[1])


def used_twice(transcript: list[Any]) -> int:
    """Count rows of 16 bytes that stand in two messages, or twice in one."""
    rows = [np.frombuffer(f.payload[: len(f.payload) // 16 * 16], np.uint64).reshape(-1, 2) for f in transcript]
    seen = np.concatenate([part for part in rows if len(part)])
    return len(seen) - len(np.unique(seen, axis=0))


def test_nothing_is_used_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every bucket has base transfers of its own, another Δ, another seed; no block of any message repeats."""
    deltas: list[bytes] = []
    begin = oblivious_transfer.OtSender.__init__

    def noted(self: Any, seeds: Any, delta: Any) -> None:
        deltas.append(delta.tobytes())
        begin(self, seeds, delta)

    monkeypatch.setattr(oblivious_transfer.OtSender, "__init__", noted)
    seeds: list[bytes] = []
    public = vole_intersection.vole_oprf._Public.of
    monkeypatch.setattr(
        vole_intersection.vole_oprf._Public, "of", lambda seed, context: (seeds.append(seed), public(seed, context))[1]
    )
    _, _, transcript = play(ids(0, 100), ids(20, 100))
    assert len(deltas) == len(set(deltas)) == psi.bucket_count(100, 80) == 4
    assert len(set(seeds)) == 4
    assert used_twice(transcript) == 0


def test_a_mutant_that_uses_one_randomness_for_all_buckets_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Rng, "spawn", lambda self: seeded_rng(7))
    assert used_twice(play(ids(0, 100), ids(20, 100))[2]) > 0


def test_a_disk_that_fills_up_ends_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "")

    monkeypatch.setattr(store, "write_all", full)
    with pytest.raises(InputError, match="no room on the disk"):
        play(ids(0, 10), ids(0, 10), folder=tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_bucket_that_overflows_ends_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(psi, "bucket_size", lambda n, buckets: n // buckets)
    with pytest.raises(ProtocolError, match="overflows"):
        play(ids(0, 100), ids(0, 100))


def test_signs_of_life_while_a_site_hashes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(psi, "TICK", 0.001)
    monkeypatch.setattr(psi, "HEARTBEAT", 1)
    told, done, go_on = [], [], threading.Event()

    def slow() -> Iterator[Texts]:
        yield Texts.of(ids(0, 10))
        assert go_on.wait(5)
        yield Texts.of(ids(10, 20))

    def progress(at: int, total: int) -> None:
        done.append((at, total))
        if len(done) > 3:
            go_on.set()

    a, b, transcript = recorded_pair(allowed=psi.PROTOCOL.kinds)
    matches, _ = run_pair(
        psi.receiver(a, slow(), rng=seeded_rng(1), progress=progress), psi.sender(b, ids(5, 15), rng=seeded_rng(2))
    )
    told = [frame for frame in transcript if frame.kind.endswith(".Count")]
    assert len(told) >= 5
    assert matches.mine.tolist() == list(range(5, 15))
    assert done[-1] == (40, 40)


@pytest.mark.parametrize(
    ("key", "context", "security", "what"),
    [
        (b"short", (), "semi-honest", "a key of 5 bytes"),
        (bytes(16), ("other",), "semi-honest", "different jobs"),
        (bytes(16), (), "malicious", "semi-honest, one to be malicious"),
    ],
)
def test_a_wrong_start(key: bytes, context: Sequence[str], security: str, what: str) -> None:
    async def liar(peer: Channel) -> None:
        await peer.send(psi.Start(key, result.context_hash(context), security))

    a, b = memory_pair(timeout=2.0)
    with pytest.raises(ProtocolError, match=what):
        run_pair(liar(a), psi.sender(b, ids(0, 3), rng=seeded_rng(1)))


@pytest.mark.parametrize("rows", [-1, psi.LARGEST + 1, 1 << 62])
def test_a_count_out_of_range(rows: int) -> None:
    async def liar(peer: Channel) -> None:
        await peer.recv(psi.Start)
        await peer.send(psi.Count(rows, True))

    a, b = memory_pair(timeout=2.0)
    with pytest.raises(ProtocolError, match="ids, at most"):
        run_pair(psi.receiver(a, ids(0, 3), rng=seeded_rng(1)), liar(b))


def test_a_place_that_only_fills_up_cannot_be_announced() -> None:
    shuffled = play(ids(0, 100), ids(0, 50))[1]
    empty = np.flatnonzero(shuffled.order < 0)[:1]
    assert len(empty)
    a, b = memory_pair(timeout=2.0)
    with pytest.raises(ProtocolError, match="none of this site's ids"):
        run_pair(result.announce(a, empty), result.learn(b, shuffled.order))


def test_sizes_of_buckets_hold_what_falls_into_them() -> None:
    """Over many draws no bucket overflows, and the widest bucket is not much wider than the mean."""
    rng = seeded_rng(3)
    for n, count in ((1000, 8), (5000, 100), (300, 7)):
        size = psi.bucket_size(n, count)
        for _ in range(50):
            fine = (rng.u64(n) >> np.uint64(50)).astype(np.int64)
            edges = np.array([number * store.FINE // count for number in range(count + 1)])
            assert np.histogram(fine, edges)[0].max() <= size
    assert psi.bucket_size(10**8, 96) < 1.03 * 10**8 / 96
    assert psi.bucket_size(7, 1) == 7
    assert psi.bucket_count(0, 0) == 1


PROGRAM = """
import asyncio, json, sys
from pathlib import Path

from atoll.core.channel import Channel, Gate
from atoll.crypto.random import Rng
from atoll.protocols import bucketed_intersection as psi
from atoll.transport.grpc_link import Endpoint
from atoll.transport.site import load_site

psi.WHOLE, psi.BUCKET = 400, 300


async def main(role, home):
    here = load_site(Path(home) / role)
    async with Endpoint(here, listen=here.card.address) as endpoint:
        link = await endpoint.link("job", here.peer("b" if role == "a" else "a"), dial=role == "a")
        channel = Channel(link, Gate(role, "job", psi.PROTOCOL.kinds, timeout=60))
        ids = [b"id-%d" % i for i in range(*((0, 1000) if role == "a" else (600, 1300)))]
        align = psi.receive_rows if role == "a" else psi.send_rows
        found = await align(channel, ids, rng=Rng.system(), folder=Path(home))
        await link.close()
    print(json.dumps([ids[i].decode() for i in found.rows()]))


asyncio.run(main(*sys.argv[1:]))
"""


@pytest.mark.processes
def test_two_processes_over_tls(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    a, b = init_site(tmp_path / "a", "a", ""), init_site(tmp_path / "b", "b", f"127.0.0.1:{port}")
    a.trust(b.card)
    b.trust(a.card)
    running = [
        subprocess.Popen([sys.executable, "-c", PROGRAM, role, str(tmp_path)], stdout=subprocess.PIPE) for role in "ba"
    ]
    found = [json.loads(process.communicate(timeout=120)[0]) for process in running]
    assert [process.returncode for process in running] == [0, 0]
    assert found[0] == found[1]
    assert sorted(found[0]) == sorted(f"id-{i}" for i in range(600, 1000))
