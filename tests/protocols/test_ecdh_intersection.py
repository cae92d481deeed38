"""Diffie-Hellman intersection: equals plain sets, hides orders and the rest, and survives hostile peers."""

import asyncio
import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from atoll.core.channel import Channel
from atoll.core.errors import AtollError, InputError, ProtocolError
from atoll.crypto import ristretto
from atoll.crypto.random import Rng
from atoll.protocols import ecdh_intersection as ecdh
from atoll.protocols import intersection_result as result
from atoll.protocols.intersection_result import Matches, Shuffled
from atoll.testing import ProtocolCheck, check_protocol, end_pair, recorded_pair, run_pair, seeded_rng
from atoll.transport.memory import memory_pair

CONTEXT = ("job 1", "phone")
Case = tuple[list[bytes], list[bytes]]


def ids(lo: int, hi: int) -> list[bytes]:
    return [b"id-%d" % i for i in range(lo, hi)]


def play(x: Sequence[bytes], y: Sequence[bytes], seed: int = 1) -> tuple[Matches, Shuffled, list[Any]]:
    a, b, transcript = recorded_pair(allowed=ecdh.PROTOCOL.kinds)
    matches, shuffled = run_pair(
        ecdh.receiver(a, x, rng=seeded_rng(seed), context=CONTEXT),
        ecdh.sender(b, y, rng=seeded_rng(seed + 1), context=CONTEXT),
    )
    return matches, shuffled, transcript


def test_conformance(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ecdh, "ROUND", 4)

    async def first(peer: Channel, case: Case, rng: Rng) -> Any:
        matches = await ecdh.receiver(peer, case[0], rng=rng, context=CONTEXT)
        rows, (positions,) = result.common_rows([matches], rng)
        await result.announce(peer, positions)
        return {case[0][i] for i in rows}

    async def second(peer: Channel, case: Case, rng: Rng) -> Any:
        shuffled = await ecdh.sender(peer, case[1], rng=rng, context=CONTEXT)
        return {case[1][i] for i in await result.learn(peer, shuffled.order)}

    def cost(case: Case) -> float:
        nx, ny = map(len, case)
        rounds = -(-max(nx, ny, 1) // 4)
        return 32 * (nx + ny) + 13 * nx + 400 * (rounds + 1) + 8 * min(nx, ny) + 300

    check_protocol(
        ProtocolCheck(
            protocol=ecdh.PROTOCOL,
            cases=[
                (ids(0, 6), ids(3, 8)),
                (ids(0, 1), ids(0, 1)),
                ([], ids(0, 3)),
                (ids(0, 3), []),
                ([], []),
                (ids(0, 13), ids(12, 14)),
                ([b"", b"\x00", b"a" * 500], [b"\x00", b"\x00\x00"]),
            ],
            first=first,
            second=second,
            reference=lambda case: (set(case[0]) & set(case[1]),) * 2,
            max_bytes=cost,
        )
    )


def test_matches_name_places_over_several_rounds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ecdh, "ROUND", 64)
    x, y = ids(0, 300), ids(200, 330)
    matches, shuffled, _ = play(x, y)
    assert [x[i] for i in matches.mine] == [y[i] for i in shuffled.order[matches.theirs]]
    assert matches.mine.tolist() == list(range(200, 300))
    assert np.array_equal(np.sort(shuffled.order), np.arange(130))


def test_frozen_vectors() -> None:
    matches, shuffled, transcript = play(ids(0, 5), ids(3, 9))
    digests = [hashlib.sha256(frame.payload).hexdigest()[:16] for frame in transcript]
    assert digests == FROZEN["transcript"]
    assert (matches.theirs.tolist(), shuffled.order.tolist()) == (FROZEN["theirs"], FROZEN["order"])


FROZEN: dict[str, Any] = {
    "transcript": ["e3b0c44298fc1c14", "e3b0c44298fc1c14", "8e622b2077b635db", "25b62d3985888de1", "acfa17696fceab2d"],
    "theirs": [3, 5],
    "order": [4, 2, 5, 0, 3, 1],
}


