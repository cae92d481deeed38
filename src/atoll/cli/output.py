"""How the command line speaks: tables, one readable block for an error, JSON where a machine listens."""

from __future__ import annotations

import json
import os
import textwrap
import traceback
from collections.abc import Sequence
from typing import Any

import typer

from atoll.core.errors import AtollError

WIDTH = 100


def show_error(error: BaseException, *, as_json: bool = False) -> int:
    """Print an error as one readable block and return the exit code that belongs to it.

    Args:
        error: what ended the command.
        as_json: print one JSON line instead.
    """
    if os.environ.get("ATOLL_DEBUG"):
        traceback.print_exception(error)
    if isinstance(error, AtollError):
        typer.echo(json.dumps(error.to_dict()) if as_json else error_block(error), err=not as_json)
        return error.exit_code
    if hasattr(error, "show") and hasattr(error, "exit_code"):
        error.show()
        return int(error.exit_code)
    if type(error).__name__ in ("Abort", "Exit"):
        return int(getattr(error, "exit_code", 130))
    text = f"{type(error).__name__}: {error}"
    typer.echo(
        f"✗ Atoll itself failed\n    {text}\n    Run the command again with `atoll --debug …` to see where.", err=True
    )
    return 1


def error_block(error: AtollError) -> str:
    """Return an error as a block: what, where, what only this site may read, the cure."""
    who = f"{error.site} ended the job: " if type(error).__name__ == "PeerFailed" and error.site else ""
    lines = wrap(f"✗ {who}{error.what.rstrip('.')}.", "  ")
    places = (("site", error.site), ("step", error.step), ("column", error.column))
    where = ", ".join(f"{name} {value}" for name, value in places if value)
    for label, text in (("where", where), ("details", error.detail), ("cure", error.cure)):
        if text:
            lines += wrap(f"  {label + ':':9}{text}", " " * 11)
    return "\n".join(lines)


def wrap(text: str, indent: str) -> list[str]:
    """Break a text into lines; further lines are indented."""
    options: Any = {"break_long_words": False, "break_on_hyphens": False}  # commands are copied from here
    parts = [textwrap.wrap(line, WIDTH, subsequent_indent=indent, **options) for line in text.splitlines()]
    first, *rest = parts or [[text]]
    return first + [indent + line.strip() for part in rest for line in part]


def table(header: Sequence[str], rows: Sequence[Sequence[Any]], *, right: Sequence[int] = ()) -> str:
    """Return rows as aligned plain text.

    Args:
        header: column titles.
        rows: the cells.
        right: columns that are set to the right.
    """
    cells = [[str(cell) for cell in row] for row in [header, *rows]]
    widths = [max(len(row[at]) for row in cells) for at in range(len(header))]
    lines = []
    for row in cells:
        padded = [
            cell.rjust(width) if at in right else cell.ljust(width)
            for at, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  ".join(padded).rstrip())
    return "\n".join([lines[0], "  ".join("─" * width for width in widths), *lines[1:]])
