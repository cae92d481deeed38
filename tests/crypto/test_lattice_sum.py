"""Parameters are frozen and their security and noise recomputed; sums under a shared key come out exactly."""

import hashlib
import itertools
import math
from math import log2, prod

import numpy as np
import pytest

from atoll.crypto import lattice_sum as ls
from atoll.crypto.homomorphic import SIGMA, Chain
from atoll.crypto.lattice_sum import MEMBERS, NARROW, WIDE, Lattice, Public
from atoll.crypto.word_ring import WordRing
from atoll.testing import seeded_rng

BOTH = pytest.mark.parametrize("lattice", [NARROW, WIDE], ids=lambda lattice: lattice.name)
TAIL = 9.5
"""Deviations that no sum of noise exceeds but with probability 2^-64."""

TERNARY = math.sqrt(2 / 3)
"""Deviation of a coefficient of s_i and of u."""


def test_the_sets_are_frozen() -> None:
    rows = [(s.name, s.chain.N, s.primes, s.chain.kept, s.bits, s.flood) for s in (NARROW, WIDE)]
    assert rows == [("L32", 4096, 5, 2, 32, 69), ("L192", 16384, 12, 9, 192, 72)]
    assert hashlib.sha256(repr((NARROW, WIDE, MEMBERS, SIGMA)).encode()).hexdigest()[:16] == "257909aac3dedeef"


@BOTH
def test_primes_are_different_and_the_transforms_serve_them(lattice: Lattice) -> None:
    primes = lattice.chain.primes
    assert len(set(primes)) == len(primes)
    for p in primes:
        assert p < 1 << 24  # three bytes on the wire, 64 of them in 30 bits
        assert p % (2 * lattice.chain.N) == 1
        assert all(p % d for d in range(2, math.isqrt(p) + 1))


@pytest.mark.parametrize(("lattice", "most", "standard"), [(NARROW, 109, 130), (WIDE, 438, 206)])
def test_security_by_the_standards_table_and_count(lattice: Lattice, most: int, standard: int) -> None:
    """The homomorphic encryption standard allows 109 and 438 bits of q, ternary secrets, for 128 bits of security."""
    q_bits = log2(prod(lattice.chain.primes))
    assert q_bits <= most - 1
    beta, d = primal(lattice.chain.N, q_bits)
    assert abs(0.292 * beta + 16.4 + log2(8 * d) - standard) <= 1


@pytest.mark.parametrize(("N", "q_bits"), [(4096, 109), (16384, 438)])
def test_the_standards_own_rows_by_its_count(N: int, q_bits: float) -> None:
    beta, d = primal(N, q_bits)
    assert round(0.292 * beta + 16.4 + log2(8 * d)) == 128


def primal(N: int, q_bits: float) -> tuple[int, int]:
    """Block size and dimension of the primal attack on a ternary secret, scaled; see `test_homomorphic`."""
    log_q, scale = q_bits * math.log(2), math.log(SIGMA / TERNARY)

    def fits(beta: int) -> int | None:
        delta = (math.log(math.pi * beta) / beta + math.log(beta / (2 * math.pi * math.e))) / (2 * (beta - 1))
        need = math.log(SIGMA * math.sqrt(beta))
        sizes = range(N + 2, 5 * N, 16)
        volume = (((d - N - 1) * log_q + N * scale) / d for d in sizes)
        return next((d for d, v in zip(sizes, volume, strict=True) if need <= (2 * beta - d) * delta + v), None)

    low, high = 50, 2_000
    while low < high:
        middle = (low + high) // 2
        low, high = (middle + 1, high) if fits(middle) is None else (low, middle)
    return low, fits(low) or 0


# ---------------------------------------------------------------------------------------------- noise, in bits


