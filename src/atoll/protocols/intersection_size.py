"""How many ids two sites have in common, and not which, by Diffie-Hellman masks with shuffles on ristretto255.

Receiver, ids X                                            Sender, ids Y
(1) both tell their number of ids
(2) sends a·H(x), shuffled                                 (3) sends b·H(y), shuffled
                                                           (4) sends T(b·a·H(x)), shuffled anew
counts equal T(a·b·H(y)) and T(b·a·H(x))                   (5) is told the number
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from atoll.core.channel import Channel
from atoll.core.errors import ProtocolError
from atoll.core.message import U8, Message
from atoll.core.offload import offload
from atoll.core.protocol import Card, Protocol
from atoll.crypto import item_hash, ristretto
from atoll.crypto.random import Rng
from atoll.protocols import intersection_result
from atoll.protocols.intersection_result import Progress, as_words, context_hash

ROUND = 8192
"""Items of each site in one round; both sites work while a round is on its way."""

LARGEST = 1 << 24
"""Most ids of one site, unless the caller allows more."""

Bytes = NDArray[np.uint8]
Rows = NDArray[np.int64]


class Opening(Message, frozen=True):
    """(1) both: number of ids, and a hash of job and columns that must agree."""

    size: int
    context: bytes


class Masked(Message, frozen=True):
    """(2) receiver, each round: a·H(x) of its next ids in shuffled order."""

    points: U8


class Own(Message, frozen=True):
    """(3) sender, each round: b·H(y) of its next ids in shuffled order."""

    points: U8


class Doubled(Message, frozen=True):
    """(4) sender: the first bytes of b·a·H(x) for all of the receiver's points, in an order that only it knows."""

    tags: U8


class Count(Message, frozen=True):
    """(5) receiver → sender: how many ids are common."""

    common: int


@dataclass(frozen=True)
class Counted:
    """What a receiver has before it tells the number.

    Attributes:
        places: (m,) int64, where the common ids stand in the sender's shuffled list, ascending: random places.
        others: The sender's number of ids.
    """

    places: Rows
    others: int


async def receiver(
    peer: Channel,
    ids: Sequence[bytes],
    *,
    rng: Rng,
    context: Sequence[str] = (),
    largest: int = LARGEST,
    progress: Progress = lambda done, total: None,
) -> int:
    """Learn how many of its ids the sender has, too, and tell it.

    Args:
        peer: Channel to the sender.
        ids: nx canonical ids without duplicates.
        rng: Secret randomness.
        context: Job and columns; what both sites must agree on before ids are compared.
        largest: Most ids the peer may announce.
        progress: Called with ids done and ids in all.

    Returns:
        The number of common ids.

    Raises:
        InputError: An id stands twice in `ids`.
        ProtocolError: As the card says.
    """
    counted = await match(peer, ids, rng=rng, context=context, largest=largest, progress=progress)
    await peer.send(Count(len(counted.places)))  # (5)
    return len(counted.places)


async def sender(
    peer: Channel,
    ids: Sequence[bytes],
    *,
    rng: Rng,
    context: Sequence[str] = (),
    largest: int = LARGEST,
    progress: Progress = lambda done, total: None,
) -> int:
    """Let the receiver count, and learn the number; arguments, result and errors as `receiver`."""
    _, nx = await offer(peer, ids, rng=rng, context=context, largest=largest, progress=progress)
    return await learn(peer, nx, len(ids))


async def match(
    peer: Channel, ids: Sequence[bytes], *, rng: Rng, context: Sequence[str], largest: int, progress: Progress
) -> Counted:
    """Be the receiver up to the number; arguments and errors as `receiver`."""
    nx, domain = len(ids), _domain(context)
    intersection_result.refuse_duplicates(ids)
    await peer.send(Opening(nx, domain))  # (1)
    ny = _checked(await peer.recv(Opening), domain, largest)  # (1)
    width = intersection_result.tag_bytes(nx, ny)
    a, order = ristretto.random_scalar(rng), rng.permutation(nx)
    y = np.empty((ny, width), np.uint8)
    for mine, theirs in intersection_result.rounds(nx, ny, ROUND):
        await peer.send(Masked(await offload(_mask, ids, order[mine], domain, a)))  # (2)
        points = (await peer.recv(Own, points=(theirs.stop - theirs.start, 32))).points  # (3)
        y[theirs] = await offload(_double, points, a, width, theirs.start)
        progress(max(mine.stop, theirs.stop), max(nx, ny))
    x = (await peer.recv(Doubled, tags=(nx, width))).tags  # (4)
    return Counted(await offload(_common_places, y, x), ny)


