"""A set prepared once: found ids and labels, a filter that shows nothing, allowances, and hostile peers."""

import hashlib
import os
from collections.abc import Sequence
from datetime import date
from functools import cache
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from atoll.core.channel import Channel
from atoll.core.errors import InputError, ProtocolError
from atoll.crypto import oprf, ristretto
from atoll.crypto.random import Rng
from atoll.protocols import prepared_intersection as unbalanced
from atoll.protocols import prepared_set
from atoll.protocols.prepared_set import Allowance, Filter, Prepared
from atoll.testing import ProtocolCheck, check_protocol, recorded_pair, run_pair, seeded_rng
from atoll.testing.check_protocol import by_stream
from atoll.transport.memory import memory_pair

DAY = date(2026, 3, 1)
UGLY = ("", "\0", "顾客", "a" * 500)


def ids(lo: int, hi: int) -> list[bytes]:
    return [b"id-%d" % i for i in range(lo, hi)]


def labels(n: int, width: int) -> np.ndarray:
    return seeded_rng(500 + width).u8(n, width)


@cache
def prepared(n: int = 40, width: int = 0, seed: int = 9, version: int = 1, capacity: int = 0) -> Prepared:
    return prepared_set.prepare(
        ids(0, n), labels(n, width) if width else None, rng=seeded_rng(seed), version=version, capacity=capacity
    )


def play(x: Sequence[bytes], held: Prepared, seed: int = 1) -> tuple[unbalanced.Found, list[Any]]:
    a, b, transcript = recorded_pair(allowed=unbalanced.PROTOCOL.kinds)
    asked, found = run_pair(
        unbalanced.server(a, held, allowance=Allowance(1000)),
        unbalanced.client(b, x, held.filter, rng=seeded_rng(seed)),
    )
    assert asked == len(x)
    return found, transcript


def test_conformance(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unbalanced, "PART", 64)

    async def first(peer: Channel, case: Any, rng: Rng) -> Any:
        _, n, width = case
        held = prepared(n, width)
        await unbalanced.publish(peer, held.filter)
        return await unbalanced.server(peer, held, allowance=Allowance(1000))

    async def second(peer: Channel, case: Any, rng: Rng) -> Any:
        x, _, _ = case
        got = await unbalanced.download(peer)
        found = await unbalanced.client(peer, x, got, rng=rng)
        return {x[i]: label.tobytes() for i, label in zip(found.rows, found.labels, strict=True)}

    def reference(case: Any) -> Any:
        x, n, width = case
        y, v = ids(0, n), labels(n, width) if width else np.empty((n, 0), np.uint8)
        return len(x), {y[i]: v[i].tobytes() for i in range(n) if y[i] in x}

    def cost(case: Any) -> float:
        x, n, width = case
        about = prepared(n, width).filter.about
        words = about.shape.words * about.columns
        return 8 * words + 120 * (words // 64 + 1) + 64 * len(x) + 800

    check_protocol(
        ProtocolCheck(
            protocol=unbalanced.PROTOCOL,
            cases=[
                (ids(35, 45), 40, 3),
                (ids(0, 1), 1, 0),
                ([], 40, 8),
                (ids(0, 5), 0, 0),
                (ids(500, 505), 40, 0),
                ([text.encode() for text in UGLY], 40, 17),
            ],
            first=first,
            second=second,
            reference=reference,
            max_bytes=cost,
            patience=0.1,
        )
    )


def test_ugly_ids_and_several_bins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prepared_set.okvs, "BIN", 64)
    y = [text.encode() for text in UGLY] + ids(0, 300)
    v = labels(len(y), 9)
    held = prepared_set.prepare(y, v, rng=seeded_rng(3), version=1)
    found, _ = play([b"id-7", b"no", "顾客".encode(), b"", b"id-7"], held)
    assert found.rows.tolist() == [0, 2, 3, 4]
    assert np.array_equal(found.labels, v[[11, 2, 0, 11]])


def test_the_server_sees_other_points_for_the_same_ids() -> None:
    """Two worlds: same sizes whatever is asked, and no point that comes again."""
    transcripts = [play(x, prepared(), seed)[1] for x, seed in ((ids(0, 9), 1), (ids(0, 9), 5), (ids(90, 99), 7))]
    sizes = [[(f.sender, f.kind, len(f.payload)) for f in by_stream(transcript)] for transcript in transcripts]
    assert sizes[0] == sizes[1] == sizes[2]
    points = {point for t in transcripts for point in _points(t)}
    assert len(points) == 27


def _points(transcript: list[Any]) -> list[bytes]:
    payload = next(frame.payload for frame in transcript if frame.kind.endswith(".Query"))
    return [payload[at : at + 32] for at in range(0, len(payload), 32)]


