"""Comparing salted hashes: equals plain sets, and shows why it is marked as weak: phone numbers fall out of it."""

import hashlib
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import pytest

from atoll.core.channel import Channel
from atoll.core.errors import InputError, ProtocolError
from atoll.crypto import ristretto
from atoll.crypto.random import Rng
from atoll.protocols import ecdh_intersection, kkrt_intersection, vole_intersection
from atoll.protocols import intersection_result as result
from atoll.protocols import salted_hash_intersection as salted
from atoll.protocols.intersection_result import Matches, Shuffled
from atoll.testing import ProtocolCheck, check_protocol, recorded_pair, run_pair, seeded_rng
from atoll.transport.memory import memory_pair

CONTEXT = ("job 1", "phone")
Case = tuple[list[bytes], list[bytes]]


def ids(lo: int, hi: int) -> list[bytes]:
    return [b"id-%d" % i for i in range(lo, hi)]


def play(chosen: Any, x: Sequence[bytes], y: Sequence[bytes], seed: int = 1) -> tuple[Matches, Shuffled, list[Any]]:
    a, b, transcript = recorded_pair(allowed=chosen.PROTOCOL.kinds)
    matches, shuffled = run_pair(
        chosen.receiver(a, x, rng=seeded_rng(seed), context=CONTEXT),
        chosen.sender(b, y, rng=seeded_rng(seed + 1), context=CONTEXT),
    )
    return matches, shuffled, transcript


def test_conformance() -> None:
    async def first(peer: Channel, case: Case, rng: Rng) -> Any:
        matches = await salted.receiver(peer, case[0], rng=rng, context=CONTEXT)
        rows, (positions,) = result.common_rows([matches], rng)
        await result.announce(peer, positions)
        return {case[0][i] for i in rows}

    async def second(peer: Channel, case: Case, rng: Rng) -> Any:
        shuffled = await salted.sender(peer, case[1], rng=rng, context=CONTEXT)
        return {case[1][i] for i in await result.learn(peer, shuffled.order)}

    check_protocol(
        ProtocolCheck(
            protocol=salted.PROTOCOL,
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
            max_bytes=lambda case: 15 * len(case[1]) + 8 * min(map(len, case)) + 600,
        )
    )


# ------------------------------------------------------------------------------------------------------- the attack

PREFIX = b"1380013"
SPACE = [PREFIX + b"%04d" % i for i in range(10_000)]
"""All numbers of one block of an operator; an attacker goes through the 2^37 of a country in minutes."""

PHONES = SPACE[::37]


def recovered(
    sent: bytes, width: int, guesses: Iterable[bytes], disguise: Callable[[Iterable[bytes]], Any]
) -> set[Any]:
    """Which guesses, disguised as the attacker can disguise them, stand in the bytes that the sender sent."""
    guesses = list(guesses)
    seen = {sent[at : at + width] for at in range(0, len(sent), width)}
    return {guess for guess, text in zip(guesses, disguise(guesses), strict=True) if bytes(text[:width]) in seen}


def by_hash(salt: bytes) -> Callable[[Iterable[bytes]], Any]:
    """The attack: hash every id that may exist under the salt that both sites know."""
    return lambda guesses: salted.hashes_of(guesses, salt, result.context_hash(CONTEXT), 10)


def test_phone_numbers_fall_out_of_salted_hashes() -> None:
    """The receiver holds three numbers, and ends up with all of the sender's, from its one message."""
    x = [*PHONES[:2], b"13912345678"]
    matches, _, transcript = play(salted, x, PHONES)
    assert len(matches.mine) == 2
    salt = seeded_rng(1).bytes(salted.SALT_BYTES)  # the receiver's own draw, which it also sent
    assert salt in transcript[0].header
    message = transcript[-1]
    assert (message.sender, len(transcript)) == ("b", 3)
    assert recovered(message.payload, 10, SPACE, by_hash(salt)) == set(PHONES)


