"""Products under homomorphic encryption equal numpy's; two worlds; peers that cheat; nothing serves twice."""

import copy
import hashlib
from typing import Any

import numpy as np
import pytest

from atoll.core.channel import Channel
from atoll.core.errors import ProtocolError
from atoll.core.message import Message, kind_of
from atoll.protocols.shares import Party, homomorphic
from atoll.protocols.shares.homomorphic import EncryptedRows, Keys, Numbers, Products, RowProducts, _Answerer, _Owner
from atoll.testing import Frame, ProtocolCheck, check_protocol, end_pair, recorded_pair, run_pair, seeded_rng
from atoll.transport.memory import memory_pair
from tests.protocols.hidden import deal_transfers
from tests.protocols.shares.runs import play
from tests.protocols.shares.test_arithmetic import UNIT, drawn, shared


@pytest.fixture(autouse=True)
def _dealt(monkeypatch: pytest.MonkeyPatch) -> None:
    """Base transfers have tests of their own."""
    deal_transfers(monkeypatch)


# ---------------------------------------------------------------------------------------------- what comes out


@pytest.mark.parametrize("n", [0, 1, 1023, 1024, 4097])
def test_products_and_squares(n: int) -> None:
    x, y = drawn((n,), 1), drawn((n,), 2)
    whole = np.resize(np.array([0, 1, -1, 2**61, -(2**61), 2**40 + 1], np.int64), n)

    async def program(p: Party) -> Any:
        a, b = await shared(p, x, y)
        (c,) = await shared(p, whole, fraction=0)
        return await p.open(await p.mul(a, b), await p.square(a), await p.mul(c, c))

    mine, theirs, _ = play(program, source="homomorphic", timeout=20)
    for got, other, exact in zip(mine, theirs, (x * y, x * x, None), strict=True):
        assert np.array_equal(got, other)
        if exact is not None:
            assert np.abs(got - exact).max(initial=0) <= UNIT * (1 + 1e-9)
    with np.errstate(over="ignore"):
        assert np.array_equal(mine[2], whole * whole)  # numpy wraps in the same way


@pytest.mark.parametrize("size", [(1, 1, 1), (40, 30, 2), (2, 30, 40), (0, 4, 3), (1, 2000, 1), (3, 5, 100)])
def test_matrix_products(size: tuple[int, int, int]) -> None:
    m, k, n = size
    x, y = drawn((m, k), 1, 30), drawn((k, n), 2, 30)

    async def program(p: Party) -> Any:
        a, b = await shared(p, x, y)
        return await p.open(await p.matmul(a, b))

    product, other, _ = play(program, source="homomorphic", timeout=20)
    assert np.abs(product - x @ y).max(initial=0) <= UNIT * (1 + 1e-9)
    assert np.array_equal(product, other)


def test_triples_hold_and_none_is_given_twice() -> None:
    async def program(p: Party) -> Any:
        return [await p.source.products(5000) for _ in range(2)], await p.source.squares(1500)

    (mine, square), (theirs, other), _ = play(program, source="homomorphic", timeout=20)
    for one, two in zip(mine, theirs, strict=True):
        assert np.array_equal((one.a + two.a) * (one.b + two.b), one.c + two.c)
    a = square[0] + other[0]
    assert np.array_equal(a * a, square[1] + other[1])
    given = [part for triple in [*mine, *theirs] for part in (triple.a, triple.b, triple.c)] + [*square, *other]
    every = np.concatenate(given)
    assert len(np.unique(every)) == every.size


def test_a_source_cannot_be_copied_or_shown() -> None:
    async def program(p: Party) -> Any:
        return p.source

    made = play(program, source="homomorphic", timeout=20)[0]
    with pytest.raises(TypeError, match="cannot be copied"):
        copy.deepcopy(made)
    assert repr(made).startswith("HomomorphicSource(number=0")
    assert len(repr(made)) < 60


# ---------------------------------------------------------------------------------------------- what is seen


