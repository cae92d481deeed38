"""Set intersection of any size: ids are cut into buckets by a common hash, and bucket after bucket is intersected.

Receiver, ids X                                            Sender, ids Y
(1) draws the key of the hash that cuts
(2) each hashes its ids, to memory or to disk, and tells how many there are; the number of buckets follows
(3) `vole-intersection` for each bucket, two at a time; each site fills its buckets up to a common size, so that the
    sizes say nothing of the ids
(4) only `receive_rows`: the places of the bucket's common ids, shuffled

Transfers, vectors and seeds are drawn anew for every bucket.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypedDict, Unpack

import numpy as np
from numpy.typing import NDArray

from atoll.core.channel import Channel
from atoll.core.errors import ProtocolError
from atoll.core.message import Message
from atoll.core.offload import offload
from atoll.core.protocol import Card, Protocol
from atoll.crypto.item_hash import Texts, digest_texts, hash_texts
from atoll.crypto.okvs import bin_capacity
from atoll.crypto.random import Rng
from atoll.data.buckets import BATCH, FINE, Buckets, Duplicates, scratch
from atoll.protocols import intersection_result, vole_intersection
from atoll.protocols.intersection_result import Matches, Progress, Shuffled, context_hash
from atoll.protocols.together import together
from atoll.protocols.vole_oprf import Security

BUCKET = 1 << 19
"""Ids of the larger site in a bucket, at most, on the average: its vectors then stay near the cores."""

WHOLE = 1 << 19
"""Up to so many ids there is one bucket only, which is not filled up."""

LARGEST = 1 << 32
"""Most ids of one site."""

LANES = 2
"""Buckets in flight: while one waits for the peer, the other computes."""

TICK, HEARTBEAT = 1.0, 20
"""Seconds between reports of progress while a site hashes, and ticks between signs of life to the peer."""

I64 = NDArray[np.int64]
Ids = Sequence[bytes] | Iterable[Texts]
"""Canonical ids, row by row: in memory, or as a stream of batches, which is read once."""


class Start(Message, frozen=True):
    """(1) receiver → sender: key of the hash that cuts, a hash of what must agree, and what sites may be."""

    key: bytes
    context: bytes
    security: str


class Count(Message, frozen=True):
    """(2) both: ids hashed so far, as a sign of life, and at the end their number."""

    rows: int
    done: bool


@dataclass(frozen=True)
class Aligned:
    """Rows of this site that the peer has, too, in an order common to both.

    Attributes:
        parts: (m,) int64 each, one for each bucket; in memory, or in files without names.
    """

    parts: tuple[I64, ...]

    def rows(self) -> I64:
        """Return all of them as one array in memory."""
        return np.concatenate((np.zeros(0, np.int64), *self.parts))

    def __len__(self) -> int:
        return sum(map(len, self.parts))


@dataclass(frozen=True)
class Options:
    """What all entry points take.

    Attributes:
        context: Job and columns; what both sites must agree on before ids are compared.
        largest: Most ids that the peer may announce.
        security: What the other site may be; the same at both.
        duplicates: What becomes of an id that stands in several rows: `refuse` it, or keep its `first` row.
        folder: Where files without names are made for ids and results; None keeps them in memory.
        progress: Called with rows done and rows in all: each row is hashed once and compared once with each peer.
    """

    context: Sequence[str] = ()
    largest: int = LARGEST
    security: Security = "semi-honest"
    duplicates: Duplicates = "refuse"
    folder: Path | None = None
    progress: Progress = lambda done, total: None


class Given(TypedDict, total=False):
    """`Options` as keyword arguments."""

    context: Sequence[str]
    largest: int
    security: Security
    duplicates: Duplicates
    folder: Path | None
    progress: Progress


async def receiver(peer: Channel, ids: Ids, *, rng: Rng, **options: Unpack[Given]) -> Matches:
    """Learn which ids the sender has, too.

    Args:
        peer: Channel to the sender.
        ids: nx canonical ids; their row numbers count from 0.
        rng: Secret randomness.
        **options: As of `Options`.

    Returns:
        Pairs of own rows and places in the sender's shuffled list, in the order of own rows.

    Raises:
        InputError: An id stands twice in `ids`, and that is refused; or the disk is full.
        ProtocolError: As the card says.
    """
    return (await receive_from_all({"": peer}, ids, rng=rng, **options))[""]


async def receive_from_all(
    peers: Mapping[str, Channel], ids: Ids, *, rng: Rng, **options: Unpack[Given]
) -> dict[str, Matches]:
    """Be the receiver towards several senders at once; arguments as of `receiver`.

    Args:
        peers: Channels by name, at least one; each sender runs `sender`.

    Returns:
        The matches with each sender, by name.
    """
    async with _receiving(peers, ids, rng, Options(**options)) as runs:
        found = await together(*(_matches(run) for run in runs))
    return dict(zip(peers, found, strict=True))


async def sender(peer: Channel, ids: Ids, *, rng: Rng, **options: Unpack[Given]) -> Shuffled:
    """Let the receiver learn which ids both have; arguments as of `receiver`.

    Returns:
        The shuffled order: row by place; a place that only fills up a bucket has the row -1.

    Raises:
        InputError: As of `receiver`.
        ProtocolError: As the card says.
    """
    async with _sending(peer, ids, rng, Options(**options)) as run:
        order, each = await offload(scratch, run.buckets * run.mine_each, run.options.folder), run.mine_each

        async def one(bucket: _Bucket) -> None:
            shuffled = await vole_intersection.sender(bucket.channel, bucket.hashed, **bucket.arguments)
            order[bucket.number * each : (bucket.number + 1) * each] = bucket.rows_at(shuffled.order)

        await run.all(one)
    return Shuffled(order)


async def receive_rows(peer: Channel, ids: Ids, *, rng: Rng, **options: Unpack[Given]) -> Aligned:
    """Learn the common rows and tell the sender its own, bucket by bucket; arguments and errors as of `receiver`.

    For two sites whose result does not fit into memory.  The common order says nothing but the hash of each common id.
    """
    async with _receiving({"": peer}, ids, rng, Options(**options)) as (run,):
        parts: dict[int, I64] = {}

        async def one(bucket: _Bucket) -> None:
            found = await vole_intersection.receiver(bucket.channel, bucket.hashed, **bucket.arguments)
            shuffle = run.rng.permutation(len(found.mine))
            await intersection_result.announce(bucket.channel, found.theirs[shuffle])  # (4)
            parts[bucket.number] = await offload(_kept, bucket.rows[found.mine[shuffle]], run.options.folder)

        await run.all(one)
    return Aligned(tuple(parts[number] for number in sorted(parts)))


async def send_rows(peer: Channel, ids: Ids, *, rng: Rng, **options: Unpack[Given]) -> Aligned:
    """Learn which own rows the receiver has, too; arguments and errors as of `receiver`."""
    async with _sending(peer, ids, rng, Options(**options)) as run:
        parts: dict[int, I64] = {}

        async def one(bucket: _Bucket) -> None:
            shuffled = await vole_intersection.sender(bucket.channel, bucket.hashed, **bucket.arguments)
            rows = await intersection_result.learn(bucket.channel, bucket.rows_at(shuffled.order))  # (4)
            parts[bucket.number] = await offload(_kept, rows, run.options.folder)

        await run.all(one)
    return Aligned(tuple(parts[number] for number in sorted(parts)))


def bucket_count(nx: int, ny: int) -> int:
    """Return how many buckets sets of these sizes are cut into; public."""
    larger = max(nx, ny)
    return 1 if larger <= WHOLE else min(-(-larger // BUCKET), FINE)


def bucket_size(n: int, buckets: int) -> int:
    """Return to how many ids a site with n of them fills up each bucket; public."""
    if buckets == 1:
        return n
    share = -(-FINE // buckets) / FINE  # of the widest bucket
    return min(n, bin_capacity(n * share, buckets))


@dataclass(frozen=True)
class _Bucket:
    """One bucket: its number, its channel, hashes and rows of this site's ids, and how it is intersected."""

    number: int
    channel: Channel
    hashed: NDArray[np.uint64]
    rows: I64
    arguments: Mapping[str, Any]

    def rows_at(self, order: I64) -> I64:
        """Turn indices of the bucket's ids into rows; -1 stays."""
        return np.append(self.rows, -1)[order]