async def offer(
    peer: Channel, ids: Sequence[bytes], *, rng: Rng, context: Sequence[str], largest: int, progress: Progress
) -> tuple[Rows, int]:
    """Be the sender up to the number; arguments and errors as `sender`.

    Returns:
        order: order[p] is the index of its id at place p of the shuffled list; and the receiver's number of ids.
    """
    ny, domain = len(ids), _domain(context)
    intersection_result.refuse_duplicates(ids)
    nx = _checked(await peer.recv(Opening), domain, largest)  # (1)
    await peer.send(Opening(ny, domain))  # (1)
    width = intersection_result.tag_bytes(nx, ny)
    b, order = ristretto.random_scalar(rng), rng.permutation(ny)
    x = np.empty((nx, width), np.uint8)
    for theirs, mine in intersection_result.rounds(nx, ny, ROUND):
        own = await offload(_mask, ids, order[mine], domain, b)
        masked = (await peer.recv(Masked, points=(theirs.stop - theirs.start, 32))).points  # (2)
        await peer.send(Own(own))  # (3)
        x[theirs] = await offload(_double, masked, b, width, theirs.start)
        progress(max(mine.stop, theirs.stop), max(nx, ny))
    await offload(_refuse_repeated, x)
    await peer.send(Doubled(x[rng.permutation(nx)]))  # (4)
    return order, nx


async def learn(peer: Channel, nx: int, ny: int) -> int:
    """Receive the number (5).

    Raises:
        ProtocolError: It is more than either site has.
    """
    common = (await peer.recv(Count)).common
    if not 0 <= common <= min(nx, ny):
        raise ProtocolError(f"{peer.peer} counts {common:,} common ids of {nx:,} and {ny:,}")
    return common


def _domain(context: Sequence[str]) -> bytes:
    return b"atoll/intersection-size/v1/" + context_hash(context)


def _checked(opening: Opening, domain: bytes, largest: int) -> int:
    return intersection_result.checked_size(opening.size, opening.context, domain, largest)


def _mask(ids: Sequence[bytes], order: Rows, domain: bytes, scalar: bytes) -> Bytes:
    return ristretto.hash_and_multiply([ids[i] for i in order], domain, scalar)


def _double(points: Bytes, scalar: bytes, width: int, first: int) -> Bytes:
    """Multiply a peer's points, and keep `width` bytes of each; the lowest byte holds the sign bit and is skipped."""
    return ristretto.multiply(points, scalar, first=first)[:, 1 : 1 + width]


def _refuse_repeated(tags: Bytes) -> None:
    if item_hash.repeated(as_words(tags)):
        raise ProtocolError("the peer sent one point more than once")


def _common_places(mine: Bytes, theirs: Bytes) -> Rows:
    """Return where tags of `mine` are in `theirs`, ascending."""
    _refuse_repeated(mine)
    _refuse_repeated(theirs)
    return np.sort(item_hash.join(as_words(mine), as_words(theirs))[0])


PROTOCOL = Protocol(
    name="intersection-size",
    version=1,
    title="How many ids two sites have in common, and not which",
    card=Card(
        source="Cristofaro, Gasti and Tsudik, CANS 2012; Ion et al., EuroS&P 2020 (eprint 2019/723), the "
        "count. Group: ristretto255, RFC 9496; hashing to it: RFC 9380, appendix B.",
        security="Semi-honest, 2 parties: DDH on ristretto255, SHA-512 as a random oracle, about 126 bits. Tags are "
        "cut so that a false match has a probability below 2^-40.",
        inputs="receiver: nx ids; sender: ny ids; each canonical (`atoll.align`) and without duplicates, as bytes.",
        reveals={
            "receiver": ("The number ny of the sender's ids.", "How many ids are common, and not which."),
            "sender": ("The number nx of the receiver's ids.", "How many ids are common, and not which."),
        },
        cost="For each id 1 hash to the group and 1 scalar multiplication at its own site, 1 more at its peer's. "
        "Bytes: 32 (nx + ny) + t nx with t = 10 to 13, and 300 a round of 8,192 ids.",
        fails="ProtocolError when sites differ in job or columns, sizes exceed the limit, a point is not canonical, is "
        "the identity or is repeated, or the number is impossible; InputError on own duplicates.",
        assurance="tested",
        notes=(
            "The sender takes the receiver's word for the number.",
            "A site that brings a single id learns whether the other has it: agree on a smallest number of ids.",
            "Two runs whose ids differ in one show whether the other has this one: keep a log of runs.",
            "Sets of 10^6 ids take about two minutes on one core at each site.",
        ),
    ),
    roles={"receiver": receiver, "sender": sender},
    messages=(Opening, Masked, Own, Doubled, Count),
)
