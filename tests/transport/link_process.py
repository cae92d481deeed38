"""One side of a link as a process of its own: python link_process.py FOLDER ROLE SIZE_MB. Prints JSON lines."""

import asyncio
import json
import sys
from pathlib import Path

from atoll.core.errors import AtollError
from atoll.transport.grpc_link import Endpoint
from atoll.transport.site import load_site

PIECE = 8 << 20
WHOLE = bytes(range(256)) * (PIECE // 256)


def say(**facts):
    print(json.dumps(facts), flush=True)


def peak_mb():
    """Peak resident memory of this process."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM:"))


async def told(word):
    """Wait for a line on standard input."""
    assert (await asyncio.to_thread(sys.stdin.readline)).strip() == word


async def main(folder, role, size_mb):
    site = load_site(Path(folder) / role)
    peer = site.peer("b" if role == "a" else "a")
    async with Endpoint(site, listen=site.card.address, join_within=20, lost_after=0.5) as endpoint:
        link = await endpoint.link("job", peer, dial=role == "a")
        before = peak_mb()
        say(joined=role)
        if role == "a":
            sending = asyncio.create_task(link.send("x", b"big", [memoryview(WHOLE)] * (size_mb * (1 << 20) // PIECE)))
            await told("how much")
            say(sent=sending.done(), grown=peak_mb() - before)
            await sending
            say(grown=peak_mb() - before)
            await link.recv("x")
        else:
            await told("read")
            data = await (await link.recv("x")).read(size_mb << 20)
            right = all(bytes(data[at : at + PIECE]) == WHOLE for at in range(0, len(data), PIECE))
            say(right=right, grown=peak_mb() - before)
            await link.send("x", b"thanks", [])
        await told("end")


try:
    asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3])))
except AtollError as error:
    say(**error.to_dict())
    sys.exit(error.exit_code)
