"""An oblivious pseudorandom function on many ids: `receiver` learns F of its ids, `sender` of its own.

Receiver, ids X                                            Sender, ids Y
(1) both tell their number of ids; the receiver draws the seed of all public hashes
(2) silent vector OLE: A, B                                K, Δ with K = B + Δ·A
(3) encodes P with P(x) = h(x), sends P + A                K′ = K + Δ·(P + A)
F(x) = H(B(x), x), for K′(x) + Δ·h(x) = B(x) where P(x) = h(x)
                                                           F(y) = H(K′(y) + Δ·h(y), y)
Where sites may be malicious, the sender commits to a coin in (1), the receiver sends its own after (3), the sender
opens its one, and the sum of both is added to what H hashes; ids are hashed to 256 bits, and H is SHA-256.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

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
"""Up to so many items of a site one word of h(x) keeps false matches below 2^-40."""

COIN = 16
"""Bytes of a coin."""

Security = Literal["semi-honest", "malicious"]
Words = NDArray[np.uint64]
Ids = Sequence[bytes] | Words


class Opening(Message, frozen=True):
    """(1) both: number of ids, a hash of what must agree, and from the receiver the seed of the public hashes.

    Where sites may be malicious, the sender's `commitment` is the hash of its coin.
    """

    size: int
    context: bytes
    seed: bytes
    security: str = "semi-honest"
    commitment: bytes = b""


class Encoded(Message, frozen=True):
    """(3) receiver → sender: P + A, (m, w) words."""

    words: U64


class Coin(Message, frozen=True):
    """(3) receiver → sender, then sender → receiver: a coin, drawn, and one committed to before."""

    share: bytes


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
    peer: Channel,
    ids: Ids,
    *,
    rng: Rng,
    context: Sequence[str] = (),
    largest: int = LARGEST,
    size: int | None = None,
    runs: int = 1,
    security: Security = "semi-honest",
) -> Outputs:
    """Learn F of one's own ids, of a function that the two sites draw.

    Args:
        peer: Channel to the sender.
        ids: nx canonical ids without duplicates; or hashes of them under a key that both sites know and nobody chose,
            (nx, 2) uint64, and (nx, 4) if a site may be malicious.
        rng: Secret randomness.
        context: Job and columns; what both sites must agree on before ids are compared.
        largest: Most ids the peer may announce.
        size: What the peer sees as nx, if not the number itself: at least as many.
        runs: Of how many runs this is one, such that no error in any of them is as likely as 2^-40; public.
        security: What the other site may be; the same at both.

    Returns:
        F of the ids.

    Raises:
        InputError: An id stands twice in `ids`.
        ProtocolError: As the card says.
    """
    domain, seed, nx = context_hash(context), rng.bytes(16), _announced(ids, size)
    malicious = security == "malicious"
    await peer.send(Opening(nx, domain, seed, security))  # (1)
    opening = await peer.recv(Opening)  # (1)
    ny = _checked(opening, domain, largest, security)
    public, shape = _Public.of(seed, domain), okvs.Shape(max(nx, 1))
    words = _words(max(nx, ny) * runs, security)
    ot = await oblivious_transfer.setup_receiver(peer, rng=rng.spawn())
    encoding = asyncio.ensure_future(offload(_encoded, ids, public, shape, words, malicious))
    try:
        vole = await silent_vole.receiver(
            peer, shape.words, words=words, ot=ot, rng=rng.spawn(), checked=malicious
        )  # (2)
        found, encoded = await encoding
    finally:
        encoding.cancel()
    await peer.send(Encoded(encoded ^ vole.a))  # (3)
    coin = await _toss_second(peer, opening.commitment, rng) if malicious else bytes(COIN)
    values = await offload(okvs.decode, found.places, vole.b)
    return Outputs(found.places, await offload(_hashed, found, values, public, coin), ny)


async def sender(
    peer: Channel,
    ids: Ids,
    *,
    rng: Rng,
    context: Sequence[str] = (),
    largest: int = LARGEST,
    size: int | None = None,
    runs: int = 1,
    security: Security = "semi-honest",
) -> Outputs:
    """Let the receiver learn F of its ids, and learn F of one's own; arguments, result and errors as `receiver`."""
    domain, malicious = context_hash(context), security == "malicious"
    coin = rng.bytes(COIN) if malicious else bytes(COIN)
    opening = await peer.recv(Opening)  # (1)
    nx = _checked(opening, domain, largest, security)
    if len(opening.seed) != 16:
        raise ProtocolError(f"{peer.peer} sent a seed of {len(opening.seed)} bytes")
    commitment = _commitment(coin) if malicious else b""
    ny = _announced(ids, size)
    await peer.send(Opening(ny, domain, b"", security, commitment))  # (1)
    public, shape = _Public.of(opening.seed, domain), okvs.Shape(max(nx, 1))
    words = _words(max(nx, ny) * runs, security)
    ot = await oblivious_transfer.setup_sender(peer, rng=rng.spawn())
    vole = await silent_vole.sender(peer, shape.words, words=words, ot=ot, rng=rng.spawn(), checked=malicious)  # (2)
    found = await offload(_placed, ids, public, shape, malicious)
    encoded = await peer.recv(Encoded, words=(shape.words, words))  # (3)
    coin = await _toss_first(peer, coin) if malicious else coin
    values = await offload(_evaluate, found.places, encoded.words, vole)
    return Outputs(found.places, await offload(_hashed, found, values, public, coin), nx)


