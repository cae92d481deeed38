"""Set intersection by an oblivious pseudorandom function: `receiver` learns which of its ids `sender` has, too.

Receiver, ids X                                            Sender, ids Y
(1) both tell their number of ids; the receiver draws the seed of all public hashes
(2) silent vector OLE: A, B                                K, Δ with K = B + Δ·A
(3) encodes P with P(x) = h(x), sends P + A                K′ = K + Δ·(P + A)
                                                           (4) sends F(y) = H(K′(y) + Δ·h(y), y), shuffled
F(x) = H(B(x), x), for K′(x) + Δ·h(x) = B(x) where P(x) = h(x); compares
"""

from __future__ import annotations

import asyncio
import functools
import hashlib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from atoll.core.channel import Channel
from atoll.core.errors import InputError, ProtocolError
from atoll.core.message import U8, U64, Message
from atoll.core.offload import offload
from atoll.core.protocol import Card, Protocol
from atoll.crypto import gf128, item_hash, okvs
from atoll.crypto.aes import FixedKey, blocks
from atoll.crypto.jit import njit, read_only
from atoll.crypto.random import Rng
from atoll.protocols import intersection_result, oblivious_transfer, silent_vole
from atoll.protocols.intersection_result import Matches, Shuffled, context_hash

LARGEST = 1 << 22
"""Most items of one site in one run; larger sets are cut into buckets."""

NARROW = 1 << 24
"""Up to so many items of the receiver one word of h(x) keeps false matches below 2^-40."""

Progress = Callable[[int, int], None]
Words = NDArray[np.uint64]


class Opening(Message, frozen=True):
    """(1) both: number of ids, a hash of what must agree, and from the receiver the seed of the public hashes."""

    size: int
    context: bytes
    seed: bytes


class Encoded(Message, frozen=True):
    """(3) receiver → sender: P + A, (m, w) words."""

    words: U64


class Tags(Message, frozen=True):
    """(4) sender → receiver: the first bytes of F(y) for its ids, in shuffled order."""

    tags: U8