def test_a_mutant_without_blinding_shows_ids(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ristretto, "random_scalar", lambda rng: (1).to_bytes(32, "little"))
    assert _points(play(ids(0, 9), prepared(), 1)[1]) == _points(play(ids(0, 9), prepared(), 5)[1])


def test_the_filter_is_noise_and_hides_the_number_of_ids() -> None:
    few, many = (prepared(n, 8, capacity=2000).filter for n in (3, 1500))
    assert few.words.shape == many.words.shape
    assert msgspec.structs.replace(few.about, seed=b"") == msgspec.structs.replace(many.about, seed=b"")
    for words in (few.words, many.words):
        assert len(np.unique(words)) == words.size
        bits = np.unpackbits(words.view(np.uint8)).astype(float)
        assert abs(bits.mean() - 0.5) < 5 * 0.5 / np.sqrt(bits.size)


def test_another_preparation_of_the_same_set_has_nothing_in_common() -> None:
    one, two = prepared(seed=9), prepared(seed=10)
    assert one.key != two.key
    assert not np.isin(one.filter.words, two.filter.words).any()
    values = oprf.evaluate(ids(0, 40), one.key)
    assert one.filter.look_up(values)[0].all()
    assert not two.filter.look_up(values)[0].any()


def test_labels_of_ids_that_were_not_asked_for_stay_hidden() -> None:
    """With F of another id, or of none, labels decode to noise."""
    held = prepared_set.prepare(ids(0, 500), np.zeros((500, 8), np.uint8), rng=seeded_rng(3), version=1)
    found, got = held.filter.look_up(oprf.evaluate(ids(500, 900), held.key))
    assert not found.any()
    bits = np.unpackbits(got).astype(float)
    assert abs(bits.mean() - 0.5) < 5 * 0.5 / np.sqrt(bits.size)


@pytest.mark.parametrize(
    ("y", "v", "words"),
    [
        ([b"x", b"x"], None, "duplicates"),
        ([b"x" * (1 << 16)], None, "bytes"),
        ([b"x"], np.zeros((2, 1), np.uint8), "labels"),
        ([b"x"], np.zeros((1, 0), np.uint8), "labels"),
        ([b"x"], np.zeros((1, 1025), np.uint8), "labels"),
        ([b"x"], np.zeros((1, 4), np.float64), "labels"),
        ([b"x"], np.zeros(1, np.uint8), "labels"),
    ],
)
def test_sets_that_cannot_be_prepared(y: Any, v: Any, words: str) -> None:
    with pytest.raises(InputError, match=words):
        prepared_set.prepare(y, v, rng=seeded_rng(1), version=1)


def test_a_set_is_kept_and_read_again(tmp_path: Path) -> None:
    held = prepared(40, 5)
    prepared_set.save(tmp_path / "server", held)
    again = prepared_set.load(tmp_path / "server")
    assert again.key == held.key
    assert again.filter.digest == held.filter.digest
    assert np.array_equal(again.filter.words, held.filter.words)
    if os.name == "posix":
        assert (tmp_path / "server" / "key").stat().st_mode & 0o077 == 0
    prepared_set.save_filter(tmp_path / "client", held.filter)
    assert sorted(path.name for path in (tmp_path / "client").iterdir()) == ["filter.json", "filter.npy"]
    assert held.key.hex() not in repr(held)


