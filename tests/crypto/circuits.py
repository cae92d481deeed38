"""Random circuits and a plain way to evaluate them, for the tests of everything that works on circuits."""

from __future__ import annotations

import numpy as np

from atoll.crypto.boolean_circuit import AND, XOR, Circuit


def random_circuit(seed: int, *, garbler: int, evaluator: int, gates: int, outputs: int) -> Circuit:
    """Draw gates one after the other, each of two different earlier nodes, with inverted inputs at AND gates."""
    rng = np.random.default_rng(seed)
    first = 1 + garbler + evaluator
    kinds = rng.integers(0, 2, gates).astype(np.uint8)
    left, right = np.zeros(gates, np.int32), np.zeros(gates, np.int32)
    for i in range(gates):
        low = max(1, first + i - 60) if rng.integers(4) else 1  # mostly near ones, so that circuits grow deep
        a, b = rng.choice(np.arange(low, first + i), 2, replace=False)
        flips = rng.integers(0, 2, 2) if kinds[i] == AND else (0, 0)
        left[i], right[i] = 2 * a + flips[0], 2 * b + flips[1]
    wanted = rng.integers(2, 2 * (first + gates), outputs).astype(np.int32)
    return Circuit(garbler, evaluator, kinds, left, right, wanted)


def random_inputs(seed: int, n: int, width: int) -> np.ndarray:
    """Draw packed inputs, (n, words); bits beyond the width are set as well, and must not matter."""
    return np.random.default_rng(seed).integers(0, 1 << 64, (n, -(-width // 64)), dtype=np.uint64)


def plain(circuit: Circuit, garbler: np.ndarray, evaluator: np.ndarray) -> np.ndarray:
    """Evaluate gate by gate on Booleans, (n, outputs) uint8: slow, and independent of the bit-sliced kernel."""
    values = [np.zeros(len(garbler), bool)]
    for words, width in ((garbler, circuit.garbler_bits), (evaluator, circuit.evaluator_bits)):
        values += [(words[:, i // 64] >> np.uint64(i % 64)) & np.uint64(1) == 1 for i in range(width)]

    def of(literal: int) -> np.ndarray:
        return values[literal >> 1] ^ bool(literal & 1)

    for kind, a, b in zip(circuit.kinds.tolist(), circuit.left.tolist(), circuit.right.tolist(), strict=True):
        values.append(of(a) ^ of(b) if kind == XOR else of(a) & of(b))
    outputs = [of(literal) for literal in circuit.outputs.tolist()]
    return np.array(outputs, np.uint8).reshape(len(outputs), -1).T
