"""The secure sum that the steps of a horizontal job share, and the record of what it told."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from atoll.core.errors import InputError
from atoll.core.protocol import Protocol
from atoll.core.session import Session
from atoll.node import departures
from atoll.node.steps.base import SURVIVING, Topology, Work
from atoll.protocols.secure_sum.question import said
from atoll.protocols.secure_sum.totals import SitesLeft

if TYPE_CHECKING:
    from atoll.node.departures import Departure
    from atoll.node.job import Job
    from atoll.node.steps.base import Step
    from atoll.protocols.secure_sum.sums import Sums, Told
    from atoll.protocols.secure_sum.totals import Totals

LEFT = "left"
"""Under this name the report's figures hold who left the job, see `Departure`."""

REVEALED = "revealed"
"""Under this name the report's figures hold what every step's totals were."""


class Revealed(msgspec.Struct, frozen=True):
    """Totals of one kind that every site was told.

    Attributes:
        what: what was added up.
        times: how often.
        numbers: how many numbers in all.
        sites: over how many sites.
    """

    what: str
    times: int
    numbers: int
    sites: int


@dataclass(frozen=True)
class Onlooker:
    """The totals at an aggregator without rows: it is told them and adds nothing.

    Args:
        sums: what adds up.
    """

    sums: Sums

    @property
    def site(self) -> str:
        """This site's name."""
        return self.sums.site

    @property
    def sites(self) -> tuple[str, ...]:
        """The sites that add."""
        return self.sums.sites

    async def total(self, values: NDArray[np.float64], *, what: str) -> NDArray[np.float64]:
        """Return the sum of the other sites' values; only the number of `values` matters."""
        return await self.sums.total(np.zeros_like(values), what=what)


@dataclass(frozen=True)
class Steady:
    """Totals over the same sites from first to last; where one leaves, the step is begun again without it.

    Args:
        totals: what adds up.
        carrier: how; it knows whom it dropped, and why.
        session: the running session, which lets those go.
        among: the sites that add.
    """

    totals: Totals
    carrier: Any
    session: Session
    among: tuple[str, ...]

    @property
    def site(self) -> str:
        """This site's name."""
        return self.totals.site

    @property
    def sites(self) -> tuple[str, ...]:
        """The sites that add."""
        return self.among

    async def total(self, values: NDArray[np.float64], *, what: str) -> NDArray[np.float64]:
        """Return the sum of all sites' values.

        Raises:
            SitesLeft: it is not over all of them.
        """
        try:
            total = await self.totals.total(values, what=what)
        finally:
            await departures.part(self.session, getattr(self.carrier, "dropped", {}))
        if self.totals.sites != self.among:
            raise SitesLeft
        return total


@asynccontextmanager
async def totals(session: Session, work: Work, step: str) -> AsyncIterator[Totals]:
    """Give a step the job's secure sum, and note in the site's report what it told.

    Args:
        session: the running session.
        work: this site's side.
        step: the step's name; it uses `sum_protocol`.
    """
    sums = work.state.get("sums")
    if sums is None:
        sums = work.state["sums"] = await _join(session, work)
        work.state["among"] = sums.sites
    before = len(sums.told)
    own = sums if work.mine.data else Onlooker(sums)
    among = work.state["among"]
    try:
        yield Steady(own, sums.carrier, session, among) if work.job.topology in SURVIVING else own
    finally:
        work.report.setdefault(REVEALED, {}).setdefault(step, []).extend(_counted(sums.told[before:]))


def _counted(all_told: Sequence[Told]) -> list[dict[str, Any]]:
    """Put totals of the same kind over as many sites together."""
    times: Counter[tuple[str, int]] = Counter()
    numbers: Counter[tuple[str, int]] = Counter()
    for told in all_told:
        key = (said(told.what), len(told.sites))
        times[key] += 1
        numbers[key] += told.n
    found = [Revealed(what, times[what, sites], numbers[what, sites], sites) for what, sites in times]
    return list(msgspec.to_builtins(found))


