"""Rows of a hidden join: for every bin shares of whether it holds a common id, and of both sites' columns there.

Receiver, ids X with columns                               Sender, ids Y with columns
(1) `circuit-intersection`: shares of membership m_b for every bin b, and of the sender's columns there
(2) `masked-values`, the receiver as the holder: shares of m_b, of m_b · own columns, of m_b · own share of the sender's
(3) `masked-values`, the sender as the holder: shares of m_b · its share of its own columns

Bins without a common id are rows of zeros, so that sums over all bins are sums over the common ids.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from atoll.core.channel import Channel
from atoll.core.errors import InputError
from atoll.core.protocol import Card, Protocol
from atoll.crypto.random import Rng
from atoll.protocols import circuit_intersection, hidden_table, masked_values, oblivious_transfer
from atoll.protocols.oblivious_transfer import OtReceiver, OtSender

Bits = NDArray[np.uint8]
Words = NDArray[np.uint64]


@dataclass(frozen=True, repr=False)
class Rows:
    """This side's shares of the joined rows, one row for each bin.

    Attributes:
        bits: (m,) uint8; XOR of both sides' is 1 where the bin holds a common id.
        members: (m,) uint64; the sum of both sides' modulo 2^64 is the same bit as a number.
        receiver: (m, kx) uint64; the sum is the receiver's columns where the bit is 1, and zero elsewhere.
        sender: (m, ky) uint64; the same of the sender's columns.
        others: The peer's number of ids.
        own: At the receiver (m,) int64, which of its ids is in each bin, or −1; nobody else may see it.
    """

    bits: Bits
    members: Words
    receiver: Words
    sender: Words
    others: int
    own: NDArray[np.int64] | None = None


@dataclass(frozen=True, repr=False)
class ReceiverTools:
    """The receiver's side of what computing on rows takes; set up once, used for everything on this channel."""

    sending: OtSender
    receiving: OtReceiver
    tables: hidden_table.Chooser


@dataclass(frozen=True, repr=False)
class SenderTools:
    """The sender's side of the same."""

    sending: OtSender
    receiving: OtReceiver
    tables: hidden_table.Owner


async def receiver_tools(peer: Channel, *, rng: Rng) -> ReceiverTools:
    """Set up transfers in both directions, as the receiver of the rows."""
    receiving = await oblivious_transfer.setup_receiver(peer, rng=rng.spawn())
    sending = await oblivious_transfer.setup_sender(peer, rng=rng.spawn())
    return ReceiverTools(sending, receiving, hidden_table.Chooser(receiving, rng.spawn()))


async def sender_tools(peer: Channel, *, rng: Rng) -> SenderTools:
    """Set up transfers in both directions, as the sender of the rows."""
    sending = await oblivious_transfer.setup_sender(peer, rng=rng.spawn())
    receiving = await oblivious_transfer.setup_receiver(peer, rng=rng.spawn())
    return SenderTools(sending, receiving, hidden_table.Owner(sending, rng.spawn()))


async def receiver(
    peer: Channel,
    ids: Sequence[bytes],
    columns: NDArray[np.int64],
    *,
    others: int,
    tools: ReceiverTools,
    rng: Rng,
    context: Sequence[str] = (),
) -> Rows:
    """Share the joined rows with the sender.

    Args:
        peer: Channel to the sender.
        ids: nx canonical ids without duplicates.
        columns: (nx, kx) int64.
        others: ky, columns of the sender.
        tools: What `receiver_tools` set up.
        rng: Secret randomness.
        context: Job and columns; what both sites must agree on before ids are compared.

    Returns:
        This side's shares.

    Raises:
        InputError: An id stands twice, or the columns do not fit.
        ProtocolError: As the card says.
    """
    check_columns(ids, columns)
    k, terms = columns.shape[1], (*context, "hidden-rows", str(columns.shape[1]), str(others))
    held = await circuit_intersection.receiver(
        peer, ids, words=others, rng=rng, stock=tools.tables, context=terms
    )  # (1)
    ones = np.ones((len(held.bits), 1), np.uint64)
    mine = np.concatenate((ones, held.spread(columns), held.payload), axis=1)
    here = await masked_values.holder(peer, held.bits, mine, ot=tools.sending, rng=rng)  # (2)
    there = await masked_values.partner(peer, held.bits, others, ot=tools.receiving, rng=rng)  # (3)
    return _rows(held, here, there, k, held.rows)


