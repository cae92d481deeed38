"""Hashed ids with their row numbers, sorted into buckets, in memory or in a file that has no name.

A file without a name cannot be opened by anybody else, and is gone when the process ends, in whatever way it ends.
Ids are sorted by a fine number as they come, a batch at a time, and batches follow each other in the file; a bucket is
a range of fine numbers, so how many buckets there are can be settled when all ids have been seen.
"""

from __future__ import annotations

import errno
import mmap
import os
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from atoll.core.errors import InputError
from atoll.crypto.item_hash import first_of_each
from atoll.crypto.jit import njit, read_only

FINE = 1 << 14
"""Fine numbers, which are the top 14 bits of a hash's second word; there are at most so many buckets."""

BATCH = 1 << 20
"""Rows that are sorted and written together."""

U64 = NDArray[np.uint64]
I64 = NDArray[np.int64]
Duplicates = Literal["refuse", "first"]


class Buckets:
    """Hashed ids, row by row; safe to use from several threads.

    Args:
        words: Words of a hash, at least 2.
        folder: Where the file is made; None keeps everything in memory.
    """

    def __init__(self, words: int, folder: Path | None = None) -> None:
        self.words, self.folder, self.rows = words, folder, 0
        self._file = None if folder is None else unnamed_file(folder)
        self._lock, self._closed = threading.Lock(), False
        self._waiting: list[U64] = []
        self._batches: list[U64] = []  # in memory
        self._at: list[int] = []  # first row of each batch
        self._starts: list[NDArray[np.uint32]] = []

    def __enter__(self) -> Buckets:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def add(self, hashed: U64) -> None:
        """Take the hashes of the next rows, (n, words) uint64.

        Raises:
            InputError: The disk is full.
        """
        with self._lock:
            self._waiting.append(hashed)
            self.rows += len(hashed)
            if sum(map(len, self._waiting)) >= BATCH:
                self._write()

    def finish(self) -> None:
        """Write what is still waiting.

        Raises:
            InputError: The disk is full.
        """
        with self._lock:
            if self._waiting:
                self._write()

    def take(self, number: int, of: int, duplicates: Duplicates = "refuse", fit: int | None = None) -> tuple[U64, I64]:
        """Return the ids of one bucket.

        Args:
            number: Which one, 0 … of - 1.
            of: Number of buckets, at most `FINE`.
            duplicates: What to do with an id that stands in several rows: `refuse` it, or keep its `first` row.
            fit: Distinct ids that a bucket is expected to hold; with many more rows, repeated ones go early.

        Returns:
            Hashes (n, words) and row numbers (n,), ascending within each fine number.

        Raises:
            InputError: An id stands twice, and that is refused.
        """
        lo, hi = number * FINE // of, (number + 1) * FINE // of
        parts: list[U64] = []
        held, most = 0, 2 * max(fit or 0, BATCH)
        for batch, starts in enumerate(self._starts):
            part = self._read(batch, int(starts[lo]), int(starts[hi]))
            parts.append(part)
            held += len(part)
            if held > most:
                parts = [self._once(np.concatenate(parts), duplicates)]
                held = len(parts[0])
        found = self._once(np.concatenate(parts) if parts else np.empty((0, self.words + 1), np.uint64), duplicates)
        return np.ascontiguousarray(found[:, :-1]), found[:, -1].astype(np.int64)

    def close(self) -> None:
        """Let go of everything; the file vanishes."""
        with self._lock:
            self._closed = True
            self._batches, self._waiting = [], []
            if self._file is not None:
                self._file.close()

    def _once(self, records: U64, duplicates: Duplicates) -> U64:
        first = first_of_each(np.ascontiguousarray(records[:, :-1]))
        repeated = len(first) - int(np.count_nonzero(first))
        if not repeated:
            return records
        if duplicates == "refuse":
            row = int(records[int(np.flatnonzero(~first)[0]), -1])
            raise InputError(
                "ids stand in more than one row",
                detail=f"Row {row + 1:,} repeats the id of an earlier row, and there may be others.",
                cure="Bring one row an id: aggregate the rows, name further id columns, or keep the first row of each.",
            )
        return records[first]

    def _write(self) -> None:
        if self._closed:
            raise ValueError("these buckets are closed")
        hashed = self._waiting[0] if len(self._waiting) == 1 else np.concatenate(self._waiting)
        self._waiting = []
        first = self.rows - len(hashed)
        records, starts = np.empty((len(hashed), self.words + 1), np.uint64), np.zeros(FINE + 1, np.uint32)
        _sort(read_only(np.ascontiguousarray(hashed)), first, starts, records)
        self._at.append(first)
        self._starts.append(starts)
        if self._file is None:
            self._batches.append(records)
        else:
            with room(self.folder, records.nbytes):
                write_all(self._file, records, first * 8 * (self.words + 1))

    def _read(self, batch: int, lo: int, hi: int) -> U64:
        with self._lock:
            if self._closed:
                raise ValueError("these buckets are closed")
            if self._file is None:
                return self._batches[batch][lo:hi]
            out = np.empty((hi - lo, self.words + 1), np.uint64)
            read_all(self._file, out, (self._at[batch] + lo) * 8 * (self.words + 1))
            return out