def test_damaged_files_are_noticed(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read"):
        prepared_set.load(tmp_path)
    prepared_set.save(tmp_path, prepared(40, 5))
    key = (tmp_path / "key").read_bytes()
    (tmp_path / "key").write_bytes(key[:31])
    with pytest.raises(InputError, match="damaged"):
        prepared_set.load(tmp_path)
    (tmp_path / "key").unlink()
    with pytest.raises(InputError, match="key"):
        prepared_set.load(tmp_path)
    words = bytearray((tmp_path / "filter.npy").read_bytes())
    words[-1] ^= 1
    (tmp_path / "filter.npy").write_bytes(words)
    with pytest.raises(InputError, match="changed"):
        prepared_set.load_filter(tmp_path)
    (tmp_path / "filter.json").write_bytes(b"{}")
    with pytest.raises(InputError, match="cannot be read"):
        prepared_set.load_filter(tmp_path)


def test_a_filter_is_sent_only_where_it_is_new() -> None:
    old, new = prepared(seed=9, version=1).filter, prepared(seed=10, version=2).filter
    for have, sent in ((None, True), (new, False), (old, True)):
        a, b, transcript = recorded_pair(allowed=unbalanced.PROTOCOL.kinds)
        _, got = run_pair(unbalanced.publish(a, new), unbalanced.download(b, have))
        assert got.digest == new.digest
        assert any(frame.kind.endswith(".Part") for frame in transcript) == sent
    a, b = memory_pair(timeout=1.0)
    with pytest.raises(ProtocolError, match="offers version 1"):
        run_pair(unbalanced.publish(a, old), unbalanced.download(b, new))


def test_a_client_with_another_set_is_refused() -> None:
    a, b = memory_pair(timeout=1.0)
    with pytest.raises(ProtocolError, match="another set than version 2"):
        run_pair(
            unbalanced.server(a, prepared(seed=10, version=2), allowance=Allowance(100)),
            unbalanced.client(b, ids(0, 3), prepared().filter, rng=seeded_rng(1)),
        )


def test_allowances_by_day_and_by_set(tmp_path: Path) -> None:
    path, digest = tmp_path / "counts.json", b"set 1"
    Allowance(10, path, in_all=15).take("b", digest, 10, DAY)
    again = Allowance(10, path, in_all=15)
    with pytest.raises(ProtocolError, match="10 a day"):
        again.take("b", digest, 1, DAY)
    again.take("c", digest, 10, DAY)
    tomorrow = date(2026, 3, 2)
    with pytest.raises(ProtocolError, match="15 in one set"):
        again.take("b", digest, 6, tomorrow)
    again.take("b", digest, 5, tomorrow)
    again.take("b", b"set 2", 5, tomorrow)
    with pytest.raises(ProtocolError, match="a day"):
        again.take("b", b"set 3", 1, tomorrow)
    path.write_bytes(b"{")
    with pytest.raises(InputError, match="damaged"):
        Allowance(10, path)
    with pytest.raises(InputError, match="serves at most"):
        Allowance(10, in_all=prepared_set.LIFETIME + 1)


def test_a_client_that_asks_for_too_much_gets_nothing() -> None:
    a, b, transcript = recorded_pair()
    with pytest.raises(ProtocolError, match="b asks for 9 ids more; 8 a day"):
        run_pair(
            unbalanced.server(a, prepared(), allowance=Allowance(8)),
            unbalanced.client(b, ids(0, 9), prepared().filter, rng=seeded_rng(1)),
        )
    assert not any(frame.kind.endswith(".Answer") for frame in transcript)
    _, b = memory_pair(timeout=1.0)
    for x in (ids(0, 9), [b"x" * (1 << 16)]):
        with pytest.raises(InputError, match="fit into a query"):
            unbalanced.client(b, x, prepared().filter, rng=seeded_rng(1), largest=8).send(None)


OFFER = unbalanced.Offer(1, 40, 0, bytes(16), bytes(32))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"capacity": 0}, "offers a set of 0"),
        ({"capacity": 1 << 50}, "allowed"),
        ({"label_bytes": -1}, "allowed"),
        ({"label_bytes": 1 << 40}, "allowed"),
        ({"seed": b""}, "a seed of 0"),
        ({"digest": b""}, "a seed of 16"),
        ({}, "another set than it offered"),
    ],
)
def test_a_server_that_offers_nonsense(change: Any, words: str) -> None:
    async def liar(peer: Channel) -> None:
        await peer.recv(unbalanced.Have)
        await peer.send(msgspec.structs.replace(OFFER, **change))
        await peer.send(unbalanced.Part(np.zeros_like(prepared().filter.words)))

    a, b = memory_pair(timeout=1.0)
    with pytest.raises(ProtocolError, match=words):
        run_pair(liar(a), unbalanced.download(b))


@pytest.mark.parametrize("points", [np.zeros((3, 32), np.uint8), np.full((3, 32), 255, np.uint8)])
def test_points_off_the_group(points: np.ndarray) -> None:
    async def lying_server(peer: Channel) -> None:
        await peer.recv(unbalanced.Query, points=(3, 32))
        await peer.send(unbalanced.Answer(points))

    async def lying_client(peer: Channel) -> None:
        await peer.send(unbalanced.Query(prepared().filter.digest, points))

    a, b = memory_pair(timeout=1.0)
    with pytest.raises(ProtocolError, match="not a point"):
        run_pair(lying_server(a), unbalanced.client(b, ids(0, 3), prepared().filter, rng=seeded_rng(1)))
    a, b = memory_pair(timeout=1.0)
    with pytest.raises(ProtocolError, match="not a point"):
        run_pair(unbalanced.server(a, prepared(), allowance=Allowance(9)), lying_client(b))


def test_frozen_vectors() -> None:
    held: Filter = prepared(40, 5).filter
    _, transcript = play(ids(35, 45), prepared(40, 5))
    sent = hashlib.sha256(b"".join(frame.payload for frame in transcript)).hexdigest()[:16]
    assert (held.digest.hex()[:16], sent) == FROZEN


FROZEN = ("bf8167f48928e44f", "682f55745eb0623c")
