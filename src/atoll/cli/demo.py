"""`atoll demo`: whole jobs on real data, with one process per institution on this machine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from atoll.solutions.credit_risk.institutions import Institution

app = typer.Typer(no_args_is_help=True, help="Watch institutions work together on this machine, on real data.")


@app.callback()
def options() -> None:
    """Watch institutions work together on this machine, on real data."""


@dataclass(frozen=True)
class Cast:
    """One demonstration: who, what, and the job.

    Args:
        title: headline.
        places: the institutions.
        counts: rows of each one's file.
        trees: params of step train.
        words: name, purpose, and what rows and labels are called.
        limits: what the job allows beyond the ordinary.
    """

    title: str
    places: Sequence[Institution]
    counts: Mapping[str, int]
    trees: Mapping[str, Any]
    words: Mapping[str, str]
    limits: Mapping[str, Any]


@app.command("credit-risk")
def credit_risk(
    rows: Annotated[str, typer.Option(help="How many loans take part, or `all` (250,694).")] = "100000",
    offline: Annotated[bool, typer.Option("--offline", help="Use 1,000 applications that come with Atoll.")] = False,
    out: Annotated[Path, typer.Option(help="Where sites, data and reports go.")] = Path("atoll-demo"),
    json: Annotated[bool, typer.Option("--json", help="End with one JSON line of figures, for machines.")] = False,
) -> None:
    """A bank, a business registry and a regional agency train a credit model; nobody shows its columns."""
    import asyncio
    import time
    from concurrent.futures import ThreadPoolExecutor

    from atoll.cli import stage
    from atoll.cli.story import Story

    begun = time.perf_counter()
    folder = out.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    with ThreadPoolExecutor(1) as pool:
        compiling = pool.submit(_compile)
        cast = _cast(folder, _count(rows), offline)
        homes = stage.build(folder, cast.places)
        job = _job(folder, cast)
        if (spent := compiling.result()) > 3:
            typer.echo(f"compiled the numeric kernels (once, {spent:.0f} s)")
    story = Story(cast.title, [place.name for place in cast.places], job.name)
    story.opening([(p.name, cast.counts[p.name], p.columns, p.label) for p in cast.places], cast.words["subject"])
    with story:
        endings = asyncio.run(stage.perform(job, homes, story.heard))
    error = stage.cause(endings)
    if error is not None:
        raise error
    reports = {name: Path(str((ending.last("finished") or {})["report"])) for name, ending in endings.items()}
    _with_pooled(folder, cast, reports)
    figures = _figures(cast, reports, cast.places[0].name, time.perf_counter() - begun)
    story.ending(figures, reports)
    if json:
        import json as encoder

        typer.echo(encoder.dumps(figures))


def _count(rows: str) -> int | None:
    from atoll.core.errors import InputError

    if rows == "all":
        return None
    if not rows.replace(",", "").replace("_", "").isdigit() or int(rows.replace(",", "")) < 5_000:
        raise InputError(f"--rows is {rows!r}", cure="Give a number from 5,000 on, or `all`.")
    return int(rows.replace(",", ""))


def _cast(folder: Path, rows: int | None, offline: bool) -> Cast:
    """Write the institutions' files; without an index, those of the small table."""
    from atoll.core.errors import InputError
    from atoll.solutions.credit_risk import offline as offline_table
    from atoll.solutions.credit_risk import sba

    if not offline:
        try:
            loans = sba.table(sba.cache_folder(), typer.echo)
        except InputError as error:
            typer.echo(f"! {error}\n! Showing 1,000 applications instead, which come with Atoll.\n")
        else:
            return _loans(sba.write(loans, folder, rows))
    return _applications(offline_table.write(folder))


def _loans(counts: Mapping[str, int]) -> Cast:
    from atoll.solutions.credit_risk import sba

    # Each site lacks a third and a fifth is kept for the test; a tree of depth 3 needs 8 vectors, one for 100 rows.
    train = max(counts.values()) * (2 / 3) ** 2 * 0.8 * 0.985
    trees = max(1, min(80, int(train / 100 / 8)))
    return Cast(
        "Credit risk of small businesses: will a loan be charged off?",
        sba.INSTITUTIONS,
        counts,
        {"n_estimators": trees, "max_depth": 3, "learning_rate": 0.4},
        {
            "name": "sba-credit-risk",
            "purpose": "Predict at approval whether a small-business loan will be charged off",
            "subject": "loans",
            "positive": "charged-off",
            "negative": "repaid",
        },
        {},
    )


