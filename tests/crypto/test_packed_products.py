"""Products of numbers and of matrices under encryption equal numpy's modulo 2^64, at the ends of the range, too."""

import hashlib

import numpy as np
import pytest

from atoll.crypto import homomorphic as he
from atoll.crypto import matrix_tiles, slot_products, word_matrix
from atoll.crypto.homomorphic import ELEMENTS, MATRICES, SLOTS
from atoll.testing import seeded_rng

SEED = bytes(range(32))
ENDS = np.array([0, 1, (1 << 64) - 1, 1 << 63, (1 << 63) - 1, 0x5555555555555555], np.uint64)
Keys = tuple[he.Secret, list[he.Public]]


@pytest.fixture(scope="module")
def slots() -> Keys:
    rng = seeded_rng(1)
    key = he.secret(ELEMENTS, rng)
    return key, [he.public_from(ELEMENTS, t, he.public(key, t, SEED, b"0", rng), SEED, b"0") for t in SLOTS]


@pytest.fixture(scope="module")
def matrices() -> Keys:
    rng, t = seeded_rng(2), matrix_tiles.MODULUS
    key = he.secret(MATRICES, rng)
    return key, [he.public_from(MATRICES, t, he.public(key, t, SEED, b"0", rng), SEED, b"0")]


def drawn(shape: tuple[int, ...], seed: int) -> np.ndarray:
    words = seeded_rng(seed).u64(*shape)
    words.reshape(-1)[: ENDS.size] = ENDS[: words.size]
    words.reshape(-1)[-ENDS.size :] = ENDS[::-1][-words.size :]
    return words


@pytest.mark.parametrize(("r", "n"), [(1, 1), (2, 1), (2, 4096), (1, 4097)])
def test_products_of_numbers(slots: Keys, r: int, n: int) -> None:
    x, y = drawn((r, n), 3), drawn((r, n), 4)
    asked = slot_products.request(slots[0], x, SEED, 0, seeded_rng(5))
    answered, half = slot_products.answer(slots[1], y, asked, SEED, 0, seeded_rng(6))
    mine = slot_products.read(slots[0], answered, n)
    assert np.array_equal(mine + half, (x * y).sum(axis=0, dtype=np.uint64))
    if n > 1:
        assert abs(np.unpackbits(half.view(np.uint8)).mean() - 0.5) < 0.02


SIZES = [(1, 1, 1), (3, 5, 2), (70, 33, 65), (1, 300, 1), (33, 40, 1), (5, 1, 129), (2, 3, 8200)]


@pytest.mark.parametrize(("m", "k", "n"), SIZES)
def test_products_of_matrices(matrices: Keys, m: int, k: int, n: int) -> None:
    a, b = drawn((m, k), 3), drawn((k, n), 4)
    assert np.array_equal(product(matrices, a, b), a @ b)


def product(keys: Keys, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    out, first = np.zeros((len(a), b.shape[1]), np.uint64), 0
    for terms, columns, tile in matrix_tiles.plan(*a.shape, b.shape[1]):
        asked = list(matrix_tiles.request(keys[0], b[terms, columns], tile, SEED, first, seeded_rng(first)))
        assert [part.shape[1] for part in asked] == [
            part.stop - part.start for part in matrix_tiles.request_parts(tile)
        ]
        answers = matrix_tiles.answer(keys[1][0], a[:, terms], asked, tile, SEED, first, seeded_rng(9))
        for part, (c0, c1, half) in zip(matrix_tiles.answer_parts(tile), answers, strict=True):
            assert (c0.shape, c1.shape) == matrix_tiles.answer_shapes(tile, part)
            rows = matrix_tiles.read(keys[0], c0, c1, tile) + half
            at = part.start * tile.rows
            out[at : at + len(rows), columns] += rows[: len(a) - at]
        first += len(asked)
    return out


def test_products_in_several_parts_add_up(matrices: Keys, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(matrix_tiles, "MOST_REQUESTS", 1)
    monkeypatch.setattr(matrix_tiles, "ANSWERS", 8)
    a, b = drawn((40, 20), 5), drawn((20, 1500), 6)
    assert np.array_equal(product(matrices, a, b), a @ b)


@pytest.mark.parametrize(
    ("m", "k", "n"), [*SIZES, (1000, 1000, 1000), (1, 10**6, 1), (10**5, 10, 3), (10**4, 100, 1), (7, 7, 600_000)]
)
def test_plans_cover_every_term_once_within_their_limits(m: int, k: int, n: int) -> None:
    seen: dict[int, list[slice]] = {}
    for terms, columns, tile in matrix_tiles.plan(m, k, n):
        seen.setdefault(columns.start, []).append(terms)
        assert (tile.m, tile.k, tile.n) == (m, terms.stop - terms.start, columns.stop - columns.start)
        assert tile.n <= tile.width
        assert tile.rows * tile.terms * tile.width <= MATRICES.N
        assert tile.k * tile.rows <= matrix_tiles.MOST_TERMS
        assert tile.requests <= matrix_tiles.MOST_REQUESTS
    for parts in seen.values():
        assert [parts[0].start, *(part.stop for part in parts)] == [*(part.start for part in parts), k]
    assert sorted(seen)[0] == 0


@pytest.mark.parametrize(("m", "k", "n"), [(64, 64, 64), (1, 1 << 18, 1), (70, 1025, 33), (3, 513, 200)])
def test_large_products_of_words(m: int, k: int, n: int) -> None:
    a, b = drawn((m, k), 1), drawn((k, n), 2)
    for place, word in enumerate((1 << 21, 1 << 43, (1 << 21) - 1, (1 << 64) - (1 << 21), (1 << 63) - 1)):
        a[:, place], b[place] = word, word  # digits at their ends
    assert np.array_equal(word_matrix.product(a, b), a @ b)


def test_known_answers(slots: Keys, matrices: Keys) -> None:
    asked = slot_products.request(slots[0], drawn((1, 9), 1), SEED, 3, seeded_rng(5))
    answered, half = slot_products.answer(slots[1], drawn((1, 9), 2), asked, SEED, 3, seeded_rng(6))
    ((terms, columns, tile),) = matrix_tiles.plan(3, 4, 5)
    b = drawn((4, 5), 1)[terms, columns]
    rows = list(matrix_tiles.request(matrices[0], b, tile, SEED, 3, seeded_rng(5)))
    ((c0, c1, own),) = matrix_tiles.answer(matrices[1][0], drawn((3, 4), 2), rows, tile, SEED, 3, seeded_rng(6))
    found = [hashlib.sha256(part.tobytes()).hexdigest()[:12] for part in (asked, answered, half, *rows, c0, c1, own)]
    assert found == [
        "a794a30991c4",
        "d81af8627f4a",
        "5769a30ecbd7",
        "a6b401908234",
        "e6526e07f227",
        "e5bec593aa40",
        "3fe27e525ce2",
    ]


def test_equal_numbers_are_encrypted_in_another_way_each_time(slots: Keys) -> None:
    """Mutant: with one number for two requests the difference of the ciphertexts is that of the messages."""
    x = drawn((1, 5), 1)
    one, two, same = (
        slot_products.request(slots[0], x, SEED, first, seeded_rng(seed))[0, 0].astype(np.int64)
        for first, seed in ((0, 1), (1, 1), (0, 1))
    )
    assert np.array_equal(one, same)
    assert (one == two).mean() < 0.05
