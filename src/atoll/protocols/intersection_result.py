"""What intersections begin with and end in, whichever protocol runs between.

They begin with sizes and a context that must fit, and end in pairs at the receiver, a shuffled order at the sender, and
the receiver's announcement.

An intersection's receiver finds positions in the sender's *shuffled* list.  With several senders (a star) it intersects
all matches by `common_rows`, and tells each sender its final rows, in one common random order (`announce`, `learn`); or
it tells nothing, and the result stays one-sided.
"""

from __future__ import annotations

import functools
import hashlib
import math
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from atoll.core.channel import Channel
from atoll.core.errors import InputError, ProtocolError
from atoll.core.message import I64, AtMost, Message
from atoll.core.protocol import Card, Protocol
from atoll.crypto import item_hash
from atoll.crypto.random import Rng
from atoll.protocols.together import together

Progress = Callable[[int, int], None]
Words = NDArray[np.uint64]
Tags = NDArray[np.uint8]


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


async def receive_from_each(
    receive: Callable[[Channel, Progress], Coroutine[Any, Any, Matches]],
    peers: Mapping[str, Channel],
    progress: Progress,
) -> dict[str, Matches]:
    """Be the receiver towards several senders at once.

    Args:
        receive: Runs the receiver's role towards one sender and tells how far it is.
        peers: Channels by name.
        progress: Told what is done and what is to be done with all senders together.

    Returns:
        The matches with each sender, by name; the first failure ends all runs.
    """
    counts = dict.fromkeys(peers, (0, 0))

    def count(name: str, done: int, total: int) -> None:
        counts[name] = done, total
        progress(sum(done for done, _ in counts.values()), sum(total for _, total in counts.values()))

    found = await together(*(receive(peer, functools.partial(count, name)) for name, peer in peers.items()))
    return dict(zip(peers, found, strict=True))


async def receive_separately(
    receiver: Callable[..., Coroutine[Any, Any, Matches]],
    peers: Mapping[str, Channel],
    ids: Any,
    *,
    rng: Rng,
    progress: Progress = lambda done, total: None,
    **options: Any,
) -> dict[str, Matches]:
    """Be the receiver towards several senders at once, each in a run of its own, with its own randomness.

    Args:
        receiver: The role of a protocol.
        peers: Channels by name; each sender runs the protocol's `sender`.
        ids: As of `receiver`, and so are the rest.

    Returns:
        The matches with each sender, by name.
    """

    def receive(peer: Channel, told: Progress) -> Coroutine[Any, Any, Matches]:
        return receiver(peer, ids, rng=rng.spawn(), progress=told, **options)

    return await receive_from_each(receive, peers, progress)


def checked_size(size: int, context: bytes, expected: bytes, largest: int) -> int:
    """Return the size that a peer announces, if the sites mean the same job and it is not too large.

    Raises:
        ProtocolError: They do not, or it is.
    """
    if context != expected:
        raise ProtocolError("the sites compare ids of different jobs or columns")
    if not 0 <= size <= largest:
        raise ProtocolError(f"the peer announces {size:,} ids, at most {largest:,} are allowed")
    return size


def refuse_repeated(repeated: int, total: int) -> None:
    """Refuse own ids of which some repeat others.

    Raises:
        InputError: `repeated` is not zero.
    """
    if repeated:
        raise InputError(
            f"{repeated:,} of {total:,} ids are duplicates",
            cure="Align by atoll.align, which keeps each id once and remembers its rows.",
        )


def refuse_duplicates(ids: Sequence[bytes]) -> None:
    """Refuse own ids of which some stand twice; errors as of `refuse_repeated`."""
    refuse_repeated(len(ids) - len(set(ids)), len(ids))


def tag_bytes(nx: int, ny: int, runs: int = 1) -> int:
    """Return how long tags are, so that in no run two ids have the same but with probability 2^-40: 10 to 16 bytes."""
    bits = 40 + math.log2(max(nx, 1)) + math.log2(max(ny, 1)) + math.log2(runs)
    return min(16, max(10, math.ceil(bits / 8)))


def rounds(nx: int, ny: int, size: int) -> list[tuple[slice, slice]]:
    """Cut both lists into rounds of `size`; there is at least one, so that every run has the same messages."""
    starts = range(0, max(nx, ny, 1), size)
    return [(slice(min(lo, nx), min(lo + size, nx)), slice(min(lo, ny), min(lo + size, ny))) for lo in starts]


def as_words(tags: Tags) -> Words:
    """Return tags (n, up to 16) as words, (n, 2) uint64, with zeros behind their ends."""
    padded = np.zeros((len(tags), 16), np.uint8)
    padded[:, : tags.shape[1]] = tags
    return padded.view(np.uint64)


def as_bytes(words: Words, width: int) -> Tags:
    """Return the first `width` bytes of words (n, 2), (n, width) uint8."""
    return np.ascontiguousarray(np.ascontiguousarray(words).view(np.uint8).reshape(-1, 16)[:, :width])


def match_tags(mine: Tags, theirs: Tags) -> Matches:
    """Find the receiver's ids whose tags the sender sent.

    Args:
        mine: (nx, width) in the order of the receiver's own indices, each once.
        theirs: (ny, width) in the order of the sender's shuffled list.

    Raises:
        ProtocolError: A tag that matches came twice.
    """
    at_mine, at_theirs = item_hash.join(as_words(mine), as_words(theirs))
    place = np.full(len(mine), -1, np.int64)
    place[at_mine] = at_theirs
    rows = np.flatnonzero(place >= 0)
    if len(rows) < len(at_mine):
        raise ProtocolError("the peer sent one tag more than once")
    return Matches(rows, place[rows])


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
