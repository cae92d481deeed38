"""Sites in one process: one coroutine each, which meet only in an exact adder."""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from math import fsum
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from atoll.core.errors import InputError, ProtocolError

T = TypeVar("T")
F64 = NDArray[np.float64]

LIMIT = 2.0**95


class Stopped(Exception):
    """Another site ended with an error."""


@dataclass
class Adder:
    """Adds up what all sites bring, as integers; keeps every total for tests of what is revealed."""

    names: tuple[str, ...]
    waiting: dict[str, F64] = field(default_factory=dict)
    answer: asyncio.Future[F64] | None = None
    seen: list[tuple[str, F64]] = field(default_factory=list)

    def bring(self, site: str, values: F64, what: str) -> asyncio.Future[F64]:
        """Take one site's vector; the answer is there when the last one has come."""
        if self.answer is None:
            self.answer = asyncio.get_running_loop().create_future()
            self.what, self.size = what, values.size
        if what != self.what or values.size != self.size:
            raise ProtocolError(f"{site} adds up {what!r} ({values.size}), others {self.what!r} ({self.size})")
        answer, self.waiting[site] = self.answer, values
        if len(self.waiting) == len(self.names):
            total = exact_sum([self.waiting[name] for name in self.names])
            self.seen.append((what, total))
            self.waiting, self.answer = {}, None
            answer.set_result(total)
        return answer

    def stop(self) -> None:
        """Let the others know that one site has failed."""
        if self.answer is not None and not self.answer.done():
            self.answer.set_exception(Stopped())


def exact_sum(parts: Sequence[F64]) -> F64:
    """Add as multiples of 2^-96 without error, and round once."""
    grid = [np.ldexp(np.rint(np.ldexp(part, 96)), -96) + 0.0 for part in parts]
    if len(grid) <= 2:
        return np.add(grid[0], grid[-1]) if len(grid) == 2 else grid[0]
    if all((part == np.rint(part)).all() and np.abs(part).max(initial=0.0) < 2.0**45 for part in grid):
        return np.sum(grid, axis=0)
    return np.array([fsum(column) for column in zip(*(part.tolist() for part in grid), strict=True)])


@dataclass(frozen=True)
class OneSite:
    """One site's access to the adder."""

    site: str
    adder: Adder

    @property
    def sites(self) -> tuple[str, ...]:
        return self.adder.names

    async def total(self, values: F64, *, what: str) -> F64:
        if values.dtype != np.float64 or values.ndim != 1:
            raise TypeError(f"{what}: {values.dtype} {values.shape}")
        if not np.isfinite(values).all() or (np.abs(values) >= LIMIT).any():
            raise InputError(f"a value is not finite or too large in {what}", site=self.site)
        return (await self.adder.bring(self.site, values.copy(), what)).copy()


def together(site: Callable[..., Coroutine[Any, Any, T]], parts: Sequence[tuple[Any, ...]]) -> list[T]:
    """Run `site(totals, *part)` for every part at the same time; return what each site got.

    Raises:
        The first site's error that is not the consequence of another's.
    """
    return watched(site, parts)[0]


def watched(site: Callable[..., Coroutine[Any, Any, T]], parts: Sequence[tuple[Any, ...]]) -> tuple[list[T], Adder]:
    """As `together`, and return the adder with every total as well."""
    names = tuple(sorted(f"site {chr(97 + i)}" for i in range(len(parts))))
    adder = Adder(names)

    async def one(name: str, part: tuple[Any, ...]) -> T:
        try:
            return await site(OneSite(name, adder), *part)
        except BaseException:
            adder.stop()
            raise

    async def all_sites() -> list[Any]:
        jobs = [one(name, part) for name, part in zip(names, parts, strict=True)]
        return await asyncio.wait_for(asyncio.gather(*jobs, return_exceptions=True), 30)

    done = asyncio.run(all_sites())
    errors = [one for one in done if isinstance(one, BaseException)]
    for error in sorted(errors, key=lambda error: isinstance(error, Stopped)):
        raise error
    return done, adder


def split(n: int, sites: int, rng: np.random.Generator) -> list[NDArray[np.int64]]:
    """Deal n rows to sites, unevenly; with three or more sites one has none, if n is small one has one."""
    if sites == 1:
        return [np.arange(n)]
    shares = rng.dirichlet(np.full(sites, 0.7))
    owner = rng.choice(sites, n, p=shares)
    if sites >= 3:
        owner[owner == 1] = 0
    return [np.flatnonzero(owner == site) for site in range(sites)]
