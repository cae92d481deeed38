"""Sums of the sender's values over the ids that two sites have in common; neither learns which these are.

Receiver, ids X                                            Sender, ids Y with values v(y)
(1) to (4) of `intersection-size`: the places of common ids in the sender's shuffled list, and so their number
(5) tells the number, if it is not too small               stops if it is too small
(6) oblivious transfer for every place: the receiver gets Σ r + Σ v over its places, the sender keeps Σ r
(7) shares are opened to whom the sites have agreed on
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from atoll.core.channel import Channel
from atoll.core.errors import InputError
from atoll.core.message import U64, Message
from atoll.core.offload import offload
from atoll.core.protocol import Card, Protocol
from atoll.crypto import tmmo
from atoll.crypto.random import Rng
from atoll.protocols import intersection_size, oblivious_transfer
from atoll.protocols.intersection_result import Progress
from atoll.protocols.intersection_size import LARGEST, Count

MINIMUM = 100
"""Fewest common ids over which a sum is opened, unless the caller says otherwise."""

SMALLEST_MINIMUM = 2
"""A sum over one id is that id's value."""

CHUNK = 1 << 18
"""Places at a time: what bounds the memory."""

WIDEST = 256
"""Most columns of values."""

To = Literal["receiver", "sender", "both", "nobody"]
Words = NDArray[np.uint64]


class Corrections(Message, frozen=True):
    """(6) sender, each chunk: what turns the receiver's pads into shares of the values that it chose."""

    words: U64


class Share(Message, frozen=True):
    """(7) to a site that learns the sums: the other's share of each."""

    words: U64


@dataclass(frozen=True)
class Sums:
    """What a site learns.

    Attributes:
        common: The number of common ids.
        sums: (m,) int64 where this site learns them, else None.
        share: (m,) uint64; the two sites' shares add up to the sums modulo 2^64.
    """

    common: int
    sums: NDArray[np.int64] | None
    share: Words


async def receiver(
    peer: Channel,
    ids: Sequence[bytes],
    columns: int = 1,
    *,
    rng: Rng,
    to: To = "both",
    minimum: int = MINIMUM,
    context: Sequence[str] = (),
    largest: int = LARGEST,
    progress: Progress = lambda done, total: None,
) -> Sums:
    """Take part in sums of the sender's values over the common ids.

    Args:
        peer: Channel to the sender.
        ids: nx canonical ids without duplicates.
        columns: m, how many columns of values the sender brings, at most `WIDEST`.
        rng: Secret randomness.
        to: Who learns the sums, the same at both sites; with "nobody" each keeps its share.
        minimum: Fewest common ids, at least 2; with less there is no sum.
        context: Job and columns; what both sites must agree on before ids are compared.
        largest: Most ids the peer may announce.
        progress: Called with ids done and ids in all.

    Returns:
        The number of common ids, and the sums.

    Raises:
        InputError: An id stands twice, the minimum is too small, or fewer ids are common.
        ProtocolError: As the card says.
    """
    _check_parameters(minimum, columns)
    agreed = (*context, to, str(columns))
    counted = await intersection_size.match(
        peer, ids, rng=rng.spawn(), context=agreed, largest=largest, progress=progress
    )
    common = len(counted.places)
    _refuse_few(common, minimum)
    await peer.send(Count(common))  # (5)
    ot = await oblivious_transfer.setup_receiver(peer, rng=rng.spawn())
    chosen, share = np.zeros(counted.others, np.uint8), np.zeros(columns, np.uint64)
    chosen[counted.places] = 1
    for lo in range(0, counted.others, CHUNK):  # (6)
        part = chosen[lo : lo + CHUNK]
        strings = await ot.extend(peer, part)
        corrections = (await peer.recv(Corrections, words=(len(part), columns))).words
        share += await offload(tmmo.receiver_sum, strings.t, part, strings.first, corrections)
    return Sums(
        common, await _opened(peer, share, learns=to in ("receiver", "both"), tells=to in ("sender", "both")), share
    )