def test_two_worlds_look_the_same_and_uniform() -> None:
    """Worlds in which all values are 0, or large and of both signs, differ in nothing that can be seen."""
    seen = []
    for x, y in ((np.zeros(1100), np.zeros(1100)), (np.full(1100, 1e6), np.linspace(-1e6, 1e6, 1100))):

        async def program(p: Party, x: np.ndarray = x, y: np.ndarray = y) -> None:
            a, b = await shared(p, x, y)
            await p.mul(a, b)
            await p.square(a)
            await p.dot(a, b)

        _, _, transcript = play(program, source="homomorphic", timeout=20, seed=11)
        seen.append(sorted((f.sender, f.stream, f.kind, len(f.header), len(f.payload)) for f in transcript))
        for kind in (Numbers, Products, EncryptedRows, RowProducts):
            for low in range(2):  # the two low bytes of every residue
                assert uniform(transcript, kind, low), (kind.__name__, low)
    assert seen[0] == seen[1]


def uniform(transcript: list[Frame], kind: type[Message], place: int) -> bool:
    found = np.concatenate(
        [np.frombuffer(f.payload, np.uint8)[place::3] for f in transcript if f.kind == kind_of(kind)]
    )
    counts = np.bincount(found, minlength=256)
    chi = ((counts - found.size / 256) ** 2 / (found.size / 256)).sum()
    return bool(chi < 255 + 8 * np.sqrt(510))


def test_numbers_of_requests_are_counted_and_never_serve_twice() -> None:
    async def owner(peer: Channel) -> _Owner:
        made = _Owner(peer, seeded_rng(1))
        await made.publish()
        await made.products(np.arange(5, dtype=np.uint64)[np.newaxis])
        await made.matrix(np.ones((3, 3), np.uint64), 3, homomorphic.matrix_tiles.plan(3, 3, 3))
        return made

    async def answerer(peer: Channel) -> _Answerer:
        made = _Answerer(peer, seeded_rng(2))
        await made.learn()
        await made.products(np.ones((1, 5), np.uint64))
        await made.matrix(np.ones((3, 3), np.uint64), 3, homomorphic.matrix_tiles.plan(3, 3, 3))
        return made

    a, b, transcript = recorded_pair(timeout=5.0)
    one, two = run_pair(owner(a), answerer(b))
    assert one._used == two._used == 2
    asked = [f for f in transcript if f.kind in (kind_of(Numbers), kind_of(EncryptedRows))]
    assert len({f.payload for f in asked}) == 2


# ---------------------------------------------------------------------------------------------- conformance


async def owns(peer: Channel, case: np.ndarray, rng: Any) -> tuple[np.ndarray, np.ndarray]:
    made = _Owner(peer, rng)
    await made.publish()
    plan = homomorphic.matrix_tiles.plan(2, case.size, 1)
    return await made.products(case[np.newaxis]), await made.matrix(case[:, np.newaxis], 2, plan)


async def answers(peer: Channel, case: np.ndarray, rng: Any) -> tuple[np.ndarray, np.ndarray]:
    made = _Answerer(peer, rng)
    await made.learn()
    plan = homomorphic.matrix_tiles.plan(2, case.size, 1)
    return await made.products(case[np.newaxis]), await made.matrix(np.stack((case, case + np.uint64(1))), 1, plan)


@pytest.mark.slow
def test_owner_and_answerer_keep_their_card() -> None:
    """One direction alone: each side's half is checked by the sum, so that the reference knows both."""
    halves: dict[bytes, Any] = {}

    async def first(peer: Channel, case: np.ndarray, rng: Any) -> Any:
        halves[case.tobytes()] = found = await owns(peer, case, rng)
        return [part.shape for part in found]

    async def second(peer: Channel, case: np.ndarray, rng: Any) -> Any:
        return [part.shape for part in await answers(peer, case, rng)]

    check_protocol(
        ProtocolCheck(
            protocol=homomorphic.PROTOCOL,
            cases=[np.arange(5, dtype=np.uint64), np.full(1, (1 << 64) - 1, np.uint64)],
            first=first,
            second=second,
            reference=lambda case: ([(case.size,), (2, 1)],) * 2,
            max_bytes=lambda case: 774_000 + 553_000 + 442_400 + 222_000 + 100_000,
            patience=0.1,
        )
    )


