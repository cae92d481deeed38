"""An aggregator that leads sites to different networks: refused, or told noise, and with either check gone it wins."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from typing import Any
from unittest import mock

import msgspec
import numpy as np
import pytest

from atoll.core.errors import ConnectionLost, ProtocolError
from atoll.core.group import Group
from atoll.core.message import AtMost
from atoll.crypto import fixed_point, sum_tags
from atoll.crypto.word_ring import WordRing
from atoll.learn.horizontal.networks import Buffering, Plan, Trained, buffered
from atoll.learn.horizontal.networks.averages import F32
from atoll.learn.horizontal.networks.buffered import PROTOCOL, Brought, Joined, Next, Ready, Vouched
from atoll.learn.horizontal.networks.vouched import BYTES, Voucher
from atoll.protocols.secure_sum import ties
from atoll.protocols.secure_sum.question import PIECE
from atoll.protocols.secure_sum.star import Masked, Total
from atoll.testing import seeded_rng
from bench import digits, inversion
from bench.attack_pictures import NETWORK, honest, site
from tests.learn.horizontal.networks.test_bound import Heard, moved
from tests.protocols.star import HUB, Star

PLAN = Plan(rounds=3, batch=0, lr=0.1, weights="equal", evaluate=0, seed=1)
RULES = Buffering(staleness=1)
ROWS = 4

# --- attacks ----------------------------------------------------------------------------------------------------------


class Liar:
    """An aggregator that goes for site a: it tells b and c another network when it can, and passes on true sums."""

    def __init__(self, net: Star) -> None:
        self.peers, self.model, self.version = net.peers, honest(0), 0
        self.seen: list[np.ndarray] = []

    async def begin(self) -> None:
        await ties.relay(self.peers)
        for name, peer in self.peers.items():
            await peer.recv(Joined, values=(NETWORK.size if name == "a" else 0,))
        self.proof = (await self.peers["a"].recv(Vouched, proof=(BYTES,))).proof

    async def tell(self, names: str, sites: str = "", versions: Sequence[int] = (), *, lie: bool = False) -> None:
        """Hand out the newest version; if it lies, b and c get a network in which they have nothing to say."""
        for name in names:
            model = inversion.dead(NETWORK) if lie and name in "bc" else self.model
            values = model.view(np.uint32)
            order = Next(self.version, False, tuple(sites), tuple(versions), self.proof, values)
            await self.peers[name].send(order)

    async def trained(self, names: str) -> None:
        await Group({name: self.peers[name] for name in names}).gather(Ready)

    async def mixed(self, names: str) -> None:
        """Add up as the sites expect it; keep what is seen."""
        within = Group({name: self.peers[name].sub("sums") for name in names})
        for what in ("updates", "figures"):
            pieces = list((await within.gather(Masked, words=(AtMost(PIECE),), tags=(sum_tags.WORDS,))).values())
            words, tags = np.zeros_like(pieces[0].words), np.zeros_like(pieces[0].tags)
            for piece in pieces:
                WordRing(192).add(words, piece.words)
                WordRing(192).add(tags, piece.tags)
            if what == "updates":
                self.seen.append(fixed_point.decode(words)[:-1])
            await within.broadcast(Total(words, tags))
        self.model = RULES.moved(self.model, (self.seen[-1] / len(names)).astype(np.float32))
        self.version += 1
        vouched = await Group({name: self.peers[name] for name in names}).gather(Vouched, proof=(BYTES,))
        self.proof = vouched["a"].proof


async def from_the_start(liar: Liar) -> None:
    await liar.tell("abcde", lie=True)
    await liar.trained("abc")
    await liar.tell("abc", "abc", (0, 0, 0))
    await liar.mixed("abc")


async def within_a_buffer(liar: Liar) -> None:
    """What b and c add their average to is not the network that a adds it to; from there they train on."""
    await liar.tell("abcde")
    await liar.trained("abc")
    await liar.tell("abc", "abc", (0, 0, 0), lie=True)
    await liar.mixed("abc")
    await liar.trained("abc")
    await liar.tell("abc", "abc", (1, 1, 1))
    await liar.mixed("abc")


async def to_late_sites(liar: Liar) -> None:
    """The updates of b and c are said to be too old, and what they get is not the newest network."""
    await liar.tell("abcde")
    await liar.trained("abcde")
    await liar.tell("ade", "ade", (0, 0, 0))
    await liar.mixed("ade")
    await liar.tell("bc", lie=True)
    await liar.trained("abc")
    await liar.tell("abc", "abc", (1, 1, 1))
    await liar.mixed("abc")


def attacked(attack: Any, without: Sequence[str]) -> tuple[list[np.ndarray], dict[str, Any], Star]:
    """The totals of updates that the liar saw, how the sites ended, and what crossed the wire."""
    names = "abcde"
    net = Star(names, PROTOCOL.kinds, timeout=10.0)
    liar = Liar(net)

    async def lying() -> None:
        await liar.begin()
        await attack(liar)
        raise ConnectionLost("has what it wants")

    async def member(name: str) -> Any:
        trainer, rng = site(names.index(name), ROWS, honest(0)), seeded_rng(ord(name))
        return await buffered.site(net.hubs[name], trainer, PLAN, RULES, members=list(names), rng=rng)

    async def believes(self: Voucher, *told: Any) -> None:
        pass

    async def unbound(context: Sequence[str], hub: str, order: Next) -> tuple[str, ...]:
        return ("buffered", hub, str(order.version), *map(str, order.versions), *context)

    with contextlib.ExitStack() as stack:
        if "proofs" in without:
            stack.enter_context(mock.patch.object(Voucher, "check", believes))
        if "bond" in without:
            stack.enter_context(mock.patch.object(buffered, "_whole", unbound))
        ends = net.run(lying(), {name: member(name) for name in names})
    return liar.seen, ends, net


def recovered(total: np.ndarray) -> inversion.Score:
    """How well the pictures of site a come out of a total."""
    weights, biases, *_ = NETWORK.split(total)
    return inversion.score(digits.digits()[0][:ROWS], inversion.inputs_of_neurons(weights, biases))


@pytest.mark.parametrize(
    ("attack", "without"),
    [(from_the_start, ["proofs"]), (to_late_sites, ["proofs"]), (within_a_buffer, ["proofs", "bond"])],
)
def test_without_the_checks_a_liar_sees_the_pictures_of_one_site(attack: Any, without: Sequence[str]) -> None:
    seen, ends, _ = attacked(attack, without)
    assert recovered(seen[-1]).recovered > 0.7, ends


@pytest.mark.parametrize("attack", [from_the_start, within_a_buffer, to_late_sites])
def test_sites_take_no_network_that_no_site_vouches_for(attack: Any) -> None:
    _, ends, net = attacked(attack, ["bond"])
    for name in "bc":
        assert isinstance(ends[name], ProtocolError)
        assert "that no site has made" in str(ends[name])
        assert not net.sent(name, "Masked")


def test_sites_of_a_buffer_that_were_told_different_networks_add_noise() -> None:
    seen, ends, _ = attacked(within_a_buffer, ["proofs"])
    assert recovered(seen[-1]).psnr < 10
    for name in "abc":
        assert "a sum that is not that of the sites" in str(ends[name])


# --- the parts --------------------------------------------------------------------------------------------------------


def test_a_proof_is_good_for_one_network_one_version_and_one_job() -> None:
    model = np.arange(20_000, dtype=np.float32)
    mine = Voucher.of(bytes(32), ("job",))

    async def good(voucher: Voucher, version: int = 3, network: F32 = model) -> bool:
        try:
            await voucher.check(version, network, await mine.proof(3, model), "hub")
        except ProtocolError:
            return False
        return True

    async def look() -> None:
        assert await good(Voucher.of(bytes(32), ("job",)), 3, model.copy())
        for wrong in ((mine, 2), (mine, 3, moved(model)), (mine, 3, model[:-1]), (mine, 3, -model)):
            assert not await good(*wrong)
        assert not await good(Voucher.of(bytes(32), ("another job",)))
        assert not await good(Voucher.of(bytes(31) + b"1", ("job",)))

    asyncio.run(look())
    assert repr(mine.key) not in repr(mine)


ORDER = Next(5, False, ("a", "b", "c"), (5, 4, 5), np.zeros(32, np.uint8), np.zeros(3, np.uint32))


def test_all_that_an_order_tells_is_in_the_keys_of_its_sums() -> None:
    def whole(**changes: Any) -> tuple[str, ...]:
        order = msgspec.structs.replace(ORDER, **changes)
        return asyncio.run(buffered._whole(("job",), HUB, order))

    assert whole() == whole(values=ORDER.values.copy())
    changes = (
        {}, {"version": 6}, {"last": True}, {"sites": ("a", "b", "d")}, {"versions": (5, 5, 5)},
        {"proof": np.eye(1, 32, dtype=np.uint8)[0]}, {"values": np.array([0, 0, 1], np.uint32)},
    )  # fmt: skip
    assert len({whole(**one) for one in changes}) == len(changes)
    assert set(ORDER.__struct_fields__) == {name for one in changes for name in one}, "every field has its case"


def test_figures_of_a_buffer_are_bound_to_its_updates() -> None:
    mine = Brought(np.ones(3, np.float32), Trained(4, 1, 0.5), {})

    def asked(lie: float) -> list[str]:
        heard = Heard(lie, sites=("a", "b", "c"))
        asyncio.run(buffered.mix(heard, ORDER, (), PLAN, RULES, mine))  # type: ignore[arg-type]
        return heard.asked

    here, lied = asked(0.0), asked(1.0)
    assert here == asked(0.0)
    assert here[0] == lied[0]
    assert here[-1] != lied[-1]