@dataclass(frozen=True)
class _Run:
    """All buckets with one peer: the channel, this site's ids, and the peer's number of them."""

    peer: Channel
    store: Buckets
    theirs: int
    options: Options
    rng: Rng
    told: Callable[[int], None]

    @property
    def buckets(self) -> int:
        return bucket_count(self.store.rows, self.theirs)

    @property
    def mine_each(self) -> int:
        return bucket_size(self.store.rows, self.buckets)

    @property
    def theirs_each(self) -> int:
        return bucket_size(self.theirs, self.buckets)

    async def all(self, one: Callable[[_Bucket], Awaitable[None]]) -> None:
        """Do `one` for every bucket, on two lanes."""

        async def lane(number: int, rng: Rng) -> None:
            channel = self.peer.sub(f"lane {number}")
            for bucket in range(number, self.buckets, LANES):
                taken = await offload(self._take, bucket, channel, rng.spawn())
                await one(taken)
                self.told(len(taken.rows))

        await together(*(lane(number, self.rng.spawn()) for number in range(min(LANES, self.buckets))))

    def _take(self, number: int, channel: Channel, rng: Rng) -> _Bucket:
        options, each = self.options, self.mine_each
        hashed, rows = self.store.take(number, self.buckets, options.duplicates, each)
        if len(hashed) > each:
            raise ProtocolError("a bucket overflows, which happens once in 2^40 runs", cure="Run again.")
        arguments = {
            "rng": rng,
            "context": (*options.context, f"bucket {number} of {self.buckets}"),
            "largest": self.theirs_each,
            "size": each,
            "runs": self.buckets,
            "security": options.security,
        }
        return _Bucket(number, channel, hashed, rows, arguments)


