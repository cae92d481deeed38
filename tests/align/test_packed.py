"""Keys packed many at once are those that `pack_keys` makes one by one."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from atoll.align import pack_keys
from atoll.align.packed import pack_batch, packed_keys
from atoll.core.errors import InputError
from atoll.crypto.item_hash import Texts

RESIDENT = "11010519491231002X"


def texts(values: list[str]) -> Texts:
    return Texts.of([value.encode(errors="surrogatepass") for value in values])


plain = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=9)
wild = st.one_of(
    plain, plain.map(lambda v: v + " "), st.text(min_size=1, max_size=6), st.sampled_from(["\x1c", "ﬁ", "ß"])
)


def same(columns: list[list[str]], kinds: tuple[str, ...]) -> None:
    for missing in (False, True):
        asked = {"missing": missing}
        packed = outcome(pack_batch, [texts(column) for column in columns], kinds, **asked)
        assert packed == outcome(pack_keys, columns, kinds, **asked)


def outcome(pack: Callable[..., Any], *given: Any, **asked: bool) -> list[bytes] | str:
    """Return the keys, or what is wrong."""
    try:
        keys = pack(*given, **asked)
        return keys.items() if isinstance(keys, Texts) else list(keys)
    except InputError as error:
        return error.what


@given(
    rows=st.lists(st.tuples(plain, plain), max_size=6), kinds=st.tuples(*[st.sampled_from(["text", "caseless"])] * 2)
)
def test_plain_ids(rows: list[tuple[str, str]], kinds: tuple[str, str]) -> None:
    same([[a for a, _ in rows], [b for _, b in rows]], kinds)


@given(rows=st.lists(st.tuples(st.one_of(plain, st.just("")), st.sampled_from(["", " ", "b"])), max_size=6))
def test_rows_that_lack_an_id_have_an_empty_key(rows: list[tuple[str, str]]) -> None:
    columns = [[a for a, _ in rows], [b for _, b in rows]]
    same(columns, ("caseless", "text"))
    keys = pack_keys(columns, ("caseless", "text"), missing=True)
    assert [bool(key) for key in keys] == [bool(a and b.strip()) for a, b in rows]


@given(values=st.lists(wild, min_size=1, max_size=4), kind=st.sampled_from(["text", "caseless"]))
def test_ids_that_are_not_plain(values: list[str], kind: str) -> None:
    same([values], (kind,))


@pytest.mark.parametrize(
    "bad", ["", "  ", "123", "0086138001380", "+86 138", "8613800138000 ", "86-138-0013", "a234567"]
)
def test_phones(bad: str) -> None:
    same([["8613800138000", "1234567"]], ("phone",))
    same([["8613800138000", bad]], ("phone",))


@pytest.mark.parametrize("bad", [RESIDENT.lower(), RESIDENT[:-1] + "1", RESIDENT + "1", "x" * 18, ""])
def test_resident_numbers(bad: str) -> None:
    same([[RESIDENT, RESIDENT]], ("resident",))
    same([[RESIDENT, bad]], ("resident",))


def test_batches_say_where_a_bad_id_is() -> None:
    batches = [(texts(["a", "b"]),), (texts(["c", ""]),)]
    found = packed_keys(batches)
    assert next(found).items() == pack_keys([["a", "b"]])
    with pytest.raises(InputError, match="after the first 2: In id column 1 the id of row 2"):
        next(found)


def test_columns_that_do_not_fit() -> None:
    for columns, kinds in (([], ()), ([texts(["a"]), texts([])], ()), ([texts(["a"])], ("nothing",))):
        with pytest.raises(InputError):
            pack_batch(columns, kinds)


def test_bytes_that_are_no_text_are_refused() -> None:
    with pytest.raises(InputError, match="1 of 1 ids cannot be used"):
        pack_batch([Texts(np.frombuffer(b"\xff" + bytes(16), np.uint8), np.array([0, 1]))])
