"""Garbled circuits: two sites evaluate one Boolean circuit on the private bits of both, many instances at a time.

Garbler, bits x, offset Δ                                  Evaluator, bits y
(1) both tell the digest of their circuit, the number of instances and who gets the result; the garbler draws the seed
    of all public keys, and with it the labels that stand for x
for every chunk of instances
                                                           (2) gets its labels W ⊕ y·Δ by correlated transfers
(3) garbles, sends two rows for every AND gate             evaluates: one label for every wire
(4) tells what the colours of the outputs mean             (4) tells the colours of the outputs, and a digest of the
                                                               labels, by which the garbler sees that all is well
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from atoll.core.channel import Channel
from atoll.core.errors import ProtocolError
from atoll.core.message import U8, U64, Message
from atoll.core.offload import offload
from atoll.core.protocol import Card, Protocol
from atoll.crypto import aes, garbling
from atoll.crypto.boolean_circuit import Circuit, to_bits, to_words
from atoll.crypto.circuit_schedule import Schedule, schedule
from atoll.crypto.random import Rng
from atoll.protocols import oblivious_transfer
from atoll.protocols.oblivious_transfer import OtReceiver, OtSender

Output = Literal["evaluator", "garbler", "both", "shares"]
"""Who gets the result; `shares`: each side gets bits whose XOR is the result, and neither learns it."""

Words = NDArray[np.uint64]
Bits = NDArray[np.uint8]
T = TypeVar("T")

_CHUNKS_UNCHECKED = 2  # chunks that the garbler sends ahead of the evaluator's results


class Opening(Message, frozen=True):
    """(1) both: what must agree, and from the garbler the seed of the public keys, 32 bytes."""

    circuit: bytes
    instances: int
    output: str
    seed: bytes


class Tables(Message, frozen=True):
    """(3) garbler → evaluator: rows of consecutive AND gates, (gates, instances, 4) words, 32 bytes each."""

    rows: U64


class Decoding(Message, frozen=True):
    """(4) garbler → evaluator: for every output the colour that means false, packed along the instances."""

    colours: U8


class Results(Message, frozen=True):
    """(4) evaluator → garbler: the colours of its output labels, packed, and SHA-256 of those labels."""

    colours: U8
    digest: bytes


@dataclass(frozen=True)
class Garbler:
    """The garbler's end of a session: one offset, any number of circuits one after the other."""

    peer: Channel
    ot: OtSender
    rng: Rng

    async def run(self, circuit: Circuit, inputs: Words, to: Output) -> Words | None:
        """Run `garbler`."""
        return await garbler(self.peer, circuit, inputs, to=to, ot=self.ot, rng=self.rng)


@dataclass(frozen=True)
class Evaluator:
    """The evaluator's end of a session."""

    peer: Channel
    ot: OtReceiver

    async def run(self, circuit: Circuit, inputs: Words, to: Output) -> Words | None:
        """Run `evaluator`."""
        return await evaluator(self.peer, circuit, inputs, to=to, ot=self.ot)


async def start_garbler(peer: Channel, *, rng: Rng) -> Garbler:
    """Begin a session as its garbler: base transfers with a fresh offset."""
    return Garbler(peer, await oblivious_transfer.setup_sender(peer, rng=rng, odd=True), rng)


async def start_evaluator(peer: Channel, *, rng: Rng) -> Evaluator:
    """Begin a session as its evaluator."""
    return Evaluator(peer, await oblivious_transfer.setup_receiver(peer, rng=rng))


