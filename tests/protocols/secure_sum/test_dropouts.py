"""Sums that survive drop-outs: at every step, in every number, over both graphs; and hostile peers."""

import asyncio
import itertools
import math
from collections.abc import Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from atoll.core.channel import Channel
from atoll.core.errors import AtollError, ConnectionLost, IdentityError, ProtocolError
from atoll.crypto import neighbours
from atoll.protocols.pairwise_keys import Seal
from atoll.protocols.secure_sum import dropouts, round_keys
from atoll.protocols.secure_sum.dropout_steps import revealed
from atoll.protocols.secure_sum.question import PIECE
from atoll.protocols.secure_sum.round_keys import KEY, Roster, RoundKeys
from atoll.protocols.secure_sum.sums import Sums
from atoll.protocols.secure_sum.totals import SitesLeft
from atoll.testing import check_card, seeded_rng
from atoll.testing.check_protocol import by_stream
from atoll.transport.site import init_site
from tests.protocols.secure_sum.stars import play as play_star
from tests.protocols.secure_sum.stars import totals
from tests.protocols.star import HUB, Star, error_of

MEMBERS = ("b", "c", "d", "e", "f", "g")
VALUES: Mapping[str, Sequence[float]] = {
    HUB: [0.5, 1e-20],
    **{name: [2.0**i, 0.1 * i] for i, name in enumerate("bcdefg")},
}
STEPS = ("Keys", "Shares", "Masked", "Agreement", "Reveal")
"""What a member sends, in order."""


def exact(names: Sequence[str], values: Mapping[str, Sequence[float]] = VALUES) -> list[float]:
    columns = zip(*(values[name] for name in names), strict=True)
    return [float(sum(Fraction(round(Fraction(x) * 2**96), 2**96) for x in column)) for column in columns]


class Quitting:
    """A link that breaks, or falls silent, before it sends its message of one kind with that number."""

    def __init__(self, inner: Any, kind: str, number: int = 0, *, silent: bool = False) -> None:
        self.inner, self.kind, self.number, self.silent, self.seen = inner, f".{kind}".encode(), number, silent, 0
        self.peer = inner.peer

    async def send(self, stream: str, header: bytes, parts: Any) -> None:
        if self.kind in header:
            self.seen += 1
        if self.seen > self.number:
            if self.silent:
                await asyncio.Event().wait()
            await self.inner.close()
            raise ConnectionLost("the power is off")
        await self.inner.send(stream, header, parts)

    async def recv(self, stream: str) -> Any:
        return await self.inner.recv(stream)

    def abort(self, cause: AtollError) -> None:
        self.inner.abort(cause)

    async def close(self) -> None:
        await self.inner.close()


def leaving(members: Sequence[str], quits: Mapping[str, tuple[Any, ...]], timeout: float = 5.0, **how: Any) -> Star:
    """A star some of whose members break off: name → kind, or kind and number."""
    net = Star(members, dropouts.PROTOCOL.kinds, timeout)
    for name, where in quits.items():
        net.hubs[name] = Channel(Quitting(net.hubs[name].link, *where, **how), net.hubs[name].gate)
    return net


def play(
    use: Mapping[str, Any], quits: Mapping[str, tuple[Any, ...]] = {}, **options: Any
) -> tuple[dict[str, Any], Star]:
    members = [name for name in use if name != HUB]
    net = options.pop("net", None) or leaving(members, quits, options.get("timeout", 5.0))
    return play_star(use, protocol=dropouts, net=net, **options)


@pytest.fixture(scope="module")
def seals(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Seal]:
    folder: Path = tmp_path_factory.mktemp("sites")
    sites = {name: init_site(folder / name, name, "") for name in MEMBERS}
    cards = {name: site.card for name, site in sites.items()}
    return {name: Seal.of(site.key, cards) for name, site in sites.items()}


# --- what it gives ----------------------------------------------------------------------------------------------------


