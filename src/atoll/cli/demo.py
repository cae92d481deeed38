"""`atoll demo`: whole jobs on real data, with one process per institution on this machine."""

from __future__ import annotations

import typer

app = typer.Typer(no_args_is_help=True, help="Watch institutions work together on this machine, on real data.")


@app.callback()
def options() -> None:
    """Watch institutions work together on this machine, on real data."""