async def garbler(
    peer: Channel, circuit: Circuit, inputs: Words, *, to: Output, ot: OtSender, rng: Rng
) -> Words | None:
    """Garble n instances of a circuit.

    Args:
        peer: Channel to the evaluator.
        circuit: The circuit, the same at both sides.
        inputs: Own bits, (n, ⌈garbler_bits / 64⌉) uint64, packed as in `atoll.crypto.boolean_circuit.to_bits`.
        to: Who gets the result, the same at both sides.
        ot: Transfers set up with `odd=True`; their delta is the offset of all labels.
        rng: Secret randomness.

    Returns:
        The result or this side's share of it, (n, ⌈outputs / 64⌉) uint64; None if only the evaluator gets it.

    Raises:
        ValueError: The inputs have another width, or the transfers' delta is even.
        ProtocolError: The sides do not agree, or the evaluator's labels are not those that it was given.
    """
    n, seed = _checked(inputs, circuit.garbler_bits), rng.bytes(32)
    await _agree(peer, circuit, n, to, seed)  # (1)
    plan = await offload(schedule, circuit)
    own, waiting = _Own(circuit, plan, ot), deque[tuple[slice, Words]]()
    out = np.empty((n, -(-len(circuit.outputs) // 64)), np.uint64)

    async def check_oldest() -> None:
        part, false = waiting.popleft()
        results = await peer.recv(Results, colours=_packed(circuit, part))  # (4)
        out[part] = await offload(own.decode, false, results, peer.peer)

    async with aclosing(_ahead(own.garbled(peer.sub("labels"), inputs, seed))) as pieces:
        async for part, rows, false in pieces:
            if rows is not None:
                await peer.send(Tables(rows))  # (3)
                continue
            meaning = own.meaning(false)
            if to in ("evaluator", "both"):
                await peer.send(Decoding(np.packbits(meaning, axis=1, bitorder="little")))  # (4)
            if to == "shares":
                out[part] = to_words(meaning)
            if to in ("garbler", "both"):
                waiting.append((part, false))
                if len(waiting) > _CHUNKS_UNCHECKED:
                    await check_oldest()
    while waiting:
        await check_oldest()
    return None if to == "evaluator" else out


async def evaluator(peer: Channel, circuit: Circuit, inputs: Words, *, to: Output, ot: OtReceiver) -> Words | None:
    """Evaluate n garbled instances of a circuit.

    Args:
        peer: Channel to the garbler.
        circuit: The circuit, the same at both sides.
        inputs: Own bits, (n, ⌈evaluator_bits / 64⌉) uint64, packed.
        to: Who gets the result, the same at both sides.
        ot: Transfers in which this site is the receiver.

    Returns:
        The result or this side's share of it, (n, ⌈outputs / 64⌉) uint64; None if only the garbler gets it.

    Raises:
        ValueError: The inputs have another width.
        ProtocolError: The sides do not agree, or the garbler sent another size.
    """
    n = _checked(inputs, circuit.evaluator_bits)
    seed = await _agree(peer, circuit, n, to, b"")  # (1)
    plan, keys = await offload(schedule, circuit), _Keys(seed)
    room = garbling.Labels(plan, min(plan.chunk, max(n, 1)), garbling.BLOCKS_TO_EVALUATE)
    out = np.empty((n, -(-len(circuit.outputs) // 64)), np.uint64)
    async with (
        aclosing(_ahead(_chosen_labels(peer.sub("labels"), circuit, plan, inputs, ot))) as chosen,
        aclosing(_ahead(_received(peer, circuit, plan, n, to))) as received,
    ):
        for number, part in enumerate(_chunks(n, plan.chunk)):
            count = part.stop - part.start
            theirs = await offload(keys.labels, number, circuit.garbler_bits, count)
            chunk = await offload(room.start, count, theirs, await anext(chosen))
            for segment in plan.segments(count):
                rows = await anext(received)
                await offload(garbling.evaluate, room, chunk, segment, rows, keys.next_pi(), part.start)
            labels = garbling.output_labels(room, chunk)
            bits = garbling.colours(labels)
            meaning = await anext(received) if to in ("evaluator", "both") else None
            if to in ("garbler", "both"):
                await peer.send(Results(np.packbits(bits, axis=1, bitorder="little"), _digest(labels)))  # (4)
            if meaning is not None:
                bits ^= np.unpackbits(meaning, axis=1, count=count, bitorder="little")
            if to != "garbler":
                out[part] = await offload(to_words, bits)
    return None if to == "garbler" else out


class _Keys:
    """What both sides derive from the public seed: a hash key for each message, and labels for the garbler's bits.

    The garbler's label for a bit x is drawn in public, and the label for false is that one ⊕ x·Δ.  To the evaluator,
    who holds the former and not Δ, this is a uniform label like any other, and nothing need be sent; the hash is
    secure for labels that an evaluator knows in advance, or even chooses.
    """

    def __init__(self, seed: bytes) -> None:
        self._seed, self._messages = seed, 0

    def labels(self, chunk: int, bits: int, instances: int) -> Words:
        """Return the labels that stand for the garbler's bits in a chunk, (bits, instances, 2)."""
        stream = aes.expand(self._key(b"labels", chunk), 16 * bits * instances)
        return stream.view(np.uint64).reshape(bits, instances, 2)

    def next_pi(self) -> aes.FixedKey:
        """Return the permutation of the next message."""
        self._messages += 1
        return aes.FixedKey(self._key(b"hash", self._messages))

    def _key(self, use: bytes, number: int) -> bytes:
        text = b"atoll/garbled-circuit/v1/" + use + number.to_bytes(8, "little") + self._seed
        return hashlib.sha256(text).digest()[:16]


class _Own:
    """The garbler's work on one circuit."""

    def __init__(self, circuit: Circuit, plan: Schedule, ot: OtSender) -> None:
        self.circuit, self.plan, self.ot = circuit, plan, ot
        self.delta = np.zeros(2, np.uint64)

    async def garbled(
        self, peer: Channel, inputs: Words, seed: bytes
    ) -> AsyncGenerator[tuple[slice, Words | None, Words], None]:
        """Yield for every chunk its rows, message by message, and in the end the outputs' labels for false."""
        circuit, plan, keys = self.circuit, self.plan, _Keys(seed)
        room = garbling.Labels(plan, min(plan.chunk, max(len(inputs), 1)), garbling.BLOCKS_TO_GARBLE)
        nothing = np.empty((0, 0, 2), np.uint64)
        for number, part in enumerate(_chunks(len(inputs), plan.chunk)):
            count = part.stop - part.start
            blocks = await self.ot.extend(peer, circuit.evaluator_bits * count)  # (2)
            self.delta = blocks.delta
            if not int(self.delta[0]) & 1:
                raise ValueError("the transfers of garbled circuits are set up with odd=True")
            mine = await offload(self._false, keys, number, inputs[part])
            theirs = blocks.q.reshape(circuit.evaluator_bits, count, 2)
            chunk = await offload(room.start, count, mine, theirs)
            for segment in plan.segments(count):
                pi = keys.next_pi()
                rows = await offload(garbling.garble, room, chunk, segment, self.delta, pi, part.start)
                yield part, rows, nothing  # (3)
            yield part, None, garbling.output_labels(room, chunk)

    def _false(self, keys: _Keys, chunk: int, inputs: Words) -> Words:
        bits = to_bits(inputs, self.circuit.garbler_bits)
        return garbling.other_labels(keys.labels(chunk, *bits.shape), bits, self.delta)

    def meaning(self, false: Words) -> Bits:
        """Return for every output the colour that means false."""
        return garbling.colours(false) ^ self.plan.flips[:, np.newaxis]

    def decode(self, false: Words, results: Results, peer: str) -> Words:
        """Turn the evaluator's colours into values, and make sure that it holds the labels of these colours."""
        seen = np.unpackbits(results.colours, axis=1, count=false.shape[1], bitorder="little")
        labels = garbling.other_labels(false, seen ^ garbling.colours(false), self.delta)
        if not hmac.compare_digest(_digest(labels), results.digest):
            raise ProtocolError(
                f"{peer} has labels that this side has not garbled",
                cure="A table was changed on its way, or the sites run different versions; nothing was decoded.",
            )
        return to_words(seen ^ self.meaning(false))


async def _chosen_labels(
    peer: Channel, circuit: Circuit, plan: Schedule, inputs: Words, ot: OtReceiver
) -> AsyncGenerator[Words, None]:
    """Yield the evaluator's input labels of every chunk, (bits, instances, 2)."""
    for part in _chunks(len(inputs), plan.chunk):
        bits = await offload(to_bits, inputs[part], circuit.evaluator_bits)
        blocks = await ot.extend(peer, bits.reshape(-1))  # (2)
        yield blocks.t.reshape(*bits.shape, 2)


async def _received(
    peer: Channel, circuit: Circuit, plan: Schedule, n: int, to: Output
) -> AsyncGenerator[NDArray[Any], None]:
    """Yield what the garbler sends, in order."""
    for part in _chunks(n, plan.chunk):
        count = part.stop - part.start
        for segment in plan.segments(count):
            ands = segment[-1].ands.stop - segment[0].ands.start
            yield (await peer.recv(Tables, rows=(ands, count, garbling.ROW_WORDS))).rows  # (3)
        if to in ("evaluator", "both"):
            yield (await peer.recv(Decoding, colours=_packed(circuit, part))).colours  # (4)


async def _agree(peer: Channel, circuit: Circuit, n: int, to: Output, seed: bytes) -> bytes:
    """Compare circuits, sizes and outputs, and return the garbler's seed."""
    if seed:  # the garbler speaks first
        await peer.send(Opening(circuit.digest, n, to, seed))  # (1)
    theirs = await peer.recv(Opening)  # (1)
    if not seed:
        await peer.send(Opening(circuit.digest, n, to, seed))  # (1)
    if theirs.circuit != circuit.digest:
        raise ProtocolError(f"{peer.peer} has another circuit", cure="Give both sides the same public parameters.")
    if theirs.instances != n:
        raise ProtocolError(f"{peer.peer} has {theirs.instances:,} instances, this side has {n:,}")
    if theirs.output != to:
        raise ProtocolError("the sites do not agree on who gets the result", detail=f"Here it is {to}.")
    if len(theirs.seed) != (0 if seed else 32):
        raise ProtocolError(f"{peer.peer} sent a seed of {len(theirs.seed)} bytes")
    return theirs.seed


def _checked(inputs: Words, width: int) -> int:
    if inputs.ndim != 2 or inputs.dtype != np.uint64 or inputs.shape[1] != -(-width // 64):
        raise ValueError(f"inputs of {width} bits are an array (n, {-(-width // 64)}) of uint64")
    return len(inputs)


def _chunks(n: int, size: int) -> Iterator[slice]:
    for lo in range(0, n, size):
        yield slice(lo, min(lo + size, n))


def _packed(circuit: Circuit, part: slice) -> tuple[int, int]:
    return len(circuit.outputs), -(-(part.stop - part.start) // 8)


def _digest(labels: Words) -> bytes:
    return hashlib.sha256(b"atoll/garbled-circuit/v1/outputs" + labels.tobytes()).digest()


async def _ahead(items: AsyncGenerator[T, None]) -> AsyncGenerator[T, None]:
    """Yield the same items, and let the next one be made while this one is used."""
    async with aclosing(items):
        coming = asyncio.ensure_future(_next(items))
        try:
            while True:
                item = await coming
                if item is None:
                    return
                coming = asyncio.ensure_future(_next(items))
                yield item[0]
        finally:
            coming.cancel()
            await asyncio.gather(coming, return_exceptions=True)


async def _next(items: AsyncIterator[T]) -> tuple[T] | None:
    try:
        return (await anext(items),)
    except StopAsyncIteration:
        return None


PROTOCOL = Protocol(
    name="garbled-circuit",
    version=1,
    title="Any Boolean circuit on the private bits of two sites: comparisons, minima, thresholds",
    card=Card(
        source="Yao 1986; Zahur, Rosulek, Evans, EUROCRYPT 2015, figure 2 (half gates); Kolesnikov, Schneider, ICALP "
        "2008 (free XOR); Guo, Katz, Wang, Yu, IEEE S&P 2020, section 7.4 (TMMO); Guo, Katz, Wang, Weng, Yu, CRYPTO "
        "2020 (many instances); the evaluator's labels straight from correlated transfers.",
        security="Semi-honest, computational: AES-128 as an ideal cipher for the hash, a fresh key in each message; "
        "transfers of `oblivious-transfer`. Labels have 127 secret bits, of which about 108 remain against an attacker "
        "who has the at most 2^19 hashes of one key.",
        inputs="Both: the circuit, n instances, who gets the result. garbler and evaluator: their bits, (n, words) "
        "uint64, packed. Circuits come from public parameters, never from a peer.",
        reveals={
            "garbler": ("n and the circuit; the outputs if they go to it, else nothing.",),
            "evaluator": ("n and the circuit; the outputs if they go to it, else nothing.",),
        },
        cost="For each instance 32 bytes an AND gate, 16 bytes a bit of the evaluator, 1/8 byte an output; XOR gates "
        "and the garbler's bits cost nothing. Garbling takes 8 blocks of AES an AND gate, evaluating 4. 1 message "
        "for up to 4 MB of tables; rounds do not depend on the circuit. Set-up as `oblivious-transfer`.",
        fails="ProtocolError on another circuit, size or output, and at the garbler on output labels that it has not "
        "garbled; ValueError on own inputs of another width.",
        assurance="tested",
        notes=(
            "Where the garbler gets the outputs, changed tables or labels are noticed: it checks a digest of the "
            "evaluator's output labels. Where only the evaluator or shares get them, changed tables give wrong "
            "results that nobody notices; the transport's own integrity is what protects them.",
            "A malicious garbler can garble another circuit, or learn from an evaluator that reacts to wrong results.",
            "One offset serves a session; every instance has labels of its own, and no tweak occurs twice.",
        ),
    ),
    roles={"garbler": garbler, "evaluator": evaluator},
    messages=(Opening, Tables, Decoding, Results),
    uses=(oblivious_transfer.PROTOCOL,),
)
