"""Count and column sums over the common ids of two sites, without either learning which ids are common.

Receiver, ids X with columns                               Sender, ids Y with columns
(1) `hidden-rows`: shares of all columns in every bin that holds a common id, and zeros elsewhere
    each adds up its shares over all bins
(2) `hidden-table`: shares of g = [count ≥ minimum], from the shares of the count
(3) `masked-values`: shares of g · count and g · sums
(4) tells its shares of g, g · count, g · sums to whom the result is for, or both tell each other
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from atoll.core.channel import Channel
from atoll.core.errors import InputError, ProtocolError
from atoll.core.message import U64, Message
from atoll.core.protocol import Card, Protocol
from atoll.crypto.random import Rng
from atoll.protocols import hidden_rows, hidden_table, masked_values

TO = ("receiver", "sender", "both")
"""Whom the result is for."""

MOST = 1 << 30
"""Largest minimum; counts stay far below it."""

Words = NDArray[np.uint64]


class Opened(Message, frozen=True):
    """(4) to a side that the result is for: shares of g, of g · count and of g · sums, (2 + columns,)."""

    shares: U64


@dataclass(frozen=True)
class Totals:
    """What was opened.

    Attributes:
        enough: Whether at least `minimum` ids are common; otherwise the rest is zero.
        count: How many ids are common.
        receiver: Sums of the receiver's columns over the common ids, int64.
        sender: Sums of the sender's columns, int64.
    """

    enough: bool
    count: int
    receiver: NDArray[np.int64]
    sender: NDArray[np.int64]


async def receiver(
    peer: Channel,
    ids: Sequence[bytes],
    columns: NDArray[np.int64],
    *,
    others: int,
    minimum: int,
    to: str = "receiver",
    rng: Rng,
    context: Sequence[str] = (),
) -> Totals | None:
    """Sum over the common ids.

    Args:
        peer: Channel to the sender.
        ids: nx canonical ids without duplicates.
        columns: (nx, k) int64; nx times the largest size of a value stays below 2^63.
        others: Columns of the sender.
        minimum: Fewest common ids for which anything is told, 0 to `MOST`.
        to: Whom the result is for, one of `TO`.
        rng: Secret randomness.
        context: Job and columns; what both sites must agree on before ids are compared.

    Returns:
        The result, or nothing where it is for the other side alone.

    Raises:
        InputError: An id stands twice, columns or minimum do not fit.
        ProtocolError: As the card says.
    """
    _check(ids, columns, minimum, to)
    tools = await hidden_rows.receiver_tools(peer, rng=rng)
    terms = _terms(context, minimum, to)
    rows = await hidden_rows.receiver(peer, ids, columns, others=others, tools=tools, rng=rng, context=terms)  # (1)
    totals = _totals(rows)
    excess = totals[0, :1] - np.uint64(minimum)
    enough = await hidden_table.negative_chooser(peer, excess, stock=tools.tables) ^ np.uint8(1)  # (2)
    gated = await masked_values.holder(peer, enough, totals, ot=tools.sending, rng=rng)  # (3)
    gated += await masked_values.partner(peer, enough, totals.shape[1], ot=tools.receiving, rng=rng)
    limits = minimum, min(len(ids), rows.others)
    return await _open(peer, enough, gated, columns.shape[1], to, "receiver", limits)  # (4)


async def sender(
    peer: Channel,
    ids: Sequence[bytes],
    columns: NDArray[np.int64],
    *,
    others: int,
    minimum: int,
    to: str = "receiver",
    rng: Rng,
    context: Sequence[str] = (),
) -> Totals | None:
    """Sum over the common ids; arguments, result and errors as of `receiver`, `others` being the receiver's columns."""
    _check(ids, columns, minimum, to)
    tools = await hidden_rows.sender_tools(peer, rng=rng)
    terms = _terms(context, minimum, to)
    rows = await hidden_rows.sender(peer, ids, columns, others=others, tools=tools, rng=rng, context=terms)  # (1)
    totals = _totals(rows)
    enough = await hidden_table.negative_owner(peer, totals[0, :1], stock=tools.tables)  # (2)
    gated = await masked_values.partner(peer, enough, totals.shape[1], ot=tools.receiving, rng=rng)  # (3)
    gated += await masked_values.holder(peer, enough, totals, ot=tools.sending, rng=rng)
    limits = minimum, min(len(ids), rows.others)
    return await _open(peer, enough, gated, others, to, "sender", limits)  # (4)


