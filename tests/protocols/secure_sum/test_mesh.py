"""Rings and direct sums: the same bits as a star, masked on every link, and a ring that closes around the dead."""

import asyncio
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest

from atoll.core.channel import Channel
from atoll.core.errors import AtollError, ConnectionLost, ProtocolError
from atoll.protocols.secure_sum import direct, dropouts, ring
from atoll.protocols.secure_sum.direct_ties import PairKey, shares_of
from atoll.protocols.secure_sum.question import PIECE
from atoll.protocols.secure_sum.sums import Sums
from atoll.testing import check_card, seeded_rng
from tests.protocols.secure_sum.meshes import Life, Mesh, play_mesh
from tests.protocols.secure_sum.stars import play, totals
from tests.protocols.star import HUB

SITES = ("b", "c", "d", "e", "hub")
VALUES: Mapping[str, Sequence[float]] = {
    "b": [1.0, 1e16, 0.1, 5e-324],
    "c": [2.0, 1.0, 0.2, 2.0**-97],
    "d": [4.0, -1e16, 0.3, 2.0**-96],
    "e": [8.0, 1e-9, -0.6, -1.0],
    "hub": [16.0, 3.0, 1e-17, 1e22],
}
BOTH = pytest.mark.parametrize("protocol", [ring, direct], ids=["ring", "direct"])


@BOTH
def test_the_cards_are_complete(protocol: Any) -> None:
    check_card(protocol.PROTOCOL)


def test_all_topologies_give_the_same_bits() -> None:
    rng = seeded_rng(11)
    random = {name: (rng.u64(50).view(np.int64) / 2.0 ** np.arange(-10, 40)).tolist() for name in SITES}
    values = {name: [*random[name], *VALUES[name]] for name in SITES}
    found = set()
    for ends in (
        play(totals(values))[0],
        play(totals({name: mine for name, mine in values.items() if name != HUB} | {"z": values[HUB]}))[0],
        play(totals(values), protocol=dropouts)[0],
        play_mesh(totals(values), ring)[0],
        play_mesh(totals(values), direct)[0],
        play_mesh(totals(values), direct, leader=True)[0],
    ):
        found |= {end.tobytes() for name, end in ends.items() if isinstance(end, np.ndarray)}
    assert len(found) == 1


@BOTH
@pytest.mark.parametrize("sites", [2, 3, 5])
@pytest.mark.parametrize("n", [0, 1, 2, 7, PIECE])
def test_any_length_over_any_number_of_sites(protocol: Any, sites: int, n: int) -> None:
    values = {name: np.arange(n) * (i + 1.0) for i, name in enumerate(SITES[:sites])}
    ends, _ = play_mesh(totals(values), protocol)
    for name in values:
        assert np.array_equal(ends[name], np.arange(n) * (sites * (sites + 1) / 2)), ends


@BOTH
def test_many_sums_and_means(protocol: Any) -> None:
    async def use(sums: Sums) -> Any:
        first = await sums.total(np.array([1.0]), what="one")
        second = await sums.total(first, what="two")
        mean = await sums.mean(np.full(5, float(len(sums.site))), weight=0.5, clip=4.0, what="a layer")
        return first.tolist(), second.tolist(), mean

    ends, _ = play_mesh(dict.fromkeys(SITES, use), protocol)
    for name in SITES:
        assert ends[name][:2] == ([5.0], [25.0])
        assert np.abs(ends[name][2] - 7 / 5).max() < 1e-6
        assert np.array_equal(ends[name][2], ends["b"][2])


def test_the_leader_changes_and_nobody_else_hears_of_a_sum() -> None:
    async def often(sums: Sums) -> Any:
        return [(await sums.total(np.array([float(i)]), what="numbers"))[0] for i in range(30)]

    ends, mesh = play_mesh(dict.fromkeys(SITES, often), direct, leader=True)
    assert {tuple(ends[name]) for name in SITES} == {tuple(5.0 * i for i in range(30))}
    told = [frame.sender for frame in mesh.transcript if frame.kind.endswith("Added") and frame.payload]
    assert len(told) == 30 * 4
    assert set(told) == set(SITES)
    assert len([frame for frame in mesh.transcript if frame.kind.endswith("Part") and frame.payload]) == 30 * 4


