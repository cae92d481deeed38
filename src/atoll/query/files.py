"""Files of a lookup database and of a client's hint: written whole or not at all, readable by their owner."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

import msgspec
import numpy as np
from numpy.typing import NDArray

from atoll import whole_files
from atoll.core.errors import InputError

T = TypeVar("T")


def folder_for(path: Path) -> Path:
    """Make a folder that only its owner can read, and return it."""
    with writing(path):
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
    return path


def write(path: Path, fill: Callable[[BinaryIO], object]) -> None:
    """Write a file whole or not at all.

    Args:
        path: Where.
        fill: Writes into the open file.

    Raises:
        InputError: The disk is full, or the folder cannot be written.
    """
    with writing(path.parent), whole_files.filling(path) as file:
        fill(file)


def write_array(path: Path, array: NDArray[Any]) -> None:
    """Write an array in numpy's format, which holds no code."""
    write(path, lambda file: np.save(file, array, allow_pickle=False))


def write_json(path: Path, value: Any) -> None:
    """Write a value as JSON that a person can read."""
    write(path, lambda file: file.write(msgspec.json.format(msgspec.json.encode(value), indent=2) + b"\n"))


def read_array(path: Path, dtype: str, shape: tuple[int, ...], *, mapped: bool = True) -> NDArray[Any]:
    """Read an array of which dtype and shape are known, mapped into memory unless that is not wanted.

    Raises:
        InputError: It is absent, damaged, or another one.
    """
    try:
        found: NDArray[Any] = np.load(path, mmap_mode="r" if mapped and min(shape) else None, allow_pickle=False)
    except (OSError, ValueError, EOFError) as cause:
        raise damaged(path, cause) from None
    if found.dtype != np.dtype(dtype) or found.shape != shape:
        raise damaged(path, ValueError(f"it holds {found.dtype} {found.shape}"))
    return np.asarray(found)


def read_json(path: Path, kind: type[T]) -> T:
    """Read a value that `write_json` wrote.

    Raises:
        InputError: It is absent or damaged.
    """
    try:
        return msgspec.json.decode(path.read_bytes(), type=kind)
    except (OSError, msgspec.MsgspecError) as cause:
        raise damaged(path, cause) from None


def damaged(path: Path, cause: Exception) -> InputError:
    """Return the error for a file that cannot be used."""
    return InputError(
        f"{path.name} of {path.parent.name} is absent or damaged",
        detail=str(cause),
        cure=f"Restore it, or remove {path.parent} and begin anew.",
    )


@contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Turn a full disk or a folder that cannot be written into an error with a cure."""
    try:
        yield
    except OSError as cause:
        raise InputError(
            f"a file in {folder.name} cannot be written",
            detail=f"{cause.strerror or cause} in {folder}.",
            cure="Make room there and try again.",
        ) from None
