"""Garbled circuits: equal plain evaluation, show the evaluator nothing but its result, and survive hostile peers."""

import asyncio
import hashlib
import itertools
from typing import Any, cast

import numpy as np
import pytest

from atoll.core.channel import Channel
from atoll.core.errors import ProtocolError
from atoll.crypto import boolean_circuit, circuit_schedule, garbling
from atoll.crypto import circuit_words as words
from atoll.crypto.boolean_circuit import Builder, Circuit, to_bits, to_words
from atoll.crypto.random import Rng
from atoll.protocols import garbled_circuit as gc
from atoll.protocols import oblivious_transfer as ot
from atoll.protocols.garbled_circuit import Output
from atoll.testing import ProtocolCheck, check_protocol, end_pair, recorded_pair, run_pair, seeded_rng
from atoll.transport.memory import memory_pair
from tests.crypto.circuits import random_circuit, random_inputs

Case = tuple[Circuit, np.ndarray, np.ndarray, Output]
OUTPUTS: tuple[Output, ...] = ("evaluator", "garbler", "both", "shares")


@pytest.fixture(scope="module", autouse=True)
def _kernels() -> None:
    for module in (boolean_circuit, circuit_schedule, garbling):
        module.warm()


async def garble(peer: Channel, case: Case, rng: Rng) -> np.ndarray | None:
    party = await gc.start_garbler(peer, rng=rng)
    return await party.run(case[0], case[1], case[3])


async def evaluate(peer: Channel, case: Case, rng: Rng) -> np.ndarray | None:
    party = await gc.start_evaluator(peer, rng=rng)
    return await party.run(case[0], case[2], case[3])


def play(case: Case, seed: int = 1) -> tuple[Any, Any, list[Any]]:
    a, b, transcript = recorded_pair(allowed=gc.PROTOCOL.kinds)
    mine, theirs = run_pair(garble(a, case, seeded_rng(seed)), evaluate(b, case, seeded_rng(seed + 100)))
    return mine, theirs, transcript


def comparison(width: int = 64) -> Circuit:
    builder = Builder()
    return builder.build([words.less_than(builder, builder.garbler(width), builder.evaluator(width))])


def drawn(
    seed: int, n: int, to: Output, gates: int = 60, garbler: int = 5, evaluator: int = 7, outputs: int = 9
) -> Case:
    circuit = random_circuit(seed, garbler=garbler, evaluator=evaluator, gates=gates, outputs=outputs)
    return circuit, random_inputs(seed, n, garbler), random_inputs(seed + 1, n, evaluator), to


def reference(case: Case) -> np.ndarray:
    return boolean_circuit.evaluate(case[0], case[1], case[2])


def payloads(transcript: list[Any], kind: str) -> np.ndarray:
    """All bytes of the messages of a kind."""
    found = [frame.payload for frame in transcript if frame.kind.endswith("." + kind)]
    return np.frombuffer(b"".join(found), np.uint8)


def far_from_uniform(octets: np.ndarray) -> float:
    """Chi-square of the frequencies of bytes, in standard deviations from its mean."""
    expected = len(octets) / 256
    return float((((np.bincount(octets, minlength=256) - expected) ** 2 / expected).sum() - 255) / np.sqrt(510))


def test_conformance() -> None:
    constant = Builder().build([1])
    cases: list[Case] = [
        drawn(1, 3, "both"),
        drawn(2, 0, "both"),
        drawn(3, 1, "evaluator", gates=200),
        drawn(4, 65, "garbler", garbler=70, evaluator=1),
        drawn(5, 64, "both", garbler=0, evaluator=66, outputs=130),
        drawn(6, 7, "garbler", garbler=5, evaluator=0),
        drawn(7, 5, "both", gates=0),
        (constant, np.empty((2, 0), np.uint64), np.empty((2, 0), np.uint64), "both"),
    ]

    def cost(case: Case) -> float:
        circuit, n = case[0], len(case[1])
        bits = circuit.evaluator_bits * n + 64
        return 8_600 + 2_000 + 32 * circuit.ands * n + 16 * bits + len(circuit.outputs) * (n / 4 + 2)

    def each(case: Case) -> tuple[Any, Any]:
        want = reference(case)
        return (None if case[3] == "evaluator" else want), (None if case[3] == "garbler" else want)

    check_protocol(
        ProtocolCheck(
            protocol=gc.PROTOCOL,
            cases=cases,
            first=garble,
            second=evaluate,
            reference=each,
            max_bytes=cost,
            patience=0.1,
        )
    )