def test_the_card_is_complete() -> None:
    check_card(dropouts.PROTOCOL)


@pytest.mark.parametrize("adds", [True, False])
@pytest.mark.parametrize("malicious", [True, False])
def test_nobody_drops_out(adds: bool, malicious: bool, seals: dict[str, Seal]) -> None:
    values = {name: mine for name, mine in VALUES.items() if adds or name != HUB}
    ends, _ = play(totals(values), malicious=malicious, seals=seals, checked=not adds)
    for name in values:
        assert ends[name].tolist() == exact(list(values)), ends


def hub_record(sums: Sums) -> Any:
    async def use() -> Any:
        total = await sums.total(np.array(VALUES[HUB]), what="means of a test")
        return total.tolist(), sums.sites, sums.carrier.dropped  # type: ignore[attr-defined]

    return use()


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("gone", [("b",), ("g",), ("c", "e")])
def test_sites_that_drop_out_at_each_step(step: str, gone: Sequence[str]) -> None:
    ends, _ = play({**totals(VALUES), HUB: hub_record}, dict.fromkeys(gone, (step,)))
    counted = [name for name in VALUES if name not in gone or step in ("Agreement", "Reveal")]
    total, sites, dropped = ends[HUB]
    assert total == exact(counted)
    assert sites == tuple(sorted(counted))
    assert set(dropped) == set(gone)
    assert all("sum 1" in why and "has closed the link" in why for why in dropped.values())
    for name in set(MEMBERS) - set(gone):
        assert ends[name].tolist() == total


def test_sites_that_drop_out_one_at_each_step_in_one_sum() -> None:
    names = [f"site {i:02}" for i in range(12)]
    values = {name: [float(2**i)] for i, name in enumerate(names)}
    quits = {names[2 * i]: (step,) for i, step in enumerate(STEPS)}
    ends, _ = play(totals(values), quits, least=6)
    counted = [name for name in names if quits.get(name, ("Reveal",))[0] in ("Agreement", "Reveal")]
    for name in names:
        if name not in quits:
            assert ends[name].tolist() == exact(counted, values)


