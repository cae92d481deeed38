"""Tables that are in memory already: pandas, polars, or a dict of arrays, by what they can do and not by their type."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from atoll.core.errors import InputError
from atoll.data.columns import Column, Columns, Kind
from atoll.data.sources import Table

DAY = np.timedelta64(1, "D")


def names_of(frame: Any) -> list[str]:
    """The column names of a frame.

    Raises:
        InputError: it has neither columns nor keys.
    """
    found = frame.keys() if isinstance(frame, Mapping) else getattr(frame, "columns", None)
    if found is None:
        raise InputError(
            f"a {type(frame).__name__} is not a table", cure="Give a pandas or polars frame, or a dict of arrays."
        )
    return [str(name) for name in found]


def table_of(
    frame: Any, id: Sequence[str] = (), columns: Sequence[str] = (), kinds: Mapping[str, Kind] | None = None
) -> Table:
    """Read a frame as typed columns.

    Args:
        frame: a pandas or polars frame, or a mapping of column name to values.
        id: its id columns; none leaves the row numbers as ids.
        columns: which columns, in which order; empty means all but the ids.
        kinds: kinds that are not to be inferred.

    Raises:
        InputError: a column is not there, is infinite somewhere, or columns differ in length.
    """
    there = names_of(frame)
    for name in (*id, *columns):
        if name not in there:
            raise InputError(f"the table has no column {name!r}", column=name, detail=f"It has {', '.join(there)}.")
    chosen = list(columns) or [name for name in there if name not in id]
    typed = tuple(column_of(name, frame[name], (kinds or {}).get(name)) for name in chosen)
    ids = tuple(_ids(name, frame[name]) for name in id)
    lengths = {len(column.values) for column in typed} | {len(part) for part in ids}
    if len(lengths) != 1:
        raise InputError(f"the table's columns have different lengths: {sorted(lengths)}", cure="Give one row each.")
    rows = lengths.pop()
    if not rows:
        raise InputError("the table has no rows", cure="Give at least one.")
    return Table(ids or (np.array([str(row) for row in range(rows)], object),), Columns(typed, rows))


def column_of(name: str, values: Any, kind: Kind | None = None) -> Column:
    """Read one column: numbers, booleans and dates become numeric, everything else categorical.

    Raises:
        InputError: an infinite value, or text in a column that is to be numeric.
    """
    array = values.to_numpy() if hasattr(values, "to_numpy") else np.asarray(values)
    if array.dtype.kind == "M":
        days = (array - np.datetime64("1970-01-01")) / DAY
        array = np.where(np.isnat(array), np.nan, days)
    if kind != "categorical" and (array.dtype.kind in "biuf" or kind == "numeric" or _numbers(array)):
        numbers = _floats(name, array)
        if np.isinf(numbers).any():
            raise InputError("it holds infinite values", column=name, cure="Make them missing, or give them a number.")
        return Column(name, "numeric", numbers)
    texts = ["" if _absent(value) else str(value).strip() for value in array.tolist()]
    categories = tuple(sorted(set(texts) - {""}))
    code = {text: at for at, text in enumerate(categories)} | {"": -1}
    return Column(name, "categorical", np.array([code[text] for text in texts], np.int32), categories)


def _ids(name: str, values: Any) -> NDArray[Any]:
    array = values.to_numpy() if hasattr(values, "to_numpy") else np.asarray(values)
    if array.dtype.kind == "f":
        raise InputError("ids are floating-point numbers", column=name, cure="Make them text or whole numbers.")
    return np.array(["" if _absent(value) else str(value) for value in array.tolist()], object)


def _floats(name: str, array: NDArray[Any]) -> NDArray[np.float64]:
    if array.dtype.kind in "biuf":
        return array.astype(np.float64)
    try:
        return np.array([np.nan if _absent(value) else float(value) for value in array.tolist()], np.float64)
    except (TypeError, ValueError):
        raise InputError("it is to be numeric and holds text", column=name, cure="Mend the values.") from None


def _numbers(array: NDArray[Any]) -> bool:
    there = [value for value in array.tolist() if not _absent(value)]
    return bool(there) and all(isinstance(value, int | float) for value in there)


def _absent(value: Any) -> bool:
    return value is None or (isinstance(value, float) and value != value) or str(value) in ("<NA>", "NaT")
