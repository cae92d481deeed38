"""Totals over a hidden join: exact, silent about small groups, the same to both sides whatever joins."""

from typing import Any

import numpy as np
import pytest

from atoll.core.channel import Channel
from atoll.core.errors import ContractError, ProtocolError
from atoll.crypto import cuckoo
from atoll.crypto.random import Rng
from atoll.protocols import hidden_totals as ht
from atoll.protocols import masked_values
from atoll.protocols.hidden_totals import Opened, Question, Side
from atoll.testing import ProtocolCheck, check_protocol, end_pair, recorded_pair, run_pair, seeded_rng
from atoll.testing.check_protocol import by_stream
from tests.protocols.hidden import deal_transfers


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few bins to spare and no base transfers: short runs of the same protocol."""
    monkeypatch.setattr(cuckoo, "SPARE", 30)
    deal_transfers(monkeypatch)


class Case:
    """Two drawn sides and a question.

    Args:
        sizes: rows of the grouping site and of the other.
        groups: how many groups; 0 for a question without.
        words: values of the grouping site and of the other.
        minimum: fewest rows.
        at: who makes the groups.
        seed: of everything drawn.
    """

    def __init__(
        self, sizes: tuple[int, int], groups: int, words: tuple[int, int], minimum: int, at: str, seed: int = 1
    ) -> None:
        draw = np.random.default_rng(seed)
        (nx, ny), (v, w) = sizes, words
        every = [f"Nr {i} 顾客".encode() for i in range(nx + ny)]
        keys = tuple((f"group {i}" if i else None,) for i in range(groups))
        big = 1 << 50
        self.grouping = Side(
            [every[i] for i in draw.permutation(nx + ny)[:nx]],
            draw.random(nx) < 0.8,
            draw.integers(0, max(groups, 1), nx),
            draw.integers(-big, big, (nx, v)),
            keys,
            (3,) * v,
        )
        self.other = Side(
            [every[i] for i in draw.permutation(nx + ny)[:ny]],
            draw.random(ny) < 0.8,
            np.zeros(ny, np.int64),
            draw.integers(-big, big, (ny, w)),
            (),
            (5,) * w,
        )
        if v:
            self.grouping.values[:, 0] = draw.integers(0, 2, nx)  # as counts of what is there
        guards = tuple(1 if v and total == 2 else 0 for total in range(1 + v + w))
        self.question = Question(at, (v, w) if at == "asker" else (w, v), guards, minimum)

    @property
    def asker(self) -> Side:
        return self.grouping if self.question.groups_at == "asker" else self.other

    @property
    def partner(self) -> Side:
        return self.other if self.question.groups_at == "asker" else self.grouping

    def plain(self) -> Opened:
        """A join of plain ids."""
        groups = self.grouping.keys or ((),)
        totals = np.zeros((len(groups), len(self.question.guards)), np.int64)
        place = {key: at for at, key in enumerate(self.other.ids) if self.other.keep[at]}
        for at, key in enumerate(self.grouping.ids):
            if self.grouping.keep[at] and key in place:
                row = np.concatenate(([1], self.grouping.values[at], self.other.values[place[key]]))
                totals[self.grouping.group[at]] += row
        enough = totals >= self.question.minimum
        shown = np.stack([enough[:, 0] & enough[:, guard] for guard in self.question.guards], axis=1)
        bits = self.partner.bits
        return Opened(groups, np.where(shown, totals, 0), shown, bits)


async def ask(peer: Channel, case: Case, rng: Rng) -> Opened:
    return await ht.asker(peer, case.asker, case.question, rng=rng)


async def answer(peer: Channel, case: Case, rng: Rng) -> None:
    await ht.partner(peer, case.partner, case.question, rng=rng)


def same(got: Any, want: Any) -> bool:
    if want is None:
        return got is None
    return (
        (got.keys, got.bits) == (want.keys, want.bits)
        and np.array_equal(got.totals, want.totals)
        and np.array_equal(got.shown, want.shown)
    )


def play(case: Case, seed: int = 1) -> tuple[Opened, list[Any]]:
    a, b, transcript = recorded_pair(allowed=ht.PROTOCOL.kinds)
    opened, _ = run_pair(ask(a, case, seeded_rng(seed)), answer(b, case, seeded_rng(seed + 1)))
    return opened, transcript


def test_conformance() -> None:
    check_protocol(
        ProtocolCheck(
            protocol=ht.PROTOCOL,
            cases=[
                Case((12, 15), 2, (1, 1), 3, "asker"),
                Case((12, 15), 2, (1, 1), 3, "partner"),
                Case((30, 20), 0, (2, 1), 5, "asker"),
                Case((30, 20), 5, (0, 2), 2, "partner"),
                Case((1, 1), 1, (1, 0), 1, "asker"),
                Case((0, 3), 0, (1, 1), 1, "asker"),
                Case((3, 0), 3, (0, 0), 1, "partner"),
            ],
            first=ask,
            second=answer,
            reference=lambda case: (case.plain(), None),
            max_bytes=lambda case: 800_000,
            equal=same,
        )
    )


def test_groups_worked_one_after_the_other_give_the_same_totals(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ht, "AT_ONCE", 1)
    case = Case((20, 25), 3, (1, 1), 1, "asker")
    assert same(play(case)[0], case.plain())


@pytest.mark.parametrize("at", ["asker", "partner"])
def test_two_worlds_with_the_same_answer_look_alike(at: str) -> None:
    """Nobody joins, or fewer than the minimum in every group: the same sizes, and nothing that repeats."""
    seen = []
    for seed in (3, 4):
        case = Case((20, 20), 2, (1, 1), 25, at, seed)
        opened, transcript = play(case, seed)
        assert not opened.shown.any()
        assert not opened.totals.any()
        seen.append(transcript)
    assert [(f.sender, f.kind, len(f.payload)) for f in seen[0]] == [
        (f.sender, f.kind, len(f.payload)) for f in seen[1]
    ]
    for one, two in zip(*seen, strict=True):
        if len(one.payload) > 64:
            assert one.payload[:64] != two.payload[:64]


@pytest.mark.parametrize("at", ["asker", "partner"])
def test_noise_of_the_partner_is_in_all_that_is_opened_and_decides_what_is_shown(at: str) -> None:
    case, asked = Case((40, 40), 3, (1, 1), 4, at), []
    exact = Case((40, 40), 3, (1, 1), -(1 << 40), at).plain().totals
    made = np.array([[-30, 7, 9], [5, -(1 << 50), 3], [30, 2, -30]])

    def noise(groups: int) -> Any:
        asked.append(groups)
        return made

    a, b, _ = recorded_pair(allowed=ht.PROTOCOL.kinds)
    opened, _ = run_pair(
        ask(a, case, seeded_rng(1)), ht.partner(b, case.partner, case.question, rng=seeded_rng(2), noise=noise)
    )
    assert asked == [3]
    noisy = exact + made
    enough = noisy >= 4
    assert opened.shown.tolist() == [[bool(row[0] and row[at]) for at in case.question.guards] for row in enough]
    assert np.array_equal(opened.totals, np.where(opened.shown, noisy, 0))
    assert not opened.shown[0].any()  # less than nobody, with noise


def test_nothing_is_opened_where_the_noise_is_refused() -> None:
    def refused(groups: int) -> Any:
        raise ContractError("the budget is spent")

    case = Case((10, 10), 0, (1, 1), 1, "asker")
    a, b, transcript = recorded_pair(timeout=5.0)
    error, other = end_pair(
        ask(a, case, seeded_rng(1)), ht.partner(b, case.partner, case.question, rng=seeded_rng(2), noise=refused)
    )
    assert isinstance(other, ContractError)
    assert error is not None
    ours = "protocols.garbled_circuit."
    assert any(frame.kind.startswith(ours) for frame in play(case)[1])  # as it is where noise is not refused
    assert not any(frame.kind.startswith(ours) for frame in transcript)


def test_two_worlds_with_the_same_noisy_answer_look_alike() -> None:
    """A person more or less, and noise that makes up for it: the asker sees the same sizes and the same answer."""
    seen = []
    for gone in (0, 1):
        case = Case((20, 20), 0, (0, 1), 1, "asker", 5)
        place = case.other.ids.index(next(key for key in case.other.ids if key in set(case.grouping.ids)))
        before = Case((20, 20), 0, (0, 1), 1, "asker", 5).plain().totals
        case.other.keep[place] &= not gone
        missing = before - case.plain().totals
        a, b, transcript = recorded_pair(allowed=ht.PROTOCOL.kinds)
        opened, _ = run_pair(
            ask(a, case, seeded_rng(1)),
            ht.partner(b, case.partner, case.question, rng=seeded_rng(2), noise=lambda _, add=missing: add + 2),
        )
        seen.append((opened.totals.tolist(), [(f.sender, f.kind, len(f.payload)) for f in by_stream(transcript)]))
    assert seen[0] == seen[1]


def test_shares_of_totals_are_uniform_on_each_side(monkeypatch: pytest.MonkeyPatch) -> None:
    """What enters the circuit of either side says nothing without the other's."""
    taken = {"grouping": [], "other": []}
    for name in taken:
        role = getattr(ht, f"_{name}")

        async def noted(*args: Any, name: str = name, role: Any = role) -> Any:
            shares = await role(*args)
            taken[name].append(shares)
            return shares

        monkeypatch.setattr(ht, f"_{name}", noted)
    for seed in range(6):
        play(Case((10, 12), 2, (1, 1), 1, "asker", 7), 10 * seed)
    for shares in taken.values():
        flat = np.concatenate([share.reshape(-1) for share in shares])
        assert len(np.unique(flat)) == len(flat)
        assert abs(np.unpackbits(flat.view(np.uint8)).mean() - 0.5) < 5 * 0.5 / np.sqrt(64 * len(flat))
    total = taken["grouping"][0] + taken["other"][0]
    assert (total[:, 0] <= 10).all()


