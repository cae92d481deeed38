"""Set intersection by oblivious transfer: `receiver` learns which of its ids `sender` has, too.

Receiver, ids X                                            Sender, ids Y
(1) both tell their number of ids; the receiver draws the seed of the bins, in which it has placed its ids, at most
    one a bin; the sender draws the key of the code C
(2) 448 base transfers: the receiver has both seeds of each, the sender, for every bit of its s, one
(3) sends u_j = t_j ⊕ t′_j ⊕ C(x_j) for every bin j        q_j = t_j ⊕ (C(x_j) ∧ s), from u_j and its streams
                                                           (4) sends H(j, q_j ⊕ (C(y) ∧ s)) for the three bins j of
                                                               each of its ids, in shuffled order
compares with H(j, t_j), for q_j ⊕ (C(x_j) ∧ s) = t_j
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from atoll.core.channel import Channel
from atoll.core.errors import ProtocolError
from atoll.core.message import U8, U64, Message
from atoll.core.offload import offload
from atoll.core.protocol import Card, Protocol
from atoll.crypto import cuckoo, item_hash
from atoll.crypto.aes import Streams
from atoll.crypto.bit_transpose import strings_of
from atoll.crypto.pseudorandom_code import WIDTH, WORDS, PseudorandomCode
from atoll.crypto.random import Rng
from atoll.crypto.row_hash import hash_rows
from atoll.protocols import intersection_result, oblivious_transfer
from atoll.protocols.intersection_result import Matches, Progress, Shuffled, as_bytes, context_hash

LARGEST = 1 << 22
"""Most items of one site in one run; larger sets are cut into buckets."""

CHUNK = 504 * 64
"""Bins of one message, 1.8 MB; a power of two would crowd one set of the cache."""

TRIES = 4
"""Seeds that the receiver tries; one fails with probability below 2^-40."""

Words = NDArray[np.uint64]


class Opening(Message, frozen=True):
    """(1) both: number of ids, a hash of what must agree, and a seed: of the bins or of the code."""

    size: int
    context: bytes
    seed: bytes


class Rows(Message, frozen=True):
    """(3) receiver → sender: u_j of the next bins, (bins, 7) words."""

    u: U64


class Tags(Message, frozen=True):
    """(4) sender → receiver, for each of the three bins: the first bytes of H for its ids, in shuffled order."""

    tags: U8


@dataclass(frozen=True)
class _Public:
    """What both sides derive from the receiver's seed: keys of the hash of ids, of the bins, and the tag of H."""

    items: bytes
    bins: bytes
    rows: bytes

    @classmethod
    def of(cls, seed: bytes, context: bytes) -> _Public:
        keys = hashlib.sha512(b"atoll/kkrt-intersection/v1/" + seed + context).digest()
        return cls(keys[:16], keys[16:32], keys[32:48])


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
        progress: Called with bins done and bins in all.

    Returns:
        Pairs of own indices and places in the sender's shuffled list.

    Raises:
        InputError: An id stands twice in `ids`.
        ProtocolError: As the card says.
    """
    domain = context_hash(context)
    seed, public, own = await offload(_placed, ids, domain, rng)
    await peer.send(Opening(len(ids), domain, seed))  # (1)
    opening = await peer.recv(Opening)  # (1)
    ny, code = _checked(opening, domain, largest), PseudorandomCode(_seed(peer, opening))
    seeds = await oblivious_transfer.offer_seeds(peer, WIDTH, rng=rng.spawn())  # (2)
    streams = [Streams(np.ascontiguousarray(seeds[:, b])) for b in range(2)]
    for bins in _chunks(len(own.table)):
        await peer.send(Rows(await offload(own.rows, bins, code, streams, public.rows)))  # (3)
        progress(bins.stop, len(own.table))
    found = []
    for third in range(3):
        tags = (await peer.recv(Tags, tags=(ny, intersection_result.tag_bytes(len(ids), ny)))).tags  # (4)
        found.append(await offload(own.match, third, tags))
    return _joined(found, ny)


receive_from_all = partial(intersection_result.receive_separately, receiver)
"""Be the receiver towards several senders at once, each in a run of its own; arguments as of `receiver`."""


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
        The shuffled order.

    Raises:
        InputError: An id stands twice in `ids`.
        ProtocolError: As the card says.
    """
    domain, key = context_hash(context), rng.bytes(16)
    opening = await peer.recv(Opening)  # (1)
    nx, public = _checked(opening, domain, largest), _Public.of(_seed(peer, opening), domain)
    await peer.send(Opening(len(ids), domain, key))  # (1)
    s = rng.u64(WORDS)
    bits = np.unpackbits(s.view(np.uint8), bitorder="little")
    streams = Streams(await oblivious_transfer.choose_seeds(peer, bits, rng=rng.spawn()))  # (2)
    order = await offload(rng.permutation, len(ids))
    size, width = cuckoo.third(nx), intersection_result.tag_bytes(nx, len(ids))
    own = await offload(_Asking, ids, order, public, size, PseudorandomCode(key), s, width)
    for number, bins in enumerate(_chunks(3 * size)):
        u = (await peer.recv(Rows, u=(bins.stop - bins.start, WORDS))).u  # (3)
        await offload(own.answer, number, bins, u, streams)
        progress(bins.stop, 3 * size)
    for tags in own.tags:
        await peer.send(Tags(tags))  # (4)
    return Shuffled(order)


