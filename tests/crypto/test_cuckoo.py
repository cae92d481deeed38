"""Bins: every item in one of its three, in no bin more than one, and each side finds the same ones."""

import numpy as np
import pytest

from atoll.crypto import cuckoo
from atoll.testing import seeded_rng


def items(n: int) -> list[bytes]:
    return [b"item %d" % i for i in range(n)]


@pytest.mark.parametrize("n", [0, 1, 2, 3, 4, 5, 50, 256, 700, 5000])
def test_every_item_is_in_one_of_its_bins(n: int) -> None:
    size = cuckoo.third(n)
    bins = cuckoo.candidates(items(n), seeded_rng(n).bytes(16), size)
    table = cuckoo.place(bins, size)
    assert table.shape == (3 * size,)
    assert sorted(table[table >= 0]) == list(range(n))
    for b in np.flatnonzero(table >= 0):
        assert b in bins[table[b]]


def test_bins_lie_in_their_thirds_and_depend_on_item_and_key_alone() -> None:
    bins = cuckoo.candidates(items(2000), bytes(16), 100)
    for j in range(3):
        assert bins[:, j].min() == 100 * j
        assert bins[:, j].max() == 100 * j + 99
        counts = np.bincount(bins[:, j] - 100 * j, minlength=100)
        assert abs(counts - 20).max() < 6 * 20**0.5
    assert np.array_equal(cuckoo.candidates(items(2000)[::-1], bytes(16), 100), bins[::-1])
    assert not np.array_equal(cuckoo.candidates(items(2000), bytes(15) + b"\1", 100), bins)


def test_too_many_items_for_their_bins() -> None:
    with pytest.raises(cuckoo.DoesNotFit):
        cuckoo.place(np.tile(np.array([0, 1, 2]), (4, 1)), 1)
    assert sorted(cuckoo.place(np.tile(np.array([0, 1, 2]), (3, 1)), 1)) == [0, 1, 2]


@pytest.mark.parametrize("n", [300, 3000])
def test_items_fit_time_and_again(n: int) -> None:
    size, names = cuckoo.third(n), items(n)
    for seed in range(20):
        cuckoo.place(cuckoo.candidates(names, seeded_rng(seed).bytes(16), size), size)


def test_the_number_of_bins() -> None:
    assert 3 * cuckoo.third(1 << 20) == pytest.approx(1.27 * (1 << 20), abs=3)
    sizes = [cuckoo.third(n) for n in range(0, 3000, 7)]
    assert sizes == sorted(sizes)
