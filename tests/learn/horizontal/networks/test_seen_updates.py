"""The protocol in which one site sees every update."""

from __future__ import annotations

import numpy as np

from atoll.core.channel import Channel, Gate
from atoll.core.errors import ProtocolError
from atoll.learn.horizontal.networks import AtAggregator, AtSite, Fitted, Median, Plan, Seen, fit, simulate
from atoll.learn.horizontal.networks.averages import F32
from atoll.learn.horizontal.networks.seen_updates import PROTOCOL, Update, aggregator, site
from atoll.protocols.secure_sum.totals import Totals
from atoll.testing import ProtocolCheck, check_protocol, end_pair, recorded_pair
from atoll.transport.memory import memory_links
from tests.learn.horizontal.networks.linear import skewed_sites, trainers

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
