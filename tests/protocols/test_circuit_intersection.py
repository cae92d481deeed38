"""Shares of the intersection: they add up to the plain result, and say nothing alone."""

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from atoll.core.channel import Channel
from atoll.core.errors import InputError, ProtocolError
from atoll.crypto import cuckoo, okvs
from atoll.crypto.random import Rng
from atoll.protocols import circuit_intersection as circuit
from atoll.protocols import vole_oprf, word_equality
from atoll.protocols.circuit_intersection import Shared
from atoll.testing import ProtocolCheck, check_protocol, recorded_pair, run_pair, seeded_rng
from atoll.transport.memory import memory_pair
from tests.protocols.test_word_equality import dealt

CONTEXT = ("job 1", "phone")


def ids(lo: int, hi: int) -> list[bytes]:
    return [b"id-%d" % i for i in range(lo, hi)]


def values(n: int, w: int = 1, seed: int = 0) -> np.ndarray:
    return seeded_rng(seed).u64(n, w).view(np.int64)


def play(x: Sequence[bytes], y: Sequence[bytes], v: np.ndarray, seed: int = 1) -> tuple[Shared, Shared, list[Any]]:
    a, b, transcript = recorded_pair(allowed=circuit.PROTOCOL.kinds)
    mine, theirs = run_pair(
        circuit.receiver(a, x, v.shape[1], rng=seeded_rng(seed), context=CONTEXT),
        circuit.sender(b, y, v, rng=seeded_rng(seed + 1), context=CONTEXT),
    )
    return mine, theirs, transcript


def check(x: Sequence[bytes], y: Sequence[bytes], v: np.ndarray) -> None:
    mine, theirs, _ = play(x, y, v)
    at = {item: i for i, item in enumerate(y)}
    assert mine.rows is not None
    assert theirs.rows is None
    assert sorted(mine.rows[mine.rows >= 0]) == list(range(len(x)))
    where = [at.get(x[row], -1) if row >= 0 else -1 for row in mine.rows]
    common = np.array(where) >= 0
    assert np.array_equal(mine.bits ^ theirs.bits, common)
    assert np.array_equal(mine.members + theirs.members, common.astype(np.uint64))
    want = np.zeros((len(where), v.shape[1]), np.int64)
    want[common] = v[np.array(where)[common]]
    assert np.array_equal((mine.values + theirs.values).view(np.int64), want)


@pytest.mark.parametrize(
    ("x", "y", "w"),
    [
        (ids(0, 40), ids(20, 90), 1),
        (ids(0, 300), ids(299, 400), 0),
        (ids(0, 7), ids(0, 7), 5),
        (ids(0, 9), ids(9, 18), 2),
        (ids(0, 1), ids(0, 1), 1),
        ([], ids(0, 5), 1),
        (ids(0, 5), [], 1),
        ([], [], 0),
        (["顾客".encode(), b"", b"\0", b"a" * 400], [b"\0", b"\0\0", "顾客".encode()], 1),
    ],
    ids=["some", "no values", "all", "none", "one", "no receiver ids", "no sender ids", "nothing", "ugly"],
)
def test_shares_add_up_to_the_plain_result(x: list[bytes], y: list[bytes], w: int) -> None:
    check(x, y, values(len(y), w))


def test_several_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(circuit, "CHUNK", 50)
    check(ids(0, 30), ids(10, 50), values(40, 3))


def test_conformance(monkeypatch: pytest.MonkeyPatch) -> None:
    async def leader(peer: Channel, *, rng: Rng) -> Any:
        return dealt(7)[0]

    async def follower(peer: Channel, *, rng: Rng) -> Any:
        return dealt(7)[1]

    monkeypatch.setattr(word_equality, "lead", leader)
    monkeypatch.setattr(word_equality, "follow", follower)
    monkeypatch.setattr(cuckoo, "SPARE", 20)

    async def first(peer: Channel, case: Any, rng: Rng) -> Any:
        got = await circuit.receiver(peer, case[0], case[2].shape[1], rng=rng)
        return got.values.shape

    async def second(peer: Channel, case: Any, rng: Rng) -> Any:
        return (await circuit.sender(peer, case[1], case[2], rng=rng)).values.shape

    def cost(case: Any) -> float:
        nx, ny, w = len(case[0]), len(case[1]), case[2].shape[1]
        bins = 3 * cuckoo.third(nx)
        stores = 8 * okvs.Shape(max(nx, 1)).words + 8 * (w + 1) * okvs.Shape(max(3 * ny, 1)).words
        return 340_000 + stores + (2_100 + 48 + 16 * (w + 1)) * (bins + 64)

    check_protocol(
        ProtocolCheck(
            protocol=circuit.PROTOCOL,
            cases=[(ids(0, 3), ids(1, 5), values(4, 2))],
            first=first,
            second=second,
            reference=lambda case: ((3 * cuckoo.third(len(case[0])), case[2].shape[1]),) * 2,
            max_bytes=cost,
            patience=0.1,
        )
    )


def looks_uniform(words: np.ndarray) -> bool:
    bits = np.unpackbits(np.ascontiguousarray(words).view(np.uint8)).astype(float)
    return bool(abs(bits.mean() - 0.5) < 5 * 0.5 / np.sqrt(bits.size)) and len(np.unique(words)) == words.size


