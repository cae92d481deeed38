"""Three and more sites: equals plain sets, shows no pair, and survives hostile peers."""

import asyncio
import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest

from atoll.core.channel import Channel
from atoll.core.errors import InputError, ProtocolError
from atoll.core.message import Message
from atoll.crypto import filled_store, okvs
from atoll.crypto.random import Rng
from atoll.crypto.stretch import pads
from atoll.protocols import multi_intersection as multi
from atoll.protocols import pairwise_keys, vole_oprf
from atoll.testing import ProtocolCheck, check_protocol, seeded_rng
from atoll.transport.memory import memory_pair
from tests.protocols.star import HUB, Star, error_of

CONTEXT = ("job 1", "phone")
Sets = Mapping[str, Sequence[bytes]]


def ids(*spans: tuple[int, int]) -> list[bytes]:
    return [b"id-%d" % i for lo, hi in spans for i in range(lo, hi)]


def play(x: Sequence[bytes], sets: Sets, seed: int = 1, **options: Any) -> tuple[dict[str, Any], Star]:
    star = Star(list(sets), multi.PROTOCOL.kinds)
    options = {"context": CONTEXT, **options}
    ends = star.run(
        multi.receive_common(star.peers, x, rng=seeded_rng(seed), **options),
        {
            name: multi.join(star.hubs[name], y, partners=list(sets), rng=seeded_rng(seed + 1 + i), **options)
            for i, (name, y) in enumerate(sets.items())
        },
    )
    return ends, star


def check(x: Sequence[bytes], sets: Sets) -> None:
    """Every site gets the common ids, in one order."""
    ends, _ = play(x, sets)
    common = set(x).intersection(*sets.values())
    named = [[x[i] for i in ends[HUB]], *([y[i] for i in ends[name]] for name, y in sets.items())]
    assert set(named[0]) == common
    assert len(named[0]) == len(common)
    assert all(other == named[0] for other in named)


@pytest.mark.parametrize(
    ("x", "sets"),
    [
        (ids((0, 40)), {"b": ids((10, 60)), "c": ids((30, 80), (0, 5))}),
        (ids((0, 40)), {"b": ids((10, 60)), "c": ids((30, 80)), "d": ids((0, 200)), "e": ids((35, 36))}),
        (ids((0, 300)), {"b": ids((100, 101)), "c": ids((0, 1000))}),
        (ids((0, 1)), {"b": ids((0, 1)), "c": ids((0, 1))}),
        (ids((0, 9)), {"b": ids((9, 19)), "c": ids((0, 9))}),
        ([], {"b": ids((0, 9)), "c": ids((0, 9))}),
        (ids((0, 9)), {"b": [], "c": ids((0, 9))}),
        (ids((0, 9)), {"b": [], "c": []}),
        (ids((0, 30)), {"b": ids((10, 50))}),
        (["顾客".encode(), b"", b"\0", b"a" * 400], {"b": [b"\0", "顾客".encode()], "c": ["顾客".encode(), b""]}),
    ],
    ids=["three", "five", "uneven", "one id", "none", "no hub ids", "no ids", "no partner ids", "two", "ugly"],
)
def test_equals_plain_sets(x: Sequence[bytes], sets: Sets) -> None:
    check(x, sets)


def test_conformance() -> None:
    """The hub with one partner on one side, the other partner on the other: every message to it is damaged in turn."""

    async def first(peer: Channel, case: Any, rng: Rng) -> Any:
        inside, outside = memory_pair("a", "c", timeout=5.0)
        other = asyncio.ensure_future(multi.join(outside, case[1], partners=["b", "c"], rng=rng.spawn()))
        try:
            rows = await multi.receive_common({"b": peer, "c": inside}, case[0], rng=rng)
            assert [case[1][i] for i in await other] == [case[0][i] for i in rows]
        finally:
            other.cancel()
        return {case[0][i] for i in rows}

    async def second(peer: Channel, case: Any, rng: Rng) -> Any:
        rows = await multi.join(peer, case[2], partners=["b", "c"], rng=rng)
        return {case[2][i] for i in rows}

    check_protocol(
        ProtocolCheck(
            protocol=multi.PROTOCOL,
            cases=[(ids((0, 20)), ids((5, 30)), ids((0, 10), (40, 50))), ([], ids((0, 3)), ids((0, 3)))],
            first=first,
            second=second,
            reference=lambda case: (set(case[0]) & set(case[1]) & set(case[2]),) * 2,
            max_bytes=lambda case: 1_200_000 + 8 * okvs.Shape(max(len(case[0]), 1)).words
            + 8 * okvs.Shape(max(len(case[2]), 1)).words + 12 * len(case[0]) + 1000,
            patience=0.1,
        )
    )  # fmt: skip


