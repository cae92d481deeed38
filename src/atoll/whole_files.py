"""Files that are there whole or not at all, also after a crash or a full disk."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

TORN = ".torn-"
"""Files that nobody finished begin with this; whoever owns their folder may remove them."""


@contextmanager
def making(path: Path, *, mode: int = 0o600) -> Iterator[Path]:
    """Give a name under which a file is made; when the block ends well it takes its own, in place of an older file.

    Args:
        path: its own name; its folder must be there.
        mode: who may use it.

    Raises:
        OSError: the disk is full, or the folder cannot be written; the older file is as it was.
    """
    handle, name = tempfile.mkstemp(prefix=TORN, dir=path.parent)
    os.close(handle)
    try:
        yield Path(name)
        os.chmod(name, mode)
        keep(Path(name))
        os.replace(name, path)
        keep(path.parent)  # the names in it
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


@contextmanager
def filling(path: Path, *, mode: int = 0o600) -> Iterator[BinaryIO]:
    """Open a file for writing that is made as `making` makes it; arguments and errors likewise."""
    with making(path, mode=mode) as unfinished, unfinished.open("wb") as file:
        yield file


def write(path: Path, data: bytes, *, mode: int = 0o600) -> None:
    """Write a file as `making` makes it; arguments and errors likewise."""
    with filling(path, mode=mode) as file:
        file.write(data)


def keep(path: Path) -> None:
    """Have a file, or the list of names in a folder, on the disk and not only on its way there."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
