"""Set intersection by Diffie-Hellman masks on ristretto255: `receiver` learns which of its ids `sender` has, too.

What comes of it, and how the sender may learn it, stands in `intersection_result`.
"""

import asyncio
import math
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from atoll.core.channel import Channel
from atoll.core.errors import ProtocolError
from atoll.core.message import U8, Message
from atoll.core.offload import offload
from atoll.core.protocol import Card, Protocol
from atoll.crypto import ristretto
from atoll.crypto.random import Rng
from atoll.protocols import intersection_result
from atoll.protocols.intersection_result import Matches, Progress, Shuffled, as_bytes, as_words, context_hash

ROUND = 8192
"""Items of each site in one round; both sites work while a round is on its way."""

LARGEST = 1 << 26
"""Most items of one site, unless the caller allows more."""

CARD = Card(
    source="Huberman, Franklin and Hogg, EC 1999; Meadows, S&P 1986. Group: ristretto255, RFC 9496; hashing to it: "
    "RFC 9380, appendix B.",
    security="Semi-honest, 2 parties: DDH on ristretto255, SHA-512 as a random oracle, about 126 bits. Tags are cut to "
    "40 + 2 log2(max(nx, ny)) bits, at least 80, so a false match has a probability below 2^-40.",
    inputs="receiver: nx ids; sender: ny ids; each canonical (`atoll.align`) and without duplicates, as bytes.",
    reveals={
        "receiver": (
            "The number ny of the sender's ids.",
            "Which of its own ids the sender has, too, and at which positions of the sender's shuffled list.",
            "In a star: its intersection with every single sender, not only the common one.",
        ),
        "sender": ("The number nx of the receiver's ids.",),
    },
    cost="For each item 1 hash to the group and 1 scalar multiplication at its own site, 1 more at its "
    "peer's. Bytes: 32 (nx + ny) + t nx with t = 10 to 13, and 400 a round of 8,192 items.",
    fails="ProtocolError when sites differ in job or columns, sizes exceed the limit, a point is not canonical, is the "
    "identity or is repeated; InputError on own duplicates.",
    assurance="tested",
    notes=(
        "In a star one mask of the receiver serves all senders, so senders that work together see the same points.",
        "A malicious site can put in ids that it does not have, and so ask for persons; only sizes are limited.",
        "Repeated runs with changed inputs show the difference: keep a log of runs.",
        "Sets of 10^6 ids take about two minutes on one core at each site; `vole-intersection` takes about a second.",
    ),
)


class Opening(Message, frozen=True):
    """Step 1, both: number of ids, and a hash of job and columns that must agree."""

    size: int
    context: bytes


class Masked(Message, frozen=True):
    """Step 2, receiver, each round: a·H(x) of its next ids in shuffled order."""

    points: U8


class Own(Message, frozen=True):
    """Step 3, sender, each round: b·H(y) of its next ids in shuffled order."""

    points: U8


class Doubled(Message, frozen=True):
    """Step 4, sender, each round: the first bytes of b·(a·H(x)) for the receiver's points, in the receiver's order."""

    tags: U8


async def receiver(
    peer: Channel,
    ids: Sequence[bytes],
    *,
    rng: Rng,
    context: Sequence[str] = (),
    largest: int = LARGEST,
    progress: Progress = lambda done, total: None,
) -> Matches:
    """Learn which ids the sender has, too.

    Args:
        peer: Channel to the sender.
        ids: nx canonical ids without duplicates.
        rng: Secret randomness.
        context: Job and columns; what both sites must agree on before ids are compared.
        largest: Most ids the sender may announce.
        progress: Called with ids done and ids in all.

    Raises:
        InputError: An id stands twice in `ids`.
        ProtocolError: As the card says.
    """
    return await _receive(peer, _Blinded(ids, rng, _domain(context)), largest, progress)


async def receive_from_all(
    peers: Mapping[str, Channel],
    ids: Sequence[bytes],
    *,
    rng: Rng,
    context: Sequence[str] = (),
    largest: int = LARGEST,
    progress: Progress = lambda done, total: None,
) -> dict[str, Matches]:
    """Be the receiver towards several senders at once, with one mask: own ids are hashed and masked only once.

    Args:
        peers: Channels by name; each sender runs `sender`.
        ids: As of `receiver`, and so are the rest.

    Returns:
        The matches with each sender, by name.
    """
    own = _Blinded(ids, rng, _domain(context))
    return await intersection_result.receive_from_each(
        lambda peer, told: _receive(peer, own, largest, told), peers, progress
    )


class _Blinded:
    """The receiver's ids in shuffled order, hashed and masked as rounds ask for them."""

    def __init__(self, ids: Sequence[bytes], rng: Rng, domain: bytes) -> None:
        intersection_result.refuse_duplicates(ids)
        self.ids, self.domain = ids, domain
        self.a, self.order = ristretto.random_scalar(rng), rng.permutation(len(ids))
        self._points = np.empty((len(ids), 32), np.uint8)
        self._ready = 0
        self._turn = asyncio.Lock()

    async def points(self, part: slice) -> NDArray[np.uint8]:
        """Return a·H(x) of one round, (up to ROUND, 32); rounds are asked for in order."""
        async with self._turn:
            if self._ready < part.stop:
                self._points[part] = await offload(_mask, self.ids, self.order, part, self.domain, self.a)
                self._ready = part.stop
        return self._points[part]


