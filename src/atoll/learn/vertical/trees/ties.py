"""What ties a label holder to one feature holder: private sums over its bins, and private direction bits.

Training and prediction are written against two small interfaces; `asking` and `answering` make them from the
fixed-matrix product and the oblivious choice.  Tests put plain doubles in their place, which no job can reach.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from atoll.core.channel import Channel
from atoll.core.errors import ContractError
from atoll.crypto.lwe import get
from atoll.crypto.random import Rng
from atoll.learn.vertical.trees.binning import BinnedTable, Layout
from atoll.learn.vertical.trees.kernels import F64, I64, U8
from atoll.learn.vertical.trees.params import TreeParams
from atoll.protocols import oblivious_choice, oblivious_transfer
from atoll.protocols.fixed_matrix_product import protocol as product
from atoll.protocols.fixed_matrix_product.matrices import Indicator
from atoll.protocols.fixed_matrix_product.terms import ROWS_A_VECTOR, SMALLEST, Terms

PARAMETER_SET = "H40"
T = TypeVar("T")


class Choosing(Protocol):
    """The label holder's end while rows find their sides."""

    async def bits(self, choice: NDArray[np.int64], options: int) -> U8:
        """Learn for every row the bit of the split it chooses; `options` itself chooses none and gives 0."""


class Asking(Choosing, Protocol):
    """The label holder's end while trees grow."""

    async def sums(self, vectors: F64) -> F64:
        """Learn the sums of each vector over every bin: (T, n) → (T, k)."""

    def deviations(self, vectors: F64) -> F64:
        """Return the standard deviation of the noise in each vector's sums, (T,)."""

    async def end(self, *, well: bool) -> None:
        """Leave nothing on its way, or stop after an error."""


class Offering(Protocol):
    """The feature holder's end while rows find their sides."""

    async def bits(self, bits: U8) -> None:
        """Offer the direction bits of m splits for every row, (m, n)."""


class Answering(Offering, Protocol):
    """The feature holder's end while trees grow."""

    async def sums(self, count: int) -> None:
        """Answer `count` vectors."""

    async def end(self, *, well: bool) -> None:
        """Leave nothing on its way, or stop after an error."""


@dataclass
class PrivateChoosing:
    """`Choosing` by the oblivious choice."""

    peer: Channel
    ot: oblivious_transfer.OtReceiver

    async def bits(self, choice: NDArray[np.int64], options: int) -> U8:
        return await oblivious_choice.chooser(self.peer, choice, options, ot=self.ot)


@dataclass
class PrivateAsking(PrivateChoosing):
    """`Asking`, with sums by the fixed-matrix product."""

    asker: product.Asker
    layout: Layout

    async def sums(self, vectors: F64) -> F64:
        return completed(await self.asker.product(self.peer, vectors), vectors.sum(axis=1), self.layout)

    def deviations(self, vectors: F64) -> F64:
        return np.array([self.asker.agreement.output_deviation(v) for v in vectors])

    async def end(self, *, well: bool) -> None:
        await self.asker.end(well=well)


@dataclass
class PrivateOffering:
    """`Offering` by the oblivious choice."""

    peer: Channel
    ot: oblivious_transfer.OtSender

    async def bits(self, bits: U8) -> None:
        await oblivious_choice.owner(self.peer, bits, ot=self.ot)


@dataclass
class PrivateAnswering(PrivateOffering):
    """`Answering`, with sums by the fixed-matrix product."""

    owner: product.Owner

    async def sums(self, count: int) -> None:
        await self.owner.answer(self.peer, count=count)

    async def end(self, *, well: bool) -> None:
        await self.owner.end(well=well)


async def choosing(peer: Channel, *, rng: Rng) -> Choosing:
    """Set up the label holder's end for prediction."""
    return PrivateChoosing(peer, await oblivious_transfer.setup_receiver(peer, rng=rng))


async def offering(peer: Channel, *, rng: Rng) -> Offering:
    """Set up a feature holder's end for prediction."""
    return PrivateOffering(peer, await oblivious_transfer.setup_sender(peer, rng=rng))


async def asking(
    peer: Channel, layout: Layout, rows: int, *, params: TreeParams, reveals_rows: bool, rng: Rng, spent: int = 0
) -> Asking:
    """Set up the label holder's end with one feature holder; `spent` vectors were asked in tries that were cut off.

    The product has transfers of its own: it makes them in the background, while others bring direction bits.
    """
    ot = await oblivious_transfer.setup_receiver(peer, rng=rng.spawn())
    k, terms = int(layout.offsets[-1]) - len(implied(layout)), _terms(peer, params, reveals_rows)
    chosen = get(PARAMETER_SET)
    asker = await product.asker_setup(peer, k, rows, params=chosen, rng=rng.spawn(), terms=terms, vectors_used=spent)
    return PrivateAsking(peer, ot, asker, layout)


