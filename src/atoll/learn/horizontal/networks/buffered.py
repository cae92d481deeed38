"""Averages without waiting for the slowest site: the aggregator mixes the updates of the K sites that are ready.

Site i                                                     Aggregator
(1) `sum-star`: keys with every other site                 passes the keys on
(2) Joined: what it is about to run; the first site its network, and Vouched
                                                           (3) Next: the network, to train from
for each local training:
(4) Ready: from which version it has trained
                                                           (3) Next: the newest network, as the update is too old, or
                                                           (5) Next: the newest network, and the K sites of a buffer
(6) `sum-star` over these K sites: their updates, damped by age, and figures
(7) both move the newest network by the average; the site trains on from there
(8) Vouched: the proof of the new version                  passes it on with the network

A site takes no network without a proof by sites, see `vouched`.  Keys of a buffer are bound to all that (5) tells, and
its later sums to its earlier ones.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import msgspec
import numpy as np

from atoll.core import protocol
from atoll.core.channel import Channel
from atoll.core.errors import ConnectionLost, ContractError, InputError, ProtocolError
from atoll.core.group import Group
from atoll.core.message import U8, U32, AtMost, Message
from atoll.crypto.random import Rng
from atoll.learn.horizontal.networks import agreed
from atoll.learn.horizontal.networks.averages import F32, Averages, ExactAverages, MaskedAverages
from atoll.learn.horizontal.networks.bound import Bond, BoundAverages, BoundTotals
from atoll.learn.horizontal.networks.buffered_card import CARD
from atoll.learn.horizontal.networks.buffers import Buffering, Desk, Mixed
from atoll.learn.horizontal.networks.fit import Plan
from atoll.learn.horizontal.networks.local import Local
from atoll.learn.horizontal.networks.trainer import Trained, Trainer, Work
from atoll.learn.horizontal.networks.vouched import BYTES, Proof, Voucher
from atoll.protocols.pairwise_keys import Seal
from atoll.protocols.secure_sum import star, ties
from atoll.protocols.secure_sum.sums import Sums
from atoll.protocols.secure_sum.ties import Ties
from atoll.protocols.secure_sum.totals import Totals

MOST = 1 << 26
"""Most numbers of a network."""

MOST_METRICS = 100


class Joined(Message, frozen=True):
    """(2) site → aggregator: hash of plan, rules and members; the first site also its network and names of metrics."""

    document: bytes
    metrics: tuple[str, ...]
    values: U32


class Vouched(Message, frozen=True):
    """(2, 8) site → aggregator: proof, for other sites, of the version that it has just made."""

    proof: U8


class Next(Message, frozen=True):
    """(3, 5) aggregator → site: the newest network, float32 bits, with its proof; a buffer's sites and versions."""

    version: int
    last: bool
    sites: tuple[str, ...]
    versions: tuple[int, ...]
    proof: U8
    values: U32


class Ready(Message, frozen=True):
    """(4) site → aggregator: it has trained from this version.  The update itself is not sent."""

    version: int


@dataclass(frozen=True)
class Outcome:
    """What a training came to: the last network, and the buffers of which this site knows."""

    model: F32
    buffers: tuple[Mixed, ...]


