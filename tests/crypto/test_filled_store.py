"""The filled store decodes to its values, and its words are random everywhere."""

import numpy as np
import pytest

from atoll.crypto import filled_store, okvs
from atoll.crypto.random import Rng
from atoll.testing import seeded_rng


def keys_and_values(n: int, w: int) -> tuple[np.ndarray, np.ndarray]:
    rng = seeded_rng(n)
    return rng.u64(n, 2), rng.u64(n, w)


@pytest.mark.parametrize(("n", "w"), [(0, 1), (1, 1), (2, 3), (100, 1), (100, 2), (1000, 5)])
def test_keys_decode_to_their_values(n: int, w: int) -> None:
    keys, values = keys_and_values(n, w)
    shape = okvs.Shape(max(n, 1))
    store = filled_store.encode(keys, values, shape, seeded_rng(1))
    assert store.words.shape == (shape.words, w)
    assert np.array_equal(filled_store.decode(store, keys, shape), values)
    back = np.arange(n)[::-1]
    assert np.array_equal(filled_store.decode(store, keys[back], shape), values[back])


def test_several_bins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(okvs, "BIN", 128)
    keys, values = keys_and_values(700, 2)
    store = filled_store.encode(keys, values, okvs.Shape(700), seeded_rng(1))
    assert np.array_equal(filled_store.decode(store, keys, okvs.Shape(700)), values)


def test_words_are_uniform_even_where_no_key_is() -> None:
    keys, values = keys_and_values(50, 1)
    few = filled_store.encode(keys[:3], values[:3], okvs.Shape(2000), seeded_rng(1)).words
    assert len(np.unique(few)) == few.size
    bits = np.unpackbits(few.view(np.uint8)).astype(float)
    assert abs(bits.mean() - 0.5) < 5 * 0.5 / np.sqrt(bits.size)


def test_other_keys_decode_to_other_words_each_time() -> None:
    keys, values = keys_and_values(50, 1)
    others, shape = seeded_rng(9).u64(50, 2), okvs.Shape(50)
    got = [filled_store.decode(filled_store.encode(keys, values, shape, seeded_rng(s)), others, shape) for s in (1, 2)]
    assert len(np.unique(np.concatenate(got))) == 100


def test_a_key_that_stands_twice() -> None:
    keys = np.zeros((2, 2), np.uint64)
    with pytest.raises(okvs.NotEncodable):
        filled_store.encode(keys, np.arange(2, dtype=np.uint64)[:, np.newaxis], okvs.Shape(2), seeded_rng(1))


def test_another_seed_is_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    keys, values = keys_and_values(20, 1)
    encode, calls = okvs.encode, []

    def failing_once(*args: np.ndarray) -> np.ndarray:
        calls.append(1)
        if len(calls) == 1:
            raise okvs.NotEncodable("this seed")
        return encode(*args)

    monkeypatch.setattr(okvs, "encode", failing_once)
    rng: Rng = seeded_rng(1)
    store = filled_store.encode(keys, values, okvs.Shape(20), rng)
    assert len(calls) == 2
    assert np.array_equal(filled_store.decode(store, keys, okvs.Shape(20)), values)
