"""Gradients of single rows, cut to a length and added exactly: what differentially private training adds noise to.

Opacus takes the gradient of every row by itself in one pass over many, and says which layers cannot be trained so.

Source: Abadi et al., "Deep learning with differential privacy", CCS 2016, algorithm 1; Yousefpour et al., "Opacus",
arXiv:2109.12298.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from atoll.core.errors import InputError
from atoll.crypto.random import Rng

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]

NUMBERS_AT_ONCE = 1 << 22
"""Numbers of rows' gradients that are held at a time."""

FINE = 30
"""Binary digits of a row's gradient below its largest length, so that sums of up to 2^22 rows are exact."""


class RowGradients:
    """A torch module and a loss, which give the sum of the rows' gradients, none of them longer than a bound.

    Args:
        module: a torch module; parameters that need no gradient stay as they are.
        loss: of outputs and labels: the mean over rows of what each row has by itself.

    Raises:
        InputError: Opacus is not installed, or a layer mixes rows, as batch norm does.
    """

    def __init__(self, module: Any, loss: Callable[[Any, Any], Any]) -> None:
        sample, validator = _opacus()
        wrong = [str(error).split(".")[0] for error in validator.validate(module, strict=False)]
        if wrong:
            raise InputError(
                "a layer of the network mixes rows, or cannot be trained row by row",
                step="networks",
                detail=f"Opacus says: {wrong[0]}.",
                cure="Take group norm in place of batch norm; opacus.validators.ModuleValidator.fix does it.",
            )
        self.loss = loss
        self.parameters = [value for value in module.parameters() if value.requires_grad]
        self.numbers = sum(value.numel() for value in self.parameters)
        self._wrapped = sample(module)

    def clipped_sum(self, x: Any, y: Any, clip: float) -> F64:
        """Return the sum of gradients of (b,) rows, each shortened to `clip` if it is longer, (numbers,).

        A row whose gradient is not finite counts as 0.

        Raises:
            InputError: the module cannot be trained on these rows.
        """
        total = np.zeros(self.numbers)
        at_once = max(1, NUMBERS_AT_ONCE // max(self.numbers, 1))
        for at in range(0, len(x), at_once):
            total += clipped(self._of_each(x[at : at + at_once], y[at : at + at_once]), clip)
        return total

    def close(self) -> None:
        """Take Opacus off the module, which can then be used anew."""
        self._wrapped.remove_hooks()

    def put(self, gradient: F64) -> None:
        """Give the parameters a gradient, for an optimiser to step along."""
        parts = np.split(gradient.astype(np.float32), np.cumsum([value.numel() for value in self.parameters])[:-1])
        for value, part in zip(self.parameters, parts, strict=True):
            value.grad = value.new_tensor(part).view_as(value)

    def _of_each(self, x: Any, y: Any) -> F64:
        """Return the gradient of every row, (b, numbers)."""
        for value in self.parameters:
            value.grad = value.grad_sample = None
        if x.is_floating_point():
            x = x.detach().requires_grad_()  # else torch warns about Opacus's hooks
        try:
            self.loss(self._wrapped(x), y).backward()
        except (RuntimeError, ValueError, IndexError) as cause:
            raise InputError(
                "the network cannot be trained on this site's rows",
                step="networks",
                detail=f"PyTorch says: {cause}.",
                cure="Check shapes and labels.",
            ) from None
        parts = [value.grad_sample.detach().reshape(len(x), -1).double() for value in self.parameters]
        each: F64 = np.concatenate([part.cpu().numpy() for part in parts], axis=1)
        for value in self.parameters:
            value.grad = value.grad_sample = None
        return each


def clipped(each: F64, clip: float) -> F64:
    """Return the sum of rows, (k,) of (b, k), each at most `clip` long, on a grid on which it is exact."""
    rows = np.where(np.isfinite(each).all(axis=1, keepdims=True), each, 0.0)
    largest = np.abs(rows).max(axis=1, keepdims=True, initial=0.0)
    even = rows / np.where(largest > 0, largest, 1.0)  # squares of huge numbers would overflow
    length = np.linalg.norm(even, axis=1, keepdims=True) * largest
    room = 1 - np.sqrt(each.shape[1]) * 2.0**-FINE  # for rounding to the grid
    short = rows * (room * np.minimum(1.0, clip / np.where(length > 0, length, 1.0)))
    bits = FINE - math.frexp(clip)[1] + 1
    return np.asarray(np.ldexp(np.rint(np.ldexp(short, bits)).sum(axis=0), -bits))


def drawn(rng: Rng, n: int, rate: float) -> I64:
    """Draw rows, each by itself with a probability of at most `rate` (Poisson sampling), from secret randomness.

    Args:
        rng: this site's randomness.
        n: rows.
        rate: above 0, up to 1.
    """
    if rate >= 1:
        return np.arange(n)
    return np.flatnonzero(rng.u64(n) < np.uint64(int(rate * 2.0**64)))


def _opacus() -> tuple[Any, Any]:
    try:
        from opacus.grad_sample import GradSampleModule
        from opacus.validators import ModuleValidator
    except ImportError:
        raise InputError(
            "gradients of single rows are taken by Opacus, which is not installed",
            step="networks",
            cure='Run pip install "atoll-fl[dp-nn]".',
        ) from None
    return GradSampleModule, ModuleValidator
