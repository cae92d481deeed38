"""Keys of rows that may lack some, what is brought to a comparison, and what is taken out after it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from atoll.align import pack_keys, row_keys
from atoll.align.matching import match
from atoll.align.row_keys import Offer, RowKeys
from atoll.core.errors import InputError, ProtocolError
from atoll.testing import seeded_rng

TEXTS = st.lists(st.sampled_from(["", "a", "b", "A", "ﬁ", " ", "张"]), min_size=1, max_size=9)


def keys_of(*columns: Sequence[str], kinds: tuple[str, ...] = ()) -> RowKeys:
    return RowKeys.of([np.array(column, object) for column in columns], kinds, rng=seeded_rng(1))


def whole(*columns: Sequence[str]) -> list[bytes | None]:
    """The key of every row, one by one; None where a part is missing."""
    return [pack_keys([[text] for text in row])[0] if all(map(str.strip, row)) else None for row in zip(*columns)]  # noqa: B905


@given(rows=st.lists(st.tuples(st.sampled_from(["", "a", "b", " ", "ﬁ"]), st.sampled_from(["", "x", "y"])), min_size=1))
def test_keys_are_those_of_single_rows_and_know_their_likes(rows: list[tuple[str, str]]) -> None:
    columns = [a for a, _ in rows], [b for _, b in rows]
    keys, wanted = keys_of(*columns), whole(*columns)
    assert [key or None for texts in keys.batches() for key in texts.items()] == wanted
    assert keys.same.tolist() == [-1 if key is None else wanted.index(key) for key in wanted]
    alone = [wanted.count(key) == 1 and key is not None for key in wanted]
    assert (keys.unshared().same >= 0).tolist() == alone
    there = [key for key in wanted if key is not None]
    assert keys.repeated == len(there) - len(set(there))


@given(texts=TEXTS, data=st.data())
def test_the_first_open_row_of_a_key_brings_it_for_all(texts: list[str], data: st.DataObject) -> None:
    keys, wanted = keys_of(texts), whole(texts)
    open_rows = np.array(data.draw(st.lists(st.booleans(), min_size=len(texts), max_size=len(texts))))
    firsts: dict[bytes, int] = {}
    for row, key in enumerate(wanted):
        if key is not None and open_rows[row]:
            firsts.setdefault(key, row)
    brought = keys.brought(open_rows)
    assert np.flatnonzero(brought).tolist() == list(firsts.values())
    rows = np.flatnonzero(brought)[::-1]
    shared = keys.sharing(rows, open_rows)
    for row, key in enumerate(wanted):
        assert shared[row] == (rows.tolist().index(firsts[key]) if key in firsts and open_rows[row] else -1)


def test_an_offer_hides_what_is_not_brought(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(row_keys, "BATCH", 3)
    texts = ["a", "", "b", "c", "d", "e", "f"]
    keys = keys_of(texts)
    rows = np.array([True, False, False, True, True, True, True])
    items = Offer(keys, rows, 11, seeded_rng(2)).items()
    assert len(items) == 11
    assert [item for item in items if not item.startswith(b"none:")] == pack_keys([["a", "c", "d", "e", "f"]])
    assert len(set(items)) == 11
    assert {len(item) for item in items if item.startswith(b"none:")} == {21}


def test_a_bad_id_is_named_by_its_row(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(row_keys, "BATCH", 2)
    with pytest.raises(InputError, match="after the first 2: In id column 1 the id of row 2"):
        keys_of(["", "8613800000000", "", "none"], kinds=("phone",))
    with pytest.raises(InputError, match="not valid Unicode"):
        keys_of(["\ud800"])


@pytest.mark.parametrize("row", [1, 2, 3])
def test_a_row_that_was_not_brought_cannot_be_matched(row: int) -> None:
    async def compare(number: int, offer: Offer, before: int) -> np.ndarray:
        return np.array([row])

    with pytest.raises(ProtocolError, match="was not brought"):
        asyncio.run(match([keys_of(["a", "", "a"])], compare, rng=seeded_rng(1), multiple=4))


def test_what_is_matched_is_brought_again_only_where_the_other_site_may_repeat() -> None:
    brought: list[list[int]] = []

    async def compare(number: int, offer: Offer, before: int) -> np.ndarray:
        brought.append(np.flatnonzero(offer.rows).tolist())
        return np.array([0] if number == 0 else [1])

    candidates = [keys_of(["a", "b", "c"]), keys_of(["", "e", "f"])]
    found = asyncio.run(match(candidates, compare, rng=seeded_rng(1)))
    assert brought == [[0, 1, 2], [1, 2]]
    assert (found.rows.tolist(), found.pair.tolist(), found.counts) == ([0, 1], [0, 1, -1], (1, 1))
    assert found.candidate(found.pair).tolist() == [1, 2, 0]
    brought.clear()
    asyncio.run(match([candidates[0], candidates[0]], compare, rng=seeded_rng(1), again=True))
    assert brought == [[0, 1, 2], [0, 1, 2]]
