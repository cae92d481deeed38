"""Compact transfers: the relation holds, indices only go forward, choices stay hidden, mutants fail."""

import copy
import hashlib
from typing import Any

import numpy as np
import pytest

from atoll.core.channel import Channel
from atoll.core.errors import ProtocolError
from atoll.crypto import packed_bits
from atoll.crypto.random import Rng
from atoll.protocols.shares import compact_transfer as compact
from atoll.testing import ProtocolCheck, check_protocol, end_pair, recorded_pair, run_pair, seeded_rng
from atoll.transport.memory import memory_pair


async def send_all(peer: Channel, sizes: tuple[int, ...], rng: Rng) -> list[Any]:
    sender = await compact.setup_sender(peer, rng=rng)
    return [await sender.extend(peer, words) for words in sizes]


async def receive_all(peer: Channel, choices: list[np.ndarray], rng: Rng) -> list[Any]:
    receiver = await compact.setup_receiver(peer, rng=rng)
    return [await receiver.extend(peer, r) for r in choices]


def play(sizes: tuple[int, ...], seed: int = 1, fill: int | None = None) -> tuple[Any, Any, list[np.ndarray], Any]:
    rng = seeded_rng(seed + 50)
    choices = [rng.u64(n) if fill is None else np.full(n, fill, np.uint64) for n in sizes]
    a, b, transcript = recorded_pair(allowed=compact.PROTOCOL.kinds)
    sent, got = run_pair(send_all(a, sizes, seeded_rng(seed)), receive_all(b, choices, seeded_rng(seed + 100)))
    return sent, got, choices, transcript


def agrees(sent: Any, got: Any, r: np.ndarray) -> np.ndarray:
    bits = packed_bits.unpack(r, 64 * len(r)).astype(np.uint64)[:, np.newaxis]
    return np.all(got.t == sent.q ^ bits * sent.delta, axis=1)


def test_strings_are_correlated_and_indices_run_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compact, "_TILE_WORDS", 3)
    monkeypatch.setattr(compact, "_MESSAGE_TILES", 2)
    sizes, firsts = (5, 1, 0, 6, 20), (0, 320, 384, 384, 768)
    for sent, got, r, first in zip(*play(sizes)[:3], firsts, strict=True):
        assert agrees(sent, got, r).all()
        assert sent.first == got.first == first


def test_the_receiver_never_holds_the_other_string() -> None:
    (sent,), (got,), (r,), _ = play((30,))
    assert not agrees(sent, got, ~r).any()
    assert 0.47 < np.unpackbits(sent.q.view(np.uint8)).mean() < 0.53
    assert len(np.unique(sent.q, axis=0)) == len(sent.q)


def test_frozen_vectors() -> None:
    (sent,), (got,), _, transcript = play((2,))
    assert hashlib.sha256(transcript[-1].payload).hexdigest()[:16] == FROZEN["columns"]
    assert hashlib.sha256(sent.q.tobytes() + got.t.tobytes()).hexdigest()[:16] == FROZEN["strings"]


FROZEN = {"columns": "24689beee1ec8e18", "strings": "31357d1fc8419d83"}


def test_the_receiver_s_messages_do_not_depend_on_its_choices() -> None:
    for fill in (0, (1 << 64) - 1):
        columns = np.frombuffer(play((64,), seed=9, fill=fill)[3][-1].payload, np.uint8)
        bits = np.unpackbits(columns).reshape(32, -1)
        assert abs(bits.mean() - 0.5) < 0.01
        assert np.abs(bits.mean(1) - 0.5).max() < 0.05
        assert abs((bits[0::2] ^ bits[1::2]).mean() - 0.5) < 0.01  # trees do not share a mask


def test_a_mutant_without_the_sum_of_a_tree_shows_the_choices(monkeypatch: pytest.MonkeyPatch) -> None:
    fold = compact.fold

    def mutant(streams: np.ndarray, columns: np.ndarray) -> None:
        fold(streams, columns)
        streams[0] = 0

    monkeypatch.setattr(compact, "fold", mutant)
    _, _, (r,), transcript = play((4,))
    assert np.array_equal(np.frombuffer(transcript[-1].payload, np.uint64).reshape(32, 4)[7], r)


def test_every_set_up_has_another_delta() -> None:
    assert len({play((1,), seed)[0][0].delta.tobytes() for seed in range(3)}) == 3


def test_conformance() -> None:
    async def first(peer: Channel, sizes: tuple[int, ...], rng: Rng) -> Any:
        return tuple(blocks.first for blocks in await send_all(peer, sizes, rng))

    async def second(peer: Channel, sizes: tuple[int, ...], rng: Rng) -> Any:
        return tuple(blocks.first for blocks in await receive_all(peer, [rng.u64(n) for n in sizes], rng))

    def reference(sizes: tuple[int, ...]) -> Any:
        starts = tuple(int(x) for x in 64 * np.cumsum([0, *sizes])[:-1])
        return starts, starts

    check_protocol(
        ProtocolCheck(
            protocol=compact.PROTOCOL,
            cases=[(2,), (0,), (1, 3)],
            first=first,
            second=second,
            reference=reference,
            max_bytes=lambda sizes: 15_500 + sum(256 * n + 200 for n in sizes),
            patience=0.1,
        )
    )


def test_a_rewound_index_and_wrong_sizes_are_refused() -> None:
    async def liar(peer: Channel, first: int, words: int) -> None:
        await compact.setup_receiver(peer, rng=seeded_rng(2))
        await peer.send(compact.Columns(first, np.zeros(words, np.uint64)))

    for first, words in ((64, 64), (0, 63), (0, 1 << 20)):
        a, b = memory_pair(timeout=5.0)
        assert isinstance(end_pair(send_all(a, (2,), seeded_rng(1)), liar(b, first, words))[0], ProtocolError)


def test_state_cannot_be_copied_and_a_failed_call_ends_it() -> None:
    async def run(peer: Channel) -> Any:
        sender = await compact.setup_sender(peer, rng=seeded_rng(1))
        with pytest.raises(TypeError, match="cannot be copied"):
            copy.copy(sender)
        assert repr(sender) == "CompactSender(used=0)"
        peer.gate.timeout = 0.01
        with pytest.raises(ProtocolError, match="within"):
            await sender.extend(peer, 1)
        with pytest.raises(RuntimeError, match="not taken again"):
            await sender.extend(peer, 1)

    a, b = memory_pair()
    run_pair(run(a), compact.setup_receiver(b, rng=seeded_rng(2)))