def test_a_mutant_that_adds_up_before_it_multiplies_by_the_bit_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    """Payload shares are noise where nobody joins; forgetting the product shows at once."""

    async def mutant(peer: Channel, bits: Any, values: Any, *, ot: Any, rng: Rng) -> Any:
        return values.copy()

    async def nothing(peer: Channel, bits: Any, k: int, *, ot: Any, rng: Rng) -> Any:
        return np.zeros((len(bits), k), np.uint64)

    monkeypatch.setattr(masked_values, "holder", mutant)
    monkeypatch.setattr(masked_values, "partner", nothing)
    case = Case((20, 20), 0, (1, 1), 1, "asker")
    assert not same(play(case)[0], case.plain())


@pytest.mark.parametrize(
    ("outline", "words"),
    [
        (ht.Outline(3, [["a"]], [5]), "announces 3 groups and names 1"),
        (ht.Outline(300, [["a"]] * 300, [5]), "announces 300 groups"),
        (ht.Outline(1, [["a"]], []), "describes 0 values"),
        (ht.Outline(1, [["a"]], [64]), "describes 1 values"),
    ],
)
def test_an_asker_refuses_outlines_that_cannot_be(outline: ht.Outline, words: str) -> None:
    async def liar(peer: Channel) -> None:
        await peer.recv(ht.Outline)
        await peer.send(outline)

    case = Case((5, 5), 1, (0, 0), 1, "partner")
    question = Question("partner", (0, 1), (0, 0), 1)
    a, b, _ = recorded_pair(timeout=1.0)
    error, _ = end_pair(ht.asker(a, case.asker, question, rng=seeded_rng(1)), liar(b))
    assert isinstance(error, ProtocolError)
    assert words in error.what