@pytest.mark.parametrize("chosen", [ecdh_intersection, vole_intersection, kkrt_intersection], ids=lambda m: m.__name__)
def test_the_same_attack_finds_nothing_where_the_sender_has_a_key(chosen: Any) -> None:
    """Whatever can be computed from the transcript and the receiver's own secrets stands nowhere in what was sent."""
    x = [*PHONES[:2], b"13912345678"]
    _, _, transcript = play(chosen, x, PHONES)
    sent = [frame.payload for frame in transcript if frame.sender == "b" and len(frame.payload) >= 10 * len(PHONES)]
    guesses = SPACE[:1000]
    disguises = [by_hash(seeded_rng(1).bytes(16)), lambda guesses: guesses]
    if chosen is ecdh_intersection:
        domain, a = ecdh_intersection._domain(CONTEXT), ristretto.random_scalar(seeded_rng(1))
        for scalar in (None, a):
            disguises.append(lambda guesses, s=scalar: ristretto.hash_and_multiply(list(guesses), domain, s))
    assert sent
    assert set(guesses) & set(PHONES)
    for payload in sent:
        for width in (10, 32):
            for disguise in disguises:
                assert recovered(payload, width, guesses, disguise) == set()


def test_a_salt_or_an_hmac_key_keeps_outsiders_out_only() -> None:
    """Without the salt the same message gives nothing away; both sites have it."""
    sent = play(salted, PHONES[:2], PHONES)[2][-1].payload
    assert recovered(sent, 10, SPACE, by_hash(bytes(16))) == set()


def test_two_runs_have_two_salts() -> None:
    first, second = (play(salted, ids(0, 5), ids(0, 5), seed)[2][-1].payload for seed in (1, 2))
    assert not {first[i : i + 10] for i in range(0, 50, 10)} & {second[i : i + 10] for i in range(0, 50, 10)}


# --------------------------------------------------------------------------------------------------- hostile peers


def test_own_duplicates_and_other_jobs_are_refused() -> None:
    a, _ = memory_pair()
    for role in (salted.receiver, salted.sender):
        with pytest.raises(InputError, match="1 of 3 ids are duplicates"):
            role(a, [b"a", b"b", b"a"], rng=seeded_rng(1)).send(None)
    a, b = memory_pair(timeout=2.0)
    with pytest.raises(ProtocolError, match="different jobs or columns"):
        run_pair(
            salted.receiver(a, ids(0, 3), rng=seeded_rng(1), context=("x",)),
            salted.sender(b, ids(0, 3), rng=seeded_rng(2), context=("y",)),
        )


@pytest.mark.parametrize("salt", [b"", bytes(15), bytes(17)])
def test_salts_of_a_wrong_size_are_refused(salt: bytes) -> None:
    async def liar(peer: Channel) -> None:
        await peer.send(salted.Opening(3, result.context_hash(()), salt))

    a, b = memory_pair(timeout=2.0)
    with pytest.raises(ProtocolError, match="a salt of"):
        run_pair(liar(a), salted.sender(b, ids(0, 3), rng=seeded_rng(1)))


@pytest.mark.parametrize(
    ("size", "shape", "words"),
    [
        (-1, (1, 10), "ids, at most"),
        (1 << 60, (1, 10), "ids, at most"),
        (3, (4, 10), "has shape"),
        (3, (3, 9), "has shape"),
    ],
)
def test_hostile_senders_are_refused(size: int, shape: tuple[int, ...], words: str) -> None:
    async def hostile(peer: Channel) -> None:
        await peer.recv(salted.Opening)
        await peer.send(salted.Opening(size, result.context_hash(()), b""))
        await peer.send(salted.Hashes(np.zeros(shape, np.uint8)))

    a, b = memory_pair(timeout=2.0)
    with pytest.raises(ProtocolError, match=words):
        run_pair(salted.receiver(a, ids(0, 2), rng=seeded_rng(1)), hostile(b))


def test_a_hash_that_comes_twice_is_refused() -> None:
    async def hostile(peer: Channel) -> None:
        opening = await peer.recv(salted.Opening)
        await peer.send(salted.Opening(2, opening.context, b""))
        await peer.send(salted.Hashes(salted.hashes_of([b"id-1"] * 2, opening.salt, opening.context, 10)))

    a, b = memory_pair(timeout=2.0)
    with pytest.raises(ProtocolError, match="more than once"):
        run_pair(salted.receiver(a, ids(0, 2), rng=seeded_rng(1)), hostile(b))


def test_frozen_vectors() -> None:
    matches, shuffled, transcript = play(salted, ids(0, 5), ids(3, 9))
    assert hashlib.sha256(transcript[-1].payload).hexdigest()[:16] == FROZEN["transcript"]
    assert (matches.theirs.tolist(), shuffled.order.tolist()) == (FROZEN["theirs"], FROZEN["order"])


FROZEN: dict[str, Any] = {"transcript": "2504e2b3f3208aa9", "theirs": [5, 0], "order": [1, 3, 5, 2, 4, 0]}
