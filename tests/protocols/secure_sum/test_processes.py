"""Sums between real processes over mutual TLS: all topologies, and one site whose process dies."""

import json
import os
import socket
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.datasets import load_breast_cancer

from atoll.transport.site import init_site

SCRIPT = Path(__file__).with_name("sum_process.py")
NAMES = ("hub", "b", "c", "d")
DATA = load_breast_cancer().data
PLACE = np.arange(len(DATA)) % 7 % 4
"""Where each row is."""


def rows_of(*names: str) -> np.ndarray:
    """The rows that some sites hold."""
    return DATA[np.isin(PLACE, [NAMES.index(name) for name in names])]


def sites(folder: Path) -> None:
    """Sites that trust each other and all listen; each has some rows of a real data set of tumours, unevenly spread."""
    with ExitStack() as stack:
        free = [stack.enter_context(socket.socket()) for _ in NAMES]
        for one in free:
            one.bind(("127.0.0.1", 0))
        ports = [one.getsockname()[1] for one in free]
    made = [init_site(folder / name, name, f"127.0.0.1:{port}") for name, port in zip(NAMES, ports, strict=True)]
    for one in made:
        for other in made:
            if one is not other:
                one.trust(other.card)
        np.save(folder / one.name / "rows.npy", rows_of(one.name))


def ran(folder: Path) -> dict[str, Any]:
    """What each process printed last."""
    children = {
        name: subprocess.Popen(
            [sys.executable, str(SCRIPT), str(folder), name],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ},
        )
        for name in NAMES
    }
    try:
        ends = {name: (child.communicate(timeout=110), child.returncode) for name, child in children.items()}
    finally:
        for child in children.values():
            child.kill()
            child.communicate()
    assert all(code == 0 for _, code in ends.values()), [error[-1500:] for (_, error), _ in ends.values()]
    return {name: json.loads(out.splitlines()[-1]) for name, ((out, _), _) in ends.items()}


@pytest.mark.processes
@pytest.mark.timeout(120)
def test_four_sites_over_tls_of_which_one_dies(tmp_path: Path) -> None:
    sites(tmp_path)
    got = ran(tmp_path)
    for way in ("star", "ring", "direct"):
        assert len({json.dumps(got[name][way]) for name in NAMES}) == 1
        assert got["hub"][way] == got["hub"]["star"]
    assert all(got[name][way] for name in NAMES for way in ("lattice 0", "lattice 3", "aggregators 0", "gossip"))
    totals = np.array(got["hub"]["star"])
    means, products = totals[1:31] / totals[0], totals[31:].reshape(30, 30)
    covariance = (products - totals[0] * np.outer(means, means)) / (totals[0] - 1)
    assert totals[0] == len(DATA)
    np.testing.assert_allclose(means, DATA.mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(covariance, np.cov(DATA.T), rtol=1e-8)
    noise = np.array(got["hub"]["noisy"]) - totals[:2]  # of σ = 7.4 and 295; 15 times that by chance of e^-100
    assert len({json.dumps(got[name]["noisy"]) for name in NAMES}) == 1
    assert noise.all()
    assert (np.abs(noise) < (110, 4_500)).all()
    left = rows_of("b", "c")
    assert got["b"]["without d"] == got["c"]["without d"]
    assert got["b"]["without d"][0] == len(left)
    np.testing.assert_allclose(got["b"]["without d"][1:31], left.sum(axis=0), rtol=1e-12)
    assert set(got["hub"]["without d"]) == {"d"}
    assert "before its vector (sum 1)" in got["hub"]["without d"]["d"]
