"""Count and sums over hidden common ids: exact, silent below the minimum, for whom they are meant, over real TLS."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from atoll.core.channel import Channel
from atoll.core.errors import InputError, ProtocolError
from atoll.crypto import cuckoo
from atoll.crypto.random import Rng
from atoll.protocols import hidden_sum as hs
from atoll.protocols.hidden_sum import Opened, Totals
from atoll.testing import ProtocolCheck, check_protocol, end_pair, recorded_pair, run_pair, seeded_rng
from atoll.testing.check_protocol import by_stream
from atoll.transport.memory import memory_pair
from atoll.transport.site import init_site
from tests.protocols.hidden import balanced, deal_transfers

Case = tuple[list[bytes], np.ndarray, list[bytes], np.ndarray, int, str]


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few bins to spare and no base transfers: short runs of the same protocol."""
    monkeypatch.setattr(cuckoo, "SPARE", 30)
    deal_transfers(monkeypatch)


def case(x: range, y: range, kx: int, ky: int, minimum: int = 1, to: str = "both") -> Case:
    cx = seeded_rng(1).u64(len(x), kx).view(np.int64) >> 8
    cy = seeded_rng(2).u64(len(y), ky).view(np.int64) >> 8
    return [b"id-%d" % i for i in x], cx, [b"id-%d" % i for i in y], cy, minimum, to


async def receive(peer: Channel, case: Case, rng: Rng) -> Totals | None:
    x, cx, _, cy, minimum, to = case
    return await hs.receiver(peer, x, cx, others=cy.shape[1], minimum=minimum, to=to, rng=rng)


async def send(peer: Channel, case: Case, rng: Rng) -> Totals | None:
    _, cx, y, cy, minimum, to = case
    return await hs.sender(peer, y, cy, others=cx.shape[1], minimum=minimum, to=to, rng=rng)


def plain(case: Case) -> tuple[Totals | None, Totals | None]:
    """The reference: a join of plain ids."""
    x, cx, y, cy, minimum, to = case
    common = sorted(set(x) & set(y))
    if len(common) >= minimum:
        rows = [x.index(one) for one in common], [y.index(one) for one in common]
        told = Totals(True, len(common), cx[rows[0]].sum(axis=0), cy[rows[1]].sum(axis=0))
    else:
        told = Totals(False, 0, np.zeros(cx.shape[1], np.int64), np.zeros(cy.shape[1], np.int64))
    return told if to != "sender" else None, told if to != "receiver" else None


def same(got: Totals | None, want: Totals | None) -> bool:
    if got is None or want is None:
        return got is want
    return (got.enough, got.count, got.receiver.tolist(), got.sender.tolist()) == (
        want.enough,
        want.count,
        want.receiver.tolist(),
        want.sender.tolist(),
    )


def play(case: Case, seed: int = 1) -> tuple[Totals | None, Totals | None, list[Any]]:
    a, b, transcript = recorded_pair(allowed=hs.PROTOCOL.kinds)
    mine, theirs = run_pair(receive(a, case, seeded_rng(seed)), send(b, case, seeded_rng(seed + 1)))
    return mine, theirs, transcript


def test_conformance() -> None:
    check_protocol(
        ProtocolCheck(
            protocol=hs.PROTOCOL,
            cases=[
                case(range(6), range(3, 8), 1, 2),
                case(range(6), range(3, 8), 1, 2, minimum=4),
            ],
            first=receive,
            second=send,
            reference=plain,
            max_bytes=lambda case: 2_100_000,
            equal=same,
            patience=0.1,
        )
    )


@pytest.mark.parametrize(
    "drawn",
    [
        case(range(6), range(3, 8), 1, 2, minimum=3, to="receiver"),
        case(range(40), range(40), 2, 0, minimum=40, to="sender"),
        case(range(1), range(1), 0, 1),
        case(range(0), range(3), 1, 1),
        case(range(3), range(0), 0, 0, minimum=0),
        case(range(9), range(20, 25), 1, 1, minimum=0),
    ],
    ids=["just enough", "all", "one", "no ids at the receiver", "no ids at the sender", "none common"],
)
def test_sums_are_those_of_a_plain_join(drawn: Case) -> None:
    *told, _ = play(drawn)
    assert all(map(same, told, plain(drawn)))


def test_two_worlds_below_the_minimum_look_alike() -> None:
    """None common, or all but one of the minimum: the result says the same, and so does every size."""
    seen = []
    for seed, y in ((1, range(100, 200)), (5, range(81, 181))):
        told, none, transcript = play(case(range(100), y, 1, 1, minimum=20, to="receiver"), seed)
        assert none is None
        assert told is not None
        assert (told.enough, told.count, told.receiver.tolist(), told.sender.tolist()) == (False, 0, [0], [0])
        opened = np.frombuffer(transcript[-1].payload, np.uint64)
        assert transcript[-1].kind.endswith("Opened")
        assert opened[0] <= 1
        assert balanced(np.unpackbits(opened[1:].view(np.uint8)))
        seen.append([(f.sender, f.kind, len(f.header), len(f.payload)) for f in by_stream(transcript)])
    assert seen[0] == seen[1]


