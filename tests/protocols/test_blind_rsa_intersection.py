"""Intersection by RSA blind signatures: equals plain sets, blinds what it asks for, refuses numbers that do not fit."""

import asyncio
import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from atoll.core.channel import Channel
from atoll.core.errors import AtollError, InputError, ProtocolError
from atoll.crypto.random import Rng
from atoll.protocols import blind_rsa_intersection as blind
from atoll.protocols import intersection_result as result
from atoll.protocols.intersection_result import Matches, Shuffled
from atoll.testing import ProtocolCheck, check_protocol, end_pair, recorded_pair, run_pair, seeded_rng
from atoll.transport.memory import memory_pair
from tests.protocols.rsa_key import P, Q, small_key

CONTEXT = ("job 1", "phone")
Case = tuple[list[bytes], list[bytes]]


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    small_key(monkeypatch)
    monkeypatch.setattr(blind, "ROUND", 4)


def ids(lo: int, hi: int) -> list[bytes]:
    return [b"id-%d" % i for i in range(lo, hi)]


def play(x: Sequence[bytes], y: Sequence[bytes], seed: int = 1) -> tuple[Matches, Shuffled, list[Any]]:
    a, b, transcript = recorded_pair(allowed=blind.PROTOCOL.kinds)
    matches, shuffled = run_pair(
        blind.receiver(a, x, rng=seeded_rng(seed), context=CONTEXT),
        blind.sender(b, y, rng=seeded_rng(seed + 1), context=CONTEXT),
    )
    return matches, shuffled, transcript


