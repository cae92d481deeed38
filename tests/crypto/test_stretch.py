"""Stretching: blocks of one value are independent, of one domain and place each."""

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from atoll.crypto import stretch
from atoll.crypto.aes import expand
from atoll.testing import seeded_rng


def test_blocks_are_what_the_definition_says() -> None:
    import hashlib

    values = seeded_rng(1).u64(5, 2)
    got = stretch.stretch(values, b"test", 3)
    keys = expand(hashlib.sha256(b"atoll/stretch/v1/test").digest()[:16], 48).tobytes()
    for c in range(3):
        cipher = Cipher(algorithms.AES(keys[16 * c : 16 * c + 16]), modes.ECB()).encryptor()  # noqa: S305
        want = np.frombuffer(cipher.update(values.tobytes()), np.uint64).reshape(5, 2) ^ values
        assert np.array_equal(got[:, c], want)


def test_no_block_repeats_and_domains_differ() -> None:
    values = seeded_rng(1).u64(100, 2)
    both = np.concatenate((stretch.stretch(values, b"a", 4), stretch.stretch(values, b"b", 4)), axis=1)
    assert len(np.unique(both)) == both.size
    assert not np.isin(values, both).any()


def test_pads_of_any_width_are_cuts_of_the_same_bytes() -> None:
    values = seeded_rng(1).u64(7, 2)
    whole = stretch.pads(values, b"a", 48)
    for width in (0, 1, 15, 16, 17, 33, 48):
        got = stretch.pads(values, b"a", width)
        assert got.shape == (7, width)
        assert np.array_equal(got, whole[:, :width])
    assert stretch.pads(values[:0], b"a", 5).shape == (0, 5)
