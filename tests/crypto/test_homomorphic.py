"""Parameters are frozen and their security and noise recomputed; sums of products come out; mutants show themselves."""

import hashlib
import math
from math import log2, prod

import numpy as np
import pytest

from atoll.crypto import homomorphic as he
from atoll.crypto import matrix_tiles, slot_products
from atoll.crypto.homomorphic import ELEMENTS, MATRICES, SIGMA, SLOTS, Chain
from atoll.crypto.prime_transform import reduced
from atoll.testing import seeded_rng

MODULI = [(ELEMENTS, SLOTS[0]), (ELEMENTS, SLOTS[8]), (MATRICES, 1 << 64)]
TAIL = 9.5
"""Deviations that no sum of noise exceeds but with probability 2^-64."""


def test_the_card_of_the_sets_is_frozen() -> None:
    assert [(c.N, len(c.primes), c.kept, round(log2(prod(c.primes)), 1)) for c in (ELEMENTS, MATRICES)] == [
        (4096, 5, 2, 106.0),
        (8192, 9, 4, 196.4),
    ]
    assert hashlib.sha256(repr((ELEMENTS, MATRICES, SLOTS, SIGMA)).encode()).hexdigest()[:16] == "b406b27ea28d5a68"


def test_moduli_are_different_primes_that_the_transforms_serve() -> None:
    for chain, others in ((ELEMENTS, SLOTS), (MATRICES, ())):
        every = chain.primes + others
        assert len(set(every)) == len(every)
        for p in every:
            assert p < 1 << 22
            assert p % (2 * chain.N) == 1
            assert all(p % d for d in range(2, math.isqrt(p) + 1))


@pytest.mark.parametrize(("chain", "most", "core", "standard"), [(ELEMENTS, 109, 102, 135), (MATRICES, 218, 112, 146)])
def test_security_by_two_counts(chain: Chain, most: int, core: int, standard: int) -> None:
    """The homomorphic encryption standard allows 109 and 218 bits of q with these degrees for 128 bits of security."""
    q_bits = log2(prod(chain.primes))
    assert q_bits <= most - 3
    beta, d = primal(chain.N, q_bits)
    assert abs(0.292 * beta - core) <= 1
    assert abs(0.292 * beta + 16.4 + log2(8 * d) - standard) <= 1


@pytest.mark.parametrize(("N", "q_bits"), [(4096, 109), (8192, 218)])
def test_the_standards_own_rows_by_its_count(N: int, q_bits: float) -> None:
    beta, d = primal(N, q_bits)
    assert 128 <= 0.292 * beta + 16.4 + log2(8 * d) <= 133


def primal(N: int, q_bits: float) -> tuple[int, int]:
    """Block size and dimension of the primal attack, secret and noise with one deviation; as `test_lwe.py` has it.

    The standard's count for this block size is 0.292·β + 16.4 + log2(8·d): Albrecht, Player and Scott, 2015.
    """
    log_q = q_bits * math.log(2)

    def fits(beta: int) -> int | None:
        delta = (math.log(math.pi * beta) / beta + math.log(beta / (2 * math.pi * math.e))) / (2 * (beta - 1))
        need = math.log(SIGMA * math.sqrt(beta))
        sizes = range(N + 2, 5 * N, 16)
        return next((d for d in sizes if need <= (2 * beta - d) * delta + (d - N - 1) * log_q / d), None)

    low, high = 50, 1_000
    while low < high:
        middle = (low + high) // 2
        low, high = (middle + 1, high) if fits(middle) is None else (low, middle)
    return low, fits(low) or 0


# ---------------------------------------------------------------------------------------------- noise, in bits


def seen_of_slots() -> float:
    """Log2 of what the owner may see of the other's numbers below R, in units of t: two sums of 4,096 terms."""
    N, t = ELEMENTS.N, max(SLOTS)
    factor = t / math.sqrt(12)  # a polynomial of uniform slots has uniform coefficients
    noise = TAIL * SIGMA * factor * math.sqrt(2 * N)
    message = TAIL * (t / math.sqrt(12)) * factor * math.sqrt(2 * N) / t
    return log2(noise + message + own_noise(N))


