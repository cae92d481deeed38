"""Nothing secret serves twice: over calls, failures and restarts; and no visible reaction depends on a correction."""

import asyncio
import copy
import pickle
from collections.abc import Callable
from dataclasses import replace
from itertools import combinations

import msgspec
import numpy as np
import pytest

from atoll.core.channel import Channel, Incoming
from atoll.core.errors import AtollError
from atoll.core.message import Message
from atoll.crypto import tmmo
from atoll.crypto.lwe import get
from atoll.crypto.random import Rng
from atoll.protocols.fixed_matrix_product import Asker, Owner, Terms, asker_setup, owner_setup
from atoll.testing import seeded_rng
from atoll.testing.check_protocol import by_stream
from atoll.testing.lattice import toy_set
from atoll.testing.links import FaultyLink, Frame, end_pair, recorded_pair
from tests.protocols.fixed_matrix_product.tools import ANY, Run, Witness, bins_matrix, play, vectors

N_ROWS = 1_200


def stale(run: Run) -> list[str]:
    """Say what a run used twice: masks, secrets or transfers.  An empty list is a clean run."""
    found = []
    q = run.owner.agreement.params.q
    for (i, a), (j, b) in combinations(enumerate(run.masked), 2):
        difference = (a - b) & run.owner.agreement.params.ring.mask
        small = np.minimum(difference, np.uint64(q) - difference).astype(np.float64)
        if np.median(small) < q / 8:  # uniform words have median q/4
            found.append(f"c {i} and c {j} differ by little")
    for (i, a), (j, b) in combinations(enumerate(run.secrets), 2):
        if abs((a == b).mean() - 0.5) > 0.2:
            found.append(f"s {i} and s {j} are alike")
    taken: set[int] = set()
    for frame in run.frames:
        if frame.kind.endswith(".Columns"):
            first = msgspec.msgpack.decode(frame.header)[2]["first"]
            now = set(range(first, first + len(frame.payload) // 16))
            if taken & now:
                found.append(f"transfers from {first} on are taken again")
            taken |= now
    return found


def test_the_same_vector_looks_new_every_time() -> None:
    V = np.repeat(vectors(1, 1, N_ROWS), 6, axis=0)  # zeros are asked for repeated ones: asked alike below, too
    assert stale(play(bins_matrix(1, 1, N_ROWS, 3), V, get("H40"), Terms())) == []
    for output in ("owner", "shares"):
        run = play(bins_matrix(1, 1, N_ROWS, 3), V, get("H40"), Terms(output=output))
        assert stale(run) == []
    assert stale(play(bins_matrix(1, 1, N_ROWS, 3), [V[:1], V[:1], V[:1]], get("H40"), Terms(output="owner"))) == []


class SameBits(Witness):
    """A mutant: the secret s is drawn once and used again."""

    def bits(self, n: int) -> np.ndarray:
        if not self.bits_given:
            super().bits(n)
        return self.bits_given[0]


class SameStream(Witness):
    """A mutant: every group starts from the same lasting seed, as if a failed call were repeated with its state."""

    def u64(self, *shape: int) -> np.ndarray:
        return Rng(bytes(32)).u64(*shape)

    def bits(self, n: int) -> np.ndarray:
        self.bits_given.append(Rng(bytes(32)).bits(n))
        return self.bits_given[-1]


@pytest.mark.parametrize("mutant", [SameBits, SameStream])
def test_a_mutant_that_reuses_s_is_caught(mutant: type[Witness]) -> None:
    V = np.repeat(vectors(1, 1, N_ROWS), 2, axis=0)
    run = play(
        bins_matrix(1, 1, N_ROWS, 3),
        V,
        get("H40"),
        Terms(output="owner"),
        bend_asker=lambda asker: replace(asker, rng=mutant(7)),
    )
    assert "c 0 and c 1 differ by little" in stale(run)


def test_a_mutant_that_rewinds_the_transfers_is_caught() -> None:
    """Rewound on one side, the other side refuses; rewound on both, the transcript shows it."""

    def rewinding(side: Asker | Owner) -> Asker | Owner:
        extend, ot = side.ot.extend, side.ot

        async def rewound(*args: object) -> object:
            ot.used = 0
            return await extend(*args)

        ot.extend = rewound  # type: ignore[method-assign]
        return side

    matrix, batches = bins_matrix(1, 1, N_ROWS, 3), [vectors(1, 1, N_ROWS), vectors(2, 1, N_ROWS)]
    with pytest.raises(AtollError, match="extends transfers from index 0, this side is at"):
        play(matrix, batches, get("H40"), Terms(), bend_asker=rewinding)
    run = play(matrix, batches, get("H40"), Terms(), bend_asker=rewinding, bend_owner=rewinding)
    assert stale(run) == ["transfers from 0 on are taken again"]


def test_pads_of_different_vectors_and_calls_share_no_index(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every (index, block) that enters the hash occurs once on each side, over vectors, groups and calls."""
    ranges: dict[str, list[range]] = {"sender_corrections": [], "receiver_sum": []}
    for name, seen in ranges.items():
        real = getattr(tmmo, name)

        def spy(strings: np.ndarray, other: np.ndarray, first: int, rows: np.ndarray, real=real, seen=seen):
            seen.append(range(first, first + len(strings)))
            return real(strings, other, first, rows)

        monkeypatch.setattr(tmmo, name, spy)
    play(bins_matrix(1, 1, N_ROWS, 3), [vectors(1, 6, N_ROWS), vectors(2, 3, N_ROWS)], get("H40"), Terms())
    for seen in ranges.values():
        indices = [index for one in seen for index in one]
        assert len(seen) == 9
        assert len(set(indices)) == len(indices) == 9 * 2048


def replay(
    at: int, matrix_seed: int = 1
) -> tuple[list[Frame], dict[str, Owner | Asker], list[Frame], dict[str, Owner | Asker]]:
    """Lose message `at` of a run, then start again with what may be kept: the data, and the owner's count."""
    matrix, V = bins_matrix(matrix_seed, 1, N_ROWS, 3), vectors(1, 2, N_ROWS)
    params, rngs = toy_set(64, 40, 8.0), (seeded_rng(1), Witness(2))
    runs: list[tuple[list[Frame], dict[str, Owner | Asker]]] = []
    for attempt in range(2):
        fault = {"target": at, "fault": "lost", "timeout": 0.4} if attempt == 0 else {}
        at_owner, at_asker, frames = recorded_pair("owner", "asker", **fault)
        sides: dict[str, Owner | Asker] = {}
        used = runs[0][1]["owner"].vectors_used if runs and "owner" in runs[0][1] else 0

        async def owner(at_owner=at_owner, sides=sides, used=used) -> None:
            side = await owner_setup(at_owner, matrix, params=params, rng=rngs[0], terms=Terms(), vectors_used=used)
            sides["owner"] = side
            await side.answer(at_owner, count=len(V))

        async def asker(at_asker=at_asker, sides=sides, used=used) -> None:
            side = await asker_setup(at_asker, 3, N_ROWS, params=params, rng=rngs[1], terms=Terms(), vectors_used=used)
            sides["asker"] = side
            await side.product(at_asker, V)

        ends = end_pair(owner(), asker())
        assert any(isinstance(end, AtollError) for end in ends) == (attempt == 0)
        runs.append((frames, sides))
    return runs[0][0], runs[0][1], runs[1][0], runs[1][1]


@pytest.mark.parametrize("at", range(8))
def test_after_a_failure_everything_is_new_and_the_vectors_count(at: int) -> None:
    before, sides, after, resumed = replay(at)
    payloads = [{f.payload for f in frames if len(f.payload) >= 32} for frames in (before, after)]
    digest = after[0].payload[32:]  # the digest of the terms is the same, everything else is not
    assert not {p for p in payloads[0] & payloads[1] if p != digest}
    used = sides["owner"].vectors_used if "owner" in sides else 0
    assert used == (2 if "owner" in sides else 0)  # counted before the first message of a call
    assert resumed["owner"].vectors_used == used + 2
    if {"owner", "asker"} <= sides.keys():
        assert resumed["owner"].ot is not sides["owner"].ot
        assert resumed["asker"].a.limbs.tobytes() != sides["asker"].a.limbs.tobytes()


def test_sides_cannot_be_copied_or_stored() -> None:
    run = play(bins_matrix(1, 1, N_ROWS, 3), vectors(1, 1, N_ROWS), get("H40"), Terms())
    for side in (run.owner, run.asker):
        for copier in (copy.deepcopy, pickle.dumps):
            with pytest.raises(TypeError, match="cannot be copied or stored"):
                copier(side)
        assert "rng" not in repr(side)


def test_what_was_sent_does_not_change_afterwards() -> None:
    """A resend comes from the outgoing buffer, which holds these very arrays: they must stay as they were."""
    kept: list[tuple[Message, bytes]] = []

    class Keeping(Channel):
        async def send(self, message: Message) -> None:
            kept.append((message, digest_of(message)))
            await super().send(message)

        def sub(self, name: str) -> Channel:
            return Keeping(self.link, self.gate, name)

    for output in ("asker", "owner"):
        a, b, frames = recorded_pair("owner", "asker")
        channels = (Keeping(a.link, a.gate), Keeping(b.link, b.gate), frames)
        play(bins_matrix(1, 1, N_ROWS, 3), vectors(1, 6, N_ROWS), get("H40"), Terms(output=output), channels=channels)
    assert len(kept) > 20
    assert all(digest_of(message) == digest for message, digest in kept)


def digest_of(message: Message) -> bytes:
    arrays = [value for value in msgspec.structs.asdict(message).values() if isinstance(value, np.ndarray)]
    return b"".join(value.tobytes() for value in arrays)


class Garbling(FaultyLink):
    """Changes words of chosen frames on their way, keeping kind and size."""

    change: Callable[[int, bytes], bytes] = staticmethod(lambda number, payload: payload)

    async def send(self, stream: str, header: bytes, parts: object) -> None:
        payload = b"".join(parts)  # type: ignore[arg-type]
        kind = msgspec.msgpack.decode(header)[0]
        if kind.endswith("Corrections"):
            payload = self.change(len(self.transcript), payload)
        await super().send(stream, header, [memoryview(payload)])

    async def recv(self, stream: str) -> Incoming:
        return await self.inner.recv(stream)


@pytest.mark.parametrize(("output", "structured"), [("asker", True), ("asker", False), ("owner", True)])
@pytest.mark.parametrize("garble", ["nothing", "one word", "zeros", "ones"])
def test_the_asker_reacts_to_no_correction(garble: str, output: str, structured: bool) -> None:
    """Same messages of the same sizes in the same order and no error; to the asker even the same bytes."""

    def change(number: int, payload: bytes) -> bytes:
        match garble:
            case "one word":
                return payload[:40] + bytes(byte ^ 0xFF for byte in payload[40:48]) + payload[48:]
            case "zeros":
                return bytes(len(payload))
            case "ones":
                return b"\xff" * len(payload)
        return payload

    seen = []
    for damage in (lambda number, payload: payload, change):
        a, b, frames = recorded_pair("owner", "asker")
        garbling = Garbling(a.link.inner, "owner", frames)
        garbling.change = damage
        channels = (Channel(garbling, a.gate), b, frames)
        terms, params = Terms(output=output, structured=structured, **ANY), toy_set(64, 40, 8.0, gradient_bits=16)
        play(bins_matrix(1, 1, N_ROWS, 3), vectors(1, 2, N_ROWS), params, terms, channels=channels)
        sent = [frame for frame in by_stream(frames) if frame.sender == "asker"]
        seen.append([(f.kind, f.header, len(f.payload), f.payload if output == "asker" else b"") for f in sent])
    assert seen[0] == seen[1]


@pytest.mark.parametrize("dtype", [np.uint32, np.uint64])
def test_transfers_give_the_pads_and_the_chosen_rows(dtype: type) -> None:
    """P + H·s equals the sum for random H, and every string is the one that s_j chooses."""
    rng, N, k = seeded_rng(3), 64, 7
    H = rng.u64(N, k).astype(dtype)
    s, q, delta = rng.bits(N), rng.u64(N, 2), rng.u64(2)
    t = q ^ (s[:, np.newaxis].astype(np.uint64) * delta)
    P, corrections = tmmo.sender_corrections(q, delta, 17, H)
    assert np.array_equal(tmmo.receiver_sum(t, s, 17, corrections), P + s.astype(dtype) @ H)
    assert np.array_equal(tmmo.receiver_sum(q, np.zeros(N, np.uint8), 17, corrections), P)


def test_narrow_transfers_give_the_pads_and_the_chosen_rows() -> None:
    rng, N, k = seeded_rng(3), 64, 7
    H = rng.u32(N, k)
    s, q, delta = rng.bits(N), rng.u64(N, 2), rng.u64(2)
    t = q ^ (s[:, np.newaxis].astype(np.uint64) * delta)
    P, low, high = tmmo.narrow_corrections(q, delta, 17, H)
    assert np.array_equal(tmmo.narrow_sum(t, s, 17, low, high), P + s.astype(np.uint32) @ H & np.uint32(0xFFFFFF))
    assert np.array_equal(tmmo.narrow_sum(q, np.zeros(N, np.uint8), 17, low, high), P)


def test_asking_twice_at_once_is_refused() -> None:
    run = play(bins_matrix(1, 1, N_ROWS, 3), vectors(1, 1, N_ROWS), toy_set(64, 40), Terms())
    at_owner, _, _ = recorded_pair("owner", "asker", timeout=1.0)

    async def twice() -> None:
        calls = [run.owner.ot.extend(at_owner, 64) for _ in range(2)]
        ends = await asyncio.gather(*calls, return_exceptions=True)
        assert sorted(type(end).__name__ for end in ends) == ["ProtocolError", "RuntimeError"]

    asyncio.run(twice())
