"""What each side sees looks the same in every world that it may not tell apart."""

import math

import numpy as np
import pytest

from atoll.crypto.lwe import SETS, ParameterSet, dropped_deviation, get
from atoll.protocols.fixed_matrix_product import Dense, Facts, Indicator, Terms
from atoll.testing import seeded_rng
from atoll.testing.lattice import toy_set
from tests.protocols.fixed_matrix_product.tools import ANY, Run, bins_matrix, play, vectors

N_ROWS = 4_000


def uniformity(values: np.ndarray, cells: int) -> float:
    """Standardised χ² of values in 0 … cells − 1 against the uniform distribution."""
    want = values.size / cells
    statistic = ((np.bincount(values, minlength=cells) - want) ** 2 / want).sum()
    return float((statistic - (cells - 1)) / math.sqrt(2 * (cells - 1)))


WORLDS = {
    "zero": np.zeros(N_ROWS),
    "constant": np.ones(N_ROWS),
    "one-hot": np.eye(1, N_ROWS, 17)[0] * 1e6,
    "alternating": np.where(np.arange(N_ROWS) % 2, 1.0, -1.0),
}


@pytest.mark.parametrize("name", SETS)
@pytest.mark.parametrize("world", WORLDS)
def test_masked_vectors_are_uniform_whatever_they_mask(name: str, world: str) -> None:
    run = play(bins_matrix(1, 1, N_ROWS, 2), WORLDS[world][np.newaxis], get(name), Terms())
    c = run.masked[0]
    scale = int(math.log2(run.asker.agreement.private_scale(WORLDS[world] + (world == "zero"), None)))
    for bits in (1, 2, 8):
        assert abs(uniformity((c & np.uint64((1 << bits) - 1)).astype(np.int64), 1 << bits)) < 5
    top = (c >> np.uint64(get(name).q_bits - 8)).astype(np.int64)
    assert abs(uniformity(top, 256)) < 5
    if scale > 8:  # bits around Δ, where the vector lies
        assert abs(uniformity((c >> np.uint64(scale - 4) & np.uint64(255)).astype(np.int64), 256)) < 5


def octets(run: Run, kind: str) -> np.ndarray:
    return np.concatenate([np.frombuffer(payload, np.uint8) for payload in run.payloads(kind)]).astype(np.int64)