def test_a_site_that_breaks_off_within_its_vector_is_not_half_in_the_sum() -> None:
    values = {name: np.full(PIECE // 3 + 5, 2.0**i) for i, name in enumerate(MEMBERS)}
    ends, _ = play(totals(values), {"d": ("Masked", 1)})
    assert set(ends["b"].tolist()) == {sum(2.0**i for i, name in enumerate(MEMBERS) if name != "d")}


@pytest.mark.parametrize("step", ["Masked", "Reveal"])
def test_sites_that_fall_silent(step: str) -> None:
    net = leaving(MEMBERS, {"c": (step,)}, timeout=0.8, silent=True)
    ends: Any = None

    async def hanging(net: Star) -> None:
        try:
            async with asyncio.timeout(1.0):
                mine = await dropouts.member(net.hubs["c"], MEMBERS, rng=seeded_rng(3), context=("job 1",))
                await Sums(mine, seeded_rng(4)).total(np.array(VALUES["c"]), what="means of a test")
        except TimeoutError:
            return

    ends, _ = play({**totals(VALUES), HUB: hub_record}, net=net, at_hub={"patience": 0.15}, roles={"c": hanging})
    total, _, dropped = ends[HUB]
    assert total == exact([name for name in VALUES if name != "c" or step == "Reveal"])
    assert "no answer within 0.15 s" in dropped["c"]
    assert ends["b"].tolist() == total


def test_later_sums_go_on_without_those_that_dropped_out() -> None:
    async def thrice(sums: Sums) -> Any:
        return [(await sums.total(np.array([2.0 ** MEMBERS.index(sums.site)]), what="again"))[0] for _ in range(3)]

    ends, _ = play(dict.fromkeys(MEMBERS, thrice), {"b": ("Masked", 1), "g": ("Keys", 2)})
    assert ends["c"] == ends["f"] == [63.0, 62.0, 30.0]


@pytest.mark.parametrize("step", STEPS)
def test_a_steady_sum_over_fewer_members_is_not_opened_and_all_that_are_left_begin_again(step: str) -> None:
    async def twice(sums: Sums) -> Any:
        found = [await sums.total(np.array([2.0 ** MEMBERS.index(sums.site)]), what="first")]
        for _ in range(2):
            try:
                found.append(await sums.total(np.array([2.0 ** MEMBERS.index(sums.site)]), what="again"))
            except SitesLeft:
                found.append(np.array([-1.0]))
        return [float(one[0]) for one in found], sums.sites, [(told.what, told.sites) for told in sums.told]

    ends, net = play(dict.fromkeys(MEMBERS, twice), {"b": (step, 1)}, steady=True)
    late = step in ("Agreement", "Reveal")  # its numbers are in the sum, and only the next one misses it
    for name in MEMBERS[1:]:
        found, sites, told = ends[name]
        assert found == ([63.0, 63.0, -1.0] if late else [63.0, -1.0, 62.0]), ends
        assert sites == MEMBERS[1:]
        assert told == [("first", MEMBERS), ("again", MEMBERS if late else MEMBERS[1:])]
    assert len(net.sent("c", "Reveal")) == 2  # none for the sum that was not opened


def test_weighted_means_after_a_drop_out_use_the_sites_that_are_left() -> None:
    async def twice(sums: Sums) -> Any:
        for _ in range(2):
            found = await sums.mean(np.full(3, 0.25), weight=0.5, clip=1.0, what="a layer")
        return found, sums.told[-1].sites

    ends, _ = play(dict.fromkeys(MEMBERS, twice), {"b": ("Masked", 1)})
    found, sites = ends["d"]
    assert np.abs(found - 0.25).max() < 1e-7
    assert sites == MEMBERS[1:]
    assert np.array_equal(ends["g"][0], found)


@pytest.mark.slow
def test_above_64_members_a_tenth_may_drop_out_at_the_worst_moment() -> None:
    names = [f"site {i:02}" for i in range(70)]
    values = {name: [float(i), 1.0] for i, name in enumerate(names)}
    ends, _ = play(totals(values), dict.fromkeys(names[::10], ("Masked",)), timeout=30.0)
    left = [name for i, name in enumerate(names) if i % 10]
    assert {tuple(ends[name].tolist()) for name in left} == {tuple(exact(left, values))}


@pytest.mark.parametrize("step", STEPS[:-1])
def test_too_many_drop_outs_end_it(step: str) -> None:
    ends, _ = play(totals(VALUES), dict.fromkeys("bcd", (step,)), timeout=0.5)
    error = error_of(ends, HUB, ProtocolError)
    assert "3 of 6 sites" in str(error)
    assert "b: " in str(error)
    assert "Left out" not in str(error.to_dict())  # type: ignore[attr-defined]


def test_too_few_shares_end_it() -> None:
    ends, _ = play(totals(VALUES), dict.fromkeys("bcd", ("Reveal",)), timeout=0.5, least=2)
    assert "3 are left, and 4 are needed" in str(error_of(ends, HUB, ProtocolError))


@pytest.mark.parametrize("options", [{"least": 1}, {"least": 7}, {"adds": True, "checked": True}])
def test_options_that_cannot_be(options: dict[str, Any]) -> None:
    net = Star(MEMBERS)
    with pytest.raises(ValueError, match=r"cannot be|tags show nothing"):
        dropouts.hub(net.peers, **options).send(None)
    with pytest.raises(ValueError, match=r"cannot be|tags show nothing"):
        dropouts.member(net.hubs["b"], MEMBERS, rng=seeded_rng(1), **options).send(None)


# --- hostile hubs -----------------------------------------------------------------------------------------------------


def cheating(monkeypatch: pytest.MonkeyPatch, net: Star, kind: str, change: Any) -> None:
    """Let the hub send other messages of a kind (or of all, if it is empty): change(name, message) → message."""
    real = Channel.send

    async def send(self: Channel, message: Any) -> None:
        at_hub = any(self is peer for peer in net.peers.values())
        await real(self, change(self.peer, message) if at_hub and kind in type(message).__name__ else message)

    monkeypatch.setattr(Channel, "send", send)


def caught(monkeypatch: pytest.MonkeyPatch, kind: str, change: Any, site: str = "b", **options: Any) -> str:
    net = Star(MEMBERS, dropouts.PROTOCOL.kinds, 0.5)
    cheating(monkeypatch, net, kind, change)
    values = {name: VALUES[name] for name in MEMBERS}
    ends, _ = play(totals(values), net=net, **options)
    return str(error_of(ends, site, AtollError))


def two_sets(name: str, message: Any) -> Any:
    """Show some members that c is there, and others that it is gone."""
    if name not in "defg" or not isinstance(message, dropouts.Survivors | dropouts.Agreements):
        return message
    if isinstance(message, dropouts.Survivors):
        return dropouts.Survivors([site for site in message.names if site != "c"])
    return dropouts.Agreements([line for line in message.lines if line[0] != "c"])


def test_a_hub_that_shows_members_different_survivors_cannot_open_both(
    monkeypatch: pytest.MonkeyPatch, seals: dict[str, Seal]
) -> None:
    """The attack that the agreement is there for: some are asked for the seed of c, others for its key."""
    for site in "bcdg":
        assert "not by" in caught(monkeypatch, "", two_sets, site, seals=seals)


def test_a_mutant_without_the_agreement_lets_the_hub_open_both(
    monkeypatch: pytest.MonkeyPatch, seals: dict[str, Seal]
) -> None:
    blind = {name: Seal(seal.sign, lambda *line: None) for name, seal in seals.items()}
    net = Star(MEMBERS, dropouts.PROTOCOL.kinds, 0.5)
    cheating(monkeypatch, net, "", two_sets)
    _, net = play(totals({name: VALUES[name] for name in MEMBERS}), net=net, seals=blind)
    assert all(net.sent(name, "Reveal") for name in MEMBERS)  # four with shares of the key of c, two with its seed


@pytest.mark.parametrize(
    ("kind", "change", "words"),
    [
        ("Members", lambda m: m.lines[1:], "left them out"),
        ("Members", lambda m: m.lines[::-1], "alphabetical"),
        ("Members", lambda m: [*m.lines, ("x", bytes(32), bytes(31) + b"1", b"")], "do not take part"),
        ("Members", lambda m: [m.lines[0], ("c", *m.lines[0][1:])], "the same key"),
        ("Members", lambda m: [m.lines[0], ("c", b"1", b"2", b"")], "another size"),
        ("Members", lambda m: [m.lines[0], (*m.lines[1][:3], bytes(600))], "another size"),
        ("Members", lambda m: [("b", *m.lines[1][1:]), *m.lines[2:]], "changed this site's keys"),
        ("Members", lambda m: m.lines[:3], "only 3 of 6"),
        ("Survivors", lambda m: m.names[1:], "not this site"),
        ("Survivors", lambda m: m.names[::-1], "not members of this round"),
        ("Survivors", lambda m: [*m.names, "x"], "not members of this round"),
        ("Survivors", lambda m: m.names[:3], "only 3 of 6"),
        ("Agreements", lambda m: m.lines[:2], "2 neighbours that agree where 3"),
        ("Agreements", lambda m: [m.lines[0]] * 5, "5 neighbours"),
        ("Agreements", lambda m: [("x", b""), *m.lines][:5], "neighbours"),
    ],
)
def test_a_hub_with_wrong_lists(monkeypatch: pytest.MonkeyPatch, kind: str, change: Any, words: str) -> None:
    found = caught(monkeypatch, kind, lambda name, m: type(m)(change(m)) if name == "b" else m)
    assert words in found


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda m: dropouts.Passed(m.senders[::-1], m.boxes), "not this one's neighbours, or twice"),
        (lambda m: dropouts.Passed(["x", *m.senders[1:]], m.boxes), "not this one's neighbours, or twice"),
        (lambda m: dropouts.Passed([m.senders[0]] * 5, m.boxes), "not this one's neighbours, or twice"),
        (lambda m: dropouts.Passed(m.senders[:4], m.boxes), "not this one's neighbours, or twice"),
        (lambda m: dropouts.Passed(m.senders[:2], m.boxes[:2]), "2 shares where 3"),
        (lambda m: dropouts.Passed(m.senders, m.boxes[::-1].copy()), "shares of c were changed"),
        (lambda m: dropouts.Passed(m.senders, m.boxes ^ np.uint8(1)), "shares of c were changed"),
    ],
)
def test_a_hub_with_wrong_shares(monkeypatch: pytest.MonkeyPatch, change: Any, words: str) -> None:
    assert words in caught(monkeypatch, "Passed", lambda name, m: change(m) if name == "b" else m)


