"""Plans of questions: run in the plain they answer what DuckDB answers on the pooled tables; the rest is refused."""

from __future__ import annotations

import pytest

from atoll.core.errors import InputError
from atoll.query.statistics.local import contribution
from atoll.query.statistics.plan import LONGEST, parse
from tests.query.statistics.pooled import by_duckdb, columns, draw, plainly, same

JOIN = "from bank b join telco t using (id)"
QUESTIONS = [
    f"select count(*) {JOIN}",
    f"select count(*), count(b.balance), sum(t.spend), avg(b.age) {JOIN} where t.tenure > 12",
    f"select b.city, count(*) as n, avg(t.spend), sum(b.balance) {JOIN} group by b.city",
    f"select t.plan, var_samp(b.age), stddev(t.spend), var_pop(b.age), stddev_pop(t.spend) {JOIN} group by t.plan",
    f"select city, avg(b.balance) {JOIN} where b.city is not null and t.plan in ('A', 'b') group by 1",
    f"select case when b.age < 40 then 'young' else 'old' end as band, sum(t.spend) / count(*) as each {JOIN} "
    "group by band having count(*) > 3 order by each desc",
    f"select count(*) {JOIN} where b.age between 30 and 50 and not (t.spend < 10 or t.tenure is null)",
    f"select floor(t.tenure / 10) * 10 as decade, count(b.balance), avg(abs(b.balance)) {JOIN} group by decade",
    f"select b.city, b.age > 50 as senior, count(*) {JOIN} group by b.city, b.age > 50 "
    "order by count(*) desc, 1, 2 limit 4",
    f"select sum(b.balance), avg(b.balance), stddev(b.balance) {JOIN} where b.age > 1000",
    f"select min(b.balance), max(b.balance), median(b.balance), median(t.spend) {JOIN}",
    f"select t.plan, quantile_cont(b.age, 0.3), quantile_disc(b.age, .75), quantile(t.spend, 0.1) as low {JOIN} "
    "group by t.plan having max(b.age) > 20 or max(b.age) is null order by median(b.age) nulls last, low, 1",
    f"select b.city, count(*), avg(b.age), max(t.spend) - min(t.spend) as reach, median(b.balance) {JOIN} group by 1",
    f"select median(b.balance), min(t.tenure), quantile_disc(t.spend, 1) {JOIN} where b.age > 1000",
]


@pytest.mark.parametrize("sql", QUESTIONS)
@pytest.mark.parametrize("seed", range(4))
def test_plans_answer_what_duckdb_answers_on_the_pooled_tables(sql: str, seed: int) -> None:
    frames = draw(seed, rows=(3, 20, 60, 200)[seed])
    same(plainly(sql, frames), by_duckdb(sql, frames), "order by" in sql)


