"""Kernels are compiled before the first protocol runs, so that no time-out of a test meets a compilation."""

import pytest

from atoll.crypto import compact_columns, packed_bits, punctured_trees, transfer_products, word_matrix


@pytest.fixture(scope="session", autouse=True)
def _compiled_for_shares() -> None:
    for module in (compact_columns, packed_bits, punctured_trees, transfer_products, word_matrix):
        module.warm()
