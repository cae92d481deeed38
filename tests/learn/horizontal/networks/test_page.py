"""The example of the page on networks runs as it stands, where PyTorch is installed."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import pytest

from tests.repo.blocks import blocks
from tests.repo.source import ROOT


@pytest.mark.processes
@pytest.mark.slow
def test_the_shortest_example_reads_digits() -> None:
    pytest.importorskip("torch")
    page = ROOT / "docs" / "how-to" / "train-networks.md"
    (example,) = [block.code for block in blocks(page) if block.language == "python"]
    assert len(example.splitlines()) <= 30
    env = os.environ | {"PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", example], capture_output=True, text=True, env=env, timeout=100, check=True
    )
    last = done.stdout.splitlines()[-1]
    accuracy = re.fullmatch(r"round 8: training loss 0\.\d+, accuracy (\d+\.\d)%", last)
    assert accuracy is not None, last
    assert float(accuracy[1]) > 90
