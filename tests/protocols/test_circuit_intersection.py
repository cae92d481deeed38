"""Circuit intersection: shares add up to plain sets and payloads, say nothing alone, and survive hostile peers."""

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from atoll.core.channel import Channel
from atoll.core.errors import InputError, ProtocolError
from atoll.crypto import cuckoo, filled_store, okvs
from atoll.crypto.random import Rng
from atoll.protocols import circuit_intersection as ci
from atoll.protocols import hidden_table, silent_transfer, vole_oprf
from atoll.protocols.circuit_intersection import Binned, Hint, Opening, Shares
from atoll.protocols.intersection_result import context_hash
from atoll.testing import Frame, ProtocolCheck, check_protocol, recorded_pair, run_pair, seeded_rng
from atoll.testing.check_protocol import by_stream
from atoll.transport.memory import memory_pair
from tests.protocols.hidden import balanced, deal_transfers, signed

CONTEXT = ("job 1", "phone")
LIMITS = np.iinfo(np.int64)
Case = tuple[list[bytes], list[bytes], np.ndarray]


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few bins to spare and no base transfers: short runs of the same protocol."""
    monkeypatch.setattr(cuckoo, "SPARE", 30)
    deal_transfers(monkeypatch)


def ids(lo: int, hi: int) -> list[bytes]:
    return [b"id-%d" % i for i in range(lo, hi)]


def case(x: Sequence[bytes], y: Sequence[bytes], k: int = 1, seed: int = 1) -> Case:
    return list(x), list(y), seeded_rng(seed).u64(len(y), k).view(np.int64)


def play(case: Case, seed: int = 1) -> tuple[Binned, Shares, list[Frame]]:
    x, y, payload = case
    a, b, transcript = recorded_pair(allowed=ci.PROTOCOL.kinds)
    mine, theirs = run_pair(
        ci.receiver(a, x, words=payload.shape[1], rng=seeded_rng(seed), context=CONTEXT),
        ci.sender(b, y, payload, rng=seeded_rng(seed + 1), context=CONTEXT),
    )
    return mine, theirs, transcript


def joined(x: Sequence[bytes], mine: Binned, theirs: Shares) -> dict[bytes, list[int]]:
    """Common ids with their payloads, from both sides' shares."""
    bins = np.flatnonzero(mine.bits ^ theirs.bits)
    assert (mine.rows[bins] >= 0).all()
    payload = signed(mine.payload[bins] + theirs.payload[bins]).tolist()
    return dict(zip([x[i] for i in mine.rows[bins]], payload, strict=True))


def plain(case: Case) -> dict[bytes, list[int]]:
    """The reference: a join of plain ids."""
    x, y, payload = case
    return {one: row for one, row in zip(y, payload.tolist(), strict=True) if one in set(x)}


@pytest.mark.usefixtures("small")
def test_conformance() -> None:
    """The sender shows its shares in the end, so that the receiver can put both together."""

    async def first(peer: Channel, case: Case, rng: Rng) -> Any:
        x, _, payload = case
        k = payload.shape[1]
        mine = await ci.receiver(peer, x, words=k, rng=rng, context=CONTEXT)
        shown = (await peer.recv(Hint, words=(len(mine.bits), 1 + k))).words
        return joined(x, mine, Shares(shown[:, 0].astype(np.uint8), shown[:, 1:], 0)), mine.others

    async def second(peer: Channel, case: Case, rng: Rng) -> Any:
        mine = await ci.sender(peer, case[1], case[2], rng=rng, context=CONTEXT)
        await peer.send(Hint(b"", np.concatenate((mine.bits[:, np.newaxis].astype(np.uint64), mine.payload), axis=1)))
        return mine.others

    def cost(case: Case) -> float:
        (x, y, _), k = case, case[2].shape[1]
        m, pairs = ci.bins(len(x)), max(3 * len(y), 1)
        shown = 8 * m * (1 + k)
        strings = 16 * (4 * 21 * m + 64)
        return 8 * okvs.Shape(m).words + 8 * (1 + k) * okvs.Shape(pairs).words + 53 * m + strings + shown + 1_200_000

    check_protocol(
        ProtocolCheck(
            protocol=ci.PROTOCOL,
            cases=[
                case(ids(0, 6), ids(3, 8)),
                case(ids(0, 1), ids(0, 1), k=0),
                case([], ids(0, 3)),
                case(ids(0, 3), [], k=2),
                case([b"", b"\x00", b"a" * 500], [b"\x00", b"\x00\x00", "顾客".encode()], k=3),
                (["é".encode(), "顾客".encode()], ["顾客".encode()], np.array([[LIMITS.min, -1, LIMITS.max, 0]])),
            ],
            first=first,
            second=second,
            reference=lambda case: ((plain(case), len(case[1])), len(case[0])),
            max_bytes=cost,
            patience=0.1,
        )
    )