@asynccontextmanager
async def _receiving(peers: Mapping[str, Channel], ids: Ids, rng: Rng, options: Options) -> AsyncIterator[list[_Run]]:
    key, domain = rng.bytes(16), context_hash(options.context)
    for peer in peers.values():
        await peer.send(Start(key, domain, options.security))  # (1)
    with _store(options) as store:
        yield await _counted(list(peers.values()), ids, key, store, rng, options, first=True)


@asynccontextmanager
async def _sending(peer: Channel, ids: Ids, rng: Rng, options: Options) -> AsyncIterator[_Run]:
    start = await peer.recv(Start)  # (1)
    if start.context != context_hash(options.context):
        raise ProtocolError("the sites compare ids of different jobs or columns")
    if start.security != options.security:
        raise ProtocolError(
            "one site takes the other to be semi-honest, one to be malicious", cure="Name one level at all sites."
        )
    if len(start.key) != 16:
        raise ProtocolError(f"{peer.peer} sent a key of {len(start.key)} bytes")
    with _store(options) as store:
        (run,) = await _counted([peer], ids, start.key, store, rng, options, first=False)
        yield run


def _store(options: Options) -> Buckets:
    return Buckets(4 if options.security == "malicious" else 2, options.folder)


async def _counted(
    peers: Sequence[Channel], ids: Ids, key: bytes, store: Buckets, rng: Rng, options: Options, *, first: bool
) -> list[_Run]:
    """(2): hash all ids, and exchange their number with each peer; the receiver tells its own first."""
    heard = asyncio.Event()
    known = len(ids) if isinstance(ids, Sequence) else 0
    filling = asyncio.ensure_future(offload(_fill, store, ids, key, options.security))

    async def tell() -> int:
        ticks = 0
        while not (await asyncio.wait({filling}, timeout=TICK))[0]:
            ticks += 1
            options.progress(store.rows, max(known, store.rows) * (1 + len(peers)))
            if ticks % HEARTBEAT == 0:
                for peer in peers:
                    await peer.send(Count(store.rows, False))  # (2)
        await filling
        if not first:
            await heard.wait()
        for peer in peers:
            await peer.send(Count(store.rows, True))  # (2)
        return store.rows

    async def hear(peer: Channel) -> int:
        while not (count := await peer.recv(Count)).done:  # (2)
            pass
        if not 0 <= count.rows <= options.largest:
            raise ProtocolError(f"the peer announces {count.rows:,} ids, at most {options.largest:,} are allowed")
        heard.set()
        return count.rows

    try:
        mine, *others = await together(tell(), *(hear(peer) for peer in peers))
    finally:
        filling.cancel()
    done = [mine]

    def told(rows: int) -> None:
        done[0] += rows
        options.progress(done[0], mine * (1 + len(peers)))

    options.progress(mine, mine * (1 + len(peers)))
    return [_Run(peer, store, theirs, options, rng.spawn(), told) for peer, theirs in zip(peers, others, strict=True)]