def _applications(counts: Mapping[str, int]) -> Cast:
    from atoll.solutions.credit_risk import offline

    return Cast(
        "Consumer credit, a small table for want of a network: will an applicant fail to repay?",
        offline.INSTITUTIONS,
        counts,
        {"n_estimators": 12, "max_depth": 2, "learning_rate": 0.3, "min_node": 50},
        {
            "name": "german-credit",
            "purpose": "Show a job where no package index can be reached",
            "subject": "applicants",
            "positive": "bad",
            "negative": "good",
        },
        {"reveals": ["rows of M"]},
    )


def _job(folder: Path, cast: Cast) -> Path:
    from atoll.node.job import Job, check
    from atoll.solutions.credit_risk.institutions import document

    job = Job.of({**document(cast.places, cast.trees, cast.words), "limits": dict(cast.limits)})
    check(job)
    path = folder / "job.yaml"
    path.write_text(job.to_yaml(), "utf-8")
    return path


def _compile() -> float:
    """Compile the kernels once, before three processes would do it at the same time; return the seconds it took."""
    import sys
    import time

    import atoll.learn.vertical.trees.predict
    import atoll.learn.vertical.trees.protocol
    import atoll.protocols.multi_intersection  # noqa: F401, what the job is made of, with its kernels
    from atoll.registry import KERNEL_MODULES

    start = time.perf_counter()
    for module in KERNEL_MODULES:
        if module in sys.modules:
            sys.modules[module].warm()
    return time.perf_counter() - start


def _with_pooled(folder: Path, cast: Cast, reports: Mapping[str, Path]) -> None:
    """Train on everybody's columns, which only a demonstration can, and write the reports again with it."""
    import msgspec
    import numpy as np

    from atoll.data.sources import read
    from atoll.learn.vertical.trees.params import TreeParams
    from atoll.node.home import Home
    from atoll.node.steps.split import TEST
    from atoll.report import performance, read_data, write_report
    from atoll.solutions.credit_risk import pooled

    hub = cast.places[0]
    left = Home(folder / hub.name).result(reports[hub.name].parent.name)
    rows, part = left.read_array("rows.npy"), left.read_array("part.npy")
    ids = read(Home(folder / hub.name).catalogue.get(hub.data).source, ()).ids[0][rows]
    parts = {"train": ids[part != TEST].tolist(), "test": ids[part == TEST].tolist()}
    label, score = pooled.scores(folder, cast.places, parts, TreeParams(**cast.trees))
    for name, path in reports.items():
        data = read_data(path.with_suffix(".json"))
        job = msgspec.structs.replace(data.job, demo=True, title=cast.title)
        seen = data.performances
        if name == hub.name:
            seen = (*seen, performance("pooled", label.astype(np.int64), score))
        write_report(msgspec.structs.replace(data, job=job, performances=seen), path)


def _figures(cast: Cast, reports: Mapping[str, Path], hub: str, seconds: float) -> dict[str, Any]:
    """Collect the demonstration's figures from the results and the label holder's report."""
    from atoll.node.reporting import Result
    from atoll.node.store import Store
    from atoll.report import read_data

    data = read_data(reports[hub].with_suffix(".json"))
    results = {name: Store(path.parent).read_json("result.json", Result) for name, path in reports.items()}
    models: dict[str, Any] = {
        p.kind: {"auc": round(p.auc, 4), "ks": round(p.ks.statistic, 4)} for p in data.performances
    }
    meter = data.leakage[0] if data.leakage else None
    lifted = "rows of M" in cast.limits.get("reveals", ())
    return {
        "seconds": round(seconds, 1),
        "steps": {step: round(spent, 2) for step, spent in results[hub].steps.items()},
        "bytes": sum(result.sent for result in results.values()),
        "sent": {name: result.sent for name, result in results.items()},
        "rows": dict(results[hub].report.get("align", {})),
        "vectors": None if meter is None else [meter.vectors, meter.rows],
        "limit": "lifted in this job" if lifted else "one for 100 rows",
        **models,
    }
