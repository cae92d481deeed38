"""What is refused, by whom, and that nothing has left by then: limits on vectors, scales, parameter sets, bounds."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from atoll.core.errors import AtollError, ContractError, InputError
from atoll.core.message import array_fields
from atoll.crypto.lwe import SETS, get
from atoll.protocols.fixed_matrix_product import TO_ASKER, Asker, Facts, Terms, reference
from atoll.protocols.fixed_matrix_product.protocol import asker_setup, owner_setup
from atoll.protocols.fixed_matrix_product.terms import Agreement
from atoll.testing import run_pair, seeded_rng
from atoll.testing.check_protocol import by_stream
from atoll.testing.lattice import toy_set
from atoll.testing.links import recorded_pair
from atoll.transport.memory import memory_pair
from tests.protocols.fixed_matrix_product.tools import ANY, bins_matrix, play, vectors

N_ROWS = 1_000


def test_the_owner_stops_at_one_vector_in_a_hundred_rows() -> None:
    """The owner keeps the rule by itself: here the asker has been bent to forget it."""
    matrix, params = bins_matrix(1, 1, N_ROWS, 3), toy_set(64, 40)

    def forget(asker: Asker) -> Asker:
        object.__setattr__(asker.agreement, "limit", lambda: None)
        return asker

    play(matrix, vectors(1, 10, N_ROWS), params, Terms(), bend_asker=forget)
    with pytest.raises(ContractError, match=r"10 vectors used and 1 more asked, the limit is 10 \(T <= n/100"):
        play(matrix, [vectors(1, 10, N_ROWS), vectors(2, 1, N_ROWS)], params, Terms(), bend_asker=forget)
    with pytest.raises(ContractError, match="0 vectors used and 11 more"):
        play(matrix, vectors(1, 11, N_ROWS), params, Terms(), bend_asker=forget)
    run = play(matrix, vectors(1, 11, N_ROWS), params, Terms(reveals_rows=True))
    assert run.owner.vectors_used == 11


def test_the_asker_stops_first_and_sends_nothing() -> None:
    channels = recorded_pair("owner", "asker", timeout=1.0)
    with pytest.raises(ContractError, match="reveals: rows of M"):
        play(bins_matrix(1, 1, N_ROWS, 3), vectors(1, 11, N_ROWS), toy_set(64, 40), Terms(), channels=channels)
    assert "Masked" not in {frame.kind.rsplit(".", 1)[1] for frame in channels[2]}


def test_openings_to_the_owner_stop_at_one_number_in_ten_rows() -> None:
    """k = 30, n = 1,000: three vectors make 90 numbers, a fourth would pass 100."""
    matrix, params = bins_matrix(1, 10, N_ROWS, 3), toy_set(64, 40)
    run = play(matrix, vectors(1, 3, N_ROWS), params, Terms(output="owner"))
    assert run.asker.vectors_used == 3
    with pytest.raises(ContractError, match="reveals: v"):
        play(matrix, [vectors(1, 3, N_ROWS), vectors(2, 1, N_ROWS)], params, Terms(output="owner"))


@pytest.mark.parametrize("output", ["asker", "owner"])
def test_few_rows_are_refused(output: str) -> None:
    with pytest.raises(ContractError, match="below 1,000"):
        Agreement(get("H40"), Terms(output=output), 3, 999)
    Agreement(get("H40"), Terms(output=output), 3, 1_000)
    Agreement(get("H40"), Terms(output=output, **ANY), 3, 999)
    Agreement(get("H40"), Terms(output="shares"), 3, 10)


@pytest.mark.parametrize("output", ["owner", "shares"])
@pytest.mark.parametrize("name", ["H32", "T32"])
def test_sets_whose_noise_the_theorem_does_not_cover_only_serve_the_asker(name: str, output: str) -> None:
    (at_owner, at_asker), terms = memory_pair(), Terms(output=output)
    for side in (
        owner_setup(at_owner, bins_matrix(1, 1, 1500, 3), params=get(name), rng=seeded_rng(1), terms=terms),
        asker_setup(at_asker, 3, 1500, params=get(name), rng=seeded_rng(1), terms=terms),
    ):
        with pytest.raises(ContractError, match="serves output to the asker only"):
            run_pair(side, _nothing())


async def _nothing() -> None:
    return None


def test_a_call_that_the_terms_do_not_name_is_refused() -> None:
    run = play(bins_matrix(1, 1, N_ROWS, 3), vectors(1, 1, N_ROWS), toy_set(64, 40), Terms())
    channel, other = memory_pair()
    for call in (run.owner.receive(channel, count=1), run.owner.share(channel, count=1)):
        with pytest.raises(ContractError, match="send this product to asker"):
            run_pair(call, _nothing())
    for call in (run.asker.reply(other, vectors(1, 1, N_ROWS)), run.owner.answer(channel, count=0)):
        with pytest.raises(AtollError):
            run_pair(call, _nothing())
    for wrong in (np.zeros((1, 5)), np.zeros(N_ROWS), np.zeros((1, N_ROWS), np.float32)):
        with pytest.raises(InputError, match="vectors must be an array"):
            run_pair(run.asker.product(other, wrong), _nothing())
    assert run.owner.vectors_used == run.asker.vectors_used == 1


def test_repeated_vectors_are_answered_from_the_stored_reply() -> None:
    """Zeros travel in their place: the number and size of messages stay, and the reply does not change by its noise."""
    matrix, V = bins_matrix(1, 2, 1500, 3), vectors(1, 2, 1500)
    run = play(matrix, [V, V[::-1].copy(), np.stack((V[0], V[0], -V[1]))], get("H40"), Terms())
    first, second, third = run.asker_result[:2], run.asker_result[2:4], run.asker_result[4:]
    assert np.array_equal(first, second[::-1])
    assert np.array_equal(third[0], first[0])
    assert np.array_equal(third[1], first[0])
    assert not np.array_equal(third[2], -first[1])  # another vector, another answer
    assert len(run.asker.replies) == 3
    assert run.owner.vectors_used == run.asker.vectors_used == 7
    sizes = [len(payload) for payload in run.payloads("Masked")]
    assert sizes == [2 * 5 * 1500, 2 * 5 * 1500, 3 * 5 * 1500]


BAD = {
    "nan": np.where(np.arange(1500) == 7, np.nan, 0.5),
    "infinite": np.where(np.arange(1500) == 7, -np.inf, 0.5),
    "sum overflows": np.full(1500, 1e308),
}


@pytest.mark.parametrize("bad", BAD)
def test_bad_vectors_are_refused_before_any_byte_leaves(bad: str) -> None:
    for output, params in (("asker", get("H40")), ("owner", get("X64")), ("shares", get("X64"))):
        channels = recorded_pair("owner", "asker", timeout=1.0)
        V = np.stack((vectors(1, 1, 1500)[0], BAD[bad]))
        with pytest.raises(InputError, match="nothing was sent"):
            play(bins_matrix(1, 1, 1500, 3), V, params, Terms(output=output), channels=channels)
        assert "Masked" not in {frame.kind.rsplit(".", 1)[1] for frame in channels[2]}


def test_values_above_the_public_bound_are_refused_and_the_bound_itself_fits() -> None:
    matrix, terms = bins_matrix(1, 1, 1500, 1), Terms(output="owner", largest_value=3.0)
    run = play(matrix, np.full((1, 1500), -3.0), get("H40"), terms)
    np.testing.assert_allclose(run.owner_result, -4500, atol=0.01)
    channels = recorded_pair("owner", "asker", timeout=1.0)
    with pytest.raises(InputError, match="outside the bound"):
        play(matrix, np.full((1, 1500), np.nextafter(3.0, 4.0)), get("H40"), terms, channels=channels)
    assert "Masked" not in {frame.kind.rsplit(".", 1)[1] for frame in channels[2]}


@pytest.mark.parametrize("structured", [True, False])
@pytest.mark.parametrize("name", SETS)
@pytest.mark.parametrize("size", [1e-280, 1.0, 1e300])
def test_the_largest_sums_never_wrap(name: str, size: float, structured: bool) -> None:
    """One bin takes all of ‖v‖₁, at the scale that the asker picks; with noise, for any size of v."""
    matrix = bins_matrix(1, 1, 1500, 1)
    V = np.stack((np.full(1500, size), np.full(1500, -size), np.eye(1, 1500)[0] * size))
    terms = Terms(facts=Facts.indicator(1, 1500), structured=structured)
    got = play(matrix, V, get(name), terms).asker_result / size
    assert np.abs(got / reference.product(matrix, V / size) - 1).max() < {"T32": 0.5, "H32": 0.1}.get(name, 1e-3)


@given(
    n=st.integers(1000, 100_000),
    seed=st.integers(0, 99),
    power=st.integers(-200, 200),
    name=st.sampled_from(list(SETS)),
    structured=st.booleans(),
)
@settings(max_examples=60, deadline=None)
def test_scales_leave_room_and_are_as_large_as_they_can_be(
    n: int, seed: int, power: int, name: str, structured: bool
) -> None:
    params = get(name)
    facts = Facts.bounded(3, n, 5) if params.q_bits == 64 else None
    agreement = Agreement(params, Terms(facts=facts, structured=structured), 3, n)
    v = vectors(seed, 1, n)[0] * 2.0**power
    scale = agreement.private_scale(v, None)
    largest = agreement.facts.largest
    worst = largest * np.abs(np.rint(v * scale)).sum() + 2.0**agreement.noise_bits / 2
    worst += 8 * params.sigma * agreement.facts.row_norm + 2.0**agreement.dropped_bits * params.N / 2
    assert worst < params.q / 2
    assert agreement.private_scale(v, scale / 8) == scale / 8
    with pytest.raises(InputError, match="nothing was sent"):
        agreement.private_scale(v, scale * 2.001)


def test_no_room_for_the_sums_is_an_error_of_the_terms() -> None:
    wide = Terms(output="owner", facts=Facts.standardised(40, 10**7, 20, 10.0))
    with pytest.raises(ContractError, match="no room"):
        _ = Agreement(get("H40"), wide, 40, 10**7).public_scale
    with pytest.raises(ContractError, match="above 0"):
        Agreement(get("H40"), Terms(), 0, 10**7)


def test_the_scale_is_in_no_message_to_the_owner() -> None:
    """Messages of this protocol hold nothing but arrays of words, and their sizes do not depend on the scale."""
    for kind in TO_ASKER.messages:
        assert set(array_fields(kind)) == set(kind.__struct_fields__)
    shapes = []
    for size in (1.0, 2.0**-60):
        run = play(bins_matrix(1, 1, 1500, 3), vectors(1, 2, 1500) * size, get("H40"), Terms())
        shapes.append([(frame.kind, frame.header, len(frame.payload)) for frame in by_stream(run.frames)])
    assert shapes[0] == shapes[1]