def test_a_star_of_two_senders_ends_in_one_common_order(monkeypatch: pytest.MonkeyPatch) -> None:
    x, ys = ids(0, 40), [ids(10, 60), ids(0, 30)[::-1]]

    seen: list[tuple[int, int]] = []

    async def centre(one: Channel, two: Channel) -> list[bytes]:
        peers = {"one": one, "two": two}
        matches = await ecdh.receive_from_all(
            peers, x, rng=seeded_rng(1), progress=lambda done, total: seen.append((done, total))
        )
        assert {name: len(match.mine) for name, match in matches.items()} == {"one": 30, "two": 30}
        rows, positions = result.common_rows(list(matches.values()), seeded_rng(5))
        for peer, told in zip((one, two), positions, strict=True):
            await result.announce(peer, told)
        return [x[i] for i in rows]

    async def leaves(one: Channel, two: Channel) -> list[list[bytes]]:
        orders = await asyncio.gather(
            *(ecdh.sender(peer, y, rng=seeded_rng(7)) for peer, y in zip((one, two), ys, strict=True))
        )
        return [
            [y[i] for i in await result.learn(peer, shuffled.order)]
            for peer, y, shuffled in zip((one, two), ys, orders, strict=True)
        ]

    monkeypatch.setattr(ecdh, "ROUND", 16)
    (a1, b1), (a2, b2) = memory_pair(), memory_pair()
    rows, others = run_pair(centre(a1, a2), leaves(b1, b2))
    assert rows == others[0] == others[1]
    assert sorted(rows) == sorted(ids(10, 30))
    assert rows != sorted(rows, key=x.index)  # the order says nothing of the receiver's
    assert seen[-1] == (90, 90)


def test_one_failing_sender_ends_the_star() -> None:
    async def hostile(peer: Channel) -> None:
        await peer.recv(ecdh.Opening)
        await peer.send(ecdh.Opening(-1, ecdh._domain(())))

    (a1, b1), (a2, _) = memory_pair(), memory_pair()
    centre = ecdh.receive_from_all({"one": a1, "two": a2}, ids(0, 3), rng=seeded_rng(1))
    ends = end_pair(centre, hostile(b1))
    assert "ids, at most" in str(ends[0])


def test_two_worlds_look_alike_to_the_sender() -> None:
    """What the sender sees of other ids of the same number: same sizes, no common point, uniform bytes."""
    y = ids(0, 50)
    worlds = [play(x, y)[2] for x in (ids(0, 400), ids(1000, 1400))]
    seen = [[frame for frame in world if frame.sender == "a"] for world in worlds]
    assert [len(f.header + f.payload) for f in seen[0]] == [len(f.header + f.payload) for f in seen[1]]
    assert worlds[0][0].header == worlds[1][0].header
    points = [np.frombuffer(frames[1].payload, np.uint8).reshape(-1, 32) for frames in seen]
    assert not {p.tobytes() for p in points[0]} & {p.tobytes() for p in points[1]}
    for world in points:
        bits = np.unpackbits(world[:, 1:31])
        assert abs(bits.mean() - 0.5) < 0.01


def test_two_worlds_look_alike_to_the_receiver() -> None:
    """The same intersection with other remaining ids: same sizes, and what does not match is uniform."""
    x = ids(0, 60)
    worlds = [play(x, ids(40, 60) + rest)[2] for rest in (ids(100, 180), ids(500, 580))]
    seen = [[frame for frame in world if frame.sender == "b"] for world in worlds]
    assert [len(f.header + f.payload) for f in seen[0]] == [len(f.header + f.payload) for f in seen[1]]
    for frames in seen:
        assert abs(np.unpackbits(np.frombuffer(frames[1].payload, np.uint8)).mean() - 0.5) < 0.02


def test_orders_are_hidden() -> None:
    """The first id of a list stands anywhere in what the other side sees, and a new run shows new points."""
    x, y = ids(0, 30), ids(0, 30)
    places, points = set(), set()
    for seed in range(12):
        matches, _, transcript = play(x, y, seed=10 * seed)
        places.add(int(matches.theirs[0]))
        points |= {transcript[i].payload[:32] for i in (2, 3)}
    assert len(places) > 6
    assert len(points) == 24


def test_the_scalar_and_the_domain_are_what_keeps_runs_apart() -> None:
    same = [ristretto.hash_to_points([b"x"], ecdh._domain(context)) for context in (("a", "bc"), ("ab", "c"), ())]
    assert len({point.tobytes() for point in same}) == 3
    assert len({ristretto.random_scalar(seeded_rng(1)) for _ in range(2)}) == 1
    rng = seeded_rng(1)
    assert len({ristretto.random_scalar(rng) for _ in range(9)}) == 9


def test_tags_are_long_enough() -> None:
    for nx, ny in ((1, 1), (10**5, 10**5), (2**20, 2**20), (1, 2**26), (2**32, 2**32)):
        bits = 8 * ecdh._tag_bytes(nx, ny)
        assert bits >= max(80, 40 + np.log2(nx) + np.log2(ny))
        assert bits <= 8 * 16


def test_sites_that_disagree_on_the_job_end_at_once() -> None:
    a, b = memory_pair()
    ends = end_pair(
        stop(ecdh.receiver(a, ids(0, 3), rng=seeded_rng(1), context=("job 1",)), a),
        stop(ecdh.sender(b, ids(0, 3), rng=seeded_rng(2), context=("job 2",)), b),
    )
    assert "different jobs or columns" in str(ends[1])


