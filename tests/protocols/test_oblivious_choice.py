"""One of m bits a row: equals plain indexing, in chunks, and messages show neither the choice nor the others."""

import hashlib
from typing import Any

import numpy as np
import pytest

from atoll.core.channel import Channel
from atoll.core.errors import ProtocolError
from atoll.crypto.random import Rng
from atoll.protocols import oblivious_choice as oc
from atoll.protocols import oblivious_transfer as ot
from atoll.testing import ProtocolCheck, check_protocol, end_pair, recorded_pair, run_pair, seeded_rng
from atoll.transport.memory import memory_pair

Case = tuple[np.ndarray, np.ndarray]


def draw(m: int, n: int, seed: int = 1) -> Case:
    rng = seeded_rng(seed)
    return rng.bits(m * n).reshape(m, n), rng.uniform_u64(m + 1, n).astype(np.int64)


def reference(case: Case) -> tuple[None, np.ndarray]:
    bits, choice = case
    return None, np.vstack([bits, np.zeros((1, bits.shape[1]), np.uint8)])[choice, np.arange(len(choice))]


async def own(peer: Channel, case: Case, rng: Rng) -> None:
    await oc.owner(peer, case[0], ot=await ot.setup_sender(peer, rng=rng))


async def choose(peer: Channel, case: Case, rng: Rng) -> np.ndarray:
    receiver = await ot.setup_receiver(peer, rng=rng)
    return await oc.chooser(peer, case[1], len(case[0]), ot=receiver)


def play(case: Case, seed: int = 1) -> tuple[np.ndarray, list[Any]]:
    a, b, transcript = recorded_pair(allowed=oc.PROTOCOL.kinds)
    _, got = run_pair(own(a, case, seeded_rng(seed)), choose(b, case, seeded_rng(seed + 1)))
    return got, transcript


def test_conformance(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(oc, "CHUNK", 100)
    check_protocol(
        ProtocolCheck(
            protocol=oc.PROTOCOL,
            cases=[draw(3, 130), draw(1, 1), draw(4, 0), draw(0, 5), draw(130, 9), draw(8, 250)],
            first=own,
            second=choose,
            reference=reference,
            max_bytes=lambda case: 9_000 + bytes_of(*case[0].shape),
        )
    )


def bytes_of(m: int, n: int) -> float:
    chunks = -(-n // 100)
    return 16 * m.bit_length() * n + m * n / 8 + chunks * (m + 16 * 64 + 400)


def test_frozen_vectors() -> None:
    _, transcript = play(draw(5, 40))
    assert [hashlib.sha256(frame.payload).hexdigest()[:16] for frame in transcript] == FROZEN


FROZEN = ["85187a733e72a3dc", "16e0e08847bafa1b", "28c15afbf660999e", "d0d33d1305bb2306"]


def test_two_worlds_look_alike_to_the_owner() -> None:
    """All rows choose nothing, or all the first bit: same messages but for masks that look uniform."""
    bits = draw(6, 3000)[0]
    for choice in (np.zeros(3000, np.int64), np.full(3000, 6)):
        got, transcript = play((bits, choice), seed=4)
        frames = [frame for frame in transcript if frame.sender == "b"]
        assert [len(frame.payload) for frame in frames] == [32, 128 * 8 * -(-9000 // 64)]
        assert abs(np.unpackbits(np.frombuffer(frames[1].payload, np.uint8)).mean() - 0.5) < 0.005
        assert np.array_equal(got, bits[0] if choice[0] == 0 else np.zeros(3000))


def test_two_worlds_look_alike_to_the_chooser() -> None:
    """Bits that were not chosen may be all 0 or all 1: what arrives is uniform under both, and differs in pads only."""
    n = 4000
    choice = np.zeros(n, np.int64)
    for value in (0, 1):
        bits = np.vstack([draw(1, n)[0], np.full((3, n), value, np.uint8)])
        _, transcript = play((bits, choice), seed=6)
        sent = np.unpackbits(np.frombuffer(transcript[-1].payload, np.uint8).reshape(4, -1), axis=1, count=n)
        assert np.abs(sent.mean(1) - 0.5).max() < 0.04


def test_garbled_answers_give_no_visible_reaction() -> None:
    """Whatever bits the owner sends, the chooser sends the same messages and returns in the same way."""

    async def hostile(peer: Channel, fill: int) -> None:
        sender = await ot.setup_sender(peer, rng=seeded_rng(1))
        await sender.extend(peer, 2 * 64)
        await peer.send(oc.HiddenBits(np.full((3, 8), fill, np.uint8)))

    seen = []
    for fill in (0, 255):
        a, b, transcript = recorded_pair(allowed=oc.PROTOCOL.kinds)
        run_pair(hostile(a, fill), choose(b, draw(3, 64), seeded_rng(2)))
        seen.append([(frame.header, frame.payload) for frame in transcript if frame.sender == "b"])
    assert seen[0] == seen[1]


@pytest.mark.parametrize("shape", [(3, 7), (4, 8), (24,), (3, 1 << 20), (0, 0)])
def test_wrong_sizes_are_refused(shape: tuple[int, ...]) -> None:
    async def hostile(peer: Channel) -> None:
        sender = await ot.setup_sender(peer, rng=seeded_rng(1))
        await sender.extend(peer, 2 * 64)
        await peer.send(oc.HiddenBits(np.zeros(shape, np.uint8)))

    a, b = memory_pair()
    ends = end_pair(hostile(a), choose(b, draw(3, 64), seeded_rng(2)))
    assert isinstance(ends[1], ProtocolError)


def test_own_mistakes_are_refused_before_anything_is_sent() -> None:
    a, b, transcript = recorded_pair()
    for bad in ([4], [-1]):
        with pytest.raises(ValueError, match=r"0 … 3"):
            oc.chooser(a, np.array(bad), 3, ot=None).send(None)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="bits"):
        oc.owner(b, np.full((1, 1), 2, np.uint8), ot=None).send(None)  # type: ignore[arg-type]
    assert transcript == []


def test_calls_never_share_an_index() -> None:
    async def many(peer: Channel) -> int:
        sender = await ot.setup_sender(peer, rng=seeded_rng(1))
        for n in (10, 1, 70):
            await oc.owner(peer, draw(3, n)[0], ot=sender)
        return sender.used

    async def choose_many(peer: Channel) -> int:
        receiver = await ot.setup_receiver(peer, rng=seeded_rng(2))
        for n in (10, 1, 70):
            await oc.chooser(peer, draw(3, n)[1], 3, ot=receiver)
        return receiver.used

    a, b = memory_pair()
    assert run_pair(many(a), choose_many(b)) == (64 + 64 + 192, 64 + 64 + 192)
