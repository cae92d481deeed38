"""Runs of training and prediction with any number of feature holders in one process."""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from atoll.core.channel import Channel
from atoll.data.columns import Columns
from atoll.learn.vertical.trees.model import FeaturePart, History, LabelPart
from atoll.learn.vertical.trees.params import TreeParams
from atoll.learn.vertical.trees.predict import predict_feature_holder, predict_label_holder
from atoll.learn.vertical.trees.protocol import feature_holder, label_holder
from atoll.learn.vertical.trees.ties import every
from atoll.testing import seeded_rng
from atoll.transport.memory import memory_pair

from . import doubles

Pair = Callable[[str, str], tuple[Channel, Channel]]


@dataclass(frozen=True)
class Trained:
    """What came out at every site."""

    label: LabelPart
    history: History
    features: tuple[FeaturePart, ...]


def together(*roles: Coroutine[Any, Any, Any]) -> list[Any]:
    """Run all roles in one new loop."""

    async def run() -> list[Any]:
        async with asyncio.timeout(50):
            return await every(roles)

    return asyncio.run(run())


def pairs(count: int, pair: Pair = memory_pair) -> tuple[dict[str, Channel], list[Channel]]:
    """Channels between the label holder and `count` feature holders, named site1, site2, …"""
    made = [pair("label", f"site{i}") for i in range(1, count + 1)]
    return {f"site{i}": ends[0] for i, ends in enumerate(made, 1)}, [ends[1] for ends in made]


def train(
    tables: Sequence[Columns],
    label: np.ndarray,
    validation: np.ndarray,
    params: TreeParams,
    *,
    seed: int = 0,
    private: bool = False,
    pair: Pair = memory_pair,
    reveals_rows: bool = True,
) -> Trained:
    """Train with the label holder's table first; with plain doubles unless `private`."""
    at_label, at_sites = pairs(len(tables) - 1, pair)
    ours = {} if private else {"connect": doubles.asking}
    theirs = {} if private else {"connect": doubles.answering}
    args: dict[str, Any] = {"reveals_rows": reveals_rows}
    (part, history), *features = together(
        label_holder(at_label, tables[0], label, validation, params, rng=seeded_rng(seed), **args, **ours),
        *(
            feature_holder(peer, table, params, rng=seeded_rng(seed + i), **args, **theirs)
            for i, (peer, table) in enumerate(zip(at_sites, tables[1:], strict=True), 1)
        ),
    )
    return Trained(part, history, tuple(features))


def predict(
    trained: Trained, tables: Sequence[Columns], *, private: bool = False, pair: Pair = memory_pair
) -> np.ndarray:
    """Score rows with the parts that training left at every site."""
    at_label, at_sites = pairs(len(tables) - 1, pair)
    ours = {} if private else {"connect": doubles.choosing}
    theirs = {} if private else {"connect": doubles.offering}
    scores, *_ = together(
        predict_label_holder(at_label, trained.label, tables[0], rng=seeded_rng(1), **ours),
        *(
            predict_feature_holder(peer, part, table, rng=seeded_rng(2 + i), **theirs)
            for i, (peer, part, table) in enumerate(zip(at_sites, trained.features, tables[1:], strict=True))
        ),
    )
    return scores