async def _receive(peer: Channel, own: _Blinded, largest: int, progress: Progress) -> Matches:
    nx = len(own.ids)
    await peer.send(Opening(nx, own.domain))  # (1)
    ny = _checked(await peer.recv(Opening), own.domain, largest)  # (1)
    width, rounds = _tag_bytes(nx, ny), intersection_result.rounds(nx, ny, ROUND)
    x, y = np.zeros((nx, 2), np.uint64), np.zeros((ny, 2), np.uint64)
    masked = await own.points(rounds[0][0])
    for (mine, theirs), later in zip(rounds, [*rounds[1:], None], strict=True):
        await peer.send(Masked(masked))  # (2)
        if later is not None:
            masked = await own.points(later[0])
        points = (await peer.recv(Own, points=(_size(theirs), 32))).points  # (3)
        y[theirs] = await offload(_double, points, own.a, width, theirs.start)
        x[mine] = as_words((await peer.recv(Doubled, tags=(_size(mine), width))).tags)  # (4)
        progress(max(mine.stop, theirs.stop), max(nx, ny))
    places, theirs_at = await offload(_join, x, y)
    mine_at = own.order[places]
    by_row = np.argsort(mine_at)
    return Matches(mine_at[by_row], theirs_at[by_row])


async def sender(
    peer: Channel,
    ids: Sequence[bytes],
    *,
    rng: Rng,
    context: Sequence[str] = (),
    largest: int = LARGEST,
    progress: Progress = lambda done, total: None,
) -> Shuffled:
    """Let the receiver learn which ids both have; arguments as of `receiver`.

    Returns:
        The shuffled order, for `learn`.

    Raises:
        InputError: An id stands twice in `ids`.
        ProtocolError: As the card says.
    """
    intersection_result.refuse_duplicates(ids)
    b, order = ristretto.random_scalar(rng), rng.permutation(len(ids))
    domain = _domain(context)
    nx = _checked(await peer.recv(Opening), domain, largest)  # (1)
    await peer.send(Opening(len(ids), domain))  # (1)
    width, rounds = _tag_bytes(nx, len(ids)), intersection_result.rounds(nx, len(ids), ROUND)
    x = np.zeros((nx, 2), np.uint64)
    for theirs, mine in rounds:
        points = await offload(_mask, ids, order, mine, domain, b)
        masked = await peer.recv(Masked, points=(_size(theirs), 32))  # (2)
        await peer.send(Own(points))  # (3)
        x[theirs] = await offload(_double, masked.points, b, width, theirs.start)
        if (theirs, mine) == rounds[-1]:
            await offload(_refuse_repeated, x)
        await peer.send(Doubled(as_bytes(x[theirs], width)))  # (4)
        progress(max(theirs.stop, mine.stop), max(nx, len(ids)))
    return Shuffled(order)


def _domain(context: Sequence[str]) -> bytes:
    """Hash the context, length-prefixed, into the tag that separates this run's hashes from all others'."""
    return b"atoll/ecdh-intersection/v1/" + context_hash(context)


def _checked(opening: Opening, domain: bytes, largest: int) -> int:
    return intersection_result.checked_size(opening.size, opening.context, domain, largest)


def _size(part: slice) -> int:
    return int(part.stop - part.start)


def _tag_bytes(nx: int, ny: int) -> int:
    return max(10, math.ceil((40 + 2 * math.log2(max(nx, ny, 1))) / 8))


def _mask(
    ids: Sequence[bytes], order: NDArray[np.int64], now: slice, domain: bytes, scalar: bytes
) -> NDArray[np.uint8]:
    return ristretto.hash_and_multiply([ids[i] for i in order[now]], domain, scalar)


def _double(points: NDArray[np.uint8], scalar: bytes, width: int, first: int) -> NDArray[np.uint64]:
    """Multiply a peer's points, and keep `width` bytes of each; the lowest byte holds the sign bit and is skipped."""
    return as_words(ristretto.multiply(points, scalar, first=first)[:, 1 : 1 + width])


def _refuse_repeated(tags: NDArray[np.uint64]) -> None:
    order = np.lexsort((tags[:, 1], tags[:, 0]))
    if (tags[order[1:]] == tags[order[:-1]]).all(1).any():
        raise ProtocolError("the peer sent one point more than once")


def _join(x: NDArray[np.uint64], y: NDArray[np.uint64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the places of equal tags in x and in y."""
    both = np.concatenate((x, y))
    order = np.lexsort((both[:, 1], both[:, 0]))
    left, right = order[:-1], order[1:]
    same = np.flatnonzero((both[left] == both[right]).all(1))
    low, high = np.minimum(left[same], right[same]), np.maximum(left[same], right[same])
    if ((low >= len(x)) | (high < len(x))).any():
        raise ProtocolError("the peer sent one point more than once")
    return low, high - len(x)


PROTOCOL = Protocol(
    name="ecdh-intersection",
    version=1,
    title="Set intersection by Diffie-Hellman masks: common ids, and nothing else",
    card=CARD,
    roles={"receiver": receiver, "sender": sender},
    messages=(Opening, Masked, Own, Doubled),
    uses=(intersection_result.PROTOCOL,),
)