def test_parts_cover_the_vector_in_whole_numbers() -> None:
    for words in (0, 3, 6, 300, 99_999):
        for sites in (1, 2, 7, 100):
            places = shares_of(words, sites)
            assert len(places) == sites
            assert [i for place in places for i in range(place.start, place.stop)] == list(range(words))
            assert all(place.start % 3 == 0 for place in places if place.stop > place.start)


# --- what is refused --------------------------------------------------------------------------------------------------


@BOTH
def test_sites_that_add_different_things(protocol: Any) -> None:
    use = {**totals(VALUES), "d": lambda sums: sums.total(np.ones(4), what="something else")}
    ends, _ = play_mesh(use, protocol)
    assert isinstance(ends["d"], AtollError)
    assert "something else" in str(ends["e"])  # its neighbour in the ring


@BOTH
def test_sites_of_other_jobs(protocol: Any) -> None:
    mesh = Mesh(SITES, protocol.PROTOCOL.kinds, 0.5)
    roles = {
        name: Sums_of(protocol, mesh, name, context=("job 2",) if name == "c" else ("job 1",)) for name in SITES
    }  # fmt: skip
    ends = mesh.run(roles)
    assert isinstance(ends["c"], AtollError)
    assert "another job" in str(ends["d"])


async def Sums_of(protocol: Any, mesh: Mesh, name: str, **options: Any) -> Any:
    mine = await protocol.site(mesh.peers[name], rng=seeded_rng(ord(name[0])), **options)
    return await Sums(mine, seeded_rng(1)).total(np.ones(4), what="means of a test")


@BOTH
@pytest.mark.parametrize("change", [lambda words: words[:-3].copy(), lambda words: np.concatenate([words, words])])
def test_parts_of_another_size(monkeypatch: pytest.MonkeyPatch, protocol: Any, change: Any) -> None:
    real, mesh = Channel.send, Mesh(SITES, protocol.PROTOCOL.kinds, 0.5)

    async def send(self: Channel, m: Any) -> None:
        lies = type(m).__name__ == "Part" and self.gate.site == "c" and m.words.size
        await real(self, type(m)(m.what, m.bits, m.n, m.model, m.bound, change(m.words)) if lies else m)

    monkeypatch.setattr(Channel, "send", send)
    ends, _ = play_mesh(totals(VALUES), protocol, mesh=mesh)
    assert any(isinstance(end, ProtocolError) and "shape" in str(end) for end in ends.values())


@BOTH
@pytest.mark.parametrize("sent", [PairKey(b"short", b""), PairKey(bytes(16), b"short"), PairKey(bytes(16), b"")])
def test_keys_of_another_size(protocol: Any, sent: PairKey) -> None:
    mesh = Mesh(("b", "c"), protocol.PROTOCOL.kinds, 0.5)

    async def liar() -> None:
        await mesh.peers["b"]["c"].send(sent)

    ends = mesh.run({"b": liar(), "c": Sums_of(protocol, mesh, "c")})
    assert "bytes" in str(ends["c"])
    assert isinstance(ends["c"], ProtocolError)


@BOTH
def test_a_site_alone(protocol: Any) -> None:
    with pytest.raises(ValueError, match="two"):
        protocol.site({}, rng=seeded_rng(1)).send(None)


@pytest.mark.parametrize("least", [1, 6])
def test_numbers_of_sites_that_cannot_be(least: int) -> None:
    with pytest.raises(ValueError, match="cannot be"):
        ring.site(Mesh(SITES).peers["b"], rng=seeded_rng(1), least=least).send(None)


