"""Products and comparisons from correlated transfers, beside plain arithmetic, and their pads beside `tmmo`."""

import numpy as np
import pytest

from atoll.crypto import packed_bits, tmmo, transfer_products

FIRST = 1_000


def transfers(choices: np.ndarray, seed: int = 1) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Strings q, Δ and t for these choices, planes of words."""
    rng = np.random.default_rng(seed)
    bits = packed_bits.unpack(choices.reshape(-1), 64 * choices.size).astype(np.uint64)
    q, delta = rng.integers(0, 1 << 64, (bits.size, 2), np.uint64), rng.integers(0, 1 << 64, 2, np.uint64)
    return q, delta, q ^ bits[:, np.newaxis] * delta


@pytest.mark.parametrize("n", [64, 192])
@pytest.mark.parametrize(("bits", "ring"), [(64, 64), (1, 64), (1, 18), (1, 40), (33, 64), (20, 64)])
def test_halves_sum_to_the_product(n: int, bits: int, ring: int) -> None:
    rng = np.random.default_rng(n)
    x = rng.integers(0, 1 << 64, n, np.uint64)
    y = rng.integers(0, 1 << 64, n, np.uint64) & np.uint64((1 << bits) - 1)
    planes = np.ascontiguousarray(packed_bits.planes_of(y)[:bits])
    q, delta, t = transfers(planes)
    mine, long, short = transfer_products.multiply_as_sender(q, delta, FIRST, x, bits, ring)
    assert len(long) == transfer_products.wide_bits(bits, ring)
    theirs = transfer_products.multiply_as_receiver(t, FIRST, planes, long, short)
    mask = np.uint64((1 << ring) - 1)
    assert np.array_equal((mine + theirs) & mask, (x * y) & mask)


def test_digits_are_compared() -> None:
    rng = np.random.default_rng(1)
    u, v = rng.integers(0, 1 << 64, (2, 128), np.uint64)
    v[:30] = u[:30]
    q, delta, t = transfers(packed_bits.planes_of(v))
    hidden = rng.integers(0, 4, (16, 128), np.uint8)
    left, right = packed_bits.digits_of(u), packed_bits.digits_of(v)
    tables = transfer_products.compare_as_sender(q, delta, FIRST, left, hidden)
    found = transfer_products.compare_as_receiver(t, FIRST, right, tables) ^ hidden
    assert np.array_equal(found & 1, left > right)
    assert np.array_equal(found >> 1, left == right)


def test_bits_of_pads_are_those_of_tmmo() -> None:
    x = np.random.default_rng(1).integers(0, 1 << 64, (3 * (1 << 13) + 128, 2), np.uint64)
    want = tmmo.hash_blocks(x, FIRST)[:, 0]
    got = packed_bits.unpack(transfer_products.bits_of_pads(x, FIRST, 3), len(x))
    for bit in range(3):
        assert np.array_equal(got[bit], (want >> np.uint64(bit)) & np.uint64(1))


def test_one_plane_s_tables_are_masked_by_pads_that_no_other_choice_opens() -> None:
    """A receiver that tries the 15 other digits with the strings it has reads the pair at random."""
    n = 6_400
    u = np.random.default_rng(5).integers(0, 1 << 64, n, np.uint64)
    q, delta, t = transfers(packed_bits.planes_of(u))
    digits, hidden = packed_bits.digits_of(u), np.zeros((16, n), np.uint8)
    tables = transfer_products.compare_as_sender(q, delta, FIRST, digits, hidden)
    for off in (1, 8, 15):
        other = digits ^ np.uint8(off)
        read = transfer_products.compare_as_receiver(t, FIRST, other, tables)
        right = (digits > other).astype(np.uint8)
        assert abs((read == right).mean() - 0.25) < 0.01