@dataclass
class _Site:
    """One site's side between messages."""

    hub: Channel
    local: Local
    plan: Plan
    rules: Buffering
    tied: Ties
    voucher: Voucher
    context: Sequence[str]
    rng: Rng
    metrics: tuple[str, ...]
    seed: bytes
    own: F32
    buffers: list[Mixed] = field(default_factory=list)

    async def turn(self, model: F32, version: int) -> tuple[F32, int, bool]:
        """Train once from a version; return the newest network, its version, and whether training is over."""
        mine, self.own = await trained(self.local, model, self.own, version, self.plan, self.rules, self.seed)
        await self.hub.send(Ready(version))  # (4)
        newest, order = await self.told(model.size, version, self.plan.rounds)  # (3, 5)
        if not order.sites:
            return newest, order.version, order.last
        mixed, mean = await mix(await self._sums(order), order, self.metrics, self.plan, self.rules, mine)  # (6)
        self.buffers.append(mixed)
        moved = self.rules.moved(newest, mean)  # (7)
        await self.hub.send(Vouched(await self.voucher.proof(mixed.number, moved)))  # (8)
        return moved, mixed.number, mixed.number == self.plan.rounds

    async def told(self, size: int, version: int, most: int) -> tuple[F32, Next]:
        """Return the network of `size` numbers that is handed out, and the rest of the order.

        Args:
            size: of the network.
            version: the one from which this site has trained; -1 before it has one.
            most: the newest version that there may be.
        """
        order = await self.hub.recv(Next, proof=(BYTES,), values=(size,))
        values: F32 = order.values.view(np.float32).copy()
        if not np.isfinite(values).all() or not max(version, 0) <= order.version <= most:
            raise ProtocolError(f"{self.hub.peer} sent something else than a newer network")
        if order.sites:
            self._check(order, version)
        elif order.version == version and not order.last:
            raise ProtocolError(f"{self.hub.peer} refused an update that is not too old")
        await self.voucher.check(order.version, values, order.proof, self.hub.peer)
        return values, order

    def _check(self, order: Next, version: int) -> None:
        """Refuse a buffer in which this site's update would not be hidden, or would count for something else."""
        names, size = order.sites, self.rules.size
        known = set(names) <= set(self.tied.members) and list(names) == sorted(set(names))
        if not known or len(names) != size or len(order.versions) != size or self.local.site not in names:
            raise ProtocolError(f"{self.hub.peer} asks for a buffer that is not of {size} sites of the job")
        ages = [order.version - one for one in order.versions]
        if not 0 <= min(ages) <= max(ages) <= self.rules.staleness or order.version >= self.plan.rounds:
            raise ProtocolError(f"{self.hub.peer} asks for a buffer with updates that are too old")
        if order.versions[names.index(self.local.site)] != version:
            raise ProtocolError(f"{self.hub.peer} is wrong about the network from which this site has trained")

    async def _sums(self, order: Next) -> Sums:
        """The sum over the sites of one buffer, under keys that are good for nothing else."""
        keys = {name: self.tied.keys[name] for name in order.sites if name != self.local.site}
        tied = Ties(self.local.site, order.sites, keys, self.tied.common)
        whole = await _whole(self.context, self.hub.peer, order)
        return Sums(star.Member(self.hub.sub("sums"), tied, order.sites, True, whole, self.rng), self.rng)


@dataclass(frozen=True)
class Brought:
    """What a site brings to a buffer: its change of what is shared, what training says, sums over held-out rows."""

    change: F32
    done: Trained
    looked: Mapping[str, float]


async def trained(
    local: Local, model: F32, own: F32, version: int, plan: Plan, rules: Buffering, seed: bytes
) -> tuple[Brought, F32]:
    """Train once from a version of the network; return what the site brings, and its own numbers."""
    looked = await local.evaluate(model, own) if plan.evaluate else {}
    number = agreed.number(seed, "training", version, local.site)
    work = Work(version, plan.epochs, plan.batch, plan.lr_at(version), number, rules.pull)
    change, own, done = await local.train(model, own, work)
    return Brought(change, done, looked), own


async def mix(
    sums: Totals, order: Next, metrics: Sequence[str], plan: Plan, rules: Buffering, mine: Brought | None = None
) -> tuple[Mixed, F32]:
    """Add up over the sites of a buffer; the aggregator, which brings nothing, adds zeros.

    Args:
        sums: over the sites of the buffer.
        order: which buffer it is.
        metrics: names of what is measured on held-out rows.
        plan: the same at all sites, as are the rules.
        rules: how updates are damped, and what carries them.
        mine: what this site brings.

    Returns:
        What became known, and the average of the damped updates.
    """
    number, ages = order.version + 1, tuple(order.version - one for one in order.versions)
    change, weight, figures = np.zeros(order.values.size, np.float32), 0.0, np.zeros(len(metrics) + 3)
    if mine is not None:
        done = mine.done
        change = rules.damped(mine.change, ages[order.sites.index(sums.site)])
        weight = plan.weight(done.rows)
        looked = [mine.looked.get(name, 0.0) for name in ("rows", *metrics)]
        figures = np.array([done.loss * done.rows, done.rows, *looked], np.float64)
    averages: Averages = ExactAverages(sums)
    if rules.clip is not None and isinstance(sums, Sums):  # a simulation hides nothing
        averages = MaskedAverages(sums, rules.clip)
    bond = Bond()
    mean, whole = await BoundAverages(averages, bond).average(change, weight, what=f"updates of buffer {number}")
    told = await BoundTotals(sums, bond).total(figures, what=f"figures of buffer {number}")
    loss, rows, held, *looks = told.tolist()
    found = {name: value / held for name, value in zip(metrics, looks, strict=True)} if held else {}
    return Mixed(number, order.sites, ages, whole, loss / rows if rows else 0.0, found), mean


