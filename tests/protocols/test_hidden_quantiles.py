"""Values at ranks over a hidden join: bit by bit those of a plain join, silent about small groups and about ranks."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from atoll.core.channel import Channel
from atoll.core.errors import InputError, ProtocolError
from atoll.crypto import cuckoo
from atoll.crypto.random import Rng
from atoll.protocols import circuit_intersection, hidden_rows, value_blocks
from atoll.protocols import hidden_quantiles as hq
from atoll.protocols.hidden_quantiles import Opened, Question, Side
from atoll.protocols.hidden_totals import Joined
from atoll.testing import ProtocolCheck, check_protocol, end_pair, recorded_pair, run_pair, seeded_rng
from tests.protocols.hidden import balanced, deal_transfers


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few bins to spare and no base transfers: short runs of the same protocol."""
    monkeypatch.setattr(cuckoo, "SPARE", 30)
    deal_transfers(monkeypatch)


class Case:
    """Two drawn sides and a question about ranks.

    Args:
        sizes: rows of the owner of values and of the other site.
        groups: how many groups; 1 for a question without.
        at: who has the values, and who makes the groups.
        minimum: fewest rows.
        columns: columns of values.
        seed: of everything drawn.
    """

    def __init__(
        self, sizes: tuple[int, int], groups: int, at: tuple[str, str], minimum: int, columns: int = 1, seed: int = 1
    ) -> None:
        draw = np.random.default_rng(seed)
        every = [f"Nr {i} 顾客".encode() for i in range(sum(sizes))]
        pool = np.array([-1e300, -7.0, -5e-324, 0.0, 5e-324, 0.1, 7.0, 7.0, 7.0, 2.0**53 + 2, 1.7e308])

        def side(n: int, owns: bool, groups: int) -> Side:
            values = draw.choice(pool, (n, columns if owns else 0))
            values[draw.random(values.shape) < 0.2] = np.nan
            ids = [every[i] for i in draw.permutation(len(every))[:n]]
            return Side(ids, draw.random(n) < 0.9, draw.integers(0, groups, n), values, groups)

        values_at, groups_at = at
        self.owner = side(sizes[0], True, groups if values_at == groups_at else 1)
        self.other = side(sizes[1], False, 1 if values_at == groups_at else groups)
        self.question, self.groups = Question(values_at, groups_at, (2,) * columns, minimum), groups
        counts = [[len(each) for each in column] for column in self.joined()]
        self.ranks = [np.array([draw.integers(1, max(n, 1) + 1, 2) for n in column]) for column in counts]

    @property
    def asker(self) -> Side:
        return self.owner if self.question.values_at == "asker" else self.other

    @property
    def partner(self) -> Side:
        return self.other if self.question.values_at == "asker" else self.owner

    def joined(self) -> list[list[list[float]]]:
        """A join of plain ids: for each column and group the sorted values."""
        out: list[list[list[float]]] = [[[] for _ in range(self.groups)] for _ in self.question.ranks]
        place = {key: at for at, key in enumerate(self.other.ids) if self.other.keep[at]}
        for at, key in enumerate(self.owner.ids):
            if self.owner.keep[at] and key in place:
                group = self.owner.group[at] + self.other.group[place[key]]  # one of them makes no groups
                for column, value in enumerate(self.owner.values[at].tolist()):
                    if value == value:
                        out[column][group].append(value)
        return [[sorted(each) for each in column] for column in out]

    def plain(self) -> list[Opened]:
        out = []
        for column, ranks in zip(self.joined(), self.ranks, strict=True):
            shown = np.array([[len(each) >= self.question.minimum] * 2 for each in column])
            found = [[(each or [0.0])[rank - 1] for rank in row] for each, row in zip(column, ranks, strict=True)]
            out.append(Opened(np.where(shown, found, 0.0), shown))
        return out


async def ask(peer: Channel, case: Case, rng: Rng) -> list[Opened]:
    return await hq.asker(peer, case.asker, case.question, case.ranks, rng=rng)


async def answer(peer: Channel, case: Case, rng: Rng) -> None:
    await hq.partner(peer, case.partner, case.question, rng=rng)


def same(got: Any, want: Any) -> bool:
    if want is None:
        return got is None
    return all(
        np.array_equal(one.shown, two.shown) and np.array_equal(one.values, two.values)
        for one, two in zip(got, want, strict=True)
    )


def play(case: Case, seed: int = 1) -> tuple[list[Opened], list[Any]]:
    a, b, transcript = recorded_pair(allowed=hq.PROTOCOL.kinds)
    opened, _ = run_pair(ask(a, case, seeded_rng(seed)), answer(b, case, seeded_rng(seed + 1)))
    return opened, transcript


