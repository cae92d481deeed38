"""Totals with noise are totals: the right sum, and noise of the planned size from the sites that count."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from atoll.core.errors import InputError
from atoll.privacy.accountant import epsilon_of, rho_of
from atoll.protocols.secure_sum.noisy import NoisyTotals
from atoll.protocols.secure_sum.totals import Totals

SITES = ("clinic", "hospital", "practice")


@dataclass
class Table:
    """Where three sites' values meet; adds them exactly, and keeps what each handed in."""

    waiting: dict[str, Any] = field(default_factory=dict)
    seen: list[dict[str, Any]] = field(default_factory=list)
    changed: asyncio.Condition = field(default_factory=asyncio.Condition)


@dataclass
class Plain:
    """Exact totals over a table."""

    site: str
    table: Table
    sites: tuple[str, ...] = SITES

    async def total(self, values: Any, *, what: str) -> Any:
        async with self.table.changed:
            turn = len(self.table.seen)
            self.table.waiting[self.site] = values
            if len(self.table.waiting) == len(SITES):
                self.table.seen.append(self.table.waiting)
                self.table.waiting = {}
                self.table.changed.notify_all()
            await self.table.changed.wait_for(lambda: len(self.table.seen) > turn)
        columns = zip(*self.table.seen[turn].values(), strict=True)
        return np.array([float(sum(map(Fraction, column))) for column in columns])


def run(work: Callable[[Totals], Awaitable[Any]]) -> tuple[dict[str, Any], Table]:
    """Run one function at all sites."""

    async def go() -> tuple[dict[str, Any], Table]:
        table = Table()
        found = await asyncio.gather(*(work(Plain(site, table)) for site in SITES))
        return dict(zip(SITES, found, strict=True)), table

    return asyncio.run(go())


def moments(values: Any) -> Any:
    """Count, sum and squares of ages, which lie in 0 … 100."""
    return np.array([len(values), values.sum(), (values**2).sum()])


CLIP = (1.0, 100.0, 10_000.0)


def test_means_and_variances_of_many_patients_come_out_close_at_every_site() -> None:
    draw = np.random.default_rng(3)
    ages = {site: np.clip(draw.normal(55, 18, n), 0, 100) for site, n in zip(SITES, (900, 4_000, 15_000), strict=True)}

    async def work(totals: Totals) -> Any:
        noisy = NoisyTotals(totals, CLIP, rho_of(1.0, 1e-6), honest=2)
        n, s, q = await noisy.total(moments(ages[noisy.site]), what="moments of age")
        return n, s / n, q / n - (s / n) ** 2

    found, _ = run(work)
    assert len(set(found.values())) == 1
    pooled = np.concatenate(list(ages.values()))
    n, mean, variance = found["clinic"]
    assert n != len(pooled)
    assert abs(n - len(pooled)) < 200
    assert mean == pytest.approx(pooled.mean(), abs=2)
    assert variance == pytest.approx(pooled.var(), rel=0.2)


@pytest.mark.parametrize("honest", [1, 2, 3])
def test_what_is_left_of_the_noise_is_enough_where_only_the_counted_sites_kept_theirs(honest: int) -> None:
    """2,000 numbers at once show its size: wrong by a quarter with a chance below 10^-14."""
    clip = (3.0,) * 2_000
    rho = rho_of(1.0, 1e-6)

    async def work(totals: Totals) -> Any:
        noisy = NoisyTotals(totals, clip, rho_of(1.0, 1e-6), honest)
        assert noisy.loss().rho == pytest.approx(rho)
        await noisy.total(np.zeros(2_000), what="nothing")
        return noisy.mechanism

    found, table = run(work)
    mechanism = found["clinic"]
    wanted = 9 * 2_000 / (2 * rho)  # variance at which Σ Δ² / 2σ² = ρ
    assert (np.array(mechanism.scales) ** 2 * 3.0**2 / mechanism.clip[0] ** 2)[0] == pytest.approx(wanted)
    (handed,) = table.seen
    left = sum(handed[site] for site in SITES[:honest])  # the others dropped out, or told theirs
    assert np.var(left) == pytest.approx(wanted, rel=0.25)
    assert all(len(np.unique(values)) > 1_900 for values in handed.values())


def test_numbers_that_depend_on_nobody_stay_exact_and_the_budget_is_spent_first() -> None:
    spent: list[str] = []

    async def work(totals: Totals) -> Any:
        def spend() -> None:
            assert not totals.table.seen  # type: ignore[attr-defined]
            spent.append(totals.site)

        noisy = NoisyTotals(totals, (0.0, 2.0), rho_of(1.0, 1e-6), honest=3, rounds=2, spend=spend)
        first = await noisy.total(np.array([0.1, 5.0]), what="one")
        second = await noisy.total(np.array([0.1, 5.0]), what="two")
        with pytest.raises(InputError, match="the noise was made for 2 totals"):
            await noisy.total(np.array([0.1, 5.0]), what="three")
        assert noisy.loss().rho == pytest.approx(rho_of(1.0, 1e-6))
        assert epsilon_of(noisy.loss().rho, 1e-6) <= 1.0 + 1e-9
        return first.tolist(), second.tolist()

    found, table = run(work)
    first, second = found["hospital"]
    assert first[0] == second[0] == float(3 * Fraction(0.1))
    assert first[1] != second[1]
    assert sorted(spent) == list(SITES)
    assert len(table.seen) == 2


@pytest.mark.parametrize(
    ("clip", "epsilon", "honest", "values", "words"),
    [
        ((1.0,), 1.0, 0, [1.0], "cannot count on 0 of 3 sites"),
        ((1.0,), 1.0, 4, [1.0], "cannot count on 4 of 3 sites"),
        ((-1.0,), 1.0, 2, [1.0], "negative, tiny or huge"),
        ((float("nan"),), 1.0, 2, [1.0], "negative, tiny or huge"),
        ((1e-30,), 1.0, 2, [1.0], "negative, tiny or huge"),
        ((1.0,), 1.0, 2, [1.0, 2.0], "1 finite numbers are agreed"),
        ((1.0,), 1.0, 2, [float("nan")], "1 finite numbers are agreed"),
        ((1e-9,), 1.0, 2, [1e9], "too large beside one person's change"),
        ((1.0,), 1e6, 3, [1.0], "too small to add up"),
    ],
)
def test_what_cannot_be_is_refused(clip: Any, epsilon: float, honest: int, values: Any, words: str) -> None:
    async def go() -> None:
        noisy = NoisyTotals(Plain("clinic", Table()), clip, rho_of(epsilon, 0.5 if epsilon > 1 else 1e-6), honest)
        await noisy.total(np.array(values), what="x")

    with pytest.raises(InputError, match=words):
        asyncio.run(go())