def _fill(store: Buckets, ids: Ids, key: bytes, security: Security) -> None:
    hashed = digest_texts if security == "malicious" else hash_texts
    for texts in _batches(ids) if isinstance(ids, Sequence) else ids:
        store.add(hashed(texts, key))
    store.finish()


def _batches(ids: Sequence[bytes]) -> Iterator[Texts]:
    for lo in range(0, len(ids), BATCH):
        yield Texts.of(ids[lo : lo + BATCH])


async def _matches(run: _Run) -> Matches:
    """Intersect all buckets as the receiver, and sort what is found by own rows."""
    place = await offload(scratch, run.store.rows, run.options.folder)  # one more than the place, or 0

    async def one(bucket: _Bucket) -> None:
        found = await vole_intersection.receiver(bucket.channel, bucket.hashed, **bucket.arguments)
        place[bucket.rows[found.mine]] = found.theirs + (bucket.number * run.theirs_each + 1)

    await run.all(one)
    return await offload(_sorted, place, run.options.folder)


def _sorted(place: I64, folder: Path | None) -> Matches:
    total = int(np.count_nonzero(place))
    mine, theirs, at = scratch(total, folder), scratch(total, folder), 0
    for lo in range(0, len(place), BATCH):
        part = place[lo : lo + BATCH]
        rows = np.flatnonzero(part)
        mine[at : at + len(rows)], theirs[at : at + len(rows)] = rows + lo, part[rows] - 1
        at += len(rows)
    return Matches(mine, theirs)


def _kept(rows: I64, folder: Path | None) -> I64:
    if folder is None:
        return rows
    out = scratch(len(rows), folder)
    out[:] = rows
    return out


PROTOCOL = Protocol(
    name="bucketed-intersection",
    version=1,
    title="Set intersection of any size, from disk, bucket by bucket",
    card=Card(
        source="Atoll: `vole-intersection` for each bucket of a common hash, filled up to the size that Chernoff's "
        "bound gives.",
        security="As `vole-intersection`, semi-honest by default, malicious where both sides ask for it. Sizes of "
        "buckets are functions of nx and ny; a bucket overflows with probability below 2^-40, which ends the run. "
        "False matches below 2^-40 in all: from 2^24 ids on words of 128 bits, and tags longer by log2 of the buckets.",
        inputs="receiver: nx ids; sender: ny ids; each canonical (`atoll.align`), as a list or as batches of a stream.",
        reveals={
            "receiver": (
                "The number ny of the sender's rows.",
                "Which of its own ids the sender has, too, and at which places of the sender's list, shuffled within "
                "buckets, which the receiver can compute of its ids itself.",
                "In a star: its intersection with every single sender, not only the common one.",
            ),
            "sender": (
                "The number nx of the receiver's rows.",
                "With `receive_rows`: which of its own ids are common, as of `intersection-result`.",
            ),
        },
        cost="Bytes: about 11 nx (from 2^24 ids on 22 nx) + 11 ny and 1 % for filling up, 1.1 MB for each bucket of "
        "2^19; malicious 22 nx + 16 ny. Disk: 24 bytes a row for hashes (malicious 40), 8 for each result. Memory: "
        "that of two buckets, about 0.5 GB.",
        fails="ProtocolError when sites differ in job, columns or security, sizes exceed the limit, and as of "
        "`vole-intersection`; InputError on own duplicates if they are refused, and when the disk is full.",
        assurance="tested",
        notes=(
            "Transfers, vectors, seeds and coins are drawn anew for every bucket; buckets are tied to their number.",
            "With duplicates kept once, n is the number of rows, not of distinct ids.",
            "While a site hashes, it sends the number of rows so far every 20 seconds.",
        ),
    ),
    roles={"receiver": receiver, "sender": sender},
    messages=(Start, Count),
    uses=(vole_intersection.PROTOCOL, intersection_result.PROTOCOL),
)
