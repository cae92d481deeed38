"""Set intersection by RSA blind signatures: `receiver` learns which of its ids `sender` has, too.  Weak: see the card.

Receiver, ids X                                            Sender, ids Y
(1) both tell their number of ids
                                                           (2) draws an RSA key for this run, sends its modulus N
(3) sends h(x)·r^e mod N, a fresh r for every id
                                                           (4) sends (h(x)·r^e)^d = h(x)^d·r in the receiver's order
                                                           (5) sends H(h(y)^d) for its ids in shuffled order
divides by r, checks (h(x)^d)^e = h(x), compares H(h(x)^d)
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from cryptography.hazmat.primitives.asymmetric import rsa
from numpy.typing import NDArray

from atoll.core.channel import Channel
from atoll.core.errors import ProtocolError
from atoll.core.message import U8, Message
from atoll.core.offload import offload
from atoll.core.protocol import Card, Protocol
from atoll.crypto.random import Rng
from atoll.protocols import intersection_result
from atoll.protocols.intersection_result import Matches, Progress, Shuffled, context_hash

KEY_BITS = 3072
"""Bits of the modulus: 128 bits of security (NIST SP 800-57, part 1, table 2)."""

E = 65537

ROUND = 128
"""Ids of each site in one round: a few seconds of the sender's work."""

LARGEST = 1 << 17
"""Most ids of one site, unless the caller allows more: they take the sender an hour and a half."""

Bytes = NDArray[np.uint8]


class Opening(Message, frozen=True):
    """(1) both: number of ids, and a hash of job and columns that must agree."""

    size: int
    context: bytes


class Modulus(Message, frozen=True):
    """(2) sender → receiver: N, big-endian; e is 65537."""

    n: U8


class Blinded(Message, frozen=True):
    """(3) receiver → sender, each round: h(x)·r^e of its next ids."""

    numbers: U8


class Signed(Message, frozen=True):
    """(4) sender → receiver, each round: the same numbers to the power d."""

    numbers: U8


class Tags(Message, frozen=True):
    """(5) sender → receiver, each round: the first bytes of H(h(y)^d) of its next ids, in shuffled order."""

    tags: U8


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
        progress: Called with ids done and ids in all.

    Raises:
        InputError: An id stands twice in `ids`.
        ProtocolError: As the card says.
    """
    intersection_result.refuse_duplicates(ids)
    domain, nx = context_hash(context), len(ids)
    await peer.send(Opening(nx, domain))  # (1)
    ny = _checked(await peer.recv(Opening), domain, largest)  # (1)
    modulus = (await peer.recv(Modulus, n=(KEY_BITS // 8,))).n  # (2)
    key, width = _Public(domain, _checked_modulus(peer, modulus)), intersection_result.tag_bytes(nx, ny)
    mine, theirs = np.empty((nx, width), np.uint8), np.empty((ny, width), np.uint8)
    for x, y in intersection_result.rounds(nx, ny, ROUND):
        hashed, factors, blinded = await offload(_blind, key, ids[x], rng)
        await peer.send(Blinded(blinded))  # (3)
        signed = (await peer.recv(Signed, numbers=blinded.shape)).numbers  # (4)
        mine[x] = await offload(_open, key, peer.peer, hashed, factors, signed, width)
        theirs[y] = (await peer.recv(Tags, tags=(y.stop - y.start, width))).tags  # (5)
        progress(max(x.stop, y.stop), max(nx, ny))
    return await offload(intersection_result.match_tags, mine, theirs)


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
    intersection_result.refuse_duplicates(ids)
    domain, ny = context_hash(context), len(ids)
    nx = _checked(await peer.recv(Opening), domain, largest)  # (1)
    await peer.send(Opening(ny, domain))  # (1)
    secret = await offload(_fresh_key)
    key, width, order = _Public(domain, secret.n), intersection_result.tag_bytes(nx, ny), rng.permutation(ny)
    await peer.send(Modulus(_numbers([secret.n])[0]))  # (2)
    for x, y in intersection_result.rounds(nx, ny, ROUND):
        blinded = (await peer.recv(Blinded, numbers=(x.stop - x.start, KEY_BITS // 8))).numbers  # (3)
        await peer.send(Signed(await offload(_sign, secret, peer.peer, blinded)))  # (4)
        await peer.send(Tags(await offload(_own_tags, key, secret, [ids[i] for i in order[y]], width)))  # (5)
        progress(max(x.stop, y.stop), max(nx, ny))
    return Shuffled(order)


@dataclass(frozen=True)
class _Public:
    """The hash functions h and H of one run; they depend on its job and its modulus."""

    domain: bytes
    n: int

    def h(self, item: bytes) -> int:
        """Hash an id to 0 … N − 1, as evenly as a 128 bits longer string can be cut."""
        text = b"atoll/blind-rsa-intersection/v1/h" + self.domain + _numbers([self.n]).tobytes() + item
        return int.from_bytes(hashlib.shake_256(text).digest(KEY_BITS // 8 + 16), "big") % self.n

    def tag(self, signature: int, width: int) -> bytes:
        """Return the first bytes of H of h(x)^d."""
        text = b"atoll/blind-rsa-intersection/v1/H" + self.domain + _numbers([signature]).tobytes()
        return hashlib.sha256(text).digest()[:width]


@dataclass(frozen=True, repr=False)
class _Secret:
    """The sender's key, with what the Chinese remainder theorem needs."""

    n: int
    p: int
    q: int
    dp: int
    dq: int
    q_inverse: int

    def power(self, number: int) -> int:
        """Return number^d mod N.

        Raises:
            ProtocolError: The result is wrong, which would give the key away.
        """
        at_p, at_q = pow(number, self.dp, self.p), pow(number, self.dq, self.q)
        result = at_q + (at_p - at_q) * self.q_inverse % self.p * self.q
        if pow(result, E, self.n) != number:
            raise ProtocolError("a signature of this site is wrong; nothing was sent", cure="Check this machine.")
        return result


