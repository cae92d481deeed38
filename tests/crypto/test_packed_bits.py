"""Packed bits, digits and matrix products modulo 2^64, beside plain numpy."""

import numpy as np
import pytest

from atoll.crypto import compact_columns, packed_bits, word_matrix

SIZES = (0, 1, 63, 64, 65, 200)


def drawn(*shape: int, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 1 << 64, shape, np.uint64)


@pytest.mark.parametrize("n", SIZES)
def test_packing_and_planes_come_back(n: int) -> None:
    bits = np.random.default_rng(n).integers(0, 2, (3, n), np.uint8)
    planes = packed_bits.pack(bits)
    assert planes.shape == (3, packed_bits.words(n))
    assert np.array_equal(packed_bits.unpack(planes, n), bits)
    values = drawn(n)
    planes = packed_bits.planes_of(values)
    want = (values[np.newaxis] >> np.arange(64, dtype=np.uint64)[:, np.newaxis]).astype(np.uint8) & 1
    assert np.array_equal(packed_bits.unpack(planes, n), want)
    assert np.array_equal(packed_bits.values_of(planes, n), values)


@pytest.mark.parametrize("n", SIZES)
@pytest.mark.parametrize("keep_top", [True, False])
def test_digits_are_compared_on_shares(n: int, keep_top: bool) -> None:
    c, r, share = drawn(n), drawn(n, seed=2), drawn(4, n, seed=3)
    c[: n // 3] = r[: n // 3]
    one, two = (packed_bits.compare_digits(c, m, keep_top) for m in (share, share ^ packed_bits.one_hot(r)))
    left, right = packed_bits.digits_of(c), packed_bits.digits_of(r)
    if not keep_top:
        left[15] &= 7
        right[15] &= 7
    assert np.array_equal(packed_bits.unpack(one[0] ^ two[0], n), left < right)
    assert np.array_equal(packed_bits.unpack(one[1] ^ two[1], n), left == right)
    top = packed_bits.top_of(share) ^ packed_bits.top_of(share ^ packed_bits.one_hot(r))
    assert np.array_equal(packed_bits.unpack(top, n), r >> np.uint64(63))


@pytest.mark.parametrize("size", [(1, 1, 1), (3, 5, 2), (0, 2, 3), (2, 0, 3), (5, 130, 515), (130, 3, 1)])
def test_matrix_products(size: tuple[int, int, int]) -> None:
    m, k, n = size
    a, b = drawn(m, k), drawn(k, n, seed=2)
    assert np.array_equal(word_matrix.product(a, b), a @ b)
    assert np.array_equal(word_matrix.product(a.T.copy().T, b), a @ b)


def test_streams_fold_into_columns() -> None:
    streams = drawn(16, 3)
    columns, rest = np.empty((4, 3), np.uint64), streams.copy()
    compact_columns.fold(rest, columns)
    for i in range(4):
        assert np.array_equal(columns[i], np.bitwise_xor.reduce(streams[[x for x in range(16) if x >> i & 1]], axis=0))
    assert np.array_equal(rest[0], np.bitwise_xor.reduce(streams, axis=0))