async def site(
    hub: Channel,
    trainer: Trainer,
    plan: Plan,
    rules: Buffering,
    *,
    members: Sequence[str],
    rng: Rng,
    seal: Seal | None = None,
    context: Sequence[str] = (),
) -> Outcome:
    """Train at this site's own speed until the aggregator says that it is over; afterwards the trainer holds the end.

    Args:
        hub: channel to the aggregator.
        trainer: this site's network and rows.
        plan: the same at all sites; `rounds` are buffers, and `sample` and `patience` mean nothing here.
        rules: the same at all sites.
        members: names of all sites that train, as the job says.
        rng: secret randomness.
        seal: how keys between sites are signed and checked; see `pairwise_keys`.
        context: what the job is.

    Returns:
        The last network, and the buffers that this site was in.

    Raises:
        ProtocolError: as the card says.
        InputError: training diverges here, or there are fewer members than a buffer needs.
        IdentityError: a key is not signed by its site.
    """
    names = _enough(members, rules)
    tied = await ties.tie(hub, names, rng=rng, seal=seal, context=("buffered", *context))  # (1)
    local = Local(trainer, tied.me)
    vector = trainer.parameters()
    start, own = local.shared(vector), vector[local.own]
    metrics = await metrics_of(local, start, own, plan)
    mine = start if tied.me == names[0] else start[:0]
    voucher = Voucher.of(tied.common, ("buffered", hub.peer, *context))
    await hub.send(Joined(_document(plan, rules, names), metrics, mine.view(np.uint32)))  # (2)
    if tied.me == names[0]:
        await hub.send(Vouched(await voucher.proof(0, mine)))
    seed = hashlib.sha256(str(plan.seed).encode()).digest()[:16] if plan.seed is not None else rng.bytes(16)
    side = _Site(hub, local, plan, rules, tied, voucher, context, rng, metrics, seed, own)
    (model, _), version, last = await side.told(start.size, -1, 0), 0, False  # (3)
    while not last:
        model, version, last = await side.turn(model, version)
    local.install(model, side.own)
    return Outcome(model, tuple(side.buffers))


async def aggregator(
    peers: Mapping[str, Channel],
    plan: Plan,
    rules: Buffering,
    *,
    rng: Rng,
    context: Sequence[str] = (),
    on_buffer: Callable[[Mixed, F32], object] = lambda mixed, model: None,
) -> Outcome:
    """Mix what the sites that are ready have trained; this site has no rows.

    A site that is gone while it trains is left out from then on, as long as there are enough for a buffer.

    Args:
        peers: channels to the sites by name; each runs `site` with the same plan and rules.
        plan: the same at all sites.
        rules: the same at all sites.
        rng: randomness.
        context: what the job is.
        on_buffer: called after every buffer with what became known of it, and the new network.

    Returns:
        The last network, and all buffers.

    Raises:
        ProtocolError: as the card says, or a site took longer for a training than a message may.
        ContractError: sites run something else.
        InputError: there are fewer sites than a buffer needs.
    """
    _enough(peers, rules)
    await ties.relay(peers)  # (1)
    metrics, model, proof = await _joined(peers, plan, rules)  # (2)
    desk, buffers = Desk(rules, dict.fromkeys(peers, 0)), []
    await asyncio.gather(*(peer.send(order_of(desk, model, proof)) for peer in peers.values()))  # (3)
    tasks = {name: asyncio.ensure_future(_ready(peers[name], 0)) for name in peers}
    try:
        while desk.version < plan.rounds:
            _collect(tasks, desk)
            for name in desk.refused():
                await peers[name].send(order_of(desk, model, proof))  # (3)
                tasks[name] = asyncio.ensure_future(_ready(peers[name], desk.version))
            if not (sites := desk.full()):
                await asyncio.wait(tasks.values(), return_when=asyncio.FIRST_COMPLETED)
                continue
            order = order_of(desk, model, proof, sites)
            await asyncio.gather(*(peers[name].send(order) for name in sites))  # (5)
            within = {name: peers[name].sub("sums") for name in sites}
            me = within[sites[0]].gate.site
            carrier = star.Hub(within, me, sites, True, await _whole(context, me, order))
            mixed, mean = await mix(Sums(carrier, rng), order, metrics, plan, rules)  # (6)
            model = rules.moved(model, mean)  # (7)
            desk.mixed(sites)
            proof = await _vouched({name: peers[name] for name in sites}, desk.version)  # (8)
            buffers.append(mixed)
            on_buffer(mixed, model)
            if desk.version < plan.rounds:
                tasks |= {name: asyncio.ensure_future(_ready(peers[name], desk.version)) for name in sites}
        await _end(peers, tasks, desk, order_of(desk, model, proof, last=True))
    finally:
        for task in tasks.values():
            task.cancel()
        await asyncio.gather(*tasks.values(), return_exceptions=True)
    return Outcome(model, tuple(buffers))


