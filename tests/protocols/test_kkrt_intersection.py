"""Intersection by oblivious transfer: equals plain sets, hides the rest, and survives hostile peers; mutants fail."""

import hashlib
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from atoll.core.channel import Channel
from atoll.core.errors import AtollError, InputError, ProtocolError
from atoll.crypto import cuckoo
from atoll.crypto.pseudorandom_code import WIDTH, WORDS
from atoll.crypto.random import Rng
from atoll.protocols import intersection_result as result
from atoll.protocols import kkrt_intersection as kkrt
from atoll.protocols import oblivious_transfer
from atoll.protocols.intersection_result import Matches, Shuffled
from atoll.testing import ProtocolCheck, check_protocol, end_pair, recorded_pair, run_pair, seeded_rng
from atoll.transport.memory import memory_pair

CONTEXT = ("job 1", "phone")
Case = tuple[list[bytes], list[bytes]]


def ids(lo: int, hi: int) -> list[bytes]:
    return [b"id-%d" % i for i in range(lo, hi)]


def play(x: Sequence[bytes], y: Sequence[bytes], seed: int = 1) -> tuple[Matches, Shuffled, list[Any]]:
    a, b, transcript = recorded_pair(allowed=kkrt.PROTOCOL.kinds)
    matches, shuffled = run_pair(
        kkrt.receiver(a, x, rng=seeded_rng(seed), context=CONTEXT),
        kkrt.sender(b, y, rng=seeded_rng(seed + 1), context=CONTEXT),
    )
    return matches, shuffled, transcript


def rows_of(transcript: list[Any]) -> np.ndarray:
    """All u that the receiver sent, (bins, 7)."""
    frames = [np.frombuffer(f.payload, np.uint64) for f in transcript if f.kind.endswith(".Rows")]
    return np.concatenate(frames).reshape(-1, WORDS)


async def dealt(peer: Channel, bits: np.ndarray, *, rng: Rng) -> np.ndarray:
    """Base transfers by a dealer, for runs by the hundred; the real ones have their own conformance test."""
    return seeded_rng(77).u8(len(bits), 2, 16)[np.arange(len(bits)), bits]


async def dealing(peer: Channel, n: int, *, rng: Rng) -> np.ndarray:
    return seeded_rng(77).u8(n, 2, 16)


