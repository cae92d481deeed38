"""A model that sites with the same columns learnt together, as each keeps it: readable, and good for new rows alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from atoll.core.errors import InputError
from atoll.data.columns import Columns
from atoll.data.schema import ColumnSchema
from atoll.node.coding import coded, terms_of
from atoll.node.models import AnyModel, Coefficient, Grid

MODEL = "model.json"


class Kept(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A model and what it takes to use it.

    Attributes:
        job: id of the job that fitted it.
        model: kind and keys, as in the job.
        label: the column that it predicts; empty if none.
        positive: the label's value that counts as 1; empty where it is a number.
        classes: names of the classes of a text label, in the order of their probabilities; else empty.
        columns: the columns that it reads, with their categories and units.
        terms: the numbers that it was fitted to, see `atoll.node.coding`.
        rows: rows of all sites that it was fitted to.
        sites: the sites.
        figures: how good it is, by name.
        coefficients: its table.
        grids: further tables.
        values: what prediction needs.
        curves: the loss after every round, by the rows that it is over; empty for models without rounds.
    """

    job: str
    model: AnyModel
    label: str
    positive: str
    classes: tuple[str, ...]
    columns: tuple[ColumnSchema, ...]
    terms: tuple[str, ...]
    rows: int
    sites: tuple[str, ...]
    figures: dict[str, float]
    coefficients: tuple[Coefficient, ...]
    grids: tuple[Grid, ...]
    values: dict[str, Any]
    curves: dict[str, tuple[float, ...]] = {}

    def predict(self, frame: Any) -> NDArray[np.float64]:
        """Predict for new rows; nothing is sent.

        Args:
            frame: a pandas or polars frame, or a dict of arrays, with the model's columns.

        Returns:
            (n,) expected labels, for an event its probability; (n, K) for K classes. NaN where a value is missing or a
            category is one that no site had.

        Raises:
            InputError: a column is not there, or of another kind.
        """
        from atoll.data.frames import table_of

        kinds = {column.name: column.kind for column in self.columns}
        return self.predict_columns(table_of(frame, (), tuple(kinds), kinds).columns)

    def predict_columns(self, columns: Columns) -> NDArray[np.float64]:
        """As `predict`, for typed columns."""
        return self.model.predict(self.values, coded(columns, self.columns))


def load_model(path: Path | str) -> Kept:
    """Read the `model.json` that a job of sites with the same columns left.

    Raises:
        InputError: it is not there or no such model.
    """
    try:
        model = msgspec.json.decode(Path(path).read_bytes(), type=Kept)
    except (OSError, msgspec.MsgspecError) as cause:
        raise InputError(
            f"{Path(path).name} is not a model of sites with the same columns",
            detail=str(cause),
            cure="Name the model.json in the folder of a job with step fit.",
        ) from None
    if model.terms != terms_of(model.columns, baseline=model.model.baseline):
        raise InputError(f"{Path(path).name} contradicts itself: its terms are not those of its columns")
    return model
