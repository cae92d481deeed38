"""Hubs and members that cheat in a sum under a key that nobody holds, and mutants that would let them."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from atoll.core.channel import Channel
from atoll.core.errors import ProtocolError
from atoll.crypto import lattice_sum
from atoll.crypto.lattice_sum import NARROW
from atoll.protocols.pairwise_keys import Seal
from atoll.protocols.secure_sum import lattice
from atoll.protocols.secure_sum.lattice_steps import Aggregate, Tagger, Turn, add_tags
from atoll.testing import seeded_rng
from atoll.transport.site import init_site
from tests.protocols.secure_sum.lattices import (
    MEMBERS,
    adding_words,
    caught,
    changed,
    cheating,
    play,
    total,
    words,
)
from tests.protocols.star import HUB, Star, error_of


@pytest.fixture(scope="module")
def seals(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Seal]:
    folder: Path = tmp_path_factory.mktemp("sites")
    sites = {name: init_site(folder / name, name, "") for name in MEMBERS}
    cards = {name: site.card for name, site in sites.items()}
    return {name: Seal.of(site.key, cards) for name, site in sites.items()}


def only(kind: str, change: Any) -> Any:
    """Change messages of one kind to b: change(message) → fields."""
    return lambda name, m: changed(m, **change(m)) if name == "b" and type(m).__name__ == kind else m


# --- keys -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "change", "said"),
    [
        ("Nonces", lambda m: {"lines": m.lines[1:]}, "nonces of other sites"),
        ("Nonces", lambda m: {"lines": m.lines[::-1]}, "nonces of other sites"),
        ("Nonces", lambda m: {"lines": [*m.lines, ("x", bytes(32))]}, "nonces of other sites"),
        ("Nonces", lambda m: {"lines": [("b", bytes(32)), *m.lines[1:]]}, "changed this one's"),
        ("Nonces", lambda m: {"lines": [m.lines[0], ("c", b"")]}, "nonce of another size"),
        ("Nonces", lambda m: {"lines": m.lines[:2]}, "only 2 members make a key"),
        ("Commitments", lambda m: {"lines": m.lines[:3]}, "commitments of other sites"),
        ("Commitments", lambda m: {"lines": [("b", bytes(32), b""), *m.lines[1:]]}, "changed this site's commitment"),
        ("Commitments", lambda m: {"lines": [m.lines[0], ("c", b"1", b""), *m.lines[2:]]}, "another size"),
        ("Commitments", lambda m: {"lines": [m.lines[0], ("c", bytes(32), bytes(600)), *m.lines[2:]]}, "another size"),
        ("PublicPart", lambda m: {"b": m.b ^ np.uint8(1)}, "not the one that it had committed to"),
        ("KeyShare", lambda m: {"box": m.box ^ np.uint8(1)}, "changed on its way"),
    ],
)
def test_a_hub_that_changes_what_keys_are_made_of(
    monkeypatch: pytest.MonkeyPatch, kind: str, change: Any, said: str
) -> None:
    assert said in caught(monkeypatch, only(kind, change), least=3)


def test_a_hub_that_puts_in_a_part_of_its_own(monkeypatch: pytest.MonkeyPatch, seals: dict[str, Seal]) -> None:
    """A part that it knows in place of c's: the commitment to it is not signed by c."""

    def swapped(name: str, m: Any) -> Any:
        if type(m).__name__ != "Commitments" or name == "c":
            return m
        return changed(m, lines=[(n, bytes(32) if n == "c" else digest, s) for n, digest, s in m.lines])

    assert "not by c" in caught(monkeypatch, swapped, seals=seals)


def test_a_hub_that_tells_members_different_nonces(monkeypatch: pytest.MonkeyPatch, seals: dict[str, Seal]) -> None:
    """Then they do not encrypt under one key: what the others sign is for other nonces."""
    change = only("Nonces", lambda m: {"lines": [m.lines[0], ("c", bytes(32)), *m.lines[2:]]})
    assert "not by" in caught(monkeypatch, change, seals=seals)


def test_a_part_chosen_after_the_others_would_cancel_them() -> None:
    """Why members commit first: whoever speaks last makes a key of which all of s is its own."""
    rng, a = seeded_rng(1), lattice_sum.common(NARROW, bytes(32))
    honest = [lattice_sum.contribution(NARROW, lattice_sum.secret(NARROW, rng), a, rng) for _ in range(3)]
    own = lattice_sum.secret(NARROW, rng)
    rogue = lattice_sum.joined(NARROW, [lattice_sum.contribution(NARROW, own, a, rng)]) - lattice_sum.joined(
        NARROW, honest
    )
    b = lattice_sum.joined(NARROW, honest) + rogue
    public = lattice_sum.Public(NARROW, a, b)
    x = words("b")
    c1, c0 = lattice_sum.encrypted(public, lattice_sum.limbs_of(32, x), rng)
    phase = lattice_sum.widened(c0)
    lattice_sum.add_packed(phase, lattice_sum.partial(NARROW, own, lattice_sum.widened(c1), 2 * x.size, rng))
    assert np.array_equal(lattice_sum.words_of(32, lattice_sum.opened(NARROW, phase)), x)


