"""A plan in words, for people to read before anything runs: what each site reads, and what each learns."""

from __future__ import annotations

from atoll.query.statistics.plan import Measure, Plan, Quantile
from atoll.query.statistics.private import Private

_TOTALS = {
    "count": "number of rows with {}",
    "sum": "sum of {}",
    "offset": "sum of {} around a round number near its mean",
    "square": "sum of squares of {} around the same number",
}


def explain(plan: Plan, asker: str, threshold: int, private: Private | None = None) -> tuple[str, ...]:
    """Return a plan as lines of text.

    Args:
        plan: the plan.
        asker: the site that gets the answer.
        threshold: fewest rows of a group that is shown.
        private: what is agreed where the answer gets noise.
    """
    other = next(site for site in plan.sites if site != asker)
    lines = []
    for site in plan.sites:
        lines.append(f"{site} computes on its own rows, and nothing of it leaves in the clear:")
        lines += [f"  only rows where {_plain(sql)}" for owner, sql in plan.filters if owner == site]
        if plan.group_site == site:
            lines.append(f"  groups by {', '.join(map(_plain, plan.groups))}")
        lines += [f"  {_total(measure)}" for measure in plan.of(site)]
        lines += [f"  the order of its rows by {_plain(sql)}" for sql in plan.ordered(site)]
        if lines[-1].endswith(":"):
            lines.append("  which rows there are")
    shown = f"for each group with at least {threshold} joined rows" if plan.groups else f"if {threshold} rows join"
    totals = ", ".join(["the number of joined rows", *map(_total, plan.measures[1:]), *map(_place, plan.quantiles)])
    lines += [f"{asker} learns, {shown}: {totals}.", f"{asker} does not learn which rows join."]
    if plan.quantiles:
        lines.append(
            f"Smallest, largest and middle values are single persons' values; {asker} learns them exactly, and not "
            "whose they are."
        )
    if private:
        lines += private.lines
    if plan.group_site == other and not private:
        lines.append(f"{asker} learns the names of the groups that have at least {threshold} rows at {other}.")
    lines += [
        f"{other} learns how many ids {asker} has; not which rows join, nor how many, nor the answer.",
        f"{asker} learns how many ids {other} has.",
    ]
    return tuple(lines)


def _total(measure: Measure) -> str:
    return _TOTALS[measure.total].format(_plain(measure.sql))


def _place(quantile: Quantile) -> str:
    sql = _plain(quantile.sql)
    if quantile.place in ("min", "max"):
        return f"the {'smallest' if quantile.place == 'min' else 'largest'} value of {sql}"
    if quantile.place == "disc":
        return f"the value of {sql} at {quantile.at} of the way from the smallest to the largest"
    return f"both values of {sql} next to {quantile.at} of the way from the smallest to the largest"


def _plain(sql: str) -> str:
    return sql.replace('"', "")
