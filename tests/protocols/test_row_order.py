"""The order of rows that are repeated or missing keeps its card, and a hub that breaks the agreement is caught."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from atoll.core.errors import ProtocolError
from atoll.protocols import row_order
from atoll.protocols.row_order import PROTOCOL, Others, Places
from atoll.testing import ProtocolCheck, check_protocol, end_pair, run_pair, seeded_rng
from atoll.transport.memory import memory_pair

Case = tuple[list[int], list[int], bool, bool]


def rows(*places: int) -> np.ndarray:
    return np.array(places, np.int64)


def followed(case: Case) -> np.ndarray:
    pairs, matched, _, _ = case
    return rows(*(matched[pair] if pair >= 0 else -1 for pair in pairs))


def test_it_keeps_its_card() -> None:
    check_protocol(
        ProtocolCheck[Case](
            protocol=PROTOCOL,
            cases=[
                ([1, -1, 0, 0], [7, 5], True, True),
                ([0], [3], False, False),
                ([-1], [], True, False),
                ([2, 0, 1, -1], [9, 8, 9], True, False),  # one row of the partner in two pairs, by different keys
            ],
            first=lambda peer, case, rng: row_order.lead(peer, rows(*case[0])),
            second=lambda peer, case, rng: row_order.follow(
                peer, rows(*case[1]), absent=case[2], repeats=case[3], rng=rng
            ),
            reference=lambda case: (0, followed(case)),
            max_bytes=lambda case: 8 * len(case[0]) + 200,
        )
    )


def test_other_rows_of_the_partner_follow() -> None:
    a, b = memory_pair(allowed=PROTOCOL.kinds)
    more, got = run_pair(
        row_order.lead(a, rows(0, -1), others=True),
        row_order.follow(b, rows(4), absent=True, repeats=False, others=rows(0, 1, 2, 3), rng=seeded_rng(1)),
    )
    assert more == 4
    assert got[:2].tolist() == [4, -1]
    assert sorted(got[2:].tolist()) == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("pairs", "options", "words"),
    [
        ([0, 2], {}, "a pair that there is not"),
        ([0, 1, -2], {"absent": True}, "a pair that there is not"),
        ([0, 1, -1], {}, "a pair that there is not"),
        ([0, 1, 1], {}, "names one twice"),
        ([1], {"repeats": True}, "leaves out a pair"),
        ([], {"absent": True, "repeats": True}, "leaves out a pair"),
    ],
)
def test_orders_that_break_the_agreement(pairs: list[int], options: dict[str, Any], words: str) -> None:
    a, b = memory_pair()
    asked = {"absent": False, "repeats": False, **options}
    _, error = end_pair(a.send(Places(rows(*pairs))), row_order.follow(b, rows(5, 6), **asked, rng=seeded_rng(1)))
    assert isinstance(error, ProtocolError)
    assert words in str(error)


@pytest.mark.parametrize("count", [-1, row_order.LARGEST + 1])
def test_impossible_numbers_of_other_rows(count: int) -> None:
    a, b = memory_pair()

    async def partner() -> None:
        await b.recv(Places, pairs=(1,))
        await b.send(Others(count))

    error, _ = end_pair(row_order.lead(a, rows(-1), others=True), partner())
    assert isinstance(error, ProtocolError)
    assert "other rows" in str(error)