@pytest.mark.parametrize(
    ("sql", "words"),
    [
        ("", "not SQL"),
        ("selec 1", "not SQL at line 1"),
        ("select 1; select 2", "not one short SELECT|not SQL"),
        ("select count(*) from bank", "joins two sites by their ids"),
        ("select count(*) from bank join telco on bank.id = telco.id", "joins two sites by their ids"),
        ("select count(*) from bank left join telco using (id)", "joins two sites by their ids"),
        ("select count(*) from bank join bank using (id)", "two different sites"),
        ("select count(*) from bank a join bank b using (id)", "two different sites"),
        (f"select mode(b.age) {JOIN}", "MODE is not supported over a hidden join"),
        (f"select quantile_cont(b.age, 1.5) {JOIN}", "one number from 0 to 1"),
        (f"select quantile_disc(b.age, [0.1, 0.2]) {JOIN}", "one number from 0 to 1"),
        (f"select quantile_disc(b.age, 1e-1) {JOIN}", "one number from 0 to 1"),
        (f"select quantile_cont(b.age) {JOIN}", "one number from 0 to 1"),
        (f"select min(b.age, 2) {JOIN}", "one plain argument"),
        (f"select percentile_cont(0.5) within group (order by b.age) {JOIN}", "not supported"),
        (f"select median(distinct b.age) {JOIN}", "no DISTINCT"),
        (f"select count(distinct b.city) {JOIN}", "no DISTINCT"),
        (f"select sum(b.age * t.spend) {JOIN}", "uses columns of both sites"),
        (f"select count(*) {JOIN} where b.age > t.tenure", "uses columns of both sites"),
        (f"select count(*) {JOIN} where 1 = 1", "uses no column"),
        (f"select b.city, t.plan, count(*) {JOIN} group by b.city, t.plan", "groups use columns of both sites"),
        (f"select b.city {JOIN}", "neither totalled nor grouped by"),
        (f"select read_text('/etc/passwd') {JOIN}", "not supported"),
        (f"select sum(getenv(b.city)) {JOIN}", "not supported"),
        (f"select sum((select max(age) from bank)) {JOIN}", "not supported"),  # noqa: S608
        (f"select count(*) {JOIN} where b.city in (select city from other)", "not supported"),  # noqa: S608
        (f"select count(*) over () {JOIN}", "not supported"),
        (f"select x.age, count(*) {JOIN} group by x.age", "there is no table 'x'"),
        (f"select count(*) {JOIN} group by 7", "GROUP BY 7"),
        (f"select count(*) {JOIN} limit 1 + 1", "LIMIT"),
        (f"select distinct b.city {JOIN}", "DISTINCT is not supported"),
        (f"with q as (select 1) select count(*) {JOIN}", "WITH is not supported"),
        ("select count(*) " + "x" * LONGEST, "more than 10,000 characters"),
    ],
)
def test_what_two_sites_do_not_answer_is_refused_in_words(sql: str, words: str) -> None:
    with pytest.raises(InputError, match=words):
        parse(sql)


def test_equal_measures_are_totalled_once_and_both_sites_make_the_same_plan() -> None:
    plan = parse(f"select avg(t.spend), sum(t.spend), avg(t.spend) * 2 {JOIN}")
    assert [(m.site, m.total) for m in plan.measures] == [("", "rows"), ("telco", "count"), ("telco", "sum")]


@pytest.mark.parametrize(
    ("sql", "words"),
    [
        (f"select sum(b.balanc) {JOIN}", "bank has no column 'balanc'"),
        (f"select sum(b.city) {JOIN}", "cannot be computed at bank"),
        (f"select sum(b.age * 1e300) {JOIN}", "too large to add up"),
        (f"select sum(b.age / 0) {JOIN}", "not finite|computed"),
        (f"select max(b.age / 0) {JOIN}", "not finite"),
        (f"select median(b.balance * 1e308 * 1e308) {JOIN}", "not finite|Overflow"),
        (f"select min(b.city) {JOIN}", "is text at bank; minima, maxima and quantiles are of numbers"),
        (f"select max(b.age > 30) {JOIN}", "is true or false at bank"),
    ],
)
def test_what_a_site_cannot_compute_is_an_error_of_that_site(sql: str, words: str) -> None:
    frames = draw(1)
    with pytest.raises(InputError, match=words):
        contribution(parse(sql), "bank", columns(frames["bank"]), 1)


def test_groups_that_can_never_be_shown_are_left_out_and_too_many_are_refused() -> None:
    frames = draw(2, 200)
    part = contribution(parse(f"select b.city, count(*) {JOIN} group by b.city"), "bank", columns(frames["bank"]), 30)
    assert 0 < len(part.labels) < 5
    sizes = [int((part.keep & (part.group == at)).sum()) for at in range(len(part.labels))]
    assert min(sizes) >= 30
    wide = {name: values * 3 for name, values in frames["bank"].items()}
    wide["balance"] = [float(i) for i in range(len(wide["id"]))]
    plan = parse(f"select b.balance, count(*) {JOIN} group by 1")
    with pytest.raises(InputError, match="groups, at most 256"):
        contribution(plan, "bank", columns(wide), 1)