async def sender(
    peer: Channel,
    ids: Sequence[bytes],
    values: NDArray[np.int64],
    *,
    rng: Rng,
    to: To = "both",
    minimum: int = MINIMUM,
    context: Sequence[str] = (),
    largest: int = LARGEST,
    progress: Progress = lambda done, total: None,
) -> Sums:
    """Let values be summed over the common ids.

    Args:
        peer: Channel to the receiver.
        ids: ny canonical ids without duplicates.
        values: (ny, m) int64, below 2^62 / ny in size, so that no sum wraps; fractions as fixed-point numbers.
        rng: Secret randomness.
        to: As of `receiver`, and so are the rest.

    Returns:
        The number of common ids, and the sums.

    Raises:
        InputError: An id stands twice, a value is too large, the minimum is too small, or fewer ids are common.
        ProtocolError: As the card says.
    """
    _check_parameters(minimum, values.shape[1] if values.ndim == 2 else 0)
    if values.dtype != np.int64 or len(values) != len(ids):
        raise InputError(f"the values are {values.dtype} of shape {values.shape} for {len(ids):,} ids")
    bound = (1 << 62) // max(len(ids), 1)
    if values.size and not -bound < int(values.min()) <= int(values.max()) < bound:
        raise InputError(f"a value of {len(ids):,} must be below {bound:,} in size", cure="Use a coarser scale.")
    agreed = (*context, to, str(values.shape[1]))
    order, nx = await intersection_size.offer(
        peer, ids, rng=rng.spawn(), context=agreed, largest=largest, progress=progress
    )
    common = await intersection_size.learn(peer, nx, len(ids))  # (5)
    _refuse_few(common, minimum)
    ot = await oblivious_transfer.setup_sender(peer, rng=rng.spawn())
    share = np.zeros(values.shape[1], np.uint64)
    for lo in range(0, len(ids), CHUNK):  # (6)
        rows = np.ascontiguousarray(values[order[lo : lo + CHUNK]]).view(np.uint64)
        strings = await ot.extend(peer, len(rows))
        total, corrections = await offload(tmmo.sender_corrections, strings.q, strings.delta, strings.first, rows)
        share -= total
        await peer.send(Corrections(corrections))
    return Sums(
        common, await _opened(peer, share, learns=to in ("sender", "both"), tells=to in ("receiver", "both")), share
    )


async def _opened(peer: Channel, share: Words, *, learns: bool, tells: bool) -> NDArray[np.int64] | None:
    """Open the sums (7); shares of a run are opened once, so they need no fresh randomness."""
    if tells:
        await peer.send(Share(share))
    if not learns:
        return None
    theirs = (await peer.recv(Share, words=(len(share),))).words
    return (share + theirs).view(np.int64)


def _check_parameters(minimum: int, columns: int) -> None:
    if minimum < SMALLEST_MINIMUM:
        raise InputError(
            f"a minimum of {minimum} ids would open single values",
            cure=f"Ask for {SMALLEST_MINIMUM} common ids at least; {MINIMUM} is usual.",
        )
    if not 1 <= columns <= WIDEST:
        raise InputError(f"{columns} columns of values cannot be summed", cure=f"Bring 1 to {WIDEST}.")


def _refuse_few(common: int, minimum: int) -> None:
    if common < minimum:
        raise InputError(
            f"fewer ids are common than the minimum of {minimum:,}; no sum was made", detail=f"There are {common:,}."
        )


PROTOCOL = Protocol(
    name="intersection-sum",
    version=1,
    title="Sums over the ids that two sites have in common, without showing which these are",
    card=Card(
        source="The count: as `intersection-size`. Sums over it: the shape of Ion et al., EuroS&P 2020 (eprint "
        "2019/723), with oblivious transfers in place of homomorphic encryption: Gilboa, CRYPTO 1999, on "
        "pads of Guo et al., IEEE S&P 2020.",
        security="Semi-honest, 2 parties: as `intersection-size` and `oblivious-transfer`.",
        inputs="receiver: nx ids. sender: ny ids, each with m values of int64 below 2^62 / ny in size.",
        reveals={
            "receiver": (
                "The number ny of the sender's ids.",
                "How many ids are common, and not which.",
                "The m sums, where it is agreed; otherwise a random share of each.",
            ),
            "sender": (
                "The number nx of the receiver's ids.",
                "How many ids are common, and not which; below the minimum, only that it is below.",
                "The m sums, where it is agreed; otherwise a random share of each.",
            ),
        },
        cost="As `intersection-size`, and for each id of the sender 16 + 8 m bytes; the transfers take about a second "
        "for 10^6 ids, the count two minutes on one core at each site.",
        fails="ProtocolError as `intersection-size`, when sites differ in columns or in who learns, or a message has "
        "another size; InputError on own duplicates, values that are too large, a minimum below 2, and fewer common "
        "ids than the minimum.",
        assurance="tested",
        notes=(
            "Sums are exact; nothing is rounded and no noise is added. A sum that is published needs noise.",
            "A malicious receiver could choose other places than the common ones, even a single one at random.",
            "Two runs whose ids differ in one show this one's value: keep a log of runs.",
            "The sender's minimum rests on the number that the receiver tells.",
        ),
    ),
    roles={"receiver": receiver, "sender": sender},
    messages=(Corrections, Share),
    uses=(intersection_size.PROTOCOL, oblivious_transfer.PROTOCOL),
)