# --- ciphertexts ------------------------------------------------------------------------------------------------------


def one_off(m: Any) -> Mapping[str, Any]:
    c1 = m.c1.copy()
    c1[1, 0, 7] += np.uint32(1)
    return {"c1": c1}


@pytest.mark.parametrize(
    "change",
    [one_off, lambda m: {"c1": m.c1 * np.uint32(2)}, lambda m: {"tags": m.tags ^ np.uint64(1)}],
    ids=["one residue", "twice", "tags"],
)
@pytest.mark.parametrize("least", [0, 3])
def test_a_hub_that_changes_what_is_opened(monkeypatch: pytest.MonkeyPatch, change: Any, least: int) -> None:
    alter = only("Aggregate", change)
    site = "c" if least else "b"  # an opener of the first sum
    found = caught(monkeypatch, lambda name, m: alter("b" if name == site else "", m), site, least=least)
    assert "something else than the sum of 5 vectors" in found


def alone(own: list[Any], keep: tuple[str, ...]) -> Any:
    """Let a hub have the vectors of some members opened in place of the sum: change(name, message)."""

    def change(name: str, m: Any) -> Any:
        if not isinstance(m, Aggregate):
            return m
        c1, tags = np.zeros_like(m.c1), np.zeros_like(m.tags)
        for sender, sent in own:
            if sender in keep:
                lattice_sum.add_packed(c1, sent.c1)
                add_tags(tags, sent.tags[:2])
        return changed(m, c1=c1, tags=tags)

    return change


def overheard(monkeypatch: pytest.MonkeyPatch, net: Star) -> list[Any]:
    """What the hub gets of ciphertexts, and of parts of their opening."""
    found: list[Any] = []
    real = Channel.recv

    async def recv(self: Channel, kind: Any, **shapes: Any) -> Any:
        message = await real(self, kind, **shapes)
        if type(message).__name__ in ("Ciphertext", "Partial"):
            found.append((self.peer, message))
        return message

    monkeypatch.setattr(Channel, "recv", recv)
    return found


@pytest.mark.parametrize("keep", [("b",), ("b", "c", "d", "e")])
def test_a_hub_that_has_one_vector_opened_or_leaves_one_out(
    monkeypatch: pytest.MonkeyPatch, keep: tuple[str, ...]
) -> None:
    net = Star(MEMBERS, lattice.PROTOCOL.kinds, 0.7)
    cheating(monkeypatch, net, alone(overheard(monkeypatch, net), keep))
    ends, net = play(MEMBERS, net=net)
    for name in MEMBERS:
        assert "something else than the sum of 5 vectors" in str(error_of(ends, name, ProtocolError))
        assert not net.sent(name, "Partial")


def test_a_mutant_without_tags_lets_the_hub_open_one_vector(monkeypatch: pytest.MonkeyPatch) -> None:
    net = Star(MEMBERS, lattice.PROTOCOL.kinds, 0.7)
    found = overheard(monkeypatch, net)
    cheating(monkeypatch, net, alone(found, ("b",)))
    monkeypatch.setattr(Tagger, "fit", lambda *arguments: True)
    play(MEMBERS, net=net)
    phase = np.zeros((NARROW.chain.kept, 2 * words("b").size), np.uint32)
    for name, m in found:
        if type(m).__name__ == "Partial":
            lattice_sum.add_packed(phase, m.h)
        elif name == "b":
            lattice_sum.add_packed(phase, m.c0)
    assert np.array_equal(lattice_sum.words_of(32, lattice_sum.opened(NARROW, phase)), words("b"))


def test_a_hub_that_plays_the_sum_of_an_earlier_round_again(monkeypatch: pytest.MonkeyPatch) -> None:
    kept: dict[str, Any] = {}
    found = caught(monkeypatch, lambda name, m: kept.setdefault(name, m) if isinstance(m, Aggregate) else m, times=2)
    assert "something else than the sum" in found


