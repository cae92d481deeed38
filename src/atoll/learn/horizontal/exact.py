"""Fisher's exact test of a table of counts.

Given its margins, a table is as probable as the product over its columns of the number of ways to put the column's rows
into the table's rows, divided by that number for the whole table.  The p value adds up all tables that are no more
probable than the one at hand.  Larger tables go through their columns, and stop where all or none of the tables that
can still come about count.

Source:
    Fisher 1935, The logic of inductive inference; for larger tables Mehta and Patel 1983, A network algorithm for
    performing Fisher's exact test in r × c contingency tables, JASA 78.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from atoll.core.errors import InputError
from atoll.learn.horizontal.rows import F64, I64

MOST_WORK = 30_000_000
"""Cells that are looked at in tables larger than 2 × 2: a few seconds of work."""

MOST_ROWS = 50_000_000
"""Rows of a table of 2 × 2; of others a hundredth of them."""

_ALIKE = 1e-9  # rounding of logarithms of probabilities


def fisher(table: I64) -> float:
    """Return the two-sided p value of Fisher's exact test.

    Args:
        table: (R, C) counts.

    Raises:
        InputError: the table has too many rows for its size.
    """
    table = table[np.ix_(np.flatnonzero(table.sum(axis=1)), np.flatnonzero(table.sum(axis=0)))]
    if min(table.shape, default=0) < 2:
        return 1.0
    if table.sum() > (MOST_ROWS if table.shape == (2, 2) else MOST_ROWS // 100):
        raise _too_large()
    if table.shape == (2, 2):
        return _two_by_two(*table.ravel().tolist())
    return _larger(table if table.shape[0] <= table.shape[1] else table.T)


def _too_large() -> InputError:
    cure = "Take the χ² test, or put categories together."
    return InputError("the table is too large for Fisher's exact test", cure=cure)


def _two_by_two(a: int, b: int, c: int, d: int) -> float:
    """Sum the hypergeometric distribution, found from its ratios."""
    low, high = max(0, a - d), min(a + b, a + c)
    k = np.arange(low, high, dtype=np.float64)
    ratios = np.log(a + b - k) + np.log(a + c - k) - np.log(k + 1) - np.log(d - a + k + 1)
    logs = np.concatenate([[0.0], np.cumsum(ratios)])
    chances = np.exp(logs - logs.max())
    return min(1.0, float(chances[logs <= logs[a - low] + _ALIKE].sum() / chances.sum()))


@dataclass
class _Moves:
    """The ways to take a column out of the rows' margins.

    Args:
        sizes: rows of every column.
        factorials: logarithms of factorials, from 0 on.
        looked: cells so far.
    """

    sizes: list[int]
    factorials: F64
    looked: float = 0.0

    def ways(self, columns: I64) -> F64:
        """Logarithm of the number of ways to put each column's rows into the table's rows, (m,) for (m, R)."""
        found: F64 = self.factorials[columns.sum(axis=1)] - self.factorials[columns].sum(axis=1)
        return found

    def work(self, cells: float) -> None:
        """Count work.

        Raises:
            InputError: it is too much.
        """
        self.looked += cells
        if self.looked > MOST_WORK:
            raise _too_large()

    def take(self, rest: I64, at: int) -> tuple[I64, F64]:
        """Return what can be left of the rest (R,) after column `at`, sorted, (m, R), and in how many ways, (m,)."""
        most = np.minimum(rest[:-1], self.sizes[at]) + 1
        grid = np.indices(most.tolist()).reshape(len(most), -1).T
        last = self.sizes[at] - grid.sum(axis=1)
        columns = np.column_stack([grid, last])[(last >= 0) & (last <= rest[-1])]
        return np.sort(rest - columns, axis=1), self.ways(columns)


def _larger(table: I64) -> float:
    """Keep for each rest of the rows' margins, column by column, in how many ways it was come to."""
    table = table[:, np.argsort(-table.sum(axis=0), kind="stable")]
    logs = np.log(np.maximum(np.arange(int(table.sum()) + 1), 1))
    moves = _Moves(table.sum(axis=0).tolist(), np.cumsum(logs))
    observed = float(moves.ways(table.T).sum()) + _ALIKE
    levels = [np.sort(table.sum(axis=1))[None]]
    for at in range(len(moves.sizes) - 1):
        most = np.minimum(levels[-1][:, :-1], moves.sizes[at]) + 1.0
        moves.work(3 * float(most.prod(axis=1).sum()))  # they are gone through three times
        levels.append(
            np.unique(np.concatenate([np.unique(moves.take(rest, at)[0], axis=0) for rest in levels[-1]]), axis=0)
        )
    ends = _bounds(moves, levels)
    whole = float(moves.ways(levels[0])[0])
    counted, come, past, times = 0.0, np.zeros(1, np.int64), np.zeros(1), np.ones(1)
    for at, (here, following) in enumerate(pairwise(levels)):
        completions, kept = moves.ways(following), []
        low, high = ends[at + 1]
        for node, first, last in zip(*_groups(come), strict=True):
            left, ways = moves.take(here[node], at)
            to, log = _places(following, left), past[first:last, None] + ways
            moves.work(log.size)
            number = np.broadcast_to(times[first:last, None], log.shape)
            all_count = log + high[to] <= observed
            counted += float((np.exp(log + completions[to] - whole) * number)[all_count].sum())
            some = ~all_count & (log + low[to] <= observed)
            kept.append((np.broadcast_to(to, log.shape)[some], log[some], number[some]))
        if not kept:
            break
        come, past, times = _merged(*(np.concatenate(parts) for parts in zip(*kept, strict=True)))
    return min(1.0, counted)


def _bounds(moves: _Moves, levels: list[I64]) -> list[tuple[F64, F64]]:
    """For every rest of every level the logarithms of the fewest and the most ways to go on."""
    last = moves.ways(levels[-1])
    ends = [(last, last)]
    for at in reversed(range(len(levels) - 1)):
        low, high = np.empty((2, len(levels[at])))
        for node, rest in enumerate(levels[at]):
            left, ways = moves.take(rest, at)
            to = _places(levels[at + 1], left)
            low[node], high[node] = (ways + ends[0][0][to]).min(), (ways + ends[0][1][to]).max()
        ends.insert(0, (low, high))
    return ends


def _places(rows: I64, wanted: I64) -> I64:
    """Find the places of rows in a sorted list of them."""
    base = int(rows.max(initial=0)) + 1
    weights = [base**power for power in reversed(range(rows.shape[1]))]
    if weights[0] * base < 1 << 62:
        weigh = np.array(weights)
        found: I64 = np.searchsorted(rows @ weigh, wanted @ weigh)
        return found
    place = {row.tobytes(): at for at, row in enumerate(rows)}
    return np.array([place[row.tobytes()] for row in wanted], np.int64)


def _groups(come: I64) -> tuple[list[int], list[int], list[int]]:
    """Runs of equal numbers: the number, where it begins and where it ends."""
    nodes, first = np.unique(come, return_index=True)
    return nodes.tolist(), first.tolist(), [*first[1:].tolist(), len(come)][: len(nodes)]


def _merged(come: I64, past: F64, times: F64) -> tuple[I64, F64, F64]:
    """Put ways of like probability to the same rest together, in the order of the rests."""
    if not come.size:
        return come, past, times
    order = np.lexsort((past, come))
    come, past, times = come[order], past[order], times[order]
    new = np.append(True, (np.diff(come) > 0) | (np.diff(past) > _ALIKE / 100))
    starts = np.flatnonzero(new)
    return come[starts], past[starts], np.add.reduceat(times, starts)
