"""Private query: equals a dictionary, tells the server nothing, survives hostile peers, and keeps its limits."""

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from atoll.core.channel import Channel
from atoll.core.errors import ContractError, ProtocolError
from atoll.crypto import lookup_table, pir
from atoll.crypto import oprf as oprf_kernel
from atoll.crypto.random import Rng
from atoll.protocols import oprf
from atoll.protocols.keyword_lookup import protocol as lookup
from atoll.protocols.keyword_lookup.table import Cached, Change, Served, digest_of
from atoll.query.database import build, open_database, point_of
from atoll.query.update import update
from atoll.testing import ProtocolCheck, check_protocol, recorded_pair, run_pair, seeded_rng
from atoll.testing.check_protocol import by_stream
from atoll.transport.memory import memory_pair


@dataclass
class Count:
    """A meter in memory."""

    limit: int = -1
    spent: int = 0

    def left(self) -> int:
        return self.limit - self.spent if self.limit >= 0 else -1

    def spend(self, count: int) -> None:
        if 0 <= self.left() < count:
            raise ContractError("the limit is spent")
        self.spent += count


def database(folder: Path, table: dict[bytes, bytes], record: int = 0, seed: int = 1) -> Served:
    record = record or 2 + max(map(len, table.values()), default=1)
    rng = seeded_rng(seed)
    build(folder, list(table), list(table.values()), record=record, about="{}", rng=rng, threads=1)
    return open_database(folder)


def drawn(count: int, size: int = 20, seed: int = 1) -> dict[bytes, bytes]:
    rng = seeded_rng(seed)
    return {f"客户-{i}".encode(): rng.bytes(rng.below(size + 1)) for i in range(count)}


def play(
    served: Served, keys: Sequence[bytes], seed: int = 1, cached: Cached | None = None, meter: Count | None = None
) -> tuple[list[bytes | None], Cached, list[Any]]:
    a, b, transcript = recorded_pair(allowed=lookup.PROTOCOL.kinds)
    (records, kept), answered = run_pair(
        lookup.client(a, keys, rng=seeded_rng(seed), cached=cached),
        lookup.server(b, served, meter=meter or Count(), rng=seeded_rng(seed + 100)),
    )
    assert answered == len(keys)
    return records, kept, transcript


def test_conformance(tmp_path: Path) -> None:
    tables = [drawn(40), drawn(1, 4), drawn(2, 300), {}]
    served = [database(tmp_path / str(at), table) for at, table in enumerate(tables)]
    cases = [
        (0, [b"nobody", *list(tables[0])[:2]]),
        (0, [b"", b"nobody", "谁".encode()]),  # all keys missing
        (0, []),
        (0, [*tables[0], *[b"none %d" % i for i in range(9)]]),  # two batches
        (1, [next(iter(tables[1])), b"x"]),
        (2, [*tables[2], b"x"]),
        (3, [b"x"]),
    ]

    async def first(peer: Channel, case: tuple[int, list[bytes]], rng: Rng) -> Any:
        return tuple((await lookup.client(peer, case[1], rng=rng))[0])

    def cost(case: tuple[int, list[bytes]]) -> float:
        of = served[case[0]]
        once = of.layout.hint_bytes + of.overflow.nbytes + 2_000
        batches = math.ceil(len(case[1]) / lookup.BATCH)
        return once + len(case[1]) * (4 * (of.layout.columns + of.layout.rows) + 64) + 1_200 * batches

    check_protocol(
        ProtocolCheck(
            protocol=lookup.PROTOCOL,
            cases=cases,
            first=first,
            second=lambda peer, case, rng: lookup.server(peer, served[case[0]], meter=Count(), rng=rng),
            reference=lambda case: (tuple(tables[case[0]].get(key) for key in case[1]), len(case[1])),
            max_bytes=cost,
        )
    )


