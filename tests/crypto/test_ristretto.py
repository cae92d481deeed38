"""The group: vectors of the standards, bulk against single calls, and every kind of point that must be refused."""

from pathlib import Path

import numpy as np
import pytest

from atoll.core.errors import ProtocolError
from atoll.crypto import ristretto
from atoll.testing import seeded_rng

OPRF = b"HashToGroup-OPRFV1-\x00-ristretto255-SHA512"
ORDER = (1 << 252) + 27742317777372353535851937790883648493


def scalar(k: int) -> bytes:
    return (k % ORDER).to_bytes(32, "little")


def test_hashing_and_multiplying_equal_the_oprf_standard() -> None:
    # RFC 9497, appendix A.1.1, test vector 1
    blind = bytes.fromhex("64d37aed22a27f5191de1c1d69fadb899d8862b58eb4220029e036ec4c1f6706")
    want = "609a0ae68c15a3cf6903766461307e5c8bb2f95e7e6550e1ffa2dc99e412803c"
    assert ristretto.hash_and_multiply([b"\x00"], OPRF, blind)[0].tobytes().hex() == want


def test_small_multiples_of_the_generator_equal_the_standard() -> None:
    # RFC 9496, appendix A.1
    assert ristretto.multiply_base(scalar(1)).tobytes().hex() == (
        "e2f2ae0a6abc4e71a884a961c500515f58e30b6aa582dd8db6a65945e08d2d76"
    )
    assert ristretto.multiply_base(scalar(2)).tobytes().hex() == (
        "6a493210f7499cd17fecb510ae0cea23a110e8d5b901f8acadd3095c73a3b919"
    )


def test_masks_commute_over_many_threads() -> None:
    rng = seeded_rng(1)
    a, b = ristretto.random_scalar(rng), ristretto.random_scalar(rng)
    items = [b"x" * (i % 300) + b"%d" % i for i in range(700)]
    points = ristretto.hash_to_points(items, b"test")
    ab = ristretto.multiply(ristretto.multiply(points, a, threads=3), b, threads=1)
    ba = ristretto.multiply(ristretto.hash_and_multiply(items, b"test", b, threads=2), a)
    assert np.array_equal(ab, ba)
    assert len(np.unique(ab, axis=0)) == 700


def test_domains_and_packings() -> None:
    rows = seeded_rng(2).u8(5, 20)
    as_rows, as_list = (ristretto.hash_to_points(x, b"d") for x in (rows, [r.tobytes() for r in rows]))
    assert np.array_equal(as_rows, as_list)
    assert not np.array_equal(as_rows, ristretto.hash_to_points(rows, b"e"))
    assert ristretto.hash_to_points([], b"d").shape == (0, 32)
    assert ristretto.multiply(np.empty((0, 32), np.uint8), scalar(3)).shape == (0, 32)


def test_sums_and_differences() -> None:
    p, q = ristretto.random_points(3, seeded_rng(3)), ristretto.random_points(3, seeded_rng(4))
    assert np.array_equal(ristretto.subtract(ristretto.add(p, q), q), p)
    assert np.array_equal(ristretto.add(p, p), ristretto.multiply(p, scalar(2)))
    assert len(np.unique(p, axis=0)) == 3


BAD = {
    "the identity": bytes(32),
    "a non-canonical field element": ((1 << 255) - 18).to_bytes(32, "little"),
    "a negative field element": (1).to_bytes(32, "little"),
    "a non-square": bytes.fromhex("26948d35ca62e643e26a83177332e6b6afeb9d08e4268b650f1f5bbd8d81d371"),
    "a point with its top bit set": bytes.fromhex("e2f2ae0a6abc4e71a884a961c500515f58e30b6aa582dd8db6a65945e08d2df6"),
}


@pytest.mark.parametrize("bad", BAD.values(), ids=BAD)
def test_bad_points_are_refused_by_place(bad: bytes) -> None:
    points = ristretto.random_points(600, seeded_rng(5))
    points[431] = np.frombuffer(bad, np.uint8)
    with pytest.raises(ProtocolError, match="item 431 is not a point"):
        ristretto.multiply(points, scalar(5), threads=2)
    if any(bad):
        with pytest.raises(ProtocolError, match="item 431 is not a point"):
            ristretto.add(points, points)


def test_scalars_are_drawn_below_the_order_and_never_zero() -> None:
    rng = seeded_rng(6)
    drawn = [int.from_bytes(ristretto.random_scalar(rng), "little") for _ in range(50)]
    assert all(0 < k < ORDER for k in drawn)
    assert len(set(drawn)) == 50


def test_the_library_leaves_no_file_behind() -> None:
    assert not Path(ristretto._library().sodium._name).exists()


def test_wrong_lengths_are_refused() -> None:
    with pytest.raises(ValueError, match="scalar has 32 bytes"):
        ristretto.multiply(np.zeros((1, 32), np.uint8), b"short")
    for domain in (b"", bytes(256)):
        with pytest.raises(ValueError, match="1 to 255 bytes"):
            ristretto.hash_to_points([b"x"], domain)
