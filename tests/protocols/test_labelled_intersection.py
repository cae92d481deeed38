"""Labels of common ids reach the receiver, and no others do."""

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest

from atoll.core.channel import Channel
from atoll.core.errors import InputError, ProtocolError
from atoll.crypto import okvs
from atoll.crypto.random import Rng
from atoll.protocols import intersection_result as result
from atoll.protocols import labelled_intersection as labelled
from atoll.protocols import vole_oprf
from atoll.testing import ProtocolCheck, check_protocol, recorded_pair, run_pair, seeded_rng
from atoll.testing.check_protocol import by_stream
from atoll.transport.memory import memory_pair

CONTEXT = ("job 1", "phone")
Labels = Mapping[str, np.ndarray]


def ids(lo: int, hi: int) -> list[bytes]:
    return [b"id-%d" % i for i in range(lo, hi)]


def labels(n: int, seed: int = 0, **widths: int) -> dict[str, np.ndarray]:
    rng = seeded_rng(1000 + seed)
    return {name: rng.u8(n, width) for name, width in (widths or {"segment": 3}).items()}


def play(x: Sequence[bytes], y: Sequence[bytes], v: Labels, seed: int = 1) -> tuple[Any, Any, list[Any]]:
    a, b, transcript = recorded_pair(allowed=labelled.PROTOCOL.kinds)
    found, shuffled = run_pair(
        labelled.receiver(a, x, rng=seeded_rng(seed), context=CONTEXT),
        labelled.sender(b, y, v, rng=seeded_rng(seed + 1), context=CONTEXT),
    )
    return found, shuffled, transcript


def test_conformance() -> None:
    async def first(peer: Channel, case: Any, rng: Rng) -> Any:
        x, _, _ = case
        found = await labelled.receiver(peer, x, rng=rng, context=CONTEXT)
        rows, (positions,) = result.common_rows([found.matches], rng)
        await result.announce(peer, positions)
        assert sorted(rows) == found.matches.mine.tolist()
        both = np.concatenate(list(found.labels.values()), axis=1)
        return {x[i]: both[k].tobytes() for k, i in enumerate(found.matches.mine)}

    async def second(peer: Channel, case: Any, rng: Rng) -> Any:
        _, y, v = case
        shuffled = await labelled.sender(peer, y, v, rng=rng, context=CONTEXT)
        return {y[i] for i in await result.learn(peer, shuffled.order)}

    def reference(case: Any) -> Any:
        x, y, v = case
        both = np.concatenate(list(v.values()), axis=1)
        return {y[i]: both[i].tobytes() for i in range(len(y)) if y[i] in x}, set(x) & set(y)

    def cost(case: Any) -> float:
        x, y, v = case
        width = 12 + sum(label.shape[1] for label in v.values())
        return 8 * okvs.Shape(max(len(x), 1)).words + width * len(y) + 8 * min(len(x), len(y)) + 1_201_000

    check_protocol(
        ProtocolCheck(
            protocol=labelled.PROTOCOL,
            cases=[
                (ids(0, 6), ids(3, 8), labels(5)),
                ([], ids(0, 3), labels(3)),
                (ids(0, 3), [], labels(0)),
                (ids(0, 1), ids(0, 1), labels(1, a=1)),
                (ids(0, 30), ids(20, 60), labels(40, a=1, b=16, c=17)),
                (["顾客".encode(), b""], [b"", b"\0", "顾客".encode()], labels(3, 标签=33)),
            ],
            first=first,
            second=second,
            reference=reference,
            max_bytes=cost,
            patience=0.1,
        )
    )


def test_labels_of_other_ids_do_not_matter() -> None:
    """Two worlds: all labels of ids that are not common differ; the receiver sees the same sizes and its own labels."""
    x, y = ids(0, 100), ids(90, 200)
    one, two = labels(110, 1), labels(110, 2)
    two["segment"][:10] = one["segment"][:10]
    worlds = [play(x, y, v, seed) for v, seed in ((one, 1), (two, 5))]
    assert np.array_equal(worlds[0][0].labels["segment"], worlds[1][0].labels["segment"])
    sizes = [[(f.sender, f.kind, len(f.payload)) for f in by_stream(transcript)] for _, _, transcript in worlds]
    assert sizes[0] == sizes[1]


def hidden_bits(transcript: list[Any], n: int, width: int) -> np.ndarray:
    payload = np.frombuffer(transcript[-1].payload, np.uint8)
    return np.unpackbits(payload[-n * width :])


def shows_labels(seed: int = 1) -> bool:
    """Whether labels that are all zero can be told from noise where ids are not common."""
    n, width = 2000, 4
    _, _, transcript = play(ids(0, 10), ids(100, 100 + n), {"zeros": np.zeros((n, width), np.uint8)}, seed)
    bits = hidden_bits(transcript, n, width)
    return bool(abs(bits.mean() - 0.5) > 5 * 0.5 / np.sqrt(bits.size))


