"""Parties as processes of their own, over mutual TLS: two with a dealer, three of them, and two alone."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from atoll.transport.site import init_site
from bench.harness import free_ports
from tests.protocols.shares.party_process import SITES


@pytest.mark.processes
def test_three_sites_over_tls(tmp_path: Path) -> None:
    ports = free_ports(3)
    sites = [init_site(tmp_path / name, name, f"127.0.0.1:{port}") for name, port in zip(SITES, ports, strict=True)]
    for one in sites:
        for other in sites:
            if one is not other:
                one.trust(other.card)
    script = Path(__file__).with_name("party_process.py")
    running = [
        subprocess.Popen([sys.executable, script, tmp_path, name], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        for name in SITES
    ]
    outputs = [process.communicate(timeout=58) for process in running]
    assert [process.returncode for process in running] == [0, 0, 0], outputs
    first, second, dealer = (json.loads(out) for out, _ in outputs)
    three = {"below": 3, "largest": [49.0, 49]}
    whole = sum(i * (1999 - i) for i in range(2000))
    assert first == second == {"total": 3062.5, "count": 3, "dot": whole, "products": whole} | three
    assert dealer == {"served": 5} | three
