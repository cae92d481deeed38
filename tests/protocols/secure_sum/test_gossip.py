"""Gossip: near the mean after a few rounds, as near as is promised, and nobody sees a single site's numbers."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest

from atoll.core.channel import Channel
from atoll.core.errors import AtollError, InputError, ProtocolError
from atoll.protocols.secure_sum import gossip
from atoll.protocols.secure_sum.gossip import Opening, contraction, groups, mix, rounds_for
from atoll.testing import check_card, seeded_rng
from tests.protocols.secure_sum.meshes import Life, Mesh

NAMES = tuple("abcdefghijk")


def play(values: Mapping[str, np.ndarray], mesh: Mesh | None = None, **options: Any) -> tuple[dict[str, Any], Mesh]:
    mesh = mesh or Mesh(list(values), gossip.PROTOCOL.kinds)
    options = {"rounds": 3, "what": "a layer", "context": ("job 1",), **options}
    roles = {
        name: mix(mesh.peers[name], mine, rng=seeded_rng(i), **options) for i, (name, mine) in enumerate(values.items())
    }
    return mesh.run(roles), mesh


def own(names: Sequence[str] = NAMES, n: int = 40) -> dict[str, np.ndarray]:
    return {name: np.sin(np.arange(n) * (i + 1.0)) + i for i, name in enumerate(names)}


def test_the_card_is_complete() -> None:
    check_card(gossip.PROTOCOL)


def test_sites_come_near_the_mean_and_keep_it() -> None:
    values = own()
    mean = np.mean(list(values.values()), axis=0)
    before = np.mean([(x - mean) ** 2 for x in values.values()])
    ends, mesh = play(values, rounds=8)
    found = np.array([ends[name].values for name in NAMES])
    assert np.mean((found - mean) ** 2) < 10 * before * contraction(11) ** 8  # ten times that with probability 0.1
    assert ends["a"].error == contraction(11) ** 4
    met = {(f.sender, f.stream) for f in mesh.transcript if f.kind.endswith("Part")}
    assert len(met) == 11 * 8  # each site in one group in each round, and nobody adds up over all


def test_rounds_are_those_of_groups_in_the_clear() -> None:
    """Against plain means over the groups that the same seed gives."""
    values, seeds = own(), []
    real = gossip.groups
    ends, _ = play(values, rounds=2)
    seen: list[bytes] = []

    def spy(seed: bytes, *rest: Any) -> Any:
        seen.append(seed)
        return real(seed, *rest)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gossip, "groups", spy)
        again, _ = play(values, rounds=2)
    seeds = sorted(set(seen))
    assert len(seeds) == 1
    plain = dict(values)
    for number in range(2):
        for group in groups(seeds[0], number, NAMES):
            mean = np.mean([plain[name] for name in group], axis=0)
            plain.update(dict.fromkeys(group, mean))
    for name in NAMES:
        np.testing.assert_allclose(ends[name].values, plain[name], rtol=1e-14)
        assert np.array_equal(ends[name].values, again[name].values)


@pytest.mark.parametrize("bits", [16, 32])
def test_clipped_numbers_of_few_bits(bits: int) -> None:
    values = own()
    ends, _ = play(values, rounds=6, clip=20.0, bits=bits)
    exact, _ = play(values, rounds=6)
    step = 20.0 * 4 / 2 ** (bits - 1)
    for name in NAMES:
        assert np.abs(ends[name].values - exact[name].values).max() < 6 * step
    assert not np.array_equal(ends["a"].values, exact["a"].values)


@pytest.mark.parametrize("sites", [3, 5])
def test_few_sites_make_one_group_and_are_exact_at_once(sites: int) -> None:
    values = own(NAMES[:sites])
    ends, _ = play(values, rounds=1)
    mean = np.mean(list(values.values()), axis=0)
    assert all(np.abs(end.values - mean).max() < 1e-14 and end.error == 0 for end in ends.values())
    assert rounds_for(sites, 0.01) == 1


# --- the statement of the error ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(("sites", "size", "rounds"), [(6, 3, 1), (11, 3, 2), (30, 3, 3), (30, 5, 2)])
def test_the_squared_distance_shrinks_as_is_said(sites: int, size: int, rounds: int) -> None:
    names = [f"site {i:02}" for i in range(sites)]
    start = np.random.default_rng(1).normal(size=sites)
    start[0] = 8.0
    start -= start.mean()
    ratios = []
    for draw in range(1500):
        x = start.copy()
        for number in range(rounds):
            for group in groups(draw.to_bytes(16, "little"), number, names, size):
                at = [names.index(name) for name in group]
                x[at] = x[at].mean()
        ratios.append((x**2).mean() / (start**2).mean())
    expected = contraction(sites, size) ** rounds
    assert abs(np.mean(ratios) - expected) < 5 * np.std(ratios) / np.sqrt(len(ratios))
    assert np.mean(np.array(ratios) > 10 * expected) <= 0.1


@pytest.mark.parametrize("sites", [6, 11, 64, 1000])
def test_rounds_grow_with_the_logarithm_of_the_error_only(sites: int) -> None:
    k = rounds_for(sites, 1e-3)
    assert contraction(sites) ** (k / 2) <= 1e-3 < contraction(sites) ** ((k - 1) / 2)
    assert k <= 13


# --- what a site sees -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sites", [6, 7, 9, 11])
def test_no_site_can_solve_for_the_numbers_of_another(sites: int) -> None:
    """All means that a site sees, over ten rounds, as rows over the sites' numbers: no unit vector is among them."""
    names = NAMES[:sites]
    for draw in range(20):
        held = dict(zip(names, np.eye(sites), strict=True))
        views: dict[str, list[np.ndarray]] = {name: [held[name]] for name in names}
        for number in range(10):
            for group in groups(draw.to_bytes(16, "little"), number, names):
                mean = np.mean([held[name] for name in group], axis=0)
                for name in group:
                    views[name].append(mean)
                held.update(dict.fromkeys(group, mean))
        for at, name in enumerate(names):
            rank = np.linalg.matrix_rank(np.array(views[name]), tol=1e-9)
            for other in range(sites):
                more = np.linalg.matrix_rank(np.vstack([views[name], np.eye(sites)[other]]), tol=1e-9)
                assert (more > rank) == (other != at)