def test_a_direct_sum_ends_everywhere_when_a_site_dies() -> None:
    mesh = Mesh(SITES, direct.PROTOCOL.kinds, lives={"c": Life("Added", 1)})
    ends, _ = play_mesh(totals(VALUES), direct, mesh=mesh)
    assert all(isinstance(ends[name], ConnectionLost) for name in ("d", "e", "hub")), ends


# --- a ring that loses sites ------------------------------------------------------------------------------------------


async def recorded(sums: Sums) -> Any:
    total = await sums.total(np.array([2.0 ** SITES.index(sums.site)]), what="means of a test")
    again = await sums.total(np.array([2.0 ** SITES.index(sums.site)]), what="again")
    return total[0], again[0], sums.told[0].sites, dict(sums.carrier.dropped)  # type: ignore[attr-defined]


@pytest.mark.parametrize("gone", ["b", "d", "hub"])
@pytest.mark.parametrize(("kind", "number"), [*(("Part", i) for i in range(8)), *(("Holds", i) for i in range(4))])
def test_a_site_that_dies_before_its_seed_is_left_out(gone: str, kind: str, number: int) -> None:
    mesh = Mesh(SITES, ring.PROTOCOL.kinds, lives={gone: Life(kind, number)})
    ends, _ = play_mesh(dict.fromkeys(SITES, recorded), ring, mesh=mesh)
    left = [name for name in SITES if name != gone]
    want = float(31 - 2 ** SITES.index(gone))
    for name in left:
        assert ends[name] == (want, want, tuple(left), {gone: "silent or gone (sum 1)"}), ends


@pytest.mark.parametrize("number", [0, 1, 2, 3, 4])
def test_a_site_that_dies_while_it_tells_its_seed_is_in_for_all_or_for_none(number: int) -> None:
    """With some seeds told, those who know it tell the others: all of them have the sum with the dead site."""
    mesh = Mesh(SITES, ring.PROTOCOL.kinds, lives={"c": Life("Seed", number) if number < 4 else Life("Part", 8)})
    ends, _ = play_mesh(dict.fromkeys(SITES, recorded), ring, mesh=mesh)
    first, second = (31.0 if number else 29.0), 29.0
    for name in SITES:
        if name != "c":
            assert ends[name][:2] == (first, second), ends
            assert ends[name][2] == tuple(SITES if number else [s for s in SITES if s != "c"])
            assert set(ends[name][3]) == {"c"}


@pytest.mark.slow
def test_a_site_that_falls_silent_after_it_told_its_seed_to_one() -> None:
    mesh = Mesh(SITES, ring.PROTOCOL.kinds, lives={"d": Life("Seed", 1, silent=True)})

    async def silent(sums: Sums) -> Any:
        try:
            async with asyncio.timeout(2.5):
                return await recorded(sums)
        except (TimeoutError, AtollError):
            return None

    use = {**dict.fromkeys(SITES, recorded), "d": silent}
    ends, _ = play_mesh(use, ring, mesh=mesh, patience=0.5)
    assert all(isinstance(ends[name], tuple) for name in SITES if name != "d"), ends
    assert {ends[name][1] for name in SITES if name != "d"} == {27.0}
    assert {ends[name][0] for name in SITES if name != "d"} == {31.0}


def test_two_sites_that_die_one_after_the_other() -> None:
    mesh = Mesh(SITES, ring.PROTOCOL.kinds, lives={"b": Life("Part", 2), "e": Life("Holds", 5)})
    ends, _ = play_mesh(dict.fromkeys(SITES, recorded), ring, mesh=mesh)
    assert {ends[name][0] for name in ("c", "d", "hub")} == {30.0}, ends
    assert {ends[name][1] for name in ("c", "d", "hub")} == {22.0}


