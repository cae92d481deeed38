"""What the demonstration says of its outcome."""

import pytest

from atoll.cli.story import gained


@pytest.mark.parametrize("share", [-0.14, 0.0, 0.009])
def test_a_partnership_that_gained_nothing_is_not_praised(share: float) -> None:
    assert "does not raise KS" in gained(share)


def test_a_gain_is_told_as_a_share() -> None:
    assert gained(0.182) == "The partnership raises KS by 18%."
