"""Sites that train for a real Flower SuperLink: what it computes, what the sites record, and what they refuse."""

from __future__ import annotations

import hashlib
import json
import os
import socket
import subprocess
import sys
from collections import OrderedDict
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from atoll.core.channel import Gate
from atoll.core.errors import ConnectionLost, ContractError, InputError, ProtocolError
from atoll.core.message import encode
from atoll.learn.horizontal.networks import Plan, TorchTrainer
from atoll.learn.horizontal.networks.flower_client import PROTOCOL, Trained, superlink_app
from atoll.node.home import Home
from atoll.notebook.flower import join_superlink
from atoll.testing import check_card
from atoll.transport.grpc_link import load_grpc
from atoll.transport.site import init_site
from tests.node.sites import until
from tests.notebook import flower_site
from tests.repo.source import ROOT

load_grpc()  # Flower would load it as links between sites may not use it
flower = pytest.importorskip("flwr.app")

PROJECT = """
[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"
[project]
name = "plain"
version = "1.0.0"
description = "Federated averaging."
license = "Apache-2.0"
dependencies = []
[tool.flwr.app]
publisher = "somebody"
[tool.flwr.app.components]
serverapp = "plain.server:app"
clientapp = "plain.client:app"
"""
CLIENT = """
raise RuntimeError("code of the server's owner ran at a site")
app = None
"""
SERVER = """
import json, os
import numpy as np
from flwr.app import Array, ArrayRecord
from flwr.serverapp import ServerApp
from flwr.serverapp.strategy import FedAvg

app = ServerApp()

@app.main()
def main(grid, context):
    both = {"min_available_nodes": 2, "min_train_nodes": 2, "min_evaluate_nodes": 2}
    strategy = FedAvg(fraction_train=1.0, fraction_evaluate=1.0, **both)
    start = ArrayRecord({"w": Array(np.zeros((2, 2), np.float32)), "b": Array(np.zeros(2, np.float32))})
    done = strategy.start(grid=grid, initial_arrays=start, num_rounds=2)
    arrays = {name: array.numpy().tolist() for name, array in done.arrays.items()}
    losses = [record["loss"] for record in done.evaluate_metrics_clientapp.values()]
    with open(os.environ["FLOWER_OUT"] + ".part", "w") as file:
        json.dump([arrays, losses], file)
    os.rename(os.environ["FLOWER_OUT"] + ".part", os.environ["FLOWER_OUT"])
"""


class Flower:
    """Flower's own processes, and those of sites, in one folder."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self.folder, self.stack, self.bin = folder, stack, Path(sys.executable).parent
        self.env = os.environ | {
            "FLWR_HOME": str(folder / "home"), "FLWR_TELEMETRY_ENABLED": "0", "FLOWER_OUT": str(folder / "out.json"),
            "FLWR_SUPEREXEC_TASK_POLL_INTERVAL": "0.05", "OMP_NUM_THREADS": "1",
            "PATH": f"{self.bin}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": os.pathsep.join([str(ROOT / "src"), str(ROOT)]),
        }  # fmt: skip

    def start(self, *command: str) -> subprocess.Popen[str]:
        """Start a process that is stopped at the end; what it says goes to a file."""
        said = self.stack.enter_context((self.folder / f"{len(list(self.folder.glob('*.log')))}.log").open("w"))
        child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=said, text=True, env=self.env)
        self.stack.callback(end, child)
        return child

    def said(self) -> str:
        """What all of them said, for a test that fails."""
        return "\n".join(file.read_text()[-1500:] for file in sorted(self.folder.glob("*.log")))


def listens(port: int) -> bool:
    with socket.socket() as one:
        return one.connect_ex(("127.0.0.1", port)) == 0


def end(child: subprocess.Popen[str]) -> None:
    child.terminate()
    child.communicate(timeout=20)


def write_app(folder: Path, port: int) -> None:
    """The package of somebody else's server, and where `flwr` finds the SuperLink."""
    (folder / "app" / "plain").mkdir(parents=True)
    (folder / "home").mkdir()
    for name, text in {"__init__.py": "", "server.py": SERVER, "client.py": CLIENT}.items():
        (folder / "app" / "plain" / name).write_text(text)
    (folder / "app" / "pyproject.toml").write_text(PROJECT)
    known = f'[superlink]\ndefault = "here"\n[superlink.here]\naddress = "127.0.0.1:{port}"\ninsecure = true\n'
    (folder / "home" / "config.toml").write_text(known)


