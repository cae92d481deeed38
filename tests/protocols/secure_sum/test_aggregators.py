"""Sums that two or three of the sites add: the bits of a star, shares that show nothing, and sites that drop out."""

import asyncio
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest

from atoll.core.channel import Channel
from atoll.core.errors import AtollError, ConnectionLost, InputError, ProtocolError
from atoll.protocols.secure_sum import aggregators
from atoll.protocols.secure_sum.question import PIECE, Question
from atoll.protocols.secure_sum.sums import Sums
from atoll.testing import check_card, seeded_rng
from tests.protocols.secure_sum.meshes import Life, Mesh
from tests.protocols.secure_sum.stars import adding, play, totals
from tests.protocols.secure_sum.test_mesh import SITES, VALUES

TWO, THREE = ("c", "e"), ("b", "d", "hub")
BOTH = pytest.mark.parametrize("who", [TWO, THREE], ids=["two", "three"])


def play_few(
    use: Mapping[str, Any], who: Sequence[str], *, mesh: Mesh | None = None, seed: int = 1, **options: Any
) -> tuple[dict[str, Any], Mesh]:
    """Run sites of which some add for all."""
    mesh = mesh or Mesh(list(use), aggregators.PROTOCOL.kinds)
    options = {"context": ("job 1",), **options}

    def site(i: int, name: str) -> Any:
        peers = {other: peer for other, peer in mesh.peers[name].items() if name in who or other in who}
        ready = aggregators.site(peers, list(use), who, rng=seeded_rng(100 * seed + i), **options)
        return adding(ready, use[name], seeded_rng(100 * seed + 50 + i))

    return mesh.run({name: site(i, name) for i, name in enumerate(use)}), mesh


def test_the_card_is_complete() -> None:
    check_card(aggregators.PROTOCOL)


@BOTH
def test_the_same_bits_as_over_a_star(who: Sequence[str]) -> None:
    rng = seeded_rng(11)
    random = {name: (rng.u64(50).view(np.int64) / 2.0 ** np.arange(-10, 40)).tolist() for name in SITES}
    values = {name: [*random[name], *VALUES[name]] for name in SITES}
    star = play(totals(values))[0]
    few = play_few(totals(values), who)[0]
    assert {few[name].tobytes() for name in SITES} == {star["b"].tobytes()}


