"""Cuckoo hashing: every key lies in one of its bins, no bin holds two, and the sizes keep failures below 2^-40."""

import math

import numpy as np
import pytest

from atoll.crypto import cuckoo
from atoll.testing import seeded_rng


@pytest.mark.parametrize("n", [0, 1, 2, 300, 5000])
def test_every_key_lies_in_one_of_its_bins(n: int) -> None:
    size = cuckoo.third(n)
    bins = cuckoo.bins_of(seeded_rng(n).u64(n, 2), bytes(16), size)
    table = cuckoo.place(bins, size)
    assert table.shape == (3 * size,)
    assert np.array_equal(np.sort(table[table >= 0]), np.arange(n))
    for at in np.flatnonzero(table >= 0):
        assert bins[table[at], at // size] == at


def test_bins_are_even_and_stay_in_their_thirds() -> None:
    bins = cuckoo.bins_of(seeded_rng(1).u64(60_000, 2), bytes(16), 50)
    for i in range(3):
        assert np.array_equal(np.unique(bins[:, i]), np.arange(50 * i, 50 * (i + 1)))
        counts = np.bincount(bins[:, i] - 50 * i)
        assert ((counts - 1200) ** 2 / 1200).sum() < 100  # chi-square, 49 degrees of freedom
    assert abs(np.corrcoef(bins.T.astype(float)) - np.eye(3)).max() < 0.02
    assert not np.array_equal(bins, cuckoo.bins_of(seeded_rng(1).u64(60_000, 2), bytes(15) + b"1", 50))


def test_keys_that_do_not_fit_are_noticed() -> None:
    with pytest.raises(cuckoo.NotPlaceable):
        cuckoo.place(np.array([[0, 3, 6]] * 4, np.uint32), 3)
    with pytest.raises(cuckoo.NotPlaceable):
        cuckoo.place(cuckoo.bins_of(seeded_rng(1).u64(100, 2), bytes(16), 20), 20)


def test_sizes() -> None:
    assert 3 * cuckoo.third(1 << 20) < 1.27 * (1 << 20) + 3
    assert 3 * cuckoo.third(1) < 406
    sizes = [cuckoo.third(n) for n in range(0, 10_000, 7)]
    assert sizes == sorted(sizes)


@pytest.mark.parametrize("n", [4, 30, 100, 256, 1000, 4096])
def test_few_keys_have_no_crowded_set_of_bins(n: int) -> None:
    """Keys can be placed unless k of them share k - 1 bins (Hall); the expected number of such sets is below 2^-43."""
    size, total = cuckoo.third(n), 0.0
    for k in range(4, n + 1):
        here = max(_crowded(n, size, k, a) for a in range(max(1, (k - 1) // 3 - 4), (k - 1) // 3 + 5))
        total += 2**here * (k - 1) ** 2  # ways to spread k - 1 bins over three thirds
    assert total < 2**-43


def _crowded(n: int, size: int, k: int, a: int) -> float:
    """Expected number, in bits, of k keys in a bins of the first third and the rest evenly in the two others."""
    b = (k - 1 - a) // 2
    c = k - 1 - a - b
    if min(b, c) < 1 or max(a, b, c) > size:
        return -math.inf
    ways = _choose(n, k) + _choose(size, a) + _choose(size, b) + _choose(size, c)
    return ways + k * (math.log2(a) + math.log2(b) + math.log2(c) - 3 * math.log2(size))


def _choose(n: int, k: int) -> float:
    return (math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)) / math.log(2)
