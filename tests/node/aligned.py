"""Step align alone, at all sites of a job, over memory channels."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from atoll.core.channel import Gate, Link
from atoll.core.session import Session
from atoll.data.frames import table_of
from atoll.node.job import Job, check
from atoll.node.prepare import prepare
from atoll.node.steps import Work, build
from atoll.node.store import Store
from atoll.testing import seeded_rng
from atoll.transport.memory import memory_links

Frames = Mapping[str, Mapping[str, Any]]


def job_of(ids: Mapping[str, Any], step: Mapping[str, Any], later: Sequence[Mapping[str, Any]] = ()) -> Job:
    """A job of step align; the first site of `ids` is the label holder."""
    hub = next(iter(ids))
    sites = {
        name: {"role": "label-holder" if name == hub else "feature-holder", "data": "x", "id": id, "columns": ["v"]}
        for name, id in ids.items()
    }
    steps = [{"step": "align", "minimum": 1, **step}, *later]
    document = {"name": "t", "purpose": "see it work", "expires": "2099-01-01", "sites": sites, "steps": steps}
    job = Job.of(document)
    check(job)
    return job


def align(frames: Frames, job: Job, seed: int = 1) -> tuple[dict[str, Work], dict[str, list[Any]]]:
    """Run the step at every site; return what it came to, and the audited messages, by site.

    Raises:
        AtollError: the first cause at any site.
    """
    with tempfile.TemporaryDirectory() as folder:
        return asyncio.run(_all(frames, job, seed, Path(folder)))


async def _all(frames: Frames, job: Job, seed: int, folder: Path) -> tuple[dict[str, Work], dict[str, list[Any]]]:
    links: dict[str, dict[str, Link]] = {name: {} for name in job.sites}
    audit: dict[str, list[Any]] = {name: [] for name in job.sites}
    for partner in job.partners:
        links[job.hub][partner], links[partner][job.hub] = memory_links(job.hub, partner)

    async def one(number: int, name: str) -> Work:
        (step, *_), part, store = build(job), job.sites[name], Store(folder / name)
        store.folder.mkdir()

        def load(columns: Any, kinds: Any = None) -> Any:
            return table_of(frames[name], part.ids, columns, kinds)

        gate = Gate(name, job.name, timeout=20.0, audit=audit[name].append)
        async with Session(gate, links[name], hub=job.hub) as session:
            work = prepare(job, name, load, store, lambda _: store, (step,))
            work.rng = seeded_rng(seed + number)
            with session.step("align", uses=step.uses()):
                work.state["line"] = await step.run(session, work)
        written = store.path("rows.csv")
        work.state["file"] = written.read_text().splitlines() if written.exists() else []
        return work

    tasks = [asyncio.ensure_future(one(number, name)) for number, name in enumerate(job.sites)]
    ended = await asyncio.gather(*tasks, return_exceptions=True)
    failed = [end for end in ended if isinstance(end, BaseException)]
    if failed:
        raise next((error for error in failed if type(error).__name__ != "PeerFailed"), failed[0])
    return dict(zip(job.sites, [end for end in ended if isinstance(end, Work)], strict=True)), audit


def values(work: Work) -> list[float | None]:
    """Column v of a site's rows in the common order, None where it has none."""
    return [None if np.isnan(value) else value for value in work.X["v"].values.tolist()]  # type: ignore[index]
