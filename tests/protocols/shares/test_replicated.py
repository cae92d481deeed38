"""Three parties on replicated shares: results equal numpy's, what crosses is uniform, mutants and liars are caught."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import numpy as np
import pytest

from atoll.core.channel import Channel, Gate
from atoll.core.errors import ContractError, InputError, ProtocolError
from atoll.core.message import kind_of
from atoll.protocols.shares import Member, Replicated, member, replicated
from atoll.protocols.shares.replicated import Beginning, Part, Shown
from atoll.testing import Frame, ProtocolCheck, check_protocol, end_pair, seeded_rng
from atoll.testing.links import FaultyLink
from atoll.transport.memory import memory_links, memory_pair
from tests.protocols.shares.test_arithmetic import UNIT, drawn

Program = Callable[[Member], Awaitable[Any]]
NAMES = "abc"


def play(*programs: Program, seed: int = 1, fractions: tuple[int, int, int] = (18, 18, 18)) -> tuple[Any, list[Frame]]:
    """Run one program at all three, or one at each; return the results and what crossed."""
    transcript: list[Frame] = []
    links = {}
    for i in range(3):
        j = (i + 1) % 3
        links[i, j], links[j, i] = memory_links(NAMES[i], NAMES[j])

    def channel(here: int, there: int) -> Channel:
        link = FaultyLink(links[here, there], NAMES[here], transcript)
        return Channel(link, Gate(NAMES[here], "test", replicated.PROTOCOL.kinds, "test", 5.0))

    async def party(i: int) -> Any:
        ends = channel(i, (i - 1) % 3), channel(i, (i + 1) % 3)
        p = await member(*ends, i, rng=seeded_rng(seed + i), fraction=fractions[i])
        return await (programs * 3)[i if len(programs) == 3 else 0](p)

    async def run() -> Any:
        try:
            async with asyncio.timeout(30), asyncio.TaskGroup() as group:
                tasks = [group.create_task(party(i)) for i in range(3)]
        except BaseExceptionGroup as errors:
            raise errors.exceptions[0] from None
        return [task.result() for task in tasks]

    return asyncio.run(run()), transcript


async def shared(p: Member, *arrays: Any, fraction: int | None = None) -> list[Replicated]:
    return [await p.input(i % 3, np.shape(x), x if p.number == i % 3 else None, fraction) for i, x in enumerate(arrays)]


@pytest.mark.parametrize("shape", [(0,), (1,), (7,), (3, 5), ()])
def test_products(shape: tuple[int, ...]) -> None:
    x, y, z = (drawn(shape, seed) for seed in (1, 2, 3))

    async def program(p: Member) -> Any:
        a, b, c = await shared(p, x, y, z)
        return await p.open(await p.mul(a, b), await p.mul(c, c), a + b, b - c)

    results, _ = play(program)
    for got in zip(*results, strict=True):
        assert np.array_equal(got[0], got[1])
        assert np.array_equal(got[0], got[2])
    for got, exact in zip(results[0], (x * y, z * z, x + y, y - z), strict=True):
        assert got.shape == shape
        assert np.abs(got - exact).max(initial=0) <= UNIT * (1 + 1e-9)


def test_matrix_products_and_integers() -> None:
    x, y, whole = drawn((4, 9), 1, 30), drawn((9, 2), 2, 30), np.array([-(2**61), 3, 2**40 + 1])

    async def program(p: Member) -> Any:
        a, b = await shared(p, x, y)
        (c,) = await shared(p, whole, fraction=0)
        return await p.open(await p.matmul(a, b), await p.matmul(b.T, a.T[:, :3]), await p.mul(c, c))

    product, other, squares = play(program)[0][2]
    assert np.abs(product - x @ y).max() <= UNIT * (1 + 1e-9)
    assert np.abs(other - y.T @ x.T[:, :3]).max() <= UNIT * (1 + 1e-9)
    assert np.array_equal(squares, whole * whole)
    with pytest.raises(ValueError, match="cannot be multiplied"):
        play(lambda p: p.matmul(*[Replicated(*np.zeros((2, 2, 3), np.uint64))] * 2))


def test_truncation_is_at_most_one_unit_off_at_the_ends_of_the_range() -> None:
    x = np.array([2**62 - 1, -(2**62), 0, -1, 1, 2**18, 12345678901234567] * 30, np.int64)

    async def program(p: Member) -> Any:
        (a,) = await shared(p, x, fraction=0)
        return [await p.open(await p.truncate(Replicated(a.own, a.next, bits), bits)) for bits in (0, 1, 18, 40)]

    for bits, got in zip((0, 1, 18, 40), play(program)[0][1], strict=True):
        assert np.abs(got - (x >> bits)).max() <= (1 if bits else 0), bits


def test_an_opened_value_goes_to_whom_the_program_names() -> None:
    async def program(p: Member) -> Any:
        (a,) = await shared(p, np.array([1.5, -2.0]))
        return [await p.open(a, to=to) for to in (0, 1, 2, None)]

    for number, results in enumerate(play(program)[0]):
        assert [got is not None for got in results] == [number == 0, number == 1, number == 2, True]
        assert results[3].tolist() == results[number].tolist() == [1.5, -2.0]


def seen_by(number: int, transcript: list[Frame], sender: int) -> np.ndarray:
    frames = [f for f in transcript if f.sender == NAMES[sender] and f.kind == kind_of(Part)]
    return np.frombuffer(b"".join(f.payload for f in frames), np.uint64)


async def work(p: Member, x: np.ndarray) -> None:
    a, b = await shared(p, x, x)
    await p.mul(a, b)


def test_two_worlds_look_the_same_and_uniform() -> None:
    kinds = []
    for x in (np.zeros(500), np.linspace(-1e3, 1e3, 500)):
        _, transcript = play(lambda p, x=x: work(p, x))
        kinds.append(sorted((f.sender, f.kind, len(f.payload)) for f in transcript))
        for sender in range(3):
            words = seen_by(-1, transcript, sender)
            bits = np.unpackbits(words.view(np.uint8))
            assert abs(bits.mean() - 0.5) < 0.01
            assert len(np.unique(words)) == len(words)
        assert not [f for f in transcript if f.kind == kind_of(Shown)]
    assert kinds[0] == kinds[1]


def test_halves_of_a_truncation_that_are_not_blinded_show_a_bit_to_the_dealer(monkeypatch: pytest.MonkeyPatch) -> None:
    """Mutant: party 2 knows both halves of the mask; from party 1's bare half it reads the top bit of x + r."""

    async def program(p: Member) -> Any:
        (a,) = await shared(p, np.zeros(64), fraction=18)
        own, shared_stream = p._own, p._shared
        kept: list[np.ndarray] = []

        class Watched:
            def u64(self, *shape: int) -> np.ndarray:
                kept.append(shared_stream.u64(*shape))
                return kept[-1]

        if p.number == 2:
            p._shared = Watched()  # type: ignore[assignment]
        if p.number == 1 and blinded is False:

            class Bare:
                def u64(self, *shape: int) -> np.ndarray:
                    return own.u64(*shape) * np.uint64(0)

            p._own = Bare()  # type: ignore[assignment]
        out = await p.truncate(a, 10)
        return out.own, kept

    for blinded in (True, False):
        results, transcript = play(program)
        part, kept = results[2]
        dealt = np.frombuffer(
            next(f.payload for f in transcript if f.sender == "c" and len(f.payload) == 2 * 64 * 8), np.uint64
        ).reshape(2, 64)
        guesses = np.stack((dealt[1] - dealt[0], np.uint64(0) - dealt[1] - dealt[0]))
        assert (part == guesses).any(axis=0).all() == (not blinded)
        assert len(kept) == 1


