"""Rounds of averaging in Flower's simulation.  Run in an environment of its own, see `bench.peers.horizontal`.

    python horizontal_flower.py plain|secagg SITES PARAMETERS ROUNDS

Prints one line of JSON: the median seconds of a round after the first.
"""

import itertools
import json
import os
import statistics
import sys
import time

os.environ["FLWR_TELEMETRY_ENABLED"] = "0"
os.environ["RAY_DISABLE_METRICS_COLLECTION"] = "1"

import numpy as np
from flwr.client import ClientApp, NumPyClient
from flwr.client.mod import secaggplus_mod
from flwr.common import Context, ndarrays_to_parameters
from flwr.server import LegacyContext, ServerApp, ServerConfig
from flwr.server.strategy import FedAvg
from flwr.server.workflow import DefaultWorkflow, SecAggPlusWorkflow
from flwr.simulation import run_simulation

WAY, SITES, PARAMETERS, ROUNDS = sys.argv[1], *map(int, sys.argv[2:])
TIMES = []


class Site(NumPyClient):
    """A site whose training takes no time."""

    def fit(self, parameters, config):
        return [np.sin(np.arange(PARAMETERS, dtype=np.float32))], 1, {}


class Timed(FedAvg):
    """Notes when each round begins."""

    def configure_fit(self, *arguments, **options):
        TIMES.append(time.perf_counter())
        return super().configure_fit(*arguments, **options)


client = ClientApp(client_fn=lambda context: Site().to_client(), mods=[secaggplus_mod] if WAY == "secagg" else [])
server = ServerApp()


@server.main()
def main(grid, context: Context) -> None:
    """Run the rounds."""
    strategy = Timed(
        fraction_fit=1.0, fraction_evaluate=0.0, min_fit_clients=SITES, min_available_clients=SITES,
        initial_parameters=ndarrays_to_parameters([np.zeros(PARAMETERS, np.float32)]),
    )  # fmt: skip
    legacy = LegacyContext(context=context, config=ServerConfig(num_rounds=ROUNDS + 1), strategy=strategy)
    fit = SecAggPlusWorkflow(num_shares=SITES, reconstruction_threshold=SITES // 2 + 1) if WAY == "secagg" else None
    DefaultWorkflow(fit_workflow=fit)(grid, legacy)


run_simulation(server, client, num_supernodes=SITES, backend_config={"client_resources": {"num_cpus": 0.2}})
took = [b - a for a, b in itertools.pairwise(TIMES)][1:]
print("\n" + json.dumps({"seconds": statistics.median(took)}))
