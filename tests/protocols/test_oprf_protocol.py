"""The OPRF between two sites: equals F_k at its owner, hides the inputs, and refuses what is no point."""

import numpy as np
import pytest

from atoll.core.channel import Channel
from atoll.core.errors import ProtocolError
from atoll.crypto import oprf as kernel
from atoll.crypto import ristretto
from atoll.protocols import oprf
from atoll.testing import ProtocolCheck, check_protocol, recorded_pair, run_pair, seeded_rng
from atoll.transport.memory import memory_pair

KEY = ristretto.random_scalar(seeded_rng(77))


def test_conformance() -> None:
    check_protocol(
        ProtocolCheck(
            protocol=oprf.PROTOCOL,
            cases=[[b"a", b"", "键".encode(), b"a"], [], [b"x" * 65_535]],
            first=lambda peer, case, rng: oprf.client(peer, case, rng=rng),
            second=lambda peer, case, rng: oprf.server(peer, KEY, count=len(case)),
            reference=lambda case: (kernel.evaluate(case, KEY), None),
            max_bytes=lambda case: 64 * len(case) + 300,
        )
    )


def test_conformance_of_the_verifiable_mode() -> None:
    public = ristretto.multiply_base(KEY)
    check_protocol(
        ProtocolCheck(
            protocol=oprf.PROTOCOL,
            cases=[[b"a", b"", "键".encode(), b"a"], [], [b"x"]],
            first=lambda peer, case, rng: oprf.client(peer, case, rng=rng, public=public),
            second=lambda peer, case, rng: oprf.server(peer, KEY, count=len(case), rng=rng),
            reference=lambda case: (kernel.evaluate(case, KEY, verifiable=True), None),
            max_bytes=lambda case: 64 * len(case) + 600,
        )
    )


def test_a_server_with_another_key_is_noticed_in_verifiable_mode_only() -> None:
    other, public = ristretto.random_scalar(seeded_rng(5)), ristretto.multiply_base(KEY)
    a, b = memory_pair(timeout=2.0)
    with pytest.raises(ProtocolError, match="did not prove"):
        run_pair(
            oprf.client(a, [b"x"], rng=seeded_rng(1), public=public),
            oprf.server(b, other, count=1, rng=seeded_rng(2)),
        )
    a, b = memory_pair(timeout=2.0)
    run_pair(oprf.client(a, [b"x"], rng=seeded_rng(1)), oprf.server(b, other, count=1))


def sent_points(inputs: list[bytes], seed: int) -> np.ndarray:
    a, b, transcript = recorded_pair(allowed=oprf.PROTOCOL.kinds)
    run_pair(oprf.client(a, inputs, rng=seeded_rng(seed)), oprf.server(b, KEY, count=len(inputs)))
    return np.frombuffer(transcript[0].payload, np.uint8).reshape(-1, 32)


def test_equal_inputs_look_like_different_ones() -> None:
    points = sent_points([b"same"] * 20, 1)
    assert len({point.tobytes() for point in points}) == 20
    assert not {p.tobytes() for p in points} & {p.tobytes() for p in sent_points([b"same"] * 20, 2)}


def test_a_mutant_with_one_blind_for_all_shows_equal_inputs(monkeypatch: pytest.MonkeyPatch) -> None:
    honest = kernel.blind

    def mutant(inputs: list[bytes], rng: object, **mode: bool) -> tuple[np.ndarray, np.ndarray]:
        r = np.repeat(honest(inputs[:1], rng)[0], len(inputs), 0)  # type: ignore[arg-type]
        return r, ristretto.multiply_each(ristretto.hash_to_points(inputs, b"HashToGroup-" + kernel.context(False)), r)

    monkeypatch.setattr(kernel, "blind", mutant)
    assert len({point.tobytes() for point in sent_points([b"same"] * 20, 1)}) == 1


@pytest.mark.parametrize("bad", [bytes(32), b"\xff" * 32, b"\x01" + bytes(31)])
def test_points_off_the_group_are_refused_at_both_sides(bad: bytes) -> None:
    points = np.frombuffer(bad, np.uint8).reshape(1, 32)

    async def liar_client(peer: Channel) -> None:
        await peer.send(oprf.Blinded(points))

    async def liar_server(peer: Channel) -> None:
        await peer.recv(oprf.Blinded, points=(1, 32))
        await peer.send(oprf.Evaluated(points))

    a, b = memory_pair(timeout=2.0)
    with pytest.raises(ProtocolError, match="not a point"):
        run_pair(liar_client(a), oprf.server(b, KEY, count=1))
    a, b = memory_pair(timeout=2.0)
    with pytest.raises(ProtocolError, match="not a point"):
        run_pair(oprf.client(a, [b"x"], rng=seeded_rng(1)), liar_server(b))


def test_another_number_of_points_is_refused() -> None:
    a, b = memory_pair(timeout=2.0)
    with pytest.raises(ProtocolError, match="shape"):
        run_pair(oprf.client(a, [b"x", b"y"], rng=seeded_rng(1)), oprf.server(b, KEY, count=1))
