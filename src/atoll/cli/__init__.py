"""The `atoll` command.

Exit codes: 0 done; 1 an error of Atoll itself; 2 this site's data, parameters or command line; 3 the contract;
4 a peer broke the protocol; 5 another site ended the job; 6 a card, certificate or key; 7 a peer cannot be
reached; 130 stopped by Ctrl-C.
"""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer

import atoll.cli.ask as ask
import atoll.cli.budget as budget
import atoll.cli.data as data
import atoll.cli.demo as demo
import atoll.cli.job as job
import atoll.cli.protocol as protocol
import atoll.cli.query as query
import atoll.cli.serve as serve
import atoll.cli.site as site

app = typer.Typer(
    name="atoll",
    help="Sites compute together; each can prove what left its door.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
site.app.add_typer(budget.app, name="budget")
app.add_typer(site.app, name="site")
app.add_typer(data.app, name="data")
app.add_typer(job.app, name="job")
app.add_typer(protocol.app, name="protocol")
app.add_typer(demo.app, name="demo")
app.add_typer(serve.app, name="serve")
app.command("query")(query.query)
app.command("predict")(job.predict)
app.command("ask")(ask.ask)
app.command("warm")(protocol.compile_kernels)


def _version(wanted: bool) -> None:
    if wanted:
        from atoll import __version__

        typer.echo(f"atoll {__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and stop.")
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show where in the program an error arose.")] = False,
) -> None:
    """Sites compute together; each can prove what left its door."""
    if debug:
        os.environ["ATOLL_DEBUG"] = "1"


def main() -> None:
    """Run the command line and end the process with the documented exit code."""
    from atoll.cli.output import show_error

    try:
        code = typer.main.get_command(app).main(standalone_mode=False, prog_name="atoll")
    except KeyboardInterrupt:
        code = 130
    except Exception as error:
        code = show_error(error)
    sys.stdout.flush()
    sys.exit(code if isinstance(code, int) else 0)