@pytest.mark.usefixtures("small")
def test_shares_add_up_over_drawn_cases() -> None:
    some = st.lists(
        st.one_of(st.binary(max_size=40), st.integers(0, 30).map(lambda i: b"id-%d" % i)), unique=True, max_size=30
    )

    @settings(max_examples=15)
    @given(x=some, y=some, k=st.integers(0, 4), seed=st.integers(0, 1000))
    def check(x: list[bytes], y: list[bytes], k: int, seed: int) -> None:
        drawn = case(x, y, k, seed)
        mine, theirs, _ = play(drawn, seed)
        assert joined(x, mine, theirs) == plain(drawn)
        assert sorted(mine.rows[mine.rows >= 0].tolist()) == list(range(len(x)))

    check()


def test_payloads_may_be_shared_by_xor() -> None:
    x, y, payload = case(ids(0, 300), ids(200, 450), k=6)
    a, b, _ = recorded_pair(allowed=ci.PROTOCOL.kinds)
    mine, theirs = run_pair(
        ci.receiver(a, x, words=6, rng=seeded_rng(1)), ci.sender(b, y, payload, rng=seeded_rng(2), exclusive=True)
    )
    bins = np.flatnonzero(mine.bits ^ theirs.bits)
    assert [x[at] for at in np.sort(mine.rows[bins])] == ids(200, 300)
    found = signed(mine.payload ^ theirs.payload)[bins]
    assert np.array_equal(found, payload[mine.rows[bins] - 200])


def test_sizes_that_differ_and_several_vectors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(silent_transfer, "LONGEST", 20_000)
    for x, y in ((ids(0, 2000), ids(1990, 2040)), (ids(0, 5), ids(3, 3000))):
        drawn = case(x, y, k=9)
        mine, theirs, transcript = play(drawn)
        assert joined(x, mine, theirs) == plain(drawn)
        assert mine.bits.shape == theirs.bits.shape == (ci.bins(len(x)),)
        hints = [len(frame.payload) for frame in transcript if frame.kind.endswith("Hint")]
        assert hints == [columns * 8 * okvs.Shape(3 * len(y)).words for columns in (4, 4, 2)]


def test_own_values_go_into_the_bins() -> None:
    held = Binned(np.zeros(4, np.uint8), np.empty((4, 0), np.uint64), 0, np.array([1, -1, 0, -1]))
    assert signed(held.spread(np.array([[-7, 5], [3, 4]]))).tolist() == [[3, 4], [0, 0], [-7, 5], [0, 0]]


@pytest.mark.usefixtures("small")
def test_two_worlds_look_alike_to_both() -> None:
    """All ids common or none: same messages, shares of the same uniform kind, nothing that repeats."""
    x, seen = ids(0, 300), []
    for seed, y in ((1, x), (11, ids(1000, 1300))):
        drawn = case(x, y, k=2)
        drawn[2][:] = 1  # payloads that would show
        mine, theirs, transcript = play(drawn, seed)
        for side in (mine, theirs):
            assert balanced(side.bits)
            assert balanced(np.unpackbits(side.payload.view(np.uint8)))
            assert len(np.unique(side.payload)) == side.payload.size
        for frame in transcript:
            if frame.kind.endswith(("Hint", "Encoded", "Indices", "Masked")):
                assert balanced(np.unpackbits(np.frombuffer(frame.payload, np.uint8)))
        words = np.frombuffer(next(f for f in transcript if f.kind.endswith("Hint")).payload, np.uint64)
        assert len(np.unique(words)) == len(words)
        seen.append([(f.sender, f.kind, len(f.header), len(f.payload)) for f in by_stream(transcript)])
    assert seen[0] == seen[1]


