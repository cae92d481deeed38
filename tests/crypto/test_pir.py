"""Retrieval from plain LWE: exact, with the noise that its parameters promise, and hiding which column."""

import hashlib
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from atoll.crypto import pir
from atoll.crypto.jit import read_only
from atoll.crypto.random import Rng
from atoll.testing import seeded_rng


def drawn(rows: int, columns: int, seed: int = 1) -> np.ndarray:
    return seeded_rng(seed).u8(rows, columns)


def plain(matrix: np.ndarray, vectors: np.ndarray) -> np.ndarray:
    """M·v modulo 2^32 for vectors (…, m); bytes count as signed numbers."""
    signed = matrix.view(np.int8) if matrix.dtype == np.uint8 else matrix
    return (vectors.astype(np.uint64) @ signed.astype(np.int64).astype(np.uint64).T).astype(np.uint32)


def whole(public: pir.PublicMatrix) -> np.ndarray:
    return np.concatenate([block.T.copy() for _, block in public.blocks()])


@given(st.integers(1, 23), st.integers(0, 7), st.integers(1, 9), st.integers(0, 1000))
def test_columns_come_back(rows: int, power: int, count: int, seed: int) -> None:
    matrix, public = drawn(rows, 1 << power, seed), pir.PublicMatrix(b"here", 1 << power)
    s, u = pir.masks(public, count, seeded_rng(seed))
    columns = np.array([seeded_rng(seed + 1 + i).below(1 << power) for i in range(count)])
    pir.choose(u, columns)
    answers = pir.answer(matrix, u, threads=1)
    assert np.array_equal(answers, plain(matrix, u))
    hint = pir.hint(matrix, public, threads=1)
    assert np.array_equal(pir.recover(answers, hint, s), matrix[:, columns].T)


def test_a_matrix_of_several_blocks_and_threads() -> None:
    matrix, public = drawn(300, 8192), pir.PublicMatrix(b"here", 8192)
    hint = pir.hint(matrix, public, threads=2)
    assert np.array_equal(hint[::97], plain(np.ascontiguousarray(matrix[::97]), whole(public).T).T)
    s, u = pir.masks(public, 5, seeded_rng(1))
    pir.choose(u, np.array([0, 8191, 4096, 77, 77]))
    got = pir.recover(pir.answer(matrix, u, threads=2), hint, s)
    assert np.array_equal(got, matrix[:, [0, 8191, 4096, 77, 77]].T)


def test_a_changed_hint_is_the_hint_of_the_changed_matrix() -> None:
    matrix, public = drawn(60, 4096), pir.PublicMatrix(b"here", 4096)
    hint = pir.hint(matrix, public, threads=1)
    rows, columns, new = np.array([0, 20, 40, 20]), np.array([4095, 0, 2047, 2048]), drawn(4, 20, 2)
    old = np.stack([matrix[r : r + 20, c] for r, c in zip(rows, columns, strict=True)])
    pir.change_hint(hint, public, rows, columns, pir.signed_change(new, old))
    for r, c, piece in zip(rows, columns, new, strict=True):
        matrix[r : r + 20, c] = piece
    assert np.array_equal(hint, pir.hint(matrix, public, threads=1))


def noise(columns: int, count: int) -> np.ndarray:
    """The e of `count` queries, (count, columns)."""
    public = pir.PublicMatrix(b"here", columns)
    s, u = pir.masks(public, count, seeded_rng(3))
    product = np.zeros_like(u)
    for first, block in public.blocks():
        pir._add_mask(read_only(block), s, first, product)
    e = (u - product).view(np.int32)
    assert np.abs(e).max() < 14 * pir.SIGMA
    return e.astype(float)


def test_the_noise_is_what_the_card_says_and_far_from_the_bound() -> None:
    matrix = drawn(300, 4096).view(np.int8).astype(float)
    assert 0.95 < (noise(4096, 24) @ matrix.T).std() / pir.noise_deviation(4096) < 1.05
    for columns in (1, 4096, pir.LARGEST_COLUMNS):
        assert 9.7 * pir.noise_deviation(columns) < pir.DELTA / 2


def test_bytes_that_are_all_the_same_stay_within_the_bound() -> None:
    e = noise(4096, 40)
    for byte in (0, 127, -128, -1):
        assert np.abs((e * byte).sum(1)).max() < pir.DELTA / 2


