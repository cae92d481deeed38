"""What crosses the border while two parties compute on shares tells nothing; mutants that would tell are caught."""

import asyncio
import copy
import pickle
from typing import Any

import numpy as np
import pytest

from atoll.core.channel import Channel
from atoll.core.errors import ProtocolError
from atoll.core.message import kind_of
from atoll.protocols import shares
from atoll.protocols.shares import Party, compact_transfer, dealer, first, party, second, transfers
from atoll.protocols.shares.dealer import Correction, Order, Seed
from atoll.protocols.shares.party import Hello, Masked, Opened
from atoll.protocols.shares.source import Triple
from atoll.testing import Frame, ProtocolCheck, check_card, check_protocol, end_pair, run_pair, seeded_rng
from atoll.testing.check_protocol import by_stream, check_equals_reference, check_faults
from atoll.transport.memory import memory_pair
from tests.protocols.shares.runs import play
from tests.protocols.shares.test_arithmetic import SOURCES, shared


async def everything(p: Party, x: np.ndarray, y: np.ndarray) -> None:
    """All operations once, with nothing opened."""
    a, b = await shared(p, x, y)
    await p.mul(a, b)
    await p.square(a)
    await p.matmul(a.reshape(1, -1), b.reshape(-1, 1))
    below = await shares.less(p, a, b)
    await shares.select(p, below, a, b)
    await shares.equal(p, a, b)
    await shares.to_bits(p, a)
    await shares.logistic(p, a)


def words(transcript: list[Frame], kind: type) -> np.ndarray:
    return np.frombuffer(b"".join(f.payload for f in transcript if f.kind == kind_of(kind)), np.uint8)


@pytest.mark.parametrize("source", SOURCES)
def test_two_worlds_look_the_same_and_uniform(source: str) -> None:
    """Worlds in which all values are 0, or large and of both signs, differ in nothing that can be seen."""
    worlds = (np.zeros(192), np.zeros(192)), (np.full(192, 1e6), np.linspace(-1e6, 1e6, 192))
    seen = []
    for x, y in worlds:
        _, _, transcript = play(lambda p, x=x, y=y: everything(p, x, y), source=source, seed=11)
        seen.append([(f.sender, f.stream, f.kind, len(f.header), len(f.payload)) for f in by_stream(transcript)])
        for sender in "ab":
            own = [f for f in transcript if f.sender == sender]
            for kind in (Masked, transfers.Corrections, transfers.Tables):
                found = words(own, kind)
                if found.size:
                    counts = np.bincount(found, minlength=256)
                    expected = found.size / 256
                    chi = ((counts - expected) ** 2 / expected).sum()
                    assert chi < 255 + 6 * np.sqrt(510), (sender, kind.__name__)
        assert not words(transcript, Opened).size
    assert sorted(seen[0]) == sorted(seen[1])


class Reused(dealer.DealerSource):
    """Mutant: the same triple serves twice."""

    kept: Triple | None = None

    async def products(self, n: int) -> Triple:
        self.kept = self.kept or await super().products(n)
        return self.kept