@pytest.mark.slow
@pytest.mark.processes
@pytest.mark.timeout(180)
def test_sites_train_for_a_superlink_and_run_none_of_its_code(tmp_path: Path) -> None:
    from atoll.cli.stage import free_ports

    link, *nodes = free_ports(3)
    write_app(tmp_path, link)
    with ExitStack() as stack:
        running = Flower(tmp_path, stack)
        running.start(
            "flower-superlink", "--insecure", "--port", str(link), "--disable-runtime-dependency-installation"
        )
        sites = []
        for step, port in enumerate(nodes, 1):
            node = ("flower-supernode", "--insecure", "--superlink", f"127.0.0.1:{link}", "--isolation", "process")
            running.start(*node, "--port", str(port))
            home = allowed(tmp_path / f"site-{step}", f"site-{step}")
            command = [sys.executable, "-m", flower_site.__name__, str(home.folder), f"127.0.0.1:{port}", str(step)]
            sites.append(running.start(*command))
        until(lambda: listens(link), 60)
        subprocess.run([running.bin / "flwr", "run", tmp_path / "app", "here"], env=running.env, check=True)
        until((tmp_path / "out.json").exists, 150)
        for site in sites:
            out, _ = site.communicate(timeout=30)
            assert out.split() == ["train,evaluate,train,evaluate"], running.said()
    arrays, losses = json.loads((tmp_path / "out.json").read_text())
    mean = [2.0 * 5 / 3, 3.0 * 5 / 3]  # steps 1 and 2, weighted by 3 and 6 rows; learning rates 2 and then 1
    np.testing.assert_allclose(arrays["w"], np.full((2, 2), mean[1]), rtol=1e-6)
    np.testing.assert_allclose(arrays["b"], np.full(2, mean[1]), rtol=1e-6)
    np.testing.assert_allclose(losses, np.array(mean) * 6, rtol=1e-6)
    lines = [json.loads(line) for line in (tmp_path / "site-2" / "flower" / "audit.jsonl").read_text().splitlines()]
    assert [line["kind"].split(".")[-1] for line in lines] == ["Trained", "Measured", "Trained", "Measured"]
    left = Trained(np.full(6, 4.0, np.float32).view(np.uint32), 6, 4.0)
    header, parts = encode(left)
    assert lines[0]["sha256"] == hashlib.sha256(header + b"".join(parts)).hexdigest()
    assert lines[0]["bytes"] == len(header) + 24


def allowed(folder: Path, name: str) -> Home:
    """A site that has said `atoll site allow flower-updates`."""
    init_site(folder, name, "")
    home = Home(folder)
    home.decide(home.policy().allowing(PROTOCOL.name))
    return home


def test_a_site_that_has_not_allowed_it_takes_no_part(tmp_path: Path) -> None:
    init_site(tmp_path, "bank", "")
    with pytest.raises(ContractError, match="atoll site allow flower-updates"):
        join_superlink(flower_site.trainer(1.0, 3), Plan(), "127.0.0.1:1", home=tmp_path)
    assert not (tmp_path / "flower").exists()


