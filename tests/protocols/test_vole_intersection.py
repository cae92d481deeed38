"""Intersection by silent vector OLE: equals plain sets, hides the rest, and survives hostile peers."""

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from atoll.core.channel import Channel
from atoll.core.errors import InputError, ProtocolError
from atoll.crypto import okvs
from atoll.crypto.random import Rng
from atoll.protocols import intersection_result as result
from atoll.protocols import oblivious_transfer, silent_vole
from atoll.protocols import vole_intersection as psi
from atoll.protocols import vole_oprf as oprf
from atoll.protocols.intersection_result import Matches, Shuffled
from atoll.testing import ProtocolCheck, check_protocol, recorded_pair, run_pair, seeded_rng
from atoll.transport.memory import memory_pair

CONTEXT = ("job 1", "phone")
Case = tuple[list[bytes], list[bytes]]


def ids(lo: int, hi: int) -> list[bytes]:
    return [b"id-%d" % i for i in range(lo, hi)]


def play(x: Sequence[bytes], y: Sequence[bytes], seed: int = 1) -> tuple[Matches, Shuffled, list[Any]]:
    a, b, transcript = recorded_pair(allowed=psi.PROTOCOL.kinds)
    matches, shuffled = run_pair(
        psi.receiver(a, x, rng=seeded_rng(seed), context=CONTEXT),
        psi.sender(b, y, rng=seeded_rng(seed + 1), context=CONTEXT),
    )
    return matches, shuffled, transcript


def test_conformance() -> None:
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
        return 8 * okvs.Shape(max(nx, 1)).words + 12 * ny + 8 * min(nx, ny) + 550_000

    check_protocol(
        ProtocolCheck(
            protocol=psi.PROTOCOL,
            cases=[
                (ids(0, 6), ids(3, 8)),
                ([], ids(0, 3)),
                (ids(0, 3), []),
                ([b"", b"\x00", b"a" * 500], [b"\x00", b"\x00\x00", "顾客".encode()]),
            ],
            first=first,
            second=second,
            reference=lambda case: (set(case[0]) & set(case[1]),) * 2,
            max_bytes=cost,
        )
    )


