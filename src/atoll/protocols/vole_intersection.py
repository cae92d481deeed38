"""Set intersection by an oblivious pseudorandom function: `receiver` learns which of its ids `sender` has, too.

Receiver, ids X                                            Sender, ids Y
(1) to (3) of `vole-oprf`: F(x) for its ids                F(y) for its ids
                                                           (4) sends F(y), cut and shuffled, among random
                                                               ones if it hides their number
compares
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import partial

import numpy as np
from numpy.typing import NDArray

from atoll.core.channel import Channel
from atoll.core.errors import ProtocolError
from atoll.core.message import U8, Message
from atoll.core.offload import offload
from atoll.core.protocol import Card, Protocol
from atoll.crypto import item_hash, okvs
from atoll.crypto.jit import njit, read_only
from atoll.crypto.random import Rng
from atoll.protocols import intersection_result, vole_oprf
from atoll.protocols.intersection_result import Matches, Progress, Shuffled
from atoll.protocols.vole_oprf import Ids, Security

LARGEST = vole_oprf.LARGEST
"""Most items of one site in one run; `bucketed_intersection` cuts larger sets into buckets."""

Words = NDArray[np.uint64]


class Tags(Message, frozen=True):
    """(4) sender → receiver: the first bytes of F(y) for its ids, in shuffled order."""

    tags: U8


async def receiver(
    peer: Channel,
    ids: Ids,
    *,
    rng: Rng,
    context: Sequence[str] = (),
    largest: int = LARGEST,
    size: int | None = None,
    runs: int = 1,
    security: Security = "semi-honest",
    progress: Progress = lambda done, total: None,
) -> Matches:
    """Learn which ids the sender has, too.

    Args:
        peer: Channel to the sender.
        ids: nx canonical ids without duplicates, or hashes of them, as of `vole_oprf.receiver`.
        rng: Secret randomness.
        context: Job and columns; what both sites must agree on before ids are compared.
        largest: Most ids the sender may announce.
        size: What the sender sees as nx, if not the number itself: at least as many.
        runs: Of how many runs this is one, such that no error in any of them is as likely as 2^-40; public.
        security: What the other site may be; the same at both.
        progress: Called with steps done and steps in all.

    Returns:
        Pairs of own indices and places in the sender's shuffled list.

    Raises:
        InputError: An id stands twice in `ids`.
        ProtocolError: As the card says.
    """
    told = len(ids) if size is None else size
    function = await vole_oprf.receiver(
        peer, ids, rng=rng, context=context, largest=largest, size=size, runs=runs, security=security
    )
    progress(1, 2)
    width = _tag_bytes(told, function.others, runs, security)
    theirs = await peer.recv(Tags, tags=(function.others, width))  # (4)
    matches = await offload(_match, function.found, function.values, theirs.tags)
    progress(2, 2)
    return matches


receive_from_all = partial(intersection_result.receive_separately, receiver)
"""Be the receiver towards several senders at once, each in a run of its own; arguments as of `receiver`."""


async def sender(
    peer: Channel,
    ids: Ids,
    *,
    rng: Rng,
    context: Sequence[str] = (),
    largest: int = LARGEST,
    size: int | None = None,
    runs: int = 1,
    security: Security = "semi-honest",
    progress: Progress = lambda done, total: None,
) -> Shuffled:
    """Let the receiver learn which ids both have; arguments as of `receiver`.

    Returns:
        The shuffled order, of `size` places if that is given; a place without an id has the index -1.

    Raises:
        InputError: An id stands twice in `ids`.
        ProtocolError: As the card says.
    """
    told = len(ids) if size is None else size
    shuffling = asyncio.ensure_future(offload(rng.spawn().permutation, told))
    try:
        function = await vole_oprf.sender(
            peer, ids, rng=rng, context=context, largest=largest, size=size, runs=runs, security=security
        )
        shuffle = await shuffling
    finally:
        shuffling.cancel()
    progress(1, 2)
    width = _tag_bytes(function.others, told, runs, security)
    values, order = await offload(_padded, function, told, rng)
    await peer.send(Tags(await offload(_cut, values, shuffle, width)))  # (4)
    progress(2, 2)
    return Shuffled(order[shuffle])


def _padded(function: vole_oprf.Outputs, size: int, rng: Rng) -> tuple[Words, NDArray[np.int64]]:
    """Add random words to F of the ids, which nobody can tell from F of further ids; and the index of each."""
    values, order = function.values, function.found.order
    missing = size - len(values)
    if not missing:
        return values, order
    return np.concatenate((values, rng.u64(missing, 2))), np.concatenate((order, np.full(missing, -1, np.int64)))


def _tag_bytes(nx: int, ny: int, runs: int = 1, security: Security = "semi-honest") -> int:
    return 16 if security == "malicious" else intersection_result.tag_bytes(nx, ny, runs)


def _match(found: okvs.Places, mine: Words, theirs: NDArray[np.uint8]) -> Matches:
    """Find the ids whose tags the sender sent, in the order of the receiver's own indices."""
    width = theirs.shape[1]
    _shorten(mine, width)
    at_mine, at_theirs = item_hash.join(mine, _widen(theirs))
    place = np.full(len(mine), -1, np.int64)
    place[found.order[at_mine]] = at_theirs
    rows = np.flatnonzero(place >= 0)
    if len(rows) < len(at_mine):
        raise ProtocolError("the peer sent one tag more than once")
    return Matches(rows, place[rows])


