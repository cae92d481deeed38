"""What one site would reach if it had everybody's columns: for the demonstration only, where all files are here."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from atoll.crypto.random import Rng
from atoll.data.columns import Columns
from atoll.data.sources import infer, read
from atoll.learn.vertical.trees.params import TreeParams
from atoll.learn.vertical.trees.predict import predict_label_holder
from atoll.learn.vertical.trees.protocol import label_holder
from atoll.solutions.credit_risk.institutions import Institution


def scores(
    folder: Path, places: Sequence[Institution], parts: Mapping[str, Sequence[str]], params: TreeParams
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Train the same trees on all columns of the same training rows, and score the same test rows.

    Args:
        folder: where the institutions' CSV files are.
        places: the institutions, the label holder first.
        parts: ids of the `train` and the `test` rows.
        params: the trees.

    Returns:
        Labels and probabilities of the test rows, (n,) each.
    """
    wanted = [*parts["train"], *parts["test"]]
    columns, label = [], np.zeros(0)
    for place in places:
        table = read(infer(folder / f"{place.data}.csv", [place.id], dict.fromkeys(place.categorical, "categorical")))
        at = {text: row for row, text in enumerate(table.ids[0].tolist())}
        chosen = table.columns.take(np.array([at[text] for text in wanted], np.int64))
        if place.label:
            label = chosen[place.label].values
        columns += [column for column in chosen if column.name != place.label]
    pooled, cut = Columns(tuple(columns), len(wanted)), len(parts["train"])
    train, test = np.arange(cut), np.arange(cut, len(wanted))
    return label[test], asyncio.run(_train(pooled.take(train), label[train], pooled.take(test), params))


async def _train(train: Columns, label: NDArray[np.float64], test: Columns, params: TreeParams) -> NDArray[np.float64]:
    rng = Rng.system()
    nobody = np.zeros(train.rows, np.bool_)
    model, _ = await label_holder({}, train, label, nobody, params, rng=rng, reveals_rows=True)
    return await predict_label_holder({}, model, test, rng=rng)
