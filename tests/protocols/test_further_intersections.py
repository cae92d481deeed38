"""The further forms of intersection between real processes over mutual TLS."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from atoll.transport.site import init_site
from tests.protocols.star import HUB

SCRIPT = Path(__file__).with_name("site_process.py")


@pytest.mark.processes
def test_three_sites_over_tls(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    sites = {
        name: init_site(tmp_path / name, name, f"127.0.0.1:{port}" if name == HUB else "") for name in (HUB, *"bc")
    }
    for one in sites.values():
        for other in sites.values():
            if one is not other:
                one.trust(other.card)
    children = {
        name: subprocess.Popen(
            [sys.executable, str(SCRIPT), str(tmp_path), name],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ},
        )
        for name in sites
    }
    got = {}
    try:
        for name, child in children.items():
            out, error = child.communicate(timeout=50)
            assert child.returncode == 0, error[-2000:]
            got[name] = json.loads(out)
    finally:
        for child in children.values():
            child.kill()
            child.communicate()
    assert set(got[HUB]["common"]) == {f"id-{i}" for i in range(40, 60)}
    assert got[HUB]["common"] == got["b"]["common"] == got["c"]["common"]
    assert got[HUB]["labels"] == {str(i): i for i in range(20, 60)}
    assert got[HUB]["count"] == got["b"]["count"] == 40
    assert (got[HUB]["sum"], got["b"]["sum"]) == ([sum(range(20, 60))], None)
    assert got[HUB]["found"] == list(range(20, 60))
