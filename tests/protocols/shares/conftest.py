"""Kernels are compiled before the first protocol runs, so that no time-out of a test meets a compilation."""

import pytest

from atoll.crypto import (
    compact_columns,
    homomorphic,
    matrix_tiles,
    packed_bits,
    prime_transform,
    punctured_trees,
    transfer_products,
    word_matrix,
)

MODULES = (
    compact_columns,
    homomorphic,
    matrix_tiles,
    packed_bits,
    prime_transform,
    punctured_trees,
    transfer_products,
    word_matrix,
)


@pytest.fixture(scope="session", autouse=True)
def _compiled_for_shares() -> None:
    for module in MODULES:
        module.warm()
