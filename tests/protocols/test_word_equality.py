"""Shares of equality: right for every pair of words, and noise alone."""

import hashlib
from typing import Any

import numpy as np
import pytest

from atoll.core.channel import Channel
from atoll.core.errors import ProtocolError
from atoll.crypto.random import Rng
from atoll.protocols import oblivious_transfer
from atoll.protocols import word_equality as equality
from atoll.testing import ProtocolCheck, check_protocol, recorded_pair, run_pair, seeded_rng
from atoll.transport.memory import memory_pair

Words = np.ndarray


async def side(peer: Channel, words: Words, rng: Rng, leads: bool) -> Words:
    transfers = await (equality.lead if leads else equality.follow)(peer, rng=rng)
    return await equality.equal(peer, words, transfers=transfers)


def dealt(seed: int) -> tuple[equality.Transfers, equality.Transfers]:
    """Transfers as after the base transfers, which have tests of their own and are slow."""

    def one() -> tuple[oblivious_transfer.OtReceiver, oblivious_transfer.OtSender]:
        delta, seeds = rng.u64(2), rng.u8(2, 128, 16)
        bits = np.unpackbits(delta.view(np.uint8), bitorder="little")
        return oblivious_transfer.OtReceiver(seeds), oblivious_transfer.OtSender(seeds[bits, np.arange(128)], delta)

    rng = seeded_rng(seed)
    (forth_chooser, forth_offerer), (back_chooser, back_offerer) = one(), one()
    return (
        equality.Transfers(True, forth_chooser, back_offerer),
        equality.Transfers(False, back_chooser, forth_offerer),
    )


def play(u: Words, w: Words, seed: int = 1) -> tuple[Words, Words, list[Any]]:
    a, b, transcript = recorded_pair(allowed=equality.PROTOCOL.kinds)
    mine, theirs = run_pair(side(a, u, seeded_rng(seed), True), side(b, w, seeded_rng(seed + 1), False))
    return mine, theirs, transcript


def pairs(n: int, seed: int = 0) -> tuple[Words, Words]:
    """Words of which every third pair is equal, every third differs in one bit, and every third in about half."""
    u = seeded_rng(seed).u64(n)
    w = u.copy()
    w[1::3] ^= np.uint64(1) << (np.arange(len(w[1::3]), dtype=np.uint64) % np.uint64(64))
    w[2::3] = seeded_rng(seed + 50).u64(len(w[2::3]))
    return u, w


