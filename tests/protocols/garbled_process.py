"""One site of a run of garbled logic as a process of its own: python garbled_process.py FOLDER ROLE. Prints JSON."""

import asyncio
import json
import sys
from pathlib import Path

import numpy as np

from atoll.core.channel import Channel, Gate
from atoll.crypto.random import Rng
from atoll.protocols import garbled_circuit, garbled_logic
from atoll.transport.grpc_link import Endpoint
from atoll.transport.site import load_site


def values(role: str) -> np.ndarray:
    """What each site has; the test knows both."""
    return np.random.default_rng(role == "a").integers(-1000, 1000, (3000, 2))


async def main(folder: str, role: str) -> None:
    site, mine, rng = load_site(Path(folder) / role), values(role), Rng.system()
    async with Endpoint(site, listen=site.card.address, join_within=30) as endpoint:
        link = await endpoint.link("job", site.peer("b" if role == "a" else "a"), dial=role == "a")
        channel = Channel(link, Gate(role, "job", garbled_circuit.PROTOCOL.kinds, "garbled"))
        start = garbled_circuit.start_garbler if role == "a" else garbled_circuit.start_evaluator
        party = await start(channel, rng=rng)
        less = await garbled_logic.compare(party, mine[:, 0], "<", to="both")
        best = await garbled_logic.arg_max(party, mine, theirs=2, to="evaluator")
        share = await garbled_logic.maximum(party, mine, theirs=2, to="additive")
        await link.close()
    print(json.dumps([None if part is None else part.tolist() for part in (less, best, share)]))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2]))
