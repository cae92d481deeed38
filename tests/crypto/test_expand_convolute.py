"""The code against a matrix written out, and what makes it safe: linear, full of randomness, no light rows."""

import numpy as np
import pytest

from atoll.crypto import expand_convolute as ec
from atoll.crypto.expand_convolute import NOISE, Code
from atoll.testing import seeded_rng


def by_hand(m: int, noise: np.ndarray) -> np.ndarray:
    """The definition, one element after the other, on Python's integers."""
    systematic, rest = noise[:m].tolist(), noise[m : 2 * m].tolist()
    for number in range(2):
        taps = np.concatenate([part for _, part in ec._public(number, m, 1)])[:, 0].tolist()
        for i in range(m):
            value = rest[i]
            rest[(i + 1) % m] ^= value
            for j in range(24):
                rest[(i + 2 + j) % m] ^= value * (taps[i] >> j & 1)
    rows = np.concatenate([part for _, part in ec._public(2, m, 7)]).tolist()
    quarter = max(m // 4, 1)
    for i, row in enumerate(rows):
        for j, word in enumerate(row):
            at = (word * quarter >> 32) + j * quarter if j < 4 else word * m >> 32
            systematic[i] ^= rest[at % m]
    return np.array(systematic, np.uint64)


@pytest.mark.parametrize("m", [1, 2, 3, 7, 26, 27, 100, 1001])
def test_both_widths_follow_the_definition(m: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ec, "_PIECE", 64)
    noise = seeded_rng(m).u64(NOISE * Code(m).block, 2)
    want = [by_hand(m, noise[:, word].copy()) for word in range(2)]
    one, two = Code(m).compress(noise[:, :1].copy(), noise.copy())
    assert np.array_equal(one[:, 0], want[0])
    assert np.array_equal(two, np.stack(want, axis=1))


def test_the_noise_is_what_the_bound_asks_for() -> None:
    assert NOISE * -np.log2(1 - ec.DISTANCE) >= ec.SECURITY
    for m in (1, 100, NOISE // 2, NOISE // 2 + 1, NOISE, 1_000_000):
        code = Code(m)
        assert code.block * code.blocks >= 2 * m
        assert code.blocks == NOISE or code.block == 1


def test_sparse_noise_comes_out_balanced() -> None:
    """One set position in every block: about half of all output bits are set, and neighbours are independent."""
    m = 20_000
    rng, code = seeded_rng(3), Code(m)
    noise = np.zeros((NOISE, code.block, 1), np.uint64)
    noise[np.arange(NOISE), rng.uniform_u64(code.block, NOISE).astype(np.int64), 0] = rng.u64(NOISE)
    (out,) = code.compress(noise.reshape(-1, 1))
    bits = np.unpackbits(out.view(np.uint8)).astype(float)
    assert abs(bits.mean() - 0.5) < 5 * 0.5 / np.sqrt(bits.size)
    same = (out[1:, 0] == out[:-1, 0]).mean()
    assert same < 0.001


def test_single_positions_are_spread_widely() -> None:
    """No position of the convolved half reaches few outputs only, the last ones included."""
    m = 2_000
    for at in (m, m + 1, 2 * m - 1, 2 * m - 30, m + m // 2):
        noise = np.zeros((NOISE * Code(m).block, 1), np.uint64)
        noise[at] = 1
        (out,) = Code(m).compress(noise)
        assert 0.4 * m < np.count_nonzero(out) < 0.6 * m


def test_bytes_fold_as_words_do() -> None:
    noise = seeded_rng(3).u8(2 * 3000, 1)
    words = noise.astype(np.uint64)
    (small,), (wide,) = Code(3000).compress(noise), Code(3000).compress(words)
    assert small.dtype == np.uint8
    assert np.array_equal(small, wide)