def test_a_false_alarm_is_tried_again_with_all() -> None:
    """A site that is late for once is not left out: it answers when it is missed."""
    mesh = Mesh(SITES, ring.PROTOCOL.kinds)
    real, late = mesh.peers["b"]["c"].link.send, [True]

    async def send(stream: str, header: bytes, parts: Any) -> None:
        if late and b".Part" in header:
            late.clear()
            await asyncio.sleep(0.6)
        await real(stream, header, parts)

    mesh.peers["b"]["c"].link.send = send  # type: ignore[method-assign]
    ends, _ = play_mesh(dict.fromkeys(SITES, recorded), ring, mesh=mesh, patience=0.5)
    for name in SITES:
        assert ends[name] == (31.0, 31.0, SITES, {}), ends


def test_too_few_sites_end_it() -> None:
    mesh = Mesh(SITES, ring.PROTOCOL.kinds, lives={"b": Life("Part", 2)})
    ends, _ = play_mesh(dict.fromkeys(SITES, recorded), ring, mesh=mesh, least=5)
    assert all("4 of 5 sites are left; 5 are needed" in str(ends[name]) for name in "cde"), ends


def test_the_last_sum_is_the_same_for_all_though_a_site_dies_in_it() -> None:
    for number in range(4):
        mesh = Mesh(SITES, ring.PROTOCOL.kinds, lives={"c": Life("Seed", number)})
        ends, _ = play_mesh(totals({name: [2.0**i] for i, name in enumerate(SITES)}), ring, mesh=mesh)
        found = {ends[name][0] for name in SITES if name != "c"}
        assert found == {31.0 if number else 29.0}, (number, ends)


# --- what neighbours see ----------------------------------------------------------------------------------------------


@BOTH
def test_what_travels_is_uniform_and_of_one_shape_in_two_worlds(protocol: Any) -> None:
    n = 3000
    one = {name: np.zeros(n) for name in SITES}
    two = {**one, "b": np.full(n, 1e20), "d": np.full(n, -1e20)}
    shapes = []
    for world in (one, two):
        ends, mesh = play_mesh(totals(world), protocol)
        assert not ends["c"].any()
        shapes.append(sorted((f.sender, f.stream, f.kind, f.size) for f in mesh.transcript))
        words = np.concatenate([np.frombuffer(f.payload, np.uint8) for f in mesh.transcript if f.kind.endswith("Part")])
        if protocol is direct:
            counts = np.bincount(words, minlength=256)
            expected = words.size / 256
            assert float(((counts - expected) ** 2 / expected).sum()) < 255 + 6 * math.sqrt(2 * 255)
    assert shapes[0] == shapes[1]


def test_each_part_along_a_ring_is_uniform() -> None:
    ends, mesh = play_mesh(totals({name: np.zeros(3000) for name in SITES}), ring)
    for frame in mesh.transcript:
        if frame.kind.endswith("Part"):
            bits = np.unpackbits(np.frombuffer(frame.payload, np.uint8))
            assert abs(bits.mean() - 0.5) < 6 * 0.5 / math.sqrt(bits.size)
    assert not ends["b"].any()


def test_a_sum_that_is_tried_again_is_masked_anew() -> None:
    mesh = Mesh(SITES, ring.PROTOCOL.kinds, lives={"e": Life("Holds", 1)})
    play_mesh(totals({name: np.zeros(100) for name in SITES}), ring, mesh=mesh)
    first = [f.payload for f in mesh.transcript if f.sender == "b" and f.kind.endswith("Part")]
    assert len(first) == 8 + 6
    assert len(set(first)) == len(first)


def test_a_mutant_that_tells_seeds_too_early_opens_two_sums(monkeypatch: pytest.MonkeyPatch) -> None:
    """Then a site that dies before all hold the sum is in some sums and not in others."""

    async def at_once(self: Any, peer: Channel) -> None:
        return

    monkeypatch.setattr(ring.Turn, "_hold", at_once)
    mesh = Mesh(SITES, ring.PROTOCOL.kinds, lives={"c": Life("Part", 7)})
    _, mesh = play_mesh(dict.fromkeys(SITES, recorded), ring, mesh=mesh)
    told = {f.sender for f in mesh.transcript if f.kind.endswith("Seed") and f.stream == "ring/1/0/seed"}
    assert told - {"c"}