def seen_by_the_hub(x: Sequence[bytes], sets: Sets, seed: int = 1) -> tuple[np.ndarray, Star]:
    """What every partner's store gives for each id of the hub, (partners, n)."""
    kept: list[np.ndarray] = []
    original = multi._evaluated

    async def keeping(*args: Any) -> Any:
        both = await original(*args)
        kept.append(both[1])
        return both

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(multi, "_evaluated", keeping)
        _, star = play(x, sets, seed)
    return np.stack(kept), star


WORLDS: tuple[Sets, Sets] = (
    # The hub has 0 … 300; 0 … 20 are common to all in both worlds, and the pairs differ.
    {"b": ids((0, 20), (20, 120)), "c": ids((0, 20), (500, 600))},
    {"b": ids((0, 20), (500, 600)), "c": ids((0, 20), (200, 300))},
)


def shows_pairs(view: np.ndarray) -> bool:
    """Whether some id that is not common to all has a value that chance does not give: zero, or another one's."""
    beyond = view[:, np.bitwise_xor.reduce(view) != 0]
    return bool((beyond == 0).any()) or len(np.unique(beyond)) < beyond.size


def test_two_worlds_that_differ_in_pairs_look_alike_to_the_hub() -> None:
    x = ids((0, 300))
    views, stars = zip(*(seen_by_the_hub(x, sets) for sets in WORLDS), strict=True)
    for name in ("b", "c"):
        shapes = [[(f.sender, f.kind, len(f.payload)) for f in star.transcripts[name]] for star in stars]
        assert shapes[0] == shapes[1]
    for view in views:
        assert (np.bitwise_xor.reduce(view) == 0).nonzero()[0].tolist() == list(range(20))
        assert not shows_pairs(view)
        bits = np.unpackbits(view.view(np.uint8)).astype(float)
        assert abs(bits.mean() - 0.5) < 5 * 0.5 / np.sqrt(bits.size)


def test_a_mutant_without_zero_shares_shows_pairs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(multi, "zero_shares", lambda ids, keys: np.zeros(len(ids), np.uint64))
    view, _ = seen_by_the_hub(ids((0, 300)), WORLDS[0])
    assert shows_pairs(view)
    assert (view == 0).sum() == 120 + 20


def test_a_mutant_that_leaves_words_empty_shows_where_keys_are(monkeypatch: pytest.MonkeyPatch) -> None:
    def empty_words() -> int:
        _, star = play(ids((0, 300)), WORLDS[0])
        return int((np.frombuffer(star.sent("b", "Shares")[0].payload, np.uint64) == 0).sum())

    assert empty_words() == 0

    class NoFilling(Rng):
        def u64(self, *shape: int) -> np.ndarray:
            return np.zeros(shape, np.uint64)

    encode = filled_store.encode
    monkeypatch.setattr(filled_store, "encode", lambda k, v, s, rng: encode(k, v, s, NoFilling(rng.bytes(32))))
    assert empty_words() > 30


def test_any_shares_but_all_are_random() -> None:
    keys = {pair: seeded_rng(i).bytes(16) for i, pair in enumerate(["bc", "bd", "cd"])}
    x = ids((0, 500))
    shares = [multi.zero_shares(x, [keys[pair] for pair in keys if site in pair]) for site in "bcd"]
    assert not np.bitwise_xor.reduce(shares).any()
    for left_out in range(3):
        rest = np.bitwise_xor.reduce([share for i, share in enumerate(shares) if i != left_out])
        assert len(np.unique(rest)) == 500


def test_partners_need_not_be_told() -> None:
    sets = {"b": ids((10, 60)), "c": ids((30, 80))}
    ends, star = play(ids((0, 40)), sets, tell=False)
    assert sorted(ends[HUB]) == list(range(30, 40))
    assert ends["b"].size == ends["c"].size == 0
    assert not star.sent("b", "Common")
    ends, _ = play(ids((0, 40)), {"b": ids((10, 60))}, tell=False)
    assert len(ends[HUB]) == 30
    assert ends["b"].size == 0


def test_few_common_ids_are_told_to_nobody() -> None:
    sets = {"b": ids((10, 60)), "c": ids((37, 80))}
    ends, star = play(ids((0, 40)), sets, minimum=4)
    error = error_of(ends, HUB, InputError)
    assert "minimum of 4" in str(error)
    assert isinstance(error, InputError)
    assert "3" not in error.to_dict()["what"]
    assert not star.sent("b", "Common")
    assert len(play(ids((0, 40)), sets, minimum=3)[0]["b"]) == 3