@pytest.mark.parametrize(("at", "groups"), [("asker", 257), ("asker", -1), ("partner", 1)])
def test_a_partner_refuses_groups_that_cannot_be(at: str, groups: int) -> None:
    case = Case((5, 5), 1, (0, 0), 1, at)
    a, b, _ = recorded_pair(timeout=1.0)
    _, error = end_pair(
        a.send(ht.Outline(groups, [], [])), ht.partner(b, case.partner, case.question, rng=seeded_rng(1))
    )
    assert isinstance(error, ProtocolError)
    assert "groups, at most" in error.what


def test_sites_that_disagree_about_the_minimum_open_nothing() -> None:
    case = Case((10, 10), 1, (1, 1), 3, "asker")
    lower = Question("asker", (1, 1), case.question.guards, 1)
    a, b, _ = recorded_pair(timeout=2.0)
    error, other = end_pair(
        ht.asker(a, case.asker, lower, rng=seeded_rng(1)), ht.partner(b, case.partner, case.question, rng=seeded_rng(2))
    )
    assert "another circuit" in str(error)
    assert isinstance(other, ProtocolError)


def test_frozen_vectors() -> None:
    opened, transcript = play(Case((12, 15), 2, (1, 1), 3, "asker"))
    assert opened.totals.tolist() == FROZEN["totals"]
    assert sum(frame.size for frame in transcript) == FROZEN["bytes"]


FROZEN: dict[str, Any] = {"totals": [[0, 0, 0], [3, 2, 0]], "bytes": 514637}
