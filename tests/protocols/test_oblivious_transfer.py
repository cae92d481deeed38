"""Correlated transfers: the relation holds, indices only go forward, nothing depends on the choices, mutants fail."""

import asyncio
import copy
import hashlib
import pickle
from typing import Any

import numpy as np
import pytest

from atoll.core.channel import Channel
from atoll.core.errors import ProtocolError
from atoll.crypto import ristretto, tmmo
from atoll.crypto.random import Rng
from atoll.protocols import oblivious_transfer as ot
from atoll.protocols.oblivious_transfer import CorrelatedBlocks, OtReceiver, OtSender, ReceivedBlocks
from atoll.testing import ProtocolCheck, check_protocol, end_pair, recorded_pair, run_pair, seeded_rng
from atoll.transport.memory import memory_pair


async def send_all(peer: Channel, sizes: tuple[int, ...], rng: Rng) -> list[CorrelatedBlocks]:
    sender = await ot.setup_sender(peer, rng=rng)
    return [await sender.extend(peer, n) for n in sizes]


async def receive_all(peer: Channel, choices: list[np.ndarray], rng: Rng) -> list[ReceivedBlocks]:
    receiver = await ot.setup_receiver(peer, rng=rng)
    return [await receiver.extend(peer, r) for r in choices]


def play(sizes: tuple[int, ...], seed: int = 1, r: int | None = None) -> tuple[Any, Any, list[np.ndarray], list[Any]]:
    """Run set-up and calls; choices are random, or all `r`."""
    rng = seeded_rng(seed + 50)
    choices = [rng.bits(n) if r is None else np.full(n, r, np.uint8) for n in sizes]
    a, b, transcript = recorded_pair(allowed=ot.PROTOCOL.kinds)
    sent, received = run_pair(send_all(a, sizes, seeded_rng(seed)), receive_all(b, choices, seeded_rng(seed + 100)))
    return sent, received, choices, transcript


def pads_agree(sent: CorrelatedBlocks, received: ReceivedBlocks, r: np.ndarray) -> np.ndarray:
    """For each transfer whether the receiver's pad is the sender's pad for its choice."""
    x = sent.q ^ r[:, None].astype(np.uint64) * sent.delta
    mine = tmmo.hash_blocks(x, sent.first)
    return np.all(mine == tmmo.hash_blocks(received.t, received.first), axis=1)


def test_strings_are_correlated_and_indices_run_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ot, "_TILE_WORDS", 3)
    monkeypatch.setattr(ot, "_MESSAGE_TILES", 2)
    sizes = (5, 1, 64, 0, 1000, 65)
    for sent, received, r, first in zip(*play(sizes)[:3], (0, 64, 128, 192, 192, 1216), strict=True):
        assert np.array_equal(received.t, sent.q ^ r[:, None].astype(np.uint64) * sent.delta)
        assert sent.first == received.first == first


def test_the_receiver_never_holds_the_other_string() -> None:
    (sent,), (received,), (r,), _ = play((2000,))
    assert pads_agree(sent, received, r).all()
    assert not pads_agree(sent, received, 1 - r).any()
    assert 0.45 < np.unpackbits(sent.q.view(np.uint8)).mean() < 0.55
    assert len(np.unique(sent.q, axis=0)) == 2000


def test_frozen_vectors() -> None:
    (sent,), (received,), _, transcript = play((100,))
    digests = [hashlib.sha256(frame.payload).hexdigest()[:16] for frame in transcript]
    assert digests == FROZEN["transcript"]
    assert hashlib.sha256(sent.q.tobytes() + received.t.tobytes()).hexdigest()[:16] == FROZEN["strings"]


FROZEN: dict[str, Any] = {
    "transcript": ["85187a733e72a3dc", "2eb1b7ec3ce7d753", "14cca473f6ef30b3"],
    "strings": "16723c94ee54dd2d",
}