def test_a_hub_that_plays_old_shares_again(monkeypatch: pytest.MonkeyPatch) -> None:
    kept: dict[str, Any] = {}

    def again(name: str, message: Any) -> Any:
        return kept.setdefault(name, message)

    async def twice(sums: Sums) -> None:
        await sums.total(np.ones(1), what="one")
        await sums.total(np.ones(1), what="two")

    net = Star(MEMBERS, dropouts.PROTOCOL.kinds, 0.5)
    cheating(monkeypatch, net, "Passed", again)
    ends, _ = play(dict.fromkeys(MEMBERS, twice), net=net)
    assert "changed on their way" in str(error_of(ends, "b", ProtocolError))


def test_a_hub_that_plays_old_keys_again(monkeypatch: pytest.MonkeyPatch, seals: dict[str, Seal]) -> None:
    kept: dict[str, Any] = {}

    def again(name: str, message: Any) -> Any:
        old = kept.setdefault("c", next(line for line in message.lines if line[0] == "c"))
        return dropouts.Members([old if line[0] == "c" and name != "c" else line for line in message.lines])

    async def twice(sums: Sums) -> None:
        await sums.total(np.ones(1), what="one")
        await sums.total(np.ones(1), what="two")

    net = Star(MEMBERS, dropouts.PROTOCOL.kinds, 0.5)
    cheating(monkeypatch, net, "Members", again)
    ends, _ = play(dict.fromkeys(MEMBERS, twice), net=net, seals=seals)
    error_of(ends, "b", IdentityError)


