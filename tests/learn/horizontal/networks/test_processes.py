"""Networks trained between real processes over mutual TLS, through secure sums, equal the simulation bit for bit."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from sklearn.datasets import load_breast_cancer
from sklearn.preprocessing import scale

from atoll.learn.horizontal.networks import AtAggregator, AtSite, Mixed, fit, simulate
from atoll.learn.horizontal.networks.seen_updates import PROTOCOL
from atoll.protocols.secure_sum.totals import Totals
from atoll.transport.memory import memory_pair
from atoll.transport.site import init_site
from tests.learn.horizontal.networks import buffered_process, network_process
from tests.learn.horizontal.networks.linear import Line, pooled, trainers
from tests.learn.horizontal.networks.network_process import NAMES
from tests.learn.horizontal.networks.test_buffered import replayed
from tests.repo.source import ROOT


def lines() -> list[Line]:
    """Three sites of different sizes with rows of a real data set of tumours: label on 30 measures."""
    x, y = load_breast_cancer(return_X_y=True)
    parts = np.split(np.arange(len(y)), [100, 250])
    return [Line(scale(x)[part], 2.0 * y[part] - 1) for part in parts]


def ran(folder: Path, script: str, names: Sequence[str], rows: Mapping[str, Any]) -> list[Any]:
    """What each process printed."""
    with ExitStack() as stack:
        free = [stack.enter_context(socket.socket()) for _ in names]
        for one in free:
            one.bind(("127.0.0.1", 0))
        ports = [one.getsockname()[1] for one in free]
    made = [init_site(folder / name, name, f"127.0.0.1:{port}") for name, port in zip(names, ports, strict=True)]
    for one in made:
        if one.name in rows:
            np.save(one.folder / "rows.npy", rows[one.name])
        for other in made:
            if one is not other:
                one.trust(other.card)
    env = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT / "src"), str(ROOT)]), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", script, str(folder)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "env": env}
    children = [subprocess.Popen([*command, name], **pipes) for name in names]  # type: ignore[call-overload]
    try:
        ends = [child.communicate(timeout=55) for child in children]
    finally:
        for child in children:
            child.kill()
            child.communicate()
    assert all(child.returncode == 0 for child in children), [error[-1500:] for _, error in ends]
    return [json.loads(out) for out, _ in ends]


@pytest.mark.processes
def test_three_sites_over_tls_train_what_the_simulation_trains(tmp_path: Path) -> None:
    rows = {name: np.column_stack([line.y, line.x]) for name, line in zip(NAMES, lines(), strict=True)}
    got = ran(tmp_path, network_process.__name__, NAMES, rows)
    ends = {name: memory_pair(name, NAMES[0], allowed=PROTOCOL.kinds) for name in NAMES[1:]}

    own = lines()

    async def site(totals: Totals) -> Any:
        k = NAMES.index(totals.site)
        seen = AtSite(ends[totals.site][0]) if k else AtAggregator({name: pair[1] for name, pair in ends.items()})
        return await network_process.both(totals, own[k], seen)

    by_gossip = [found.pop() for found in got]
    assert got == simulate(NAMES, site)
    assert got[0] == got[1] == got[2]
    whole = pooled(own)
    for model in got[0]:
        assert np.mean(np.sign(whole.x @ np.array(model[:-1])) == whole.y) > 0.9
    alike = trainers(own)

    async def together(totals: Totals) -> Any:
        return (await fit(alike[NAMES.index(totals.site)], totals, network_process.ALIKE)).model

    want = simulate(NAMES, together)[0]
    for model in by_gossip:
        np.testing.assert_allclose(model, want, rtol=1e-5, atol=1e-7)


@pytest.mark.processes
def test_a_slow_site_over_tls_keeps_nobody_waiting(tmp_path: Path) -> None:
    names = (buffered_process.HUB, *buffered_process.SITES)
    (model, record), *sites = ran(tmp_path, buffered_process.__name__, names, {})
    buffers = msgspec.convert(record, list[Mixed])
    assert [one.sites for one in buffers[:3]] == [("a", "b", "c")] * 3
    assert any("d" in one.sites for one in buffers[3:])
    assert len(buffers) == 8
    want = replayed(buffers, buffered_process.PLAN, buffered_process.RULES)
    np.testing.assert_array_equal(np.array(model, np.float32), want)
    for name, (own, known) in zip(buffered_process.SITES, sites, strict=True):
        assert own == model
        assert known == [one for one in record if name in one["sites"]]
