"""Look at the own columns as bins before training: what the trees will see, and columns that are of no use."""

from __future__ import annotations

from typing import Annotated

import msgspec
import numpy as np

from atoll.core.errors import InputError
from atoll.core.offload import offload
from atoll.core.session import Session
from atoll.data.columns import Columns
from atoll.node.steps.base import Step, Work, present
from atoll.node.steps.split import TEST


class Bin(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="step", tag="bin"):
    """Params of `bin`.

    Attributes:
        max_bin: most bins of a column; bytes grow with it.
        min_bin: bins with fewer training rows are merged with their neighbours before anything is computed.
    """

    max_bin: Annotated[int, msgspec.Meta(ge=2, le=65_534)] = 32
    min_bin: Annotated[int, msgspec.Meta(ge=1)] = 20


class BinStep(Step[Bin]):
    """Each site bins its own columns; nothing is sent."""

    name = "bin"
    leaves = ()
    title = "Put columns into bins"
    needs = ("parts",)
    gives = ("bins",)

    async def run(self, session: Session, work: Work) -> str:
        """Leave out constant columns and count the bins of the others.

        Raises:
            InputError: a feature holder has no column that varies.
        """
        return await self._bin(work)

    async def resume(self, work: Work) -> None:
        """Bin again; nothing of it was sent."""
        await self._bin(work)

    async def _bin(self, work: Work) -> str:
        from atoll.learn.vertical.trees.binning import bin_table

        X, part = present(work.X, "columns"), present(work.part, "split")
        train = np.flatnonzero(part != TEST)
        binned = await offload(bin_table, X.take(train), self.params.max_bin, self.params.min_bin)
        useful = [c for c, bins in zip(X.columns, binned.columns, strict=True) if bins.ordinary + bins.missing > 1]
        if not useful and not work.labels:
            raise InputError(
                f"none of the {len(X)} columns of {work.site} varies among the common rows",
                cure="Name other columns in the job, or bring more rows.",
            )
        kept = {column.name for column in useful}
        left_out = [column.name for column in X.columns if column.name not in kept]
        work.X = Columns(tuple(useful), X.rows)
        work.state["bin"] = self.params
        work.report["left_out"] = left_out
        rest = f"; {len(left_out)} constant left out" if left_out else ""
        return f"{len(useful)} columns in {int((binned.layout.bins + binned.layout.missing).sum()):,} bins{rest}"