def test_only_those_see_the_result_for_whom_it_is() -> None:
    for to, senders in (("receiver", {"b"}), ("sender", {"a"}), ("both", {"a", "b"})):
        _, _, transcript = play(case(range(5), range(5), 1, 1, to=to))
        assert {frame.sender for frame in transcript if frame.kind.endswith("Opened")} == senders


def test_sites_that_agreed_on_other_terms_are_refused() -> None:
    one = case(range(5), range(5), 1, 1, minimum=3)
    for other in (
        case(range(5), range(5), 1, 1, minimum=2),
        case(range(5), range(5), 1, 1, minimum=3, to="sender"),
        case(range(5), range(5), 2, 1, minimum=3),
    ):
        a, b = memory_pair(timeout=2.0)
        with pytest.raises(ProtocolError, match="different jobs or columns"):
            run_pair(receive(a, one, seeded_rng(1)), send(b, other, seeded_rng(2)))


def test_own_mistakes_are_refused_before_anything_is_sent() -> None:
    a, _, transcript = recorded_pair()
    good = case(range(5), range(5), 1, 1)
    for bad, what in (
        ((good[0], good[1][:4], *good[2:]), "the columns have shape"),
        ((good[0], good[1].astype(float), *good[2:]), "the columns have shape"),
        ((good[0], np.full((5, 1), (1 << 63) // 5 + 1), *good[2:]), "could reach"),
        ((good[0], np.full((5, 1), np.iinfo(np.int64).min), *good[2:]), "could reach"),
        ((*good[:5], "nobody"), "a result can be for"),
        ((*good[:4], -1, "both"), "fewest common ids"),
        ((*good[:4], hs.MOST + 1, "both"), "fewest common ids"),
    ):
        with pytest.raises(InputError, match=what):
            receive(a, bad, seeded_rng(1)).send(None)
    assert transcript == []


@pytest.mark.parametrize("shift", [0, 1])
def test_shares_that_cannot_be_a_result_are_refused(shift: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A wrong bit, or a count that is larger than both sets."""
    real = Opened

    def wrong(shares: np.ndarray) -> Opened:
        changed = shares.copy()
        changed[shift] += np.uint64(2) if shift == 0 else np.uint64(1000)
        return real(changed)

    monkeypatch.setattr(hs, "Opened", type("Liar", (), {"__new__": lambda cls, shares: wrong(shares)}))
    ends = []

    async def honest(peer: Channel, case: Case, rng: Rng) -> Any:
        recv = peer.recv
        monkeypatch.setattr(
            peer, "recv", lambda kind, **shapes: recv(kind if kind is not hs.Opened else real, **shapes)
        )
        return await receive(peer, case, rng)

    a, b = memory_pair(timeout=2.0)
    drawn = case(range(5), range(5), 1, 1, to="receiver")
    ends = end_pair(honest(a, drawn, seeded_rng(1)), send(b, drawn, seeded_rng(2)))
    assert isinstance(ends[0], ProtocolError)
    assert "something else than a bit" in str(ends[0]) or "do not fit" in str(ends[0])


def test_a_mutant_that_compares_nothing_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Were the gate always open, a count below the minimum would come out; an honest site ends the run then."""

    async def open_gate(peer: Channel, halves: np.ndarray, *, stock: Any) -> np.ndarray:
        return np.zeros(1, np.uint8)

    monkeypatch.setattr(hs.hidden_table, "negative_chooser", open_gate)
    monkeypatch.setattr(hs.hidden_table, "negative_owner", open_gate)
    assert play(case(range(9), range(5, 14), 1, 1, minimum=4, to="receiver"))[0] is not None
    with pytest.raises(ProtocolError, match="do not fit: 4 ids"):
        play(case(range(9), range(5, 14), 1, 1, minimum=5, to="receiver"))


SITE = """
import asyncio, json, sys
from pathlib import Path
import numpy as np
from atoll.core.channel import Channel, Gate
from atoll.crypto.random import Rng
from atoll.protocols import hidden_sum as hs
from atoll.transport.grpc_link import Endpoint
from atoll.transport.site import load_site

async def main(role, folder):
    here, at = load_site(Path(folder) / role), 0 if role == "a" else 20
    ids = [b"id-%d" % i for i in range(at, at + 50)]
    columns = np.arange(at, at + 50)[:, np.newaxis] - 30
    async with Endpoint(here, listen=here.card.address) as endpoint:
        link = await endpoint.link("job", here.peer("b" if role == "a" else "a"), dial=role == "a")
        channel = Channel(link, Gate(role, "job", hs.PROTOCOL.kinds))
        side = hs.receiver if role == "a" else hs.sender
        got = await side(channel, ids, columns, others=1, minimum=10, to="both", rng=Rng.system())
        await link.close()
    print(json.dumps([got.enough, got.count, got.receiver.tolist(), got.sender.tolist()]))

asyncio.run(main(*sys.argv[1:]))
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
    total = sum(range(20, 50)) - 30 * 30
    assert json.loads(said["a"]) == json.loads(said["b"]) == [True, 30, [total], [total]]
