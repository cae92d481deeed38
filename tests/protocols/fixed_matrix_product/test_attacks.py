"""Attacks: they succeed where the opening's noise is missing or too small, or the terms allow them, and only there.

A mutant is the role of the product with one part replaced by a double.
"""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from atoll.crypto.gaussian import Gaussian
from atoll.crypto.lwe import ParameterSet, get
from atoll.protocols.fixed_matrix_product import TO_ASKER, TO_OWNER, Asker, Dense, Facts, Indicator, Terms
from atoll.testing.lattice import toy_set
from tests.protocols.fixed_matrix_product.tools import ANY, bins_matrix, dense_matrix, play, vectors

U64 = np.uint64


def opened_by(sigma: float) -> Callable[[Asker], Asker]:
    """Return a mutation of the asker: its opening noise has another σ′."""
    return lambda asker: replace(asker, opening_noise=Gaussian(sigma))


def solve_binary(H: np.ndarray, z: np.ndarray) -> np.ndarray | None:
    """Solve H·s = z modulo 2 by elimination, for a binary s; None if the rank is too small."""
    N = H.shape[1]
    system = np.packbits(np.column_stack(((H & U64(1)).astype(np.uint8), (z & U64(1)).astype(np.uint8))), axis=1)
    for row in range(N):
        byte, bit = row // 8, np.uint8(128 >> row % 8)
        pivots = np.flatnonzero(system[row:, byte] & bit)
        if not pivots.size:
            return None
        system[[row, row + pivots[0]]] = system[[row + pivots[0], row]]
        others = np.flatnonzero(system[:, byte] & bit)
        system[others[others != row]] ^= system[row]
    return np.unpackbits(system[:N], axis=1)[:, N]


def read_by_elimination(k: int, n: int, params: ParameterSet, mutation: Callable[[Asker], Asker]) -> float:
    """Let an honest owner with k ≥ N rows look for s, then for v; return the share of v that it finds."""
    matrix, V = dense_matrix(1, k, n, 3), np.rint(vectors(2, 1, n) * 50)
    terms = Terms(output="owner", facts=Facts.bounded(k, n, 3), largest_value=50.0, **ANY)
    run = play(matrix, V, params, terms, bend_asker=mutation)
    agreement, c = run.owner.agreement, run.masked[0]
    # (M·w − e′) mod q, which the owner gets, leaves H·s + e′ when it is taken from M·c
    opened = np.rint(run.owner_result[0] * agreement.public_scale).astype(np.int64).view(U64)
    z = (matrix.entries.view(U64) @ c - opened) & params.ring.mask
    s = solve_binary(np.ascontiguousarray(run.owner.hint.rows.T), z)
    if s is None:
        return 0.0
    w = (c - run.asker.a.times(s, n)) & params.ring.mask
    signed = (w << U64(64 - params.q_bits)).view(np.int64) >> (64 - params.q_bits)
    return float((np.rint(signed / agreement.public_scale) == V[0]).mean())


@pytest.mark.slow
def test_without_noise_on_the_opening_elimination_reads_v() -> None:
    params = toy_set(64, 40, 8.0)
    assert read_by_elimination(80, 300, params, opened_by(0.0)) == 1.0
    assert read_by_elimination(80, 300, params, lambda asker: asker) < 0.05


@pytest.mark.slow
def test_without_noise_on_the_opening_elimination_reads_v_at_full_size() -> None:
    params = get("H40")
    assert read_by_elimination(2060, 2200, params, opened_by(0.0)) == 1.0
    assert read_by_elimination(2060, 2200, params, lambda asker: asker) < 0.05


def noise_read(sigma: float, mutation: Callable[[Asker], Asker]) -> float:
    """An owner of 64 copies of unit rows averages them and rounds; return the share of e that it reads."""
    unit, copies, n = 128, 64, 200
    matrix = Dense(np.repeat(np.eye(unit, n, dtype=np.int64), copies, axis=0))
    read, total = 0, 0
    for seed in range(2):
        run = play(
            matrix,
            np.zeros((1, n)),
            toy_set(64, 64, sigma),
            Terms(output="owner", facts=Facts(1.0, 1.0, 1.0, 8.0), **ANY),
            seed=seed,
            bend_asker=mutation,
        )
        scale, c = run.owner.agreement.public_scale, run.masked[0]
        guess = np.rint((run.owner_result[0] * scale).reshape(unit, copies).mean(axis=1))
        e = (c - run.asker.a.times(run.secrets[0], n))[:unit].view(np.int64)
        read, total = read + int((guess == e).sum()), total + unit
    return read / total


