"""Run one job at one site: join the others, sign the contract, do the steps, end together."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any

import msgspec

from atoll.core.channel import Gate, Link
from atoll.core.errors import AtollError, ConnectionLost, ContractError, InputError, PeerFailed
from atoll.core.identity import Card
from atoll.core.offload import offload
from atoll.core.session import Session
from atoll.data.scan import nearest
from atoll.node import border, checkpoint, contract, policy
from atoll.node.budgets import Reserved, reserve_for
from atoll.node.contract import Contract
from atoll.node.home import Home
from atoll.node.job import Job, check, unexpired
from atoll.node.log import JobLog
from atoll.node.prepare import from_home, prepare, units_of
from atoll.node.progress import Watch
from atoll.node.steps import Step, Work, build
from atoll.node.steps.base import SURVIVING
from atoll.node.steps.totals import LEFT, finish, without
from atoll.node.store import Store, room
from atoll.protocols.pairwise_keys import Seal
from atoll.protocols.secure_sum.totals import SitesLeft
from atoll.transport.site import Site

if TYPE_CHECKING:
    from atoll.transport.grpc_link import Endpoint

GRACE = 10.0
"""Seconds that a site which cannot take part waits for the others, to tell them why."""

CLOCKS = 60.0
"""Seconds by which clocks may differ before people are told."""

SAY_EVERY = 5.0
"""Seconds between lines that say whom the site waits for."""


@dataclass
class Run:
    """One job at one site, from its own checks to its report.

    Args:
        home: the site's folder.
        site: its identity.
        job: the document.
        watch: who is told.
        listen: host:port to listen on; the card's address when empty.
        fresh: begin at the first step, also where a try that was cut off could go on.
    """

    home: Home
    site: Site
    job: Job
    watch: Watch
    listen: str = ""
    fresh: bool = False

    def __post_init__(self) -> None:
        self.began, self.data = datetime.now(UTC), ""
        self.contract: Contract | None = None
        self.budget: Reserved | None = None
        self.seconds: dict[str, float] = {}

    async def go(self) -> Store:
        """Run the job and return the folder that it leaves.

        Raises:
            AtollError: the job failed here or elsewhere; every site of the job ends with the same cause.
        """
        cards = membership(self.job, self.site)
        store = Store.begin(self.home.jobs, self.job.id)
        log = JobLog(store)
        try:
            log.event("began", job=self.job.id, site=self.site.name)
            await self._joined(cards, store, log)
            if self.budget is not None:
                self.budget.spend()  # as it was before anything was opened; here for steps that opened nothing
            log.event("done")
            checkpoint.clear(store)
        except BaseException as error:
            self._failed(store, log, error)
            raise
        log.close()
        return store.commit(self.home.jobs, self.job.id)

    async def _joined(self, cards: Mapping[str, Card], store: Store, log: JobLog) -> None:
        from atoll.transport.grpc_link import Endpoint

        steps = build(self.job)
        work, trouble = self._own_side(store, steps, cards)
        within = min(GRACE, self.job.timeouts.join) if trouble else self.job.timeouts.join
        peers = {name: cards[name] for name in self.job.peers(self.site.name)}
        dials = {name: dials_to(self.job, self.site, card) for name, card in peers.items()}
        listen = "" if all(dials.values()) else self.listen or self.site.card.address
        endpoint = Endpoint(self.site, listen=listen, join_within=within, lost_after=self.job.timeouts.lost)
        async with endpoint:
            endpoint.admit(self.job.name, [name for name in self.job.sites if name != self.site.name])
            calls = {n: endpoint.link(self.job.name, card, dial=dials[n]) for n, card in peers.items()}
            places = {name: card.address if dials[name] else "" for name, card in peers.items()}
            links, refused = await join(calls, places, within, self.watch)
            trouble = trouble or refused
            if trouble and not links:
                raise trouble  # there is nobody to tell
            gate = Gate(self.site.name, self.job.name, timeout=self.job.timeouts.message, audit=log.audit)
            gate.traffic.update(log.traffic())
            session = Session(gate, links, hub=self.job.hub, progress=self.watch.progress)
            try:
                async with session:
                    if trouble or work is None:
                        raise trouble or InputError("the site's own side could not be read")
                    await self._contract(session, cards, work)
                    done = await self._border(session, work, steps, log)
                    keep, event = partial(self._keep, work, steps), partial(self._event, log, endpoint)
                    await run_steps(session, work, steps, self.watch, event, self.seconds, done=done, keep=keep)
                    with session.step("report"), room(store.folder):
                        self._leave(session, work, log)
                    if session.dispensable:  # do not wait longer for the last words of a site that may fail
                        session.gate.timeout = self.job.adding.patience * (1 if work.labels else 3)
            except PeerFailed as error:
                if not self._refused(error):
                    raise
                where = {"site": error.site, "step": error.step, "column": error.column}
                raise ContractError(error.what, cure=error.cure, **where) from None  # one exit code at every site

    def _event(self, log: JobLog, endpoint: Endpoint, what: str, **fields: Any) -> None:
        """Write an event to the log; a site that has left is told so should it come back."""
        log.event(what, **fields)
        if what == "left":
            why = f"the job goes on without {fields['site']}: {fields['why']}"
            endpoint.dismiss(self.job.name, fields["site"], why)

    def _refused(self, error: PeerFailed) -> bool:
        """Whether another site refused the job: in the contract, or a step of it before the contract was signed."""
        return error.step == "contract" or (
            self.contract is None and error.step in {step.name for step in build(self.job)}
        )

    def _own_side(
        self, store: Store, steps: tuple[Step[Any], ...], cards: Mapping[str, Card]
    ) -> tuple[Work | None, AtollError | None]:
        """Check that this site allows the job, then its data; an error is kept, so that the others can be told."""
        try:
            unexpired(self.job)  # here, so that the others are told
            policy.require(self.home.policy(), self.site.name, steps)
            part = self.job.sites[self.site.name]
            load, units = from_home(self.home, part), units_of(self.home, part)
            work = prepare(self.job, self.site.name, load, store, self.home.result, steps, units)
            work.reruns, work.seal = self.home.reruns, Seal.of(self.site.key, cards)
            work.budget = self.budget = reserve_for(self.home.budgets, self.job, self.site.name, steps)
            return work, None
        except AtollError as error:
            error.located(site=self.site.name, step="prepare")
            self.watch.note(f"this site cannot take part: {error.what}; telling the other sites")
            return None, error

    async def _contract(self, session: Session, cards: Mapping[str, Card], work: Work) -> None:
        start = time.perf_counter()
        with session.step("contract", uses=[contract.PROTOCOL]):
            self.contract = await contract.sign(self.site, self.job, session.peers, cards)
        slack = self.job.timeouts.join + CLOCKS  # a site signs when it has joined, and others may join later
        for line in contract.clocks(self.contract, datetime.now(UTC), slack):
            work.report.setdefault("clocks", []).append(line)
            self.watch.note(f"{line}; times in logs and reports differ, and `expires:` may fall on another day there")
        session.gate.job = self.job.id  # until now sites with different documents had to understand each other
        self.watch.ended(
            "contract", f"signed by {', '.join(sorted(self.job.sites))}", time.perf_counter() - start, 0, 0
        )

    async def _border(self, session: Session, work: Work, steps: tuple[Step[Any], ...], log: JobLog) -> int:
        """Agree with the other sites after how many steps this try goes on, and take up what they left."""
        if self.fresh:
            checkpoint.clear(work.store)
        self.data = await offload(checkpoint.fingerprint, work)
        found, trouble = await offload(checkpoint.load, work, self.data)
        run, reached = (bytes.fromhex(found.run), len(found.done)) if found else (border.NOBODY, 0)
        with session.step("contract", uses=[border.PROTOCOL]):
            channels = {name: channel.sub("border") for name, channel in session.peers.items()}
            if work.labels:
                work.run, done = await border.label_holder(channels, run, reached, rng=work.rng)
            else:
                work.run, done = await border.feature_holder(channels[self.job.hub], run, reached)
        if found is None or not done:
            checkpoint.drop(work.store)
            if found or trouble:
                self.watch.note(f"beginning anew: {trouble or 'another site holds no checkpoint of this run'}")
            return 0
        work.report |= {**found.report, "tries": log.tries}
        self.began = datetime.fromisoformat(found.began)
        self.seconds |= {name: found.seconds[name] for name in found.done[:done]}
        for step in steps[:done]:
            await step.resume(work)
        log.event("resumed", after=steps[done - 1].name)
        self.watch.note(
            f"going on after step {steps[done - 1].name} ({done} of {len(steps)}), where an earlier try was cut off"
        )
        return done

    def _keep(self, work: Work, steps: tuple[Step[Any], ...], done: int) -> None:
        """Write a checkpoint after a step, as long as every step so far can be taken up again."""
        if work.report.get(LEFT):
            return  # the sites that are left could not agree on a border with one that comes back
        files: list[str] = []
        for step in steps[:done]:
            if step.leaves is None:
                return
            files += step.leaves
        names = [step.name for step in steps[:done]]
        began = self.began.isoformat()
        checkpoint.save(work, self.data, done=names, files=files, seconds=self.seconds, began=began)

    def _leave(self, session: Session, work: Work, log: JobLog) -> None:
        """Write contract, result and report before the others are told that this site is done."""
        from atoll.node.reporting import Ended, leave

        if self.contract is None:
            raise ContractError("the contract was not signed")
        leave(Ended(self.contract, session, work, log, self.began, self.seconds))

    def _failed(self, store: Store, log: JobLog, error: BaseException) -> None:
        """Keep the log of a failed run, and free what it had reserved; a full disk must not hide the cause."""
        if self.budget is not None:
            try:
                self.budget.release()
            except AtollError as trouble:
                self.watch.note(trouble.what)
        try:
            fields = error.to_dict() if isinstance(error, AtollError) else {"error": type(error).__name__}
            log.event("failed", **fields)
        except InputError as full:
            self.watch.note(full.what)
        log.close()
        try:
            store.keep_failed(self.home.jobs, self.job.id)
        except InputError as full:
            self.watch.note(full.what)


async def run_steps(
    session: Session,
    work: Work,
    steps: tuple[Step[Any], ...],
    watch: Watch,
    event: Callable[..., None],
    seconds: dict[str, float],
    *,
    done: int = 0,
    keep: Callable[[int], None] = lambda done: None,
) -> None:
    """Run the steps in order; each may send only what its protocols declare.

    Args:
        session: the joined session.
        work: this site's side.
        steps: the steps.
        watch: who is told.
        event: writes to the log.
        seconds: filled with the time of each step.
        done: steps of an earlier try that are not run again.
        keep: told after each step how many are done.
    """
    if work.job.topology in SURVIVING:  # now, for a site may fail before another one has come to its first sum
        session.dispensable = frozenset(session.peers) - {work.job.hub}
    for number, step in enumerate(steps[done:], done + 1):
        watch.started(step.name, step.title, number, len(steps))
        start = time.perf_counter()
        line = await run_steadily(session, work, steps, step, watch, event)
        with room(work.store.folder):
            seconds[step.name] = time.perf_counter() - start
            keep(number)
        traffic = dict.fromkeys(("sent", "received"), 0)
        for (name, _, way), count in session.gate.traffic.items():
            if name == step.name:
                traffic[way] += count
        watch.ended(step.name, line, seconds[step.name], traffic["sent"], traffic["received"])
        event("step", step=step.name, text=line, seconds=seconds[step.name], **traffic)
    await finish(session, work)


async def run_steadily(
    session: Session,
    work: Work,
    steps: tuple[Step[Any], ...],
    step: Step[Any],
    watch: Watch,
    event: Callable[..., None],
) -> str:
    """Run a step; where a site leaves meanwhile, run it again, after those on whose totals it stands.

    Totals of different sites do not fit together: what holds one of them is made anew by the sites that are left. Steps
    that are done, and on which this one does not stand, stay as they are, over the sites of their time.
    """
    again: tuple[Step[Any], ...] = ()
    while True:
        try:
            for one in (*again, step):
                with session.step(one.name, uses=one.uses()), room(work.store.folder):
                    line = await one.run(session, work)
            return line
        except SitesLeft:
            for left in await without(session, work, step):
                event("left", **msgspec.to_builtins(left))
                watch.note(f"{left.text}; going on with {', '.join(work.state['among'])}")
            checkpoint.drop(work.store)  # an earlier border was one of all sites
            again = before(steps, step)


def before(steps: tuple[Step[Any], ...], step: Step[Any]) -> tuple[Step[Any], ...]:
    """Return the steps on which one stands, in order."""
    needed, found = set(step.needs), list[Step[Any]]()
    for one in reversed(steps[: steps.index(step)]):
        if needed & set(one.gives):
            needed |= set(one.needs)
            found.insert(0, one)
    return tuple(found)


async def join(
    calls: Mapping[str, Awaitable[Link]], places: Mapping[str, str], within: float, watch: Watch
) -> tuple[dict[str, Link], AtollError | None]:
    """Wait for all peers; return the links that came about, and the first error if one did not.

    Args:
        calls: for each peer what makes its link.
        places: where each peer is expected; empty when it dials this site.
        within: seconds that each may take.
        watch: who is told whom the site waits for.
    """
    begun = time.monotonic()
    tasks = {asyncio.ensure_future(call): name for name, call in calls.items()}
    waiting, trouble, links = set(tasks), None, {}
    pause, patience = 1.0, within + GRACE
    try:
        while waiting and time.monotonic() - begun < patience:
            done, waiting = await asyncio.wait(waiting, timeout=pause, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                try:
                    links[tasks[task]] = task.result()
                except AtollError as error:
                    trouble = trouble or error
                    patience = min(patience, time.monotonic() - begun + GRACE / 2)
            if waiting and not done:
                late = [(tasks[task], places[tasks[task]]) for task in waiting]
                watch.waiting(sorted(late), max(0.0, within - (time.monotonic() - begun)))
                pause = SAY_EVERY
    finally:
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
    if waiting and trouble is None:
        names = ", ".join(sorted(tasks[task] for task in waiting))
        trouble = ConnectionLost(f"{names} did not join within {within:g} s", cure="Start the same job there.")
    return links, trouble


def membership(job: Job, site: Site) -> dict[str, Card]:
    """Check the job and this site's place in it, and return the cards of all other sites.

    Raises:
        ContractError, InputError: no site should run this job.
        IdentityError: a site of the job is not trusted here, or its card has expired.
    """
    check(job, dated=False)
    if site.name not in job.sites:
        close = nearest(site.name, list(job.sites))
        raise InputError(
            f"the job does not name this site, {site.name}",
            cure=f"It names {', '.join(job.sites)}." + (f" Did you mean {close!r}?" if close else ""),
        )
    return {name: site.peer(name) for name in job.sites if name != site.name}


def dials_to(job: Job, site: Site, peer: Card) -> bool:
    """Whether this site dials a peer: others dial the hub, and of two others the later by name the earlier.

    Raises:
        InputError: neither of the two has an address.
    """
    hub_here = site.name == (job.hub if job.hub in (site.name, peer.name) else min(site.name, peer.name))
    hub_address, other_address = (site.card.address, peer.address) if hub_here else (peer.address, site.card.address)
    if not hub_address and not other_address:
        raise InputError(f"neither {site.name} nor {peer.name} has an address", cure="One of them must listen.")
    return hub_here != bool(hub_address)