def test_conformance(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(oblivious_transfer, "choose_seeds", dealt)
    monkeypatch.setattr(oblivious_transfer, "offer_seeds", dealing)

    async def first(peer: Channel, case: Case, rng: Rng) -> Any:
        matches = await kkrt.receiver(peer, case[0], rng=rng, context=CONTEXT)
        rows, (positions,) = result.common_rows([matches], rng)
        await result.announce(peer, positions)
        return {case[0][i] for i in rows}

    async def second(peer: Channel, case: Case, rng: Rng) -> Any:
        shuffled = await kkrt.sender(peer, case[1], rng=rng, context=CONTEXT)
        return {case[1][i] for i in await result.learn(peer, shuffled.order)}

    def cost(case: Case) -> float:
        nx, ny = map(len, case)
        return 56 * 3 * cuckoo.third(nx) + 36 * ny + 8 * min(nx, ny) + 30_000

    check_protocol(
        ProtocolCheck(
            protocol=kkrt.PROTOCOL,
            cases=[
                (ids(0, 6), ids(3, 8)),
                ([], ids(0, 3)),
                (ids(0, 3), []),
                ([b"", b"\x00", b"a" * 500], [b"\x00", b"\x00\x00", "顾客".encode()]),
            ],
            first=first,
            second=second,
            reference=lambda case: (set(case[0]) & set(case[1]),) * 2,
            max_bytes=cost,
        )
    )


@pytest.mark.parametrize("sizes", [(1, 1), (1, 300), (300, 1), (5000, 700), (700, 5000)])
def test_matches_name_places(sizes: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kkrt, "CHUNK", 640)
    nx, ny = sizes
    x, y = ids(0, nx), ids(nx // 2, nx // 2 + ny)
    matches, shuffled, _ = play(x, y)
    assert [x[i] for i in matches.mine] == [y[i] for i in shuffled.order[matches.theirs]]
    assert {x[i] for i in matches.mine} == set(x) & set(y)
    assert matches.mine.tolist() == sorted(matches.mine.tolist())
    assert np.array_equal(np.sort(shuffled.order), np.arange(ny))


def test_bytes_are_what_the_card_says() -> None:
    transcript = play(ids(0, 7000), ids(0, 100))[2]
    rows, tags = (sum(f.size for f in transcript if f.kind.endswith(end)) for end in (".Rows", ".Tags"))
    assert rows <= 72 * 7000
    assert 3000 <= tags <= 36 * 100
    assert sum(f.size for f in transcript) - rows - tags < 30_000


def test_duplicates_are_refused() -> None:
    a, b = memory_pair(timeout=2.0)
    with pytest.raises(InputError, match="1 of 3 ids are duplicates"):
        run_pair(kkrt.receiver(a, [b"x", b"y", b"x"], rng=seeded_rng(1)), kkrt.sender(b, ids(0, 3), rng=seeded_rng(2)))
    a, b = memory_pair(timeout=2.0)
    with pytest.raises(InputError, match="duplicates"):
        run_pair(kkrt.receiver(a, ids(0, 3), rng=seeded_rng(1)), kkrt.sender(b, [b"x", b"x"], rng=seeded_rng(2)))


def test_sites_that_compare_other_columns_are_refused() -> None:
    a, b = memory_pair(timeout=2.0)
    with pytest.raises(ProtocolError, match="different jobs or columns"):
        run_pair(
            kkrt.receiver(a, ids(0, 3), rng=seeded_rng(1), context=("job", "phone")),
            kkrt.sender(b, ids(0, 3), rng=seeded_rng(2), context=("job", "e-mail")),
        )


def test_two_worlds_look_alike() -> None:
    """Other ids of the same number: same sizes for both sides, and nothing that repeats."""
    y = ids(0, 50)
    worlds = [play(x, y, seed)[2] for seed, x in ((1, ids(0, 400)), (7, ids(1000, 1400)))]
    assert [(f.sender, len(f.header), len(f.payload)) for f in worlds[0]] == [
        (f.sender, len(f.header), len(f.payload)) for f in worlds[1]
    ]
    for one, two in zip(*worlds, strict=True):
        if len(one.payload) > 64:
            assert one.payload[:64] != two.payload[:64]


def test_what_the_receiver_sends_looks_uniform_whether_a_bin_is_full_or_empty() -> None:
    rows = rows_of(play(ids(0, 2000), ids(0, 10))[2])
    assert len(np.unique(rows.reshape(-1))) == rows.size
    bits = np.unpackbits(rows.view(np.uint8), axis=1).astype(float)
    assert abs(bits.mean() - 0.5) < 5 * 0.5 / np.sqrt(bits.size)
    assert np.abs(bits.mean(0) - 0.5).max() < 5 * 0.5 / np.sqrt(len(bits))


def test_a_mutant_that_forgets_a_mask_shows_which_bins_are_empty(monkeypatch: pytest.MonkeyPatch) -> None:
    """If both streams were one, u would be the code word alone, and that of all empty bins the same."""

    async def mutant(peer: Channel, n: int, *, rng: Rng) -> np.ndarray:
        seeds = await offer(peer, n, rng=rng)
        seeds[:, 1] = seeds[:, 0]
        return seeds

    offer = oblivious_transfer.offer_seeds
    monkeypatch.setattr(oblivious_transfer, "offer_seeds", mutant)
    rows = rows_of(play(ids(0, 2000), ids(0, 10))[2])
    assert len(np.unique(rows, axis=0)) == 2001


def test_a_mutant_whose_code_words_are_too_close_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    """A code of zeros makes every id of the sender match whatever lies in its bins."""
    monkeypatch.setattr(kkrt.PseudorandomCode, "words", lambda self, texts: np.zeros((len(texts), WORDS), np.uint64))
    a, b = memory_pair(timeout=2.0)
    ended = end_pair(
        kkrt.receiver(a, ids(0, 3000), rng=seeded_rng(1)), kkrt.sender(b, ids(5000, 8000), rng=seeded_rng(2))
    )
    assert isinstance(ended[0], ProtocolError) or len(ended[0].mine) > 100  # type: ignore[union-attr]


def test_ids_that_are_not_common_have_tags_that_mean_nothing() -> None:
    """The same id of the sender has other tags in another run, and in none of its bins one of the receiver's."""
    tags = []
    for seed in (1, 5):
        matches, shuffled, transcript = play(ids(0, 100), ids(90, 200), seed)
        sent = np.frombuffer(b"".join(f.payload for f in transcript[-3:]), np.uint8).reshape(3, 110, 10)
        tags.append({row.tobytes() for row in sent[:, np.argsort(shuffled.order)].reshape(-1, 10)})
        assert len(tags[-1]) == 330
        assert len(matches.mine) == 10
    assert not tags[0] & tags[1]


def test_a_seed_under_which_ids_cannot_be_placed_is_never_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """The receiver draws another one before it sends anything; sizes stay the same."""
    seeds, place = [], cuckoo.place

    def once(bins: np.ndarray, size: int) -> np.ndarray:
        seeds.append(bins.copy())
        if len(seeds) == 1:
            raise cuckoo.NotPlaceable
        return place(bins, size)

    plain = play(ids(0, 50), ids(40, 60))[2]
    monkeypatch.setattr(cuckoo, "place", once)
    matches, _, transcript = play(ids(0, 50), ids(40, 60))
    assert len(matches.mine) == 10
    assert len(seeds) == 2
    assert not np.array_equal(*seeds)
    assert [f.size for f in transcript] == [f.size for f in plain]
    monkeypatch.setattr(cuckoo, "place", lambda bins, size: (_ for _ in ()).throw(cuckoo.NotPlaceable()))
    with pytest.raises(ProtocolError, match="could not be placed"):
        play(ids(0, 50), ids(40, 60))


async def opened(peer: Channel, size: int, seed: bytes = bytes(16)) -> None:
    await peer.recv(kkrt.Opening)
    await peer.send(kkrt.Opening(size, result.context_hash(()), seed))


@pytest.mark.parametrize("size", [-1, kkrt.LARGEST + 1, 1 << 62])
def test_sizes_out_of_range_are_refused(size: int) -> None:
    a, b = memory_pair(timeout=2.0)
    with pytest.raises(ProtocolError, match="ids, at most"):
        run_pair(kkrt.receiver(a, ids(0, 3), rng=seeded_rng(1)), opened(b, size))


@pytest.mark.parametrize("seed", [b"", bytes(15), bytes(17)])
def test_seeds_of_a_wrong_size_are_refused(seed: bytes) -> None:
    async def liar(peer: Channel) -> None:
        await peer.send(kkrt.Opening(3, result.context_hash(()), seed))

    a, b = memory_pair(timeout=2.0)
    with pytest.raises(ProtocolError, match="a seed of"):
        run_pair(liar(a), kkrt.sender(b, ids(0, 3), rng=seeded_rng(1)))
    a, b = memory_pair(timeout=2.0)
    with pytest.raises(ProtocolError, match="a seed of"):
        run_pair(kkrt.receiver(a, ids(0, 3), rng=seeded_rng(1)), opened(b, 3, seed))


@pytest.mark.parametrize("shape", [(5, 10), (4, 9), (3, 4, 10), (40,)])
def test_tags_of_another_shape_are_refused(shape: tuple[int, ...]) -> None:
    async def liar(peer: Channel) -> None:
        await opened(peer, 4)
        await oblivious_transfer.choose_seeds(peer, np.zeros(WIDTH, np.uint8), rng=seeded_rng(3))
        await peer.recv(kkrt.Rows, u=(3 * cuckoo.third(20), WORDS))
        await peer.send(kkrt.Tags(np.zeros(shape, np.uint8)))

    a, b = memory_pair(timeout=2.0)
    with pytest.raises(ProtocolError, match="has shape"):
        run_pair(kkrt.receiver(a, ids(0, 20), rng=seeded_rng(1)), liar(b))


@pytest.mark.parametrize("what", ["one tag twice", "two ids in one place"])
def test_a_sender_that_repeats_itself(what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """An honest sender but for its last message, in which it copies tags that match."""
    answer = kkrt._Asking.answer

    def mutant(self: Any, number: int, bins: slice, u: np.ndarray, streams: Any) -> None:
        answer(self, number, bins, u, streams)
        if what == "one tag twice":
            self.tags[:, 1] = self.tags[:, 0]
        else:  # every tag of any id at every place: some of the three lists then hold ids that differ
            self.tags[1], self.tags[2] = np.roll(self.tags[1], 1, axis=0), np.roll(self.tags[2], 2, axis=0)

    monkeypatch.setattr(kkrt._Asking, "answer", mutant)
    a, b = memory_pair(timeout=2.0)
    with pytest.raises(ProtocolError, match=r"more than once|several ids for one"):
        run_pair(kkrt.receiver(a, ids(0, 60), rng=seeded_rng(1)), kkrt.sender(b, ids(0, 60), rng=seeded_rng(2)))


@pytest.mark.parametrize("rows", [0, 401, 1 << 20])
def test_rows_of_another_number_are_refused(rows: int) -> None:
    async def liar(peer: Channel) -> None:
        await peer.send(kkrt.Opening(3, result.context_hash(()), bytes(16)))
        await peer.recv(kkrt.Opening)
        await oblivious_transfer.offer_seeds(peer, WIDTH, rng=seeded_rng(3))
        await peer.send(kkrt.Rows(np.zeros((rows, WORDS), np.uint64)))

    a, b = memory_pair(timeout=2.0)
    with pytest.raises(ProtocolError, match="has shape"):
        run_pair(liar(a), kkrt.sender(b, ids(0, 3), rng=seeded_rng(1)))


def test_rows_of_noise_end_in_no_match() -> None:
    """A receiver that garbles its rows learns nothing, and the sender reacts in no visible way."""

    async def garbling(peer: Channel) -> int:
        try:
            return len((await kkrt.receiver(peer, ids(0, 50), rng=seeded_rng(1))).mine)
        except AtollError:
            return -1

    rows = kkrt._Placed.rows

    def noise(self: Any, bins: slice, *args: Any) -> np.ndarray:
        return rows(self, bins, *args) ^ seeded_rng(9).u64(bins.stop - bins.start, WORDS)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kkrt._Placed, "rows", noise)
        a, b = memory_pair(timeout=2.0)
        matched, _ = run_pair(garbling(a), kkrt.sender(b, ids(0, 50), rng=seeded_rng(2)))
    assert matched == 0


def test_frozen_vectors() -> None:
    matches, shuffled, transcript = play(ids(0, 5), ids(3, 9))
    digests = [hashlib.sha256(frame.payload).hexdigest()[:16] for frame in transcript[-4:]]
    assert digests == FROZEN["transcript"]
    assert (matches.theirs.tolist(), shuffled.order.tolist()) == (FROZEN["theirs"], FROZEN["order"])


FROZEN: dict[str, Any] = {
    "transcript": ["e02d6f3af21a4d0c", "ce633c23763081fb", "c339aba679871d4a", "c5daa6cefabcab2c"],
    "theirs": [2, 0],
    "order": [1, 3, 0, 4, 5, 2],
}


def test_tags_are_long_enough() -> None:
    for nx, ny in ((1, 1), (2**20, 2**20), (2**22, 2**22)):
        assert 8 * result.tag_bytes(nx, ny) >= max(80, 40 + math.log2(nx) + math.log2(ny))
