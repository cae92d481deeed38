"""`atoll data`: the data sets this site can use in jobs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from atoll.cli.site import HomeOption

if TYPE_CHECKING:
    from atoll.data.catalogue import Dataset

app = typer.Typer(no_args_is_help=True, help="Name the tables that this site may use in jobs.")


@app.command("add")
def add(
    name: Annotated[str, typer.Argument(help="The name that jobs will use.")],
    file: Annotated[Path, typer.Argument(help="CSV, Parquet, or another file that DuckDB reads.")],
    id: Annotated[list[str], typer.Option("--id", help="The id column; repeat it for a composite key.")],
    numeric: Annotated[list[str] | None, typer.Option(help="A column that is numeric; repeatable.")] = None,
    categorical: Annotated[list[str] | None, typer.Option(help="A column that is categorical; repeatable.")] = None,
    missing: Annotated[list[str] | None, typer.Option(help="A further text that stands for a missing value.")] = None,
    unit: Annotated[list[str] | None, typer.Option(help="COLUMN=UNIT of a numeric column; repeatable.")] = None,
    home: HomeOption = None,
) -> None:
    """Add a data set: the file stays where it is; its columns' kinds are settled now."""
    from atoll.data.columns import Kind
    from atoll.data.scan import MISSING
    from atoll.node.home import Home

    kinds: dict[str, Kind] = dict.fromkeys(numeric or [], "numeric")
    kinds.update(dict.fromkeys(categorical or [], "categorical"))
    catalogue = Home.find(home).catalogue
    marks, units = (*MISSING, *(missing or ())), dict(_unit(text) for text in unit or ())
    typer.echo(_described(catalogue.add(name, file, id, kinds=kinds, missing=marks, units=units)))


@app.command("list")
def list_(home: HomeOption = None) -> None:
    """List the data sets."""
    from atoll.cli.output import table
    from atoll.node.home import Home

    catalogue = Home.find(home).catalogue
    sets = [catalogue.get(name) for name in catalogue.names()]
    if not sets:
        typer.echo("no data sets yet; add one with `atoll data add NAME FILE --id COLUMN`")
        return
    rows = [(s.name, f"{s.profile.rows:,}", len(s.source.kinds), ", ".join(s.source.id), s.source.path) for s in sets]
    typer.echo(table(("name", "rows", "columns", "id", "file"), rows, right=(1, 2)))


@app.command("show")
def show(
    name: Annotated[str, typer.Argument(help="The data set's name.")],
    home: HomeOption = None,
) -> None:
    """Show a data set: rows, duplicates, and every column's kind, missing and distinct values."""
    from atoll.node.home import Home

    typer.echo(_described(Home.find(home).catalogue.get(name)))


@app.command("schema")
def schema(
    name: Annotated[str, typer.Argument(help="The data set's name.")],
    home: HomeOption = None,
) -> None:
    """Print the schema of a data set, the file that partners compare: names, kinds, units and categories, no rows."""
    from atoll.data.schema import schema_of
    from atoll.node.home import Home

    typer.echo(schema_of(Home.find(home).catalogue.get(name)).text(), nl=False)


@app.command("compare")
def compare(
    name: Annotated[str, typer.Argument(help="The own data set's name.")],
    files: Annotated[list[Path], typer.Argument(help="Schema files of partners, one each.")],
    home: HomeOption = None,
) -> None:
    """Compare a data set with partners' schemas; exit code 3 when columns cannot be used together as they are."""
    from atoll.cli.output import table
    from atoll.data.schema import compare as compared
    from atoll.data.schema import read_schema, schema_of
    from atoll.node.home import Home

    schemas = {"here": schema_of(Home.find(home).catalogue.get(name))}
    schemas |= {file.stem: read_schema(file) for file in files}
    found = compared(schemas)
    typer.echo(f"the same at all sites: {', '.join(c.name for c in found.columns) or 'no column'}")
    if found.mismatches:
        rows = [(m.column, m.what, "; ".join(f"{s}: {w}" for s, w in m.sites.items())) for m in found.mismatches]
        typer.echo("\n" + table(("column", "differs in", "what each site has"), rows))
        typer.echo("\n" + "\n".join(f"{m.column}: {m.cure}" for m in found.mismatches))
    if any(mismatch.what != "categories" for mismatch in found.mismatches):
        raise typer.Exit(3)


def _unit(text: str) -> tuple[str, str]:
    """Read COLUMN=UNIT."""
    from atoll.core.errors import InputError

    column, equals, unit = text.partition("=")
    if not (column and equals and unit.strip()):
        raise InputError(f"--unit {text!r} is not COLUMN=UNIT", cure="Write it as in --unit weight=kg.")
    return column, unit.strip()


def _described(dataset: Dataset) -> str:
    from atoll.cli.output import table

    profile = dataset.profile
    rows = [
        (
            column.name,
            " ".join(filter(None, (column.kind, dataset.units.get(column.name, "")))),
            f"{column.missing:,}" if column.missing else "",
            f"{column.distinct:,}",
            "" if column.low is None or column.high is None else f"{column.low:g} … {column.high:g}",
        )
        for column in profile.columns
    ]
    lines = [
        f"{dataset.name}: {profile.rows:,} rows, id {' + '.join(dataset.source.id)}, {dataset.source.path}",
        "",
        table(("column", "kind", "missing", "distinct", "range"), rows, right=(2, 3)),
    ]
    if profile.duplicate_ids:
        lines.append(f"\n! {profile.duplicate_ids:,} rows repeat an id; a job needs one row an id")
    if profile.empty_ids:
        lines.append(f"\n! {profile.empty_ids:,} rows have no id; a job needs one in every row")
    return "\n".join(lines)
