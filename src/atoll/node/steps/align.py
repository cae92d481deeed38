"""Settle the rows of a job: those that all sites have in common, without showing the others, or further ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Annotated, Any, Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from atoll.align.matching import Matched, match
from atoll.align.row_keys import RowKeys
from atoll.core.errors import InputError
from atoll.core.offload import offload
from atoll.core.protocol import Protocol
from atoll.core.session import Session
from atoll.data.sources import Table
from atoll.node.steps import align_text
from atoll.node.steps.base import Step, Work, present
from atoll.node.steps.comparisons import Comparisons
from atoll.node.steps.keys import candidate_keys

if TYPE_CHECKING:
    from atoll.node.job import Job

INTERSECTIONS: Mapping[str, str] = {
    "vole": "atoll.protocols.bucketed_intersection",
    "ecdh": "atoll.protocols.ecdh_intersection",
    "kkrt": "atoll.protocols.kkrt_intersection",
    "blind-rsa": "atoll.protocols.blind_rsa_intersection",
    "salted-hash": "atoll.protocols.salted_hash_intersection",
}
"""Choices of `protocol:` and the modules that hold `receive_from_all`, `sender` and `PROTOCOL`."""

Intersection = Literal["vole", "ecdh", "kkrt", "blind-rsa", "salted-hash"]
Kind = Literal["text", "caseless", "email", "phone", "resident"]


Rows = NDArray[np.int64]


class Align(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="step", tag="align"):
    """Params of `align`.

    Attributes:
        protocol: how the sites compare ids. `vole` is fast at any size, and compares several partners at once, so that
            nobody learns who is in some of the tables only. By pairs: `ecdh`, which rests on fewer assumptions;
            `kkrt`, an independent second way; `blind-rsa` and `salted-hash`, weak ones that need every site's consent.
        minimum: fewest common rows; with less the job ends, for small groups say something of single persons.
        kinds: how each id column is written, in the order in which the keys name them: `text`, `caseless`, `email`,
            `phone` or `resident`; text if left out.
        security: what the other site may be: `semi-honest`, or `malicious` for two sites with `vole`, which then notice
            when the other cheats.
        pad_to: each site tells the number of its ids rounded up to a multiple of this, by ids that nobody has.
        rows: which rows the job goes on with: the `common` ones, or all of the `label-holder`, whose partners have
            missing values where they lack a row. A job that ends with this step may also ask for the `difference`
            (rows of the label holder that no other site has) or for the `union` of two sites.
        repeats: rows of one site with the same id: `refuse` them; `skip` an id that several rows share, as if they had
            none; or `join` every row that the label holder has of an id with the one row of each partner.
    """

    protocol: Intersection = "vole"
    minimum: Annotated[int, msgspec.Meta(ge=1)] = 100
    kinds: tuple[Kind, ...] = ()
    security: Literal["semi-honest", "malicious"] = "semi-honest"
    pad_to: Annotated[int, msgspec.Meta(ge=1, le=10_000_000)] = 1
    rows: Literal["common", "label-holder", "difference", "union"] = "common"
    repeats: Literal["refuse", "skip", "join"] = "refuse"


class AlignStep(Step[Align]):
    """The rows that all sites have in common, or others that the job asks for: of all partners at once, or by pairs."""

    name = "align"
    title = "Find the ids in common"
    gives = ("rows",)
    leaves = ("rows.npy",)

    def uses(self) -> tuple[Protocol, ...]:
        """The intersection, the announcement of its result, and the order of rows where that is not enough."""
        from atoll.protocols import intersection_result, multi_intersection, row_order

        order = (row_order.PROTOCOL,) if self._ordered else ()
        if self._together:
            return (multi_intersection.PROTOCOL, *order)
        told = () if self.params.rows == "difference" else (intersection_result.PROTOCOL,)
        return (self._intersection().PROTOCOL, *told, *order)

    def says(self, job: Job) -> tuple[str, ...]:
        """What the sites learn by several keys, and of rows that are repeated or not common."""
        return align_text.says(self.params, job)

    @property
    def _together(self) -> bool:
        """Whether several partners are compared at once, so that nobody learns who is in only some of the tables."""
        return self.partners > 1 and self.params.protocol == "vole" and self.params.rows == "common"

    @property
    def _ordered(self) -> bool:
        """Whether the job has other rows than one for each pair, so that the label holder has to tell their order."""
        joins = self.params.rows == "common" and self.params.repeats == "join"
        return joins or self.params.rows in ("label-holder", "union")

    def _intersection(self) -> Any:
        return import_module(INTERSECTIONS[self.params.protocol])

    def check(self, work: Work) -> None:
        """Refuse ids that are missing or stand twice, and forms of alignment that do not fit the job.

        Raises:
            InputError: with the number of ids.
        """
        rows, what, cure = self.params.rows, "", ""
        if self.params.security == "malicious" and (self.params.protocol != "vole" or self.partners > 1):
            what = "alignment notices cheating between two sites with `protocol: vole` only"
            cure = "Choose that, or `security: semi-honest`."
        elif rows == "union" and self.partners > 1:
            what, cure = "a union is of two sites", "Make a job for each partner, or choose `rows: label-holder`."
        elif rows in ("difference", "union") and not self._ends(work):
            what = f"`rows: {rows}` leaves rows without label or features, of which later steps can make nothing"
            cure = "End the job with step align, or choose `rows: label-holder`."
        if what:
            raise InputError(what, step=self.name, cure=cure)
        repeats = self.params.repeats if work.labels or self.params.repeats == "skip" else "refuse"
        work.state["keys"] = candidate_keys(work, self.name, self.params.kinds, repeats)

    def _ends(self, work: Work) -> bool:
        return work.job.steps[-1] == self.params

    async def run(self, session: Session, work: Work) -> str:
        """Align.

        Raises:
            InputError: fewer common rows than the minimum.
        """
        keys: tuple[RowKeys, ...] = work.state.pop("keys")
        near = await offload(self._remember, work, keys)
        chosen = None if self._together else self._intersection()
        compare = Comparisons(self.params, session, work, chosen, streams=self.params.protocol == "vole")
        if work.labels:
            rows, matched = await self._lead(session, work, keys, compare)
        else:
            rows, matched = await self._help(session, work, keys, compare)
        work.store.write_array("rows.npy", rows)
        if self._ends(work) and (work.labels or self.params.rows != "difference"):
            align_text.write(work, rows, matched if work.labels else {})
        self._take(work, rows)
        return align_text.line(self.params, work, rows, matched) + near

    async def _lead(
        self, session: Session, work: Work, keys: Sequence[RowKeys], compare: Comparisons
    ) -> tuple[Rows, Mapping[str, Matched]]:
        """As the label holder: match with all partners at once or with each, and settle the rows and their order."""
        from atoll.protocols import row_order
        from atoll.protocols.together import together

        asked, names = self.params, list(session.peers)
        groups = [names] if asked.rows == "common" else [[name] for name in names]
        options: dict[str, Any] = {"rng": work.rng, "multiple": asked.pad_to}
        tell = asked.rows != "difference"
        found = await together(*(match(keys, compare.lead(group, tell=tell), **options) for group in groups))
        matched = {name: one for group, one in zip(groups, found, strict=True) for name in group}
        work.report["overlaps"] = compare.pairs
        if asked.rows == "difference":
            return np.flatnonzero(np.logical_and.reduce([one.pair < 0 for one in found])), matched
        if not self._ordered:
            return found[0].rows, matched
        rows = np.flatnonzero((found[0].pair >= 0) | (asked.rows != "common"))
        rows = rows[work.rng.permutation(len(rows))]
        others = asked.rows == "union"
        more = await together(
            *(
                row_order.lead(session.peers[name].sub("order"), one.pair[rows], others=others)
                for name, one in matched.items()
            )
        )
        return np.append(rows, np.full(max(more), -1)), matched

    async def _help(
        self, session: Session, work: Work, keys: Sequence[RowKeys], compare: Comparisons
    ) -> tuple[Rows, Mapping[str, Matched]]:
        """As a partner: match with the label holder, and follow its order."""
        from atoll.protocols import row_order

        asked, hub = self.params, session.peers[work.job.hub]
        told, joins = asked.rows != "difference", asked.repeats == "join"
        options: dict[str, Any] = {"rng": work.rng, "multiple": asked.pad_to}
        found = await match(keys, compare.help(told=told), again=joins or not told, **options)
        rows = found.rows
        if self._ordered:
            rows = await row_order.follow(
                hub.sub("order"),
                found.rows,
                absent=asked.rows != "common",
                repeats=joins,
                others=np.flatnonzero(found.pair < 0) if asked.rows == "union" else None,
                rng=work.rng.spawn(),
            )
        return rows, {work.job.hub: found}

    def _remember(self, work: Work, keys: Sequence[RowKeys]) -> str:
        """Note an earlier alignment that differs by few ids only, and remember this one."""
        if work.reruns is None:
            return ""
        partners = [name for name in work.job.sites if name != work.site]
        tags = work.reruns.tags(texts for one in keys for texts in one.batches())
        near = work.reruns.nearest(work.job.id, partners, tags, self.params.minimum)
        work.reruns.keep(work.job.id, partners, tags)
        if near is None:
            return ""
        work.report["near"] = msgspec.to_builtins(near)
        changed = " and ".join(
            f"{count:,} {what}" for count, what in ((near.added, "more"), (near.removed, "fewer")) if count
        )
        return f"; ! its ids are those of job {near.job} but for {changed}"

    async def resume(self, work: Work) -> None:
        """Take the rows again."""
        del work.state["keys"]
        self._take(work, work.store.read_array("rows.npy"))

    def _take(self, work: Work, rows: Rows) -> None:
        table: Table = present(work.table, "table")
        work.rows, work.X = rows, table.columns.take(rows)
        if work.y is not None:
            work.y = np.where(rows < 0, np.nan, work.y[rows])