@dataclass(repr=False)
class _Placed:
    """The receiver's hashed ids, each in a bin: table (bins,) holds the id's index or −1; its tags as they come."""

    keys: Words
    table: NDArray[np.int32]
    tags: Words

    def rows(self, bins: slice, code: PseudorandomCode, streams: Sequence[Streams], tag: bytes) -> Words:
        """Return u of some bins, and keep H of those that hold an id."""
        count = bins.stop - bins.start
        t, u = (_strings(stream, count) for stream in streams)
        items = self.table[bins]
        u ^= t
        u ^= code.words(_texts(self.keys, items))
        full = np.flatnonzero(items >= 0)
        numbers = (full + bins.start).astype(np.uint32)
        self.tags[items[full]] = hash_rows(tag, numbers, np.ascontiguousarray(t[full]))
        return u

    def match(self, third: int, theirs: NDArray[np.uint8]) -> Matches:
        """Compare the ids that lie in one third of the bins with the sender's tags for its bins there."""
        size = len(self.table) // 3
        part = self.table[third * size : (third + 1) * size]
        mine = np.sort(part[part >= 0]).astype(np.int64)
        pairs = intersection_result.match_tags(as_bytes(self.tags[mine], theirs.shape[1]), theirs)
        return Matches(mine[pairs.mine], pairs.theirs)


def _joined(found: Sequence[Matches], ny: int) -> Matches:
    """Put the matches of the three thirds together, in the order of the receiver's own indices."""
    rows, places = (np.concatenate([getattr(one, side) for one in found]) for side in ("mine", "theirs"))
    if len(places) and np.bincount(places, minlength=ny).max() > 1:
        raise ProtocolError("the peer sent tags of several ids for one")
    by_row = np.argsort(rows)
    return Matches(rows[by_row], places[by_row])