def _fresh_key() -> _Secret:
    """Draw a key; OpenSSL does it, from the operating system's randomness."""
    numbers = rsa.generate_private_key(E, KEY_BITS).private_numbers()
    n = numbers.public_numbers.n
    return _Secret(n, numbers.p, numbers.q, numbers.dmp1, numbers.dmq1, numbers.iqmp)


def _checked_modulus(peer: Channel, modulus: Bytes) -> int:
    n = int.from_bytes(modulus.tobytes(), "big")
    if n.bit_length() != KEY_BITS or n % 2 == 0:
        raise ProtocolError(f"{peer.peer} sent a modulus that is no product of two primes of {KEY_BITS // 2} bits")
    return n


def _blind(key: _Public, ids: Sequence[bytes], rng: Rng) -> tuple[list[int], list[int], Bytes]:
    """Return h(x), 1/r and h(x)·r^e for every id."""
    hashed, factors, blinded = [key.h(item) for item in ids], [], []
    for h in hashed:
        r = rng.below(key.n)
        while math.gcd(r, key.n) != 1:
            r = rng.below(key.n)
        if math.gcd(h, key.n) != 1:
            raise ProtocolError("the hash of an id has a factor in common with the peer's modulus, which is no RSA key")
        factors.append(pow(r, -1, key.n))
        blinded.append(h * pow(r, E, key.n) % key.n)
    return hashed, factors, _numbers(blinded)


def _open(key: _Public, peer: str, hashed: list[int], factors: list[int], signed: Bytes, width: int) -> Bytes:
    """Take the blinding off, check every signature, and return the tags."""
    tags = []
    for h, factor, raw in zip(hashed, factors, signed, strict=True):
        signature = int.from_bytes(raw.tobytes(), "big") * factor % key.n
        if pow(signature, E, key.n) != h:
            raise ProtocolError(f"{peer} sent a number that is no signature of what it was asked to sign")
        tags.append(key.tag(signature, width))
    return _rows(tags, width)


def _sign(secret: _Secret, peer: str, blinded: Bytes) -> Bytes:
    numbers = [int.from_bytes(raw.tobytes(), "big") for raw in blinded]
    if any(number >= secret.n or math.gcd(number, secret.n) != 1 for number in numbers):
        raise ProtocolError(f"{peer} sent a number that is not invertible modulo N")
    return _numbers([secret.power(number) for number in numbers])


def _own_tags(key: _Public, secret: _Secret, ids: Sequence[bytes], width: int) -> Bytes:
    return _rows([key.tag(secret.power(key.h(item)), width) for item in ids], width)


def _numbers(numbers: Sequence[int]) -> Bytes:
    return _rows([number.to_bytes(KEY_BITS // 8, "big") for number in numbers], KEY_BITS // 8)


def _rows(texts: Sequence[bytes], width: int) -> Bytes:
    return np.frombuffer(b"".join(texts), np.uint8).reshape(len(texts), width)


def _checked(opening: Opening, domain: bytes, largest: int) -> int:
    return intersection_result.checked_size(opening.size, opening.context, domain, largest)


PROTOCOL = Protocol(
    name="blind-rsa-intersection",
    version=1,
    title="Set intersection by RSA blind signatures: for partners that cannot do better",
    card=Card(
        source="De Cristofaro and Tsudik, Financial Cryptography 2010 (eprint 2009/491), figure 4.",
        security="Semi-honest, 2 parties: one-more RSA with 3072 bits, SHAKE-256 as a full-domain hash and SHA-256 as "
        "random oracles. Tags of 40 + log2(nx) + log2(ny) bits, at least 80: false matches below 2^-40.",
        inputs="receiver: nx ids; sender: ny ids; each canonical (`atoll.align`) and without duplicates, as bytes.",
        reveals={
            "receiver": (
                "The number ny of the sender's ids.",
                "Which of its own ids the sender has, too, and at which positions of the sender's shuffled list.",
                "In a star: its intersection with every single sender, not only the common one.",
            ),
            "sender": ("The number nx of the receiver's ids.",),
        },
        cost="Bytes: 768 nx + 10 to 13 ny, and 600 a round of 128 ids. The sender: nx + ny private powers of about "
        "20 ms; the receiver: about 1.5 ms for each of its ids.",
        fails="ProtocolError when sites differ in job or columns, sizes exceed the limit, a number is not invertible "
        "or not signed as asked, or a tag is repeated; InputError on own duplicates.",
        assurance="tested",
        notes=(
            "The sender's key is drawn for one run and never stored.",
            "A modulus that is no RSA modulus, made by a malicious sender, can show something of the receiver's ids.",
            "Sets of 10^4 ids take six minutes; `vole-intersection` takes less than a second.",
        ),
        weak="Nothing proves that the sender's RSA key is well formed, and computing with it in Python takes a time "
        "that depends on the key.",
    ),
    roles={"receiver": receiver, "sender": sender},
    messages=(Opening, Modulus, Blinded, Signed, Tags),
    uses=(intersection_result.PROTOCOL,),
)
