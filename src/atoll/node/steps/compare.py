"""Sites with the same columns and different people: do their columns mean the same?

Member                                                     Aggregator
(1) sends its schema: names, kinds, units, categories
                                                           (2) compares all schemas with its own; sends what they
                                                               agree on, or ends the job with a list of differences

Then the sites add up their rows and the rows of every category; rare categories become one.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated

import msgspec
import numpy as np

from atoll.core.channel import Channel
from atoll.core.errors import InputError, ProtocolError
from atoll.core.group import Group
from atoll.core.message import U8, AtMost, Message
from atoll.core.protocol import Card, Protocol
from atoll.core.session import Session
from atoll.data.columns import Column
from atoll.data.schema import LARGEST, MOST_CATEGORIES, ColumnSchema, Mismatch, Schema, compare
from atoll.node import alike, departures
from atoll.node.coding import OTHER, coded, merged
from atoll.node.private import loss_of_step, noisy_totals
from atoll.node.private import says as says_noise
from atoll.node.steps import counts_noisy
from atoll.node.steps.base import SURVIVING, Step, Topology, Work, present
from atoll.node.steps.totals import LEFT, assumed, enough, shared, still_enough, sum_protocol, totals

if TYPE_CHECKING:
    from atoll.node.job import Job
    from atoll.privacy.accountant import Loss
    from atoll.protocols.secure_sum.noisy import Release
    from atoll.protocols.secure_sum.totals import Totals

AGREED = "schema.json"
SHOWN = 8


class Compare(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="step", tag="compare"):
    """Params of `compare`.

    Attributes:
        minimum: fewest rows of all sites together over which a total is opened; a category with fewer rows is put
            together with the next rarest ones, as `(other)`.
        most_rows: most rows that a single site may bring; a site with more refuses, and so do all if they are more than
            so many sites can have. It bounds what a site can gain by a wrong count, which nobody sees. Any number if
            left out.
        topology: who adds: `star`, where the aggregator adds masked numbers; `direct`, where all sites add with each
            other and nobody is in the middle; or `leader`, where a site that is drawn anew for each sum adds masked
            numbers. In the latter two every site is linked to every other. In `lattice` the aggregator adds encrypted
            numbers under a key that nobody holds; in `aggregators` two or three of the sites add shares, and every site
            is linked to these. With `dropouts`, a star, or `ring`, where every site is linked to every other, the job
            goes on without members that fail.
        at_least: with the latter two, fewest sites with data that must be left; more than a half, and three, if left
            out.
        patience: with the latter two, seconds that a member may be late with a message before the others go on
            without it.
        aggregators: with `topology: aggregators` the two or three sites that add; the first two by name if left out.
    """

    minimum: Annotated[int, msgspec.Meta(ge=1)] = 10
    most_rows: Annotated[int, msgspec.Meta(ge=1)] | None = None
    topology: Topology = "star"
    at_least: Annotated[int, msgspec.Meta(ge=0)] = 0
    patience: Annotated[float, msgspec.Meta(gt=0, le=86_400)] = 60.0
    aggregators: tuple[str, ...] = ()


class Agreed(msgspec.Struct, frozen=True):
    """What all sites have alike, after `compare`.

    Attributes:
        columns: the columns, in one order, with the categories that all sites use.
        rows: rows of all sites.
        counts: for each column the rows of each category; empty for a numeric one.
        minimum: fewest rows over which a total is opened.
        merged: categories that became `(other)`, by column.
    """

    columns: tuple[ColumnSchema, ...]
    rows: int
    counts: tuple[tuple[int, ...], ...]
    minimum: int
    merged: dict[str, tuple[str, ...]] = {}


class Held(Message, frozen=True):
    """(1) member → aggregator: the schema of the columns that it brings, as JSON."""

    schema: U8


class Common(Message, frozen=True):
    """(2) aggregator → member: the columns that all sites have alike, with the categories of all of them, as JSON."""

    schema: U8


async def aggregator(
    peers: Mapping[str, Channel],
    mine: Schema | None,
    site: str,
    *,
    quorum: int | None = None,
    patience: float | None = None,
) -> Schema:
    """Compare the schemas of all sites, and tell the members what they have in common.

    Args:
        peers: channels to the members by name.
        mine: this site's schema; None if it brings no data.
        site: this site's name.
        quorum: fewest members that must answer; all if left out.
        patience: seconds that they have, where not all must.

    Raises:
        InputError: the columns differ in a way that must be mended; with every difference.
        ProtocolError: a member sent no schema.
    """
    held = await Group(peers).gather(Held, quorum=quorum, timeout=patience, schema=(AtMost(LARGEST),))  # (1)
    schemas = {site: mine} if mine else {}
    schemas |= {name: _read(name, held[name].schema.tobytes()) for name in sorted(held)}
    agreement = compare(schemas)
    if hard := [one for one in agreement.mismatches if one.what != "categories" or one.twins]:
        raise _different(hard)
    common = Schema(agreement.columns)
    await Group({name: peers[name] for name in held}).broadcast(Common(_array(common)))  # (2)
    return common


async def member(hub: Channel, mine: Schema) -> Schema:
    """Tell the aggregator the own schema, and learn what all sites have in common.

    Args:
        hub: channel to the aggregator.
        mine: this site's schema.

    Raises:
        ProtocolError: what comes back does not hold this site's own columns and categories.
    """
    await hub.send(Held(_array(mine)))  # (1)
    common = _read(hub.peer, (await hub.recv(Common, schema=(AtMost(LARGEST),))).schema.tobytes())  # (2)
    own = mine.named()
    if len(common.columns) != len(own):
        raise ProtocolError(
            f"{hub.peer} says that all sites have {len(common.columns)} columns, this one has {len(own)}"
        )
    for column in common.columns:
        here = own.get(column.name)
        if here is None or (here.kind, here.unit) != (column.kind, column.unit):
            raise ProtocolError(f"{hub.peer} says that all sites have a column that is none of this site's")
        if not set(here.categories) <= set(column.categories):
            raise ProtocolError(f"{hub.peer} left out categories of this site", column=column.name)
    return common


def _array(schema: Schema) -> U8:
    return np.frombuffer(msgspec.json.encode(schema), np.uint8)


def _read(peer: str, data: bytes) -> Schema:
    try:
        schema = msgspec.json.decode(data, type=Schema)
    except msgspec.MsgspecError:
        raise ProtocolError(f"{peer} sent something else than a schema") from None
    if len(schema.named()) < len(schema.columns):
        raise ProtocolError(f"{peer} sent a schema in which a column stands twice")
    if any(list(column.categories) != sorted(set(column.categories)) for column in schema.columns):
        raise ProtocolError(f"{peer} sent categories that are not sorted and distinct")
    return schema


def _different(mismatches: Sequence[Mismatch]) -> InputError:
    """Say for every difference what each site has and what to do."""
    lines = []
    for one in mismatches[:SHOWN]:
        held = "; ".join(f"{what} at {site}" for site, what in one.sites.items())
        lines.append(f"\n  {one.column!r}, {one.what}: {held}. {one.cure}")
    more = f"\n  … and {len(mismatches) - SHOWN} more" if len(mismatches) > SHOWN else ""
    return InputError(
        f"the sites' columns differ:{''.join(lines)}{more}",
        cure="Say so in the job, mend the data, or name under `columns:` those that are alike.",
    )


class CompareStep(Step[Compare]):
    """The sites tell each other their columns' names, kinds, units and categories, and add up their rows."""

    name = "compare"
    title = "Compare the sites' columns"
    gives = ("schema",)
    leaves = (AGREED,)
    hub = "aggregator"

    def uses(self) -> tuple[Protocol, ...]:
        """The comparison, and the sum."""
        survives = (departures.PROTOCOL,) if self.topology in SURVIVING else ()
        return (PROTOCOL, sum_protocol(self.topology), *survives)

    def plan_noise(self, job: Job) -> tuple[Release, ...]:
        """The counts."""
        return (counts_noisy.counts_plan(job, job.privacy),) if job.privacy else ()

    def loss(self, job: Job, site: str) -> Loss | None:
        """That of the counts, where they hold noise."""
        return loss_of_step(job, site, self.name)

    def says(self, job: Job) -> tuple[str, ...]:
        """What every site learns."""
        assumes = f"  No site's own numbers show {assumed(self.topology, job.aggregators)}."
        if job.privacy:
            return (*says_noise(job, self.name, self.plan_noise(job)), assumes, *alike.says(job))
        bringing = sum(bool(part.data) for part in job.sites.values())
        alone = ("  ! With two sites each can tell the other's share of every sum from its own.",)
        return (
            f"compare: every site learns, of {shared(job)}",
            "  the columns' names, kinds and units, and the categories of text columns that any site has",
            "  the number of rows",
            f"  how many rows each category has; below {self.params.minimum:,} it is put together with others",
            f"  {job.hub} learns also which member has which columns and categories",
            f"  With fewer than {self.params.minimum:,} rows the job ends there.",
            assumes,
            *(alone if bringing == 2 else ()),
            *alike.says(job),
            *(self._says_of_departures(job) if self.topology in SURVIVING else ()),
        )

    def _says_of_departures(self, job: Job) -> tuple[str, ...]:
        """What it means that the job goes on without sites that fail."""
        return (
            f"  A member that fails, or is late by {self.params.patience:g} s, is left out from then on; "
            f"{job.least} sites must be left.",
            "  The step that runs begins again then, and the columns are compared again, over the sites that are left.",
            "  ! Totals with a site and the same ones without it show the totals of that site alone; with fewer than",
            f"    {self.params.minimum:,} rows of its own the job ends instead.",
            f"  ! {job.hub} says who was late; every report names who has left.",
        )

    def check(self, work: Work) -> None:
        """Refuse more rows than a site may have, columns that are free text, and categories whose name is taken.

        Raises:
            InputError: naming the column.
        """
        if work.job.privacy:
            return counts_noisy.check_declared(work, work.job.privacy)
        if self.params.most_rows and work.table and work.table.rows > self.params.most_rows:
            raise InputError(
                f"it has {work.table.rows:,} rows, and the job allows a site {self.params.most_rows:,}",
                cure="Bring fewer rows, or agree on a larger `most_rows:` in step compare.",
            )
        for column in work.table.columns if work.table else ():
            if len(column.categories) > MOST_CATEGORIES:
                raise InputError(
                    f"it has {len(column.categories):,} different values, too many for categories",
                    column=column.name,
                    cure=f"Group them to at most {MOST_CATEGORIES}, or name the other columns under `columns:`.",
                )
            if OTHER in column.categories:
                cure = "Write it in another way."
                raise InputError(f"a value is called {OTHER!r}", column=column.name, cure=cure)

    async def run(self, session: Session, work: Work) -> str:
        """Compare, then count.

        Raises:
            InputError: the columns differ, or there are too few rows.
        """
        mine = _schema(work)
        peers = {name: channel.sub("compare") for name, channel in session.peers.items()}
        if work.labels:
            # Once sites have left, others may go as well.
            quorum = work.job.least - bool(mine) if work.report.get(LEFT) else None
            patience = None if quorum is None else self.params.patience
            common = await aggregator(peers, mine, work.site, quorum=quorum, patience=patience)
        else:
            common = await member(peers[work.job.hub], present(mine, "data set"))
        agreed = await self._count(session, work, common)
        work.store.write_json(AGREED, agreed)
        self._take(work, agreed)
        text = sum(column.kind == "categorical" for column in agreed.columns)
        lacking = _lacking(mine, common) if mine else ()
        line = f"{len(agreed.columns)} columns alike ({text} of categories), {agreed.rows:,} rows at all sites"
        if lacking:
            work.report["lacking"] = lacking
            line += f"; ! other sites have values that do not occur here: {', '.join(lacking[:SHOWN])}"
        return line

    async def _count(self, session: Session, work: Work, common: Schema) -> Agreed:
        if work.job.privacy:
            return await self._count_with_noise(session, work, common)
        rows = work.table.rows if work.table else 0
        minimum, label = self.params.minimum, work.job.label
        async with totals(session, work, self.name) as sums:
            if work.job.profile == "malicious-aggregate":
                await _same_columns(sums, work, common)
            total = _whole(await sums.total(np.array([float(rows)]), what="rows"), "rows")[0]
            most = (self.params.most_rows or math.inf) * len(sums.sites)
            if not 0 <= total <= most:
                raise ProtocolError(
                    f"the sites say that they have {total:,} rows together, and {len(sums.sites)} sites have "
                    f"{most:,.0f} at most: one has told a wrong number"
                )
            enough(total, minimum, "rows")
            still_enough(work, self, total, minimum, "rows")
            mine = [_counts(work, column) for column in common.columns]
            flat = np.concatenate([np.zeros(0), *mine])
            found = np.array(
                _whole(await sums.total(flat, what="rows of each category"), "rows of a category"), np.int64
            )
            if work.job.profile == "malicious-aggregate" and not found.all():
                raise ProtocolError(f"{work.job.hub} names a category that no site has")
        columns, counts, lost = [], [], {}
        for column, part in zip(
            common.columns, np.split(found, np.cumsum([len(one) for one in mine])[:-1]), strict=True
        ):
            if part.sum() > total or part.min(initial=0) < 0:
                raise ProtocolError(
                    f"the sites say that {part.sum():,} of {total:,} rows have a value: one has told a wrong number",
                    column=column.name,
                )
            kept, numbers = merged(column, part, 1 if column.name == label else minimum)
            columns.append(kept)
            counts.append(tuple(numbers.tolist()))
            if OTHER in kept.categories:
                lost[column.name] = tuple(sorted(set(column.categories) - set(kept.categories)))
        return Agreed(tuple(columns), total, tuple(counts), minimum, lost)

    async def _count_with_noise(self, session: Session, work: Work, common: Schema) -> Agreed:
        """Count with noise; every declared category stays as it is, however many rows it has."""
        (release,) = self.plan_noise(work.job)
        async with noisy_totals(session, work, self.name, (release,)) as sums:
            table = work.table.columns if work.table else None
            total, counts = await counts_noisy.counts(sums, release, table, common.columns)
        enough(total, self.params.minimum, "rows")
        return Agreed(common.columns, total, counts, self.params.minimum)

    async def resume(self, work: Work) -> None:
        """Take what was agreed again."""
        self._take(work, work.store.read_json(AGREED, Agreed))

    def _take(self, work: Work, agreed: Agreed) -> None:
        work.state["agreed"] = agreed
        work.report["rows"] = {"all sites": agreed.rows}
        work.state["coded"] = coded(work.table.columns if work.table else None, agreed.columns)