@pytest.mark.parametrize("bits", [16, 32, 192])
@pytest.mark.parametrize("n", [0, 1, 7, PIECE + 5])
def test_words_of_every_width_and_number(bits: int, n: int) -> None:
    question = Question("words", bits, n)
    if bits == 192 and n > PIECE:
        question = Question("words", bits, PIECE // 3 + 1)
    words = {name: seeded_rng(i).u64(question.words) for i, name in enumerate(SITES)}
    want = words["b"].copy()
    for name in SITES[1:]:
        question.ring.add(want, words[name])

    def one(name: str) -> Any:
        return lambda sums: sums.carrier.add(question, words[name])

    ends, mesh = play_few({name: one(name) for name in SITES}, THREE)
    for name in SITES:
        assert np.array_equal(ends[name], want), ends
    # one vector and two seeds from each site that adds nothing, two seeds from an aggregator
    sent = [frame for frame in mesh.transcript if frame.kind.endswith("Share")]
    assert len(sent) == 2 * (len(question.pieces) + 2) + 3 * 2
    assert sum(len(frame.payload) for frame in sent) == 2 * 8 * question.words


def test_two_sites_and_many_sums() -> None:
    async def use(sums: Sums) -> Any:
        return [(await sums.total(np.array([float(i)]), what="numbers"))[0] for i in range(5)]

    ends, _ = play_few(dict.fromkeys(("b", "c"), use), ("b", "c"))
    assert ends["b"] == ends["c"] == [0.0, 2.0, 4.0, 6.0, 8.0]


# --- drop-outs --------------------------------------------------------------------------------------------------------


async def recorded(sums: Sums) -> Any:
    mine = np.array([2.0 ** SITES.index(sums.site)])
    first, again = await sums.total(mine, what="one"), await sums.total(mine, what="two")
    return first[0], again[0], sums.told[0].sites, sums.told[1].sites


@pytest.mark.parametrize(("kind", "number"), [("Share", 0), ("Share", 1), ("Share", 2), ("Share", 3)])
def test_a_site_that_drops_out_before_all_have_its_shares(kind: str, number: int) -> None:
    """Its first share may have come to one aggregator; then nobody counts it."""
    mesh = Mesh(SITES, aggregators.PROTOCOL.kinds, lives={"d": Life(kind, number)})
    ends, _ = play_few(dict.fromkeys(SITES, recorded), TWO, mesh=mesh, least=3, patience=1.0)
    left = tuple(name for name in SITES if name != "d")
    first, sites = (31.0, SITES) if number >= 2 else (27.0, left)
    for name in left:
        assert ends[name] == (first, 27.0, sites, left), ends


def test_a_late_site_is_told_so() -> None:
    mesh = Mesh(SITES, aggregators.PROTOCOL.kinds)
    real = mesh.peers["d"]["c"].link.send

    async def send(stream: str, header: bytes, parts: Any) -> None:
        await asyncio.sleep(0.5)
        await real(stream, header, parts)

    mesh.peers["d"]["c"].link.send = send  # type: ignore[method-assign]
    ends, _ = play_few(dict.fromkeys(SITES, recorded), TWO, mesh=mesh, least=3, patience=0.2)
    assert "too late" in str(ends["d"])
    assert ends["b"][:2] == (27.0, 27.0)


def test_too_few_sites_end_it_and_so_does_an_aggregator() -> None:
    mesh = Mesh(SITES, aggregators.PROTOCOL.kinds, lives={"b": Life("Share"), "d": Life("Share")})
    ends, _ = play_few(dict.fromkeys(SITES, recorded), TWO, mesh=mesh, least=4, patience=0.5)
    assert "only 2 of 4 sites are left" in str(ends["c"])
    mesh = Mesh(SITES, aggregators.PROTOCOL.kinds, lives={"c": Life("Arrived")})
    ends, _ = play_few(dict.fromkeys(SITES, recorded), TWO, mesh=mesh, least=3, patience=0.5)
    assert all(isinstance(ends[name], AtollError) for name in SITES), ends


def test_where_all_are_needed_the_first_that_fails_ends_it() -> None:
    mesh = Mesh(SITES, aggregators.PROTOCOL.kinds, lives={"b": Life("Share", 2)})
    ends, _ = play_few(dict.fromkeys(SITES, recorded), TWO, mesh=mesh)
    assert all(isinstance(ends[name], ConnectionLost) for name in SITES), ends


# --- what is refused --------------------------------------------------------------------------------------------------


def test_sites_that_add_different_things_or_in_another_job() -> None:
    use = {**totals(VALUES), "d": lambda sums: sums.total(np.ones(4), what="something else")}
    for least in (0, 3):
        ends, _ = play_few(use, TWO, least=least, patience=0.5)
        assert any("something else" in str(ends[name]) for name in TWO), ends
    mesh = Mesh(SITES, aggregators.PROTOCOL.kinds, 0.5)

    def site(name: str) -> Any:
        peers = {other: peer for other, peer in mesh.peers[name].items() if name in TWO or other in TWO}
        context = ("job 2",) if name == "d" else ("job 1",)
        ready = aggregators.site(peers, SITES, TWO, rng=seeded_rng(1), context=context)
        return adding(ready, totals(VALUES)[name], seeded_rng(2))

    ends = mesh.run({name: site(name) for name in SITES})
    assert any("another job" in str(ends[name]) for name in TWO), ends


@pytest.mark.parametrize(
    ("kind", "change", "words"),
    [
        ("Share", lambda m: {"seed": m.seed[:-1]}, "another size"),
        ("Share", lambda m: {"words": m.words[:-1].copy()}, "another size"),
        ("Arrived", lambda m: {"names": [*m.names, "x"]}, "cannot be"),
        ("Arrived", lambda m: {"names": m.names[:1]}, "cannot be"),
        ("ShareOfSum", lambda m: {"words": m.words[:-1].copy()}, "shape"),
        ("Result", lambda m: {"names": m.names[::-1]}, "cannot be"),
        ("Result", lambda m: {"names": [*m.names, "x"]}, "cannot be"),
        ("Result", lambda m: {"words": m.words[:-1].copy()}, "hang together"),
    ],
)
def test_messages_that_do_not_fit(monkeypatch: pytest.MonkeyPatch, kind: str, change: Any, words: str) -> None:
    real = Channel.send

    async def send(self: Channel, m: Any) -> None:
        lies = type(m).__name__ == kind and self.gate.site in ("c", "d")
        await real(self, _with(m, change(m)) if lies and all(_fits(m, change(m))) else m)

    monkeypatch.setattr(Channel, "send", send)
    ends, _ = play_few(totals(VALUES), TWO, mesh=Mesh(SITES, aggregators.PROTOCOL.kinds, 0.5))
    assert any(isinstance(end, ProtocolError) and words in str(end) for end in ends.values()), ends


def _with(m: Any, fields: Mapping[str, Any]) -> Any:
    return type(m)(*(fields.get(name, getattr(m, name)) for name in m.__struct_fields__))


def _fits(m: Any, fields: Mapping[str, Any]) -> list[bool]:
    """Whether there is something to change: a share is a seed or a vector."""
    return [len(getattr(m, name)) > 0 for name in fields]


@pytest.mark.parametrize("who", [("b",), ("b", "b"), ("b", "x"), ("b", "c", "d", "e")])
def test_aggregators_that_cannot_be(who: Sequence[str]) -> None:
    with pytest.raises(InputError, match="two or three"):
        aggregators.site(Mesh(SITES).peers["b"], SITES, who, rng=seeded_rng(1)).send(None)


@pytest.mark.parametrize("least", [1, 6])
def test_numbers_of_sites_that_cannot_be(least: int) -> None:
    with pytest.raises(ValueError, match="cannot be"):
        aggregators.site(Mesh(SITES).peers["b"], SITES, TWO, rng=seeded_rng(1), least=least).send(None)


# --- what an aggregator sees ------------------------------------------------------------------------------------------


@BOTH
def test_what_one_aggregator_gets_is_uniform_and_of_one_shape_in_two_worlds(who: Sequence[str]) -> None:
    n = 3000
    one = {name: np.zeros(n) for name in SITES}
    two = {**one, "b": np.full(n, 1e20), "d": np.full(n, -1e20)}
    shapes = []
    for world in (one, two):
        ends, mesh = play_few(totals(world), who)
        assert not ends["c"].any()
        shapes.append(sorted((f.sender, f.stream, f.kind, f.size) for f in mesh.transcript))
        for kind in ("Share", "ShareOfSum"):
            for frame in (f for f in mesh.transcript if f.kind.endswith(f".{kind}") and f.payload):
                counts = np.bincount(np.frombuffer(frame.payload, np.uint8), minlength=256)
                expected = len(frame.payload) / 256
                assert float(((counts - expected) ** 2 / expected).sum()) < 255 + 6 * math.sqrt(2 * 255)
    assert shapes[0] == shapes[1]


def test_a_site_never_uses_a_seed_twice() -> None:
    async def twice(sums: Sums) -> None:
        for _ in range(2):
            await sums.total(np.zeros(9), what="the same")

    _, mesh = play_few(dict.fromkeys(SITES, twice), THREE)
    vectors = [f.payload for f in mesh.transcript if f.kind.endswith(".Share") and f.payload]
    assert len(set(vectors)) == len(vectors) == 4
