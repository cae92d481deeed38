"""The least ε that mechanisms fixed in advance come to, by the distribution of their privacy loss (dp-accounting).

It composes as closely as is known, and knows what drawing people at random for each round is worth.  It holds for
mechanisms that are fixed before the first answer: to plan one job, or to look back.  What is chosen as one goes is
added up by `accountant`, and only that decides.

Source: Koskela, Jälkö, Honkela, AISTATS 2020; Doroshenko, Ghazi, Kamath, Kumar, Manurangsi, PoPETs 2022.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import reduce
from typing import Any

from atoll.core.errors import InputError
from atoll.privacy.accountant import Loss
from atoll.privacy.mechanism import Mechanism

LEAST = 2.0
"""Smallest scale on the whole numbers that is treated as continuous; there it is an error of 1 %."""


def tight_epsilon(mechanisms: Iterable[Mechanism], delta: float) -> float:
    """Return the ε of all mechanisms together at δ, 0 < δ < 1.

    Laplace noise counts as the worst of its ε; Gaussian noise counts as continuous, which is right to 1 %.

    Raises:
        InputError: dp-accounting is not installed, or Gaussian noise has a scale below 2.
    """
    try:
        from dp_accounting.pld import privacy_loss_distribution as distributions
    except ImportError:
        raise InputError(
            "the least ε is found by dp-accounting, which is not installed here",
            cure="Install it: pip install 'atoll-fl[dp]'.",
        ) from None

    def distribution(mechanism: Mechanism) -> Any:
        parts, least = len([clip for clip in mechanism.clip if clip]), min(filter(None, mechanism.scales))
        if mechanism.noise == "gaussian":  # several numbers are one that changes by the length of their change
            if least < LEAST:
                raise InputError(f"Gaussian noise of scale {least:.2g} is too small for a close figure")
            once = distributions.from_gaussian_mechanism(mechanism.multiplier, sampling_prob=mechanism.rate)
            return once.self_compose(mechanism.rounds)
        if mechanism.rate < 1:
            once = distributions.from_discrete_laplace_mechanism(parts / mechanism.ratio, sampling_prob=mechanism.rate)
            return once.self_compose(mechanism.rounds)
        return distributions.from_discrete_laplace_mechanism(1 / mechanism.ratio).self_compose(parts * mechanism.rounds)

    found = [distribution(one) for one in mechanisms if any(one.clip)]
    if not found:
        return 0.0
    return float(reduce(lambda left, right: left.compose(right), found).get_epsilon_for_delta(delta))


def tight_epsilon_of(losses: Iterable[Loss], delta: float) -> float:
    """Return the ε at δ of what has been spent; a loss without ε is that of Gaussian noise, the only kind without."""
    found = list(losses)
    whole = [
        Mechanism(noise="gaussian" if loss.epsilon is None else "laplace", clip=(1,), loss=loss)
        for loss in found
        if loss.rho
    ]
    parts = [
        Mechanism(noise="gaussian", clip=(1 << 20,), loss=Loss(None, one.rho), rounds=one.rounds, rate=one.rate)
        for loss in found
        for one in loss.drawn
    ]
    return tight_epsilon([*whole, *parts], delta)
