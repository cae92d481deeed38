"""Kernels are compiled before the first protocol runs, so that no time-out of a test meets a compilation."""

import pytest

from atoll.registry import kernels


@pytest.fixture(scope="session", autouse=True)
def _compiled() -> None:
    for warm in kernels().values():
        warm()