def test_nobody_at_the_address_is_said_and_other_machines_are_refused(tmp_path: Path) -> None:
    home = allowed(tmp_path, "bank")
    with pytest.raises(InputError, match="without TLS"):
        join_superlink(flower_site.trainer(1.0, 3), Plan(), "10.0.0.1:9094", home=home.folder)
    with pytest.raises(ConnectionLost, match=r"127\.0\.0\.1:1 does not answer"):
        join_superlink(flower_site.trainer(1.0, 3), Plan(), "127.0.0.1:1", home=home.folder, tries=1)


def test_the_card_is_complete() -> None:
    check_card(PROTOCOL)
    assert PROTOCOL.card.weak


def message(arrays: dict[str, Any], kind: str = "train") -> Any:
    """A message as Flower's FedAvg sends it."""
    record = flower.ArrayRecord({name: flower.Array(value) for name, value in arrays.items()})
    content = flower.RecordDict({"arrays": record, "config": flower.ConfigRecord({"server-round": 1, "lr": 1e9})})
    about = flower.Metadata(
        run_id=1, message_id="1", src_node_id=0, dst_node_id=1, reply_to_message_id="", group_id="", created_at=0.0,
        ttl=1e12, message_type=kind,
    )  # fmt: skip
    return flower.Message(content=content, metadata=about)


def answer(trainer: Any, plan: Plan, what: Any) -> Any:
    context = flower.Context(run_id=1, node_id=1, node_config={}, state=flower.RecordDict(), run_config={})
    gate = Gate("bank", "job", PROTOCOL.kinds)
    return superlink_app(trainer, plan, gate=gate, server="superlink", seed=bytes(16))(what, context).content


def test_a_torch_module_keeps_the_names_of_its_state_and_its_own_learning_rate() -> None:
    import torch

    torch.manual_seed(1)
    make = [torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4), torch.nn.ReLU(), torch.nn.Linear(4, 1)]
    network = torch.nn.Sequential(*make)
    x, y = torch.randn(20, 3), torch.randn(20, 1)
    trainer = TorchTrainer(network, torch.nn.functional.mse_loss, (x, y), (x, y), metrics={})
    sent = {name: value.numpy().copy() for name, value in network.state_dict().items()}
    network[0].weight.data.add_(5)  # the message, and not what was here, is where training begins
    content = answer(trainer, Plan(batch=0, lr=0.1), message(sent))
    back = content["arrays"].to_torch_state_dict()
    assert list(back) == list(sent)
    assert back["1.num_batches_tracked"].item() == sent["1.num_batches_tracked"].item()
    twin = torch.nn.Sequential(*make)
    twin.load_state_dict(OrderedDict((name, torch.as_tensor(value)) for name, value in sent.items()))
    twin.train()
    slopes = torch.autograd.grad(torch.nn.functional.mse_loss(twin(x), y), list(twin.parameters()))
    for (name, value), slope in zip(twin.named_parameters(), slopes, strict=True):
        np.testing.assert_allclose(back[name], (value - 0.1 * slope).detach(), atol=1e-6)
    np.testing.assert_allclose(back["1.running_mean"], twin[1].running_mean, atol=1e-6)
    assert content["metrics"]["num-examples"] == 20
    measured = answer(
        trainer, Plan(), message(dict(back.items()) and {n: v.numpy() for n, v in back.items()}, "evaluate")
    )
    assert set(measured["metrics"]) == {"num-examples", "loss"}


@pytest.mark.parametrize(
    ("arrays", "wrong"),
    [
        ({"w": np.zeros(5, np.float32)}, "5 numbers instead of 6"),
        ({"w": np.zeros(6)}, "not in float32"),
        ({"w": np.array([0, 0, 0, 0, 0, np.nan], np.float32)}, "not finite"),
        ({}, "0 numbers instead of 6"),
    ],
)
def test_networks_that_are_none_of_this_sites_are_refused(arrays: dict[str, Any], wrong: str) -> None:
    with pytest.raises(ProtocolError, match=wrong):
        answer(flower_site.trainer(1.0, 3), Plan(), message(arrays))