def test_programs_that_differ_end_in_one_clear_error() -> None:
    async def one(p: Member) -> Any:
        (a,) = await shared(p, np.zeros(3))
        await p.open(await p.mul(a, a))

    async def other(p: Member) -> Any:
        (a,) = await shared(p, np.zeros(3))
        await p.open(a + a)

    with pytest.raises(ProtocolError, match="same operations in the same order"):
        play(one, one, other)


def test_set_ups_that_differ_are_refused() -> None:
    with pytest.raises(ContractError, match="fractional bits"):
        play(lambda p: p.open(), fractions=(18, 20, 18))
    with pytest.raises(InputError, match="between 4 and 28"):
        play(lambda p: p.open(), fractions=(3, 3, 3))

    async def program(p: Member) -> Any:
        await p.input(0, (3,), np.zeros(2))

    with pytest.raises(InputError, match="was to have the shape"):
        play(program)
    with pytest.raises(TypeError, match="not known here"):
        bool(Replicated(np.zeros(1, np.uint64), np.zeros(1, np.uint64)))


@pytest.mark.parametrize("seed", [b"", bytes(33)])
def test_a_wrong_seed_is_refused(seed: bytes) -> None:
    async def liar(peer: Channel) -> None:
        await peer.send(Beginning(1, 18, seed))

    a, b = memory_pair(timeout=2.0)
    away, _ = memory_pair()
    assert isinstance(end_pair(member(away, a, 0, rng=seeded_rng(1)), liar(b))[0], ProtocolError)


def test_a_member_keeps_its_card() -> None:
    """Parties 0 and 1, where party 2 sends what it would for an input of party 1 that is public, and nothing else."""

    async def role(peer: Channel, case: int, rng: Any, number: int) -> Any:
        away, third = memory_pair()
        sides = (away, peer) if number == 0 else (peer, away)

        async def two() -> None:
            await third.send(Beginning((number + 1) % 3 if number else 2, 18, bytes(32)))

        if number == 1:
            _, p = await asyncio.gather(two(), member(*sides, 1, rng=rng))
        else:
            p = await member(*sides, 0, rng=rng)
        x = await p.input(1, (case,), np.arange(case) if number == 1 else None, 0)
        return await p.open(x, to=0)

    check_protocol(
        ProtocolCheck(
            protocol=replicated.PROTOCOL,
            cases=[4, 0, 1],
            first=lambda peer, case, rng: role(peer, case, rng, 0),
            second=lambda peer, case, rng: role(peer, case, rng, 1),
            reference=lambda case: (np.arange(case), None),
            max_bytes=lambda case: 600 + 16 * case,
        )
    )