def masked_twice(monkeypatch: pytest.MonkeyPatch | None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Multiply x by two different vectors; return both opened x − a, and the difference of the vectors' d."""
    if monkeypatch:
        monkeypatch.setattr(dealer, "DealerSource", Reused)
    x, y = np.arange(40.0), np.arange(40.0)[::-1] * 3

    async def program(p: Party) -> Any:
        a, b = await shared(p, x, y)
        await p.mul(a, a)
        await p.mul(b, b)

    _, _, transcript = play(program)
    frames = [np.frombuffer(f.payload, np.uint64) for f in transcript if f.kind == kind_of(Masked)]
    products = [frame for frame in frames if frame.size == 80]
    opened = [products[0] + products[1], products[2] + products[3]]
    return opened[0][:40], opened[1][:40], ((x - y) * 2**18).astype(np.int64).view(np.uint64)


def test_a_reused_triple_shows_the_difference_of_two_values(monkeypatch: pytest.MonkeyPatch) -> None:
    one, two, difference = masked_twice(None)
    assert not np.any(one - two == difference)
    one, two, difference = masked_twice(monkeypatch)  # mutant
    assert np.array_equal(one - two, difference)


@pytest.mark.parametrize("source", SOURCES)
def test_no_randomness_is_given_twice(source: str) -> None:
    async def program(p: Party) -> Any:
        found = [await p.source.products(64) for _ in range(3)]
        ands = [await p.source.ands(1, 3) for _ in range(2)]
        squares = await p.source.squares(64)
        return np.concatenate(
            [part.reshape(-1) for t in [*found, *ands] for part in (t.a, t.b, t.c)] + [squares[0], squares[1]]
        )

    mine, theirs, _ = play(program, source=source)
    assert len(np.unique(np.concatenate((mine, theirs)))) == 2 * len(mine)


@pytest.mark.parametrize("source", SOURCES)
def test_relations_hold(source: str) -> None:
    async def program(p: Party) -> Any:
        return (
            await p.source.products(70),
            await p.source.squares(70),
            await p.source.matrices(2, 3, 4),
            await p.source.ands(3, 2),
            await p.source.bits(70),
        )

    (product, square, matrix, ands, bits), theirs, _ = play(program, source=source)
    a, b, c = (getattr(product, name) + getattr(theirs[0], name) for name in "abc")
    assert np.array_equal(a * b, c)
    assert np.array_equal((square[0] + theirs[1][0]) ** 2, square[1] + theirs[1][1])
    a, b, c = (getattr(matrix, name) + getattr(theirs[2], name) for name in "abc")
    assert np.array_equal(a @ b, c)
    a, b, c = (getattr(ands, name) ^ getattr(theirs[3], name) for name in "abc")
    assert np.array_equal(a & b, c)
    plane = np.unpackbits((bits[0] ^ theirs[4][0]).view(np.uint8), bitorder="little", count=70)
    assert np.array_equal(plane, bits[1] + theirs[4][1])


@pytest.mark.parametrize("source", SOURCES)
def test_sources_cannot_be_copied_stored_or_shown(source: str) -> None:
    async def program(p: Party) -> Any:
        return p.source

    for made in play(program, source=source)[:2]:
        for attempt in (copy.copy, copy.deepcopy, pickle.dumps):
            with pytest.raises(TypeError, match="cannot be copied"):
                attempt(made)
        assert "number=" in repr(made)
        assert len(repr(made)) < 60


# ---------------------------------------------------------------------------------------------- peers that cheat


async def greeting(peer: Channel, **changed: Any) -> None:
    facts = {"number": 1, "fraction": 18, "source": "dealer", "seed": bytes(32), **changed}
    await peer.send(Hello(**facts))
    await peer.recv(Hello)


class Fixed:
    """A source whose randomness is known, for peers that are played by hand."""

    name = "dealer"

    async def products(self, n: int) -> Triple:
        return Triple(*np.zeros((3, n), np.uint64))


@pytest.mark.parametrize("seed", [b"", bytes(31), bytes(1000)])
def test_a_wrong_seed_is_refused(seed: bytes) -> None:
    a, b = memory_pair(timeout=2.0)
    with pytest.raises(ProtocolError, match="a seed of"):
        run_pair(first(a, Fixed(), rng=seeded_rng(1)), greeting(b, seed=seed))  # type: ignore[arg-type]


@pytest.mark.parametrize("size", [0, 5, 7, 1 << 20])
def test_masked_words_of_another_size_are_refused(size: int) -> None:
    async def honest(peer: Channel) -> None:
        p = await first(peer, Fixed(), rng=seeded_rng(1))  # type: ignore[arg-type]
        await p.mul(p.constant(np.ones(3)), p.constant(np.ones(3)))

    async def liar(peer: Channel) -> None:
        await greeting(peer)
        await peer.send(Masked(bytes(8), np.zeros(size, np.uint64)))

    a, b = memory_pair(timeout=2.0)
    error, _ = end_pair(honest(a), liar(b))
    assert isinstance(error, ProtocolError)


BAD_ORDERS = [
    Order(0, "products", (0,)),
    Order(0, "products", (-5,)),
    Order(0, "products", (1 << 40,)),
    Order(0, "products", (3, 3)),
    Order(0, "matrices", (1 << 20, 1 << 20, 1)),
    Order(0, "shifts", (4, 64)),
    Order(0, "shifts", (4, 0)),
    Order(0, "waves", (4, 65, 20, 20)),
    Order(0, "waves", (4, 8, 64, 20)),
    Order(0, "everything", (4,)),
    Order(1, "products", (4,)),
]


@pytest.mark.parametrize("order", BAD_ORDERS, ids=str)
def test_orders_that_no_honest_party_gives_are_refused(order: Order) -> None:
    async def liar(peer: Channel) -> None:
        await peer.recv(Seed)
        await peer.send(order)

    async def run() -> Any:
        (a, at_a), (b, at_b) = memory_pair("dealer", "a"), memory_pair("dealer", "b")
        found = await asyncio.gather(
            dealer.dealer(a, b, rng=seeded_rng(1)), liar(at_a), liar(at_b), return_exceptions=True
        )
        return found[0]

    assert isinstance(asyncio.run(run()), ProtocolError)


def test_a_dealer_that_deals_another_size_or_number_is_refused() -> None:
    async def liar(peer: Channel, correction: Correction, seed: bytes = bytes(32)) -> None:
        await peer.send(Seed(seed))
        await peer.recv(Order)
        await peer.send(correction)

    async def honest(site: Channel) -> None:
        await (await dealer.source(site, 1)).products(4)

    for correction in (Correction(0, np.zeros(5, np.uint64)), Correction(1, np.zeros(4, np.uint64))):
        a, b = memory_pair(timeout=2.0)
        assert isinstance(end_pair(honest(a), liar(b, correction))[0], ProtocolError)
    a, b = memory_pair(timeout=2.0)
    short = liar(b, Correction(0, np.zeros(4, np.uint64)), bytes(5))
    a.gate.timeout = b.gate.timeout = 0.05
    assert isinstance(end_pair(honest(a), short)[0], ProtocolError)


def test_transfers_with_wrong_sizes_are_refused() -> None:
    async def honest(peer: Channel) -> None:
        source = await transfers.source(peer, 0, rng=seeded_rng(1))
        await source._receive_product(np.ones(4, np.uint64))

    async def liar(peer: Channel, message: Any) -> None:
        source = await transfers.source(peer, 1, rng=seeded_rng(2))
        await source._sender.extend(source._out, 64)
        await source._out.send(message)

    long, short = np.zeros((32, 64), np.uint64), np.zeros((32, 64), np.uint32)
    for message in (
        transfers.Corrections(long[:31], short),
        transfers.Corrections(long, short[:, :63]),
        transfers.Tables(short),
    ):
        a, b = memory_pair(timeout=5.0)
        assert isinstance(end_pair(honest(a), liar(b, message))[0], ProtocolError)


# ---------------------------------------------------------------------------------------------- conformance


def test_the_parties_keep_their_card() -> None:
    """With a source that needs nobody, so that the two alone can be damaged."""

    async def role(peer: Channel, case: np.ndarray, rng: Any, number: int) -> Any:
        p = await (first, second)[number](peer, Fixed(), rng=rng)  # type: ignore[arg-type]
        x = await p.input(0, case.shape, case if number == 0 else None, 0)
        return await p.open(await p.mul(x, x))

    check_protocol(
        ProtocolCheck(
            protocol=party.PROTOCOL,
            cases=[np.arange(5), np.zeros(1, np.int64), np.array([-3, 1 << 30])],
            first=lambda peer, case, rng: role(peer, case, rng, 0),
            second=lambda peer, case, rng: role(peer, case, rng, 1),
            reference=lambda case: (case**2, case**2),
            max_bytes=lambda case: 6 * 150 + 2 * 24 * case.size,
        )
    )


def test_the_dealer_and_a_party_keep_their_card() -> None:
    """Party 0 plays along with a party 1 that is the second channel of the dealer's own side."""

    async def deals(peer: Channel, case: int, rng: Any) -> int:
        silent, heard = memory_pair("dealer", "b")

        async def other() -> None:
            await heard.recv(Seed)
            await heard.send(Order(0, "products", (case,)))
            await heard.send(Order(1, "end", ()))

        served, _ = await party.both(dealer.dealer(silent, peer, rng=rng), other())
        return served

    async def asks(peer: Channel, case: int, rng: Any) -> tuple[int, int]:
        source = await dealer.source(peer, 1)
        triple = await source.products(case)
        await source.close()
        return triple.c.size, source.ordered

    check_protocol(
        ProtocolCheck(
            protocol=dealer.PROTOCOL,
            cases=[5, 1, 1000],
            first=deals,
            second=asks,
            reference=lambda case: (1, (case, 1)),
            max_bytes=lambda case: 500 + 8 * case,
        )
    )


def stream(frame: Frame) -> tuple[str, str]:
    return frame.sender, frame.stream


@pytest.mark.slow
def test_transfer_randomness_keeps_its_card() -> None:
    async def role(peer: Channel, case: int, rng: Any, number: int) -> Any:
        source = await transfers.source(peer, number, rng=rng)
        await source.bits(case)
        return source._sender.used, source._receiver.used

    def reference(case: int) -> Any:
        used = (64 * -(-case // 128), 64 * -(-(case - min(case, 64 * -(-case // 128))) // 64))
        return used, used[::-1]

    check = ProtocolCheck(
        protocol=transfers.PROTOCOL,
        cases=[130, 1, 64],
        first=lambda peer, case, rng: role(peer, case, rng, 0),
        second=lambda peer, case, rng: role(peer, case, rng, 1),
        reference=reference,
        max_bytes=lambda case: 33_000 + 12 * (case + 128),
        patience=0.1,
    )
    # both directions run at once, so that only the order within a stream is the same every time
    check_card(transfers.PROTOCOL)
    for case in check.cases:
        one, two = (check_equals_reference(check, case, 5) for _ in range(2))
        assert sum(frame.size for frame in one) <= check.max_bytes(case)
        assert sorted(one, key=stream) == sorted(two, key=stream)
    check_faults(check)
    assert compact_transfer.PROTOCOL in transfers.PROTOCOL.uses
