"""Drawn tables with ties, missing values, constant columns and categories."""

from typing import Any

import numpy as np
from hypothesis import strategies as st

from atoll.data.columns import Column, Columns


def make_column(name: str, kind: str, rows: int, seed: int) -> Column:
    """One column whose ugliness depends on the seed."""
    rng = np.random.default_rng(seed)
    absent = rng.random(rows) < rng.choice([0.0, 0.0, 0.3, 1.0], p=[0.4, 0.2, 0.35, 0.05])
    if kind == "categorical":
        names = tuple(f"c{i}" for i in range(int(rng.integers(1, 6))))
        codes = rng.integers(0, len(names), rows)
        return Column(name, "categorical", np.where(absent, -1, codes).astype(np.int32), names)
    values = rng.choice([rng.normal(size=rows), np.round(rng.normal(size=rows), 0), np.full(rows, 2.5)])
    return Column(name, "numeric", np.where(absent, np.nan, values))


def make_table(prefix: str, rows: int, features: int, seed: int) -> Columns:
    """A table of `features` columns of both kinds."""
    kinds = np.random.default_rng(seed).choice(["numeric", "categorical"], features, p=[0.7, 0.3])
    columns = (make_column(f"{prefix}{i}", str(k), rows, 1_000 * seed + i) for i, k in enumerate(kinds))
    return Columns(tuple(columns), rows)


@st.composite
def tables(draw: Any, rows: int | None = None) -> Columns:
    """Tables of 1 to 4 columns."""
    n = draw(st.integers(1, 120)) if rows is None else rows
    return make_table("x", n, draw(st.integers(1, 4)), draw(st.integers(0, 10_000)))
