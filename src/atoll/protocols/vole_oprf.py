"""An oblivious pseudorandom function on many ids: `receiver` learns F of its ids, `sender` of its own.

Receiver, ids X                                            Sender, ids Y
(1) both tell their number of ids; the receiver draws the seed of all public hashes
(2) silent vector OLE: A, B                                K, Δ with K = B + Δ·A
(3) encodes P with P(x) = h(x), sends P + A                K′ = K + Δ·(P + A)
F(x) = H(B(x), x), for K′(x) + Δ·h(x) = B(x) where P(x) = h(x)
                                                           F(y) = H(K′(y) + Δ·h(y), y)
"""

from __future__ import annotations

import asyncio
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
from atoll.crypto import gf128, item_hash, okvs
from atoll.crypto.aes import FixedKey, blocks
from atoll.crypto.jit import read_only
from atoll.crypto.random import Rng
from atoll.protocols import oblivious_transfer, silent_vole
from atoll.protocols.intersection_result import context_hash

LARGEST = 1 << 22
"""Most items of one site in one run; larger sets are cut into buckets."""

NARROW = 1 << 24
"""Up to so many items of the receiver one word of h(x) keeps false matches below 2^-40."""

Words = NDArray[np.uint64]


class Opening(Message, frozen=True):
    """(1) both: number of ids, a hash of what must agree, and from the receiver the seed of the public hashes."""

    size: int
    context: bytes
    seed: bytes


class Encoded(Message, frozen=True):
    """(3) receiver → sender: P + A, (m, w) words."""

    words: U64


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
        keys = hashlib.sha512(b"atoll/vole-oprf/v1/" + seed + context).digest()
        return cls(keys[:16], keys[16:32], keys[32:48])


@dataclass(frozen=True)
class Outputs:
    """F of this side's ids.

    Attributes:
        found: The ids' hashes and places, in an order of their own; `found.order` gives each one's index.
        values: F in that order, (n, 2) uint64.
        others: The peer's number of ids.
    """

    found: okvs.Places
    values: Words
    others: int


async def receiver(
    peer: Channel, ids: Sequence[bytes], *, rng: Rng, context: Sequence[str] = (), largest: int = LARGEST
) -> Outputs:
    """Learn F of one's own ids, of a function that the two sites draw.

    Args:
        peer: Channel to the sender.
        ids: nx canonical ids without duplicates.
        rng: Secret randomness.
        context: Job and columns; what both sites must agree on before ids are compared.
        largest: Most ids the peer may announce.

    Returns:
        F of the ids.

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
    values = await offload(okvs.decode, found, vole.b)
    return Outputs(found, await offload(_hashed, found, values, public), ny)


async def sender(
    peer: Channel, ids: Sequence[bytes], *, rng: Rng, context: Sequence[str] = (), largest: int = LARGEST
) -> Outputs:
    """Let the receiver learn F of its ids, and learn F of one's own; arguments, result and errors as `receiver`."""
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
    encoded = await peer.recv(Encoded, words=(shape.words, words))  # (3)
    values = await offload(_evaluate, found, encoded.words, vole)
    return Outputs(found, await offload(_hashed, found, values, public), nx)


def _checked(opening: Opening, domain: bytes, largest: int) -> int:
    if opening.context != domain:
        raise ProtocolError("the sites compare ids of different jobs or columns")
    if not 0 <= opening.size <= largest:
        raise ProtocolError(f"the peer announces {opening.size:,} ids, at most {largest:,} are allowed")
    return opening.size


def _words(nx: int) -> int:
    return 1 if nx <= NARROW else 2


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


def _hashed(found: okvs.Places, values: Words, public: _Public) -> Words:
    """Return F for every id in the order of `found`, (n, 2): π(π(v) ⊕ x) ⊕ π(v), x being the hash of the id."""
    inner, outer, cipher = blocks(len(values)), blocks(len(values)), FixedKey(public.tags)
    cipher.encrypt_into(values, inner)
    np.bitwise_xor(inner, found.keys, out=outer)
    cipher.encrypt_into(outer, outer)
    outer ^= inner
    return outer


PROTOCOL = Protocol(
    name="vole-oprf",
    version=1,
    title="A pseudorandom function of many ids, on silent vector OLE: neither side shows an id",
    card=Card(
        source="Rindal and Schoppmann, EUROCRYPT 2021; Raghuraman and Rindal, ACM CCS 2022 (eprint 2022/320), "
        "semi-honest form, subfield words.",
        security="Semi-honest, 2 parties, computational 128 bits: what `silent-vole` rests on, and fixed-key AES as a "
        "correlation-robust hash. Words of 64 bits up to 2^24 ids of the receiver, 128 beyond: an id of the sender "
        "meets an unused key of the store with a probability below 2^-40 in all.",
        inputs="receiver: nx ids; sender: ny ids; each canonical (`atoll.align`) and without duplicates, as bytes.",
        reveals={
            "receiver": ("The number ny of the sender's ids.", "F of its own ids, and nothing of F elsewhere."),
            "sender": ("The number nx of the receiver's ids.", "F of any id it likes; the key is its own."),
        },
        cost="Bytes: about 11 nx (from 2^24 ids on 22 nx), and 300 kB.",
        fails="ProtocolError when sites differ in job or columns, sizes exceed the limit, or a message has another "
        "size; InputError on own duplicates.",
        assurance="tested",
        notes=("A malicious receiver can encode more ids than it says; only sizes are limited.",),
    ),
    roles={"receiver": receiver, "sender": sender},
    messages=(Opening, Encoded),
    uses=(silent_vole.PROTOCOL, oblivious_transfer.PROTOCOL),
)
