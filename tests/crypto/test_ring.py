"""A·s and M·A, exact against the schoolbook, for every ring in use and for toy ones."""

import hashlib
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from atoll.crypto.lwe import SETS
from atoll.crypto.ring import Ring, hint_of_bins, hint_of_rows
from atoll.testing import seeded_rng

U64 = np.uint64


def schoolbook(ring: Ring, a: np.ndarray, n: int) -> np.ndarray:
    """A (n, N), row by row: coefficient i of a_b·X^j is ±a_b[i − j]."""
    N, out = ring.N, np.empty((n, ring.N), U64)
    for r in range(n):
        b, i = divmod(r, N)
        out[r, : i + 1] = a[b, i::-1]
        out[r, i + 1 :] = -a[b, :i:-1]
    return out & ring.mask


def bins_of(seed: int, columns: int, n: int, m: int) -> np.ndarray:
    return (seeded_rng(seed).u64(columns, n) % U64(m)).astype(np.uint8)


def indicators(bins: np.ndarray, m: int) -> np.ndarray:
    return np.concatenate([(b == np.arange(m)[:, np.newaxis]).astype(U64) for b in bins])


@given(
    log_n=st.integers(4, 7),
    bits=st.sampled_from([32, 40, 48, 64]),
    rows=st.integers(1, 300),
    seed=st.integers(0, 1000),
)
@settings(max_examples=40, deadline=None)
def test_toy_rings_equal_the_schoolbook(log_n: int, bits: int, rows: int, seed: int) -> None:
    ring = Ring(1 << log_n, bits)
    a = ring.expand(bytes(32), b"toy", rows)
    A, s = schoolbook(ring, a, rows), seeded_rng(seed).bits(ring.N)
    for limb_bits in (ring.limb_bits_for(math.sqrt(ring.N)), 21):
        assert np.array_equal(ring.transform(a, limb_bits).times(s, rows), A @ s.astype(U64) & ring.mask)
    bins = bins_of(seed, 2, rows, 5)
    got = hint_of_bins(ring, a, bins, np.full(2, 5))
    assert np.array_equal(got, indicators(bins, 5) @ A & ring.mask)
    M = (seeded_rng(seed).u64(3, rows) % U64(1 << 14)).astype(np.int64) - (1 << 13)
    assert np.array_equal(hint_of_rows(ring, a, M), M.view(U64) @ A & ring.mask)


@pytest.mark.parametrize("name", SETS)
@pytest.mark.parametrize("extra", ["1", "N-1", "N", "N+1", "3N+7"])
def test_every_set_is_exact(name: str, extra: str) -> None:
    ring = SETS[name].ring
    N = ring.N
    n = {"1": 1, "N-1": N - 1, "N": N, "N+1": N + 1, "3N+7": 3 * N + 7}[extra]
    a = ring.expand(b"\x07" * 32, name.encode(), n)
    transformed = ring.transform(a, ring.limb_bits_for(N**0.5))
    some = sorted({0, 1, N // 2, N - 1, N, N + 1, 3 * N, n - 1} & set(range(n)))
    A = np.concatenate([schoolbook_row(ring, a, r)[np.newaxis] for r in some])
    for seed, s in enumerate((seeded_rng(5).bits(N), np.ones(N, np.uint8), np.zeros(N, np.uint8))):
        got = transformed.times(s, n)
        assert got.shape == (n,), seed
        assert np.array_equal(got[some], A @ s.astype(U64) & ring.mask)


def schoolbook_row(ring: Ring, a: np.ndarray, r: int) -> np.ndarray:
    b, i = divmod(r, ring.N)
    return np.concatenate((a[b, i::-1], -a[b, :i:-1])) & ring.mask


@pytest.mark.parametrize("name", ["H40", "X64"])
def test_hints_of_real_size_are_exact(name: str) -> None:
    ring, n = SETS[name].ring, 20_000
    a = ring.expand(bytes(32), b"", n)
    bins = np.zeros((1, n), np.uint8)
    bins[0, ::997] = 1  # one bin with almost everybody: the longest sums
    got = hint_of_bins(ring, a, bins, np.array([2]))
    M = np.where(np.arange(n) % 3, 40_960, -40_960)[np.newaxis]
    dense = hint_of_rows(ring, a, M)
    total, signed, rare = (np.zeros(ring.N, U64) for _ in range(3))
    for r in range(n):
        row = schoolbook_row(ring, a, r)
        total += row
        signed += row * M.view(U64)[0, r]
        rare += row * U64(bins[0, r])
    assert np.array_equal(got, np.stack((total - rare, rare)) & ring.mask)
    assert np.array_equal(dense[0], signed & ring.mask)


def test_products_stay_far_from_the_rounding_edge() -> None:
    """Where one limb carries all 40 bits, the error before rounding is a twentieth of what could hurt."""
    import scipy.fft

    from atoll.crypto.ring import twist_of

    ring, n = SETS["H40"].ring, 100_000
    transformed = ring.transform(ring.expand(bytes(32), b"", n), ring.limb_bits_for(ring.N**0.5))
    assert len(transformed.limbs) == 1
    worst = 0.0
    for seed in range(5):
        fs = ring.forward(seeded_rng(seed).bits(ring.N).astype(np.float64))
        z = scipy.fft.ifft(transformed.limbs[0] * fs, axis=-1) * np.conj(twist_of(ring.N))
        worst = max(worst, *(float(np.abs(part - np.rint(part)).max()) for part in (z.real, z.imag)))
    assert worst < 0.1


def test_blocks_belong_to_one_label_and_seed() -> None:
    ring = Ring(64, 40)
    a = ring.expand(bytes(32), b"a", 200)
    assert a.shape == (4, 64)
    assert int(a.max()) < 1 << 40
    others = [ring.expand(bytes(32), b"b", 200), ring.expand(b"\1" * 32, b"a", 200)]
    assert all((a != other).mean() > 0.99 for other in others)
    assert np.array_equal(ring.expand(bytes(32), b"a", 65), a[:2])
    assert hashlib.sha256(a.tobytes()).hexdigest()[:16] == "1809008ba556d694"
    with pytest.raises(ValueError, match="32 bytes"):
        ring.expand(bytes(16), b"a", 1)


def test_rings_without_a_transform_are_refused() -> None:
    for N, bits in ((12, 40), (8, 40), (64, 65), (64, 4)):
        with pytest.raises(ValueError, match="no ring"):
            Ring(N, bits)
    with pytest.raises(ValueError, match="too long"):
        Ring(64, 40).limb_bits_for(2.0**40)
