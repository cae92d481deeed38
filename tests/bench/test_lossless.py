"""The comparison of lossless models: its page is of this code, and its models hold on a drawn table."""

import pytest

from bench.lossless import PAGE, compare, drawn
from bench.lossless_models import MODELS, Model


def test_the_page_has_a_line_for_every_model_and_none_is_far_off() -> None:
    lines = [line.split(" | ") for line in PAGE.read_text(encoding="utf-8").splitlines() if line.startswith("| ")][2:]
    assert [line[0].removeprefix("| ") for line in lines] == [model.name for model in MODELS]
    assert max(float(figure) for line in lines for figure in line[2:4]) < 1e-6


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.name)
def test_a_model_is_its_oracle_on_a_drawn_table(model: Model) -> None:
    found = compare(model, drawn(7))
    assert found.difference < 1e-6
    assert found.sums > 3
