import pytest

from atoll.core.errors import InputError
from atoll.learn.vertical.trees.params import TreeParams


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("n_estimators", 0),
        ("n_estimators", 2.5),
        ("max_depth", 13),
        ("max_depth", True),
        ("learning_rate", 0.0),
        ("reg_lambda", -1.0),
        ("reg_lambda", float("nan")),
        ("gamma", float("inf")),
        ("subsample", 1.5),
        ("max_bin", 1),
        ("scale_pos_weight", "2"),
        ("base_score", 1.0),
        ("early_stopping_rounds", 0),
        ("min_bin", 0),
        ("pad_shape", 1),
    ],
)
def test_a_value_outside_its_range_is_refused_by_name(name: str, value: object) -> None:
    with pytest.raises(InputError, match=name):
        TreeParams(**{name: value})


def test_whole_numbers_serve_as_real_ones() -> None:
    assert TreeParams(learning_rate=1, gamma=2).gamma == 2


def test_counts_follow_from_depth_and_bins() -> None:
    params = TreeParams(n_estimators=10, max_depth=4, max_bin=32)
    assert params.vectors == 160
    assert params.smallest_node == 640
    assert TreeParams(min_node=7).smallest_node == 7
