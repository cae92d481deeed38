"""Categories of text columns over all sites, found together without showing the rare ones.

Texts are compared by the bytes of their UTF-8 form, half a byte a round: for every beginning that enough rows share,
the sites count the rows that go on in each of 16 ways.  A beginning that fewer than `smallest` rows share is dropped.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from atoll.core.errors import InputError
from atoll.data.columns import Column
from atoll.learn.horizontal.order import largest
from atoll.learn.horizontal.rows import F64, I64
from atoll.protocols.secure_sum.totals import Totals


async def categories(
    totals: Totals, column: Column, *, smallest: int, most: int = 10_000, known: Sequence[str] | None = None, step: str
) -> tuple[tuple[str, ...], I64]:
    """Find the categories that at least `smallest` rows of all sites have.

    Reveals: the length of the longest category at 15 thresholds in each of three rounds; those categories and how many
    rows have them; how many rows leave the beginning of one of them, and with which half byte.  If they are known:
    how many rows each of them has.

    Args:
        totals: the sum over the sites.
        column: this site's categorical column.
        smallest: fewest rows of a category that is shown, at least 1.
        most: how many categories are too many.
        known: all categories, where all sites know them; they are counted and not looked for then.
        step: the model's name.

    Returns:
        The categories in the order of their UTF-8 bytes, or as they are known, and (k,) the number of rows of each.

    Raises:
        InputError: the column is not categorical, holds a text with a zero byte or one of 2,048 bytes or more, or there
            are too many categories.
    """
    texts = _counted(column, step)
    if known is not None:
        here = np.array([texts.get(name.encode(), 0) for name in known], np.float64)
        found = await totals.total(here, what=f"{step}: rows by {column.name}")
        enough = [(name, int(rows)) for name, rows in zip(known, found, strict=True) if rows >= smallest]
        return tuple(name for name, _ in enough), np.array([rows for _, rows in enough], np.int64)
    size = np.array([max(map(len, texts), default=0)], np.uint64)
    length = int((await largest(totals, size, digits=3, what=f"{step}: length of categories"))[0])
    mine = {text.ljust(length, b"\0"): rows for text, rows in texts.items()}
    prefixes: list[tuple[int, ...]] = [()]
    counts = np.zeros(0)
    for _ in range(2 * length):
        counts = await totals.total(_children(prefixes, mine), what=f"{step}: categories of {column.name}")
        kept = np.flatnonzero(counts >= smallest)
        prefixes, counts = [(*prefixes[at // 16], int(at % 16)) for at in kept], counts[kept]
        if len(prefixes) > most:
            cure = "Group them first, raise `smallest`, or leave the column out."
            raise InputError(f"there are more than {most:,} categories", step=step, column=column.name, cure=cure)
        if not prefixes:
            break
    if length == 0:
        return (), np.zeros(0, np.int64)
    names = [bytes(16 * a + b for a, b in zip(p[::2], p[1::2], strict=True)).rstrip(b"\0") for p in prefixes]
    return tuple(name.decode() for name in names), counts.astype(np.int64)


def _counted(column: Column, step: str) -> dict[bytes, int]:
    """This site's categories that occur, as bytes, with their rows."""
    if column.kind != "categorical":
        cure = "Name categorical columns only."
        raise InputError(f"it is {column.kind}, not categorical", step=step, column=column.name, cure=cure)
    rows = np.bincount(column.values[column.values >= 0], minlength=len(column.categories))
    texts = {text.encode(): int(r) for text, r in zip(column.categories, rows, strict=True) if r}
    for text in texts:
        if not text or b"\0" in text or len(text) >= 2048:
            cure = "Write it in another way, or make it missing."
            raise InputError(
                "a category is empty, too long, or holds a zero byte", step=step, column=column.name, cure=cure
            )
    return texts


def _children(prefixes: Sequence[tuple[int, ...]], mine: Mapping[bytes, int]) -> F64:
    """Rows of this site by beginning and next half byte, flat."""
    place, out = {prefix: at for at, prefix in enumerate(prefixes)}, np.zeros(16 * len(prefixes))
    depth = len(prefixes[0])
    for text, rows in mine.items():
        halves = tuple(half for byte in text[: depth // 2 + 1] for half in divmod(byte, 16))
        at = place.get(halves[:depth])
        if at is not None:
            out[16 * at + halves[depth]] += rows
    return out


def codes(column: Column, names: Sequence[str]) -> I64:
    """Return the place of every row's category among `names`, (n,); -1 where it is missing or not among them."""
    place = {name: at for at, name in enumerate(names)}
    table = np.array([*(place.get(name, -1) for name in column.categories), -1], np.int64)
    found: I64 = table[column.values]
    return found
