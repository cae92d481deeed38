"""How updates of one round become one: plainly, or compressed with error feedback.

Compression here fits secure sums: which numbers are sent, and on which grid, is the same at all sites and follows from
sums.  What a site could not send it keeps and adds to its next update (error feedback, Karimireddy et al. 2019).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

import msgspec
import numpy as np
from numpy.typing import NDArray

from atoll.core.errors import InputError, ProtocolError
from atoll.crypto.random import Rng
from atoll.learn.horizontal.networks import agreed
from atoll.learn.horizontal.networks.algorithms import State
from atoll.learn.horizontal.networks.averages import F32, Averages, spoilt
from atoll.learn.horizontal.networks.seen_updates import Aggregator
from atoll.protocols.secure_sum.totals import Totals

EXACT_BITS = 52
"""Whole numbers of so many bits pass through a float64 total unharmed."""


@dataclass(frozen=True)
class Turn:
    """What one site brings to one round.

    Attributes:
        totals: exact sums.
        averages: averages of float32 vectors.
        update: (n,) float32; zeros if the site was not drawn.
        beside: numbers that are averaged beside it and never changed on the way.
        weight: the site's weight; 0 if it was not drawn.
        seed: of this round, the same at all sites and when the round is repeated.
        aggregator: what combines single updates, for rules that see them.
        score: gives metrics over all sites' held-out rows of the network moved by `update` and `beside`.
    """

    totals: Totals
    averages: Averages
    update: F32
    beside: F32
    weight: float
    seed: bytes
    aggregator: Aggregator | None = None
    score: Callable[[F32], Awaitable[Mapping[str, float]]] | None = None


@dataclass(frozen=True)
class Combined:
    """What all sites learn of a round: the averages of `update` and `beside`, and the sum of the weights."""

    update: F32
    beside: F32
    weight: float


class Combine(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag=True):
    """The plain average, rows for weights."""

    @property
    def hides_sites(self) -> bool:
        """Whether the rule hides what single sites bring, so that nothing exact may be told beside it."""
        return False

    async def __call__(self, turn: Turn, state: State) -> Combined:
        """Return the combined update, the same at every site; `state` may be changed."""
        return await averaged(turn, turn.update, "updates")


class Average(Combine, frozen=True):
    """The plain average."""


class TopBlocks(Combine, frozen=True, kw_only=True):
    """Send only the blocks of numbers with the largest updates over all sites.

    Each site first adds its squared lengths of blocks of `block` neighbouring numbers; sums say which blocks go, so
    that all sites send the same ones.  With `block` = 1 this is top-k of Σ wᵢ uᵢ².  All learn those sums besides.

    Args:
        keep: share of the blocks that are sent, in (0, 1].
        block: numbers in a block, at least 1; a round sends n (keep + 1 / block) numbers.
    """

    keep: float = 0.1
    block: int = 16

    def __post_init__(self) -> None:
        if not (0 < self.keep <= 1 and self.block >= 1):
            raise InputError("keep must lie in (0, 1] and block be at least 1", step="networks", cure="Change them.")

    async def __call__(self, turn: Turn, state: State) -> Combined:
        """Agree on blocks, average them, keep the rest."""
        n = turn.update.size
        whole = turn.update + state.mine("residual", n)
        blocks = np.arange(n) // self.block
        lengths = np.bincount(blocks, weights=whole.astype(np.float64) ** 2).astype(np.float32)
        told, _ = await turn.averages.average(lengths, turn.weight, what="squared lengths of blocks of updates")
        count = max(1, round(self.keep * lengths.size))
        sent = np.isin(blocks, np.argsort(-told, kind="stable")[:count])
        found = await averaged(turn, whole[sent], "largest blocks of updates")
        if turn.weight > 0:
            state.own["residual"] = np.where(sent, np.float32(0), whole)
        mean = np.zeros(n, np.float32)
        mean[sent] = found.update
        return Combined(mean, found.beside, found.weight)


class Quantised(Combine, frozen=True, kw_only=True):
    """Send updates as whole numbers of a few bits, rounded up or down at random so that they are right on average.

    Weighted updates lie on one grid for all sites, whose width follows from the sum of their squares.  Several of them
    share one number of an exact total (three at 8 bits and up to 512 sites), which they cross without error.

    Args:
        bits: 4 to 16; with fewer, what waits would grow faster than it is sent.
        width: largest value sent, in root mean squares of the weighted updates, above 0; what lies beyond waits.
    """

    bits: int = 8
    width: float = 6.0

    def __post_init__(self) -> None:
        if not (4 <= self.bits <= 16 and self.width > 0):
            raise InputError("bits must be 4 to 16 and width above 0", step="networks", cure="Change them.")

    async def __call__(self, turn: Turn, state: State) -> Combined:
        """Agree on the grid, add whole numbers, keep the errors."""
        n, top = turn.update.size, 2 ** (self.bits - 1) - 1
        whole = turn.update + state.mine("residual", n)
        weighted = whole.astype(np.float64) * turn.weight
        square = float(weighted @ weighted) / max(n, 1)
        told = await turn.totals.total(
            np.concatenate([[square, turn.weight > 0, turn.weight], turn.beside.astype(np.float64) * turn.weight]),
            what="mean squares of weighted updates",
        )
        if not told[2] > 0:
            raise ProtocolError("no site has anything to average (quantised updates)")
        step = self.width * np.sqrt(told[0] / told[1]) / top or 1.0
        rng = agreed.stream(turn.seed, "rounding", turn.totals.site)
        units = np.clip(stochastic_round(weighted / step, rng), -top, top)
        sums = await total_of_small(turn.totals, units.astype(np.int64), top, what="quantised updates")
        if turn.weight > 0:
            state.own["residual"] = (whole - units * step / turn.weight).astype(np.float32)
        mean = (sums * step / told[2]).astype(np.float32)
        return Combined(mean, (told[3:] / told[2]).astype(np.float32), float(told[2]))


async def averaged(turn: Turn, update: F32, what: str) -> Combined:
    """Average an update and what goes beside it, in one sum."""
    both = np.concatenate([update, turn.beside])
    mean, weight = await turn.averages.average(both, turn.weight, what=what)
    return Combined(mean[: update.size], mean[update.size :], weight)


def stochastic_round(values: NDArray[np.float64], rng: Rng) -> NDArray[np.float64]:
    """Round each value up with the chance of its fraction, else down; right on average."""
    low = np.floor(values)
    chance = rng.u32(values.size).astype(np.float64) / 2.0**32
    return low + (chance < values - low)


async def total_of_small(totals: Totals, values: NDArray[np.int64], top: int, *, what: str) -> NDArray[np.float64]:
    """Add small whole numbers, several in one number of the total.

    Args:
        totals: the sums.
        values: (n,) int64, −top to top.
        top: at least 1.
        what: what is added up.

    Raises:
        ProtocolError: the total is none of such numbers.
    """
    sites = len(totals.sites)
    bits = (2 * top * sites).bit_length()
    lanes = max(1, EXACT_BITS // bits)
    padded = np.zeros(-(-values.size // lanes) * lanes, np.int64)
    padded[: values.size] = values + top
    shifts = bits * np.arange(lanes)
    packed = (padded.reshape(-1, lanes) << shifts).sum(axis=1)
    sums = await totals.total(packed.astype(np.float64), what=what)
    if not ((sums >= 0) & (sums < 2.0 ** (bits * lanes))).all():
        raise spoilt(what)
    unpacked = (sums.astype(np.int64)[:, None] >> shifts) & ((1 << bits) - 1)
    return unpacked.reshape(-1)[: values.size].astype(np.float64) - sites * top