def test_the_owner_cannot_tell_two_vectors_with_one_result_apart() -> None:
    """To the owner, v and v′ with M·v = M·v′: all that it receives is uniform but for the one result."""
    bins = np.zeros((1, N_ROWS), np.uint8)
    bins[0, N_ROWS // 2 :] = 1
    v = vectors(1, 1, N_ROWS)[0]
    worlds = [v, np.concatenate((np.sort(v[: N_ROWS // 2]), v[: N_ROWS // 2 - 1 : -1]))]
    means = []
    for world, seed in ((w, s) for w in worlds for s in range(3)):
        run = play(Indicator(bins), world[np.newaxis], get("H40"), Terms(output="owner"), seed=seed)
        for kind in ("Masked", "Columns"):
            assert abs(uniformity(octets(run, kind), 256)) < 5
        means.append(run.owner_result[0])
    noise = run.owner.agreement.opening_sigma / run.owner.agreement.public_scale
    assert np.abs(np.diff(means, axis=0)).max() < 20 * noise  # the results differ by their noise alone


@pytest.mark.parametrize("structured", [True, False])
def test_the_asker_cannot_tell_two_matrices_with_one_result_apart(structured: bool) -> None:
    """To the asker, M and M′ with M·w = M′·w: corrections are uniform, and results follow one distribution."""
    n, swapped = N_ROWS, np.arange(N_ROWS)
    swapped[:2] = [1, 0]
    first = (seeded_rng(1).bits(n)).astype(np.uint8)
    first[:2] = [0, 1]
    V = np.tile(vectors(3, 1, n), (12, 1)) + np.arange(12)[:, np.newaxis] / 1024
    V[:, 1] = V[:, 0]  # rows 0 and 1 carry the same value, so that swapping them leaves M·v
    errors = []
    for bins in (first, first[swapped]):
        matrix = Indicator(bins[np.newaxis])
        run = play(matrix, V, get("H40"), Terms(facts=Facts.indicator(1, n), structured=structured))
        assert abs(uniformity(octets(run, "Corrections" if structured else "NarrowCorrections"), 256)) < 5
        want = np.stack([np.bincount(bins, weights=v, minlength=2) for v in V])
        scale = np.array([run.asker.agreement.private_scale(v, None) for v in V])[:, np.newaxis]
        errors.append((run.asker_result - want) * scale / 2.0**run.asker.agreement.noise_bits)
    agreement = run.asker.agreement
    beside = math.hypot(8 * agreement.facts.row_norm, dropped_deviation(agreement.params, structured))
    beside /= 2.0**agreement.noise_bits  # what e and the dropped bits add: less than a 256th or a quarter
    assert beside < 1 / (256 if structured else 4)
    for error in errors:  # u is uniform on a range of one
        assert np.abs(error).max() < 0.5 + 5 * beside
        assert abs(error.mean()) < 5 * math.hypot(beside, 1 / math.sqrt(12)) / math.sqrt(error.size)
        assert abs(error.std() - math.hypot(beside, 1 / math.sqrt(12))) < 0.1


def test_output_noise_is_uniform_and_not_scaled_by_the_asker() -> None:
    """The same range in units of 1/q for small and large vectors."""
    n, widths = N_ROWS, []
    for size in (1.0, 2.0**-30):
        V = vectors(1, 40, n) * size
        run = play(bins_matrix(1, 4, n, 25), V, get("H40"), Terms(facts=Facts.indicator(4, n, 300)))
        want = np.stack([np.concatenate([np.bincount(b, v, 25) for b in run.owner.matrix.bins]) for v in V])
        scale = np.array([run.asker.agreement.private_scale(v, None) for v in V])[:, np.newaxis]
        u = (run.asker_result - want) * scale
        Q = 2.0**run.asker.agreement.noise_bits
        assert abs(uniformity(np.floor((u / Q + 0.5) * 16).astype(np.int64).clip(0, 15).reshape(-1), 16)) < 5
        widths.append(u.std())
        told = np.array([run.asker.agreement.output_deviation(v) for v in V])[:, np.newaxis]
        assert abs(((run.asker_result - want) / told).std() - 1) < 0.1
    assert abs(widths[0] / widths[1] - 1) < 0.05


def test_shares_are_uniform_on_each_side() -> None:
    matrix = Dense((seeded_rng(5).u64(400, 300) % np.uint64(7)).astype(np.int64))
    facts = Facts.bounded(400, 300, 6)
    V = np.stack((np.zeros(300), np.ones(300), vectors(1, 1, 300)[0]))
    run = play(matrix, V, toy_set(64, 64, 8.0), Terms(output="shares", facts=facts, **ANY))
    for share in (run.owner_result, run.asker_result):
        for row in share:
            assert abs(uniformity(np.frombuffer(row.tobytes(), np.uint8).astype(np.int64), 256)) < 5


def test_openings_are_uniform_until_the_owner_unmasks_them() -> None:
    matrix = Dense((seeded_rng(5).u64(600, 300) % np.uint64(7)).astype(np.int64))
    terms = Terms(output="owner", facts=Facts.bounded(600, 300, 6), **ANY)
    run = play(matrix, np.zeros((3, 300)), toy_set(64, 40, 8.0), terms)
    assert abs(uniformity(octets(run, "Opening"), 256)) < 5


@pytest.mark.parametrize(
    ("params", "structured", "bits"),
    [(get("H40"), True, 32), (get("H40"), False, 24), (toy_set(64, 40, 8.0), True, 40), (get("T32"), True, 32)],
)
def test_answers_are_reduced_so_that_they_do_not_show_how_often_sums_wrapped(
    params: ParameterSet, structured: bool, bits: int
) -> None:
    run = play(bins_matrix(1, 40, N_ROWS, 20), np.ones((4, N_ROWS)), params, Terms(structured=structured))
    words = np.frombuffer(b"".join(run.payloads("Answer")), np.uint64)
    assert 2.0 ** (bits - 1) < words.max() < 2.0**bits
    assert abs(uniformity((words >> np.uint64(bits - 6)).astype(np.int64), 64)) < 5


@pytest.mark.parametrize("structured", [True, False])
def test_corrections_lose_bits_only_on_the_way_to_the_asker(structured: bool) -> None:
    """Dropped bits would add a hint on s where sums are opened."""
    short = (8, 4) if structured else (16, 3)
    for output, (dropped, width) in (("asker", short), ("owner", (0, 8)), ("shares", (0, 8))):
        terms = Terms(output=output, structured=structured)
        run = play(bins_matrix(1, 2, N_ROWS, 3), np.ones((1, N_ROWS)), get("H40"), terms)
        assert run.owner.agreement.dropped_bits == run.asker.agreement.dropped_bits == dropped
        corrections = [frame.payload for frame in run.frames if frame.kind.endswith("Corrections")]
        assert [len(payload) for payload in corrections] == [width * 2048 * 6]
