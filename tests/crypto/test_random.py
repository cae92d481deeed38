"""Secret randomness: frozen streams, exact ranges, independence, and what is refused."""

import copy
import pickle

import numpy as np
import pytest

from atoll.crypto.random import Rng
from atoll.testing import seeded_rng


def test_frozen_stream() -> None:
    rng = Rng(bytes(32))
    assert rng.bytes(16).hex() == "dc95c078a2408989ad48a21492842087"  # AES-256 of the zero block under the zero key
    rng = seeded_rng(7)
    assert rng.permutation(8).tolist() == [5, 6, 7, 3, 1, 2, 4, 0]
    assert rng.uniform_u64(1000, 4).tolist() == [419, 848, 345, 740]


@pytest.mark.parametrize("n", [0, 1, 2, 5, 1000])
def test_permutation_holds_every_place_once(n: int) -> None:
    assert np.array_equal(np.sort(seeded_rng(n).permutation(n)), np.arange(n))


def test_permutation_is_uniform() -> None:
    rng = seeded_rng(3)
    counts = np.zeros(24)
    for _ in range(4800):
        a, b, c, _d = rng.permutation(4)
        counts[int(a) * 6 + sum(int(x) < int(b) for x in range(4) if x != a) * 2 + (c > _d)] += 1
    assert ((counts - 200) ** 2 / 200).sum() < 60  # χ² with 23 degrees of freedom exceeds 60 once in 30,000


@pytest.mark.parametrize("bound", [1, 2, 3, 10, (1 << 63) + 1, (1 << 64) - 1, 1 << 64])
def test_uniform_stays_below_its_bound(bound: int) -> None:
    values = seeded_rng(1).uniform_u64(bound, 500)
    assert int(values.max()) < bound
    assert bound < 1000 or abs(float(values.astype(np.float64).mean()) / bound - 0.5) < 0.06


def test_uniform_is_exact_where_a_plain_remainder_is_not() -> None:
    bound = 3 << 62  # a remainder of 64 bits would give the lower third twice as often
    values = seeded_rng(2).uniform_u64(bound, 6000)
    lower = int((values < np.uint64(1 << 62)).sum())
    assert abs(lower - 2000) < 200


def test_below_accepts_bounds_of_any_size() -> None:
    rng = seeded_rng(4)
    assert all(0 <= rng.below(7**100) < 7**100 for _ in range(50))
    assert {rng.below(3) for _ in range(100)} == {0, 1, 2}
    assert rng.below(1) == 0
    for bound in (0, -1):
        with pytest.raises(ValueError, match="no integer"):
            rng.below(bound)
    with pytest.raises(ValueError, match="64-bit bound"):
        rng.uniform_u64(0, 1)


def test_spawned_generators_differ_from_their_parent_and_each_other() -> None:
    rng = seeded_rng(5)
    a, b = rng.spawn(), rng.spawn()
    assert len({a.bytes(16), b.bytes(16), rng.bytes(16)}) == 3
    assert Rng.system().bytes(16) != Rng.system().bytes(16)


def test_draws_continue_one_stream() -> None:
    whole, parts = seeded_rng(6), seeded_rng(6)
    assert whole.bytes(100) == parts.bytes(1) + parts.u8(3, 5).tobytes() + parts.bytes(84)


def test_words_and_bits_have_their_shape() -> None:
    rng = seeded_rng(8)
    assert rng.u32(3, 5).shape == (3, 5)
    assert rng.u32(2).dtype == np.uint32
    assert rng.u64(0, 4).shape == (0, 4)
    assert rng.u64().shape == ()
    bits = rng.bits(10_001)
    assert bits.shape == (10_001,)
    assert set(bits.tolist()) == {0, 1}
    assert abs(bits.mean() - 0.5) < 0.03


def test_a_generator_cannot_be_copied_and_does_not_show_its_state() -> None:
    rng = seeded_rng(9)
    with pytest.raises(TypeError, match="repeat"):
        copy.copy(rng)
    with pytest.raises(TypeError, match="repeat"):
        pickle.dumps(rng)
    assert repr(rng) == "Rng(…)"


def test_a_generator_carried_into_a_fork_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = seeded_rng(10)
    monkeypatch.setattr("os.getpid", lambda: -1)
    with pytest.raises(RuntimeError, match="forked"):
        rng.bytes(1)


def test_short_keys_are_refused() -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        Rng(b"short")
