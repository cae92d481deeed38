"""All ways to intersect come to the same result, alone, in a star, and between two processes over mutual TLS."""

import asyncio
import json
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from typing import Any, get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from atoll.core.errors import ProtocolError
from atoll.node.steps.align import INTERSECTIONS, Intersection
from atoll.protocols import intersection_result as result
from atoll.testing import end_pair, run_pair, seeded_rng
from atoll.transport.memory import memory_pair
from atoll.transport.site import init_site
from tests.protocols.rsa_key import small_key

CHOICES = sorted(INTERSECTIONS)
IDS = st.lists(
    st.one_of(st.binary(max_size=40), st.integers(0, 30).map(lambda i: b"id-%d" % i)), unique=True, max_size=40
)


@pytest.fixture(autouse=True, scope="module")
def _small_key() -> Any:
    with pytest.MonkeyPatch.context() as patch:
        small_key(patch)
        yield


def test_every_choice_of_a_job_has_its_module() -> None:
    assert get_args(Intersection) == tuple(INTERSECTIONS)
    for module in INTERSECTIONS.values():
        assert {"receiver", "receive_from_all", "sender", "PROTOCOL"} <= vars(import_module(module)).keys()


@pytest.mark.parametrize("choice", CHOICES)
@settings(max_examples=6)
@given(x=IDS, y=IDS)
def test_all_come_to_the_same_as_plain_sets(choice: str, x: list[bytes], y: list[bytes]) -> None:
    chosen: Any = import_module(INTERSECTIONS[choice])
    a, b = memory_pair(timeout=10.0)
    matches, shuffled = run_pair(chosen.receiver(a, x, rng=seeded_rng(1)), chosen.sender(b, y, rng=seeded_rng(2)))
    assert {x[i] for i in matches.mine} == set(x) & set(y)
    assert [x[i] for i in matches.mine] == [y[i] for i in shuffled.order[matches.theirs]]
    assert matches.mine.tolist() == sorted(matches.mine.tolist())
    assert sorted(shuffled.order.tolist()) == list(range(len(y)))


@pytest.mark.parametrize("choice", CHOICES)
def test_a_star_of_two_senders(choice: str) -> None:
    chosen: Any = import_module(INTERSECTIONS[choice])
    x, ys = [b"%d" % i for i in range(12)], [[b"%d" % i for i in range(4, 20)], [b"%d" % i for i in range(9)]]
    seen: list[tuple[int, int]] = []

    async def centre(one: Any, two: Any) -> list[bytes]:
        matches = await chosen.receive_from_all(
            {"one": one, "two": two}, x, rng=seeded_rng(1), progress=lambda done, total: seen.append((done, total))
        )
        rows, _ = result.common_rows(list(matches.values()), seeded_rng(5))
        return sorted(x[i] for i in rows)

    async def leaves(*peers: Any) -> Any:
        return await asyncio.gather(
            *(chosen.sender(peer, y, rng=seeded_rng(7)) for peer, y in zip(peers, ys, strict=True))
        )

    (a1, b1), (a2, b2) = memory_pair(), memory_pair()
    rows, _ = run_pair(centre(a1, a2), leaves(b1, b2))
    assert rows == sorted(set(x) & set(ys[0]) & set(ys[1]))
    assert seen[-1][0] == seen[-1][1]


@pytest.mark.parametrize("choice", CHOICES)
def test_one_failing_sender_ends_the_star(choice: str) -> None:
    chosen: Any = import_module(INTERSECTIONS[choice])

    async def hostile(peer: Any) -> None:
        if choice == "vole":
            await peer.recv(chosen.Start)
            await peer.send(chosen.Count(-1, True))
            return
        opening = await peer.recv(chosen.Opening)
        fields = {name: getattr(opening, name) for name in opening.__struct_fields__}
        await peer.send(chosen.Opening(**{**fields, "size": -1}))

    (a1, b1), (a2, _) = memory_pair(), memory_pair()
    ends = end_pair(chosen.receive_from_all({"one": a1, "two": a2}, [b"a"], rng=seeded_rng(1)), hostile(b1))
    assert isinstance(ends[0], ProtocolError)
    assert "ids, at most" in str(ends[0])


SITE = """
import asyncio, json, sys
from importlib import import_module
from pathlib import Path

from atoll.core.channel import Channel, Gate
from atoll.crypto.random import Rng
from atoll.node.steps.align import INTERSECTIONS
from atoll.transport.grpc_link import Endpoint
from atoll.transport.site import load_site

role, folder = sys.argv[1], Path(sys.argv[2])
ids = [b"id-%d" % i for i in (range(0, 15) if role == "a" else range(9, 20))]


async def main():
    here, other = load_site(folder / role), "b" if role == "a" else "a"
    out = {}
    async with Endpoint(here, listen=here.card.address) as endpoint:
        link = await endpoint.link("job", here.peer(other), dial=role == "a")
        for choice, module in INTERSECTIONS.items():
            chosen = import_module(module)
            channel = Channel(link, Gate(role, "job", chosen.PROTOCOL.kinds)).sub(choice)
            if role == "a":
                matches = await chosen.receiver(channel, ids, rng=Rng.system())
                out[choice] = [ids[i].decode() for i in matches.mine]
            else:
                out[choice] = len((await chosen.sender(channel, ids, rng=Rng.system())).order)
        await link.close()
    print(json.dumps(out))


asyncio.run(main())
"""


@pytest.mark.processes
def test_two_processes_over_mutual_tls(tmp_path: Path) -> None:
    from atoll.cli.stage import free_ports

    a, b = init_site(tmp_path / "a", "a", ""), init_site(tmp_path / "b", "b", f"127.0.0.1:{free_ports(1)[0]}")
    a.trust(b.card)
    b.trust(a.card)
    children = {
        role: subprocess.Popen([sys.executable, "-c", SITE, role, str(tmp_path)], stdout=subprocess.PIPE, text=True)
        for role in ("b", "a")
    }
    try:
        said = {role: child.communicate(timeout=50)[0] for role, child in children.items()}
    finally:
        for child in children.values():
            child.kill()
            child.wait()
    common = [f"id-{i}" for i in range(9, 15)]
    assert json.loads(said["a"]) == dict.fromkeys(INTERSECTIONS, common)
    assert json.loads(said["b"]) == dict.fromkeys(INTERSECTIONS, 11)