def _announced(ids: Ids, size: int | None) -> int:
    if size is not None and size < len(ids):
        raise ValueError(f"{len(ids):,} ids are announced as {size:,}")
    return len(ids) if size is None else size


def _checked(opening: Opening, domain: bytes, largest: int, security: Security) -> int:
    if opening.context != domain:
        raise ProtocolError("the sites compare ids of different jobs or columns")
    if opening.security != security:
        raise ProtocolError(
            "one site takes the other to be semi-honest, one to be malicious", cure="Name one level at all sites."
        )
    if not 0 <= opening.size <= largest:
        raise ProtocolError(f"the peer announces {opening.size:,} ids, at most {largest:,} are allowed")
    return opening.size


async def _toss_second(peer: Channel, commitment: bytes, rng: Rng) -> bytes:
    mine = rng.bytes(COIN)
    await peer.send(Coin(mine))  # (3)
    theirs = _share(await peer.recv(Coin))  # (3)
    if _commitment(theirs) != commitment:
        raise ProtocolError(f"{peer.peer} opened another coin than it had committed to")
    return _sum(mine, theirs)


async def _toss_first(peer: Channel, mine: bytes) -> bytes:
    theirs = _share(await peer.recv(Coin))  # (3)
    await peer.send(Coin(mine))  # (3)
    return _sum(mine, theirs)


def _share(coin: Coin) -> bytes:
    if len(coin.share) != COIN:
        raise ProtocolError(f"the peer's coin has {len(coin.share)} bytes")
    return coin.share


def _sum(a: bytes, b: bytes) -> bytes:
    return (int.from_bytes(a, "little") ^ int.from_bytes(b, "little")).to_bytes(COIN, "little")


def _commitment(coin: bytes) -> bytes:
    return hashlib.sha256(b"atoll/vole-oprf/v1/coin/" + coin).digest()


def _words(most: int, security: Security) -> int:
    return 1 if most <= NARROW and security == "semi-honest" else 2


@dataclass(frozen=True)
class _Found:
    """Ids with their places, and for malicious peers their digests in the places' order, (n, 4) words."""

    places: okvs.Places
    digests: Words | None = None


def _placed(ids: Ids, public: _Public, shape: okvs.Shape, malicious: bool) -> _Found:
    """Hash ids and find their places; refuse duplicates."""
    width = 4 if malicious else 2
    if isinstance(ids, np.ndarray):
        if ids.dtype != np.uint64 or ids.ndim != 2 or ids.shape[1] != width:
            raise ValueError(f"hashed ids are (n, {width}) words, got {ids.shape} of {ids.dtype}")
        keys = np.ascontiguousarray(ids)
    else:
        texts = item_hash.Texts.of(ids)
        keys = (item_hash.digest_texts if malicious else item_hash.hash_texts)(texts, public.items)
    repeated = item_hash.repeated(keys)
    if repeated:
        raise InputError(
            f"{repeated:,} of {len(ids):,} ids are duplicates",
            cure="Align by atoll.align, which keeps each id once and remembers its rows.",
        )
    if not malicious:
        return _Found(okvs.places(public.store, keys, shape))
    first, rest = np.ascontiguousarray(keys[:, :2]), np.ascontiguousarray(keys[:, 2:])
    places = okvs.places(public.store, first, shape, rest)
    return _Found(places, keys[places.order])


