"""`atoll query`: look records up at a partner who does not learn which."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from atoll.cli.job import JsonOption
from atoll.cli.site import HomeOption

if TYPE_CHECKING:
    from atoll.query.records import About
    from atoll.serving.lookup_client import Answer, Keys


def query(
    file: Annotated[Path, typer.Argument(help="The keys: a CSV or Parquet file with a header.")],
    source: Annotated[str, typer.Option("--from", help="SERVICE@SITE, such as registry@partner.")],
    out: Annotated[Path, typer.Option(help="Where the records that were found go: a .csv or .parquet file.")],
    key: Annotated[
        list[str] | None,
        typer.Option(help="Key column of the file; repeat it for a composite key. Default: named as at the service."),
    ] = None,
    misses: Annotated[Path | None, typer.Option(help="Where the keys without a record go: .csv or .parquet.")] = None,
    decoys: Annotated[
        int, typer.Option(min=0, max=4096, help="WEAK: hide each key among so many, itself included, instead.")
    ] = 0,
    pool: Annotated[
        Path | None, typer.Option(help="With --decoys: a file of plausible keys. Default: the file.")
    ] = None,
    wait: Annotated[float, typer.Option(min=0.1, max=3600, help="Seconds to wait for the partner.")] = 20.0,
    home: HomeOption = None,
    json: JsonOption = False,
) -> None:
    """Look up keys in a partner's lookup service; the partner learns how many, and not which."""
    import asyncio

    from atoll.cli.live import watch_for
    from atoll.cli.output import show_error
    from atoll.core.errors import AtollError
    from atoll.crypto.random import Rng
    from atoll.node.home import Home
    from atoll.node.policy import require_protocol
    from atoll.query.results import check_target
    from atoll.serving.lookup_client import Decoys, LookupClient

    watch = watch_for("atoll", json)
    try:
        found = Home.find(home)
        site = found.site()
        if decoys:
            require_protocol(found.policy(), site.name, "decoy-lookup")
        watch = watch_for(site.name, json)
        for target in filter(None, (out, misses)):
            check_target(target)
        names = KeyNames(key or [])
        names.check(file)
        if decoys and pool:
            names.check(pool)
        client = LookupClient.at(site, source, found.folder, join_within=wait)
        among = Decoys(decoys, lambda about: names.read(pool or file, about)) if decoys else None
        with watch:
            watch.started("query", f"asking {source}", 1, 1)
            work = client.look_up(
                lambda about: names.read(file, about), rng=Rng.system(), decoys=among, progress=watch.progress
            )
            answer = asyncio.run(work)
            watch.ended("query", _told(answer, source), answer.seconds, answer.sent, answer.received)
            _write(answer, names, out, misses)
    except AtollError as error:
        watch.failed(error)
        raise typer.Exit(error.exit_code if json else show_error(error)) from None
    watch.finished({"hits": str(out)} | ({"misses": str(misses)} if misses else {}))


class KeyNames:
    """The key columns of the person's file, and their texts once they are read.

    Args:
        given: Named with --key; empty takes the names that the service uses, or a file's only column.
    """

    def __init__(self, given: Sequence[str]) -> None:
        self.given, self.names = list(given), list[str]()
        self.columns: Sequence[Sequence[str]] = ()

    def check(self, file: Path) -> None:
        """Refuse a file that cannot be read, or lacks a named key column, before anything is asked.

        Raises:
            InputError: It is so.
        """
        from atoll.data.scan import opened

        with opened(file, self.given):
            return

    def read(self, file: Path, about: About) -> Keys:
        """Read the keys of a file.

        Raises:
            InputError: The file or a key column is not there.
        """
        from atoll.data.scan import opened
        from atoll.query.tables import read_rows
        from atoll.serving.lookup_client import Keys

        with opened(file) as scan:
            there = scan.names
        wanted = self.given or list(about.key)
        if not self.given and len(wanted) == len(there) == 1:
            wanted = list(there)
        rows = read_rows(file, wanted, ())
        if not self.names:
            self.names, self.columns = wanted, rows.keys
        return Keys(rows.keys, rows.places)


def _told(answer: Answer, source: str) -> str:
    rows, asked = len(answer.rows), answer.asked
    parts = [f"{answer.hits:,} of {rows:,} keys found" + (f" ({asked:,} different)" if asked < rows else "")]
    if answer.decoys:
        parts.append(f"each hidden among k = {answer.decoys} only (weak)")
    parts.append(f"{answer.count:,} records" + (f", version {answer.version}" if answer.version else ""))
    if answer.left >= 0:
        parts.append(f"{answer.left:,} queries left")
    return f"{source}: " + ", ".join(parts)


def _write(answer: Answer, names: KeyNames, out: Path, misses: Path | None) -> None:
    from atoll.query.records import Field
    from atoll.query.results import write_table

    keys = list(zip(*names.columns, strict=True))
    head = [Field(name, "text") for name in names.names]
    taken = set(names.names)
    fields = [Field(f"{one.name} (record)" if one.name in taken else one.name, one.type) for one in answer.about.fields]
    pairs = zip(keys, answer.rows, strict=True)
    write_table(out, [*head, *fields], [(*key, *row) for key, rows in pairs for row in rows or ()])
    if misses:
        write_table(misses, head, [key for key, rows in zip(keys, answer.rows, strict=True) if rows is None])
