"""Federated averaging of digits in Flower's simulation.  Run in an environment of its own, see `bench.fedavg`.

    python -m bench.peers.flower_digits '{"sites": 50, "rounds": 30, "epochs": 5, "batch": 10, "lr": 0.1,
        "momentum": 0.7}'

Prints one line of JSON: accuracy in % of the last round, seconds of the whole simulation, Flower's version.
"""

import json
import sys
import time
from collections import OrderedDict
from importlib.metadata import version

import numpy as np
import torch
from flwr.app import ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import FedAvgM
from flwr.simulation import run_simulation
from torch.nn.functional import cross_entropy

from bench.digits import digits, momentum, network


def client(task: dict) -> ClientApp:
    """A site: some passes over its rows."""
    app = ClientApp()

    @app.train()
    def train(message: Message, context: Context) -> Message:
        torch.set_num_threads(1)
        k, sites = int(context.node_config["partition-id"]), task["sites"]
        x, y, *_ = digits()
        part = np.array_split(np.random.default_rng(0).permutation(len(x)), sites)[k]
        x, y = torch.as_tensor(x[part]), torch.as_tensor(y[part])
        model = network()
        model.load_state_dict(message.content["arrays"].to_torch_state_dict())
        optimizer = momentum(model.parameters(), task["lr"])
        for _ in range(task["epochs"]):
            for rows in torch.randperm(len(x)).split(task["batch"]):
                optimizer.zero_grad()
                cross_entropy(model(x[rows]), y[rows]).backward()
                optimizer.step()
        metrics = MetricRecord({"num-examples": len(x)})
        content = RecordDict({"arrays": ArrayRecord(model.state_dict()), "metrics": metrics})
        return Message(content=content, reply_to=message)

    return app


def server(task: dict, found: list[float]) -> ServerApp:
    """The centre: averages, and looks at the held-out rows after every round."""
    app = ServerApp()

    def look(number: int, arrays: ArrayRecord) -> MetricRecord:
        *_, x, y = digits()
        model = network()
        model.load_state_dict(OrderedDict(arrays.to_torch_state_dict()))
        with torch.no_grad():
            right = (model(torch.as_tensor(x)).argmax(dim=1) == torch.as_tensor(y)).double().mean()
        found.append(100 * right.item())
        return MetricRecord({"accuracy": right.item()})

    @app.main()
    def main(grid: Grid, context: Context) -> None:
        strategy = FedAvgM(
            fraction_train=1.0, fraction_evaluate=0.0, min_available_nodes=task["sites"],
            server_momentum=task["momentum"],
        )  # fmt: skip
        arrays = ArrayRecord(network().state_dict())
        strategy.start(grid=grid, initial_arrays=arrays, num_rounds=task["rounds"], evaluate_fn=look)

    return app


def main() -> None:
    """Simulate, and print what was measured."""
    task, found = json.loads(sys.argv[1]), []
    resources = {"client_resources": {"num_cpus": 1, "num_gpus": 0.0}, "init_args": {"num_cpus": 2}}
    start = time.perf_counter()
    run_simulation(server(task, found), client(task), num_supernodes=task["sites"], backend_config=resources)
    seconds = time.perf_counter() - start
    print(json.dumps({"accuracy": found[-1], "seconds": seconds, "version": version("flwr")}), flush=True)


if __name__ == "__main__":
    main()
