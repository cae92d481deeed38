"""Every number of docs/parameters-alignment.md, computed again."""

import math

import numpy as np
import pytest
from scipy.stats import binom

from atoll.crypto import expand_convolute as code
from atoll.crypto import okvs
from atoll.crypto.okvs import DENSE, FAILURE, Shape
from atoll.data.buckets import FINE
from atoll.protocols import bucketed_intersection as bucketed
from atoll.protocols import vole_intersection, vole_oprf
from atoll.testing import seeded_rng


def linear_test_bits(t: int, d: float) -> float:
    """Bits that a linear test of relative weight d leaves with regular noise of t random values: -t · log2(1 - d)."""
    return -t * math.log2(1 - d)


def guessing_bits(t: int, block: int) -> float:
    """Bits of information-set decoding at rate ½: half of each block is guessed to be free of noise."""
    return -t * math.log2(1 - math.ceil(block / 2) / block) if block > 1 else math.inf


def test_noise() -> None:
    assert (code.NOISE, code.DISTANCE, code.WEIGHT, code.TAPS) == (552, 0.15, 7, 24)
    assert linear_test_bits(code.NOISE, 0.15) == pytest.approx(129.4, abs=0.1)
    assert linear_test_bits(code.NOISE, 0.25) == pytest.approx(229.1, abs=0.1)
    assert linear_test_bits(128, 0.15) == pytest.approx(30.0, abs=0.1)  # why 128 blocks are not taken
    assert linear_test_bits(128, 0.25) == pytest.approx(53.1, abs=0.1)
    assert code.noise(1) == math.ceil(-128 / math.log2(1 - 2 * 0.15))  # bits that are always set
    assert code.noise(4) < code.noise(64) == code.noise(128) <= code.NOISE
    assert linear_test_bits(code.NOISE - 8, 0.15) < code.SECURITY
    for m in (10_000, 1_000_000, 1 << 22):
        assert guessing_bits(code.NOISE, code.Code(m).block) >= 550


def test_words_of_the_function() -> None:
    """An id of the sender meets a word that it has no right to, or a wrong tag equals one, with less than 2^-40."""
    assert vole_oprf.NARROW == 1 << 24
    assert 64 - math.log2(vole_oprf.NARROW) >= FAILURE
    for nx, ny, width in ((1, 1, 10), (1 << 20, 1 << 20, 10), (1 << 22, 1 << 22, 11), (10**6, 10**7, 11)):
        assert vole_intersection._tag_bytes(nx, ny) == width
        assert 8 * width - math.log2(nx) - math.log2(ny) >= FAILURE
    assert vole_intersection._tag_bytes(10, 10, 1, "malicious") == 16
    assert vole_intersection._tag_bytes(1 << 20, 1 << 20, 1000) == 12  # a thousand buckets


def test_store() -> None:
    assert DENSE == FAILURE + 8
    rows = {n: Shape(n).words / n for n in (1 << 10, 1 << 14, 1 << 17, 1 << 20, 1 << 24)}
    assert {n: round(ratio, 2) for n, ratio in rows.items()} == TABLE
    for n in rows:
        shape = Shape(n)
        slope = 2 ** (0.555 * math.log2(shape.capacity) + 2.336)
        published = (FAILURE + 9.2 + math.log2(shape.bins)) / slope + 1.223
        assert 3 * shape.third >= (published + okvs.MARGIN) * shape.capacity


TABLE = {1 << 10: 1.49, 1 << 14: 1.28, 1 << 17: 1.36, 1 << 20: 1.37, 1 << 24: 1.37}


def test_buckets() -> None:
    """A bucket's size is enough by the binomial's exact tail, and adds what the page says."""
    for n, want, percent in ((10**6, 2, 1.1), (10**7, 20, 1.2), (10**8, 191, 1.4), (10**9, 1908, 6.0)):
        count = bucketed.bucket_count(n, n)
        size = bucketed.bucket_size(n, count)
        assert (count, round(100 * (size * count / n - 1), 1)) == (want, percent)
        share = math.ceil(FINE / count) / FINE
        assert binom.logsf(size, n, share) + math.log(count) < -FAILURE * math.log(2)


def core_left(n: int, expansion: float, rng: np.random.Generator) -> int:
    """Peel n keys in thirds of `expansion · n` words; return how many are left."""
    third = int(expansion * n / 3)
    at = rng.integers(0, third, (n, 3)) + np.array([0, third, 2 * third])
    alive = np.ones(n, bool)
    while True:
        degree = np.bincount(at[alive].reshape(-1), minlength=3 * third)
        free = alive & (degree[at] == 1).any(axis=1)
        if not free.any():
            return int(alive.sum())
        alive &= ~free


def test_small_stores_peel_as_rarely_unfinished_as_expected() -> None:
    """Many small draws: what peeling leaves is a few keys, seldom, and always less than the dense words can hold."""
    rng = np.random.default_rng(1)
    n = 64
    shape = Shape(n)
    left = np.array([core_left(n, 3 * shape.third / n, rng) for _ in range(300)])
    assert (left > 0).mean() < 0.02
    assert left.max() <= 6


@pytest.mark.slow
def test_no_store_fails_in_many_draws() -> None:
    """20,000 stores of 40 keys: all are encoded, though in one of fifty two keys have the same places."""
    rng, shape, unfinished = seeded_rng(5), Shape(40), 0
    for _ in range(20_000):
        found = okvs.places(rng.bytes(16), rng.u64(40, 2), shape)
        words = okvs.encode(found, rng.u64(40))
        unfinished += bool(words[-DENSE:].any())
    assert 200 < unfinished < 800
