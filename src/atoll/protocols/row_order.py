"""The hub puts matched rows, and rows that a partner lacks, into one order that all sites then work in.

Hub, pair of each of its rows                              Partner, its row of each pair
(1) draws an order of its rows, and tells for each place   has the row of that pair there, or none
    the pair that stands there, or -1
(2)                                                        where the job asks for its other rows, too: appends them
                                                           in random order, and tells how many these are
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from atoll.core.channel import Channel
from atoll.core.errors import ProtocolError
from atoll.core.message import I64, AtMost, Message
from atoll.core.protocol import Card, Protocol
from atoll.crypto.random import Rng

LARGEST = 1 << 30
"""Most rows of a job."""

Rows = NDArray[np.int64]


class Places(Message, frozen=True):
    """(1) hub → partner: for each place of the common order the pair whose row stands there, -1 for none."""

    pairs: I64


class Others(Message, frozen=True):
    """(2) partner → hub: how many rows of its own follow, of which the hub has none."""

    rows: int


async def lead(peer: Channel, pairs: Rows, *, others: bool = False) -> int:
    """Be the hub towards one partner.

    Args:
        peer: Channel to the partner.
        pairs: (n,) pair at each place, -1 where the partner has no row.
        others: Whether the partner's other rows follow.

    Returns:
        How many rows follow.

    Raises:
        ProtocolError: As the card says.
    """
    await peer.send(Places(pairs))  # (1)
    if not others:
        return 0
    rows = (await peer.recv(Others)).rows  # (2)
    if not 0 <= rows <= LARGEST:
        raise ProtocolError(f"the peer announces {rows:,} other rows, at most {LARGEST:,} are allowed")
    return rows


async def follow(
    peer: Channel, matched: Rows, *, absent: bool, repeats: bool, others: Rows | None = None, rng: Rng
) -> Rows:
    """Be a partner.

    Args:
        peer: Channel to the hub.
        matched: (m,) own row of each pair.
        absent: Whether the job has rows that this site lacks.
        repeats: Whether rows of the hub may share a pair.
        others: Own rows that follow, where the job asks for them.
        rng: Secret randomness.

    Returns:
        Own row at each place, -1 where there is none.

    Raises:
        ProtocolError: As the card says.
    """
    pairs = (await peer.recv(Places, pairs=(AtMost(LARGEST),))).pairs  # (1)
    if pairs.size and not (0 if not absent else -1) <= pairs.min() <= pairs.max() < len(matched):
        raise ProtocolError("the common order names a pair that there is not")
    times = np.bincount(pairs[pairs >= 0], minlength=len(matched))
    if times.min(initial=1) < 1 or (times.max(initial=1) > 1 and not repeats):
        raise ProtocolError("the common order leaves out a pair, or names one twice")
    rows = np.append(matched, -1)[pairs]
    if others is None:
        return rows
    await peer.send(Others(len(others)))  # (2)
    return np.concatenate((rows, others[rng.permutation(len(others))]))


PROTOCOL = Protocol(
    name="row-order",
    version=1,
    title="The label holder tells a partner the order of rows, where some are repeated or missing at the partner",
    card=Card(
        source="Atoll.",
        security="Nothing is hidden: the order is the message. Its places are drawn at random, and a place where the "
        "partner has no row says nothing of the hub's row there.",
        inputs="hub: for each of its rows that take part, the pair that it belongs to. partner: its row of each pair.",
        reveals={
            "hub": ("Where the job takes the rows of both: how many of the partner's rows the hub lacks.",),
            "partner": (
                "How many rows of the hub take part, and so how many of them it has no row for.",
                "Where the job lets the hub's rows repeat an id: how often each of its own matched rows stands there.",
            ),
        },
        cost="1 message, 8 bytes for each row of the hub; 1 more of 30 bytes for the rows of both.",
        fails="ProtocolError if a place names a pair that there is not, or if pairs are left out, repeated or missing "
        "and the job does not allow it.",
        assurance="tested",
    ),
    roles={"hub": lead, "partner": follow},
    messages=(Places, Others),
)
