"""Set intersection of three and more sites in a star: the hub learns what all have in common, and of no pair more.

Partner i, ids Y_i                                         Hub, ids X
(1) `pairwise-keys`: k_ij with every other partner j       passes the keys on
    share_i(y) = Σ_j PRF(k_ij, y), so that Σ_i share_i(y) = 0
(2) `vole-oprf` with each partner: F_i(y)                  F_i(x)
(3) sends a store D_i with D_i(y) = share_i(y) ⊕ G(F_i(y)), random elsewhere
                                                           (4) x is common if Σ_i D_i(x) ⊕ G(F_i(x)) = 0
looks them up                                              (5) tells T(F_i(x)) of the common x, in one order for all

G and T are independent hashes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from atoll.core.channel import Channel
from atoll.core.errors import InputError, ProtocolError
from atoll.core.message import U8, U64, AtMost, Message
from atoll.core.offload import offload
from atoll.core.protocol import Card, Protocol
from atoll.crypto import filled_store, item_hash, okvs
from atoll.crypto.filled_store import Store
from atoll.crypto.random import Rng
from atoll.crypto.stretch import pads, stretch
from atoll.protocols import intersection_result, pairwise_keys, vole_intersection, vole_oprf
from atoll.protocols.intersection_result import as_words
from atoll.protocols.pairwise_keys import Seal

LARGEST = vole_oprf.LARGEST
"""Most ids of one site in one run: a false match of 64-bit shares then has a probability below 2^-40."""

MASKS, TAGS = b"multi-intersection/masks", b"multi-intersection/tags"

Progress = Callable[[int, int], None]
Rows = NDArray[np.int64]
Words = NDArray[np.uint64]


class Shares(Message, frozen=True):
    """(3) partner → hub: a store of its ids' zero-shares under F, 8 bytes a word; it looks random as a whole."""

    seed: bytes
    words: U64


class Common(Message, frozen=True):
    """(5) hub → partner: tags of the common ids, of this partner's F, in the order common to all sites."""

    tags: U8


async def receive_common(
    peers: Mapping[str, Channel],
    ids: Sequence[bytes],
    *,
    rng: Rng,
    context: Sequence[str] = (),
    largest: int = LARGEST,
    minimum: int = 0,
    before: int = 0,
    tell: bool = True,
    progress: Progress = lambda done, total: None,
) -> Rows:
    """Be the hub: learn which ids all partners have, too.

    Args:
        peers: Channels to the partners by name; each runs `join` with the same `context` and `tell`.
        ids: n canonical ids without duplicates.
        rng: Secret randomness.
        context: Job and columns; what all sites must agree on before ids are compared.
        largest: Most ids a partner may announce.
        minimum: Fewest common ids; with less nobody is told anything.
        before: Common ids of earlier runs that count towards the minimum.
        tell: Whether the partners learn the common ids.
        progress: Called with partners done and partners in all.

    Returns:
        Own indices of the common ids, in a random order; every partner that is told gets its own in the same order.

    Raises:
        InputError: An id stands twice, or fewer ids are common than the minimum.
        ProtocolError: As the card says.
        ValueError: There is no partner.
    """
    if not peers:
        raise ValueError("an intersection needs a partner")
    context, done = (*context, _mode(tell)), 0
    if len(peers) == 1:
        return await _receive_pair(
            next(iter(peers.values())), ids, rng, context, largest, minimum - before, tell, progress
        )

    async def evaluated(peer: Channel) -> tuple[Words, Words]:
        nonlocal done
        both = await _evaluated(peer, ids, rng.spawn(), context, largest)
        done += 1
        progress(done, len(peers))
        return both

    await pairwise_keys.relay(peers)  # (1)
    tasks = [asyncio.ensure_future(evaluated(peer)) for peer in peers.values()]
    try:
        found = await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
    sums = np.bitwise_xor.reduce([shares for _, shares in found])  # (4)
    rows = np.flatnonzero(sums == 0)
    rows = rows[rng.permutation(len(rows))]
    refuse_few(before + len(rows), minimum)
    if tell:
        width = _tag_bytes(len(ids))
        for peer, (values, _) in zip(peers.values(), found, strict=True):
            await peer.send(Common(await offload(pads, values[rows], TAGS, width)))  # (5)
    return rows


