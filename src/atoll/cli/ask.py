"""`atoll ask`: from a question in SQL to a job that both sites can read, sign and run."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated

import typer

DAYS = 30


def ask(
    sql: Annotated[str, typer.Argument(help="One SELECT over two sites, joined `using (id)`; sites are the tables.")],
    data: Annotated[list[str], typer.Option(help="SITE=DATASET[:ID,ID]: what each site brings; one for each site.")],
    asker: Annotated[str, typer.Option(help="The site that gets the answer.")],
    purpose: Annotated[str, typer.Option(help="Why, in words people can hold each other to.")],
    out: Annotated[Path, typer.Option(help="Where the job goes.")] = Path("question.yaml"),
    minimum: Annotated[int, typer.Option(help="Fewest joined rows of a group that is shown.")] = 10,
    name: Annotated[str, typer.Option(help="The job's name.")] = "question",
    epsilon: Annotated[
        float, typer.Option(help="Answer with noise of this ε, from the privacy budget of the other site. 0: none.")
    ] = 0.0,
    delta: Annotated[float, typer.Option(help="δ; above 0 the noise is Gaussian.")] = 0.0,
    bounds: Annotated[
        list[str] | None, typer.Option(help="With noise: SITE.COLUMN=LOW:HIGH for each column that is summed.")
    ] = None,
    group: Annotated[
        list[str] | None, typer.Option(help="With noise: a group to count, where the other site makes the groups.")
    ] = None,
) -> None:
    """Plan a question to two sites, show who learns what, and write the job; nothing is sent.

    Then send the file to the partner; both sites run it by `atoll job run FILE`.
    """
    from atoll.core.errors import InputError
    from atoll.node.job import Job, check
    from atoll.node.steps import build

    sites = dict(_site(text, asker) for text in data)
    if asker not in sites:
        raise InputError(f"--asker {asker} brings no data", cure=f"Add --data {asker}=DATASET:ID.")
    expires = (datetime.now(UTC) + timedelta(days=DAYS)).date().isoformat()
    step: dict[str, object] = {"step": "ask", "sql": sql, "minimum": minimum}
    if epsilon or delta or bounds or group:
        ranges = dict(_bounds(text) for text in bounds or ())
        groups = [part.split(",") for part in group or ()]
        step["privacy"] = {"epsilon": epsilon, "delta": delta, "bounds": ranges, "groups": groups}
    profile = "secure+dp" if "privacy" in step else "hidden-intersection"
    head = {"name": name, "purpose": purpose, "expires": expires, "profile": profile}
    job = Job.of({**head, "sites": sites, "steps": [step]})
    check(job)
    lines = [line for step in build(job) for line in step.says(job)]
    out.write_text(job.to_yaml(), encoding="utf-8")
    typer.echo("\n".join(lines))
    typer.echo(f"\nThe job is in {out}. Send it to the partner; then both run: atoll job run {out}")


def _site(text: str, asker: str) -> tuple[str, dict[str, object]]:
    """Read SITE=DATASET[:ID,ID]."""
    from atoll.core.errors import InputError

    site, equals, rest = text.partition("=")
    dataset, _, ids = rest.partition(":")
    if not (site and equals and dataset):
        raise InputError(
            f"--data {text!r} is not SITE=DATASET:ID", cure="Write it as in --data bank=accounts:customer."
        )
    role = "asker" if site == asker else "data-holder"
    return site, {"role": role, "data": dataset, "id": [part for part in ids.split(",") if part] or ["id"]}


def _bounds(text: str) -> tuple[str, tuple[float, float]]:
    """Read SITE.COLUMN=LOW:HIGH."""
    from atoll.core.errors import InputError

    name, _, ends = text.rpartition("=")
    low, _, high = ends.partition(":")
    try:
        return name, (float(low), float(high))
    except ValueError:
        raise InputError(
            f"--bounds {text!r} is not SITE.COLUMN=LOW:HIGH", cure="Write it as in --bounds telco.spend=0:1000."
        ) from None
