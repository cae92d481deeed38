"""Hashes of texts against CBC-MAC written out, and joins against sets."""

import hashlib

import numpy as np
import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from hypothesis import given
from hypothesis import strategies as st

from atoll.crypto import item_hash

KEY = bytes(range(16))


def cbc_mac(item: bytes) -> bytes:
    text = len(item).to_bytes(16, "little") + item + bytes(-len(item) % 16)
    encryptor = Cipher(algorithms.AES(KEY), modes.CBC(bytes(16))).encryptor()
    return encryptor.update(text)[-16:]


@given(items=st.lists(st.binary(max_size=70), max_size=30))
def test_hashes_are_cbc_mac_with_the_length_first(items: list[bytes]) -> None:
    assert [row.tobytes() for row in item_hash.hash_items(items, KEY)] == [cbc_mac(item) for item in items]


@pytest.mark.parametrize("items", [[b"a" * 8, b"a" * 9], [b"", b"\0", b"\0\0"], [b"x" * 16, b"x" * 17, b"x" * 32]])
def test_texts_that_begin_alike_differ(items: list[bytes]) -> None:
    assert len(np.unique(item_hash.hash_items(items, KEY), axis=0)) == len(items)


@given(x=st.sets(st.integers(0, 60)), y=st.lists(st.integers(0, 60)))
def test_join(x: set[int], y: list[int]) -> None:
    def hashed(values: list[int]) -> np.ndarray:
        return item_hash.hash_items([b"%d" % v for v in values], KEY)

    mine = sorted(x)
    at_x, at_y = item_hash.join(hashed(mine), hashed(y))
    assert [(mine[i], j) for i, j in zip(at_x, at_y, strict=True)] == [(v, j) for j, v in enumerate(y) if v in x]
    assert item_hash.repeated(hashed(y)) == len(y) - len(set(y))


@given(items=st.lists(st.binary(max_size=40), max_size=20))
def test_digests_are_sha_256_of_key_and_text(items: list[bytes]) -> None:
    found = item_hash.digest_texts(item_hash.Texts.of(items), KEY)
    assert [row.tobytes() for row in found] == [hashlib.sha256(KEY + item).digest() for item in items]


@given(items=st.lists(st.binary(max_size=20), max_size=12), cut=st.integers(0, 7))
def test_texts_without_room_behind_hash_the_same(items: list[bytes], cut: int) -> None:
    texts = item_hash.Texts.of(items)
    assert texts.items() == items
    end = int(texts.starts[-1])
    tight = item_hash.Texts(texts.text[: end + cut].copy(), texts.starts)
    assert np.array_equal(item_hash.hash_texts(tight, KEY), item_hash.hash_texts(texts, KEY))


@given(y=st.lists(st.integers(0, 9), max_size=20), words=st.sampled_from([2, 4]))
def test_which_are_the_first(y: list[int], words: int) -> None:
    rows = np.zeros((len(y), words), np.uint64)
    rows[:, words - 1] = y  # the slot is the same for all of them
    want = [value not in y[:at] for at, value in enumerate(y)]
    assert item_hash.first_of_each(rows).tolist() == want