@pytest.mark.parametrize("seed", range(6))
def test_random_circuits_in_many_chunks_and_messages(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(circuit_schedule, "_MOST_INSTANCES", 16)
    monkeypatch.setattr(circuit_schedule, "_STEP_ANDS", 40)
    monkeypatch.setattr(circuit_schedule, "_SEGMENT_BYTES", 32 * 16 * 20)
    case = drawn(seed, 101, OUTPUTS[seed % 4], gates=100 + 60 * seed, garbler=3 + 30 * seed)
    mine, theirs, transcript = play(case, seed)
    want = reference(case)
    if case[3] == "shares":
        assert np.array_equal(mine ^ theirs, want)
        assert not np.array_equal(mine, want)
        return
    for got, absent in ((mine, "evaluator"), (theirs, "garbler")):
        assert got is None if case[3] == absent else np.array_equal(got, want)
    assert len(payloads(transcript, "Tables")) == 32 * case[0].ands * 101


def test_a_comparison_costs_what_the_card_says() -> None:
    n = 500
    case = (comparison(), random_inputs(1, n, 64), random_inputs(2, n, 64), "evaluator")
    _, _, transcript = play(case)
    sizes = {kind: len(payloads(transcript, kind)) for kind in ("Tables", "Columns", "Decoding")}
    assert sizes == {"Tables": n * 64 * 32, "Columns": n * 64 * 16, "Decoding": -(-n // 8)}
    assert {frame.kind for frame in transcript if frame.sender == "a"} >= {"protocols.garbled_circuit.Tables"}


def test_one_session_serves_many_circuits() -> None:
    cases = [drawn(seed, 10, "both") for seed in range(4)]

    async def first(peer: Channel) -> list[Any]:
        party = await gc.start_garbler(peer, rng=seeded_rng(1))
        return [await party.run(case[0], case[1], case[3]) for case in cases]

    async def second(peer: Channel) -> list[Any]:
        party = await gc.start_evaluator(peer, rng=seeded_rng(2))
        return [await party.run(case[0], case[2], case[3]) for case in cases]

    a, b, transcript = recorded_pair(allowed=gc.PROTOCOL.kinds)
    for got in run_pair(first(a), second(b)):
        assert all(np.array_equal(g, reference(case)) for g, case in zip(got, cases, strict=True))
    tables = payloads(transcript, "Tables").view(np.uint64).reshape(-1, 2)
    assert len(np.unique(tables, axis=0)) == len(tables)  # no row of 16 bytes occurs twice


def test_shares_mean_nothing_alone() -> None:
    case = (comparison(16), np.zeros((4000, 1), np.uint64), np.ones((4000, 1), np.uint64), "shares")
    mine, theirs, _ = play(case)
    assert ((mine ^ theirs) == 1).all()
    assert 0.45 < mine.mean() < 0.55


# ------------------------------------------------------------------------------------------- what the evaluator sees


@pytest.mark.parametrize("to", ["evaluator", "garbler", "shares"])
def test_two_worlds_look_alike(to: Output) -> None:
    """Other bits of the garbler, the same outputs: same sizes, bytes without any pattern, and nothing that repeats."""
    n, views = 400, []
    y = np.full((n, 1), 1000, np.uint64)
    for seed, low in ((1, 0), (7, 500)):
        x = np.arange(low, low + n, dtype=np.uint64)[:, np.newaxis]
        views.append(play((comparison(16), x, y, to), seed)[2])
    assert [(f.sender, f.kind, len(f.header), len(f.payload)) for f in views[0]] == [
        (f.sender, f.kind, len(f.header), len(f.payload)) for f in views[1]
    ]
    for kind in ("Tables", "Columns"):
        seen = [payloads(view, kind) for view in views]
        assert all(abs(far_from_uniform(octets)) < 5 for octets in seen)
        assert abs(far_from_uniform(seen[0] ^ seen[1])) < 5


async def simulator(peer: Channel, case: Case, outputs: np.ndarray, rng: Rng) -> None:
    """Play the garbler without its bits: from the evaluator's bits and outputs alone, with rows drawn at random."""
    circuit, _, y, to = case
    n, seed = len(y), rng.bytes(32)
    transfers = await ot.setup_sender(peer, rng=rng, odd=True)
    await gc._agree(peer, circuit, n, to, seed)
    blocks = await transfers.extend(peer.sub("labels"), circuit.evaluator_bits * n)
    bits = to_bits(y, circuit.evaluator_bits)
    known = garbling.other_labels(blocks.q.reshape(*bits.shape, 2), bits, blocks.delta)
    plan, keys = circuit_schedule.schedule(circuit), gc._Keys(seed)
    room = garbling.Labels(plan, n, garbling.BLOCKS_TO_EVALUATE)
    chunk = room.start(n, keys.labels(0, circuit.garbler_bits, n), known)
    (segment,) = plan.segments(n)
    rows = rng.u64(circuit.ands, n, 4)
    await peer.send(gc.Tables(rows))
    garbling.evaluate(room, chunk, segment, rows, keys.next_pi(), 0)
    colours = garbling.colours(garbling.output_labels(room, chunk))
    meaning = colours ^ to_bits(outputs, len(colours))
    await peer.send(gc.Decoding(np.packbits(meaning, axis=1, bitorder="little")))


def test_the_evaluator_s_view_can_be_made_from_its_output() -> None:
    case = drawn(11, 200, "evaluator", gates=150)
    _, _, real = play(case)
    a, b, simulated = recorded_pair(allowed=gc.PROTOCOL.kinds)
    _, got = run_pair(simulator(a, case, reference(case), seeded_rng(5)), evaluate(b, case, seeded_rng(101)))
    assert np.array_equal(got, reference(case))
    assert [(f.sender, f.kind, len(f.header), len(f.payload)) for f in real] == [
        (f.sender, f.kind, len(f.header), len(f.payload)) for f in simulated
    ]
    for view in (real, simulated):
        assert abs(far_from_uniform(payloads(view, "Tables"))) < 5


# ----------------------------------------------------------------------------------------------------------- mutants


def offsets(generators: list[Rng]) -> set[bytes]:
    """The offsets of sessions that draw from these generators; every one of them has its lowest bit set."""
    found = set()
    for number, rng in enumerate(generators):
        a, b = memory_pair()
        party, _ = run_pair(gc.start_garbler(a, rng=rng), gc.start_evaluator(b, rng=seeded_rng(50 + number)))
        assert party.ot._delta[0] & np.uint64(1)
        found.add(party.ot._delta.tobytes())
    return found


def test_every_session_has_an_offset_of_its_own_and_a_mutant_that_keeps_it_is_caught() -> None:
    rng = seeded_rng(1)
    assert len(offsets([rng, rng, rng.spawn(), rng.spawn()])) == 4
    assert len(offsets([seeded_rng(1), seeded_rng(1)])) == 1


def test_an_even_offset_is_refused() -> None:
    """Colours of an even offset tell nothing apart; transfers that were set up for something else are not taken."""
    case = drawn(1, 5, "both")

    async def mutant(peer: Channel) -> None:
        for seed in itertools.count(1):
            transfers = await ot.setup_sender(peer, rng=seeded_rng(seed))
            if not transfers._delta[0] & np.uint64(1):
                break
        await gc.garbler(peer, case[0], case[1], to="both", ot=transfers, rng=seeded_rng(3))

    async def other(peer: Channel) -> None:
        for seed in itertools.count(1):
            receiver = await ot.setup_receiver(peer, rng=seeded_rng(100))
            if not seeded_rng(seed).u64(2)[0] & np.uint64(1):
                break
        await gc.evaluator(peer, case[0], case[2], to="both", ot=receiver)

    a, b = memory_pair()
    with pytest.raises(ValueError, match="odd=True"):
        run_pair(mutant(a), other(b))


def labels_drawn(seeds: list[bytes]) -> int:
    """How many different labels stand for the garbler's bits in runs with these seeds, two chunks each."""
    found = [gc._Keys(seed).labels(chunk, 3, 40).reshape(-1, 2) for seed in seeds for chunk in range(2)]
    return len(np.unique(np.concatenate(found), axis=0))


def test_every_instance_has_fresh_labels_and_keys_and_a_mutant_with_a_fixed_seed_is_caught() -> None:
    assert labels_drawn([bytes(32), bytes(31) + b"1"]) == 2 * 2 * 3 * 40
    assert labels_drawn([bytes(32), bytes(32)]) == 2 * 3 * 40
    case = drawn(1, 5, "both")
    seeds = {frame.header for seed in (1, 2) for frame in play(case, seed)[2] if frame.kind.endswith("Opening")}
    assert len(seeds) == 3  # two of garblers; those of evaluators are alike


def damage_tables(monkeypatch: pytest.MonkeyPatch) -> None:
    garble_honestly = garbling.garble
    monkeypatch.setattr(garbling, "garble", lambda *args: garble_honestly(*args) ^ np.uint64(4))


def damage_labels(monkeypatch: pytest.MonkeyPatch) -> None:
    mask = ot.OtReceiver._mask

    def mutant(self: ot.OtReceiver, r: np.ndarray, t: np.ndarray) -> np.ndarray:
        columns = mask(self, r, t)
        t ^= np.uint64(8)
        return columns

    monkeypatch.setattr(ot.OtReceiver, "_mask", mutant)


@pytest.mark.parametrize("damage", [damage_tables, damage_labels])
@pytest.mark.parametrize("to", ["garbler", "both"])
def test_changed_tables_and_labels_are_noticed_by_the_garbler(
    damage: Any, to: Output, monkeypatch: pytest.MonkeyPatch
) -> None:
    damage(monkeypatch)
    case = (comparison(8), random_inputs(1, 20, 8), random_inputs(2, 20, 8), to)
    a, b = memory_pair(timeout=2.0)
    error, _ = end_pair(garble(a, case, seeded_rng(1)), evaluate(b, case, seeded_rng(2)))
    assert isinstance(error, ProtocolError)
    assert "has not garbled" in str(error)


@pytest.mark.parametrize("damage", [damage_tables, damage_labels])
def test_where_only_the_evaluator_learns_changed_tables_give_wrong_results(
    damage: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the card says: semi-honest, and nothing to notice it by."""
    damage(monkeypatch)
    case = (comparison(16), random_inputs(1, 200, 16), random_inputs(2, 200, 16), "evaluator")
    _, got, _ = play(case)
    assert 0.2 < (got != reference(case)).mean() < 0.8


def test_an_evaluator_cannot_claim_another_output() -> None:
    case = (comparison(8), random_inputs(1, 20, 8), random_inputs(2, 20, 8), "garbler")

    class Liar:
        def __init__(self, inner: Channel) -> None:
            self.inner = inner

        def __getattr__(self, name: str) -> Any:
            return getattr(self.inner, name)

        async def send(self, message: Any) -> None:
            if isinstance(message, gc.Results):
                message = gc.Results(message.colours ^ np.uint8(1), message.digest)
            await self.inner.send(message)

    a, b = memory_pair(timeout=2.0)
    error, _ = end_pair(garble(a, case, seeded_rng(1)), evaluate(Liar(b), case, seeded_rng(2)))  # type: ignore[arg-type]
    assert isinstance(error, ProtocolError)


# ------------------------------------------------------------------------------------------------------ hostile peers


@pytest.mark.parametrize(
    ("change", "words_of_error"),
    [
        ({"circuit": bytes(32)}, "another circuit"),
        ({"circuit": b""}, "another circuit"),
        ({"instances": 4}, "4 instances"),
        ({"instances": -1}, "instances"),
        ({"instances": 1 << 62}, "instances"),
        ({"output": "shares"}, "who gets the result"),
        ({"output": "everybody"}, "who gets the result"),
        ({"seed": b"x" * 31}, "seed of 31"),
    ],
)
@pytest.mark.parametrize("role", ["garbler", "evaluator"])
def test_openings_that_do_not_agree_are_refused(role: str, change: dict[str, Any], words_of_error: str) -> None:
    case = drawn(1, 5, "both")
    honest = {"circuit": case[0].digest, "instances": 5, "output": "both", "seed": bytes(32 * (role == "garbler"))}

    async def liar(peer: Channel) -> None:
        if role == "garbler":
            await ot.setup_sender(peer, rng=seeded_rng(1), odd=True)
        else:
            await ot.setup_receiver(peer, rng=seeded_rng(1))
        await peer.send(gc.Opening(**honest | change))

    a, b = memory_pair(timeout=2.0)
    victim = evaluate(b, case, seeded_rng(2)) if role == "garbler" else garble(b, case, seeded_rng(2))
    _, error = end_pair(liar(a), victim)
    assert isinstance(error, ProtocolError)
    assert words_of_error in str(error)


@pytest.mark.parametrize("shape", [(0, 5, 4), (1, 5, 4), (60, 5, 4), (60, 4, 4)])
def test_tables_of_another_size_are_refused(shape: tuple[int, int, int]) -> None:
    case = drawn(1, 5, "both")
    assert case[0].ands not in (0, 1, 60)

    async def liar(peer: Channel) -> None:
        await ot.setup_sender(peer, rng=seeded_rng(1), odd=True)
        await gc._agree(peer, case[0], 5, "both", bytes(32))
        await peer.send(gc.Tables(np.zeros(shape, np.uint64)))

    a, b = memory_pair(timeout=2.0)
    _, error = end_pair(liar(a), evaluate(b, case, seeded_rng(2)))
    assert isinstance(error, ProtocolError)


@pytest.mark.parametrize("digest", [b"", bytes(32), bytes(1000)])
def test_results_without_their_labels_are_refused(digest: bytes) -> None:
    case = drawn(1, 5, "garbler")

    async def liar(peer: Channel) -> None:
        transfers = await ot.setup_receiver(peer, rng=seeded_rng(1))
        await gc._agree(peer, case[0], 5, "garbler", b"")
        await transfers.extend(peer.sub("labels"), np.zeros(5 * 7, np.uint8))
        await peer.recv(gc.Tables, rows=(case[0].ands, 5, 4))
        await peer.send(gc.Results(np.zeros((9, 1), np.uint8), digest))

    a, b = memory_pair(timeout=2.0)
    error, _ = end_pair(garble(a, case, seeded_rng(2)), liar(b))
    assert isinstance(error, ProtocolError)
    assert "has not garbled" in str(error)


@pytest.mark.parametrize("bad", [np.zeros((5, 2), np.uint64), np.zeros(5, np.uint64), np.zeros((5, 1), np.int64)])
def test_own_inputs_of_another_width_are_refused(bad: np.ndarray) -> None:
    case, unused = drawn(1, 5, "both"), cast(Any, None)  # refused before anything is sent
    a, b = memory_pair()
    for run in (
        gc.garbler(a, case[0], bad, to="both", ot=unused, rng=seeded_rng(1)),
        gc.evaluator(b, case[0], bad, to="both", ot=unused),
    ):
        with pytest.raises(ValueError, match="inputs of"):
            asyncio.run(cast(Any, run))


def test_frozen_vectors() -> None:
    mine, _, transcript = play(drawn(21, 9, "both"))
    digests = {
        kind: hashlib.sha256(payloads(transcript, kind).tobytes()).hexdigest()[:16]
        for kind in ("Tables", "Decoding", "Results")
    }
    assert digests == FROZEN
    assert np.array_equal(to_words(to_bits(mine, 9)), mine)


FROZEN = {"Tables": "3cad21157a1ba895", "Decoding": "58035d2c105514c8", "Results": "c7fd30c3d035a923"}


def test_nothing_is_compiled_while_the_protocol_runs() -> None:
    """Every kernel has the one signature that `warm` gave it, read-only arrays out of messages and all."""
    kernels = {
        f"{module.__name__}.{name}": kernel
        for module in (boolean_circuit, circuit_schedule, garbling)
        for name, kernel in vars(module).items()
        if hasattr(kernel, "signatures")
    }
    play(drawn(31, 70, "both", gates=100))
    assert len(kernels) >= 11
    assert {name: len(kernel.signatures) for name, kernel in kernels.items()} == {
        name: int(name != "atoll.crypto.garbling._xor_gates")  # inlined into others
        for name in kernels
    }