async def join(
    hub: Channel,
    ids: Sequence[bytes],
    *,
    partners: Sequence[str],
    rng: Rng,
    seal: Seal | None = None,
    context: Sequence[str] = (),
    largest: int = LARGEST,
    minimum: int = 0,
    before: int = 0,
    tell: bool = True,
) -> Rows:
    """Be a partner: let the hub learn which ids all have in common, and learn them oneself if the hub tells.

    Args:
        hub: Channel to the hub.
        ids: n canonical ids without duplicates.
        partners: Names of all partners as the job has them, this site's own among them.
        seal: How keys between partners are signed and checked; see `pairwise_keys`.
        context: As of `receive_common`, and so are the rest.

    Returns:
        Own indices of the common ids in the order of all sites; none where the hub does not tell.

    Raises:
        InputError: An id stands twice, or fewer ids are common than the minimum.
        ProtocolError: As the card says.
        IdentityError: A partner's key is not signed by that partner.
    """
    context = (*context, _mode(tell))
    if len(partners) == 1:
        return await _join_pair(hub, ids, rng, context, largest, minimum - before, tell)
    keys = await pairwise_keys.agree(hub, partners, rng=rng.spawn(), seal=seal, context=context)  # (1)
    function = await vole_oprf.sender(hub, ids, rng=rng.spawn(), context=context, largest=largest)  # (2)
    values = np.empty_like(function.values)  # F in the order of the ids
    values[function.found.order] = function.values
    shares = await offload(zero_shares, ids, list(keys.values()))
    store = await offload(_programmed, function.found, values, shares, rng.spawn())
    await hub.send(Shares(store.seed, store.words))  # (3)
    if not tell:
        return np.empty(0, np.int64)
    width = _tag_bytes(function.others)
    tags = (await hub.recv(Common, tags=(AtMost(min(len(ids), function.others)), width))).tags  # (5)
    rows = await offload(_look_up, pads(values, TAGS, width), tags)
    refuse_few(before + len(rows), minimum)
    return rows


async def _evaluated(
    peer: Channel, ids: Sequence[bytes], rng: Rng, context: Sequence[str], largest: int
) -> tuple[Words, Words]:
    """Return F (n, 2) and what the partner's store gives under it (n,), in the order of the ids."""
    function = await vole_oprf.receiver(peer, ids, rng=rng, context=context, largest=largest)  # (2)
    shape = okvs.Shape(max(function.others, 1))
    sent = await peer.recv(Shares, words=(shape.words, 1))  # (3)
    if len(sent.seed) != 16:
        raise ProtocolError(f"{peer.peer} sent a seed of {len(sent.seed)} bytes")
    shares = await offload(filled_store.decode, Store(sent.seed, sent.words), function.found.keys, shape)
    shares[:, 0] ^= stretch(function.values, MASKS, 1)[:, 0, 0]
    values, out = np.empty_like(function.values), np.empty(len(ids), np.uint64)
    values[function.found.order], out[function.found.order] = function.values, shares[:, 0]
    return values, out


def zero_shares(ids: Sequence[bytes], keys: Sequence[bytes]) -> Words:
    """Return this partner's share of every id, (n,): the sum over all partners is zero, any fewer are random.

    Args:
        ids: n ids.
        keys: The keys that this partner shares with each of the others.
    """
    shares = np.zeros(len(ids), np.uint64)
    for key in keys:  # the hash of ids is a CBC-MAC, and under a secret key a pseudorandom function
        shares ^= item_hash.hash_items(ids, key)[:, 0]
    return shares


def refuse_few(common: int, minimum: int) -> None:
    """Refuse a result that says something of single persons; how many there are is told at this site only.

    Raises:
        InputError: Fewer than the minimum.
    """
    if common < minimum:
        raise InputError(
            f"fewer ids are common to all sites than the minimum of {minimum:,}",
            detail=f"There are {common:,}.",
            cure="Check that all sites write the id in the same way and hold the same rows.",
        )


def _programmed(found: okvs.Places, values: Words, shares: Words, rng: Rng) -> Store:
    order = found.order
    masked = shares[order] ^ stretch(values[order], MASKS, 1)[:, 0, 0]
    try:
        return filled_store.encode(found.keys, masked[:, np.newaxis], okvs.Shape(max(len(shares), 1)), rng)
    except okvs.NotEncodable:
        raise ProtocolError("the ids could not be encoded, which happens once in 2^300 runs") from None


