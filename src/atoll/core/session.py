"""A site's view of one running job: its peers, its running step, and how the job ends for everybody."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import replace
from types import TracebackType

from atoll.core.channel import Channel, Gate, Link
from atoll.core.errors import AtollError, ConnectionLost, PeerFailed, ProtocolError
from atoll.core.message import Message
from atoll.core.protocol import Protocol

LAST_WORDS = 1.0
"""Seconds in which the notice of a peer that has closed its link may still be read."""

FAREWELL = 5.0
"""Seconds given to telling the peers that this site has failed."""


class Notice(Message, frozen=True):
    """How a site's part of the job ended: done, or failed with a cause that peers may read."""

    done: bool
    what: str = ""
    site: str = ""
    step: str = ""
    column: str = ""
    cure: str = ""


class Session:
    """Who I am, who my peers are, and what may leave now; passed, never global.

    Used as an async context manager around the job's steps. A clean exit waits until every site has
    acknowledged; an error is told to every peer, and each of them ends with the same cause.

    Args:
        gate: The site's exit control for this job.
        links: A link to every peer.
        hub: The site that is linked to all others; it collects the acknowledgements.
        progress: Called with (what, done, total) by long work.

    Attributes:
        dispensable: Peers whose end, whatever its cause, is a lost link and no more; nobody at first.
        lost: Why the links to such peers ended.
    """

    def __init__(
        self,
        gate: Gate,
        links: Mapping[str, Link],
        *,
        hub: str,
        progress: Callable[[str, int, int], None] = lambda what, done, total: None,
    ) -> None:
        self.gate, self.links, self.hub, self.progress = gate, dict(links), hub, progress
        self.peers = {site: Channel(link, gate) for site, link in self.links.items()}
        self.dispensable, self.lost = frozenset[str](), dict[str, AtollError]()
        notices = replace(gate, allowed=frozenset({Notice}), timeout=None, step="end", traffic=gate.traffic)
        self._notices = {site: Channel(link, notices, "end") for site, link in self.links.items()}
        self._done: dict[str, asyncio.Future[None]] = {}
        self._watchers: list[asyncio.Task[None]] = []

    @property
    def site(self) -> str:
        """This site's name."""
        return self.gate.site

    @property
    def job(self) -> str:
        """The job's id."""
        return self.gate.job

    @contextmanager
    def step(
        self, name: str, *, uses: Iterable[Protocol] = (), kinds: Iterable[type[Message]] = ()
    ) -> Iterator[Session]:
        """Declare what may cross the border while a step runs.

        Args:
            name: The step's name, for audit lines and errors.
            uses: Protocols of the step.
            kinds: Further kinds of message.
        """
        before = (self.gate.step, self.gate.allowed)
        self.gate.step = name
        self.gate.allowed = frozenset(kinds).union(*(protocol.kinds for protocol in uses))
        try:
            yield self
        except AtollError as error:
            error.located(site=self.site, step=name)
            raise
        finally:
            self.gate.step, self.gate.allowed = before

    async def __aenter__(self) -> Session:
        loop = asyncio.get_running_loop()
        self._done = {site: loop.create_future() for site in self.links}
        self._watchers = [asyncio.create_task(self._watch(site)) for site in self.links]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if error is None:
                await self._acknowledge()
            elif isinstance(error, ConnectionLost) and (cause := await self._last_words()):
                raise cause from error
            elif not isinstance(error, PeerFailed):
                await self._tell(_notice(error, self.site, self.gate.step), self.links)
        finally:
            for task in self._watchers:
                task.cancel()
            await asyncio.gather(*self._watchers, return_exceptions=True)
            await asyncio.gather(*(link.close() for link in self.links.values()), return_exceptions=True)

    async def _last_words(self) -> PeerFailed | None:
        """Return why a peer went, if it has said so: its notice may be read after the step saw the link close."""
        if self._done:
            await asyncio.wait(self._done.values(), timeout=LAST_WORDS)
        causes = [done.exception() for done in self._done.values() if done.done()]
        return next((cause for cause in causes if isinstance(cause, PeerFailed)), None)

    async def _watch(self, site: str) -> None:
        try:
            notice = await self._notices[site].recv(Notice)
        except AtollError as error:
            return self._settle(site, error)
        if notice.done:
            return self._settle(site, None)
        where = {"site": notice.site or site, "step": notice.step, "column": notice.column}
        kind = ConnectionLost if site in self.dispensable else PeerFailed
        cause = kind(notice.what, cure=notice.cure, **where)
        others = () if site in self.dispensable else set(self.links) - {site}
        await self._tell(notice, others)
        for ended in (site, *others):
            self.links[ended].abort(cause)
            self._settle(ended, cause)

    async def leave(self, site: str, error: AtollError) -> None:
        """Go on without a dispensable peer; tell it so, in case that it can still hear."""
        self.peers.pop(site, None)
        await self._tell(_notice(error, self.site, self.gate.step), {site})
        self.links[site].abort(error)
        self._settle(site, error)

    def _settle(self, site: str, error: AtollError | None) -> None:
        future = self._done[site]
        if future.done():
            return
        if error and site in self.dispensable:
            self.lost[site], error = error, None
        if error is None:
            return future.set_result(None)
        future.set_exception(error)
        future.exception()

    async def _acknowledge(self) -> None:
        if self.site == self.hub:
            await self._all_done()
        for site, channel in self._notices.items():
            with suppress(AtollError) if site in self.dispensable else nullcontext():
                await channel.send(Notice(done=True))
        if self.site != self.hub:
            await self._all_done()

    async def _all_done(self) -> None:
        if self._done:
            await asyncio.wait(self._done.values(), timeout=self.gate.timeout, return_when=asyncio.FIRST_EXCEPTION)
        error = next((cause for done in self._done.values() if done.done() and (cause := done.exception())), None)
        late = [site for site, done in self._done.items() if not done.done() and site not in self.dispensable]
        if late and error is None:
            what = f"{', '.join(late)} did not acknowledge the end of the job"
            error = ProtocolError(what, site=self.site, step="end")
        if error and not isinstance(error, PeerFailed):
            await self._tell(_notice(error, self.site, "end"), self.links)
        if error:
            raise error

    async def _tell(self, notice: Notice, sites: Iterable[str]) -> None:
        """Tell peers how it ended; a peer that cannot be told notices by its own time-out."""
        says = (self._notices[site].send(notice) for site in sites)
        with suppress(TimeoutError):
            async with asyncio.timeout(FAREWELL):
                await asyncio.gather(*says, return_exceptions=True)


def _notice(error: BaseException, site: str, step: str) -> Notice:
    if isinstance(error, AtollError):
        where = {"site": error.site or site, "step": error.step or step, "column": error.column}
        return Notice(False, error.what, cure=error.cure, **where)
    if isinstance(error, asyncio.CancelledError | KeyboardInterrupt):
        return Notice(False, "the job was stopped by its operator", site, step)
    what = f"an internal error ({type(error).__name__}) ended the job"
    return Notice(False, what, site, step, cure=f"The details are in the log of {site}.")
