"""Kernels are compiled before the first protocol runs, so that no time-out of a test meets a compilation."""

import pytest

from atoll.crypto import bit_transpose, choice_pads, random, ristretto, tmmo


@pytest.fixture(scope="session", autouse=True)
def _compiled() -> None:
    for module in (bit_transpose, choice_pads, random, ristretto, tmmo):
        module.warm()