async def _same_columns(sums: Totals, work: Work, common: Schema) -> None:
    """Make sure that the aggregator has told all members the same, by a sum that it cannot change: of their hashes.

    Raises:
        ProtocolError: it has not.
    """
    digest = np.frombuffer(hashlib.sha256(_array(common).tobytes()).digest(), np.uint32).astype(np.float64)
    found = await sums.total(digest, what="hash of the columns")
    if work.mine.data and not np.array_equal(found, len(sums.sites) * digest):
        raise ProtocolError(
            f"{work.job.hub} told other sites other columns or categories than this one",
            cure="The aggregator mixes columns up, or a site tells a wrong hash; do not go on with it.",
        )


def _schema(work: Work) -> Schema | None:
    """This site's schema; None without data.  Only categories that occur among the rows are told."""
    if work.table is None:
        return None
    if work.job.privacy:
        return counts_noisy.declared_schema(work, work.job.privacy)
    columns = (
        ColumnSchema(column.name, column.kind, work.units.get(column.name, ""), column.categories)
        for column in work.table.columns
    )
    return Schema(tuple(columns))


def _counts(work: Work, column: ColumnSchema) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """Rows of each agreed category here."""
    size = len(column.categories)
    if work.table is None or not size:
        return np.zeros(size)
    here: Column = coded(work.table.columns, (column,)).columns[0]
    return np.bincount(here.values[here.values >= 0], minlength=size).astype(np.float64)


