"""A site's ids as keys that are the same at all sites: canonical, none missing, none twice."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from atoll.align import pack_keys, unique_ids
from atoll.core.errors import InputError
from atoll.data.sources import Table
from atoll.node.steps.base import Work, present


def usable_keys(work: Work, step: str, kinds: Sequence[str]) -> list[bytes]:
    """Return one key for each row of a site's table.

    Args:
        work: this site's side of the job.
        step: the step that needs them.
        kinds: how each id column is written; text where none is named.

    Raises:
        InputError: ids are missing, stand twice, or do not fit their kinds; with their number.
    """
    table: Table = present(work.table, "table")
    column = " + ".join(work.mine.ids)
    empty = int(np.count_nonzero(np.logical_or.reduce([ids == "" for ids in table.ids])))
    if empty:
        raise InputError(f"{empty:,} rows have no id", column=column, cure="Give every row an id, or leave it out.")
    if kinds and len(kinds) != len(work.mine.ids):
        raise InputError(
            f"step {step} names {len(kinds)} kinds for {len(work.mine.ids)} id columns",
            cure="Name one kind for each id column, or none.",
        )
    found = unique_ids(pack_keys(table.ids, kinds))
    if found.repeated:
        raise InputError(
            f"{found.repeated:,} of {table.rows:,} rows repeat an id",
            column=column,
            cure="Bring one row an id: aggregate the rows, or name further id columns.",
        )
    return found.keys
