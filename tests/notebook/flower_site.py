"""A site that takes part in a Flower training, as a process: python flower_site.py HOME RUNTIME_API STEP.

It stops after four messages: two to train and two to evaluate.
"""

import sys
from pathlib import Path

import numpy as np

from atoll.learn.horizontal.networks import Functions, Plan, Trained
from atoll.notebook.flower import join_superlink


def trainer(step, rows):
    """Training adds a step to every weight, times the learning rate."""
    w = np.zeros(6, np.float32)

    def put(vector):
        w[:] = vector

    def fit(work):
        w[:] += np.float32(step * work.lr)
        return Trained(rows, 1, float(w[0]))

    return Functions(w.copy, put, fit, lambda: {"rows": rows, "loss": float(w.sum()) * rows})


def main(home, address, step):
    seen = []
    plan = Plan(lr=2.0, rounds=2, schedule="exponential", decay=0.5)
    mine = trainer(float(step), 3 * int(step))
    join_superlink(mine, plan, address, home=Path(home), over=lambda: len(seen) == 4, on_message=seen.append)
    print(",".join(seen), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