def test_labels_of_ids_that_are_not_common_look_uniform() -> None:
    assert not shows_labels()


def test_a_mutant_without_pads_shows_labels(monkeypatch: pytest.MonkeyPatch) -> None:
    pads = labelled.pads
    monkeypatch.setattr(
        labelled, "pads", lambda v, d, w: np.zeros((len(v), w), np.uint8) if d == labelled.PADS else pads(v, d, w)
    )
    assert shows_labels()


def test_a_mutant_whose_tags_are_its_pads_gives_labels_away(monkeypatch: pytest.MonkeyPatch) -> None:
    """A receiver that takes tags for pads reads zero labels at once; with two hashes it reads noise."""

    def guess() -> float:
        n = 500
        _, _, transcript = play(ids(0, 10), ids(100, 100 + n), {"zeros": np.zeros((n, 10), np.uint8)})
        payload = np.frombuffer(transcript[-1].payload, np.uint8)
        tags, hidden = payload[: n * 10].reshape(n, 10), payload[n * 10 :].reshape(n, 10)
        return float((tags == hidden).mean())

    assert guess() < 0.02
    monkeypatch.setattr(labelled, "PADS", labelled.TAGS)
    assert guess() == 1.0


@pytest.mark.parametrize(
    "wrong",
    [
        {},
        {"a": np.zeros((2, 1), np.uint8)},
        {"a": np.zeros((3, 0), np.uint8)},
        {"a": np.zeros(3, np.uint8)},
        {"a": np.zeros((3, 1), np.int64)},
        {"a": np.zeros((3, 1025), np.uint8)},
        {"a" * 65: np.zeros((3, 1), np.uint8)},
        {str(i): np.zeros((3, 1), np.uint8) for i in range(65)},
    ],
)
def test_wrong_labels_are_refused(wrong: Any) -> None:
    _, b = memory_pair(timeout=1.0)
    with pytest.raises(InputError, match="labels"):
        labelled.sender(b, ids(0, 3), wrong, rng=seeded_rng(1)).send(None)


@pytest.mark.parametrize(
    "sets",
    [
        labelled.Sets([], []),
        labelled.Sets(["a"], [1, 2]),
        labelled.Sets(["a", "a"], [1, 2]),
        labelled.Sets(["a"], [0]),
        labelled.Sets(["a", "b"], [-5, 10]),
        labelled.Sets(["a"], [1 << 40]),
        labelled.Sets(["a" * 65], [1]),
    ],
)
def test_a_sender_that_announces_nonsense(sets: labelled.Sets) -> None:
    async def liar(peer: Channel) -> None:
        await vole_oprf.sender(peer, ids(0, 4), rng=seeded_rng(2))
        await peer.send(sets)

    a, b = memory_pair(timeout=2.0)
    with pytest.raises(ProtocolError):
        run_pair(labelled.receiver(a, ids(0, 3), rng=seeded_rng(1)), liar(b))


@pytest.mark.parametrize("what", ["few", "wide", "twice"])
def test_a_sender_with_wrong_rows(what: str) -> None:
    async def liar(peer: Channel) -> None:
        function = await vole_oprf.sender(peer, ids(0, 4), rng=seeded_rng(2))
        await peer.send(labelled.Sets(["a"], [2]))
        tags = labelled.pads(function.values, labelled.TAGS, 10)
        rows = [0, 1, 2] if what == "few" else [0, 0, 1, 2] if what == "twice" else [0, 1, 2, 3]
        await peer.send(labelled.Hidden(tags[rows], np.zeros((len(rows), 3 if what == "wide" else 2), np.uint8)))

    a, b = memory_pair(timeout=2.0)
    with pytest.raises(ProtocolError, match="more than once" if what == "twice" else "has shape"):
        run_pair(labelled.receiver(a, ids(0, 4), rng=seeded_rng(1)), liar(b))


def test_duplicates_are_refused() -> None:
    a, b = memory_pair(timeout=2.0)
    with pytest.raises(InputError, match="duplicates"):
        run_pair(
            labelled.receiver(a, ids(0, 3), rng=seeded_rng(1)),
            labelled.sender(b, [b"x", b"x"], labels(2), rng=seeded_rng(2)),
        )


def test_frozen_vectors() -> None:
    _, _, transcript = play(ids(0, 5), ids(3, 9), labels(6, a=2, b=20))
    assert hashlib.sha256(transcript[-1].payload).hexdigest()[:16] == FROZEN


FROZEN = "2634768f139d9488"
