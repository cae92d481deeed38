"""Sums under a key that nobody holds: the same bits as a star, with all members and with some of them gone."""

import math
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from atoll.core.errors import AtollError, ConnectionLost, InputError, ProtocolError
from atoll.crypto import lattice_sum
from atoll.crypto.lattice_sum import NARROW
from atoll.protocols.secure_sum import lattice
from atoll.protocols.secure_sum.question import Question
from atoll.protocols.secure_sum.sums import Sums
from atoll.testing import check_card, seeded_rng
from atoll.testing.check_protocol import by_stream
from tests.protocols.secure_sum.lattices import MEMBERS, adding_words, play, total
from tests.protocols.secure_sum.stars import play as play_star
from tests.protocols.secure_sum.stars import totals
from tests.protocols.secure_sum.test_mesh import VALUES
from tests.protocols.star import HUB, Star, error_of

ALL = (HUB, *MEMBERS)
STEPS = ("Ask", "Ciphertext", "Partial")
"""What a member sends for each sum, in order."""


def test_the_card_is_complete() -> None:
    check_card(lattice.PROTOCOL)


@pytest.mark.parametrize("least", [0, 3])
def test_the_same_bits_as_over_a_star(least: int) -> None:
    rng = seeded_rng(11)
    random = {name: (rng.u64(50).view(np.int64) / 2.0 ** np.arange(-10, 40)).tolist() for name in VALUES}
    values = {name: [*random[name], *VALUES[name]] for name in VALUES}
    star, encrypted = play_star(totals(values))[0], play(totals(values), least=least)[0]
    assert {encrypted[name].tobytes() for name in values} == {star["b"].tobytes()}
    exact = [
        sum(Fraction(round(Fraction(x) * 2**96), 2**96) for x in column)
        for column in zip(*values.values(), strict=True)
    ]
    assert encrypted["c"].tolist() == [float(x) for x in exact]


@pytest.mark.parametrize("bits", [16, 32, 192])
@pytest.mark.parametrize("adds", [True, False])
@pytest.mark.parametrize("n", [0, 1, 7])
def test_words_of_every_width(bits: int, adds: bool, n: int) -> None:
    names = ALL if adds else MEMBERS
    ends, _ = play(dict.fromkeys(names, adding_words(2, bits, n)))
    for name in names:
        assert np.array_equal(ends[name][0], total(names, bits, n)), ends
        assert ends[name][1] == tuple(sorted(names))
    if not adds:
        assert ends[HUB] == ["words", "words"]


@pytest.mark.parametrize(("bits", "n"), [(32, 8 * 4096 + 3), (16, 8 * 4096), (192, 16384 + 1)])
@pytest.mark.parametrize("adds", [True, False])
def test_vectors_of_several_messages(bits: int, n: int, adds: bool) -> None:
    names = (HUB, "b", "c") if adds else ("b", "c", "d")
    ends, net = play(dict.fromkeys(names, adding_words(1, bits, n)))
    assert {ends[name][0].tobytes() for name in names} == {total(names, bits, n).tobytes()}
    assert len(net.sent("b", "Ciphertext")) == (1 if n % 4096 == 0 else 2)


def test_weighted_means_for_networks() -> None:
    async def use(sums: Sums) -> Any:
        values = np.full(9, 0.25 + 0.5 * (sums.site == "b"), np.float32)
        return [await sums.mean(values, weight=0.5, clip=1.0, what="a layer", bits=bits) for bits in (32, 16)]

    ends, _ = play(dict.fromkeys(("b", "c", "d", "e"), use), least=3)
    for name in "bcde":
        assert np.abs(ends[name][0] - 0.375).max() < 1e-7
        assert np.abs(ends[name][1] - 0.375).max() < 1e-2
        assert np.array_equal(ends[name], ends["b"])


def test_two_sites() -> None:
    ends, _ = play((HUB, "b"))
    assert np.array_equal(ends["b"][0], total((HUB, "b")))


def test_a_key_for_each_width_is_made_once() -> None:
    async def use(sums: Sums) -> None:
        for bits in (32, 192, 32, 16, 192):
            await sums.carrier.add(Question("words", bits, 3), np.zeros(Question("", bits, 3).words, np.uint64))

    _, net = play(dict.fromkeys(ALL, use))
    assert len(net.sent("b", "Nonce")) == 2
    sizes = [frame.size for frame in net.sent("b", "Ciphertext")]
    assert max(sizes) < 591_000  # one polynomial of 12 primes, and three numbers


