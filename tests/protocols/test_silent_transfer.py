"""Silent transfers: the relation holds for every width, choices are uniform, indices never meet, mutants fail."""

import hashlib
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from atoll.core.channel import Channel
from atoll.core.errors import ProtocolError
from atoll.crypto import expand_convolute, gf128
from atoll.crypto.random import Rng
from atoll.protocols import silent_transfer as silent
from atoll.protocols.silent_transfer import Received, Sent, Trees
from atoll.testing import ProtocolCheck, check_protocol, end_pair, recorded_pair, run_pair, seeded_rng
from atoll.transport.memory import memory_pair
from tests.protocols import hidden
from tests.protocols.hidden import balanced

Case = tuple[int, int]


async def receive(peer: Channel, cases: list[Case], rng: Rng) -> list[Received]:
    transfers, _ = hidden.transfers(1)
    return [await silent.receiver(peer, n, width=width, ot=transfers, rng=rng) for n, width in cases]


async def send(peer: Channel, cases: list[Case], rng: Rng) -> list[Sent]:
    _, transfers = hidden.transfers(1)
    return [await silent.sender(peer, n, width=width, ot=transfers, rng=rng) for n, width in cases]


def play(*cases: Case, seed: int = 1) -> tuple[list[Received], list[Sent], list[Any]]:
    a, b, transcript = recorded_pair(allowed=silent.PROTOCOL.kinds)
    got, sent = run_pair(receive(a, [*cases], seeded_rng(seed)), send(b, [*cases], seeded_rng(seed + 50)))
    return got, sent, transcript


def holds(got: Received, sent: Sent) -> bool:
    """Whether q = t + Δ·a everywhere, by the field's own products."""
    strings = got.t.copy()
    gf128.add_products(got.choices.astype(np.uint64), gf128.tables(sent.delta, 1), strings)
    return got.first == sent.first and np.array_equal(strings, sent.q)


def test_the_relation_holds_everywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    cases = [(1, 1), (1, 4), (5, 8), (2048, 4), (300, 3)]
    got, sent, _ = play(*cases)
    assert all(map(holds, got, sent))
    monkeypatch.setattr(silent, "FEW", 0)
    got, sent, _ = play(*cases, (20_000, 1))
    assert all(map(holds, got, sent))
    assert [len(one.choices) for one in got] == [n for n, _ in cases] + [20_000]


def test_conformance() -> None:
    async def first(peer: Channel, case: Case, rng: Rng) -> Any:
        (got,) = await receive(peer, [case], rng)
        return got.choices.shape, got.t.shape, got.choices.max() < 1 << case[1]

    async def second(peer: Channel, case: Case, rng: Rng) -> Any:
        (sent,) = await send(peer, [case], rng)
        return sent.q.shape

    def cost(case: Case) -> float:
        n, width = case
        if n * width <= silent.FEW:
            return 16 * (n * width + 64) + 1000
        t, length = silent.noise(width), max(n, silent.SHORTEST)
        return 48 * t * np.ceil(np.log2(2 * length / t)) + 16 * t * (width + 1) + 2000

    check_protocol(
        ProtocolCheck(
            protocol=silent.PROTOCOL,
            cases=[(2100, 4), (1, 1), (7, 4), (9000, 1)],
            first=first,
            second=second,
            reference=lambda case: (((case[0],), (case[0], 2), True), (case[0], 2)),
            max_bytes=cost,
        )
    )


@pytest.mark.parametrize("width", [1, 4])
def test_choices_are_uniform_and_strings_never_repeat(width: int) -> None:
    got, sent, _ = play((16_000, width), (16_000, width))
    choices = np.concatenate([one.choices for one in got])
    counts = np.bincount(choices, minlength=1 << width)
    expected = len(choices) / (1 << width)
    assert (np.abs(counts - expected) < 5 * np.sqrt(expected)).all()
    strings = np.concatenate([one.q for one in sent])
    assert len(np.unique(strings, axis=0)) == len(strings)
    assert balanced(np.unpackbits(strings.view(np.uint8)))


def test_indices_of_calls_never_meet() -> None:
    got, _, _ = play((1, 1), (64, 1), (9000, 1), (2100, 4), (1, 4))
    spans = [(one.first, one.first + silent.LONGEST) for one in got]
    assert all(end <= start for (_, end), (start, _) in pairwise(spans))
    assert min(spans)[0] >= 1 << 63
    assert max(spans)[1] < 1 << 64


def test_wider_choices_get_more_noise() -> None:
    """The bias of the worst linear test stays below 2^-128, computed here from the values one by one."""
    for width in range(1, 9):
        values = np.arange(1, 1 << width)
        ones = (values & 1).mean()  # how often one bit of a value that is not zero is set
        bias = np.log2(1 - 2 * expand_convolute.DISTANCE * ones)
        assert silent.noise(width) * -bias >= 128 > (silent.noise(width) - 1) * -bias


def test_a_mutant_with_short_vectors_gives_choices_away(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks of one position: whoever knows the code knows the choices, which are the same in every run."""
    monkeypatch.setattr(silent, "FEW", 0)
    monkeypatch.setattr(silent, "SHORTEST", 1)
    one, two = (play((64, 1), seed=seed)[0][0].choices for seed in (1, 2))
    assert np.array_equal(one, two)
    monkeypatch.undo()
    monkeypatch.setattr(silent, "FEW", 0)
    one, two = (play((64, 1), seed=seed)[0][0].choices for seed in (1, 2))
    assert not np.array_equal(one, two)


@pytest.mark.parametrize("what", ["sums", "leaves", "depth"])
def test_trees_of_another_size_are_refused(what: str) -> None:
    async def liar(peer: Channel) -> None:
        _, transfers = hidden.transfers(1)
        sizes = silent._Noise.of(9000, 1)
        levels = (sizes.block - 1).bit_length()
        await transfers.extend(peer, sizes.blocks * (levels + 1))
        sums = (sizes.blocks + (what == "sums"), levels + (what == "depth"), 2, 2)
        leaves = (sizes.blocks - (what == "leaves"), 2)
        await peer.send(Trees(np.zeros(sums, np.uint64), np.zeros(leaves, np.uint64)))

    a, b = memory_pair(timeout=2.0)
    with pytest.raises(ProtocolError, match="shape"):
        run_pair(receive(a, [(9000, 1)], seeded_rng(1)), liar(b))


@pytest.mark.parametrize("case", [(0, 1), (silent.LONGEST + 1, 1), (1, 0), (1, 9)])
def test_sizes_out_of_range_are_refused(case: Case) -> None:
    a, b = memory_pair(timeout=2.0)
    ends = end_pair(receive(a, [case], seeded_rng(1)), send(b, [case], seeded_rng(2)))
    assert all(isinstance(end, ValueError) for end in ends)


def test_frozen_vectors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(silent, "noise", lambda width: 128)
    got, sent, transcript = play((7, 4), (9000, 1))
    parts = [got[0].choices, got[0].t, sent[1].q, transcript[-1].payload]
    assert [hashlib.sha256(bytes(part)).hexdigest()[:16] for part in parts] == FROZEN


FROZEN = ["a57ec219765ec09c", "2b4353ec72bf3ad0", "970d1d95ca7dfdec", "6b180c3b9859774d"]
