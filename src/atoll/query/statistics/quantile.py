"""Places in an order, as DuckDB counts them: which ranks a quantile takes, and what becomes of the values there."""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from atoll.query.statistics.plan import Quantile


def ranks(quantile: Quantile, n: int) -> tuple[int, ...]:
    """Return which values a quantile is made of.

    Args:
        quantile: what is asked for.
        n: values that are there; where there are none, the ranks are those of one value.

    Returns:
        Ranks, 1 for the smallest value: the two neighbours of a continuous quantile, which may be one; or one rank.
    """
    n = max(n, 1)
    if quantile.place == "cont":
        at = (n - 1) * float(quantile.at)
        return math.floor(at) + 1, math.ceil(at) + 1
    if quantile.place == "disc":
        return (max(1, n - math.floor(n - n * Fraction(quantile.at))),)
    return (1 if quantile.place == "min" else n,)


def finish(quantile: Quantile, counts: Sequence[int], values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return a quantile for each group.

    Args:
        quantile: what is asked for.
        counts: values that are there in each of k groups.
        values: (k, r), those at its ranks.

    Returns:
        (k,): the values; between two neighbours what DuckDB makes of them, to the last bit.
    """
    import duckdb

    out = values[:, 0].copy()
    between = np.flatnonzero(values[:, 0] != values[:, -1])
    if not between.size:
        return out
    with duckdb.connect(config={"enable_external_access": "false"}) as connection:
        for group in between.tolist():
            at = (max(counts[group], 1) - 1) * float(quantile.at)
            part = at - math.floor(at)  # two values and a fraction of the way between them: their own quantile
            sql = f"SELECT quantile_cont(v, {part!r}::DOUBLE) FROM (VALUES (?::DOUBLE), (?::DOUBLE)) AS pair(v)"  # noqa: S608
            out[group] = connection.execute(sql, values[group].tolist()).fetchall()[0][0]
    return out
