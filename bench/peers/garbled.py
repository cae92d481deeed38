"""The peers' side of the benchmark of garbled circuits, run inside their own environments; prints JSON."""

import json
import sys
import time


def pysecurecircuit(gates: int = 200) -> dict[str, float]:
    """AND gates a second of pySecureCircuit: four rows of nested Fernet tokens, garbled, then opened row by row."""
    from pysecurecircuit.circuit import Circuit, GarbledGate, GarbledKey

    circuit = Circuit("and", 2)
    left, right = circuit.newWire(), circuit.newWire()
    conjunction = left & right
    (gate,) = (gate for gate in circuit.gates if gate.output_wire is conjunction)
    start = time.perf_counter()
    tables = [gate.create_grabled_truth_table() for _ in range(gates)]
    garbled = time.perf_counter()
    for table in tables:
        garbled_gate = GarbledGate(gate.id, table)
        garbled_gate.input_keys = [GarbledKey(key=left.keys[1]), GarbledKey(key=right.keys[0])]
        garbled_gate.evaluate()
        if garbled_gate.output_key != str(conjunction.keys[0]).encode():
            raise RuntimeError("the gate does not compute")
    end = time.perf_counter()
    return {"garbling": gates / (garbled - start), "evaluating": gates / (end - garbled)}


def mpyc(comparisons: int = 500) -> dict[str, float]:
    """64-bit comparisons a second of MPyC: Shamir shares, three processes on one machine (start with -M3)."""
    import numpy as np
    from mpyc.runtime import mpc

    async def run() -> float:
        secint = mpc.SecInt(64)
        few = secint.array(np.arange(4, dtype=object))
        x = secint.array(np.arange(comparisons, dtype=object))
        y = secint.array(np.arange(comparisons, dtype=object)[::-1].copy())
        async with mpc:
            await mpc.output(mpc.np_less(few, few))
            start = time.perf_counter()
            found = await mpc.output(mpc.np_less(x, y))
            seconds = time.perf_counter() - start
        if int(sum(found)) != comparisons // 2:
            raise RuntimeError("the comparisons are wrong")
        return comparisons / seconds

    return {"comparisons": mpc.run(run())}


if __name__ == "__main__":
    which = "mpyc" if "mpyc" in sys.argv else "pysecurecircuit"
    print(json.dumps(mpyc() if which == "mpyc" else pysecurecircuit()), flush=True)
