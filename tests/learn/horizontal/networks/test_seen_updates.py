"""The protocol in which one site sees every update."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from atoll.core.channel import Channel, Gate
from atoll.core.errors import ProtocolError
from atoll.learn.horizontal.networks import AtAggregator, AtSite, Fitted, Median, Plan, Seen, fit, simulate
from atoll.learn.horizontal.networks.averages import F32
from atoll.learn.horizontal.networks.seen_updates import PROTOCOL, Update, aggregator, site
from atoll.protocols.secure_sum.totals import Totals
from atoll.testing import Frame, ProtocolCheck, check_protocol, end_pair, recorded_pair
from atoll.transport.memory import memory_links
from tests.learn.horizontal.networks.linear import Line, skewed_sites, trainers
from tests.protocols.star import HUB, Star

CASES: list[tuple[list[float] | None, list[float] | None]] = [
    ([1.0, 2.0, -3.0], [5.0, 0.0, 1e30]),
    (None, [1.0, 2.0, 3.0]),
    ([1.0, 2.0, 3.0], None),
    ([float("nan"), 0.0, 0.0], [4.0, 5.0, 6.0]),
]


def vector(values: list[float] | None) -> F32 | None:
    return None if values is None else np.array(values, np.float32)


def test_the_protocol_keeps_its_card() -> None:
    def reference(case: tuple[list[float] | None, list[float] | None]) -> tuple[tuple[F32, int], tuple[F32, int]]:
        rows = [row for row in case if row is not None and np.isfinite(row).all()]
        outcome = np.median(np.array(rows, np.float32), axis=0).astype(np.float32), len(rows)
        return outcome, outcome

    check_protocol(
        ProtocolCheck(
            protocol=PROTOCOL,
            cases=CASES,
            first=lambda peer, case, rng: site(peer, vector(case[0]), 3),
            second=lambda peer, case, rng: aggregator({"a": peer}, vector(case[1]), Median(), 3),
            reference=reference,
            max_bytes=lambda case: 24 + 2 * 100,
        )
    )


def test_nobody_with_an_update_is_an_error() -> None:
    a, b, _ = recorded_pair(timeout=0.2)
    _, error = end_pair(site(a, None, 3), aggregator({"a": b}, None, Median(), 3))
    assert isinstance(error, ProtocolError)
    assert "no site has an update" in str(error)


def test_an_update_of_another_length_is_refused() -> None:
    async def cheat(peer: Channel) -> None:
        await peer.send(Update(np.zeros(2, np.uint32)))

    a, b, _ = recorded_pair(timeout=0.2)
    _, error = end_pair(cheat(a), aggregator({"a": b}, None, Median(), 3))
    assert isinstance(error, ProtocolError)
    assert "2 numbers of an update of 3" in str(error)


def test_training_through_an_aggregator_bears_a_wrong_site() -> None:
    lines = skewed_sites((20, 20, 20, 20), seed=2)
    good = np.array([1.0, -2.0, 0.5, 3.0])
    for k, line in enumerate(lines):
        line.y = line.x @ good * (-100 if k == 1 else 1)
    plan, sites, links = Plan(rounds=20, epochs=10, lr=0.9, evaluate=0, sample=0.9), trainers(lines), {}

    async def run(totals: Totals) -> Fitted:
        centre, *others = totals.sites
        if not links:
            links.update({name: memory_links(name, centre) for name in others})
        ends = {
            name: Channel(pair[totals.site == centre], Gate(totals.site, "job", PROTOCOL.kinds))
            for name, pair in links.items()
        }
        seen = AtAggregator(ends) if totals.site == centre else AtSite(ends[totals.site])
        mine = sites[totals.sites.index(totals.site)]
        return await fit(mine, totals, plan, combine=Seen(rule=Median()), aggregator=seen)

    done = simulate(len(lines), run)
    assert all(np.array_equal(one.model, done[0].model) for one in done)
    assert np.abs(done[0].model - good).max() < 0.3


# --- two worlds that a role may not tell apart ------------------------------------------------------------------------

World = Mapping[str, F32 | None]
SITES = ("a", "b", "c", "d")


def played(world: World) -> dict[str, list[Frame]]:
    """What each role received, when these sites had these updates; the median of them is told."""
    size = max(update.size for update in world.values() if update is not None)
    net = Star(SITES, PROTOCOL.kinds)
    hub = aggregator(net.peers, world[HUB], Median(), size)
    ends = net.run(hub, {name: site(net.hubs[name], world[name], size) for name in SITES})
    assert not [end for end in ends.values() if isinstance(end, BaseException)], ends
    got = {name: [frame for frame in net.transcripts[name] if frame.sender == HUB] for name in SITES}
    return got | {HUB: [frame for name in SITES for frame in net.transcripts[name] if frame.sender != HUB]}


FAR = st.lists(st.floats(0, 2.0**99, width=32), min_size=3, max_size=3)


@settings(max_examples=25)
@given(
    st.lists(FAR, min_size=8, max_size=8), st.permutations(["b", "c", "d", HUB]), st.permutations(["b", "c", "d", HUB])
)
def test_a_site_cannot_tell_worlds_with_the_same_outcome_apart(far, one, other) -> None:  # type: ignore[no-untyped-def]
    """Two updates above the median and two below, however far, and whoever has them: the card promises no more."""
    median, mine = np.array([1.0, -2.0, 0.25], np.float32), np.array([5.0, 0.0, 0.25], np.float32)
    above, below = ([np.array(values, np.float32) for values in part] for part in (far[:4], far[4:]))

    def world(names: list[str], k: int) -> World:
        others = (median, median + above[k], median - below[2 * k], median - below[2 * k + 1])
        return {"a": mine, **dict(zip(names, others, strict=True))}

    first, second = played(world(one, 0)), played(world(other, 1))
    assert first["a"] == second["a"]


def test_a_site_cannot_tell_who_took_no_part_from_who_sent_nothing_finite() -> None:
    updates = {name: np.full(3, k, np.float32) for k, name in enumerate((*SITES, HUB))}
    silent, broken = {**updates, "b": None}, {**updates, "b": np.array([1, np.nan, 1], np.float32)}
    away = {**updates, "c": None, "b": updates["c"]}  # and neither who of them it was
    assert played(silent)["a"] == played(broken)["a"] == played(away)["a"]


def test_a_site_sees_the_outcome_and_the_aggregator_every_update() -> None:
    """What the card says that they learn is there: these tests can fail."""
    updates = {name: np.full(3, k, np.float32) for k, name in enumerate((*SITES, HUB))}
    moved = {**updates, "c": np.full(3, 2.5, np.float32)}
    far = {**updates, "d": np.full(3, 99, np.float32)}  # the median stays
    before, after, same = played(updates), played(moved), played(far)
    assert before["a"] != after["a"]
    assert before["a"] == same["a"]
    assert before[HUB] != same[HUB]
    sizes = [[(frame.kind, frame.stream, frame.size) for frame in one[HUB]] for one in (before, after, same)]
    assert sizes[0] == sizes[1] == sizes[2], "sizes say nothing of values"


def test_the_aggregator_cannot_tell_rows_with_the_same_update_apart() -> None:
    """Rows and their negatives have the same gradient of squares, to the last bit."""
    lines = skewed_sites((5, 6, 7, 8, 9))
    turned = [Line(-line.x, -line.y) for line in lines]
    worlds = []
    for rows in (lines, turned):
        updates = [line.gradient(np.ones(4)).astype(np.float32) for line in rows]
        worlds.append(played(dict(zip((*SITES, HUB), updates, strict=True))))
    assert worlds[0] == worlds[1]
