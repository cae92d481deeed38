"""Half-gate garbling of many instances of one circuit at once, with free XOR and point-and-permute.

A wire has two labels of 128 bits, W for false and W ⊕ Δ for true; Δ's lowest bit is one, so the lowest bit of a label,
its *colour*, tells the two apart and means nothing.  XOR of labels is a label of the XOR.  An AND gate costs two rows:

    T_G = H(A, j) ⊕ H(A ⊕ Δ, j) ⊕ b·Δ         T_E = H(B, j′) ⊕ H(B ⊕ Δ, j′) ⊕ A        a, b: colours of A, B
    C   = H(A, j) ⊕ a·T_G ⊕ H(B, j′) ⊕ b·(T_E ⊕ A)

and who holds one label each, of colours a and b, finds H(A, j) ⊕ a·T_G ⊕ H(B, j′) ⊕ b·(T_E ⊕ A).

H is TMMO, H(x, j) = π(π(x) ⊕ j) ⊕ π(x), with π = AES-128 under a key of the segment's own, so that what an attacker
computes for one segment helps with no other.  j holds the instance's number and the half gate's number: no
tweak occurs twice.

Gates of a layer and instances of a chunk are worked together: a pass over arrays, two calls to OpenSSL, one more pass.

Source: Zahur, Rosulek, Evans, EUROCRYPT 2015, figure 2 (half gates); Kolesnikov, Schneider, ICALP 2008 (free XOR);
Guo, Katz, Wang, Yu, IEEE S&P 2020, section 7.4 (TMMO); Guo, Katz, Wang, Weng, Yu, CRYPTO 2020 (many instances).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from atoll.crypto.aes import FixedKey, blocks
from atoll.crypto.circuit_schedule import Schedule, Step
from atoll.crypto.jit import njit, read_only

Words = NDArray[np.uint64]
I32 = NDArray[np.int32]

ROW_WORDS = 4
"""Words of a garbled AND gate: T_G, then T_E."""

BLOCKS_TO_GARBLE, BLOCKS_TO_EVALUATE = 4, 2
"""Labels of an AND gate that are hashed."""


class Labels:
    """Room for the labels of one chunk of instances, and for the hashes of one step; used chunk after chunk.

    Args:
        schedule: The circuit in working order.
        instances: The most instances of a chunk.
        blocks_per_and: Hashes that an AND gate takes: 4 to garble, 2 to evaluate.
    """

    def __init__(self, schedule: Schedule, instances: int, blocks_per_and: int) -> None:
        self.schedule, self.instances = schedule, instances
        self._labels = np.zeros(2 * schedule.slots * instances, np.uint64)
        self._room = [blocks(blocks_per_and * schedule.widest(instances)) for _ in range(2)]
        self._per_and = blocks_per_and

    def of(self, instances: int) -> Words:
        """Return the labels of a chunk, (slots, 2 · instances)."""
        return self._labels[: 2 * self.schedule.slots * instances].reshape(self.schedule.slots, -1)

    def start(self, instances: int, garbler: Words, evaluator: Words) -> Words:
        """Fill in the input labels of both sides, each (bits, instances, 2), and zero for the constant."""
        labels = self.of(instances)
        labels[0] = 0
        split = 1 + len(garbler)
        labels[1:split] = garbler.reshape(len(garbler), 2 * instances)
        labels[split : split + len(evaluator)] = evaluator.reshape(len(evaluator), 2 * instances)
        return labels

    def hashed(self, ands: int, instances: int) -> tuple[Words, Words]:
        """Return room for π(x) and for the outer blocks, each (ands, blocks per AND, 2 · instances)."""
        shape = (ands, self._per_and, 2 * instances)
        keys, outer = (room[: ands * self._per_and * instances].reshape(shape) for room in self._room)
        return keys, outer


def garble(labels: Labels, chunk: Words, segment: list[Step], delta: Words, pi: FixedKey, first: int) -> Words:
    """Garble a segment of a chunk.

    Args:
        labels: Where `chunk` lies.
        chunk: What `Labels.start` returned; labels for false, updated in place.
        segment: Steps, one of `Schedule.segments`.
        delta: Δ, (2,) uint64 with its lowest bit set.
        pi: AES under the segment's key.
        first: Number of the chunk's first instance.

    Returns:
        Rows (a, instances, 4) uint64, 32 bytes for every AND gate and instance.
    """
    instances = chunk.shape[1] // 2
    schedule = labels.schedule
    rows = np.empty((_ands(segment), instances, ROW_WORDS), np.uint64)
    base = segment[0].ands.start
    for xors, ands in segment:
        count = ands.stop - ands.start
        keys, outer = labels.hashed(count, instances)
        _open_to_garble(chunk, schedule.xors[xors], schedule.ands[ands], delta, keys)
        if count:
            _hash(pi, keys, outer, ands.start, first)
            part = rows[ands.start - base : ands.stop - base]
            _close_garbled(chunk, schedule.ands[ands], delta, keys, outer, part)
    return rows


def evaluate(labels: Labels, chunk: Words, segment: list[Step], rows: Words, pi: FixedKey, first: int) -> None:
    """Evaluate a garbled segment of a chunk; arguments as of `garble`, `chunk` holds the labels that are known."""
    instances = chunk.shape[1] // 2
    schedule = labels.schedule
    base = segment[0].ands.start
    for xors, ands in segment:
        count = ands.stop - ands.start
        keys, outer = labels.hashed(count, instances)
        _open_to_evaluate(chunk, schedule.xors[xors], schedule.ands[ands], keys)
        if count:
            _hash(pi, keys, outer, ands.start, first)
            part = read_only(rows[ands.start - base : ands.stop - base])
            _close_evaluated(chunk, schedule.ands[ands], keys, outer, part)


def other_labels(labels: Words, bits: NDArray[np.uint8], delta: Words) -> Words:
    """Return W ⊕ bit·Δ: labels for false from those that stand for the bits, or the other way round.

    Args:
        labels: (rows, instances, 2) uint64.
        bits: (rows, instances) uint8, each 0 or 1; time and memory access do not depend on them.
        delta: Δ, (2,) uint64.
    """
    out = np.empty_like(labels)
    _offset(read_only(labels.reshape(-1, 2)), bits.reshape(-1), delta, out.reshape(-1, 2))
    return out


def output_labels(labels: Labels, chunk: Words) -> Words:
    """Return the labels of the outputs, (o, instances, 2), as they lie; inverted outputs are the caller's matter."""
    found = chunk[labels.schedule.outputs]
    return found.reshape(len(found), chunk.shape[1] // 2, 2)


def colours(outputs: Words) -> NDArray[np.uint8]:
    """Return the colours of labels, (o, instances, 2), as bits (o, instances) uint8."""
    return (outputs[:, :, 0] & np.uint64(1)).astype(np.uint8)


def _ands(segment: list[Step]) -> int:
    return int(segment[-1].ands.stop - segment[0].ands.start)


def _hash(pi: FixedKey, keys: Words, outer: Words, first_and: int, first: int) -> None:
    """Turn labels into π(x) in place and fill `outer` with π(π(x) ⊕ j); their XOR is the hash."""
    pi.encrypt_into(keys, keys)
    _tweak(keys, np.uint64(2 * first_and), np.uint64(first), outer)
    pi.encrypt_into(outer, outer)


@njit
def _offset(labels: Words, bits: NDArray[np.uint8], delta: Words, out: Words) -> None:
    for i in range(labels.shape[0]):
        chosen = np.uint64(0) - np.uint64(bits[i])
        out[i, 0] = labels[i, 0] ^ (chosen & delta[0])
        out[i, 1] = labels[i, 1] ^ (chosen & delta[1])


@njit(inline="always")
def _xor_gates(chunk: Words, xors: I32) -> None:
    for r in range(xors.shape[0]):
        out, a, b = chunk[xors[r, 0]], chunk[xors[r, 1]], chunk[xors[r, 2]]
        for w in range(out.shape[0]):
            out[w] = a[w] ^ b[w]


@njit
def _open_to_garble(chunk: Words, xors: I32, ands: I32, delta: Words, keys: Words) -> None:
    """Work XOR gates, then lay out both labels of both inputs of every AND gate."""
    _xor_gates(chunk, xors)
    for r in range(ands.shape[0]):
        for side in range(2):
            x = chunk[ands[r, 1 + side]]
            swap = (ands[r, 3] >> side) & 1  # an inverted input: its label for false is the other one
            false, true = keys[r, 2 * side + swap], keys[r, 2 * side + 1 - swap]
            for w in range(0, x.shape[0], 2):
                false[w], false[w + 1] = x[w], x[w + 1]
                true[w], true[w + 1] = x[w] ^ delta[0], x[w + 1] ^ delta[1]


@njit
def _open_to_evaluate(chunk: Words, xors: I32, ands: I32, keys: Words) -> None:
    """Work XOR gates, then lay out the known label of both inputs of every AND gate."""
    _xor_gates(chunk, xors)
    for r in range(ands.shape[0]):
        keys[r, 0] = chunk[ands[r, 1]]
        keys[r, 1] = chunk[ands[r, 2]]


@njit
def _tweak(keys: Words, first_half: np.uint64, first: np.uint64, outer: Words) -> None:
    """Write π(x) ⊕ j; the first half of an AND gate's blocks belongs to its left input, the rest to its right."""
    per_side = keys.shape[1] // 2
    for r in range(keys.shape[0]):
        for h in range(keys.shape[1]):
            half = first_half + np.uint64(2 * r + h // per_side)
            x, out = keys[r, h], outer[r, h]
            for i in range(x.shape[0] // 2):
                out[2 * i] = x[2 * i] ^ (first + np.uint64(i))
                out[2 * i + 1] = x[2 * i + 1] ^ half


@njit
def _close_garbled(chunk: Words, ands: I32, delta: Words, keys: Words, outer: Words, rows: Words) -> None:
    one = np.uint64(1)
    for r in range(ands.shape[0]):
        out, left, right = chunk[ands[r, 0]], chunk[ands[r, 1]], chunk[ands[r, 2]]
        flip_a, flip_b = np.uint64(ands[r, 3] & 1), np.uint64(ands[r, 3] >> 1)
        a_delta = np.uint64(0) - flip_a
        for i in range(out.shape[0] // 2):
            a, b = np.uint64(0) - ((left[2 * i] & one) ^ flip_a), np.uint64(0) - ((right[2 * i] & one) ^ flip_b)
            for w in range(2):
                k = 2 * i + w
                hash_a, hash_b = keys[r, 0, k] ^ outer[r, 0, k], keys[r, 2, k] ^ outer[r, 2, k]
                label_a = left[k] ^ (a_delta & delta[w])
                garbler = hash_a ^ keys[r, 1, k] ^ outer[r, 1, k] ^ (b & delta[w])
                other = hash_b ^ keys[r, 3, k] ^ outer[r, 3, k]  # T_E ⊕ A
                rows[r, i, w] = garbler
                rows[r, i, 2 + w] = other ^ label_a
                out[k] = hash_a ^ (a & garbler) ^ hash_b ^ (b & other)


@njit
def _close_evaluated(chunk: Words, ands: I32, keys: Words, outer: Words, rows: Words) -> None:
    one = np.uint64(1)
    for r in range(ands.shape[0]):
        out, left, right = chunk[ands[r, 0]], chunk[ands[r, 1]], chunk[ands[r, 2]]
        for i in range(out.shape[0] // 2):
            a, b = np.uint64(0) - (left[2 * i] & one), np.uint64(0) - (right[2 * i] & one)
            for w in range(2):
                k = 2 * i + w
                hashes = keys[r, 0, k] ^ outer[r, 0, k] ^ keys[r, 1, k] ^ outer[r, 1, k]
                out[k] = hashes ^ (a & rows[r, i, w]) ^ (b & (rows[r, i, 2 + w] ^ left[k]))


def warm() -> None:
    """Compile this module's kernels."""
    none = np.empty((0, 3), np.int32)
    gate = np.array([[1, 2, 3, 0]], np.int32)
    plan = Schedule(3, 4, none, gate, np.array([[0, 1]]), np.array([1], np.int32), np.zeros(1, np.uint8))
    delta, pi = np.ones(2, np.uint64), FixedKey(bytes(16))
    (segment,) = plan.segments(1)
    bits = np.zeros((1, 1), np.uint8)
    one = other_labels(np.zeros((1, 1, 2), np.uint64), bits, delta)
    two = np.concatenate((one, one))
    at = Labels(plan, 1, 4)
    rows = garble(at, at.start(1, one, two), segment, delta, pi, 0)
    at = Labels(plan, 1, 2)
    evaluate(at, at.start(1, one, two), segment, rows, pi, 0)
