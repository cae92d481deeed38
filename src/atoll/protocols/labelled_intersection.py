"""Set intersection with labels: the receiver learns the labels that the sender has put to common ids, and no others.

Receiver, ids X                                            Sender, ids Y with labels v(y)
(1) to (3) of `vole-oprf`: F(x) for its ids                F(y) for its ids
                                                           (4) tells names and widths of the labels
                                                           (5) sends T(F(y)), v(y) ⊕ G(F(y)), shuffled
compares tags T, takes the pads G off

T and G are independent hashes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from atoll.core.channel import Channel
from atoll.core.errors import InputError, ProtocolError
from atoll.core.message import U8, Message
from atoll.core.offload import offload
from atoll.core.protocol import Card, Protocol
from atoll.crypto import item_hash
from atoll.crypto.random import Rng
from atoll.crypto.stretch import pads
from atoll.protocols import intersection_result, vole_oprf
from atoll.protocols.intersection_result import Matches, Shuffled, as_words

LARGEST = vole_oprf.LARGEST
"""Most ids of one site in one run."""

WIDEST = 1024
"""Most bytes of all labels of one id together."""

NAMES_LIMIT = 64
"""Most sets of labels, and most characters of a set's name."""

TAGS, PADS = b"labelled-intersection/tags", b"labelled-intersection/pads"

Bytes = NDArray[np.uint8]


class Sets(Message, frozen=True):
    """(4) sender → receiver: the sets of labels, each with its name and the bytes of a label."""

    names: list[str]
    widths: list[int]


class Hidden(Message, frozen=True):
    """(5) sender → receiver: for each of its ids a tag, and its labels under a pad, in shuffled order."""

    tags: U8
    labels: U8


@dataclass(frozen=True)
class Labelled:
    """What the receiver learns.

    Attributes:
        matches: Pairs of own indices and places in the sender's shuffled list, in the order of own indices.
        labels: For each set of labels by name (m, width) uint8, in the same order.
    """

    matches: Matches
    labels: Mapping[str, Bytes]


async def receiver(
    peer: Channel,
    ids: Sequence[bytes],
    *,
    rng: Rng,
    context: Sequence[str] = (),
    largest: int = LARGEST,
    widest: int = WIDEST,
) -> Labelled:
    """Learn which ids the sender has, too, and the labels it has put to them.

    Args:
        peer: Channel to the sender.
        ids: nx canonical ids without duplicates.
        rng: Secret randomness.
        context: Job and columns; what both sites must agree on before ids are compared.
        largest: Most ids the sender may announce.
        widest: Most bytes of all labels of an id that the sender may announce.

    Returns:
        Matches and labels.

    Raises:
        InputError: An id stands twice in `ids`.
        ProtocolError: As the card says.
    """
    function = await vole_oprf.receiver(peer, ids, rng=rng, context=context, largest=largest)
    sets = await peer.recv(Sets)  # (4)
    _check_sets(peer.peer, sets, widest)
    ny, width = function.others, intersection_result.tag_bytes(len(ids), function.others)
    hidden = await peer.recv(Hidden, tags=(ny, width), labels=(ny, sum(sets.widths)))  # (5)
    return await offload(_opened, function, hidden, sets)


async def sender(
    peer: Channel,
    ids: Sequence[bytes],
    labels: Mapping[str, Bytes],
    *,
    rng: Rng,
    context: Sequence[str] = (),
    largest: int = LARGEST,
    widest: int = WIDEST,
) -> Shuffled:
    """Let the receiver learn which ids both have, and the labels of these.

    Args:
        peer: Channel to the receiver.
        ids: ny canonical ids without duplicates.
        labels: For each set of labels by name (ny, width) uint8: one label of `width` bytes for every id.
        rng: Secret randomness.
        context: As of `receiver`, and so are the rest.

    Returns:
        The shuffled order, for `intersection_result.learn` where the receiver tells its result.

    Raises:
        InputError: No labels, none for some id, empty or too wide ones, or an id that stands twice.
        ProtocolError: As the card says.
    """
    sets = _announced(labels, len(ids), widest)
    function = await vole_oprf.sender(peer, ids, rng=rng, context=context, largest=largest)
    await peer.send(sets)  # (4)
    shuffle = await offload(rng.permutation, len(ids))
    order = function.found.order[shuffle]
    width = intersection_result.tag_bytes(function.others, len(ids))
    await peer.send(await offload(_hidden, function.values[shuffle], labels, order, width))  # (5)
    return Shuffled(order)


