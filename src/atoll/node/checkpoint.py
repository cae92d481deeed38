"""How far a job came at this site, so that one that was cut off goes on at a step's border.

A checkpoint is what the site itself knows after a step: row numbers, parts, its model. Nothing that a protocol made to
hide something outlives the process: keys, masks and transfers are always made anew.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from atoll.core.errors import InputError
from atoll.node.steps import Work
from atoll.node.store import RESUME, Store

NAME = f"{RESUME}/checkpoint.json"


class Checkpoint(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The newest border that a site has reached.

    Attributes:
        job: the job's digest, hex.
        run: random id that all sites of one run share, hex; borders of different runs do not fit together.
        data: fingerprint of the site's rows and columns, hex.
        done: names of the steps that are done, in order.
        seconds: the time of each.
        report: what the report will say of them.
        files: SHA-256 of every file that they left, hex.
        began: when the job first began here, ISO 8601.
    """

    job: str
    run: str
    data: str
    done: tuple[str, ...]
    seconds: dict[str, float]
    report: dict[str, Any]
    files: dict[str, str]
    began: str


def fingerprint(work: Work) -> str:
    """Return the SHA-256 of this site's ids, columns and label as the job sees them, hex."""
    digest = hashlib.sha256()
    if work.table is not None:
        for ids in work.table.ids:
            digest.update("\x1f".join(ids.tolist()).encode())
        for column in work.table.columns:
            digest.update(repr((column.name, column.kind, column.categories)).encode())
            digest.update(column.values.tobytes())
    if work.y is not None:
        digest.update(work.y.tobytes())
    return digest.hexdigest()


def save(
    work: Work, data: str, *, done: Iterable[str], files: Iterable[str], seconds: Mapping[str, float], began: str
) -> None:
    """Write the checkpoint of a border; the one before holds until this one is whole.

    Args:
        work: the site's side, whose store has the files.
        data: from `fingerprint`.
        done: names of the steps that are done.
        files: names of the files that they left.
        seconds: the time of each step.
        began: when the job first began here, ISO 8601.
    """
    digests = {name: _digest(work.store, name) for name in sorted(files) if work.store.path(name).exists()}
    times = {name: seconds[name] for name in done}
    found = Checkpoint(
        work.job.digest().hex(), work.run.hex(), data, tuple(times), times, work.report, digests, began
    )  # fmt: skip
    work.store.write_json(NAME, found)


def load(work: Work, data: str) -> tuple[Checkpoint | None, str]:
    """Return the checkpoint in the job's folder, if it is whole and of this job and data.

    Args:
        work: the site's side.
        data: from `fingerprint`.

    Returns:
        The checkpoint or None, and why one that is there cannot be used.
    """
    if not work.store.path(NAME).exists():
        return None, ""
    try:
        found = work.store.read_json(NAME, Checkpoint)
        damaged = [name for name, digest in found.files.items() if _digest(work.store, name) != digest]
    except (InputError, OSError):
        return None, "the checkpoint is damaged"
    if damaged:
        return None, f"{', '.join(damaged)} is not as the checkpoint left it"
    if found.job != work.job.digest().hex():
        return None, "the job document has changed"
    if found.data != data:
        return None, "this site's data has changed"
    return found, ""


def last_step(store: Store) -> str:
    """Name of the last step that is done in a folder, or nothing."""
    try:
        done = store.read_json(NAME, Checkpoint).done
    except InputError:
        return ""
    return done[-1] if done else ""


def drop(store: Store) -> None:
    """Forget the checkpoint, before anything of another run is written."""
    store.path(NAME).unlink(missing_ok=True)


def clear(store: Store) -> None:
    """Forget everything that is kept for another try."""
    shutil.rmtree(store.path(RESUME), ignore_errors=True)


def _digest(store: Store, name: str) -> str:
    with open(store.path(name), "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
