"""Silent vector OLE: the relation holds everywhere, nothing repeats, hostile peers end in errors, mutants fail."""

import asyncio
import hashlib
from typing import Any

import numpy as np
import pytest

from atoll.core.channel import Channel
from atoll.core.errors import ProtocolError
from atoll.crypto import gf128
from atoll.crypto.expand_convolute import NOISE, Code
from atoll.crypto.random import Rng
from atoll.protocols import noise_trees
from atoll.protocols import oblivious_transfer as ot
from atoll.protocols import silent_vole as vole
from atoll.protocols.silent_vole import Received, Sent, Trees
from atoll.testing import ProtocolCheck, check_protocol, recorded_pair, run_pair, seeded_rng
from atoll.transport.memory import memory_pair


async def receive(peer: Channel, length: int, words: int, rng: Rng) -> Received:
    transfers = await ot.setup_receiver(peer, rng=rng)
    return await vole.receiver(peer, length, words=words, ot=transfers, rng=rng)


async def send(peer: Channel, length: int, words: int, rng: Rng) -> Sent:
    transfers = await ot.setup_sender(peer, rng=rng)
    return await vole.sender(peer, length, words=words, ot=transfers, rng=rng)


def play(length: int, words: int = 1, seed: int = 1) -> tuple[Received, Sent, list[Any]]:
    a, b, transcript = recorded_pair(allowed=vole.PROTOCOL.kinds)
    got, sent = run_pair(receive(a, length, words, seeded_rng(seed)), send(b, length, words, seeded_rng(seed + 100)))
    return got, sent, transcript


def products(got: Received, sent: Sent) -> np.ndarray:
    """B + Δ·A."""
    out = got.b.copy()
    if got.a.shape[1] == 1:
        gf128.add_products(np.ascontiguousarray(got.a[:, 0]), gf128.tables(sent.delta, 1), out)
    else:
        gf128.add_wide_products(np.ascontiguousarray(got.a), gf128.tables(sent.delta, 2), out)
    return out


@pytest.mark.parametrize("words", [1, 2])
@pytest.mark.parametrize("length", [1, 2, 63, 64, 65, 1000, 4097])
def test_the_relation_holds_everywhere(length: int, words: int) -> None:
    got, sent, _ = play(length, words)
    assert got.a.shape == (length, words)
    assert got.b.shape == sent.k.shape == (length, 2)
    assert np.array_equal(sent.k, products(got, sent))


def test_nothing_repeats_and_bits_are_balanced() -> None:
    (one, sent, _), (two, again, _) = play(5000, seed=1), play(5000, seed=2)
    for x, y in ((one.a, two.a), (one.b, two.b), (sent.k, again.k)):
        everything = np.concatenate((x, y))
        assert len(np.unique(everything, axis=0)) == len(everything)
        bits = np.unpackbits(np.ascontiguousarray(everything).view(np.uint8)).astype(float)
        assert abs(bits.mean() - 0.5) < 5 * 0.5 / np.sqrt(bits.size)
    assert not np.array_equal(sent.delta, again.delta)


def test_conformance() -> None:
    async def first(peer: Channel, case: tuple[int, int], rng: Rng) -> Any:
        got = await receive(peer, *case, rng)
        return got.a.shape, got.b.shape

    async def second(peer: Channel, case: tuple[int, int], rng: Rng) -> Any:
        return (await send(peer, *case, rng)).k.shape

    check_protocol(
        ProtocolCheck(
            protocol=vole.PROTOCOL,
            cases=[(1, 1), (300, 1), (65, 2)],
            first=first,
            second=second,
            reference=lambda case: ((case, (case[0], 2)), (case[0], 2)),
            max_bytes=lambda case: 16 * NOISE * (20 + 64 * case[1]) + 32 * NOISE * 20 + 20_000,
        )
    )


def test_two_worlds_look_alike_to_the_sender() -> None:
    """The receiver's messages say nothing of its positions and values: same sizes, nothing in common."""
    worlds = [[frame for frame in play(500, seed=seed)[2] if frame.sender == "a"] for seed in (1, 2)]
    assert [len(f.payload) for f in worlds[0]] == [len(f.payload) for f in worlds[1]]
    for one, two in zip(*worlds, strict=True):
        if len(one.payload) > 64:
            assert one.payload != two.payload


def test_a_corrected_sum_of_the_wrong_tree_breaks_the_relation(monkeypatch: pytest.MonkeyPatch) -> None:
    """A mutant: the sender forgets Δ times the value."""

    def forget(strings: np.ndarray, out: np.ndarray) -> None:
        out[:] = 0

    mask = noise_trees.masked

    def mutant(*args: Any) -> Any:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(gf128, "inner_with_powers", forget)
            return mask(*args)

    monkeypatch.setattr(noise_trees, "masked", mutant)
    got, sent, _ = play(1000)
    assert not np.array_equal(sent.k, products(got, sent))


@pytest.mark.parametrize("shape", [(NOISE, 2, 2, 2), (NOISE - 1, 3, 2, 2), (NOISE, 3, 2)])
def test_trees_of_another_shape_are_refused(shape: tuple[int, ...]) -> None:
    async def liar(peer: Channel) -> None:
        transfers = await ot.setup_sender(peer, rng=seeded_rng(3))
        await transfers.extend(peer, NOISE * (3 + 64))
        await peer.send(Trees(np.zeros(shape, np.uint64), np.zeros((NOISE, 2), np.uint64)))

    a, b = memory_pair(timeout=2.0)
    assert Code(2000).block == 8
    with pytest.raises(ProtocolError):
        run_pair(receive(a, 2200, 1, seeded_rng(1)), liar(b))


def test_frozen_vectors() -> None:
    got, sent, _ = play(100)
    digests = [hashlib.sha256(np.ascontiguousarray(x).tobytes()).hexdigest()[:16] for x in (got.a, got.b, sent.k)]
    assert digests == FROZEN


FROZEN = ["27a03bb142d67e63", "87574736d04885b3", "789f839f7968f166"]


def test_a_set_up_serves_one_vector_after_the_other_only() -> None:
    async def twice(peer: Channel) -> None:
        transfers = await ot.setup_sender(peer, rng=seeded_rng(1))
        await asyncio.gather(*(vole.sender(peer, 10, words=1, ot=transfers, rng=seeded_rng(2)) for _ in range(2)))

    a, b = memory_pair(timeout=2.0)
    with pytest.raises(RuntimeError, match="in use"):
        run_pair(ot.setup_receiver(a, rng=seeded_rng(1)), twice(b))  # so the first waits while the second begins