def test_a_hub_that_puts_in_keys_of_its_own(monkeypatch: pytest.MonkeyPatch, seals: dict[str, Seal]) -> None:
    own = RoundKeys("c", seeded_rng(77)).public

    def swapped(name: str, message: Any) -> Any:
        return dropouts.Members([(n, *own, s) if n == "c" != name else (n, c, m, s) for n, c, m, s in message.lines])

    assert "not by c" in caught(monkeypatch, "Members", swapped, seals=seals)


@pytest.mark.parametrize("part", ["words", "tags"])
def test_a_hub_that_forges_a_checked_sum(monkeypatch: pytest.MonkeyPatch, part: str) -> None:
    def forged(name: str, message: Any) -> Any:
        words, tags = message.words.copy(), message.tags.copy()
        (words if part == "words" else tags)[0] += np.uint64(1)
        return dropouts.Total(words, tags)

    for site in "bg":
        assert "not that of the sites" in caught(monkeypatch, "Total", forged, site, checked=True)


def test_a_checked_sum_survives_drop_outs() -> None:
    values = {name: VALUES[name] for name in MEMBERS}
    ends, _ = play(totals(values), {"b": ("Masked",), "c": ("Reveal",)}, checked=True)
    assert ends["d"].tolist() == exact(MEMBERS[1:])


