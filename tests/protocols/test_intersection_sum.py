"""Sums over common ids: exact, to whom it was agreed, and never over a few."""

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from atoll.core.channel import Channel
from atoll.core.errors import InputError, ProtocolError
from atoll.crypto.random import Rng
from atoll.protocols import intersection_sum as sums
from atoll.protocols import oblivious_transfer
from atoll.protocols.intersection_size import Count, offer
from atoll.testing import ProtocolCheck, check_protocol, end_pair, recorded_pair, run_pair, seeded_rng
from atoll.transport.memory import memory_pair

Values = np.ndarray


def ids(lo: int, hi: int) -> list[bytes]:
    return [b"id-%d" % i for i in range(lo, hi)]


def values(n: int, m: int = 1, seed: int = 0) -> Values:
    return (seeded_rng(seed).u64(n, m) >> np.uint64(24)).astype(np.int64) - (1 << 39)


def play(
    x: Sequence[bytes], y: Sequence[bytes], v: Values, seed: int = 1, **options: Any
) -> tuple[sums.Sums, sums.Sums, list[Any]]:
    a, b, transcript = recorded_pair(allowed=sums.PROTOCOL.kinds)
    options = {"minimum": 2, **options}
    one, two = run_pair(
        sums.receiver(a, x, v.shape[1], rng=seeded_rng(seed), **options),
        sums.sender(b, y, v, rng=seeded_rng(seed + 1), **options),
    )
    return one, two, transcript


def plain(x: Sequence[bytes], y: Sequence[bytes], v: Values) -> list[int]:
    common = set(x)
    return [sum(int(v[i, j]) for i in range(len(y)) if y[i] in common) for j in range(v.shape[1])]


