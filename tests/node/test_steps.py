"""The node's own small protocols and steps."""

from __future__ import annotations

import io

import numpy as np
import pytest

from atoll.core.errors import InputError, ProtocolError
from atoll.data.columns import Column, Columns
from atoll.learn.vertical.trees.model import UsedColumn
from atoll.node.progress import JsonLines, Lines, Rate, size, waiting_for
from atoll.node.steps import evaluate, split
from atoll.node.steps.predict import as_trained
from atoll.node.steps.split import Split, draw
from atoll.testing import check_card, run_pair
from atoll.transport.memory import memory_pair


def ids(n: int) -> list[np.ndarray]:
    return [np.array([f"C{i}" for i in range(n)], object)]


def test_a_customer_stays_in_its_part_whatever_the_others_are() -> None:
    params = Split(validation=0.1, test=0.2)
    part = draw(ids(5000), params)
    assert np.array_equal(part[:100], draw(ids(100), params))
    shares = np.bincount(part, minlength=3) / 5000
    assert np.allclose(shares, [0.7, 0.1, 0.2], atol=0.02)
    assert not np.array_equal(part, draw(ids(5000), Split(validation=0.1, test=0.2, seed=1)))
    assert np.array_equal(part == split.TEST, draw(ids(5000), Split(test=0.2)) == split.TEST)
    with pytest.raises(InputError, match="too little"):
        Split(validation=0.5, test=0.5)


def test_parts_are_announced_and_checked() -> None:
    part = draw(ids(50), Split(validation=0.3))
    a, b = memory_pair(allowed=split.PROTOCOL.kinds)
    _, learnt = run_pair(split.announce(a, part), split.learn(b, 50))
    assert np.array_equal(learnt == split.TEST, part == split.TEST)
    assert split.VALIDATION not in learnt
    a, b = memory_pair()
    with pytest.raises(ProtocolError, match="neither"):
        run_pair(a.send(split.TestRows(np.full(50, 3, np.uint8))), split.learn(b, 50))
    a, b = memory_pair()
    with pytest.raises(ProtocolError, match="shape"):
        run_pair(split.announce(a, part), split.learn(b, 49))


def test_figures_are_announced() -> None:
    figures = evaluate.Figures(10, 0.6, 0.2, 0.7, 0.3)
    a, b = memory_pair(allowed=evaluate.PROTOCOL.kinds)
    _, learnt = run_pair(evaluate.announce(a, figures), evaluate.learn(b))
    assert learnt == figures


def test_cards_are_complete() -> None:
    for protocol in (split.PROTOCOL, evaluate.PROTOCOL):
        check_card(protocol)


def test_new_categories_become_missing() -> None:
    column = Column("k", "categorical", np.array([0, 1, -1, 2], np.int32), ("a", "b", "c"))
    X, lost = as_trained(Columns((column,), 4), [UsedColumn("k", "categorical", ("a", "c"))])
    assert X["k"].values.tolist() == [0, -1, -1, 2]
    assert lost == 1


def test_rate_and_remaining_time() -> None:
    times = iter([0.0, 2.0, 3.0])
    rate = Rate(lambda: next(times))
    assert rate.update("trees", 0, 10) == (0.0, 0.0)
    assert rate.update("trees", 4, 10) == (2.0, 3.0)
    assert rate.update("ids", 4, 10) == (0.0, 0.0)


def test_lines_for_people_and_for_machines() -> None:
    people, machines = io.StringIO(), io.StringIO()
    for watch in (Lines("bank", people, every=0.0), JsonLines("bank", machines)):
        watch.waiting([("shop", "host:1")], 25.0)
        watch.started("align", "Align", 1, 2)
        watch.progress("ids", 5, 10)
        watch.ended("align", "5 rows", 1.5, 2_500_000, 3)
        watch.note("well")
        watch.finished({"report": "r.html"})
    text = people.getvalue()
    for words in ("waiting for shop at host:1, 25 s left", "ids 5 of 10", "5 rows  (1.5 s, 2.5 MB sent", "r.html"):
        assert words in text
    assert machines.getvalue().count("\n") == 6
    assert size(999) == "999 B"
    assert waiting_for([("a", ""), ("b", "h:1")]) == "waiting for a, b at h:1"
