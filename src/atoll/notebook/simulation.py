"""All sites in one process, for notebooks and tests: the same steps and the same messages, over memory channels."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Coroutine, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import combinations
from pathlib import Path
from typing import Any, TypeVar

from atoll.core.channel import Gate, Link
from atoll.core.errors import AtollError, InputError, PeerFailed
from atoll.core.session import Session
from atoll.data.frames import table_of
from atoll.node import contract
from atoll.node.job import Job, check
from atoll.node.log import JobLog
from atoll.node.policy import Policy, require
from atoll.node.prepare import prepare
from atoll.node.progress import Silent, Watch
from atoll.node.reporting import Ended, leave
from atoll.node.runner import run_steps
from atoll.node.steps import build
from atoll.node.store import Store
from atoll.transport.memory import memory_links
from atoll.transport.site import Site, init_site

T = TypeVar("T")
Frames = Mapping[str, Any]


@dataclass(frozen=True)
class Simulation:
    """What a simulated job left, by site.

    Args:
        job: the job that ran.
        stores: the folder of each site.
    """

    job: Job
    stores: Mapping[str, Store]

    @property
    def report(self) -> Any:
        """The record of the label holder's report."""
        return self.report_of(self.job.hub)

    def report_of(self, site: str) -> Any:
        """The record of one site's report."""
        from atoll.report import read_data

        return read_data(self.stores[site].path("report.json"))

    def path(self, site: str) -> Path:
        """Where one site's report for people is."""
        return self.stores[site].path("report.html")

    def __str__(self) -> str:
        from atoll.report import summary_text

        return summary_text(self.report)


def simulate(
    frames: Frames,
    job: Job | Mapping[str, Any] | None = None,
    *,
    id: str | Sequence[str] = "id",
    label: str = "",
    trees: Mapping[str, Any] | None = None,
    out: Path | str | None = None,
    watch: Watch | None = None,
    allow: str | Sequence[str] = (),
) -> Simulation:
    """Run a whole job with all sites in this process.

    Args:
        frames: for each site its table: pandas, polars, or a dict of arrays; none for an aggregator without data.
        job: the job, if another than align, split, bin, train and evaluate; it names the sites of `frames`.
        id: the id column or columns, the same at all sites.
        label: the column of 0 and 1; the one site that has it is the label holder.
        trees: parameters of the trees.
        out: where the sites' folders go; a new temporary folder if left out.
        watch: who is told of the label holder's progress.
        allow: weak protocols that all these sites allow, such as `salted-hash-intersection`.

    Raises:
        AtollError: as a real run does; the site where it arose says why.
    """
    document = job if isinstance(job, Job) else Job.of(job or default_job(frames, id, label, trees or {}))
    check(document)
    if {name for name, part in document.sites.items() if part.data} != frames.keys():
        raise InputError(
            f"the job names {', '.join(document.sites)}, the frames {', '.join(frames)}", cure="Name both alike."
        )
    policy = Policy(weak=(allow,) if isinstance(allow, str) else tuple(allow))
    for site in document.sites:
        require(policy, site, build(document), cure="Choose another protocol, or pass allow=({name!r},).")
    folder = Path(out or tempfile.mkdtemp(prefix="atoll-"))
    with tempfile.TemporaryDirectory() as keys:
        sites = {name: init_site(Path(keys) / str(at), name, "") for at, name in enumerate(document.sites)}
        return run(_simulate(document, frames, sites, folder, watch or Silent()))


def default_job(frames: Frames, id: str | Sequence[str], label: str, trees: Mapping[str, Any]) -> dict[str, Any]:
    """Return the job that `simulate` runs when it is given none: align, split, bin, train, evaluate."""
    from atoll.data.frames import names_of

    ids = [id] if isinstance(id, str) else list(id)
    hubs = [name for name, frame in frames.items() if label in names_of(frame)]
    if len(hubs) != 1:
        raise InputError(f"the label {label!r} is at {len(hubs)} sites", column=label, cure="One site must have it.")
    sites = {
        name: {
            "role": "label-holder" if name == hubs[0] else "feature-holder",
            "data": "frame",
            "id": ids,
            "label": label if name == hubs[0] else "",
        }
        for name in frames
    }
    bins = {name: value for name, value in trees.items() if name in ("max_bin", "min_bin")}
    rest = {name: value for name, value in trees.items() if name not in bins}
    return {
        "name": "simulation",
        "purpose": "simulation in one process",
        "expires": datetime.now(UTC).date().isoformat(),
        "sites": sites,
        "steps": [
            {"step": "align"},
            {"step": "split"},
            {"step": "bin", **bins},
            {"step": "train", **rest},
            {"step": "evaluate", "share": True},
        ],
    }


async def _simulate(job: Job, frames: Frames, sites: Mapping[str, Site], folder: Path, watch: Watch) -> Simulation:
    """Run every site's part as a task of its own; the first cause wins."""
    links: dict[str, dict[str, Link]] = {name: {} for name in sites}
    for one, other in combinations(sites, 2):
        if other in job.peers(one):
            links[one][other], links[other][one] = memory_links(one, other)
    tasks = {
        name: asyncio.ensure_future(_site(job, frames.get(name), site, sites, links[name], folder / name, watch))
        for name, site in sites.items()
    }
    ended = await asyncio.gather(*tasks.values(), return_exceptions=True)
    errors = [error for error in ended if isinstance(error, BaseException)]
    if errors:
        raise next((error for error in errors if not isinstance(error, PeerFailed)), errors[0])
    return Simulation(job, dict(zip(tasks, (store for store in ended if isinstance(store, Store)), strict=True)))


async def _site(
    job: Job, frame: Any, site: Site, sites: Mapping[str, Site], links: Mapping[str, Link], folder: Path, watch: Watch
) -> Store:
    began, part, steps = datetime.now(UTC), job.sites[site.name], build(job)
    store = Store.begin(folder, job.id)
    log = JobLog(store)
    told: Watch = watch if site.name == job.hub else Silent()
    gate = Gate(site.name, job.name, timeout=job.timeouts.message, audit=log.audit)
    seconds: dict[str, float] = {}
    try:
        async with Session(gate, links, hub=job.hub, progress=told.progress) as session:
            try:
                work = prepare(
                    job,
                    site.name,
                    lambda columns, kinds=None: table_of(frame, part.ids, columns, kinds),
                    store,
                    lambda earlier: Store(folder / earlier),
                    steps,
                )
            except AtollError as error:
                raise error.located(site=site.name, step="prepare") from None
            cards = {name: other.card for name, other in sites.items() if name != site.name}
            with session.step("contract", uses=[contract.PROTOCOL]):
                signed = await contract.sign(site, job, session.peers, cards)
            gate.job = job.id
            await run_steps(session, work, steps, told, log.event, seconds)
            leave(Ended(signed, session, work, log, began, seconds))
    finally:
        log.close()
    return store.commit(folder, job.id)


def run(work: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine to its end, also inside a notebook, whose own event loop is busy."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(work)
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(asyncio.run, work).result()