class _Asking:
    """The sender's ids in shuffled order, with their bins, and their tags as chunks of bins come."""

    def __init__(
        self,
        ids: Sequence[bytes],
        order: NDArray[np.int64],
        public: _Public,
        size: int,
        code: PseudorandomCode,
        s: Words,
        width: int,
    ) -> None:
        self.keys = _hashed(ids, public)[order]
        bins = cuckoo.bins_of(self.keys, public.bins, size).T.reshape(-1)  # (3·ny,): list by list
        self.public, self.code, self.s, self.bins = public, code, s, bins
        chunk = (bins // np.uint32(CHUNK)).astype(np.uint16)
        self._sorted = np.argsort(chunk, kind="stable").astype(np.uint32)
        self._ends = np.cumsum(np.bincount(chunk, minlength=len(list(_chunks(3 * size)))))
        self.tags = np.zeros((3, len(ids), width), np.uint8)

    def answer(self, number: int, bins: slice, u: Words, streams: Streams) -> None:
        """Take u of one chunk, and make all tags that belong to its bins."""
        q = _strings(streams, bins.stop - bins.start)
        q ^= u & self.s
        which = self._sorted[self._ends[number - 1] if number else 0 : self._ends[number]]
        flat = self.tags.reshape(-1, self.tags.shape[2])
        for lo in range(0, len(which), CHUNK):  # many ids may share a few bins; memory stays the same
            part = which[lo : lo + CHUNK]
            numbers = self.bins[part]
            rows = self.code.words(self.keys[part % np.uint32(len(self.keys))])
            rows &= self.s
            rows ^= q[numbers - np.uint32(bins.start)]
            flat[part] = as_bytes(hash_rows(self.public.rows, numbers, rows), flat.shape[1])


def _placed(ids: Sequence[bytes], domain: bytes, rng: Rng) -> tuple[bytes, _Public, _Placed]:
    """Draw seeds until the ids can be placed; nothing but the last one is ever seen or used."""
    size = cuckoo.third(len(ids))
    for _ in range(TRIES):
        seed = rng.bytes(16)
        public = _Public.of(seed, domain)
        keys = _hashed(ids, public)
        try:
            table = cuckoo.place(cuckoo.bins_of(keys, public.bins, size), size)
        except cuckoo.NotPlaceable:
            continue
        return seed, public, _Placed(keys, table, np.zeros((len(ids), 2), np.uint64))
    raise ProtocolError("the ids could not be placed, which happens once in 2^160 runs", cure="Run again.")


def _hashed(ids: Sequence[bytes], public: _Public) -> Words:
    keys = item_hash.hash_items(ids, public.items)
    intersection_result.refuse_repeated(item_hash.repeated(keys), len(ids))
    return keys


def _texts(keys: Words, items: NDArray[np.int32]) -> Words:
    """Return the hashed id in each bin, (bins, 2); zeros, which is no id's hash, in empty ones."""
    texts = np.zeros((len(items), 2), np.uint64)
    full = items >= 0
    texts[full] = keys[items[full]]
    return texts


def _strings(streams: Streams, count: int) -> Words:
    """Return the next `count` strings, (count, 7), of 448 streams; whole words of the streams are used up."""
    columns = streams.next(-(-count // 64))
    out = np.empty((64 * columns.shape[1], WORDS), np.uint64)
    strings_of(columns, out)
    return out[:count]


def _chunks(bins: int) -> Iterator[slice]:
    return (slice(lo, min(lo + CHUNK, bins)) for lo in range(0, bins, CHUNK))


def _checked(opening: Opening, domain: bytes, largest: int) -> int:
    return intersection_result.checked_size(opening.size, opening.context, domain, largest)


def _seed(peer: Channel, opening: Opening) -> bytes:
    if len(opening.seed) != 16:
        raise ProtocolError(f"{peer.peer} sent a seed of {len(opening.seed)} bytes")
    return opening.seed


PROTOCOL = Protocol(
    name="kkrt-intersection",
    version=1,
    title="Set intersection by oblivious transfer: the classic of 2016, to check others against",
    card=Card(
        source="Kolesnikov, Kumaresan, Rosulek and Trieu, ACM CCS 2016 (eprint 2016/799), with three hashes and "
        "without a stash (Pinkas, Schneider and Zohner, ACM TOPS 2018).",
        security="Semi-honest, 2 parties, computational 128 bits: what the base transfers of `oblivious-transfer` rest "
        "on, AES-128 as a pseudorandom code of 448 bits and in counter mode, SHA-512 as a Hamming correlation-robust "
        "hash. False matches below 2^-40: tags of 40 + log2(nx) + log2(ny) bits, at least 80. That the receiver had "
        "to draw another seed, which says something of its ids, has a probability below 2^-40.",
        inputs="receiver: nx ids; sender: ny ids; each canonical (`atoll.align`) and without duplicates, as bytes.",
        reveals={
            "receiver": (
                "The number ny of the sender's ids.",
                "Which of its own ids the sender has, too, and at which positions of the sender's shuffled list.",
                "In a star: its intersection with every single sender, not only the common one.",
            ),
            "sender": ("The number nx of the receiver's ids.",),
        },
        cost="Bytes: 72 nx + 30 to 36 ny, and 29 kB; below 4,096 ids of the receiver up to 450 kB. A few seconds for "
        "10^6 ids at each site, on one core each.",
        fails="ProtocolError when sites differ in job or columns, sizes exceed the limit, a message has another size, "
        "or a tag is repeated; InputError on own duplicates.",
        assurance="tested",
        notes=(
            "It rests on transfers and hashes alone and shares no code for its core with `vole-intersection`, which is "
            "faster and sends a quarter of the bytes.",
            "A malicious receiver can send other words than its ids', and so learn bits of s; only sizes are limited.",
            "Repeated runs with changed inputs show the difference: keep a log of runs.",
        ),
    ),
    roles={"receiver": receiver, "sender": sender},
    messages=(Opening, Rows, Tags),
    uses=(oblivious_transfer.PROTOCOL, intersection_result.PROTOCOL),
)