def test_conformance() -> None:
    async def first(peer: Channel, sizes: tuple[int, ...], rng: Rng) -> tuple[int, ...]:
        return tuple(blocks.first for blocks in await send_all(peer, sizes, rng))

    async def second(peer: Channel, sizes: tuple[int, ...], rng: Rng) -> tuple[int, ...]:
        return tuple(blocks.first for blocks in await receive_all(peer, [rng.bits(n) for n in sizes], rng))

    def reference(sizes: tuple[int, ...]) -> tuple[Any, Any]:
        starts = tuple(int(x) for x in np.cumsum([0, *(-(-n // 64) * 64 for n in sizes)])[:-1])
        return starts, starts

    check_protocol(
        ProtocolCheck(
            protocol=ot.PROTOCOL,
            cases=[(70,), (1,), (0,), (64, 65, 1)],
            first=first,
            second=second,
            reference=reference,
            max_bytes=lambda sizes: 8_600 + sum(16 * (n + 64) + 200 for n in sizes),
        )
    )


def test_the_receiver_s_messages_do_not_depend_on_its_choices() -> None:
    """Two worlds, all choices 0 and all 1: single frames differ by the masks only, and both look uniform."""
    for r in (0, 1):
        *_, transcript = play((4096,), seed=9, r=r)
        bits = np.unpackbits(np.frombuffer(transcript[2].payload, np.uint8)).reshape(128, -1)
        assert abs(bits.mean() - 0.5) < 0.004
        assert np.abs(bits.mean(1) - 0.5).max() < 0.05
        assert abs((bits[0::2] ^ bits[1::2]).mean() - 0.5) < 0.006  # columns do not share a mask
        assert np.abs(bits.mean(0) - 0.5).max() < 0.25
    frames = [play((128,), seed=9, r=r)[3] for r in (0, 1)]
    assert [frame.payload for frame in frames[0][:2]] == [frame.payload for frame in frames[1][:2]]
    assert [len(frame.header + frame.payload) for frame in frames[0]] == [
        len(frame.header + frame.payload) for frame in frames[1]
    ]


def test_the_sender_s_base_choices_do_not_show_delta() -> None:
    """The pairs of points are two uniform points whatever the bit; a chosen point in clear would be a mutant."""
    rng = seeded_rng(3)
    for bit in (0, 1):
        points, scalars = ot._base_choose(np.full(128, bit, np.uint8), rng)
        assert len(np.unique(points.reshape(256, 32), axis=0)) == 256
        known = {ristretto.multiply_base(a).tobytes() for a in scalars}
        assert not known & {p.tobytes() for p in points.reshape(256, 32)}
        assert 0.47 < np.unpackbits(points[:, :, :31]).mean() < 0.53


@pytest.mark.parametrize("n", [1, 128, 448])
def test_base_transfers_alone_give_one_of_two_seeds(n: int) -> None:
    a, b, transcript = recorded_pair(allowed=ot.PROTOCOL.kinds)
    bits = seeded_rng(5).bits(n)
    chosen, both = run_pair(
        ot.choose_seeds(a, bits, rng=seeded_rng(1)), ot.offer_seeds(b, n, rng=seeded_rng(2)), timeout=10
    )
    assert both.shape == (n, 2, 16)
    assert np.array_equal(chosen, both[np.arange(n), bits])
    assert len(np.unique(both.reshape(-1, 16), axis=0)) == 2 * n
    assert sum(frame.size for frame in transcript) < 64 * n + 400


def test_every_base_transfer_has_an_oracle_of_its_own() -> None:
    labels = {ot._base_label(i, bit) for i in range(1 << 10) for bit in (0, 1)}
    assert len(labels) == 1 << 11
    assert ot._base_label(7, 1) == b"\x07\x01"  # as before there were more than 256


def test_directions_share_nothing() -> None:
    async def both(peer: Channel, sends_first: bool, rng: Rng) -> tuple[OtSender, OtReceiver]:
        if sends_first:
            return await ot.setup_sender(peer, rng=rng), await ot.setup_receiver(peer, rng=rng)
        receiver = await ot.setup_receiver(peer, rng=rng)
        return await ot.setup_sender(peer, rng=rng), receiver

    a, b = memory_pair()
    (at_a, _), (at_b, _) = run_pair(both(a, True, seeded_rng(1)), both(b, False, seeded_rng(2)))
    assert not np.array_equal(at_a._delta, at_b._delta)
    assert not np.array_equal(at_a._streams.next(4), at_b._streams.next(4))


def deltas(generators: list[Rng]) -> set[bytes]:
    """The deltas of set-ups that draw from these generators."""
    found = set()
    for other, rng in enumerate(generators):
        a, b = memory_pair()
        sender, _ = run_pair(ot.setup_sender(a, rng=rng), ot.setup_receiver(b, rng=seeded_rng(2 + other)))
        found.add(sender._delta.tobytes())
    return found


def test_every_set_up_has_a_delta_of_its_own_and_the_check_catches_a_shared_one() -> None:
    rng = seeded_rng(1)
    assert len(deltas([rng, rng, rng.spawn()])) == 3
    assert len(deltas([seeded_rng(1), seeded_rng(1)])) == 1  # mutant: one delta for two directions


def test_a_rewound_index_is_caught() -> None:
    """Mutant: a receiver (as after a restart from a stored state) starts its index anew."""

    async def mutant(peer: Channel) -> None:
        receiver = await ot.setup_receiver(peer, rng=seeded_rng(2))
        await receiver.extend(peer, np.ones(10, np.uint8))
        receiver.used = 0
        await receiver.extend(peer, np.ones(10, np.uint8))

    a, b = memory_pair()
    error, _ = end_pair(send_all(a, (10, 10), seeded_rng(1)), mutant(b))
    assert isinstance(error, ProtocolError)
    assert "from index 0, this side is at 64" in str(error)


class RewindingSender(OtSender):
    """Mutant: each call counts from zero, as a state read back from a file would."""

    def _begin(self, n: int) -> int:
        self.used = 0
        return super()._begin(n)


class RewindingReceiver(OtReceiver):
    """Mutant: as `RewindingSender`, so that both sides agree and nothing looks wrong between them."""

    def _begin(self, n: int) -> int:
        self.used = 0
        return super()._begin(n)


def indices(sent: list[CorrelatedBlocks]) -> list[int]:
    return [blocks.first + i for blocks in sent for i in range(len(blocks.q))]


def test_indices_never_meet_and_the_check_catches_sites_that_rewind_together(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = (1, 63, 64, 65, 128, 3)
    ours = indices(play(sizes)[0])
    assert len(set(ours)) == len(ours) == sum(sizes)
    monkeypatch.setattr(ot, "OtSender", RewindingSender)
    monkeypatch.setattr(ot, "OtReceiver", RewindingReceiver)
    mutant = indices(play(sizes)[0])
    assert len(set(mutant)) < len(mutant)


def test_strings_never_repeat_and_the_check_catches_rewound_streams(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two calls share no string; a mutant whose key streams start anew shows r ⊕ r′ in its messages."""
    (one, two), _, _, transcript = play((64, 64))
    assert not {q.tobytes() for q in one.q} & {q.tobytes() for q in two.q}
    columns = [np.frombuffer(frame.payload, np.uint64) for frame in transcript[2:]]
    assert len(set((columns[0] ^ columns[1]).tolist())) == 128

    def fresh(self: OtReceiver, choices: np.ndarray, t: np.ndarray, seeds: np.ndarray) -> np.ndarray:
        return masked(OtReceiver(seeds), choices, t)

    masked, seeds = OtReceiver._mask, seeded_rng(1).u8(256, 16)
    monkeypatch.setattr(OtReceiver, "_mask", lambda self, r, t: fresh(self, r, t, seeds))
    *_, choices, transcript = play((64, 64))
    columns = [np.frombuffer(frame.payload, np.uint64) for frame in transcript[2:]]
    leaked = np.packbits(choices[0] ^ choices[1], bitorder="little").view(np.uint64)
    assert set((columns[0] ^ columns[1]).tolist()) == set(leaked.tolist())


def test_state_cannot_be_copied_or_shown() -> None:
    a, b = memory_pair()
    sender, receiver = run_pair(ot.setup_sender(a, rng=seeded_rng(1)), ot.setup_receiver(b, rng=seeded_rng(2)))
    for state in (sender, receiver):
        for attempt in (copy.copy, copy.deepcopy, pickle.dumps):
            with pytest.raises(TypeError, match="cannot be copied"):
                attempt(state)
        assert repr(state) == f"{type(state).__name__}(used=0)"


def test_a_failed_call_ends_the_set_up() -> None:
    async def run() -> None:
        a, b = memory_pair()
        sender, receiver = await asyncio.gather(
            ot.setup_sender(a, rng=seeded_rng(1)), ot.setup_receiver(b, rng=seeded_rng(2))
        )
        a.gate.timeout = 0.01
        with pytest.raises(ProtocolError, match="within"):
            await sender.extend(a, 10)
        with pytest.raises(RuntimeError, match="not taken again"):
            await sender.extend(a, 10)
        with pytest.raises(ValueError, match="bits"):
            await receiver.extend(b, np.array([2], np.uint8))

    asyncio.run(run())


@pytest.mark.parametrize("column", [0, 127])
def test_a_garbled_column_gives_no_visible_reaction(column: int) -> None:
    """Semi-honest: a garbled message may spoil strings, but the sender goes on in the same way whatever delta is."""

    async def hostile(peer: Channel) -> None:
        receiver = await ot.setup_receiver(peer, rng=seeded_rng(2))
        columns = receiver._mask(np.zeros(1, np.uint64), np.empty((64, 2), np.uint64)).copy()
        columns[column] ^= np.uint64(0xFF)
        await peer.send(ot.Columns(0, columns))

    a, b, transcript = recorded_pair(allowed=ot.PROTOCOL.kinds)
    (blocks,), _ = run_pair(send_all(a, (64,), seeded_rng(1)), hostile(b))
    assert len(blocks.q) == 64
    assert len(transcript) == 3


@pytest.mark.parametrize("bad", [bytes(32), b"\x01" + bytes(31), b"\xff" * 32])
def test_points_outside_the_group_are_refused(bad: bytes) -> None:
    point = np.frombuffer(bad, np.uint8)

    async def hostile_sender(peer: Channel) -> None:
        points = np.broadcast_to(ristretto.random_points(1, seeded_rng(1)), (128, 2, 32)).copy()
        points[77, 1] = point
        await peer.send(ot.BaseChoices(points))

    async def hostile_receiver(peer: Channel) -> None:
        await peer.recv(ot.BaseChoices, points=(128, 2, 32))
        await peer.send(ot.BaseKey(point))

    a, b = memory_pair()
    if any(bad):  # the identity is a canonical point; as r_1 it is harmless: its partner's hash is added to it
        assert isinstance(end_pair(ot.setup_receiver(b, rng=seeded_rng(2)), hostile_sender(a))[0], ProtocolError)
    a, b = memory_pair()
    assert isinstance(end_pair(ot.setup_sender(a, rng=seeded_rng(1)), hostile_receiver(b))[0], ProtocolError)


def test_wrong_sizes_are_refused_before_anything_is_computed() -> None:
    async def hostile(peer: Channel, words: int) -> None:
        await ot.setup_receiver(peer, rng=seeded_rng(2))
        await peer.send(ot.Columns(0, np.zeros(words, np.uint64)))

    for words in (0, 127, 129, 1 << 20):
        a, b = memory_pair()
        error, _ = end_pair(send_all(a, (64,), seeded_rng(1)), hostile(b, words))
        assert isinstance(error, ProtocolError)
