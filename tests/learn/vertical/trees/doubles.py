"""Plain doubles of the sub-protocols, with the same two ends: they send vectors, sums, choices and bits in the open."""

from dataclasses import dataclass, field

import numpy as np

from atoll.core.channel import Channel
from atoll.core.message import F64, I64, U8, AtMost, Message
from atoll.crypto.random import Rng
from atoll.learn.vertical.trees.binning import BinnedTable, Layout
from atoll.learn.vertical.trees.params import TreeParams


class Vectors(Message, frozen=True):
    """Vectors in the open."""

    v: F64


class Sums(Message, frozen=True):
    """Sums in the open."""

    sums: F64


class Choice(Message, frozen=True):
    """Choices in the open."""

    choice: I64


class Bits(Message, frozen=True):
    """Bits in the open."""

    bits: U8


KINDS = (Vectors, Sums, Choice, Bits)


@dataclass
class PlainAsking:
    """The label holder's end, in the open; what was asked is kept for tests."""

    peer: Channel
    n: int = 0
    k: int = 0
    noise: float = 0.0
    vectors: list[np.ndarray] = field(default_factory=list)

    def deviations(self, vectors: np.ndarray) -> np.ndarray:
        return np.zeros(len(vectors))

    async def sums(self, vectors: np.ndarray) -> np.ndarray:
        await self.peer.send(Vectors(vectors))
        return (await self.peer.recv(Sums, sums=(len(vectors), self.k))).sums

    async def end(self, *, well: bool) -> None:
        pass

    async def bits(self, choice: np.ndarray, options: int) -> np.ndarray:
        await self.peer.send(Choice(choice))
        return (await self.peer.recv(Bits, bits=choice.shape)).bits


@dataclass
class PlainAnswering:
    """The feature holder's end, in the open."""

    peer: Channel
    table: BinnedTable | None = None

    async def sums(self, count: int) -> None:
        table = self.table
        v = (await self.peer.recv(Vectors, v=(count, table.rows))).v
        offsets = table.layout.offsets
        out = np.zeros((count, offsets[-1]))
        for f, codes in enumerate(table.codes):
            for row, values in zip(out, v, strict=True):
                row[offsets[f] : offsets[f + 1]] = np.bincount(codes, values, minlength=offsets[f + 1] - offsets[f])
        await self.peer.send(Sums(out))

    async def end(self, *, well: bool) -> None:
        pass

    async def bits(self, bits: np.ndarray) -> None:
        n = bits.shape[1]
        choice = (await self.peer.recv(Choice, choice=(AtMost(n),))).choice
        padded = np.concatenate([bits, np.zeros((1, n), np.uint8)])
        await self.peer.send(Bits(padded[choice, np.arange(n)]))


async def asking(
    peer: Channel, layout: Layout, rows: int, *, params: TreeParams, reveals_rows: bool, rng: Rng, spent: int = 0
) -> PlainAsking:
    """As `ties.asking`."""
    return PlainAsking(peer, rows, int(layout.offsets[-1]))


async def answering(
    peer: Channel, table: BinnedTable, *, params: TreeParams, reveals_rows: bool, rng: Rng, spent: int = 0
) -> PlainAnswering:
    """As `ties.answering`."""
    return PlainAnswering(peer, table)


async def choosing(peer: Channel, *, rng: Rng) -> PlainAsking:
    """As `ties.choosing`."""
    return PlainAsking(peer)


async def offering(peer: Channel, *, rng: Rng) -> PlainAnswering:
    """As `ties.offering`."""
    return PlainAnswering(peer)
