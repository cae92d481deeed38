"""Rounds of averaging in NVFlare's simulator.  Run in an environment of its own, see `bench.peers.horizontal`.

    python horizontal_nvflare.py SITES PARAMETERS ROUNDS

Prints one line of JSON: the median seconds between two models that the first site gets, without the first round.
"""

import itertools
import json
import statistics
import sys
import tempfile
from pathlib import Path

import numpy as np
from nvflare.app_common.np.recipes.fedavg import NumpyFedAvgRecipe
from nvflare.recipe.sim_env import SimEnv

SITE = r"""
import sys, time
import numpy as np
import nvflare.client as flare

flare.init()
with open(sys.argv[1] + "/" + flare.get_site_name(), "a") as times:
    while flare.is_running():
        model = flare.receive()
        if model is None:
            break
        times.write(f"{time.time()}\n")
        times.flush()
        params = {name: np.sin(np.asarray(value)) for name, value in model.params.items()}
        flare.send(flare.FLModel(params_type="FULL", params=params, meta={"NUM_STEPS_CURRENT_ROUND": 1}))
"""

if __name__ == "__main__":
    sites, parameters, rounds = map(int, sys.argv[1:])
    with tempfile.TemporaryDirectory() as folder:
        script, start = Path(folder, "site.py"), Path(folder, "start.npy")
        script.write_text(SITE)
        np.save(start, np.zeros(parameters, np.float32))
        recipe = NumpyFedAvgRecipe(
            name="rounds", initial_ckpt=str(start), min_clients=sites, num_rounds=rounds + 1,
            train_script=str(script), train_args=folder,
        )  # fmt: skip
        recipe.execute(SimEnv(num_clients=sites, workspace_root=folder + "/work"))
        times = [float(line) for line in Path(folder, "site-1").read_text().split()]
    took = [b - a for a, b in itertools.pairwise(times)][1:]
    print("\n" + json.dumps({"seconds": statistics.median(took)}))
