"""Answers with noise: no row moves a total beyond what its noise is made for; without the noise they are DuckDB's."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from atoll.core.errors import InputError
from atoll.crypto import cuckoo
from atoll.privacy.mechanism import laplace
from atoll.privacy.noise import draw, noise
from atoll.query.statistics.explain import explain
from atoll.query.statistics.local import contribution
from atoll.query.statistics.plan import Plan, parse
from atoll.query.statistics.privacy import Privacy
from atoll.query.statistics.private import Private, private
from atoll.query.statistics.run import ask, help_asker
from atoll.testing import recorded_pair, run_pair, seeded_rng
from tests.privacy.audit import RUNS, lower_epsilon
from tests.protocols.hidden import deal_transfers
from tests.query.statistics.pooled import Frame, by_duckdb, columns
from tests.query.statistics.pooled import draw as drawn_tables

JOIN = "from bank b join telco t using (id)"
BOUNDS = {"b.balance": (-50.0, 1_000.0), "t.spend": (0.0, 80.0), "telco.tenure * 2": (0.0, 60.0)}
GROUPS = (("A",), ("b",), ("ß",), ("nobody has it",))

QUESTIONS = [
    (f"select count(*) as n, sum(b.balance), avg(t.spend), count(t.tenure) {JOIN} where b.age > 30", ""),
    (
        f"select b.city, count(*) as n, var_samp(t.spend), sum(t.tenure * 2) {JOIN} where b.city is not null "
        "group by b.city order by b.city",
        "bank",
    ),
    (
        f"select t.plan, count(*) as n, avg(b.balance), stddev_pop(t.spend) {JOIN} where t.plan is not null "
        "group by t.plan order by t.plan",
        "telco",
    ),
]


def agreed(sql: str, asker: str, **changes: Any) -> tuple[Plan, Private]:
    plan = parse(sql)
    used = {name: bound for name, bound in BOUNDS.items() if name.split(".")[1] in sql}
    partner = next(site for site in plan.sites if site != asker)
    groups = GROUPS if plan.group_site == partner == "telco" else ()
    wanted = Privacy(**{"epsilon": 1.0, "bounds": used, "groups": groups, **changes})
    return plan, private(plan, sql, wanted, asker)


def totals(plan: Plan, frames: dict[str, Frame], rules: Private) -> np.ndarray:
    """What would be opened without noise: (groups, measures) in the plan's order, by a plain join."""
    parts = {site: contribution(plan, site, columns(frames[site]), 1, rules) for site in plan.sites}
    one, two = plan.sites
    place = {key: at for at, key in enumerate(frames[two]["id"])}
    found = np.zeros((max(1, len(parts[plan.group_site].labels) if plan.group_site else 1), len(plan.measures)), int)
    for a, key in enumerate(frames[one]["id"]):
        if key in place and parts[one].keep[a] and parts[two].keep[place[key]]:
            at = {one: a, two: place[key]}
            values = {site: iter(parts[site].values[at[site]]) for site in plan.sites}
            row = parts[plan.group_site].group[at[plan.group_site]] if plan.group_site else 0
            found[row] += [1 if not m.site else next(values[m.site]) for m in plan.measures]
    return found


def ugly(frame: Frame, seed: int) -> Frame:
    """Numbers far beyond all bounds, and missing ones."""
    r = np.random.default_rng(seed)
    pool = [1e300, -1e300, 1.7e308, -1e-300, 0.0, 5e8, None]
    return {
        name: values if name in ("id", "city", "plan") else [pool[at] for at in r.integers(0, len(pool), len(values))]
        for name, values in frame.items()
    }


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(("sql", "grouped"), QUESTIONS)
def test_a_row_changes_one_group_by_no_more_than_the_noise_is_made_for(sql: str, grouped: str, seed: int) -> None:
    """Each row of the helping site in turn counts or not, whatever stands in it; the others add the same as before."""
    asker, partner = ("telco", "bank") if not grouped and seed % 2 else ("bank", "telco")
    frames = drawn_tables(seed, 24)
    if seed > 1:
        frames[partner] = ugly(frames[partner], seed)
    plan, rules = agreed(sql, asker)
    whole = totals(plan, frames, rules)
    for row in (0, 5, 11):
        gone = {
            name: [*v[:row], "nobody" if name == "id" else None, *v[row + 1 :]] for name, v in frames[partner].items()
        }
        without = totals(plan, {**frames, partner: gone}, rules)
        moved = np.abs(whole - without)
        assert moved.any(axis=1).sum() <= 1
        assert (moved <= np.array(rules.mechanism.clip)).all()