def _announced(labels: Mapping[str, Bytes], n: int, widest: int) -> Sets:
    for name, label in labels.items():
        if label.dtype != np.uint8 or label.ndim != 2 or label.shape[0] != n or not label.shape[1]:
            raise InputError(
                f"the labels {name!r} are {label.dtype} of shape {label.shape}",
                cure=f"Give one label of the same number of bytes, at least one, for each of {n:,} ids.",
            )
    sets = Sets(list(labels), [label.shape[1] for label in labels.values()])
    if not labels or len(labels) > NAMES_LIMIT or max(map(len, labels)) > NAMES_LIMIT or sum(sets.widths) > widest:
        raise InputError(
            f"{len(labels):,} sets of labels with {sum(sets.widths):,} bytes for each id cannot be attached",
            cure=f"Attach 1 to {NAMES_LIMIT} sets with names of up to {NAMES_LIMIT} characters and {widest:,} bytes.",
        )
    return sets


def _check_sets(peer: str, sets: Sets, widest: int) -> None:
    names, widths = sets.names, sets.widths
    if not 1 <= len(names) == len(widths) <= NAMES_LIMIT or len(set(names)) < len(names):
        raise ProtocolError(f"{peer} announces {len(names)} sets of labels and {len(widths)} widths, or one twice")
    if max(map(len, names)) > NAMES_LIMIT or min(widths) < 1 or sum(widths) > widest:
        raise ProtocolError(f"{peer} announces labels of {sum(widths):,} bytes, 1 to {widest:,} are allowed")


def _hidden(values: NDArray[np.uint64], labels: Mapping[str, Bytes], order: NDArray[np.int64], width: int) -> Hidden:
    plain = np.concatenate(list(labels.values()), axis=1)[order]
    return Hidden(pads(values, TAGS, width), plain ^ pads(values, PADS, plain.shape[1]))


def _opened(function: vole_oprf.Outputs, hidden: Hidden, sets: Sets) -> Labelled:
    mine = pads(function.values, TAGS, hidden.tags.shape[1])
    at_mine, at_theirs = item_hash.join(as_words(mine), as_words(hidden.tags))
    if np.bincount(at_mine, minlength=1).max(initial=0) > 1:
        raise ProtocolError("the peer sent one tag more than once")
    rows = function.found.order[at_mine]
    by_row = np.argsort(rows)
    at_mine, at_theirs = at_mine[by_row], at_theirs[by_row]
    plain = hidden.labels[at_theirs] ^ pads(function.values[at_mine], PADS, hidden.labels.shape[1])
    parts = np.split(plain, np.cumsum(sets.widths)[:-1], axis=1)
    return Labelled(Matches(rows[by_row], at_theirs), dict(zip(sets.names, parts, strict=True)))


PROTOCOL = Protocol(
    name="labelled-intersection",
    version=1,
    title="Set intersection with labels: the receiver learns the labels of common ids",
    card=Card(
        source="Rindal and Schoppmann, EUROCRYPT 2021, for the function; that its outputs serve as tags and "
        "as pads of labels: Freedman, Ishai, Pinkas and Reingold, TCC 2005 (keyword search).",
        security="Semi-honest, 2 parties, computational 128 bits, as `vole-oprf`. Tags are cut so that a false match "
        "has a probability below 2^-40.",
        inputs="receiver: nx ids. sender: ny ids, each with a label of fixed width in each of s sets.",
        reveals={
            "receiver": (
                "The number ny of the sender's ids; names and widths of its sets of labels.",
                "Which of its own ids the sender has, too, at which places of the sender's shuffled list, and the "
                "labels of these; nothing of other labels.",
            ),
            "sender": ("The number nx of the receiver's ids.",),
        },
        cost="Bytes: about 11 nx (from 2^24 ids on 22 nx) + (10 to 12 + w) ny for labels of w bytes in all, "
        "and up to 1.2 MB.",
        fails="ProtocolError when sites differ in job or columns, sizes or widths exceed the limit, a message has "
        "another size, or a tag is repeated; InputError on own duplicates and on labels that are missing, empty, of "
        "another width or too wide.",
        assurance="tested",
        notes=(
            "Several labels of one id are packed into one label of fixed width by the caller.",
            "A label is hidden and not authenticated: a malicious sender can send another one than it has.",
            "Repeated runs with changed ids ask for other persons' labels: keep a log of runs.",
        ),
    ),
    roles={"receiver": receiver, "sender": sender},
    messages=(Sets, Hidden),
    uses=(vole_oprf.PROTOCOL, intersection_result.PROTOCOL),
)