def _check(ids: Sequence[bytes], columns: NDArray[np.int64], minimum: int, to: str) -> None:
    hidden_rows.check_columns(ids, columns)
    if columns.size and len(ids) * max(int(columns.max()), -int(columns.min())) >= 1 << 63:
        raise InputError(
            "a sum of a column could reach 2^63, where it would wrap around",
            cure="Scale the column down, or leave rows with extreme values out.",
        )
    if to not in TO:
        raise InputError(f"a result can be for {', '.join(TO)}, not for {to!r}")
    if not 0 <= minimum <= MOST:
        raise InputError(f"the fewest common ids are 0 to {MOST:,}, not {minimum:,}")


def _terms(context: Sequence[str], minimum: int, to: str) -> tuple[str, ...]:
    """Return what both sites must agree on: the result shows more or less with it."""
    return (*context, "hidden-sum", str(minimum), to)


def _totals(rows: hidden_rows.Rows) -> Words:
    """Add up the shares of all bins, (1, 1 + columns): the count, the receiver's columns, the sender's."""
    parts = (rows.members[:, np.newaxis], rows.receiver, rows.sender)
    return np.concatenate([part.sum(axis=0, dtype=np.uint64) for part in parts])[np.newaxis]


async def _open(
    peer: Channel, enough: NDArray[np.uint8], gated: Words, k: int, to: str, role: str, limits: tuple[int, int]
) -> Totals | None:
    """Open the shares to whom the result is for; `limits` bound the count, and `k` columns are the receiver's."""
    mine = np.concatenate((enough.astype(np.uint64), gated[0]))
    if to != role:
        await peer.send(Opened(mine))  # (4)
    if to not in (role, "both"):
        return None
    theirs = (await peer.recv(Opened, shares=(len(mine),))).shares  # (4)
    if theirs[0] > 1:
        raise ProtocolError(f"{peer.peer} sent something else than a bit")
    told, sums = bool(mine[0] ^ theirs[0]), mine[1:] + theirs[1:]
    count = int(sums[0])
    if not (limits[0] <= count <= limits[1] if told else not sums.any()):
        raise ProtocolError(f"the shares of {peer.peer} do not fit: {count:,} ids would be common")
    values = sums[1:].view(np.int64)
    return Totals(told, count, values[:k], values[k:])


PROTOCOL = Protocol(
    name="hidden-sum",
    version=1,
    title="Count and sums over the common ids, which nobody learns",
    card=Card(
        source="Atoll, on `hidden-rows`; the task is that of Ion et al., IEEE EuroS&P 2020 (private "
        "intersection-sum), here with a hidden count below the minimum and columns of both sides.",
        security="Semi-honest, 2 parties, computational 128 bits, as `hidden-rows`.",
        inputs="receiver and sender: ids as of `circuit-intersection`, a row of int64 for each id, the same minimum "
        "and the same `to`. Sums stay below 2^63 in size and are exact.",
        reveals={
            "receiver": (
                "The number ny of the sender's ids.",
                "Where the result is for it: whether at least `minimum` ids are common, and only if so their number "
                "and the sums of all columns over them.",
                "Never which ids are common.",
            ),
            "sender": (
                "The number nx of the receiver's ids.",
                "Where the result is for it: the same as the receiver.",
                "Never which ids are common.",
            ),
        },
        cost="That of `hidden-rows`, and about 100 kB.",
        fails="ProtocolError when sites differ in job, columns, minimum or `to`, when opened shares cannot be a "
        "result, and as the protocols below; InputError on own duplicates, or on columns of another shape or with too "
        "large values.",
        assurance="tested",
        notes=(
            "Repeated runs with changed inputs show the difference: keep a log of runs.",
            "A sum over few ids says much about each: choose the minimum for the data.",
            "The minimum is compared on shares: a count below it stays hidden, too.",
        ),
    ),
    roles={"receiver": receiver, "sender": sender},
    messages=(Opened,),
    uses=(hidden_rows.PROTOCOL, masked_values.PROTOCOL, hidden_table.PROTOCOL),
)
