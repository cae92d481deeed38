"""Set intersection whose result nobody learns: shares of who is common, and of the sender's values for them.

Receiver, ids X                                            Sender, ids Y with values v(y)
(1) draws the key of the bins: one of X in each bin        each of Y in three bins: all in which it might be found
(2) `vole-oprf`: F(x, j), x in its bin of third j          F(y, j) for all three j
                                                           (3) draws r_b, s_b for every bin; sends a store D with
                                                               D(y, j) = (r_b, v(y) − s_b) ⊕ G(F(y, j))
    r'_b, p_b by D and F, or random in an empty bin
(4) `word-equality` of r'_b and r_b: shares of e_b, which is 1 where the receiver's id is common
(5) transfers: shares of e_b and of e_b·(p_b + s_b) modulo 2^64
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from atoll.core.channel import Channel
from atoll.core.errors import InputError, ProtocolError
from atoll.core.message import U64, Message
from atoll.core.offload import offload
from atoll.core.protocol import Card, Protocol
from atoll.crypto import cuckoo, filled_store, item_hash, okvs, tmmo
from atoll.crypto.filled_store import Store
from atoll.crypto.random import Rng
from atoll.crypto.stretch import stretch
from atoll.protocols import oblivious_transfer, vole_oprf, word_equality
from atoll.protocols.word_equality import Bits, Transfers

LARGEST = 1 << 20
"""Most ids of one site in one run."""

WIDEST = 64
"""Most columns of values."""

TRIES = 8
CHUNK = 1 << 16
MASKS = b"circuit-intersection/masks"

Words = NDArray[np.uint64]
Equal = Callable[[Channel, Words, Transfers], Awaitable[Bits]]


class Bins(Message, frozen=True):
    """(1) receiver → sender: the key of the bins."""

    key: bytes


class Programmed(Message, frozen=True):
    """(3) sender → receiver: the store of bin values and masked values, (m, 1 + w) words."""

    seed: bytes
    words: U64


class Products(Message, frozen=True):
    """(5) both: what turns pads of chosen bits into shares of products, (bins, w) words."""

    words: U64


@dataclass(frozen=True)
class Shared:
    """Shares of the result, bin by bin; most bins hold an id of the receiver, the others count as not common.

    Attributes:
        rows: At the receiver (b,) int64, its own row in each bin, −1 where there is none; None at the sender.
        bits: (b,) uint8, XOR shares of whether the bin's id is common.
        members: (b,) uint64, additive shares of the same modulo 2^64; their sum is the number of common ids.
        values: (b, w) uint64, additive shares of the sender's values, zero where the id is not common.
    """

    rows: NDArray[np.int64] | None
    bits: Bits
    members: Words
    values: Words


async def receiver(
    peer: Channel,
    ids: Sequence[bytes],
    columns: int = 0,
    *,
    rng: Rng,
    context: Sequence[str] = (),
    largest: int = LARGEST,
    equal: Equal | None = None,
) -> Shared:
    """Get shares of which of its ids the sender has, too, and of the sender's values.

    Args:
        peer: Channel to the sender.
        ids: nx canonical ids without duplicates.
        columns: w, how many columns of values the sender brings, at most `WIDEST`.
        rng: Secret randomness.
        context: Job and columns; what both sites must agree on before ids are compared.
        largest: Most ids the sender may announce.
        equal: Another test for equality than `word_equality.equal`, the same at both sites.

    Returns:
        Shares, with own rows.

    Raises:
        InputError: An id stands twice, or there are too many.
        ProtocolError: As the card says.
    """
    _check_inputs(ids, columns)
    size = cuckoo.third(len(ids))
    key, table = await offload(_placed, ids, size, rng)
    await peer.send(Bins(key))  # (1)
    filled = np.flatnonzero(table >= 0)
    keyed = [ids[table[b]] + bytes([b // size]) for b in filled.tolist()]
    function = await vole_oprf.receiver(
        peer, keyed, rng=rng.spawn(), context=_agreed(context, columns), largest=3 * largest
    )  # (2)
    shape = okvs.Shape(max(function.others, 1))
    sent = await peer.recv(Programmed, words=(shape.words, 1 + columns))  # (3)
    if len(sent.seed) != 16:
        raise ProtocolError(f"{peer.peer} sent a seed of {len(sent.seed)} bytes")
    words = await offload(filled_store.decode, Store(sent.seed, sent.words), function.found.keys, shape)
    words ^= _masks(function.values, 1 + columns)
    found = rng.u64(3 * size, 1 + columns)
    found[filled[function.found.order]] = words
    transfers = await word_equality.lead(peer, rng=rng.spawn())
    bits = await (equal or _equal)(peer, np.ascontiguousarray(found[:, 0]), transfers)  # (4)
    factors = np.concatenate((np.zeros((3 * size, 1), np.uint64), found[:, 1:]), axis=1)
    products = await _multiplied(peer, bits, factors, transfers)  # (5)
    return Shared(table, bits, products[:, 0].copy(), products[:, 1:].copy())


async def sender(
    peer: Channel,
    ids: Sequence[bytes],
    values: NDArray[np.int64] | None = None,
    *,
    rng: Rng,
    context: Sequence[str] = (),
    largest: int = LARGEST,
    equal: Equal | None = None,
) -> Shared:
    """Let shares be made of which ids both have, and of one's own values for them.

    Args:
        peer: Channel to the receiver.
        ids: ny canonical ids without duplicates.
        values: (ny, w) int64; None brings no values.
        rng: Secret randomness.
        context: As of `receiver`, and so are the rest.

    Returns:
        Shares, in the order of the receiver's bins.

    Raises:
        InputError: An id stands twice, there are too many, or values that do not fit.
        ProtocolError: As the card says.
    """
    values = np.empty((len(ids), 0), np.int64) if values is None else values
    if values.dtype != np.int64 or values.ndim != 2 or len(values) != len(ids):
        raise InputError(f"the values are {values.dtype} of shape {values.shape} for {len(ids):,} ids")
    columns = values.shape[1]
    _check_inputs(ids, columns)
    key = (await peer.recv(Bins)).key  # (1)
    if len(key) != 16:
        raise ProtocolError(f"{peer.peer} sent a key of {len(key)} bytes")
    keyed = [y + bytes([j]) for j in range(3) for y in ids]
    function = await vole_oprf.sender(
        peer, keyed, rng=rng.spawn(), context=_agreed(context, columns), largest=largest
    )  # (2)
    size = cuckoo.third(function.others)
    bins = await offload(_bins_of, ids, key, size)
    drawn = rng.u64(3 * size, 1 + columns)  # r_b and s_b
    store = await offload(_programmed, function, bins, values, drawn, rng.spawn())
    await peer.send(Programmed(store.seed, store.words))  # (3)
    transfers = await word_equality.follow(peer, rng=rng.spawn())
    bits = await (equal or _equal)(peer, np.ascontiguousarray(drawn[:, 0]), transfers)  # (4)
    factors = np.concatenate((np.ones((3 * size, 1), np.uint64), drawn[:, 1:]), axis=1)
    products = await _multiplied(peer, bits, factors, transfers)  # (5)
    return Shared(None, bits, products[:, 0].copy(), products[:, 1:].copy())


async def _equal(peer: Channel, words: Words, transfers: Transfers) -> Bits:
    return await word_equality.equal(peer, words, transfers=transfers)


async def _multiplied(peer: Channel, bits: Bits, factors: Words, transfers: Transfers) -> Words:
    """Return shares of e·(p + s), where `bits` are a share of e and `factors`, p or s, a share of the number.

    Each site's factor times e is shared by transfers in which the other's bit chooses.
    """
    out = np.empty_like(factors)
    for lo in range(0, len(bits), CHUNK):
        part = slice(lo, lo + CHUNK)
        if transfers.leads:
            chosen = await _choose_products(peer, bits[part], factors.shape[1], transfers)
            offered = await _offer_products(peer, bits[part], factors[part], transfers)
        else:
            offered = await _offer_products(peer, bits[part], factors[part], transfers)
            chosen = await _choose_products(peer, bits[part], factors.shape[1], transfers)
        out[part] = chosen + offered
    return out


async def _choose_products(peer: Channel, bits: Bits, columns: int, transfers: Transfers) -> Words:
    blocks = await transfers.chooser.extend(peer, bits)
    offered = (await peer.recv(Products, words=(len(bits), columns))).words
    return _pads(blocks.t, blocks.first, columns) + bits[:, np.newaxis] * offered


async def _offer_products(peer: Channel, bits: Bits, factors: Words, transfers: Transfers) -> Words:
    """Offer (own bit ⊕ choice)·factor: pad + that of choice 0, and a correction for choice 1."""
    blocks = await transfers.offerer.extend(peer, len(bits))
    columns, own = factors.shape[1], bits[:, np.newaxis].astype(np.uint64)
    zero = _pads(blocks.q, blocks.first, columns)
    one = _pads(blocks.q ^ blocks.delta, blocks.first, columns)
    await peer.send(Products(zero - one + (np.uint64(1) - own - own) * factors))
    return own * factors - zero


def _pads(strings: Words, first: int, columns: int) -> Words:
    """Return (n, columns) words of pads of transfers that serve nothing else."""
    parts = [tmmo.hash_blocks(strings, first, counter) for counter in range(-(-columns // 2))]
    return np.concatenate(parts, axis=1)[:, :columns]


def _placed(ids: Sequence[bytes], size: int, rng: Rng) -> tuple[bytes, NDArray[np.int64]]:
    for _ in range(TRIES):
        key = rng.bytes(16)
        try:
            return key, cuckoo.place(_bins_of(ids, key, size), size).astype(np.int64)
        except cuckoo.NotPlaceable:
            continue
    raise ProtocolError("the ids do not fit into bins, which happens once in 2^300 runs")


def _bins_of(ids: Sequence[bytes], key: bytes, size: int) -> NDArray[np.uint32]:
    return cuckoo.bins_of(item_hash.hash_items(ids, key), key, size)


def _programmed(
    function: vole_oprf.Outputs, bins: NDArray[np.uint32], values: NDArray[np.int64], drawn: Words, rng: Rng
) -> Store:
    """Program, for each (y, j), the values of the bin that y has in third j."""
    order = function.found.order  # index into the keyed ids: third after third
    n = len(bins)
    at = bins.T.reshape(-1)[order]
    words = drawn[at].copy()
    words[:, 1:] = values.view(np.uint64)[order % max(n, 1)] - words[:, 1:]
    words ^= _masks(function.values, words.shape[1])
    try:
        return filled_store.encode(function.found.keys, words, okvs.Shape(max(3 * n, 1)), rng)
    except okvs.NotEncodable:
        raise ProtocolError("the ids could not be encoded, which happens once in 2^300 runs") from None


def _masks(values: Words, columns: int) -> Words:
    return stretch(values, MASKS, -(-columns // 2)).reshape(len(values), 2 * (-(-columns // 2)))[:, :columns]


def _agreed(context: Sequence[str], columns: int) -> tuple[str, ...]:
    return (*context, "shares", str(columns))


def _check_inputs(ids: Sequence[bytes], columns: int) -> None:
    n = len(ids)
    if len(set(ids)) < n:
        raise InputError(
            f"{n - len(set(ids)):,} of {n:,} ids are duplicates",
            cure="Align by atoll.align, which keeps each id once and remembers its rows.",
        )
    if n > LARGEST or not 0 <= columns <= WIDEST:
        raise InputError(
            f"{n:,} ids with {columns} columns of values are too many",
            cure=f"Bring at most {LARGEST:,} ids and {WIDEST} columns.",
        )


PROTOCOL = Protocol(
    name="circuit-intersection",
    version=1,
    title="Set intersection whose result nobody learns: shares of who is common, and of values",
    card=Card(
        source="Rindal and Schoppmann, EUROCRYPT 2021, and Raghuraman and Rindal, ACM CCS 2022 (eprint 2022/320): the "
        "protocols with shared output; bins: Pinkas, Schneider, Tkachenko and Yanai, EUROCRYPT 2019.",
        security="Semi-honest, 2 parties, computational 128 bits: as `vole-oprf` and `word-equality`. Bin values have "
        "64 bits: over all bins a false match has a probability below 2^-40. Another key is drawn if the receiver's "
        "ids do not fit into their bins, which happens less than once in 2^40 runs.",
        inputs="receiver: nx ids. sender: ny ids, each with w values of int64; at most 2^20 ids each.",
        reveals={
            "receiver": (
                "The number ny of the sender's ids.",
                "Random shares; not which ids are common, nor how many.",
            ),
            "sender": (
                "The number nx of the receiver's ids.",
                "Random shares; not which ids are common, nor how many.",
            ),
        },
        cost="For about 1.27 nx bins (400 at least): 2.1 kB each for the comparison with plain transfers, and "
        "32 + 16 (w + 1) bytes; 11 nx + 31 (w + 1) ny bytes besides.",
        fails="ProtocolError when sites differ in job or columns, sizes exceed the limit, or a message has another "
        "size; InputError on own duplicates, too many ids, or values of another shape.",
        assurance="tested",
        notes=(
            "Sums of the shares are sums over the common ids: open them only over enough of them.",
            "Almost all bytes are the comparison's; `equal` takes another one, such as one on silent transfers.",
            "A malicious site can spoil the result, and cannot be told from one that brings other ids.",
        ),
    ),
    roles={"receiver": receiver, "sender": sender},
    messages=(Bins, Programmed, Products),
    uses=(vole_oprf.PROTOCOL, word_equality.PROTOCOL, oblivious_transfer.PROTOCOL),
)
