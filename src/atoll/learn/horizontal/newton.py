"""Newton's method on totals: one loop for every model that is fitted in steps.

What ends the loop or halves a step is decided from totals alone, with operations that every processor rounds alike, so
that all sites go through the same rounds.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

import numpy as np

from atoll.core.errors import InputError
from atoll.learn.horizontal.rows import F64
from atoll.learn.horizontal.solve import system

TOLERANCE = 1e-9
"""The last step is taken when no gradient is larger than this, in units of its standard deviation."""

_HALVINGS = 40
_NOISE = 1e-12  # rises of the objective below this share are rounding


@dataclass(frozen=True)
class Point:
    """An objective at some coefficients, out of totals.

    Args:
        value: the objective, which falls; infinite where it cannot be computed.
        gradient: (k,) of minus half the objective or of any other multiple that fits `hessian`.
        hessian: (k, k) positive: the step is hessian⁻¹ gradient.
        rest: further totals that the model wants back.
    """

    value: float
    gradient: F64
    hessian: F64
    rest: F64


Evaluate = Callable[[F64], Awaitable[Point]]


async def descend(evaluate: Evaluate, start: F64, names: Sequence[str], *, most: int, step: str) -> tuple[F64, Point]:
    """Go down until the gradient vanishes.

    Args:
        evaluate: adds up the objective and its derivatives at given coefficients; one round.
        start: (k,) coefficients.
        names: (k,) what they stand for.
        most: steps before giving up.
        step: the model's name.

    Returns:
        (k,) coefficients and the objective there.

    Raises:
        InputError: columns overlap, or the objective has no minimum that can be reached.
    """
    here, point = start, await evaluate(start)
    solver = system(point.hessian, names, step=step)
    for _ in range(most):
        move = solver.solve(point.gradient)
        if (np.abs(point.gradient) <= TOLERANCE * np.sqrt(np.diagonal(point.hessian))).all():
            return here + move, await evaluate(here + move)
        for _ in range(_HALVINGS):
            there = await evaluate(here + move)
            if there.value <= point.value + _NOISE * abs(point.value):
                break
            move = move / 2
        else:
            break
        here, point = here + move, there
        try:
            solver = system(point.hessian, names, step=step)
        except InputError:  # it was fine at the start, and has gone flat on the way to infinity
            break
    raise InputError(
        f"no best coefficients were found in {most} steps",
        step=step,
        cure="A column may tell the label exactly: look at large coefficients, leave it out, or add a ridge penalty.",
    )