def test_no_member_opens_a_ciphertext_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not even when a member's secret has leaked to the hub, so that tags fit whatever it likes."""
    kept: dict[str, Any] = {}
    monkeypatch.setattr(Tagger, "fit", lambda *arguments: True)
    found = caught(monkeypatch, lambda name, m: kept.setdefault(name, m) if isinstance(m, Aggregate) else m, times=2)
    assert "one ciphertext twice" in found


# --- who is counted, and who opens ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda m: {"counted": m.counted[1:]}, "too late"),
        (lambda m: {"counted": m.counted[::-1]}, "counts members"),
        (lambda m: {"counted": [*m.counted, "x"]}, "counts members"),
        (lambda m: {"counted": m.counted[:2]}, "counts members"),
        (lambda m: {"openers": m.openers[:2]}, "asks 2 members to open a sum where 3 must"),
        (lambda m: {"openers": [*m.openers[:2], "x"]}, "asks 3 members to open a sum where 3 must"),
        (lambda m: {"openers": m.openers[::-1]}, "counts members"),
        (lambda m: {"zeros": ["b"]}, "zeros that nobody has made"),
        (lambda m: {"openers": []}, "open that nobody has opened"),
        (lambda m: {"openers": [], "zeros": m.counted}, "open that nobody has opened"),
    ],
)
def test_turns_that_cannot_be(monkeypatch: pytest.MonkeyPatch, change: Any, said: str) -> None:
    assert said in caught(monkeypatch, only("Turn", change), least=3)


@pytest.mark.parametrize(
    ("second", "said"),
    [
        (lambda m: m, "one ciphertext twice"),
        (lambda m: changed(m, zeros=m.openers), "one ciphertext twice"),
        (lambda m: changed(m, openers=[], counted=m.counted[:4]), "other members than before"),
    ],
)
def test_a_hub_that_asks_again_without_new_zeros(monkeypatch: pytest.MonkeyPatch, second: Any, said: str) -> None:
    """It says that an opener has failed: the same ciphertext, or another sum, is not opened with it."""
    first: list[Turn] = []

    def change(name: str, m: Any) -> Any:
        if name != "b" or not isinstance(m, Turn):
            return m
        first.append(m)
        return second(first[0]) if len(first) == 2 else m

    assert said in caught(monkeypatch, change, least=3)


def test_a_hub_that_counts_otherwise_at_others_opens_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """It leaves f out at some openers: these notice that the sum of ciphertexts is another one."""

    def change(name: str, m: Any) -> Any:
        return changed(m, counted=m.counted[:4]) if name in "cd" and isinstance(m, Turn) else m

    for site in "cd":
        assert "something else than the sum of 4 vectors" in caught(monkeypatch, change, site, least=3)


# --- results ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("field", ["phase", "tags"])
@pytest.mark.parametrize("least", [0, 3])
def test_a_hub_that_forges_the_sum(monkeypatch: pytest.MonkeyPatch, field: str, least: int) -> None:
    def forged(m: Any) -> Mapping[str, Any]:
        array = getattr(m, field).copy()
        array.reshape(-1)[0] += 1
        return {field: array}

    assert "not that of the sites" in caught(monkeypatch, only("Phase", forged), least=least)


@pytest.mark.parametrize("kind", ["Ciphertext", "Partial"])
def test_arrays_of_another_size(monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    net = Star(MEMBERS, lattice.PROTOCOL.kinds, 0.7)
    real = Channel.send

    async def send(self: Channel, m: Any) -> None:
        lies = self is net.hubs["c"] and type(m).__name__ == kind
        field = {"Ciphertext": "c0", "Partial": "h"}[kind]
        await real(self, changed(m, **{field: getattr(m, field)[:, :-1].copy()}) if lies else m)

    monkeypatch.setattr(Channel, "send", send)
    ends, _ = play(MEMBERS, net=net)
    assert "shape" in str(error_of(ends, HUB, ProtocolError))


def test_a_member_with_arrays_of_another_size_is_left_out_where_it_may_be(monkeypatch: pytest.MonkeyPatch) -> None:
    net = Star(MEMBERS, lattice.PROTOCOL.kinds, 1.0)
    real = Channel.send

    async def send(self: Channel, m: Any) -> None:
        lies = self is net.hubs["c"] and type(m).__name__ == "Partial"
        await real(self, changed(m, h=m.h[:, :-1].copy()) if lies else m)

    monkeypatch.setattr(Channel, "send", send)
    ends, _ = play({**dict.fromkeys(MEMBERS, adding_words()), HUB: adding_words()}, net=net, least=3, timeout=1.0)
    assert np.array_equal(ends[HUB][0], total((HUB, *MEMBERS)))
    assert "shape" in ends[HUB][2]["c"]
