"""In which order a garbled circuit's gates are worked, and where their labels are kept.

Gates are layered by AND depth: layer d holds the XOR gates that follow d AND gates one after the other, then the AND
gates that those feed.  AND gates of a layer do not depend on each other, so their hashes are taken in one call.
Labels live in *slots*: a slot is used anew once nothing reads its wire any more, which keeps chunks small.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from atoll.crypto.boolean_circuit import AND, Circuit
from atoll.crypto.jit import njit

I32 = NDArray[np.int32]
I64 = NDArray[np.int64]

_LABEL_BYTES = 16 << 20  # labels of a chunk: more of them cost cache misses, fewer cost calls
_MOST_INSTANCES = 2048
_STEP_ANDS = 4096  # AND gates, counted in all instances, of one call to AES: its blocks stay in the second-level cache
_SEGMENT_BYTES = 4 << 20  # garbled tables of one message


class Step(NamedTuple):
    """Work between two calls to AES: ranges of rows in `Schedule.xors` and `Schedule.ands`."""

    xors: slice
    ands: slice


@dataclass(frozen=True, eq=False)
class Schedule:
    """A circuit in working order.

    Attributes:
        inputs: Input bits; they start in slots 1 … inputs, in the order of the circuit's nodes.
        slots: Labels that are kept at a time; slot 0 belongs to the constant false, whose label is zero.
        xors: (x, 3) int32 slots: to, left, right.
        ands: (a, 4) int32 slots: to, left, right; and which inputs are inverted: 1 the left, 2 the right one.
        layers: (d + 1, 2) int64: where each layer ends in `xors` and in `ands`.
        outputs: (o,) int32 slots.
        flips: (o,) uint8, 1 where the output is inverted.
    """

    inputs: int
    slots: int
    xors: I32
    ands: I32
    layers: I64
    outputs: I32
    flips: NDArray[np.uint8]

    @property
    def chunk(self) -> int:
        """Instances that are worked at a time, so that memory stays bounded; a multiple of 64 if it can be."""
        fitting = _LABEL_BYTES // (16 * self.slots)
        return max(1, min(_MOST_INSTANCES, fitting - fitting % 64 if fitting >= 64 else fitting))

    def widest(self, instances: int) -> int:
        """Return the most AND gates that a step has, counted in all of at most so many instances."""
        return min(max(_STEP_ANDS, instances), len(self.ands) * instances)

    def segments(self, instances: int) -> Iterator[list[Step]]:
        """Cut the work on so many instances into messages' worths of steps.

        Yields:
            Steps whose AND gates follow each other; the last segment holds XOR gates after the last AND gate.
        """
        segment: list[Step] = []
        room = rows = max(1, _SEGMENT_BYTES // (32 * instances))
        at_most = max(1, _STEP_ANDS // instances)
        xor = conjunction = 0
        for xor_end, and_end in self.layers.tolist():
            while xor < xor_end or conjunction < and_end:
                count = min(and_end - conjunction, at_most, room)
                segment.append(Step(slice(xor, xor_end), slice(conjunction, conjunction + count)))
                xor, conjunction, room = xor_end, conjunction + count, room - count
                if not room:
                    yield segment
                    segment, room = [], rows
        if segment:
            yield segment


def schedule(circuit: Circuit) -> Schedule:
    """Put a circuit into working order."""
    first = 1 + circuit.inputs
    depth = np.zeros(circuit.nodes, np.int32)
    _depths(circuit.kinds, circuit.left, circuit.right, first, depth)
    is_and = circuit.kinds == AND
    # XOR gates of depth d, then the AND gates that lead to depth d + 1; a stable sort keeps inputs before outputs.
    phase = 2 * depth[first:].astype(np.int64) - is_and
    order = np.argsort(phase, kind="stable")
    outputs = circuit.outputs >> 1
    slots = np.empty(circuit.nodes, np.int32)
    used = _assign(circuit.kinds, circuit.left, circuit.right, first, order, phase, outputs, slots)
    rows = np.stack((slots[first:], slots[circuit.left >> 1], slots[circuit.right >> 1]), axis=1)
    inverted = (circuit.left & 1) | (circuit.right & 1) << 1
    xors = order[~is_and[order]]
    ands = order[is_and[order]]
    levels = np.arange(int(depth.max(initial=0)) + 1)
    ends = [np.searchsorted(phase[part], 2 * levels + offset, "right") for part, offset in ((xors, 0), (ands, 1))]
    return Schedule(
        circuit.inputs,
        used,
        np.ascontiguousarray(rows[xors], np.int32),
        np.ascontiguousarray(np.column_stack((rows[ands], inverted[ands])), np.int32),
        np.stack(ends, axis=1).astype(np.int64),
        slots[outputs],
        (circuit.outputs & 1).astype(np.uint8),
    )


@njit
def _depths(kinds: NDArray[np.uint8], left: I32, right: I32, first: int, depth: I32) -> None:
    for i in range(kinds.shape[0]):
        depth[first + i] = max(depth[left[i] >> 1], depth[right[i] >> 1])
        if kinds[i] == AND:
            depth[first + i] += 1


@njit
def _assign(
    kinds: NDArray[np.uint8],
    left: I32,
    right: I32,
    first: int,
    order: I64,
    phase: I64,
    outputs: I32,
    slots: I32,
) -> int:
    """Give every node a slot; return how many there are.

    The slot of a wire is free again after the XOR gate that reads it last.  AND gates of a layer read and write in any
    order, so what they read last is free only after all of them.
    """
    count = kinds.shape[0]
    last = np.full(slots.shape[0], -1, np.int64)  # place in `order` that reads a node last
    for place in range(count):
        gate = order[place]
        last[left[gate] >> 1] = place
        last[right[gate] >> 1] = place
    for i in range(outputs.shape[0]):
        last[outputs[i]] = count
    for node in range(first):
        slots[node] = node
    used, free, waiting = first, np.empty(slots.shape[0], np.int32), np.empty(slots.shape[0], np.int32)
    free_count = waiting_count = 0
    for place in range(count):
        gate = order[place]
        if free_count:
            free_count -= 1
            slots[first + gate] = free[free_count]
        else:
            slots[first + gate] = used
            used += 1
        a, b = left[gate] >> 1, right[gate] >> 1
        if last[a] == place:
            waiting[waiting_count] = slots[a]
            waiting_count += 1
        if b != a and last[b] == place:
            waiting[waiting_count] = slots[b]
            waiting_count += 1
        if kinds[gate] != AND or place + 1 == count or phase[order[place + 1]] != phase[gate]:
            for i in range(waiting_count):
                free[free_count] = waiting[i]
                free_count += 1
            waiting_count = 0
    return used


def warm() -> None:
    """Compile this module's kernels."""
    no_gate, no_wire = np.empty(0, np.uint8), np.empty(0, np.int32)
    schedule(Circuit(1, 0, no_gate, no_wire, no_wire, np.array([2], np.int32)))
