"""The public bounds hold for the matrices they are made for, and the noise of an opening follows from them."""

import numpy as np
import pytest

from atoll.crypto.lwe import get
from atoll.protocols.fixed_matrix_product import Dense, Facts, Indicator, Terms, reference
from atoll.protocols.fixed_matrix_product.terms import Agreement
from tests.protocols.fixed_matrix_product.tools import bins_matrix, dense_matrix, vectors

N_ROWS, FRACTION = 2_000, 8


def standardised(k: int, seed: int) -> np.ndarray:
    X = vectors(seed, k, N_ROWS)
    X -= X.mean(axis=1, keepdims=True)
    return X / X.std(axis=1, keepdims=True)


def fixed_point(X: np.ndarray) -> Dense:
    return Dense(np.rint(X * 2**FRACTION).astype(np.int64))


def collinear() -> Dense:
    return fixed_point(np.repeat(standardised(1, 1), 40, axis=0) + 0.01 * standardised(40, 2))


CASES = {
    "histogram": (bins_matrix(1, 20, N_ROWS, 8), Facts.indicator(20, N_ROWS, 400)),
    "histogram of one value": (Indicator(np.zeros((20, N_ROWS), np.uint8), [8] * 20), Facts.indicator(20, N_ROWS)),
    "standardised": (fixed_point(standardised(40, 3)), Facts.standardised(40, N_ROWS, FRACTION, 5.0)),
    "collinear": (collinear(), Facts.standardised(40, N_ROWS, FRACTION, 5.0)),
    "uncentred zeros and ones": (Dense((vectors(4, 40, N_ROWS) > -0.8).astype(np.int64)), Facts.binary(40, N_ROWS)),
    "duplicate rows": (Dense(np.repeat(np.eye(8, N_ROWS, dtype=np.int64), 64, axis=0)), Facts.binary(512, N_ROWS)),
    "genotypes": (Dense(np.abs(dense_matrix(5, 30, N_ROWS, 2).entries)), Facts.bounded(30, N_ROWS, 2)),
    "signed": (dense_matrix(6, 50, N_ROWS, 300), Facts.bounded(50, N_ROWS, 300)),
}


@pytest.mark.parametrize("case", CASES)
def test_bounds_hold(case: str) -> None:
    matrix, facts = CASES[case]
    M = reference.entries(matrix).astype(np.float64)
    singular = np.linalg.norm(M, 2)
    assert facts.spectral >= singular * (1 - 1e-12)
    assert facts.largest >= np.abs(M).max()
    assert facts.row_norm >= np.sqrt((M**2).sum(axis=1)).max() * (1 - 1e-3)
    assert facts.row_sum >= np.abs(M).sum(axis=1).max() * (1 - 1e-3)
    mine = matrix.facts()
    assert mine.spectral >= singular * (1 - 1e-9)
    for name in ("largest", "row_norm", "row_sum", "spectral"):
        assert getattr(mine, name) <= getattr(facts, name) * (1 + 1e-9), name


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("name", ["H40", "X64", "R64"])
def test_what_is_left_of_e_after_an_opening_is_wide_in_every_direction(case: str, name: str) -> None:
    """Σ^-1 = I/σ² + MᵀM/σ′²: its smallest variance is at least σ²/2, and wide enough to split off a sphere."""
    matrix, facts = CASES[case]
    params = get(name)
    agreement = Agreement(params, Terms(output="owner", facts=facts), matrix.k, N_ROWS)
    singular = np.linalg.norm(reference.entries(matrix).astype(np.float64), 2)
    smallest = 1 / (1 / params.sigma**2 + (singular / agreement.opening_sigma) ** 2)
    assert smallest >= params.sigma**2 / 2
    assert smallest / 4 >= 2.3**2  # t(1 − t)σ²/2 ≥ η² at t = 1/2