async def _joined(peers: Mapping[str, Channel], plan: Plan, rules: Buffering) -> tuple[tuple[str, ...], F32, Proof]:
    """Make sure that all sites run the same; return the names of metrics and the first site's network, vouched for."""
    names = tuple(sorted(peers))
    joined = [await peers[name].recv(Joined, values=(AtMost(MOST if name == names[0] else 0),)) for name in names]
    for name, one in zip(names, joined, strict=True):
        if one.document != _document(plan, rules, names) or one.metrics != joined[0].metrics:
            raise ContractError(
                f"{name} does not agree about the plan, its rules, the metrics or who takes part",
                step="networks",
                cure="Give every site the same plan and rules.",
            )
    values = joined[0].values.view(np.float32).copy()
    if len(joined[0].metrics) > MOST_METRICS or not np.isfinite(values).all():
        raise ProtocolError(f"{names[0]} sent something else than a network and names of metrics")
    return joined[0].metrics, values, await _vouched({names[0]: peers[names[0]]}, 0)


async def _vouched(peers: Mapping[str, Channel], version: int) -> Proof:
    """Return the proof by which sites vouch for a version."""
    proofs = [one.proof for one in (await Group(peers).gather(Vouched, proof=(BYTES,))).values()]
    if any(not np.array_equal(one, proofs[0]) for one in proofs):
        raise ProtocolError(f"{', '.join(sorted(peers))} came to different networks in buffer {version}")
    return proofs[0]


def _enough(members: Iterable[str], rules: Buffering) -> tuple[str, ...]:
    """Return the members in alphabetical order, if they can fill a buffer."""
    names = tuple(sorted(members))
    if len(names) < rules.size:
        raise InputError(
            f"{len(names)} sites cannot fill a buffer of {rules.size}",
            step="networks",
            cure="Add sites, or lower `size`.",
        )
    return names


async def _ready(peer: Channel, version: int) -> bool:
    """Wait until a site has trained from a version; say whether it is still there."""
    try:
        ready = await peer.recv(Ready)  # (4)
    except ConnectionLost:
        return False
    if ready.version != version:
        raise ProtocolError(f"{peer.peer} has trained from version {ready.version}, and was given {version}")
    return True


def _collect(tasks: dict[str, asyncio.Task[bool]], desk: Desk) -> None:
    """Let sites that have trained wait for a buffer, and forget those that are gone."""
    for name in [name for name, task in tasks.items() if task.done()]:
        if tasks.pop(name).result():
            desk.waiting.append(name)
        elif not desk.gone(name):
            raise ConnectionLost(f"{name} is gone, and fewer sites are left than a buffer needs")


async def _end(peers: Mapping[str, Channel], tasks: Mapping[str, asyncio.Task[bool]], desk: Desk, last: Next) -> None:
    """Tell all sites that were not in the last buffer that it was the last, when they have trained."""

    async def tell(name: str) -> None:
        if name in desk.waiting or await tasks[name]:
            await peers[name].send(last)  # (3)

    await asyncio.gather(*(tell(name) for name in (*desk.waiting, *tasks)))


def order_of(desk: Desk, model: F32, proof: Proof, sites: tuple[str, ...] = (), *, last: bool = False) -> Next:
    """Return what a site is told: the newest network with its proof, and the buffer that it is in, if any."""
    return Next(desk.version, last, sites, tuple(desk.given[name] for name in sites), proof, model.view(np.uint32))


async def metrics_of(local: Local, model: F32, own: F32, plan: Plan) -> tuple[str, ...]:
    """Names of what this site's trainer measures on held-out rows."""
    if not plan.evaluate:
        return ()
    return tuple(sorted((await local.evaluate(model, own)).keys() - {"rows"}))


def _document(plan: Plan, rules: Buffering, members: Sequence[str]) -> bytes:
    return hashlib.sha256(msgspec.json.encode([plan, rules, members])).digest()


async def _whole(context: Sequence[str], hub: str, order: Next) -> tuple[str, ...]:
    """What is bound into the keys of a buffer: which one it is, what each update is, and the newest network."""
    bond = Bond()
    head = msgspec.json.encode([order.version, order.last, order.sites, order.versions])
    for part in (np.frombuffer(head, np.uint8), order.proof, order.values):
        await bond.told(part)
    return ("buffered", hub, bond.label("order"), *context)


PROTOCOL = protocol.Protocol(
    name="buffered-updates",
    version=1,
    title="Networks trained at each site's own speed, mixed in buffers of the sites that are ready",
    card=CARD,
    roles={"site": site, "aggregator": aggregator},
    messages=(Joined, Vouched, Next, Ready),
    uses=(star.PROTOCOL,),
)
