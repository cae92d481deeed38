"""What a curious aggregator really receives, from processes over mutual TLS, and what it works out from it."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from atoll.core.message import Message, kind_of
from atoll.crypto import fixed_point
from atoll.learn.horizontal.networks.seen_updates import Update
from atoll.protocols.secure_sum.star import Masked
from atoll.transport.site import init_site
from bench import digits, inversion
from bench.inversion import Score
from tests.learn.horizontal.networks import watched_process
from tests.learn.horizontal.networks.watched_process import NAMES, NETWORK
from tests.repo.source import ROOT

ROWS = 3
"""Of b and of c; a has none."""


def ran(folder: Path) -> None:
    """Let three processes train, each with rows of its own."""
    with ExitStack() as stack:
        free = [stack.enter_context(socket.socket()) for _ in NAMES]
        for one in free:
            one.bind(("127.0.0.1", 0))
        ports = [one.getsockname()[1] for one in free]
    made = [init_site(folder / name, name, f"127.0.0.1:{port}") for name, port in zip(NAMES, ports, strict=True)]
    x, y, *_ = digits.digits()
    for k, one in enumerate(made):
        rows = slice((k - 1) * ROWS, k * ROWS) if k else slice(0, 0)
        np.savez(one.folder / "rows.npz", x=x[rows], y=y[rows])
        for other in made:
            if one is not other:
                one.trust(other.card)
    env = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT / "src"), str(ROOT)]), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", watched_process.__name__, str(folder)]
    children = [subprocess.Popen([*command, name], stderr=subprocess.PIPE, text=True, env=env) for name in NAMES]
    try:
        ends = [child.communicate(timeout=55)[1] for child in children]
    finally:
        for child in children:
            child.kill()
            child.communicate()
    assert all(child.returncode == 0 for child in children), [error[-1500:] for error in ends]


def worked_out(update: np.ndarray, site: int) -> Score:
    """The pictures of b, 0, or c, 1, that an update shows."""
    x, *_ = digits.digits()
    weights, biases, *_ = NETWORK.split(update)
    return inversion.score(x[site * ROWS : (site + 1) * ROWS], inversion.inputs_of_neurons(weights, biases))


@pytest.mark.processes
def test_an_aggregator_works_pictures_out_of_updates_and_none_out_of_masked_words_or_noise(tmp_path: Path) -> None:
    ran(tmp_path)
    frames: list[Any] = msgspec.msgpack.decode((tmp_path / "a" / "frames.msgpack").read_bytes())

    def arrived(kind: type[Message], stream: str) -> dict[str, np.ndarray]:
        """The message of each site on one stream that holds an update."""
        return {
            peer: np.frombuffer(payload, np.uint8)
            for peer, on, header, payload in frames
            if (on, msgspec.msgpack.decode(header)[0]) == (stream, kind_of(kind)) and len(payload) >= 4 * NETWORK.size
        }

    updates, masked, noisy = arrived(Update, "seen"), arrived(Masked, "secure"), arrived(Masked, "noisy")
    for site, name in enumerate("bc"):
        # Plain: every picture of every site, from its own message.
        assert worked_out(updates[name].view("<f4"), site).recovered == 1
        assert worked_out(updates[name].view("<f4"), site).psnr > 40
        # Masked words, of the very same updates, are noise.
        alone = fixed_point.decode(masked[name].view(np.uint64).copy())[: NETWORK.size]
        assert worked_out(alone, site).psnr < 10
    # The total that a learns is the one of the updates; it is over six pictures only, and shows most of them.
    start = NETWORK.start(1)
    models = np.load(tmp_path / "a" / "models.npy")
    total = updates["b"].view("<f4").astype(np.float64) + updates["c"].view("<f4")
    np.testing.assert_allclose(2 * (models[1] - start), total, atol=1e-6)
    assert max(worked_out(models[1] - start, site).recovered for site in (0, 1)) > 0.3
    # With the noise of b and c in it, the total shows none.
    assert noisy.keys() == {"b", "c"}
    for site in (0, 1):
        assert worked_out(models[2] - start, site).psnr < 10
        assert worked_out(models[2] - start, site).recovered == 0
    # Whatever a has done with it, all sites ended with the same networks.
    for name in "bc":
        assert np.array_equal(np.load(tmp_path / name / "models.npy"), models)
