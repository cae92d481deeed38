"""The transform beside the schoolbook product, for every degree, at the ends of what double precision holds."""

import numpy as np
import pytest

from atoll.crypto.homomorphic import ELEMENTS, MATRICES, SLOTS
from atoll.crypto.lattice_sum import NARROW, WIDE
from atoll.crypto.prime_transform import forward, inverse, reduced, split, tables

PRIMES = {
    64: (257, 4192129, 33553537),
    128: (257, 33553153),
    256: (7681, 33551873),
    512: (4189697 - 4189697 % 1024 + 1,),
}


def negacyclic(x: np.ndarray, y: np.ndarray, p: int) -> np.ndarray:
    """The product modulo X^N + 1 and p by definition, in exact integers."""
    n = len(x)
    full = np.convolve(x.astype(np.int64).astype(object), y.astype(np.int64).astype(object))
    full[: n - 1] -= full[n:]
    return np.array([int(v) % p for v in full[:n]])


@pytest.mark.parametrize(("N", "p"), [(N, p) for N in (64, 128, 256) for p in PRIMES[N]])
def test_products_are_those_of_the_schoolbook(N: int, p: int) -> None:
    rng = np.random.default_rng(N)
    x, y = rng.integers(-(p // 2), p // 2 + 1, (2, 3, N)).astype(float)
    x[0], y[0] = p // 2, -(p // 2)  # the largest there are
    t, a, b = tables(N, p), x.copy(), y.copy()
    forward(a, t)
    forward(b, t)
    product = reduced(reduced(a, p) * reduced(b, p), p)
    inverse(product, t)
    for row in range(3):
        assert np.array_equal(product[row].astype(np.int64) % p, negacyclic(x[row], y[row], p))


@pytest.mark.parametrize(
    ("N", "p"),
    [(4096, p) for p in ELEMENTS.primes + SLOTS]
    + [(chain.N, p) for chain in (MATRICES, NARROW.chain, WIDE.chain) for p in chain.primes],
)
def test_every_prime_in_use_there_and_back_at_its_largest(N: int, p: int) -> None:
    x = np.full((2, N), float(p // 2))
    x[1] = np.random.default_rng(p).integers(-(p // 2), p // 2 + 1, N)
    a = x.copy()
    forward(a, tables(N, p))
    assert np.abs(a).max() <= 8 * p
    inverse(a, tables(N, p))
    assert np.array_equal(reduced(a, p), x)
    assert np.abs(a).max() <= p / 2 * (1 + 2.0**-20)


@pytest.mark.parametrize(("N", "p"), [(8192, 33538049), (16384, 33292289)])
def test_the_largest_prime_and_degree_stay_exact(N: int, p: int) -> None:
    t = tables(N, p)
    x = np.full((1, N), float(p // 2))
    y = np.zeros((1, N))
    y[0, 1] = -3.0  # times −3·X: a rotation
    a, b = x.copy(), y.copy()
    forward(a, t)
    forward(b, t)
    product = reduced(reduced(a, p) * reduced(b, p), p)
    inverse(product, t)
    want = np.full(N, -3 * (p // 2))
    want[0] *= -1
    assert np.array_equal(product[0].astype(np.int64) % p, want % p)


@pytest.mark.parametrize("G", [1, 2, 8, 128])
def test_a_polynomial_in_a_power_is_one_number_in_every_block(G: int) -> None:
    N, p = 8192, MATRICES.primes[0]
    short = np.random.default_rng(G).integers(-(p // 2), p // 2 + 1, (3, G)).astype(float)
    whole = np.zeros((3, N))
    whole[:, :: N // G] = short
    forward(whole, tables(N, p))
    assert np.array_equal(
        whole.astype(np.int64) % p, np.repeat(split(short, tables(N, p)).astype(np.int64) % p, N // G, axis=1)
    )


@pytest.mark.parametrize(("N", "p"), [(32, 257), (96, 257), (1 << 14, 257), (64, 255), (64, 7), (64, 1 << 26)])
def test_other_degrees_and_moduli_are_refused(N: int, p: int) -> None:
    with pytest.raises(ValueError, match="no transform"):
        tables(N, p)
