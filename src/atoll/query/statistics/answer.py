"""From opened totals to the answer: the arithmetic that the plan leaves to the asker."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from atoll.query.statistics.plan import Plan


@dataclass(frozen=True)
class Answer:
    """A small table.

    Attributes:
        columns: names.
        rows: values; text, numbers or None.
    """

    columns: tuple[str, ...]
    rows: tuple[tuple[Any, ...], ...]


def answer(
    plan: Plan,
    labels: Sequence[tuple[Any, ...]],
    totals: NDArray[np.int64],
    bits: Mapping[str, Sequence[int]],
    shown: NDArray[np.bool_] | None = None,
    quantiles: Sequence[NDArray[Any]] = (),
) -> Answer:
    """Finish a question.

    Args:
        plan: the plan.
        labels: keys of the groups that are shown, one tuple each; one empty tuple without groups.
        totals: (len(labels), measures) int64, in the plan's order.
        bits: fractional bits of each site's measures, by site.
        shown: which totals were opened, as `totals`; what depends on others is missing in the answer. All if left out.
        quantiles: for each of the plan's (len(labels),) float64, masked where it was not opened.

    Returns:
        The answer, as the question orders it.
    """
    import duckdb

    places = {site: list(fractions) for site, fractions in bits.items()}
    scales = [0 if not measure.site else places[measure.site].pop(0) for measure in plan.measures]
    table: dict[str, Any] = {}
    for at in range(len(plan.groups)):
        table[f"g{at}"] = _column([label[at] for label in labels])
    for at, scale in enumerate(scales):
        values = totals[:, at].astype(np.float64) / 2.0**scale if scale else totals[:, at]
        table[f"m{at}"] = values if shown is None else np.ma.masked_array(values, ~shown[:, at])
    table.update({f"q{at}": values for at, values in enumerate(quantiles)})
    with duckdb.connect(config={"enable_external_access": "false"}) as connection:
        connection.register("totals", table)
        done = connection.execute(plan.answer)
        names = tuple(str(column[0]) for column in done.description or ())
        return Answer(names, tuple(tuple(row) for row in done.fetchall()))


def _column(values: Sequence[Any]) -> NDArray[Any]:
    if all(isinstance(value, (int, float)) or value is None for value in values):
        return np.array([np.nan if value is None else value for value in values], np.float64)
    return np.array(values, object)