@dataclass(frozen=True)
class _Public:
    """What both sides derive from the seed.

    Attributes:
        items: key of the hash of ids.
        store: seed of the key-value store.
        tags: key of the hash that makes tags.
    """

    items: bytes
    store: bytes
    tags: bytes

    @classmethod
    def of(cls, seed: bytes, context: bytes) -> _Public:
        keys = hashlib.sha512(b"atoll/vole-intersection/v1/" + seed + context).digest()
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
        progress: Called with steps done and steps in all.

    Returns:
        Pairs of own indices and places in the sender's shuffled list.

    Raises:
        InputError: An id stands twice in `ids`.
        ProtocolError: As the card says.
    """
    domain, seed = context_hash(context), rng.bytes(16)
    public, shape, words = _Public.of(seed, domain), okvs.Shape(max(len(ids), 1)), _words(len(ids))
    await peer.send(Opening(len(ids), domain, seed))  # (1)
    ny = _checked(await peer.recv(Opening), domain, largest)  # (1)
    ot = await oblivious_transfer.setup_receiver(peer, rng=rng.spawn())
    encoding = asyncio.ensure_future(offload(_encoded, ids, public, shape, words))
    try:
        vole = await silent_vole.receiver(peer, shape.words, words=words, ot=ot, rng=rng.spawn())  # (2)
        found, encoded = await encoding
    finally:
        encoding.cancel()
    await peer.send(Encoded(encoded ^ vole.a))  # (3)
    progress(1, 2)
    values = await offload(okvs.decode, found, vole.b)
    mine = await offload(_tags, found, values, public)
    theirs = await peer.recv(Tags, tags=(ny, _tag_bytes(len(ids), ny)))  # (4)
    matches = await offload(_match, found, mine, theirs.tags)
    progress(2, 2)
    return matches


async def receive_from_all(
    peers: Mapping[str, Channel],
    ids: Sequence[bytes],
    *,
    rng: Rng,
    context: Sequence[str] = (),
    largest: int = LARGEST,
    progress: Progress = lambda done, total: None,
) -> dict[str, Matches]:
    """Be the receiver towards several senders at once, each in a run of its own.

    Args:
        peers: Channels by name; each sender runs `sender`.
        ids: As of `receiver`, and so are the rest.

    Returns:
        The matches with each sender, by name.
    """
    done = dict.fromkeys(peers, 0)

    def count(name: str, steps: int, total: int) -> None:
        done[name] = steps
        progress(sum(done.values()), total * len(peers))

    tasks = [
        asyncio.ensure_future(
            receiver(
                peer, ids, rng=rng.spawn(), context=context, largest=largest, progress=functools.partial(count, name)
            )
        )
        for name, peer in peers.items()
    ]
    try:
        return dict(zip(peers, await asyncio.gather(*tasks), strict=True))
    finally:
        for task in tasks:
            task.cancel()


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
    domain = context_hash(context)
    opening = await peer.recv(Opening)  # (1)
    nx = _checked(opening, domain, largest)
    if len(opening.seed) != 16:
        raise ProtocolError(f"{peer.peer} sent a seed of {len(opening.seed)} bytes")
    await peer.send(Opening(len(ids), domain, b""))  # (1)
    public, shape, words = _Public.of(opening.seed, domain), okvs.Shape(max(nx, 1)), _words(nx)
    ot = await oblivious_transfer.setup_sender(peer, rng=rng.spawn())
    vole = await silent_vole.sender(peer, shape.words, words=words, ot=ot, rng=rng.spawn())  # (2)
    found = await offload(_placed, ids, public, shape)
    shuffle = await offload(rng.permutation, len(ids))
    encoded = await peer.recv(Encoded, words=(shape.words, words))  # (3)
    progress(1, 2)
    values = await offload(_evaluate, found, encoded.words, vole)
    tags = await offload(_tags, found, values, public)
    await peer.send(Tags(await offload(_cut, tags, shuffle, _tag_bytes(nx, len(ids)))))  # (4)
    progress(2, 2)
    return Shuffled(found.order[shuffle])


def _checked(opening: Opening, domain: bytes, largest: int) -> int:
    if opening.context != domain:
        raise ProtocolError("the sites compare ids of different jobs or columns")
    if not 0 <= opening.size <= largest:
        raise ProtocolError(f"the peer announces {opening.size:,} ids, at most {largest:,} are allowed")
    return opening.size


def _words(nx: int) -> int:
    return 1 if nx <= NARROW else 2


def _tag_bytes(nx: int, ny: int) -> int:
    return min(16, max(10, math.ceil((40 + math.log2(max(nx, 1)) + math.log2(max(ny, 1))) / 8)))


def _placed(ids: Sequence[bytes], public: _Public, shape: okvs.Shape) -> okvs.Places:
    """Hash ids and find their places; refuse duplicates."""
    keys = item_hash.hash_items(ids, public.items)
    repeated = item_hash.repeated(keys)
    if repeated:
        raise InputError(
            f"{repeated:,} of {len(ids):,} ids are duplicates",
            cure="Align by atoll.align, which keeps each id once and remembers its rows.",
        )
    return okvs.places(public.store, keys, shape)


def _encoded(ids: Sequence[bytes], public: _Public, shape: okvs.Shape, words: int) -> tuple[okvs.Places, Words]:
    found = _placed(ids, public, shape)
    try:
        columns = [okvs.encode(found, np.ascontiguousarray(found.hashed[:, word])) for word in range(words)]
    except okvs.NotEncodable:
        raise ProtocolError(
            "the ids could not be encoded, which happens once in 2^40 runs", cure="Run again."
        ) from None
    return found, columns[0][:, np.newaxis] if words == 1 else np.stack(columns, axis=1)


def _evaluate(found: okvs.Places, encoded: Words, vole: silent_vole.Sent) -> Words:
    """Return K′(y) + Δ·h(y), (ny, 2) in the order of `found`."""
    words, k = encoded.shape[1], vole.k
    tables = gf128.tables(vole.delta, words)
    if words == 1:
        gf128.add_products(read_only(encoded[:, 0]), tables, k)
        values = okvs.decode(found, k)
        gf128.add_products(read_only(np.ascontiguousarray(found.hashed[:, 0])), tables, values)
    else:
        gf128.add_wide_products(read_only(encoded), tables, k)
        values = okvs.decode(found, k)
        gf128.add_wide_products(read_only(found.hashed), tables, values)
    return values


def _tags(found: okvs.Places, values: Words, public: _Public) -> Words:
    """Return F for every id in the order of `found`, (n, 2): π(π(v) ⊕ x) ⊕ π(v), x being the hash of the id."""
    inner, outer, cipher = blocks(len(values)), blocks(len(values)), FixedKey(public.tags)
    cipher.encrypt_into(values, inner)
    np.bitwise_xor(inner, found.keys, out=outer)
    cipher.encrypt_into(outer, outer)
    outer ^= inner
    return outer


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
    out = np.empty((len(tags), width), np.uint8)
    _take(tags.view(np.uint8), order, out)
    return out


def _widen(tags: NDArray[np.uint8]) -> Words:
    out = np.zeros((len(tags), 2), np.uint64)
    _spread(read_only(tags), out.view(np.uint8))
    return out


@njit
def _take(tags: NDArray[np.uint8], order: NDArray[np.int64], out: NDArray[np.uint8]) -> None:
    for i in range(out.shape[0]):
        for k in range(out.shape[1]):
            out[i, k] = tags[order[i], k]


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
        "semi-honest form, subfield words.",
        security="Semi-honest, 2 parties, computational 128 bits: what `silent-vole` rests on, and fixed-key AES as a "
        "correlation-robust hash. False matches below 2^-40: words of 64 bits up to 2^24 ids of the receiver, "
        "128 beyond; tags of 40 + log2(nx) + log2(ny) bits, at least 80.",
        inputs="receiver: nx ids; sender: ny ids; each canonical (`atoll.align`) and without duplicates, as bytes.",
        reveals={
            "receiver": (
                "The number ny of the sender's ids.",
                "Which of its own ids the sender has, too, and at which positions of the sender's shuffled list.",
                "In a star: its intersection with every single sender, not only the common one.",
            ),
            "sender": ("The number nx of the receiver's ids.",),
        },
        cost="Bytes: about 11 nx (from 2^24 ids on 22 nx) + 10 to 12 ny, and 300 kB. A second or so for 10^6 ids at "
        "each site, on one core each.",
        fails="ProtocolError when sites differ in job or columns, sizes exceed the limit, a message has another size, "
        "or a tag is repeated; InputError on own duplicates.",
        assurance="tested",
        notes=(
            "A malicious receiver can encode more ids than it says; a malicious site can put in ids that it does not "
            "have. Only sizes are limited.",
            "Repeated runs with changed inputs show the difference: keep a log of runs.",
        ),
    ),
    roles={"receiver": receiver, "sender": sender},
    messages=(Opening, Encoded, Tags),
    uses=(silent_vole.PROTOCOL, oblivious_transfer.PROTOCOL, intersection_result.PROTOCOL),
)
