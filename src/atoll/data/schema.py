"""Schemas: what a site's table looks like, for partners who hold other rows of the same columns, and where they differ.

A schema holds names, kinds, units and categories; no rows, no counts.  It is a small file that a person can read and
mail.  Horizontal jobs need the same columns at all sites; `compare` lists what keeps them from it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import msgspec

from atoll.core.errors import InputError
from atoll.data.catalogue import Dataset
from atoll.data.columns import Kind
from atoll.data.scan import nearest
from atoll.data.sources import categories_of

MOST_CATEGORIES = 200
"""A column with more categories is free text to a reader: its values stay out of the schema."""

LARGEST = 1 << 22
"""Bytes of a schema file that are read."""


class ColumnSchema(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """One column.

    Attributes:
        name: as its owner writes it.
        kind: `numeric` or `categorical`.
        unit: of a numeric column, such as `kg` or `CNY`; empty when its owner did not say.
        categories: sorted; empty for a numeric column and for one with more than `MOST_CATEGORIES`.
    """

    name: str
    kind: Kind
    unit: str = ""
    categories: tuple[str, ...] = ()


class Schema(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The columns of one table, in its owner's order, without the ids."""

    columns: tuple[ColumnSchema, ...]

    def named(self) -> dict[str, ColumnSchema]:
        """The columns by name."""
        return {column.name: column for column in self.columns}

    def text(self) -> str:
        """The schema as the file that partners read."""
        return msgspec.json.format(msgspec.json.encode(self), indent=2).decode() + "\n"


class Mismatch(msgspec.Struct, frozen=True):
    """One thing that sites do not have alike.

    Attributes:
        column: the column.
        what: `absent`, `kind`, `unit` or `categories`; different categories can be lived with, for all sites can use
            them all, the others cannot.
        sites: what each site has, in words.
        cure: what to do about it.
        twins: categories that differ in case or space only, as `'a' and 'A'`.
    """

    column: str
    what: Literal["absent", "kind", "unit", "categories"]
    sites: dict[str, str]
    cure: str
    twins: tuple[str, ...] = ()


class Agreement(msgspec.Struct, frozen=True):
    """What all sites have alike, with all categories of all sites, and what they have not."""

    columns: tuple[ColumnSchema, ...]
    mismatches: tuple[Mismatch, ...]


def schema_of(dataset: Dataset) -> Schema:
    """Return the schema of a data set.

    Raises:
        InputError: its file cannot be read any more.
    """
    few = [column.name for column in dataset.profile.columns if column.distinct <= MOST_CATEGORIES]
    found = categories_of(dataset.source, few)
    kinds = dataset.source.kinds
    return Schema(tuple(ColumnSchema(n, k, dataset.units.get(n, ""), found.get(n, ())) for n, k in kinds.items()))


def read_schema(path: Path) -> Schema:
    """Read a schema file that a partner sent.

    Raises:
        InputError: it is absent, too large, or no schema.
    """
    try:
        with path.open("rb") as file:
            data = file.read(LARGEST + 1)
        if len(data) > LARGEST:
            raise ValueError(f"it has more than {LARGEST:,} bytes")
        schema = msgspec.json.decode(data, type=Schema)
        if len(schema.named()) < len(schema.columns):
            raise ValueError("a column stands twice")
    except (OSError, ValueError) as cause:  # msgspec's errors are ValueErrors
        raise InputError(
            f"{path.name} cannot be read as a schema",
            detail=str(cause),
            cure="Ask the partner for the output of `atoll data schema NAME`.",
        ) from None
    return schema


def compare(schemas: Mapping[str, Schema]) -> Agreement:
    """Compare the schemas of several sites.

    Args:
        schemas: by site, two or more; the order of the first one's columns is kept.
    """
    named = {site: schema.named() for site, schema in schemas.items()}
    names = dict.fromkeys(name for columns in named.values() for name in columns)
    agreed, mismatches = [], []
    for name in names:
        found = {site: columns[name] for site, columns in named.items() if name in columns}
        problem = _absent(name, named) or _kinds(name, found) or _units(name, found)
        if problem:
            mismatches.append(problem)
            continue
        every = sorted({category for column in found.values() for category in column.categories})
        first = next(iter(found.values()))
        agreed.append(ColumnSchema(name, first.kind, first.unit, tuple(every)))
        mismatches += _categories(name, found)
    return Agreement(tuple(agreed), tuple(mismatches))


def _absent(name: str, named: Mapping[str, Mapping[str, ColumnSchema]]) -> Mismatch | None:
    if all(name in columns for columns in named.values()):
        return None
    words, hints = {}, []
    for site, columns in named.items():
        words[site] = "present" if name in columns else "absent"
        if name not in columns:
            only_here = [other for other in columns if not all(other in theirs for theirs in named.values())]
            close = nearest(name, only_here)
            hints += [f"{site} has {close!r}: is it the same?"] if close else []
    cure = " ".join(hints) or "Leave the column out of the job, or add it there."
    return Mismatch(name, "absent", words, cure)


def _kinds(name: str, found: Mapping[str, ColumnSchema]) -> Mismatch | None:
    kinds = {site: column.kind for site, column in found.items()}
    if len(set(kinds.values())) == 1:
        return None
    return Mismatch(name, "kind", dict(kinds), f"Add the data set with --numeric {name} or --categorical {name}.")


def _units(name: str, found: Mapping[str, ColumnSchema]) -> Mismatch | None:
    units = {site: column.unit for site, column in found.items()}
    if len(set(units.values())) == 1:
        return None
    words = {site: unit or "not said" for site, unit in units.items()}
    return Mismatch(name, "unit", words, f"Convert the values where they differ, and say --unit {name}=UNIT.")


def _categories(name: str, found: Mapping[str, ColumnSchema]) -> list[Mismatch]:
    """Name what not all sites have, and values that differ in case or space only."""
    sets = {site: set(column.categories) for site, column in found.items()}
    common = set.intersection(*sets.values())
    if all(own == common for own in sets.values()):
        return []
    words = {site: _listed(sorted(own - common)) for site, own in sets.items()}
    alike = defaultdict(set)
    for category in set.union(*sets.values()):
        alike["".join(category.casefold().split())].add(category)
    twins = tuple(sorted(" and ".join(map(repr, sorted(group))) for group in alike.values() if len(group) > 1))
    cure = "All sites will use all of them; mend those that mean the same."
    cure = f"{'; '.join(twins)}: one value? {cure}" if twins else cure
    return [Mismatch(name, "categories", words, cure, twins)]


def _listed(values: list[str]) -> str:
    shown = ", ".join(map(repr, values[:8]))
    return (shown + (f" and {len(values) - 8} more" if len(values) > 8 else "")) if values else "nothing else"