@pytest.mark.parametrize(("sites", "size"), [(6, 3), (11, 3), (17, 5)])
def test_groups_are_of_three_and_more_and_change(sites: int, size: int) -> None:
    names = [f"site {i:02}" for i in range(sites)]
    dealt = [groups(b"0123456789abcdef", number, names, size) for number in range(5)]
    for one in dealt:
        assert sorted(name for group in one for name in group) == names
        assert min(map(len, one)) >= size
        assert max(map(len, one)) - min(map(len, one)) <= 1
    assert len({str(one) for one in dealt}) > 3


def test_what_travels_is_of_one_shape_in_two_worlds() -> None:
    shapes = []
    for world in (dict.fromkeys(NAMES, np.zeros(30)), {name: np.full(30, 1e6 * i) for i, name in enumerate(NAMES)}):
        ends, mesh = play(world)
        assert not any(isinstance(end, BaseException) for end in ends.values())
        shapes.append(sorted((f.sender, f.stream, f.kind, f.size) for f in mesh.transcript))
    assert shapes[0] == shapes[1]


# --- what is refused --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("sites", "size"), [(2, 3), (11, 2), (4, 5)])
def test_groups_that_show_too_much_or_cannot_be(sites: int, size: int) -> None:
    ends, _ = play(own(NAMES[:sites]), size=size)
    assert all(isinstance(end, InputError) for end in ends.values())


def test_a_site_that_opens_another_share(monkeypatch: pytest.MonkeyPatch) -> None:
    real = Channel.send

    async def send(self: Channel, m: Any) -> None:
        await real(self, Opening(bytes(16), m.nonce) if isinstance(m, Opening) and self.gate.site == "c" else m)

    monkeypatch.setattr(Channel, "send", send)
    ends, _ = play(own(NAMES[:6]), Mesh(NAMES[:6], gossip.PROTOCOL.kinds, 0.5))
    assert any("c opened another share" in str(end) for end in ends.values() if isinstance(end, ProtocolError))


def test_sites_that_differ_or_die() -> None:
    values = own(NAMES[:6])
    values["d"] = values["d"][:-1]
    ends, _ = play(values, Mesh(NAMES[:6], gossip.PROTOCOL.kinds, 0.5))
    assert any("has shape" in str(end) for end in ends.values()), ends
    assert all(isinstance(ends[name], AtollError) for name in "ad")
    mesh = Mesh(NAMES[:6], gossip.PROTOCOL.kinds, 0.5, lives={"c": Life("Added", 1)})
    ends, _ = play(own(NAMES[:6]), mesh)
    assert any(isinstance(end, AtollError) for name, end in ends.items() if name != "c")
