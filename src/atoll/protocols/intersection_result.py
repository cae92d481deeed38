"""What an intersection ends in: pairs at the receiver, a shuffled order at the sender, and the receiver's announcement.

An intersection's receiver finds positions in the sender's *shuffled* list.  With several senders (a star) it intersects
all matches by `common_rows`, and tells each sender its final rows, in one common random order (`announce`, `learn`); or
it tells nothing, and the result stays one-sided.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from atoll.core.channel import Channel
from atoll.core.errors import ProtocolError
from atoll.core.message import I64, AtMost, Message
from atoll.core.protocol import Card, Protocol
from atoll.crypto.random import Rng


class Positions(Message, frozen=True):
    """Receiver → sender, where the result is two-sided: final rows as positions of the sender's shuffled list."""

    positions: I64


@dataclass(frozen=True)
class Matches:
    """What the receiver learns: pairs of its own indices and positions of the sender's shuffled list, (m,) int64 each.

    Pairs stand in the order of the receiver's indices, which says nothing about the sender.
    """

    mine: NDArray[np.int64]
    theirs: NDArray[np.int64]


@dataclass(frozen=True)
class Shuffled:
    """What the sender keeps: order[p] is the index of its id at position p, (ny,) int64.

    Where the list was filled up to hide its length, positions without an id have the index -1.
    """

    order: NDArray[np.int64]


async def announce(peer: Channel, positions: NDArray[np.int64]) -> None:
    """Tell a sender the final rows, as positions of its shuffled list, in the order common to all sites."""
    await peer.send(Positions(positions))


async def learn(peer: Channel, order: NDArray[np.int64]) -> NDArray[np.int64]:
    """Learn the final rows as the sender's own indices, in the order common to all sites.

    Args:
        peer: Channel to the receiver.
        order: `Shuffled.order`.

    Raises:
        ProtocolError: A position is out of range, repeated, or holds none of the sender's ids.
    """
    positions = (await peer.recv(Positions, positions=(AtMost(len(order)),))).positions
    if positions.size and not 0 <= positions.min() <= positions.max() < len(order):
        raise ProtocolError(f"a position in the result lies outside of 0 … {len(order) - 1:,}")
    if np.bincount(positions, minlength=1).max(initial=0) > 1:
        raise ProtocolError("a position stands twice in the result")
    rows = order[positions]
    if rows.size and rows.min() < 0:
        raise ProtocolError("a position in the result holds none of this site's ids")
    return rows


def common_rows(matches: Sequence[Matches], rng: Rng) -> tuple[NDArray[np.int64], list[NDArray[np.int64]]]:
    """Intersect the matches with several senders, and put the common rows in random order.

    Args:
        matches: One for each sender, at least one.
        rng: Secret randomness: the order that all sites see then says nothing of the receiver's.

    Returns:
        The receiver's own indices of the common rows, and for each sender the positions to announce, (m,) int64 each.
    """
    rows = matches[0].mine
    for match in matches[1:]:
        rows = np.intersect1d(rows, match.mine, assume_unique=True)
    rows = rows[rng.permutation(len(rows))]
    return rows, [match.theirs[np.searchsorted(match.mine, rows)] for match in matches]


def context_hash(context: Sequence[str]) -> bytes:
    """Hash what sites must agree on before ids are compared, length-prefixed, to 32 bytes."""
    parts = [part.encode() for part in context]
    return hashlib.sha256(b"".join(len(part).to_bytes(8, "big") + part for part in parts)).digest()


PROTOCOL = Protocol(
    name="intersection-result",
    version=1,
    title="The receiver of an intersection tells a sender which rows are common",
    card=Card(
        source="Atoll.",
        security="Nothing is hidden: the positions are the message. They mean something to the sender only, whose "
        "shuffled order nobody else knows.",
        inputs="receiver: positions in the sender's shuffled list. sender: its order.",
        reveals={
            "receiver": ("Nothing.",),
            "sender": ("Which of its own ids are in the final result, in a random order common to all sites.",),
        },
        cost="1 message, 8 bytes for each common row.",
        fails="ProtocolError if a position is out of range or repeated, or holds none of the sender's ids.",
        assurance="tested",
    ),
    roles={"receiver": announce, "sender": learn},
    messages=(Positions,),
)
