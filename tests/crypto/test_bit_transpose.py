"""Tall bit matrices: every bit lands where the definition says, and the two column passes are plain XORs."""

import numpy as np
import pytest

from atoll.crypto.bit_transpose import corrected_columns, masked_columns, strings_of
from atoll.testing import seeded_rng


@pytest.mark.parametrize(("words", "width"), [(1, 2), (2, 2), (7, 2), (1, 1), (3, 7)])
def test_transpose_equals_the_plain_one(words: int, width: int) -> None:
    columns = seeded_rng(words).u64(64 * width, words)
    out = np.empty((64 * words, width), np.uint64)
    strings_of(columns, out)
    bits = np.unpackbits(columns.view(np.uint8), axis=1, bitorder="little")
    assert np.array_equal(np.unpackbits(out.view(np.uint8), axis=1, bitorder="little"), bits.T)


def test_column_passes() -> None:
    rng = seeded_rng(1)
    zero, one, choices = rng.u64(128, 3), rng.u64(128, 3), rng.u64(3)
    u = np.empty_like(zero)
    masked_columns(zero, one, choices, u)
    assert np.array_equal(u, zero ^ one ^ choices)
    chosen = np.uint64(0) - rng.bits(128).astype(np.uint64)
    q = zero.copy()
    corrected_columns(q, u, chosen)
    assert np.array_equal(q, zero ^ (u & chosen[:, None]))
