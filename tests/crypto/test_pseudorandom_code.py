"""The code is AES, and its width is enough: two words nearly always differ in 128 places."""

import math

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from atoll.crypto.aes import expand
from atoll.crypto.pseudorandom_code import WIDTH, PseudorandomCode
from atoll.protocols.kkrt_intersection import LARGEST
from atoll.testing import seeded_rng


def test_words_are_four_ciphers_of_the_text() -> None:
    texts = seeded_rng(1).u64(5, 2)
    keys = expand(bytes(16), 64).tobytes()
    parts = [
        Cipher(algorithms.AES(keys[at : at + 16]), modes.ECB()).encryptor().update(texts.tobytes())  # noqa: S305
        for at in range(0, 64, 16)
    ]
    want = np.hstack([np.frombuffer(part, np.uint64).reshape(-1, 2) for part in parts])[:, :7]
    assert np.array_equal(PseudorandomCode(bytes(16)).words(texts), want)


def test_words_are_448_random_bits_apart() -> None:
    words = PseudorandomCode(bytes(16)).words(seeded_rng(2).u64(1000, 2))
    apart = np.unpackbits((words[1:] ^ words[:-1]).view(np.uint8), axis=1).sum(1)
    assert abs(apart.mean() - WIDTH / 2) < 5 * math.sqrt(WIDTH) / 2 / math.sqrt(999)
    assert apart.min() > 150


def test_the_width_keeps_all_pairs_of_a_run_apart() -> None:
    """Exactly: 3 pairs for each id of the sender, each too close with the tail of a binomial distribution."""
    tail = sum(math.comb(WIDTH, d) for d in range(128)) / 2**WIDTH
    assert 3 * LARGEST * tail < 2**-40
    assert 3 * 2**24.9 * tail < 2**-40
