"""Canaries in what horizontal jobs and private training really send: below the claim, and half the noise is caught.

The whole way of a site's numbers is run: clipping, drawing of rows, the grid, shares of noise at several sites.  Noise
comes from the operating system; as in `test_noise` bounds are such that a false alarm has a chance below 10^-9.
"""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from atoll.crypto.random import Rng
from atoll.learn.horizontal.networks import DpSgd
from atoll.learn.horizontal.networks.private import Alone
from atoll.learn.horizontal.networks.row_gradients import clipped, drawn
from atoll.privacy.accountant import epsilon_of
from atoll.protocols.secure_sum.noisy import NoisyTotals
from atoll.protocols.secure_sum.totals import Totals
from tests.privacy.audit import lower_epsilon

RUNS, DELTA = 12_000, 0.01
F64 = NDArray[np.float64]


class Three:
    """The names of three sites; nothing is added up here."""

    site, sites = "a", ("a", "b", "c")

    async def total(self, values: F64, *, what: str) -> F64:
        raise NotImplementedError


def left(totals: Totals, values: F64, rho: float, length: float, honest: int, *, halved: bool) -> F64:
    """What is left of (RUNS, k) totals when the numbers and the noise of all sites but the honest ones are known."""
    noisy = NoisyTotals(totals, (1.0,) * values.size, rho, honest, rounds=honest, length=length)
    if halved:  # the mutant
        noisy._scales = tuple(scale / 2 for scale in noisy._scales)
    mine = noisy.noised(values.ravel(), "numbers")
    others = [noisy.noised(np.zeros(values.size), "noise") for _ in range(honest - 1)]
    return np.sum([mine, *others], axis=0).reshape(values.shape)


@pytest.mark.slow
@pytest.mark.parametrize("halved", [False, True])
def test_counts_of_a_job_hide_a_row_as_claimed(halved: bool) -> None:
    """A row is one row more, and one more of its category; two of three sites are honest."""
    rho, counts = 0.5, np.tile([250.0, 160.0], (RUNS, 1))

    def score(there: float) -> F64:  # 1 with the row on average, 0 without
        # two honest sites take two of the rounds of one plan: each release has half of its rho
        found = left(Three(), counts + there, 2 * rho, 2**0.5, 2, halved=halved)
        return (found - counts).sum(axis=1) / 2

    claimed = epsilon_of(rho, DELTA)
    bound = lower_epsilon(score(1.0) >= 1.5, score(0.0) >= 1.5, DELTA)
    assert bound > claimed if halved else 0.5 < bound <= claimed


MUTANTS = {"": 1.2, "half the noise": 1.2, "no clipping": 4.0}
"""With the event that shows each best, fixed beforehand: the canary's direction passes so much."""


@pytest.mark.slow
@pytest.mark.parametrize("mutant", MUTANTS)
def test_a_step_of_private_training_hides_a_row_as_claimed(mutant: str) -> None:
    """The canary's gradient is ten times as long as allowed, and takes part in every other step."""
    params = DpSgd(rate=0.5, clip=1.0, noise=0.8, steps=1, lot=1.0)
    rho, rng = params.loss.drawn[0].rho, Rng.system()
    others = np.array([[0.0, -0.1], [0.0, 0.4], [0.0, -0.3]])
    canary = np.concatenate([others, [[10.0, 0.0]]])

    def passes(rows: F64) -> NDArray[np.bool_]:
        taken = [rows[drawn(rng, len(rows), params.rate)] for _ in range(RUNS)]
        add = (lambda one: one.sum(axis=0)) if mutant == "no clipping" else (lambda one: clipped(one, params.clip))
        sums = np.array([add(one) for one in taken])
        found = left(Alone(), sums, rho, 1.0, 1, halved=mutant == "half the noise")
        return found[:, 0] >= MUTANTS[mutant]

    claimed = params.epsilon(DELTA)
    bound = lower_epsilon(passes(canary), passes(others), DELTA)
    assert bound > claimed if mutant else 0.4 < bound <= claimed
