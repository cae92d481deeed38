"""Values times hidden bits: exact modulo 2^64, shares that say nothing, and the bit itself as a number."""

import hashlib
from typing import Any

import numpy as np
import pytest

from atoll.core.channel import Channel
from atoll.core.errors import ProtocolError
from atoll.crypto.random import Rng
from atoll.protocols import masked_values as mv
from atoll.testing import ProtocolCheck, check_protocol, recorded_pair, run_pair, seeded_rng
from atoll.transport.memory import memory_pair
from tests.protocols.hidden import balanced, signed, transfers

Case = tuple[np.ndarray, np.ndarray, np.ndarray]


async def hold(peer: Channel, case: Case, rng: Rng) -> np.ndarray:
    return await mv.holder(peer, case[0], case[2], ot=transfers(1)[1], rng=rng)


async def partner(peer: Channel, case: Case, rng: Rng) -> np.ndarray:
    return await mv.partner(peer, case[1], case[2].shape[1], ot=transfers(1)[0], rng=rng)


def play(case: Case, seed: int = 1) -> tuple[np.ndarray, np.ndarray, list[Any]]:
    a, b, transcript = recorded_pair(allowed=mv.PROTOCOL.kinds)
    mine, theirs = run_pair(hold(a, case, seeded_rng(seed)), partner(b, case, seeded_rng(seed + 9)))
    return mine, theirs, transcript


def drawn(seed: int, n: int, k: int) -> Case:
    rng = seeded_rng(seed)
    return rng.bits(n), rng.bits(n), rng.u64(n, k)


def plain(case: Case) -> np.ndarray:
    rows = [[int(v) if b ^ c else 0 for v in row] for b, c, row in zip(*case, strict=True)]
    return np.array(rows, np.uint64).reshape(case[2].shape)


def test_conformance() -> None:
    """Both sides show their shares, so that the sums can be compared."""

    async def first(peer: Channel, case: Case, rng: Rng) -> Any:
        mine = await hold(peer, case, rng)
        await peer.send(mv.Corrections(mine))
        return mine + (await peer.recv(mv.Corrections, words=mine.shape)).words

    async def second(peer: Channel, case: Case, rng: Rng) -> Any:
        mine = await partner(peer, case, rng)
        theirs = (await peer.recv(mv.Corrections, words=mine.shape)).words
        await peer.send(mv.Corrections(mine))
        return mine + theirs

    check_protocol(
        ProtocolCheck(
            protocol=mv.PROTOCOL,
            cases=[drawn(1, 7, 2), drawn(2, 1, 1), drawn(3, 300, 5), drawn(4, 8, 0), drawn(5, 0, 3)],
            first=first,
            second=second,
            reference=lambda case: (plain(case),) * 2,
            max_bytes=lambda case: len(case[0]) * (16 + 24 * case[2].shape[1] + 1) + 1024 + 1000,
        )
    )


def test_many_bits_take_silent_strings_and_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mv.silent_transfer, "LONGEST", 9000)
    monkeypatch.setattr(mv, "_MESSAGE_WORDS", 10_001)
    case = drawn(6, 20_000, 3)
    mine, theirs, transcript = play(case)
    assert np.array_equal(mine + theirs, plain(case))
    assert sum(frame.kind.endswith("Trees") for frame in transcript) == 2


def test_products_may_be_shared_by_xor() -> None:
    case = drawn(10, 300, 3)
    a, b, transcript = recorded_pair(allowed=mv.PROTOCOL.kinds)
    receiving, sending = transfers(1)
    mine, theirs = run_pair(
        mv.holder(a, case[0], case[2], ot=sending, rng=seeded_rng(1), exclusive=True),
        mv.partner(b, case[1], 3, ot=receiving, rng=seeded_rng(2), exclusive=True),
    )
    assert np.array_equal(mine ^ theirs, plain(case))
    for noise in (mine, theirs, np.frombuffer(transcript[-1].payload, np.uint64)):
        assert balanced(np.unpackbits(np.ascontiguousarray(noise).view(np.uint8)))


def test_bits_become_numbers_and_negative_numbers_stay() -> None:
    bits, others, _ = drawn(7, 500, 1)
    values = np.stack((np.ones(500), np.arange(500) - 250), axis=1).astype(np.int64)
    mine, theirs, _ = play((bits, others, values.view(np.uint64)))
    sums = signed((mine + theirs).sum(axis=0))
    common = (bits ^ others).astype(bool)
    assert sums.tolist() == [common.sum(), values[common, 1].sum()]


def test_two_worlds_look_alike_to_both() -> None:
    """All bits are 1, or none; values are all zero, or all the largest: same sizes, and nothing but noise."""
    n, rng, seen = 2000, seeded_rng(8), []
    mine_ = rng.bits(n)
    for hidden_bit, value in ((0, 0), (1, (1 << 64) - 1)):
        case = (mine_, mine_ ^ np.uint8(hidden_bit), np.full((n, 2), value, np.uint64))
        mine, theirs, transcript = play(case, seed=hidden_bit + 1)
        for share in (mine, theirs):
            assert balanced(np.unpackbits(share.view(np.uint8)))
            assert len(np.unique(share)) == share.size
        for frame in transcript[-2:]:
            assert balanced(np.unpackbits(np.frombuffer(frame.payload, np.uint8)))
        seen.append([(frame.sender, len(frame.header), len(frame.payload)) for frame in transcript])
    assert seen[0] == seen[1]


def test_a_mutant_without_pads_shows_values(monkeypatch: pytest.MonkeyPatch) -> None:
    """Were pads zero, the correction would be the value itself, and the partner's share would be 0 or that."""
    monkeypatch.setattr(mv, "_pads", lambda strings, first, k: np.zeros((len(strings), k), np.uint64))
    case = (np.zeros(50, np.uint8), np.ones(50, np.uint8), np.full((50, 1), 12345, np.uint64))
    _, theirs, transcript = play(case)
    assert set(np.frombuffer(transcript[-1].payload, np.uint64)) == {12345}
    assert set(theirs[:, 0]) == {12345}


@pytest.mark.parametrize("shape", [(4, 2), (6, 2), (5, 1), (10,), (0, 0)])
def test_corrections_of_another_size_are_refused(shape: tuple[int, ...]) -> None:
    async def liar(peer: Channel) -> None:
        await transfers(1)[1].extend(peer, 5)
        await peer.recv(mv.Flips, bits=(1,))
        await peer.send(mv.Corrections(np.zeros(shape, np.uint64)))

    a, b = memory_pair(timeout=2.0)
    with pytest.raises(ProtocolError, match="shape"):
        run_pair(liar(a), partner(b, drawn(1, 5, 2), seeded_rng(1)))


def test_rows_that_do_not_fit_are_refused() -> None:
    a, _ = memory_pair(timeout=2.0)
    with pytest.raises(ValueError, match="3 rows of values for 2 bits"):
        mv.holder(a, np.zeros(2, np.uint8), np.zeros((3, 1), np.uint64), ot=None, rng=seeded_rng(1)).send(None)  # type: ignore[arg-type]


def test_frozen_vectors() -> None:
    mine, theirs, transcript = play(drawn(9, 11, 3))
    parts = [mine, theirs, transcript[-2].payload, transcript[-1].payload]
    assert [hashlib.sha256(bytes(part)).hexdigest()[:16] for part in parts] == FROZEN


FROZEN = ["cceccf6e062c7269", "aa7d555a4c42f703", "b5dad468efe98d1b", "1038be84844594d5"]