def _encoded(ids: Ids, public: _Public, shape: okvs.Shape, words: int, malicious: bool) -> tuple[_Found, Words]:
    found = _placed(ids, public, shape, malicious)
    hashed = found.places.hashed
    try:
        columns = [okvs.encode(found.places, np.ascontiguousarray(hashed[:, word])) for word in range(words)]
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


def _hashed(found: _Found, values: Words, public: _Public, coin: bytes) -> Words:
    """Return F for every id in the order of its places, (n, 2).

    Among semi-honest sites F is π(π(v) ⊕ x) ⊕ π(v), x being the hash of the id; else SHA-256 of v + coin and digest.
    """
    if found.digests is not None:
        salted = values ^ np.frombuffer(coin, np.uint64)
        whole = memoryview(np.concatenate((salted, found.digests), axis=1).tobytes())
        key = b"atoll/vole-oprf/v1/F/" + public.tags
        begun, out = hashlib.sha256(key), bytearray()
        for at in range(0, 48 * len(values), 48):
            one = begun.copy()
            one.update(whole[at : at + 48])
            out += one.digest()[:16]
        return np.frombuffer(out, np.uint64).reshape(-1, 2)
    inner, outer, cipher = blocks(len(values)), blocks(len(values)), FixedKey(public.tags)
    cipher.encrypt_into(values, inner)
    np.bitwise_xor(inner, found.places.keys, out=outer)
    cipher.encrypt_into(outer, outer)
    outer ^= inner
    return outer


PROTOCOL = Protocol(
    name="vole-oprf",
    version=1,
    title="A pseudorandom function of many ids, on silent vector OLE: neither side shows an id",
    card=Card(
        source="Rindal and Schoppmann, EUROCRYPT 2021; Raghuraman and Rindal, ACM CCS 2022 (eprint 2022/320), "
        "semi-honest form with subfield words, or the malicious form of the former's section 3.",
        security="Semi-honest by default, 2 parties, computational 128 bits: what `silent-vole` rests on, and "
        "fixed-key AES as a correlation-robust hash. Words of 64 bits up to 2^24 ids of a site, 128 beyond: an "
        "id of the sender meets an unused key of the store with a probability below 2^-40 in all. Malicious where "
        "both sides ask for it: `silent-vole` checked, words of 128 bits, a common coin in F, SHA-256 as a random "
        "oracle for ids and F.",
        inputs="receiver: nx ids; sender: ny ids; each canonical (`atoll.align`) and without duplicates, as bytes.",
        reveals={
            "receiver": ("The number ny of the sender's ids.", "F of its own ids, and nothing of F elsewhere."),
            "sender": ("The number nx of the receiver's ids.", "F of any id it likes; the key is its own."),
        },
        cost="Bytes: about 11 nx (from 2^24 ids on, and malicious, 22 nx), and up to 1.2 MB (malicious 2 MB).",
        fails="ProtocolError when sites differ in job, columns or security, sizes exceed the limit, a message has "
        "another size, or a check of the malicious form fails; InputError on own duplicates.",
        assurance="tested",
        notes=(
            "Malicious form: a corrupt receiver gets F of at most m ids, not of nx as it says; m is the number of "
            "words of the store, about 1.3 nx for large sets and more for small ones. A corrupt site may put in any "
            "ids, and may stop at any time.",
            "Malicious form: assurance is `sketch`. The parts are proven in the sources, the composition with "
            "`oblivious-transfer`, `transfer-check` and `silent-vole` is tested, not proven anew.",
            "Semi-honest form: a corrupt receiver can encode more ids than it says, and a corrupt sender can learn "
            "from wrong trees; only sizes are limited.",
        ),
    ),
    roles={"receiver": receiver, "sender": sender},
    messages=(Opening, Encoded, Coin),
    uses=(silent_vole.PROTOCOL, oblivious_transfer.PROTOCOL),
)