async def without(session: Session, work: Work, step: Step[Any]) -> list[Departure]:
    """After `SitesLeft`: learn who left and why, and keep it for the report.

    Args:
        session: the running session.
        work: this site's side.
        step: the step in which it happened.
    """
    sums, before = work.state["sums"], work.state["among"]
    gone = sorted(set(before) - set(sums.sites))
    with session.step(step.name, uses=[*step.uses(), departures.PROTOCOL]):
        peers = {name: channel.sub(departures.STREAM) for name, channel in session.peers.items()}
        if work.labels:
            left = await departures.tell(peers, gone, sums.carrier.dropped, step.name)
        else:
            left = await departures.learn(peers[work.job.hub], gone)
    work.state["among"] = sums.sites
    work.report.setdefault(LEFT, []).extend(msgspec.to_builtins(left))
    return left


def still_enough(work: Work, step: Step[Any], rows: int, minimum: int, what: str, column: str = "") -> None:
    """Refuse to go on where a site has left that had fewer rows than the job's minimum.

    Args:
        work: this site's side.
        step: the step, which may be begun again.
        rows: how many all sites that are left have.
        minimum: fewest rows over which a total is opened.
        what: what the rows are.
        column: the column concerned.

    Raises:
        InputError: it had: the difference of a total with it and one without it would be over so few rows.
    """
    counts, key = work.state.setdefault("rows told", {}), (step.name, repr(step.params), what)
    gone = counts.get(key, rows) - rows
    counts[key] = rows
    if 0 < gone < minimum:
        raise InputError(
            f"a site left that had {gone} {what}, fewer than the minimum of {minimum:,}: a total with it and the same "
            "one without it would show these few",
            column=column,
            cure="Start the job again with all sites, or one without the site that left under another name.",
        )


async def finish(session: Session, work: Work) -> None:
    """Let the other sites of a ring go, which may have missed a site in the last sum."""
    if work.job.topology == "ring" and "sums" in work.state:
        with session.step("end", uses=[sum_protocol("ring")]):
            await work.state["sums"].finish()


async def _join(session: Session, work: Work) -> Sums:
    """Come to keys with the other sites."""
    from atoll.protocols.secure_sum import topology

    job, rng = work.job, work.rng.spawn()
    peers = {name: channel.sub("sums") for name, channel in session.peers.items()}
    return await topology.join(
        job.topology,
        peers,
        site=work.site,
        sites=sorted(name for name, part in job.sites.items() if part.data),
        hub=job.hub,
        rng=rng,
        seal=work.seal,
        context=(job.name, job.digest().hex()),
        patience=job.adding.patience,
        least=job.least if job.topology in SURVIVING else 0,
        steady=True,
        aggregators=job.aggregators,
    )


def sum_protocol(topology: Topology) -> Protocol:
    """Return what adds over the sites."""
    from atoll.protocols.secure_sum.topology import protocol_of

    return protocol_of(topology)


def assumed(topology: Topology, aggregators: Sequence[str]) -> str:
    """Say whom people trust not to work together, who add over a topology."""
    from atoll.protocols.secure_sum.topology import ASSUMED

    return ASSUMED[topology].replace("the sites that add", " and ".join(aggregators))


def shared(job: Job) -> str:
    """Say over whose rows the totals go, for people."""
    bringing = [name for name, part in job.sites.items() if part.data]
    left = " that are left" if job.topology in SURVIVING else ""
    return f"the rows of all {len(bringing)} sites together{left}"


def enough(rows: float, minimum: int, what: str, column: str = "") -> None:
    """Refuse to go on with fewer rows than the job's minimum.

    Raises:
        InputError: there are fewer.
    """
    if rows < minimum:
        raise InputError(
            f"all sites together have {rows:,.0f} {what}, fewer than the minimum of {minimum:,}",
            column=column,
            cure="Bring more rows, or agree on a smaller `minimum:` in step compare.",
        )
