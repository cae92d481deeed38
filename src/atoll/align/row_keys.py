"""The keys of a table's rows by one candidate key: which rows have one, which share it, what is brought to be compared.

Keys are made anew, a batch at a time, whenever they are needed: kept as objects they would take more memory than the
ids themselves.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from atoll.align.packed import packed_keys
from atoll.crypto.item_hash import Texts, first_of_each, hash_texts, join
from atoll.crypto.random import Rng

BATCH = 1 << 17
"""Rows whose keys are made together."""

I64 = NDArray[np.int64]
Flags = NDArray[np.bool_]


@dataclass(frozen=True)
class RowKeys:
    """One key of each of n rows, as far as they have one.

    Attributes:
        columns: Id columns, (n,) texts each.
        kinds: The kind of each column.
        same: (n,) int64 first row with the same key; -1 at rows that have none to compare by.
    """

    columns: tuple[NDArray[Any], ...]
    kinds: tuple[str, ...]
    same: I64

    @classmethod
    def of(cls, columns: Sequence[NDArray[Any]], kinds: Sequence[str], *, rng: Rng) -> RowKeys:
        """Look at every key once.

        Args:
            columns: Id columns, (n,) texts each; a row that lacks one of them has no key.
            kinds: The kind of each column; `text` for all when none is given.
            rng: Draws the key of the hash by which keys are compared.

        Raises:
            InputError: Ids do not fit their kinds; with count and row.
        """
        whole = cls(tuple(columns), tuple(kinds), np.empty(0, np.int64))
        n, secret, at = len(columns[0]), rng.bytes(16), 0
        hashed, there = np.empty((n, 2), np.uint64), np.empty(n, np.bool_)
        for texts in whole.batches():
            hashed[at : at + len(texts)] = hash_texts(texts, secret)
            there[at : at + len(texts)] = np.diff(texts.starts) > 0
            at += len(texts)
        first, same = first_of_each(hashed), np.arange(n, dtype=np.int64)
        if not first.all():
            same = np.flatnonzero(first)[join(hashed[first], hashed)[0]]
        return cls(whole.columns, whole.kinds, np.where(there, same, -1))

    def __len__(self) -> int:
        return len(self.columns[0])

    @property
    def repeated(self) -> int:
        """How many rows repeat the key of an earlier one."""
        return int(np.count_nonzero((self.same >= 0) & (self.same != np.arange(len(self)))))

    def unshared(self) -> RowKeys:
        """Return the same keys, but for those that several rows share."""
        n = len(self)
        times = np.bincount(self.same[self.same >= 0], minlength=n)
        return replace(self, same=np.where((self.same >= 0) & (times[self.same] == 1), self.same, -1))

    def batches(self) -> Iterator[Texts]:
        """Yield the keys of all rows in their order; a row that lacks a part has an empty one."""
        cuts = [*range(0, len(self), BATCH), len(self)]
        parts = (tuple(_texts(column[lo:hi]) for column in self.columns) for lo, hi in pairwise(cuts))
        return packed_keys(parts, self.kinds, missing=True)

    def brought(self, open_rows: Flags) -> Flags:
        """Return which of the open rows bring their key, (n,): the first one of each key."""
        there = open_rows & (self.same >= 0)
        if not self.repeated:
            return there
        rows = np.flatnonzero(there)
        out = np.zeros(len(self), np.bool_)
        out[rows[np.unique(self.same[rows], return_index=True)[1]]] = True
        return out

    def sharing(self, rows: I64, open_rows: Flags) -> I64:
        """Return for every row which of `rows` has its key, (n,): a place in `rows`, -1 for none.

        Args:
            rows: (m,) rows that have a key, no two of them the same.
            open_rows: (n,) rows that count; the others share with nobody.
        """
        place = np.full(len(self) + 1, -1, np.int64)  # the last one is for rows without a key
        place[self.same[rows]] = np.arange(len(rows))
        return np.where(open_rows, place[self.same], -1)


@dataclass(frozen=True)
class Offer:
    """What a site brings to one comparison, row by row: some keys, and in place of all others ids that nobody has.

    So a comparison shows neither how many rows lack a key, nor how many have been matched before.

    Attributes:
        keys: The keys.
        rows: (n,) which rows bring theirs.
        size: How many ids there are, at least n.
        rng: Draws the ids that nobody has.
    """

    keys: RowKeys
    rows: Flags
    size: int
    rng: Rng

    def __iter__(self) -> Iterator[Texts]:
        at = 0
        for texts in self.keys.batches():
            bring = self.rows[at : at + len(texts)]
            at += len(texts)
            if not bring.all():
                items, others = texts.items(), np.flatnonzero(~bring)
                for place, nobody in zip(others.tolist(), self._nobody(len(others)), strict=True):
                    items[place] = nobody
                texts = Texts.of(items)
            yield texts
        for lo in range(at, self.size, BATCH):
            yield Texts.of(self._nobody(min(BATCH, self.size - lo)))

    def items(self) -> list[bytes]:
        """Return all of them as objects."""
        return [key for texts in self for key in texts.items()]

    def _nobody(self, count: int) -> list[bytes]:
        drawn = self.rng.bytes(16 * count)
        return [b"none:" + drawn[at : at + 16] for at in range(0, 16 * count, 16)]


def _texts(column: NDArray[Any]) -> Texts:
    return Texts.of([value.encode("utf-8", "surrogatepass") for value in column.tolist()])
