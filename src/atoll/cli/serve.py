"""`atoll serve`: what a site leaves running for its partners."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from atoll.cli.job import JsonOption, ListenOption
from atoll.cli.site import HomeOption

if TYPE_CHECKING:
    from atoll.node.home import Home
    from atoll.query.records import About
    from atoll.query.tables import Rows

app = typer.Typer(no_args_is_help=True, help="Leave a service running for partners; Ctrl-C or SIGTERM ends it.")


@app.command("lookup")
def lookup(
    name: Annotated[str, typer.Argument(help="The service's name; partners ask for NAME@SITE.")],
    data: Annotated[
        str, typer.Option(help="The data set to serve (`atoll data add`). Default: what was served under this name.")
    ] = "",
    key: Annotated[
        list[str] | None, typer.Option(help="Key column; repeat it for a composite key. Default: the data set's id.")
    ] = None,
    kind: Annotated[
        list[str] | None,
        typer.Option(
            help="How a key column is written: text, caseless, phone or resident; one for each. Default: text."
        ),
    ] = None,
    columns: Annotated[str, typer.Option(help="Columns of the records, with commas. Default: all but the key.")] = "",
    limit: Annotated[
        str, typer.Option(help="Limit of each partner: 1000/day, 50/hour, 20/session or none.")
    ] = "1000/day",
    partner: Annotated[
        list[str] | None, typer.Option(help="A site that may ask; repeatable. Default: every trusted site.")
    ] = None,
    rows_per_key: Annotated[int, typer.Option(min=1, max=10_000, help="Most rows of one key; all are kept.")] = 1,
    record_bytes: Annotated[
        int, typer.Option(min=0, max=65_536, help="Bytes of every record, padding included. Default: as few as fit.")
    ] = 0,
    allow_decoys: Annotated[
        int, typer.Option(min=0, max=4096, help="Also allow the weak lookup among at least so many candidates; 0: not.")
    ] = 0,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Set up in full, with new keys, also where an update would do.")
    ] = False,
    prepare: Annotated[
        bool, typer.Option("--prepare", help="Only bring the database up to date, and stop; a running service sees it.")
    ] = False,
    listen: ListenOption = "",
    home: HomeOption = None,
    json: JsonOption = False,
) -> None:
    """Serve the records of a data set by key, so that partners do not show which keys they ask for.

    The first start sets the database up; later ones bring it up to date with the data set.
    """
    from atoll.cli.live import watch_for
    from atoll.cli.output import show_error
    from atoll.core.errors import AtollError
    from atoll.node.home import Home
    from atoll.serving.meter import Limit

    watch = watch_for(name, json)
    try:
        found = Home.find(home)
        site = found.site()
        watch = watch_for(site.name, json)
        with watch:
            options = {"limit": Limit.parse(limit), "partners": partner, "fewest": allow_decoys}
            _known(found, site, partner or [], allow_decoys)
            folder = _ready(found, name, data, key or [], kind or [], columns, rows_per_key, record_bytes, fresh, watch)
            if prepare:
                watch.finished({"database": str(folder / "database")})
                return
            _run(site, name, folder, listen or site.card.address, options, watch)
    except AtollError as error:
        watch.failed(error)
        raise typer.Exit(error.exit_code if json else show_error(error)) from None


def _known(home: Home, site: Any, partners: list[str], decoys: int) -> None:
    """Refuse an unknown partner now, and not when it asks; and decoys that the site's policy does not allow."""
    from atoll.node.policy import require_protocol

    if decoys:
        require_protocol(home.policy(), site.name, "decoy-lookup")
    for name in partners:
        site.peer(name)


def _ready(
    home: Home, name: str, data: str, key: list[str], kind: list[str], columns: str, rows_per_key: int,
    record_bytes: int, fresh: bool, watch: Any,
) -> Path:  # fmt: skip
    """Bring the service's database up to date, and return the service's folder."""
    import time

    from atoll.core.errors import InputError
    from atoll.crypto import pir
    from atoll.crypto.random import Rng
    from atoll.data.catalogue import NAME
    from atoll.query import database
    from atoll.serving.prepare import prepare

    if not NAME.fullmatch(name):
        raise InputError(f"{name!r} cannot name a service", cure="Use letters, digits, dot, dash and underscore.")
    folder = home.folder / "services" / name
    if not data:
        if not database.exists(folder / "database"):
            raise InputError(
                f"nothing has been served under the name {name!r} yet", cure="Name a data set with --data."
            )
        return folder
    start = time.perf_counter()
    watch.started("prepare", f"bringing {name} up to date with {data}", 1, 1)
    pir.warm()
    rows, about = _table(home, data, key, kind, columns, rows_per_key)
    made = prepare(
        folder / "database", rows, about, rng=Rng.system(), record=record_bytes, fresh=fresh, progress=watch.progress
    )
    meta = made.meta
    line = f"{made.how}: {meta.count:,} records of {meta.record:,} bytes, version {meta.version}"
    if made.how == "updated":
        line += f", {made.changed:,} changed"
    watch.ended("prepare", line, time.perf_counter() - start, 0, 0)
    return folder


def _table(
    home: Home, data: str, key: list[str], kind: list[str], columns: str, rows_per_key: int
) -> tuple[Rows, About]:
    from atoll.align.ids import KINDS
    from atoll.core.errors import InputError
    from atoll.query.records import About
    from atoll.query.tables import read_rows

    source = home.catalogue.get(data).source
    keys = tuple(key) or source.id
    kinds = tuple(kind) or ("text",) * len(keys)
    if len(kinds) != len(keys) or not set(kinds) <= set(KINDS):
        raise InputError(
            f"{len(keys)} key columns need one kind each of {', '.join(KINDS)}", cure="Give --kind once for each --key."
        )
    wanted = [name.strip() for name in columns.split(",") if name.strip()] if columns else None
    text = [name for name, what in source.kinds.items() if what == "categorical"]
    rows = read_rows(Path(source.path), keys, wanted, categorical=text, missing=source.missing)
    return rows, About(key=keys, kinds=kinds, fields=rows.fields, rows=rows_per_key)


def _run(site: Any, name: str, folder: Path, listen: str, options: dict[str, Any], watch: Any) -> None:
    """Serve until a stop signal arrives."""
    import asyncio
    import logging
    import os

    from atoll.core.errors import InputError
    from atoll.node.process import settle
    from atoll.registry import kernels
    from atoll.serving.lookup_service import LookupDoor, LookupService

    if not listen:
        raise InputError("the site's card has no address", cure="Say where to listen with --listen host:port.")
    limit = options["limit"]
    if not os.environ.get("ATOLL_DEBUG"):
        logging.disable(logging.CRITICAL)
    for warm in kernels(["atoll.crypto.pir", "atoll.crypto.ristretto"]).values():
        warm()
    service = LookupService(name, folder, limit, options["partners"], options["fewest"], watch.note)
    settle()

    def ready(port: int) -> None:
        served = service.served
        watch.note(f"serving {name}@{site.name} on port {port}: {served.count:,} records, {limit}; Ctrl-C ends it")

    try:
        asyncio.run(_until_stopped(LookupDoor(site, {name: service}), listen, ready))
    finally:
        service.close()
    watch.finished({"stopped": f"metering in {folder / 'meter.jsonl'}, audit in {folder / 'audit.jsonl'}"})


async def _until_stopped(door: Any, listen: str, ready: Any) -> None:
    import asyncio
    import signal

    loop, stop = asyncio.get_running_loop(), asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    try:
        await door.run(listen=listen, stop=stop, ready=ready)
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)
