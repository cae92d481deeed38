"""Schemas: what a site's table looks like, for partners who hold other rows of the same columns, and where they differ.

A schema holds names, kinds, units and categories; no rows, no counts.  It is a small file that a person can read and
mail.  Horizontal jobs need the same columns at all sites; `compare` lists what keeps them from it.
"""

from __future__ import annotations

import json
import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
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

_NO_TEXT = ("y", "n", "yes", "no", "on", "off", "true", "false", "null")
"""Words that YAML takes for something else."""

LARGEST = 1 << 22
"""Bytes of a schema file that are read."""


UNITS: Mapping[str, tuple[str, float]] = {
    **{name: ("length", size) for name, size in {"mm": 1e-3, "cm": 1e-2, "m": 1.0, "km": 1e3, "in": 0.0254}.items()},
    **{name: ("mass", size) for name, size in {"mg": 1e-6, "g": 1e-3, "kg": 1.0, "t": 1e3, "lb": 0.45359237}.items()},
    **{name: ("time", size) for name, size in {"s": 1.0, "min": 60.0, "h": 3600.0}.items()},
    **{name: ("days", size) for name, size in {"days": 1.0, "weeks": 7.0}.items()},
    **{name: ("months", size) for name, size in {"months": 1.0, "years": 12.0}.items()},
    **{name: ("share", size) for name, size in {"%": 0.01, "share": 1.0}.items()},
}
"""What units measure, and how large they are among units of the same thing."""


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
        problem = _absent(name, named, list(names)) or _kinds(name, found) or _units(name, found)
        if problem:
            mismatches.append(problem)
            continue
        every = sorted({category for column in found.values() for category in column.categories})
        first = next(iter(found.values()))
        agreed.append(ColumnSchema(name, first.kind, first.unit, tuple(every)))
        mismatches += _categories(name, found)
    return Agreement(tuple(agreed), tuple(mismatches))


def _absent(name: str, named: Mapping[str, Mapping[str, ColumnSchema]], names: list[str]) -> Mismatch | None:
    if all(name in columns for columns in named.values()):
        return None
    words, hints = {}, []
    for site, columns in named.items():
        words[site] = "present" if name in columns else "absent"
        if name not in columns:
            only_here = [other for other in columns if not all(other in theirs for theirs in named.values())]
            close = nearest(name, only_here)
            if close:
                new, old, where = (name, close, site) if names.index(name) < names.index(close) else (close, name, "")
                where = where or next((one for one, there in named.items() if old in there and new not in there), "")
                then = f" Then {_say(where, rename={old: new})}." if where else ""
                hints.append(f"{site} has {close!r}: is it the same?{then}")
    cure = " ".join(hints) or "Leave the column out of the job, or add it there."
    return Mismatch(name, "absent", words, cure)


def _kinds(name: str, found: Mapping[str, ColumnSchema]) -> Mismatch | None:
    kinds = {site: column.kind for site, column in found.items()}
    if len(set(kinds.values())) == 1:
        return None
    cure = (
        f"Add the data set with --numeric {name} or --categorical {name}, or say in the job what its values are called"
    )
    number = next(site for site, kind in kinds.items() if kind == "numeric")
    texts = next((column.categories for column in found.values() if column.categories), ("TEXT",))
    coding = {"NUMBER": texts[0]}
    return Mismatch(name, "kind", dict(kinds), f"{cure}: {_say(number, recode={name: coding})}.")


def _units(name: str, found: Mapping[str, ColumnSchema]) -> Mismatch | None:
    units = {site: column.unit for site, column in found.items()}
    if len(set(units.values())) == 1:
        return None
    words = {site: unit or "not said" for site, unit in units.items()}
    wanted = Counter(unit for unit in units.values() if unit).most_common(1)[0][0]
    cures = []
    for site, unit in units.items():
        if not unit:
            cures.append(f"if it is {wanted} at {site}, too, {_say(site, units={name: wanted})}")
        elif unit != wanted:
            (thing, size), (other, whole) = UNITS.get(unit, ("", 1.0)), UNITS.get(wanted, ("?", 1.0))
            factor = float(f"{size / whole:.15g}") if thing == other else "FACTOR"
            cures.append(_say(site, scale={name: factor}, units={name: wanted}))
    return Mismatch(name, "unit", words, f"In the job {'; '.join(cures)}; or add the data with --unit {name}=UNIT.")


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
    several = sorted(sorted(group) for group in alike.values() if len(group) > 1)
    twins = tuple(" and ".join(map(repr, group)) for group in several)
    cure = "All sites will use all of them; mend those that mean the same."
    if twins:
        cure = f"{'; '.join(twins)}: one value? Then {_recode(name, found, several)}."
    return [Mismatch(name, "categories", words, cure, twins)]


def _recode(name: str, found: Mapping[str, ColumnSchema], several: Sequence[Sequence[str]]) -> str:
    """Call twins at every site what the first site that has one of them calls it."""
    coding: dict[str, str] = {}
    for group in several:
        first = next(c for column in found.values() for c in column.categories if c in group)
        coding |= {category: first for category in group if category != first}
    cures = []
    for site, column in found.items():
        if own := {old: new for old, new in coding.items() if old in column.categories}:
            cures.append(_say(site, recode={name: own}))
    return "; ".join(cures)


def _say(site: str, **keys: Mapping[str, object]) -> str:
    """What to write into a site's part of the job."""
    return f"say {' and '.join(f'`{key}: {_yaml(value)}`' for key, value in keys.items())} at site {site}"


def _yaml(value: object) -> str:
    if isinstance(value, Mapping):
        return f"{{{', '.join(f'{_yaml(key)}: {_yaml(item)}' for key, item in value.items())}}}"
    if not isinstance(value, str):
        return repr(value)
    plain = re.fullmatch(r"[A-Za-z_][\w-]*", value) and value.lower() not in _NO_TEXT
    return value if plain else json.dumps(value, ensure_ascii=False)


def _listed(values: list[str]) -> str:
    shown = ", ".join(map(repr, values[:8]))
    return (shown + (f" and {len(values) - 8} more" if len(values) > 8 else "")) if values else "nothing else"
