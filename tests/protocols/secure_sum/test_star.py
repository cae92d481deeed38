"""Sums over a star: exact and alike at all sites, a hub that sees noise, and hostile peers."""

import math
from collections.abc import Mapping
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from atoll.core.errors import ConnectionLost, IdentityError, InputError, ProtocolError
from atoll.core.group import Group
from atoll.protocols import pairwise_keys
from atoll.protocols.pairwise_keys import Seal
from atoll.protocols.secure_sum import star
from atoll.protocols.secure_sum.question import PIECE, Question
from atoll.protocols.secure_sum.star import Masked, Total
from atoll.protocols.secure_sum.sums import Sums, Told
from atoll.protocols.secure_sum.ties import Box, Sealed, Ties
from atoll.protocols.secure_sum.totals import Totals
from atoll.testing import check_card, seeded_rng
from atoll.testing.check_protocol import by_stream
from atoll.transport.site import init_site
from tests.protocols.secure_sum.stars import MEMBERS, VALUES, adding, play, totals
from tests.protocols.star import HUB, Star, error_of

NOTHING = np.empty(0, np.uint64)
THREE = {name: VALUES[name] for name in MEMBERS}


@pytest.fixture(scope="module")
def seals(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Seal]:
    folder: Path = tmp_path_factory.mktemp("sites")
    sites = {name: init_site(folder / name, name, "") for name in MEMBERS}
    cards = {name: site.card for name, site in sites.items()}
    return {name: Seal.of(site.key, cards) for name, site in sites.items()}


def exact(values: Mapping[str, Any]) -> np.ndarray:
    """Sums of multiples of 2^-96, rounded once, by Python's fractions."""
    columns = zip(*values.values(), strict=True)
    return np.array([float(sum(Fraction(round(Fraction(x) * 2**96), 2**96) for x in column)) for column in columns])


# --- what it gives ----------------------------------------------------------------------------------------------------


def test_the_card_is_complete() -> None:
    check_card(star.PROTOCOL)


@pytest.mark.parametrize("adds", [True, False])
@pytest.mark.parametrize("signed", [True, False])
def test_every_site_gets_the_exact_sum(adds: bool, signed: bool, seals: dict[str, Seal]) -> None:
    values = {name: mine for name, mine in VALUES.items() if adds or name != HUB}
    ends, _ = play(totals(values), seals=seals if signed else None)
    for name in values:
        assert ends[name].tobytes() == exact(values).tobytes(), ends
    if not adds:
        assert ends[HUB] == ["means of a test"]