def seen_of_matrices() -> float:
    """The same for matrices: words of 63 bits and a sign; the messages' sum is bounded for every matrix there is."""
    terms = matrix_tiles.MOST_TERMS
    return log2(TAIL * SIGMA * 2.0**63 / math.sqrt(3) * math.sqrt(terms) + terms * 2.0**62 + own_noise(MATRICES.N))


def own_noise(N: int) -> float:
    """What the blind itself adds, e·u + e₁·s and one more for R: a sum of 2·N products of two deviations 3.2."""
    return TAIL * SIGMA**2 * math.sqrt(2 * N) + 1


@pytest.mark.parametrize(
    ("chain", "t", "seen"), [(ELEMENTS, max(SLOTS), seen_of_slots()), (MATRICES, 1 << 64, seen_of_matrices())]
)
def test_what_an_answer_shows_is_within_2_to_the_minus_40_of_nothing(chain: Chain, t: int, seen: float) -> None:
    """A uniform number on an interval of 2^b hides a shift by 2^s but for 2^(s − b), in each of N coefficients."""
    blind = chain.blind_bits - (t.bit_length() if t < 1 << 64 else 64)
    assert seen - blind + log2(chain.N) <= -40


@pytest.mark.parametrize(
    ("chain", "t", "seen"), [(ELEMENTS, max(SLOTS), seen_of_slots()), (MATRICES, 1 << 64, seen_of_matrices())]
)
def test_nothing_wraps_before_or_after_the_switch(chain: Chain, t: int, seen: float) -> None:
    q, small = log2(prod(chain.primes)), log2(prod(chain.primes[: chain.kept]))
    assert 2.0 ** (chain.blind_bits - 1 - q) + 2.0 ** (seen + log2(t) - q) < 0.49
    # each lost prime adds t/2·(1 + s): a sum of N products of a uniform number and a deviation of 3.2
    rounding = t * (0.5 + TAIL * SIGMA * math.sqrt(chain.N / 12)) * 1.001
    assert 0.26 + 2.0 ** (log2(rounding) - small) < 0.49


def test_numbers_of_slots_hide_their_products_and_do_not_wrap() -> None:
    T = prod(SLOTS)
    assert 128 - slot_products.MASK_BITS + log2(ELEMENTS.N) <= -40  # two products of 126 bits, under R
    assert T // 4 - (1 << 128) > 0
    assert T // 4 + (1 << slot_products.MASK_BITS) + (1 << 128) < T // 2


def test_sums_of_residues_stay_exact() -> None:
    largest = max(MATRICES.primes) / 2 * (1 + 2.0**-20)
    assert matrix_tiles.MOST_REQUESTS * largest**2 < 2**53
    assert 2048 * largest**2 < 2**53


# ---------------------------------------------------------------------------------------------- encryption


def setting(chain: Chain, t: int, seed: int = 1) -> tuple[he.Secret, he.Public]:
    rng, label = seeded_rng(seed), b"zero"
    key = he.secret(chain, rng)
    return key, he.public_from(chain, t, he.public(key, t, bytes(32), label, rng), bytes(32), label)


def encrypted(key: he.Secret, t: int, m: np.ndarray, seed: int = 2) -> np.ndarray:
    """c₀ and c₁ as the other side has them, (2, L, n, N)."""
    chain = key.chain
    a = [he.uniform(chain, i, bytes(32), b"message", len(m)) for i in range(len(chain.primes))]
    c0 = he.encrypt(key, t, [m] * len(a), a, seeded_rng(seed))
    return np.stack((np.stack([he.unpacked(c, p) for c, p in zip(c0, chain.primes, strict=True)]), np.stack(a)))


@pytest.mark.parametrize(("chain", "t"), MODULI)
def test_a_sum_of_products_comes_out_under_its_mask(chain: Chain, t: int) -> None:
    key, public = setting(chain, t)
    m = np.random.default_rng(1).integers(-(2**20), 2**20, (2, chain.N)).astype(float)
    c = encrypted(key, t, m)
    factor = np.zeros((2, chain.N))
    factor[:, 0], factor[:, 5] = -2, 3  # 3·X^5 − 2
    hats = he.transformed(chain, factor)
    for i, p in enumerate(chain.primes):
        c[:, i] = reduced(c[:, i] * reduced(hats[i], p), p)
    masks = np.zeros(c.shape[1:]) + np.arange(7, 7 + chain.N)
    switched = he.blinded(public, c, masks, seeded_rng(3)).copy()
    phases = he.opened(key, switched[0], switched[1])
    want = 3 * np.roll(m, 5, axis=1) * np.where(np.arange(chain.N) < 5, -1, 1) - 2 * m + np.arange(7, 7 + chain.N)
    if t == 1 << 64:
        assert np.array_equal(he.words(chain, phases).view(np.int64), want.astype(np.int64))
    else:
        assert not (he.modulo(chain, phases, t).astype(np.int64) - want.astype(np.int64)).__mod__(t).any()