def test_shares_alone_are_noise_and_two_worlds_look_alike() -> None:
    """All common, or none: both sides see the same sizes, and each one's shares look uniform."""
    x, v = ids(0, 300), np.zeros((300, 2), np.int64)
    worlds = [play(x, y, v) for y in (ids(0, 300), ids(300, 600))]
    sizes = [[(f.sender, f.kind, len(f.payload)) for f in transcript] for _, _, transcript in worlds]
    assert sizes[0] == sizes[1]
    for mine, theirs, _ in worlds:
        for side in (mine, theirs):
            assert looks_uniform(side.values)
            assert looks_uniform(side.members)
            assert abs(side.bits.mean() - 0.5) < 5 * 0.5 / np.sqrt(len(side.bits))


def seen_by_the_receiver(x: list[bytes], y: list[bytes]) -> np.ndarray:
    """What the receiver reads from the store in its bins, (bins, 1 + w)."""
    seen: list[np.ndarray] = []

    async def watching(peer: Channel, words: np.ndarray, transfers: Any) -> np.ndarray:
        seen.append(words)
        return await circuit._equal(peer, words, transfers)

    a, b = memory_pair(timeout=5.0)
    run_pair(
        circuit.receiver(a, x, 1, rng=seeded_rng(1), equal=watching),
        circuit.sender(b, y, np.zeros((len(y), 1), np.int64), rng=seeded_rng(2)),
    )
    return seen[0]


def test_the_receiver_cannot_tell_a_member_s_bin() -> None:
    assert looks_uniform(seen_by_the_receiver(ids(0, 300), ids(0, 300)))


def test_a_mutant_whose_bins_have_no_value_of_their_own_shows_members(monkeypatch: pytest.MonkeyPatch) -> None:
    class NoDrawing(Rng):
        def u64(self, *shape: int) -> np.ndarray:
            return np.zeros(shape, np.uint64) if shape == (3 * cuckoo.third(300), 2) else super().u64(*shape)

    play_sender = circuit.sender
    monkeypatch.setattr(
        circuit, "sender", lambda *args, rng, **options: play_sender(*args, rng=NoDrawing(rng.bytes(32)), **options)
    )
    seen = seen_by_the_receiver(ids(0, 300), ids(0, 100))
    assert (seen == 0).sum() == 100


@pytest.mark.parametrize("at", ["receiver", "sender"])
def test_duplicates_are_refused(at: str) -> None:
    a, b = memory_pair(timeout=1.0)
    twice, good = [b"x", b"y", b"x"], ids(0, 3)
    with pytest.raises(InputError, match="1 of 3 ids are duplicates"):
        run_pair(
            circuit.receiver(a, twice if at == "receiver" else good, rng=seeded_rng(1)),
            circuit.sender(b, twice if at == "sender" else good, rng=seeded_rng(2)),
        )


@pytest.mark.parametrize(
    "v", [np.zeros((2, 1), np.int64), np.zeros(3, np.int64), np.zeros((3, 1)), np.zeros((3, 65), np.int64)]
)
def test_wrong_values_are_refused(v: Any) -> None:
    _, b = memory_pair(timeout=1.0)
    with pytest.raises(InputError):
        circuit.sender(b, ids(0, 3), v, rng=seeded_rng(1)).send(None)


def test_sites_that_differ_in_columns_are_refused() -> None:
    a, b = memory_pair(timeout=1.0)
    with pytest.raises(ProtocolError, match="different jobs"):
        run_pair(
            circuit.receiver(a, ids(0, 3), 1, rng=seeded_rng(1)),
            circuit.sender(b, ids(0, 3), values(3, 2), rng=seeded_rng(2)),
        )


@pytest.mark.parametrize("size", [-3, 3 * circuit.LARGEST + 1, 1 << 60])
def test_sizes_out_of_range_are_refused(size: int) -> None:
    async def liar(peer: Channel) -> None:
        await peer.recv(circuit.Bins)
        opening = await peer.recv(vole_oprf.Opening)
        await peer.send(vole_oprf.Opening(size, opening.context, b""))

    a, b = memory_pair(timeout=1.0)
    with pytest.raises(ProtocolError, match="ids, at most"):
        run_pair(circuit.receiver(a, ids(0, 3), rng=seeded_rng(1)), liar(b))


@pytest.mark.parametrize("what", ["key", "seed", "words"])
def test_peers_with_wrong_messages(what: str) -> None:
    async def lying_sender(peer: Channel) -> None:
        await peer.recv(circuit.Bins)
        await vole_oprf.sender(peer, ids(0, 6), rng=seeded_rng(2), context=("shares", "0"))
        words = np.zeros((okvs.Shape(6).words + (what == "words"), 1), np.uint64)
        await peer.send(circuit.Programmed(bytes(17 if what == "seed" else 16), words))

    async def lying_receiver(peer: Channel) -> None:
        await peer.send(circuit.Bins(bytes(15)))

    a, b = memory_pair(timeout=1.0)
    if what == "key":
        roles = lying_receiver(a), circuit.sender(b, ids(0, 3), rng=seeded_rng(1))
    else:
        roles = circuit.receiver(a, ids(0, 3), rng=seeded_rng(1)), lying_sender(b)
    with pytest.raises(ProtocolError, match={"key": "a key of 15", "seed": "a seed of 17", "words": "has shape"}[what]):
        run_pair(*roles)


def test_frozen_vectors() -> None:
    mine, _, transcript = play(ids(0, 5), ids(2, 9), values(7))
    sent = [hashlib.sha256(f.payload).hexdigest()[:16] for f in transcript if f.kind.endswith(".Programmed")]
    assert (sent, hashlib.sha256(mine.values.tobytes()).hexdigest()[:16]) == FROZEN


FROZEN: Any = (["4b2012aab8b25114"], "ba465f59b4c9b020")