@pytest.mark.parametrize("n", [0, 1, PIECE // 3, PIECE // 3 + 1, PIECE])
@pytest.mark.parametrize("checked", [True, False])
def test_any_length_in_any_number_of_pieces(n: int, checked: bool) -> None:
    rng = seeded_rng(n)
    values = {name: rng.u32(n) / 2.0**20 - 2048 for name in MEMBERS}
    ends, _ = play(totals(values), checked=checked)
    want = np.zeros(n)
    for mine in values.values():
        want += mine  # multiples of 2^-20 below 2^13: added without error
    assert all(np.array_equal(ends[name], want) for name in MEMBERS), ends


def test_many_sums_in_a_row_and_their_record() -> None:
    async def twice(sums: Sums) -> Any:
        first = await sums.total(np.array([1.0]), what="one")
        return await sums.total(first, what="two"), sums.told

    ends, _ = play({HUB: twice, "b": twice, "c": twice})
    for name in (HUB, "b", "c"):
        result, told = ends[name]
        assert result.tolist() == [9.0]
        assert told == [Told("one", 1, ("b", "c", HUB)), Told("two", 1, ("b", "c", HUB))]


def test_two_sites_and_one_hub_of_them() -> None:
    ends, net = play(totals({HUB: [1.0], "b": [2.0]}))
    assert ends[HUB].tolist() == ends["b"].tolist() == [3.0]
    assert not net.sent("b", "Sealed")


def test_sums_fit_the_interface_of_algorithms() -> None:
    async def learn(totals: Totals) -> tuple[float, tuple[str, ...], str]:
        count, value = await totals.total(np.array([1.0, 7.0]), what="count and sum")
        return value / count, totals.sites, totals.site

    ends, _ = play(dict.fromkeys(MEMBERS, learn))
    assert ends["c"] == (7.0, MEMBERS, "c")


def test_above_64_members_masks_come_from_a_sparse_graph_and_cancel() -> None:
    names = [f"site {i:02}" for i in range(66)]
    ends, _ = play(totals({name: [float(i)] for i, name in enumerate(names)}), timeout=20.0)
    assert {ends[name].tolist()[0] for name in names} == {float(sum(range(66)))}
    ties = Ties(names[0], tuple(names), dict.fromkeys(names[1:], bytes(16)), bytes(32))
    assert len(ties.masks(b"", "numbers").negative) == 42


@pytest.mark.parametrize("bits", [16, 32])
def test_weighted_means_of_quantised_vectors(bits: int) -> None:
    rng = seeded_rng(2)
    vectors = {name: rng.u64(500).astype(np.float64) / 2.0**63 - 1 for name in VALUES}
    weights = dict(zip(VALUES, (1.0, 0.25, 0.5, 0.01), strict=True))

    def one(name: str) -> Any:
        return lambda sums: sums.mean(vectors[name], weight=weights[name], clip=2.0, what="a layer", bits=bits)

    ends, _ = play({name: one(name) for name in VALUES})
    want = sum(weights[name] * vectors[name] for name in VALUES) / sum(weights.values())
    step = 2.0 * 4 / 2 ** (bits - 1)
    for name in VALUES:
        assert np.array_equal(ends[name], ends[HUB])
        assert np.abs(ends[name] - want).max() < 4 * step / sum(weights.values()) * 2


# --- what is refused --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_values_that_are_not_finite(bad: float) -> None:
    ends, _ = play(totals({**VALUES, "c": [1.0, bad, 2.0, bad]}), timeout=0.3)
    error = error_of(ends, "c", InputError)
    assert "not finite" in str(error)
    assert "2 of 4" in str(error)
    assert "2 of 4" not in str(error.to_dict())


def test_values_that_are_too_large_for_all_sites_together() -> None:
    ends, _ = play(totals({**VALUES, "c": [2.0**93, 0, 0, 0]}), timeout=0.3)
    assert "stay below 9.9e+27" in str(error_of(ends, "c", InputError))


@pytest.mark.parametrize("weight", [-1.0, 1.5, math.nan])
def test_weights_out_of_range(weight: float) -> None:
    def mean(sums: Sums) -> Any:
        return sums.mean(np.ones(3), weight=weight if sums.site == "c" else 1.0, clip=1.0, what="a layer")

    ends, _ = play(dict.fromkeys(MEMBERS, mean), timeout=0.3)
    assert "weight of a layer" in str(error_of(ends, "c", InputError))


def test_a_weight_of_nothing_adds_nothing() -> None:
    def mean(sums: Sums) -> Any:
        quiet = sums.site == "c"
        return sums.mean(np.full(3, 0.9 if quiet else 0.5), weight=0.0 if quiet else 1.0, clip=1.0, what="a layer")

    ends, _ = play(dict.fromkeys(MEMBERS, mean), checked=True)
    assert all(np.allclose(ends[name], 0.5, atol=1e-8) for name in MEMBERS), ends


@pytest.mark.parametrize("adds", [True, False])
@pytest.mark.parametrize(
    ("odd", "words"),
    [
        (lambda sums: sums.total(np.ones(5), what="means of a test"), "5 numbers of 192 bits"),
        (lambda sums: sums.total(np.ones(4), what="something else"), "'something else'"),
        (lambda sums: sums.mean(np.ones(3), weight=1.0, clip=1.0, what="means of a test"), "of 32 bits"),
    ],
)
def test_sites_that_add_different_things(adds: bool, odd: Any, words: str) -> None:
    values = {name: mine for name, mine in VALUES.items() if adds or name != HUB}
    ends, _ = play({**totals(values), "c": odd}, timeout=0.3)
    error = error_of(ends, HUB, ProtocolError)
    assert words in str(error)
    assert "c" in str(error)
    error_of(ends, "b", ConnectionLost)


def test_sites_that_hold_different_models() -> None:
    def use(model: bytes) -> Any:
        return lambda sums: sums.mean(np.ones(3), weight=1.0, clip=1.0, what="a layer", model=model)

    ends, _ = play({"b": use(bytes(32)), "c": use(bytes(31) + b"1"), "d": use(bytes(32))}, timeout=0.3)
    error_of(ends, HUB, ProtocolError)


@pytest.mark.parametrize("options", [{"context": ("job 2",)}, {"checked": True}])
def test_sites_with_other_options(options: dict[str, Any]) -> None:
    def other(net: Star) -> Any:
        kept = {"context": ("job 1",), "adds": False, **options}
        return adding(star.member(net.hubs["b"], MEMBERS, rng=seeded_rng(9), **kept), totals()["b"], seeded_rng(8))

    ends, _ = play(totals(THREE), roles={"b": other}, timeout=0.3)
    assert all(isinstance(ends[name], BaseException) for name in MEMBERS)


def test_a_site_alone_and_a_checked_hub_with_numbers_are_refused() -> None:
    net = Star(["b"])
    with pytest.raises(ValueError, match="two sites"):
        star.hub(net.peers, adds=False).send(None)
    with pytest.raises(ValueError, match="two sites"):
        star.member(net.hubs["b"], ["b"], rng=seeded_rng(1), adds=False).send(None)
    with pytest.raises(ValueError, match="can change the sum"):
        star.hub(net.peers, checked=True).send(None)


def test_a_site_that_drops_out_ends_it_everywhere() -> None:
    async def gone(sums: Sums) -> Any:
        raise ConnectionLost("the power is off")

    ends, _ = play({**totals(), "c": gone}, timeout=0.3)
    for name in (HUB, "b", "d"):
        error_of(ends, name, ConnectionLost)


# --- hostile hubs and members -----------------------------------------------------------------------------------------


def hostile(change: Any, **options: Any) -> Any:
    """A hub without numbers that changes what it tells."""

    async def role(net: Star) -> None:
        hub = await star.hub(net.peers, adds=False, context=("job 1",), **options)
        hub.number += 1
        pieces = await hub._gather()
        question = hub._agreed(pieces, None)
        total, tags = np.zeros(question.words, np.uint64), np.zeros(6 if hub.checked else 0, np.uint64)
        for piece in pieces.values():
            question.ring.add(total, piece.words)
            star._WIDE.add(tags, piece.tags)
        for name, peer in net.peers.items():
            await peer.send(change(name, total.copy(), tags.copy()))
        await Group(net.peers).gather(Masked, words=(0,), tags=(0,))

    return role


def forged(name: str, total: Any, tags: Any) -> Total:
    total[2] ^= np.uint64(1)
    return Total(total, tags)


def two_truths(name: str, total: Any, tags: Any) -> Total:
    return forged(name, total, tags) if name == "d" else Total(total, tags)


def forged_with_tags(name: str, total: Any, tags: Any) -> Total:
    total[0] += np.uint64(1)
    tags[0] += np.uint64(1)
    return Total(total, tags)


@pytest.mark.parametrize("cheat", [forged, two_truths, forged_with_tags])
def test_a_hub_that_forges_a_checked_sum_is_noticed(cheat: Any) -> None:
    ends, _ = play(totals(THREE), roles={HUB: hostile(cheat, checked=True)}, checked=True)
    assert "not that of the sites" in str(error_of(ends, "d", ProtocolError))
    if cheat is not two_truths:
        error_of(ends, "b", ProtocolError)


def test_the_same_hub_goes_unnoticed_in_a_sum_that_is_not_checked() -> None:
    ends, _ = play(totals(THREE), roles={HUB: hostile(forged)})
    assert ends["b"].tolist() != exact(THREE).tolist()


def test_a_hub_that_leaves_a_site_out_tells_noise_and_is_noticed_if_checked() -> None:
    def without_c(net: Star) -> Any:
        return hostile_without(net, checked=True)

    async def hostile_without(net: Star, checked: bool) -> None:
        hub = await star.hub(net.peers, adds=False, context=("job 1",), checked=checked)
        pieces = await hub._gather()
        total, tags = np.zeros(12, np.uint64), np.zeros(6, np.uint64)
        for name in ("b", "d"):
            star._WIDE.add(total, pieces[name].words)
            star._WIDE.add(tags, pieces[name].tags)
        await Group(net.peers).broadcast(Total(total, tags))

    ends, _ = play(totals(THREE), roles={HUB: without_c}, checked=True)
    for name in MEMBERS:
        error_of(ends, name, ProtocolError)


@pytest.mark.parametrize("words", [0, 11, 13, 3 * PIECE])
def test_a_hub_that_tells_another_size(words: int) -> None:
    def resized(name: str, total: Any, tags: Any) -> Total:
        return Total(np.zeros(words, np.uint64), tags)

    ends, _ = play(totals(THREE), roles={HUB: hostile(resized)}, timeout=0.3)
    assert "shape" in str(error_of(ends, "b", ProtocolError))


def test_a_hub_that_changes_the_members_secret() -> None:
    async def role(net: Star) -> None:
        await pairwise_keys.relay(net.peers)
        boxes = (await net.peers["b"].recv(Sealed, boxes=(2, 48))).boxes
        for name, box in zip(("c", "d"), boxes[::-1], strict=True):
            await net.peers[name].send(Box(box))

    ends, _ = play(totals(THREE), roles={HUB: role}, timeout=0.3)
    assert "changed on its way" in str(error_of(ends, "c", ProtocolError))


def test_a_hub_that_swaps_signed_keys_is_noticed(seals: dict[str, Seal]) -> None:
    from tests.protocols.test_pairwise_keys import swapping

    ends, _ = play(totals(THREE), roles={HUB: lambda net: swapping(net.peers, "c")}, seals=seals, timeout=0.3)
    assert "not by c" in str(error_of(ends, "b", IdentityError))


@pytest.mark.parametrize(
    ("message", "words"),
    [
        (Masked("x" * 300, 192, 4, b"", bytes(32), np.zeros(12, np.uint64), NOTHING), "does not exist"),
        (Masked("x", 64, 4, b"", bytes(32), np.zeros(12, np.uint64), NOTHING), "does not exist"),
        (Masked("x", 192, 4, b"1", bytes(32), np.zeros(12, np.uint64), NOTHING), "does not exist"),
        (Masked("x", 192, -4, b"", bytes(32), np.zeros(12, np.uint64), NOTHING), "-4 numbers"),
        (Masked("x", 192, 1 << 40, b"", bytes(32), np.zeros(12, np.uint64), NOTHING), "more than"),
        (Masked("means of a test", 192, 4, b"", bytes(32), np.zeros(12, np.uint64), NOTHING), "another job"),
        (Masked("", 0, 0, b"", b"", NOTHING, NOTHING), "nothing more"),
    ],
)
def test_a_member_with_wrong_messages(message: Masked, words: str) -> None:
    async def liar(net: Star) -> None:
        await star.member(net.hubs["c"], list(MEMBERS), rng=seeded_rng(3), context=("job 1",))
        await net.hubs["c"].send(message)

    ends, _ = play(totals(), roles={"c": liar}, timeout=0.3)
    assert words in str(error_of(ends, HUB, ProtocolError))


@pytest.mark.parametrize(("size", "tags"), [(11, 0), (13, 0), (12, 6), (0, 0)])
def test_a_member_with_a_vector_of_another_size(size: int, tags: int) -> None:
    async def liar(net: Star) -> None:
        mine = await star.member(net.hubs["c"], list(MEMBERS), rng=seeded_rng(3), context=("job 1",))
        question = Question("means of a test", 192, 4)
        bound = question.bound(mine.context, mine.sites, 1)
        await net.hubs["c"].send(
            Masked(question.what, 192, 4, b"", bound, np.zeros(size, np.uint64), np.zeros(tags, np.uint64))
        )

    ends, _ = play(totals(), roles={"c": liar}, timeout=0.3)
    assert "c sent" in str(error_of(ends, HUB, ProtocolError))


# --- what the hub sees ------------------------------------------------------------------------------------------------


def frames(net: Star) -> dict[str, list[tuple[str, str, int]]]:
    return {name: [(f.sender, f.kind, f.size) for f in by_stream(net.transcripts[name])] for name in net.transcripts}


@pytest.mark.parametrize("checked", [True, False])
def test_two_worlds_with_equal_sums_look_alike_to_the_hub(checked: bool) -> None:
    one = {"b": [0.0] * 4, "c": [0.0] * 4, "d": [0.0] * 4}
    two = {"b": [1e20, -5.5, 1.0, 3.0], "c": [-1e20, 5.5, 1.0, -1.0], "d": [0.0, 0.0, -2.0, -2.0]}
    seen = []
    for world in (one, two):
        ends, net = play(totals(world), checked=checked, seed=5)
        assert ends["b"].tolist() == [0.0] * 4
        seen.append((frames(net), [f.payload for name in MEMBERS for f in net.sent(name, "Total")]))
    assert seen[0][0] == seen[1][0]  # kinds, order and sizes
    if not checked:
        assert seen[0][1] == seen[1][1]


def masked_words(values: Mapping[str, Any], seed: int, use: Any = None) -> list[np.ndarray]:
    _, net = play(use or totals(values), seed=seed)
    return [np.frombuffer(net.sent(name, "Masked")[0].payload, np.uint64) for name in MEMBERS]


def test_masked_words_are_uniform() -> None:
    n = 6000
    values = {name: np.zeros(n) for name in MEMBERS}
    for words in masked_words(values, 7):
        counts = np.bincount(words.view(np.uint8), minlength=256)
        expected = words.nbytes / 256
        chi = float(((counts - expected) ** 2 / expected).sum())
        assert chi < 255 + 6 * math.sqrt(2 * 255)


def test_any_members_vectors_look_independent_of_their_values() -> None:
    """The sum of fewer than all members is as random as each of them."""
    b, c, d = masked_words({name: np.zeros(2000) for name in MEMBERS}, 8)
    for words in (b + c, c + d, b - d):
        ones = np.unpackbits(words.view(np.uint8)).mean()
        assert abs(ones - 0.5) < 5 * 0.5 / math.sqrt(words.size * 64)


def test_equal_vectors_are_masked_differently_each_time() -> None:
    async def thrice(sums: Sums) -> None:
        for _ in range(3):
            await sums.total(np.ones(2), what="the same")

    _, net = play(dict.fromkeys(MEMBERS, thrice))
    sent = [f.payload for name in MEMBERS for f in net.sent(name, "Masked") if f.payload]
    assert len(set(sent)) == len(sent) == 9


def test_nothing_of_weights_and_counts_is_in_the_clear() -> None:
    def use(weight: float) -> Any:
        return lambda sums: sums.mean(np.ones(2), weight=weight, clip=1.0, what="a layer")

    headers = []
    for weights in ((1.0, 1.0, 1.0), (0.001, 0.5, 0.9)):
        _, net = play(dict(zip(MEMBERS, map(use, weights), strict=True)), seed=3)
        headers.append([f.header for name in MEMBERS for f in net.sent(name, "Masked")])
    assert headers[0] == headers[1]


# --- mutants ----------------------------------------------------------------------------------------------------------


def test_a_mutant_whose_masks_do_not_depend_on_the_sum_shows_differences(monkeypatch: pytest.MonkeyPatch) -> None:
    """The uniformity tests would not see it: the same mask twice shows how the vectors differ."""

    async def twice(sums: Sums) -> None:
        await sums.total(np.zeros(2), what="the same")
        await sums.total(np.ones(2), what="the same")

    def difference() -> set[bytes]:
        _, net = play(dict.fromkeys(MEMBERS, twice))
        found = []
        for name in MEMBERS:
            first, second = [np.frombuffer(f.payload, np.uint64) for f in net.sent(name, "Masked") if f.payload]
            found.append((second - first)[3:].tobytes())
        return set(found)

    assert len(difference()) == 3
    real = Ties.masks
    monkeypatch.setattr(Ties, "masks", lambda self, bound, purpose: real(self, b"", purpose))
    assert len(difference()) == 1


def test_a_mutant_without_masks_is_seen_by_the_uniformity_test(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(star, "covered", lambda ring, x, masks: x.copy())
    with pytest.raises(AssertionError):
        test_masked_words_are_uniform()


def test_a_mutant_that_does_not_compare_tags_takes_a_forged_sum(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(star.sum_tags, "opened", lambda tags: star.sum_tags.evaluate(*_LAST))
    real = star.sum_tags.evaluate
    monkeypatch.setattr(star.sum_tags, "evaluate", lambda *args: (_LAST.clear(), _LAST.extend(args), real(*args))[2])
    ends, _ = play(totals(THREE), roles={HUB: hostile(forged, checked=True)}, checked=True)
    assert not isinstance(ends["b"], BaseException)


_LAST: list[Any] = []