def test_known_answers() -> None:
    key, public = setting(ELEMENTS, SLOTS[0])
    m = np.arange(ELEMENTS.N, dtype=float)[np.newaxis]
    c = encrypted(key, SLOTS[0], m)
    answered = he.blinded(public, c.copy(), np.zeros(c.shape[1:]), seeded_rng(3))
    words = [
        he.packed(part[i], p).tobytes()
        for part in (*c[:1], *answered)
        for i, p in enumerate(ELEMENTS.primes[: len(part)])
    ]
    assert hashlib.sha256(b"".join(words)).hexdigest()[:16] == "46965c83e551d914"


def test_an_answer_without_a_blind_gives_the_factors_away() -> None:
    """Mutant: c₁ of the product is the factor times the public uniform part; one division shows it."""
    t = SLOTS[0]
    key, public = setting(ELEMENTS, t)
    c = encrypted(key, t, np.zeros((1, ELEMENTS.N)))
    factor = he.transformed(ELEMENTS, np.random.default_rng(4).integers(-9, 9, (1, ELEMENTS.N)).astype(float))
    p, a = ELEMENTS.primes[0], c[1, 0, 0].astype(np.int64)
    inverses = np.array([pow(int(v) % p, -1, p) for v in a[:50]])
    products = np.stack([reduced(c[:, i] * reduced(factor[i], q), q) for i, q in enumerate(ELEMENTS.primes)], axis=1)
    bare = products[1, 0, 0, :50].astype(np.int64)
    want = factor[0, 0, :50].astype(np.int64) % p
    assert np.array_equal(bare * inverses % p, want)
    he.blinded(public, products, np.zeros(products.shape[1:]), seeded_rng(5))
    again = he.transformed(ELEMENTS, products[1, :1, 0])[0, 0, :50].astype(np.int64)
    assert (again * inverses % p == want).sum() < 5


def test_uniform_parts_are_uniform_and_depend_on_everything() -> None:
    p = ELEMENTS.primes[0]
    base = he.uniform(ELEMENTS, 0, bytes(32), b"a", 8)
    counts = np.bincount(((base + p // 2) * 64 // p).astype(int).reshape(-1), minlength=64)
    assert abs(counts - base.size / 64).max() < 6 * math.sqrt(base.size / 64)
    for other in (
        he.uniform(ELEMENTS, 1, bytes(32), b"a", 8),
        he.uniform(ELEMENTS, 0, bytes(32), b"b", 8),
        he.uniform(ELEMENTS, 0, b"1" * 32, b"a", 8),
    ):
        assert (base == other).mean() < 0.001


def test_parts_add_up_modulo_primes_and_words() -> None:
    parts = he.uniform_parts(seeded_rng(1), 195, 40)
    numbers = [sum(int(part[i]) << (26 * k) for k, part in enumerate(parts)) for i in range(40)]
    assert len(parts) == 8
    assert max(numbers) < 1 << 195
    assert max(numbers) > 1 << 190
    p = MATRICES.primes[0]
    assert [int(v) % p for v in he.sum_of_parts(parts, (p, 257), -17, 3)[0]] == [3 * (v - 17) % p for v in numbers]
    assert he.words_of_parts(parts, -17).tolist() == [(v - 17) % (1 << 64) for v in numbers]


def test_residues_travel_in_three_bytes_and_whatever_comes_is_reduced() -> None:
    p = ELEMENTS.primes[0]
    x = np.array([0, 1, -1, p // 2, -(p // 2)], float)
    assert np.array_equal(he.unpacked(he.packed(x, p), p), x)
    assert np.abs(he.unpacked(np.full((4, 3), 255, np.uint8), p)).max() <= p // 2 + 1
