"""The number of common ids, and nothing that names them."""

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from atoll.core.channel import Channel
from atoll.core.errors import InputError, ProtocolError
from atoll.crypto import ristretto
from atoll.crypto.random import Rng
from atoll.protocols import intersection_result
from atoll.protocols import intersection_size as size
from atoll.testing import ProtocolCheck, check_protocol, recorded_pair, run_pair, seeded_rng
from atoll.transport.memory import memory_pair

CONTEXT = ("job 1", "phone")
Case = tuple[list[bytes], list[bytes]]


def ids(lo: int, hi: int) -> list[bytes]:
    return [b"id-%d" % i for i in range(lo, hi)]


def play(x: Sequence[bytes], y: Sequence[bytes], seed: int = 1) -> tuple[int, list[Any]]:
    a, b, transcript = recorded_pair(allowed=size.PROTOCOL.kinds)
    mine, theirs = run_pair(
        size.receiver(a, x, rng=seeded_rng(seed), context=CONTEXT),
        size.sender(b, y, rng=seeded_rng(seed + 1), context=CONTEXT),
    )
    assert mine == theirs
    return mine, transcript


def test_conformance(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(size, "ROUND", 4)

    async def first(peer: Channel, case: Case, rng: Rng) -> int:
        return await size.receiver(peer, case[0], rng=rng, context=CONTEXT)

    async def second(peer: Channel, case: Case, rng: Rng) -> int:
        return await size.sender(peer, case[1], rng=rng, context=CONTEXT)

    def cost(case: Case) -> float:
        nx, ny = map(len, case)
        return 32 * (nx + ny) + 13 * nx + 300 * (-(-max(nx, ny, 1) // 4)) + 700

    check_protocol(
        ProtocolCheck(
            protocol=size.PROTOCOL,
            cases=[
                (ids(0, 6), ids(3, 8)),
                (ids(0, 1), ids(0, 1)),
                ([], ids(0, 3)),
                (ids(0, 3), []),
                ([], []),
                (ids(0, 13), ids(12, 14)),
                (ids(0, 9), ids(9, 18)),
                ([b"", b"\0", b"a" * 500], [b"\0", b"\0\0", "顾客".encode()]),
            ],
            first=first,
            second=second,
            reference=lambda case: (len(set(case[0]) & set(case[1])),) * 2,
            max_bytes=cost,
        )
    )


def test_several_rounds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(size, "ROUND", 64)
    assert play(ids(0, 300), ids(250, 380))[0] == 50


def linked(x: list[bytes], y: list[bytes], transcript: list[Any], a: bytes, order: np.ndarray) -> list[bytes]:
    """What a receiver finds that takes the doubled tags for answers in its own order: its ids that match, it thinks."""
    own = np.concatenate([np.frombuffer(f.payload, np.uint8) for f in transcript if f.kind.endswith(".Own")])
    points = ristretto.multiply(own.reshape(-1, 32), a)
    width = intersection_result.tag_bytes(len(x), len(y))
    theirs = {point[1 : 1 + width].tobytes() for point in points}
    doubled = next(np.frombuffer(f.payload, np.uint8) for f in transcript if f.kind.endswith(".Doubled"))
    return [x[order[i]] for i, tag in enumerate(doubled.reshape(-1, width)) if tag.tobytes() in theirs]


def attack() -> float:
    """How many of the ids that the attack names are common, of 20 in 400."""
    x, y = ids(0, 400), ids(380, 500)
    seed = 3
    _, transcript = play(x, y, seed)
    rng = seeded_rng(seed)
    a, order = ristretto.random_scalar(rng), rng.permutation(400)
    named = linked(x, y, transcript, a, order)
    assert len(named) == 20
    return len(set(named) & set(y)) / 20


def test_the_receiver_cannot_tell_which_ids_are_common() -> None:
    assert attack() < 0.3


def test_a_mutant_that_does_not_shuffle_shows_which_ids_are_common(monkeypatch: pytest.MonkeyPatch) -> None:
    class NoShuffle(Rng):
        def permutation(self, n: int) -> np.ndarray:
            return np.arange(n)

    offer = size.offer
    monkeypatch.setattr(
        size, "offer", lambda *args, rng, **options: offer(*args, rng=NoShuffle(rng.bytes(32)), **options)
    )
    assert attack() == 1.0


def test_two_worlds_with_the_same_number_look_alike() -> None:
    worlds = [play(x, ids(80, 180), seed)[1] for x, seed in ((ids(0, 100), 1), (ids(160, 260), 5))]
    assert [(f.sender, f.kind, len(f.header), len(f.payload)) for f in worlds[0]] == [
        (f.sender, f.kind, len(f.header), len(f.payload)) for f in worlds[1]
    ]
    for one, two in zip(*worlds, strict=True):
        if one.payload:
            assert one.payload[:8] != two.payload[:8]


def test_duplicates_are_refused() -> None:
    for x, y in (([b"x", b"x"], ids(0, 3)), (ids(0, 3), [b"x", b"x"])):
        a, b = memory_pair(timeout=1.0)
        with pytest.raises(InputError, match="1 of 2 ids are duplicates"):
            run_pair(size.receiver(a, x, rng=seeded_rng(1)), size.sender(b, y, rng=seeded_rng(2)))


def test_sites_that_compare_other_columns_are_refused() -> None:
    a, b = memory_pair(timeout=1.0)
    with pytest.raises(ProtocolError, match="different jobs"):
        run_pair(
            size.receiver(a, ids(0, 3), rng=seeded_rng(1), context=("a",)),
            size.sender(b, ids(0, 3), rng=seeded_rng(2), context=("b",)),
        )


@pytest.mark.parametrize("n", [-1, size.LARGEST + 1, 1 << 60])
def test_sizes_out_of_range_are_refused(n: int) -> None:
    async def liar(peer: Channel) -> None:
        opening = await peer.recv(size.Opening)
        await peer.send(size.Opening(n, opening.context))

    a, b = memory_pair(timeout=1.0)
    with pytest.raises(ProtocolError, match="ids, at most"):
        run_pair(size.receiver(a, ids(0, 3), rng=seeded_rng(1)), liar(b))


@pytest.mark.parametrize(
    ("points", "words"),
    [
        (lambda p: np.zeros_like(p), "not a point"),
        (lambda p: np.full_like(p, 255), "not a point"),
        (lambda p: p[[0, 0, 1]], "more than once"),
        (lambda p: p[:2], "has shape"),
        (lambda p: p[:, :31], "has shape"),
    ],
)
def test_peers_with_wrong_points(points: Any, words: str) -> None:
    good = ristretto.random_points(3, seeded_rng(4))

    async def lying_sender(peer: Channel) -> None:
        opening = await peer.recv(size.Opening)
        await peer.send(size.Opening(3, opening.context))
        await peer.recv(size.Masked, points=(3, 32))
        await peer.send(size.Own(points(good)))
        await peer.send(size.Doubled(seeded_rng(1).u8(3, 10)))

    async def lying_receiver(peer: Channel) -> None:
        await peer.send(size.Opening(3, size._domain(())))
        await peer.recv(size.Opening)
        await peer.send(size.Masked(points(good)))
        await peer.recv(size.Own, points=(3, 32))
        await peer.recv(size.Doubled, tags=(3, 10))

    a, b = memory_pair(timeout=1.0)
    with pytest.raises(ProtocolError, match=words):
        run_pair(size.receiver(a, ids(0, 3), rng=seeded_rng(1)), lying_sender(b))
    a, b = memory_pair(timeout=1.0)
    with pytest.raises(ProtocolError, match=words):
        run_pair(lying_receiver(a), size.sender(b, ids(0, 3), rng=seeded_rng(1)))


def test_repeated_tags_are_refused() -> None:
    async def liar(peer: Channel) -> None:
        opening = await peer.recv(size.Opening)
        await peer.send(size.Opening(1, opening.context))
        await peer.recv(size.Masked, points=(3, 32))
        await peer.send(size.Own(ristretto.random_points(1, seeded_rng(4))))
        await peer.send(size.Doubled(np.zeros((3, 10), np.uint8)))

    a, b = memory_pair(timeout=1.0)
    with pytest.raises(ProtocolError, match="more than once"):
        run_pair(size.receiver(a, ids(0, 3), rng=seeded_rng(1)), liar(b))


@pytest.mark.parametrize("common", [-1, 4, 1 << 60])
def test_impossible_numbers_are_refused(common: int) -> None:
    a, b = memory_pair(timeout=1.0)

    async def tell() -> None:
        await a.send(size.Count(common))

    with pytest.raises(ProtocolError, match="counts"):
        run_pair(tell(), size.learn(b, 3, 9))


def test_frozen_vectors() -> None:
    _, transcript = play(ids(0, 5), ids(3, 9))
    digest = hashlib.sha256(b"".join(frame.payload for frame in transcript)).hexdigest()[:16]
    assert digest == FROZEN


FROZEN = "63196f8071c605e4"