@pytest.mark.slow
def test_noise_by_row_norms_is_read_off_and_noise_by_singular_values_is_not() -> None:
    """σ = 3.2 as in the attack's first run; the prior alone guesses an eighth of e."""
    assert noise_read(3.2, opened_by(3.2 * 1.0)) > 0.6  # row norm 1
    assert noise_read(3.2, opened_by(3.2 * 8.0)) < 0.25  # largest singular value 8
    assert noise_read(3.2, lambda asker: asker) < 0.2


def test_a_malicious_owner_reads_v_through_an_opening_and_the_card_says_so() -> None:
    """H′ holds 2^b at chosen places: each row of an opening shows 43 bits of s, through the noise e′."""
    params, n = get("X64"), 1500
    per_row, first_bit = 43, 20
    k = -(-params.N // per_row)
    bent_hint = np.zeros((params.N, k), U64)
    for j in range(params.N):
        bent_hint[j, j // per_row] = U64(1) << U64(first_bit + j % per_row)
    matrix, V = Dense(np.zeros((k, n), np.int64)), vectors(1, 1, n)
    terms = Terms(output="owner", reveals_vectors=True)
    run = play(
        matrix, V, params, terms, bend_owner=lambda owner: replace(owner, hint=owner.hint._replace(rows=bent_hint))
    )
    # M = 0, so the owner's result is −(H′·s + e′)
    leaked = -np.rint(run.owner_result[0] * run.owner.agreement.public_scale)
    words = (leaked.astype(np.int64) + (1 << (first_bit - 1))).view(U64) >> U64(first_bit)
    s = ((words[:, np.newaxis] >> np.arange(per_row, dtype=U64)) & U64(1)).reshape(-1)[: params.N].astype(np.uint8)
    assert (s == run.secrets[0]).mean() > 0.99  # float64 results lose the lowest bits of the longest rows
    assert "A malicious owner replaces its hint" in " ".join(TO_OWNER.card.notes)
    assert "A malicious owner chooses rows of M at will" in " ".join(TO_OWNER.card.notes)


@pytest.mark.parametrize(("name", "persons"), [("H40", 17), ("X64", 44)])
def test_a_malicious_asker_reads_persons_bins_and_the_card_says_so(name: str, persons: int) -> None:
    """v = (2^0, 2^1, …): the binary digits of a bin's sum are its members."""
    n, m = 1500, 8
    matrix = bins_matrix(3, 1, n, m)
    V = np.zeros((1, n))
    V[0, :persons] = 2.0 ** np.arange(persons)
    run = play(matrix, V, get(name), Terms(facts=Facts.indicator(1, n)))
    digits = (np.rint(run.asker_result[0]).astype(np.int64)[:, np.newaxis] >> np.arange(persons)) & 1
    assert np.array_equal(np.argmax(digits, axis=0), matrix.bins[0, :persons])
    assert "A malicious asker packs people into one vector" in " ".join(TO_ASKER.card.notes)
    assert "semi-honest asker only" in TO_ASKER.card.security


def test_the_cards_name_both_trust_models() -> None:
    assert "even against a malicious owner" in TO_ASKER.card.security
    assert TO_OWNER.card.security.startswith("Semi-honest on both sides")
    assert "Selective failure" in " ".join(TO_ASKER.card.notes)


def test_the_hint_alone_gives_the_owner_nothing_to_guess_with() -> None:
    """All-equal M, rank-deficient H, s tried as zero: what the owner sees of v stays uniform."""
    n = 1000
    matrix = Indicator(np.zeros((1, n), np.uint8), [1])
    run = play(matrix, np.ones((1, n)), get("H40"), Terms())
    c = run.masked[0].astype(np.float64) / 2.0**40
    assert abs(c.mean() - 0.5) < 5 / np.sqrt(12 * n)
    assert abs(np.cos(2 * np.pi * c).mean()) < 5 / np.sqrt(2 * n)