def test_conformance() -> None:
    check_protocol(
        ProtocolCheck(
            protocol=hq.PROTOCOL,
            cases=[
                Case((8, 9), 1, ("asker", "asker"), 1),
                Case((20, 25), 3, ("asker", "partner"), 2),
                Case((25, 20), 2, ("partner", "partner"), 3, columns=2),
                Case((60, 200), 9, ("partner", "asker"), 2),
                Case((1, 1), 2, ("asker", "asker"), 1),
                Case((0, 3), 1, ("partner", "asker"), 1),
                Case((3, 0), 2, ("partner", "asker"), 1),
            ],
            first=ask,
            second=answer,
            reference=lambda case: (case.plain(), None),
            max_bytes=lambda case: 2_500_000,
            equal=same,
            patience=0.15,
        )
    )


@pytest.mark.parametrize("groups_at", ["asker", "partner"])
def test_more_blocks_than_one_part_has(groups_at: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The search goes down through three layers, and picks from few rows at a time."""
    monkeypatch.setattr(hq, "AT_ONCE", 1 << 15)
    case = Case((4_500, 600), 2, ("asker", groups_at), 5)
    assert circuit_intersection.bins(4_500) > value_blocks.BLOCK**2
    assert same(play(case)[0], case.plain())
    assert case.plain()[0].shown.all()


@pytest.mark.parametrize("groups_at", ["asker", "partner"])
def test_ranks_that_nothing_has_give_zero_and_not_the_value_of_a_row_that_is_not_common(groups_at: str) -> None:
    case = Case((90, 90), 2, ("partner", groups_at), 1)
    case.owner.values[:] = 5.0
    counts = [len(each) for each in case.joined()[0]]
    for low, high in ((0, counts[0]), (-1, 1 << 40), (-(1 << 62), -(1 << 63))):
        case.ranks = [np.array([[low, counts[0] + 1], [high if high > 0 else low, counts[1]]])]
        (opened,) = play(case)[0]
        assert opened.shown.all()
        assert opened.values[0].tolist() == [0.0, 0.0]
        assert opened.values[1, 1] == 5.0


def test_blocks_are_cut_into_parts_of_powers_of_64() -> None:
    assert [value_blocks.part_size(n) for n in (2, 64, 65, 4096, 4097)] == [1, 1, 64, 64, 4096]
    assert value_blocks.padded(np.ones((1, 130, 2), np.uint64)).shape == (1, 192, 2)


def test_bins_are_laid_out_in_blocks_of_one_segment_each() -> None:
    draw = np.random.default_rng(3)
    rows = np.where(draw.random(400) < 0.8, draw.permutation(400), -1)
    keep, segment = draw.random(400) < 0.9, draw.integers(0, 3, 400)
    values = np.where(draw.random(400) < 0.2, np.nan, draw.standard_normal(400))
    blocks = -(-(400 + 3 * 63) // 64)
    order, of_block, placed = value_blocks.laid_out(rows, keep, segment, values, 3, blocks)
    assert np.array_equal(np.sort(order), np.arange(64 * blocks))
    seen = []
    for at, part in enumerate(of_block):
        bins = order[64 * at : 64 * at + 64]
        own = rows[bins[bins < 400]]
        if part >= 0:  # empty places are such as nobody has put anything in
            assert keep[own].all()
            assert (segment[own] == part).all()
            assert np.array_equal(placed[0, at, : len(own)].view(np.float64), values[own])
            seen += [(part, value) for value in values[own]]
    assert seen == sorted(seen)
    assert len(seen) == int((keep & ~np.isnan(values))[rows[rows >= 0]].sum())


@pytest.mark.parametrize("at", [("asker", "asker"), ("partner", "asker")])
def test_two_worlds_with_the_same_answer_look_alike(at: tuple[str, str]) -> None:
    """Other rows, values and ranks, and nothing is shown: the same sizes, and nothing that repeats."""
    seen = []
    for seed in (3, 4):
        case = Case((20, 20), 2, at, 25, seed=seed)
        opened, transcript = play(case, seed)
        assert not opened[0].shown.any()
        assert not opened[0].values.any()
        seen.append(transcript)
    assert [(f.sender, f.kind, len(f.payload)) for f in seen[0]] == [
        (f.sender, f.kind, len(f.payload)) for f in seen[1]
    ]
    for one, two in zip(*seen, strict=True):
        if len(one.payload) > 64:
            assert one.payload[:64] != two.payload[:64]


@pytest.mark.parametrize("groups_at", ["asker", "partner"])
def test_what_enters_the_opening_and_every_step_of_the_search_is_uniform(
    groups_at: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither side's shares of a value, of counts and of the path say anything without the other's."""
    taken: dict[tuple[bool, str], list[np.ndarray]] = {}
    counts: dict[bool, np.ndarray] = {}
    for name in ("looked_up", "_first_reached", "_pick"):
        step = getattr(hq._Work, name)

        async def noted(self: Any, *args: Any, name: str = name, step: Any = step) -> Any:
            out = await step(self, *args)
            shares = {"_first_reached": lambda: out[0], "looked_up": lambda: out[:, 1], "_pick": lambda: out}[name]()
            taken.setdefault((self.owns, name), []).append(shares.reshape(-1))
            if name == "looked_up":
                counts.setdefault(self.owns, out[:, 0])
            return out

        monkeypatch.setattr(hq._Work, name, noted)
    play(Case((60, 60), 5, ("asker", groups_at), 1, columns=3))
    for (_, name), found in taken.items():
        flat = np.concatenate(found)
        if name == "_first_reached":
            assert balanced(flat)
        else:
            assert len(np.unique(flat)) == len(flat)
            assert balanced(np.unpackbits(flat.view(np.uint8)))
    assert (counts[True] + counts[False]).max() <= 60
    assert counts[True].min() > 60


def test_a_mutant_that_counts_rows_without_a_value_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    laid_out = value_blocks.laid_out

    def mutant(rows: Any, keep: Any, segment: Any, values: Any, parts: int, blocks: int) -> Any:
        return laid_out(rows, keep, segment, np.nan_to_num(values), parts, blocks)

    monkeypatch.setattr(value_blocks, "laid_out", mutant)
    case = Case((60, 60), 1, ("asker", "asker"), 1)
    case.ranks = [np.array([[1, len(case.joined()[0][0])]])]
    assert not same(play(case)[0], case.plain())


def test_a_mutant_that_does_not_multiply_groups_by_the_bit_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    """The sender's group is noise where nobody joins."""

    async def mutant(self: Any, bits: Any, mine: Any, theirs: int, exclusive: bool = False) -> Any:
        return (mine, np.zeros_like(mine)) if exclusive else await both_ways(self, bits, mine, theirs)

    both_ways = hq._Work._both_ways
    monkeypatch.setattr(hq._Work, "_both_ways", mutant)
    case = Case((60, 60), 3, ("asker", "partner"), 1)
    assert not same(play(case)[0], case.plain())


@pytest.mark.parametrize(("groups_at", "groups"), [("asker", 257), ("asker", 0), ("asker", -1), ("partner", 2)])
def test_a_partner_refuses_groups_that_cannot_be(groups_at: str, groups: int) -> None:
    case = Case((5, 5), 1, ("asker", groups_at), 1)
    a, b, _ = recorded_pair(timeout=1.0)
    _, error = end_pair(a.send(hq.Outline(groups)), hq.partner(b, case.partner, case.question, rng=seeded_rng(1)))
    assert isinstance(error, ProtocolError)
    assert "groups" in error.what


def test_ranks_of_another_shape_are_refused() -> None:
    case = Case((5, 5), 2, ("asker", "asker"), 1)
    a, _, _ = recorded_pair(timeout=1.0)
    with pytest.raises(InputError, match="not one row for each group"):
        hq.asker(a, case.asker, case.question, [np.ones((2, 3), np.int64)], rng=seeded_rng(1)).send(None)


def test_a_join_of_the_other_direction_is_refused() -> None:
    """Were it used, shares would be of bins whose rows this site does not know."""
    a, _, _ = recorded_pair(timeout=1.0)
    joined = Joined(hidden_rows.SenderTools(None, None, None), None)  # type: ignore[arg-type]
    question = Question("asker", "asker", (1,), 1)
    with pytest.raises(ValueError, match="of the other site"):
        hq._Work.begin(a, question, "asker", 1, seeded_rng(1), joined).send(None)


def test_sites_that_disagree_about_the_minimum_open_nothing() -> None:
    case = Case((10, 10), 1, ("asker", "asker"), 3)
    lower = replace(case.question, minimum=1)
    a, b, _ = recorded_pair(timeout=2.0)
    error, other = end_pair(
        hq.asker(a, case.asker, lower, case.ranks, rng=seeded_rng(1)),
        hq.partner(b, case.partner, case.question, rng=seeded_rng(2)),
    )
    assert "another circuit" in str(error)
    assert isinstance(other, ProtocolError)


def test_frozen_vectors() -> None:
    opened, transcript = play(Case((30, 30), 2, ("asker", "partner"), 3))
    assert opened[0].values.tolist() == FROZEN["values"]
    assert sum(frame.size for frame in transcript) == FROZEN["bytes"]


FROZEN: dict[str, Any] = {"values": [[0.0, 5e-324], [9007199254740994.0] * 2], "bytes": 884983}
