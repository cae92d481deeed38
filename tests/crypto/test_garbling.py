"""Garbling: equals plain evaluation, keeps the free-XOR relation, and its rows look like nothing."""

import hashlib
import itertools

import numpy as np
import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from atoll.crypto import circuit_schedule as cs
from atoll.crypto import garbling
from atoll.crypto.aes import FixedKey
from atoll.crypto.boolean_circuit import AND, XOR, Circuit, to_bits
from atoll.crypto.circuit_schedule import schedule
from atoll.testing import seeded_rng
from tests.crypto.circuits import plain, random_circuit, random_inputs

KEY = bytes(range(16))


@pytest.fixture(scope="module", autouse=True)
def _compiled() -> None:
    cs.warm()
    garbling.warm()


class Run:
    """One chunk, garbled and evaluated.

    Attributes:
        rows: garbled tables, (ands, n, 4).
        false: the outputs' labels for false, (o, n, 2).
        known: the labels of the outputs that the evaluator has.
        bits: decoded outputs, (n, o).
    """

    def __init__(self, circuit: Circuit, x: np.ndarray, y: np.ndarray, seed: int = 1, first: int = 0) -> None:
        rng, plan, n = seeded_rng(seed), schedule(circuit), len(x)
        self.delta = rng.u64(2) | np.array([1, 0], np.uint64)
        self.inputs = rng.u64(circuit.inputs, n, 2)
        values = np.concatenate((to_bits(x, circuit.garbler_bits), to_bits(y, circuit.evaluator_bits)))
        known = garbling.other_labels(self.inputs, values, self.delta)
        segments, pi, split = list(plan.segments(n)), FixedKey(KEY), circuit.garbler_bits
        room = garbling.Labels(plan, n, garbling.BLOCKS_TO_GARBLE)
        chunk = room.start(n, self.inputs[:split], self.inputs[split:])
        tables = [garbling.garble(room, chunk, segment, self.delta, pi, first) for segment in segments]
        self.false = garbling.output_labels(room, chunk)
        room = garbling.Labels(plan, n, garbling.BLOCKS_TO_EVALUATE)
        chunk = room.start(n, known[:split], known[split:])
        for segment, rows in zip(segments, tables, strict=True):
            garbling.evaluate(room, chunk, segment, rows, pi, first)
        self.known = garbling.output_labels(room, chunk)
        self.rows = np.concatenate(tables) if tables else np.empty((0, n, 4), np.uint64)
        flips = plan.flips[:, np.newaxis]
        self.bits = (garbling.colours(self.known) ^ garbling.colours(self.false) ^ flips).T


def one_gate(kind: int, flips: tuple[int, int], inverted: int) -> Circuit:
    left, right = np.array([2 + flips[0]], np.int32), np.array([4 + flips[1]], np.int32)
    return Circuit(1, 1, np.array([kind], np.uint8), left, right, np.array([6 + inverted], np.int32))


@pytest.mark.parametrize("seed", range(12))
def test_random_circuits_equal_plain_evaluation(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cs, "_STEP_ANDS", 50)
    monkeypatch.setattr(cs, "_SEGMENT_BYTES", 32 * 100)
    circuit = random_circuit(seed, garbler=5 + seed, evaluator=3 * seed, gates=30 * seed, outputs=25)
    n = (1, 2, 7, 64)[seed % 4]
    x, y = random_inputs(seed, n, circuit.garbler_bits), random_inputs(seed + 1, n, circuit.evaluator_bits)
    run = Run(circuit, x, y, seed)
    assert np.array_equal(run.bits, plain(circuit, x, y))
    assert run.rows.nbytes == 32 * circuit.ands * n


@pytest.mark.parametrize("kind", [XOR, AND])
def test_every_gate_has_its_truth_table(kind: int) -> None:
    pairs = np.array(list(itertools.product((0, 1), repeat=2)), np.uint64)
    for flips in itertools.product((0, 1), repeat=2) if kind == AND else ((0, 0),):
        for inverted in (0, 1):
            for seed in range(4):  # other colours: other rows are used
                run = Run(one_gate(kind, flips, inverted), pairs[:, :1], pairs[:, 1:], seed)
                a, b = (pairs ^ np.array(flips, np.uint64)).T.astype(np.uint8)
                assert np.array_equal(run.bits[:, 0], (a ^ b if kind == XOR else a & b) ^ inverted)


def test_every_wire_keeps_the_free_xor_relation() -> None:
    """The evaluator's label of every node is the label for false, or that one plus Δ, and never the other one."""
    circuit = random_circuit(3, garbler=6, evaluator=6, gates=200, outputs=1)
    everything = Circuit(
        6, 6, circuit.kinds, circuit.left, circuit.right, 2 * np.arange(1, circuit.nodes, dtype=np.int32)
    )
    x, y = random_inputs(1, 20, 6), random_inputs(2, 20, 6)
    run, values = Run(everything, x, y), plain(everything, x, y).T
    assert np.array_equal(run.known, run.false ^ values[:, :, np.newaxis].astype(np.uint64) * run.delta)


def aes_hash(x: bytes, half: int, instance: int) -> bytes:
    """TMMO as in the paper, block by block, by another route to AES."""
    encrypt = Cipher(algorithms.AES(KEY), modes.ECB()).encryptor().update  # noqa: S305 - the permutation under test
    key, tweak = encrypt(x), instance.to_bytes(8, "little") + half.to_bytes(8, "little")
    return xor(encrypt(xor(key, tweak)), key)


def xor(*parts: bytes) -> bytes:
    return np.bitwise_xor.reduce([np.frombuffer(part, np.uint8) for part in parts]).tobytes()