@pytest.mark.parametrize(("sql", "grouped"), QUESTIONS)
def test_what_is_agreed_and_told_does_not_depend_on_the_table(sql: str, grouped: str) -> None:
    parts = []
    for seed in range(3):
        frames = drawn_tables(seed, 30)
        plan, rules = agreed(sql, "bank")
        frame = ugly(frames["telco"], seed) if seed else frames["telco"]
        parts.append(contribution(plan, "telco", columns(frame), 5, rules))
    assert len({(part.bits, part.labels, part.values.shape) for part in parts}) == 1
    assert grouped != "telco" or parts[0].labels == GROUPS


def clipped(sql: str) -> str:
    """The question with the bounds written into it."""
    for name, (low, high) in BOUNDS.items():
        text = name.replace("telco", "t")
        inside = f"CASE WHEN {text} IS NULL THEN NULL ELSE greatest({low}, least({high}, {text})) END"
        for total in ("sum", "avg", "var_samp", "stddev_pop"):
            sql = sql.replace(f"{total}({text})", f"{total}({inside})")
    return sql


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize(("sql", "grouped"), QUESTIONS)
def test_without_the_noise_the_answer_is_duckdbs_on_clipped_values(sql: str, grouped: str, seed: int) -> None:
    from atoll.query.statistics.answer import answer

    frames = drawn_tables(seed)
    plan, rules = agreed(sql, "bank")
    found = totals(plan, frames, rules)
    parts = {site: contribution(plan, site, columns(frames[site]), 1, rules) for site in plan.sites}
    labels = parts[plan.group_site].labels if plan.group_site else ((),)
    shown = [at for at in range(len(labels)) if found[at, 0] or not plan.groups]
    mine = answer(plan, [labels[at] for at in shown], found[shown], {site: parts[site].bits for site in plan.sites})
    theirs = by_duckdb(clipped(sql), frames)
    assert len(mine.rows) == len(theirs.rows)
    for row, other in zip(mine.rows, theirs.rows, strict=True):
        for got, want in zip(row, other, strict=True):
            assert got == want if isinstance(want, str) or want is None else abs(got - float(want)) < 1e-3, (row, other)


@pytest.mark.slow
def test_both_sites_get_noise_of_the_told_size_over_a_hidden_join(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cuckoo, "SPARE", 30)
    deal_transfers(monkeypatch)
    for (sql, _), epsilon in zip(QUESTIONS, (100.0, 50.0, 100.0), strict=True):
        frames = drawn_tables(4)
        plan, rules = agreed(sql, "bank", epsilon=epsilon, delta=1e-6 if epsilon == 50.0 else 0.0)
        keys = {site: [str(key).encode() for key in frames[site]["id"]] for site in plan.sites}
        parts = {site: contribution(plan, site, columns(frames[site]), 1, rules) for site in plan.sites}
        a, b, _ = recorded_pair()
        drawn: list[np.ndarray] = []

        def once(groups: int, rules: Private = rules, drawn: list[np.ndarray] = drawn) -> np.ndarray:
            drawn.append(noise(rules.mechanism, groups))
            return drawn[-1]

        options: dict[str, Any] = {"asker": "bank", "minimum": 1, "context": ("test",)}
        found, _ = run_pair(
            ask(a, plan, keys["bank"], parts["bank"], rng=seeded_rng(1), **options),
            help_asker(b, plan, keys["telco"], parts["telco"], rng=seeded_rng(2), noise=once, **options),
        )
        (made,) = drawn
        exact = totals(plan, frames, rules)
        assert (np.abs(made) <= 40 * np.array(rules.mechanism.scales)).all()  # by chance: e^-40
        column = list(found.columns).index("n")
        labels = [row[0] for row in found.rows] if plan.groups else [None]
        order = [
            key[0] for key in (rules.groups or contribution(plan, "bank", columns(frames["bank"]), 1, rules).labels)
        ]
        for label, row in zip(labels, found.rows, strict=True):
            at = order.index(label) if plan.groups else 0
            assert row[column] == exact[at, 0] + made[at, 0]
        hidden = [at for at in range(len(exact)) if plan.groups and order[at] not in labels]
        assert all(exact[at, 0] + made[at, 0] < 1 for at in hidden)


