"""What people read of an alignment: who learns what before it runs, what came of it, and its rows as a file."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from atoll.align.matching import Matched
from atoll.node.steps.base import Work, present

if TYPE_CHECKING:
    from atoll.node.job import Job
    from atoll.node.steps.align import Align

ROWS = "rows.csv"
Rows = NDArray[np.int64]


def says(params: Align, job: Job) -> tuple[str, ...]:
    """Return what each site learns beside the cards: by several keys, and of rows that are repeated or not common."""
    hub, keys, partners = job.hub, job.sites[job.hub].keys, " and ".join(job.partners)
    lines = []
    if len(keys) > 1:
        lines += [
            f"Rows are matched by the first of {len(keys)} keys on which the sites agree: {job.sites[hub].key_text}.",
            "  Every site that learns its matched rows learns by which key each of them was matched. Of the keys after",
            "  that one nothing is learnt. The minimum is looked at when all keys have been compared.",
        ]
        if params.rows == "common" and len(job.partners) > 1:
            lines.append("  All sites must agree on the same key.")
    if params.rows == "label-holder":
        lines += [
            f"All rows of {hub} take part; where a partner has no row, its values are missing.",
            f"  {partners} learns how many rows {hub} has, and which of its own rows are among them.",
            f"  {hub} learns which of its rows each partner has.",
        ]
    if params.rows == "difference":
        lines += [
            f"{hub} learns which of its rows no other site has, and so which ones {partners} has.",
            f"  {partners} learns how many ids {hub} brings, and not which of them it has.",
        ]
    if params.rows == "union":
        lines += [
            f"{hub} and {partners} get one order of all rows that either has.",
            "  Each learns how many rows the other has, and which of its own rows the other has, too.",
        ]
    if params.repeats == "join":
        lines += [
            f"{hub} may have several rows of one id; each is joined with the one row of a partner.",
            *(
                [f"  {partners} learns how many rows {hub} has of each id that both have."]
                if params.rows != "difference"
                else []
            ),
        ]
    return tuple(lines)


def line(params: Align, work: Work, rows: Rows, matched: Mapping[str, Matched]) -> str:
    """Return one line about the result, and put its figures into the report."""
    own, subject = len(next(iter(matched.values())).pair), work.subject
    hits = [one.pair >= 0 for one in matched.values()]
    difference = params.rows == "difference"
    common = int(np.count_nonzero((np.logical_or if difference else np.logical_and).reduce(hits)))
    work.report["align"] = {"own": own, "common": common, "rows": len(rows)}
    if difference:
        if not work.labels:
            return f"compared {own:,} {subject}; only the label holder learns the result"
        return f"{len(rows):,} of {own:,} {subject} are at no other site"
    counts = {one.counts for one in matched.values()}
    by = zip(next(iter(counts)), work.mine.keys, strict=True) if len(counts) == 1 and len(work.mine.keys) > 1 else ()
    how = ", ".join(f"{count:,} by {' + '.join(key)}" for count, key in by)
    text = f"{common:,} of {own:,} {subject} are in common" + (f" ({how})" if how else "")
    return text if len(rows) == common else f"{text}; the job has {len(rows):,} rows"


def write(work: Work, rows: Rows, matched: Mapping[str, Matched]) -> None:
    """Write this site's ids of the rows in their order, and at the label holder by which key each partner has them.

    A row that this site lacks has empty ids; key 0 means that the partner does not have the row.
    """
    table = present(work.table, "table")
    columns = [np.append(ids, "")[rows].tolist() for ids in table.ids]
    columns += [one.candidate(np.append(one.pair, -1)[rows]).tolist() for one in matched.values()]
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow([*work.mine.ids, *(f"key at {name}" for name in matched)])
    writer.writerows(zip(*columns, strict=True))
    work.report["rows"] = work.store.write(ROWS, text.getvalue().encode()).name
