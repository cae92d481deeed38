"""The data sets that a site has named: one small JSON file each, in the site's own folder."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec

from atoll import whole_files
from atoll.core.errors import InputError
from atoll.data.columns import Kind
from atoll.data.profile import Profile, profile
from atoll.data.scan import MISSING, nearest
from atoll.data.sources import Source, infer

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


class Dataset(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A named data set: its source, what was in it when it was added, and the units of its numeric columns."""

    name: str
    source: Source
    profile: Profile
    units: dict[str, str] = {}


class Catalogue:
    """The data sets of one site.

    Args:
        folder: where their files lie; made when the first one is added.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def add(
        self,
        name: str,
        path: Path,
        id: Sequence[str],
        *,
        kinds: Mapping[str, Kind] | None = None,
        missing: Sequence[str] = MISSING,
        units: Mapping[str, str] | None = None,
    ) -> Dataset:
        """Look at a file, settle its columns' kinds and keep it under a name; the data stay where they are.

        Raises:
            InputError: the name is unusable, the file cannot be read as `infer` says, or a unit is given to what is no
                numeric column.
        """
        if not NAME.fullmatch(name):
            raise InputError(f"{name!r} cannot name a data set", cure="Use letters, digits, dot, dash and underscore.")
        source = infer(path, id, kinds or {}, missing)
        for column in units or {}:
            if source.kinds.get(column) != "numeric":
                close = nearest(column, [known for known, kind in source.kinds.items() if kind == "numeric"])
                raise InputError(
                    f"{path.name} has no numeric column {column!r} to give a unit",
                    column=column,
                    cure=f"Did you mean {close!r}?" if close else "Give units to numeric columns only.",
                )
        dataset = Dataset(name, source, profile(source), dict(units or {}))
        self.folder.mkdir(parents=True, exist_ok=True)
        whole_files.write(self.folder / f"{name}.json", msgspec.json.format(msgspec.json.encode(dataset)))
        return dataset

    def names(self) -> list[str]:
        """The names of all data sets."""
        return sorted(path.stem for path in self.folder.glob("*.json"))

    def get(self, name: str) -> Dataset:
        """Return a data set by name.

        Raises:
            InputError: there is none of this name, or its file has been damaged.
        """
        path = self.folder / f"{name}.json"
        if not NAME.fullmatch(name) or not path.is_file():
            close = nearest(name, self.names())
            raise InputError(
                f"there is no data set {name!r} here",
                detail=f"Did you mean {close!r}?" if close else "",
                cure="Add it with `atoll data add NAME FILE --id COLUMN`, or correct the name in the job.",
            )
        try:
            return msgspec.json.decode(path.read_bytes(), type=Dataset)
        except msgspec.MsgspecError as cause:
            raise InputError(
                f"the record of data set {name!r} is damaged", detail=str(cause), cure="Add it again."
            ) from None
