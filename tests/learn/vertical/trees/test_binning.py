import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from atoll.core.errors import InputError
from atoll.data.columns import Column, Columns
from atoll.learn.vertical.trees.binning import bin_table, quantile_cuts, right_bits, rule_bits

from .drawn import tables


def numeric(*values: float) -> Columns:
    return Columns((Column("x", "numeric", np.array(values, np.float64)),), len(values))


@given(st.lists(st.integers(0, 30), max_size=200), st.integers(2, 40), st.integers(1, 20))
def test_cuts_keep_ties_together_and_bins_large_enough(drawn: list[int], max_bin: int, min_bin: int) -> None:
    values = np.sort(np.array(drawn, np.float64))
    cuts = quantile_cuts(values, max_bin, min_bin)
    assert list(cuts) == sorted(set(cuts))
    assert len(cuts) < max_bin
    sizes = np.bincount(np.searchsorted(cuts, values, "right"), minlength=len(cuts) + 1)
    assert not cuts or sizes.min() >= min_bin


def test_few_distinct_values_each_have_their_own_bin() -> None:
    assert quantile_cuts(np.repeat([0.0, 1.0, 2.0, 5.0], [90, 1, 1, 8]), 32, 1) == (1.0, 2.0, 5.0)


def test_many_values_fall_into_bins_of_about_equal_size() -> None:
    cuts = quantile_cuts(np.arange(10_000.0), 32, 20)
    sizes = np.diff([0, *cuts, 10_000])
    assert len(sizes) == 32
    assert sizes.max() - sizes.min() <= 2


def test_a_large_tie_has_a_bin_of_its_own_and_the_rest_keeps_its_bins() -> None:
    values = np.sort(np.concatenate([np.zeros(6_000), np.arange(1.0, 4_001.0)]))
    cuts = quantile_cuts(values, 8, 20)
    assert cuts[0] == 1.0
    assert len(cuts) == 7


def test_missing_values_have_their_own_bin_unless_they_are_rare() -> None:
    frequent = bin_table(numeric(*[np.nan] * 3, *range(9)), 4, 3)
    assert frequent.layout.missing[0]
    assert (frequent.codes[0, :3] == frequent.layout.bins[0]).all()
    rare = bin_table(numeric(*[np.nan] * 2, *range(9)), 4, 3)
    assert not rare.layout.missing[0]
    assert (rare.codes[0, :2] == rare.layout.bins[0] - 1).all()


@pytest.mark.parametrize("values", [[1.0] * 5, [np.nan] * 5, []])
def test_a_constant_empty_or_missing_column_has_one_ordinary_bin(values: list[float]) -> None:
    assert bin_table(numeric(*values), 8, 1).layout.bins.tolist() == [1]


def test_an_infinite_value_is_refused_with_its_column() -> None:
    with pytest.raises(InputError, match=r"'x'.*missing"):
        bin_table(numeric(1.0, np.inf), 8, 1)


def test_rare_categories_and_rare_missing_values_share_a_bin() -> None:
    codes = np.array([0] * 10 + [1] * 8 + [2] * 2 + [3] + [-1], np.int32)
    table = Columns((Column("c", "categorical", codes, ("a", "b", "c", "d", "never")),), codes.size)
    bins = bin_table(table, 8, 4)
    assert bins.columns[0].kept == ("a", "b")
    assert bins.columns[0].other
    assert not bins.layout.missing[0]
    assert np.bincount(bins.codes[0]).tolist() == [10, 8, 4]
    assert bins.columns[0].rule(2, True).categories == ("c", "d", "never")


def test_no_more_categories_than_bins_are_kept() -> None:
    codes = np.repeat(np.arange(20, dtype=np.int32), 5)
    table = Columns((Column("c", "categorical", codes, tuple(map(str, range(20)))),), codes.size)
    assert bin_table(table, 6, 5).layout.bins.tolist() == [6]


@given(tables(), st.integers(2, 12), st.integers(1, 6), st.booleans())
def test_a_split_says_the_same_of_bins_and_of_columns(
    table: Columns, max_bin: int, min_bin: int, default_left: bool
) -> None:
    binned = bin_table(table, max_bin, min_bin)
    for feature, column in enumerate(binned.columns):
        last = column.ordinary - (column.kind == "numeric" and not column.missing)
        for number in range(last if column.ordinary > 1 or column.missing else 0):
            rule = column.rule(number, default_left)
            if column.missing or column.kind == "numeric":
                default = default_left if column.missing else False
                assert np.array_equal(right_bits(binned, feature, number, default), rule_bits(rule, table))
            else:
                assert np.array_equal(right_bits(binned, feature, number, True), rule_bits(rule, table))


def test_wide_columns_take_two_bytes() -> None:
    values = np.arange(3_000.0)
    assert bin_table(numeric(*values), 1_000, 1).codes.dtype == np.uint16
