"""Transfers in the background: made before their vectors are known, so that neither side waits for the other.

What a vector takes from oblivious transfer, P at the owner and P + H·s at the asker, depends on nothing but a fresh s.
Both sides follow one rule on how many such pairs there shall be, so no message asks for them.  A pair serves one
vector, in order, lives in memory only, and what is left at the end is thrown away: without the owner's answer it says
nothing.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Generic, TypeVar

from atoll.protocols.fixed_matrix_product.steps import in_turn

A = TypeVar("A")

BATCH = 4
"""Vectors whose transfers are extended together."""
AHEAD = 8
"""Vectors whose transfers are made before they are asked, as long as the terms plan for so many."""


@dataclass(repr=False)
class Ahead(Generic[A]):
    """One side's transfers, in the order of the vectors that use them.

    Attributes:
        planned: Vectors that the terms plan for; beyond them transfers are made when they are asked for.
        asked: Vectors asked so far.
        begun: Vectors whose transfers were begun.
    """

    planned: int = 0
    asked: int = 0
    begun: int = 0
    _ready: deque[A] = field(default_factory=deque)
    _news: asyncio.Event = field(default_factory=asyncio.Event)
    _extension: asyncio.Task[Any] | None = None
    _stretch: asyncio.Task[None] | None = None
    _tasks: set[asyncio.Task[Any]] = field(default_factory=set)

    def due(self, count: int) -> list[int]:
        """Count vectors that are now asked; return the sizes of the batches that are to begin."""
        self.asked += count
        until, sizes = max(self.asked, min(self.planned, self.asked + AHEAD)), []
        while self.begun < until:
            sizes.append(min(BATCH, until - self.begun))
            self.begun += sizes[-1]
        return sizes

    def begin(
        self,
        batches: Sequence[tuple[int, Callable[[], Awaitable[Any]]]],
        make: Callable[[Any, int], Awaitable[Any]],
        use: Callable[[Any], Awaitable[A]],
    ) -> None:
        """Begin batches, after all that were begun before.

        Args:
            batches: For each its vectors and its extension; extensions run one after the other.
            make: Called with what the extension returned and a vector's place in its batch, one vector ahead of `use`.
            use: Called with what `make` returned; its result is what `take` hands out.
        """
        calls = []
        for size, extend in batches:
            self._extension = self._task(_after(self._extension, extend))
            calls += [partial(_when_extended, self._extension, make, t) for t in range(size)]

        async def put(made: Any) -> None:
            self._ready.append(await use(made))
            self._news.set()

        self._stretch = self._task(_after(self._stretch, partial(in_turn, calls, put)))

    async def take(self) -> A:
        """Return what is next in order, when it is there; raise what went wrong on the way to it."""
        while not self._ready:
            if self._stretch is None or self._stretch.done():
                await self._failed()
            self._news.clear()
            await self._news.wait()
        return self._ready.popleft()

    async def end(self, *, well: bool) -> None:
        """Finish what was begun, so that nothing stays on its way; or, after an error, stop at once."""
        tasks = list(self._tasks)
        try:
            if well:
                await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def _task(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return task

    def _done(self, task: asyncio.Task[Any]) -> None:
        self._news.set()
        if not task.cancelled() and task.exception() is None:
            self._tasks.discard(task)  # failed ones stay for `end`

    async def _failed(self) -> None:
        if self._stretch is None:
            raise RuntimeError("transfers were not begun")
        await self._stretch
        raise RuntimeError("more transfers were taken than were begun")


async def _after(before: asyncio.Task[Any] | None, work: Callable[[], Awaitable[A]]) -> A:
    if before is not None:
        await asyncio.shield(before)  # who is cancelled while waiting does not cancel what went before
    return await work()


async def _when_extended(extension: asyncio.Task[Any], make: Callable[[Any, int], Awaitable[A]], t: int) -> A:
    return await make(await asyncio.shield(extension), t)
