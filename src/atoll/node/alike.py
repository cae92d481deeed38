"""One site's columns brought into the form that a job of sites with the same columns gives them: names, units, codings.

The job document says it in the site's part, so that all sites see and sign what is done to whose columns.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from atoll.core.errors import InputError
from atoll.data.columns import Column, Columns
from atoll.data.scan import nearest
from atoll.data.sources import Table

if TYPE_CHECKING:
    from atoll.node.job import Job, Part

Recoding = Mapping[str, str | float]
MOST_VALUES = 1000
"""Different numbers of a column that may be called something else."""


def own_names(part: Part, names: tuple[str, ...]) -> tuple[str, ...]:
    """Return what this site calls the columns that a job names."""
    own = {job: own for own, job in part.rename.items()}
    return tuple(own.get(name, name) for name in names)


def alike(part: Part, table: Table) -> Table:
    """Rename, recode and scale a site's columns as its part of the job says.

    Args:
        part: the site's part.
        table: its columns as it has them.

    Raises:
        InputError: a column is not there, two would have one name, a number that is to be scaled is text, or a value
            that is to become a number is not named.
    """
    known = table.columns.names
    for name in part.rename:
        _there(name, known, "rename")
    columns = {part.rename.get(column.name, column.name): column for column in table.columns}
    if len(columns) < len(known):
        twice = next(new for old, new in part.rename.items() if new in known and new not in part.rename)
        raise InputError("`rename:` gives two columns one name", column=twice, cure="Leave one of them out.")
    for key, named in (("recode", part.recode), ("scale", part.scale), ("units", part.units)):
        for name in named:
            _there(name, tuple(columns), key)
    found = []
    for name, column in columns.items():
        if name in part.recode:
            column = recoded(name, column, part.recode[name])
        if (name in part.scale or name in part.units) and column.kind != "numeric":
            raise InputError("it is text, and has no unit", column=name, cure="Take it off `scale:` and `units:`.")
        values = column.values * part.scale[name] if name in part.scale else column.values
        found.append(Column(name, column.kind, values, column.categories))
    return Table(table.ids, Columns(tuple(found), table.rows))


def units_of(part: Part, units: Mapping[str, str]) -> dict[str, str]:
    """Return the units of a site's columns by the job's names; a scaled column has the one that the part says."""
    named = {part.rename.get(name, name): unit for name, unit in units.items()}
    return {name: unit for name, unit in named.items() if name not in part.scale} | dict(part.units)


def recoded(name: str, column: Column, coding: Recoding) -> Column:
    """Call the values of a column something else: text where the new values are texts, numbers where they are numbers.

    Args:
        name: the column's name in the job.
        column: the column; numbers are named by their shortest text, `1` or `0.5`.
        coding: new value by old one; an empty text makes values missing. Texts that it does not name stay as they are.

    Raises:
        InputError: numbers and not all values are named, or the column has too many different numbers.
    """
    if column.kind == "numeric":
        found, code = np.unique(column.values, return_inverse=True)  # one NaN, after all numbers
        found, code = found[~np.isnan(found)], np.where(np.isnan(column.values), -1, code)
        if len(found) > MOST_VALUES:
            cure = "Take it off `recode:`."
            raise InputError(f"it has more than {MOST_VALUES:,} different numbers", column=name, cure=cure)
        texts = [str(int(value)) if value == int(value) else repr(value) for value in found.tolist()]
    else:
        texts, code = list(column.categories), column.values
    if not any(isinstance(new, str) for new in coding.values()):
        numbers = np.array([*(coding.get(text, np.inf) for text in texts), np.nan], np.float64)
        if np.isinf(numbers).any():
            text = texts[int(np.argmax(np.isinf(numbers)))]
            cure = "Name every value under `recode:`."
            raise InputError(f"the value {text!r} is given no number", column=name, cure=cure)
        return Column(name, "numeric", numbers[code])
    new = [str(coding.get(text, text)) for text in texts]
    categories = tuple(sorted(set(new) - {""}))
    place = {text: at for at, text in enumerate(categories)} | {"": -1}
    table = np.array([*(place[text] for text in new), -1], np.int32)
    return Column(name, "categorical", table[code], categories)


def says(job: Job) -> tuple[str, ...]:
    """Lines that people should read before they approve the job: what each site does to its columns."""
    lines = []
    for site, part in job.sites.items():
        said = [f"{old} becomes {new}" for old, new in part.rename.items()]
        for name, coding in part.recode.items():
            said.append(f"{name}: {', '.join(f'{old!r} becomes {new!r}' for old, new in coding.items())}")
        said += [f"{name} times {factor:g}" for name, factor in part.scale.items()]
        said += [f"{name} is in {unit}" for name, unit in part.units.items()]
        lines += [f"  at {site}, {one}" for one in said]
    return tuple(lines)


def _there(name: str, known: tuple[str, ...], key: str) -> None:
    if name not in known:
        close = nearest(name, list(known))
        raise InputError(
            f"`{key}:` names a column that this site's data have not, or the job leaves out",
            column=name,
            cure=f"Did you mean {close!r}?" if close else f"There are {', '.join(known)}.",
        )
