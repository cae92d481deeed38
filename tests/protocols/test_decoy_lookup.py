"""Lookup among decoys: equals a dictionary, opens one record, keeps its decoys, and refuses what it must."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from atoll.core.channel import Channel
from atoll.core.errors import ContractError, InputError, ProtocolError
from atoll.crypto import ristretto
from atoll.crypto.random import Rng
from atoll.protocols import decoy_lookup as decoy
from atoll.testing import ProtocolCheck, check_protocol, recorded_pair, run_pair, seeded_rng
from atoll.transport.memory import memory_pair
from tests.protocols.test_keyword_lookup import Count

TABLE = {f"钥-{i}".encode(): b"record %d" % i * (i % 3) for i in range(50)}
POOL = [*TABLE, *(b"other %d" % i for i in range(50))]
FIRST = next(iter(TABLE))
SECRET = bytes(range(32))


def find(keys: Sequence[bytes]) -> list[bytes | None]:
    return [TABLE.get(key) for key in keys]


async def serve(peer: Channel, rng: Rng, fewest: int = 2, meter: Count | None = None) -> int:
    return await decoy.server(
        peer, find, count=50, record=64, about="{}", fewest=fewest, meter=meter or Count(), rng=rng
    )


async def look(peer: Channel, keys: Sequence[bytes], k: int, rng: Rng) -> Any:
    return tuple(await decoy.client(peer, keys, pool=POOL, k=k, secret=SECRET, rng=rng))


def play(keys: Sequence[bytes], k: int = 8, seed: int = 1, fewest: int = 2) -> tuple[Any, list[Any]]:
    a, b, transcript = recorded_pair(allowed=decoy.PROTOCOL.kinds)
    found, _ = run_pair(look(a, keys, k, seeded_rng(seed)), serve(b, seeded_rng(seed + 1), fewest))
    return found, transcript


def test_conformance() -> None:
    check_protocol(
        ProtocolCheck(
            protocol=decoy.PROTOCOL,
            cases=[([*[*TABLE][:3], b"nobody"], 5), ([], 2), ([b"", b"other 3"], 100), ([[*TABLE][4]], 2)],
            first=lambda peer, case, rng: look(peer, case[0], case[1], rng),
            second=lambda peer, case, rng: serve(peer, rng),
            reference=lambda case: (tuple(find(case[0])), len(case[0])),
            max_bytes=lambda case: len(case[0]) * (case[1] * (80 + 16) + 600) + 700,
        )
    )


def test_decoys_are_fixed_for_a_key_and_say_nothing_by_their_order() -> None:
    pool, places = sorted(POOL), []
    for key in [*TABLE][:40]:
        names = decoy.candidates(key, pool, 10, SECRET)
        assert names == decoy.candidates(key, pool, 10, SECRET) == sorted(names)
        assert len(set(names)) == 10
        assert key in names
        places.append(names.index(key))
    assert len(set(places)) > 6
    assert decoy.candidates(pool[0], pool, 10, SECRET) != decoy.candidates(pool[0], pool, 10, bytes(32))


def test_a_mutant_with_fresh_decoys_is_narrowed_down_by_asking_twice() -> None:
    pool, key = sorted(POOL), [*TABLE][7]
    fixed = [set(decoy.candidates(key, pool, 6, SECRET)) for _ in range(4)]
    assert len(set.intersection(*fixed)) == 6
    fresh = [set(decoy.candidates(key, pool, 6, bytes([n] * 32))) for n in range(4)]
    assert set.intersection(*fresh) == {key}


def test_the_client_can_open_one_record_only() -> None:
    """Another place's key, computed as the client computes its own, opens nothing."""
    S = ristretto.multiply_base(y := ristretto.random_scalar(seeded_rng(1)))
    x, c = ristretto.random_scalar(seeded_rng(2)), 2
    R = ristretto.add(ristretto.multiply(S[None], (c + 1).to_bytes(32, "little")), ristretto.multiply_base(x)[None])[0]
    closed = decoy._closed(R, S, y, [b"r%d" % j for j in range(5)], 32)
    shared = ristretto.multiply(S[None], x)
    opened = [decoy._opened(decoy._keys(S, R, shared, j)[0], closed[j]) for j in range(5)]
    assert opened == [None, None, b"r2", None, None]


def test_hit_and_miss_have_the_same_length() -> None:
    sizes = []
    for key in (FIRST, b"other 1"):
        _, transcript = play([key])
        sizes.append([(f.kind, len(f.payload)) for f in transcript if not f.kind.endswith("Candidates")])
    assert sizes[0] == sizes[1]


def test_too_few_candidates_too_small_a_pool_and_a_spent_limit() -> None:
    with pytest.raises(ContractError, match="accepts 20 to 4,096 candidates, not 8"):
        play([FIRST], 8, fewest=20)
    with pytest.raises(InputError, match="decoys are needed"):
        play([FIRST], 500)
    a, b = memory_pair(timeout=2.0)
    with pytest.raises(ContractError, match="allows 1 more"):
        run_pair(look(a, [*TABLE][:2], 4, seeded_rng(1)), serve(b, seeded_rng(2), meter=Count(limit=1)))


BASE = ristretto.multiply_base((5).to_bytes(32, "little"))


@pytest.mark.parametrize(
    ("lengths", "keys", "point"),
    [
        ([1, 1], b"ab", np.zeros(32, np.uint8)),
        ([1, 1], b"ab", np.full(32, 255, np.uint8)),
        ([1, 1], b"aa", BASE),
        ([1, 1], b"abc", BASE),
        ([4_000_000_000, 4_000_000_000], b"ab", BASE),
        ([1], b"a", BASE),
    ],
)
def test_hostile_clients_are_refused(lengths: list[int], keys: bytes, point: np.ndarray) -> None:
    async def liar(peer: Channel) -> None:
        await decoy.meet(peer)
        await peer.send(decoy.Candidates(np.array(lengths, np.uint32), np.frombuffer(keys, np.uint8), point))

    a, b = memory_pair(timeout=2.0)
    with pytest.raises((ProtocolError, ContractError)):
        run_pair(liar(a), serve(b, seeded_rng(2)))


@pytest.mark.parametrize("record", [0, -1, 1 << 40])
def test_hostile_offers_are_refused(record: int) -> None:
    async def liar(peer: Channel) -> None:
        await peer.send(decoy.Offered(5, record, -1, 2, "{}", BASE))

    a, b = memory_pair(timeout=2.0)
    with pytest.raises(ProtocolError, match="cannot be"):
        run_pair(look(a, [b"x"], 4, seeded_rng(1)), liar(b))
