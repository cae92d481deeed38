"""What each site keeps of a training that is under way, so that one that was cut off goes on at a tree's border.

Only what the site knows anyway is kept: grown trees, margins, the meaning of split ids, and how many vectors were
asked.  Masks, pads and transfers are made anew, and vectors of a tree that was cut off stay counted (product rule R5).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

import msgspec

from atoll.core.errors import InputError, ProtocolError
from atoll.learn.vertical.trees.model import HeldSplit, TreeNode
from atoll.learn.vertical.trees.params import TreeParams

K = TypeVar("K", "KeptForest", "KeptSplits")

SECONDS = 2.0
"""The label holder keeps its forest so often at most: margins are 8 bytes a row."""

ANEW = "Run the job again with --fresh."


class KeptForest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The label holder's side after some trees.

    Attributes:
        model: The model's id; 16 bytes.
        trees: Nodes of every tree.
        asked: For every tree the ids that each site was told, level by level.
        gains: For every tree (site, feature, gain) of its splits.
        seconds: Of every tree.
        measures: Of every tree, as `forest` computes them.
        scores: Quantiles of the training rows' scores at the best tree; empty without early stopping.
        margin: (n,) float64, little-endian.
        meter: The leakage meter's notes.
    """

    model: bytes
    trees: list[tuple[TreeNode, ...]]
    asked: list[dict[str, list[dict[int, str]]]]
    gains: list[list[tuple[int, int, float]]]
    seconds: list[float]
    measures: list[tuple[float, ...]]
    scores: tuple[float, ...]
    margin: bytes
    meter: list[tuple[bytes, list[float]]]


class KeptSplits(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A feature holder's side after some trees.

    Attributes:
        model: The model's id; 16 bytes.
        order: The order in which the label holder knows the features.
        trees: For every tree and level the splits received.
        spent: Vectors of all tries, with those of the tree that was being grown.
    """

    model: bytes
    order: list[int]
    trees: tuple[tuple[tuple[HeldSplit, ...], ...], ...]
    spent: int


@dataclass
class Keeper:
    """Where a site's side is kept.

    Args:
        model: The model's id, the same at all sites and in all tries of one run; 16 bytes.
        read: Gives what was written last, or None.
        write: Replaces it, whole or not at all.
        clock: Gives seconds.
    """

    model: bytes
    read: Callable[[], bytes | None]
    write: Callable[[bytes], object]
    clock: Callable[[], float] = time.monotonic
    written: float = field(default=-SECONDS)

    def forest(self) -> KeptForest | None:
        """Return the label holder's side of this run, if there is one."""
        kept = self._read(KeptForest)
        return kept if kept is not None and kept.model == self.model else None

    def splits(self) -> tuple[KeptSplits | None, int]:
        """Return a feature holder's side of this run, if there is one, and the vectors that any run has spent."""
        kept = self._read(KeptSplits)
        if kept is None:
            return None, 0
        return (kept if kept.model == self.model else None), kept.spent

    @property
    def due(self) -> bool:
        """Whether the label holder should keep its side again."""
        return self.clock() - self.written >= SECONDS

    def keep(self, state: KeptForest | KeptSplits) -> None:
        """Write a side."""
        self.write(msgspec.msgpack.encode(state))
        self.written = self.clock()

    def _read(self, kind: type[K]) -> K | None:
        data = self.read()
        if data is None:
            return None
        try:
            return msgspec.msgpack.decode(data, type=kind)
        except msgspec.MsgspecError as cause:
            raise InputError(
                "what an earlier try kept of the trees is damaged",
                detail=str(cause),
                step="train",
                cure=ANEW,
            ) from None


@dataclass
class Held:
    """A feature holder's trees while they grow.

    Args:
        keeper: Where they are kept, if they are.
        order: The order in which the label holder knows the features.
        depth: Levels of a tree.
        ahead: Vectors that a tree may take; kept as spent before its first, for no try says how far it came.
        trees: Those that are whole.
        spent: Vectors of all tries.
    """

    keeper: Keeper | None
    order: list[int]
    depth: int
    ahead: int
    trees: list[tuple[tuple[HeldSplit, ...], ...]] = field(default_factory=list)
    spent: int = 0
    begun: bool = False
    levels: list[tuple[HeldSplit, ...]] = field(default_factory=list)

    @classmethod
    def of(cls, keeper: Keeper | None, order: list[int], params: TreeParams) -> Held:
        """Take up what an earlier try kept, or begin with features in the order given."""
        kept, spent = (None, 0) if keeper is None else keeper.splits()
        ahead = params.vectors // params.n_estimators
        if kept is None:
            return cls(keeper, order, params.max_depth, ahead, [], spent)
        return cls(keeper, kept.order, params.max_depth, ahead, list(kept.trees), spent)

    def check_model(self, model: bytes, peer: str) -> None:
        """Refuse another model than that of this run.

        Raises:
            ProtocolError: The label holder named another one.
        """
        if self.keeper is not None and model != self.keeper.model:
            raise ProtocolError(f"{peer} trains another model than the one that this run is for")

    def begin(self, tree: int) -> None:
        """Before the first round: forget kept trees that the label holder has not kept."""
        if not self.begun:
            self.begun = True
            if 0 <= tree < len(self.trees):
                del self.trees[tree:]
            self._keep()

    def take(self, splits: tuple[HeldSplit, ...]) -> None:
        """Add a level; the last one of a tree makes it whole."""
        self.levels.append(splits)
        if len(self.levels) == self.depth:
            self.trees.append(tuple(self.levels))
            self.levels = []
            self._keep()

    def _keep(self) -> None:
        if self.keeper is not None:
            spent = self.spent + self.ahead
            self.keeper.keep(KeptSplits(self.keeper.model, self.order, tuple(self.trees), spent))
