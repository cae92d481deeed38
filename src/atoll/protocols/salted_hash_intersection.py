"""Set intersection by comparing salted hashes.  Weak, and no protection at all for ids that can be guessed.

Receiver, ids X                                            Sender, ids Y
(1) both tell their number of ids; the receiver draws the salt, which both know
                                                           (2) sends SHA-256(salt, y) for its ids in shuffled order
hashes its own ids under the salt and compares

Whoever knows the salt can hash every id that exists and look each up in (2).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from functools import partial

import numpy as np
from numpy.typing import NDArray

from atoll.core.channel import Channel
from atoll.core.errors import ProtocolError
from atoll.core.message import U8, Message
from atoll.core.offload import offload
from atoll.core.protocol import Card, Protocol
from atoll.crypto.random import Rng
from atoll.protocols import intersection_result
from atoll.protocols.intersection_result import Matches, Progress, Shuffled, context_hash

LARGEST = 1 << 24
"""Most ids of one site, unless the caller allows more."""

SALT_BYTES = 16


class Opening(Message, frozen=True):
    """(1) both: number of ids, a hash of what must agree, and from the receiver the salt."""

    size: int
    context: bytes
    salt: bytes


class Hashes(Message, frozen=True):
    """(2) sender → receiver: the first bytes of the hashes of its ids, in shuffled order: its ids, to who can guess."""

    hashes: U8


async def receiver(
    peer: Channel,
    ids: Sequence[bytes],
    *,
    rng: Rng,
    context: Sequence[str] = (),
    largest: int = LARGEST,
    progress: Progress = lambda done, total: None,
) -> Matches:
    """Learn which ids the sender has, too, and, by guessing, all that it has.

    Args:
        peer: Channel to the sender.
        ids: nx canonical ids without duplicates.
        rng: Secret randomness.
        context: Job and columns; what both sites must agree on before ids are compared.
        largest: Most ids the sender may announce.
        progress: Called with steps done and steps in all.

    Raises:
        InputError: An id stands twice in `ids`.
        ProtocolError: As the card says.
    """
    intersection_result.refuse_duplicates(ids)
    domain, salt = context_hash(context), rng.bytes(SALT_BYTES)
    await peer.send(Opening(len(ids), domain, salt))  # (1)
    ny = _checked(await peer.recv(Opening), domain, largest)  # (1)
    width = intersection_result.tag_bytes(len(ids), ny)
    mine = await offload(hashes_of, ids, salt, domain, width)
    progress(1, 2)
    theirs = (await peer.recv(Hashes, hashes=(ny, width))).hashes  # (2)
    matches = await offload(intersection_result.match_tags, mine, theirs)
    progress(2, 2)
    return matches


receive_from_all = partial(intersection_result.receive_separately, receiver)
"""Be the receiver towards several senders at once, each under a salt of its own; arguments as of `receiver`."""


async def sender(
    peer: Channel,
    ids: Sequence[bytes],
    *,
    rng: Rng,
    context: Sequence[str] = (),
    largest: int = LARGEST,
    progress: Progress = lambda done, total: None,
) -> Shuffled:
    """Let the receiver learn which ids both have, and whatever else it guesses; arguments as of `receiver`.

    Returns:
        The shuffled order.

    Raises:
        InputError: An id stands twice in `ids`.
        ProtocolError: As the card says.
    """
    intersection_result.refuse_duplicates(ids)
    domain = context_hash(context)
    opening = await peer.recv(Opening)  # (1)
    nx = _checked(opening, domain, largest)
    if len(opening.salt) != SALT_BYTES:
        raise ProtocolError(f"{peer.peer} sent a salt of {len(opening.salt)} bytes")
    await peer.send(Opening(len(ids), domain, b""))  # (1)
    order, width = rng.permutation(len(ids)), intersection_result.tag_bytes(nx, len(ids))
    hashes = await offload(hashes_of, [ids[i] for i in order], opening.salt, domain, width)
    progress(1, 2)
    await peer.send(Hashes(hashes))  # (2)
    progress(2, 2)
    return Shuffled(order)


def hashes_of(ids: Iterable[bytes], salt: bytes, domain: bytes, width: int) -> NDArray[np.uint8]:
    """Return the first `width` bytes of SHA-256(salt, job, id) for every id, (n, width).

    Public, for this is also the whole attack: hash all ids that may exist, and compare.
    """
    salted = hashlib.sha256(b"atoll/salted-hash-intersection/v1/" + salt + domain)
    out = []
    for item in ids:
        sha = salted.copy()
        sha.update(item)
        out.append(sha.digest()[:width])
    return np.frombuffer(b"".join(out), np.uint8).reshape(-1, width)


def _checked(opening: Opening, domain: bytes, largest: int) -> int:
    return intersection_result.checked_size(opening.size, opening.context, domain, largest)


PROTOCOL = Protocol(
    name="salted-hash-intersection",
    version=1,
    title="Set intersection by comparing salted hashes: no protection for ids that can be guessed",
    card=Card(
        source="Folklore; why it fails: Hagen et al., All the numbers are US, NDSS 2021 (hashes of phone numbers).",
        security="None against the other site when ids come from a space that can be counted through, such as phone "
        "numbers or identity numbers. Outsiders see nothing, for messages travel under TLS.",
        inputs="receiver: nx ids; sender: ny ids; each canonical (`atoll.align`) and without duplicates, as bytes.",
        reveals={
            "receiver": (
                "Every id of the sender that it can guess, common or not: it hashes all phone numbers and looks.",
                "The number ny of the sender's ids.",
                "Which of its own ids the sender has, too, and at which positions of the sender's shuffled list.",
                "In a star: its intersection with every single sender, not only the common one.",
            ),
            "sender": ("The number nx of the receiver's ids.",),
        },
        cost="2 short messages and 10 to 15 ny bytes. About a second for 10^6 ids.",
        fails="ProtocolError when sites differ in job or columns, sizes exceed the limit, a message has another size, "
        "or a hash is repeated; InputError on own duplicates.",
        assurance="tested",
        notes=(
            "Only the sender's hashes travel. Where both sites send theirs, as is usual elsewhere, the sender recovers "
            "the receiver's ids in the same way.",
            "A secret key instead of the salt (HMAC) changes nothing between the two sites, for both must know it.",
            "It is here so that sites can see it fail: a test recovers phone numbers from one message.",
        ),
        weak="The receiver can recover every id of the sender that can be guessed, such as a phone number.",
    ),
    roles={"receiver": receiver, "sender": sender},
    messages=(Opening, Hashes),
    uses=(intersection_result.PROTOCOL,),
)
