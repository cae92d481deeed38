"""Run a plan: a site's rows into `hidden-totals` and `hidden-quantiles`, and what these open into the answer."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from atoll.core.channel import Channel
from atoll.crypto.random import Rng
from atoll.protocols import hidden_quantiles, hidden_totals
from atoll.protocols.hidden_totals import Question, Side
from atoll.query.statistics.answer import Answer, answer
from atoll.query.statistics.local import Contribution
from atoll.query.statistics.plan import Measure, Plan, Quantile
from atoll.query.statistics.quantile import finish, ranks


def question(plan: Plan, asker: str, minimum: int) -> Question:
    """Return what both sites agree on: whose groups, how many totals, which counts guard them."""
    (partner,) = (site for site in plan.sites if site != asker)
    order = _order(plan, asker)
    guards = tuple(order.index(_guard(measure)) for measure in order)
    groups_at = "partner" if _first(plan, asker) == partner else "asker"
    return Question(groups_at, (len(plan.of(asker)), len(plan.of(partner))), guards, minimum)


def side(keys: Sequence[bytes], part: Contribution) -> Side:
    """Return what a site brings."""
    return Side(keys, part.keep, part.group, part.values, part.labels, part.bits)


def quantile_question(plan: Plan, asker: str, owner: str, minimum: int) -> hidden_quantiles.Question:
    """Return what both sites agree on about the values of the site `owner`: how many ranks each column takes."""
    counts = tuple(sum(len(ranks(one, 1)) for one in wanted) for wanted in plan.ordered(owner).values())
    groups_at = "asker" if plan.group_site in ("", asker) else "partner"
    return hidden_quantiles.Question("asker" if owner == asker else "partner", groups_at, counts, minimum)


def quantile_side(keys: Sequence[bytes], part: Contribution) -> hidden_quantiles.Side:
    """Return what a site brings to the search for values."""
    return hidden_quantiles.Side(keys, part.keep, part.group, part.ordered, len(part.labels))


async def ask(
    peer: Channel, plan: Plan, keys: Sequence[bytes], part: Contribution, *, asker: str, minimum: int, rng: Rng,
    context: Sequence[str],
) -> Answer:  # fmt: skip
    """Ask as the site `asker`; errors as `hidden-totals` and `hidden-quantiles`."""
    agreed, bring = question(plan, asker, minimum), side(keys, part)
    joined = await hidden_totals.join(peer, bring, agreed, "asker", rng=rng, context=context)
    opened = await hidden_totals.asker(peer, bring, agreed, rng=rng, context=context, joined=joined)
    order, (partner,) = _order(plan, asker), (site for site in plan.sites if site != asker)
    at = np.array([order.index(measure) for measure in plan.measures])
    rows = np.flatnonzero(opened.shown[:, 0])
    quantiles: list[NDArray[Any]] = [np.empty(0)] * len(plan.quantiles)
    for owner in plan.sites:
        wanted = [quantile for each in plan.ordered(owner).values() for quantile in each]
        counts = {one.sql: opened.totals[:, order.index(Measure(owner, "count", one.sql))] for one in wanted}
        columns = [_ranks(each, counts[sql]) for sql, each in plan.ordered(owner).items()]
        if not columns:
            continue
        about, mine = quantile_question(plan, asker, owner, minimum), quantile_side(keys, part)
        looked_up = await hidden_quantiles.asker(
            peer,
            mine,
            about,
            columns,
            rng=rng,
            context=context,
            joined=joined if owner == _first(plan, asker) else None,
        )
        for one, found in zip(wanted, _quantiles(plan.ordered(owner), counts, looked_up), strict=True):
            quantiles[plan.quantiles.index(one)] = found[rows]
    labels = [opened.keys[row] for row in rows]
    totals, shown = opened.totals[np.ix_(rows, at)], opened.shown[np.ix_(rows, at)]
    return answer(plan, labels, totals, {asker: part.bits, partner: opened.bits}, shown, quantiles)


async def help_asker(
    peer: Channel, plan: Plan, keys: Sequence[bytes], part: Contribution, *, asker: str, minimum: int, rng: Rng,
    context: Sequence[str], noise: Callable[[int], NDArray[np.int64]] | None = None,
) -> None:  # fmt: skip
    """Help the site `asker`; `noise` draws that of so many groups, a column a measure of the plan.

    Errors as `hidden-totals` and `hidden-quantiles`.
    """
    agreed, bring = question(plan, asker, minimum), side(keys, part)
    at = [plan.measures.index(measure) for measure in _order(plan, asker)]
    drawn = None if noise is None else lambda groups: noise(groups)[:, at]
    joined = await hidden_totals.join(peer, bring, agreed, "partner", rng=rng, context=context)
    await hidden_totals.partner(peer, bring, agreed, rng=rng, context=context, joined=joined, noise=drawn)
    for owner in plan.sites:
        if plan.ordered(owner):
            about, mine = quantile_question(plan, asker, owner, minimum), quantile_side(keys, part)
            same = joined if owner == _first(plan, asker) else None
            await hidden_quantiles.partner(peer, mine, about, rng=rng, context=context, joined=same)


def _ranks(wanted: Sequence[Quantile], counts: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the ranks that the quantiles of one expression take in each group, (k, ranks)."""
    rows = [[rank for one in wanted for rank in ranks(one, count)] for count in counts.tolist()]
    return np.array(rows, np.int64)


def _quantiles(
    ordered: Mapping[str, Sequence[Quantile]],
    counts: Mapping[str, NDArray[np.int64]],
    opened: Sequence[hidden_quantiles.Opened],
) -> Iterator[NDArray[Any]]:
    """Yield each expression's quantiles, (k,), masked where they are not shown."""
    for (sql, wanted), column in zip(ordered.items(), opened, strict=True):
        lo = 0
        for one in wanted:
            at = slice(lo, lo := lo + len(ranks(one, 1)))
            values = finish(one, counts[sql].tolist(), column.values[:, at])
            yield np.ma.masked_array(values, ~column.shown[:, at].all(axis=1))


def _order(plan: Plan, asker: str) -> list[Measure]:
    """Return the measures in the protocol's order: rows, those of the grouping site, those of the other."""
    first = _first(plan, asker)
    (second,) = (site for site in plan.sites if site != first)
    return [plan.measures[0], *plan.of(first), *plan.of(second)]


def _first(plan: Plan, asker: str) -> str:
    """Return the site that knows which of its rows is in which bin: it makes the groups, or has values to order."""
    return plan.group_site or (plan.quantiles[0].site if plan.quantiles else asker)


def _guard(measure: Measure) -> Measure:
    """Return the count that must reach the minimum before a measure is shown; counts themselves follow the rows."""
    if measure.total in ("rows", "count"):
        return Measure("", "rows", "")
    return Measure(measure.site, "count", measure.sql)