# --- members that drop out --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("gone", [("c",), ("c", "e")])
@pytest.mark.parametrize("adds", [True, False])
def test_members_that_drop_out_at_each_step(step: str, gone: Sequence[str], adds: bool) -> None:
    names = ALL if adds else MEMBERS
    uses = dict.fromkeys(names, adding_words(2))
    first = dict.fromkeys(names, adding_words(1))
    counted = [name for name in names if name not in gone or step == "Partial"]
    left = [name for name in names if name not in gone]
    ends, _ = play(first, dict.fromkeys(gone, (step,)), least=3, at_hub={"patience": 2.0})
    for name in left:
        assert np.array_equal(ends[name][0], total(counted)), ends
        assert ends[name][1] == tuple(sorted(counted))
    ends, _ = play(uses, dict.fromkeys(gone, (step,)), least=3, at_hub={"patience": 2.0})
    for name in left:
        assert np.array_equal(ends[name][0], total(left)), ends
    if adds:
        assert set(ends[HUB][2]) == set(gone)
        assert all("has closed the link" in why for why in ends[HUB][2].values())


def test_one_after_the_other_drops_out_while_it_helps_to_open() -> None:
    """c does not open; then d sends no zeros; then e sends some, and does not open."""
    names = (HUB, "b", "c", "d", "e", "f", "g", "h")
    quits = {"c": ("Partial",), "d": ("Ciphertext", 1), "e": ("Partial", 1)}
    ends, net = play(names, quits, least=4, at_hub={"patience": 2.0})
    for name in (HUB, "b", "f", "g", "h"):
        assert np.array_equal(ends[name][0], total(names)), ends
    assert set(ends[HUB][2]) == {"c", "d", "e"}
    assert [len(net.sent(name, "Ciphertext")) for name in "bdh"] == [3, 1, 3]
    assert [len(net.sent(name, "Partial")) for name in "bfh"] == [1, 3, 2]


def test_a_member_that_breaks_off_within_its_vector_is_not_half_in_the_sum() -> None:
    n = 8 * 4096 + 3
    ends, _ = play(
        dict.fromkeys(MEMBERS, adding_words(1, 32, n)), {"d": ("Ciphertext", 1)}, least=3, at_hub={"patience": 3.0}
    )
    assert np.array_equal(ends["b"][0], total([name for name in MEMBERS if name != "d"], 32, n))


def test_a_late_member_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    net = Star(MEMBERS, lattice.PROTOCOL.kinds)
    real = net.hubs["d"].link.send

    async def send(stream: str, header: bytes, parts: Any) -> None:
        if b".Ciphertext" not in header:
            await real(stream, header, parts)

    monkeypatch.setattr(net.hubs["d"].link, "send", send)
    ends, _ = play(MEMBERS, net=net, least=3, at_hub={"patience": 0.6})
    assert "too late" in str(error_of(ends, "d", ProtocolError))
    assert np.array_equal(ends["b"][0], total([name for name in MEMBERS if name != "d"]))


@pytest.mark.parametrize("step", STEPS)
def test_too_many_drop_outs_end_it(step: str) -> None:
    ends, _ = play(ALL, dict.fromkeys("bcd", (step,)), least=3, at_hub={"patience": 2.0}, timeout=2.0)
    assert "only 2" in str(error_of(ends, HUB, ProtocolError))
    assert isinstance(ends["f"], AtollError)


@pytest.mark.parametrize("step", ["Nonce", "Commitment", "PublicPart", "KeyShare", *STEPS])
def test_where_all_are_needed_or_keys_are_made_one_ends_it(step: str) -> None:
    least = 3 if step in ("Commitment", "PublicPart", "KeyShare") else 0
    ends, _ = play(ALL, {"c": (step,)}, least=least, timeout=2.0)
    assert isinstance(ends[HUB], ConnectionLost), ends
    assert all(isinstance(ends[name], AtollError) for name in ALL), ends


def test_a_member_that_is_gone_before_a_key_is_made_has_no_part_of_it() -> None:
    ends, _ = play(ALL, {"c": ("Nonce",)}, least=3, at_hub={"patience": 2.0})
    left = [name for name in ALL if name != "c"]
    assert all(np.array_equal(ends[name][0], total(left)) for name in left), ends


