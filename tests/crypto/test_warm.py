"""After `warm` nothing is compiled any more while protocols run: a compilation in mid-job looks like a dead peer."""

import json
import subprocess
import sys

import pytest

PROGRAM = """
import json
import sys

import numpy as np

from atoll.transport.memory import memory_pair
from atoll.crypto import bit_transpose, choice_pads, cuckoo, item_hash, random, ristretto, row_hash, tmmo
from atoll.protocols import ecdh_intersection, kkrt_intersection, oblivious_choice, oblivious_transfer
from atoll.testing import run_pair, seeded_rng

MODULES = (bit_transpose, choice_pads, cuckoo, item_hash, random, ristretto, row_hash, tmmo)


def compiled():
    kernels = {f"{m.__name__}.{name}": v for m in MODULES for name, v in vars(m).items() if hasattr(v, "signatures")}
    return {name: len(kernel.signatures) for name, kernel in kernels.items()}


async def sender(peer, ids):
    rng = seeded_rng(1)
    ot = await oblivious_transfer.setup_sender(peer, rng=rng)
    for n in (20_000, 1):
        await oblivious_choice.owner(peer, np.ones((3, n), np.uint8), ot=ot)
    for dtype in (np.uint32, np.uint64):
        blocks = await ot.extend(peer, 64)
        _, corrections = tmmo.sender_corrections(blocks.q, blocks.delta, blocks.first, np.ones((64, 7), dtype))
        corrections.flags.writeable = False
        tmmo.receiver_sum(blocks.q, np.zeros(64, np.uint8), blocks.first, corrections)
    await ecdh_intersection.sender(peer, ids, rng=rng)
    await kkrt_intersection.sender(peer, ids, rng=rng)


async def receiver(peer, ids):
    rng = seeded_rng(2)
    ot = await oblivious_transfer.setup_receiver(peer, rng=rng)
    for n in (20_000, 1):
        await oblivious_choice.chooser(peer, np.zeros(n, np.int64), 3, ot=ot)
    for _ in range(2):
        await ot.extend(peer, rng.bits(64))
    await ecdh_intersection.receiver(peer, ids, rng=rng)
    await kkrt_intersection.receiver(peer, ids, rng=rng)


for module in MODULES:
    module.warm()
before = compiled()
a, b = memory_pair(timeout=60)
run_pair(sender(a, [b"a", b"b"]), receiver(b, [b"%d" % i for i in range(600)]))
after = compiled()
print(json.dumps([name for name in before if before[name] != after[name]]))
"""


@pytest.mark.processes
def test_warm_compiles_everything_that_protocols_use() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == []
