"""Hidden tables: all tables at all indices, what stands on them, shares that say nothing, mutants that do."""

import copy
import hashlib
import pickle
from typing import Any

import numpy as np
import pytest

from atoll.core.channel import Channel
from atoll.core.errors import ProtocolError
from atoll.crypto import table_pads
from atoll.crypto.random import Rng
from atoll.protocols import hidden_table as ht
from atoll.testing import ProtocolCheck, check_protocol, recorded_pair, run_pair, seeded_rng
from atoll.transport.memory import memory_pair
from tests.protocols import hidden
from tests.protocols.hidden import balanced, signed, transfers

EDGES = np.array([0, 1, 15, 16, (1 << 63) - 1, 1 << 63, (1 << 63) + 1, (1 << 64) - 1], np.uint64)


def play(chooser: Any, owner: Any, *cases: Any, seed: int = 1) -> Any:
    return hidden.play(ht.PROTOCOL, chooser, owner, *cases, seed=seed)


def look_up(*cases: tuple[np.ndarray, np.ndarray], seed: int = 1) -> Any:
    return play(
        lambda peer, case, stock: ht.chooser(peer, case[1], stock=stock),
        lambda peer, case, stock: ht.owner(peer, case[0], stock=stock),
        *cases,
        seed=seed,
    )


def drawn(seed: int, n: int) -> tuple[np.ndarray, np.ndarray]:
    rng = seeded_rng(seed)
    return rng.u32(n).astype(np.uint16), rng.u8(n) & np.uint8(15)


def test_conformance() -> None:
    """Both sides show their shares to a common place, so that the sum can be compared."""

    async def first(peer: Channel, case: Any, rng: Rng) -> Any:
        stock = ht.Chooser(transfers(1)[0], rng)
        mine = await ht.chooser(peer, case[1], stock=stock)
        await peer.send(ht.Indices(mine))
        return mine ^ (await peer.recv(ht.Masked, tables=(len(mine),))).tables

    async def second(peer: Channel, case: Any, rng: Rng) -> Any:
        stock = ht.Owner(transfers(1)[1], rng)
        mine = await ht.owner(peer, case[0], stock=stock)
        await peer.send(ht.Masked(mine))
        return mine ^ (await peer.recv(ht.Indices, indices=(len(mine),))).indices

    def want(case: Any) -> Any:
        bits = np.array([int(t) >> int(i) & 1 for t, i in zip(*case, strict=True)], np.uint8)
        return bits, bits

    every = np.repeat(np.arange(0, 1 << 16, 4369, dtype=np.uint16), 16), np.tile(np.arange(16, dtype=np.uint8), 16)
    check_protocol(
        ProtocolCheck(
            protocol=ht.PROTOCOL,
            cases=[drawn(1, 5), every, drawn(2, 1), drawn(3, 0)],
            first=first,
            second=second,
            reference=want,
            max_bytes=lambda case: (2.5 + 2 + 64) * len(case[0]) + 1024 + 1000,
        )
    )


def test_many_tables_take_silent_strings() -> None:
    case = drawn(4, 5000)
    (mine,), (theirs,), transcript = look_up(case)
    assert np.array_equal(mine ^ theirs, (case[0] >> case[1]) & 1)
    assert any(frame.kind.endswith("Trees") for frame in transcript)


def test_equality_order_and_sign_of_words() -> None:
    x, y = (grid.reshape(-1) for grid in np.meshgrid(EDGES, EDGES))
    cases = [(x, y), (x[:1], y[:1]), (x[3:6], y[3:6])]
    for chooser, owner, reference in (
        (ht.equal_chooser, ht.equal_owner, lambda c: c[0] == c[1]),
        (ht.less_chooser, ht.less_owner, lambda c: c[0] < c[1]),
        (ht.negative_chooser, ht.negative_owner, lambda c: signed(c[0] + c[1]) < 0),
    ):
        mine, theirs, _ = play(
            lambda peer, case, stock, chooser=chooser: chooser(peer, case[0], stock=stock),
            lambda peer, case, stock, owner=owner: owner(peer, case[1], stock=stock),
            *cases,
        )
        for a, b, case in zip(mine, theirs, cases, strict=True):
            assert np.array_equal(a ^ b, reference(case))