async def sender(
    peer: Channel,
    ids: Sequence[bytes],
    columns: NDArray[np.int64],
    *,
    others: int,
    tools: SenderTools,
    rng: Rng,
    context: Sequence[str] = (),
) -> Rows:
    """Share the joined rows with the receiver; arguments, result and errors as of `receiver`."""
    check_columns(ids, columns)
    k, terms = columns.shape[1], (*context, "hidden-rows", str(others), str(columns.shape[1]))
    held = await circuit_intersection.sender(peer, ids, columns, rng=rng, stock=tools.tables, context=terms)  # (1)
    here = await masked_values.partner(peer, held.bits, 1 + others + k, ot=tools.receiving, rng=rng)  # (2)
    there = await masked_values.holder(peer, held.bits, held.payload, ot=tools.sending, rng=rng)  # (3)
    return _rows(held, here, there, others, None)


def check_columns(ids: Sequence[bytes], columns: NDArray[np.int64]) -> None:
    """Refuse columns that do not have one row of int64 for each id.

    Raises:
        InputError: They do not.
    """
    if columns.dtype != np.int64 or columns.ndim != 2 or len(columns) != len(ids):
        raise InputError(
            f"the columns have shape {columns.shape} of {columns.dtype}, expected one row of int64 for each of "
            f"{len(ids):,} ids"
        )


def _rows(held: circuit_intersection.Shares, here: Words, there: Words, kx: int, own: NDArray[np.int64] | None) -> Rows:
    """Put the products together: the sender's columns have two, one for each share of their values."""
    return Rows(held.bits, here[:, 0], here[:, 1 : 1 + kx], here[:, 1 + kx :] + there, held.others, own)


PROTOCOL = Protocol(
    name="hidden-rows",
    version=1,
    title="Rows of a hidden join: both sites' columns for the common ids, as shares, and zeros elsewhere",
    card=Card(
        source="Atoll, on `circuit-intersection` and `masked-values`; the use of bins as rows: Pinkas, Schneider, "
        "Tkachenko, Yanai, EUROCRYPT 2019.",
        security="Semi-honest, 2 parties, computational 128 bits, as the protocols that it uses.",
        inputs="receiver and sender: ids as of `circuit-intersection`, and a row of int64 for each id.",
        reveals={
            "receiver": (
                "The number ny of the sender's ids.",
                "Nothing else: its shares are random without the sender's.",
            ),
            "sender": (
                "The number nx of the receiver's ids.",
                "Nothing else: its shares are random without the receiver's.",
            ),
        },
        cost="`circuit-intersection` with the sender's columns as payload; 8 bytes a bin for the bits as numbers, 8 "
        "for each column of the receiver, 16 for each of the sender; up to 2 MB more.",
        fails="ProtocolError when sites differ in job or columns and as the protocols that it uses; InputError on own "
        "duplicates or columns of another shape.",
        assurance="tested",
        notes=(
            "Sums over all bins are sums over the common ids. Open them only over enough ids.",
            "Never open rows one by one: in which bin an id lies depends on the receiver's other ids, too.",
            "A bit that one side knows is a hidden bit, too: its share is the bit, the other side's is 0. So "
            "`masked-values` restricts rows to a group.",
        ),
    ),
    roles={"receiver": receiver, "sender": sender},
    messages=(),
    uses=(
        circuit_intersection.PROTOCOL,
        masked_values.PROTOCOL,
        hidden_table.PROTOCOL,
        oblivious_transfer.PROTOCOL,
    ),
)