def test_own_duplicates_are_an_input_error() -> None:
    a, _ = memory_pair()
    for role in (ecdh.receiver, ecdh.sender):
        with pytest.raises(InputError, match="1 of 3 ids are duplicates"):
            role(a, [b"a", b"b", b"a"], rng=seeded_rng(1)).send(None)


def test_progress_counts_to_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ecdh, "ROUND", 10)
    seen: list[tuple[int, int]] = []
    a, b = memory_pair()
    run_pair(
        ecdh.receiver(a, ids(0, 25), rng=seeded_rng(1), progress=lambda done, total: seen.append((done, total))),
        ecdh.sender(b, ids(0, 3), rng=seeded_rng(2)),
    )
    assert seen == [(10, 25), (20, 25), (25, 25)]


def good_points(n: int) -> np.ndarray:
    return ristretto.hash_to_points(ids(0, n), b"hostile")


HOSTILE_POINTS = {
    "identity": bytes(32),
    "not canonical": b"\xff" * 32,
    "negative": b"\x01" + bytes(31),
    "top bit": bytes.fromhex("e2f2ae0a6abc4e71a884a961c500515f58e30b6aa582dd8db6a65945e08d2df6"),
}


@pytest.mark.parametrize("bad", HOSTILE_POINTS.values(), ids=HOSTILE_POINTS)
def test_points_outside_the_group_are_refused(bad: bytes) -> None:
    points = good_points(5)
    points[3] = np.frombuffer(bad, np.uint8)
    for error in against_receiver(points), against_sender(points):
        assert isinstance(error, ProtocolError)
        assert "item 3 is not a point" in str(error)


def test_repeated_points_are_refused() -> None:
    points = good_points(5)
    points[4] = points[1]
    for error in against_receiver(points), against_sender(points):
        assert isinstance(error, ProtocolError)
        assert "more than once" in str(error)


@pytest.mark.parametrize("shape", [(4, 32), (6, 32), (5, 31), (0, 32), (5 * 32,)])
def test_wrong_shapes_are_refused(shape: tuple[int, ...]) -> None:
    for error in against_receiver(np.ones(shape, np.uint8)), against_sender(np.ones(shape, np.uint8)):
        assert isinstance(error, ProtocolError)


@pytest.mark.parametrize("size", [-1, 1 << 27, 1 << 60, -(1 << 60)])
def test_absurd_counts_are_refused_before_any_work(size: int) -> None:
    for error in against_receiver(good_points(1), size), against_sender(good_points(1), size):
        assert isinstance(error, ProtocolError)
        assert "ids, at most" in str(error)


def against_receiver(points: np.ndarray, size: int | None = None) -> Any:
    async def hostile(peer: Channel) -> None:
        opening = await peer.recv(ecdh.Opening)
        await peer.send(ecdh.Opening(5 if size is None else size, opening.context))
        await peer.recv(ecdh.Masked, points=(4, 32))
        await peer.send(ecdh.Own(points))
        await peer.send(ecdh.Doubled(np.zeros((4, 10), np.uint8) + np.arange(4, dtype=np.uint8)[:, None]))

    a, b = memory_pair()
    return end_pair(stop(ecdh.receiver(a, ids(0, 4), rng=seeded_rng(1)), a), stop(hostile(b), b))[0]


def against_sender(points: np.ndarray, size: int | None = None) -> Any:
    async def hostile(peer: Channel) -> None:
        await peer.send(ecdh.Opening(5 if size is None else size, ecdh._domain(())))
        await peer.recv(ecdh.Opening)
        await peer.send(ecdh.Masked(points))
        await peer.recv(ecdh.Own, points=(4, 32))
        await peer.recv(ecdh.Doubled, tags=(5, 10))
        pytest.fail("the sender answered a hostile message")

    a, b = memory_pair()
    return end_pair(stop(ecdh.sender(a, ids(0, 4), rng=seeded_rng(1)), a), stop(hostile(b), b))[0]


async def stop(role: Any, peer: Channel) -> Any:
    """End the link when a role fails, as a session does."""
    try:
        return await role
    except AtollError:
        await peer.link.close()
        raise


@pytest.mark.parametrize("positions", [[5], [-1], [0, 0], [0, 1, 2, 3, 4, 0]])
def test_wrong_results_are_refused(positions: list[int]) -> None:
    a, b = memory_pair()
    told = np.array(positions, np.int64)
    ends = end_pair(result.announce(a, told), result.learn(b, np.arange(5)))
    assert isinstance(ends[1], ProtocolError)


def test_an_empty_result_can_be_announced() -> None:
    a, b = memory_pair()
    _, rows = run_pair(result.announce(a, np.zeros(0, np.int64)), result.learn(b, np.zeros(0, np.int64)))
    assert rows.shape == (0,)