def test_conformance(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sums, "CHUNK", 64)

    async def first(peer: Channel, case: Any, rng: Rng) -> Any:
        got = await sums.receiver(peer, case[0], case[2].shape[1], rng=rng, minimum=2)
        return got.common, got.sums.tolist() if got.sums is not None else None

    async def second(peer: Channel, case: Any, rng: Rng) -> Any:
        got = await sums.sender(peer, case[1], case[2], rng=rng, minimum=2)
        return got.common, got.sums.tolist() if got.sums is not None else None

    def cost(case: Any) -> float:
        x, y, v = case
        nx, ny, m = len(x), len(y), v.shape[1]
        return 32 * (nx + ny) + 13 * nx + (16 + 8 * m) * (ny + 64) + 16 * m + 400 * (-(-ny // 64)) + 12_000

    check_protocol(
        ProtocolCheck(
            protocol=sums.PROTOCOL,
            cases=[
                (ids(0, 6), ids(3, 8), values(5)),
                (ids(0, 2), ids(0, 2), values(2, 3)),
                (ids(0, 90), ids(20, 220), values(200, 5)),
                (["顾客".encode(), b"", b"\0"], [b"", "顾客".encode()], np.array([[-5], [3]])),
            ],
            first=first,
            second=second,
            reference=lambda case: ((len(set(case[0]) & set(case[1])), plain(*case)),) * 2,
            max_bytes=cost,
            patience=0.1,
        )
    )


@pytest.mark.parametrize("to", ["receiver", "sender", "both", "nobody"])
def test_sums_go_to_whom_it_was_agreed(to: Any) -> None:
    x, y, v = ids(0, 40), ids(10, 60), values(50, 2)
    one, two, transcript = play(x, y, v, to=to)
    want = plain(x, y, v)
    for site, name in ((one, "receiver"), (two, "sender")):
        learns = to in (name, "both")
        assert (site.sums.tolist() if site.sums is not None else None) == (want if learns else None)
        assert site.common == 30
    assert (one.share + two.share).view(np.int64).tolist() == want
    opened = [frame.sender for frame in transcript if frame.kind.endswith(".Share")]
    assert sorted(opened) == {"receiver": ["b"], "sender": ["a"], "both": ["a", "b"], "nobody": []}[to]


def test_shares_say_nothing_alone() -> None:
    shares = [play(ids(0, 4), ids(0, 4), np.zeros((4, 200), np.int64), s, to="nobody")[:2] for s in (1, 5)]
    for site in range(2):
        both = np.concatenate([pair[site].share for pair in shares])
        assert len(np.unique(both)) == both.size


def corrections(v: Values) -> np.ndarray:
    _, _, transcript = play(ids(0, 4), ids(0, 300), v)
    payload = next(f.payload for f in transcript if f.kind.endswith(".Corrections"))
    return np.frombuffer(payload, np.uint64)


def test_values_of_other_ids_look_uniform_and_two_worlds_alike() -> None:
    zeros = corrections(np.zeros((300, 2), np.int64))
    other = corrections(values(300, 2))
    assert zeros.shape == other.shape
    for words in (zeros, other):
        bits = np.unpackbits(words.view(np.uint8)).astype(float)
        assert abs(bits.mean() - 0.5) < 5 * 0.5 / np.sqrt(bits.size)


def test_a_mutant_without_pads_shows_values(monkeypatch: pytest.MonkeyPatch) -> None:
    original = sums.tmmo.sender_corrections

    def mutant(q: Any, delta: Any, first: int, rows: Any) -> Any:
        total, _ = original(q, delta, first, rows)
        return total, rows.copy()

    monkeypatch.setattr(sums.tmmo, "sender_corrections", mutant)
    assert not corrections(np.zeros((300, 2), np.int64)).any()


def test_a_sum_over_a_few_is_refused_by_both() -> None:
    x, y = ids(0, 40), ids(37, 60)
    a, b, transcript = recorded_pair()
    one, _ = end_pair(
        _closing(a, sums.receiver(a, x, rng=seeded_rng(1), minimum=4)),
        sums.sender(b, y, values(23), rng=seeded_rng(2), minimum=4),
    )
    assert isinstance(one, InputError)
    assert "3" not in one.to_dict()["what"]
    assert not any(frame.kind.endswith((".Count", ".Corrections")) for frame in transcript)
    a, b, transcript = recorded_pair()
    _, two = end_pair(
        sums.receiver(a, x, rng=seeded_rng(1), minimum=2),
        _closing(b, sums.sender(b, y, values(23), rng=seeded_rng(2), minimum=4)),
    )
    assert isinstance(two, InputError)
    assert not any(frame.kind.endswith(".Corrections") for frame in transcript)
    assert play(x, y, values(23), minimum=3)[0].common == 3


async def _closing(peer: Channel, role: Any) -> Any:
    try:
        return await role
    finally:
        await peer.link.close()


@pytest.mark.parametrize(
    ("v", "options", "words"),
    [
        (values(3), {"minimum": 1}, "single values"),
        (values(3), {"minimum": 0}, "single values"),
        (values(3, 0), {}, "0 columns"),
        (values(3, 257), {}, "257 columns"),
        (values(4), {}, "for 3 ids"),
        (values(3)[:, 0], {}, "0 columns"),
        (values(3).astype(np.float64), {}, "float64"),
        (np.full((3, 1), 1 << 61), {}, "must be below"),
        (np.full((3, 1), -(1 << 63)), {}, "must be below"),
    ],
)
def test_wrong_values_are_refused(v: Any, options: Any, words: str) -> None:
    _, b = memory_pair(timeout=1.0)
    with pytest.raises(InputError, match=words):
        sums.sender(b, ids(0, 3), v, rng=seeded_rng(1), **options).send(None)


def test_largest_values_do_not_wrap() -> None:
    big = (1 << 62) // 4 - 1
    v = np.array([[big, -big]] * 4)
    assert play(ids(0, 4), ids(0, 4), v)[0].sums.tolist() == [4 * big, -4 * big]  # type: ignore[union-attr]


def test_sites_that_differ_in_who_learns_are_refused() -> None:
    a, b = memory_pair(timeout=1.0)
    with pytest.raises(ProtocolError, match="different jobs"):
        run_pair(
            sums.receiver(a, ids(0, 3), rng=seeded_rng(1), to="both"),
            sums.sender(b, ids(0, 3), values(3), rng=seeded_rng(2), to="sender"),
        )


@pytest.mark.parametrize("what", ["corrections", "share"])
def test_a_sender_with_wrong_sizes(what: str) -> None:
    async def liar(peer: Channel) -> None:
        _, _ = await offer(
            peer, ids(0, 3), rng=seeded_rng(3), context=("both", "1"), largest=9, progress=lambda done, total: None
        )
        await peer.recv(Count)
        ot = await oblivious_transfer.setup_sender(peer, rng=seeded_rng(4))
        await ot.extend(peer, 3)
        await peer.send(sums.Corrections(np.zeros((3, 2 if what == "corrections" else 1), np.uint64)))
        await peer.recv(sums.Share, words=(1,))
        await peer.send(sums.Share(np.zeros(2, np.uint64)))

    a, b = memory_pair(timeout=1.0)
    with pytest.raises(ProtocolError, match="has shape"):
        run_pair(sums.receiver(a, ids(0, 3), rng=seeded_rng(1), minimum=2), liar(b))


def test_frozen_vectors() -> None:
    one, _, transcript = play(ids(0, 5), ids(2, 9), values(7))
    digest = hashlib.sha256(b"".join(frame.payload for frame in transcript)).hexdigest()[:16]
    assert (digest, one.common, one.sums.tolist()) == FROZEN  # type: ignore[union-attr]


FROZEN = ("2f508db48a043789", 3, [-55789861246])
