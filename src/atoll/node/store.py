"""What a job writes at its site: every file whole or not at all, and the job's folder likewise.

A job works in a folder of its own beside the finished ones and takes its final name in one rename at the end,
so that a crash, a full disk or a failed try never harms what an earlier job left.
"""

from __future__ import annotations

import errno
import io
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import numpy as np
from numpy.typing import NDArray

from atoll import whole_files
from atoll.core.errors import InputError

T = TypeVar("T")
RESUME = "resume"
"""What only another try needs is kept in a folder of this name, and goes when the job is done."""

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Turn a full disk or a folder that cannot be written into an error with a cure."""
    try:
        yield
    except OSError as cause:
        what = "the disk is full" if cause.errno in FULL else "a file cannot be written"
        raise InputError(
            what,
            detail=f"{cause.strerror or cause} in {folder}.",
            cure="Make room there and run the job again; what earlier jobs stored is untouched.",
        ) from None


@contextmanager
def room(folder: Path) -> Iterator[None]:
    """Turn a full disk, wherever it is noticed, into the same error; other errors pass."""
    try:
        yield
    except OSError as cause:
        if cause.errno not in FULL:
            raise
        with writing(folder):
            raise


class Store:
    """The folder of one job at one site.

    Args:
        folder: where it is.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @classmethod
    def begin(cls, jobs: Path, job: str) -> Store:
        """Make the working folder of a job that starts, or take up that of its last try, if that one failed.

        Folders of processes that are gone count as failed.

        Args:
            jobs: the site's folder of jobs.
            job: the job's id.
        """
        with writing(jobs):
            jobs.mkdir(parents=True, exist_ok=True)
            for left in jobs.glob("*.running-*"):
                name, _, number = left.name.rpartition(".running-")
                if not (number.isdigit() and int(number) != os.getpid() and _alive(int(number))):
                    cls(left).keep_failed(jobs, name)
            folder, failed = jobs / f"{job}.running-{os.getpid()}", jobs / f"{job}.failed"
            shutil.rmtree(folder, ignore_errors=True)
            if failed.exists():
                failed.rename(folder)
                for torn in folder.rglob(f"{whole_files.TORN}*"):
                    torn.unlink()
            else:
                folder.mkdir(mode=0o700)
        return cls(folder)

    def commit(self, jobs: Path, job: str) -> Store:
        """Give the working folder its final name; it replaces what an earlier run of the same job left."""
        return self._rename(jobs / job)

    def keep_failed(self, jobs: Path, job: str) -> Store:
        """Keep the working folder of a failed run under `JOB.failed`."""
        return self._rename(jobs / f"{job}.failed")

    def _rename(self, target: Path) -> Store:
        with writing(target.parent):
            old = target.with_name(f"{target.name}.old-{os.getpid()}")
            if target.exists():
                target.rename(old)
            self.folder.rename(target)
            shutil.rmtree(old, ignore_errors=True)
        return Store(target)

    def path(self, name: str) -> Path:
        """Path of a file in this folder."""
        return self.folder / name

    def write(self, name: str, data: bytes) -> Path:
        """Write a file whole or not at all.

        Raises:
            InputError: the disk is full or the folder cannot be written.
        """
        target = self.folder / name
        with writing(self.folder):
            target.parent.mkdir(parents=True, exist_ok=True)
            whole_files.write(target, data)
        return target

    def slot(self, name: str) -> tuple[Callable[[], bytes | None], Callable[[bytes], Path]]:
        """Return what reads a file, or gives None where there is none, and what writes it."""
        path = self.path(name)
        return (lambda: path.read_bytes() if path.exists() else None), partial(self.write, name)

    def write_json(self, name: str, value: Any) -> Path:
        """Write a value as JSON that a person can read."""
        return self.write(name, msgspec.json.format(msgspec.json.encode(value), indent=2) + b"\n")

    def write_array(self, name: str, array: NDArray[Any]) -> Path:
        """Write an array in numpy's format, which holds no code."""
        buffer = io.BytesIO()
        np.save(buffer, array, allow_pickle=False)
        return self.write(name, buffer.getvalue())

    def read_json(self, name: str, kind: type[T]) -> T:
        """Read a value that `write_json` wrote.

        Raises:
            InputError: the file is absent or damaged.
        """
        try:
            return msgspec.json.decode(self.path(name).read_bytes(), type=kind)
        except (OSError, msgspec.MsgspecError) as cause:
            raise self._damaged(name, cause) from None

    def read_array(self, name: str) -> NDArray[Any]:
        """Read an array that `write_array` wrote."""
        try:
            array: NDArray[Any] = np.load(self.path(name), allow_pickle=False)
        except (OSError, ValueError) as cause:
            raise self._damaged(name, cause) from None
        return array

    def _damaged(self, name: str, cause: Exception) -> InputError:
        return InputError(
            f"{name} of job {self.folder.name} is absent or damaged", detail=str(cause), cure="Run the job again."
        )


def _alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True
