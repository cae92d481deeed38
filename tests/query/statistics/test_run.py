"""Quantiles over a join that nobody sees, either site asking: bit by bit what DuckDB answers on the pooled tables."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from atoll.crypto import cuckoo
from atoll.query.statistics.answer import Answer
from atoll.query.statistics.local import contribution
from atoll.query.statistics.plan import Quantile, parse
from atoll.query.statistics.quantile import finish, ranks
from atoll.query.statistics.run import ask, help_asker
from atoll.testing import recorded_pair, run_pair, seeded_rng
from tests.protocols.hidden import deal_transfers
from tests.query.statistics.pooled import Frame, by_duckdb, columns, draw

JOIN = "from bank b join telco t using (id)"


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few bins to spare and no base transfers: short runs of the same protocols."""
    monkeypatch.setattr(cuckoo, "SPARE", 30)
    deal_transfers(monkeypatch)


def jointly(sql: str, frames: dict[str, Frame], asker: str, minimum: int) -> Answer:
    """Ask over a hidden join, both sites in one process."""
    plan, sites = parse(sql), [asker, *({*frames} - {asker})]
    keys = {site: [str(key).encode() for key in frames[site]["id"]] for site in sites}
    parts = {site: contribution(plan, site, columns(frames[site]), minimum) for site in sites}
    a, b, _ = recorded_pair()
    options: dict[str, Any] = {"asker": asker, "minimum": minimum, "context": ("test",)}
    found, _ = run_pair(
        ask(a, plan, keys[sites[0]], parts[sites[0]], rng=seeded_rng(1), **options),
        help_asker(b, plan, keys[sites[1]], parts[sites[1]], rng=seeded_rng(2), **options),
    )
    return found


def ugly(seed: int) -> dict[str, Frame]:
    """Drawn tables whose balances are ties, huge, tiny, negative, and both zeros."""
    frames, r = draw(seed, 90), np.random.default_rng(seed)
    pool = [-1e300, -7.0, -5e-324, -0.0, 0.0, 5e-324, 1e-9, 0.1, 7.0, 7.0, 7.0, 2.0**53 + 2, 1.7e308]
    frames["bank"]["balance"] = [None if r.random() < 0.1 else float(v) for v in r.choice(pool, 60)]
    return frames


@pytest.mark.parametrize("asker", ["bank", "telco"])
@pytest.mark.parametrize(
    ("sql", "minimum"),
    [
        (f"select count(*), min(b.balance), median(t.spend), max(t.spend), quantile_disc(b.balance, 0.4) {JOIN}", 5),
        (
            f"select b.city, count(*) as n, median(b.balance), quantile_cont(t.spend, 0.3), quantile_disc(b.age, 1.0), "
            f"min(b.balance) {JOIN} where b.city is not null group by b.city having count(*) >= 5 order by b.city",
            1,
        ),
        (
            f"select t.plan as p, median(b.balance) as m, max(t.spend), count(*) {JOIN} where t.plan is not null "
            "group by t.plan having min(b.age) < 80 order by m desc, p",
            1,
        ),
    ],
)
def test_either_site_gets_what_duckdb_answers_to_the_last_bit(sql: str, minimum: int, asker: str) -> None:
    frames = ugly(3)
    mine, theirs = jointly(sql, frames, asker, minimum), by_duckdb(sql, frames)
    assert theirs.rows
    assert [[plain(v) for v in row] for row in mine.rows] == [[plain(v) for v in row] for row in theirs.rows]


@pytest.mark.parametrize("seed", range(6))
def test_drawn_questions_are_answered_as_duckdb_answers_them(seed: int) -> None:
    draw = np.random.default_rng(seed)
    values = ["b.balance", "b.age", "t.spend", "t.tenure", "b.age * 2 - 7", "abs(b.balance)", "t.spend / 7"]
    places = ["min({})", "max({})", "median({})", "quantile_cont({}, 0.3)", "quantile_disc({}, 0.85)", "count({})"]
    keys = ["b.city", "t.plan", "b.age > 40", "floor(t.tenure / 10)"]
    asked = [draw.choice(places).format(draw.choice(values)) for _ in range(4)]
    key = draw.choice(keys)
    sql = (
        f"select {key} as k, count(*), {', '.join(asked)} {JOIN} "
        f"where {key} is not null and b.age > {draw.integers(60)} group by {key} order by count(*), k"
    )
    frames = ugly(seed)
    mine, theirs = jointly(sql, frames, str(draw.choice(["bank", "telco"])), 1), by_duckdb(sql, frames)
    assert theirs.rows
    assert [[plain(v) for v in row] for row in mine.rows] == [[plain(v) for v in row] for row in theirs.rows]


def plain(value: Any) -> Any:
    """Numbers as floats, without the sign of zero, for which sites and DuckDB have no order."""
    return value if value is None or isinstance(value, str) else float(value)


def test_quantiles_of_too_few_values_are_missing_and_so_are_small_groups() -> None:
    frames: dict[str, Frame] = {
        "bank": {
            "id": [str(i) for i in range(12)],
            "city": ["a"] * 8 + ["b"] * 4,
            "age": [1.0, *[None] * 7, *[5.0] * 4],
        },
        "telco": {"id": [str(i) for i in range(11)], "spend": [float(i) for i in range(11)]},
    }
    sql = f"select b.city, count(*), max(b.age), median(t.spend) {JOIN} group by b.city"
    assert jointly(sql, frames, "telco", 4).rows == (("a", 8, None, 3.5),)


def test_one_row_that_joins_is_its_own_quantile() -> None:
    frames: dict[str, Frame] = {"bank": {"id": ["x"], "age": [-3.25]}, "telco": {"id": ["y", "x"], "spend": [1.0, 2.0]}}
    sql = f"select min(b.age), max(b.age), median(b.age), quantile_cont(b.age, 0.9), min(t.spend) {JOIN}"
    assert jointly(sql, frames, "bank", 1).rows == ((-3.25, -3.25, -3.25, -3.25, 2.0),)
    assert jointly(sql, frames, "bank", 2).rows == ()


@pytest.mark.parametrize("at", ["0", ".1", "0.25", "0.333", "0.5", "0.9", "0.99", "1.0"])
def test_ranks_and_what_lies_between_are_duckdbs(at: str) -> None:
    import duckdb

    r = np.random.default_rng(1)
    with duckdb.connect() as connection:
        for n in (1, 2, 3, 4, 7, 10, 11, 100, 101):
            values = np.sort((r.standard_normal(n) * 10.0 ** r.integers(-3, 4, n)).round(3))
            connection.register("drawn", {"v": values})
            sql = f"select quantile_cont(v, {at}), quantile_disc(v, {at}), min(v), max(v) from drawn"  # noqa: S608
            (theirs,) = connection.execute(sql).fetchall()
            asked = [Quantile("", "", place, at) for place in ("cont", "disc", "min", "max")]  # type: ignore[arg-type]
            mine = [finish(one, [n], values[[rank - 1 for rank in ranks(one, n)]][np.newaxis])[0] for one in asked]
            assert mine == list(theirs)
