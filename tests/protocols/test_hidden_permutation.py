"""Hidden strings in a private order: exact, shares that say nothing, and messages that do not depend on the order."""

import hashlib
from typing import Any

import numpy as np
import pytest

from atoll.core.channel import Channel
from atoll.core.errors import ProtocolError
from atoll.crypto.random import Rng
from atoll.protocols import hidden_permutation as hp
from atoll.testing import ProtocolCheck, check_protocol, recorded_pair, run_pair, seeded_rng
from atoll.transport.memory import memory_pair
from tests.protocols.hidden import balanced, transfers

Case = tuple[np.ndarray, np.ndarray, np.ndarray]
"""The order, and both sides' shares."""


async def order(peer: Channel, case: Case, rng: Rng) -> np.ndarray:
    return await hp.orderer(peer, case[0], case[1], ot=transfers(1)[0], rng=rng)


async def hold(peer: Channel, case: Case, rng: Rng) -> np.ndarray:
    return await hp.holder(peer, case[2], ot=transfers(1)[1], rng=rng)


def play(case: Case, seed: int = 1) -> tuple[np.ndarray, np.ndarray, list[Any]]:
    a, b, transcript = recorded_pair(allowed=hp.PROTOCOL.kinds)
    mine, theirs = run_pair(order(a, case, seeded_rng(seed)), hold(b, case, seeded_rng(seed + 9)))
    return mine, theirs, transcript


def drawn(seed: int, n: int, width: int) -> Case:
    rng = seeded_rng(seed)
    return rng.permutation(n), rng.u8(n, width), rng.u8(n, width)


def plain(case: Case) -> np.ndarray:
    return np.array([case[1][at] ^ case[2][at] for at in case[0]], np.uint8).reshape(case[1].shape)


def test_conformance() -> None:
    """Both sides show their shares, so that they can be joined."""

    async def first(peer: Channel, case: Case, rng: Rng) -> Any:
        mine = await order(peer, case, rng)
        await peer.send(hp.Exchanges(mine))
        return mine ^ (await peer.recv(hp.Exchanges, strings=mine.shape)).strings

    async def second(peer: Channel, case: Case, rng: Rng) -> Any:
        mine = await hold(peer, case, rng)
        theirs = (await peer.recv(hp.Exchanges, strings=mine.shape)).strings
        await peer.send(hp.Exchanges(mine))
        return mine ^ theirs

    check_protocol(
        ProtocolCheck(
            protocol=hp.PROTOCOL,
            cases=[drawn(1, 7, 2), drawn(2, 1, 1), drawn(3, 2, 9), drawn(4, 100, 1), drawn(5, 33, hp.LONGEST)],
            first=first,
            second=second,
            reference=lambda case: (plain(case),) * 2,
            max_bytes=lambda case: (
                16 * len(case[0]) * (len(case[0]).bit_length() * (1 + case[1].shape[1] / 8) + 1)
                + 2 * case[1].size
                + 3000
            ),
        )
    )


def test_many_switches_take_silent_strings_and_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hp.silent_transfer, "LONGEST", 9000)
    monkeypatch.setattr(hp, "_MESSAGE_BYTES", 40_001)
    case = drawn(6, 3000, 3)
    mine, theirs, transcript = play(case)
    assert np.array_equal(mine ^ theirs, plain(case))
    assert sum(frame.kind.endswith("Exchanges") for frame in transcript) > 2


def test_two_worlds_look_alike_to_both() -> None:
    """The order stays or is turned round, strings are all zeros or all ones: same sizes, and nothing but noise."""
    n, seen = 700, []
    for world, turn in ((0, 1), (1, -1)):
        mine_ = seeded_rng(8).u8(n, 2)
        case = (np.arange(n)[::turn].copy(), mine_, mine_ ^ np.uint8(255 * world))
        mine, theirs, transcript = play(case, seed=world + 1)
        for share in (mine, theirs):
            assert balanced(np.unpackbits(share))
        for frame in transcript[-2:]:
            assert balanced(np.unpackbits(np.frombuffer(frame.payload, np.uint8)))
        seen.append([(frame.sender, len(frame.header), len(frame.payload)) for frame in transcript])
    assert seen[0] == seen[1]


def test_a_mutant_without_pads_shows_which_wires_differ(monkeypatch: pytest.MonkeyPatch) -> None:
    """Were pads zero, exchanges of the first layer would be the differences of the holder's neighbours."""
    monkeypatch.setattr(hp, "_pads", lambda strings, first, width: np.zeros((len(strings), 2, width), np.uint8))
    shares = np.arange(8, dtype=np.uint8)[:, np.newaxis]
    *_, transcript = play((np.arange(8), shares, shares))
    assert np.frombuffer(transcript[-1].payload, np.uint8)[:8].tolist() == [1] * 8


@pytest.mark.parametrize("shape", [(7, 2, 2), (5, 2, 2), (6, 2, 1), (6, 1, 2), (0, 0, 0), (24,)])
def test_exchanges_of_another_size_are_refused(shape: tuple[int, ...]) -> None:
    async def liar(peer: Channel) -> None:
        await transfers(1)[1].extend(peer, 6)
        await peer.recv(hp.Flips, bits=(1,))
        await peer.send(hp.Exchanges(np.zeros(shape, np.uint8)))

    a, b = memory_pair(timeout=2.0)
    case = drawn(1, 4, 2)
    assert sum(hp.switching_network.switches(4)) == 6
    with pytest.raises(ProtocolError, match="shape"):
        run_pair(liar(b), order(a, case, seeded_rng(1)))


def test_strings_that_are_too_long_are_refused() -> None:
    a, _ = memory_pair(timeout=2.0)
    with pytest.raises(ValueError, match="1 to 128 bytes"):
        hp.holder(a, np.zeros((2, 129), np.uint8), ot=None, rng=seeded_rng(1)).send(None)  # type: ignore[arg-type]


def test_frozen_vectors() -> None:
    mine, theirs, transcript = play(drawn(9, 11, 3))
    parts = [mine, theirs, transcript[-2].payload, transcript[-1].payload]
    assert [hashlib.sha256(bytes(part)).hexdigest()[:16] for part in parts] == FROZEN


FROZEN = ["1f8b0dd174116410", "21a3e47202ef9949", "46172cc19a8f4d50", "d30856908204f487"]
