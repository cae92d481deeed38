"""What a site looks at on its own side before anything is sent: its data set, columns, label, ids, model parts."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from atoll.core.errors import InputError
from atoll.crypto.random import Rng
from atoll.data.columns import Columns, Kind
from atoll.data.sources import Table, read
from atoll.node.alike import alike, own_names
from atoll.node.alike import units_of as alike_units
from atoll.node.home import Home
from atoll.node.job import Job, Part
from atoll.node.steps import Step, Work
from atoll.node.steps.predict import PredictStep
from atoll.node.steps.train import TrainStep
from atoll.node.store import Store

Load = Callable[..., Table]


def from_home(home: Home, part: Part) -> Load:
    """Return what reads a site's data set from its catalogue.

    Raises:
        InputError: there is no such data set, or its id columns are others than the job's.
    """
    if not part.data:
        return _nothing
    source = home.catalogue.get(part.data).source
    ids = part.ids or source.id

    def load(columns: tuple[str, ...], kinds: Mapping[str, Kind] | None = None) -> Table:
        names = columns or tuple(name for name in source.kinds if name not in ids)
        settled = {**source.kinds, **(kinds or {})}
        return read(msgspec.structs.replace(source, id=ids, kinds=settled), names)

    return load


def _nothing(columns: tuple[str, ...], kinds: Mapping[str, Kind] | None = None) -> Table:
    raise InputError("this site brings no data", cure="Name a data set under `data:` in the job.")


def units_of(home: Home, part: Part) -> Mapping[str, str]:
    """Return the units that the owner of a data set has said."""
    return home.catalogue.get(part.data).units if part.data else {}


def prepare(
    job: Job,
    site: str,
    load: Load,
    store: Store,
    earlier: Callable[[str], Store],
    steps: tuple[Step[Any], ...],
    units: Mapping[str, str] | None = None,
) -> Work:
    """Read this site's side of a job and refuse what cannot work.

    Args:
        job: the document.
        site: this site's name.
        load: reads its data set.
        store: where the job writes here.
        earlier: opens what earlier jobs left here.
        steps: the job's steps.
        units: of its numeric columns, where known.

    Raises:
        InputError: a column is not there or unusable, the label is not 0 and 1, ids are missing or repeated.
    """
    work = Work(job, site, load, Rng.system(), store, earlier, units=alike_units(job.sites[site], units or {}))
    if job.horizontal:
        _read_member(work)
    else:
        _read_holder(work, steps)
    for step in steps:
        step.check(work)
    return work


def _read_member(work: Work) -> None:
    """Read the columns and the label of a site whose rows are not joined with others."""
    part = work.mine
    if not part.data:
        return
    _refuse_listed(part.columns, (part.label, *part.ids), "the label or an id column")
    asked = (*part.columns, *((part.label,) if part.label else ()))
    work.table = alike(part, work.load(own_names(part, asked) if part.columns else ()))
    if part.label and part.label not in work.table.columns.names:
        raise _no_label(part.label)


def _read_holder(work: Work, steps: tuple[Step[Any], ...]) -> None:
    """Read the columns of a site whose rows are joined with those of others, and the label where it is."""
    part, load = work.mine, work.load
    kinds: dict[str, Kind] = {}
    columns = part.columns
    for step in steps:
        if isinstance(step, PredictStep):
            used = step.part(work).columns
            kinds |= {column.name: column.kind for column in used}
            columns = columns or tuple(column.name for column in used)
    if not part.label:
        if work.labels and any(isinstance(step, TrainStep) for step in steps):
            raise InputError(
                "the job names no label at the label holder", cure=f"Add `label: COLUMN` to site {work.site}."
            )
        _refuse_listed(columns, part.ids, "an id column")
        work.table = load(columns, kinds) if columns or not kinds else _only_ids(load)
    else:
        _refuse_listed(columns, (part.label, *part.ids), "the label or an id column")
        asked = (*columns, part.label) if columns else ()
        table = load(asked, {**kinds, part.label: "numeric"})
        work.y = _label(table, part.label)
        rest = tuple(column for column in table.columns if column.name != part.label)
        work.table = Table(table.ids, Columns(rest, table.rows))


def _only_ids(load: Load) -> Table:
    table = load(())
    return Table(table.ids, Columns((), table.rows))


def _refuse_listed(columns: tuple[str, ...], reserved: tuple[str, ...], what: str) -> None:
    for name in columns:
        if name in reserved:
            raise InputError(
                f"column {name!r} is {what} and cannot be a feature", column=name, cure="Take it off `columns:`."
            )


def _no_label(name: str) -> InputError:
    return InputError(f"the data set has no label column {name!r}", column=name, cure="Correct `label:` in the job.")


def _label(table: Table, name: str) -> NDArray[np.float64]:
    """Return the label as 0 and 1.

    Raises:
        InputError: the column is not in the table, is missing somewhere, is not 0 and 1, or has one class only.
    """
    try:
        values: NDArray[np.float64] = table.columns[name].values
    except KeyError:
        raise _no_label(name) from None
    missing = int(np.count_nonzero(np.isnan(values)))
    if missing:
        raise InputError(f"{missing:,} rows have no label", column=name, cure="Leave those rows out of the data set.")
    other = int(np.count_nonzero((values != 0) & (values != 1)))
    if other:
        raise InputError(
            f"the label holds {other:,} values other than 0 and 1",
            column=name,
            cure="Code the event as 1, the rest as 0.",
        )
    if len(np.unique(values)) < 2:
        raise InputError("the label holds one class only", column=name, cure="Bring rows of both outcomes.")
    return values