def test_conformance() -> None:
    async def first(peer: Channel, case: Case, rng: Rng) -> Any:
        matches = await blind.receiver(peer, case[0], rng=rng, context=CONTEXT)
        rows, (positions,) = result.common_rows([matches], rng)
        await result.announce(peer, positions)
        return {case[0][i] for i in rows}

    async def second(peer: Channel, case: Case, rng: Rng) -> Any:
        shuffled = await blind.sender(peer, case[1], rng=rng, context=CONTEXT)
        return {case[1][i] for i in await result.learn(peer, shuffled.order)}

    def cost(case: Case) -> float:
        nx, ny = map(len, case)
        return 2 * 128 * nx + 13 * ny + 600 * (-(-max(nx, ny, 1) // 4) + 1) + 8 * min(nx, ny)

    check_protocol(
        ProtocolCheck(
            protocol=blind.PROTOCOL,
            cases=[
                (ids(0, 6), ids(3, 8)),
                ([], ids(0, 3)),
                (ids(0, 3), []),
                ([], []),
                ([b"", b"\x00", b"a" * 500], [b"\x00", b"\x00\x00", "顾客".encode()]),
            ],
            first=first,
            second=second,
            reference=lambda case: (set(case[0]) & set(case[1]),) * 2,
            max_bytes=cost,
        )
    )


def test_matches_name_places() -> None:
    x, y = ids(0, 30), ids(20, 45)
    matches, shuffled, _ = play(x, y)
    assert [x[i] for i in matches.mine] == [y[i] for i in shuffled.order[matches.theirs]]
    assert matches.mine.tolist() == list(range(20, 30))


@pytest.mark.slow
def test_keys_of_full_size_are_drawn_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    seen = set()
    for _ in range(2):
        matches, _, transcript = play(ids(0, 3), ids(1, 4))
        assert matches.mine.tolist() == [1, 2]
        seen.add(next(f.payload for f in transcript if f.kind.endswith(".Modulus")))
    assert {len(n) for n in seen} == {384}
    assert len(seen) == 2


def test_two_worlds_look_alike_to_the_sender() -> None:
    """Blinded numbers of other ids: same sizes, none in common, and none even for the same ids in another run."""
    worlds = [play(x, ids(0, 5), seed)[2] for x, seed in ((ids(0, 20), 1), (ids(50, 70), 1), (ids(0, 20), 9))]
    seen = [[f for f in world if f.sender == "a"] for world in worlds]
    assert len({tuple(len(f.header + f.payload) for f in frames) for frames in seen}) == 1
    numbers = [number for frames in seen for f in frames[1:] for number in np.split(np.frombuffer(f.payload, "u1"), 4)]
    assert len({number.tobytes() for number in numbers}) == 60
    bits = np.unpackbits(np.concatenate([number[1:] for number in numbers]))
    assert abs(bits.mean() - 0.5) < 5 * 0.5 / np.sqrt(bits.size)


def test_a_mutant_without_a_blinding_factor_shows_its_ids(monkeypatch: pytest.MonkeyPatch) -> None:
    """What arrives is then the hash of an id, which the sender can compute, too."""
    monkeypatch.setattr(Rng, "below", lambda self, bound: 1)
    sent = next(f.payload for f in play(ids(0, 4), ids(0, 4))[2] if f.kind.endswith(".Blinded"))
    key = blind._Public(result.context_hash(CONTEXT), P * Q)
    assert sent == blind._numbers([key.h(item) for item in ids(0, 4)]).tobytes()


def test_a_wrong_power_is_never_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    """A fault in one half of a power would give a prime factor to whoever sees it (Boneh, DeMillo, Lipton)."""
    secret = blind._fresh_key()
    faulty = blind._Secret(secret.n, secret.p, secret.q, secret.dp + 2, secret.dq, secret.q_inverse)
    monkeypatch.setattr(blind, "_fresh_key", lambda: faulty)
    with pytest.raises(ProtocolError, match="a signature of this site is wrong"):
        play(ids(0, 1), ids(0, 1))


def test_own_duplicates_and_other_jobs_are_refused() -> None:
    a, _ = memory_pair()
    for role in (blind.receiver, blind.sender):
        with pytest.raises(InputError, match="1 of 3 ids are duplicates"):
            role(a, [b"a", b"b", b"a"], rng=seeded_rng(1)).send(None)
    a, b = memory_pair(timeout=2.0)
    with pytest.raises(ProtocolError, match="different jobs or columns"):
        run_pair(
            blind.receiver(a, ids(0, 3), rng=seeded_rng(1), context=("x",)),
            blind.sender(b, ids(0, 3), rng=seeded_rng(2), context=("y",)),
        )


def whole(number: int) -> np.ndarray:
    return blind._numbers([number])


@pytest.mark.parametrize("number", [0, P, Q * 3, P * Q, (1 << 1024) - 1])
def test_numbers_that_are_not_invertible_are_not_signed(number: int) -> None:
    async def hostile(peer: Channel) -> None:
        await peer.send(blind.Opening(1, result.context_hash(())))
        await peer.recv(blind.Opening)
        await peer.recv(blind.Modulus, n=(128,))
        await peer.send(blind.Blinded(whole(number)))
        await peer.recv(blind.Signed, numbers=(1, 128))
        pytest.fail("the sender answered a hostile message")

    a, b = memory_pair(timeout=2.0)
    error, _ = end_pair(stop(blind.sender(a, ids(0, 1), rng=seeded_rng(1)), a), stop(hostile(b), b))
    assert isinstance(error, ProtocolError)
    assert "not invertible" in str(error)


async def against_receiver(peer: Channel, size: int, modulus: np.ndarray, signed: np.ndarray) -> None:
    await peer.recv(blind.Opening)
    await peer.send(blind.Opening(size, result.context_hash(())))
    await peer.send(blind.Modulus(modulus))
    await peer.recv(blind.Blinded, numbers=(2, 128))
    await peer.send(blind.Signed(signed))


OWN = np.frombuffer((P * Q).to_bytes(128, "big"), np.uint8)
HOSTILE: dict[str, tuple[int, np.ndarray, np.ndarray, str]] = {
    "a negative size": (-1, np.zeros(128, np.uint8), np.zeros((2, 128), np.uint8), "ids, at most"),
    "a huge size": (1 << 50, np.zeros(128, np.uint8), np.zeros((2, 128), np.uint8), "ids, at most"),
    "no modulus": (3, np.zeros(128, np.uint8), np.zeros((2, 128), np.uint8), "no product of two primes"),
    "an even modulus": (3, np.full(128, 254, np.uint8), np.zeros((2, 128), np.uint8), "no product of two primes"),
    "a short modulus": (3, np.ones(127, np.uint8), np.zeros((2, 128), np.uint8), "has shape"),
    "a modulus with small factors": (3, np.full(128, 255, np.uint8), np.ones((2, 128), np.uint8), "factor in common"),
    "wrong signatures": (3, OWN, np.ones((2, 128), np.uint8), "no signature of what it was"),
    "one signature": (3, OWN, np.ones((1, 128), np.uint8), "has shape"),
}


@pytest.mark.parametrize("what", HOSTILE)
def test_hostile_senders_are_refused(what: str) -> None:
    size, modulus, signed, words = HOSTILE[what]
    a, b = memory_pair(timeout=2.0)
    error, _ = end_pair(
        stop(blind.receiver(a, ids(0, 2), rng=seeded_rng(1)), a), stop(against_receiver(b, size, modulus, signed), b)
    )
    assert isinstance(error, ProtocolError)
    assert words in str(error)


async def stop(role: Any, peer: Channel) -> Any:
    """End the link when a role fails, as a session does."""
    try:
        return await role
    except (AtollError, asyncio.CancelledError):
        await peer.link.close()
        raise


def test_frozen_vectors() -> None:
    matches, shuffled, transcript = play(ids(0, 5), ids(3, 9))
    digests = [hashlib.sha256(frame.payload).hexdigest()[:16] for frame in transcript[-2:]]
    assert digests == FROZEN["transcript"]
    assert (matches.theirs.tolist(), shuffled.order.tolist()) == (FROZEN["theirs"], FROZEN["order"])


FROZEN: dict[str, Any] = {
    "transcript": ["b25017f26457ad62", "3a8338bab385b7b2"],
    "theirs": [5, 0],
    "order": [1, 3, 5, 2, 4, 0],
}