@pytest.mark.slow
def test_a_persons_row_stays_within_epsilon_and_noise_for_each_total_alone_is_noticed() -> None:
    """The most telling person: joins, counts, and has values at the bounds; the event is fixed beforehand."""
    sql = f"select count(*), sum(t.spend), sum(t.tenure * 2) {JOIN}"
    person: Frame = {"id": ["x", "y"], "spend": [80.0, 1.0], "tenure": [30.0, 1.0], "plan": ["A", "A"]}
    bank: Frame = {"id": ["x", "y"], "city": ["a", "a"], "balance": [1.0, 1.0], "age": [40.0, 40.0]}
    plan, rules = agreed(sql, "bank")
    (seen,) = totals(plan, {"bank": bank, "telco": person}, rules)
    (unseen,) = totals(plan, {"bank": bank, "telco": {**person, "id": ["nobody", "y"]}}, rules)
    clip, scales = np.array(rules.mechanism.clip), np.array(rules.mechanism.scales)
    assert (seen - unseen == clip).all()

    def audit(found: np.ndarray) -> float:
        def speaks(x: np.ndarray) -> np.ndarray:
            return ((np.abs(x - unseen) - np.abs(x - seen)) / scales).sum(axis=1) >= 0.5

        return lower_epsilon(speaks(found + seen), speaks(found + unseen))

    assert 0.4 < audit(noise(rules.mechanism, RUNS)) <= 1.0
    alone = [laplace((each,), 1.0).scales[0] for each in rules.mechanism.clip]
    assert audit(draw("laplace", alone, RUNS)) > 1.0


def test_the_plan_says_how_much_noise_there_will_be() -> None:
    plan, rules = agreed(QUESTIONS[2][0], "bank", epsilon=0.5)
    text = "\n".join(explain(plan, "bank", 20, rules))
    assert "telco adds noise to every total before anything is opened (Laplace noise, ε = 0.5)" in text
    assert "privacy budget (隐私预算) of its data set" in text
    count = rules.mechanism.within()[0]
    assert f"±{count} in the number of joined rows" in text
    assert "bank: balance below -50 counts as -50, above 1000 as 1000." in text
    assert "rows of other groups than the 4 that are listed do not count" in text
    assert "learns the names of the groups" not in text
    _, rules = agreed(QUESTIONS[0][0], "telco", delta=1e-6)
    assert "bank adds noise" in rules.lines[0]
    assert "Gaussian noise, ε = 1 and δ = 1e-06" in rules.lines[0]


@pytest.mark.parametrize(
    ("sql", "changes", "words"),
    [
        (f"select median(t.spend) {JOIN}", {}, "single persons' values"),
        (f"select min(b.age), count(*) {JOIN}", {}, "single persons' values"),
        (f"select sum(t.spend) {JOIN}", {"bounds": {}}, "needs bounds for telco.spend"),
        (f"select var_pop(t.spend) {JOIN}", {"bounds": {"t.spent": (0, 1)}}, "neither summed nor averaged"),
        (f"select sum(t.spend) {JOIN}", {"bounds": {"t.spend": (1, 1)}}, "has no range from 1 to 1"),
        (f"select sum(t.spend) {JOIN}", {"bounds": {"t.spend": (0, float("nan"))}}, "has no range"),
        (f"select sum(t.spend) {JOIN}", {"bounds": {"t.spend": (0, float("inf"))}}, "has no range"),
        (f"select sum(t.spend) {JOIN}", {"bounds": {"t.spend": (0, 1e-20)}}, "too narrow a range"),
        (f"select sum(t.spend) {JOIN}", {"bounds": {"t.spend": (0, 2.0**49)}, "epsilon": 0.01}, "larger than 64 bits"),
        (f"select var_pop(t.spend) {JOIN}", {"bounds": {"t.spend": (-1e300, 1e300)}}, "too wide a range"),
        (f"select sum(t.spend) {JOIN}", {"bounds": {"x.spend": (0, 1)}}, "there is no table 'x'"),
        (f"select sum(t.spend) {JOIN}", {"bounds": {"t.spend +": (0, 1)}}, "is not an expression"),
        (f"select sum(t.spend) {JOIN}", {"bounds": {"sum(t.spend)": (0, 1)}}, "which is not supported"),
        (f"select count(*) {JOIN} group by t.plan", {"groups": ()}, "needs a list of the groups of plan"),
        (f"select count(*) {JOIN} group by t.plan", {"groups": (("A", "b"),)}, "do not fit plan"),
        (f"select count(*) {JOIN} group by t.plan", {"groups": (("A",), ("A",))}, "do not fit plan"),
        (f"select count(*) {JOIN} group by b.city", {"groups": (("A",),)}, "groups are listed, and telco makes none"),
    ],
)
def test_what_has_no_answer_with_noise_is_refused_with_the_cure(sql: str, changes: Any, words: str) -> None:
    with pytest.raises(InputError, match=words) as caught:
        agreed(sql, "bank", **changes)
    assert caught.value.cure


def test_too_many_rows_for_wide_bounds_are_refused_before_anything_is_sent() -> None:
    sql = f"select sum(t.spend) {JOIN}"
    plan, rules = agreed(sql, "bank", bounds={"t.spend": (0.0, 2.0**48)}, epsilon=100.0)
    rows = 1 << 14
    frame: Frame = {"id": [str(at) for at in range(rows)], "spend": [1.0] * rows}
    with pytest.raises(InputError, match=r"too wide for 16,384 rows"):
        contribution(plan, "telco", columns(frame), 1, rules)