# --- what is refused --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("members", "adds", "least"), [(1, False, 0), (4, True, 2), (4, True, 5), (5, False, 2)])
def test_options_that_cannot_be(members: int, adds: bool, least: int) -> None:
    net = Star([f"site {i}" for i in range(members)])
    with pytest.raises(ValueError, match="cannot be"):
        lattice.hub(net.peers, adds=adds, least=least).send(None)
    with pytest.raises(ValueError, match="cannot be"):
        lattice.member(net.hubs["site 0"], list(net.peers), rng=seeded_rng(1), adds=adds, least=least).send(None)


def test_more_members_than_the_noise_has_room_for() -> None:
    net = Star([f"site {i}" for i in range(lattice_sum.MEMBERS + 1)])
    with pytest.raises(InputError, match="serves 32 members"):
        lattice.hub(net.peers).send(None)


@pytest.mark.parametrize("adds", [True, False])
def test_sites_that_add_different_things(adds: bool) -> None:
    names = ALL if adds else MEMBERS
    uses = {**dict.fromkeys(names, adding_words()), "d": adding_words(1, 32, 12)}
    ends, _ = play(uses, timeout=0.7)
    assert "d adds 12 numbers of 32 bits" in str(error_of(ends, HUB, ProtocolError))


def test_sites_of_other_jobs_or_with_other_options() -> None:
    async def other(net: Star) -> None:
        ready = await lattice.member(net.hubs["c"], MEMBERS, rng=seeded_rng(1), context=("job 2",))
        await adding_words()(Sums(ready, seeded_rng(2)))

    for changes in ({"at_hub": {"least": 4}}, {"roles": {"c": other}}):
        ends, _ = play(ALL, timeout=0.7, **changes)
        errors = [str(end) for end in ends.values() if isinstance(end, ProtocolError)]
        assert any("with other options" in error or "secret was changed" in error for error in errors), ends


# --- what the hub sees ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("least", [0, 3])
def test_the_hub_sees_uniform_residues_of_one_shape_in_two_worlds(least: int) -> None:
    """Two worlds with equal sums: the same shapes, and all that members send is uniform."""
    n = 2000
    worlds = [dict.fromkeys(MEMBERS, 0), {**dict.fromkeys(MEMBERS, 0), "b": 123_456_789, "d": -123_456_789}]
    shapes, phases = [], []

    def one(value: int) -> Any:
        question, x = Question("words", 32, n), np.full(n, value, np.int32).view(np.uint64)
        return lambda sums: sums.carrier.add(question, x)

    for world in worlds:
        ends, net = play({name: one(value) for name, value in world.items()}, least=least)
        assert not ends["c"].any()
        shapes.append([[(f.sender, f.kind, f.size) for f in by_stream(net.transcripts[name])] for name in MEMBERS])
        for name in MEMBERS:
            for kind, tags in (("PublicPart", 0), ("Ciphertext", 4), ("Partial", 2)):
                for frame in (f for f in net.sent(name, kind) if f.sender == name):
                    _uniform(frame.payload[8 * tags :])
        phases.append(np.frombuffer(net.sent("b", "Phase")[0].payload[16:], np.uint32).reshape(2, n))
    assert shapes[0] == shapes[1]
    # With the same randomness the noise behind the sum differs by roundings, and the flood spans 2^5 times as much.
    noise = [_noise(phase) for phase in phases]
    assert np.abs(noise[0] - noise[1]).max() <= 2 * len(MEMBERS)
    assert np.ptp(noise[0]) > 2**6


def _noise(phase: np.ndarray) -> np.ndarray:
    """What is behind a sum, in units of t."""
    p, other = NARROW.chain.primes[:2]
    whole = [int(a) + p * ((int(b) - int(a)) * pow(p, -1, other) % other) for a, b in phase.T]
    return np.array([(v if v < p * other // 2 else v - p * other) / NARROW.t for v in (w % (p * other) for w in whole)])


def _uniform(payload: bytes) -> None:
    """The lowest byte of every residue is uniform but for 2^-12."""
    low = np.frombuffer(payload, np.uint8)[::3]
    counts = np.bincount(low, minlength=256)
    expected = low.size / 256
    assert float(((counts - expected) ** 2 / expected).sum()) < 255 + 6 * math.sqrt(2 * 255)


def test_every_sum_is_encrypted_and_opened_anew() -> None:
    _, net = play(dict.fromkeys(MEMBERS, adding_words(2)))
    for kind in ("Ciphertext", "Partial"):
        one, two = (frame.payload for frame in net.sent("b", kind))
        same = np.frombuffer(one, np.uint8) == np.frombuffer(two, np.uint8)
        assert same.mean() < 0.05
