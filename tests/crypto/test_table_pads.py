"""Kernels of hidden tables, against a plain reference value by value."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from atoll.crypto import gf128, table_pads, tmmo
from atoll.testing import seeded_rng


def plain_bit(x: np.ndarray, index: int) -> int:
    return int(tmmo.hash_blocks(x[np.newaxis], index)[0, 0]) & 1


def offset(u: int, delta: np.ndarray) -> np.ndarray:
    out = np.zeros((1, 2), np.uint64)
    gf128.add_products(np.array([u], np.uint64), gf128.tables(delta, 1), out)
    return out[0]


@pytest.mark.parametrize("n", [1, 3, 1024, 1025])
def test_pads_of_all_values_contain_the_chosen_one(n: int) -> None:
    rng = seeded_rng(n)
    q, delta, choices = rng.u64(n, 2), rng.u64(2), rng.u8(n) & np.uint8(15)
    pads = table_pads.all_bits(q, delta, 1000)
    offsets = np.stack([offset(u, delta) for u in range(16)])
    one = table_pads.one_bit(q ^ offsets[choices], 1000)
    assert np.array_equal((pads >> choices) & 1, one)
    for i in {0, n // 2, n - 1}:
        assert [int(pads[i]) >> u & 1 for u in range(16)] == [plain_bit(q[i] ^ offsets[u], 1000 + i) for u in range(16)]


@given(n=st.integers(1, 40), seed=st.integers(0, 1000))
def test_a_masked_table_opens_at_the_index_alone(n: int, seed: int) -> None:
    rng = seeded_rng(seed)
    tables, pads = (rng.u32(n).astype(np.uint16) for _ in range(2))
    indices, choices, shares = rng.u8(n) & np.uint8(15), rng.u8(n) & np.uint8(15), rng.bits(n)
    masked = table_pads.masked_indices(indices, choices)
    message = table_pads.masked_tables(tables, masked, pads, shares)
    mine = table_pads.opened(message, choices, ((pads >> choices) & 1).astype(np.uint8))
    assert np.array_equal(mine ^ shares, (tables >> indices) & 1)
    words = message.view(np.uint16)
    for i in range(n):
        d = int(indices[i] ^ choices[i])
        want = [int(tables[i]) >> (u ^ d) & 1 ^ int(pads[i]) >> u & 1 ^ int(shares[i]) for u in range(16)]
        assert [int(words[i]) >> u & 1 for u in range(16)] == want


def test_digits_and_quads() -> None:
    words = np.array([0x0123456789ABCDEF, (1 << 64) - 1], np.uint64)
    assert table_pads.nibbles(words).tolist() == [*range(15, -1, -1), *[15] * 16]
    assert table_pads.quads(np.array([1, 0, 0, 0, 0, 1, 0, 1], np.uint8)).tolist() == [1, 10]
