"""Many peers at once."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from atoll.core.channel import Channel
from atoll.core.errors import AtollError, ProtocolError
from atoll.core.message import M, Message


@dataclass(frozen=True)
class Group:
    """The channels to several peers, by site name."""

    channels: Mapping[str, Channel]

    def sub(self, name: str) -> Group:
        """Return the same peers on an independent stream."""
        return Group({site: channel.sub(name) for site, channel in self.channels.items()})

    async def broadcast(self, message: Message) -> None:
        """Send one message to every peer."""
        await asyncio.gather(*(channel.send(message) for channel in self.channels.values()))

    async def gather(
        self, kind: type[M], *, quorum: int | None = None, timeout: float | None = None, **shapes: Sequence[int]
    ) -> dict[str, M]:
        """Receive one message from every peer, or from `quorum` of them within `timeout` seconds.

        Returns:
            The messages by site name; peers that were late or failed are absent, if the quorum allows it.

        Raises:
            ProtocolError: Fewer than `quorum` peers answered; the first peer's own error if none may be missing.
        """
        waiting = {asyncio.ensure_future(channel.recv(kind, **shapes)): site for site, channel in self.channels.items()}
        needed = len(waiting) if quorum is None else quorum
        first = asyncio.FIRST_EXCEPTION if quorum is None else asyncio.ALL_COMPLETED
        try:
            done, _ = await asyncio.wait(waiting, timeout=timeout, return_when=first) if waiting else (set(), set())
        finally:
            for task in waiting:
                task.cancel()
        errors = [error for task in done if not task.cancelled() and (error := task.exception())]
        answers = {waiting[task]: task.result() for task in done if not task.cancelled() and not task.exception()}
        if len(answers) >= needed:
            return answers
        if errors and (quorum is None or not isinstance(errors[0], AtollError)):
            raise errors[0]
        missing = ", ".join(sorted(set(self.channels) - set(answers)))
        raise ProtocolError(f"{len(answers)} of {len(waiting)} sites answered, {needed} are needed; missing: {missing}")
