"""Every form of step align against plain joins: rows, repeats, several keys, several partners; and what nobody sees."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from atoll.core.errors import InputError
from atoll.data import buckets
from atoll.node.steps import comparisons
from tests.node.aligned import align, job_of, values

NAMES = ["张三", "Ａ1", "A1 ", "b", "c", "d", "e\u0301", "f", "g"]
ONE = st.lists(st.sampled_from(NAMES), unique_by=lambda name: {"Ａ1": "A1", "A1 ": "A1"}.get(name, name), min_size=1)
MANY = st.lists(st.sampled_from(NAMES), min_size=1, max_size=14)
PAIR = {"bank": "id", "shop": "id"}


def frame(ids: list[str], first: int) -> dict[str, list[Any]]:
    return {"id": ids, "v": [float(first + at) for at in range(len(ids))]}


def plain(frame: dict[str, list[Any]]) -> pl.DataFrame:
    ids = [name.replace("Ａ", "A").strip().replace("e\u0301", "é") for name in frame["id"]]
    return pl.DataFrame({"id": ids, "v": frame["v"]})


def rows_of(works: dict[str, Any]) -> Counter[tuple[float | None, ...]]:
    return Counter(zip(*(values(work) for work in works.values()), strict=True))


@pytest.mark.parametrize("rows", ["common", "label-holder", "union"])
@pytest.mark.parametrize("repeats", ["refuse", "join"])
@settings(max_examples=12)
@given(data=st.data())
def test_the_rows_of_two_sites_are_those_of_a_plain_join(rows: str, repeats: str, data: st.DataObject) -> None:
    bank = frame(data.draw(MANY if repeats == "join" else ONE), 0)
    shop = frame(data.draw(ONE), 100)
    how: Any = {"common": "inner", "label-holder": "left", "union": "full"}[rows]
    joined = plain(bank).join(plain(shop), on="id", how=how, suffix="_shop")
    job = job_of(PAIR, {"rows": rows, "repeats": repeats, "protocol": "ecdh"})
    if not set(plain(bank)["id"]) & set(plain(shop)["id"]):
        with pytest.raises(InputError, match=r"no row is (in common with|common to)"):
            align({"bank": bank, "shop": shop}, job)
        return
    works, _ = align({"bank": bank, "shop": shop}, job)
    assert rows_of(works) == Counter(zip(joined["v"], joined["v_shop"], strict=True))


@settings(max_examples=12)
@given(bank=MANY, shop=ONE)
def test_a_difference_is_a_plain_anti_join_and_only_the_label_holder_learns_it(
    bank: list[str], shop: list[str]
) -> None:
    frames = {"bank": frame(bank, 0), "shop": frame(shop, 100)}
    works, audit = align(frames, job_of(PAIR, {"rows": "difference", "repeats": "join", "protocol": "ecdh"}))
    rest = plain(frames["bank"]).join(plain(frames["shop"]), on="id", how="anti")
    assert values(works["bank"]) == rest["v"].to_list()
    assert values(works["shop"]) == []
    assert [line.split(",")[0] for line in works["bank"].state["file"][1:]] == [
        frames["bank"]["id"][int(row)] for row in rest["v"]
    ]
    assert not works["shop"].state["file"]
    assert not any("Positions" in line.kind or "Places" in line.kind for line in audit["shop"])


def drawn(seed: int, n: int, first: int, shared: float = 0.0) -> dict[str, list[Any]]:
    """A table of persons by phone, e-mail, and name with birthday, each missing now and then, some shared or none."""
    draw = np.random.default_rng(seed)
    person = draw.permutation(24)[:n]

    def column(prefix: str, stray: float) -> list[str]:
        other = np.where(draw.random(n) < stray, draw.permutation(24)[:n] + 24 * (first + 1), person)
        other[draw.random(n) < shared] = 7
        there = draw.random(n) < 0.6
        return [f"{prefix}{value}" if here else "" for value, here in zip(other.tolist(), there.tolist(), strict=True)]

    phone, mail = column("p", 0.2), column("m", 0.3)
    name = [f"n{value % 5}" for value in person.tolist()]
    return {"phone": phone, "mail": mail, "name": name, "born": [f"b{value // 5}" for value in person.tolist()],
            "v": [first * 100.0 + at for at in range(n)]}  # fmt: skip


TWO = [["phone"], ["mail"]]
KEYS = [["phone"], ["mail"], ["name", "born"]]


def by_rules(tables: list[dict[str, list[Any]]], keys: list[list[str]]) -> list[tuple[tuple[float, ...], int]]:
    """Ranked deterministic rules, in plain Python: rows of all tables that agree on a key are taken out together.

    A key that stands twice in a table counts for nobody.
    """
    left = [list(range(len(table["v"]))) for table in tables]
    found = []
    for number, key in enumerate(keys, 1):
        places = []
        for table, rows in zip(tables, left, strict=True):
            texts = [tuple(table[name][row] for name in key) for row in range(len(table["v"]))]
            places.append({texts[row]: row for row in rows if all(texts[row]) and texts.count(texts[row]) == 1})
        for both in set(places[0]).intersection(*places[1:]):
            rows = [place[both] for place in places]
            found.append((tuple(table["v"][row] for table, row in zip(tables, rows, strict=True)), number))
            for own, row in zip(left, rows, strict=True):
                own.remove(row)
    return sorted(found)


@pytest.mark.parametrize("repeats", ["refuse", "skip"])
@settings(max_examples=15)
@given(seed=st.integers(0, 10_000), n=st.integers(1, 20), m=st.integers(1, 20), keys=st.permutations(KEYS))
def test_rows_are_matched_by_the_first_key_on_which_they_agree(
    repeats: str, seed: int, n: int, m: int, keys: list[list[str]]
) -> None:
    shared = 0.3 if repeats == "skip" else 0.0
    bank, shop = drawn(seed, n, 0, shared), drawn(seed + 1, m, 1, shared)
    wanted = by_rules([bank, shop], keys)
    step = {"protocol": "ecdh", "minimum": max(1, len(wanted)), "repeats": repeats}
    job = job_of({"bank": keys, "shop": keys}, step)
    if not wanted:
        with pytest.raises(InputError, match="no row is common"):
            align({"bank": bank, "shop": shop}, job)
        return
    works, _ = align({"bank": bank, "shop": shop}, job)
    by = [int(line.rsplit(",", 1)[1]) for line in works["bank"].state["file"][1:]]
    pairs = zip(values(works["bank"]), values(works["shop"]), strict=True)
    assert sorted(zip(pairs, by, strict=True)) == wanted


@pytest.mark.parametrize("protocol", ["vole", "ecdh"])
def test_three_sites_match_by_keys_on_which_all_agree(protocol: str) -> None:
    tables = {name: drawn(seed, 20, first) for first, (name, seed) in enumerate(zip("abc", (1, 2, 5), strict=True))}
    wanted = by_rules(list(tables.values()), KEYS)
    assert {number for _, number in wanted} >= {1, 3}
    job = job_of(dict.fromkeys(tables, KEYS), {"protocol": protocol, "minimum": len(wanted)})
    works, _ = align(tables, job)
    rows = zip(*(values(work) for work in works.values()), strict=True)
    assert sorted(rows) == [row for row, _ in wanted]
    few = job_of(dict.fromkeys(tables, KEYS), {"protocol": protocol, "minimum": len(wanted) + 1})
    with pytest.raises(InputError, match="common to all sites") as caught:
        align(tables, few)
    assert str(len(wanted)) in str(caught.value)


@pytest.mark.parametrize("repeats", ["refuse", "join"])
def test_each_partner_is_joined_for_itself_to_all_rows_of_the_label_holder(repeats: str) -> None:
    ids = [f"i{at}" for at in range(20)]
    a, b, c = frame(ids, 0), frame(ids[5:], 100), frame(ids[:8], 200)
    if repeats == "join":
        a = frame([*ids, "i6", "i6", "i19"], 0)
    joined = plain(a).join(plain(b), on="id", how="left", suffix="_b").join(plain(c), on="id", how="left", suffix="_c")
    job = job_of(dict.fromkeys("abc", "id"), {"rows": "label-holder", "repeats": repeats})
    works, _ = align({"a": a, "b": b, "c": c}, job)
    assert rows_of(works) == Counter(zip(joined["v"], joined["v_b"], joined["v_c"], strict=True))
    assert works["a"].report["overlaps"] == {"b": 15, "c": 8}


def test_many_ids_wait_on_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Any] = []
    unnamed = buckets.unnamed_file
    monkeypatch.setattr(comparisons, "ON_DISK", 10)
    monkeypatch.setattr(buckets, "unnamed_file", lambda folder: made.append(folder) or unnamed(folder))
    frames = {"bank": frame([f"{at}" for at in range(40)], 0), "shop": frame([f"{at}" for at in range(30, 45)], 100)}
    works, _ = align(frames, job_of(PAIR, {}))
    assert rows_of(works) == Counter((float(at), 70.0 + at) for at in range(30, 40))
    assert {folder.name for folder in made} == {"bank", "shop"}


def test_rows_of_one_id_are_joined_by_each_key_of_their_own() -> None:
    bank = {"phone": ["1", "1", "", "2", "9"], "mail": ["a", "b", "a", "c", "c"], "v": [0.0, 1.0, 2.0, 3.0, 4.0]}
    shop = {"phone": ["1", "3"], "mail": ["a", "c"], "v": [10.0, 11.0]}
    job = job_of({"bank": TWO, "shop": TWO}, {"repeats": "join", "protocol": "ecdh"})
    works, _ = align({"bank": bank, "shop": shop}, job)
    assert rows_of(works) == Counter([(0.0, 10.0), (1.0, 10.0), (2.0, 10.0), (3.0, 11.0), (4.0, 11.0)])
    assert works["bank"].state["line"].startswith("5 of 5")
    assert "(1 by phone, 2 by mail)" in works["bank"].state["line"]


def test_a_difference_without_rows_is_an_empty_list() -> None:
    frames = {"bank": frame(["x"], 0), "shop": frame(["y", "x"], 100)}
    works, _ = align(frames, job_of(PAIR, {"rows": "difference", "protocol": "ecdh"}))
    assert works["bank"].state["file"] == ["id,key at shop"]
    assert works["bank"].state["line"] == "0 of 1 customers are at no other site"


def test_padding_and_a_single_row() -> None:
    one = {"bank": frame(["x"], 0), "shop": frame(["x", "y"], 100)}
    works, _ = align(one, job_of(PAIR, {"pad_to": 50, "rows": "union", "protocol": "ecdh"}))
    assert rows_of(works) == Counter([(0.0, 100.0), (None, 101.0)])
    assert works["shop"].state["file"][0] == "id"
    assert sorted(works["bank"].state["file"]) == [",0", "id,key at shop", "x,1"]


def test_what_matched_rows_hold_in_later_keys_is_seen_by_nobody() -> None:
    """The messages are the same, bit for bit, whatever the later keys of rows that are matched by the first one."""
    bank = {"phone": ["1", "2", "", "4"], "mail": ["a", "b", "c", "d"], "v": [0.0, 1.0, 2.0, 3.0]}
    shop = {"phone": ["1", "", "3", "2"], "mail": ["k", "c", "l", "m"], "v": [10.0, 11.0, 12.0, 13.0]}
    other_bank = bank | {"mail": ["l", "", "c", "d"]}  # row 1 shares an e-mail with row 3 of the shop, row 2 lacks one
    other_shop = shop | {"mail": ["d", "c", "l", ""]}
    job = job_of({"bank": TWO, "shop": TWO}, {"protocol": "ecdh"})
    seen = []
    for frames in ({"bank": bank, "shop": shop}, {"bank": other_bank, "shop": other_shop}):
        works, audit = align(frames, job)
        assert rows_of(works) == Counter([(0.0, 10.0), (1.0, 13.0), (2.0, 11.0)])
        seen.append({name: Counter((line.kind, line.sha256) for line in lines) for name, lines in audit.items()})
    assert seen[0] == seen[1]


@pytest.mark.parametrize(
    ("ids", "step", "frames", "words"),
    [
        ([["a"], ["b"]], {}, {"a": ["1", "", " "], "b": ["", "2", ""]}, "1 rows have no id"),
        ("a", {}, {"a": ["1", "2", "\u3000"], "b": ["4", "5", "6"]}, "1 rows have no id"),
        (["a", "b"], {}, {"a": ["1", "2", "3"], "b": ["4", "5", ""]}, "1 rows have no id"),
        ([["a"], ["b"]], {}, {"a": ["1", "1", ""], "b": ["", "2", "3"]}, "1 of 3 rows repeat an id"),
        ([["a", "b"], ["b"]], {}, {"a": ["1", "1", "1"], "b": ["2", "2", "3"]}, "1 of 3 rows repeat an id"),
        ([["a"], ["b"]], {"kinds": ["text", "phone"]}, {"a": ["1", "2", "3"], "b": ["", "no", ""]}, "1 of 3 ids"),
        ([["a"], ["b"]], {"kinds": ["text"]}, {"a": ["1", "2", "3"], "b": ["4", "5", "6"]}, "1 kinds for 2 id"),
        ("a", {"repeats": "join"}, {"a": ["1", "1", "2"], "b": ["4", "5", "6"]}, "1 of 3 rows repeat an id"),
    ],
)
def test_tables_that_cannot_be_matched(ids: Any, step: dict[str, Any], frames: dict[str, Any], words: str) -> None:
    good = {"a": ["7", "8", "9"], "b": ["8613800000007", "8613800000008", "8613800000009"], "v": [0.0, 1.0, 2.0]}
    job = job_of({"bank": ids, "shop": ids}, step)
    with pytest.raises(InputError, match=words) as caught:
        align({"bank": good, "shop": {**frames, "v": [0.0, 1.0, 2.0]}}, job)
    assert caught.value.cure


@pytest.mark.parametrize(
    ("ids", "step", "later", "words"),
    [
        (PAIR, {"rows": "difference"}, [{"step": "split"}], "later steps can make nothing"),
        (PAIR, {"rows": "union"}, [{"step": "split"}], "later steps can make nothing"),
        (dict.fromkeys("abc", "id"), {"rows": "union"}, [], "a union is of two sites"),
        (dict.fromkeys("abc", "id"), {"rows": "label-holder", "security": "malicious"}, [], "notices cheating"),
    ],
)
def test_forms_that_do_not_fit_the_job(ids: Any, step: Any, later: Any, words: str) -> None:
    frames = dict.fromkeys(ids, frame(["x", "y"], 0))
    with pytest.raises(InputError, match=words):
        align(frames, job_of(ids, step, later))


def test_people_read_who_learns_what_before_they_approve() -> None:
    from atoll.node.steps import build

    def said(ids: Any, **step: Any) -> str:
        job = job_of(ids, step)
        return "\n".join(build(job)[0].says(job))

    assert not said(PAIR)
    keys = said(dict.fromkeys("abc", KEYS))
    assert "phone, else mail, else name + born" in keys
    assert "All sites must agree on the same key" in keys
    assert "how many rows bank has" in said(PAIR, rows="label-holder")
    assert "not which of them it has" in said(PAIR, rows="difference")
    assert "how many rows bank has of each id" in said(PAIR, repeats="join")
    assert "how many rows bank has of each id" not in said(PAIR, repeats="join", rows="difference")
    assert "one order of all rows" in said(PAIR, rows="union")
