"""Several sites on one machine, for demonstrations: their folders, cards and processes, and one view of them all."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import socket
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from atoll.core.errors import AtollError, PeerFailed
from atoll.solutions.credit_risk.institutions import Institution

Event = dict[str, Any]


def build(folder: Path, places: Sequence[Institution]) -> dict[str, Path]:
    """Make a folder for each site with its key, its data set, and the cards of the others.

    Args:
        folder: where `NAME/` and the CSV files lie; older sites in it are replaced.
        places: the institutions; each one's data are in `DATA.csv`.

    Returns:
        The sites' folders.
    """
    from atoll.node.home import Home
    from atoll.transport.site import init_site

    sites = {}
    for place, port in zip(places, free_ports(len(places)), strict=True):
        home = folder / place.name
        shutil.rmtree(home, ignore_errors=True)
        sites[place.name] = init_site(home, place.name, f"127.0.0.1:{port}", days=30)
        kinds = dict.fromkeys(place.categorical, "categorical")
        Home(home).catalogue.add(place.data, folder / f"{place.data}.csv", [place.id], kinds=kinds)  # type: ignore[arg-type]
    for site in sites.values():
        for other in sites.values():
            if other is not site:
                site.trust(other.card)
    return {name: folder / name for name in sites}


def free_ports(count: int) -> list[int]:
    """Return ports of this machine that nobody listens on."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()


@dataclass
class Ending:
    """How a site's process ended.

    Args:
        code: its exit code.
        events: what it said, in order.
        errors: its standard error, for people.
    """

    code: int = 0
    events: list[Event] = field(default_factory=list)
    errors: str = ""

    def last(self, kind: str) -> Event | None:
        """The last event of a kind."""
        return next((event for event in reversed(self.events) if event["event"] == kind), None)


async def perform(job: Path, homes: Mapping[str, Path], heard: Callable[[Event], None]) -> dict[str, Ending]:
    """Run a job with one process for each site, and wait for all of them.

    Args:
        job: the job's file.
        homes: the sites' folders.
        heard: told of every event of every site.
    """
    endings = {name: Ending() for name in homes}
    children: list[asyncio.subprocess.Process] = []
    try:
        for name, home in homes.items():
            command = ["-m", "atoll.cli", "job", "run", str(job), "--as", name, "--home", str(home), "--json"]
            environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
            pipe = asyncio.subprocess.PIPE
            child = await asyncio.create_subprocess_exec(
                sys.executable, *command, stdout=pipe, stderr=pipe, env=environment, limit=1 << 20
            )
            children.append(child)
        await asyncio.gather(*(_listen(c, e, heard) for c, e in zip(children, endings.values(), strict=True)))
    finally:
        for child in children:
            if child.returncode is None:
                child.terminate()
        await asyncio.gather(*(child.wait() for child in children), return_exceptions=True)
    return endings


def cause(endings: Mapping[str, Ending]) -> AtollError | None:
    """Return why the job failed, in the words of the site where it did; None if it did not."""
    failed = {name: ending for name, ending in endings.items() if ending.code}
    if not failed:
        return None
    first = min(failed, key=lambda name: failed[name].code == PeerFailed.exit_code)
    event = failed[first].last("failed")
    if event is None:
        lines = failed[first].errors.strip().splitlines()
        return AtollError(f"the process of {first} ended with code {failed[first].code}", detail="\n".join(lines[-12:]))
    fields = {name: event.get(name, "") for name in ("step", "column", "cure", "detail")}
    return AtollError(event["what"], site=event.get("at") or first, **fields)


async def _listen(child: asyncio.subprocess.Process, ending: Ending, heard: Callable[[Event], None]) -> None:
    if child.stdout is None or child.stderr is None:
        return
    errors = asyncio.ensure_future(child.stderr.read())
    async for line in child.stdout:
        try:
            event = json.loads(line)
        except ValueError:
            continue
        ending.events.append(event)
        heard(event)
    ending.errors = (await errors).decode(errors="replace")
    ending.code = await child.wait()
