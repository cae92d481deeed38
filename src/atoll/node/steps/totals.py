"""The secure sum that the steps of a horizontal job share, and the record of what it told."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec
import numpy as np
from numpy.typing import NDArray

from atoll.core.errors import InputError
from atoll.core.protocol import Protocol
from atoll.core.session import Session
from atoll.node.steps.base import Topology, Work

if TYPE_CHECKING:
    from atoll.node.job import Job
    from atoll.protocols.secure_sum.sums import Sums
    from atoll.protocols.secure_sum.totals import Totals

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
    before = len(sums.told)
    yield sums if work.mine.data else Onlooker(sums)
    times: Counter[tuple[str, int]] = Counter()
    numbers: Counter[tuple[str, int]] = Counter()
    for told in sums.told[before:]:
        key = (told.what, len(told.sites))
        times[key] += 1
        numbers[key] += told.n
    found = [Revealed(what, times[what, sites], numbers[what, sites], sites) for what, sites in times]
    work.report.setdefault(REVEALED, {})[step] = msgspec.to_builtins(found)


async def _join(session: Session, work: Work) -> Sums:
    """Come to keys with the other sites."""
    from atoll.protocols.secure_sum import lattice, star, topology
    from atoll.protocols.secure_sum.sums import Sums

    job, rng = work.job, work.rng.spawn()
    peers = {name: channel.sub("sums") for name, channel in session.peers.items()}
    context = (job.name, job.digest().hex())
    if job.sites[job.hub].data:
        return await topology.join(
            job.topology,
            peers,
            site=work.site,
            sites=sorted(job.sites),
            hub=job.hub,
            rng=rng,
            seal=work.seal,
            context=context,
            aggregators=job.aggregators,
        )
    if job.topology == "lattice":
        if work.labels:
            return Sums(await lattice.hub(peers, adds=False, context=context), rng)
        hub, members = peers[job.hub], job.partners
        return Sums(await lattice.member(hub, members, rng=rng, seal=work.seal, adds=False, context=context), rng)
    if work.labels:
        return Sums(await star.hub(peers, adds=False, checked=True, context=context), rng)
    hub, members = peers[job.hub], job.partners
    return Sums(
        await star.member(hub, members, rng=rng, seal=work.seal, adds=False, checked=True, context=context), rng
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
    return f"the rows of all {len(bringing)} sites together"


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
