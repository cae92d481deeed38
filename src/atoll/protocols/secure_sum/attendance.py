"""Who is still there: ask many members at once, and go on without those that fail or are late."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from atoll.core.channel import Channel
from atoll.core.errors import AtollError, ProtocolError
from atoll.core.message import Message
from atoll.protocols.together import together

T = TypeVar("T")

FAREWELL = 1.0
"""Seconds for the last message to a member that is left out."""


@dataclass
class Attendance:
    """The members that are left of those that a job names.

    Attributes:
        peers: Channels to the members by name.
        least: Fewest members.
        patience: Seconds that a member has for each step; not used where all are needed.
        all_needed: Whether the first one that fails ends everything.
        reachable: The members that are still there, in alphabetical order.
        dropped: Which members were left out, and why.
    """

    peers: Mapping[str, Channel]
    least: int
    patience: float
    all_needed: bool = False
    reachable: tuple[str, ...] = ()
    dropped: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Begin with all."""
        self.reachable = tuple(sorted(self.peers))

    async def collect(self, names: Sequence[str], ask: Callable[[str], Awaitable[T]], when: str) -> dict[str, T]:
        """Ask members at once; leave out those that fail or are late.

        Args:
            names: Whom to ask, of those that are still there.
            ask: Takes a name.
            when: Which step it is, for the record.

        Returns:
            What each gave that answered, by name.

        Raises:
            ProtocolError: Fewer members than the least are left.
            AtollError: All are needed, and one failed so.
        """
        asked = [name for name in names if name in self.reachable]
        if self.all_needed:
            return dict(zip(asked, await together(*(ask(name) for name in asked)), strict=True))
        tasks = {name: asyncio.ensure_future(ask(name)) for name in asked}
        try:
            if tasks:
                await asyncio.wait(tasks.values(), timeout=self.patience)
        finally:
            for task in tasks.values():
                task.cancel()
            ends = await asyncio.gather(*tasks.values(), return_exceptions=True)
        found = {}
        for name, end in zip(tasks, ends, strict=True):
            if isinstance(end, AtollError):
                self.drop(name, f"{end.what}, {when}")
            elif isinstance(end, asyncio.CancelledError):
                self.drop(name, f"no answer within {self.patience:g} s, {when}")
            elif isinstance(end, BaseException):
                raise end
            else:
                found[name] = end
        self.enough(self.reachable, when)
        return found

    async def tell(self, names: Sequence[str], message: Callable[[str], Message]) -> None:
        """Tell members at once; leave out those that cannot be told.

        Raises:
            AtollError: All are needed, and one could not be told.
        """

        async def tell(name: str) -> None:
            try:
                async with asyncio.timeout(None if self.all_needed else self.patience):
                    await self.peers[name].send(message(name))
            except TimeoutError:
                self.drop(name, f"nothing could be sent to it within {self.patience:g} s")
            except AtollError as error:
                if self.all_needed:
                    raise
                self.drop(name, error.what)

        await together(*(tell(name) for name in names if name in self.reachable))

    async def farewell(self, name: str, message: Message) -> None:
        """Tell a member that it was left out, if it can be told at once."""
        try:
            async with asyncio.timeout(FAREWELL):
                await self.peers[name].send(message)
        except (AtollError, TimeoutError):
            return  # it is gone

    def drop(self, name: str, why: str) -> None:
        """Go on without a member."""
        self.dropped.setdefault(name, why)
        self.reachable = tuple(other for other in self.reachable if other != name)

    def enough(self, names: Sequence[str], when: str) -> None:
        """Refuse to go on with too few.

        Raises:
            ProtocolError: There are fewer than the least.
        """
        if len(names) < self.least:
            lines = "; ".join(f"{name}: {why}" for name, why in sorted(self.dropped.items()))
            raise ProtocolError(
                f"only {len(names)} of {len(self.peers)} sites are left {when}, not {self.least}",
                detail=f"Left out: {lines}.",
                cure=f"Ask {', '.join(sorted(self.dropped))} whether they still run, and start the job again.",
            )
