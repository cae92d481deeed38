"""Keys between partners: the same at both, unknown to the hub, and not to be swapped where they are signed."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from atoll.core.channel import Channel
from atoll.core.errors import IdentityError, ProtocolError
from atoll.core.group import Group
from atoll.protocols import pairwise_keys as keys
from atoll.protocols.pairwise_keys import PublicKey, PublicKeys, Seal
from atoll.testing import ProtocolCheck, check_protocol, seeded_rng
from atoll.transport.site import init_site
from tests.protocols.star import HUB, Star, error_of

NAMES = ["b", "c", "d"]


def agreeing(star: Star, seals: Mapping[str, Seal] | None = None, **options: Any) -> dict[str, Any]:
    return {
        name: keys.agree(
            star.hubs[name], list(star.hubs), rng=seeded_rng(i), seal=(seals or {}).get(name), **options
        )
        for i, name in enumerate(star.hubs)
    }  # fmt: skip


@pytest.fixture(scope="module")
def seals(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Seal]:
    folder: Path = tmp_path_factory.mktemp("sites")
    sites = {name: init_site(folder / name, name, "") for name in NAMES}
    cards = {name: site.card for name, site in sites.items()}
    return {name: Seal.of(site.key, cards) for name, site in sites.items()}


@pytest.mark.parametrize("signed", [False, True])
def test_every_pair_has_a_key_of_its_own(signed: bool, seals: dict[str, Seal]) -> None:
    star = Star(NAMES)
    ends = star.run(keys.relay(star.peers), agreeing(star, seals if signed else None))
    found = {frozenset((one, other)): ends[one][other] for one in NAMES for other in NAMES if one != other}
    assert len(set(found.values())) == 3
    for one, other in map(sorted, found):
        assert ends[one][other] == ends[other][one]
        assert len(ends[one][other]) == 16
    everything = b"".join(frame.header + frame.payload for frames in star.transcripts.values() for frame in frames)
    assert not any(key in everything for key in found.values())


def test_other_contexts_give_other_keys() -> None:
    found = []
    for context in (("a", "b"), ("ab",)):
        star = Star(NAMES)
        found.append(star.run(keys.relay(star.peers), agreeing(star, context=context))["b"]["c"])
    assert found[0] != found[1]


def test_conformance() -> None:
    """Of two partners one is on the other side of a link, on which every message is damaged in turn."""
    mine = X25519PrivateKey.from_private_bytes(bytes(range(32))).public_key().public_bytes_raw()

    async def hub(peer: Channel, case: Any, rng: Any) -> Any:
        theirs = await peer.recv(PublicKey)
        await peer.send(PublicKeys([("a", mine, b""), ("b", theirs.key, theirs.signature)]))

    async def partner(peer: Channel, case: Any, rng: Any) -> Any:
        return len(await keys.agree(peer, ["a", "b"], rng=rng))

    check_protocol(
        ProtocolCheck(
            keys.PROTOCOL, [0], hub, partner, reference=lambda case: (None, 1), max_bytes=lambda case: 3 * 150
        )
    )


async def swapping(peers: Mapping[str, Channel], victim: str) -> bytes:
    """A hub that shows everybody a key of its own in place of the victim's."""
    own = X25519PrivateKey.generate().public_key().public_bytes_raw()
    found = await Group(peers).gather(PublicKey)
    for name, peer in peers.items():
        lines = [
            (site, own if site == victim and name != victim else sent.key, sent.signature)
            for site, sent in found.items()
        ]
        await peer.send(PublicKeys(lines))
    return own


def test_a_hub_that_swaps_a_signed_key_is_caught(seals: dict[str, Seal]) -> None:
    star = Star(NAMES)
    ends = star.run(swapping(star.peers, "c"), agreeing(star, seals))
    assert "not by c" in str(error_of(ends, "b", IdentityError))


def test_a_mutant_that_does_not_check_signatures_takes_the_hub_s_key(seals: dict[str, Seal]) -> None:
    blind = {name: Seal(seal.sign, lambda *line: None) for name, seal in seals.items()}
    star = Star(NAMES)
    ends = star.run(swapping(star.peers, "c"), agreeing(star, blind))
    assert ends["b"]["c"] != ends["c"]["b"]


def test_a_partner_whose_card_is_not_trusted(seals: dict[str, Seal], tmp_path: Path) -> None:
    alone = Seal.of(init_site(tmp_path / "b", "b", "").key, {})
    star = Star(NAMES)
    ends = star.run(keys.relay(star.peers), agreeing(star, {**seals, "b": alone}))
    assert "no card of 'c'" in str(error_of(ends, "b", IdentityError))
    assert "not by b" in str(error_of(ends, "c", IdentityError))


def test_a_signature_is_good_for_its_context_only(seals: dict[str, Seal]) -> None:
    star = Star(NAMES)
    roles = agreeing(star, seals)
    roles["c"].close()
    other = keys.agree(star.hubs["c"], NAMES, rng=seeded_rng(7), seal=seals["c"], context=("x",))
    ends = star.run(keys.relay(star.peers), {**roles, "c": other})
    error_of(ends, "b", IdentityError)


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        ([], "other sites"),
        ([("b", bytes(32), b"")], "other sites"),
        ([("b", b"", b""), ("c", bytes(32), b"")], "other sites"),
        ([("b", bytes(32), b""), ("b", bytes(32), b""), ("d", bytes(32), b"")], "other sites"),
        ([("b", bytes(31), b""), ("c", bytes(32), b""), ("d", bytes(32), b"")], "31 bytes"),
        ([("b", bytes(32), bytes(600)), ("c", bytes(32), b""), ("d", bytes(32), b"")], "600"),
        ([("c", bytes(32), b""), ("b", bytes(32), b""), ("d", bytes(32), b"")], "small order"),
        ([("b", bytes(32), b""), ("c", bytes(32), b""), ("d", bytes(32), b"")], "another key of this site"),
    ],
)
def test_a_hub_with_wrong_lines(lines: Any, words: str) -> None:
    async def hub(peers: Mapping[str, Channel]) -> None:
        await Group(peers).gather(PublicKey)
        await Group(peers).broadcast(PublicKeys(lines))

    star = Star(NAMES, timeout=1.0)
    ends = star.run(hub(star.peers), agreeing(star))
    assert words in str(error_of(ends, "b", ProtocolError))


def test_a_partner_with_a_key_of_another_size() -> None:
    async def liar(hub: Channel) -> None:
        await hub.send(PublicKey(bytes(33), b""))

    star = Star(NAMES)
    roles = agreeing(star)
    roles["c"].close()
    ends = star.run(keys.relay(star.peers), {**roles, "c": liar(star.hubs["c"])})
    assert "33 bytes" in str(error_of(ends, HUB, ProtocolError))


def test_a_site_that_is_no_partner() -> None:
    star = Star(["b", "c"])
    with pytest.raises(ValueError, match="none of them"):
        keys.agree(star.hubs["b"], ["c", "d"], rng=seeded_rng(1)).send(None)


def test_frozen_vectors() -> None:
    star = Star(NAMES)
    ends = star.run(keys.relay(star.peers), agreeing(star, context=("frozen",)))
    assert ends["b"]["c"].hex() == FROZEN


FROZEN = "73314b305bc7b6efed25b3b98d7a5ea2"