def test_rows_are_those_of_the_paper() -> None:
    """Two AND gates, the second with an inverted input, garbled by hand with Python bytes."""
    kinds = np.full(2, AND, np.uint8)
    circuit = Circuit(1, 1, kinds, np.array([2, 6], np.int32), np.array([4, 5], np.int32), np.array([8], np.int32))
    run = Run(circuit, np.zeros((3, 1), np.uint64), np.ones((3, 1), np.uint64), first=1000)
    delta, zero = run.delta.tobytes(), bytes(16)
    for i in range(3):
        a, b = (run.inputs[side, i].tobytes() for side in range(2))
        for gate in range(2):
            if gate:
                b = xor(b, delta)
            left = [aes_hash(w, 2 * gate, 1000 + i) for w in (a, xor(a, delta))]
            right = [aes_hash(w, 2 * gate + 1, 1000 + i) for w in (b, xor(b, delta))]
            generator = xor(*left, delta if b[0] & 1 else zero)
            evaluator = xor(*right, a)
            assert run.rows[gate, i].tobytes() == generator + evaluator
            a = xor(left[0], generator if a[0] & 1 else zero, right[0], xor(evaluator, a) if b[0] & 1 else zero)
            b = run.inputs[1, i].tobytes()
        assert run.false[0, i].tobytes() == a


def test_frozen_vectors() -> None:
    circuit = random_circuit(7, garbler=8, evaluator=8, gates=100, outputs=10)
    run = Run(circuit, random_inputs(1, 9, 8), random_inputs(2, 9, 8))
    assert hashlib.sha256(run.rows.tobytes() + run.known.tobytes()).hexdigest()[:16] == FROZEN


FROZEN = "f106fdbd42e534a9"


def repeated_rows(rows: np.ndarray) -> int:
    """How many of all rows of 16 bytes occur a second time."""
    halves = rows.reshape(-1, 2)
    return len(halves) - len(np.unique(halves, axis=0))


def equal_gates() -> Circuit:
    """The same AND gate five times; the builder would make one of them."""
    kinds, left, right = np.full(5, AND, np.uint8), np.full(5, 2, np.int32), np.full(5, 4, np.int32)
    return Circuit(1, 1, kinds, left, right, np.array([6], np.int32))


def test_equal_gates_have_unequal_rows_and_a_mutant_without_tweaks_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    x = y = np.zeros((50, 1), np.uint64)
    assert repeated_rows(Run(equal_gates(), x, y).rows) == 0

    def mutant(keys: np.ndarray, first_half: np.uint64, first: np.uint64, outer: np.ndarray) -> None:
        outer[:] = keys

    monkeypatch.setattr(garbling, "_tweak", mutant)
    run = Run(equal_gates(), x, y)
    assert repeated_rows(run.rows) == 4 * 2 * 50
    assert np.array_equal(run.bits[:, 0], np.zeros(50))  # it still computes: only this test sees it


def tweaks(firsts: list[int], ands: int, n: int) -> np.ndarray:
    """The tweaks of chunks that begin with these instances: what is added to keys of zero."""
    found = []
    for first in firsts:
        keys, outer = np.zeros((ands, 4, 2 * n), np.uint64), np.empty((ands, 4, 2 * n), np.uint64)
        garbling._tweak(keys, np.uint64(6), np.uint64(first), outer)
        assert np.array_equal(outer[:, 0], outer[:, 1])  # both labels of a wire are hashed under one tweak
        assert np.array_equal(outer[:, 2], outer[:, 3])
        found.append(outer[:, ::2].reshape(-1, 2))
    return np.concatenate(found)


def test_no_tweak_occurs_twice_and_a_mutant_that_counts_instances_anew_is_caught() -> None:
    assert len(np.unique(tweaks([0, 50], 5, 50), axis=0)) == 2 * 5 * 2 * 50
    assert len(np.unique(tweaks([0, 0], 5, 50), axis=0)) == 5 * 2 * 50


@pytest.mark.parametrize("value", [0, 1])
def test_rows_look_uniform_whatever_the_values(value: int) -> None:
    circuit = random_circuit(5, garbler=20, evaluator=20, gates=400, outputs=5)
    x = y = np.full((64, 1), -value, np.int64).view(np.uint64)
    run = Run(circuit, x, y, seed=3)
    bits = np.unpackbits(run.rows.view(np.uint8), axis=None).reshape(-1, 128)
    assert repeated_rows(run.rows) == 0
    assert abs(bits.mean() - 0.5) < 5 * 0.5 / np.sqrt(bits.size)
    assert np.abs(bits.mean(0) - 0.5).max() < 6 * 0.5 / np.sqrt(len(bits))
    shown = garbling.colours(run.known)
    assert 0.3 < shown.mean() < 0.7


def test_a_changed_row_spoils_labels_beyond_repair() -> None:
    circuit = one_gate(AND, (0, 0), 0)
    pairs = np.array(list(itertools.product((0, 1), repeat=2)), np.uint64)
    honest = Run(circuit, pairs[:, :1], pairs[:, 1:])
    plan = schedule(circuit)
    (segment,) = plan.segments(4)
    known = garbling.other_labels(honest.inputs, pairs.T.astype(np.uint8).copy(), honest.delta)
    room = garbling.Labels(plan, 4, garbling.BLOCKS_TO_EVALUATE)
    chunk = room.start(4, known[:1], known[1:])
    garbling.evaluate(room, chunk, segment, honest.rows ^ np.uint64(2), FixedKey(KEY), 0)
    labels = garbling.output_labels(room, chunk)[0]
    valid = {w.tobytes() for w in np.concatenate((honest.false[0], honest.false[0] ^ honest.delta))}
    assert any(w.tobytes() not in valid for w in labels)
