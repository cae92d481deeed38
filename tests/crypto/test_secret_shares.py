"""Shares over GF(2^8): any t give the secret, fewer are uniform, and the field is that of AES."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from atoll.crypto import secret_shares
from atoll.testing import seeded_rng

secret_shares.warm()


def plain_product(a: int, b: int) -> int:
    product = 0
    while b:
        product ^= a * (b & 1)
        a, b = a << 1 ^ (0x11B if a & 0x80 else 0), b >> 1
    return product


def test_products_are_those_of_the_field() -> None:
    for a, b in itertools.product(range(0, 256, 5), range(256)):
        assert int(secret_shares._times(np.uint8(a), np.uint8(b))) == plain_product(a, b)
    assert int(secret_shares._times(np.uint8(0x57), np.uint8(0x83))) == 0xC1  # FIPS 197, section 4.2
    for a in range(1, 256):
        assert plain_product(a, int(secret_shares._inverse(np.uint8(a)))) == 1


@given(st.integers(1, 12), st.integers(0, 8), st.binary(min_size=0, max_size=40), st.data())
def test_any_t_shares_give_the_secret(t: int, more: int, secret: bytes, data: st.DataObject) -> None:
    shares = secret_shares.share(np.frombuffer(secret, np.uint8), t, t + more, seeded_rng(1))
    chosen = np.array(data.draw(st.permutations(range(t + more))), np.int64)[:t]
    assert secret_shares.combine(chosen + 1, shares[chosen]).tobytes() == secret


def test_the_largest_sharing() -> None:
    secret = seeded_rng(2).u8(32)
    shares = secret_shares.share(secret, 170, 255, seeded_rng(3))
    assert np.array_equal(secret_shares.combine(np.arange(86, 256), shares[85:]), secret)
    assert not np.array_equal(secret_shares.combine(np.arange(87, 256), shares[86:]), secret)


def test_fewer_shares_are_uniform_whatever_the_secret() -> None:
    for value in (0, 255):
        shares = secret_shares.share(np.full(50_000, value, np.uint8), 3, 5, seeded_rng(value))
        for one, other in ((0, 1), (2, 4)):
            for words in (shares[one], shares[one] ^ shares[other]):
                counts = np.bincount(words, minlength=256)
                assert float(((counts - 50_000 / 256) ** 2 / (50_000 / 256)).sum()) < 255 + 6 * 22.6


@pytest.mark.parametrize(("t", "shares"), [(0, 3), (4, 3), (2, 256)])
def test_sharings_that_do_not_exist(t: int, shares: int) -> None:
    with pytest.raises(ValueError, match="no sharing"):
        secret_shares.share(np.zeros(1, np.uint8), t, shares, seeded_rng(1))


@pytest.mark.parametrize("points", [[1, 1], [0, 1], [1, 256], [-1, 2]])
def test_points_that_are_repeated_or_out_of_range(points: list[int]) -> None:
    with pytest.raises(ValueError, match="distinct"):
        secret_shares.combine(np.array(points), np.zeros((2, 1), np.uint8))
