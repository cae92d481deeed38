"""Sites find out whether their columns mean the same, and neither side believes nonsense of the other."""

from __future__ import annotations

import asyncio
from typing import Any

import numpy as np
import pytest

from atoll.core.channel import Channel
from atoll.core.errors import InputError, ProtocolError
from atoll.data.columns import Column, Columns
from atoll.data.schema import ColumnSchema, Schema
from atoll.node.coding import OTHER, coded, matrix, merged, terms_of
from atoll.node.steps import compare
from atoll.node.steps.compare import Common, Held
from atoll.testing import check_card, run_pair
from atoll.transport.memory import memory_pair

AGE = ColumnSchema("age", "numeric", "years")
SEX = ColumnSchema("sex", "categorical", "", ("f", "m"))
MINE = Schema((AGE, SEX))


def agree(hub: Schema | None, *others: Schema) -> list[Schema]:
    """What every site ends with."""
    links = [memory_pair("centre", f"site{at}", timeout=1.0) for at in range(len(others))]
    roles = [
        compare.aggregator({f"site{at}": ends[0] for at, ends in enumerate(links)}, hub, "centre"),
        *(compare.member(ends[1], held) for ends, held in zip(links, others, strict=True)),
    ]

    async def run() -> list[Schema]:
        async with asyncio.timeout(5):
            return list(await asyncio.gather(*roles))

    return asyncio.run(run())


def test_all_sites_end_with_all_categories_in_one_order() -> None:
    other = Schema((ColumnSchema("sex", "categorical", "", ("m", "x")), AGE))
    found = agree(MINE, other, MINE)
    assert found == [Schema((AGE, ColumnSchema("sex", "categorical", "", ("f", "m", "x"))))] * 3
    assert agree(None, other, MINE)[0].columns[0].categories == ("f", "m", "x")


@pytest.mark.parametrize(
    ("other", "words"),
    [
        (ColumnSchema("age", "numeric", "months"), "'age', unit: years at centre; months at site0"),
        (ColumnSchema("age", "categorical", "", ("old",)), "'age', kind: numeric at centre; categorical at site0"),
        (ColumnSchema("Age", "numeric", "years"), "centre has 'age': is it the same"),
    ],
)
def test_every_difference_is_named_with_its_cure(other: ColumnSchema, words: str) -> None:
    with pytest.raises(InputError, match="the sites' columns differ") as caught:
        agree(MINE, Schema((other, ColumnSchema("sex", "categorical", "", ("F", "m")))))
    assert words in str(caught.value)
    assert "'F' and 'f': one value?" in str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"[]",
        b'{"columns": [{"name": "a", "kind": "numeric"}, {"name": "a", "kind": "numeric"}]}',
        b'{"columns": [{"name": "a", "kind": "categorical", "categories": ["y", "x"]}]}',
        b'{"columns": [{"name": "a", "kind": "text"}]}',
    ],
)
def test_what_is_no_schema_is_refused(text: bytes) -> None:
    a, b = memory_pair("centre", "site", timeout=1.0)
    with pytest.raises(ProtocolError, match="sent"):
        run_pair(compare.aggregator({"site": a}, MINE, "centre"), b.send(Held(np.frombuffer(text, np.uint8))))


@pytest.mark.parametrize(
    "told",
    [
        Schema((AGE,)),
        Schema((AGE, ColumnSchema("sex", "categorical", "", ("f",)))),
        Schema((AGE, ColumnSchema("sex", "numeric"))),
        Schema((AGE, ColumnSchema("income", "numeric"))),
        Schema((ColumnSchema("age", "numeric", "months"), SEX)),
    ],
)
def test_a_member_does_not_take_what_leaves_out_its_own(told: Schema) -> None:
    a, b = memory_pair("centre", "site", timeout=1.0)

    async def liar(peer: Channel) -> None:
        from atoll.core.message import AtMost

        await peer.recv(Held, schema=(AtMost(10_000),))
        await peer.send(Common(compare._array(told)))

    with pytest.raises(ProtocolError, match="centre"):
        run_pair(liar(a), compare.member(b, MINE))


def test_the_card_is_complete() -> None:
    check_card(compare.PROTOCOL)


@pytest.mark.parametrize(
    ("counts", "minimum", "names", "rows"),
    [
        ((5, 20, 30), 5, ("a", "b", "c"), [5, 20, 30]),
        ((5, 20, 30), 6, ("c", OTHER), [30, 25]),
        ((3, 4, 30), 6, ("c", OTHER), [30, 7]),
        ((1, 1, 1), 6, (OTHER,), [3]),
    ],
)
def test_rare_categories_are_put_together(counts: Any, minimum: int, names: Any, rows: list[int]) -> None:
    column = ColumnSchema("k", "categorical", "", ("a", "b", "c"))
    kept, found = merged(column, np.array(counts), minimum)
    assert kept.categories == names
    assert found.tolist() == rows


def test_columns_become_numbers_with_the_agreed_categories() -> None:
    own = Columns(
        (
            Column("k", "categorical", np.array([0, 1, 2, -1], np.int32), ("b", "c", "z")),
            Column("x", "numeric", np.array([1.0, np.nan, 3.0, 4.0])),
        ),
        4,
    )
    agreed = (ColumnSchema("x", "numeric"), ColumnSchema("k", "categorical", "", ("a", "b", OTHER)))
    X = matrix(coded(own, agreed), baseline=True)
    assert terms_of(agreed, baseline=True) == ("x", "k=b", f"k={OTHER}")
    np.testing.assert_array_equal(X, [[1, 1, 0], [np.nan, 0, 1], [3, 0, 1], [4, np.nan, np.nan]])
    assert matrix(coded(None, agreed), baseline=False).shape == (0, 4)
    without = (ColumnSchema("k", "categorical", "", ("a", "b")),)
    np.testing.assert_array_equal(coded(own, without).columns[0].values, [1, -1, -1, -1])
    with pytest.raises(InputError, match="no column 'y'"):
        coded(own, (ColumnSchema("y", "numeric"),))
    with pytest.raises(InputError, match="numeric, not categorical"):
        coded(own, (ColumnSchema("x", "categorical"),))
