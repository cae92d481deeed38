"""Key-value stores: every key decodes to its value, also where peeling stops; others decode to noise."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from atoll.crypto import okvs
from atoll.crypto.okvs import DENSE, NotEncodable, Shape
from atoll.testing import seeded_rng

SEED = bytes(range(16))


def drawn(n: int, seed: int = 1) -> tuple[np.ndarray, np.ndarray]:
    rng = seeded_rng(seed)
    return rng.u64(n, 2), rng.u64(n)


def double(words: np.ndarray) -> np.ndarray:
    return np.stack((words, words), axis=1)


@settings(max_examples=30)
@given(n=st.integers(1, 400), seed=st.integers(0, 1000))
def test_every_key_decodes_to_its_value(n: int, seed: int) -> None:
    keys, values = drawn(n, seed)
    found = okvs.places(SEED, keys, Shape(n))
    words = okvs.encode(found, values[found.order])
    assert words.shape == (Shape(n).words,)
    assert np.array_equal(okvs.decode(found, double(words))[:, 0], values[found.order])
    assert np.array_equal(np.sort(found.order), np.arange(n))
    assert np.array_equal(found.keys, keys[found.order])


def test_several_bins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(okvs, "BIN", 64)
    keys, values = drawn(1000)
    shape = Shape(1000)
    assert shape.bins == 15
    found = okvs.places(SEED, keys, shape)
    words = okvs.encode(found, values[found.order])
    others = okvs.places(SEED, np.concatenate((drawn(50, 9)[0], keys[:50])), shape)
    got = dict(zip(others.order.tolist(), okvs.decode(others, double(words))[:, 1].tolist(), strict=True))
    assert [got[50 + i] for i in range(50)] == values[:50].tolist()


def tight(monkeypatch: pytest.MonkeyPatch, n: int, expansion: float) -> Shape:
    shape = Shape(n)
    monkeypatch.setitem(shape.__dict__, "third", int(expansion * n / 3))
    return shape


@pytest.mark.parametrize("expansion", [1.2, 1.1, 0.98])
def test_what_peeling_leaves_is_solved_with_the_dense_words(monkeypatch: pytest.MonkeyPatch, expansion: float) -> None:
    shape, (keys, values) = tight(monkeypatch, 300, expansion), drawn(300)
    found = okvs.places(SEED, keys, shape)
    words = okvs.encode(found, values[found.order])
    assert words[-DENSE:].any() or expansion > 1  # fewer sparse words than keys
    assert np.array_equal(okvs.decode(found, double(words))[:, 1], values[found.order])


def test_too_few_words_or_one_key_twice_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    keys, values = drawn(300)
    with pytest.raises(NotEncodable):
        okvs.encode(okvs.places(SEED, keys, tight(monkeypatch, 300, 0.6)), values)
    keys[1] = keys[0]
    with pytest.raises(NotEncodable):
        okvs.encode(okvs.places(SEED, keys, Shape(300)), values)


def test_a_bin_that_overflows_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(okvs, "BIN", 8)
    keys, values = drawn(60)
    shape = Shape(100)
    with pytest.raises(NotEncodable, match="overflows"):
        okvs.encode(okvs.places(SEED, np.repeat(keys[:1], 60, axis=0), shape), values)


@pytest.mark.parametrize(("n", "most"), [(1 << 10, 1.6), (1 << 14, 1.32), (1 << 20, 1.38), (1 << 24, 1.38)])
def test_sizes_stay_near_the_published_ones(n: int, most: float) -> None:
    shape = Shape(n)
    assert 1.223 * n < shape.words < most * n
    assert shape.capacity >= n / shape.bins


def test_no_bin_overflows_more_often_than_said() -> None:
    """The bound on a bin's load, against the binomial's exact tail."""
    from scipy.stats import binom

    for n in (1 << 15, 1 << 20, 1 << 24):
        shape = Shape(n)
        assert binom.logsf(shape.capacity, n, 1 / shape.bins) + np.log(shape.bins) < -okvs.FAILURE * np.log(2)


def test_frozen_words() -> None:
    keys = np.arange(6, dtype=np.uint64).reshape(3, 2)
    found = okvs.places(SEED, keys, Shape(3))
    assert found.at.tolist() == FROZEN["at"]
    assert [hex(word) for word in found.dense.tolist()] == FROZEN["dense"]


FROZEN = {
    "at": [[5, 14, 19], [5, 15, 17], [4, 11, 18]],
    "dense": ["0x6845b6234774", "0xd08deb6f9dd5", "0x3bb844fce61a"],
}