def hidden(lattice: Lattice) -> float:
    """Log2 of the noise that the flood hides, in units of t: of 32 vectors and 32 encryptions of zero.

    Each has e·u + e₀ + e₁·s, where e and s are sums over 32 members.
    """
    N = lattice.chain.N
    one = SIGMA * math.sqrt(2 * N * MEMBERS * TERNARY**2 + 1)
    return log2(TAIL * one * math.sqrt(2 * MEMBERS))


@BOTH
def test_what_a_part_of_an_opening_shows_is_within_2_to_the_minus_40_of_nothing(lattice: Lattice) -> None:
    """A uniform number on 2^b values hides a shift by 2^s but for 2^(s − b), in each of N coefficients."""
    assert hidden(lattice) - lattice.flood + log2(lattice.chain.N) <= -40


@BOTH
def test_nothing_wraps_before_or_after_the_switch(lattice: Lattice) -> None:
    q = log2(prod(lattice.chain.primes))
    kept = log2(prod(lattice.chain.primes[: lattice.chain.kept]))
    floods = MEMBERS * 2.0 ** (lattice.flood - 1)
    noise = floods + 2.0 ** hidden(lattice) + 2 * MEMBERS  # and the words themselves
    assert log2(noise) + lattice.bits - q < log2(0.49)
    # what is dropped is rounded to multiples of t, by t/2 and a little in each of three divisions: 32·3 summands
    rounding = 3 * MEMBERS * 0.5 * (1 + 2.0**-19)
    assert log2(noise / lattice.chain.factor + rounding + 1) + lattice.bits - kept < log2(0.49)