async def answering(
    peer: Channel, table: BinnedTable, *, params: TreeParams, reveals_rows: bool, rng: Rng, spent: int = 0
) -> Answering:
    """Set up a feature holder's end; `spent` vectors were answered in tries that were cut off."""
    ot = await oblivious_transfer.setup_sender(peer, rng=rng.spawn())
    layout, terms = table.layout, _terms(peer, params, reveals_rows)
    matrix = Indicator(table.codes, (layout.bins + layout.missing).tolist(), without=implied(layout))
    chosen = get(PARAMETER_SET)
    owner = await product.owner_setup(peer, matrix, params=chosen, rng=rng.spawn(), terms=terms, vectors_used=spent)
    return PrivateAnswering(peer, ot, owner)


def _terms(peer: Channel, params: TreeParams, reveals_rows: bool) -> Terms:
    return Terms(
        job=peer.gate.job,
        matrix="boosted trees",
        structured=False,
        reveals_rows=reveals_rows,
        planned=params.vectors,
    )


def implied(layout: Layout) -> I64:
    """Return the bins whose sums need not travel: the last ordinary one of every numeric feature.

    A feature's bins add up to what the label holder knows.  No split needs the last one by itself, so that its sums,
    which carry the error of all others, do no harm; with categories every bin is compared with the rest.
    """
    last: I64 = (layout.offsets[:-1] + layout.bins - 1)[~layout.categorical]
    return last if len(last) < layout.offsets[-1] else last[1:]  # where all are constant, one must be left


def completed(sums: F64, totals: F64, layout: Layout) -> F64:
    """Put in the sums of implied bins.

    Args:
        sums: (T, k − implied) sums of T vectors over the other bins.
        totals: (T,) sums of the vectors over all rows.
        layout: Shape of the k bins.

    Returns:
        (T, k) sums.
    """
    last = implied(layout)
    out = np.zeros((len(sums), int(layout.offsets[-1])))
    out[:, np.delete(np.arange(out.shape[1]), last)] = sums
    of_feature = np.add.reduceat(out, layout.offsets[:-1], axis=1)
    out[:, last] = totals[:, np.newaxis] - of_feature[:, np.searchsorted(layout.offsets, last, "right") - 1]
    return out


def check_limit(params: TreeParams, rows: int, reveals_rows: bool) -> None:
    """Refuse a job whose trees need more vectors than its rows allow, before anything is sent.

    Raises:
        ContractError: Too few rows, or T > n/100, and the contract does not say `reveals: rows of M`.
    """
    if reveals_rows:
        return
    cure = "Grow fewer or shallower trees, use more rows, or let the contract say `reveals: rows of M`."
    if rows < SMALLEST:
        raise ContractError(
            f"{rows:,} rows are too few: below {SMALLEST:,} sums give rows away", step="trees", cure=cure
        )
    if params.vectors > rows // ROWS_A_VECTOR:
        raise ContractError(
            f"{params.n_estimators} trees of depth {params.max_depth} may need {params.vectors:,} vectors "
            f"a feature holder, and {rows:,} rows allow {rows // ROWS_A_VECTOR:,} (one for {ROWS_A_VECTOR} rows)",
            step="trees",
            cure=cure,
        )


def room_for(params: TreeParams, rows: int, reveals_rows: bool, spent: int) -> bool:
    """Whether the rows allow the vectors of another tree, after so many that were spent."""
    return reveals_rows or spent + params.vectors // params.n_estimators <= rows // ROWS_A_VECTOR


@asynccontextmanager
async def ended(ties: Iterable[Asking | Answering]) -> AsyncIterator[None]:
    """End every tie when the block ends, or stop it when the block fails."""
    kept = list(ties)
    try:
        yield
    except BaseException:
        for tie in kept:
            await tie.end(well=False)
        raise
    await every(tie.end(well=True) for tie in kept)


async def every(work: Iterable[Coroutine[Any, Any, T]]) -> list[T]:
    """Run coroutines together and return their results in order; the first error cancels the others."""
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(each) for each in work]
    except BaseExceptionGroup as errors:
        raise errors.exceptions[0] from None
    return [task.result() for task in tasks]
