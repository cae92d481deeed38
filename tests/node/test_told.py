"""What a report says of the totals that were told."""

from __future__ import annotations

from atoll.node.steps.totals import _counted
from atoll.protocols.secure_sum.question import bound_to
from atoll.protocols.secure_sum.sums import Told


def test_rounds_that_are_bound_to_different_hashes_are_one_line_for_people() -> None:
    rounds = [Told(bound_to(f"{k:064x}", "updates"), 10, ("a", "b")) for k in range(3)]
    lines = _counted([Told("rows", 1, ("a", "b")), *rounds])
    assert lines == [
        {"what": "rows", "times": 1, "numbers": 1, "sites": 2},
        {"what": "updates", "times": 3, "numbers": 30, "sites": 2},
    ]
