"""A site's ids as keys that are the same at all sites: canonical, and each once unless the job lets them repeat."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np

from atoll.align.row_keys import RowKeys
from atoll.core.errors import InputError
from atoll.data.sources import Table
from atoll.node.steps.base import Work, present


def candidate_keys(
    work: Work, step: str, kinds: Sequence[str], repeats: Literal["refuse", "skip", "join"] = "refuse"
) -> tuple[RowKeys, ...]:
    """Return the keys of a site's rows by each candidate of the job, in order of preference.

    Args:
        work: this site's side of the job.
        step: the step that needs them.
        kinds: how each id column is written, in the order in which the candidates name them; text where none is named.
        repeats: what becomes of a key that several rows of this site share: `refuse` it, `skip` it, or `join` all rows.

    Raises:
        InputError: ids are missing, stand twice, or do not fit their kinds; with their number.
    """
    table: Table = present(work.table, "table")
    names, named = work.mine.ids, work.mine.keys
    width = sum(map(len, named))
    if kinds and len(kinds) != width:
        raise InputError(
            f"step {step} names {len(kinds)} kinds for {width} id columns",
            cure="Name one kind for each id column, or none.",
        )
    found, at = [], 0
    for key in named:
        columns = [table.ids[names.index(name)] for name in key]
        try:
            found.append(RowKeys.of(columns, kinds[at : at + len(key)], rng=work.rng))
        except InputError as error:
            error.column = " + ".join(key)
            raise
        at += len(key)
    empty = int(np.count_nonzero(np.logical_and.reduce([keys.same < 0 for keys in found])))
    if empty:
        raise InputError(
            f"{empty:,} rows have no id", column=work.mine.key_text, cure="Give every row an id, or leave it out."
        )
    if repeats == "skip":
        found = [keys.unshared() for keys in found]
    for keys, key in zip(found, named, strict=True):
        if keys.repeated and repeats == "refuse":
            raise InputError(
                f"{keys.repeated:,} of {table.rows:,} rows repeat an id",
                column=" + ".join(key),
                cure="Bring one row an id: aggregate the rows, or name further id columns."
                + (" Step align can also skip or join them: see `repeats:`." if step == "align" else ""),
            )
    return tuple(found)


def usable_keys(work: Work, step: str, kinds: Sequence[str]) -> list[bytes]:
    """Return one key for each row of a site's table, for a step that takes one candidate only.

    Raises:
        InputError: the job names several, or as of `candidate_keys`.
    """
    if len(work.mine.keys) > 1:
        raise InputError(f"step {step} compares by one key only", cure="Name one key under `id:`.")
    (keys,) = candidate_keys(work, step, kinds)
    return [key for texts in keys.batches() for key in texts.items()]