def test_conformance(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(equality, "CHUNK", 40)

    def cost(case: Any) -> float:
        n = len(case[0])
        return 8_500 + 126 * 16 * (n + 64 * (1 + n // 40)) + 63 * 2 * (n // 8 + 1) + 200 * 24 * (1 + n // 40)

    check_protocol(
        ProtocolCheck(
            protocol=equality.PROTOCOL,
            cases=[pairs(3), pairs(0), pairs(1), pairs(100)],
            first=lambda peer, case, rng: equality.equal(peer, case[0], transfers=dealt(7)[0]),
            second=lambda peer, case, rng: equality.equal(peer, case[1], transfers=dealt(7)[1]),
            reference=lambda case: (len(case[0]),) * 2,  # what is in the shares is tested below
            max_bytes=cost,
            equal=lambda got, want: got.shape == (want,) and got.max(initial=0) <= 1,
            patience=0.1,
        )
    )


@pytest.mark.parametrize("n", [1, 2, 63, 64, 65, 400])
def test_shares_open_to_equality(n: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(equality, "CHUNK", 100)
    u, w = pairs(n)
    mine, theirs, _ = play(u, w)
    assert np.array_equal(mine ^ theirs, u == w)


def test_every_single_bit_counts() -> None:
    u = np.zeros(64, np.uint64)
    w = np.uint64(1) << np.arange(64, dtype=np.uint64)
    mine, theirs, _ = play(u, w)
    assert not (mine ^ theirs).any()


def test_a_share_alone_is_noise_and_two_worlds_look_alike() -> None:
    n = 2000
    u = seeded_rng(3).u64(n)
    worlds = [play(u, w) for w in (u, seeded_rng(4).u64(n))]
    for mine, theirs, _ in worlds:
        for share in (mine, theirs):
            assert abs(share.mean() - 0.5) < 5 * 0.5 / np.sqrt(n)
    sizes = [[(f.sender, f.kind, len(f.payload)) for f in transcript] for _, _, transcript in worlds]
    assert sizes[0] == sizes[1]


def offered_bits(u: Words, w: Words) -> Words:
    """All that the leader sees from the follower's offers."""
    _, _, transcript = play(u, w)
    sent = [f.payload for f in transcript if f.kind.endswith(".Offered") and f.sender == "b"]
    return np.unpackbits(np.frombuffer(b"".join(sent), np.uint8))


def test_what_is_offered_looks_uniform() -> None:
    bits = offered_bits(np.zeros(600, np.uint64), np.zeros(600, np.uint64))
    assert abs(bits.mean() - 0.5) < 5 * 0.5 / np.sqrt(bits.size)


def test_a_mutant_without_pads_shows_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(equality, "_low_bits", lambda blocks: np.zeros(len(blocks), np.uint8))
    bits = offered_bits(np.zeros(600, np.uint64), np.zeros(600, np.uint64))
    assert bits.mean() < 0.1


def test_conjunction_of_all_four_cases() -> None:
    x, y = np.array([0, 0, 1, 1], np.uint8), np.array([0, 1, 0, 1], np.uint8)
    masks = seeded_rng(5).bits(8).reshape(2, 4)

    async def one(peer: Channel, share_x: Words, share_y: Words, leads: bool) -> Words:
        transfers = await (equality.lead if leads else equality.follow)(peer, rng=seeded_rng(6 + leads))
        return await equality.conjunction(peer, share_x, share_y, transfers=transfers)

    a, b = memory_pair(timeout=1.0)
    mine, theirs = run_pair(one(a, x ^ masks[0], y ^ masks[1], True), one(b, masks[0], masks[1], False))
    assert (mine ^ theirs).tolist() == [0, 0, 0, 1]


def test_offers_of_another_size_are_refused() -> None:
    async def liar(peer: Channel) -> None:
        transfers = await equality.follow(peer, rng=seeded_rng(2))
        await transfers.offerer.extend(peer, 32 * 9)
        await peer.send(equality.Offered(np.zeros(35, np.uint8)))

    a, b = memory_pair(timeout=1.0)
    with pytest.raises(ProtocolError, match="has shape"):
        run_pair(side(a, seeded_rng(1).u64(9), seeded_rng(1), True), liar(b))


def test_sites_with_different_numbers_of_words() -> None:
    a, b = memory_pair(timeout=1.0)
    with pytest.raises(ProtocolError):
        run_pair(
            side(a, seeded_rng(1).u64(9), seeded_rng(1), True), side(b, seeded_rng(1).u64(90), seeded_rng(2), False)
        )


def test_directions_have_a_delta_each() -> None:
    a, b = memory_pair(timeout=1.0)
    one, two = run_pair(equality.lead(a, rng=seeded_rng(1)), equality.follow(b, rng=seeded_rng(2)))
    assert isinstance(one.chooser, oblivious_transfer.OtReceiver)
    assert isinstance(one.offerer, oblivious_transfer.OtSender)
    assert isinstance(two.offerer, oblivious_transfer.OtSender)
    assert not np.array_equal(one.offerer._delta, two.offerer._delta)


def test_frozen_vectors() -> None:
    u, w = pairs(10)
    mine, _, transcript = play(u, w)
    digest = hashlib.sha256(b"".join(frame.payload for frame in transcript)).hexdigest()[:16]
    assert (digest, mine.tolist()) == FROZEN


FROZEN: Any = ("e9889e46ac6017b5", [1, 0, 0, 0, 0, 0, 0, 1, 1, 0])