def targets(case: Case, monkeypatch: pytest.MonkeyPatch) -> np.ndarray:
    """What the receiver takes out of the store and compares."""
    caught: list[np.ndarray] = []
    real = hidden_table.equal_chooser

    async def spy(peer: Channel, words: np.ndarray, *, stock: hidden_table.Chooser) -> np.ndarray:
        caught.append(words)
        return await real(peer, words, stock=stock)

    with monkeypatch.context() as patch:
        patch.setattr(hidden_table, "equal_chooser", spy)
        play(case)
    return caught[0]


@pytest.mark.usefixtures("small")
def test_a_mutant_with_one_target_for_all_bins_shows_who_is_common(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = case(ids(0, 100), ids(50, 150))
    assert len(np.unique(targets(drawn, monkeypatch))) == ci.bins(100)
    real = ci._hinted

    def mutant(function: Any, at: Any, values: Any, drawn: np.ndarray, *rest: Any) -> filled_store.Store:
        drawn[:, 0] = drawn[0, 0]
        return real(function, at, values, drawn, *rest)

    monkeypatch.setattr(ci, "_hinted", mutant)
    found, times = np.unique(targets(drawn, monkeypatch), return_counts=True)
    assert len(found) < ci.bins(100)
    assert times.max() == 50


@pytest.mark.usefixtures("small")
def test_a_mutant_without_masks_shows_payloads(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = case(ids(0, 100), ids(50, 150))
    assert not set(play(drawn)[0].payload[:, 0]) & set(drawn[2].view(np.uint64)[:, 0])
    real = ci._hinted

    def mutant(function: Any, at: Any, values: Any, drawn: np.ndarray, *rest: Any) -> filled_store.Store:
        drawn[:, 1:] = 0
        return real(function, at, values, drawn, *rest)

    monkeypatch.setattr(ci, "_hinted", mutant)
    assert len(set(play(drawn)[0].payload[:, 0]) & set(drawn[2].view(np.uint64)[:, 0])) == 50


def test_no_two_pairs_of_an_id_share_a_bin() -> None:
    """So that the number of pairs says nothing but the number of ids."""
    at, tied = ci._tagged(ids(0, 3000), ci._Public.of(bytes(16), bytes(32)), ci.bins(1))
    assert len(set(tied)) == len(tied) == 9000
    assert (np.diff(np.sort(at.reshape(-1, 3), axis=1), axis=1) > 0).all()


@pytest.mark.usefixtures("small")
def test_duplicates_and_misfits_are_refused() -> None:
    a, b = memory_pair(timeout=2.0)
    with pytest.raises(InputError, match="1 of 3 ids are duplicates"):
        run_pair(ci.receiver(a, [b"x", b"y", b"x"], rng=seeded_rng(1)), ci.sender(b, ids(0, 3), rng=seeded_rng(2)))
    a, b = memory_pair(timeout=2.0)
    with pytest.raises(InputError, match="1 of 2 ids are duplicates"):
        run_pair(ci.receiver(a, ids(0, 3), rng=seeded_rng(1)), ci.sender(b, [b"x", b"x"], rng=seeded_rng(2)))
    for payload in (np.zeros((2, 1), np.int64), np.zeros(3, np.int64), np.zeros((3, 1))):
        with pytest.raises(InputError, match="the payload has shape"):
            ci.sender(b, ids(0, 3), payload, rng=seeded_rng(2)).send(None)


def test_too_many_ids_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ci, "LARGEST", 500)
    a, b = memory_pair(timeout=2.0)
    with pytest.raises(InputError, match="buckets"):
        ci.receiver(a, ids(0, 60), rng=seeded_rng(1)).send(None)
    with pytest.raises(InputError, match="buckets"):
        ci.sender(b, ids(0, 167), rng=seeded_rng(1)).send(None)


@pytest.mark.parametrize(
    ("opening", "what"),
    [
        (Opening(-1, 0, context_hash(()), b""), "ids, at most"),
        (Opening(ci.LARGEST // 3 + 1, 0, context_hash(()), b""), "ids, at most"),
        (Opening(1 << 62, 0, context_hash(()), b""), "ids, at most"),
        (Opening(3, 1, context_hash(()), b""), "words of payload"),
        (Opening(3, 0, context_hash(("other",)), b""), "different jobs"),
    ],
)
def test_a_sender_with_a_wrong_opening(opening: Opening, what: str) -> None:
    async def liar(peer: Channel) -> None:
        await peer.recv(Opening)
        await peer.send(opening)

    a, b = memory_pair(timeout=2.0)
    with pytest.raises(ProtocolError, match=what):
        run_pair(ci.receiver(a, ids(0, 3), rng=seeded_rng(1)), liar(b))


@pytest.mark.parametrize(
    ("opening", "what"),
    [
        (Opening(-1, 0, context_hash(()), bytes(16)), "ids, at most"),
        (Opening(ci.LARGEST, 0, context_hash(()), bytes(16)), "more than"),
        (Opening(1 << 62, 0, context_hash(()), bytes(16)), "ids, at most"),
        (Opening(3, 0, context_hash(()), bytes(15)), "a seed of"),
        (Opening(3, 2, context_hash(()), bytes(16)), "words of payload"),
    ],
)
def test_a_receiver_with_a_wrong_opening(opening: Opening, what: str) -> None:
    async def liar(peer: Channel) -> None:
        await peer.send(opening)

    a, b = memory_pair(timeout=2.0)
    with pytest.raises(ProtocolError, match=what):
        run_pair(liar(a), ci.sender(b, ids(0, 3), rng=seeded_rng(1)))


@pytest.mark.usefixtures("small")
def test_sides_that_evaluate_another_number_are_refused() -> None:
    async def few_pairs(peer: Channel) -> None:
        opening = await peer.recv(Opening)
        await peer.send(Opening(3, 0, opening.context, b""))
        await vole_oprf.sender(peer, ids(0, 8), rng=seeded_rng(2))

    a, b = memory_pair(timeout=2.0)
    with pytest.raises(ProtocolError, match="8 pairs for 3 ids"):
        run_pair(ci.receiver(a, ids(0, 3), rng=seeded_rng(1)), few_pairs(b))

    async def many_bins(peer: Channel) -> None:
        await peer.send(Opening(3, 0, context_hash(()), bytes(16)))
        await peer.recv(Opening)
        await vole_oprf.receiver(peer, ids(0, 1000), rng=seeded_rng(2))

    a, b = memory_pair(timeout=2.0)
    with pytest.raises(ProtocolError, match="1,000 bins"):
        run_pair(many_bins(a), ci.sender(b, ids(0, 3), rng=seeded_rng(1)))


@pytest.mark.parametrize(("rows", "columns", "seed"), [(1, 0, 16), (0, 1, 16), (0, -1, 16), (0, 0, 15)])
@pytest.mark.usefixtures("small")
def test_a_hint_of_another_size_is_refused(rows: int, columns: int, seed: int) -> None:
    async def liar(peer: Channel) -> None:
        opening = await peer.recv(Opening)
        await peer.send(Opening(3, 1, opening.context, b""))
        await vole_oprf.sender(peer, ids(0, 9), rng=seeded_rng(2))
        await peer.send(Hint(bytes(seed), np.zeros((okvs.Shape(9).words + rows, 2 + columns), np.uint64)))

    a, b = memory_pair(timeout=2.0)
    with pytest.raises(ProtocolError, match=r"shape|a seed of"):
        run_pair(ci.receiver(a, ids(0, 3), words=1, rng=seeded_rng(1)), liar(b))


@pytest.mark.usefixtures("small")
def test_frozen_vectors() -> None:
    mine, theirs, transcript = play(case(ids(0, 5), ids(3, 9), k=2))
    hint = next(frame for frame in transcript if frame.kind.endswith("Hint"))
    parts = [mine.rows, mine.bits, mine.payload, theirs.bits, theirs.payload, hint.payload, transcript[-1].payload]
    assert [hashlib.sha256(bytes(part)).hexdigest()[:16] for part in parts] == FROZEN


FROZEN = [
    "60d3889a8dcf8a15",
    "e615f831df355327",
    "82d6b9c8d71aaf5b",
    "3d9666f545f68949",
    "5d5cc862225edc79",
    "4d81f15d6f197269",
    "134fb99798dcb8e4",
]