@pytest.mark.parametrize("sizes", [(1, 1), (1, 300), (300, 1), (5000, 700), (700, 5000)])
def test_matches_name_places(sizes: tuple[int, int]) -> None:
    nx, ny = sizes
    x, y = ids(0, nx), ids(nx // 2, nx // 2 + ny)
    matches, shuffled, _ = play(x, y)
    assert [x[i] for i in matches.mine] == [y[i] for i in shuffled.order[matches.theirs]]
    assert {x[i] for i in matches.mine} == set(x) & set(y)
    assert matches.mine.tolist() == sorted(matches.mine.tolist())
    assert np.array_equal(np.sort(shuffled.order), np.arange(ny))


def test_wide_words_and_several_bins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(oprf, "NARROW", 100)
    monkeypatch.setattr(okvs, "BIN", 256)
    x, y = ids(0, 1500), ids(1000, 1600)
    matches, shuffled, transcript = play(x, y)
    assert [x[i] for i in matches.mine] == [y[i] for i in shuffled.order[matches.theirs]]
    assert len(matches.mine) == 500
    encoded = next(frame for frame in transcript if b"Encoded" in frame.header)
    assert len(encoded.payload) == 16 * okvs.Shape(1500).words


def test_duplicates_are_refused() -> None:
    a, b = memory_pair(timeout=2.0)
    with pytest.raises(InputError, match="1 of 3 ids are duplicates"):
        run_pair(psi.receiver(a, [b"x", b"y", b"x"], rng=seeded_rng(1)), psi.sender(b, ids(0, 3), rng=seeded_rng(2)))
    a, b = memory_pair(timeout=2.0)
    with pytest.raises(InputError, match="duplicates"):
        run_pair(psi.receiver(a, ids(0, 3), rng=seeded_rng(1)), psi.sender(b, [b"x", b"x"], rng=seeded_rng(2)))


def test_sites_that_compare_other_columns_are_refused() -> None:
    a, b = memory_pair(timeout=2.0)
    with pytest.raises(ProtocolError, match="different jobs or columns"):
        run_pair(
            psi.receiver(a, ids(0, 3), rng=seeded_rng(1), context=("job", "phone")),
            psi.sender(b, ids(0, 3), rng=seeded_rng(2), context=("job", "e-mail")),
        )


def test_two_worlds_look_alike() -> None:
    """Other ids of the same number: same sizes for both sides, and nothing that repeats."""
    y = ids(0, 50)
    worlds = [play(x, y, seed)[2] for seed, x in ((1, ids(0, 400)), (7, ids(1000, 1400)))]
    assert [(f.sender, len(f.header), len(f.payload)) for f in worlds[0]] == [
        (f.sender, len(f.header), len(f.payload)) for f in worlds[1]
    ]
    for one, two in zip(*worlds, strict=True):
        if len(one.payload) > 64:
            assert one.payload[:64] != two.payload[:64]


def test_what_the_receiver_encodes_looks_uniform() -> None:
    """Words that no key needs are zero in P; after A is added none is, and no word repeats."""
    _, _, transcript = play(ids(0, 3000), ids(0, 10))
    words = np.frombuffer(next(f for f in transcript if b"Encoded" in f.header).payload, np.uint64)
    assert len(np.unique(words)) == len(words)
    bits = np.unpackbits(words.view(np.uint8)).astype(float)
    assert abs(bits.mean() - 0.5) < 5 * 0.5 / np.sqrt(bits.size)


def test_a_mutant_that_forgets_the_mask_shows_which_words_are_empty(monkeypatch: pytest.MonkeyPatch) -> None:
    fold = silent_vole._fold

    def mutant(*args: Any) -> silent_vole.Received:
        got = fold(*args)
        got.a[:] = 0
        return got

    monkeypatch.setattr(silent_vole, "_fold", mutant)
    _, _, transcript = play(ids(0, 3000), ids(0, 10))
    words = np.frombuffer(next(f for f in transcript if b"Encoded" in f.header).payload, np.uint64)
    assert (words == 0).sum() > 100


def test_ids_that_are_not_common_have_tags_that_mean_nothing() -> None:
    """The same id of the sender has another tag in another run, and no tag equals one of the receiver's other ids."""
    tags = []
    for seed in (1, 5):
        matches, shuffled, transcript = play(ids(0, 100), ids(90, 200), seed)
        sent = np.frombuffer(transcript[-1].payload, np.uint8).reshape(110, 10)
        tags.append({row.tobytes() for row in sent[np.argsort(shuffled.order)]})
        assert len(matches.mine) == 10
    assert not tags[0] & tags[1]


async def opened(peer: Channel, size: int, context: bytes | None = None) -> None:
    await peer.recv(oprf.Opening)
    await peer.send(oprf.Opening(size, result.context_hash(()) if context is None else context, b""))


@pytest.mark.parametrize("size", [-1, psi.LARGEST + 1, 1 << 62])
def test_sizes_out_of_range_are_refused(size: int) -> None:
    a, b = memory_pair(timeout=2.0)
    with pytest.raises(ProtocolError, match="ids, at most"):
        run_pair(psi.receiver(a, ids(0, 3), rng=seeded_rng(1)), opened(b, size))


@pytest.mark.parametrize("what", ["rows", "width", "twice"])
def test_a_sender_with_wrong_tags(what: str) -> None:
    x = ids(0, 20)

    async def liar(peer: Channel) -> None:
        await opened(peer, 4)
        transfers = await oblivious_transfer.setup_sender(peer, rng=seeded_rng(3))
        shape = okvs.Shape(20)
        kept = await silent_vole.sender(peer, shape.words, words=1, ot=transfers, rng=seeded_rng(4))
        await peer.recv(oprf.Encoded, words=(shape.words, 1))
        assert kept.k.shape == (shape.words, 2)
        tags = np.zeros((5 if what == "rows" else 4, 9 if what == "width" else 10), np.uint8)
        await peer.send(psi.Tags(tags))

    a, b = memory_pair(timeout=2.0)
    if what == "twice":
        with pytest.raises(ProtocolError, match="more than once"):
            run_pair(psi.receiver(a, x, rng=seeded_rng(1)), _repeating(b, x[3]))
        return
    with pytest.raises(ProtocolError):
        run_pair(psi.receiver(a, x, rng=seeded_rng(1)), liar(b))


async def _repeating(peer: Channel, item: bytes) -> None:
    """An honest sender of one id, but for that it sends its tag twice."""
    opening = await peer.recv(oprf.Opening)
    await peer.send(oprf.Opening(2, opening.context, b""))
    public, shape = oprf._Public.of(opening.seed, opening.context), okvs.Shape(opening.size)
    transfers = await oblivious_transfer.setup_sender(peer, rng=seeded_rng(3))
    kept = await silent_vole.sender(peer, shape.words, words=1, ot=transfers, rng=seeded_rng(4))
    found = oprf._placed([item], public, shape, False)
    encoded = await peer.recv(oprf.Encoded, words=(shape.words, 1))
    tag = oprf._hashed(found, oprf._evaluate(found.places, encoded.words, kept), public, bytes(16))
    await peer.send(psi.Tags(psi._cut(np.concatenate((tag, tag)), np.arange(2), 10)))


@pytest.mark.parametrize("seed", [b"", bytes(15), bytes(17)])
def test_a_receiver_with_a_wrong_seed(seed: bytes) -> None:
    async def liar(peer: Channel) -> None:
        await peer.send(oprf.Opening(3, result.context_hash(()), seed))

    a, b = memory_pair(timeout=2.0)
    with pytest.raises(ProtocolError, match="a seed of"):
        run_pair(liar(a), psi.sender(b, ids(0, 3), rng=seeded_rng(1)))


def test_an_encoding_of_another_size_is_refused() -> None:
    async def liar(peer: Channel) -> None:
        await peer.send(oprf.Opening(3, result.context_hash(()), bytes(16)))
        await peer.recv(oprf.Opening)
        transfers = await oblivious_transfer.setup_receiver(peer, rng=seeded_rng(3))
        words = okvs.Shape(3).words
        await silent_vole.receiver(peer, words, words=1, ot=transfers, rng=seeded_rng(4))
        await peer.send(oprf.Encoded(np.zeros((words - 1, 1), np.uint64)))

    a, b = memory_pair(timeout=2.0)
    with pytest.raises(ProtocolError):
        run_pair(liar(a), psi.sender(b, ids(0, 3), rng=seeded_rng(1)))


def test_frozen_vectors() -> None:
    matches, shuffled, transcript = play(ids(0, 5), ids(3, 9))
    digests = [hashlib.sha256(frame.payload).hexdigest()[:16] for frame in transcript[-2:]]
    assert digests == FROZEN["transcript"]
    assert (matches.theirs.tolist(), shuffled.order.tolist()) == (FROZEN["theirs"], FROZEN["order"])


FROZEN: dict[str, Any] = {
    "transcript": ["ebbd1f50135d25d9", "6caceb988a573a2d"],
    "theirs": [1, 0],
    "order": [1, 0, 5, 2, 4, 3],
}


@pytest.mark.parametrize("width", range(10, 17))
@pytest.mark.parametrize("n", [0, 1, 2, 3, 100])
def test_tags_are_cut_without_gaps(n: int, width: int) -> None:
    tags, order = seeded_rng(n).u64(n, 2), seeded_rng(width).permutation(n)
    want = tags[order].view(np.uint8).reshape(n, 16)[:, :width]
    assert np.array_equal(psi._cut(tags, order, width), want)
    assert np.array_equal(psi._widen(psi._cut(tags, order, width)).view(np.uint8)[:, :width], want)
