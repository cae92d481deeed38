"""Many sites in one process: for trying a plan out before real sites run it.  Nothing is hidden from anybody here."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from atoll.core.errors import InputError, ProtocolError
from atoll.protocols.secure_sum.totals import Totals

T = TypeVar("T")

LARGEST = 2.0**95


@dataclass
class Simulation:
    """The meeting point of simulated sites; it counts what they add.

    Attributes:
        sites: their names, in alphabetical order.
        numbers: numbers that each site has given so far.
        sums: sums so far.
    """

    sites: tuple[str, ...]
    numbers: int = 0
    sums: int = 0
    _waiting: dict[str, tuple[str, NDArray[np.float64]]] = field(default_factory=dict)
    _done: asyncio.Future[NDArray[np.float64]] | None = None

    async def add(self, site: str, values: NDArray[np.float64], what: str) -> NDArray[np.float64]:
        """Wait for all sites' values, and return their exact sum, rounded once."""
        if self._done is None:
            self._done = asyncio.get_running_loop().create_future()
        done = self._done
        self._waiting[site] = (what, values)
        if len(self._waiting) == len(self.sites):
            waiting, self._waiting, self._done = self._waiting, {}, None
            if len({(what, values.size) for what, values in waiting.values()}) == 1:
                self.numbers, self.sums = self.numbers + values.size, self.sums + 1
                columns = zip(*(values.tolist() for _, values in waiting.values()), strict=True)
                done.set_result(np.array([math.fsum(column) for column in columns], np.float64))
            else:
                done.set_exception(
                    ProtocolError(f"sites add different things: {sorted({w for w, _ in waiting.values()})}")
                )
        return (await asyncio.shield(done)).copy()


@dataclass(frozen=True)
class SimulatedTotals:
    """`Totals` of one simulated site."""

    simulation: Simulation
    site: str

    @property
    def sites(self) -> tuple[str, ...]:
        """All sites."""
        return self.simulation.sites

    async def total(self, values: NDArray[np.float64], *, what: str) -> NDArray[np.float64]:
        """Return the sum over all simulated sites; see `Totals`."""
        if not (np.isfinite(values).all() and (np.abs(values) < LARGEST).all()):
            raise InputError(f"a value of {what!r} is not finite or too large", site=self.site)
        return await self.simulation.add(self.site, values, what)


def simulate(
    sites: int | Sequence[str],
    run: Callable[[Totals], Awaitable[T]],
    *,
    simulation: Callable[[Simulation], object] = lambda made: None,
) -> list[T]:
    """Run one coroutine for every site, side by side, and return their results in the order of the names.

    What they hand to threads runs one after the other, so that random numbers of a library come out the same each time.

    Args:
        sites: names, or how many.
        run: what a site does, given its sums.
        simulation: called with the meeting point before the sites start, for who wants to read its counters.

    Raises:
        InputError: names are double or missing.
        AtollError: the first error of a site; the others are stopped.
    """
    names = tuple(sorted(f"site-{i + 1:04d}" for i in range(sites)) if isinstance(sites, int) else sorted(sites))
    if not names or len(set(names)) < len(names):
        raise InputError("simulated sites need names, each another one", cure="Give at least one site.")
    meeting = Simulation(names)
    simulation(meeting)

    async def everyone() -> list[T]:
        with ThreadPoolExecutor(1) as one_by_one:
            asyncio.get_running_loop().set_default_executor(one_by_one)
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(_site(run, SimulatedTotals(meeting, name))) for name in names]
            return [task.result() for task in tasks]

    try:
        return asyncio.run(everyone())
    except ExceptionGroup as errors:
        raise errors.exceptions[0] from None


async def _site(run: Callable[[Totals], Awaitable[T]], totals: Totals) -> T:
    return await run(totals)
