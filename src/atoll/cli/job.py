"""`atoll job` and `atoll predict`: check, run and look at jobs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from atoll.cli.site import HomeOption

if TYPE_CHECKING:
    from atoll.node.home import Home
    from atoll.node.job import Job
    from atoll.transport.site import Site

app = typer.Typer(no_args_is_help=True, help="Check, run and look at jobs.")

AsOption = Annotated[str, typer.Option("--as", help="Run as this site of the job. Default: the site of the folder.")]
ListenOption = Annotated[
    str, typer.Option(help="host:port to listen on, if it is not the card's, such as 0.0.0.0:7443 behind a firewall.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Write one JSON object a line, for machines.")]


@app.command("check")
def check_(
    file: Annotated[Path, typer.Argument(help="The job, a YAML file.")],
    as_: AsOption = "",
    home: HomeOption = None,
) -> None:
    """Check a job and this site's own side of it; nothing is sent."""
    import tempfile

    from atoll.node.home import Home
    from atoll.node.job import Job, check
    from atoll.node.policy import require
    from atoll.node.prepare import from_home, prepare, units_of
    from atoll.node.runner import membership
    from atoll.node.steps import build
    from atoll.node.store import Store

    job = Job.load(file)
    check(job)
    typer.echo(_described(job))
    found = Home.find(home)
    if not as_ and not (found.folder / "site.key").exists():
        typer.echo("\nThe document is right. There is no site here, so no side was checked.")
        return
    site = _site(found, as_)
    cards = membership(job, site)
    require(found.policy(), site.name, build(job))
    with tempfile.TemporaryDirectory() as folder:
        part = job.sites[site.name]
        load, units = from_home(found, part), units_of(found, part)
        work = prepare(job, site.name, load, Store(Path(folder)), found.result, build(job), units)
    table = work.table
    if table is not None:
        typer.echo(f"\n{site.name} can take part: {table.rows:,} rows, {len(table.columns)} columns")
    typer.echo(f"trusted sites of the job: {', '.join(sorted(cards))}")


@app.command("run")
def run(
    file: Annotated[Path, typer.Argument(help="The job, a YAML file; the same at every site.")],
    as_: AsOption = "",
    home: HomeOption = None,
    listen: ListenOption = "",
    json: JsonOption = False,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Begin at the first step, also where a try that was cut off could go on.")
    ] = False,
) -> None:
    """Run a job as one of its sites; wait for the others, and end when all have ended.

    A job that was cut off goes on after the last step that all sites had finished: start it again at every site.
    """
    from atoll.node.home import Home
    from atoll.node.job import Job

    execute(Home.find(home), as_, lambda: Job.load(file), listen, json, fresh=fresh)


@app.command("list")
def list_(home: HomeOption = None) -> None:
    """List the jobs that finished here, the newest first, and those that were cut off."""
    from atoll.cli.output import table
    from atoll.node.home import Home
    from atoll.node.reporting import Result

    found = Home.find(home)
    results = [found.result(job).read_json("result.json", Result) for job in found.finished()]
    for job, step in found.cut_off().items():
        typer.echo(f"{job} was cut off after step {step}; start it again at every site, and it goes on there\n")
    if not results:
        typer.echo("no job has finished here yet")
        return
    rows = [(r.job, r.role, r.finished[:16].replace("T", " "), ", ".join(r.steps)) for r in results]
    typer.echo(table(("job", "role", "finished (UTC)", "steps"), rows))


@app.command("show")
def show(
    job: Annotated[str, typer.Argument(help="A job's YAML file, or the id or name of a job that finished here.")],
    home: HomeOption = None,
) -> None:
    """Show a job document, or what a finished job came to."""
    from atoll.cli.output import table
    from atoll.node.home import Home
    from atoll.node.job import Job
    from atoll.report import read_data, summary_text

    if Path(job).is_file():
        typer.echo(_described(Job.load(Path(job))))
        return
    store = Home.find(home).result(job)
    typer.echo(_described(Job.load(store.path("job.yaml"))))
    typer.echo("")
    data = read_data(store.path("report.json"))
    typer.echo(summary_text(data))
    for one in data.tables:
        right = [at for at, number in enumerate(one.numeric) if number]
        typer.echo(f"\n{one.title}\n{table(one.columns, one.rows, right=right)}")
    typer.echo(f"\nreport  {store.path('report.html')}")


