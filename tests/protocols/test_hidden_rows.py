"""Hidden rows: shares of a join that add up to the plain one, say nothing alone, and can be computed on."""

from typing import Any

import numpy as np
import pytest

from atoll.core.channel import Channel
from atoll.core.errors import InputError, ProtocolError
from atoll.crypto import cuckoo
from atoll.crypto.random import Rng
from atoll.protocols import hidden_rows as hr
from atoll.protocols import hidden_table, masked_values
from atoll.protocols.hidden_rows import Rows
from atoll.testing import ProtocolCheck, check_protocol, recorded_pair, run_pair, seeded_rng
from atoll.testing.check_protocol import by_stream
from atoll.transport.memory import memory_pair
from tests.protocols.hidden import balanced, deal_transfers, signed

Case = tuple[list[bytes], np.ndarray, list[bytes], np.ndarray]


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few bins to spare and no base transfers: short runs of the same protocol."""
    monkeypatch.setattr(cuckoo, "SPARE", 30)
    deal_transfers(monkeypatch)


def case(x: range, y: range, kx: int, ky: int) -> Case:
    cx, cy = seeded_rng(1).u64(len(x), kx).view(np.int64), seeded_rng(2).u64(len(y), ky).view(np.int64)
    return [b"id-%d" % i for i in x], cx, [b"id-%d" % i for i in y], cy


async def receive(peer: Channel, case: Case, rng: Rng) -> Rows:
    tools = await hr.receiver_tools(peer, rng=rng)
    return await hr.receiver(peer, case[0], case[1], others=case[3].shape[1], tools=tools, rng=rng)


async def send(peer: Channel, case: Case, rng: Rng) -> Rows:
    tools = await hr.sender_tools(peer, rng=rng)
    return await hr.sender(peer, case[2], case[3], others=case[1].shape[1], tools=tools, rng=rng)


def play(case: Case, seed: int = 1) -> tuple[Rows, Rows, list[Any]]:
    a, b, transcript = recorded_pair(allowed=hr.PROTOCOL.kinds)
    mine, theirs = run_pair(receive(a, case, seeded_rng(seed)), send(b, case, seeded_rng(seed + 1)))
    return mine, theirs, transcript


def shares(rows: Rows) -> np.ndarray:
    """All numbers of a side's shares, one row for each bin."""
    return np.concatenate((rows.bits[:, np.newaxis], rows.members[:, np.newaxis], rows.receiver, rows.sender), axis=1)


def plain(case: Case) -> list[list[int]]:
    """The reference: a join of plain ids."""
    x, cx, y, cy = case
    return [[i, *cx[i].tolist(), *cy[y.index(one)].tolist()] for i, one in enumerate(x) if one in y]


def test_conformance() -> None:
    """Both sides show their shares, so that the receiver can put them together."""

    async def first(peer: Channel, case: Case, rng: Rng) -> Any:
        mine = await receive(peer, case, rng)
        theirs = (await peer.recv(masked_values.Corrections, words=shares(mine).shape)).words
        bins = np.flatnonzero(mine.bits ^ theirs[:, 0].astype(np.uint8))
        sums = shares(mine)[:, 1:] + theirs[:, 1:]
        others = np.delete(sums, bins, axis=0)
        assert mine.own is not None
        joined = [[i, *row] for i, row in zip(mine.own[bins].tolist(), signed(sums[bins, 1:]).tolist(), strict=True)]
        return sorted(joined), set(sums[bins, 0].tolist()) <= {1}, others.any(), mine.others

    async def second(peer: Channel, case: Case, rng: Rng) -> Any:
        mine = await send(peer, case, rng)
        await peer.send(masked_values.Corrections(shares(mine).astype(np.uint64)))
        return mine.own, mine.others

    check_protocol(
        ProtocolCheck(
            protocol=hr.PROTOCOL,
            cases=[
                case(range(6), range(3, 8), 2, 1),
                case(range(1), range(1), 0, 1),
                case(range(0), range(3), 1, 0),
                case(range(30), range(10, 90), 5, 6),
            ],
            first=first,
            second=second,
            reference=lambda case: ((plain(case), True, False, len(case[2])), (None, len(case[0]))),
            max_bytes=lambda case: 2_000_000,
            patience=0.1,
        )
    )


