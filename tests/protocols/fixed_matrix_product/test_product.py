"""The product equals the plain one: exactly without noise, within the card's bound with it; and the protocol suite."""

import asyncio
import hashlib
import math

import numpy as np
import pytest

from atoll.core.errors import ContractError, InputError
from atoll.crypto.lwe import SETS, get
from atoll.protocols.fixed_matrix_product import (
    TO_ASKER,
    TO_OWNER,
    TO_SHARES,
    Dense,
    Facts,
    Indicator,
    Terms,
    reference,
)
from atoll.protocols.fixed_matrix_product.protocol import asker, asker_setup, owner, owner_setup
from atoll.protocols.fixed_matrix_product.steps import centred, in_turn
from atoll.testing import check_protocol, run_pair, seeded_rng
from atoll.testing.check_protocol import ProtocolCheck
from atoll.testing.lattice import exact_set, toy_set
from atoll.transport.memory import memory_pair
from tests.protocols.fixed_matrix_product.tools import ANY, bins_matrix, dense_matrix, play, result, vectors

OUTPUTS = ["asker", "owner", "shares"]
TOY = 64


def integers(seed: int, count: int, n: int) -> np.ndarray:
    return np.rint(vectors(seed, count, n) * 1000)


def awkward_matrix(k: int, n: int) -> Dense:
    """Signed entries, with zero, one-hot and duplicate rows where there is room."""
    entries = dense_matrix(k + n, k, n, 9).entries.copy()
    if k > 4:
        entries[0] = 0
        entries[1] = np.eye(1, n, n // 2)
        entries[2] = entries[3]
    return Dense(entries)


@pytest.mark.parametrize(
    ("q_bits", "output"), [(32, "asker"), (40, "asker"), (40, "owner"), (64, "owner"), (64, "shares")]
)
@pytest.mark.parametrize("k", [1, TOY + 5])
@pytest.mark.parametrize("n", [1, TOY - 1, TOY, TOY + 1, 3 * TOY + 7])
def test_without_noise_the_product_is_exact(n: int, k: int, q_bits: int, output: str) -> None:
    matrix, V = awkward_matrix(k, n), integers(n, 2, n)
    facts = Facts.bounded(k, n, 9)
    terms = Terms(output=output, facts=facts, largest_value=1000.0, **ANY)
    run = play(matrix, V, toy_set(TOY, q_bits), terms)
    assert np.array_equal(result(run), reference.product(matrix, V))


@pytest.mark.parametrize("name", SETS)
@pytest.mark.parametrize("extra", [-1, 0, 1])
def test_the_rings_in_use_are_exact_around_a_block(name: str, extra: int) -> None:
    n = get(name).N + extra
    matrix, V = bins_matrix(1, 3, n, 5), integers(2, 2, n)
    run = play(matrix, V, exact_set(name), Terms(facts=Facts.indicator(3, n), **ANY))
    assert np.array_equal(result(run), reference.product(matrix, V))


def test_more_rows_than_the_ring_has_dimensions() -> None:
    matrix, V = bins_matrix(1, 9, 2500, 230), integers(2, 1, 2500)  # k = 2070 > N
    run = play(matrix, V, exact_set("H40"), Terms(facts=Facts.indicator(9, 2500), **ANY))
    assert np.array_equal(result(run), reference.product(matrix, V))


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_many_vectors_and_wide_bins(dtype: type) -> None:
    """Nine vectors make three groups; bins above 255 need two bytes."""
    m = 7 if dtype is np.uint8 else 300
    bins = seeded_rng(4).uniform_u64(m, 2, 1500).astype(dtype)
    matrix, V = Indicator(bins, [m, m]), integers(5, 9, 1500)
    run = play(matrix, V, toy_set(TOY, 40), Terms(facts=Facts.indicator(2, 1500), **ANY))
    assert np.array_equal(result(run), reference.product(matrix, V))
    assert np.array_equal(reference.entries(matrix) @ V.T, result(run).T)


@pytest.mark.parametrize("structured", [True, False])
@pytest.mark.parametrize(
    ("name", "output"), [(s.name, out) for s in SETS.values() for out in OUTPUTS[: 1 + 2 * s.opens]]
)
def test_with_noise_the_error_stays_within_the_bound(name: str, output: str, structured: bool) -> None:
    n, params = 3000, get(name)
    matrix, V = bins_matrix(1, 4, n, 8), vectors(2, 3, n)
    terms = Terms(output=output, structured=structured, facts=Facts.indicator(4, n, 500), **ANY)
    run = play(matrix, V, params, terms)
    agreement = run.owner.agreement
    noise = 8 * params.sigma * math.sqrt(500) + 500 / 2  # e and the rounding of Δv
    if output == "asker":
        noise += 2.0 ** (agreement.noise_bits - 1) + 2.0**agreement.dropped_bits * (params.N / 2 + 1)
        scale = min(agreement.private_scale(v, None) for v in V)
    else:
        noise += 9.5 * agreement.opening_sigma
        scale = agreement.public_scale
    error = np.abs(result(run) - reference.product(matrix, V)).max()
    assert 0 < error <= noise / scale
    if name == "X64":
        assert error < 1e-8


def test_ring_elements_are_shared_as_they_are() -> None:
    matrix, q = dense_matrix(3, 4, 200, 5), toy_set(TOY, 64)
    V = seeded_rng(9).u64(2, 200)
    run = play(matrix, V, q, Terms(output="shares", facts=Facts.bounded(4, 200, 5), **ANY))
    assert np.array_equal(run.owner_result + run.asker_result, V @ matrix.entries.T.view(np.uint64))


CHECKS = {"asker": TO_ASKER, "owner": TO_OWNER, "shares": TO_SHARES}


def ends_equal(output: str):
    """Compare what a role got with what the reference says that it gets."""

    def equal(got: object, want: object) -> bool:
        return (got is None and want is None) or np.array_equal(got, want)  # type: ignore[arg-type]

    return equal if output != "shares" else lambda got, want: got.shape == want.shape


@pytest.mark.slow
@pytest.mark.parametrize("output", OUTPUTS)
def test_the_protocol_keeps_its_card(output: str) -> None:
    params, terms = toy_set(TOY, 40), Terms(output=output, largest_value=1000.0, **ANY)

    def reference_of(case: tuple[Indicator, np.ndarray]) -> tuple[object, object]:
        y = reference.product(*case)
        return {"asker": (None, y), "owner": (y, None), "shares": (y, y)}[output]

    def bound(case: tuple[Indicator, np.ndarray]) -> float:
        matrix, V = case
        one = 5 * matrix.n + 16 * TOY + 8 * TOY * matrix.k + 8 * matrix.k
        return 9_500 + len(V) * (one + 1_500)

    check_protocol(
        ProtocolCheck(
            protocol=CHECKS[output],
            cases=[
                (bins_matrix(1, 2, 70, 3), integers(1, 2, 70)),
                (bins_matrix(2, 1, 1, 1), integers(2, 1, 1)),
                (bins_matrix(3, 3, 130, 4), np.zeros((3, 130))),
            ],
            first=lambda peer, case, rng: owner(peer, case[0], count=len(case[1]), params=params, rng=rng, terms=terms),
            second=lambda peer, case, rng: asker(peer, case[1], k=case[0].k, params=params, rng=rng, terms=terms),
            reference=reference_of,
            max_bytes=bound,
            equal=ends_equal(output),
            patience=0.15,
        )
    )


def test_a_frozen_transcript() -> None:
    """Seed, masked vector, corrections and answer of one small run are known: messages mean what they meant."""
    run = play(bins_matrix(1, 2, 100, 3), vectors(1, 1, 100), get("T32"), Terms(job="job", matrix="m", **ANY))
    kinds = [(frame.stream, frame.kind.rsplit(".", 1)[1]) for frame in run.frames]
    assert [kind for stream, kind in kinds if not stream] == ["Setup", "BaseChoices", "BaseKey", "Masked", "Answer"]
    assert [kind for stream, kind in kinds if stream == "transfers"] == ["Columns", "Corrections"]
    digests = {kind: hashlib.sha256(run.payloads(kind)[0]).hexdigest()[:12] for kind in ("Setup", "Masked", "Answer")}
    assert digests == {"Setup": "b3454232e894", "Masked": "24bcf66a5f19", "Answer": "95b9e73f5f7e"}


def test_rows_that_are_left_out_change_no_others() -> None:
    bins = seeded_rng(4).uniform_u64(5, 3, 1500).astype(np.uint8)
    matrix, V = Indicator(bins, [5, 5, 6], without=np.array([4, 9, 0])), integers(5, 3, 1500)
    assert matrix.k == 13
    whole = reference.product(Indicator(bins, [5, 5, 6]), V)
    assert np.array_equal(reference.product(matrix, V), np.delete(whole, [0, 4, 9], axis=1))
    run = play(matrix, V, toy_set(TOY, 40), Terms(facts=Facts.indicator(3, 1500), **ANY))
    assert np.array_equal(result(run), reference.product(matrix, V))
    assert np.array_equal(reference.entries(matrix) @ V.T, result(run).T)


def test_different_terms_are_noticed() -> None:
    matrix = bins_matrix(1, 1, 1500, 3)
    for changed in (
        Terms(matrix="x"),
        Terms(structured=False),
        Terms(planned=4),
        Terms(facts=Facts.indicator(1, 1500, 900)),
    ):
        at_owner, at_asker = memory_pair(timeout=1.0)
        with pytest.raises(ContractError, match="other terms"):
            run_pair(
                owner_setup(at_owner, matrix, params=get("H40"), rng=seeded_rng(1), terms=Terms()),
                asker_setup(at_asker, 3, 1500, params=get("H40"), rng=seeded_rng(2), terms=changed),
            )


def test_a_matrix_outside_its_bounds_is_refused() -> None:
    at_owner, _ = memory_pair()
    for matrix, facts in (
        (bins_matrix(1, 1, 1500, 2), Facts.indicator(1, 1500, 600)),
        (dense_matrix(1, 2, 1500, 9), Facts.bounded(2, 1500, 8)),
    ):
        with pytest.raises(InputError, match="exceeds the agreed bound"):
            asyncio.run(owner_setup(at_owner, matrix, params=get("H40"), rng=seeded_rng(1), terms=Terms(facts=facts)))


def test_matrices_of_the_wrong_kind_are_refused() -> None:
    for bins, sizes in ((np.zeros(3, np.uint8), None), (np.zeros((1, 3)), None), (np.full((1, 3), 4, np.uint8), [4])):
        with pytest.raises(InputError):
            Indicator(bins, sizes)
    for entries in (np.zeros((2, 2)), np.full((1, 1), 1 << 31), np.zeros(3, np.int64)):
        with pytest.raises(InputError):
            Dense(entries)


def test_centred_words() -> None:
    words = np.array([0, 1, (1 << 39) - 1, 1 << 39, (1 << 40) - 1], np.uint64)
    assert centred(words, 40).tolist() == [0, 1, (1 << 39) - 1, -(1 << 39), -1]


def test_calls_in_turn_overlap_with_their_use_and_end_together() -> None:
    log: list[str] = []

    async def call(i: int) -> int:
        log.append(f"call {i}")
        await asyncio.sleep(0)
        if i == 3:
            raise InputError("broken")
        return i

    async def use(i: int) -> None:
        await asyncio.sleep(0)
        log.append(f"use {i}")

    with pytest.raises(InputError, match="broken"):
        asyncio.run(in_turn([lambda i=i: call(i) for i in range(5)], use))
    assert log == ["call 0", "call 1", "use 0", "call 2", "use 1", "call 3", "use 2"]
    asyncio.run(in_turn([], use))