def test_known_answers_and_bytes_of_one_direction() -> None:
    case = np.arange(1, 6, dtype=np.uint64)
    a, b, transcript = recorded_pair(timeout=5.0)
    mine, theirs = run_pair(owns(a, case, seeded_rng(1)), answers(b, case, seeded_rng(2)))
    assert np.array_equal(mine[0] + theirs[0], case * case)
    assert np.array_equal(mine[1] + theirs[1], [[55], [70]])
    assert [len(f.payload) for f in transcript] == [774_144, 552_960, 442_368, 221_184, 98_328]
    assert [hashlib.sha256(f.payload).hexdigest()[:12] for f in transcript] == [
        "1140f7aa3b20",
        "0ab69e797757",
        "a7dd1f0f33d6",
        "1f5cbd1346bc",
        "cbed0fc5e822",
    ]


# ---------------------------------------------------------------------------------------------- peers that cheat


@pytest.mark.parametrize("change", ["seed", "slots", "matrices"])
def test_keys_of_another_size_are_refused(change: str) -> None:
    async def liar(peer: Channel) -> None:
        facts = {
            "seed": bytes(32),
            "slots": np.zeros((9, 5, 1, 4096, 3), np.uint8),
            "matrices": np.zeros((9, 1, 8192, 3), np.uint8),
        }
        facts[change] = facts[change][:-1]  # type: ignore[index]
        await peer.send(Keys(**facts))  # type: ignore[arg-type]

    a, b = memory_pair(timeout=2.0)
    assert isinstance(end_pair(_Answerer(a, seeded_rng(1)).learn(), liar(b))[0], ProtocolError)


BAD_REQUESTS = [
    Numbers(1, np.zeros((9, 5, 1, 4096, 3), np.uint8)),
    Numbers(0, np.zeros((9, 5, 2, 4096, 3), np.uint8)),
    Numbers(0, np.zeros((9, 5, 0, 4096, 3), np.uint8)),
    EncryptedRows(0, np.zeros((9, 1, 8192, 3), np.uint8)),
]


@pytest.mark.parametrize("message", BAD_REQUESTS, ids=lambda message: f"{type(message).__name__} {message.parts.shape}")
def test_requests_out_of_turn_or_size_are_refused(message: Message) -> None:
    async def honest(peer: Channel) -> None:
        made = _Answerer(peer, seeded_rng(1))
        await made.learn()
        await made.products(np.ones((1, 5), np.uint64))

    async def liar(peer: Channel) -> None:
        await _Owner(peer, seeded_rng(2)).publish()
        await peer.send(message)

    a, b = memory_pair(timeout=2.0)
    assert isinstance(end_pair(honest(a), liar(b))[0], ProtocolError)


@pytest.mark.parametrize("shape", [(9, 2, 2, 2, 4096, 3), (8, 2, 2, 1, 4096, 3), (0,)])
def test_answers_of_another_size_are_refused(shape: tuple[int, ...]) -> None:
    async def liar(peer: Channel) -> None:
        await _Answerer(peer, seeded_rng(1)).learn()
        await peer.recv(Numbers, parts=(9, 5, 1, 4096, 3))
        await peer.send(Products(np.zeros(shape, np.uint8)))

    async def honest(peer: Channel) -> None:
        await owns(peer, np.ones(5, np.uint64), seeded_rng(2))

    a, b = memory_pair(timeout=2.0)
    error, _ = end_pair(honest(a), liar(b))
    assert isinstance(error, ProtocolError)
    assert "no " not in error.what  # refused at once, not at the end of the time


def test_bytes_that_are_no_residues_change_results_and_nothing_else() -> None:
    async def liar(peer: Channel) -> None:
        await _Answerer(peer, seeded_rng(1)).learn()
        await peer.recv(Numbers, parts=(9, 5, 1, 4096, 3))
        await peer.send(Products(np.full((9, 2, 2, 1, 4096, 3), 255, np.uint8)))

    async def honest(peer: Channel) -> np.ndarray:
        made = _Owner(peer, seeded_rng(2))
        await made.publish()
        return await made.products(np.ones((1, 5), np.uint64))

    a, b = memory_pair(timeout=2.0)
    assert run_pair(honest(a), liar(b))[0].shape == (5,)