@pytest.mark.parametrize(("count", "size"), [(1000, 1), (300, 300), (3, 64)])
def test_drawn_databases(tmp_path: Path, count: int, size: int) -> None:
    table = drawn(count, size, seed=count)
    keys = [*list(table)[:: max(1, count // 20)], *(b"miss %d" % i for i in range(20))]
    records, _, _ = play(database(tmp_path, table), keys)
    assert records == [table.get(key) for key in keys]


def test_the_hint_is_fetched_once_and_changes_are_applied(tmp_path: Path) -> None:
    table = drawn(200)
    served = database(tmp_path, table, 32)
    keys = list(table)
    _, kept, full = play(served, keys[:1])
    records, again, cached = play(served, keys[:3], 2, kept)
    assert again.version == 1
    assert sum(f.size for f in cached) < sum(f.size for f in full) / 10
    assert not any("Hint" in f.kind or "Overflow" in f.kind for f in cached)
    for step in range(2):
        table[keys[step]] = b"new %d" % step
        table[b"added %d" % step] = b"also new"
        table.pop(keys[50 + step])
        update(tmp_path, list(table), list(table.values()), rng=seeded_rng(step))
    served = open_database(tmp_path)
    asked = [*keys[:3], keys[50], keys[51], keys[52], b"added 0", b"added 1", b"never"]
    records, fresh, changed = play(served, asked, 3, kept)
    assert records == [table.get(key) for key in asked]
    assert (fresh.version, fresh.digest) == (3, served.digest)
    assert sum("Change" in f.kind for f in changed) == 2
    assert not any("Hint" in f.kind for f in changed)
    assert fresh.intact()
    assert np.array_equal(fresh.hint, served.hint)


def test_a_database_set_up_anew_sends_its_whole_hint(tmp_path: Path) -> None:
    table = drawn(30)
    _, kept, _ = play(database(tmp_path, table, 32, seed=1), [])
    records, fresh, transcript = play(database(tmp_path, table, 32, seed=2), list(table)[:2], cached=kept)
    assert records == list(table.values())[:2]
    assert any("Hint" in f.kind for f in transcript)
    assert fresh.identity != kept.identity


def test_a_server_that_uses_another_key_for_one_client_is_noticed(tmp_path: Path) -> None:
    served = database(tmp_path, drawn(20))
    with pytest.raises(ProtocolError, match="did not prove"):
        play(replace(served, key=b"\x07" + bytes(31)), [b"x"])
    other = replace(served, key=b"\x07" + bytes(31), point=point_of(b"\x07" + bytes(31)))
    with pytest.raises(ProtocolError, match="not the one that its terms announce"):
        play(other, [b"x"])


def test_a_stale_or_forged_hint_is_noticed(tmp_path: Path) -> None:
    served = database(tmp_path, drawn(30))
    _, kept, _ = play(served, [])
    wrong = np.array(kept.hint)
    wrong[3, 5] ^= 1
    assert not replace(kept, hint=wrong).intact()
    with pytest.raises(ProtocolError, match="not the one that its terms announce"):
        play(replace(served, hint=wrong), [])
    with pytest.raises(ProtocolError, match="another content than before"):
        play(replace(served, digest=bytes(32)), [], cached=kept)
    with pytest.raises(ProtocolError, match="another content than before"):
        play(served, [], cached=replace(kept, version=2))


def test_hit_and_miss_and_two_keys_look_alike_to_the_server(tmp_path: Path) -> None:
    table = drawn(500)
    served, keys = database(tmp_path, table), list(drawn(500))
    worlds = [
        play(served, asked, seed)[2]
        for seed, asked in ((1, keys[:4]), (2, keys[4:8]), (3, [b"m%d" % i for i in range(4)]))
    ]
    shapes = [[(f.sender, f.kind, len(f.header), len(f.payload)) for f in world] for world in worlds]
    assert shapes[0] == shapes[1] == shapes[2]
    for world in worlds:
        for kind in ("Queries", "Blinded"):
            payload = next(f.payload for f in world if f.kind.endswith(kind))
            data = np.frombuffer(payload, np.uint8)
            data = data[: data.size // 32 * 32].reshape(-1, 32)[:, 1:31]  # the ends of a point are not full bytes
            bits = np.unpackbits(np.ascontiguousarray(data)).astype(float)
            assert abs(bits.mean() - 0.5) < 5 * 0.5 / np.sqrt(bits.size)
    assert len({f.payload for world in worlds for f in world if f.kind.endswith("Queries")}) == 3


def test_one_key_asked_twice_looks_like_two(tmp_path: Path) -> None:
    served, key = database(tmp_path, drawn(50)), b"\xe5\xae\xa2"
    _, _, transcript = play(served, [key, key])
    u = np.frombuffer(next(f.payload for f in transcript if f.kind.endswith("Queries")), np.uint32).reshape(2, -1)
    assert np.count_nonzero(np.abs((u[0] - u[1]).view(np.int32)) < 1 << 20) < 5


def test_the_mutant_that_reuses_s_shows_which_columns_differ(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    honest = pir.masks

    def mutant(public: pir.PublicMatrix, count: int, rng: Rng) -> tuple[np.ndarray, np.ndarray]:
        s, u = honest(public, 1, rng)
        return np.repeat(s, count, 0), np.repeat(u, count, 0)

    monkeypatch.setattr(pir, "masks", mutant)
    table = drawn(200)
    served, keys = database(tmp_path, table), list(table)
    records, _, transcript = play(served, keys[:2])
    assert records == [table[key] for key in keys[:2]]  # it works, and nobody would notice
    u = np.frombuffer(next(f.payload for f in transcript if f.kind.endswith("Queries")), np.uint32).reshape(2, -1)
    outputs = oprf_kernel.evaluate(keys[:2], served.key, verifiable=True)
    columns = lookup_table.columns_of(outputs, served.layout.columns)
    assert set(np.flatnonzero(u[0] != u[1]).tolist()) == set(columns.tolist())


def retrieved(served: Served, key: bytes) -> np.ndarray:
    """All slots of the column that a client gets for one key."""
    output = oprf_kernel.evaluate([key], served.key, verifiable=True)
    column = int(lookup_table.columns_of(output, served.layout.columns)[0])
    return np.ascontiguousarray(served.matrix[:, column]).reshape(served.layout.slots, -1)


def test_without_the_oprf_a_client_reads_its_neighbours_and_with_it_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The attack that makes the layer mandatory: a client guesses keys, and opens whatever stands in its column."""
    table = {b"id %d" % i: b"secret %d" % i for i in range(2000)}
    guesses = list(table)

    def opened(served: Served, outputs: np.ndarray) -> int:
        slots = retrieved(served, guesses[0])
        return sum(lookup_table.unseal(output, slots, served.identity) is not None for output in outputs)

    own_key = b"\x07" + bytes(31)
    with_oprf = database(tmp_path / "with", table)
    assert opened(with_oprf, oprf_kernel.evaluate(guesses[:400], own_key, verifiable=True)) == 0

    def hashed(inputs: Sequence[bytes], key: bytes, **options: Any) -> np.ndarray:
        joined = b"".join(hashlib.sha512(text).digest() for text in inputs)
        return np.frombuffer(joined, np.uint8).reshape(-1, 64)

    monkeypatch.setattr(oprf_kernel, "evaluate", hashed)
    without = database(tmp_path / "without", table)
    assert opened(without, hashed(guesses, own_key)) > 1


def test_a_limit_is_known_before_anything_is_asked(tmp_path: Path) -> None:
    table = drawn(20)
    served, meter = database(tmp_path, table), Count(limit=3)
    assert play(served, list(table)[:2], meter=meter)[0] == list(table.values())[:2]
    assert meter.left() == 1
    with pytest.raises(ContractError, match="allows 1 more queries now, and 2 keys"):
        play(served, list(table)[:2], meter=meter)
    assert meter.left() == 1


def test_a_client_that_does_not_mind_the_limit_is_refused(tmp_path: Path) -> None:
    served = database(tmp_path, drawn(20))

    async def greedy(peer: Channel) -> None:
        met = await lookup.meet(peer)
        met = replace(met, terms=replace_terms(met.terms, left=-1))
        await lookup.ask(peer, met, [b"a", b"b", b"c", b"d"], rng=seeded_rng(1))

    a, b = memory_pair(timeout=2.0)
    with pytest.raises(ContractError, match="limit is spent"):
        run_pair(greedy(a), lookup.server(b, served, meter=Count(limit=3), rng=seeded_rng(2)))


def replace_terms(terms: lookup.Terms, **fields: Any) -> lookup.Terms:
    import msgspec

    return msgspec.structs.replace(terms, **fields)


@pytest.mark.parametrize("count", [-1, lookup.BATCH + 1, 1 << 40])
def test_batches_of_another_size_are_refused(tmp_path: Path, count: int) -> None:
    async def liar(peer: Channel) -> None:
        await lookup.meet(peer)
        await peer.send(lookup.Batch(count))

    a, b = memory_pair(timeout=2.0)
    with pytest.raises(ProtocolError, match="a batch has 1 to"):
        run_pair(liar(a), lookup.server(b, database(tmp_path, drawn(5)), meter=Count(), rng=seeded_rng(2)))


def test_a_query_of_another_length_is_refused(tmp_path: Path) -> None:
    async def liar(peer: Channel) -> None:
        met = await lookup.meet(peer)
        await peer.send(lookup.Batch(1))
        await oprf.client(peer, [b"x"], rng=seeded_rng(1), public=np.frombuffer(met.terms.point, np.uint8))
        await peer.send(lookup.Queries(np.zeros((1, met.terms.columns + 1), np.uint32)))

    a, b = memory_pair(timeout=2.0)
    with pytest.raises(ProtocolError, match="Queries"):
        run_pair(liar(a), lookup.server(b, database(tmp_path, drawn(5)), meter=Count(), rng=seeded_rng(2)))


GOOD = lookup.Terms(pir.NAME, bytes(16), 1, bytes(32), bytes(32), 5, 8, 1, 16, 0, -1, "{}")


@pytest.mark.parametrize(
    "bad",
    [
        {"columns": 0}, {"columns": 3}, {"columns": 1 << 40}, {"slots": 0}, {"slots": 1 << 50}, {"record": -1},
        {"record": 1 << 30}, {"overflow": -1}, {"overflow": 1 << 60}, {"version": 0}, {"left": -2},
        {"identity": b"short"}, {"digest": b""}, {"point": b""}, {"parameters": "P64"},
        {"slots": 1 << 16, "record": 1 << 16},
    ],
)  # fmt: skip
def test_terms_that_cannot_be_are_refused(bad: dict[str, Any]) -> None:
    async def liar(peer: Channel) -> None:
        await peer.send(replace_terms(GOOD, **bad))

    a, b = memory_pair(timeout=2.0)
    with pytest.raises(ProtocolError):
        run_pair(lookup.client(a, [b"x"], rng=seeded_rng(1)), liar(b))


def test_changes_that_cannot_be_are_refused(tmp_path: Path) -> None:
    served = database(tmp_path, drawn(40))
    _, kept, _ = play(served, [])
    layout, rows = kept.layout, len(kept.overflow)
    none, width = np.zeros(0, np.int64), layout.width

    def change(places: Any = none, spots: Any = none, overflow: int = rows) -> Change:
        places, spots = np.array(places, np.int64), np.array(spots, np.int64)
        pieces = np.zeros((len(places), width), np.int16)
        return Change(places, pieces, spots, np.zeros((len(spots), layout.row_bytes), np.uint8), overflow)

    assert kept.changed(change()).version == 2
    for bad in (
        change(places=[-1]), change(places=[layout.slots * layout.columns]), change(places=[0, 0]),
        change(spots=[rows]), change(spots=[-1]), change(overflow=rows - 1), change(overflow=1 << 40),
        change(spots=[rows, rows], overflow=rows + 2), change(spots=[0], overflow=rows + 1),
    ):  # fmt: skip
        with pytest.raises(ProtocolError):
            kept.changed(bad)


def test_a_wrong_answer_looks_like_a_miss_and_changes_nothing(tmp_path: Path) -> None:
    """Selective failure: whatever a server answers, the client sends the same messages."""
    table = drawn(40)
    served, shapes = database(tmp_path, table), []
    for matrix in (served.matrix, np.zeros_like(served.matrix)):
        records, _, transcript = play(replace(served, matrix=matrix, overflow=served.overflow), list(table))
        shapes.append([(f.sender, f.kind, f.size) for f in by_stream(transcript)])
    assert shapes[0] == shapes[1]
    assert records.count(None) >= len(table) - len(served.overflow)


def test_frozen_transcript(tmp_path: Path) -> None:
    served = database(tmp_path, drawn(20))
    _, kept, transcript = play(served, [b"x"])
    wanted = {f.kind.rpartition(".")[2]: hashlib.sha256(f.payload).hexdigest()[:16] for f in transcript}
    assert {name: wanted[name] for name in FROZEN} == FROZEN
    assert kept.digest == digest_of(served.identity, 1, served.layout, served.point, served.hint, served.overflow)


FROZEN = {
    "HintPart": "8a2f89e1412ac081",
    "Blinded": "07cf7d5efa8fd93f",
    "Queries": "e3eb447be0d6c8a7",
    "Answers": "15ac4527b416e2fb",
}
