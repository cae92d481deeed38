"""Joint statistics: a group-by over the hidden join of two sites' tables, beside DuckDB on the pooled tables."""

import asyncio
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from atoll.core.channel import Channel, Gate
from atoll.crypto.random import Rng
from atoll.data.columns import Column, Columns
from atoll.node.process import settle
from atoll.protocols import hidden_quantiles, hidden_totals
from atoll.query.statistics.local import contribution
from atoll.query.statistics.plan import parse
from atoll.query.statistics.run import ask, help_asker
from atoll.registry import kernels
from atoll.transport.grpc_link import Endpoint
from atoll.transport.site import init_site, load_site
from bench.harness import Report, free_ports, run_processes

TITLE = "Joint statistics over a hidden join, beside DuckDB on the pooled tables"
SIZES = {"small": 20_000, "medium": 100_000, "large": 1_000_000}
"""Rows at each site; two thirds of them join."""

CITIES = 12
SQL = (
    "select b.city, count(*) as n, avg(t.spend) as spend, sum(b.balance) as balance "
    "from bank b join telco t using (id) where t.tenure > 12 group by b.city order by b.city"
)
MEDIAN = (
    "select b.city, count(*) as n, avg(b.balance) as balance, median(t.spend) as spend from bank b "
    "join telco t using (id) where t.tenure > 12 group by b.city order by b.city"
)
OWN = MEDIAN.replace("avg(b.balance)", "avg(t.spend)").replace("median(t.spend)", "median(b.balance)")
TOTAL = "select count(*) as n, avg(t.spend) as spend from bank b join telco t using (id) where t.tenure > 12"


def run(size: str, report: Report) -> None:
    """Ask questions in two processes of one machine; compare with DuckDB's answers."""
    n = SIZES[size]
    asked = {
        "one group-by": SQL,
        "without groups": TOTAL,
        "a median by the same site's groups": OWN,
        "a median by the other site's groups": MEDIAN,
    }
    for name, sql in asked.items():
        with tempfile.TemporaryDirectory() as folder:
            port = free_ports(1)[0]
            bank = init_site(Path(folder) / "bank", "bank", "")
            telco = init_site(Path(folder) / "telco", "telco", f"127.0.0.1:{port}")
            bank.trust(telco.card)
            telco.trust(bank.card)
            roles = {role: ["-m", "bench.statistics", role, folder, str(n), sql] for role in ("telco", "bank")}
            done = run_processes(roles, timeout=900)
        plain = run_processes({"pooled": ["-m", "bench.statistics", "pooled", "-", str(n), sql]})["pooled"].value
        mine = done["bank"].value
        if not np.allclose(np.array(mine["rows"], float), np.array(plain["rows"], float), rtol=1e-9):
            raise RuntimeError("the answer is not DuckDB's")
        report.row(
            f"{n:,} × {n:,} rows, {name}", mine["seconds"], unit="s", limit=plain["seconds"],
            limit_name="DuckDB, pooled", bytes=mine["bytes"], peak_mb=max(one.peak_mb for one in done.values()),
            note=f"2 processes, TLS; processor time {mine['cpu'] + done['telco'].value['cpu']:.1f} s; "
            f"{mine['bytes'] / n:.0f} bytes/row; the answer equals DuckDB's",
        )  # fmt: skip


def make_tables(n: int) -> dict[str, dict[str, Any]]:
    """Columns of both sites; numbers only, cities as codes."""
    draw = np.random.default_rng(5)
    rows = np.arange(n)
    bank = {"id": rows, "city": draw.integers(0, CITIES, n), "balance": (draw.standard_normal(n) * 1e4).round(2)}
    telco = {
        "id": rows + n // 3, "tenure": draw.integers(0, 60, n), "spend": (draw.random(n) * 200).round(2)
    }  # fmt: skip
    return {"bank": bank, "telco": telco}


async def site(role: str, folder: str, n: int, sql: str) -> dict[str, Any]:
    """One site: from its table in memory to the answer."""
    here, sent = load_site(Path(folder) / role), []
    table = make_tables(n)[role]
    ids = [b"customer %d" % i for i in table.pop("id").tolist()]
    columns = Columns(tuple(Column(k, "numeric", v.astype(np.float64)) for k, v in table.items()), n)
    for warm in kernels().values():
        warm()
    plan, other = parse(sql), "telco" if role == "bank" else "bank"
    settle()
    async with Endpoint(here, listen=here.card.address) as endpoint:
        link = await endpoint.link("bench", here.peer(other), dial=role == "bank")
        kinds = hidden_totals.PROTOCOL.kinds | hidden_quantiles.PROTOCOL.kinds
        peer = Channel(link, Gate(role, "bench", kinds, audit=sent.append))
        start, cpu = time.perf_counter(), time.process_time()
        part = contribution(plan, role, columns, 10)
        options: dict[str, Any] = {"asker": "bank", "minimum": 10, "rng": Rng.system(), "context": ("bench",)}
        rows: tuple[tuple[Any, ...], ...] = ()
        if role == "bank":
            rows = (await ask(peer, plan, ids, part, **options)).rows
        else:
            await help_asker(peer, plan, ids, part, **options)
        seconds = time.perf_counter() - start
        await link.close()
    used = time.process_time() - cpu
    return {"seconds": seconds, "cpu": used, "bytes": sum(line.bytes for line in sent), "rows": rows}


def pooled(n: int, sql: str) -> dict[str, Any]:
    """DuckDB with both tables in one place."""
    import duckdb

    with duckdb.connect() as connection:
        for name, table in make_tables(n).items():
            connection.register(f"{name}_columns", table)
            connection.execute(f"CREATE TABLE {name} AS SELECT * FROM {name}_columns")  # noqa: S608
        start = time.perf_counter()
        rows = connection.execute(sql).fetchall()
        return {"seconds": time.perf_counter() - start, "rows": rows}


def main() -> None:
    """Run as one of the processes, and print what was measured."""
    role, folder, n, sql = sys.argv[1:]
    done = pooled(int(n), sql) if role == "pooled" else asyncio.run(site(role, folder, int(n), sql))
    print(json.dumps(done), flush=True)


if __name__ == "__main__":
    main()