def _cut(tags: Words, order: NDArray[np.int64], width: int) -> NDArray[np.uint8]:
    """Return the first bytes of tags in another order, (n, width)."""
    size = len(tags) * width
    words = np.empty(size // 8 + 3, np.uint64)
    _take(tags, order, width - 8, words)
    return words.view(np.uint8)[:size].reshape(-1, width)


def _widen(tags: NDArray[np.uint8]) -> Words:
    out = np.zeros((len(tags), 2), np.uint64)
    _spread(read_only(tags), out.view(np.uint8))
    return out


@njit
def _take(tags: Words, order: NDArray[np.int64], more: int, out: Words) -> None:
    """Write 8 bytes of each tag's first word and `more`, 2 to 8, of its second, without gaps."""
    eight, whole, at, filled, rest = np.uint64(8), np.uint64(64), 0, np.uint64(0), np.uint64(0)
    bits, mask = eight * np.uint64(more), np.uint64(0xFFFFFFFFFFFFFFFF) >> (whole - eight * np.uint64(more))
    for i in range(order.size):
        first, second = tags[order[i], 0], tags[order[i], 1] & mask
        if filled == np.uint64(0):
            out[at], rest = first, np.uint64(0)
        else:
            out[at], rest = rest | (first << filled), first >> (whole - filled)
        at += 1
        if filled + bits < whole:
            rest |= second << filled
            filled += bits
        else:
            out[at] = rest | (second << filled)
            at += 1
            rest = second >> (whole - filled) if filled != np.uint64(0) else np.uint64(0)
            filled = filled + bits - whole
    out[at] = rest


@njit
def _spread(tags: NDArray[np.uint8], out: NDArray[np.uint8]) -> None:
    for i in range(tags.shape[0]):
        for k in range(tags.shape[1]):
            out[i, k] = tags[i, k]


def _shorten(tags: Words, width: int) -> None:
    """Clear what lies behind the first bytes; a tag has 10 to 16 of them."""
    if width < 16:
        tags[:, 1] &= np.uint64((1 << 8 * (width - 8)) - 1)


def warm() -> None:
    """Compile this module's kernels."""
    _widen(_cut(np.zeros((1, 2), np.uint64), np.zeros(1, np.int64), 10))


PROTOCOL = Protocol(
    name="vole-intersection",
    version=1,
    title="Set intersection by a pseudorandom function on silent vector OLE: fast at any size",
    card=Card(
        source="Rindal and Schoppmann, EUROCRYPT 2021; Raghuraman and Rindal, ACM CCS 2022 (eprint 2022/320), "
        "semi-honest form with subfield words, or the malicious form of the former's section 3.",
        security="Semi-honest by default, malicious where both sides ask for it: as `vole-oprf`, 2 parties, "
        "computational 128 bits. False matches below 2^-40: words of 64 bits up to 2^24 ids of a site, "
        "128 beyond; tags of 40 + log2(nx) + log2(ny) bits, at least 80; malicious: 128 and 128.",
        inputs="receiver: nx ids; sender: ny ids; each canonical (`atoll.align`) and without duplicates, as bytes.",
        reveals={
            "receiver": (
                "The number ny of the sender's ids.",
                "Which of its own ids the sender has, too, and at which positions of the sender's shuffled list.",
                "In a star: its intersection with every single sender, not only the common one.",
            ),
            "sender": ("The number nx of the receiver's ids.",),
        },
        cost="Bytes: about 11 nx (from 2^24 ids on 22 nx) + 10 to 12 ny, and up to 1.2 MB; malicious 22 nx + 16 ny. A "
        "second or so for 10^6 ids at each site, on one core each.",
        fails="ProtocolError when sites differ in job, columns or security, sizes exceed the limit, a message has "
        "another size, or a tag is repeated; InputError on own duplicates.",
        assurance="tested",
        notes=(
            "A malicious site can put in ids that it does not have, in either form. The malicious form bounds their "
            "number by the receiver's m, about 1.3 nx, and by ny; the semi-honest form limits sizes only.",
            "Malicious form: the sender is not shown the result by this protocol; what the receiver announces "
            "afterwards (`intersection-result`) it may falsify.",
            "Repeated runs with changed inputs show the difference: keep a log of runs.",
        ),
    ),
    roles={"receiver": receiver, "sender": sender},
    messages=(Tags,),
    uses=(vole_oprf.PROTOCOL, intersection_result.PROTOCOL),
)