def test_sites_that_differ_in_who_is_told_are_refused() -> None:
    star = Star(["b", "c"])
    ends = star.run(
        multi.receive_common(star.peers, ids((0, 4)), rng=seeded_rng(1)),
        {n: multi.join(star.hubs[n], ids((0, 4)), partners="bc", rng=seeded_rng(2), tell=n == "b") for n in "bc"},
    )
    assert "different jobs" in str(error_of(ends, "c", ProtocolError))


@pytest.mark.parametrize("at", ["hub", "b"])
def test_duplicates_are_refused(at: str) -> None:
    twice = [b"x", b"y", b"x"]
    ends, _ = play(twice if at == HUB else ids((0, 3)), {"b": twice if at == "b" else ids((0, 3)), "c": ids((0, 3))})
    assert "duplicates" in str(error_of(ends, at, InputError))


async def _lying_hub(peers: Mapping[str, Channel], x: Sequence[bytes], told: Any) -> None:
    """An honest hub up to the announcement."""
    await pairwise_keys.relay(peers)
    context = multi._mode(True)
    for peer in peers.values():
        values, _ = await multi._evaluated(peer, x, seeded_rng(9), (context,), 100)
        await peer.send(told(pads(values, multi.TAGS, multi._tag_bytes(len(x)))))


@pytest.mark.parametrize(
    ("told", "words"),
    [
        (lambda tags: multi.Common(np.zeros_like(tags[:1])), "does not have"),
        (lambda tags: multi.Common(tags[[0, 0]]), "twice"),
        (lambda tags: multi.Common(tags[:, :9]), "has shape"),
        (lambda tags: multi.Common(np.repeat(tags, 50, axis=0)), "has shape"),
    ],
)
def test_a_hub_that_announces_nonsense(told: Any, words: str) -> None:
    star = Star(["b", "c"])
    x = ids((0, 6))
    ends = star.run(
        _lying_hub(star.peers, x, told),
        {n: multi.join(star.hubs[n], x, partners="bc", rng=seeded_rng(2)) for n in "bc"},
    )
    assert words in str(error_of(ends, "b", ProtocolError))


@pytest.mark.parametrize("what", ["seed", "words"])
def test_a_partner_with_a_wrong_store(what: str) -> None:
    async def liar(hub: Channel) -> None:
        await pairwise_keys.agree(hub, ["b", "c"], rng=seeded_rng(4), context=(multi._mode(True),))
        await vole_oprf.sender(hub, ids((0, 4)), rng=seeded_rng(5), context=(multi._mode(True),))
        words = np.zeros((okvs.Shape(4).words - (what == "words"), 1), np.uint64)
        await hub.send(multi.Shares(bytes(15 if what == "seed" else 16), words))

    star = Star(["b", "c"])
    ends = star.run(
        multi.receive_common(star.peers, ids((0, 4)), rng=seeded_rng(1)),
        {"b": liar(star.hubs["b"]), "c": multi.join(star.hubs["c"], ids((0, 4)), partners="bc", rng=seeded_rng(2))},
    )
    error_of(ends, HUB, ProtocolError)


def test_a_hub_without_partners() -> None:
    with pytest.raises(ValueError, match="needs a partner"):
        multi.receive_common({}, ids((0, 3)), rng=seeded_rng(1)).send(None)


def test_messages_are_declared() -> None:
    kinds: frozenset[type[Message]] = multi.PROTOCOL.kinds
    assert {multi.Shares, multi.Common, pairwise_keys.PublicKey, vole_oprf.Encoded} <= kinds


def test_frozen_vectors() -> None:
    ends, star = play(ids((0, 5)), {"b": ids((1, 7)), "c": ids((2, 9))})
    digests = {n: hashlib.sha256(star.sent(n, "Shares")[0].payload).hexdigest()[:16] for n in "bc"}
    told = {n: star.sent(n, "Common")[0].payload.hex() for n in "bc"}
    assert (digests, told) == (FROZEN["shares"], FROZEN["told"])
    assert {name: rows.tolist() for name, rows in ends.items()} == FROZEN["rows"]


FROZEN: dict[str, Any] = {
    "shares": {"b": "af3164b7bf26db7a", "c": "1e43e3ce2c55f975"},
    "told": {
        "b": "d59c48eee6e2ee3743c65795768880d1df960410e33e7445e73432b061e7",
        "c": "71da09692d2214bdc662d07627d0b13d90f71e98f445dd889689862fb699",
    },
    "rows": {"hub": [3, 2, 4], "b": [2, 1, 3], "c": [1, 0, 2]},
}
