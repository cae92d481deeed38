"""Averages that do not wait for the slowest site: what is mixed when, who sees what, and hostile sides."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import pytest

from atoll.core.errors import AtollError, ConnectionLost, ContractError, InputError, ProtocolError
from atoll.learn.horizontal.networks import Buffering, Functions, Plan, Work, agreed, buffered, simulate_buffered
from atoll.learn.horizontal.networks.buffered import PROTOCOL, Joined, Next, Outcome, Ready, Vouched
from atoll.learn.horizontal.networks.buffers import Desk, Mixed
from atoll.protocols.secure_sum import ties
from atoll.testing import check_card, seeded_rng
from atoll.testing.check_protocol import by_stream
from tests.learn.horizontal.networks.linear import Line, skewed_sites
from tests.learn.horizontal.networks.runs import fit_all
from tests.protocols.star import HUB, Star, error_of

PLAN = Plan(rounds=6, epochs=2, lr=0.3, seed=4)
RULES = Buffering(staleness=2)
SECONDS = {"a": 1.0, "b": 1.1, "c": 1.3, "d": 4.6}


def lines() -> dict[str, Line]:
    """Four sites of different sizes."""
    return dict(zip(SECONDS, skewed_sites((6, 9, 12, 30), seed=3), strict=True))


def replayed(buffers: Sequence[Mixed], plan: Plan = PLAN, rules: Buffering = RULES) -> np.ndarray:
    """The networks that a record of buffers must have led to, computed anew in a few plain lines."""
    own, models, seed = lines(), [np.zeros(4, np.float32)], hashlib.sha256(str(plan.seed).encode()).digest()[:16]
    for one in buffers:
        total, rows = np.zeros(4), 0.0
        for name, age in zip(one.sites, one.staleness, strict=True):
            start = one.number - 1 - age
            line = own[name]
            line.put(models[start])
            line.fit(Work(start, plan.epochs, plan.batch, plan.lr, agreed.number(seed, "training", start, name)))
            change = line.get() - models[start]
            total += len(line.y) * (change * np.float32(1 / np.sqrt(1 + age))).astype(np.float64)
            rows += len(line.y)
        assert rows == one.weight
        models.append(models[-1] + (total / rows).astype(np.float32))
    return models[-1]


def simulated(plan: Plan = PLAN, rules: Buffering = RULES, **options: Any) -> Outcome:
    return simulate_buffered({name: line.trainer for name, line in lines().items()}, plan, rules, **options)


# --- the rules --------------------------------------------------------------------------------------------------------


def test_who_is_mixed_when_and_with_what_age() -> None:
    at: list[float] = []
    done = simulated(seconds=SECONDS, on_buffer=lambda now, mixed, model: at.append(now))
    assert [(one.sites, one.staleness) for one in done.buffers] == [
        (("a", "b", "c"), (0, 0, 0)),
        (("a", "b", "c"), (0, 0, 0)),
        (("a", "b", "c"), (0, 0, 0)),  # after 3.9 seconds; d is ready after 4.6, with an age of 3, and is refused
        (("a", "b", "c"), (0, 0, 0)),
        (("a", "b", "c"), (0, 0, 0)),
        (("a", "b", "c"), (0, 0, 0)),
    ]
    assert at == pytest.approx([1.3, 2.6, 3.9, 5.2, 6.5, 7.8])
    wide = simulated(rules=Buffering(staleness=5), seconds=SECONDS)
    assert [(one.sites, one.staleness) for one in wide.buffers][3:5] == [
        (("a", "b", "d"), (0, 0, 3)),
        (("a", "b", "c"), (0, 0, 1)),
    ]
    np.testing.assert_array_equal(done.model, replayed(done.buffers))
    np.testing.assert_array_equal(wide.model, replayed(wide.buffers, rules=Buffering(staleness=5)))
    assert all(np.isfinite(one.metrics["loss"]) and one.train_loss > 0 for one in wide.buffers)
    assert wide.buffers[5].train_loss < wide.buffers[0].train_loss


def test_with_all_sites_in_every_buffer_it_is_federated_averaging() -> None:
    want = fit_all([line.trainer for line in lines().values()], PLAN)[0].model
    done = simulated(rules=Buffering(size=4), seconds=SECONDS)
    np.testing.assert_array_equal(done.model, want)


def test_desk_refuses_what_grows_old_while_it_waits_and_forgets_who_is_gone() -> None:
    desk = Desk(Buffering(staleness=0), dict.fromkeys("abcde", 0))
    desk.waiting = ["e", "d", "a", "b", "c"]
    assert desk.full() == ("a", "d", "e")
    desk.mixed(desk.full())
    assert (desk.version, desk.waiting, desk.full()) == (1, ["b", "c"], ())
    assert desk.refused() == ["b", "c"]
    assert desk.given == dict.fromkeys("abcde", 1)
    assert desk.gone("a")
    assert desk.gone("b")
    assert not desk.gone("c")


def test_damping_and_rules_that_cannot_be() -> None:
    change = np.array([1.0, -2.0], np.float32)
    np.testing.assert_allclose(Buffering().damped(change, 3), change / 2, rtol=1e-7)
    np.testing.assert_array_equal(Buffering(power=0.0).damped(change, 9), change)
    for wrong in ({"size": 2}, {"staleness": -1}, {"power": -0.5}, {"server_lr": 0.0}, {"clip": 0.0}, {"mu": -1.0}):
        with pytest.raises(InputError, match=next(iter(wrong))):
            Buffering(**wrong)
    ends, _ = play(rules=Buffering(size=5))
    assert "4 sites cannot fill a buffer of 5" in str(error_of(ends, HUB, InputError))
    assert "cannot fill" in str(error_of(ends, "a", InputError))
    with pytest.raises(InputError, match="needs a seed"):
        simulated(seconds={"a": 1.0})


# --- the roles --------------------------------------------------------------------------------------------------------


class Turns:
    """Updates arrive at the aggregator in an order that is given, and after it as they come."""

    def __init__(self, order: str, net: Star) -> None:
        self.left = list(order)
        for name, peer in net.peers.items():
            peer.recv = partial(self._noted, name, peer.recv)  # type: ignore[method-assign]

    async def _noted(self, name: str, recv: Any, kind: Any, **shapes: Any) -> Any:
        message = await recv(kind, **shapes)
        if kind is Ready and self.left:
            assert self.left.pop(0) == name
        return message

    def trainer(self, name: str, line: Line) -> Functions:
        loop = asyncio.get_running_loop()

        def fit(work: Work) -> Any:
            asyncio.run_coroutine_threadsafe(self._turn(name), loop).result(10)
            return line.fit(work)

        return Functions(line.get, line.put, fit, line.test, pulls=True)

    async def _turn(self, name: str) -> None:
        while self.left and self.left[0] != name:
            await asyncio.sleep(0)


def play(
    order: str = "",
    *,
    rules: Buffering = RULES,
    plan: Plan = PLAN,
    rows: Mapping[str, Line] | None = None,
    others: Mapping[str, Any] | None = None,
) -> tuple[dict[str, Any], Star]:
    """All roles in one process; `others` are roles that do something of their own, given the star."""
    names, others = list(SECONDS), others or {}
    net = Star(names, PROTOCOL.kinds)
    turns = Turns(order, net)

    async def member(net: Star, name: str) -> Outcome:
        trainer = turns.trainer(name, (rows or lines())[name])
        return await joining(net, name, trainer, plan, rules)

    async def hub(net: Star, name: str) -> Outcome:
        return await buffered.aggregator(net.peers, plan, rules, rng=seeded_rng(9))

    ends = {name: others.get(name, member)(net, name) for name in names}
    return net.run(others.get(HUB, hub)(net, HUB), ends), net


async def joining(net: Star, name: str, trainer: Functions, plan: Plan = PLAN, rules: Buffering = RULES) -> Outcome:
    """A site as it should be."""
    rng = seeded_rng(ord(name))
    return await buffered.site(net.hubs[name], trainer, plan, rules, members=list(SECONDS), rng=rng)


def test_the_card_is_complete() -> None:
    check_card(PROTOCOL)


@pytest.mark.parametrize("clip", [None, 8.0])
def test_roles_mix_what_the_record_says_and_all_end_with_the_same_network(clip: float | None) -> None:
    rules = Buffering(staleness=2, clip=clip)
    ends, net = play("abcabdcab", rules=rules)
    hub: Outcome = ends[HUB]
    assert [one.number for one in hub.buffers] == [1, 2, 3, 4, 5, 6]
    assert hub.buffers[1].sites == ("a", "b", "d")
    assert hub.buffers[1].staleness == (0, 0, 1)
    want = replayed(hub.buffers, rules=rules)
    if clip is None:
        np.testing.assert_array_equal(hub.model, want)
    else:
        np.testing.assert_allclose(hub.model, want, atol=1e-6)
    for name in SECONDS:
        np.testing.assert_array_equal(ends[name].model, hub.model)
        assert ends[name].buffers == tuple(one for one in hub.buffers if name in one.sites)
    wide = 24 if clip is None else 4
    sent = [frame for frame in net.sent("a", "Masked") if frame.sender == "a"]
    assert sum(frame.size for frame in sent) < len(ends["a"].buffers) * (wide * 8 + 1200)


def test_an_update_that_is_too_old_is_refused_and_the_site_goes_on_from_the_newest() -> None:
    ends, _ = play("abcabcabcd", plan=Plan(rounds=5, epochs=2, lr=0.3, seed=4))
    hub: Outcome = ends[HUB]
    assert [one.sites for one in hub.buffers][:3] == [("a", "b", "c")] * 3
    assert max(max(one.staleness) for one in hub.buffers) <= 2
    np.testing.assert_array_equal(hub.model, replayed(hub.buffers))
    assert all(np.array_equal(ends[name].model, hub.model) for name in SECONDS)


def test_what_the_aggregator_sees_does_not_show_whose_update_is_whose() -> None:
    """Two worlds with the same sums: two sites have swapped their rows."""
    rules, plan = Buffering(size=4, power=0.0), Plan(rounds=2, batch=0, lr=0.3, seed=4, weights="equal")
    mine, swapped = lines(), lines()
    swapped["b"], swapped["c"] = swapped["c"], swapped["b"]
    one, net = play(rules=rules, plan=plan, rows=mine)
    two, other = play(rules=rules, plan=plan, rows=swapped)
    np.testing.assert_array_equal(one[HUB].model, two[HUB].model)
    assert one[HUB].buffers == two[HUB].buffers
    for name in SECONDS:
        worlds = ([(f.kind, f.sender, f.size) for f in by_stream(world.transcripts[name])] for world in (net, other))
        assert len({tuple(sorted(world)) for world in worlds}) == 1


# --- what goes wrong --------------------------------------------------------------------------------------------------


def test_a_site_that_is_gone_while_it_trains_is_left_out() -> None:
    async def dying(net: Star, name: str) -> Outcome:
        def fit(work: Work) -> Any:
            raise ConnectionLost("the power is off")

        line = lines()[name]
        return await joining(net, name, Functions(line.get, line.put, fit, line.test))

    ends, _ = play(others={"d": dying})
    hub: Outcome = ends[HUB]
    assert {one.sites for one in hub.buffers} == {("a", "b", "c")}
    np.testing.assert_array_equal(ends["a"].model, hub.model)
    ends, _ = play(others={"c": dying, "d": dying})
    assert "fewer sites are left than a buffer needs" in str(error_of(ends, HUB, ConnectionLost))
    assert isinstance(ends["a"], AtollError)


def test_sites_with_another_plan_are_named() -> None:
    async def hasty(net: Star, name: str) -> Outcome:
        return await joining(net, name, lines()[name].trainer, Plan(rounds=6, epochs=3, lr=0.3, seed=4))

    ends, _ = play(others={"c": hasty})
    assert "c does not agree about the plan" in str(error_of(ends, HUB, ContractError))


ORDER = {"version": 0, "last": False, "sites": ("a", "b", "c"), "versions": (0, 0, 0)}


@pytest.mark.parametrize(
    ("changes", "wrong"),
    [
        ({"sites": ("a", "b"), "versions": (0, 0)}, "not of 3 sites"),
        ({"sites": ("a", "b", "b")}, "not of 3 sites"),
        ({"sites": ("b", "c", "d")}, "not of 3 sites"),
        ({"sites": ("a", "b", "x")}, "not of 3 sites"),
        ({"versions": (0, 0)}, "not of 3 sites"),
        ({"version": 3, "versions": (0, 3, 3)}, "too old"),
        ({"version": 1, "versions": (0, 2, 1)}, "too old"),
        ({"version": 6, "versions": (0, 6, 6)}, "too old"),
        ({"version": 1, "versions": (1, 1, 1)}, "wrong about the network from which"),
        ({"version": 7, "sites": (), "versions": ()}, "something else than a newer network"),
        ({"version": -1, "sites": (), "versions": ()}, "something else than a newer network"),
        ({"sites": (), "versions": ()}, "refused an update that is not too old"),
        ({"values": [np.nan, 0, 0, 0]}, "something else than a newer network"),
        ({"values": [0.0, 0, 0]}, "shape"),
        ({"values": [0.0, 0, 0, -0.0]}, "version 0 that no site has made"),
        ({"proof": np.zeros(32, np.uint8)}, "version 0 that no site has made"),
        ({"proof": np.zeros(31, np.uint8)}, "shape"),
        ({"version": 1, "sites": (), "versions": ()}, "version 1 that no site has made"),
        ({"last": True, "sites": (), "versions": (), "values": [1.0, 0, 0, 0]}, "version 0 that no site has made"),
    ],
)
def test_a_site_takes_part_in_no_buffer_that_would_show_its_update(changes: dict[str, Any], wrong: str) -> None:
    """The aggregator is hostile after all have joined."""

    async def hostile(net: Star, name: str) -> None:
        await ties.relay(net.peers)
        for name, peer in net.peers.items():
            await peer.recv(Joined, values=(4 if name == "a" else 0,))
        proof = (await net.peers["a"].recv(Vouched, proof=(32,))).proof
        for peer in net.peers.values():
            await peer.send(Next(0, False, (), (), proof, np.zeros(4, np.uint32)))
        await net.peers["a"].recv(Ready)
        values = np.array(changes.get("values", [0.0] * 4), np.float32)
        await net.peers["a"].send(Next(**{**ORDER, "proof": proof, **changes, "values": values.view(np.uint32)}))
        await net.peers["a"].recv(Ready)

    ends, net = play(others={HUB: hostile})
    assert wrong in str(error_of(ends, "a", ProtocolError))
    assert not net.sent("a", "Masked")


def test_a_site_that_says_another_version_is_refused() -> None:
    async def liar(net: Star, name: str) -> Outcome:
        send = net.hubs[name].send

        async def wrong(message: Any) -> None:
            await send(Ready(5) if isinstance(message, Ready) else message)

        net.hubs[name].send = wrong  # type: ignore[method-assign]
        return await joining(net, name, lines()[name].trainer)

    ends, _ = play(others={"b": liar})
    assert "b has trained from version 5, and was given 0" in str(error_of(ends, HUB, ProtocolError))


def test_sites_of_a_buffer_that_come_to_different_networks_stop_it() -> None:
    async def astray(net: Star, name: str) -> Outcome:
        send = net.hubs[name].send

        async def wrong(message: Any) -> None:
            await send(Vouched(message.proof[::-1]) if isinstance(message, Vouched) else message)

        net.hubs[name].send = wrong  # type: ignore[method-assign]
        return await joining(net, name, lines()[name].trainer, rules=all_four)

    all_four = Buffering(size=4)
    ends, _ = play(rules=all_four, others={"b": astray})
    assert "a, b, c, d came to different networks in buffer 1" in str(error_of(ends, HUB, ProtocolError))