def test_the_mutant_with_unsigned_bytes_has_more_noise() -> None:
    matrix = drawn(300, 4096).astype(float)
    assert (noise(4096, 24) @ matrix.T).std() > 1.4 * pir.noise_deviation(4096)


def core_svp(N: int, q_bits: int, sigma: float) -> float:
    """As of `tests.crypto.test_lwe`, for secrets that are uniform, and so as good as ones drawn like the noise.

    Source: Applebaum, Cash, Peikert, Sahai, CRYPTO 2009, lemma 2.
    """
    log_q = q_bits * math.log(2)

    def works(beta: int) -> bool:
        delta = (math.log(math.pi * beta) / beta + math.log(beta / (2 * math.pi * math.e))) / (2 * (beta - 1))
        need = math.log(sigma * math.sqrt(beta))
        return any(need <= (2 * beta - d) * delta + (d - N - 1) * log_q / d for d in range(N + 2, 5 * N, 16))

    return 0.292 * next(beta for beta in range(200, 1000) if works(beta))


def test_security_by_the_careful_count() -> None:
    assert 118 <= core_svp(pir.N, 32, pir.SIGMA) < 120
    assert 94 <= core_svp(pir.N, 32, 6.4) < 96  # the paper's width


def test_queries_for_two_columns_look_alike_and_uniform() -> None:
    public = pir.PublicMatrix(b"here", 4096)
    for column in (0, 4095):
        _, u = pir.masks(public, 8, seeded_rng(column))
        pir.choose(u, np.full(8, column))
        bits = np.unpackbits(u.view(np.uint8)).astype(float)
        assert abs(bits.mean() - 0.5) < 5 * 0.5 / np.sqrt(bits.size)
        counts = np.bincount(u.reshape(-1).view(np.uint8), minlength=256)
        assert ((counts - counts.mean()) ** 2 / counts.mean()).sum() < 255 + 6 * np.sqrt(2 * 255)


def test_secrets_are_fresh_and_a_mutant_that_reuses_one_shows_the_column() -> None:
    public = pir.PublicMatrix(b"here", 1024)
    s, u = pir.masks(public, 6, seeded_rng(1))
    assert len({row.tobytes() for row in s}) == 6
    pir.choose(u, np.array([3, 9, 3, 9, 3, 9]))
    assert np.abs((u[0] - u[1]).view(np.int32)).min() < 1 << 24
    assert np.count_nonzero(np.abs((u[0] - u[1]).view(np.int32)) > 1 << 20) > 1000
    mutant = u.copy()
    mutant[1] += plain(whole(public), s[:1] - s[1:2])[0]  # as if both queries had been made with s[0]
    difference = np.abs((mutant[0] - mutant[1]).view(np.int32))
    assert np.flatnonzero(difference > 1 << 20).tolist() == [3, 9]


def test_another_database_has_another_a() -> None:
    one, two = (pir.PublicMatrix(name, 16).block(0) for name in (b"one", b"two"))
    assert np.count_nonzero(one == two) < 3
    assert hashlib.sha256(one.tobytes()).hexdigest()[:16] == FROZEN["a"]
    late = pir.PublicMatrix(b"one", 8192).block(3)
    assert hashlib.sha256(late.tobytes()).hexdigest()[:16] == FROZEN["late"]
    s, u = pir.masks(pir.PublicMatrix(b"one", 16), 1, Rng(bytes(32)))
    assert hashlib.sha256(s.tobytes() + u.tobytes()).hexdigest()[:16] == FROZEN["mask"]


def test_blocks_one_by_one_are_the_same_as_in_a_row() -> None:
    public = pir.PublicMatrix(b"here", 8192)
    for number, (first, block) in enumerate(public.blocks()):
        assert first == 2048 * number
        assert np.array_equal(block, public.block(number))


@pytest.mark.parametrize("columns", [0, 3, -4, 1 << 18])
def test_columns_that_the_noise_does_not_allow_are_refused(columns: int) -> None:
    with pytest.raises(ValueError, match="power of two"):
        pir.PublicMatrix(b"here", columns)


def test_a_query_of_another_length_is_refused() -> None:
    with pytest.raises(ValueError, match="contiguous matrix of 8 columns"):
        pir.answer(drawn(3, 16), np.zeros((1, 8), np.uint32))


FROZEN = {"a": "91cb7ad54e8c5f0b", "late": "a329014b898cc2d2", "mask": "8e70304959612caa"}
