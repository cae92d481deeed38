"""Private query: `client` learns the records of its keys, and `server`, whose records they are, only how many it asked.

(1) server → client   Terms                    sizes, version, digest, limit
(2) client → server   Have                     the version it has from before
(3) server → client   Plan, then HintPart … Overflow, or Change …, or nothing
then for each batch of keys
(4) client → server   Batch                    how many; 0 ends
(5) both              `oprf`                   F_k(key), verifiable: the column, and the key of the record
(6) client → server   Queries                  u = A·s + e + Δ·(unit vector of the column)
(7) server → client   Answers                  D·u
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from atoll.core.channel import Channel
from atoll.core.errors import ContractError, ProtocolError
from atoll.core.message import U8, U32, AtMost, Message
from atoll.core.offload import offload
from atoll.core.protocol import Protocol
from atoll.crypto import lookup_table, pir
from atoll.crypto.lookup_table import Layout
from atoll.crypto.random import Rng
from atoll.protocols import oprf
from atoll.protocols.keyword_lookup.card import CARD
from atoll.protocols.keyword_lookup.table import IDENTITY_BYTES, Cached, Change, Meter, Opener, Served, digest_of

BATCH = 32
"""Most keys in one batch."""

PART = 4096
"""Rows of the hint in one message."""

LARGEST = 2 << 30
"""Most bytes of hint and overflow that a client takes, unless it says otherwise."""

LARGEST_CHANGE = 1 << 26
"""Most bytes of changes in one version; more come as a new hint."""

Progress = Callable[[int, int], None]
T = TypeVar("T")


class Terms(Message, frozen=True):
    """Step 1, server: what is served, and how often this client may still ask (−1: without limit)."""

    parameters: str
    identity: bytes
    version: int
    point: bytes
    digest: bytes
    count: int
    columns: int
    slots: int
    record: int
    overflow: int
    left: int
    about: str


class Have(Message, frozen=True):
    """Step 2, client: identity and version of the hint it has from before; version 0 where it has none."""

    identity: bytes
    version: int


class Plan(Message, frozen=True):
    """Step 3, server: whether the whole hint follows, or one `Change` for each version that the client lacks."""

    whole: bool


class HintPart(Message, frozen=True):
    """Step 3, server: the next rows of D·A."""

    words: U32


class Overflow(Message, frozen=True):
    """Step 3, server: name and encrypted record of all that found their column full."""

    rows: U8


class Batch(Message, frozen=True):
    """Step 4, client: how many keys follow; 0 ends the session."""

    count: int


class Queries(Message, frozen=True):
    """Step 6, client: an LWE vector for each key."""

    u: U32


class Answers(Message, frozen=True):
    """Step 7, server: D·u for each."""

    words: U32


@dataclass(frozen=True)
class Met:
    """What a client knows after step 3.

    Attributes:
        terms: The server's terms.
        cached: Its hint, of the version that is served.
        fetched: Whether anything had to be downloaded for it.
    """

    terms: Terms
    cached: Cached
    fetched: bool


async def server(peer: Channel, served: Served, *, meter: Meter, rng: Rng) -> int:
    """Serve one client until it is done.

    Args:
        peer: Channel to the client.
        served: The database.
        meter: Counts this client's queries, before they are answered.
        rng: Secret randomness for the proofs of the OPRF.

    Returns:
        How many queries were answered.

    Raises:
        ContractError: The client asks for more than its limit.
        ProtocolError: The client broke the protocol.
    """
    layout = served.layout
    sizes = (served.count, layout.columns, layout.slots, layout.record, len(served.overflow))
    first = (pir.NAME, served.identity, served.version, served.point, served.digest)
    await peer.send(Terms(*first, *sizes, meter.left(), served.about))  # (1)
    await _bring_up_to_date(peer, served)  # (2) (3)
    answered = 0
    while count := (await peer.recv(Batch)).count:  # (4)
        if not 0 < count <= BATCH:
            raise ProtocolError(f"a batch has 1 to {BATCH} keys, the peer announces {count:,}")
        meter.spend(count)
        await oprf.server(peer, served.key, count=count, rng=rng)  # (5)
        queries = await peer.recv(Queries, u=(count, layout.columns))  # (6)
        await peer.send(Answers(await offload(pir.answer, served.matrix, queries.u)))  # (7)
        answered += count
    return answered


async def _bring_up_to_date(peer: Channel, served: Served) -> None:
    have = await peer.recv(Have)  # (2)
    changes: Sequence[Change] | None = None
    if have.identity == served.identity and 0 < have.version <= served.version:
        changes = served.changes(have.version) if have.version < served.version else ()
    await peer.send(Plan(changes is None))  # (3)
    if changes is not None:
        for change in changes:
            await peer.send(change)
        return
    for at in range(0, served.layout.rows, PART):
        await peer.send(HintPart(np.ascontiguousarray(served.hint[at : at + PART])))
    await peer.send(Overflow(np.ascontiguousarray(served.overflow)))


async def client(
    peer: Channel,
    keys: Sequence[bytes],
    *,
    rng: Rng,
    cached: Cached | None = None,
    largest: int = LARGEST,
    progress: Progress = lambda done, total: None,
) -> tuple[list[bytes | None], Cached]:
    """Look up keys in one session.

    Args:
        peer: Channel to the server.
        keys: Canonical keys.
        rng: Secret randomness.
        cached: The hint from before, if there is one.
        largest: Most bytes of hint and overflow to take.
        progress: Called with keys done and keys in all.

    Returns:
        For each key its record, or None; and the hint to be kept for the next session.

    Raises:
        ContractError: The server's limit does not allow so many keys; nothing was asked.
        ProtocolError: The server broke the protocol, or shows another database than before under the same version.
    """
    met = await meet(peer, cached=cached, largest=largest)
    records = await ask(peer, met, keys, rng=rng, progress=progress)
    await leave(peer)
    return records, met.cached


async def meet(peer: Channel, *, cached: Cached | None = None, largest: int = LARGEST) -> Met:
    """Learn the terms, and bring the hint up to date; arguments and errors as of `client`."""
    terms = await peer.recv(Terms)  # (1)
    layout = _checked(terms, peer.peer, largest)
    same = cached is not None and cached.identity == terms.identity and cached.layout == layout
    if cached is None or not same:
        cached, have = None, Have(bytes(IDENTITY_BYTES), 0)
    else:
        if (cached.version == terms.version) != (cached.digest == terms.digest) or cached.version > terms.version:
            raise ProtocolError(
                f"{peer.peer} shows version {terms.version} of its database with another content than before",
                cure=f"Ask {peer.peer} what happened; to accept it, remove what is kept of this database here.",
            )
        have = Have(cached.identity, cached.version)
    await peer.send(have)  # (2)
    whole = (await peer.recv(Plan)).whole  # (3)
    if whole or cached is None:
        if not whole:
            raise ProtocolError(f"{peer.peer} sends changes where a whole hint is needed")
        return Met(terms, await _download(peer, terms, layout), True)
    lacking = terms.version - cached.version
    for _ in range(lacking):
        change = await peer.recv(Change, **_change_shapes(layout))
        cached = await offload(cached.changed, change)
    if lacking:
        await _verify(cached, terms, peer.peer)
    return Met(terms, replace(cached, digest=terms.digest), lacking > 0)


async def ask(
    peer: Channel,
    met: Met,
    keys: Sequence[bytes],
    *,
    rng: Rng,
    counted: Callable[[int], None] = lambda count: None,
    progress: Progress = lambda done, total: None,
) -> list[bytes | None]:
    """Look up keys after `meet`; other arguments and errors as of `client`.

    Args:
        counted: Called with the size of every batch before it is asked.
    """
    if 0 <= met.terms.left < len(keys):
        raise ContractError(
            f"{peer.peer} allows {met.terms.left:,} more queries now, and {len(keys):,} keys are asked for",
            cure="Ask for fewer keys, wait until the limit is renewed, or agree on a higher one.",
        )
    cached, found = met.cached, list[bytes | None]()
    public, point = cached.public, np.frombuffer(cached.point, np.uint8)
    opener = await offload(Opener, cached)
    batches = [keys[at : at + BATCH] for at in range(0, len(keys), BATCH)]
    drawn = [(len(batch), rng.spawn()) for batch in batches]
    upcoming = _begin(offload(pir.masks, public, *drawn[0])) if batches else None
    opening: asyncio.Task[list[bytes | None]] | None = None
    try:
        for at, batch in enumerate(batches):
            counted(len(batch))
            await peer.send(Batch(len(batch)))  # (4)
            outputs = await oprf.client(peer, batch, rng=rng, public=point)  # (5)
            if upcoming is None:
                raise RuntimeError("no queries were prepared")
            s, u = await upcoming
            pir.choose(u, lookup_table.columns_of(outputs, cached.layout.columns))
            await peer.send(Queries(u))  # (6)
            upcoming = _begin(offload(pir.masks, public, *drawn[at + 1])) if at + 1 < len(batches) else None
            answers = (await peer.recv(Answers, words=(len(batch), cached.layout.rows))).words  # (7)
            columns = await offload(pir.recover, answers, cached.hint, s)
            if opening is not None:
                found += await opening
                progress(len(found), len(keys))
            # in the background: when the next batch leaves must not depend on what is found in this one
            opening = _begin(offload(_opened, opener, outputs, columns))
        if opening is not None:
            found += await opening
            progress(len(found), len(keys))
    finally:
        for task in (upcoming, opening):
            if task is not None:
                task.cancel()
    return found


def _begin(work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
    return asyncio.create_task(work)


def _opened(opener: Opener, outputs: NDArray[np.uint8], columns: NDArray[np.uint8]) -> list[bytes | None]:
    return [opener.open(output, column) for output, column in zip(outputs, columns, strict=True)]


async def leave(peer: Channel) -> None:
    """Tell the server that no more keys come."""
    await peer.send(Batch(0))  # (4)


def _checked(terms: Terms, server: str, largest: int) -> Layout:
    """Return the layout, or refuse terms that cannot be or are too large."""
    try:
        layout = Layout(terms.columns, terms.slots, terms.record)
    except ValueError as cause:
        raise ProtocolError(f"the terms of {server} cannot be: {cause}") from None
    whole = (
        terms.parameters == pir.NAME
        and len(terms.identity) == IDENTITY_BYTES
        and len(terms.digest) == len(terms.point) == 32
    )
    if not (whole and terms.version >= 1 and terms.overflow >= 0 and terms.left >= -1):
        raise ProtocolError(f"the terms of {server} cannot be: other parameters, or a number out of range")
    size = layout.hint_bytes + terms.overflow * layout.row_bytes
    if size > largest:
        raise ProtocolError(
            f"the hint of {server} has {size:,} bytes, at most {largest:,} are taken",
            cure="Allow more, if there is room for it.",
        )
    return layout


async def _download(peer: Channel, terms: Terms, layout: Layout) -> Cached:
    parts = []
    for at in range(0, layout.rows, PART):
        shape = (min(PART, layout.rows - at), pir.N)
        parts.append((await peer.recv(HintPart, words=shape)).words)
    overflow = (await peer.recv(Overflow, rows=(terms.overflow, layout.row_bytes))).rows
    hint = parts[0] if len(parts) == 1 else await offload(np.concatenate, parts)
    cached = Cached(terms.identity, terms.version, layout, terms.point, terms.digest, hint, overflow)
    await _verify(cached, terms, peer.peer)
    return cached


async def _verify(cached: Cached, terms: Terms, server: str) -> None:
    """Hold what came to the digest in the terms."""
    parts = (cached.identity, cached.version, cached.layout, cached.point, cached.hint, cached.overflow)
    digest = await offload(digest_of, *parts)
    if digest != terms.digest:
        raise ProtocolError(
            f"the hint from {server} is not the one that its terms announce",
            cure="Remove what is kept of this database here, and try again.",
        )


def _change_shapes(layout: Layout) -> dict[str, tuple[int, ...]]:
    slots, rows = AtMost(LARGEST_CHANGE // layout.width), AtMost(LARGEST_CHANGE // layout.row_bytes)
    return {
        "places": (slots,),
        "changes": (slots, layout.width),
        "spots": (rows,),
        "rows": (rows, layout.row_bytes),
    }


PROTOCOL = Protocol(
    name="keyword-lookup",
    version=1,
    title="Private query: records by key, without telling which",
    card=CARD,
    roles={"client": client, "server": server},
    messages=(Terms, Have, Plan, HintPart, Overflow, Change, Batch, Queries, Answers),
    uses=(oprf.PROTOCOL,),
)
