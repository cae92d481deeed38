"""Circuit intersection: both sides get shares of which bins hold a common id, and of the sender's payload there.

Receiver, ids X                                            Sender, ids Y with payloads
(1) places each id in one of its three bins; tells sizes
    and the seed of all public hashes                      (1) tells sizes
(2) `vole-oprf` on (x, bin of x), dummies in empty bins    on (y, b) for the three bins b of every y
                                                           (3) draws a target r_b and masks s_b for every bin; sends a
                                                               key-value store, (y, b) to (r_b, payload − s_b) ⊕ F(y, b)
(4) takes r′_b and its share of the payload out
(5) `hidden-table`: shares of [r_b = r′_b] for every bin

A share of a payload means something only in bins that hold a common id; elsewhere both shares are noise.  Multiply by
the bit (`masked-values`) before anything is added up.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from atoll.core.channel import Channel
from atoll.core.errors import InputError, ProtocolError
from atoll.core.message import U64, Message
from atoll.core.offload import offload
from atoll.core.protocol import Card, Protocol
from atoll.crypto import cuckoo, filled_store, item_hash, okvs
from atoll.crypto.random import Rng
from atoll.crypto.stretch import stretch
from atoll.protocols import hidden_table, oblivious_transfer, vole_oprf
from atoll.protocols.intersection_result import context_hash

HASHES = 3
"""Bins of an id."""

LARGEST = vole_oprf.LARGEST
"""Most bins, and most pairs of an id and a bin; larger sets are cut into buckets."""

TRIES = 8
"""Seeds that are tried; each fails with a probability below 2^-40."""

COLUMNS = 4
"""Words that one store holds for a key: what bounds the memory."""

WIDEST = 1 << 10
"""Most words of a payload."""

Bits = NDArray[np.uint8]
Words = NDArray[np.uint64]


class Opening(Message, frozen=True):
    """(1) both: number of ids, words of a payload, a hash of what must agree, and from the receiver the seed."""

    size: int
    words: int
    context: bytes
    seed: bytes


class Hint(Message, frozen=True):
    """(3) sender → receiver: a store's seed and its words, (size for 3 ny keys, up to `COLUMNS`).

    The first column of the first store is the target; payload words follow, as many stores as they need.
    """

    seed: bytes
    words: U64


@dataclass(frozen=True, repr=False)
class Shares:
    """This side's part of a hidden intersection, bin by bin.

    Attributes:
        bits: (m,) uint8; XOR of both sides' gives 1 where the bin holds a common id.
        payload: (m, k) uint64; the sum of both sides' modulo 2^64, or the XOR where the sender says so, is the payload
            where the bit is 1, else noise.
        others: The peer's number of ids.
    """

    bits: Bits
    payload: Words
    others: int


@dataclass(frozen=True, repr=False)
class Binned(Shares):
    """The receiver's part.

    Attributes:
        rows: (m,) int64, which of its own ids is in each bin, or −1.  Nobody else may see it.
    """

    rows: NDArray[np.int64]

    def spread(self, values: NDArray[np.int64]) -> Words:
        """Put own values, one row for each id, (nx, …), into the bins, as integers modulo 2^64; zero in empty bins."""
        out = np.zeros((len(self.rows), *values.shape[1:]), np.uint64)
        used = self.rows >= 0
        out[used] = values[self.rows[used]].view(np.uint64)
        return out


@dataclass(frozen=True)
class _Public:
    """What both sides derive from the seed: keys of the hashes of ids and of bins."""

    items: bytes
    bins: bytes

    @classmethod
    def of(cls, seed: bytes, context: bytes) -> _Public:
        keys = hashlib.sha512(b"atoll/circuit-intersection/v1/" + seed + context).digest()
        return cls(keys[:16], keys[16:32])


def bins(nx: int) -> int:
    """Return the number m of bins for nx ids of the receiver."""
    return HASHES * cuckoo.third(nx)


async def receiver(
    peer: Channel,
    ids: Sequence[bytes],
    *,
    words: int = 0,
    rng: Rng,
    stock: hidden_table.Chooser | None = None,
    context: Sequence[str] = (),
    largest: int = LARGEST,
) -> Binned:
    """Place the ids in bins, and share with the sender which bins hold an id that it has, too.

    Args:
        peer: Channel to the sender.
        ids: nx canonical ids without duplicates.
        words: k, words of the sender's payload.
        rng: Secret randomness.
        stock: Hidden tables, where more of them are used afterwards; otherwise they are set up here.
        context: Job and columns; what both sites must agree on before ids are compared.
        largest: Most ids the peer may announce.

    Returns:
        This side's shares, and which id is in which bin.

    Raises:
        InputError: An id stands twice in `ids`, or they are too many.
        ProtocolError: As the card says.
    """
    domain, m = context_hash(context), bins(len(ids))
    _check_own(len(ids), m)
    seed, rows, tagged = await offload(_placed, ids, domain, rng)
    await peer.send(Opening(len(ids), words, domain, seed))  # (1)
    ny = _checked(await peer.recv(Opening), words, domain, min(largest, LARGEST // HASHES))  # (1)
    function = await vole_oprf.receiver(peer, tagged, rng=rng, context=context)  # (2)
    del tagged  # 100 MB for a million ids, and so is the function
    if function.others != HASHES * ny:
        raise ProtocolError(f"{peer.peer} evaluates {function.others:,} pairs for {ny:,} ids")
    found = np.empty((m, 1 + words), np.uint64)
    for number, part in enumerate(_columns(1 + words)):
        store = await _received(peer, ny, part)  # (3)
        await offload(_take, function, store, number, found[:, part])  # (4)
    del function
    if stock is None:
        ot = await oblivious_transfer.setup_receiver(peer, rng=rng.spawn())
        stock = hidden_table.Chooser(ot, rng.spawn())
    await stock.prepare(peer, hidden_table.lookups_for_equality(m))
    targets = np.ascontiguousarray(found[:, 0])
    bits = await hidden_table.equal_chooser(peer, targets, stock=stock)  # (5)
    return Binned(bits, np.ascontiguousarray(found[:, 1:]), ny, rows)


async def sender(
    peer: Channel,
    ids: Sequence[bytes],
    payload: NDArray[np.int64] | None = None,
    *,
    rng: Rng,
    exclusive: bool = False,
    stock: hidden_table.Owner | None = None,
    context: Sequence[str] = (),
    largest: int = LARGEST,
) -> Shares:
    """Share with the receiver which of its bins hold a common id, and one's payload there.

    Args:
        peer: Channel to the receiver.
        ids: ny canonical ids without duplicates.
        payload: (ny, k) int64, what belongs to each id; nothing where it is left out.
        rng: Secret randomness.
        exclusive: Whether the payload is strings of bits, whose shares are joined by XOR; the receiver must know it.
        stock: Hidden tables, where more of them are used afterwards; otherwise they are set up here.
        context: As of `receiver`, and so is the rest.

    Returns:
        This side's shares.

    Raises:
        InputError: An id stands twice in `ids`, they are too many, or the payload has another length.
        ProtocolError: As the card says.
    """
    values = _payload(len(ids), payload)
    domain, k = context_hash(context), values.shape[1]
    _check_own(len(ids), HASHES * len(ids))
    opening = await peer.recv(Opening)  # (1)
    nx = _checked(opening, k, domain, largest)
    m = bins(nx)
    if m > LARGEST:
        raise ProtocolError(f"{peer.peer} announces {nx:,} ids, which need more than {LARGEST:,} bins")
    if len(opening.seed) != 16:
        raise ProtocolError(f"{peer.peer} sent a seed of {len(opening.seed)} bytes")
    await peer.send(Opening(len(ids), k, domain, b""))  # (1)
    at, tagged = await offload(_tagged, ids, _Public.of(opening.seed, domain), m)
    function = await vole_oprf.sender(peer, tagged, rng=rng, context=context)  # (2)
    del tagged  # 200 MB for a million ids, and so is the function
    if function.others != m:
        raise ProtocolError(f"{peer.peer} evaluates {function.others:,} bins, {m:,} belong to {nx:,} ids")
    drawn = rng.u64(m, 1 + k)
    for number, part in enumerate(_columns(1 + k)):
        store = await offload(_hinted, function, at, values, drawn, number, part, rng.spawn(), exclusive)
        await peer.send(Hint(store.seed, store.words))  # (3)
    del function
    if stock is None:
        ot = await oblivious_transfer.setup_sender(peer, rng=rng.spawn())
        stock = hidden_table.Owner(ot, rng.spawn())
    await stock.prepare(peer, hidden_table.lookups_for_equality(m))
    targets, masks = np.ascontiguousarray(drawn[:, 0]), np.ascontiguousarray(drawn[:, 1:])
    return Shares(await hidden_table.equal_owner(peer, targets, stock=stock), masks, nx)  # (5)


def _payload(ny: int, payload: NDArray[np.int64] | None) -> Words:
    if payload is None:
        return np.empty((ny, 0), np.uint64)
    if payload.dtype != np.int64 or payload.ndim != 2 or len(payload) != ny or payload.shape[1] > WIDEST:
        raise InputError(
            f"the payload has shape {payload.shape} of {payload.dtype}, expected one row of at most {WIDEST:,} int64 "
            f"for each of {ny:,} ids"
        )
    return np.ascontiguousarray(payload).view(np.uint64)


def _check_own(n: int, pairs: int) -> None:
    if pairs > LARGEST:
        raise InputError(
            f"{n:,} ids are too many for one run, which takes {LARGEST:,} bins or pairs",
            cure="Cut the ids into buckets by a hash that both sites know, and run once for each.",
        )


def _checked(opening: Opening, words: int, domain: bytes, largest: int) -> int:
    if opening.context != domain:
        raise ProtocolError("the sites compare ids of different jobs or columns")
    if not 0 <= opening.size <= largest:
        raise ProtocolError(f"the peer announces {opening.size:,} ids, at most {largest:,} are allowed")
    if opening.words != words:
        raise ProtocolError(f"the peer speaks of {opening.words:,} words of payload, this side of {words:,}")
    return opening.size


def _hashed(ids: Sequence[bytes], key: bytes) -> Words:
    keys = item_hash.hash_items(ids, key)
    repeated = item_hash.repeated(keys)
    if repeated:
        raise InputError(
            f"{repeated:,} of {len(ids):,} ids are duplicates",
            cure="Align by atoll.align, which keeps each id once and remembers its rows.",
        )
    return keys


def _placed(ids: Sequence[bytes], domain: bytes, rng: Rng) -> tuple[bytes, NDArray[np.int64], list[bytes]]:
    """Draw a seed, place ids in bins; return the seed, the id in each bin, and what the function is evaluated on."""
    size = cuckoo.third(len(ids))
    for _ in range(TRIES):
        seed = rng.bytes(16)
        public = _Public.of(seed, domain)
        keys = _hashed(ids, public.items)
        try:
            rows = cuckoo.place(cuckoo.bins_of(keys, public.bins, size), size).astype(np.int64)
        except cuckoo.NotPlaceable:
            continue
        items = rng.u64(len(rows), 2)  # dummies: nobody else has them
        items[rows >= 0] = keys[rows[rows >= 0]]
        return seed, rows, _in_bins(items, np.arange(len(rows), dtype=np.uint64))
    raise ProtocolError("the ids could not be placed in bins", cure="Run again.")


def _tagged(ids: Sequence[bytes], public: _Public, m: int) -> tuple[NDArray[np.int64], list[bytes]]:
    """Return the bins of the ids, (3 ny,), and what the function is evaluated on."""
    keys = _hashed(ids, public.items)
    at = cuckoo.bins_of(keys, public.bins, m // HASHES).reshape(-1)
    return at.astype(np.int64), _in_bins(np.repeat(keys, HASHES, axis=0), at.astype(np.uint64))


def _in_bins(keys: Words, at: NDArray[np.uint64]) -> list[bytes]:
    """Tie hashed ids to bins; bins differ in far fewer bits than hashes do, so that no two pairs meet."""
    keys[:, 1] ^= at
    tied: list[bytes] = keys.view("V16").reshape(-1).tolist()
    return tied


def _columns(count: int) -> list[slice]:
    """Cut the words of a bin, its target and its payload, into stores."""
    return [slice(lo, min(lo + COLUMNS, count)) for lo in range(0, count, COLUMNS)]


def _pads(function: vole_oprf.Outputs, number: int, columns: int) -> Words:
    """Return words, (n, columns), for a store that whoever lacks F cannot tell from noise, in the function's order."""
    count = -(-columns // 2)
    blocks = stretch(function.values, b"circuit-intersection/%d" % number, count)
    return blocks.reshape(len(blocks), 2 * count)[:, :columns]


def _hinted(
    function: vole_oprf.Outputs,
    at: NDArray[np.int64],
    values: Words,
    drawn: Words,
    number: int,
    part: slice,
    rng: Rng,
    exclusive: bool,
) -> filled_store.Store:
    """Store for every pair some columns of the bin's target and of payload less the bin's mask, under F of the pair.

    Args:
        function: F of all pairs, three for each id.
        at: Bins of the pairs, (3 ny,).
        values: Payloads, (ny, k).
        drawn: Targets and masks of the bins, (m, 1 + k).
        number: The store's number.
        part: Its columns.
        rng: Secret randomness.
        exclusive: Whether masks are taken off by XOR.
    """
    order = function.found.order
    stored = drawn[at[order], part]
    first = max(part.start, 1)
    mine, masks = values[order // HASHES, first - 1 : part.stop - 1], stored[:, first - part.start :]
    stored[:, first - part.start :] = mine ^ masks if exclusive else mine - masks
    stored ^= _pads(function, number, stored.shape[1])
    try:
        return filled_store.encode(function.found.keys, stored, okvs.Shape(max(len(order), 1)), rng)
    except okvs.NotEncodable:
        raise ProtocolError(
            "the pairs could not be encoded, which happens once in 2^40 runs", cure="Run again."
        ) from None


async def _received(peer: Channel, ny: int, part: slice) -> filled_store.Store:
    shape = okvs.Shape(max(HASHES * ny, 1))
    hint = await peer.recv(Hint, words=(shape.words, part.stop - part.start))
    if len(hint.seed) != 16:
        raise ProtocolError(f"{peer.peer} sent a seed of {len(hint.seed)} bytes")
    return filled_store.Store(hint.seed, hint.words)


def _take(function: vole_oprf.Outputs, store: filled_store.Store, number: int, out: Words) -> None:
    """Write what a store holds for every bin's item, (m, columns)."""
    shape = okvs.Shape(max(function.others, 1))
    values = filled_store.decode(store, function.found.keys, shape)
    out[function.found.order] = values ^ _pads(function, number, values.shape[1])


PROTOCOL = Protocol(
    name="circuit-intersection",
    version=1,
    title="Set intersection whose result nobody learns: shares of membership and payload",
    card=Card(
        source="Pinkas, Schneider, Tkachenko, Yanai, EUROCRYPT 2019 (a target for every bin, programmed by a "
        "pseudorandom function); Rindal and Schoppmann, EUROCRYPT 2021; Raghuraman and Rindal, ACM CCS 2022 "
        "(eprint 2022/320); equality by `hidden-table` in place of AND gates.",
        security="Semi-honest, 2 parties, computational 128 bits: what `vole-oprf` and `hidden-table` rest on. A bin "
        "without a common id passes for one with a probability of 2^-64. Below 2^-40 ids cannot be placed; then "
        "another seed is drawn.",
        inputs="receiver: nx ids. sender: ny ids, each with k words of 64 bits. Ids canonical (`atoll.align`) and "
        "without duplicates, as bytes.",
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
        cost="With m = 1.27 nx bins (more for few ids: 2 nx + 400 up to 4,096): about 11 m for the function, "
        "31 (1 + k) ny for the store, 53 m for the equality, up to 1.2 MB and 400 kB for each 100,000 bins; with many "
        "ids about 85 nx + 31 (1 + k) ny bytes.",
        fails="ProtocolError when sites differ in job, columns or payload, sizes exceed the limit, or a message has "
        "another size; InputError on own duplicates or too many ids: 3.3 million at the receiver, 1.4 at the sender.",
        assurance="tested",
        notes=(
            "All sizes follow from nx, ny and k; how full bins are shows nowhere.",
            "Payload shares are noise where the bit is 0: multiply by the bit (`masked-values`) before adding up.",
            "To open bits bin by bin tells more than the common ids: a bin depends on the receiver's other ids, too.",
            "Whatever is opened later reveals what it reveals: state it on the card of the protocol that opens.",
            "A malicious site can put in ids that it does not have, a receiver up to one for each bin; only sizes are "
            "limited.",
        ),
    ),
    roles={"receiver": receiver, "sender": sender},
    messages=(Opening, Hint),
    uses=(vole_oprf.PROTOCOL, hidden_table.PROTOCOL, oblivious_transfer.PROTOCOL),
)