def test_a_mutant_that_does_not_multiply_leaves_noise_in_the_other_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = case(range(30), range(20, 50), 0, 1)
    mine, theirs, _ = play(drawn)
    assert ((mine.sender + theirs.sender) != 0).sum() == 10

    async def holder(peer: Channel, bits: np.ndarray, values: np.ndarray, **_: Any) -> np.ndarray:
        return values

    async def partner(peer: Channel, bits: np.ndarray, k: int, **_: Any) -> np.ndarray:
        return np.zeros((len(bits), k), np.uint64)

    monkeypatch.setattr(masked_values, "holder", holder)
    monkeypatch.setattr(masked_values, "partner", partner)
    mine, theirs, _ = play(drawn)
    assert ((mine.sender + theirs.sender) != 0).all()


def test_two_worlds_look_alike_to_both() -> None:
    """All ids common or none, all values one: same messages, and shares of the same uniform kind."""
    seen = []
    for seed, y in ((1, range(200)), (11, range(1000, 1200))):
        x, cx, ids, cy = case(range(200), y, 1, 1)
        mine, theirs, transcript = play((x, np.ones_like(cx), ids, np.ones_like(cy)), seed)
        for side in (mine, theirs):
            numbers = shares(side)[:, 1:]
            assert balanced(side.bits)
            assert balanced(np.unpackbits(np.ascontiguousarray(numbers).view(np.uint8)))
            assert len(np.unique(numbers)) == numbers.size
        seen.append([(f.sender, f.kind, len(f.header), len(f.payload)) for f in by_stream(transcript)])
    assert seen[0] == seen[1]


def test_rows_can_be_restricted_to_a_group_and_compared() -> None:
    """A bit that the receiver knows is a hidden bit whose other share is zero; shared numbers have a hidden sign."""
    drawn = case(range(50), range(25, 75), 1, 1)
    drawn[3][:] >>= 8
    ours = np.arange(50) % 2

    async def first(peer: Channel) -> Any:
        tools = await hr.receiver_tools(peer, rng=seeded_rng(1))
        rows = await hr.receiver(peer, *drawn[:2], others=1, tools=tools, rng=seeded_rng(2))
        assert rows.own is not None
        group = np.where(rows.own >= 0, ours[rows.own], 0).astype(np.uint8)
        mine = await masked_values.holder(peer, group, rows.sender, ot=tools.sending, rng=seeded_rng(3))
        mine += await masked_values.partner(peer, group, 1, ot=tools.receiving, rng=seeded_rng(4))
        negative = await hidden_table.negative_chooser(peer, rows.sender[:, 0], stock=tools.tables)
        return mine.sum(), negative

    async def second(peer: Channel) -> Any:
        tools = await hr.sender_tools(peer, rng=seeded_rng(5))
        rows = await hr.sender(peer, *drawn[2:], others=1, tools=tools, rng=seeded_rng(6))
        nothing = np.zeros_like(rows.bits)
        mine = await masked_values.partner(peer, nothing, 1, ot=tools.receiving, rng=seeded_rng(7))
        mine += await masked_values.holder(peer, nothing, rows.sender, ot=tools.sending, rng=seeded_rng(8))
        negative = await hidden_table.negative_owner(peer, np.ascontiguousarray(rows.sender[:, 0]), stock=tools.tables)
        return mine.sum(), negative

    a, b = memory_pair()
    (total, some), (more, others) = run_pair(first(a), second(b))
    common = [(i, int(drawn[3][i - 25, 0])) for i in range(25, 50)]
    assert signed(np.array([total + more])).tolist() == [sum(value for i, value in common if ours[i])]
    assert (some ^ others).sum() == sum(value < 0 for _, value in common)


def test_misfits_are_refused() -> None:
    a, b = memory_pair(timeout=2.0)
    x, cx, y, cy = case(range(3), range(3), 1, 1)
    for bad in (cx[:2], cx.astype(float), cx[:, 0]):
        with pytest.raises(InputError, match="the columns have shape"):
            hr.receiver(a, x, bad, others=1, tools=None, rng=seeded_rng(1)).send(None)  # type: ignore[arg-type]
        with pytest.raises(InputError, match="the columns have shape"):
            hr.sender(b, x, bad, others=1, tools=None, rng=seeded_rng(1)).send(None)  # type: ignore[arg-type]
    with pytest.raises(ProtocolError, match="different jobs or columns"):
        run_pair(receive(a, (x, cx, y, cy), seeded_rng(1)), send(b, (x, cx[:, :0], y, cy), seeded_rng(2)))
