"""Lookup among decoys (weak): the server learns that a key is one of k, and the client one record of them.

(1) server → client   Offered       its records, its limit, the fewest candidates it accepts, S = y·G
(2) client → server   Candidates    k keys for each query, one of them meant; R = (c + 1)·S + x·G
(3) server → client   Closed        k records, each under a key from y·(R − (j + 1)·S), of which the client has one
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable, Sequence

import numpy as np
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESSIV
from numpy.typing import NDArray

from atoll.core.channel import Channel
from atoll.core.errors import ContractError, InputError, ProtocolError
from atoll.core.message import U8, U32, AtMost, Message
from atoll.core.offload import offload
from atoll.core.protocol import Card, Protocol
from atoll.crypto import lookup_table, ristretto
from atoll.crypto.aes import expand
from atoll.crypto.random import Rng
from atoll.protocols.keyword_lookup.table import Meter

MOST = 4096
"""Most candidates of one query."""

LARGEST = 1 << 24
"""Most bytes of candidates in one message."""

TAG = 16

CARD = Card(
    source="The k-anonymous query of industry products; 1-of-k transfer of Chou and Orlandi, LATINCRYPT 2015, on "
    "ristretto255; records under AES-SIV, RFC 5297.",
    security="WEAK. The server learns k keys of which one is meant, and may know which is likely. Which one is meant "
    "among equally likely keys is hidden from any server; the other records are hidden from a semi-honest client by "
    "Diffie-Hellman on ristretto255, SHA-256 as a random oracle.",
    inputs="client: keys, a pool of plausible keys to take decoys from, k, and a secret of 32 bytes that stays the "
    "same. server: its records by key, and the fewest candidates it accepts.",
    reveals={
        "client": (
            "For each key it asks for the record, or that there is none.",
            "The number of records, their padded length, names and types of their columns.",
        ),
        "server": (
            "For each query k keys, one of which is meant; and whatever it knows of who asks for whom.",
            "When the same key is asked for again, and how often, since the candidates are the same.",
        ),
    },
    cost="For each key the bytes of k keys up and k padded records down, in one round trip; k scalar multiplications.",
    fails="ContractError when k is smaller than the server accepts, or its limit is spent; InputError when the pool "
    "is too small; ProtocolError on wrong sizes and points off the group.",
    assurance="tested",
    weak="The server learns k keys of which one is meant, and what it knows of the client may tell which.",
    notes=(
        "Weak: use `keyword-lookup` wherever a hint of some megabytes can be kept. Every run prints its k.",
        "Decoys are chosen by a pseudo-random function of the key, so asking again does not narrow it down; another "
        "pool or another secret gives other decoys, and two sets with one key in common name it.",
        "The server answers k keys for each counted query and cannot see whether the pool is plausible.",
    ),
)


class Offered(Message, frozen=True):
    """Step 1, server: what is served, how often this client may still ask, and S = y·G."""

    count: int
    record: int
    left: int
    fewest: int
    about: str
    point: U8


class Candidates(Message, frozen=True):
    """Step 2, client: the keys of one query, one after the other, and R; no keys end the session."""

    lengths: U32
    keys: U8
    point: U8


class Closed(Message, frozen=True):
    """Step 3, server: the records of all candidates, of one length, each under its own key."""

    records: U8


def candidates(key: bytes, pool: Sequence[bytes], k: int, secret: bytes) -> list[bytes]:
    """Return the key and its k − 1 decoys, in an order that says nothing; the same whenever it is asked for again.

    Args:
        key: The key that is meant.
        pool: Plausible keys, each once, the same ones every time; the key may be among them.
        k: How many.
        secret: 32 bytes of the client's.

    Raises:
        InputError: The pool has fewer than k − 1 other keys.
    """
    if len(pool) - (key in pool) < k - 1:
        raise InputError(
            f"{k - 1:,} decoys are needed, and the pool has {len(pool):,} keys", cure="Give a larger pool of decoys."
        )
    seed, chosen, at = hmac.digest(secret, b"atoll/decoys" + key, "sha256")[:16], {key}, 0
    while len(chosen) < k:
        words = expand(seed, 8 * 1024, at.to_bytes(16, "big")).view(np.uint64)
        for word in words.tolist():
            if len(chosen) == k:
                break
            chosen.add(pool[word % len(pool)])
        at += 512
    return sorted(chosen)


async def client(
    peer: Channel, keys: Sequence[bytes], *, pool: Sequence[bytes], k: int, secret: bytes, rng: Rng
) -> list[bytes | None]:
    """Look up keys among decoys.

    Args:
        peer: Channel to the server.
        keys: Canonical keys.
        pool: Canonical keys to take decoys from.
        k: Candidates of each query, the key included, 2 to 4,096.
        secret: 32 bytes that stay the same at this client.
        rng: Secret randomness.

    Returns:
        For each key its record, or None.

    Raises:
        ContractError, InputError, ProtocolError: As the card says.
    """
    return await ask(peer, await meet(peer), keys, pool=pool, k=k, secret=secret, rng=rng)


async def meet(peer: Channel) -> Offered:
    """Learn what is offered."""
    offered = await peer.recv(Offered, point=(32,))  # (1)
    if not (1 <= offered.record <= lookup_table.LONGEST_RECORD and offered.left >= -1 and offered.count >= 0):
        raise ProtocolError(f"the offer of {peer.peer} cannot be: a number is out of range")
    return offered


async def ask(
    peer: Channel, offered: Offered, keys: Sequence[bytes], *, pool: Sequence[bytes], k: int, secret: bytes, rng: Rng,
    counted: Callable[[int], None] = lambda count: None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> list[bytes | None]:  # fmt: skip
    """Look up keys after `meet`, `counted` before each; other arguments and errors as of `client`."""
    if not max(2, offered.fewest) <= k <= MOST:
        least = max(2, offered.fewest)
        raise ContractError(
            f"{peer.peer} accepts {least:,} to {MOST:,} candidates, not {k:,}", cure="Choose another k."
        )
    if 0 <= offered.left < len(keys):
        raise ContractError(
            f"{peer.peer} allows {offered.left:,} more queries now, and {len(keys):,} keys are asked for",
            cure="Ask for fewer keys, or wait until the limit is renewed.",
        )
    found: list[bytes | None] = []
    pool = sorted(set(pool))
    for key in keys:
        names = candidates(key, pool, k, secret)
        c, x = names.index(key), ristretto.random_scalar(rng)
        # R = (c + 1)·S + x·G; c + 1 is never zero, so that no product is the identity
        scaled = ristretto.multiply(offered.point[None], (c + 1).to_bytes(32, "little"))
        R = ristretto.add(scaled, ristretto.multiply_base(x)[None])
        lengths = np.array([len(name) for name in names], np.uint32)
        counted(1)
        await peer.send(Candidates(lengths, np.frombuffer(b"".join(names), np.uint8), R[0]))  # (2)
        closed = (await peer.recv(Closed, records=(k, offered.record + TAG))).records  # (3)
        shared = ristretto.multiply(offered.point[None], x)
        found.append(_opened(_keys(offered.point, R[0], shared, c)[0], closed[c]))
        progress(len(found), len(keys))
    await peer.send(Candidates(np.zeros(0, np.uint32), np.zeros(0, np.uint8), np.zeros(32, np.uint8)))  # (2)
    return found


async def server(
    peer: Channel,
    find: Callable[[Sequence[bytes]], Sequence[bytes | None]],
    *,
    count: int,
    record: int,
    about: str,
    fewest: int,
    meter: Meter,
    rng: Rng,
) -> int:
    """Answer one client until it is done.

    Args:
        peer: Channel to the client.
        find: Returns the records of keys, or None where there is none.
        count: Records in all.
        record: Padded length of a record.
        about: What the columns of a record mean.
        fewest: Fewest candidates that are accepted.
        meter: Counts this client's queries.
        rng: Secret randomness.

    Returns:
        How many queries were answered.

    Raises:
        ContractError, ProtocolError: As the card says.
    """
    y, answered = ristretto.random_scalar(rng), 0
    S = ristretto.multiply_base(y)
    await peer.send(Offered(count, record, meter.left(), fewest, about, S))  # (1)
    while True:
        asked = await peer.recv(Candidates, lengths=(AtMost(MOST),), keys=(AtMost(LARGEST),), point=(32,))  # (2)
        k = len(asked.lengths)
        if not k:
            return answered
        if k < max(2, fewest):
            raise ContractError(f"{peer.peer} sends {k:,} candidates, at least {max(2, fewest):,} are accepted")
        names = _names(asked)
        meter.spend(1)
        records = await offload(find, names)
        await peer.send(Closed(await offload(_closed, asked.point, S, y, records, record)))  # (3)
        answered += 1


def _names(asked: Candidates) -> list[bytes]:
    ends = np.cumsum(asked.lengths.astype(np.int64))
    if ends[-1] != len(asked.keys):
        raise ProtocolError("the candidates are not as long as their lengths say")
    text = asked.keys.tobytes()
    names = [text[end - size : end] for end, size in zip(ends.tolist(), asked.lengths.tolist(), strict=True)]
    if max(map(len, names)) > 65_535 or len(set(names)) < len(names):
        raise ProtocolError("a candidate is too long, or stands twice")
    return names


def _closed(
    R: NDArray[np.uint8], S: NDArray[np.uint8], y: bytes, records: Sequence[bytes | None], record: int
) -> NDArray[np.uint8]:
    """Return the padded records, each under the key of its place, (k, record + 16)."""
    step, points = ristretto.multiply(S[None], y), np.empty((len(records), 32), np.uint8)
    at = ristretto.multiply(R[None], y)
    for j in range(len(records)):
        at = ristretto.subtract(at, step)
        points[j] = at[0]
    out = []
    for key, text in zip(_keys(S, R, points, 0), records, strict=True):
        # a record has two bytes to spare for its length; 0xFFFF says that there is none
        size = 0xFFFF if text is None else len(text)
        padded = size.to_bytes(2, "big") + (text or b"").ljust(record - 2, b"\0")
        out.append(AESSIV(key).encrypt(padded, None))
    return np.frombuffer(b"".join(out), np.uint8).reshape(len(records), -1)


def _opened(key: bytes, closed: NDArray[np.uint8]) -> bytes | None:
    try:
        padded = AESSIV(key).decrypt(closed.tobytes(), None)
    except InvalidTag:
        return None  # as a miss: no reaction tells the server what it did
    size = int.from_bytes(padded[:2], "big")
    return None if size == 0xFFFF else padded[2 : 2 + size]


def _keys(S: NDArray[np.uint8], R: NDArray[np.uint8], points: NDArray[np.uint8], first: int) -> list[bytes]:
    head = b"atoll/decoy-lookup/v1" + S.tobytes() + R.tobytes()
    return [hashlib.sha256(head + (first + j).to_bytes(4, "big") + p.tobytes()).digest() for j, p in enumerate(points)]


PROTOCOL = Protocol(
    name="decoy-lookup",
    version=1,
    title="Lookup among decoys: one of k keys is meant (weak)",
    card=CARD,
    roles={"client": client, "server": server},
    messages=(Offered, Candidates, Closed),
)
