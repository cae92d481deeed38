"""Symmetric systems out of totals: solved on an even scale, and refused with the names of columns that overlap."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from atoll.core.errors import InputError
from atoll.learn.horizontal.rows import F64

SMALLEST_PIVOT = 1e-11
"""A column of whose variation less than this share is its own counts as a combination of others."""


@dataclass(frozen=True)
class System:
    """A positive definite matrix, scaled to ones on its diagonal.

    Args:
        matrix: (k, k) the scaled matrix.
        scale: (k,) square roots of the diagonal that it had.
    """

    matrix: F64
    scale: F64

    def solve(self, right: F64) -> F64:
        """Return A⁻¹ b for (k,) b."""
        return np.linalg.solve(self.matrix, right / self.scale) / self.scale

    def inverse(self) -> F64:
        """Return A⁻¹, (k, k), symmetric."""
        out = np.linalg.inv(self.matrix) / np.outer(self.scale, self.scale)
        return (out + out.T) / 2


def system(matrix: F64, names: Sequence[str], *, step: str) -> System:
    """Scale a matrix and check that it can be inverted.

    Args:
        matrix: (k, k) symmetric, such as X'X.
        names: (k,) what the rows stand for.
        step: the model's name.

    Raises:
        InputError: a column is constant or a combination of others; the others are named.
    """
    scale = np.sqrt(np.maximum(np.diagonal(matrix), 0.0))
    if not (scale > 0).all():
        at = int(np.argmin(scale > 0))
        raise InputError("it says nothing: all its values are alike", step=step, column=names[at], cure="Leave it out.")
    even = matrix / scale[:, None] / scale
    try:
        pivots = np.diagonal(np.linalg.cholesky(even)) ** 2
    except np.linalg.LinAlgError:
        pivots = np.zeros(1)
    if pivots.min(initial=1.0) < SMALLEST_PIVOT:
        raise _overlap(even, names, step)
    return System(even, scale)


def _overlap(even: F64, names: Sequence[str], step: str) -> InputError:
    """Find the first column that is a combination of those before it, and say of which."""
    for at in range(1, len(even)):
        weights, *_ = np.linalg.lstsq(even[:at, :at], even[:at, at], rcond=1e-12)
        if even[at, at] - weights @ even[:at, at] < 10 * SMALLEST_PIVOT:
            others = [name for name, w in zip(names, weights, strict=False) if abs(w) > 1e-4]
            return InputError(
                f"it is a combination of {', '.join(map(repr, others[:5])) or 'other columns'}",
                step=step,
                column=names[at],
                cure="Leave one of them out, or add a ridge penalty where the model has one.",
            )
    return InputError("columns are combinations of one another", step=step, cure="Leave some of them out.")


def pack(matrix: F64) -> F64:
    """Return the upper triangle of a symmetric (k, k) matrix, (k (k + 1) / 2,)."""
    return matrix[np.triu_indices(len(matrix))]


def unpack(flat: F64, k: int) -> F64:
    """Undo `pack`."""
    out = np.zeros((k, k))
    out[np.triu_indices(k)] = flat
    return out + np.triu(out, 1).T