# --- hostile members --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "change", "counted"),
    [
        ("Keys", lambda m: dropouts.Keys(m.box, m.mask[:-1], b""), False),
        ("Keys", lambda m: dropouts.Keys(m.box, m.mask, bytes(600)), False),
        ("Shares", lambda m: dropouts.Shares(m.boxes[:-1]), False),
        ("Masked", lambda m: type(m)(m.what, m.bits, m.n, m.model, m.bound, m.words[:-1].copy(), m.tags), False),
        ("Reveal", lambda m: dropouts.Reveal(m.shares[:-1]), True),
    ],
)
def test_a_member_with_messages_of_another_size_is_left_out(
    monkeypatch: pytest.MonkeyPatch, kind: str, change: Any, counted: bool
) -> None:
    ends, _ = play({**totals(VALUES), HUB: hub_record}, net=lying(monkeypatch, kind, change))
    total, _, dropped = ends[HUB]
    assert total == exact([name for name in VALUES if name != "c" or counted])
    assert set(dropped) == {"c"}


def lying(monkeypatch: pytest.MonkeyPatch, kind: str, change: Any) -> Star:
    """Member c sends other messages of one kind."""
    net, real = Star(MEMBERS, dropouts.PROTOCOL.kinds, 0.5), Channel.send

    async def send(self: Channel, message: Any) -> None:
        lies = self is net.hubs["c"] and type(message).__name__ == kind
        await real(self, change(message) if lies else message)

    monkeypatch.setattr(Channel, "send", send)
    return net


def test_a_member_that_adds_something_else_ends_it(monkeypatch: pytest.MonkeyPatch) -> None:
    net = lying(monkeypatch, "Masked", lambda m: type(m)("x", m.bits, m.n, m.model, m.bound, m.words, m.tags))
    ends, _ = play(totals(VALUES), net=net)
    assert "c adds 2 numbers of 192 bits for 'x'" in str(error_of(ends, HUB, ProtocolError))


def test_a_member_with_a_wrong_share_of_a_key_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    net = lying(monkeypatch, "Reveal", lambda m: dropouts.Reveal(m.shares ^ np.uint8(1)))
    net.hubs["g"] = Channel(Quitting(net.hubs["g"].link, "Masked"), net.hubs["g"].gate)
    ends, _ = play(totals(VALUES), net=net)
    assert "key of g do not fit" in str(error_of(ends, HUB, ProtocolError))


# --- keys and shares --------------------------------------------------------------------------------------------------


def roster(names: Sequence[str], seed: int = 1) -> tuple[Roster, dict[str, RoundKeys]]:
    keys = {name: RoundKeys(name, seeded_rng(seed + i)) for i, name in enumerate(names)}
    return Roster.of([(name, *keys[name].public, b"") for name in sorted(names)], bytes(32)), keys


def test_masks_of_a_pair_cancel_and_depend_on_everything() -> None:
    one, keys = roster("bc")
    other, _ = roster("bcd")

    def words(me: str, you: str, where: Roster, purpose: str) -> np.ndarray:
        (masks,) = round_keys.pair_masks(keys[me].secret, me, [you], where, [purpose])
        acc = np.zeros(3, np.uint64)
        dropouts._WIDE.mask(acc, masks)
        return acc

    first = words("b", "c", one, "numbers")
    back = words("c", "b", one, "numbers")
    dropouts._WIDE.add(back, first)
    assert not back.any()
    assert not np.array_equal(first, words("b", "c", one, "tags"))
    assert not np.array_equal(first, words("b", "c", other, "numbers"))


def test_a_box_opens_for_its_receiver_in_its_round_only() -> None:
    where, keys = roster("bcd")
    elsewhere, _ = roster("bcde")
    shares = seeded_rng(3).u8(64)
    box = keys["b"].seal(shares, "c", where)
    assert np.array_equal(keys["c"].open(box, "b", where), shares)
    for name, sender, there in [("d", "b", where), ("c", "d", where), ("c", "b", elsewhere), ("b", "c", where)]:
        with pytest.raises(ProtocolError, match="changed on their way"):
            keys[name].open(box, sender, there)


