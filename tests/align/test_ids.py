"""Canonical ids: the same customer gives the same key, different ones never do, and bad ids are named by row."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from atoll.align import KINDS, canonical, pack_keys, unique_ids
from atoll.core.errors import InputError

SAME = [
    ("text", " A1 ", "A1"),
    ("text", "Ａ１", "A1"),  # full-width letters
    ("text", "\ufeffA1", "A1"),
    ("text", "e\u0301", "é"),
    ("text", "\u3000张三\u3000", "张三"),
    ("text", "A1 \u200b ", "A1"),
    ("caseless", "Straße", "STRASSE"),
    ("caseless", "İx", "i̇X"),
    ("email", " Li.Wei@Example.COM ", "li.wei@example.com"),
    ("email", "ｌｉ＠ｅｘａｍｐｌｅ．ｃｏｍ", "li@example.com"),
    ("email", "Straße@例子.中国", "STRASSE@例子.中国"),
    ("phone", "+86 138-0000-0000", "0086 (138) 00000000"),
    ("phone", "＋８６１３８００００００００", "8613800000000"),
    ("resident", "11010519491231002x", " 11010519491231002X"),
]


@pytest.mark.parametrize(("kind", "one", "other"), SAME)
def test_ways_of_writing_one_id(kind: str, one: str, other: str) -> None:
    assert canonical(one, kind) == canonical(other, kind)
    assert pack_keys([[one]], [kind]) == pack_keys([[other]], [kind])


def test_case_counts_where_nothing_else_is_said() -> None:
    assert canonical("a") != canonical("A")
    assert canonical("007") != canonical("7")


@given(st.text(), st.sampled_from(["text", "caseless"]))
def test_canonical_forms_stay_as_they_are(value: str, kind: str) -> None:
    once = canonical(value, kind)
    assert canonical(once, kind) == once


@given(st.lists(st.tuples(st.text("ab:\x00\x1f", min_size=1), st.text("ab:\x00\x1f", min_size=1)), max_size=8))
def test_composite_keys_are_equal_only_for_equal_ids(rows: list[tuple[str, str]]) -> None:
    rows = [row for row in rows if all(canonical(part) for part in row)]
    if rows:
        keys = pack_keys([[a for a, _ in rows], [b for _, b in rows]])
        ids = [tuple(map(canonical, row)) for row in rows]
        assert [keys.index(key) for key in keys] == [ids.index(one) for one in ids]


def test_dots_and_plus_tags_of_an_address_count() -> None:
    assert canonical("li.wei@a.cn", "email") != canonical("liwei@a.cn", "email")
    assert canonical("li+shop@a.cn", "email") != canonical("li@a.cn", "email")


def test_kinds_keep_columns_apart() -> None:
    keys = {pack_keys([["8613800000000"]], [kind])[0] for kind in KINDS if kind not in ("email", "resident")}
    assert len(keys) == 3
    assert pack_keys([["a"], ["b"]]) != pack_keys([["ab"], [""[:0] or "c"]])


def test_frozen_key() -> None:
    assert pack_keys([["A1"], ["张"]], ["caseless", "text"]) == [
        b"caseless:\x00\x00\x00\x02a1text:\x00\x00\x00\x03\xe5\xbc\xa0"
    ]


@pytest.mark.parametrize(
    ("kind", "value", "why"),
    [
        ("text", "", "missing"),
        ("text", " \ufeff", "missing"),
        ("text", "\ud800", "not valid Unicode"),
        ("email", "li.wei", "not an e-mail address"),
        ("email", "@example.com", "not an e-mail address"),
        ("email", "li@", "not an e-mail address"),
        ("email", "li@wei@example.com", "not an e-mail address"),
        ("email", "li wei@example.com", "not an e-mail address"),
        ("phone", "12345", "not a phone number"),
        ("phone", "abc", "not a phone number"),
        ("phone", "٠١٢٣٤٥٦٧", "not a phone number"),
        ("resident", "110105194912310021", "wrong check character"),
        ("resident", "11010519491231", "not an 18-character"),
    ],
)
def test_bad_ids_are_named_by_row_and_never_shown(kind: str, value: str, why: str) -> None:
    good = {"text": "a", "email": "a@b.cn", "phone": "8613800000000", "resident": "11010519491231002X"}[kind]
    with pytest.raises(InputError, match=f"1 of 3 ids .* row 2 .*{why}") as error:
        pack_keys([[good, value, good]], [kind])
    assert not value or value not in str(error.value) or value.isspace()


def test_columns_that_do_not_fit_are_refused() -> None:
    for columns, kinds in (([], []), ([["a"], []], []), ([["a"]], ["text", "text"])):
        with pytest.raises(InputError, match="equally long"):
            pack_keys(columns, kinds)
    with pytest.raises(InputError, match="unknown kind of id 'mail'"):
        pack_keys([["a"]], ["mail"])
    with pytest.raises(InputError, match="unknown kind"):
        canonical("a", "mail")
    with pytest.raises(InputError, match="not a phone"):
        canonical("a", "phone")


def test_numbers_are_not_guessed_to_be_text() -> None:
    with pytest.raises(InputError, match="missing"):
        pack_keys([np.array([1, 2], object)])


@given(st.lists(st.sampled_from([b"a", b"b", b"c", b"d"])))
def test_each_key_once_with_its_rows(keys: list[bytes]) -> None:
    ids = unique_ids(keys)
    assert ids.keys == list(dict.fromkeys(keys))
    assert ids.repeated == len(keys) - len(set(keys))
    everything = np.arange(len(ids.keys))
    assert ids.first(everything).tolist() == [keys.index(key) for key in ids.keys]
    spans = zip(ids.starts[:-1].tolist(), ids.starts[1:].tolist(), strict=True)
    assert [[keys[row] for row in ids.rows[lo:hi]] for lo, hi in spans] == [[key] * keys.count(key) for key in ids.keys]
    assert sorted(ids.rows.tolist()) == list(range(len(keys)))
