"""Trees: all leaves but one follow from the sums; the missing one does not."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from atoll.crypto import punctured_trees as trees
from atoll.testing import seeded_rng


@settings(max_examples=40)
@given(t=st.integers(1, 20), leaves=st.integers(1, 70), seed=st.integers(0, 100))
def test_all_leaves_but_the_missing_ones_follow(t: int, leaves: int, seed: int) -> None:
    rng = seeded_rng(seed)
    whole, sums = trees.grow(rng.u64(t, 2), leaves)
    missing = rng.uniform_u64(leaves, t).astype(np.int64)
    sides = trees.sides(missing, leaves)
    known = np.take_along_axis(sums, sides[:, :, None, None].astype(np.int64), 2)[:, :, 0]
    got = trees.grow_punctured(missing, leaves, known)
    at = np.arange(t)
    assert not got[at, missing].any()
    got[at, missing] = whole[at, missing]
    assert np.array_equal(got, whole)
    assert len(np.unique(whole.reshape(-1, 2), axis=0)) == t * leaves


def test_a_wrong_sum_spoils_what_lies_below_it() -> None:
    whole, sums = trees.grow(seeded_rng(1).u64(1, 2), 64)
    missing = np.array([5])
    sides = trees.sides(missing, 64)
    known = np.take_along_axis(sums, sides[:, :, None, None].astype(np.int64), 2)[:, :, 0]
    known[0, 0, 0] ^= np.uint64(1)
    got = trees.grow_punctured(missing, 64, known)
    assert not (got[0, 32:] == whole[0, 32:]).all(1).any()


@pytest.mark.parametrize(("leaves", "levels"), [(1, 1), (2, 1), (3, 2), (4, 2), (5, 3), (1024, 10), (1025, 11)])
def test_depth(leaves: int, levels: int) -> None:
    assert trees.depth(leaves) == levels


def test_frozen_leaves() -> None:
    leaves, sums = trees.grow(np.array([[1, 2]], np.uint64), 3)
    assert [hex(word) for word in leaves[0, :, 0].tolist()] == FROZEN
    assert np.array_equal(sums[0, 1, 0], leaves[0, 0] ^ leaves[0, 2])


FROZEN = ["0x8d1aba2678b7168", "0x66939eab9002dee1", "0xdac6cf4a48ec60b0"]
