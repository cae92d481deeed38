"""Step align of a job, table and all: two sites over mutual TLS in several forms, beside a join of the plain tables.

Both sites read a Parquet table with a phone number, an e-mail address and a customer number, of which the first two are
missing in a third of the rows, and one column of values.
"""

import asyncio
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from atoll.core.channel import Gate
from atoll.core.session import Session
from atoll.data.sources import Source, read
from atoll.node.job import Job
from atoll.node.prepare import prepare
from atoll.node.process import settle
from atoll.node.reruns import Reruns
from atoll.node.steps import build
from atoll.node.store import Store
from atoll.registry import kernels
from atoll.transport.grpc_link import Endpoint
from atoll.transport.site import init_site, load_site
from bench.harness import Report, free_ports, run_processes, timed

TITLE = "Step align with tables, in its several forms, beside a plain join"
SIZES = {"small": 100_000, "medium": 1_000_000, "large": 3_000_000}
"""Rows at each site; half of them are common."""

FORMS: dict[str, tuple[Any, dict[str, Any]]] = {
    "common rows": ("number", {}),
    "all rows of the label holder": ("number", {"rows": "label-holder"}),
    "ids that repeat, joined": ("number", {"repeats": "join"}),
    "three keys in order of preference": ([["phone"], ["mail"], ["number"]], {}),
}
"""What is asked for: the `id:` of both sites, and the step's keys."""


def run(size: str, report: Report) -> None:
    """Align in two processes of one machine, form by form."""
    n = SIZES[size]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_tables(folder, n)
        limit = timed(join_plain, folder).seconds
        for form in FORMS:
            with tempfile.TemporaryDirectory(dir=folder) as home:
                port = free_ports(1)[0]
                a, b = init_site(Path(home) / "a", "a", ""), init_site(Path(home) / "b", "b", f"127.0.0.1:{port}")
                a.trust(b.card)
                b.trust(a.card)
                roles = {role: ["-m", "bench.align", role, name, home, form] for role in ("b", "a")}
                done = run_processes(roles, timeout=1800)
            values = {role: process.value for role, process in done.items()}
            if any(value["common"] != n // 2 for value in values.values()):
                raise RuntimeError(f"{form}: the alignment is wrong")
            report.row(
                f"{n:,} × {n:,} rows, {form}", max(value["seconds"] for value in values.values()), unit="s",
                bytes=values["a"]["bytes"], limit=limit, limit_name="polars join of the plain tables",
                peak_mb=max(process.peak_mb for process in done.values()),
                note=f"2 processes, TLS; processor time {sum(value['cpu'] for value in values.values()):.1f} s, with "
                f"making and checking keys; a site's memory with its table alone "
                f"{max(value['table_mb'] for value in values.values()):.0f} MB",
            )  # fmt: skip


def write_tables(folder: Path, n: int) -> None:
    """Write both sites' tables; b has the second half of a's customers, and others."""
    import duckdb

    for name, first in (("a", 0), ("b", n // 2)):
        with duckdb.connect() as connection:
            rows = (
                f"SELECT c AS number, CASE WHEN c % 3 THEN printf('8613%09d', c) ELSE '' END AS phone, "  # noqa: S608
                "CASE WHEN (c + 1) % 3 THEN printf('c%d@example.cn', c) ELSE '' END AS mail, c::DOUBLE AS v "
                f"FROM (SELECT (i * 7919) % {n} + {first} AS c FROM range({n}) t(i))"
            )
            connection.execute(f"COPY ({rows}) TO '{folder / name}.parquet' (FORMAT parquet)")


def join_plain(folder: Path) -> int:
    """Join the plain tables."""
    import polars

    a, b = (polars.read_parquet(folder / f"{name}.parquet") for name in "ab")
    return len(a.join(b, on="number"))


async def site(role: str, folder: Path, home: Path, form: str) -> dict[str, float]:
    """One site: read the table, look at its keys, align."""
    ids, step = FORMS[form]
    part = {"data": "t", "id": ids, "columns": ["v"]}
    sites = {"a": {"role": "label-holder", **part}, "b": {"role": "feature-holder", **part}}
    document = {"name": "bench", "purpose": "measure it", "expires": "2099-01-01", "sites": sites}
    job = Job.of({**document, "steps": [{"step": "align", **step}, {"step": "split"}]})
    here, other, sent = load_site(home / role), "b" if role == "a" else "a", list[Any]()
    for warm in kernels().values():
        warm()
    settle()
    source = Source(path=str(folder / f"{role}.parquet"), id=job.sites[role].ids, kinds={"v": "numeric"})
    store = Store(home / role / "job")
    store.folder.mkdir()
    work = prepare(job, role, lambda columns, kinds: read(source, columns), store, lambda name: store, ())
    work.reruns = Reruns(home / role / "alignments")
    table_mb = resident_mb()
    async with Endpoint(here, listen=here.card.address) as endpoint:
        link = await endpoint.link("bench", here.peer(other), dial=role == "a")
        gate = Gate(role, "bench", audit=sent.append)
        async with Session(gate, {other: link}, hub="a") as session:
            start, cpu, align = time.perf_counter(), time.process_time(), build(job)[0]
            align.check(work)
            with session.step("align", uses=align.uses()):
                await align.run(session, work)
            spent = {"seconds": time.perf_counter() - start, "cpu": time.process_time() - cpu}
    common = work.report["align"]["common"]
    return {**spent, "common": common, "bytes": sum(line.bytes for line in sent), "table_mb": table_mb}


def resident_mb() -> float:
    """What this process keeps in memory now."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * 4096 / 1e6


def main() -> None:
    """Run as one of the two processes, and print what was measured."""
    role, folder, home, form = sys.argv[1:]
    print(json.dumps(asyncio.run(site(role, Path(folder), Path(home), form))), flush=True)


if __name__ == "__main__":
    main()
