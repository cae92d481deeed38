"""Training by gossip: one group trains what `fit` trains, many come near it, and sites that differ are told."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from atoll.core.errors import AtollError, InputError, ProtocolError
from atoll.learn.horizontal.networks import Plan, fit, gossip, simulate
from atoll.protocols.secure_sum.gossip import PROTOCOL, contraction
from atoll.protocols.secure_sum.totals import Totals
from atoll.testing import seeded_rng
from tests.learn.horizontal.networks.linear import Line, best, pooled, skewed_sites, trainers
from tests.protocols.secure_sum.meshes import Mesh

PLAN = Plan(rounds=6, epochs=2, lr=0.3, weights="equal", seed=3)


def names(count: int) -> tuple[str, ...]:
    return tuple("abcdefghijkl"[:count])


def play(lines: list[Line], plans: Sequence[Plan] = (), **options: Any) -> dict[str, Any]:
    sites = names(len(lines))
    mesh = Mesh(list(sites), PROTOCOL.kinds)
    plans = plans or [PLAN] * len(sites)
    roles = {
        name: gossip(trainer, mesh.peers[name], plan, rng=seeded_rng(k), **options)
        for k, (name, trainer, plan) in enumerate(zip(sites, trainers(lines), plans, strict=True))
    }
    return mesh.run(roles)


@pytest.mark.parametrize("count", [3, 5])
def test_one_group_trains_what_sums_over_all_train(count: int) -> None:
    """Up to five sites are one group, whose mean is exact."""
    lines = skewed_sites(tuple(range(6, 6 + count)))
    made = trainers(lines)

    async def site(totals: Totals) -> Any:
        return (await fit(made[names(count).index(totals.site)], totals, PLAN)).model

    want = simulate(names(count), site)[0]
    for end in play(lines).values():
        np.testing.assert_allclose(end.model, want, rtol=1e-6, atol=1e-7)
        assert end.apart == 0


def test_many_sites_come_near_the_model_of_pooled_rows_and_near_each_other() -> None:
    draw = np.random.default_rng(1)
    w, lines = np.array([1.0, -2.0, 0.5]), []
    for _ in range(9):
        x = draw.normal(size=(40, 3))
        lines.append(Line(x, x @ (w + 0.2 * draw.normal(size=3)) + 0.1 * draw.normal(size=40)))  # each somewhat its own
    plan = Plan(rounds=40, epochs=1, lr=0.3, weights="equal", seed=1, schedule="cosine")
    ends = play(lines, [plan] * 9, mixes=2)
    models = np.array([end.model for end in ends.values()])
    assert np.abs(models - best(pooled(lines))).max() < 0.05
    assert np.linalg.norm(models - models.mean(axis=0)) < 1e-3
    assert ends["a"].apart == contraction(9)


def test_numbers_may_travel_with_32_bits() -> None:
    lines = skewed_sites((6, 7, 8))
    exact, short = play(lines), play(lines, clip=16.0)
    for name in exact:
        np.testing.assert_allclose(short[name].model, exact[name].model, atol=1e-6)


def test_sites_with_other_plans_or_networks_are_told() -> None:
    lines = skewed_sites((6, 7, 8))
    other = Plan(rounds=6, epochs=2, lr=0.2, weights="equal", seed=3)
    ends = play(lines, [PLAN, other, PLAN])
    assert all(isinstance(end, AtollError) for end in ends.values())
    assert any(isinstance(end, ProtocolError) for end in ends.values())


def test_a_site_that_diverges_is_named() -> None:
    lines = skewed_sites((6, 7, 8))
    lines[1].x[:] = 1e12
    ends = play(lines)
    assert "not finite or far too large (site 'b', step 'networks')" in str(ends["b"])


@pytest.mark.parametrize(
    ("plan", "count", "words"),
    [
        (Plan(seed=1), 3, "count alike"),
        (Plan(weights="equal"), 3, "count alike"),
        (Plan(weights="equal", seed=1, sample=0.5), 3, "count alike"),
        (PLAN, 2, "and there are 1"),
    ],
)
def test_what_gossip_has_not(plan: Plan, count: int, words: str) -> None:
    ends = play(skewed_sites((6,) * count), [plan] * count)
    assert all(isinstance(end, InputError) and words in str(end) for end in ends.values()), ends