def _whole(counts: np.ndarray[tuple[int], np.dtype[np.float64]], what: str) -> list[int]:
    """Counts as whole numbers.

    Raises:
        ProtocolError: they are none.
    """
    if not (np.rint(counts) == counts).all():
        raise ProtocolError(f"the sites' numbers of {what} do not add up to whole ones: one has told a wrong number")
    return [int(count) for count in counts]


def _lacking(mine: Schema, common: Schema) -> tuple[str, ...]:
    """Which categories of other sites do not occur here, in words."""
    own, found = mine.named(), []
    for column in common.columns:
        new = [value for value in column.categories if value not in own[column.name].categories]
        if new:
            shown = ", ".join(map(repr, new[:3])) + (f" and {len(new) - 3} more" if len(new) > 3 else "")
            found.append(f"{column.name} {shown}")
    return tuple(found)


PROTOCOL = Protocol(
    name="schema-comparison",
    version=1,
    title="Sites with the same columns find out whether these mean the same",
    card=Card(
        source="Atoll.",
        security="Nothing is hidden: the schemas are the messages. They hold no rows and no counts.",
        inputs="Every site with data: names, kinds, units and categories of the columns that the job names.",
        reveals={
            "aggregator": ("Each member's column names, kinds, units, and the categories that occur there.",),
            "member": (
                "The columns that all sites have alike, and all categories that occur at any site, not at which.",
                "If the job ends because columns differ: what each site has of those.",
            ),
        },
        cost="2 messages with each member, of the schema's size: 50 bytes a column and the text of its categories.",
        fails="InputError at the aggregator with every difference and its cure, which the members are told; "
        "ProtocolError on something else than a schema, or when the aggregator leaves out what a member has.",
        assurance="tested",
        notes=(
            "A category that one row has is told like any other: name under `columns:` only what others may know.",
            "A site can claim a schema that is not its own; its numbers are then added all the same.",
        ),
    ),
    roles={"aggregator": aggregator, "member": member},
    messages=(Held, Common),
)