def _tag_bytes(nx: int) -> int:
    """Tags are compared with all ids of a partner: at most `LARGEST`, so the width need not depend on their number."""
    return intersection_result.tag_bytes(nx, LARGEST)


def _look_up(mine: NDArray[np.uint8], told: NDArray[np.uint8]) -> Rows:
    at_mine, at_told = item_hash.join(as_words(mine), as_words(told))
    if len(at_told) < len(told):
        raise ProtocolError("the hub announced an id that this site does not have")
    if np.bincount(at_mine, minlength=1).max(initial=0) > 1:
        raise ProtocolError("the hub announced an id twice")
    return at_mine


def _mode(tell: bool) -> str:
    return "the partners are told" if tell else "only the hub learns"


async def _receive_pair(
    peer: Channel,
    ids: Sequence[bytes],
    rng: Rng,
    context: Sequence[str],
    largest: int,
    minimum: int,
    tell: bool,
    progress: Progress,
) -> Rows:
    """With one partner a pair is all there is to hide, and the intersection of two sites is enough."""
    matches = await vole_intersection.receiver(
        peer, ids, rng=rng.spawn(), context=context, largest=largest, progress=progress
    )
    rows, (positions,) = intersection_result.common_rows([matches], rng)
    refuse_few(len(rows), minimum)
    if tell:
        await intersection_result.announce(peer, positions)
    return rows


async def _join_pair(
    hub: Channel, ids: Sequence[bytes], rng: Rng, context: Sequence[str], largest: int, minimum: int, tell: bool
) -> Rows:
    shuffled = await vole_intersection.sender(hub, ids, rng=rng.spawn(), context=context, largest=largest)
    if not tell:
        return np.empty(0, np.int64)
    rows = await intersection_result.learn(hub, shuffled.order)
    refuse_few(len(rows), minimum)
    return rows


PROTOCOL = Protocol(
    name="multi-intersection",
    version=1,
    title="Set intersection of three and more sites in a star, without showing what any two have in common",
    card=Card(
        source="Kolesnikov, Matania, Pinkas, Rosulek and Trieu, ACM CCS 2017 (eprint 2017/799): the "
        "protocol for the augmented semi-honest model, in a star. Its programmable function is `vole-oprf` and a "
        "store of Garimella et al., CRYPTO 2021, with random filling.",
        security="Augmented semi-honest (a site may choose its ids, and follows the protocol), any number of sites "
        "together; computational 128 bits. Shares have 64 bits, so with 2^22 ids of the hub a false match has a "
        "probability of 2^-42. That the hub cannot read the keys that it passes on needs signed keys (`pairwise-keys`) "
        "or a hub that does not swap them.",
        inputs="hub: n ids; partner i: n_i ids; each canonical (`atoll.align`) and without duplicates, as bytes.",
        reveals={
            "hub": (
                "The number n_i of every partner's ids.",
                "Which of its own ids all partners have, and of any other id nothing: not which or how many have it.",
            ),
            "partner": (
                "The number n of the hub's ids, and the names of the other partners.",
                "Where the hub tells: which of its own ids all sites have, in a random order common to all.",
            ),
        },
        cost="For each partner: bytes about 11 n + 11 n_i + 12 for each common id, and up to 1.2 MB; the hub computes "
        "one store and one evaluation for each partner, a partner k PRFs an id for k other partners.",
        fails="ProtocolError when sites differ in job, columns, partners or who is told, sizes exceed the limit, a "
        "message has another size, or the hub announces ids that are repeated or not there; IdentityError on keys "
        "that are not signed by their partner; InputError on own duplicates, or fewer common ids than the minimum.",
        assurance="tested",
        notes=(
            "The hub together with some partners learns what the hub has in common with all *other* partners together; "
            "if just one partner is not among them, that is the hub's intersection with this one. The same could be "
            "had by bringing the hub's ids as those of the partners in the coalition.",
            "Partners that work together without the hub learn no more than each alone.",
            "With one partner it runs `vole-intersection`, for then there is no pair to hide.",
            "A malicious hub can encode more ids than it says, or announce fewer than are common; only sizes and "
            "repetitions are checked.",
            "Repeated runs with changed inputs show the difference: keep a log of runs.",
        ),
    ),
    roles={"hub": receive_common, "partner": join},
    messages=(Shares, Common),
    uses=(pairwise_keys.PROTOCOL, vole_oprf.PROTOCOL, vole_intersection.PROTOCOL, intersection_result.PROTOCOL),
)