def test_equality_takes_as_many_tables_as_it_says() -> None:
    counts = []

    class Counting(ht.Chooser):
        def take(self, n: int) -> Any:
            counts.append(n)
            return super().take(n)

    async def run(peer: Channel, case: Any, stock: ht.Chooser) -> Any:
        return await ht.equal_chooser(peer, case, stock=Counting(stock.ot, stock.rng))

    play(run, lambda peer, case, stock: ht.equal_owner(peer, case, stock=stock), EDGES)
    assert sum(counts) == ht.lookups_for_equality(len(EDGES)) == 21 * len(EDGES)


def test_two_worlds_look_alike_to_both() -> None:
    """All words equal or none: same messages, shares and masks of the same uniform kind."""
    x = seeded_rng(5).u64(1000)
    seen = []
    for y in (x, x ^ np.uint64(1 << 40)):
        mine, theirs, transcript = play(
            lambda peer, case, stock: ht.equal_chooser(peer, case[0], stock=stock),
            lambda peer, case, stock: ht.equal_owner(peer, case[1], stock=stock),
            (x, y),
            seed=len(seen),
        )
        assert np.array_equal(mine[0] ^ theirs[0], x == y)
        assert balanced(mine[0])
        assert balanced(theirs[0])
        sent = [frame for frame in transcript if frame.kind.endswith(("Indices", "Masked"))]
        assert len(sent) == 6
        for frame in sent:
            assert balanced(np.unpackbits(np.frombuffer(frame.payload, np.uint8)))
        seen.append([(frame.sender, frame.kind, len(frame.header), len(frame.payload)) for frame in transcript])
    assert seen[0] == seen[1]


def test_a_mutant_whose_owner_keeps_no_share_shows_results(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Rng, "bits", lambda rng, n: np.zeros(n, np.uint8))
    (mine,), _, _ = look_up((np.full(1000, 0xFFFF, np.uint16), drawn(1, 1000)[1]))
    assert mine.all()
    assert not balanced(mine)


def test_a_mutant_whose_chooser_masks_nothing_shows_indices(monkeypatch: pytest.MonkeyPatch) -> None:
    def indices(**_: Any) -> list[int]:
        _, _, transcript = look_up((np.zeros(64, np.uint16), np.full(64, 7, np.uint8)))
        sent = next(frame for frame in transcript if frame.kind.endswith("Indices")).payload
        return sorted(set(sent))

    assert len(indices()) > 20
    monkeypatch.setattr(
        table_pads, "masked_indices", lambda c, a, real=table_pads.masked_indices: real(c, np.zeros_like(a))
    )
    assert indices() == [0x77]


def test_a_stock_is_never_used_twice() -> None:
    case = drawn(6, 100)
    (one, two), _, transcript = look_up(case, case)
    first, second = (frame.payload for frame in transcript if frame.kind.endswith("Masked"))
    assert first != second
    assert not np.array_equal(one, two)
    stock = ht.Owner(None, seeded_rng(1))  # type: ignore[arg-type]
    for way in (copy.copy, copy.deepcopy, pickle.dumps):
        with pytest.raises(TypeError, match="used twice"):
            way(stock)


def test_an_index_out_of_range_is_refused() -> None:
    a, _, transcript = recorded_pair()
    with pytest.raises(ValueError, match="four bits"):
        ht.chooser(a, np.array([16], np.uint8), stock=None).send(None)  # type: ignore[arg-type]
    assert transcript == []


@pytest.mark.parametrize("length", [0, 5, 11, 1 << 20])
def test_tables_of_another_size_are_refused(length: int) -> None:
    async def liar(peer: Channel) -> None:
        await transfers(1)[1].extend(peer, 20)
        await peer.recv(ht.Indices, indices=(3,))
        await peer.send(ht.Masked(np.zeros(length, np.uint8)))

    async def choose(peer: Channel) -> None:
        stock = ht.Chooser(transfers(1)[0], seeded_rng(3))
        await ht.chooser(peer, np.zeros(5, np.uint8), stock=stock)

    a, b = memory_pair(timeout=2.0)
    with pytest.raises(ProtocolError, match="shape"):
        run_pair(choose(a), liar(b))


def test_frozen_vectors() -> None:
    (mine,), (theirs,), transcript = look_up(drawn(7, 9))
    parts = [mine, theirs, transcript[-2].payload, transcript[-1].payload]
    assert [hashlib.sha256(bytes(part)).hexdigest()[:16] for part in parts] == FROZEN


FROZEN = ["6a10bd6b16abcf1d", "f82558d1e0ac970c", "3e0fad7711de114d", "fbef062b3aa125fa"]