def test_keys_of_small_order_are_refused() -> None:
    keys = RoundKeys("b", seeded_rng(1))
    where = Roster.of([("b", *keys.public, b""), ("c", bytes(32), bytes(31) + b"\x80", b"")], bytes(32))
    with pytest.raises(ProtocolError, match="small order"):
        keys.seal(np.zeros(64, np.uint8), "c", where)
    with pytest.raises(ProtocolError, match="small order"):
        round_keys.pair_masks(keys.secret, "b", ["c"], where, ["x"])


def test_of_each_site_a_seed_or_a_key_is_revealed_and_never_both() -> None:
    held = {name: np.concatenate([np.full(KEY, 1, np.uint8), np.full(KEY, 2, np.uint8)]) for name in "bcd"}
    for alive in itertools.product([False, True], repeat=3):
        names = [name for name, lives in zip("bcd", alive, strict=True) if lives]
        assert revealed(held, names).tolist() == [[1 if lives else 2] * KEY for lives in alive]


# --- what the hub sees ------------------------------------------------------------------------------------------------


def view(values: Mapping[str, Sequence[float]], seed: int) -> tuple[Any, np.ndarray]:
    _, net = play(totals(values), {"g": ("Reveal",)}, seed=seed)
    shape = {name: [(f.sender, f.kind, f.size) for f in by_stream(net.transcripts[name])] for name in net.transcripts}
    words = [np.frombuffer(net.sent(name, "Masked")[0].payload, np.uint64) for name in net.transcripts]
    return shape, np.concatenate(words)


def test_two_worlds_with_equal_sums_look_alike_to_the_hub() -> None:
    one = {name: [0.0, 0.0] for name in MEMBERS}
    two = {**one, "b": [1e20, 1.0], "g": [-1e20, -1.0]}
    assert view(one, 3)[0] == view(two, 3)[0]


def test_masked_words_are_uniform() -> None:
    _, words = view(dict.fromkeys(MEMBERS, [0.0] * 2000), 4)
    counts = np.bincount(words.view(np.uint8), minlength=256)
    expected = words.nbytes / 256
    assert float(((counts - expected) ** 2 / expected).sum()) < 255 + 6 * math.sqrt(2 * 255)


def test_a_vector_that_comes_too_late_is_still_masked() -> None:
    """The hub opens a sum without c; the vector of c with all pair masks taken off keeps the mask of its seed."""
    where, keys = roster(MEMBERS)
    x = np.zeros(300, np.uint64)
    (pairs,) = round_keys.pair_masks(keys["c"].secret, "c", [n for n in MEMBERS if n != "c"], where, ["numbers"])
    y = dropouts._twice_covered(dropouts._WIDE, x, pairs, round_keys.own_masks([keys["c"].seed], where, "numbers"))
    (again,) = round_keys.pair_masks(keys["c"].secret, "c", [n for n in MEMBERS if n != "c"], where, ["numbers"])
    again.negative = ~again.negative
    dropouts._WIDE.mask(y, again)
    assert abs(np.unpackbits(y.view(np.uint8)).mean() - 0.5) < 0.02


def test_a_mutant_without_own_seeds_shows_late_vectors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dropouts, "_twice_covered", lambda ring, x, pairs, own: dropouts.covered(ring, x, pairs))
    with pytest.raises(AssertionError):
        test_a_vector_that_comes_too_late_is_still_masked()


def test_thresholds_and_degrees_are_those_of_the_graph() -> None:
    rules = dropouts._rules(MEMBERS, HUB, True, False, True, 0, ())
    assert rules.shape(6) == neighbours.Shape(5, 5)
    assert dropouts._rules(MEMBERS, HUB, True, False, False, 0, ()).shape(6) == neighbours.Shape(5, 4)