@BOTH
def test_sums_of_residues_stay_exact(lattice: Lattice) -> None:
    assert 3 * MEMBERS * max(lattice.chain.primes) < 2**32
    assert 8 * max(lattice.chain.primes) * max(lattice.chain.primes) / 2 < 2**52
    assert -(-lattice.flood // 26) * 2**26 * max(lattice.chain.primes) < 2**52  # the parts of a flood
    assert 12 * 2**16 * max(lattice.chain.primes) < 2**52  # the limbs of a word
    assert (lattice.chain.kept + 1) * 2**24 * 2**32 < 2**63  # the limbs of what is opened


def test_floods_are_uniform_on_their_interval() -> None:
    """With a key of zero, and all primes kept, a part of an opening is t·f and nothing else."""
    chain, n = NARROW.chain, 20_000
    lattice = Lattice("L32", Chain(chain.N, chain.primes, NARROW.primes), 32, NARROW.flood, 8)
    c1 = np.zeros((lattice.primes, lattice.polynomials(n), chain.N), np.uint32)
    h = ls.widened(ls.partial(lattice, np.zeros((lattice.primes, chain.N)), c1, n, seeded_rng(5)))
    q = prod(chain.primes)
    weights = [q // p * pow(q // p, -1, p) * pow(lattice.t, -1, q) % q for p in chain.primes]
    f = [sum(int(v) * w for v, w in zip(row, weights, strict=True)) % q for row in h.T]
    signed = [x - q if x > q // 2 else x for x in f]
    half = 1 << (lattice.flood - 1)
    assert all(-half <= x < half for x in signed)
    counts = np.bincount([(x + half) * 64 >> lattice.flood for x in signed], minlength=64)
    assert float(((counts - n / 64) ** 2 / (n / 64)).sum()) < 63 + 6 * math.sqrt(126)
    assert sum(x & 1 for x in signed) - n / 2 < 3 * math.sqrt(n)


# ---------------------------------------------------------------------------------------------- sums


def setting(lattice: Lattice, n: int, seed: int = 1) -> tuple[list[np.ndarray], Public]:
    rng = seeded_rng(seed)
    a = ls.common(lattice, bytes(32))
    parts = [ls.secret(lattice, rng) for _ in range(n)]
    b = ls.joined(lattice, [ls.contribution(lattice, s, a, rng) for s in parts])
    return parts, Public(lattice, a, b)


def opened(public: Public, words: list[np.ndarray], bits: int, keys: list[np.ndarray]) -> np.ndarray:
    rng, lattice = seeded_rng(9), public.lattice
    count = ls.numbers_in(bits, words[0].size)
    c1 = np.zeros((lattice.primes, lattice.polynomials(count), lattice.chain.N), np.uint32)
    phase = np.zeros((lattice.chain.kept, count), np.uint32)
    for x in words:
        one, zero = ls.encrypted(public, ls.limbs_of(bits, x), rng)
        ls.add_packed(c1, one)
        ls.add_packed(phase, zero)
    for key in keys:
        ls.add_packed(phase, ls.partial(lattice, key, c1, count, rng))
    return ls.words_of(bits, ls.opened(lattice, phase))


@pytest.mark.parametrize("bits", [16, 32, 192])
@pytest.mark.parametrize("size", [0, 3, 3 * 5, 3 * 3000])
def test_sums_equal_those_of_the_word_ring(bits: int, size: int) -> None:
    rng, ring = seeded_rng(size), WordRing(bits)
    edges = [0, 1, (1 << 64) - 1, 1 << 63, 0xFFFF0000FFFF0000, (1 << 63) - 1]
    words = [rng.u64(size) for _ in range(4)]
    for at, x in enumerate(words[:3]):
        x[: len(edges)] = np.array(edges[at:] + edges[:at], np.uint64)[: x.size]
    want = words[0].copy()
    for x in words[1:]:
        ring.add(want, x)
    parts, public = setting(ls.lattice_of(bits), 3)
    assert np.array_equal(opened(public, words, bits, parts), want)


def test_as_many_members_as_there_may_be_with_zeros_from_all() -> None:
    parts, public = setting(NARROW, MEMBERS)
    words = [np.full(6, (1 << 64) - 1 - i, np.uint64) for i in range(MEMBERS)]
    zeros = [np.zeros(6, np.uint64)] * MEMBERS
    want = np.zeros(6, np.uint64)
    for x in words:
        WordRing(32).add(want, x)
    assert np.array_equal(opened(public, words + zeros, 32, parts), want)


@BOTH
def test_any_three_of_four_open_and_two_do_not(lattice: Lattice) -> None:
    bits = lattice.bits
    parts, public = setting(lattice, 4)
    made = [ls.shares(lattice, s, 3, 4, seeded_rng(20 + i)) for i, s in enumerate(parts)]
    held = [ls.joined(lattice, [shares[i] for shares in made]) for i in range(4)]
    words = [seeded_rng(i).u64(6) for i in range(2)]
    want = words[0].copy()
    WordRing(bits).add(want, words[1])
    for points in itertools.combinations((1, 2, 3, 4), 3):
        keys = [ls.weighted(lattice, held[x - 1], x, points) for x in points]
        assert np.array_equal(opened(public, words, bits, keys), want)
    keys = [ls.weighted(lattice, held[x - 1], x, (1, 2)) for x in (1, 2)]
    assert not np.array_equal(opened(public, words, bits, keys), want)
    assert np.array_equal(sum(ls.weighted(lattice, h, x, (1, 2, 3))[0] for x, h in enumerate(held[:3], 1)) %
                          lattice.chain.primes[0], sum(s[0] for s in parts) % lattice.chain.primes[0])  # fmt: skip


def test_shares_show_nothing_below_the_threshold() -> None:
    """Two shares of which three are needed are uniform, of whatever secret."""
    s = np.zeros((NARROW.primes, NARROW.chain.N))
    for share in ls.shares(NARROW, s, 3, 4, seeded_rng(3)):
        for residues, p in zip(ls.widened(share), NARROW.chain.primes, strict=True):
            counts = np.histogram(residues, 16, (0, p))[0]
            expected = residues.size / 16
            assert float(((counts - expected) ** 2 / expected).sum()) < 15 + 6 * math.sqrt(30)


@pytest.mark.parametrize(("t", "n"), [(0, 3), (4, 3), (2, MEMBERS + 1)])
def test_sharings_that_cannot_be(t: int, n: int) -> None:
    with pytest.raises(ValueError, match="no sharing"):
        ls.shares(NARROW, np.zeros((NARROW.primes, NARROW.chain.N)), t, n, seeded_rng(1))


def test_known_answers() -> None:
    """Frozen when the sums above came out: sites of two releases must understand each other."""
    found = []
    for lattice in (NARROW, WIDE):
        parts, public = setting(lattice, 2, seed=7)
        limbs = ls.limbs_of(lattice.bits, np.arange(6, dtype=np.uint64))
        c1, c0 = ls.encrypted(public, limbs, seeded_rng(8))
        h = ls.partial(lattice, parts[0], ls.widened(c1), len(limbs), seeded_rng(9))
        for array in (public.a, public.b, c1, c0, h, ls.shares(lattice, parts[0], 2, 3, seeded_rng(10))[2]):
            found.append(hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()[:8])
    assert " ".join(found) == (
        "1b61845c f947c9a0 c8ec5563 32e91ac3 f6f42242 b55af624 91d95881 017c74a9 74e49132 2605da0d 4cb35785 15032849"
    )


def test_a_mutant_without_a_flood_shows_the_noise_behind_a_sum() -> None:
    """Then all parts together give m + t·e exactly, and e is a linear function of secrets."""
    parts, public = setting(NARROW, 2)
    calm = Lattice("L32", NARROW.chain, 32, 1, 8)
    limbs = ls.limbs_of(32, np.zeros(100, np.uint64))

    def spread(lattice: Lattice) -> float:
        c1, c0 = ls.encrypted(public, limbs, seeded_rng(1))
        phase = ls.widened(c0)
        for i, key in enumerate(parts):
            ls.add_packed(phase, ls.partial(lattice, key, ls.widened(c1), len(limbs), seeded_rng(i)))
        p, other = lattice.chain.primes[:2]
        whole = [int(a) + p * ((int(b) - int(a)) * pow(p, -1, other) % other) for a, b in phase.T]
        return max(log2(abs(v - p * other if v > p * other // 2 else v) + 1) for v in whole)

    assert spread(calm) < 32 + 3  # nothing but rounding
    assert spread(NARROW) > 32 + 3.5


def test_a_mutant_that_opens_one_ciphertext_twice_shows_floods_modulo_the_weights() -> None:
    """Weights 3 and 8/3 of point 1, with points 2 and 3, and 2 and 4: 8·f − 9·f′ is known, and so is f modulo 9."""
    q, n = prod(WIDE.chain.primes), 50
    lattice = Lattice("L192", Chain(WIDE.chain.N, WIDE.chain.primes, WIDE.primes), 192, WIDE.flood, 1)
    (share, *_), public = setting(lattice, 1)
    c1 = ls.widened(ls.encrypted(public, np.zeros((n, 12), np.uint16), seeded_rng(2))[0])

    def part(key: np.ndarray, points: tuple[int, ...]) -> list[int]:
        """What a part of an opening is over t, modulo q and near zero."""
        h = ls.partial(lattice, ls.weighted(lattice, key, 1, points), c1, n, seeded_rng(points[2]))
        return [x * pow(lattice.t, -1, q) % q for x in whole(lattice, h)]

    ours, other = (1, 2, 3), (1, 2, 4)
    for first, second, flood in zip(part(share, ours), part(share, other), part(0 * share, ours), strict=True):
        known, f = ((x if x < q // 2 else x - q) for x in ((8 * first - 9 * second) % q, flood))
        assert abs(known) < 17 << WIDE.flood
        assert (known - 8 * f) % 9 == 0


def whole(lattice: Lattice, h: np.ndarray) -> list[int]:
    """Residues modulo all primes as integers modulo q."""
    q = prod(lattice.chain.primes)
    weights = [q // p * pow(q // p, -1, p) for p in lattice.chain.primes]
    return [sum(int(v) * w for v, w in zip(row, weights, strict=True)) % q for row in ls.widened(h).T]