def predict(
    file: Annotated[Path, typer.Argument(help="A job with the steps align and predict.")],
    as_: AsOption = "",
    home: HomeOption = None,
    listen: ListenOption = "",
    json: JsonOption = False,
) -> None:
    """Score new rows with a model whose parts the sites keep: a job of `align` and `predict`."""
    from atoll.core.errors import InputError
    from atoll.node.home import Home
    from atoll.node.job import Job
    from atoll.node.steps.predict import Predict

    def load() -> Job:
        job = Job.load(file)
        if not any(isinstance(step, Predict) for step in job.steps):
            raise InputError("the job has no step predict", cure="Use `atoll job run` for other jobs.")
        return job

    execute(Home.find(home), as_, load, listen, json)


def execute(home: Home, as_: str, load: Callable[[], Job], listen: str, json: bool, *, fresh: bool = False) -> None:
    """Run a job in this process, watched by a person or a machine.

    Args:
        home: the site's folder.
        as_: the site's name, or empty.
        load: gives the job.
        listen: where to listen, or empty.
        json: whether a machine watches.
        fresh: whether nothing of an earlier try is taken up.
    """
    import asyncio

    from atoll.cli.live import watch_for
    from atoll.cli.output import show_error
    from atoll.core.errors import AtollError
    from atoll.node.process import drive
    from atoll.node.runner import Run

    watch = watch_for(as_ or "atoll", json)
    try:
        site = _site(home, as_)
        watch = watch_for(site.name, json)
        job = load()
        with watch:
            store = asyncio.run(drive(Run(home, site, job, watch, listen, fresh)))
    except AtollError as error:
        watch.failed(error)
        raise typer.Exit(error.exit_code if json else show_error(error)) from None
    lines = {"result": str(store.path("result.json")), "report": str(store.path("report.html"))}
    for name in ("scores", "answer", "statistics"):
        if store.path(f"{name}.csv").exists():
            lines[name] = str(store.path(f"{name}.csv"))
    watch.finished(lines)


def _site(home: Home, as_: str) -> Site:
    from atoll.core.errors import InputError

    site = home.site()
    if as_ and as_ != site.name:
        raise InputError(
            f"the site in {home.folder} is {site.name}, not {as_}", cure="Name its folder with --home, or correct --as."
        )
    return site


def _described(job: Job) -> str:
    from atoll.cli.output import table, wrap
    from atoll.node.policy import weak_of
    from atoll.node.steps import build

    rows = [
        (name, part.role, part.data, part.key_text, part.label, ", ".join(part.columns) or "all")
        for name, part in job.sites.items()
    ]
    steps = build(job)
    protocols = {protocol.name for step in steps for protocol in step.uses()}
    weak = {f"{'weak':11}{one.name}: {one.card.weak}" for step in steps for one in weak_of(step)}
    return "\n".join(
        [
            f"{job.name}   {job.id}",
            f"purpose   {job.purpose}",
            f"profile   {job.profile}, until {job.expires}",
            "",
            table(("site", "role", "data", "id", "label", "columns"), [[*r[:5], _clip(r[5])] for r in rows]),
            "",
            f"steps      {' → '.join(step.name for step in steps)}",
            f"protocols  {', '.join(sorted(protocols))}   (`atoll protocol show NAME`: what each site learns)",
            *(line for text in sorted(weak) for line in wrap(text, " " * 11)),
            *(f"\n{line}" if not line.startswith(" ") else line for step in steps for line in step.says(job)),
        ]
    )


def _clip(text: str) -> str:
    return text if len(text) <= 48 else text[:47] + "…"