def unnamed_file(folder: Path) -> Any:
    """Open a file that has no name in a folder, for reading and writing."""
    with room(folder, 0):
        return tempfile.TemporaryFile(dir=folder, buffering=0)


def scratch(n: int, folder: Path | None) -> I64:
    """Return room for n numbers, (n,) int64: zeros, in memory or in a file without a name.

    Raises:
        InputError: The disk is full.
    """
    if folder is None or n == 0:
        return np.zeros(n, np.int64)
    with unnamed_file(folder) as file, room(folder, 8 * n):
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(file.fileno(), 0, 8 * n)  # so that a full disk is an error here, not a signal later
        else:  # pragma: no cover
            os.truncate(file.fileno(), 8 * n)
        return np.frombuffer(mmap.mmap(file.fileno(), 8 * n), np.int64)


def write_all(file: Any, data: NDArray[Any], at: int) -> None:
    """Write a contiguous array to a place of an unbuffered file."""
    view = data.reshape(-1).view(np.uint8).data
    file.seek(at)
    while view.nbytes:
        view = view[file.write(view) :]


def read_all(file: Any, out: NDArray[Any], at: int) -> None:
    """Fill a contiguous array from a place of an unbuffered file."""
    view = out.reshape(-1).view(np.uint8).data
    file.seek(at)
    while view.nbytes:
        got = file.readinto(view)
        if not got:
            raise OSError(errno.EIO, "the file is shorter than it was written")
        view = view[got:]


@contextmanager
def room(folder: Path | None, nbytes: int) -> Iterator[None]:
    """Turn a full or unusable disk into one clear error."""
    try:
        yield
    except OSError as cause:
        if cause.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            what, cure = "there is no room on the disk", "Free some space, or name a folder on another disk."
        else:
            what, cure = f"a temporary file cannot be used: {cause.strerror}", "Name another folder."
        raise InputError(what, detail=f"{nbytes:,} more bytes were to go to {folder}.", cure=cure) from None


@njit
def _sort(hashed: U64, first: int, starts: NDArray[np.uint32], records: U64) -> None:
    """Sort rows by their fine number, keeping their order within it."""
    shift, words = np.uint64(50), hashed.shape[1]
    for i in range(hashed.shape[0]):
        starts[np.int64(hashed[i, 1] >> shift) + 1] += np.uint32(1)
    for b in range(1, starts.size):
        starts[b] += starts[b - 1]
    free = starts[:-1].copy()
    for i in range(hashed.shape[0]):
        fine = np.int64(hashed[i, 1] >> shift)
        at = np.int64(free[fine])
        free[fine] += np.uint32(1)
        for w in range(words):
            records[at, w] = hashed[i, w]
        records[at, words] = np.uint64(first + i)


def warm() -> None:
    """Compile this module's kernels."""
    some = np.zeros((1, 2), np.uint64)
    _sort(read_only(some), 0, np.zeros(FINE + 1, np.uint32), np.zeros((1, 3), np.uint64))
