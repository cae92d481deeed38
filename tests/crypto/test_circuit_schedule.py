"""Schedules: every gate once and after its inputs, and no slot taken while its wire is still read."""

import numpy as np
import pytest

from atoll.crypto import circuit_schedule as cs
from atoll.crypto import circuit_words as cw
from atoll.crypto.boolean_circuit import Builder, Circuit, to_bits
from atoll.crypto.circuit_schedule import Schedule, schedule
from tests.crypto.circuits import plain, random_circuit, random_inputs


@pytest.fixture(scope="module", autouse=True)
def _compiled() -> None:
    cs.warm()


def run(plan: Schedule, circuit: Circuit, x: np.ndarray, y: np.ndarray, instances: int) -> np.ndarray:
    """Work a schedule on plain bits; AND gates of a step all read before one of them writes, in reverse order."""
    slots = np.zeros((plan.slots, len(x)), np.uint8)
    slots[1 : 1 + plan.inputs] = np.concatenate((to_bits(x, circuit.garbler_bits), to_bits(y, circuit.evaluator_bits)))
    for segment in plan.segments(instances):
        for xors, ands in segment:
            for out, a, b in plan.xors[xors]:
                slots[out] = slots[a] ^ slots[b]
            for out, a, b, flips in plan.ands[ands][::-1]:
                slots[out] = (slots[a] ^ (flips & 1)) & (slots[b] ^ (flips >> 1))
    return (slots[plan.outputs] ^ plan.flips[:, np.newaxis]).T


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("instances", [1, 5, 3000])
def test_a_schedule_computes_what_the_circuit_does(seed: int, instances: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cs, "_STEP_ANDS", 15)
    monkeypatch.setattr(cs, "_SEGMENT_BYTES", 32 * 37)
    circuit = random_circuit(seed, garbler=9, evaluator=1 + seed, gates=40 * seed, outputs=20)
    plan = schedule(circuit)
    x, y = random_inputs(seed, 50, 9), random_inputs(seed + 9, 50, 1 + seed)
    assert np.array_equal(run(plan, circuit, x, y, instances), plain(circuit, x, y))
    steps = [step for segment in plan.segments(instances) for step in segment]
    for side, rows in (("xors", plan.xors), ("ands", plan.ands)):
        ranges = [getattr(step, side) for step in steps]
        assert [i for one in ranges for i in range(one.start, one.stop)] == list(range(len(rows)))
    assert max((step.ands.stop - step.ands.start for step in steps), default=0) * instances <= plan.widest(instances)
    assert plan.widest(instances) <= plan.widest(instances + 7)
    sizes = [segment[-1].ands.stop - segment[0].ands.start for segment in plan.segments(instances)]
    assert max(sizes, default=0) <= max(1, 37 // instances)


def test_slots_are_used_again() -> None:
    builder = Builder()
    x, y = builder.garbler(64), builder.evaluator(64)
    circuit = builder.build([cw.less_than(builder, x, y)])
    plan = schedule(circuit)
    assert circuit.nodes > 380
    assert plan.slots < 135
    assert plan.chunk % 64 == 0
    assert len(plan.layers) == 65


def test_chunks_shrink_as_circuits_grow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cs, "_LABEL_BYTES", 16 * 4000)
    sizes = {}
    for width in (1, 10, 30, 3000):
        builder = Builder()
        sizes[width] = schedule(
            builder.build([cw.equal(builder, builder.garbler(width), builder.evaluator(width))])
        ).chunk
    assert sizes == {1: 960, 10: 128, 30: 64, 3000: 1}
    assert schedule(Builder().build([])).chunk == cs._MOST_INSTANCES


def test_gates_of_equal_depth_share_a_layer() -> None:
    builder = Builder()
    players = [builder.garbler(8) for _ in range(8)]
    plan = schedule(builder.build(cw.maximum(builder, players)))
    first_layer = plan.layers[0, 1]
    assert first_layer >= 4  # the four first comparisons side by side
    assert len(plan.layers) <= 3 * 9 + 1
