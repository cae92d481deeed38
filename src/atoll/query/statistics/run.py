"""Run a plan: this site's rows into `hidden-totals`, and at the asker the opened totals into the answer."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from atoll.core.channel import Channel
from atoll.crypto.random import Rng
from atoll.protocols import hidden_totals
from atoll.protocols.hidden_totals import Question, Side
from atoll.query.statistics.answer import Answer, answer
from atoll.query.statistics.local import Contribution
from atoll.query.statistics.plan import Measure, Plan


def question(plan: Plan, asker: str, minimum: int) -> Question:
    """Return what both sites agree on: whose groups, how many totals, which counts guard them."""
    (partner,) = (site for site in plan.sites if site != asker)
    order = _order(plan, asker)
    guards = tuple(order.index(_guard(measure)) for measure in order)
    groups_at = "partner" if plan.group_site == partner else "asker"
    return Question(groups_at, (len(plan.of(asker)), len(plan.of(partner))), guards, minimum)


def side(keys: Sequence[bytes], part: Contribution) -> Side:
    """Return what a site brings."""
    return Side(keys, part.keep, part.group, part.values, part.labels, part.bits)


async def ask(
    peer: Channel, plan: Plan, keys: Sequence[bytes], part: Contribution, *, asker: str, minimum: int, rng: Rng,
    context: Sequence[str],
) -> Answer:  # fmt: skip
    """Ask as the site `asker`; errors as `hidden-totals`."""
    agreed = question(plan, asker, minimum)
    opened = await hidden_totals.asker(peer, side(keys, part), agreed, rng=rng, context=context)
    order, (partner,) = _order(plan, asker), (site for site in plan.sites if site != asker)
    at = np.array([order.index(measure) for measure in plan.measures])
    rows = np.flatnonzero(opened.shown[:, 0])
    labels = [opened.keys[row] for row in rows]
    totals, shown = opened.totals[np.ix_(rows, at)], opened.shown[np.ix_(rows, at)]
    return answer(plan, labels, totals, {asker: part.bits, partner: opened.bits}, shown)


async def help_asker(
    peer: Channel, plan: Plan, keys: Sequence[bytes], part: Contribution, *, asker: str, minimum: int, rng: Rng,
    context: Sequence[str],
) -> None:  # fmt: skip
    """Help the site `asker`; errors as `hidden-totals`."""
    agreed = question(plan, asker, minimum)
    await hidden_totals.partner(peer, side(keys, part), agreed, rng=rng, context=context)


def _order(plan: Plan, asker: str) -> list[Measure]:
    """Return the measures in the protocol's order: rows, those of the grouping site, those of the other."""
    first = plan.group_site or asker
    (second,) = (site for site in plan.sites if site != first)
    return [plan.measures[0], *plan.of(first), *plan.of(second)]


def _guard(measure: Measure) -> Measure:
    """Return the count that must reach the minimum before a measure is shown; counts themselves follow the rows."""
    if measure.total in ("rows", "count"):
        return Measure("", "rows", "")
    return Measure(measure.site, "count", measure.sql)
