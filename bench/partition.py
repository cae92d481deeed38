"""Splitting one table among simulated sites, evenly or skewed."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from atoll.core.errors import InputError


def evenly(rows: int, sites: int, *, seed: int = 0) -> list[NDArray[np.int64]]:
    """Deal rows out in an order of chance, as evenly as can be.

    Args:
        rows: how many there are.
        sites: at least 1.
        seed: of the order.

    Returns:
        For each site its row numbers, int64, ascending.
    """
    order = np.random.default_rng(seed).permutation(rows)
    return [np.sort(part) for part in np.array_split(order, sites)]


def skewed(labels: ArrayLike, sites: int, *, alpha: float, least: int = 1, seed: int = 0) -> list[NDArray[np.int64]]:
    """Deal out the rows of each label in Dirichlet proportions (Hsu et al. 2019): sites differ in size and in labels.

    Args:
        labels: (n,) labels.
        sites: at least 1.
        alpha: concentration, above 0; 100 is nearly even, 0.1 leaves most sites with few labels.
        least: fewest rows of a site; those below take rows from the largest one.
        seed: of the draw.

    Returns:
        For each site its row numbers, int64, ascending.

    Raises:
        InputError: alpha is not above 0, or there are not enough rows.
    """
    found = np.asarray(labels)
    if not alpha > 0 or least * sites > len(found):
        raise InputError(
            "rows cannot be split like that",
            detail=f"alpha {alpha}, {len(found):,} rows, {sites} sites of at least {least}.",
            cure="Give an alpha above 0 and fewer sites.",
        )
    draw = np.random.default_rng(seed)
    parts: list[list[int]] = [[] for _ in range(sites)]
    for label in np.unique(found):
        rows = draw.permutation(np.flatnonzero(found == label))
        cuts = np.cumsum(draw.dirichlet(np.full(sites, alpha)))[:-1] * len(rows)
        for part, some in zip(parts, np.split(rows, cuts.astype(int)), strict=True):
            part.extend(some.tolist())
    for part in parts:
        while len(part) < least:
            part.append(max(parts, key=len).pop())
    return [np.sort(np.array(part, np.int64)) for part in parts]
