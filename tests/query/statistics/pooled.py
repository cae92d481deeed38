"""Two drawn tables, a plain run of a plan over their join, and DuckDB's answer on the pooled tables."""

from __future__ import annotations

from typing import Any

import duckdb
import numpy as np

from atoll.data.columns import Columns
from atoll.data.frames import table_of
from atoll.query.statistics.answer import Answer, answer
from atoll.query.statistics.local import Contribution, contribution
from atoll.query.statistics.plan import Plan, parse
from atoll.query.statistics.quantile import finish, ranks

Frame = dict[str, Any]


def draw(seed: int, rows: int = 60) -> dict[str, Frame]:
    """Tables of two sites: numbers with gaps, texts with gaps and in several scripts, ids of which two thirds match."""
    r = np.random.default_rng(seed)

    def gaps(values: Any, share: float = 0.2) -> Any:
        return [None if r.random() < share else v for v in values]

    ids = [f"id{i}" for i in range(rows)]
    bank: Frame = {
        "id": r.permutation(ids[: rows * 2 // 3]).tolist(),
        "city": None,
        "balance": None,
        "age": None,
    }
    telco: Frame = {"id": r.permutation(ids[rows // 3 :]).tolist(), "tenure": None, "spend": None, "plan": None}
    n, m = len(bank["id"]), len(telco["id"])
    bank["city"] = gaps(r.choice(["上海", "Köln", "Paris", "O'Hare"], n).tolist())
    bank["balance"] = gaps((r.standard_normal(n) * 10.0 ** r.integers(-3, 7, n)).round(4).tolist())
    bank["age"] = gaps(r.integers(18, 90, n).astype(float).tolist(), 0.0)
    telco["tenure"] = gaps(r.integers(0, 40, m).astype(float).tolist())
    telco["spend"] = gaps((r.random(m) * 100).round(2).tolist())
    telco["plan"] = gaps(r.choice(["A", "b", "ß"], m).tolist())
    return {"bank": bank, "telco": telco}


def columns(frame: Frame) -> Columns:
    """A table as a site holds it, without its ids."""
    kinds = {
        name: "categorical" if name in ("city", "plan") else "numeric" for name in frame if name != "id"
    }  # fmt: skip
    return table_of(
        {name: np.array(values, object if name in ("id", "city", "plan") else np.float64) for name, values in
         frame.items()}, ("id",), tuple(kinds), kinds
    ).columns  # fmt: skip


def plainly(sql: str, frames: dict[str, Frame], threshold: int = 1) -> Answer:
    """Run a plan with nobody hiding anything."""
    plan = parse(sql)
    parts = {site: contribution(plan, site, columns(frames[site]), threshold) for site in plan.sites}
    one, two = plan.sites
    place = {key: at for at, key in enumerate(frames[two]["id"])}
    pairs = [(at, place[key]) for at, key in enumerate(frames[one]["id"]) if key in place]
    pairs = [(a, b) for a, b in pairs if parts[one].keep[a] and parts[two].keep[b]]
    labels = parts[plan.group_site].labels if plan.group_site else ((),)
    totals = np.zeros((len(labels), len(plan.measures)), np.int64)
    for a, b in pairs:
        at = {one: a, two: b}
        row = parts[plan.group_site].group[at[plan.group_site]] if plan.group_site else 0
        values = {site: iter(parts[site].values[at[site]]) for site in plan.sites}
        totals[row] += [1 if not m.site else next(values[m.site]) for m in plan.measures]
    shown = [at for at in range(len(labels)) if totals[at, 0] >= threshold or not plan.groups]
    bits = {site: parts[site].bits for site in plan.sites}
    found = [column[shown] for column in quantiles(plan, parts, pairs, len(labels))]
    return answer(plan, [labels[at] for at in shown], totals[shown], bits, quantiles=found)


def quantiles(
    plan: Plan, parts: dict[str, Contribution], pairs: list[tuple[int, int]], groups: int
) -> list[Any]:  # fmt: skip
    """Look the values up in a plain sort of each group, one column for each of the plan's quantiles."""
    out = []
    for one in plan.quantiles:
        column = list(plan.ordered(one.site)).index(one.sql)
        here = plan.sites.index(one.site)
        grouped = plan.sites.index(plan.group_site) if plan.group_site else None
        values: list[list[float]] = [[] for _ in range(groups)]
        for pair in pairs:
            group = 0 if grouped is None else parts[plan.group_site].group[pair[grouped]]
            values[group].append(parts[one.site].ordered[pair[here], column])
        there = [sorted(value for value in each if not np.isnan(value)) for each in values]
        picked = [[(each or [0.0])[rank - 1] for rank in ranks(one, len(each))] for each in there]
        done = finish(one, [len(each) for each in there], np.array(picked))
        out.append(np.ma.masked_array(done, [not each for each in there]))
    return out


def by_duckdb(sql: str, frames: dict[str, Frame]) -> Answer:
    """The answer on the pooled tables."""
    with duckdb.connect() as connection:
        for name, frame in frames.items():
            kinds = ", ".join(f"{c} {'VARCHAR' if c in ('id', 'city', 'plan') else 'DOUBLE'}" for c in frame)
            connection.execute(f"CREATE TABLE {name} ({kinds})")
            rows = list(zip(*frame.values(), strict=True))
            connection.executemany(f"INSERT INTO {name} VALUES ({', '.join('?' * len(frame))})", rows)  # noqa: S608
        done = connection.execute(sql)
        return Answer(tuple(c[0] for c in done.description), tuple(tuple(row) for row in done.fetchall()))


def same(mine: Answer, theirs: Answer, ordered: bool) -> None:
    """Compare two answers: numbers to nine digits, deviations of equal values to five."""
    assert len(mine.rows) == len(theirs.rows)

    def key(row: tuple[Any, ...]) -> list[tuple[bool, str]]:
        return [(v is None, f"{v:.5e}" if isinstance(v, float) else str(v)) for v in row]

    left, right = (rows if ordered else tuple(sorted(rows, key=key)) for rows in (mine.rows, theirs.rows))
    for row, other in zip(left, right, strict=True):
        for got, want in zip(row, other, strict=True):
            if isinstance(want, (int, float)) and not isinstance(want, bool):
                assert got is not None, (row, other)
                assert np.isclose(got, float(want), rtol=1e-9, atol=2e-5), (row, other)
            else:
                assert got == want, (row, other)
